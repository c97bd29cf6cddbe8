//! What the chat is asked that it must refuse, and whom it must not believe.

use super::super::forge::{self, EXPIRES};
use super::super::raw;
use super::super::socket::{self, FIN, Heard, PING, Socket, TEXT};
use super::super::spy::Spy;
use super::super::stage::{API_KEY, ORIGIN, Stage, WEBSOCKET, joined, joining, token};
use super::super::tables::{EVIL_ORIGINS, Tried, asked, oversized, rebound};
use crate::generator::MASK;
use serde_json::{Value, json};
use std::time::Duration;

/// A message's largest size (`message_bytes_max`).
const MESSAGE_BYTES_MAX: usize = 65_536;
/// How long events of the chat may take until they are told.
const EVENTS_MAX: Duration = Duration::from_millis(1500);

pub fn too_large(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let mut tried = oversized(stage, "/emulation", 8 << 20, b"{")?;
    let mut say = |what: &str, bytes: &[u8], expected: &[&str]| -> Result<(), String> {
        let mut socket = joined(stage.address, "large", &[])?;
        let _refused_early = socket.send(bytes);
        let answer = socket.hear().text();
        tried.push(Tried { what: what.to_owned(), holds: expected.contains(&answer.as_str()), answer });
        Ok(())
    };
    let claim = |length: u64| [&[FIN | TEXT, 0x80 | 127][..], &length.to_be_bytes(), &MASK].concat();
    let command = |text: String| socket::text(&text);
    let many: Vec<String> =
        (0..200).map(|id| format!(r#"{{"id":{},"subscribe":{{"channel":"many-{id}"}}}}"#, id + 10)).collect();
    say("a message that says it has 2^62 bytes", &claim(1 << 62), &["close 1009"])?;
    say("a message that says it has 2^64 - 1 bytes", &claim(u64::MAX), &["close 1009", "close 1002"])?;
    say("a message of a byte too many", &claim(MESSAGE_BYTES_MAX as u64 + 1), &["close 1009"])?;
    say("a ping of 126 bytes", &socket::frame(FIN | PING, &[0; 126]), &["close 1002"])?;
    say("a frame that is not masked", &[FIN | TEXT, 2, b'{', b'}'], &["close 1002"])?;
    say("text that is no UTF-8", &socket::frame(FIN | TEXT, b"\"\xff\xfe\""), &["close 1007"])?;
    let name = "a".repeat(10_000);
    say(
        "a channel of 10,000 letters",
        &command(format!(r#"{{"id":7,"subscribe":{{"channel":"{name}"}}}}"#)),
        &["error 107"],
    )?;
    say(
        "data of 70,000 bytes",
        &command(format!(r#"{{"id":7,"publish":{{"channel":"a","data":"{}"}}}}"#, "x".repeat(70_000))),
        &["close 1009"],
    )?;
    say(
        "a history of 10^18",
        &command(r#"{"id":7,"history":{"channel":"a","limit":1000000000000000000}}"#.to_owned()),
        &["reply", "error 107", "close 3501"],
    )?;
    let mut socket = joined(stage.address, "many", &[])?;
    socket.send(&socket::text(&many.join("\n")))?;
    let mut limits = 0;
    for _ in 0..many.len() {
        match socket.hear() {
            Heard::Line(line) if line["error"]["code"] == 106 => limits += 1,
            Heard::Line(_) => {}
            _ => break,
        }
    }
    // The channel limit is 128.
    let answer = format!("{limits} x error 106");
    tried.push(Tried { what: "200 subscriptions".to_owned(), answer, holds: limits == 200 - 128 });
    Ok(tried)
}

pub fn origins(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let mut tried = Vec::new();
    for (origin, may) in EVIL_ORIGINS.iter().map(|origin| (*origin, false)).chain([(ORIGIN, true)]) {
        let field = format!("Origin: {origin}\r\n");
        let answer = match Socket::open(stage.address, WEBSOCKET, &field) {
            Ok(_) => "status 101".to_owned(),
            Err(why) => why,
        };
        let expected = if may { "status 101" } else { "status 403" };
        tried.push(Tried { what: format!("a WebSocket of {origin}"), holds: answer == expected, answer });
        if !may {
            let connect = format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, token("page"));
            for path in ["/connection/http_stream", "/emulation"] {
                tried.push(asked(
                    stage,
                    &format!("{path} of {origin}"),
                    &raw::request("POST", path, &field, connect.as_bytes()),
                    &[403],
                )?);
            }
        }
    }
    let twice = format!("Origin: {ORIGIN}\r\nOrigin: https://evil.example\r\n");
    let answer = Socket::open(stage.address, WEBSOCKET, &twice).map_or_else(|why| why, |_| "status 101".to_owned());
    tried.push(Tried { what: "two origins".to_owned(), holds: answer != "status 101", answer });
    Ok(tried)
}

/// What becomes of a connection with this token.
fn connected_with(stage: &Stage<'_>, token: &str) -> Result<Heard, String> {
    let mut socket = Socket::open(stage.address, WEBSOCKET, "")?;
    socket.send(&socket::text(&json!({ "id": 1, "connect": { "token": token } }).to_string()))?;
    Ok(socket.hear())
}

pub fn tokens(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let claims = json!({ "sub": "ann", "exp": EXPIRES });
    let good = forge::hs(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, forge::SECRET.as_bytes());
    let good = [("the good one", good)];
    let mut tried = Vec::new();
    for (what, token) in good.into_iter().chain(forge::forged_hs_rsa(&claims)) {
        let answer = connected_with(stage, &token)?.text();
        let expected: &[&str] =
            if what == "the good one" { &["reply"] } else { &["close 3500", "close 3501", "error 109", "error 103"] };
        tried.push(Tried { what: what.to_owned(), holds: expected.contains(&answer.as_str()), answer });
    }
    let nobody = connected_with(stage, "")?.text();
    tried.push(Tried { what: "no token".to_owned(), holds: nobody == "close 3501", answer: nobody });
    Ok(tried)
}

pub fn replays(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let secret = forge::SECRET.as_bytes();
    let sign = |claims: &Value| forge::hs(&json!({ "alg": "HS256" }), claims, secret);
    let mut ann = Socket::open(stage.address, WEBSOCKET, "")?;
    ann.send(&socket::text(&joining("ann", &[])))?;
    let Heard::Line(connected) = ann.reply(1) else { return Err("the first client did not come in".to_owned()) };
    let client = connected["connect"]["client"].clone();
    let claims = json!({ "sub": "ann", "channel": "$secret", "client": client, "exp": EXPIRES });
    let of_ann = sign(&claims);
    let subscribe = |socket: &mut Socket, channel: &str, token: &str| -> Result<String, String> {
        let command = json!({ "id": 7, "subscribe": { "channel": channel, "token": token } });
        socket.send(&socket::text(&command.to_string()))?;
        Ok(socket.reply(7).text())
    };
    let mut tried = Vec::new();
    let mut note = |what: &str, answer: String, may: bool| {
        tried.push(Tried { what: what.to_owned(), holds: (answer == "reply") == may, answer });
    };
    note("its own client, its own channel", subscribe(&mut ann, "$secret", &of_ann)?, true);
    let other = |user: &str| joined(stage.address, user, &[]);
    note("another client of the same user", subscribe(&mut other("ann")?, "$secret", &of_ann)?, false);
    note("another user's client", subscribe(&mut other("bob")?, "$secret", &of_ann)?, false);
    note("another channel", subscribe(&mut ann, "$other", &of_ann)?, false);
    let mut ann = other("ann")?;
    let of_user = |claims: Value| sign(&claims);
    note(
        "a token of another user",
        subscribe(
            &mut other("bob")?,
            "$secret",
            &of_user(json!({ "sub": "ann", "channel": "$secret", "exp": EXPIRES })),
        )?,
        false,
    );
    note(
        "one that has ended",
        subscribe(&mut ann, "$secret", &of_user(json!({ "sub": "ann", "channel": "$secret", "exp": 1_600_000_000 })))?,
        false,
    );
    note("a connection's token", subscribe(&mut other("ann")?, "$secret", &token("ann"))?, false);
    note("no token", subscribe(&mut other("ann")?, "$secret", "")?, false);
    let as_connection = connected_with(stage, &of_user(json!({ "sub": "ann", "channel": "$secret", "exp": EXPIRES })))?;
    note("a subscription's token to connect with", as_connection.text(), false);
    for (what, session) in
        [("a made-up session", "made-up"), ("a session of zeros", "00000000000000000000000000000000")]
    {
        let body = json!({ "session": session, "node": "1", "data": "{\"id\":1,\"ping\":{}}" }).to_string();
        tried.push(asked(stage, what, &raw::request("POST", "/emulation", "", body.as_bytes()), &[400, 404])?);
    }
    Ok(tried)
}

pub fn without_a_key(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let mut tried = Vec::new();
    for method in ["publish", "info", "channels", "history", "disconnect", "subscribe", "batch", "broadcast"] {
        for (what, fields) in [
            ("no key", String::new()),
            ("an empty key", "X-API-Key: \r\n".to_owned()),
            ("half a key", format!("X-API-Key: {}\r\n", &API_KEY[..8])),
            ("a key and more", format!("X-API-Key: {API_KEY}x\r\n")),
            ("two keys", format!("X-API-Key: x\r\nX-API-Key: {API_KEY}\r\n")),
            ("a client's token", format!("Authorization: Bearer {}\r\n", token("ann"))),
        ] {
            let request = raw::request("POST", &format!("/api/{method}"), &fields, b"{}");
            tried.push(asked(stage, &format!("{method}, {what}"), &request, &[400, 401])?);
        }
    }
    for path in [
        "/api/../api/info",
        "/api//info",
        "/API/info",
        "/api/info/",
        "/api/%69nfo",
        "/admin/../api/info",
        "/../../../../etc/passwd",
        "/admin/..%2f..%2fetc/passwd",
    ] {
        tried.push(asked(stage, path, &raw::request("POST", path, "", b"{}"), &[400, 401, 403, 404, 405])?);
    }
    let good = raw::request("POST", "/api/info", &format!("X-API-Key: {API_KEY}\r\n"), b"{}");
    tried.push(asked(stage, "the good key", &good, &[200])?);
    Ok(tried)
}

/// Chats of their own whose events are to go where they must not.
pub fn events(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let yard = stage.yard;
    let endpoint = |url: &str, more: &str| {
        format!("[chat.events]\nendpoint = {url:?}\nsecret = \"0123456789abcdef0123456789abcdef\"\n{more}")
    };
    let mut tried = Vec::new();
    let mut told_where = |what: &str, text: &str, watched: &Spy, may: bool| -> Result<(), String> {
        watched.take();
        let answer = match yard.chat(text) {
            Err(_) => "refused at the start".to_owned(),
            Ok(server) => {
                let _client = joined(server.address, "ann", &["a"])?;
                std::thread::sleep(EVENTS_MAX);
                if watched.take().is_empty() { "not told".to_owned() } else { "told".to_owned() }
            }
        };
        tried.push(Tried { what: what.to_owned(), holds: (answer == "told") == may, answer });
        Ok(())
    };
    let secret = yard.secret.address;
    let port = secret.port();
    told_where("this machine", &endpoint(&format!("http://{secret}/"), ""), &yard.secret, false)?;
    told_where("localhost", &endpoint(&format!("http://localhost:{port}/"), ""), &yard.secret, false)?;
    told_where(
        "this machine in IPv6",
        &endpoint(&format!("http://[::ffff:127.0.0.1]:{port}/"), ""),
        &yard.secret,
        false,
    )?;
    told_where("this machine as a number", &endpoint(&format!("http://2130706433:{port}/"), ""), &yard.secret, false)?;
    told_where("nobody's address", &endpoint(&format!("http://0.0.0.0:{port}/"), ""), &yard.secret, false)?;
    if let Some(name) = rebound() {
        told_where(
            "a name that means this machine when it is asked",
            &endpoint(&format!("http://{name}:{port}/"), ""),
            &yard.secret,
            false,
        )?;
    }
    let allowed = endpoint(&format!("http://{}/redirect", yard.spy.address), "allow_private = true\n");
    told_where("this machine where that is allowed", &allowed, &yard.spy, true)?;
    told_where("where that one redirects", &allowed, &yard.secret, false)?;
    Ok(tried)
}
