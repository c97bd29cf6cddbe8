//! The tables of keys as Markdown, for the user's reference; a test compares the two.

use std::fmt::Write;

use super::centrifugo::{Fact, Offer, sections};
use super::keys::Key;
use super::ours::{channels, chat, events, hooks, limits, storage};

/// Our keys: a table for each table of the file.
pub fn ours() -> String {
    let mut out = String::new();
    table(&mut out, "[chat]", chat::CHAT);
    table(&mut out, "[chat.tls]", chat::TLS);
    table(&mut out, "[chat.paths]", chat::PATHS);
    table(&mut out, "[chat.client]", chat::CLIENT);
    table(&mut out, "[chat.client.personal_channel]", chat::PERSONAL_CHANNEL);
    table(&mut out, "[chat.tokens]", chat::TOKENS);
    table(&mut out, "[chat.channels]", channels::CHANNELS);
    table(&mut out, "[[chat.namespaces]]", channels::NAMESPACE);
    table(&mut out, "[chat.hooks]", hooks::HOOKS);
    table(&mut out, "[chat.hooks.connect]", hooks::HOOK);
    table(&mut out, "[chat.events]", events::EVENTS);
    table(&mut out, "[chat.api]", chat::API);
    table(&mut out, "[chat.admin]", chat::ADMIN);
    table(&mut out, "[chat.compression]", chat::COMPRESSION);
    table(&mut out, "[chat.log]", storage::LOG);
    table(&mut out, "[chat.database]", storage::DATABASE);
    table(&mut out, "[chat.broker]", storage::BROKER);
    table(&mut out, "[chat.encryption]", storage::ENCRYPTION);
    table(&mut out, "[chat.limits]", limits::LIMITS);
    out
}

fn table<T>(out: &mut String, title: &str, keys: &[Key<T>]) {
    line(out, &format!("### `{title}`\n\n| key | takes | default | meaning |\n| --- | --- | --- | --- |"));
    for key in keys {
        line(
            out,
            &format!("| `{}` | {} | {} | {} |", key.name, cell(&key.set.kind()), cell(key.default), cell(key.says)),
        );
    }
    line(out, "");
}

/// Centrifugo's keys that work.
pub fn supported() -> String {
    let mut out = String::new();
    for (prefixes, facts) in groups(|fact| fact.offer == Offer::Yes) {
        let head = "| key | takes | default | ours |\n| --- | --- | --- | --- |";
        line(&mut out, &format!("{}\n\n{head}", paths(&prefixes)));
        for fact in facts {
            let (kind, default) = (cell(&fact.kind), code(fact.default));
            line(&mut out, &format!("| `{}` | {kind} | {default} | `{}` |", fact.name, fact.ours));
        }
        line(&mut out, "");
    }
    out
}

/// Centrifugo's keys that are read and change nothing.
pub fn inert() -> String {
    let mut out = "| key | default | why |\n| --- | --- | --- |\n".to_owned();
    for (prefixes, facts) in groups(|fact| matches!(fact.offer, Offer::Inert(_))) {
        for (prefix, fact) in prefixes.iter().flat_map(|prefix| facts.iter().map(move |fact| (prefix, fact))) {
            let Offer::Inert(why) = fact.offer else { continue };
            line(&mut out, &format!("| `{prefix}.{}` | {} | {why} |", fact.name, code(fact.default)));
        }
    }
    out
}

/// Centrifugo's keys that are known and not offered.
pub fn unsupported() -> String {
    let mut out = "| under | keys, and their defaults |\n| --- | --- |\n".to_owned();
    for (prefixes, facts) in groups(|fact| fact.offer == Offer::No) {
        let with_default = |fact: &Fact| match fact.default {
            "" => format!("`{}`", fact.name),
            default => format!("`{}` {}", fact.name, code(default)),
        };
        let keys: Vec<String> = facts.iter().map(with_default).collect();
        line(&mut out, &format!("| {} | {} |", paths(&prefixes), keys.join(", ")));
    }
    out
}

/// Sections with the same keys of a kind, with those keys.
fn groups(of: impl Fn(&Fact) -> bool) -> Vec<(Vec<&'static str>, Vec<Fact>)> {
    let mut groups: Vec<(Vec<&'static str>, Vec<Fact>)> = Vec::new();
    for section in sections() {
        let facts: Vec<Fact> = section.facts().into_iter().filter(|fact| of(fact)).collect();
        if facts.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(_, known)| *known == facts) {
            Some((prefixes, _)) => prefixes.push(section.prefix()),
            None => groups.push((vec![section.prefix()], facts)),
        }
    }
    groups
}

fn paths(prefixes: &[&str]) -> String {
    let path = |prefix: &&str| if prefix.is_empty() { "the file itself".to_owned() } else { format!("`{prefix}`") };
    prefixes.iter().map(path).collect::<Vec<_>>().join(", ")
}

/// A default of Centrifugo's as code; several that mean the same with commas.
fn code(default: &str) -> String {
    match default {
        "" => String::new(),
        _ => default.split('|').filter(|same| !same.is_empty()).map(|same| format!("`{same}`")).collect(),
    }
}

/// What would end a cell of a table is escaped.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes everything");
}
