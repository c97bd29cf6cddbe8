//! Clients that stop reading, against the real binary. Where there is history they hold a place in it and no queue: they get
//! everything, or are told to begin anew. Where there is none, what the namespace says becomes of them. Those who read are
//! given everything in time, and the service's memory stays what it was.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chat_rig::frames::{End, Frame, Raw};
use chat_rig::{Chat, Folder, Setup, until};
use serde_json::Value;

/// Much more than the kernel takes for a connection whose client does not read.
const PUBLICATIONS: u64 = 3000;
const PUBLICATION_BYTES: usize = 20_000;
/// How long it may take to read what is left, of which there are some MiB.
const READING_MAX: Duration = Duration::from_secs(20);
/// So many at once that the outbox of one who reads has room for them.
const AT_ONCE: usize = 5;
/// What the service may grow by: all rings of the history, its log's buffers and the outboxes, but not a queue of it all.
const GROWTH_BYTES_MAX: u64 = 40 << 20;

const CONFIG: &str = r#"
[chat.log]
enabled = false
[[chat.namespaces]]
name = "short"
history_size = 50
[[chat.namespaces]]
name = "long"
history_size = 4000
[[chat.namespaces]]
name = "strict"
history_size = 0
[[chat.namespaces]]
name = "oldest"
history_size = 0
slow = "drop_oldest"
[[chat.namespaces]]
name = "latest"
history_size = 0
slow = "keep_latest"
"#;

