//! A chat that is replaced while it works, three times and with other numbers of shards: every call of the API is answered,
//! clients come back by themselves and have every publication once, and a successor that cannot start changes nothing.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use chat_rig::frames::{End, Frame, Raw, TEXT};
use chat_rig::{Chat, Folder, KEY, PATIENCE, Setup, free_port, offline, until};
use serde_json::Value;

/// A chat that may be taken over, in its folder.
fn setup<'s>(port: u16, shards: &'s str, driver: &'s str, options: &'s [&'s str]) -> Setup<'s> {
    Setup { port, shards, driver, options, ..Setup::ours(&format!("api_key = \"{KEY}\"\n")) }
}

/// Publishes without pause until told to stop: each on a connection of its own, or all on one for as long as it lasts. How
/// many.
fn publisher(address: SocketAddr, keeps: bool, next: Arc<AtomicU64>, over: Arc<AtomicBool>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut count, mut kept) = (0, None);
        while !over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = format!(r#"{{"channel":"news","data":{{"number":{number}}}}}"#);
            let connection = if keeps { "keep-alive" } else { "close" };
            let mut stream = kept.take().unwrap_or_else(|| {
                let stream = TcpStream::connect(address).expect("nobody is refused");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                BufReader::new(stream)
            });
            let head = format!(
                "POST /api/publish HTTP/1.1\r\nHost: chat\r\nX-API-Key: {KEY}\r\nConnection: {connection}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.get_mut().write_all(head.as_bytes()).expect("a connection that was kept is there");
            let (mut status, mut length, mut is_last) = (String::new(), 0, false);
            stream.read_line(&mut status).expect("each call is answered");
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim_end().to_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
                is_last |= line == "connection: close";
                if line.is_empty() {
                    break;
                }
            }
            let mut answer = vec![0; length];
            stream.read_exact(&mut answer).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(status.contains(" 200 ") && answer.contains("\"offset\""), "call {count}: {status:?} {answer}");
            kept = (keeps && !is_last).then_some(stream);
            count += 1;
            std::thread::sleep(Duration::from_millis(4));
        }
        count
    })
}

/// Where a subscriber is in the channel, and what it has had: numbers by offset.
#[derive(Default)]
struct Had {
    epoch: String,
    offset: u64,
    numbers: BTreeMap<u64, u64>,
    returns: u32,
}

impl Had {
    fn note(&mut self, publication: &Value) {
        let offset = publication["offset"].as_u64().unwrap();
        assert_eq!(offset, self.offset + 1, "each comes once, and in order");
        self.offset = offset;
        self.numbers.insert(offset, publication["data"]["number"].as_u64().unwrap());
    }
}

/// A client that subscribes, and comes back from where it was whenever it is sent away.
fn subscriber(address: SocketAddr, last: Arc<AtomicU64>) -> JoinHandle<Had> {
    std::thread::spawn(move || {
        let mut had = Had::default();
        loop {
            let mut raw = Raw::open(address);
            raw.say(r#"{"id":1,"connect":{"data":{"user":"reader"}}}"#);
            let (offset, epoch) = (had.offset, &had.epoch);
            let from = if epoch.is_empty() {
                String::new()
            } else {
                format!(r#","recover":true,"offset":{offset},"epoch":"{epoch}""#)
            };
            raw.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"news","recoverable":true{from}}}}}"#));
            match listen(&mut raw, &mut had, &last) {
                None => return had,
                Some(End::Closed(3001, _)) => had.returns += 1,
                Some(other) => panic!("a client is sent away with a word: {other:?}"),
            }
        }
    })
}

/// Reads until there is nothing more to come, or the connection's end.
fn listen(raw: &mut Raw, had: &mut Had, last: &AtomicU64) -> Option<End> {
    loop {
        if had.offset > 0 && had.offset == last.load(Ordering::Relaxed) {
            return None;
        }
        let payload = match raw.next() {
            Ok(Frame { opcode: TEXT, payload }) => payload,
            Ok(_) => continue,
            Err(end) => return Some(end),
        };
        for line in String::from_utf8(payload).unwrap().lines() {
            if line == "{}" {
                raw.say("{}");
                continue;
            }
            let value: Value = serde_json::from_str(line).unwrap();
            assert!(value.get("error").is_none(), "{line}");
            if let Some(subscribed) = value.get("subscribe") {
                let epoch = subscribed["epoch"].as_str().unwrap();
                assert!(had.epoch.is_empty() || subscribed["recovered"] == true && epoch == had.epoch, "{line}");
                if had.epoch.is_empty() {
                    had.offset = subscribed["offset"].as_u64().unwrap_or(0);
                }
                had.epoch = epoch.to_owned();
                subscribed["publications"].as_array().into_iter().flatten().for_each(|one| had.note(one));
            } else if let Some(publication) = value["push"].get("pub") {
                had.note(publication);
            }
        }
    }
}

