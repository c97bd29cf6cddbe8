//! The chat's console in a browser, behind a password and without one, while clients come, publish and are ended.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;

use chat_rig::{Folder, Setup};
use outside::{Browser, passes};

/// Two shards, so that figures are gathered; a log and a database, so that their panels are drawn.
fn shows(browser: &Browser, password: &str) {
    let door = match password {
        "" => "insecure = true".to_owned(),
        password => format!("password = \"{password}\""),
    };
    let config = format!("[chat.admin]\nenabled = true\n{door}\n");
    let folder = Folder::new();
    let chat = Setup { shards: "2", ..Setup::ours(&config) }.start(&folder);
    let page = format!("http://{}/admin/", chat.address);
    let pictures = std::env::var("ANNULUS_PICTURES").unwrap_or_default();
    passes(Path::new("node"), "chat-console.mjs", &[&page, &browser.devtools, password, &pictures]);
    chat.stop();
}

#[test]
fn the_console_asks_for_its_password_if_it_has_one_and_shows_what_happens() {
    let Some(browser) = Browser::start("the chat's console in a browser") else { return };
    shows(&browser, "sesame");
    shows(&browser, "");
}
