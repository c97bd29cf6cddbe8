//! What tests of the gateway share: the real binary on a configuration of the test's, upstreams that answer by a script,
//! a client that shows every byte, certificates, and the list of what could not be run here.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running gateway, ended with the test.
pub struct Gateway {
    pub process: Child,
    pub address: SocketAddr,
    pub log: Arc<Mutex<String>>,
    pub file: PathBuf,
}

static FILES: AtomicUsize = AtomicUsize::new(0);

impl Gateway {
    pub fn start(config: &str) -> Gateway {
        Gateway::start_on(config, "1", "auto")
    }

    pub fn start_on(config: &str, shards: &str, driver: &str) -> Gateway {
        Gateway::start_with(config, shards, driver, &[])
    }

    /// `PORT` in the configuration becomes a free one. `variables` are its environment's.
    pub fn start_with(config: &str, shards: &str, driver: &str, variables: &[(&str, &str)]) -> Gateway {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Gateway::start_at(port, config, &["--shards", shards, "--driver", driver], variables)
    }

    /// On this port, with further words.
    pub fn start_at(port: u16, config: &str, words: &[&str], variables: &[(&str, &str)]) -> Gateway {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("annulus-gateway-{}-{number}.json", std::process::id()));
        std::fs::write(&file, config.replace("PORT", &port.to_string())).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_annulus"))
            .args(["gateway", "--config"])
            .arg(&file)
            .args(words)
            .env_remove("ANNULUS_ADMIN_TOKEN")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut text = String::new();
        for line in lines.by_ref() {
            text += &(line.unwrap() + "\n");
            if text.contains("open files") && text.contains("gateway: http") {
                break;
            }
        }
        assert!(text.contains("gateway: http"), "the gateway did not start: see its words above");
        let log = Arc::new(Mutex::new(text));
        let shared = log.clone();
        std::thread::spawn(move || {
            lines.for_each(|line| shared.lock().unwrap().push_str(&(line.unwrap_or_default() + "\n")));
        });
        Gateway { process, address: ([127, 0, 0, 1], port).into(), log, file }
    }

    pub fn get(&self, path: &str) -> Answer {
        // Its own figures are for those who ask by a name of this machine.
        let host = if path.starts_with("/__") { "localhost" } else { "shop.example" };
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n"), b"")
    }

    /// One request on a connection of its own. `head` ends with a line end and lacks the empty line.
    pub fn ask(&self, head: &str, body: &[u8]) -> Answer {
        Answer::parse(&self.ask_for_bytes(head, body))
    }

    /// As [`Gateway::ask`], and again while the gateway says that it has too much to do: on a busy machine it soon has.
    pub fn ask_until_served(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        eventually("the gateway has time", || {
            answer = self.ask_for_bytes(head, body);
            !answer.starts_with(b"HTTP/1.1 503")
        });
        answer
    }

    /// As [`Gateway::get`], likewise.
    pub fn get_until_served(&self, path: &str) -> Answer {
        Answer::parse(&self.ask_until_served(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n"), b""))
    }

    /// As [`Gateway::ask`], for an answer that may be no text.
    pub fn ask_for_bytes(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"Connection: close\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        text
    }

    pub fn logged(&self, what: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if self.log.lock().unwrap().contains(what) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Replaces its configuration's file, at once as a careful editor does.
    pub fn write(&self, config: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, config.replace("PORT", &self.address.port().to_string())).unwrap();
        std::fs::rename(next, &self.file).unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name]).arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Asks it to end and sees that it does so well.
    pub fn stop(mut self) {
        self.signal("TERM");
        assert!(self.ended().success(), "the gateway did not drain");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
        let _removed = std::fs::remove_file(&self.file);
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(text: &[u8]) -> Answer {
        let (head, body) = Answer::divide(text);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// An answer's head, in lower case, and its body.
    pub fn divide(text: &[u8]) -> (String, Vec<u8>) {
        let at = text.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(text[..at].to_vec()).unwrap().to_lowercase();
        let mut body = text[at + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        (head, body)
    }

    pub fn has(&self, field: &str) -> bool {
        self.head.lines().any(|line| line == field)
    }
}

pub fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return out;
        }
        out.extend_from_slice(&bytes[end + 2..end + 2 + len]);
        bytes = &bytes[end + 4 + len..];
    }
}

/// An upstream that answers by a script: what `answer` gives for a request's head is sent as it is; an empty text is
/// silence.
pub struct Upstream {
    pub address: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let (shared, counted, answer) = (heads.clone(), connections.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let (shared, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut stream = stream;
                    while let Some(head) = read_request(&mut reader) {
                        shared.lock().unwrap().push(head.clone());
                        let text = answer(&head);
                        if text.is_empty() {
                            continue;
                        }
                        if stream.write_all(text.as_bytes()).is_err() || text.contains("Connection: close") {
                            return;
                        }
                    }
                });
            }
        });
        Upstream { address, heads, connections }
    }

    pub fn json(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    pub fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(head + "\n" + &String::from_utf8_lossy(&body))
}

/// Waits until something is so, for as long as a busy machine may need for it.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(90);
    while !is_so() {
        assert!(Instant::now() < until, "not in 90 seconds: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn config(endpoints: &str, extra: &str) -> String {
    format!(
        r#"{{"version": 3, "port": PORT, "listen_ip": "127.0.0.1", "echo_endpoint": true{extra}, "endpoints": [{endpoints}]}}"#
    )
}

/// Our own behaviour, for a configuration's root.
pub const OURS: &str = r#", "extra_config": {"annulus": {"compat": "annulus"}}"#;
