//! What the program says of itself: `annulus --help`, `annulus help COMMAND`.

use std::fmt::Write;

use super::commands::{COMMANDS, choose};
use super::paint::Paint;
use super::table::{Does, Entry, Flag, Group};
use super::words::Words;
use super::{Ended, Trouble};

/// Characters of a line, at most.
const COLUMNS: usize = 100;
/// Where texts begin beside flags.
const FLAG_COLUMN: usize = 25;
/// Where they begin beside commands and variables.
const NAME_COLUMN: usize = 25;

/// What may be tried first: in a minute one knows what this is.
const FIRST: [(&str, &str); 3] = [
    ("annulus run", "everything on this machine; then open http://127.0.0.1:9900/"),
    ("annulus doctor", "what this machine grants, and what to change"),
    ("annulus init chat", "a configuration to begin with, every common key explained"),
];

/// What is read of the environment.
pub const VARIABLES: [(&str, &str); 6] = [
    ("ANNULUS_LOG", "text or json, as --log of a service"),
    ("ANNULUS_ADMIN_TOKEN", "gateway: opens its own pages (/__...) to other machines"),
    ("ANNULUS_VARIANT_KEYS", "image: what signs addresses of variants, with commas between"),
    (
        "AWS_*",
        "image: its bucket's ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN and REGION, where its file has none",
    ),
    ("CENTRIFUGO_*", "chat, with a Centrifugo file: what wins over it"),
    ("NO_COLOR", "no colours on a terminal"),
];

/// What the program answers to the shell.
pub const STATUSES: [(&str, &str); 3] =
    [("0", "done"), ("1", "failed: standard error, or the answer, says why"), ("2", "the words were wrong")];

/// Where there is more to read.
const DOCS: &str = "annulus help COMMAND says more. The guides are in workloads/docs: command-line.md, chat.md, gateway.md, \
                    image.md, fleet.md, operating.md.";

/// `annulus help [COMMAND]`.
pub fn main(words: &Words) -> Ended {
    let paint = Paint::of_output();
    let text = match words.operands() {
        [] => overview(paint),
        named => match choose(named) {
            Ok((entry, used)) if used == named.len() => of(entry, paint),
            Ok((entry, _)) => return Err(Trouble::Words(format!("{} has no commands of its own", entry.name))),
            Err(sentence) => return Err(Trouble::Words(sentence)),
        },
    };
    crate::answer!("{}", text.trim_end());
    Ok(true)
}

/// `annulus --help`.
pub fn overview(paint: Paint) -> String {
    let mut out = String::new();
    line(
        &mut out,
        &format!("{}: real-time chat, an API gateway and images, on one shard per core", paint.bold("annulus")),
    );
    line(&mut out, "\nusage: annulus COMMAND [options]");
    for group in Group::ALL {
        title(&mut out, paint, group.title());
        for entry in COMMANDS.iter().filter(|entry| entry.group == group) {
            row(&mut out, entry.name, entry.about, NAME_COLUMN);
        }
    }
    title(&mut out, paint, "first things to try");
    FIRST.iter().for_each(|(name, says)| row(&mut out, name, says, NAME_COLUMN));
    title(&mut out, paint, "environment");
    VARIABLES.iter().for_each(|(name, says)| row(&mut out, name, says, NAME_COLUMN));
    title(&mut out, paint, "exit status");
    STATUSES.iter().for_each(|(name, says)| row(&mut out, name, says, 5));
    line(&mut out, "");
    wrapped(&mut out, DOCS, 0);
    out
}

/// `annulus COMMAND --help`.
pub fn of(entry: &Entry, paint: Paint) -> String {
    if let Does::Itself { help, .. } = entry.does {
        return help.to_owned();
    }
    let mut out = String::new();
    line(&mut out, &format!("{}: {}", paint.bold(&format!("annulus {}", entry.name)), entry.about));
    line(&mut out, &format!("\nusage: {}", entry.usage()));
    if !entry.operands.is_empty() {
        line(&mut out, "");
    }
    for operand in entry.operands {
        row(&mut out, &operand.shown(), operand.says, FLAG_COLUMN);
    }
    if entry.flags().next().is_some() {
        title(&mut out, paint, "options");
    }
    for flag in entry.flags() {
        row(&mut out, &shown(flag), &says(flag), FLAG_COLUMN);
    }
    if !entry.more.is_empty() {
        line(&mut out, "");
        line(&mut out, entry.more);
    }
    if !entry.examples.is_empty() {
        title(&mut out, paint, "for example");
    }
    for (command, says) in entry.examples {
        line(&mut out, &format!("  {command}\n      {}", paint.dim(says)));
    }
    out
}

/// A flag as it is written.
pub fn shown(flag: &Flag) -> String {
    let spellings: Vec<&str> = flag.spellings().collect();
    let value = flag.takes.called().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{value}", spellings.join(", "))
}

/// What a flag is for, with the words that it may have.
pub fn says(flag: &Flag) -> String {
    match flag.takes {
        super::table::Takes::OneOf(_, words) => format!("{}: {}", super::words::list(words), flag.says),
        _ => flag.says.to_owned(),
    }
}

fn title(out: &mut String, paint: Paint, text: &str) {
    line(out, &format!("\n{}", paint.bold(text)));
}

/// A name, and its text in a column beside it, or below where the name is too long.
fn row(out: &mut String, name: &str, text: &str, column: usize) {
    let indent = format!("  {name}");
    if indent.len() + 1 >= column {
        line(out, &indent);
        wrapped(out, text, column);
        return;
    }
    let begin = out.len();
    wrapped(out, text, column);
    out.replace_range(begin..begin + indent.len(), &indent);
}

/// A text in lines of at most [`COLUMNS`], each indented.
fn wrapped(out: &mut String, text: &str, indent: usize) {
    let mut at = String::new();
    for word in text.split(' ') {
        if !at.is_empty() && indent + at.len() + 1 + word.len() > COLUMNS {
            line(out, &format!("{:indent$}{at}", ""));
            at.clear();
        }
        if !at.is_empty() {
            at.push(' ');
        }
        at.push_str(word);
    }
    line(out, &format!("{:indent$}{at}", ""));
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_every_command_and_fits_a_screen_in_width() {
        let text = overview(Paint::PLAIN);
        for entry in COMMANDS {
            assert!(text.contains(&format!("\n  {} ", entry.name)), "{}", entry.name);
        }
        let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= COLUMNS, "{widest}");
        assert!(FIRST.iter().all(|(command, _)| {
            let words: Vec<String> = command.split(' ').skip(1).map(str::to_owned).collect();
            choose(&words).is_ok()
        }));
    }

    #[test]
    fn the_help_of_a_command_names_all_of_its_flags() {
        for entry in COMMANDS {
            let text = of(entry, Paint::PLAIN);
            assert!(text.starts_with(&format!("annulus {}", entry.name.split(' ').next().unwrap())), "{text}");
            for flag in entry.flags() {
                assert!(text.contains(flag.name), "{} {}", entry.name, flag.name);
            }
            for (example, _) in entry.examples {
                assert!(example.contains("annulus "), "{example}");
            }
        }
    }

    #[test]
    fn long_texts_are_wrapped_beside_their_names() {
        let mut out = String::new();
        row(&mut out, "--name", &"word ".repeat(30), 10);
        let lines: Vec<&str> = out.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].starts_with("  --name  word") && lines[1].starts_with("          word"),
            "{out}"
        );
        out.clear();
        row(&mut out, "--a-long-name", "text", 10);
        assert_eq!(out, "  --a-long-name\n          text\n");
    }
}
