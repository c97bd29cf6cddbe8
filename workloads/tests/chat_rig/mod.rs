//! What tests of the chat share: the real binary on a folder of its own, scripts that are spoken with while they run, the
//! server's HTTP API, and clients that show every frame.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

pub mod frames;
pub mod streams;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::outside::{clients, not_run};

/// How long anything may take on a busy machine before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The key of the HTTP API in the tests that need one.
pub const KEY: &str = "a key of the API";

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A folder of the test's own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-chat-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// A file in it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Where the service keeps everything.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.data().join("chat/log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_dir_all(&self.0);
    }
}

/// How a service is to be started.
pub struct Setup<'s> {
    /// The configuration file's name and text.
    pub config: (&'s str, String),
    pub port: u16,
    pub shards: &'s str,
    pub driver: &'s str,
    pub options: &'s [&'s str],
    pub variables: &'s [(&'s str, &'s str)],
}

impl Setup<'_> {
    /// On one shard and any port, with `config` as the inside of the section `[chat]`.
    pub fn ours(config: &str) -> Setup<'static> {
        Setup::file("annulus.toml", format!("[chat]\n{config}"))
    }

    pub fn file(name: &'static str, text: String) -> Setup<'static> {
        Setup { config: (name, text), port: 0, shards: "1", driver: "auto", options: &[], variables: &[] }
    }

    fn command(&self, folder: &Folder) -> Command {
        let file = folder.file(self.config.0, &self.config.1);
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
        let listen = format!("127.0.0.1:{}", self.port);
        command.args(["chat", "--shards", self.shards, "--driver", self.driver, "--listen", &listen, "--config"]);
        command.arg(file).arg("--data").arg(folder.data()).args(self.options).envs(self.variables.iter().copied());
        command
    }

    /// Starts the service, and waits until it listens.
    pub fn start(&self, folder: &Folder) -> Chat {
        let mut process = self.command(folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, told) = mpsc::channel();
        read_lines(process.stderr.take().unwrap(), log.clone(), None);
        read_lines(process.stdout.take().unwrap(), log.clone(), Some(tell));
        let mut chat = Chat { process, address: ([127, 0, 0, 1], 0).into(), log };
        let line = loop {
            match told.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("clients: ws") => break line,
                Ok(_) => {}
                Err(_) => panic!("the chat did not start: {}", chat.logged()),
            }
        };
        chat.address = line.split("://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        chat
    }

    /// Starts it where it must refuse to; what it says.
    pub fn refused(&self, folder: &Folder) -> String {
        let Output { status, stdout, stderr } = self.command(folder).output().unwrap();
        assert!(!status.success(), "it started");
        String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
    }
}

fn read_lines(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>, tell: Option<mpsc::Sender<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            log.lock().unwrap().push_str(&(line.clone() + "\n"));
            if let Some(tell) = &tell {
                // Nobody listens any more once the service has started.
                let _heard = tell.send(line);
            }
        }
    });
}

/// A running service, ended with the test.
pub struct Chat {
    pub process: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Chat {
    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("ws://{}/connection/websocket", self.address)
    }

    /// Everything it has said.
    pub fn logged(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it as `kill -9` does: what was written and not synced stays.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Asks it to end, and sees that it does so well and has not panicked.
    pub fn stop(mut self) {
        self.signal("-TERM");
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end: {}", self.logged());
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = self.logged();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// One request on a connection of its own. `head` lacks the empty line; status and body.
    pub fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let request = format!("{head}\r\nHost: chat\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        assert!(read.is_ok(), "{read:?} at {head}: {text:?}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A call of the HTTP API; its answer.
    pub fn call(&self, method: &str, body: &str) -> Value {
        let head = format!("POST /api/{method} HTTP/1.1\r\nX-API-Key: {KEY}\r\nContent-Type: application/json");
        let (status, answer) = self.ask(&head, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// The sum of a figure over all shards.
    pub fn figure(&self, name: &str) -> f64 {
        self.figure_with(name, "")
    }

    /// The sum of those of its lines that have this label.
    pub fn figure_with(&self, name: &str, label: &str) -> f64 {
        let (_, text) = self.ask("GET /metrics HTTP/1.1", "");
        let of = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = text.lines().filter(|line| of(line) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the chat's words:\n{}", self.logged());
        }
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something is so.
pub fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the JavaScript packages are there; if not, the group is reported.
pub fn has_node(group: &str) -> bool {
    let has = clients().join("node_modules/centrifuge").exists();
    if !has {
        not_run(group, "make setup-test could not install the JavaScript packages");
    }
    has
}

/// The interpreter with the Python packages; if it is not there, the group is reported.
pub fn python(group: &str) -> Option<PathBuf> {
    let ready = clients().join(".venv/.ready").exists();
    if !ready {
        not_run(group, "make setup-test could not install the Python packages");
    }
    ready.then(|| clients().join(".venv/bin/python"))
}

/// Runs an offline command of the chat; its output.
pub fn offline(command: &str, log: &Path) -> String {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_annulus")).args(["chat", command]).arg(log).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command}: {out}{error}");
    out.into_owned()
}

/// A script that runs beside the test: each tells the other lines.
pub struct Script {
    process: Child,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<String>>,
}

impl Script {
    pub fn start(program: &Path, script: &str, arguments: &[&str]) -> Script {
        let mut process = Command::new(program)
            .arg(script)
            .args(arguments)
            .current_dir(clients())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, lines) = mpsc::channel();
        read_lines(process.stderr.take().unwrap(), log.clone(), None);
        read_lines(process.stdout.take().unwrap(), log.clone(), Some(tell));
        Script { process, lines, log }
    }

    /// Tells it a line.
    pub fn say(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for a line that begins so; the rest of it.
    pub fn hear(&self, what: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(what) {
                        return rest.trim().to_owned();
                    }
                }
                Err(_) => panic!("the script did not say {what:?}: {}", self.log.lock().unwrap()),
            }
        }
    }

    /// Waits for its good end.
    pub fn ends_well(mut self) {
        self.hear("ok");
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{}", self.log.lock().unwrap());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}
