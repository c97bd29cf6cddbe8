//! The command line as people meet it: helps, refusals, exit statuses, configurations to begin with, completion, the log as JSON.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use annulus::command::commands::COMMANDS;
use outside::has;
use serde_json::Value;

const ANNULUS: &str = env!("CARGO_BIN_EXE_annulus");

/// A folder of the test's, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("annulus-words-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_dir_all(&self.0);
    }
}

/// The exit status, what was printed, and what was complained of.
fn annulus_in(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(ANNULUS).args(words).current_dir(folder).env_remove("ANNULUS_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn annulus(words: &[&str]) -> (i32, String, String) {
    annulus_in(Path::new("/"), words)
}

#[test]
fn help_is_there_for_everything() {
    let (status, overview, complaint) = annulus(&["--help"]);
    assert_eq!((status, complaint.as_str()), (0, ""));
    assert_eq!(annulus(&["help"]).1, overview);
    for part in ["services", "first things to try", "environment", "exit status", "workloads/docs", "NO_COLOR"] {
        assert!(overview.contains(part), "{part}: {overview}");
    }
    assert!(!overview.contains('\x1b'), "a pipe is no terminal");
    for entry in COMMANDS {
        let words: Vec<&str> = entry.name.split(' ').collect();
        let (status, asked, complaint) = annulus(&[&["help"], &words[..]].concat());
        assert_eq!((status, complaint.as_str()), (0, ""), "{}", entry.name);
        assert!(asked.contains("usage: annulus"), "{asked}");
        if !matches!(entry.name, "perf record" | "perf diff") {
            let (status, said, _) = annulus(&[&words[..], &["--help"]].concat());
            assert_eq!((status, said.trim_end()), (0, asked.trim_end()), "{}", entry.name);
        }
    }
    let (status, version, _) = annulus(&["--version"]);
    assert_eq!((status, version.trim()), (0, concat!("annulus ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn words_that_make_no_sense_end_with_the_help_that_knows_better() {
    for (words, says, help) in [
        (&[][..], "what shall I do?", "annulus --help"),
        (&["caht"], "did you mean chat?", "annulus --help"),
        (&["chat", "verfy-log", "x"], "did you mean chat verify-log?", "annulus --help"),
        (&["chat", "--lisen", "1"], "did you mean --listen?", "annulus chat --help"),
        (&["run", "--shards", "none"], "a number from 1 to 64", "annulus run --help"),
        (&["gateway", "--log=xml"], "text or json", "annulus gateway --help"),
        (&["image", "process", "--preset", "web"], "where to", "annulus image process --help"),
        (&["image", "sign"], "of which original", "annulus image sign --help"),
        (&["chat", "export"], "of which log?", "annulus chat export --help"),
        (&["check"], "which file?", "annulus check --help"),
        (&["init", "chta"], "did you mean chat?", "annulus init --help"),
        (&["completion"], "which shell?", "annulus completion --help"),
        (&["fetch", "--h3", "http://a"], "no option", "annulus fetch --help"),
        (&["doctor", "--shards", "2"], "no option", "annulus doctor --help"),
        (&["help", "caht"], "did you mean chat?", "annulus help --help"),
    ] {
        let (status, out, complaint) = annulus(words);
        assert_eq!((status, out.as_str()), (2, ""), "{words:?}: {complaint}");
        assert!(complaint.starts_with("annulus") && complaint.contains(says), "{words:?}: {complaint}");
        assert_eq!(complaint.lines().last(), Some(help), "{words:?}");
        assert_eq!(complaint.lines().count(), 2, "{complaint}");
    }
    let odd = Command::new(ANNULUS).arg("check").arg(OsStr::from_bytes(b"a\xff.toml")).output().unwrap();
    let complaint = String::from_utf8(odd.stderr).unwrap();
    assert!(odd.status.code() == Some(2) && complaint.contains("is no UTF-8"), "{complaint}");
}

#[test]
fn what_fails_fails_with_one() {
    let scratch = Scratch::new();
    let bad = scratch.file("bad.toml", "[chat]\nlisten = 1\n");
    let bad = bad.to_str().unwrap();
    for (words, says) in [
        (&["chat", "--config", bad][..], "bad.toml:2: chat.listen: expected"),
        (&["check", bad], "bad.toml:2: chat.listen: expected"),
        (&["check", "/nowhere.yaml"], "/nowhere.yaml has 1 problem"),
        (&["chat", "verify-log", "/nowhere"], "annulus chat verify-log: "),
        (&["image", "sign", &format!("{}.original", "a5".repeat(32))], "there are no keys"),
        (&["image", "process", "--preset", "web", "/nowhere.jpg", "/"], "/nowhere.jpg: "),
        (&["fetch", "http://127.0.0.1:1/"], "annulus fetch: http://127.0.0.1:1/: "),
        (&["doctor", "--config", bad], "bad.toml:2: "),
    ] {
        let (status, _, complaint) = annulus(words);
        assert_eq!(status, 1, "{words:?}: {complaint}");
        assert!(complaint.contains(says) && !complaint.contains("--help"), "{words:?}: {complaint}");
    }
    let log = Command::new(ANNULUS).arg("chat").env("ANNULUS_LOG", "xml").output().unwrap();
    assert_eq!(log.status.code(), Some(2), "a variable that makes no sense is like a word that makes none");
    assert!(String::from_utf8_lossy(&log.stderr).contains("ANNULUS_LOG: \"xml\" is no form of the log"));
}

#[test]
fn a_file_is_checked_as_what_it_is() {
    let scratch = Scratch::new();
    scratch.file("ours.toml", "[chat]\nhistory_size = 7\n[image]\nbytes_max = 5000\n");
    scratch.file("image.toml", "[image]\nbytes = 1\n");
    scratch.file("gateway.toml", "version = 3\nprot = 1\n");
    scratch.file("centrifugo.json", r#"{"client": {"allowed_origins": ["http://a"]}, "chanel": {}}"#);
    for (words, status, says) in [
        (&["check", "ours.toml"][..], 0, "ours.toml: no problems"),
        (&["check", "--as", "chat", "ours.toml"], 0, "no problems"),
        (&["check", "--gateway", "ours.toml"], 1, "ours.toml has "),
        (&["check", "image.toml"], 1, "image.toml:2: image.bytes: there is no key"),
        (&["check", "gateway.toml"], 1, "gateway.toml:2:1: "),
        (&["check", "ours.toml", "image.toml", "gateway.toml"], 1, "gateway.toml has 1 problem"),
        (&["check", "--as=chat", "centrifugo.json"], 1, "\"channel\""),
        (&["check", "--print-config", "ours.toml"], 2, "no gateway's file"),
    ] {
        let (ended, out, complaint) = annulus_in(&scratch.0, words);
        assert_eq!(ended, status, "{words:?}: {out}{complaint}");
        assert!(out.contains(says) || complaint.contains(says), "{words:?}: {out}{complaint}");
    }
}

/// A service of ours, ended with the test.
struct Service {
    process: Child,
    /// What it has said.
    said: String,
}

impl Service {
    /// Starts it, and waits until it has said `ready` on standard output, or on standard error.
    fn start(folder: &Path, words: &[&str], errors: bool, ready: &str) -> Service {
        let mut command = Command::new(ANNULUS);
        command.args(words).current_dir(folder).env_remove("ANNULUS_LOG");
        let mut process = match errors {
            true => command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap(),
            false => command.stdout(Stdio::piped()).spawn().unwrap(),
        };
        let lines: Box<dyn Read> = match errors {
            true => Box::new(process.stderr.take().unwrap()),
            false => Box::new(process.stdout.take().unwrap()),
        };
        let mut said = String::new();
        for line in BufReader::new(lines).lines() {
            said += &(line.unwrap() + "\n");
            if said.contains(ready) && said.contains("open files") {
                return Service { process, said };
            }
        }
        panic!("it ended before it said {ready:?}: {said}");
    }

    fn stop(mut self) {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(asked.success() && self.process.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _has_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Asks until there is an answer: whoever says that it listens does so soon.
fn get(address: SocketAddr, path: &str) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            if stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 2") {
                return text;
            }
            assert!(Instant::now() < until, "{path}: {text}");
        }
        assert!(Instant::now() < until, "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_configuration_to_begin_with_is_checked_and_starts() {
    let scratch = Scratch::new();
    for (kind, file, listens, path, says) in [
        ("chat", "chat.toml", "127.0.0.1:8000", "/health", "chat      http"),
        ("image", "image.toml", "127.0.0.1:8070", "/health", "console: /console"),
        ("gateway", "gateway.yaml", "8080", "/hello/you?greeting=hi", "gateway: http"),
    ] {
        let (status, told, complaint) = annulus_in(&scratch.0, &["init", kind]);
        assert_eq!((status, complaint.as_str()), (0, ""), "{kind}");
        assert!(told.contains(&format!("annulus check {file}")), "{told}");
        let (status, told, complaint) = annulus_in(&scratch.0, &["check", file]);
        assert!(status == 0 && told.ends_with("no problems\n") && !told.contains("note:"), "{told}{complaint}");
        // It is the service's own file now.
        let (status, _, complaint) = annulus_in(&scratch.0, &["init", kind]);
        assert!(status == 1 && complaint.contains("is not overwritten"), "{complaint}");
        let text = std::fs::read_to_string(scratch.0.join(file)).unwrap();
        assert_eq!(annulus(&["init", kind, "-"]).1, text, "the same on standard output");
        // Elsewhere than where another may be.
        let address = free_address();
        let there = if kind == "gateway" { address.port().to_string() } else { address.to_string() };
        scratch.file(file, &text.replace(listens, &there));
        let words = [kind, "--config", file, "--shards", "1"];
        let service = Service::start(&scratch.0, &words, false, says);
        let answer = get(address, path);
        assert!(kind != "gateway" || answer.contains("echo") && answer.contains("health"), "{answer}");
        service.stop();
    }
}

#[test]
fn the_log_as_json_is_one_object_a_line_and_nothing_else() {
    let scratch = Scratch::new();
    let address = free_address().to_string();
    let words = ["chat", "--log", "json", "--listen", &address, "--shards", "1"];
    let mut service = Service::start(&scratch.0, &words, true, "clients: ws://");
    let mut lines = 0;
    for line in service.said.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(["info", "warn", "error"].contains(&object["level"].as_str().unwrap()), "{line}");
        let ts = object["ts"].as_str().unwrap();
        assert!(ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[10] == b'T', "{line}");
        assert!(!object["message"].as_str().unwrap().is_empty());
        lines += 1;
    }
    assert!(lines > 3 && service.said.contains("\"service\":\"chat\""), "{}", service.said);
    let mut output = service.process.stdout.take().unwrap();
    service.stop();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "", "standard output is free");
    // That it cannot start is a line like all others.
    let words = ["chat", "--listen", "192.0.2.1:1", "--config", "/nowhere.toml"];
    let output = Command::new(ANNULUS).args(words).env("ANNULUS_LOG", "json").output().unwrap();
    let object: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && object["level"] == "error", "{object}");
    assert!(object["message"].as_str().unwrap().contains("/nowhere.toml"), "{object}");
}

#[test]
fn the_doctor_speaks_to_eyes_and_to_machines() {
    let (status, text, _) = annulus(&["doctor"]);
    assert_eq!(status, 0, "nothing of this machine keeps annulus from working: {text}");
    for part in ["kernel interface", "yes epoll", "walls", "cores", "open files allowed", "somaxconn", "memory", "GPU"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (mut before, mut notes) = ("", 0);
    for line in text.lines().chain([""]) {
        if before.starts_with("  note ") || before.starts_with("    no ") {
            assert!(line.starts_with("       Fix: "), "{before}");
            notes += 1;
        }
        before = line;
    }
    let (_, json, _) = annulus(&["doctor", "--json"]);
    let all: Value = serde_json::from_str(&json).unwrap();
    let findings =
        all["sections"].as_array().unwrap().iter().flat_map(|section| section["findings"].as_array().unwrap());
    let not_yes = findings.filter(|finding| finding["verdict"] != "yes");
    assert!(all["well"] == true && not_yes.count() == notes, "{json}");
    for (words, says) in [
        (&["doctor", "--json", "--redis", "redis://127.0.0.1:1"][..], "127.0.0.1:1"),
        (&["doctor", "--json", "--postgres", "mysql://a@b/c"], "begins with postgres://"),
        (&["doctor", "--json", "--s3", "https://nowhere"], "HOST/BUCKET"),
    ] {
        let (status, json, _) = annulus(words);
        let all: Value = serde_json::from_str(&json).unwrap();
        let last = all["sections"].as_array().unwrap().last().unwrap();
        let is_no = |finding: &Value| finding["verdict"] == "no" && !finding["remedy"].as_str().unwrap().is_empty();
        assert!(status == 1 && all["well"] == false && last.to_string().contains(says), "{json}");
        assert!(last["findings"].as_array().unwrap().iter().any(is_no), "{last}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    if !has("script", "colours on a terminal") {
        return;
    }
    let on_a_terminal = |no_color: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{ANNULUS} help; {ANNULUS} caht"), "/dev/null"]).stdin(Stdio::null());
        let output = command.env("NO_COLOR", no_color).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (with, without) = (on_a_terminal(""), on_a_terminal("1"));
    assert!(with.contains("\x1b[1mservices\x1b[0m") && with.contains("\x1b[31mannulus\x1b[0m: there is no"), "{with}");
    assert!(without.contains("services") && !without.contains('\x1b'), "{without}");
}

/// What bash offers for the last of these words, as it is typed so far.
fn bash_offers(scratch: &Path, script: &Path, words: &[&str]) -> Vec<String> {
    let ask = format!(
        "source '{}'; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _annulus; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let mut bash = Command::new("bash");
    let output =
        bash.args(["--norc", "-c", &ask, "annulus", "annulus"]).args(words).current_dir(scratch).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_choices_and_files() {
    let scratch = Scratch::new();
    let script = scratch.file("script.bash", &annulus(&["completion", "bash"]).1);
    scratch.file("a file.toml", "");
    std::fs::create_dir(scratch.0.join("a folder")).unwrap();
    let offers = |words: &[&str]| bash_offers(&scratch.0, &script, words);
    assert_eq!(offers(&["ch"]), ["chat", "check"]);
    assert_eq!(offers(&["image", "pro"]), ["process"]);
    assert_eq!(offers(&["chat", "ver"]), ["verify-log"]);
    assert_eq!(offers(&["run", "--dri"]), ["--driver"]);
    assert_eq!(offers(&["chat", "--config", "a"]), ["a file.toml", "a folder"]);
    assert_eq!(offers(&["run", "--data", "a"]), ["a folder"]);
    assert_eq!(offers(&["run", "--driver", ""]), ["auto", "io_uring", "epoll"]);
    assert_eq!(offers(&["run", "--driver", "=", "e"]), ["epoll"], "bash takes --driver=e apart");
    assert_eq!(offers(&["run", "--driver", "="]), ["auto", "io_uring", "epoll"]);
    assert_eq!(offers(&["run", "--data", "=", "x", "--log", "j"]), ["json"]);
    assert_eq!(offers(&["run", "--listen", "1"]), [""; 0], "nobody knows which");
    assert_eq!(offers(&["init", "ga"]), ["gateway"]);
    assert_eq!(offers(&["init", "gateway", "a"]), ["a file.toml", "a folder"]);
    assert_eq!(offers(&["completion", ""]), ["bash", "zsh", "fish"]);
    assert_eq!(offers(&["check", "--as", "chat", "a"]), ["a file.toml", "a folder"]);
    assert_eq!(offers(&["image", "process", "--preset", "av"]), ["avatar"]);
    assert_eq!(offers(&["perf", "record", "--unwind", ""]), ["dwarf", "frame-pointers"]);
    // Whatever a command knows is offered.
    for entry in COMMANDS {
        let words: Vec<&str> = entry.name.split(' ').chain(["-"]).collect();
        let offered = offers(&words);
        for spelling in entry.flags().flat_map(|flag| flag.spellings()) {
            assert!(offered.iter().any(|offer| offer == spelling), "{}: {spelling}: {offered:?}", entry.name);
        }
    }
}

#[test]
fn zsh_takes_its_script() {
    if !has("zsh", "completion for zsh") {
        return;
    }
    let scratch = Scratch::new();
    let script = scratch.file("_annulus", &annulus(&["completion", "zsh"]).1);
    let read = Command::new("zsh").arg("-n").arg(&script).output().unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{}", String::from_utf8_lossy(&read.stderr));
    // As a person would: `compinit` finds it by its first line.
    let load = format!(
        "fpath=('{}' $fpath); autoload -U compinit; compinit -D -u; print ${{_comps[annulus]}}",
        scratch.0.display()
    );
    let output = Command::new("zsh").args(["-f", "-c", &load]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "_annulus",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn fish_completes_commands_flags_and_choices() {
    if !has("fish", "completion for fish") {
        return;
    }
    let scratch = Scratch::new();
    let script = scratch.file("annulus.fish", &annulus(&["completion", "fish"]).1);
    let read = Command::new("fish").args(["--no-config", "-n"]).arg(&script).output().unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{}", String::from_utf8_lossy(&read.stderr));
    let offers = |line: &str| {
        let ask = format!("source {}; complete -C 'annulus {line}'", script.display());
        let output = Command::new("fish").args(["--no-config", "-c", &ask]).env("HOME", &scratch.0).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offers("ch"), ["chat", "check"]);
    assert_eq!(offers("image pro"), ["process"]);
    assert_eq!(offers("run --dri"), ["--driver"]);
    assert_eq!(offers("run --driver ep"), ["epoll"]);
    assert_eq!(offers("init ga"), ["gateway"]);
    assert_eq!(offers("chat --allow"), ["--allow-unsupported"]);
    assert!(offers("check --plan").is_empty());
}
