//! A backend that is told things by webhooks: it notes what comes, and answers, fails, is silent, hangs up or is killed.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ring::hmac;
use serde_json::Value;

/// What the backend does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Answers(u16),
    /// It reads the request, and nothing comes of it.
    Silent,
    /// It reads the request, and hangs up.
    Cuts,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub line: String,
    pub id: String,
    pub body: String,
    pub signature: String,
    pub authorization: String,
}

impl Delivery {
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn events(&self) -> Vec<Value> {
        self.body()["events"].as_array().unwrap().clone()
    }

    /// Whether one of its signatures is made with this key, of its time and body (HMAC-SHA256).
    pub fn is_signed_with(&self, key: &str) -> bool {
        let mut parts = self.signature.split(',');
        let Some(time) = parts.next().and_then(|part| part.strip_prefix("t=")) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let tag = hmac::sign(&key, format!("{time}.{}", self.body).as_bytes());
        let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        time.parse::<u64>().is_ok_and(|time| time > 1_700_000_000)
            && parts.any(|part| part.strip_prefix("v1=") == Some(&digits))
    }
}

/// What a backend's threads share.
#[derive(Default)]
struct Desk {
    came: Mutex<Vec<Delivery>>,
    /// For the next requests, one each; then it is 204.
    moods: Mutex<VecDeque<Mood>>,
    /// Connections, to be cut at the end; `None`: it has ended.
    streams: Mutex<Option<Vec<TcpStream>>>,
}

/// A backend.
pub struct Backend {
    pub port: u16,
    desk: Arc<Desk>,
    listening: JoinHandle<()>,
}

impl Backend {
    pub fn start(moods: &[Mood]) -> Backend {
        Backend::start_at(0, moods)
    }

    pub fn start_at(port: u16, moods: &[Mood]) -> Backend {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let desk = Arc::new(Desk {
            moods: Mutex::new(moods.iter().copied().collect()),
            streams: Mutex::new(Some(Vec::new())),
            ..Desk::default()
        });
        let shared = desk.clone();
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                match &mut *shared.streams.lock().unwrap() {
                    Some(streams) => streams.push(stream.try_clone().unwrap()),
                    None => return,
                }
                let shared = shared.clone();
                std::thread::spawn(move || while serve(&stream, &shared).is_some() {});
            }
        });
        Backend { port, desk, listening }
    }

    /// Ends it as a machine that goes down does: nobody is answered, and nobody listens.
    pub fn kill(self) -> Vec<Delivery> {
        let streams = self.desk.streams.lock().unwrap().take().unwrap();
        for stream in &streams {
            // Those that are closed already stay so.
            let _closed = stream.shutdown(Shutdown::Both);
        }
        // The thread that listens looks up.
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        self.listening.join().unwrap();
        self.desk.came.lock().unwrap().clone()
    }

    pub fn came(&self) -> Vec<Delivery> {
        self.desk.came.lock().unwrap().clone()
    }

    /// What the next requests meet.
    pub fn expect(&self, mood: Mood) {
        self.desk.moods.lock().unwrap().push_back(mood);
    }
}

/// One request; `None`: the connection has ended.
fn serve(stream: &TcpStream, desk: &Desk) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut fields, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            field => fields.push(field.to_owned()),
        }
    }
    let value = |name: &str| {
        let found = fields.iter().filter_map(|field| field.split_once(": "));
        let mut found = found.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
        found.next().unwrap_or_default()
    };
    let mut body = vec![0; value("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mood = desk.moods.lock().unwrap().pop_front().unwrap_or(Mood::Answers(204));
    desk.came.lock().unwrap().push(Delivery {
        line: fields[0].clone(),
        id: value("x-annulus-delivery"),
        body: String::from_utf8(body).unwrap(),
        signature: value("x-annulus-signature"),
        authorization: value("authorization"),
    });
    let mut stream = stream;
    match mood {
        Mood::Answers(204) => stream.write_all(b"HTTP/1.1 204 Taken\r\n\r\n").ok(),
        Mood::Answers(status) => {
            let head = format!("HTTP/1.1 {status} Other\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nno");
            stream.write_all(head.as_bytes()).ok()
        }
        Mood::Silent => Some(()),
        Mood::Cuts => stream.shutdown(Shutdown::Both).ok().and(None),
    }
}
