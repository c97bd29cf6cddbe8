//! Requests by table, as the documentation has them and as they should not be, and what mutations of them do: nothing.

use super::*;
use annulus_protocols::json::Kind as JsonKind;

fn json(text: &str) -> Payload<'_> {
    let kind = validate(text.as_bytes()).unwrap();
    Payload { bytes: Cow::Borrowed(text.as_bytes()), kind: Some(kind) }
}

fn message(data: &str) -> Message<'_> {
    Message { data: json(data), skip_history: false, tags: vec![], idempotency_key: "".into() }
}

fn ok<'a>(method: &str, body: &'a str) -> Request<'a> {
    let request = read(method, body.as_bytes()).unwrap_or_else(|fault| panic!("{method} {body}: {fault}"));
    assert_eq!(request.method(), method);
    request
}

const USER: &str = "42";

fn user<'a>() -> Whom<'a> {
    Whom { user: USER.into(), ..Whom::default() }
}

#[test]
fn publications() {
    assert_eq!(
        ok("publish", "{\"channel\":\"chat\",\"data\":{\"text\": \"hello\"}}"),
        Request::Publish { channel: "chat".into(), message: message("{\"text\": \"hello\"}") }
    );
    let all = "{\"channel\":\"c\\u00e9\",\"data\":null,\"b64data\":\"eyJhIjoxfQ==\",\"skip_history\":true,\
               \"tags\":{\"a\":\"1\",\"b\":\"\",\"a\":\"2\"},\"idempotency_key\":\"k\",\"delta\":true,\"version\":0,\
               \"version_epoch\":\"\",\"of a later version\":[{}]}";
    let Request::Publish { channel, message: found } = ok("publish", all) else { panic!("not a publish") };
    assert_eq!(channel, "cé");
    assert_eq!((&*found.data.bytes, found.data.kind), (&b"{\"a\":1}"[..], Some(JsonKind::Object)));
    assert!(found.skip_history);
    assert_eq!(found.tags, [("a".into(), "2".into()), ("b".into(), "".into())]);
    assert_eq!(found.idempotency_key, "k");
    let binary = ok("publish", "{\"channel\":\"c\",\"data\":1,\"b64data\":\"AP8=\"}");
    assert!(
        matches!(binary, Request::Publish { message: Message { data: Payload { bytes, kind: None }, .. }, .. } if *bytes == [0, 255])
    );
    let broadcast = ok("broadcast", "{\"channels\":[\"a\",\"\"],\"data\":\"x\",\"b64data\":\"\"}");
    assert_eq!(
        broadcast,
        Request::Broadcast { channels: vec!["a".into(), "".into()], message: message("\"x\"") },
        "an empty channel is its own failure"
    );
}

#[test]
fn users() {
    let subscribe = "{\"channel\":\"c\",\"user\":\"42\",\"client\":\"u-u\",\"session\":\"s\",\"expire_at\":1700000000,\
        \"info\":{\"a\":1},\"data\":\"hi\",\"b64data\":\"MTI=\",\"recover_since\":{\"offset\":5,\"epoch\":\"e\"},\
        \"override\":{\"presence\":{\"value\":true},\"join_leave\":{\"value\":false},\"force_recovery\":{},\
        \"force_positioning\":null,\"other\":1},\"all_users\":false,\"label_filter\":null}";
    let Request::Subscribe(found) = ok("subscribe", subscribe) else { panic!("not a subscribe") };
    let overrides = Overrides {
        presence: Some(true),
        join_leave: Some(false),
        force_recovery: Some(false),
        ..Overrides::default()
    };
    let expected = Subscribe {
        channel: "c".into(),
        whom: Whom { user: USER.into(), client: "u-u".into(), session: "s".into() },
        expire_at: 1_700_000_000,
        info: Some(json("{\"a\":1}")),
        data: Some(json("12")),
        recover_since: Some(Position { offset: 5, epoch: "e".into() }),
        overrides,
    };
    assert_eq!(*found, expected);
    assert_eq!(
        ok("unsubscribe", "{\"user\":\"42\",\"channel\":\"chat\"}"),
        Request::Unsubscribe { channel: "chat".into(), whom: user() }
    );
    assert_eq!(
        ok("unsubscribe", "{\"user\":\"42\"}"),
        Request::Unsubscribe { channel: "".into(), whom: user() },
        "without a channel it is all of them"
    );
    let close = Close { code: 3503, reason: "force disconnect".into() };
    assert_eq!(ok("disconnect", "{\"user\":\"42\"}"), Request::Disconnect { whom: user(), close, whitelist: vec![] });
    let close = Close { code: 4000, reason: "custom".into() };
    assert_eq!(
        ok(
            "disconnect",
            "{\"user\":\"42\",\"disconnect\":{\"code\":4000,\"reason\":\"custom\"},\"whitelist\":[\"u\"]}"
        ),
        Request::Disconnect { whom: user(), close, whitelist: vec!["u".into()] }
    );
    assert_eq!(
        ok("refresh", "{\"user\":\"42\",\"expired\":true,\"expire_at\":-1,\"info\":[]}"),
        Request::Refresh(Refresh { whom: user(), expired: true, expire_at: -1, info: Some(json("[]")) })
    );
}

