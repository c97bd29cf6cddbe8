//! Hooks against the real binary: a backend over HTTP decides who connects, subscribes and stays, changes what is published,
//! and answers calls. It may refuse, be slow, broken, or away.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;

use chat_rig::{Folder, Setup, free_port, has_node};
use outside::passes;

#[test]
fn a_backend_has_its_say() {
    if !has_node("hooks of the chat") {
        return;
    }
    for (shards, form) in [("1", "json"), ("2", "protobuf")] {
        let (folder, port) = (Folder::new(), free_port());
        let hook = |name: &str, more: &str| {
            format!(
                "[chat.hooks.{name}]\nendpoint = \"http://127.0.0.1:{port}/{}\"\n{more}\n",
                name.rsplit('.').next().unwrap()
            )
        };
        let own = "http_headers = [\"Authorization\"]\nstatic_headers = { X-From = \"the chat\" }";
        let mut config =
            "insecure = false\n[chat.hooks]\nrpc_namespaces = { slow = \"slow\", broken = \"broken\", raw = \"raw\" }\n".to_owned();
        config += &hook("connect", own);
        config += &hook("refresh", "");
        config += &hook("subscribe", "");
        config += &hook("sub_refresh", "");
        config += &hook("publish", "");
        config += &hook("rpc", "include_connection_meta = true");
        config += &hook("named.slow", "timeout = \"300ms\"");
        config += &hook("named.raw", "binary_encoding = true");
        config += &hook("named.broken", "breaker_failures = 3\nbreaker_time = \"2s\"");
        config += "[[chat.namespaces]]\nname = \"asked\"\nsubscribe_hook = true\npublish_hook = true\nsub_refresh_hook = true\n";
        config += "[[chat.namespaces]]\nname = \"open\"\n";
        let chat = Setup { shards, ..Setup::ours(&config) }.start(&folder);
        passes(Path::new("node"), "hooks.mjs", &[&chat.url(), form, &port.to_string()]);
        chat.stop();
    }
}
