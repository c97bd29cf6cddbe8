//! Questions and answers by table, as the documentation of the proxies has them, and what mutations do: nothing.

use super::*;
use annulus_protocols::json::Kind;

const ASKER: Asker<'static> = Asker {
    client: "9336a229-2400-4ebc-8c50-0a643d22e8a0",
    user: "42",
    transport: "websocket",
    protocol: "json",
    meta: Some(b"{\"plan\":\"pro\"}"),
};
const WHO: &str =
    "{\"client\":\"9336a229-2400-4ebc-8c50-0a643d22e8a0\",\"transport\":\"websocket\",\"protocol\":\"json\"";

fn asked(asker: &Asker<'_>, question: &Question<'_>, binary: bool) -> String {
    let mut out = Vec::new();
    write_question(&mut out, asker, question, binary).unwrap();
    assert_eq!(validate(&out), Ok(Kind::Object));
    String::from_utf8(out).unwrap()
}

#[test]
fn questions_have_the_fields_of_the_model() {
    let connect = Question::Connect { data: b"{\"a\":1}", name: "js", version: "5.2", channels: &["a", "b"] };
    let meta = "\"user\":\"42\",\"meta\":{\"plan\":\"pro\"}";
    for (question, rest) in [
        (connect, "\"name\":\"js\",\"version\":\"5.2\",\"channels\":[\"a\",\"b\"],\"data\":{\"a\":1}".to_owned()),
        (Question::Refresh, meta.to_owned()),
        (
            Question::Subscribe { channel: "c\"", token: "t", data: b"" },
            format!("{meta},\"channel\":\"c\\\"\",\"token\":\"t\""),
        ),
        (Question::Publish { channel: "c", data: b"[1]" }, format!("{meta},\"channel\":\"c\",\"data\":[1]")),
        (Question::SubRefresh { channel: "c" }, format!("{meta},\"channel\":\"c\"")),
        (Question::Rpc { method: "m", data: b"null" }, format!("{meta},\"method\":\"m\",\"data\":null")),
    ] {
        assert_eq!(asked(&ASKER, &question, false), format!("{WHO},\"encoding\":\"json\",{rest}}}"));
    }
    let anonymous = Asker { user: "", meta: None, ..ASKER };
    assert_eq!(
        asked(&anonymous, &Question::Rpc { method: "m", data: &[0, 255] }, true),
        format!("{WHO},\"encoding\":\"binary\",\"user\":\"\",\"method\":\"m\",\"b64data\":\"AP8=\"}}")
    );
    let bare = Question::Connect { data: b"", name: "", version: "", channels: &[] };
    assert_eq!(asked(&ASKER, &bare, false), format!("{WHO},\"encoding\":\"json\"}}"));
    let mut out = Vec::new();
    for data in [&b"{"[..], b"1 2", b"\xff", b"{}}"] {
        assert_eq!(write_question(&mut out, &ASKER, &Question::Publish { channel: "c", data }, false), Err(NotJson));
    }
    assert!(out.is_empty());
}

fn json(text: &str) -> Option<Payload<'_>> {
    let kind = validate(text.as_bytes()).unwrap();
    Some(Payload { bytes: Cow::Borrowed(text.as_bytes()), kind: Some(kind) })
}

fn result<R>(verdict: Result<Verdict<'_, R>, Unfit>) -> R {
    match verdict.unwrap() {
        Verdict::Result(Some(result)) => result,
        Verdict::Result(None) => panic!("no result"),
        Verdict::Error(refusal) => panic!("{refusal:?}"),
        Verdict::Disconnect(close) => panic!("{close:?}"),
    }
}