#[test]
fn channels() {
    assert_eq!(ok("presence", "{\"channel\":\"c\"}"), Request::Presence { channel: "c".into() });
    assert_eq!(ok("presence_stats", "{\"channel\":\"c\"}"), Request::PresenceStats { channel: "c".into() });
    assert_eq!(ok("history_remove", "{\"channel\":\"c\"}"), Request::HistoryRemove { channel: "c".into() });
    let since = Some(Position { offset: 3, epoch: "e".into() });
    assert_eq!(
        ok("history", "{\"channel\":\"c\",\"limit\":-1,\"since\":{\"offset\":3,\"epoch\":\"e\"},\"reverse\":true}"),
        Request::History(History { channel: "c".into(), limit: -1, since, reverse: true })
    );
    assert_eq!(
        ok("history", "{\"channel\":\"c\"}"),
        Request::History(History { channel: "c".into(), ..History::default() })
    );
    assert_eq!(ok("channels", "{\"pattern\":\"chat:*\"}"), Request::Channels { pattern: "chat:*".into() });
    assert_eq!(ok("channels", ""), Request::Channels { pattern: "".into() });
    assert_eq!(ok("info", ""), Request::Info);
    assert_eq!(ok("info", " {} "), Request::Info);
}

#[test]
fn batches() {
    let body = "{\"parallel\":true,\"commands\":[{\"publish\":{\"channel\":\"a\",\"data\":1}},{\"presence\":{}},null,{},\
                {\"info\":{},\"publish\":null,\"broadcast\":{\"channels\":[\"x\"],\"data\":2}},{\"batch\":{\"commands\":[]}},\
                {\"rpc\":{\"method\":\"m\"}},{\"map_clear\":{\"channel\":\"a\"}},{\"revoke_token\":{\"user\":\"u\"}}]}";
    let Request::Batch { commands, parallel } = ok("batch", body) else { panic!("not a batch") };
    assert!(parallel);
    let expected = [
        Ok(Request::Publish { channel: "a".into(), message: message("1") }),
        Err(ErrorCode::BAD_REQUEST),
        Err(ErrorCode::BAD_REQUEST),
        Err(NOT_FOUND),
        Ok(Request::Broadcast { channels: vec!["x".into()], message: message("2") }),
        Err(NOT_FOUND),
        Err(NOT_FOUND),
        Err(ErrorCode::NOT_AVAILABLE),
        Err(NOT_FOUND),
    ];
    assert_eq!(commands, expected);
    assert_eq!(ok("batch", "{}"), Request::Batch { commands: vec![], parallel: false });
}

