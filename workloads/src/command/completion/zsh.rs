//! For zsh: descriptions of commands, and specifications for `_arguments`.

use super::super::commands::{COMMANDS, firsts, seconds};
use super::super::table::{Entry, Flag, Takes};

/// The script.
pub fn script() -> String {
    let described = |entry: &Entry| {
        let word = entry.name.rsplit(' ').next().unwrap_or_default();
        format!("            {}\n", quoted(&format!("{word}:{}", entry.about)))
    };
    let firsts: String = firsts().map(described).collect();
    let names: Vec<String> =
        COMMANDS.iter().filter(|entry| entry.name.contains(' ')).map(|entry| format!("'{}'", entry.name)).collect();
    let mut cases = String::new();
    for entry in COMMANDS {
        cases += &format!("        '{}')\n", entry.name);
        let second: String = seconds(entry.name).map(described).collect();
        if !second.is_empty() {
            cases += &format!("            commands=(\n{second}            )\n");
            cases += "            ((CURRENT == 2)) && [[ $words[2] != -* ]] && _describe command commands\n";
        }
        cases += "            _arguments -s \\\n";
        entry.flags().for_each(|flag| cases += &format!("                {} \\\n", self::flag(flag)));
        for (at, operand) in entry.operands.iter().enumerate() {
            let place = if operand.several { "*".to_owned() } else { (at + 1).to_string() };
            // `_arguments` knows one specification for the rest: what comes after several may be one of them.
            if entry.operands[..at].iter().any(|before| before.several) {
                continue;
            }
            cases += &format!("                {} \\\n", quoted(&format!("{place}:{}", action(operand.takes))));
        }
        cases += "                '(- *)--help[what there is to say of it]'\n            ;;\n";
    }
    include_str!("zsh.zsh")
        .replace("@SECONDS@", &names.join("|"))
        .replace("@FIRSTS@", firsts.trim_end())
        .replace("@CASES@", cases.trim_end())
}

/// A flag for `_arguments`: those with several spellings exclude each other.
fn flag(flag: &Flag) -> String {
    let spellings: Vec<&str> = flag.spellings().collect();
    let takes = match (flag.takes, flag.name.starts_with("--")) {
        (Takes::Nothing, _) => "",
        (_, true) => "=",
        (_, false) => "",
    };
    let value = if flag.takes == Takes::Nothing { String::new() } else { format!(":{}", action(flag.takes)) };
    let says = escaped(flag.says);
    let one = |spelling: &&str| quoted(&format!("*{spelling}{takes}[{says}]{value}"));
    spellings.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// What a value is called, and where it comes from.
fn action(takes: Takes) -> String {
    let name = takes.called().unwrap_or_default().replace(':', " ");
    match takes {
        Takes::Nothing | Takes::Text(_) => format!("{name}: "),
        Takes::File(_) => format!("{name}:_files"),
        Takes::Folder(_) => format!("{name}:_files -/"),
        Takes::OneOf(_, words) => format!("{name}:({})", words.join(" ")),
    }
}

/// Within the brackets of a specification.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
