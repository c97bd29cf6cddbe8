//! The chat's page in a real browser, against the real binary.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;

use chat_rig::{Folder, Setup};
use outside::{Browser, passes};

#[test]
fn two_browser_windows_chat_on_the_page() {
    let Some(browser) = Browser::start("the page in a browser") else { return };
    let folder = Folder::new();
    let chat = Setup { shards: "2", ..Setup::ours("") }.start(&folder);
    let page = format!("http://{}/", chat.address);
    passes(Path::new("node"), "page.mjs", &[&page, &browser.devtools]);
    chat.stop();
}