fn ends_well(mut chat: Chat) {
    let status = chat.process.wait().unwrap();
    let log = chat.logged();
    assert!(status.success() && !log.contains("panicked") && log.contains("takes over"), "{status}: {log}");
}

#[test]
fn three_upgrades_lose_nothing() {
    for driver in ["auto", "epoll"] {
        let folder = Folder::new();
        let socket = folder.0.join("handover").display().to_string();
        let options = ["--handover", &socket, "--walls", "auto"];
        let mut chat = setup(free_port(), "2", driver, &options).start(&folder);
        let (address, port) = (chat.address, chat.address.port());
        let (over, last, next) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let subscribers: Vec<_> = (0..4).map(|_| subscriber(address, last.clone())).collect();
        let publishers = [false, false, true].map(|keeps| publisher(address, keeps, next.clone(), over.clone()));
        until("its socket is offered", || std::path::Path::new(&socket).exists());
        for shards in ["1", "2", "2"] {
            std::thread::sleep(Duration::from_millis(700));
            let successor = setup(port, shards, driver, &options).start(&folder);
            until("it has taken over", || successor.logged().contains("upgrade: taken over"));
            let log = successor.logged();
            let paused = log.split("clients waited for ").nth(1).unwrap().split(' ').next().unwrap();
            println!("{driver}, to {shards} shards: clients waited for {paused} ms");
            assert!(paused.parse::<u64>().unwrap() < 20_000, "{log}");
            ends_well(std::mem::replace(&mut chat, successor));
        }
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        let calls: u64 = publishers.into_iter().map(|publisher| publisher.join().unwrap()).sum();
        assert!(calls > 100, "{calls}");
        // One more, so that each looks again whether this is all.
        let all = calls + 1;
        last.store(all, Ordering::Relaxed);
        chat.call("publish", r#"{"channel":"news","data":{"number":0}}"#);
        let mut returns = 0;
        for subscriber in subscribers {
            let had = subscriber.join().unwrap();
            assert_eq!(had.offset, all, "{driver}");
            returns += had.returns;
        }
        assert!(returns >= 12, "four clients were sent away three times, not {returns}");
        println!("{driver}: {calls} calls without a failure over three upgrades, {returns} returns of four clients");
        chat.stop();
        assert!(!std::path::Path::new(&socket).exists(), "a server that ends takes its socket along");
        let lines = offline("export", &folder.log());
        assert_eq!(lines.lines().count() as u64, all, "{driver}: the log has each once");
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let folder = Folder::new();
    let socket = folder.0.join("handover").display().to_string();
    let options = ["--handover", &socket];
    let chat = setup(free_port(), "1", "auto", &options).start(&folder);
    let port = chat.address.port();
    until("its socket is offered", || std::path::Path::new(&socket).exists());
    let wrong = "\n[chat.tls]\ncert = \"/nowhere/cert.pem\"\nkey = \"/nowhere/key.pem\"\n";
    let text = format!("[chat]\napi_key = \"{KEY}\"\n{wrong}");
    let refused = Setup { port, options: &options, ..Setup::file("annulus.toml", text) }.refused(&folder);
    assert!(refused.contains("/nowhere/cert.pem"), "{refused}");
    until("the one before says why", || chat.logged().contains("could not start, and this one goes on"));
    assert!(chat.logged().contains("/nowhere/cert.pem"), "{}", chat.logged());
    // An address that it cannot have is found before the one before has to end.
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = setup(somebody.local_addr().unwrap().port(), "1", "auto", &options);
    let refused = elsewhere.refused(&folder);
    assert!(refused.contains("the address is in use") && !refused.contains("is asked to finish"), "{refused}");
    until("the one before says why", || chat.logged().contains("the address is in use"));
    let answer = chat.call("publish", r#"{"channel":"a","data":1}"#);
    assert_eq!(answer["result"]["offset"], 1, "{answer}");
    chat.stop();
}
