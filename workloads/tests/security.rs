//! What SECURITY.md says of the servers as they run: whose processes they are, which walls stand around them, what is closed unless
//! somebody opens it, and that no secret of a configuration is ever told.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outside::not_run;

/// A running server, with all that it has said.
struct Server {
    process: Child,
    said: Arc<Mutex<String>>,
    ports: Vec<u16>,
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("annulus-security-{}-{name}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_dir_all(&self.0);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn read_all(pipe: impl Read + Send + 'static, said: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            said.lock().unwrap().push_str(&(line + "\n"));
        }
    });
}

impl Server {
    /// Starts one, and waits until all of its ports answer.
    fn start(words: &[&str], variables: &[(&str, &str)], ports: &[u16]) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_annulus"))
            .args(words)
            .env_remove("ANNULUS_ADMIN_TOKEN")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        read_all(process.stdout.take().unwrap(), said.clone());
        read_all(process.stderr.take().unwrap(), said.clone());
        let mut server = Server { process, said, ports: ports.to_vec() };
        let until = Instant::now() + Duration::from_secs(60);
        while !(server.said().contains("walls: ")
            && ports.iter().all(|&port| TcpStream::connect(("127.0.0.1", port)).is_ok()))
        {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "it did not start: {ended:?} {}", server.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn ask(&self, port: u16, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        let host = if head.contains("Host:") { String::new() } else { format!("Host: localhost:{port}\r\n") };
        write!(stream, "{head}\r\n{host}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut bytes = Vec::new();
        // Who is refused early may find the connection closed.
        let _ended = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{head}: no answer: {text:?}")), text)
    }

    fn status(&self, port: u16, path: &str) -> u16 {
        self.ask(port, &format!("GET {path} HTTP/1.1"), "").0
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap().success());
    }

    /// Lines of each thread's status.
    fn threads(&self) -> Vec<BTreeMap<String, String>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).ok();
        let line = |line: &str| line.split_once(":\t").map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        tasks.flatten().filter_map(status).map(|text| text.lines().filter_map(line).collect()).collect()
    }

    /// Whether it was sent a signal that it has not taken yet.
    fn has_pending_signals(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let pending = status.lines().filter_map(|line| line.strip_prefix("ShdPnd:\t")).map(str::trim);
        pending.map(|mask| u64::from_str_radix(mask, 16).unwrap()).any(|mask| mask != 0)
    }

    fn stop(mut self) {
        self.signal("TERM");
        let status = self.process.wait().unwrap();
        assert!(status.success() && status.signal().is_none(), "{status}: {}", self.said());
        assert!(!self.said().contains("panicked"), "{}", self.said());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn gateway_file(port: u16, ip: &str, extra: &str) -> String {
    format!(
        r#"{{"version": 3, "port": {port}, "listen_ip": "{ip}"{extra}, "endpoints": [{{"endpoint": "/v", "backend":
        [{{"host": ["http://127.0.0.1:9"], "url_pattern": "/v"}}]}}]}}"#
    )
}

/// Each service on this address, with its configuration file: words and ports. The last two of the ports are the console's and the
/// service's.
fn services(folder: &Folder, ip: &str) -> Vec<(&'static str, Vec<String>, Vec<u16>)> {
    let data = folder.0.join("data").display().to_string();
    let mut services = Vec::new();
    for name in ["gateway", "chat", "image"] {
        let (port, console) = (free_port(), free_port());
        let text = match name {
            "gateway" => gateway_file(port, ip, ""),
            "chat" => format!("[chat]\nlisten = \"{ip}:{port}\"\n"),
            _ => format!("[image]\nlisten = \"{ip}:{port}\"\n[image.tenants]\nshop = \"a-key-of-sixteen-bytes\"\n"),
        };
        let extension = if name == "gateway" { "json" } else { "toml" };
        let file = folder.file(&format!("{name}.{extension}"), &text).display().to_string();
        let console_at = format!("{ip}:{console}");
        let mut words: Vec<String> =
            [name, "--shards", "2", "--config", &file, "--console", &console_at].map(str::to_owned).into();
        if name != "gateway" {
            words.extend(["--data".to_owned(), data.clone()]);
        }
        services.push((name, words, vec![console, port]));
    }
    services
}

fn start(words: &[String], more: &[&str], variables: &[(&str, &str)], ports: &[u16]) -> Server {
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Server::start(&words, variables, ports)
}