#[test]
fn refusals() {
    let long = format!("{{\"channel\":\"c\",\"data\":1,\"idempotency_key\":\"{}\"}}", "k".repeat(256));
    let reason = format!("{{\"disconnect\":{{\"code\":4000,\"reason\":\"{}\"}}}}", "r".repeat(124));
    for (method, body, error) in [
        ("publish", "{}", ErrorCode::BAD_REQUEST),
        ("publish", "{\"channel\":\"c\"}", ErrorCode::BAD_REQUEST),
        ("publish", "{\"channel\":\"c\",\"data\":null}", ErrorCode::BAD_REQUEST),
        ("publish", "{\"channel\":\"\",\"data\":1}", ErrorCode::BAD_REQUEST),
        ("publish", "{\"data\":1}", ErrorCode::BAD_REQUEST),
        ("publish", "{\"channel\":\"c\",\"b64data\":\"!\"}", ErrorCode::BAD_REQUEST),
        ("publish", &long, ErrorCode::BAD_REQUEST),
        ("publish", "{\"channel\":\"c\",\"data\":1,\"version\":1}", ErrorCode::NOT_AVAILABLE),
        ("broadcast", "{\"channels\":[\"c\"],\"data\":1,\"version_epoch\":\"e\"}", ErrorCode::NOT_AVAILABLE),
        ("broadcast", "{\"channels\":[],\"data\":1}", ErrorCode::BAD_REQUEST),
        ("broadcast", "{\"channels\":[\"c\"]}", ErrorCode::BAD_REQUEST),
        ("subscribe", "{\"user\":\"u\"}", ErrorCode::BAD_REQUEST),
        ("subscribe", "{\"channel\":\"c\",\"b64info\":\"?\"}", ErrorCode::BAD_REQUEST),
        ("subscribe", "{\"channel\":\"c\",\"all_users\":true}", ErrorCode::NOT_AVAILABLE),
        ("unsubscribe", "{\"channel\":\"c\",\"label_filter\":{\"op\":\"and\"}}", ErrorCode::NOT_AVAILABLE),
        ("disconnect", "{\"disconnect\":{\"code\":2999}}", ErrorCode::BAD_REQUEST),
        ("disconnect", "{\"disconnect\":{}}", ErrorCode::BAD_REQUEST),
        ("disconnect", &reason, ErrorCode::BAD_REQUEST),
        (
            "disconnect",
            "{\"disconnect\":{\"code\":3500,\"reason\":\" {\\\"reconnect\\\":true}\"}}",
            ErrorCode::BAD_REQUEST,
        ),
        ("presence", "{\"channel\":null}", ErrorCode::BAD_REQUEST),
        ("presence_stats", "{}", ErrorCode::BAD_REQUEST),
        ("history_remove", "{}", ErrorCode::BAD_REQUEST),
        ("history", "{\"limit\":1}", ErrorCode::BAD_REQUEST),
        ("history", "{\"channel\":\"c\",\"reverse\":true,\"since\":{\"epoch\":\"e\"}}", ErrorCode::BAD_REQUEST),
        ("channels", "{\"pattern\":\"[\"}", ErrorCode::BAD_REQUEST),
        ("rpc", "{}", ErrorCode::BAD_REQUEST),
        ("rpc", "{\"method\":\"m\",\"params\":{}}", NOT_FOUND),
        ("map_publish", "{\"channel\":\"c\"}", ErrorCode::NOT_AVAILABLE),
        ("shared_poll_publish", "{}", ErrorCode::NOT_AVAILABLE),
    ] {
        assert_eq!(read(method, body.as_bytes()), Err(Fault::Refused(error)), "{method} {body}");
    }
}

#[test]
fn what_is_no_request() {
    let many = format!("{{\"channels\":[{}\"a\"],\"data\":1}}", "\"a\",".repeat(BROADCAST_CHANNELS_MAX));
    let commands = format!("{{\"commands\":[{}{{}}]}}", "{},".repeat(BATCH_COMMANDS_MAX));
    for (method, body, status, says) in [
        ("", "{}", 404, "no such method"),
        ("publish/", "{}", 404, "no such method"),
        ("revoke_token", "{}", 404, "no such method"),
        ("connections", "{}", 404, "no such method"),
        ("publish", "", 400, "not JSON: incomplete"),
        ("publish", "{\"channel\":\"c\",\"data\":1", 400, "not JSON: incomplete"),
        ("publish", "{}{}", 400, "after the value at 2"),
        ("publish", "[]", 400, "the body has to be an object"),
        ("info", "[]", 400, "the body has to be an object"),
        ("publish", "{\"channel\":7}", 400, "channel has to be a string"),
        ("publish", "{\"tags\":{\"a\":1}}", 400, "a has to be a string"),
        ("publish", "{\"skip_history\":0}", 400, "skip_history has to be true or false"),
        ("publish", "{\"version\":-1}", 400, "version has to be an integer in range"),
        ("broadcast", "{\"channels\":[1]}", 400, "channels has to be an array of strings"),
        ("broadcast", &many, 400, "channels has to be shorter"),
        ("subscribe", "{\"override\":{\"presence\":true}}", 400, "presence has to be an object"),
        ("subscribe", "{\"recover_since\":{\"offset\":1.5}}", 400, "offset has to be an integer in range"),
        ("disconnect", "{\"disconnect\":{\"code\":70000}}", 400, "code has to be an integer in range"),
        ("history", "{\"limit\":2147483648}", 400, "limit has to be an integer in range"),
        ("batch", "{\"commands\":{}}", 400, "commands has to be an array"),
        ("batch", "{\"commands\":[1]}", 400, "a command has to be an object"),
        ("batch", "{\"commands\":[{\"publish\":1}]}", 400, "publish has to be an object"),
        ("batch", "{\"commands\":[{\"publish\":{\"channel\":1}}]}", 400, "channel has to be a string"),
        ("batch", &commands, 400, "commands has to be shorter"),
    ] {
        let fault = read(method, body.as_bytes()).unwrap_err();
        assert_eq!(fault.status(), status, "{method}");
        assert!(fault.to_string().contains(says), "{method}: {fault}");
    }
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    assert_eq!(read("info", &large), Err(Fault::TooLarge));
}

