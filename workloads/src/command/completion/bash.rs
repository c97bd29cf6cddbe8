//! For bash: a function that is told the words of the line so far, in which `=` and `:` are words of their own.

use super::super::commands::{COMMANDS, firsts, seconds};
use super::super::table::{Entry, Flag, Takes};
use super::{before_second, operands};

/// The script.
pub fn script() -> String {
    let names: Vec<String> = COMMANDS.iter().map(|entry| format!("'{}'", before_second(entry.name))).collect();
    let values: String = COMMANDS.iter().map(values).collect();
    let cases: String = COMMANDS.iter().map(case).collect();
    let firsts: Vec<&str> = firsts().map(|entry| entry.name).collect();
    include_str!("bash.sh")
        .replace("@NAMES@", &names.join("|"))
        .replace("@FIRSTS@", &firsts.join(" "))
        .replace("@VALUES@", values.trim_end())
        .replace("@CASES@", cases.trim_end())
}

/// What a value is, for bash: files, folders, one of some words, or nothing that could be known.
fn kind(takes: Takes) -> String {
    match takes {
        Takes::Nothing => String::new(),
        Takes::Text(_) => "text".to_owned(),
        Takes::File(_) => "file".to_owned(),
        Takes::Folder(_) => "folder".to_owned(),
        Takes::OneOf(_, words) => format!("words {}", words.join(" ")),
    }
}

/// Lines that say what values a command's flags take.
fn values(entry: &Entry) -> String {
    let line = |flag: &Flag| {
        let names: Vec<String> = flag.spellings().map(|spelling| format!("'{} {spelling}'", entry.name)).collect();
        format!("        {}) kind='{}' ;;\n", names.join("|"), kind(flag.takes))
    };
    entry.flags().filter(|flag| flag.takes != Takes::Nothing).map(line).collect()
}

/// Lines that say what can stand behind a command: its flags, second words, operands.
fn case(entry: &Entry) -> String {
    let mut flags: Vec<&str> = entry.flags().flat_map(Flag::spellings).collect();
    flags.push("--help");
    let mut lines = format!("        '{}')\n            flags='{}'\n", entry.name, flags.join(" "));
    let second: Vec<&str> = seconds(entry.name).filter_map(|entry| entry.name.split(' ').nth(1)).collect();
    if !second.is_empty() {
        lines += &format!("            ((place == 0)) && more='{}'\n", second.join(" "));
    }
    for (at, takes, several) in operands(entry) {
        let test = if several { ">=" } else { "==" };
        lines += &format!("            ((place {test} {at})) && kind='{}'\n", kind(takes));
    }
    lines + "            ;;\n"
}
