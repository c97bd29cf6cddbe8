//! What tests of the image service share: the real binary on a folder of its own, a client that shows every byte, and
//! small pictures.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A running service, ended with the test.
pub struct Service {
    pub process: Child,
    pub address: SocketAddr,
    pub folder: PathBuf,
    pub log: Arc<Mutex<String>>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In small letters.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the answers on a stream until it ends; chunked ones are joined.
    pub fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        if head.starts_with("http/1.1 100") {
            return Answer::parse(&bytes[end + 4..]);
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = match head.contains("transfer-encoding: chunked") {
            true => unchunk(&bytes[end + 4..]),
            false => bytes[end + 4..].to_vec(),
        };
        Answer { status, head, body }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that it is a problem document of this status that says so.
    pub fn is_problem(&self, status: u16, says: &str) {
        let text = self.text();
        assert!(self.status == status && text.contains(says), "{status} {says}: {} {text}", self.head);
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{text}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{text}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {text}");
        }
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + len]);
        bytes = &bytes[end + 4 + len..];
    }
    body
}

/// An empty folder of the test's own.
pub fn folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("annulus-image-{}-{number}", std::process::id()));
    let _absent = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Service {
    pub fn start(config: &str) -> Service {
        Service::start_in(folder(), config, &["--shards", "1"])
    }

    /// `config` is the inside of the section `[image]`.
    pub fn start_in(folder: PathBuf, config: &str, options: &[&str]) -> Service {
        Service::start_at("http", folder, config, options)
    }

    pub fn start_at(scheme: &str, folder: PathBuf, config: &str, options: &[&str]) -> Service {
        Service::start_with(Command::new(env!("CARGO_BIN_EXE_annulus")), scheme, folder, config, options)
    }

    /// `program` is the binary, in the environment that it is to have.
    pub fn start_with(mut program: Command, scheme: &str, folder: PathBuf, config: &str, options: &[&str]) -> Service {
        let file = folder.join("config.toml");
        std::fs::write(&file, format!("[image]\n{config}")).unwrap();
        let mut process = program
            .args(["image", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data")
            .arg(folder.join("data"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut text = String::new();
        for line in lines.by_ref() {
            text += &(line.unwrap() + "\n");
            if text.contains("open files") && text.contains("console: /console") {
                break;
            }
        }
        let last = text.lines().find(|line| line.contains("console: /console")).unwrap_or_default();
        let address = last.split(&format!("{scheme}://")).nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the service did not start: {text}"));
        let log = Arc::new(Mutex::new(text));
        let shared = log.clone();
        std::thread::spawn(move || {
            lines.for_each(|line| shared.lock().unwrap().push_str(&(line.unwrap_or_default() + "\n")));
        });
        Service { process, address, folder, log }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// One request on a connection of its own. `fields` end with line ends.
    pub fn ask(&self, line: &str, fields: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n", self.address);
        stream.write_all(head.as_bytes()).unwrap();
        // Who is refused early may find the connection closed.
        let _sent = stream.write_all(body);
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        Answer::parse(&text)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", b"")
    }

    /// Uploads raw bytes.
    pub fn post(&self, query: &str, fields: &str, image: &[u8]) -> Answer {
        let fields = format!("{fields}Content-Type: image/jpeg\r\nContent-Length: {}\r\n", image.len());
        self.ask(&format!("POST /v1/images{query}"), &fields, image)
    }

    /// Uploads a form of these fields and a file.
    pub fn post_form(&self, fields: &[(&str, &str)], image: &[u8]) -> Answer {
        let body = form(fields, "photo.jpg", image);
        let head = format!("Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: {}\r\n", body.len());
        self.ask("POST /v1/images", &head, &body)
    }

    /// Waits for a job's end. Its document.
    pub fn end_of(&self, id: &str, fields: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let document = self.ask(&format!("GET /v1/jobs/{id}"), fields, b"").json();
            if ["done", "failed", "dead", "cancelled"].iter().any(|state| document["state"] == *state) {
                return document;
            }
            assert!(Instant::now() < until, "it does not end: {document}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a work die: its worker is killed again and again while it is at work. Needs `attempts_max = 1`. The job's id.
    pub fn dead_letter(&self, fields: &str, seed: u8) -> String {
        let answer = self.post("", fields, &jpeg(6000, 4000, seed));
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let threads = format!("/proc/{}/task", self.process.id());
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let document = self.ask(&format!("GET /v1/jobs/{id}"), fields, b"").json();
            match document["state"].as_str().unwrap() {
                "dead" => return id,
                "leased" => {
                    // Listed before any is killed: who takes a dead one's place may be given the job when it is tried again.
                    let children =
                        std::fs::read_dir(&threads).unwrap().flatten().map(|thread| thread.path().join("children"));
                    let workers: String = children.flat_map(std::fs::read_to_string).collect();
                    for worker in workers.split_whitespace() {
                        let _already_gone = Command::new("kill").args(["-s", "KILL", worker]).status().unwrap();
                    }
                }
                state => assert!(["uploaded", "queued"].contains(&state), "{document}"),
            }
            assert!(Instant::now() < until, "{document}");
        }
    }

    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name]).arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success());
    }

    /// Asks it to end and sees that it does so well. Its folder goes with it.
    pub fn stop(mut self) {
        self.signal("TERM");
        assert!(self.process.wait().unwrap().success(), "the service did not drain");
    }

    /// Ends it at once, as a power cut does. Its folder.
    pub fn kill(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::take(&mut self.folder)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
        if !self.folder.as_os_str().is_empty() {
            let _temporary = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A form with the boundary `XX`.
pub fn form(fields: &[(&str, &str)], file_name: &str, image: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(image);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    body
}

/// A picture of this size; `seed` makes it another one.
pub fn jpeg(width: usize, height: usize, seed: u8) -> Vec<u8> {
    let pixel = |at: usize| {
        let (x, y) = (at % width, at / width);
        [(x * 255 / width) as u8, (y * 255 / height) as u8, (x ^ y) as u8 ^ seed]
    };
    let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
    encode(&pixels, width, height)
}

/// A picture of this size that no encoder can make small.
pub fn noise(width: usize, height: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let pixels: Vec<u8> = (0..3 * width * height).map(|_| next()).collect();
    encode(&pixels, width, height)
}

fn encode(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let image = turbojpeg::Image { pixels, width, pitch: 3 * width, height, format: turbojpeg::PixelFormat::RGB };
    turbojpeg::compress(image, 85, turbojpeg::Subsamp::Sub2x2).unwrap().to_vec()
}

/// Width and height of a JPEG.
pub fn size_of(jpeg: &[u8]) -> (usize, usize) {
    let header = turbojpeg::read_header(jpeg).unwrap();
    (header.width, header.height)
}

/// Files below a folder, at any depth, whose path holds this.
pub fn files(folder: &Path, holds: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path, holds)),
            false if path.to_string_lossy().contains(holds) => found.push(path),
            false => {}
        }
    }
    found
}