#[test]
fn walls_stand_around_every_thread_of_every_service() {
    let folder = Folder::new("walls");
    for (name, words, ports) in services(&folder, "127.0.0.1") {
        let server = start(&words, &[], &[], &ports);
        let has_landlock = server.said().contains("landlock stands");
        if !has_landlock {
            not_run(&format!("landlock around annulus {name}"), "the kernel does not offer it");
        }
        for thread in server.threads() {
            assert_eq!((&thread["NoNewPrivs"][..], &thread["Seccomp"][..]), ("1", "2"), "{name}: {thread:?}");
        }
        // The console's looks inside go on: they start this program again and read its own symbols.
        if name == "gateway" {
            assert_eq!(server.status(ports[0], "/debug/flamegraph?seconds=8"), 200, "{}", server.said());
        }
        server.stop();
        let server = start(&words, &["--walls", "off"], &[], &ports);
        assert!(server.said().contains("walls: none"));
        assert!(server.threads().iter().all(|thread| thread["Seccomp"] == "0"), "{name}");
        server.stop();
    }
}

#[test]
fn a_reload_reads_what_the_configuration_named_and_nothing_else() {
    let folder = Folder::new("reload");
    let elsewhere = Folder::new("elsewhere");
    let port = free_port();
    let file = folder.file("gateway.json", &gateway_file(port, "127.0.0.1", ""));
    let key = elsewhere.file("key.pem", "no key");
    for (walls, says) in [("auto", "ermission denied"), ("off", "cannot be read as")] {
        std::fs::write(&file, gateway_file(port, "127.0.0.1", "")).unwrap();
        let path = file.display().to_string();
        let server = Server::start(&["gateway", "--config", &path, "--walls", walls], &[], &[port]);
        if walls == "auto" && !server.said().contains("landlock stands") {
            not_run("a reload within landlock", "the kernel does not offer it");
            continue;
        }
        let key = key.display();
        let tls = format!(r#", "tls": {{"keys": [{{"public_key": "{key}", "private_key": "{key}"}}]}}"#);
        std::fs::write(&file, gateway_file(port, "127.0.0.1", &tls)).unwrap();
        server.signal("HUP");
        let until = Instant::now() + Duration::from_secs(20);
        while !server.said().contains(says) {
            assert!(Instant::now() < until, "{}", server.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(server.said().contains("stays as it is"), "{walls}: {}", server.said());
        server.stop();
    }
}

#[test]
fn a_server_that_root_starts_becomes_another_user_after_its_ports_are_open() {
    // Nobody else may choose whom a process is.
    let probe = Command::new("id").arg("-u").output().unwrap();
    if probe.stdout != b"0\n" {
        return not_run("servers that give root up", "the tests do not run as root");
    }
    let folder = Folder::new("user");
    let owned = Command::new("chown").arg("65534:65534").arg(&folder.0).status().unwrap();
    assert!(owned.success());
    for (name, mut words, mut ports) in services(&folder, "127.0.0.1") {
        // A port that only root may open.
        let low = (600..1024).rev().find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap();
        let (file, port) = (words[4].clone(), ports[1]);
        let text = std::fs::read_to_string(&file).unwrap().replace(&port.to_string(), &low.to_string());
        std::fs::write(&file, text).unwrap();
        ports[1] = low;
        words.extend(["--user".to_owned(), "65534:65534".to_owned()]);
        let server = start(&words, &[], &[], &ports);
        for thread in server.threads() {
            for (field, value) in [("Uid", "65534\t65534\t65534\t65534"), ("Gid", "65534\t65534\t65534\t65534")] {
                assert_eq!(thread[field], value, "{name}: {thread:?}");
            }
            assert_eq!((&thread["Groups"][..], &thread["CapEff"][..]), ("65534", "0000000000000000"), "{name}");
            assert_eq!((&thread["CapPrm"][..], &thread["NoNewPrivs"][..]), ("0000000000000000", "1"), "{name}");
        }
        assert!(server.status(low, "/metrics") == 200, "{name}");
        server.stop();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(["chat", "--user", "nobody-of-this-name"]).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("there is no user") && said.contains("UID:GID"), "{said}");
    for (user, says) in [("root", "is root"), ("5:0", "is in group 0"), ("4294967295:5", "nobody's number")] {
        let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(["chat", "--user", user]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{user}: {said}");
    }
}

/// Who made a socket where a successor looks might hand it listening sockets of theirs.
#[test]
fn a_successor_takes_nothing_from_a_process_of_another_user() {
    let probe = Command::new("id").arg("-u").output().unwrap();
    if probe.stdout != b"0\n" {
        return not_run("a socket of another user's", "the tests do not run as root");
    }
    let folder = Folder::new("squatter");
    let owned = Command::new("chown").arg("65534:65534").arg(&folder.0).status().unwrap();
    assert!(owned.success());
    let file = folder.file("gateway.json", &gateway_file(free_port(), "127.0.0.1", "")).display().to_string();
    let socket = folder.0.join("gateway.sock").display().to_string();
    // The server before has become another user, by the same word as the successor is to: so it is believed.
    let port = free_port();
    std::fs::write(&file, gateway_file(port, "127.0.0.1", "")).unwrap();
    let words = ["gateway", "--config", &file, "--handover", &socket, "--user", "65534:65534"];
    let before = Server::start(&words, &[], &[port]);
    let until = Instant::now() + Duration::from_secs(30);
    while !Path::new(&socket).exists() {
        assert!(Instant::now() < until, "{}", before.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let other = ["gateway", "--config", &file, "--handover", &socket];
    let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(other).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("a process of user 65534 answers there"), "{said}");
    assert!(!before.said().contains("is given"), "{}", before.said());
    let mut after = Server::start(&words, &[], &[]);
    let until = Instant::now() + Duration::from_secs(30);
    while !after.said().contains("upgrade: taken over") {
        assert!(after.process.try_wait().unwrap().is_none() && Instant::now() < until, "{}", after.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    after.stop();
    assert!(!Path::new(&socket).exists(), "who ends takes its socket along");
    // Where anybody may replace the socket, nobody is asked at all.
    let opened = Command::new("chmod").arg("o+w").arg(&folder.0).status().unwrap();
    assert!(opened.success());
    let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(other).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("chmod o-w") && said.contains("--handover PATH"), "{said}");
}

#[test]
fn what_is_an_administrators_is_closed_unless_somebody_opens_it() {
    let folder = Folder::new("closed");
    for (name, words, ports) in services(&folder, "0.0.0.0") {
        let server = start(&words, &[], &[], &ports);
        let (console, port) = (ports[0], ports[1]);
        for path in ["/debug/", "/debug/shards", "/debug/stalls", "/debug/attribution", "/debug/flamegraph"] {
            assert_eq!(server.status(console, path), 403, "{name} {path}");
        }
        let closed: &[(&str, &[u16])] = match name {
            "gateway" => &[
                ("GET /__stats HTTP/1.1", &[401]),
                ("GET /__debug/ HTTP/1.1", &[404]),
                ("GET /__echo/ HTTP/1.1", &[404]),
            ],
            "chat" => &[
                ("GET /admin/ HTTP/1.1", &[404]),
                ("GET /admin/state HTTP/1.1", &[404]),
                ("POST /admin/login HTTP/1.1", &[404]),
                ("POST /admin/publish HTTP/1.1", &[404]),
                ("POST /api/info HTTP/1.1", &[401]),
                ("POST /api/publish HTTP/1.1\r\nX-API-Key:", &[401]),
                ("POST /api/disconnect HTTP/1.1\r\nAuthorization: apikey", &[401]),
            ],
            _ => &[
                ("GET /v1/figures HTTP/1.1", &[401]),
                ("GET /v1/figures HTTP/1.1\r\nAuthorization: Bearer a-key-of-sixteen-bytes", &[403]),
                ("GET /v1/dead HTTP/1.1", &[401]),
                ("GET /v1/webhooks/dead HTTP/1.1", &[401, 404]),
                ("GET /v1/jobs/1 HTTP/1.1", &[401]),
                ("POST /v1/images HTTP/1.1", &[401]),
                ("DELETE /v1/jobs/1 HTTP/1.1", &[401]),
            ],
        };
        for (head, statuses) in closed {
            let (status, text) = server.ask(port, head, "");
            assert!(statuses.contains(&status), "{name} {head}: {status} {text}");
        }
        server.stop();
    }
    // On the loopback interface, programs of this machine may look, and pages of other sites may not.
    for (name, words, ports) in services(&folder, "127.0.0.1") {
        let server = start(&words, &[], &[], &ports);
        assert_eq!(server.status(ports[0], "/debug/shards"), 200, "{name}");
        let (status, _) = server.ask(ports[0], "GET /debug/shards HTTP/1.1\r\nHost: rebound.example", "");
        assert_eq!(status, 403, "{name}");
        if name == "gateway" {
            assert_eq!(server.status(ports[1], "/__stats"), 200);
            assert_eq!(server.ask(ports[1], "GET /__stats HTTP/1.1\r\nHost: rebound.example", "").0, 401);
        }
        server.stop();
    }
}

/// What no line, page or error may hold.
const CANARY: &str = "CANARYc4n4ry";

/// The same as a key of 32 bytes.
const KEY_CANARY: &str = "ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12caff";

/// A secret that can be found again, and is long enough for whatever it is for.
fn canary(of: &str) -> String {
    format!("{CANARY}-{of}-0123456789abcdef")
}

fn is_silent(what: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(CANARY) || line.contains(KEY_CANARY));
    assert!(line.is_none(), "{what} tells a secret: {line:?}");
}

#[test]
fn no_secret_of_a_configuration_is_told() {
    let folder = Folder::new("canaries");
    let data = folder.0.join("data").display().to_string();
    // Nobody is there: what is said of that names the server, and not how to get in.
    let dead = free_port();
    let variables = [
        ("ANNULUS_ADMIN_TOKEN", &canary("admin-token")[..]),
        ("AWS_SECRET_ACCESS_KEY", &canary("aws")[..]),
        ("CHAT_KEY", KEY_CANARY),
    ];
    let (port, console) = (free_port(), free_port());
    let token = canary("console");
    let chat = format!(
        "[console]\nlisten = \"127.0.0.1:{console}\"\ntoken = \"{token}\"\n[chat]\nlisten = \"127.0.0.1:{port}\"\n\
         api_key = \"{}\"\n[chat.tokens]\nhmac_secret = \"{}\"\n[chat.admin]\nenabled = true\npassword = \"{}\"\n\
         secret = \"{}\"\n[chat.encryption]\ncurrent = \"one\"\nkeys = {{ one = \"env:CHAT_KEY\" }}\n\
         [chat.database]\npostgres = \"postgres://user:{}@127.0.0.1:{dead}/chat\"\n",
        canary("api"),
        canary("hmac"),
        canary("password"),
        canary("secret"),
        canary("postgres"),
    );
    let file = folder.file("chat.toml", &chat).display().to_string();
    let server = Server::start(&["chat", "--config", &file, "--data", &data], &variables, &[console, port]);
    looks_around(
        &server,
        "chat",
        &token,
        &[
            "GET / HTTP/1.1",
            "GET /admin/ HTTP/1.1",
            "GET /admin/state HTTP/1.1",
            "POST /admin/login HTTP/1.1",
            "POST /api/info HTTP/1.1",
            "POST /api/info HTTP/1.1\r\nX-API-Key: wrong",
            &format!("POST /api/info HTTP/1.1\r\nX-API-Key: {}", canary("api")),
            "GET /health HTTP/1.1",
            "GET /connection/websocket HTTP/1.1",
        ],
        "the keys of tokens read again",
    );

    let (port, console) = (free_port(), free_port());
    let image = format!(
        "[console]\nlisten = \"127.0.0.1:{console}\"\ntoken = \"{token}\"\n[image]\nlisten = \"127.0.0.1:{port}\"\n\
         admin_key = \"{}\"\naudit_postgres = \"postgres://user:{}@127.0.0.1:{dead}/jobs\"\n[image.tenants]\nshop = \"{}\"\n\
         [image.variants]\nkeys = [\"{}\"]\n[image.webhooks]\nurl = \"http://127.0.0.1:{dead}/\"\nallow_private = true\nkeys = [\"{}\"]\n",
        canary("admin"),
        canary("audit"),
        canary("tenant"),
        canary("variants"),
        canary("webhook"),
    );
    let file = folder.file("image.toml", &image).display().to_string();
    let server = Server::start(&["image", "--config", &file, "--data", &data], &variables, &[console, port]);
    looks_around(
        &server,
        "image",
        &token,
        &[
            "GET / HTTP/1.1",
            "GET /console HTTP/1.1",
            "GET /v1/figures HTTP/1.1",
            &format!("GET /v1/figures HTTP/1.1\r\nAuthorization: Bearer {}", canary("admin")),
            &format!("POST /v1/images HTTP/1.1\r\nAuthorization: Bearer {}", canary("tenant")),
            "GET /v1/images/wrong/signature HTTP/1.1",
            "GET /health HTTP/1.1",
        ],
        // It has nothing to read again, and says nothing of it.
        "",
    );

    let (port, console) = (free_port(), free_port());
    let redis = format!(
        r#", "extra_config": {{"annulus": {{"rate_limit": {{"redis": "redis://user:{}@127.0.0.1:{dead}"}}}}}}"#,
        canary("redis")
    );
    let file = folder.file("gateway.json", &gateway_file(port, "127.0.0.1", &redis)).display().to_string();
    let at = format!("127.0.0.1:{console}");
    let server = Server::start(&["gateway", "--config", &file, "--console", &at], &variables, &[console, port]);
    looks_around(
        &server,
        "gateway",
        "",
        &[
            "GET /__stats HTTP/1.1",
            &format!("GET /__stats HTTP/1.1\r\nAuthorization: Bearer {}", canary("admin-token")),
            &format!("GET /v?token={} HTTP/1.1\r\nAuthorization: Bearer {}", canary("query"), canary("field")),
            "GET /__dashboard HTTP/1.1",
            "GET /__health HTTP/1.1",
        ],
        "was read again and is in force",
    );
    for words in [["--print-config"], ["--print-openapi"]] {
        let output = run(&[&["gateway", "--config", &file], &words[..]].concat(), &variables);
        is_silent(words[0], &output);
        assert!(output.len() > 100, "{words:?}: {output}");
    }
    is_silent("check", &run(&["check", &file], &variables));
}

/// Asks for everything that there is to see, has it reload, and looks at all that was said. `reloaded` is what is said of that.
fn looks_around(server: &Server, name: &str, token: &str, heads: &[&str], reloaded: &str) {
    let (console, port) = (server.ports[0], server.ports[1]);
    for path in ["/", "/metrics", "/health", "/debug/", "/debug/shards", "/debug/stalls", "/debug/attribution"] {
        let with = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}");
        for head in [&format!("GET {path} HTTP/1.1"), &with] {
            is_silent(&format!("{name}: the console's {path}"), &server.ask(console, head, "").1);
        }
    }
    for head in heads.iter().chain(&["GET /metrics HTTP/1.1", "GET /nothing HTTP/1.1", "BREW / HTTP/1.1"]) {
        let text = server.ask(port, head, "").1;
        is_silent(&format!("{name}: {head}"), &text);
    }
    assert!(!server.said().contains(reloaded) || reloaded.is_empty(), "{name}: {}", server.said());
    server.signal("HUP");
    let until = Instant::now() + Duration::from_secs(30);
    while server.has_pending_signals() || !server.said().contains(reloaded) {
        assert!(Instant::now() < until, "{name} does not reload: {}", server.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    is_silent(name, &server.said());
    server.signal("TERM");
    let until = Instant::now() + Duration::from_secs(60);
    while Path::new(&format!("/proc/{}/exe", server.process.id())).exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        if std::fs::read_to_string(format!("/proc/{}/stat", server.process.id()))
            .is_ok_and(|stat| stat.contains(") Z "))
        {
            break;
        }
    }
    is_silent(name, &server.said());
}

fn run(words: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
    let output = command.args(words).envs(variables.iter().copied()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// What is wrong with a secret is said without the secret.
#[test]
fn errors_about_secrets_do_not_tell_them() {
    let folder = Folder::new("errors");
    let short = CANARY;
    let postgres = canary("p");
    for (command, text) in [
        ("chat", format!("[console]\ntoken = \"{short}\"\n")),
        ("chat", format!("[chat]\napi_key = [\"{short}\"]\n")),
        ("chat", format!("[chat]\nlisten = \"127.0.0.1:1\"\n[chat.tokens]\nhmac_secret = 1 # {short}\n")),
        ("chat", format!("[chat]\n[chat.database]\npostgres = \"postgres://user:{postgres}@host:port/x\"\n")),
        ("chat", format!("[chat]\n[chat.database]\npostgres = \"{postgres}\"\n")),
        ("chat", format!("[chat]\n[chat.broker]\nredis = \"redis://user:{postgres}@host:port\"\n")),
        ("chat", format!("[chat]\n[chat.broker]\nredis = \"redis://{postgres}@host\"\n")),
        ("chat", format!("[chat]\n[chat.tokens]\nrsa_public_key = \"-----BEGIN {postgres}\"\n")),
        ("chat", format!("[chat]\n[chat.encryption]\ncurrent = \"a\"\nkeys = {{ a = \"{postgres}\" }}\n")),
        ("image", format!("[image]\nadmin_key = \"{short}\"\n")),
        ("image", format!("[image]\n[image.tenants]\nshop = \"{short}\"\n")),
        ("image", format!("[image]\n[image.variants]\nkeys = [\"{short}\"]\n")),
        ("image", format!("[image]\naudit_postgres = \"postgres://user:{postgres}@host:port/x\"\n")),
        ("image", format!("[image]\nredis = \"redis://user:{postgres}@host:port\"\n")),
        ("image", format!("[image]\n[image.webhooks]\nurl = \"http://127.0.0.1:9/\"\nkeys = [\"{short}\"]\n")),
    ] {
        let file = folder.file("wrong.toml", &text).display().to_string();
        let data = folder.0.join("data").display().to_string();
        let output = Command::new("timeout")
            .args(["-s", "TERM", "5", env!("CARGO_BIN_EXE_annulus"), command, "--config", &file, "--data", &data])
            .args(["--listen", "127.0.0.1:0"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        is_silent(&text, &said);
    }
}

/// A ClientHello of TLS 1.2 and older (RFC 5246 section 7.4.1.2), with these cipher suites.
fn hello(version: u8, suites: &[u16]) -> Vec<u8> {
    let mut body = vec![3, version];
    body.extend([7; 32]);
    body.push(0);
    body.extend((suites.len() as u16 * 2).to_be_bytes());
    suites.iter().for_each(|suite| body.extend(suite.to_be_bytes()));
    body.extend([1, 0]);
    // Groups: P-256, X25519. Point formats: plain. Signatures: ECDSA and RSA with SHA-256. The extended master secret.
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 6, 0, 4, 0, 0x17, 0, 0x1d],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1],
        &[0, 23, 0, 0],
    ];
    let extensions = extensions.concat();
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![0x16, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// Whether a server goes on with a handshake: it answers with a record of one (RFC 8446 section 5.1), and not with an alert or its
/// end.
fn goes_on(port: u16, hello: &[u8]) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(hello).unwrap();
    let mut kind = [0];
    stream.read(&mut kind).unwrap() == 1 && kind[0] == 0x16
}

#[test]
fn old_versions_of_tls_and_weak_ciphers_are_refused() {
    let Some(authority) = outside::certificates::Authority::new("versions and ciphers of TLS") else { return };
    let pair = authority.issue("localhost");
    let (cert, key) = (pair.chain.display().to_string(), pair.key.display().to_string());
    let folder = Folder::new("tls");
    let data = folder.0.join("data").display().to_string();
    for name in ["gateway", "gateway of TLS 1.2", "chat", "image"] {
        let port = free_port();
        let least = if name.ends_with("1.2") { r#", "min_version": "TLS12""# } else { "" };
        let tls = format!(r#", "tls": {{"keys": [{{"public_key": "{cert}", "private_key": "{key}"}}]{least}}}"#);
        let (file, text) = match &name[..4] {
            "gate" => ("a.json", gateway_file(port, "127.0.0.1", &tls)),
            "chat" => (
                "a.toml",
                format!("[chat]\nlisten = \"127.0.0.1:{port}\"\n[chat.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n"),
            ),
            _ => (
                "a.toml",
                format!("[image]\nlisten = \"127.0.0.1:{port}\"\ntls_certificate = \"{cert}\"\ntls_key = \"{key}\"\n"),
            ),
        };
        let file = folder.file(file, &text).display().to_string();
        let command = name.split(' ').next().unwrap();
        let mut words = vec![command, "--config", &file];
        if command != "gateway" {
            words.extend(["--data", &data]);
        }
        let server = Server::start(&words, &[], &[port]);
        // ECDHE with AES-GCM, which everybody offers; and what nobody should: RSA key exchange, CBC, 3DES, RC4.
        let (good, weak) = ([0xc02f, 0xc030, 0xc02b, 0xc02c], [0x002f, 0x0035, 0x000a, 0x0005, 0xc013, 0xc014, 0xc009]);
        for version in [1, 2] {
            assert!(!goes_on(port, &hello(version, &good)), "{name}: TLS 1.{}", version - 1);
        }
        assert!(!goes_on(port, &hello(3, &weak)), "{name}: a weak cipher");
        // TLS 1.3 alone is the gateway's default, as it is KrakenD's.
        assert_eq!(goes_on(port, &hello(3, &good)), name != "gateway", "{name}: TLS 1.2");
        server.stop();
    }
}
