//! `annulus init`: configurations to begin with, in which every common key is explained.
//!
//! A key whose default is right is commented out with that default, as `# key = value`; other comments are sentences. So that
//! the files cannot drift from what reads them, tests read them as they are, and with all of these lines in force.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::words::Words;
use super::{Ended, Trouble};

/// What there is to begin with.
pub const KINDS: &[&str] = &["chat", "image", "gateway"];

/// What is written, under which name if none is said, and what comes next.
struct Template {
    text: &'static str,
    file: &'static str,
}

fn template(kind: &str) -> Option<Template> {
    match kind {
        "chat" => Some(Template { text: include_str!("init/chat.toml"), file: "chat.toml" }),
        "image" => Some(Template { text: include_str!("init/image.toml"), file: "image.toml" }),
        "gateway" => Some(Template { text: include_str!("init/gateway.yaml"), file: "gateway.yaml" }),
        _ => None,
    }
}

/// Writes a configuration where there is none yet.
pub fn main(words: &Words) -> Ended {
    let kind = words.operands().first().map(String::as_str).unwrap_or_default();
    let Some(template) = template(kind) else {
        return Err(Trouble::Words("for what? For example: annulus init chat".to_owned()));
    };
    let path = words.operands().get(1).map_or(template.file, String::as_str);
    if path == "-" {
        crate::answer!("{}", template.text.trim_end());
        return Ok(true);
    }
    write(Path::new(path), template.text)?;
    crate::answer!("{path} is written. Next: annulus check {path}, then annulus {kind} --config {path}");
    Ok(true)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!(
            "{} is there already, and is not overwritten. Name another path, or - for standard output",
            path.display()
        ),
        _ => format!("{} cannot be made: {error}", path.display()),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gateway::config::{LoadOptions, Syntax, load_text};

    /// With all defaults in force that are commented out.
    fn uncommented(text: &str) -> String {
        let is_key = |rest: &str| {
            let name: &str = rest.split([' ', '=', ':']).next().unwrap_or_default();
            let name = name.trim_matches(['[', ']', '"', '-']);
            let is_of_name =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
            let is_name = !name.is_empty() && name.bytes().all(is_of_name);
            is_name && (rest.starts_with('[') || rest.contains(" = "))
        };
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) => rest.to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_written_is_taken_as_it_is_and_with_all_keys_in_force() {
        for kind in ["chat", "image"] {
            let text = template(kind).unwrap().text;
            let all = uncommented(text);
            let keys = |text: &str| text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
            assert!(keys(&all) > keys(text) + 20, "{all}");
            for text in [text, &all] {
                let config = Config::read(Path::new("a.toml"), text).unwrap_or_else(|error| panic!("{error}\n{text}"));
                config.chat.check().and_then(|()| config.image.check()).unwrap();
            }
        }
    }

    /// Every key of the chat's reference says its default; what stands here must be the same. Sections that are commented out
    /// as a whole are examples.
    #[test]
    fn defaults_of_the_chat_are_those_of_its_reference() {
        let reference = crate::chat::config::reference::ours().replace("DATA/", "annulus-data/");
        let (mut table, mut compared) = (None, 0);
        for line in template("chat").unwrap().text.lines() {
            let (is_default, line) = line.strip_prefix("# ").map_or((false, line), |line| (true, line));
            if line.starts_with('[') {
                let of_section = reference.split_once(&format!("### `{line}`")).map(|(_, rest)| rest);
                table = of_section.filter(|_| !is_default).and_then(|rest| rest.split("###").next());
            }
            let pair = line.split_once(" = ").filter(|(key, _)| !key.contains(' '));
            let (Some(table), Some((key, value))) = (table, pair) else { continue };
            let row = table.lines().find(|row| row.starts_with(&format!("| `{key}` ")));
            let default = row.unwrap_or_else(|| panic!("{line}: no such key")).split(" | ").nth(2).unwrap();
            let value = value.split(" #").next().unwrap().trim();
            let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || b"\"[]:./_-".contains(&byte);
            if !default.is_empty() && default.bytes().all(is_literal) {
                assert_eq!(value.trim_matches('"'), default.trim_matches('"'), "{line}");
                compared += 1;
            }
        }
        assert!(compared > 25, "{compared}");
    }

    #[test]
    fn the_gateways_is_taken_too() {
        let text = template("gateway").unwrap().text;
        let mut all = String::new();
        for line in text.lines() {
            // A key that is commented out begins with `#` and no space behind it; sentences have one.
            let begin = line.len() - line.trim_start().len();
            match line[begin..].strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')) {
                Some(rest) => all += &format!("{}{rest}\n", &line[..begin]),
                None => all += &format!("{line}\n"),
            }
        }
        assert!(all.lines().filter(|line| !line.trim_start().starts_with('#')).count() > 40, "{all}");
        for text in [text, &all] {
            let read = load_text("gateway.yaml", Syntax::Yaml, text, &LoadOptions::default());
            let (gateway, notes) = read.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
            assert!(notes.is_empty() && !gateway.endpoints.is_empty(), "{notes:?}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let path = std::env::temp_dir().join(format!("annulus-init-{}.toml", std::process::id()));
        std::fs::write(&path, "mine").unwrap();
        assert!(write(&path, "theirs").unwrap_err().contains("not overwritten"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
        assert!(write(&path.join("a"), "theirs").unwrap_err().contains("cannot be made"));
    }
}
