//! An S3 server of a test's own: `s3s-fs` on a folder, installed by `make setup-test`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

const PROGRAM: &str = "s3s-fs";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// The key that it lets in.
pub const ACCESS_KEY: &str = "annulus-test";
/// And that key's secret.
pub const SECRET_KEY: &str = "annulus-test-secret";
/// The one bucket.
pub const BUCKET: &str = "photos";

/// A running server, ended with the test.
pub struct S3Server {
    process: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl S3Server {
    /// Starts it, with one empty bucket; reports the group where it is not installed.
    pub fn start(group: &str) -> Option<S3Server> {
        if !super::has(PROGRAM, group) {
            return None;
        }
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-s3-{}-{number}", std::process::id()));
        let _absent = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join(BUCKET)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = S3Server { process: None, folder, port };
        server.resume();
        Some(server)
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the objects of the bucket are, as files.
    pub fn bucket(&self) -> PathBuf {
        self.folder.join(BUCKET)
    }

    /// Where it keeps what is not an object yet.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The section `[image.s3]` for it.
    pub fn section(&self) -> String {
        format!(
            "[image.s3]\nendpoint = \"{}\"\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\n\
             access_key = \"{ACCESS_KEY}\"\nsecret_key = \"{SECRET_KEY}\"\n",
            self.endpoint()
        )
    }

    /// Ends it at once.
    pub fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        let process = Command::new(PROGRAM)
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(&self.folder)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "the S3 server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.crash();
        let _temporary = fs::remove_dir_all(&self.folder);
    }
}

/// A store that answers what it is told to, one answer per connection, and keeps what it was asked.
pub struct ScriptedStore {
    address: SocketAddr,
    serving: JoinHandle<Vec<String>>,
}

/// The line that ends it.
const STOP: &str = "STOP";

impl ScriptedStore {
    /// Answers as `answer` says to a request's first line.
    pub fn start(answer: impl Fn(&str) -> String + Send + 'static) -> ScriptedStore {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let line = read_request(&mut stream);
                if line == STOP {
                    break;
                }
                // A client that gave up is not this server's affair.
                drop(stream.get_mut().write_all(answer(&line).as_bytes()));
                asked.push(line);
            }
            asked
        });
        ScriptedStore { address, serving }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it; all the first lines.
    pub fn stop(self) -> Vec<String> {
        TcpStream::connect(self.address).unwrap().write_all(format!("{STOP}\r\n\r\n").as_bytes()).unwrap();
        self.serving.join().unwrap()
    }
}

/// Reads a request to its end; its first line.
fn read_request(stream: &mut BufReader<TcpStream>) -> String {
    let (mut line, mut len) = (String::new(), 0);
    stream.read_line(&mut line).unwrap();
    loop {
        let mut field = String::new();
        stream.read_line(&mut field).unwrap();
        if field.trim().is_empty() {
            break;
        }
        if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; len]).unwrap();
    line.trim_end().to_owned()
}

/// An answer with this body, after which the connection closes.
pub fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{fields}\r\n{body}", body.len())
}
