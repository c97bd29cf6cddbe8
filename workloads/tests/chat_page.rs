//! The chat's page, and the example for browsers, in a real browser, against the real binary.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;
use std::process::Command;

use chat_rig::{Folder, KEY, Script, Setup, has_node};
use outside::{Browser, clients, passes};

#[test]
fn two_browser_windows_chat_on_the_page() {
    let Some(browser) = Browser::start("the page in a browser") else { return };
    let folder = Folder::new();
    let chat = Setup { shards: "2", ..Setup::ours("") }.start(&folder);
    let page = format!("http://{}/", chat.address);
    passes(Path::new("node"), "page.mjs", &[&page, &browser.devtools]);
    chat.stop();
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/browser");

/// Runs one of the tools that npm has installed, in a folder.
fn tool(name: &str, arguments: &[&str], folder: &Path) {
    let ran = Command::new(clients().join("node_modules/.bin").join(name)).args(arguments).current_dir(folder).output();
    let ran = ran.unwrap_or_else(|error| panic!("{name}: {error}"));
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn the_example_for_browsers_is_sound_and_loses_nothing_when_the_server_is_killed() {
    if !has_node("the example for browsers") {
        return;
    }
    let folder = Folder::new();
    let example = folder.data().with_file_name("example");
    let copied = Command::new("cp").args(["-r", EXAMPLE]).arg(&example).status().unwrap();
    assert!(copied.success());
    let _from_somebody_who_tried_it = std::fs::remove_dir_all(example.join("node_modules"));
    std::os::unix::fs::symlink(clients().join("node_modules"), example.join("node_modules")).unwrap();
    tool("tsc", &["--noEmit"], &example);
    tool("esbuild", &["src/app.ts", "--bundle", "--format=esm", "--outfile=app.js"], &example);
    let Some(browser) = Browser::start("the example for browsers") else { return };
    let config = std::fs::read_to_string(example.join("annulus.toml")).unwrap();
    let origins = "allowed_origins = [\"http://127.0.0.1:*\"]";
    let config =
        config.replace("allowed_origins = [\"http://127.0.0.1:8080\"]", &format!("{origins}\napi_key = \"{KEY}\""));
    let setup = |port| Setup { port, shards: "2", ..Setup::file("annulus.toml", config.clone()) };
    let chat = setup(0).start(&folder);
    let (example, port) = (example.to_str().unwrap(), chat.address.port());
    let arguments = [example, &chat.url(), KEY, &browser.devtools];
    let mut script = Script::start(Path::new("node"), "example.mjs", &arguments);
    script.hear("ready");
    chat.kill();
    script.say("crashed");
    script.hear("said");
    let chat = setup(port).start(&folder);
    script.say("restarted");
    script.ends_well();
    chat.stop();
}
