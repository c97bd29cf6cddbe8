//! Other people's HTTP/2 tools against the real binary: curl, nghttp2's client and load generator and the conformance
//! check `httpwg` ask the gateway, in the clear and over TLS; `annulus fetch` asks nghttp2's server. What is not installed
//! is reported, not passed over.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Larger than every window that the tools begin with.
const BIG_BYTES: usize = 1_500_000;

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-http2-peers-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a certificate for 127.0.0.1 with its key.
    fn certificate(&self) -> Option<()> {
        let (certificate, key) = (self.file("cert.pem"), self.file("key.pem"));
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                       -addext subjectAltName=IP:127.0.0.1,DNS:localhost";
        let words = request.split_whitespace();
        let made = Command::new("openssl").args(words).args(["-keyout", &key, "-out", &certificate]).output().ok()?;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

fn big() -> Vec<u8> {
    (0..BIG_BYTES).map(|at| b'a' + (at % 26) as u8).collect()
}

/// An upstream of HTTP/1.1: `/big`, and an object for every other path.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut line, mut first, mut length) = (String::new(), String::new(), 0);
        while matches!(reader.read_line(&mut line), Ok(1..)) && line != "\r\n" {
            if first.is_empty() {
                first = line.clone();
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if first.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        let big = first.contains("/big");
        let (kind, answer) = match big {
            true => ("application/octet-stream", self::big()),
            false => ("application/json", format!("{{\"received\": {length}}}").into_bytes()),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", answer.len());
        if stream.write_all(&[head.as_bytes(), &answer].concat()).is_err() {
            return;
        }
    }
}

/// A process, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

struct Gateway {
    _process: Running,
    url: String,
    address: SocketAddr,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Gateway {
    /// In the clear, or with the certificate in `folder`.
    fn start(folder: &Folder, tls: bool) -> Gateway {
        let (port, upstream) = (free_port(), upstream());
        let security = match tls {
            false => "\"use_h2c\": true".to_owned(),
            true => format!(
                "\"tls\": {{\"keys\": [{{\"public_key\": \"{}\", \"private_key\": \"{}\"}}]}}",
                folder.file("cert.pem"),
                folder.file("key.pem")
            ),
        };
        let endpoint = |path: &str, method: &str, more: &str| {
            format!(
                // None is shed: how fast this machine is says nothing about the protocol.
                "{{\"endpoint\": \"{path}\", \"method\": \"{method}\", {more}
                   \"extra_config\": {{\"annulus\": {{\"priority\": \"critical\"}}}},
                   \"backend\": [{{\"url_pattern\": \"{path}\", \"method\": \"{method}\" {}}}]}}",
                if more.is_empty() { "" } else { ", \"encoding\": \"no-op\"" }
            )
        };
        let endpoints = [
            endpoint("/", "GET", ""),
            endpoint("/", "POST", ""),
            endpoint("/big", "GET", "\"output_encoding\": \"no-op\","),
        ];
        let config = format!(
            "{{\"version\": 3, \"port\": {port}, \"listen_ip\": \"127.0.0.1\", \"timeout\": \"10s\", {security},
               \"host\": [\"http://{upstream}\"], \"endpoints\": [{}]}}",
            endpoints.join(",")
        );
        let file = folder.file("gateway.json");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_annulus"))
            .args(["gateway", "--shards", "1", "--config", &file])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let process = Running(process);
        assert!(lines.any(|line| line.unwrap().contains("gateway: http")), "the gateway does not start");
        // Who does not read a server's log makes it wait.
        std::thread::spawn(move || lines.for_each(drop));
        let scheme = if tls { "https" } else { "http" };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Gateway { _process: process, url: format!("{scheme}://{address}"), address }
    }
}

/// Runs a tool to its end; `None`, and said so, where it is not installed.
fn tool(name: &str, package: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            not_run(&format!("{name} and HTTP/2"), &format!("the package {package} is not installed"));
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn not_run(group: &str, why: &str) {
    eprintln!("NOT RUN: {group}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{group}: {why}").unwrap();
    }
}

fn text(output: &Output) -> String {
    [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat()
}

/// In the clear, and over TLS where a certificate can be made.
fn on_each_gateway(ask: impl Fn(&Gateway, &Folder, bool)) {
    let folder = Folder::new();
    ask(&Gateway::start(&folder, false), &folder, false);
    match folder.certificate() {
        Some(()) => ask(&Gateway::start(&folder, true), &folder, true),
        None => not_run("HTTP/2 tools over TLS", "openssl is not installed"),
    }
}

#[test]
fn curl_asks_and_uploads() {
    on_each_gateway(|gateway, folder, tls| {
        let version = if tls { "--http2" } else { "--http2-prior-knowledge" };
        let (root, large) = (format!("{}/", gateway.url), format!("{}/big", gateway.url));
        let curl = |more: &[&str]| {
            let fixed = ["-sSk", "--max-time", "20", version, "-w", "|%{http_version}|%{http_code}"];
            tool("curl", "curl", &[&fixed, more].concat())
        };
        let Some(output) = curl(&[&root]) else { return };
        assert!(text(&output).ends_with("|2|200"), "{}", text(&output));
        let output = curl(&[&large]).unwrap();
        assert!(output.stdout.strip_suffix(b"|2|200").is_some_and(|body| body == big()), "another body");
        let body = folder.file("upload");
        std::fs::write(&body, vec![b'x'; 300_000]).unwrap();
        let output = curl(&["--data-binary", &format!("@{body}"), &root]).unwrap();
        assert!(text(&output).contains("300000") && text(&output).ends_with("|2|200"), "{}", text(&output));
    });
}

#[test]
fn nghttp_asks_with_small_windows_and_many_streams() {
    on_each_gateway(|gateway, folder, _| {
        let (root, large) = (format!("{}/", gateway.url), format!("{}/big", gateway.url));
        let nghttp = |arguments: &[&str]| tool("nghttp", "nghttp2-client", &[&["-t", "20"], arguments].concat());
        // Windows of 1,023 bytes; padding on every frame; a table of no bytes.
        let Some(output) = nghttp(&["-w", "10", "-W", "16", "-b", "200", "-c", "0", &large]) else { return };
        assert!(output.stdout == big(), "another body: {} bytes", output.stdout.len());
        let output = nghttp(&["-nsm", "50", &root, &large]).unwrap();
        let answers = text(&output).lines().filter(|line| line.contains(" 200 ")).count();
        assert_eq!(answers, 100, "{}", text(&output));
        let body = folder.file("upload");
        std::fs::write(&body, vec![b'x'; 300_000]).unwrap();
        let output = nghttp(&["-d", &body, "-b", "100", "--trailer", "x-end: yes", &root]).unwrap();
        assert!(text(&output).contains("300000"), "{}", text(&output));
    });
}

#[test]
fn h2load_finds_no_error() {
    on_each_gateway(|gateway, _, _| {
        for (path, requests) in [("/", "3000"), ("/big", "60")] {
            let url = format!("{}{path}", gateway.url);
            let arguments = ["-n", requests, "-c", "4", "-m", "20", "-T", "20", &url];
            let Some(output) = tool("h2load", "nghttp2-client", &arguments) else { return };
            let wanted = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
            assert!(text(&output).contains(&wanted), "{}", text(&output));
            assert!(text(&output).contains(&format!("status codes: {requests} 2xx")), "{}", text(&output));
        }
    });
}

#[test]
fn fetch_asks_nghttpd() {
    let folder = Folder::new();
    let has_certificate = folder.certificate().is_some();
    std::fs::write(folder.0.join("big"), big()).unwrap();
    std::fs::write(folder.0.join("small"), b"small\n").unwrap();
    for tls in [false, true] {
        if tls && !has_certificate {
            return not_run("nghttpd over TLS", "openssl is not installed");
        }
        let port = free_port().to_string();
        let mut command = Command::new("nghttpd");
        command.args(["-a", "127.0.0.1", "-d", folder.0.to_str().unwrap(), "-b", "50", "--trailer", "x-end: yes"]);
        match tls {
            true => command.args([&port, &folder.file("key.pem"), &folder.file("cert.pem")]),
            false => command.args(["--no-tls", &port]),
        };
        let server = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(server) => Running(server),
            Err(_) => return not_run("nghttpd and annulus fetch", "the package nghttp2-server is not installed"),
        };
        wait_for(&port);
        let origin = format!("{}://127.0.0.1:{port}", if tls { "https" } else { "http" });
        let (small, large) = (format!("{origin}/small"), format!("{origin}/big"));
        let version: &[&str] = if tls { &["--http2", "--insecure"] } else { &["--h2c"] };
        let output = fetch(&[version, &[&small[..], &large, &small]].concat());
        assert!(output.status.success(), "{}", text(&output));
        assert!(output.stdout == [b"small\n", &big()[..], b"small\n"].concat(), "other bodies");
        let many = [&large[..]; 60];
        let output = fetch(&[version, &many].concat());
        assert!(output.status.success() && output.stdout.len() == 60 * BIG_BYTES, "{}", text(&output).len());
        let output = fetch(&[version, &["-i", "-X", "HEAD", &small]].concat());
        assert!(output.status.success() && text(&output).starts_with("200\n"), "{}", text(&output));
        drop(server);
    }
}

fn fetch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_annulus")).arg("fetch").args(arguments).output().unwrap()
}

fn wait_for(port: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(Instant::now() < until, "nothing listens");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn httpwg_finds_nothing_wrong() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder, false);
    let address = gateway.address.to_string();
    let output = Command::new("httpwg").args(["-a", &address, "--frame-timeout", "2000"]).env("NO_COLOR", "1").output();
    let Ok(output) = output else { return not_run("httpwg-cli", "make setup-test could not install it") };
    let output = text(&output);
    let plain = without_colours(&output);
    // It counts, and goes on after a check that failed.
    let line = plain.lines().find(|line| line.contains(" tests in ")).unwrap_or_else(|| panic!("{plain}"));
    let (passed, all) = line.split_whitespace().find_map(|word| word.split_once('/')).unwrap();
    assert!(passed == all && all.parse::<usize>().unwrap() > 100, "{line}: {plain}");
}

fn without_colours(text: &str) -> String {
    let mut pieces = text.split('\x1b');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or("", |(_, rest)| rest))
}
