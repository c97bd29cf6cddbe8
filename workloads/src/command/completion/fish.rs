//! For fish: a line for each thing that can be said, with the command after which it can.

use super::super::commands::{COMMANDS, firsts, seconds};
use super::super::table::{Entry, Flag, Takes};
use super::{before_second, operands};

/// The script.
pub fn script() -> String {
    let names: Vec<String> = COMMANDS.iter().map(|entry| quoted(&before_second(entry.name))).collect();
    let mut out = include_str!("fish.fish").replace("@NAMES@", &names.join(" "));
    firsts().for_each(|entry| command(&mut out, "", entry));
    for entry in COMMANDS {
        seconds(entry.name).for_each(|second| command(&mut out, entry.name, second));
        entry.flags().for_each(|flag| self::flag(&mut out, entry.name, flag));
        for (at, takes, several) in operands(entry) {
            let place = if several { format!("{at}-") } else { at.to_string() };
            let what = match takes {
                Takes::OneOf(_, words) => format!("-a {}", quoted(&words.join(" "))),
                Takes::File(_) => "-F".to_owned(),
                Takes::Folder(_) => "-a '(__fish_complete_directories)'".to_owned(),
                Takes::Nothing | Takes::Text(_) => continue,
            };
            out += &format!("complete -c annulus -n \"__annulus_at '{}' {place}\" {what}\n", entry.name);
        }
    }
    out += "complete -c annulus -l help -d 'what there is to say of it'\n";
    out
}

fn command(out: &mut String, after: &str, entry: &Entry) {
    let word = entry.name.rsplit(' ').next().unwrap_or_default();
    *out += &format!("complete -c annulus -n \"__annulus_at '{after}' 0\" -a {word} -d {}\n", quoted(entry.about));
}

fn flag(out: &mut String, command: &str, flag: &Flag) {
    let spell = |spelling: &str| match spelling.strip_prefix("--") {
        Some(long) => format!(" -l {long}"),
        None => format!(" -s {}", spelling.trim_start_matches('-')),
    };
    let spellings: String = flag.spellings().map(spell).collect();
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Text(_) => " -x".to_owned(),
        Takes::File(_) => " -r -F".to_owned(),
        Takes::Folder(_) => " -x -a '(__fish_complete_directories)'".to_owned(),
        Takes::OneOf(_, words) => format!(" -x -a {}", quoted(&words.join(" "))),
    };
    let says = quoted(flag.says);
    *out += &format!("complete -c annulus -n \"__annulus_at '{command}'\"{spellings}{value} -d {says}\n");
}

/// As one word: fish knows two escapes within single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
