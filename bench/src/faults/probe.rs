//! Clients that ask gateways for something again and again, each on a connection of its own, and what became of it.
//!
//! They stand behind a balancer that tries the next gateway when one does not take a connection, or closes it before it has
//! answered anything. A POST carries a mark, by which services see that it comes twice; such a one is not tried elsewhere once it
//! was sent.

use crate::pulse::Pulse;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients, and the pause of each between two requests.
const CLIENTS: usize = 6;
const PAUSE: Duration = Duration::from_millis(15);
/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// One request in so many is a POST.
const POST_EVERY: u64 = 5;

/// What came of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whole answers with all parts.
    pub whole: u64,
    /// Answers with some parts missing, which say so.
    pub in_part: u64,
    /// Turned away by a gateway that had too much to do: on a machine that others use, too, it often has.
    pub shed: u64,
    /// Answers with another status, and what the first of them said.
    pub statuses: BTreeMap<u16, u64>,
    /// See [`Seen::statuses`].
    pub first: String,
    /// Answers that broke off.
    pub broken: u64,
    /// Connections that were not taken, or closed without a word.
    pub untaken: u64,
    /// And POSTs whose connection was closed without a word once they were sent: whoever closes a listener cannot help it, and
    /// nobody may send them again.
    pub unsure: u64,
    /// Those to which nothing came in time.
    pub silent: u64,
    /// The longest time until an answer.
    pub slowest: Duration,
}

/// See the module's description.
pub struct Probe {
    doors: Mutex<Vec<SocketAddr>>,
    path: String,
    posts: Option<String>,
    marks: AtomicU64,
    seen: Mutex<Seen>,
    /// Whole answers.
    pub pulse: Pulse,
}

enum Answer {
    /// With its status, whether all parts are there, and its body.
    Status(u16, bool, String),
    Broken,
    Untaken,
    Unsure,
    Silent,
}

impl Probe {
    /// Clients that ask these gateways for `path`, and POST to `posts` if there is such a path.
    pub fn new(doors: Vec<SocketAddr>, path: &str, posts: Option<&str>) -> Probe {
        Probe {
            doors: Mutex::new(doors),
            path: path.to_owned(),
            posts: posts.map(str::to_owned),
            marks: AtomicU64::new(1),
            seen: Mutex::default(),
            pulse: Pulse::default(),
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("nobody panics with it").clone()
    }

    /// What is seen from now on.
    pub fn begin(&self) {
        *self.seen.lock().expect("nobody panics with it") = Seen::default();
        self.pulse.begin();
    }

    /// Clients ask while `during` runs.
    pub fn run<T>(&self, during: impl FnOnce(&Probe) -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        self.ask(client);
                        std::thread::sleep(PAUSE);
                    }
                });
            }
            let value = during(self);
            stop.store(true, Ordering::Relaxed);
            value
        })
    }

    fn ask(&self, client: usize) {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        let doors = self.doors.lock().expect("nobody panics with it").clone();
        let asked = Instant::now();
        let mut answer = Answer::Untaken;
        for turn in 0..doors.len() {
            let door = doors[(client + mark as usize + turn) % doors.len()];
            let (head, is_safe) = match self.posts.as_deref().filter(|_| mark.is_multiple_of(POST_EVERY)) {
                Some(path) => {
                    let fields = format!("X-Bench-Mark: {mark:016}\r\nContent-Type: application/json\r\n");
                    (format!("POST {path} HTTP/1.1\r\n{fields}Content-Length: 14\r\n"), false)
                }
                None => (format!("GET {} HTTP/1.1\r\n", self.path), true),
            };
            let body = if is_safe { "" } else { "{\"quantity\":1}" };
            let request = format!("{head}Host: {door}\r\nConnection: close\r\n\r\n{body}");
            let (found, sent) = exchange(door, &request);
            answer = found;
            match answer {
                Answer::Untaken if sent && !is_safe => answer = Answer::Unsure,
                Answer::Untaken => continue,
                _ => {}
            }
            break;
        }
        self.note(&answer, asked.elapsed());
    }

    fn note(&self, answer: &Answer, took: Duration) {
        let mut seen = self.seen.lock().expect("nobody panics with it");
        seen.slowest = seen.slowest.max(took);
        match answer {
            Answer::Status(200, true, _) => {
                seen.whole += 1;
                drop(seen);
                self.pulse.beat();
            }
            Answer::Status(200, false, _) => seen.in_part += 1,
            Answer::Status(503, _, body) if body.contains("too much to do") => seen.shed += 1,
            Answer::Status(status, _, body) => {
                *seen.statuses.entry(*status).or_default() += 1;
                if seen.first.is_empty() {
                    seen.first = format!("first {status}: {body}");
                }
            }
            Answer::Broken => seen.broken += 1,
            Answer::Untaken => seen.untaken += 1,
            Answer::Unsure => seen.unsure += 1,
            Answer::Silent => seen.silent += 1,
        }
    }
}

/// What is answered, and whether the request had been sent.
fn exchange(door: SocketAddr, request: &str) -> (Answer, bool) {
    let Ok(mut stream) = TcpStream::connect_timeout(&door, Duration::from_secs(2)) else {
        return (Answer::Untaken, false);
    };
    let ready = stream.set_read_timeout(Some(ANSWER_MAX)).and_then(|()| stream.write_all(request.as_bytes()));
    if ready.is_err() {
        return (Answer::Untaken, false);
    }
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let answer = match read {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            Answer::Silent
        }
        _ if bytes.is_empty() => Answer::Untaken,
        _ => parsed(&bytes).unwrap_or(Answer::Broken),
    };
    (answer, true)
}

/// A whole answer; nothing if it broke off.
fn parsed(bytes: &[u8]) -> Option<Answer> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let whole = match field("content-length") {
        Some(length) => length.parse() == Ok(body.len()),
        None => body.ends_with(b"0\r\n\r\n") || field("transfer-encoding").is_none(),
    };
    let complete = field("x-completed").or(field("x-krakend-completed")) != Some("false");
    whole.then(|| Answer::Status(status, complete, String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_in_part_or_broken() {
        let told = |text: &str| match parsed(text.as_bytes()) {
            Some(Answer::Status(status, complete, _)) => (status, complete),
            _ => (0, false),
        };
        let of = |field: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{body}");
        assert_eq!(told(&of("Content-Length: 2", "{}")), (200, true));
        assert_eq!(told(&of("Content-Length: 3", "{}")), (0, false));
        assert_eq!(told(&of("Content-Length: 2\r\nX-KrakenD-Completed: false", "{}")), (200, false));
        assert_eq!(told(&of("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")), (200, true));
        assert_eq!(told(&of("Transfer-Encoding: chunked", "2\r\n{}\r\n")), (0, false));
        assert_eq!(told("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), (503, true));
        assert_eq!(told("HTTP/1.1 2"), (0, false));
    }
}