fn subscribed(chat: &Chat, channel: &str, more: &str) -> (Raw, String) {
    let mut raw = Raw::connect(chat.address, "reader");
    raw.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"{more}}}}}"#));
    let reply = raw.hear();
    assert!(reply.contains(r#""subscribe":{"#), "{reply}");
    (raw, reply)
}

/// The number of a publication that is told; `None`: it tells something else.
fn number(text: &str) -> Option<u64> {
    let told: Value = serde_json::from_str(text).unwrap();
    told["push"]["pub"]["data"]["number"].as_u64()
}

/// A client that reads all along; it must hear everything, in order. How far it is can be seen.
fn fast(chat: &Chat, channel: &str, heard: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (mut raw, _) = subscribed(chat, channel, "");
    let heard = heard.clone();
    thread::spawn(move || {
        let mut expected = 0;
        while expected < PUBLICATIONS {
            for line in raw.hear().lines() {
                match number(line) {
                    Some(number) => {
                        assert_eq!(number, expected);
                        expected += 1;
                    }
                    None => raw.say("{}"),
                }
            }
            heard.store(expected, Ordering::Relaxed);
        }
    })
}

/// Publishes it all, at the pace of the one who reads.
fn publish(chat: &Chat, channel: &str, heard: &AtomicU64) {
    let padding = "x".repeat(PUBLICATION_BYTES);
    for first in (0..PUBLICATIONS).step_by(AT_ONCE) {
        let command = |number: u64| {
            format!(r#"{{"publish":{{"channel":"{channel}","data":{{"number":{number},"padding":"{padding}"}}}}}}"#)
        };
        let commands: Vec<String> = (first..first + AT_ONCE as u64).map(command).collect();
        let answer = chat.call("batch", &format!(r#"{{"commands":[{}]}}"#, commands.join(",")));
        assert_eq!(answer["replies"].as_array().unwrap().len(), AT_ONCE, "{answer}");
        until("who reads is given everything", || heard.load(Ordering::Relaxed) == first + AT_ONCE as u64);
    }
}

/// Reads what is told in numbers until the last of them, or something else happens: that.
fn read_on(raw: &mut Raw, heard: &mut Vec<u64>) -> Result<(), Result<String, End>> {
    let latest = Instant::now() + READING_MAX;
    while heard.last() != Some(&(PUBLICATIONS - 1)) {
        assert!(
            Instant::now() < latest,
            "the last is not told; up to it: {:?}",
            &heard[heard.len().saturating_sub(5)..]
        );
        match raw.next() {
            Ok(Frame { payload, .. }) => {
                for text in String::from_utf8(payload).unwrap().lines() {
                    match number(text) {
                        Some(number) => heard.push(number),
                        None if text == "{}" => raw.say("{}"),
                        None => return Err(Ok(text.to_owned())),
                    }
                }
            }
            Err(end) => return Err(Err(end)),
        }
    }
    Ok(())
}

fn each_after_the_other(heard: &[u64]) {
    assert!(heard.iter().copied().eq(0..heard.len() as u64), "{heard:?}");
}

/// Publishes to a channel that one client reads and another does not; the other.
fn beside_a_fast_reader(chat: &Chat, channel: &str, more: &str, memory_matters: bool) -> (Raw, String) {
    let (slow, reply) = subscribed(chat, channel, more);
    let heard = Arc::default();
    let reader = fast(chat, channel, &heard);
    let before = chat.memory();
    publish(chat, channel, &heard);
    reader.join().unwrap();
    let growth = chat.memory().saturating_sub(before);
    assert!(!memory_matters || growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");
    (slow, reply)
}

fn start(folder: &Folder, shards: &str) -> Chat {
    Setup { shards, ..Setup::ours(CONFIG) }.start(folder)
}

#[test]
fn who_falls_out_of_the_history_begins_anew() {
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = start(&folder, shards);
        let (mut slow, reply) = beside_a_fast_reader(&chat, "short:a", r#","recoverable":true"#, true);
        let mut heard = Vec::new();
        let told = read_on(&mut slow, &mut heard).unwrap_err().unwrap();
        each_after_the_other(&heard);
        assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
        // As an SDK does then: from where it was, which is no longer there.
        let reply: Value = serde_json::from_str(&reply).unwrap();
        let epoch = reply["subscribe"]["epoch"].as_str().unwrap();
        let offset = heard.len();
        slow.say(&format!(
            r#"{{"id":3,"subscribe":{{"channel":"short:a","recover":true,"epoch":"{epoch}","offset":{offset}}}}}"#
        ));
        let again: Value = serde_json::from_str(&slow.hear()).unwrap();
        assert_eq!(again["subscribe"]["was_recovering"], true, "{again}");
        assert!(again["subscribe"]["recovered"].is_null(), "{again}");
        assert_eq!(again["subscribe"]["offset"], PUBLICATIONS, "{again}");
        chat.call("publish", r#"{"channel":"short:a","data":{"number":0}}"#);
        assert_eq!(number(&slow.hear()), Some(0));
        assert!(chat.figure("annulus_chat_fallen_off_total") >= 1.0);
        chat.stop();
    }
}

#[test]
fn who_is_slow_within_the_history_misses_nothing() {
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = start(&folder, shards);
        let (mut slow, _) = beside_a_fast_reader(&chat, "long:a", "", false);
        let mut heard = Vec::new();
        read_on(&mut slow, &mut heard).unwrap();
        each_after_the_other(&heard);
        // Caught up: it is among the others again.
        chat.call("publish", r#"{"channel":"long:a","data":{"number":7}}"#);
        assert_eq!(number(&slow.hear()), Some(7));
        assert!(chat.figure("annulus_chat_slow_clients_total") >= 1.0);
        chat.stop();
    }
}

#[test]
fn without_history_who_is_slow_is_sent_away() {
    let folder = Folder::new();
    let chat = start(&folder, "2");
    let (mut slow, _) = beside_a_fast_reader(&chat, "strict:a", "", true);
    until("it is sent away", || chat.figure_with("annulus_chat_closed_total", "code=\"3008\"") >= 1.0);
    let mut heard = Vec::new();
    let end = read_on(&mut slow, &mut heard).unwrap_err().unwrap_err();
    each_after_the_other(&heard);
    // It reads nothing, so it may not hear why.
    assert!(matches!(end, End::Closed(3008, _) | End::Cut), "{end:?}");
    chat.stop();
}

#[test]
fn without_history_the_oldest_may_give_way() {
    let folder = Folder::new();
    let chat = start(&folder, "2");
    let (mut slow, _) = beside_a_fast_reader(&chat, "oldest:a", "", true);
    let mut heard = Vec::new();
    read_on(&mut slow, &mut heard).unwrap();
    assert!(heard.is_sorted_by(|one, next| one < next) && heard.len() < PUBLICATIONS as usize, "{heard:?}");
    // The newest ones are all there.
    let newest = heard.iter().rev().zip((0..PUBLICATIONS).rev()).take_while(|(one, other)| *one == other).count();
    assert!(newest >= 2, "{heard:?}");
    assert!(chat.figure("annulus_chat_dropped_total") >= 1.0);
    chat.call("publish", r#"{"channel":"oldest:a","data":{"number":7}}"#);
    assert_eq!(number(&slow.hear()), Some(7));
    chat.stop();
}

#[test]
fn without_history_only_the_latest_may_count() {
    let folder = Folder::new();
    let chat = start(&folder, "2");
    let (mut slow, _) = beside_a_fast_reader(&chat, "latest:a", "", true);
    let mut heard = Vec::new();
    read_on(&mut slow, &mut heard).unwrap();
    // One gap: what was on its way, and then the newest.
    let gaps = heard.windows(2).filter(|two| two[1] != two[0] + 1).count();
    assert!(gaps == 1 && heard[heard.len() - 2] != PUBLICATIONS - 2, "{heard:?}");
    chat.call("publish", r#"{"channel":"latest:a","data":{"number":7}}"#);
    assert_eq!(number(&slow.hear()), Some(7));
    chat.stop();
}

#[test]
fn who_never_reads_is_cut_off_in_time() {
    let folder = Folder::new();
    let chat =
        Setup::ours(&format!("write_timeout = \"2s\"\n[chat.client]\nping_interval = 0\n{CONFIG}")).start(&folder);
    let (slow, _) = beside_a_fast_reader(&chat, "long:a", "", false);
    let began = Instant::now();
    until("it is cut off", || chat.figure("annulus_chat_clients") == 0.0);
    // Well below the default of 30 s; nobody is pinged, so nothing else can have done it.
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(slow);
    chat.stop();
}
