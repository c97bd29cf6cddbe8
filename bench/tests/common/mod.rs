//! Servers that behave in one way, and loads on them.
#![allow(dead_code, clippy::unwrap_used)] // Not every scenario needs all; a test helper that panics fails its test.

use annulus_bench::load::conn::Protocol;
use annulus_bench::load::request::{Asked, Requests};
use annulus_bench::load::round::Pace;
use annulus_bench::load::search::Quiet;
use annulus_bench::load::tally::Expected;
use annulus_bench::load::tls::Trust;
use annulus_bench::load::url::Url;
use annulus_bench::load::{Settings, Target, Task, run};
use annulus_bench::record::Record;
use annulus_bench::schedule::Spread;
use annulus_bench::schedule::course::{Course, Shape};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An answer to every request.
pub const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server of one thread per connection, which lasts as long as the test.
pub struct Server {
    pub address: SocketAddr,
    /// Connections that were accepted.
    pub accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Gives each connection with its number to `serve`.
    pub fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, accepted, serve) =
            (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let count = Arc::clone(&accepted);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (number, serve) = (count.fetch_add(1, Ordering::Relaxed), Arc::clone(&serve));
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Server { address, accepted }
    }

    /// Answers each request of a connection with what `answer` makes of its number; nothing closes the connection.
    pub fn answering(answer: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> Server {
        Server::start(move |mut stream, _| {
            let mut number = 0;
            while head(&mut stream).is_some() {
                let Some(bytes) = answer(number) else { return };
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                number += 1;
            }
        })
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }
}

/// Reads a request without a body; none at the end.
pub fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// An open loop without warm-up.
pub fn open(rate: f64, seconds: f64) -> Pace {
    let (shape, spread) = (Shape::Steady(rate), Spread::Constant);
    Pace::Open(Course { shape, spread, warm_up_s: 0.0, seconds, cool_down_s: 0.0 })
}

pub fn settings(pace: Pace, connections: usize) -> Settings {
    let ours = core_affinity::get_core_ids().unwrap();
    Settings {
        task: Task::Rounds(pace),
        rounds: 1,
        connections,
        streams: 16,
        threads: 1,
        cores: None,
        our_cores: ours.into_iter().map(|core| core.id).collect(),
        timeout: Duration::from_secs(10),
        expected: Expected::Good,
        protocol: Protocol::Auto,
        trust: Trust::System,
        spin: false,
    }
}

pub fn target(urls: &[&str], asked: &Asked) -> Target {
    let urls: Vec<_> = urls.iter().map(|url| (None, Url::parse(url).unwrap())).collect();
    Target { name: "server".to_owned(), requests: Requests::new(&urls, asked).unwrap(), pid: None }
}

/// Loads one URL.
pub fn load(settings: &Settings, url: &str) -> Record {
    run(settings, &[target(&[url], &Asked::default())], &mut Quiet).unwrap()
}

/// Why requests failed.
pub fn failed(record: &Record) -> Vec<(&str, u64)> {
    record.sides[0].rounds[0].failed.iter().map(|(reason, count)| (reason.as_str(), *count)).collect()
}

/// A program of its own, killed with the test.
pub struct Program {
    pub child: Child,
    pub folder: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, as one test wants it.
        let _already_gone = self.child.kill();
        let _already_waited_for = self.child.wait();
        let _in_the_system_folder_for_such = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("annulus-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub fn wait_for(port: u16) {
    let since = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < Duration::from_secs(20), "nothing listens at {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// nginx with these server blocks, in one process: a master that is killed leaves its workers behind.
pub fn nginx(name: &str, servers: &str, port: u16) -> Program {
    let folder = folder(name);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|kind| format!("{kind}_temp_path {}/{kind}; ", folder.display())).collect();
    let at = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{ access_log off; {temporary}\n{servers} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let child = Command::new("nginx")
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .arg("-e")
        .arg(folder.join("early.log"))
        .spawn()
        .expect("this test needs nginx: apt-get install nginx-light");
    wait_for(port);
    Program { child, folder }
}

/// A certificate of its own for localhost, and its key.
pub fn certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .output()
        .expect("this test needs openssl: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
