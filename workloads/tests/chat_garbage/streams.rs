//! Clients without a WebSocket: what they are told, what they may not do, how their end is noticed, and that one who does not
//! read costs no more than another.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::chat_rig::frames::Raw;
use super::chat_rig::streams::{Kind, Stream, post, send};
use super::chat_rig::{Chat, Folder, Setup, until};
use super::outside::has;

const CONFIG: &str = r#"
http_stream = true
sse = true
allowed_origins = ["https://*.example.com"]
message_bytes_max = 4096
[chat.log]
enabled = false
[chat.client]
stale_close_delay = "5s"
[[chat.namespaces]]
name = "strict"
history_size = 0
"#;
/// A client that breaks off is gone, on a busy machine, long before anything that is looked at from time to time.
const PROMPTLY: Duration = Duration::from_secs(3);
const CONNECT: &str = r#"{"id":1,"connect":{"data":{"user":"eve"}}}"#;

fn start(shards: &'static str) -> (Folder, Chat) {
    let folder = Folder::new();
    let chat = Setup { shards, ..Setup::ours(CONFIG) }.start(&folder);
    (folder, chat)
}

fn present(chat: &Chat, channel: &str) -> u64 {
    let answer = chat.call("presence_stats", &format!(r#"{{"channel":"{channel}"}}"#));
    answer["result"]["num_clients"].as_u64().unwrap()
}

#[test]
fn a_room_of_all_carriers_hears_the_same() {
    for shards in ["1", "2"] {
        let (_folder, chat) = start(shards);
        let mut socket = Raw::connect(chat.address, "ann");
        socket.say(r#"{"id":2,"subscribe":{"channel":"room","join_leave":true}}"#);
        socket.hear_of(r#""subscribe":{"#);
        let mut streams: Vec<Stream> = Kind::ALL.map(|kind| Stream::connect(chat.address, kind, "bob")).into();
        for stream in &mut streams {
            // Several commands in one message, and what follows them in another request.
            let commands =
                "{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}\n{\"id\":3,\"presence_stats\":{\"channel\":\"room\"}}";
            assert_eq!(stream.say(chat.address, commands), 204);
            assert!(stream.hear().contains(r#""id":2,"subscribe":{"#));
            assert!(stream.hear().contains(r#""id":3,"presence_stats":{"#));
            socket.hear_of(r#""join":{"info":{"user":"bob""#);
        }
        assert_eq!(present(&chat, "room"), 3);
        for number in 0..20 {
            let text = format!("{{\"id\":9,\"publish\":{{\"channel\":\"room\",\"data\":{{\"n\":\t{number}}}}}}}");
            assert_eq!(streams[number % 2].say(chat.address, &text), 204);
            let told = format!("{{\"n\":\t{number}}}");
            assert!(socket.hear_of(r#""pub":{"#).contains(&told));
            for stream in &mut streams {
                assert!(stream.hear_of(r#""pub":{"#).contains(&told));
            }
        }
        for (at, transport) in ["websocket", "http_stream", "sse"].iter().enumerate() {
            let label = format!("transport=\"{transport}\"");
            assert_eq!(chat.figure_with("annulus_chat_sessions", &label), 1.0, "{at}");
        }
        // The API finds them, also by the name of their session.
        let [first, second] = [0, 1].map(|at: usize| streams[at].session.clone());
        chat.call("unsubscribe", &format!(r#"{{"user":"bob","channel":"room","session":"{first}"}}"#));
        assert!(streams[0].hear_of("unsubscribe").contains("2000"));
        chat.call("disconnect", &format!(r#"{{"user":"bob","session":"{second}"}}"#));
        assert_eq!(streams[1].end(), Some(3503));
        assert_eq!(present(&chat, "room"), 1);
        chat.stop();
        assert_eq!(streams[0].end(), Some(3001));
    }
}

#[test]
fn a_client_that_breaks_off_is_gone_at_once() {
    let (_folder, chat) = start("2");
    for (kind, how) in Kind::ALL.into_iter().flat_map(|kind| [(kind, "closed"), (kind, "half closed"), (kind, "reset")])
    {
        let mut stream = Stream::connect(chat.address, kind, "bob");
        stream.say(chat.address, r#"{"id":2,"subscribe":{"channel":"gone"}}"#);
        stream.hear();
        assert_eq!(present(&chat, "gone"), 1);
        let broke_off = Instant::now();
        let kept = match how {
            "half closed" => {
                stream.socket.shutdown(Shutdown::Write).unwrap();
                Some(stream)
            }
            "reset" => {
                // What was received and not read makes the kernel reset the connection.
                chat.call("publish", r#"{"channel":"gone","data":1}"#);
                std::thread::sleep(Duration::from_millis(20));
                drop(stream);
                None
            }
            _ => {
                drop(stream);
                None
            }
        };
        until("its presence ends", || present(&chat, "gone") == 0);
        assert!(broke_off.elapsed() < PROMPTLY, "{kind:?} {how}: {:?}", broke_off.elapsed());
        drop(kept);
    }
    assert_eq!(chat.figure("annulus_chat_sessions"), 0.0);
    assert_eq!(chat.figure("annulus_chat_clients"), 0.0);
    chat.stop();
}

#[test]
fn curl_over_both_streams() {
    if !has("curl", "curl over HTTP streams and server-sent events") {
        return;
    }
    let (_folder, chat) = start("2");
    let base = format!("http://{}", chat.address);
    for (kind, arguments) in [
        (Kind::Http, vec!["--data".to_owned(), CONNECT.to_owned(), format!("{base}/connection/http_stream")]),
        (
            Kind::Events,
            vec![
                "-G".to_owned(),
                "--data-urlencode".to_owned(),
                format!("cf_connect={CONNECT}"),
                format!("{base}/connection/sse"),
            ],
        ),
    ] {
        let mut curl = Command::new("curl").args(["-sN"]).args(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut line = || lines.find(|line| !line.trim().is_empty()).unwrap();
        let reply = line();
        let reply: serde_json::Value = serde_json::from_str(reply.strip_prefix("data: ").unwrap_or(&reply)).unwrap();
        let data = r#"{"id":2,"subscribe":{"channel":"curl"}}"#;
        let body = serde_json::json!({
            "session": reply["connect"]["session"], "node": reply["connect"]["node"], "data": data
        });
        let status = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data", &body.to_string()])
            .arg(format!("{base}/emulation"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&status.stdout), "204", "{kind:?}");
        assert!(line().contains(r#""subscribe":{"#));
        chat.call("publish", r#"{"channel":"curl","data":"to curl"}"#);
        assert!(line().contains("to curl"));
        curl.kill().unwrap();
        curl.wait().unwrap();
        until("curl is gone", || present(&chat, "curl") == 0);
    }
    chat.stop();
}

#[test]
fn requests_that_nobody_should_send() {
    let (_folder, chat) = start("2");
    let address = chat.address;
    let witness = Stream::connect(address, Kind::Http, "witness");
    let (session, node) = (&witness.session, &witness.node);
    // Emulation: what is no request, too large, or for nobody.
    let emulation = |body: &str| post(address, "/emulation", "", body.as_bytes()).0;
    for body in ["", "{", "[]", "1", r#"{"session":1}"#, r#"{"data":{"id":1}}"#] {
        assert_eq!(emulation(body), 400, "{body}");
    }
    let forged = session.replace(&session[20..22], if &session[20..22] == "00" { "11" } else { "00" });
    for (session, node) in [("", node.as_str()), ("x", node), (session, ""), (session, "another"), (&forged, node)] {
        let body = format!(r#"{{"session":"{session}","node":"{node}","data":"{{}}"}}"#);
        assert_eq!(emulation(&body), 404, "{body}");
    }
    assert_eq!(emulation(&witness.request(&"x".repeat(4097))), 413);
    assert_eq!(emulation(&witness.request(&"x".repeat(20_000))), 413);
    assert_eq!(post(address, "/emulation", "Content-Type: application/octet-stream\r\n", b"\x0a\x05n").0, 400);
    // Bytes in Protobuf for a session: too short for what they say.
    // Streams: too large, by the wrong method, from a page that may not.
    assert_eq!(post(address, "/connection/http_stream", "", &[b' '; 5000]).0, 413);
    assert_eq!(send(address, b"GET /connection/http_stream HTTP/1.1\r\nHost: chat\r\n\r\n").0, 405);
    assert_eq!(send(address, b"PUT /connection/sse HTTP/1.1\r\nHost: chat\r\n\r\n").0, 405);
    assert_eq!(send(address, b"GET /emulation HTTP/1.1\r\nHost: chat\r\n\r\n").0, 405);
    for path in ["/connection/http_stream", "/connection/sse", "/emulation"] {
        let (status, text) = post(address, path, "Origin: https://evil.example\r\n", CONNECT.as_bytes());
        assert_eq!(status, 403, "{path}: {text}");
        assert!(!text.contains("access-control"), "{text}");
        let asks = |origin: &str| {
            let head = format!(
                "OPTIONS {path} HTTP/1.1\r\nHost: chat\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: content-type, x-own\r\n\r\n"
            );
            send(address, head.as_bytes())
        };
        assert_eq!(asks("https://evil.example").0, 403);
        let (status, text) = asks("https://a.example.com");
        assert_eq!(status, 204);
        for field in ["origin: https://a.example.com", "headers: content-type, x-own", "credentials: true"] {
            assert!(text.contains(&format!("access-control-allow-{field}\r\n")), "{field}: {text}");
        }
    }
    let allowed = Stream::open(address, Kind::Http, CONNECT, "Origin: https://a.example.com\r\n");
    assert!(allowed.head.contains("access-control-allow-origin: https://a.example.com\r\n"), "{}", allowed.head);
    assert!(allowed.head.contains("x-accel-buffering: no\r\n"), "{}", allowed.head);
    // An old proxy's version of HTTP.
    let old = format!("POST /connection/http_stream HTTP/1.0\r\nContent-Length: {}\r\n\r\n{CONNECT}", CONNECT.len());
    let mut old = Stream::write(address, Kind::Http, old.as_bytes());
    assert!(old.hear().contains(r#""connect":{"#));
    // Nobody else noticed.
    assert_eq!(witness.say(address, r#"{"id":2,"subscribe":{"channel":"room"}}"#), 204);
    chat.stop();
}

#[test]
fn commands_that_nobody_should_give() {
    let (_folder, chat) = start("2");
    let address = chat.address;
    for kind in Kind::ALL {
        for first in ["", "{", "[]", "\n", r#"{"id":1}"#, r#"{"id":1,"publish":{"channel":"a","data":1}}"#, "{}"] {
            assert_eq!(Stream::open(address, kind, first, "").end(), Some(3501), "{kind:?} {first:?}");
        }
        assert_eq!(Stream::open(address, kind, r#"{"id":1,"connect":{"token":"a.b.c"}}"#, "").end(), Some(3500));
        for (later, code) in [("", 3501), ("{", 3501), ("{}", 3501), (CONNECT, 3501), (r#"{"send":{"data":1}}"#, 3508)]
        {
            let mut stream = Stream::connect(address, kind, "eve");
            assert_eq!(stream.say(address, later), 204);
            assert_eq!(stream.end(), Some(code), "{kind:?} {later:?}");
            // Its stream has ended, which says more than a status could.
            assert_eq!(stream.say(address, "{}"), 204);
        }
        // Nothing may come on the stream's own connection.
        let mut stream = Stream::connect(address, kind, "eve");
        std::io::Write::write_all(&mut stream.socket, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(stream.end(), Some(3501));
    }
    // Invalid UTF-8 of one would end the connections of many.
    let body = b"{\"id\":1,\"connect\":{\"data\":\"\xff\"}}";
    let head = format!("POST /connection/http_stream HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    assert_eq!(Stream::write(address, Kind::Http, &[head.as_bytes(), body].concat()).end(), Some(3501));
    assert_eq!(chat.figure("annulus_chat_sessions"), 0.0);
    chat.stop();
}

#[test]
fn a_stream_that_is_not_read_is_cut_off() {
    let (_folder, chat) = start("1");
    for kind in Kind::ALL {
        let mut stream = Stream::connect(chat.address, kind, "sleeper");
        stream.say(chat.address, r#"{"id":2,"subscribe":{"channel":"strict:a"}}"#);
        stream.hear();
        let data = "x".repeat(60_000);
        let publish = format!(r#"{{"channel":"strict:a","data":"{data}"}}"#);
        let mut published = 0;
        while chat.figure("annulus_chat_sessions") > 0.0 {
            chat.call("publish", &publish);
            published += 1;
            assert!(published < 1000, "60 MB wait for {kind:?}");
        }
        assert_eq!(present(&chat, "strict:a"), 0);
    }
    assert!(chat.figure_with("annulus_chat_closed_total", "3008") >= 2.0);
    chat.stop();
}