#[test]
fn results_are_read() {
    let body = b"{\"result\":{\"user\":\"56\",\"expire_at\":1700000000,\"info\":{\"n\":1},\"data\":\"hi\",\"channels\":[\"a\"],\
        \"subs\":{\"b\":{\"b64info\":\"MQ==\",\"override\":{\"presence\":{\"value\":true}},\"cache_recover\":true},\"a:1\":{},\
        \"b\":{\"expire_at\":7}},\"meta\":[1],\"namespaces\":[\"\",\"acme\"],\"caps\":[{}],\"later\":1}}";
    let sub = Subscribed { expire_at: 7, ..Subscribed::default() };
    let expected = Connected {
        user: "56".into(),
        expire_at: 1_700_000_000,
        info: json("{\"n\":1}"),
        data: json("\"hi\""),
        channels: vec!["a".into()],
        subs: vec![("a:1".into(), Subscribed::default()), ("b".into(), sub)],
        meta: Some(b"[1]"),
        namespaces: Some(vec!["".into(), "acme".into()]),
    };
    assert_eq!(result(read_connect(body)), expected);
    assert_eq!(result(read_connect(b"{\"result\":{}}")), Connected::default());
    let body = b"{\"result\":{\"b64info\":\"eyJhIjoxfQ==\",\"data\":null,\"override\":{\"join_leave\":{\"value\":false}},\"allow\":[\"pub\"]}}";
    let overrides = Overrides { join_leave: Some(false), ..Overrides::default() };
    assert_eq!(
        result(read_subscribe(body)),
        Subscribed { info: json("{\"a\":1}"), overrides, ..Subscribed::default() }
    );
    let body = b"{\"result\":{\"expired\":false,\"expire_at\":5,\"info\":1,\"meta\":{}}}";
    let expected = Refreshed { expired: false, expire_at: 5, info: json("1"), meta: Some(b"{}") };
    assert_eq!(result(read_refresh(body)), expected);
    assert!(result(read_refresh(b"{\"result\":{\"expired\":true}}")).expired);
    let body = b"{\"result\":{\"data\":{\"clean\":true},\"skip_history\":true,\"tags\":{\"a\":\"b\"},\"idempotency_key\":\"k\",\"delta\":true,\"version\":0}}";
    let expected = Published {
        data: json("{\"clean\":true}"),
        skip_history: true,
        tags: vec![("a".into(), "b".into())],
        idempotency_key: "k".into(),
    };
    assert_eq!(result(read_publish(body)), expected);
    assert_eq!(result(read_rpc(b"{\"result\":{\"data\":{\"year\":\"2018\"}}}")).data, json("{\"year\":\"2018\"}"));
    let binary = result(read_rpc(b"{\"result\":{\"b64data\":\"AP8=\"}}")).data.unwrap();
    assert_eq!((&*binary.bytes, binary.kind), (&[0, 255][..], None));
}

#[test]
fn refusals_come_first() {
    let refusal = Refusal { code: 1000, message: "custom error".into(), temporary: true };
    let error = "\"error\":{\"code\":1000,\"message\":\"custom error\",\"temporary\":true}";
    let disconnect = "\"disconnect\":{\"code\":4500,\"reason\":\"bye\"}";
    let close = Close { code: 4500, reason: "bye".into() };
    assert_eq!(read_rpc(format!("{{\"result\":{{}},{error}}}").as_bytes()), Ok(Verdict::Error(refusal)));
    assert_eq!(read_rpc(format!("{{{disconnect},{error}}}").as_bytes()), Ok(Verdict::Disconnect(close)));
    for nothing in ["{}", "{\"result\":null,\"error\":null,\"disconnect\":null}", " { } "] {
        assert_eq!(read_connect(nothing.as_bytes()), Ok(Verdict::Result(None)));
    }
}

