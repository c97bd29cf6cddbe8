//! The console: its page in a browser, its figures and those of other processes, and its look inside a running service: who may
//! look, a stall that is planted, and flamegraphs.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chat_rig::frames::Raw;
use chat_rig::{Chat, Folder, PATIENCE, Setup, free_port, until};
use outside::{Browser, not_run, passes};
use serde_json::Value;

/// Checks of a schema that is looked at in the shard's own turn: long enough for a stall of more than 40 ms anywhere.
const CHECKS: usize = 400_000;
const GROUP: usize = 400;
const TOKEN: &str = "a token of sixteen bytes and more";

/// A chat with a console, and where that is.
fn chat(folder: &Folder, chat: &str, console: &str) -> (Chat, u16) {
    let port = free_port();
    let text = format!("[chat]\n{chat}\n[console]\nlisten = \"127.0.0.1:{port}\"\n{console}\n");
    (Setup::file("annulus.toml", text).start(folder), port)
}

/// A request to the console, with further fields; the status, and what follows it.
fn ask(port: u16, target: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = if fields.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
    let request = format!("GET {target} HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn json(port: u16, target: &str) -> Value {
    let (status, body) = ask(port, target, "");
    assert_eq!(status, 200, "{target}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Milliseconds that a message of `/debug/attribution` spent in stages.
fn spent_ms(kind: &Value, slow: &Value, stages: &[&str]) -> f64 {
    let names = kind["stages"].as_array().unwrap().iter().zip(slow["spent_ns"].as_array().unwrap());
    names.filter(|(name, _)| stages.contains(&name.as_str().unwrap())).map(|(_, ns)| ns.as_f64().unwrap() / 1e6).sum()
}

/// All services in one process, on two shards.
struct All {
    process: Child,
    console: u16,
    /// Chat, gateway, image.
    addresses: [String; 3],
}

impl All {
    fn start(folder: &Folder) -> All {
        let [console, chat, gateway, image] = std::array::from_fn(|_| free_port());
        let text = format!(
            "[engine]\nshards = 2\n[chat]\nlisten = \"127.0.0.1:{chat}\"\n[image]\nlisten = \"127.0.0.1:{image}\"\n\
             [console]\nlisten = \"127.0.0.1:{console}\"\n"
        );
        let config = folder.file("annulus.toml", &text);
        // Behind the gateway are the other two.
        let backends = [chat, image].map(|port| {
            format!(r#"{{"host": ["http://127.0.0.1:{port}"], "url_pattern": "/health", "group": "of{port}"}}"#)
        });
        let shop = format!(
            r#"{{"version": 3, "port": {gateway}, "listen_ip": "127.0.0.1",
                "endpoints": [{{"endpoint": "/both", "backend": [{}]}}]}}"#,
            backends.join(",")
        );
        let shop = folder.file("gateway.json", &shop);
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
        command.arg("run").arg("--config").arg(config).arg("--gateway").arg(shop).arg("--data").arg(folder.data());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let addresses = [chat, gateway, image].map(|port| format!("127.0.0.1:{port}"));
        let all = All { process, console, addresses };
        let ports = [console, chat, gateway, image];
        until("all services listen", || ports.iter().all(|&port| TcpStream::connect(("127.0.0.1", port)).is_ok()));
        all
    }
}

impl Drop for All {
    fn drop(&mut self) {
        // The browser's script may have ended it.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[test]
fn the_page_shows_what_all_services_do_and_says_when_nothing_is_known() {
    let Some(browser) = Browser::start("the console in a browser") else { return };
    let folder = Folder::new();
    let all = All::start(&folder);
    let [chat, gateway, image] = &all.addresses;
    let page = format!("http://127.0.0.1:{}/", all.console);
    let (pid, pictures) = (all.process.id().to_string(), std::env::var("ANNULUS_PICTURES").unwrap_or_default());
    let arguments = [&page, &browser.devtools, chat, gateway, image, &pid, &pictures].map(String::as_str);
    passes(Path::new("node"), "run-console.mjs", &arguments);
}

#[test]
fn figures_are_told_once_and_those_of_other_processes_beside_them() {
    let folder = Folder::new();
    let (first, first_port) = chat(&folder, "", "sample_hz = 0");
    let nobody = free_port();
    let others = format!("others = [\"localhost:{first_port}\", \"127.0.0.1:{nobody}\"]\nsample_hz = 0");
    let second_folder = Folder::new();
    let (second, port) = chat(&second_folder, "", &others);
    let mut client = Raw::connect(first.address, "ann");
    client.say(r#"{"id":2,"subscribe":{"channel":"room"}}"#);
    client.hear_of(r#""id":2"#);
    for id in 3..13 {
        client.say(&format!(r#"{{"id":{id},"publish":{{"channel":"room","data":{id}}}}}"#));
        client.hear_of(&format!(r#""id":{id}"#));
    }
    let sum = |points: &Value, name: &str| -> f64 {
        let told = points.as_array().unwrap().iter();
        told.map(|point| point["chat"][name].as_f64().unwrap() * point["over_ms"].as_f64().unwrap() / 1e3).sum()
    };
    // Its own, without its others: that is for who asks on behalf of another page.
    let mut own = Value::Null;
    let mut pause = Instant::now();
    while sum(own["processes"][0].get("points").unwrap_or(&Value::Array(Vec::new())), "publications") < 9.9 {
        assert!(pause.elapsed() < PATIENCE, "{own}");
        std::thread::sleep(Duration::from_millis(100));
        own = json(first_port, "/figures?own=yes");
    }
    let head = &own["processes"][0]["head"];
    assert_eq!((&head["name"], &head["shards"], &head["inside"]), (&"annulus chat".into(), &1.into(), &"open".into()));
    assert_eq!(head["services"][0]["url"], format!("http://{}", first.address));
    assert!(head["memory"].as_array().unwrap().iter().all(|of| of["used"].as_u64() < of["budget"].as_u64()), "{head}");
    let points = own["processes"][0]["points"].as_array().unwrap();
    assert!(points.iter().any(|point| point["chat"]["times"]["count"].as_u64() >= Some(1)), "{own}");
    assert!(points.iter().all(|point| point["busy"].as_array().unwrap().len() == 1), "{own}");
    // What was seen is not told again.
    let newest = own["newest"].as_u64().unwrap();
    let told = json(first_port, &format!("/figures?after={newest}"));
    assert!(told["processes"][0]["points"].as_array().unwrap().len() <= 2, "{told}");
    assert_eq!(ask(first_port, "/figures?after=a", "").0, 400);
    // The other console has the same, and says whom it cannot reach.
    pause = Instant::now();
    let all = loop {
        let all = json(port, "/figures");
        let [_, reached, gone] = &all["processes"].as_array().unwrap()[..] else { panic!("{all}") };
        if sum(&reached["points"], "publications") >= 9.9 && gone["trouble"].is_string() {
            break all;
        }
        assert!(pause.elapsed() < PATIENCE, "{all}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(all["processes"][0]["head"]["pid"], second.process.id());
    assert_eq!(all["processes"][1]["head"]["pid"], first.process.id());
    assert_eq!((&all["processes"][1]["trouble"], &all["processes"][2]["head"]), (&Value::Null, &Value::Null));
    // One that leaves is named, and what it told stays.
    drop(client);
    first.stop();
    let gone = || json(port, "/figures")["processes"][1].clone();
    until("the other is missed", || gone()["trouble"].as_str().is_some_and(|why| why.contains("localhost")));
    assert!(sum(&gone()["points"], "publications") >= 9.9);
    second.stop();
}

#[test]
fn a_planted_stall_is_found_with_its_stack_in_the_metrics_and_in_what_it_delayed() {
    let folder = Folder::new();
    let check = |index: usize| format!(r#"{{"properties":{{"t":{{"maxLength":{}}}}}}}"#, 100_000 + index);
    let group: Vec<String> = (0..GROUP).map(check).collect();
    let references = vec![r##"{"$ref":"#/$defs/group"}"##; CHECKS / GROUP].join(",");
    let schema = format!(r#"{{"allOf":[{references}],"$defs":{{"group":{{"allOf":[{}]}}}}}}"#, group.join(","));
    let schema = folder.file("schema.json", &schema);
    let namespaces = format!(
        "[[chat.namespaces]]\nname = \"slow\"\nack = \"mem\"\nschema = \"{}\"\n\
         [[chat.namespaces]]\nname = \"fast\"\nack = \"mem\"\n",
        schema.display()
    );
    let (chat, port) = chat(&folder, &namespaces, "");
    let (mut culprit, mut victim) = (Raw::connect(chat.address, "culprit"), Raw::connect(chat.address, "victim"));
    let publish = |id: usize, channel: &str| {
        format!(r#"{{"id":{id},"publish":{{"channel":"{channel}:a","data":{{"t":"a text to look at"}}}}}}"#)
    };
    for id in 2..20 {
        victim.say(&publish(id, "fast"));
        victim.hear_of(&format!(r#""id":{id}"#));
    }
    // Until the watchdog has seen one, too. It reports one in ten seconds, and the disk may have been the first.
    let planted = || {
        let stalls = json(port, "/debug/stalls?format=json");
        let is_it = |stall: &&Value| stall["frames"].to_string().contains("jsonschema");
        stalls.as_array().unwrap().iter().find(is_it).cloned()
    };
    let patience = Instant::now() + PATIENCE;
    let mut id = 20;
    while planted().is_none() {
        assert!(Instant::now() < patience, "no stall was seen");
        culprit.say(&publish(id, "slow"));
        std::thread::sleep(Duration::from_millis(8));
        victim.say(&publish(id, "fast"));
        victim.hear_of(&format!(r#""id":{id}"#));
        culprit.hear_of(&format!(r#""id":{id}"#));
        id += 1;
    }
    let stall = planted().unwrap();
    assert!(stall["lasted_ms"].as_u64().unwrap() >= 25, "{stall}");
    let (_, text) = ask(port, "/debug/stalls", "");
    assert!(text.contains("shard 0 stalled") && text.contains("jsonschema"), "{text}");
    if !chat.logged().contains("no profile of what was") {
        let (_, flames) = ask(port, "/debug/flamegraph?last=60&format=collapsed", "");
        let planted =
            |line: &str| line.starts_with("shard-0;a turn that took too long;") && line.contains("jsonschema");
        assert!(flames.lines().any(planted), "{flames}");
    }
    assert!(chat.figure("annulus_stalls_total") >= 1.0);
    let kinds = json(port, "/debug/attribution?format=json");
    let replies = kinds.as_array().unwrap().iter().find(|kind| kind["kind"] == "chat reply").unwrap();
    let slowest = replies["slowest"].as_array().unwrap();
    let has = |stages: &[&str]| slowest.iter().filter(|slow| spent_ms(replies, slow, stages) >= 25.0).count();
    assert!(has(&["work"]) >= 1, "the culprit's own: {replies}");
    assert!(has(&["socket", "queue"]) >= 1, "the victim's wait: {replies}");
    let (_, table) = ask(port, "/debug/attribution", "");
    assert!(table.contains("chat reply: From a publish command's arrival"), "{table}");
    let (_, picture) = ask(port, "/debug/attribution?format=svg&kind=chat+reply", "");
    assert!(picture.starts_with("<svg") && picture.contains("socket"), "{picture}");
    let shards = json(port, "/debug/shards?seconds=1");
    assert!(shards["shards"][0]["since_start"]["stalls"].as_u64().unwrap() >= 1, "{shards}");
    assert!(shards["shards"][0]["connections"].as_u64().unwrap() >= 2, "{shards}");
    chat.stop();
}

#[test]
fn flamegraphs_tell_shards_and_classes_apart() {
    let folder = Folder::new();
    let (chat, port) = chat(&folder, "", "");
    if chat.logged().contains("no profile of what was") {
        chat.stop();
        return not_run(
            "flamegraphs of a running service",
            "this machine forbids perf events: kernel.perf_event_paranoid",
        );
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Raw::connect(chat.address, "busy");
            for round in 0.. {
                let ids = 2 + round * 50..52 + round * 50;
                let many: Vec<String> =
                    ids.clone().map(|id| format!(r#"{{"id":{id},"history":{{"channel":"a"}}}}"#)).collect();
                client.say(&many.join("\n"));
                client.hear_of(&format!(r#""id":{}"#, ids.end - 1));
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let looks = |text: &str| {
            let has = |what: &str| text.lines().any(|line| line.contains(what));
            has("shard-0;interactive tasks;") && has("kernel: submit, wait, take") && has("chat::hub")
        };
        let outcome = std::panic::catch_unwind(|| {
            let (status, burst) = ask(port, "/debug/flamegraph?seconds=2&hz=499&format=collapsed", "");
            assert!(status == 200 && looks(&burst), "{status}: {burst}");
            // A look is taken for a second out of twenty: the next one comes.
            let patience = Instant::now() + PATIENCE;
            loop {
                let (status, last) = ask(port, "/debug/flamegraph?last=60&format=collapsed", "");
                if status == 200 && looks(&last) {
                    break;
                }
                assert!(Instant::now() < patience, "{status}: {last}");
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let (status, svg) = ask(port, "/debug/flamegraph?last=60", "");
    assert!(status == 200 && svg.contains("<svg") && svg.contains("interactive tasks"), "{status}: {svg}");
    chat.stop();
}

#[test]
fn the_inside_is_for_those_who_may_look() {
    let folder = Folder::new();
    let (open, port) = chat(&folder, "", "sample_hz = 0");
    assert_eq!(ask(port, "/debug/stalls", "").0, 200);
    assert_eq!(ask(port, "/debug/stalls", "Host: rebound.example:9900\r\n").0, 403);
    assert_eq!(ask(port, "/debug/stalls", "Origin: http://evil.example\r\n").0, 403);
    assert_eq!(ask(port, "/", "Host: rebound.example:9900\r\n").0, 200);
    for path in ["/", "/page.css", "/page.js", "/plot.js", "/figures", "/debug/", "/metrics"] {
        assert_eq!(ask(port, path, "").0, 200, "{path}");
    }
    let (status, body) = ask(port, "/debug/flamegraph?last=5", "");
    assert!(status == 503 && body.contains("sample_hz"), "{body}");
    for (target, says) in [
        ("/debug/flamegraph?seconds=0", "from 1 to 60"),
        ("/debug/flamegraph?seconds=1&hz=100000", "from 1 to 999"),
        ("/debug/flamegraph?format=pdf", "svg or collapsed"),
        ("/debug/shards?seconds=a", "seconds"),
        ("/debug/attribution?format=pdf", "format"),
    ] {
        let (status, body) = ask(port, target, "");
        // Nothing may have been traced.
        assert!(matches!(status, 400 | 404) && (status == 404 || body.contains(says)), "{target}: {status} {body}");
    }
    assert_eq!(ask(port, "/debug/nothing", "").0, 404);
    open.stop();
    let folder = Folder::new();
    let (closed, port) = chat(&folder, "", &format!("token = \"{TOKEN}\""));
    for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic a\r\n"] {
        assert_eq!(ask(port, "/debug/stalls", fields).0, 401, "{fields}");
    }
    assert_eq!(ask(port, "/debug/stalls?token=wrong", "").0, 401);
    assert_eq!(ask(port, "/debug/stalls", &format!("Authorization: Bearer {TOKEN}\r\n")).0, 200);
    assert_eq!(ask(port, &format!("/debug/stalls?token={}", TOKEN.replace(' ', "+")), "").0, 200);
    closed.stop();
}
