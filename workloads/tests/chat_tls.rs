//! The chat behind TLS, by certificates of the test's own: official clients, the certificate renewed on SIGHUP while they
//! are connected, and what comes instead of a handshake.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chat_rig::{Chat, Folder, KEY, Script, Setup, has_node, until};
use outside::certificates::{Authority, Certified};
use outside::has;

fn start(folder: &Folder, certified: &Certified, shards: &str) -> Chat {
    let (cert, key) = (certified.chain.display(), certified.key.display());
    let config = format!("api_key = \"{KEY}\"\ninsecure = true\n[chat.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n");
    Setup { shards, ..Setup::ours(&config) }.start(folder)
}

#[test]
fn a_certificate_is_renewed_while_clients_are_connected() {
    if !has_node("the chat over TLS") {
        return;
    }
    let Some(authority) = Authority::new("the chat over TLS") else { return };
    for shards in ["1", "2"] {
        let (folder, certified) = (Folder::new(), authority.issue("localhost"));
        let chat = start(&folder, &certified, shards);
        let trusted = authority.certificate();
        let port = chat.address.port().to_string();
        let mut script = Script::start(Path::new("node"), "tls.mjs", &[&port, trusted.to_str().unwrap()]);
        script.hear("connected");
        // Another one takes its place in the same files.
        authority.issue("localhost");
        chat.signal("-HUP");
        script.say("renewed");
        script.hear("still connected");
        std::fs::write(&certified.chain, "no certificate").unwrap();
        chat.signal("-HUP");
        script.say("broken");
        script.ends_well();
        until("the broken one is told of", || chat.logged().contains("chat.tls.cert"));
        chat.stop();
    }
}

#[test]
fn the_api_is_behind_it_too() {
    let Some(authority) = Authority::new("the chat's API over TLS") else { return };
    if !has("curl", "the chat's API over TLS") {
        return;
    }
    let (folder, certified) = (Folder::new(), authority.issue("localhost"));
    let chat = start(&folder, &certified, "2");
    let curl = |more: &[&str], path: &str| {
        let at = format!("localhost:{0}:{1}", chat.address.port(), chat.address.ip());
        let url = format!("https://localhost:{}{path}", chat.address.port());
        let trusted = authority.certificate();
        let asked = Command::new("curl")
            .args([
                "-sS",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                "--resolve",
                &at,
                "--cacert",
                trusted.to_str().unwrap(),
            ])
            .args(more)
            .arg(&url)
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    };
    assert_eq!(curl(&[], "/health"), "{}");
    let big = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(60_000));
    let key = format!("X-API-Key: {KEY}");
    let body = folder.file("body.json", &big);
    let published = curl(&["-H", &key, "--data-binary", &format!("@{}", body.display())], "/api/publish");
    assert!(published.contains(r#""offset":1"#), "{published}");
    let history = curl(&["-H", &key, "-d", r#"{"channel":"a","limit":1}"#], "/api/history");
    assert!(history.len() > 60_000, "{} bytes", history.len());
    chat.stop();
}

#[test]
fn what_is_no_handshake_is_turned_away() {
    let Some(authority) = Authority::new("what is no TLS handshake") else { return };
    if !has("curl", "what is no TLS handshake") {
        return;
    }
    let (folder, certified) = (Folder::new(), authority.issue("localhost"));
    let chat = start(&folder, &certified, "1");
    let hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n"[..], &[0; 64], &[255; 4096], &hello, &[22, 3, 1, 255, 255], b""]
    {
        let mut stream = TcpStream::connect(chat.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut told = Vec::new();
        let _reset = stream.read_to_end(&mut told);
        // An alert (RFC 8446 section 6), or nothing; no words in the clear.
        assert!(told.is_empty() || told[0] == 21, "{told:?}");
    }
    // A crowd that says nothing does not keep others out.
    let crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(chat.address).unwrap()).collect();
    let began = Instant::now();
    let healthy = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "60", "-k"])
        .arg(format!("https://{}/health", chat.address))
        .output()
        .unwrap();
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    assert!(began.elapsed() < Duration::from_secs(5), "kept out for {:?} by a silent crowd", began.elapsed());
    drop(crowd);
    chat.stop();
}
