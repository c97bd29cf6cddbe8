//! Attacks whose verdict is an answer: what is asked, what must be said, and floods of connections that several services get.

use super::Act;
use super::finding::Told;
use super::raw::{self, Line};
use super::stage::Stage;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Wrong answers that are told in full.
const TOLD_MAX: usize = 20;
/// Connections of a storm.
const STORM: usize = 500;
/// Threads that make them.
const STORM_THREADS: usize = 4;
/// Until those who were cut off come back.
const STORM_PAUSE: Duration = Duration::from_millis(200);

/// Origins that are not [`ORIGIN`](super::stage::ORIGIN), though some of them look like it.
pub const EVIL_ORIGINS: [&str; 15] = [
    "https://evil.example",
    "null",
    "https://app.example.com.evil.example",
    "https://evilapp.example.com",
    "http://app.example.com",
    "https://app.example.com:444",
    "https://app.example.com/",
    "https://app.example.co",
    "https://user@app.example.com",
    "https://app.example.com%00.evil.example",
    "https://app_example.com",
    "http://127.0.0.1",
    "file://",
    "*",
    "",
];

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// What it was.
    pub what: String,
    /// How it was answered.
    pub answer: String,
    /// Whether that is as promised.
    pub holds: bool,
}

/// An attack by a table.
pub fn table(try_all: impl Fn(&Stage<'_>) -> Result<Vec<Tried>, String> + 'static) -> Act {
    Box::new(move |stage, _| try_all(stage).map(|tried| told(&tried)))
}

/// An attack by a table, again and again, by several at once.
pub fn table_again(at_once: usize, try_all: impl Fn(&Stage<'_>) -> Result<Vec<Tried>, String> + Sync + 'static) -> Act {
    Box::new(move |stage, during| {
        let began = Instant::now();
        let tried = std::thread::scope(|scope| {
            let work = || {
                let mut all = Vec::new();
                while began.elapsed() < during {
                    all.extend(try_all(stage)?);
                }
                Ok::<_, String>(all)
            };
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().map_err(|_| "an attacker's thread has panicked".to_owned())??);
            }
            Ok::<_, String>(all)
        })?;
        Ok(told(&tried))
    })
}

/// Answers by how often they came, and those that break the promise.
pub fn told(tried: &[Tried]) -> Told {
    let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
    for one in tried {
        *answers.entry(&one.answer).or_default() += 1;
    }
    let answers: Vec<String> = answers.iter().map(|(answer, count)| format!("{count} x {answer}")).collect();
    let mut wrong: Vec<String> =
        tried.iter().filter(|one| !one.holds).map(|one| format!("{}: {}", one.what, one.answer)).collect();
    wrong.sort();
    wrong.dedup();
    let count = wrong.len();
    wrong.truncate(TOLD_MAX);
    if count > TOLD_MAX {
        wrong.push(format!("and {} more", count - TOLD_MAX));
    }
    let sent = format!("{} of {} kinds", tried.len(), kinds(tried));
    Told { count: tried.len() as u64, sent, answers: answers.join(", "), wrong }
}

