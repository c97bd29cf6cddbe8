//! A server that remembers what it was asked, and answers as badly as its path says. It stands behind a gateway, or where
//! nothing of a service must ever arrive.
//!
//! ```text
//!   /redirect   302 to another server        /huge    40 MB              /deep    100,000 levels of JSON
//!   /packed     gzip of 64 MB                /bomb    entities in XML    others   {"ok":true}
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of the large answer: more than twice what a gateway takes of a backend.
const HUGE_BYTES: usize = 40 << 20;
/// Levels of the deep one.
const LEVELS: usize = 100_000;
/// Bytes of a head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a request may take, so that no thread stays.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Entities that each name the one before ten times.
const BOMB: &str = "<!DOCTYPE a [<!ENTITY a0 \"0123456789\"><!ENTITY a1 \"&a0;&a0;&a0;&a0;&a0;&a0;&a0;&a0;&a0;&a0;\">\
    <!ENTITY a2 \"&a1;&a1;&a1;&a1;&a1;&a1;&a1;&a1;&a1;&a1;\"><!ENTITY a3 \"&a2;&a2;&a2;&a2;&a2;&a2;&a2;&a2;&a2;&a2;\">\
    <!ENTITY a4 \"&a3;&a3;&a3;&a3;&a3;&a3;&a3;&a3;&a3;&a3;\">]><a><b>&a4;</b></a>";

/// The running server.
pub struct Spy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// Heads of requests, in order.
    asked: Mutex<Vec<String>>,
    /// Where redirects go.
    elsewhere: Option<SocketAddr>,
}

impl Spy {
    /// Listens at an address of this machine; redirects go `elsewhere`.
    ///
    /// # Errors
    /// A sentence: there is no port.
    pub fn start(at: IpAddr, elsewhere: Option<SocketAddr>) -> Result<Spy, String> {
        let failed = |error: std::io::Error| format!("the watching server cannot listen: {error}");
        let listener = TcpListener::bind((at, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), asked: Mutex::default(), elsewhere });
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if of_thread.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = of_thread.clone();
                std::thread::spawn(move || {
                    let _whatever_ends_it = serve(stream, &shared);
                });
            }
        });
        Ok(Spy { address, shared, thread: Some(thread) })
    }

    /// The heads of what it was asked since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // So that it looks.
        let _wakes_it = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _a_panic_was_told_on_stderr = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_MAX))?;
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
                break end + 4;
            }
            if bytes.len() > HEAD_BYTES_MAX || !more(&mut stream, &mut bytes)? {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end);
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        if field("transfer-encoding:").is_some() {
            while !bytes.ends_with(b"0\r\n\r\n") && more(&mut stream, &mut bytes)? {}
            bytes.clear();
        }
        let length: usize = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        while bytes.len() < length && more(&mut stream, &mut bytes)? {}
        bytes.drain(..length.min(bytes.len()));
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        answer(&mut stream, &path, shared.elsewhere)?;
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut part = [0; 16 << 10];
    let count = stream.read(&mut part)?;
    bytes.extend_from_slice(&part[..count]);
    Ok(count > 0)
}

fn answer(stream: &mut TcpStream, path: &str, elsewhere: Option<SocketAddr>) -> std::io::Result<()> {
    let path = path.split('?').next().unwrap_or_default();
    let (status, fields, body) = match (path, elsewhere) {
        ("/redirect", Some(elsewhere)) => ("302 Found", format!("Location: http://{elsewhere}/secret\r\n"), Vec::new()),
        ("/huge", _) => {
            let text = "a".repeat(HUGE_BYTES);
            ("200 OK", "Content-Type: application/json\r\n".to_owned(), format!("{{\"a\":\"{text}\"}}").into_bytes())
        }
        ("/deep", _) => {
            let text = "[".repeat(LEVELS) + &"]".repeat(LEVELS);
            ("200 OK", "Content-Type: application/json\r\n".to_owned(), format!("{{\"a\":{text}}}").into_bytes())
        }
        ("/packed", _) => {
            let fields = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n".to_owned();
            ("200 OK", fields, super::bombs::gzip(64 << 20))
        }
        ("/bomb", _) => ("200 OK", "Content-Type: application/xml\r\n".to_owned(), BOMB.as_bytes().to_vec()),
        _ => ("200 OK", "Content-Type: application/json\r\n".to_owned(), br#"{"ok":true}"#.to_vec()),
    };
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

#[cfg(test)]
mod tests {
    use super::super::raw::{ask, request};
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn it_remembers_and_answers_as_its_path_says() {
        let spy = Spy::start(Ipv4Addr::LOCALHOST.into(), Some(([127, 0, 0, 1], 9).into())).unwrap();
        assert_eq!(ask(spy.address, &request("GET", "/a?b=c", "", b"")).unwrap().body, b"{\"ok\":true}");
        let moved = ask(spy.address, &request("POST", "/redirect", "", b"body")).unwrap();
        assert_eq!((moved.status, moved.field("location")), (302, Some("http://127.0.0.1:9/secret")));
        let asked = spy.take();
        assert!(asked.len() == 2 && asked[0].starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked:?}");
        assert!(spy.take().is_empty());
    }
}
