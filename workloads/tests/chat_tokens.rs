//! Tokens against the real binary and with the official client: who comes in, as whom, for how long, and what they may
//! subscribe to. Signed with a secret, with keys in files, and with keys that an HTTP server has.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;
use std::process::Command;

use chat_rig::{Folder, KEY, Setup, free_port, has_node, until};
use outside::{has, passes};

const SECRET: &str = "a secret of the tests";

#[test]
fn tokens_that_a_secret_signs() {
    if !has_node("tokens of the chat") {
        return;
    }
    let config = format!(
        r#"
insecure = false
api_key = "{KEY}"
[chat.client]
expired_close_delay = "1s"
expired_sub_close_delay = "1s"
personal_channel = {{ namespace = "personal" }}
[chat.tokens]
hmac_secret = "{SECRET}"
[[chat.namespaces]]
name = "personal"
[[chat.namespaces]]
name = "open"
allow_subscribe_for_anonymous = true
[[chat.namespaces]]
name = "closed"
allow_subscribe_for_client = false
[[chat.namespaces]]
name = "acme"
subscriptions_max = 1
"#
    );
    // Both at once: most of it is waiting until something expires.
    std::thread::scope(|scope| {
        for (shards, form) in [("1", "json"), ("2", "protobuf")] {
            let config = &config;
            scope.spawn(move || {
                let folder = Folder::new();
                let chat = Setup { shards, ..Setup::ours(config) }.start(&folder);
                passes(Path::new("node"), "tokens.mjs", &[&chat.url(), form, SECRET, KEY]);
                assert!(!chat.logged().contains(SECRET), "secrets are not told");
                let labels = r#"namespace="acme",quota="subscriptions""#;
                until("the quota is told", || chat.figure_with("annulus_chat_namespace_refused_total", labels) == 1.0);
                chat.stop();
            });
        }
    });
}

#[test]
fn tokens_that_keys_in_files_sign() {
    let group = "tokens with keys in files";
    if !has_node(group) || !has("openssl", group) {
        return;
    }
    let folder = Folder::new();
    let mut config = "insecure = false\n[chat.tokens]\n".to_owned();
    for (name, options) in [
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("ecdsa", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]),
        ("ed25519", &["-algorithm", "ED25519"]),
    ] {
        let (private, public) = (folder.0.join(format!("{name}.key")), folder.0.join(format!("{name}.pem")));
        openssl(&[&["genpkey", "-out", private.to_str().unwrap()], options].concat());
        openssl(&["pkey", "-pubout", "-in", private.to_str().unwrap(), "-out", public.to_str().unwrap()]);
        config += &format!("{name}_public_key = \"{}\"\n", public.display());
    }
    let chat = Setup { shards: "2", ..Setup::ours(&config) }.start(&folder);
    passes(Path::new("node"), "signed.mjs", &[&chat.url(), "pem", folder.0.to_str().unwrap()]);
    chat.stop();
}

fn openssl(arguments: &[&str]) {
    let made = Command::new("openssl").args(arguments).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn tokens_with_keys_from_a_server() {
    if !has_node("tokens with keys from a server") {
        return;
    }
    let (folder, port) = (Folder::new(), free_port());
    let config = format!("insecure = false\n[chat.tokens]\njwks_url = \"http://127.0.0.1:{port}/keys.json\"\n");
    let chat = Setup { shards: "2", ..Setup::ours(&config) }.start(&folder);
    passes(Path::new("node"), "signed.mjs", &[&chat.url(), "jwks", &port.to_string()]);
    chat.stop();
}