fn kinds(tried: &[Tried]) -> usize {
    let mut kinds: Vec<&str> = tried.iter().map(|one| one.what.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.len()
}

/// One request, which must be answered by one of these statuses; status 0 is an end without an answer.
pub fn asked(stage: &Stage<'_>, what: &str, bytes: &[u8], expected: &[u16]) -> Result<Tried, String> {
    let (reply, closed) = raw::insist(stage.address, bytes)?;
    let status = reply.status;
    let answer = match (status, closed) {
        (0, true) => "closed".to_owned(),
        (0, false) => "silence".to_owned(),
        (status, _) => status.to_string(),
    };
    // Who is refused without an answer must be refused at least.
    let holds = expected.contains(&status) && (status > 0 || closed);
    Ok(Tried { what: what.to_owned(), answer, holds })
}

/// Clients of whom all lose their connections at once, and come back at once, again and again.
pub fn storm(open: impl Fn(&Stage<'_>, usize) -> Result<Box<dyn Cut>, String> + Sync + 'static) -> Act {
    Box::new(move |stage, during| {
        let began = Instant::now();
        let (mut rounds, mut opened, mut failed) = (0, 0, BTreeMap::<String, u64>::new());
        let mut slowest = Duration::ZERO;
        while began.elapsed() < during {
            let came = Instant::now();
            let results: Vec<Result<Box<dyn Cut>, String>> = std::thread::scope(|scope| {
                let open = &open;
                let threads: Vec<_> = (0..STORM_THREADS)
                    .map(|thread| {
                        let numbers = (thread..STORM).step_by(STORM_THREADS);
                        scope.spawn(move || numbers.map(|number| open(stage, number)).collect::<Vec<_>>())
                    })
                    .collect();
                let joined = threads.into_iter().map(|thread| {
                    thread.join().unwrap_or_else(|_| vec![Err("an attacker's thread has panicked".to_owned())])
                });
                joined.flatten().collect()
            });
            slowest = slowest.max(came.elapsed());
            rounds += 1;
            let mut connections = Vec::new();
            for result in results {
                match result {
                    Ok(connection) => connections.push(connection),
                    Err(why) => *failed.entry(why).or_default() += 1,
                }
            }
            opened += connections.len();
            connections.iter().for_each(|connection| connection.cut());
            drop(connections);
            std::thread::sleep(STORM_PAUSE);
        }
        let failures: Vec<String> = failed.iter().map(|(why, count)| format!("{count} x {why}")).collect();
        let answers =
            format!("{opened} were in, all of a round within {} ms; {}", slowest.as_millis(), failures.join(", "));
        let wrong = if failed.is_empty() { None } else { Some(format!("not all came back: {}", failures.join(", "))) };
        let sent = format!("{rounds} times {STORM} connections, cut off together");
        let answers = answers.trim_end_matches("; ").to_owned();
        Ok(Told { count: opened as u64, sent, answers, wrong: wrong.into_iter().collect() })
    })
}

/// A connection that can be cut off without a word.
pub trait Cut: Send {
    /// Ends it by a reset.
    fn cut(&self);
}

impl Cut for Line {
    fn cut(&self) {
        reset(self.stream());
    }
}

impl Cut for super::socket::Socket {
    fn cut(&self) {
        reset(self.stream());
    }
}

/// The next close is a reset, and leaves nothing lingering on this side.
fn reset(stream: &std::net::TcpStream) {
    let _then_it_is_an_ordinary_end = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// How something is refused for its size (RFC 9110 section 15.5, RFC 6585 section 5), or for a form that is no request's (400) or
/// nobody knows (501). 0: the connection is reset in the middle of it.
const TOO_LARGE: [u16; 7] = [400, 411, 413, 414, 431, 501, 0];

/// Heads and bodies larger than anybody may send. A body that is really sent begins with these bytes: a service may refuse one for
/// what it is before its size matters, and that would show nothing.
pub fn oversized(
    stage: &Stage<'_>,
    path: &str,
    body_bytes_max: usize,
    body_begins: &[u8],
) -> Result<Vec<Tried>, String> {
    let long = "a".repeat(2 << 20);
    let fields: String = (0..2000).map(|number| format!("X-{number}: a\r\n")).collect();
    let extension = format!("Transfer-Encoding: chunked\r\n\r\n1;{long}\r\na\r\n0\r\n\r\n");
    let trailers = format!("Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: {long}\r\n\r\n");
    let head = |rest: &str| format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}").into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a target of 2 MB", raw::request("GET", &format!("/{long}"), "", b"")),
        ("a query of 2 MB", raw::request("GET", &format!("{path}?{long}"), "", b"")),
        ("a field of 2 MB", raw::request("GET", path, &format!("X-Long: {long}\r\n"), b"")),
        ("a name of 2 MB", raw::request("GET", path, &format!("{long}: a\r\n"), b"")),
        ("2,000 fields", raw::request("GET", path, &fields, b"")),
        ("a method of 2 MB", raw::request(&long, path, "", b"")),
        ("a host of 2 MB", format!("GET {path} HTTP/1.1\r\nHost: {long}\r\n\r\n").into_bytes()),
        ("a body that says it is too long", head(&format!("Content-Length: {}\r\n\r\n", body_bytes_max + 1))),
        ("a body that says it is endless", head("Content-Length: 9223372036854775807\r\n\r\n")),
        ("a chunk extension of 2 MB", head(&extension)),
        ("trailers of 2 MB", head(&trailers)),
        ("a chunk that is too long", too_long(path, body_begins, body_bytes_max)),
    ];
    cases.iter().map(|(what, bytes)| asked(stage, what, bytes, &TOO_LARGE)).collect()
}

/// A request whose body is really sent, in one chunk, and has a byte too many: `begins`, and then nothing of interest.
pub fn too_long(path: &str, begins: &[u8], body_bytes_max: usize) -> Vec<u8> {
    let len = body_bytes_max + 1;
    let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n", raw::HOST);
    let mut bytes = [head.as_bytes(), begins].concat();
    bytes.resize(head.len() + len, b'a');
    bytes
}

/// A name other than `localhost` that this machine takes for itself: what a rebound name is at the second look.
pub fn rebound() -> Option<String> {
    let hosts = std::fs::read_to_string("/etc/hosts").ok()?;
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let names = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        address.is_loopback().then(|| words.map(str::to_owned).collect::<Vec<_>>())
    });
    let mut names = names.flatten().filter(|name| !name.contains("localhost"));
    names.find(|name| (name.as_str(), 1).to_socket_addrs().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_too_long_has_a_byte_too_many() {
        let bytes = too_long("/a", b"{", 3);
        let head = bytes.len() - 4;
        assert!(bytes[..head].ends_with(b"chunked\r\n\r\n4\r\n") && bytes[head..] == *b"{aaa");
    }

    #[test]
    fn wrong_answers_are_told_once_each() {
        let one = |what: &str, answer: &str, holds| Tried { what: what.into(), answer: answer.into(), holds };
        let told = told(&[one("a", "401", true), one("b", "200", false), one("b", "200", false)]);
        assert_eq!((told.sent.as_str(), told.answers.as_str()), ("3 of 2 kinds", "2 x 200, 1 x 401"));
        assert_eq!(told.wrong, ["b: 200"]);
    }
}
