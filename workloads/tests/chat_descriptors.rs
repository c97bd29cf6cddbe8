//! A chat whose process may open nothing for a while: whoever is there waits at most, what was acknowledged stays, and all
//! goes on by itself when it may again. The log needs a descriptor for each segment that it begins.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use chat_rig::{Chat, Folder, KEY, PATIENCE, Setup, until};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Bytes of a publication, and so many of them need several segments.
const BYTES: usize = 40_000;
const PUBLICATIONS: usize = 160;
/// Below whatever number is free: only the standard streams have smaller ones.
const NO_MORE: u64 = 3;
const SEGMENT: &str = "log.segment_bytes = \"2MiB\"\ndefault.history_size = 1000\n";

/// Calls of the API over one connection, which needs no descriptor for each.
struct Backend(TcpStream);

impl Backend {
    fn publish(&mut self, number: usize) -> String {
        let body = format!(r#"{{"channel":"room","data":"{number}-{}"}}"#, "x".repeat(BYTES));
        let head = format!(
            "POST /api/publish HTTP/1.1\r\nHost: chat\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all((head + &body).as_bytes()).unwrap();
        let (mut answer, mut part) = (String::new(), [0; 4096]);
        while !answer.ends_with('}') {
            let count = self.0.read(&mut part).unwrap();
            assert!(count > 0, "it closed after {answer:?}");
            answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
        }
        answer
    }
}

fn limit(chat: &Chat, descriptors: u64) {
    let pid = Pid::from_raw(chat.process.id().try_into().unwrap());
    // The hard limit stays: who is not root could not raise it again.
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(descriptors), maximum }).unwrap();
}

/// Whether something that was refused was tried again, and done.
fn goes_on(log: &str) -> bool {
    log.contains("the log goes on.") || log.contains("the log has room again.")
}

#[test]
fn a_log_without_descriptors_waits_for_one_and_does_not_fail() {
    let folder = Folder::new();
    let chat = Setup::ours(&format!("api_key = \"{KEY}\"\n{SEGMENT}")).start(&folder);
    let mut backend = Backend(TcpStream::connect(chat.address).unwrap());
    backend.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(backend.publish(0).contains("\"offset\":1"));
    limit(&chat, NO_MORE);
    let publisher = std::thread::spawn(move || {
        for number in 1..PUBLICATIONS {
            let mut answer = backend.publish(number);
            // Full, because the log cannot make its next segment ready: temporary, and told as that.
            while answer.contains("\"code\":111") {
                std::thread::sleep(Duration::from_millis(50));
                answer = backend.publish(number);
            }
            assert!(answer.contains("\"offset\""), "number {number}: {answer}");
        }
    });
    // Where it meets the limit first: opening the segment to write to, or making the next one.
    let waits = |log: &str| log.contains("the log waits: opening ") || log.contains("the log gets no more room in ");
    until("the log waits", || waits(&chat.logged()));
    let refused = chat.logged();
    assert!(refused.contains("Too many open files") && !goes_on(&refused), "{refused}");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!publisher.is_finished() && !goes_on(&chat.logged()), "nothing goes on without descriptors");
    limit(&chat, 1000);
    // What was refused is tried again, and not given up or done without.
    until("the log goes on", || goes_on(&chat.logged()));
    publisher.join().unwrap();
    let log = chat.logged();
    assert!(!log.contains("THE LOG HAS FAILED"), "{log}");
    let count = |words: &str| log.matches(words).count();
    assert_eq!(count("the log waits: opening "), count("the log goes on."), "{log}");
    assert_eq!(count("the log gets no more room in "), count("the log has room again."), "{log}");
    let history = chat.call("history", r#"{"channel":"room","limit":-1}"#);
    assert_eq!(history["result"]["publications"].as_array().unwrap().len(), PUBLICATIONS);
    chat.stop();
}