#[test]
fn what_is_no_answer() {
    let long = format!("{{\"result\":{{\"user\":\"{}\"}}}}", "u".repeat(USER_BYTES_MAX + 1));
    let info = format!("{{\"result\":{{\"info\":\"{}\"}}}}", "i".repeat(KEPT_BYTES_MAX));
    let meta = format!("{{\"result\":{{\"meta\":\"{}\"}}}}", "i".repeat(KEPT_BYTES_MAX));
    let channels = format!("{{\"result\":{{\"channels\":[{}\"c\"]}}}}", "\"c\",".repeat(CHANNELS_MAX));
    let subs = format!("{{\"result\":{{\"subs\":{{{}\"c\":{{}}}}}}}}", "\"c\":{},".repeat(CHANNELS_MAX));
    let message = format!("{{\"error\":{{\"code\":1,\"message\":\"{}\"}}}}", "m".repeat(MESSAGE_BYTES_MAX + 1));
    for (body, says) in [
        ("", "not JSON: incomplete"),
        ("<html>", "not JSON"),
        ("{\"result\":{}}x", "not JSON"),
        ("[]", "the answer has to be an object"),
        ("{\"result\":[]}", "result has to be an object"),
        ("{\"error\":{}}", "error has to be with a code"),
        ("{\"error\":{\"code\":-1}}", "code has to be an integer in range"),
        (&message, "shorter message"),
        ("{\"disconnect\":{\"code\":1000}}", "3000 to 4999"),
        ("{\"disconnect\":{\"code\":4000,\"reason\":\"{}\"}}", "3000 to 4999"),
        ("{\"result\":{\"user\":42}}", "user has to be a string"),
        (&long, "user has to be shorter"),
        (&info, "info has to be smaller"),
        (&meta, "meta has to be smaller"),
        (&channels, "channels has to be shorter"),
        (&subs, "subs has to be smaller"),
        ("{\"result\":{\"b64info\":\"?\"}}", "base64"),
        ("{\"result\":{\"expire_at\":1.5}}", "expire_at has to be an integer in range"),
        ("{\"result\":{\"subs\":{\"c\":1}}}", "c has to be an object"),
        ("{\"result\":{\"subs\":{\"c\":{\"server_tags_filter\":{\"op\":\"and\"}}}}}", "not offered"),
    ] {
        let error = read_connect(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{body}: {error}");
    }
    let key = format!("{{\"result\":{{\"idempotency_key\":\"{}\"}}}}", "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1));
    for (body, says) in [("{\"result\":{\"version\":3}}", "not offered"), (&key, "idempotency_key has to be shorter")] {
        assert!(read_publish(body.as_bytes()).unwrap_err().to_string().contains(says));
    }
}

#[test]
fn mutations_are_read_or_refused() {
    let seeds = [
        "{\"result\":{\"user\":\"5\\u00e9\",\"b64info\":\"MQ==\",\"subs\":{\"b\":{\"override\":{\"presence\":{\"value\":true}}}},\"meta\":[1]}}",
        "{\"error\":{\"code\":1000,\"message\":\"m\",\"temporary\":true},\"disconnect\":null}",
        "{\"disconnect\":{\"code\":4500,\"reason\":\"bye\"}}",
        "{\"result\":{\"data\":{\"a\":1},\"skip_history\":true,\"tags\":{\"a\":\"b\"},\"expired\":false,\"expire_at\":12}}",
    ];
    const ALPHABET: &[u8] = b"{}[]\",:\\un0-1.eE \ntf\xc3\xa9\x00\xffab=";
    let mut word = 0x2545_F491_4F6C_DD1Du64;
    let mut random = |below: usize| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        (word % below as u64) as usize
    };
    let (mut fit, mut unfit) = (0, 0);
    for round in 0..20_000 {
        let mut body = seeds[round % seeds.len()].as_bytes().to_vec();
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
        let fits = [
            read_connect(&body).is_ok(),
            read_subscribe(&body).is_ok(),
            read_refresh(&body).is_ok(),
            read_publish(&body).is_ok(),
            read_rpc(&body).is_ok(),
        ];
        if let Ok(Verdict::Disconnect(close)) = read_rpc(&body) {
            assert!(close.is_sendable());
        }
        fit += fits.into_iter().filter(|fits| *fits).count();
        unfit += fits.into_iter().filter(|fits| !fits).count();
    }
    assert!(fit > 1000 && unfit > 1000, "{fit} {unfit}");
}