#[test]
fn mutations_are_read_or_refused() {
    let seeds: [(&str, &str); 5] = [
        (
            "publish",
            "{\"channel\":\"c\\u00e9\",\"data\":{\"a\":[1,\"x\"]},\"tags\":{\"k\":\"v\"},\"b64data\":\"AP8=\"}",
        ),
        (
            "subscribe",
            "{\"channel\":\"c\",\"override\":{\"presence\":{\"value\":true}},\"recover_since\":{\"offset\":5}}",
        ),
        ("disconnect", "{\"user\":\"u\",\"disconnect\":{\"code\":4000,\"reason\":\"r\"},\"whitelist\":[\"a\"]}"),
        (
            "batch",
            "{\"commands\":[{\"history\":{\"channel\":\"c\",\"limit\":10,\"since\":{\"offset\":1}}},{\"info\":{}}]}",
        ),
        ("channels", "{\"pattern\":\"{a,b[!c-d]\\\\e}*\"}"),
    ];
    const ALPHABET: &[u8] = b"{}[]\",:\\un0-1.eE \ntf\xc3\xa9\x00\xffab*";
    let mut word = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        (word % below as u64) as usize
    };
    let (mut read_well, mut refused) = (0, 0);
    for round in 0..40_000 {
        let (method, seed) = seeds[round % seeds.len()];
        let mut body = seed.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(body.len());
            match random(4) {
                // One byte stays, so that there is something to change.
                0 if body.len() > 1 => drop(body.remove(at)),
                1 => body.insert(at, ALPHABET[random(ALPHABET.len())]),
                2 => body.truncate(at.max(1)),
                _ => body[at] = ALPHABET[random(ALPHABET.len())],
            }
        }
        match read(method, &body) {
            Ok(request) => {
                assert_eq!(request.method(), method);
                if let Request::Publish { message, .. } = request {
                    assert_eq!(validate(&message.data.bytes).ok(), message.data.kind);
                }
                read_well += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read_well > 1000 && refused > 1000, "{read_well} {refused}");
}

#[test]
fn what_is_forbidden() {
    let ann = |method, kind, lifts, channel: &'static str, end| {
        Request::Sanction(Sanctioning { method, kind, lifts, user: "ann".into(), channel: channel.into(), end })
    };
    for (method, body, expected) in [
        (
            "mute",
            "{\"user\":\"ann\",\"channel\":\"c\",\"seconds\":60}",
            ann("mute", Kind::Mute, false, "c", End::After(60)),
        ),
        ("unmute", "{\"user\":\"ann\"}", ann("unmute", Kind::Mute, true, "", End::Never)),
        ("ban", "{\"user\":\"ann\",\"client\":\"\"}", ann("ban", Kind::Ban, false, "", End::Never)),
        ("unban", "{\"user\":\"ann\",\"channel\":\"c\"}", ann("unban", Kind::Ban, true, "c", End::Never)),
        ("block_user", "{\"user\":\"ann\",\"expire_at\":7}", ann("block_user", Kind::Ban, false, "", End::At(7))),
        ("unblock_user", "{\"user\":\"ann\"}", ann("unblock_user", Kind::Ban, true, "", End::Never)),
    ] {
        assert_eq!(ok(method, body), expected);
    }
    let code = |method: &str, body: &str| match read(method, body.as_bytes()) {
        Err(Fault::Refused(error)) => error.code,
        other => panic!("{method} {body}: {other:?}"),
    };
    assert_eq!(code("mute", "{\"channel\":\"c\"}"), 107, "nobody in particular");
    assert_eq!(code("ban", "{\"user\":\"ann\",\"seconds\":1,\"expire_at\":2}"), 107, "two ends");
    assert_eq!(code("ban", "{\"user\":\"ann\",\"client\":\"x\"}"), 108, "a client alone");
    assert!(matches!(read("ban", b"{\"user\":\"ann\",\"seconds\":-1}"), Err(Fault::Field(_))));
    assert_eq!(ok("sanctions", ""), Request::Sanctions { user: "".into(), limit: 0 });
    assert_eq!(
        ok("publication_remove", "{\"channel\":\"c\",\"offset\":7,\"epoch\":\"abcd\"}"),
        Request::PublicationRemove { channel: "c".into(), offset: 7, epoch: "abcd".into() }
    );
    assert_eq!(code("publication_remove", "{\"channel\":\"c\"}"), 107);
    assert_eq!(code("publication_remove", "{\"offset\":1}"), 107);
}
