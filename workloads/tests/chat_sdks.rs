//! The official SDKs for JavaScript and Python against the real binary, in JSON and in Protobuf, on one shard and on two:
//! everything that they can do, and a client of one language and form hearing one of the other.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::{Path, PathBuf};

use chat_rig::{Chat, Folder, KEY, Script, Setup, has_node, python};
use outside::passes;

/// All but the namespace's history, which is as long as what the scripts publish.
const CONFIG: &str = "history_size = 300";

fn on_each_server(client: impl Fn(&Chat)) {
    for (shards, driver) in [("1", "auto"), ("2", "auto"), ("1", "epoll"), ("2", "epoll")] {
        let folder = Folder::new();
        let chat = Setup { shards, driver, ..Setup::ours(CONFIG) }.start(&folder);
        client(&chat);
        chat.stop();
    }
}

#[test]
fn the_javascript_client_in_both_forms() {
    if !has_node("centrifuge (npm) in JSON and Protobuf") {
        return;
    }
    on_each_server(|chat| {
        for form in ["json", "protobuf"] {
            passes(Path::new("node"), "sdks.mjs", &[&chat.url(), form]);
        }
    });
}

#[test]
fn the_javascript_client_without_a_websocket() {
    if !has_node("centrifuge (npm) over HTTP streams and server-sent events") {
        return;
    }
    let folder = Folder::new();
    let config = format!("{CONFIG}\nhttp_stream = true\nsse = true");
    // On two shards most requests come to another one than their session's.
    let chat = Setup { shards: "2", ..Setup::ours(&config) }.start(&folder);
    for (carrier, form) in [("http_stream", "json"), ("http_stream", "protobuf"), ("sse", "json")] {
        passes(Path::new("node"), "sdks.mjs", &[&format!("{carrier}+{}", chat.url()), form]);
    }
    chat.stop();
}

#[test]
fn the_javascript_client_with_differences_filters_and_latest_values() {
    if !has_node("centrifuge (npm) with deltas and tags filters") {
        return;
    }
    let config = format!(
        "{CONFIG}\nhttp_stream = true\napi_key = \"{KEY}\"\n\n[[chat.namespaces]]\nname = \"latest\"\nhistory_size = 1\n\
         recovery_mode = \"cache\""
    );
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = Setup { shards, ..Setup::ours(&config) }.start(&folder);
        for (carrier, form) in [("", "json"), ("", "protobuf"), ("http_stream+", "json")] {
            passes(Path::new("node"), "given.mjs", &[&format!("{carrier}{}", chat.url()), form, KEY]);
        }
        chat.stop();
    }
}

#[test]
fn the_python_client_in_both_forms() {
    let Some(python) = python("centrifuge-python (PyPI) in JSON and Protobuf") else { return };
    on_each_server(|chat| {
        for form in ["json", "protobuf"] {
            passes(&python, "sdks.py", &[&chat.url(), form]);
        }
    });
}

#[test]
fn clients_of_different_languages_and_forms_hear_each_other() {
    let Some(python) = python("SDKs of different languages in one room") else { return };
    if !has_node("SDKs of different languages in one room") {
        return;
    }
    let node = PathBuf::from("node");
    let voices = [(&node, "duet.mjs"), (&python, "duet.py")];
    for shards in ["1", "2"] {
        for (forms, (first, second)) in [
            (["json", "protobuf"], (voices[0], voices[1])),
            (["protobuf", "json"], (voices[0], voices[1])),
            (["json", "protobuf"], (voices[0], voices[0])),
        ] {
            let folder = Folder::new();
            let chat = Setup { shards, ..Setup::ours("") }.start(&folder);
            let one = Script::start(first.0, first.1, &[&chat.url(), forms[0], "ann", "bob"]);
            let other = Script::start(second.0, second.1, &[&chat.url(), forms[1], "bob", "ann"]);
            one.ends_well();
            other.ends_well();
            chat.stop();
        }
    }
}
