//! Our image service as a child process on a data directory, and a client of it that blocks.

use crate::janitor;
use crate::process::{free_address, our_program, sum_counter};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take until it answers.
const START_MAX: Duration = Duration::from_secs(20);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// The running service; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it on `data` with lines for the section `[image]`, and waits until it is healthy.
    ///
    /// # Errors
    /// A sentence: it could not be started, or ended at once.
    pub fn start(data: &Path, settings: &str) -> Result<Server, String> {
        let program = our_program()?;
        let address = free_address()?;
        let config = data.with_extension("toml");
        std::fs::write(&config, format!("[image]\n{settings}"))
            .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let mut command = Command::new(&program);
        command.arg("image").arg("--config").arg(&config).arg("--data").arg(data);
        command.args(["--listen", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("ANNULUS_BENCH_VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        let child =
            janitor::spawn(&mut command).map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut server = Server { child, address };
        let started = Instant::now();
        while get(address, "/health", &[]).map_or(true, |answer| answer.status != 200) {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("the service ended at once ({status}); ANNULUS_BENCH_VERBOSE=1 shows why"));
            }
            if started.elapsed() > START_MAX {
                return Err(format!("the service does not answer at {address} after {START_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would, without a chance to do anything more.
    pub fn kill(mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// A figure of its metrics page.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let page = get(self.address, "/metrics", &[]).ok()?;
        sum_counter(&String::from_utf8_lossy(&page.body), name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An answer.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, as text.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// From the last byte of the request, given to the kernel, to the first of the answer.
    pub waited: Duration,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A field of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Uploads an image.
///
/// # Errors
/// A sentence: the connection broke before the answer was whole.
pub fn upload(address: SocketAddr, preset: &str, image: &[u8]) -> Result<Answer, String> {
    exchange(address, upload_head(address, preset, image.len(), "").as_bytes(), image)
}

/// Uploads an image if the service wants it, as curl does with bodies of more than a megabyte (RFC 9110 section 10.1.1).
///
/// # Errors
/// As [`upload`].
pub fn offer(address: SocketAddr, preset: &str, image: &[u8]) -> Result<Answer, String> {
    let wrong = |error: std::io::Error| format!("{address}: {error}");
    let head = upload_head(address, preset, image.len(), "Expect: 100-continue\r\n");
    let mut stream = connected(address)?;
    stream.write_all(head.as_bytes()).map_err(wrong)?;
    let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut interim).map_err(wrong)?;
    if !interim.starts_with(b"HTTP/1.1 100 ") {
        return answer(&mut stream, address, interim.to_vec(), Instant::now());
    }
    stream.write_all(image).map_err(wrong)?;
    answer(&mut stream, address, Vec::new(), Instant::now())
}

fn upload_head(address: SocketAddr, preset: &str, length: usize, more: &str) -> String {
    format!(
        "POST /v1/images?preset={preset} HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/jpeg\r\n\
         Content-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    )
}

/// Asks for a path, with header fields.
///
/// # Errors
/// As [`upload`].
pub fn get(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Result<Answer, String> {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    exchange(address, head.as_bytes(), &[])
}

/// Sends a request and reads the answer to the end of the connection.
fn exchange(address: SocketAddr, head: &[u8], body: &[u8]) -> Result<Answer, String> {
    let mut stream = connected(address)?;
    stream.write_all(head).map_err(|error| format!("{address}: {error}"))?;
    // A refusal may come before the body is through: then it is read, and the rest is not sent.
    let _refused_early = stream.write_all(body);
    answer(&mut stream, address, Vec::new(), Instant::now())
}

fn connected(address: SocketAddr) -> Result<TcpStream, String> {
    let wrong = |error: std::io::Error| format!("{address}: {error}");
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(wrong)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(wrong)?;
    Ok(stream)
}

/// Reads the rest of an answer that begins with `bytes`, to the end of the connection. The request had gone at `sent`.
fn answer(stream: &mut TcpStream, address: SocketAddr, mut bytes: Vec<u8>, sent: Instant) -> Result<Answer, String> {
    let start = bytes.len();
    bytes.push(0);
    stream.read_exact(&mut bytes[start..]).map_err(|error| format!("{address}: {error}"))?;
    let waited = sent.elapsed();
    let _cut_off_shows_in_its_length = stream.read_to_end(&mut bytes);
    let end =
        memchr::memmem::find(&bytes, b"\r\n\r\n").ok_or_else(|| format!("{address}: an answer without a head"))?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes.split_off(end + 4));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let answer = Answer { status, head, body, waited };
    match answer.field("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if length != answer.body.len() => {
            Err(format!("{address}: {} of {length} bytes of an answer", answer.body.len()))
        }
        _ => Ok(answer),
    }
}

/// Waits for a job's end; its document.
///
/// # Errors
/// A sentence: it is not there, or has not ended in time.
pub fn ended(address: SocketAddr, id: &str, within: Duration) -> Result<Value, String> {
    let started = Instant::now();
    loop {
        let answer = get(address, &format!("/v1/jobs/{id}"), &[("Prefer", "wait=10")])?;
        let document = answer.document();
        if answer.status != 200 {
            return Err(format!("job {id}: status {}", answer.status));
        }
        if matches!(document["state"].as_str(), Some("done" | "failed" | "dead" | "cancelled")) {
            return Ok(document);
        }
        if started.elapsed() > within {
            return Err(format!("job {id} is still {} after {within:?}", document["state"]));
        }
    }
}

/// Fetches a job's outputs and looks whether they are there and whole; how many.
///
/// # Errors
/// A sentence: one is not.
pub fn check_outputs(address: SocketAddr, document: &Value) -> Result<usize, String> {
    let outputs = document["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    for output in outputs {
        let url = output["url"].as_str().unwrap_or_default();
        let answer = get(address, url, &[])?;
        if answer.status != 200 || answer.body.len() as u64 != output["bytes"].as_u64().unwrap_or(0) {
            return Err(format!("{url}: status {}, {} bytes", answer.status, answer.body.len()));
        }
        // A JPEG ends with its end marker (ITU-T T.81, B.1.1.3).
        if !answer.body.starts_with(&[0xFF, 0xD8]) || !answer.body.ends_with(&[0xFF, 0xD9]) {
            return Err(format!("{url} is no whole JPEG"));
        }
    }
    Ok(outputs.len())
}

/// The same picture with a comment of its own (ITU-T T.81, B.2.4.5): another work to the service, the same to a decoder.
pub fn marked(jpeg: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend_from_slice(&[0xFF, 0xFE, 0, 10]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&jpeg[2..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_picture_differs_and_decodes() {
        let small = crate::image::photos::small().unwrap();
        let (one, two) = (marked(&small, 1), marked(&small, 2));
        assert_ne!(one, two);
        let size = |bytes: &[u8]| turbojpeg::read_header(bytes).map(|header| (header.width, header.height)).unwrap();
        assert_eq!(size(&one), size(&small));
    }
}
