//! Bytes that no client should send, against the real binary: each malformed frame, text, JSON, Protobuf and order of
//! commands has its exact close code, and nobody else notices.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;
#[path = "chat_garbage/streams.rs"]
mod streams;

use std::thread;
use std::time::Duration;

use chat_rig::frames::{BINARY, CLOSE, CONTINUATION, End, Frame, PING, PONG, Raw, TEXT, frame};
use chat_rig::{Chat, Folder, Setup};

/// On each number of shards, with a witness in a room who must notice nothing but what is said there properly.
fn beside_a_witness(config: &str, test: impl Fn(&Chat)) {
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = Setup { shards, ..Setup::ours(config) }.start(&folder);
        let mut witness = Raw::connect(chat.address, "witness");
        witness.say(r#"{"id":2,"subscribe":{"channel":"room"}}"#);
        assert!(witness.hear().contains(r#""subscribe":{"#));
        test(&chat);
        chat.call("publish", r#"{"channel":"room","data":"well"}"#);
        let heard = witness.hear();
        assert!(heard.contains(r#""data":"well""#), "{heard}");
        chat.stop();
    }
}

/// What a connected client sends costs it its connection, with this code.
fn costs(chat: &Chat, bytes: &[u8], code: u16) {
    let mut raw = Raw::connect(chat.address, "eve");
    raw.write(bytes);
    match raw.end() {
        End::Closed(closed, _) if closed == code => {}
        end => {
            panic!("{:?}: expected close {code}, not {end:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]))
        }
    }
}

#[test]
fn malformed_frames() {
    beside_a_witness("", |chat| {
        let masked = |first: u8, payload: &[u8]| {
            let mut bytes = frame(TEXT, true, payload);
            bytes[0] = first;
            bytes
        };
        // RFC 6455 section 5.1: a client masks; 5.2: reserved bits and opcodes, and lengths in their shortest form.
        costs(chat, &[0x81, 2, b'{', b'}'], 1002);
        for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f] {
            costs(chat, &masked(first, b"{}"), 1002);
        }
        costs(chat, &[0x81, 0xfe, 0, 2, 1, 2, 3, 4, b'{' ^ 1, b'}' ^ 2], 1002);
        costs(chat, &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 3, 4, b'{' ^ 1, b'}' ^ 2], 1002);
        costs(chat, &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 1002);
        // 5.4: fragments belong together; 5.5: control frames are short and whole.
        costs(chat, &frame(CONTINUATION, true, b"{}"), 1002);
        costs(chat, &[frame(TEXT, false, b"{"), frame(TEXT, true, b"}")].concat(), 1002);
        costs(chat, &frame(PING, false, b""), 1002);
        costs(chat, &frame(PING, true, &[0; 126]), 1002);
        // 5.5.1 and 7.4: what a close frame may say.
        costs(chat, &frame(CLOSE, true, b"x"), 1002);
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            costs(chat, &frame(CLOSE, true, &code.to_be_bytes()), 1002);
        }
        costs(chat, &frame(CLOSE, true, &[0x03, 0xe8, 0xff]), 1007);
        costs(chat, &frame(CLOSE, true, &[0x03, 0xe8]), 1000);
        // Too large: told at the header, before the bytes come, and when fragments add up.
        costs(chat, &[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 1009);
        costs(chat, &[0x81, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0], 1009);
        let part = [b' '; 30_000];
        let parts = [frame(TEXT, false, &part), frame(CONTINUATION, false, &part), frame(CONTINUATION, true, &part)];
        costs(chat, &parts.concat(), 1009);
        // Cut off in the middle: nobody is told anything.
        let mut raw = Raw::connect(chat.address, "eve");
        raw.write(&frame(TEXT, true, b"{\"id\":2}")[..7]);
        drop(raw);
    });
}

#[test]
fn malformed_texts_and_commands() {
    beside_a_witness("[[chat.namespaces]]\nname = \"named\"\n", |chat| {
        // RFC 6455 section 8.1; a character may be cut by fragments, and is looked at all the same.
        for text in [&b"\xff"[..], b"{\"a\":\"\xc3\x28\"}", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"{\"a\":\"\xe2\x82"]
        {
            costs(chat, &frame(TEXT, true, text), 1007);
        }
        costs(chat, &[frame(TEXT, false, b"\"\xe2"), frame(CONTINUATION, true, b"\x28\"")].concat(), 1007);
        let deep = format!("{{\"id\":2,\"publish\":{{\"channel\":\"room\",\"data\":{}", "[".repeat(60_000));
        for text in [
            "",
            "\n",
            " ",
            "{",
            "[]",
            "1",
            "nul",
            "{}{}",
            "{}",
            "{},{}",
            "{\"id\":2}",
            "{\"id\":2,\"nothing\":{}}",
            "{\"id\":2,\"publish\":1}",
            "{\"id\":\"2\",\"ping\":{}}",
            "{\"id\":-1,\"ping\":{}}",
            "{\"id\":4294967296,\"ping\":{}}",
            "{\"id\":2,\"presence\":{\"channel\":1}}",
            "{\"id\":2,\"connect\":{}}",
            "{\"id\":2,\"subscribe\":{\"channel\":\"\"}}",
            "{\"id\":2,\"publish\":{\"channel\":\"room\",\"data\":{\"a\":\n1}}}",
            "{\"id\":2,\"publish\":{\"channel\":\"room\",\"data\":{\"a\":\"\t\"}}}",
            "{\"id\":2,\"publish\":{\"channel\":\"room\",\"data\":\"\\ud800\\u12\"}}",
            "{\"id\":2,\"publish\":{\"channel\":\"room\",\"data\":01}}",
            "{\"id\":2,\"presence\":{\"channel\":\"room\"}}\n\n",
            "{\"id\":2,\"presence\":{\"channel\":\"room\"}}\n\n{}",
            &deep,
        ] {
            costs(chat, &frame(TEXT, true, text.as_bytes()), 3501);
        }
        costs(chat, &frame(TEXT, true, br#"{"send":{"data":1}}"#), 3508);
        costs(chat, &frame(BINARY, true, br#"{"id":2,"ping":{}}"#), 3506);
        // Before connect there is only connect, and after one that failed nothing.
        for text in [r#"{"id":1,"subscribe":{"channel":"room"}}"#, r#"{"id":1,"ping":{}}"#, "{}", r#"{"send":{}}"#] {
            let mut raw = Raw::open(chat.address);
            raw.say(text);
            raw.ends_with(3501);
        }
        // What is well formed and not offered, or not permitted, costs nothing.
        let mut raw = Raw::connect(chat.address, "eve");
        for (id, command, code) in [
            (2, r#""ping":{}"#.to_owned(), 108),
            (3, r#""rpc":{"method":"a"}"#.to_owned(), 108),
            (4, r#""publish":{"channel":"room"}"#.to_owned(), 107),
            (5, r#""publish":{"channel":"","data":1}"#.to_owned(), 107),
            (6, r#""publish":{"channel":"a\nb","data":1}"#.to_owned(), 107),
            (7, r#""subscribe":{"channel":"a\u0000b"}"#.to_owned(), 107),
            (8, r#""subscribe":{"channel":"ü"}"#.to_owned(), 107),
            (9, format!(r#""subscribe":{{"channel":"{}"}}"#, "x".repeat(256)), 107),
            (10, r#""subscribe":{"channel":"a","type":1}"#.to_owned(), 108),
            (11, r#""subscribe":{"channel":"nonesuch:a"}"#.to_owned(), 102),
            (12, r#""history":{"channel":"room","reverse":true,"since":{"offset":0,"epoch":""}}"#.to_owned(), 107),
            (13, r#""sub_refresh":{"channel":"elsewhere","token":"a"}"#.to_owned(), 103),
        ] {
            raw.say(&format!("{{\"id\":{id},{command}}}"));
            let reply = raw.hear();
            assert!(reply.starts_with(&format!(r#"{{"id":{id},"error":{{"code":{code},"#)), "{command}: {reply}");
        }
        raw.say(r#"{"id":14,"subscribe":{"channel":"twice"}}"#);
        assert!(raw.hear().contains(r#""subscribe":{"#));
        raw.say(r#"{"id":15,"subscribe":{"channel":"twice"}}"#);
        assert!(raw.hear().contains(r#""code":105"#));
        raw.say(r#"{"id":16,"unsubscribe":{"channel":"never"}}"#);
        assert_eq!(raw.hear(), r#"{"id":16,"unsubscribe":{}}"#);
    });
}

/// A field of a Protobuf message.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(payload.len() as u64), payload].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A command: its id, the number of its method's field, and what is in that.
fn command(id: u64, method: u8, request: &[u8]) -> Vec<u8> {
    let body = [&[1 << 3][..], &varint(id), &field(method, request)].concat();
    [varint(body.len() as u64), body].concat()
}

const CONNECT: u8 = 4;
const PUBLISH: u8 = 7;

fn connect_protobuf(chat: &Chat) -> Raw {
    let mut raw = Raw::open_protobuf(chat.address);
    raw.write(&frame(BINARY, true, &command(1, CONNECT, &field(2, br#"{"user":"eve"}"#))));
    match raw.next() {
        Ok(Frame { opcode: BINARY, payload }) => assert!(payload.len() > 36, "{payload:?}"),
        other => panic!("{other:?}"),
    }
    raw
}

#[test]
fn malformed_protobuf() {
    beside_a_witness("", |chat| {
        let good = command(2, PUBLISH, &[field(1, b"elsewhere"), field(2, b"1")].concat());
        for bytes in [
            &b""[..],
            &[0xff; 20],
            &[5],
            &[3, 1, 2],
            &good[..good.len() - 1],
            &[&good[..], &[9]].concat(),
            &[0],
            // A length that is a lie, within the message and of it; a group; a field number of none; a varint without end.
            &[6, 8, 2, 0x3a, 0xff, 0xff, 0x7f],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[2, 0x0b, 0x0c],
            &[2, 0, 0],
            &[12, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &command(2, 30, b""),
            &command(2, CONNECT, b""),
            // A channel that is no UTF-8.
            &command(2, PUBLISH, &[field(1, b"\xff"), field(2, b"1")].concat()),
        ] {
            let mut raw = connect_protobuf(chat);
            raw.write(&frame(BINARY, true, bytes));
            match raw.end() {
                End::Closed(3501, _) => {}
                end => panic!("{bytes:?}: expected close 3501, not {end:?}"),
            }
        }
        let mut raw = connect_protobuf(chat);
        raw.write(&frame(TEXT, true, b"{}"));
        raw.ends_with(3506);
    });
}

#[test]
fn nobody_can_put_words_into_anothers_stream() {
    let binary = "[[chat.namespaces]]\nname = \"binary\"\npublication_data_format = \"binary\"\n";
    beside_a_witness(binary, |chat| {
        let mut reader = Raw::connect(chat.address, "re\\\"ad\\ner");
        for channel in ["lines", "binary:lines"] {
            reader.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","join_leave":true}}}}"#));
            reader.hear_of(r#""subscribe":{"#);
        }
        let mut author = connect_protobuf(chat);
        let mut publish = |channel: &[u8], data: &[u8]| {
            author.write(&frame(BINARY, true, &command(7, PUBLISH, &[field(1, channel), field(2, data)].concat())));
            let Ok(Frame { opcode: BINARY, payload }) = author.next() else { panic!("no reply") };
            payload
        };
        // JSON with line breaks in it is JSON; with something behind it, it is none: error 107.
        publish(b"lines", b"{\n\"a\":\r\n[1,\n2]\n}");
        let heard = reader.hear_of(r#""pub":"#);
        assert!(heard.contains(r#""data":{"a":[1,2]}"#) && !heard.contains(['\n', '\r']), "{heard:?}");
        for bad in [&b"{}\n{\"push\":{}}"[..], b"1}}\n{\"id\":1", b"\"\xff\"", b"{", b"", b"\"a\nb\"", b"\xef\xbb\xbf1"]
        {
            let reply = publish(b"lines", bad);
            assert!(reply.windows(3).any(|three| three == [8, 107, 18]), "{bad:?}: {reply:?}");
        }
        // Where any bytes may be published, they reach who speaks JSON as something that does not break it.
        for bytes in [&b"\xff\n\"}{"[..], b"", b"{}\n{}"] {
            publish(b"binary:lines", bytes);
            let heard = reader.hear_of(r#""pub":"#);
            assert!(serde_json::from_str::<serde_json::Value>(&heard).is_ok(), "{heard:?}");
        }
        // Names are written so that they stay names.
        reader.say(r#"{"id":9,"presence":{"channel":"lines"}}"#);
        let heard = reader.hear_of(r#""presence""#);
        let told: serde_json::Value = serde_json::from_str(&heard).unwrap();
        let users: Vec<_> =
            told["presence"]["presence"].as_object().unwrap().values().map(|one| &one["user"]).collect();
        assert_eq!(users, ["re\"ad\ner"], "{heard}");
    });
}

#[test]
fn pieces_as_small_as_they_can_be() {
    beside_a_witness("", |chat| {
        // A byte at a time over the network.
        let mut raw = Raw::connect(chat.address, "eve");
        for byte in frame(TEXT, true, r#"{"id":2,"publish":{"channel":"small","data":"€"}}"#.as_bytes()) {
            raw.write(&[byte]);
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(raw.hear(), r#"{"id":2,"publish":{}}"#);
        // A byte at a time in fragments, with pings between them.
        let text = r#"{"id":3,"publish":{"channel":"small","data":"€"}}"#.as_bytes();
        for (at, byte) in text.iter().enumerate() {
            let opcode = if at == 0 { TEXT } else { CONTINUATION };
            raw.write(&frame(opcode, at + 1 == text.len(), &[*byte]));
            if at % 10 == 5 {
                raw.write(&frame(PING, true, b"between"));
                assert_eq!(raw.next(), Ok(Frame { opcode: PONG, payload: b"between".to_vec() }));
            }
        }
        assert_eq!(raw.hear(), r#"{"id":3,"publish":{}}"#);
        // Many commands in one message, and many messages in one write.
        let many: Vec<String> =
            (0..100).map(|id| format!(r#"{{"id":{},"publish":{{"channel":"small","data":{id}}}}}"#, id + 10)).collect();
        raw.say(&many.join("\n"));
        raw.write(&many.iter().flat_map(|text| frame(TEXT, true, text.as_bytes())).collect::<Vec<_>>());
        let mut replies = 0;
        while replies < 200 {
            replies += raw.hear().lines().count();
        }
        // Empty fragments without end: they are not a message, and not for ever.
        let mut raw = Raw::connect(chat.address, "eve");
        raw.write(&frame(TEXT, false, b""));
        for _ in 0..2000 {
            raw.write(&frame(CONTINUATION, false, b"").repeat(100));
        }
        let end = raw.end();
        assert!(matches!(end, End::Closed(1008 | 1009 | 1002, _) | End::Cut), "{end:?}");
    });
}

#[test]
fn requests_that_are_no_websockets() {
    beside_a_witness("", |chat| {
        let ask = |fields: &str| chat.ask(&format!("GET /connection/websocket HTTP/1.1\r\n{fields}X-A: b"), "").0;
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        assert_eq!(ask(""), 426);
        assert_eq!(ask(&format!("{key}Upgrade: websocket\r\n")), 426);
        assert_eq!(ask("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"), 400);
        assert_eq!(
            ask(&format!("{key}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\n")),
            400
        );
        assert_eq!(chat.ask("POST /connection/websocket HTTP/1.1", "").0, 405);
        for bytes in ["\r\n\r\n\r\n", "GET\r\n\r\n", "\0\0\0\0", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let mut stream = std::net::TcpStream::connect(chat.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            std::io::Write::write_all(&mut stream, bytes.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut told = String::new();
            std::io::Read::read_to_string(&mut stream, &mut told).unwrap();
            assert!(told.is_empty() || told.starts_with("HTTP/1.1 "), "{bytes:?}: {told}");
        }
        // Pages of elsewhere may not connect, our own may. Where nobody needs a token, those are pages under this machine's
        // own names: any other could be pointed here by whoever made the page.
        let from = |host: &str, origin: &str| {
            let mut stream = std::net::TcpStream::connect(chat.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let request = format!(
                "GET /connection/websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\n{key}Origin: {origin}\r\n\r\n"
            );
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            let mut status = [0; 12];
            std::io::Read::read_exact(&mut stream, &mut status).unwrap();
            String::from_utf8_lossy(&status[9..]).into_owned()
        };
        let host = chat.address.to_string();
        for origin in ["https://evil.example", "null"] {
            assert_eq!(from(&host, origin), "403");
        }
        assert_eq!(from("rebound.example", "http://rebound.example"), "403");
        assert_eq!(from(&host, &format!("http://{host}")), "101");
    });
}

#[test]
fn a_body_that_does_not_end_is_not_waited_for() {
    let folder = Folder::new();
    let chat = Setup { shards: "1", ..Setup::ours("idle_seconds_max = 1\nhttp_stream = true\n") }.start(&folder);
    // A byte now and then is no reason to keep what has come.
    for target in ["/emulation", "/api/publish"] {
        let mut slow = std::net::TcpStream::connect(chat.address).unwrap();
        slow.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
        std::io::Write::write_all(&mut slow, head.as_bytes()).unwrap();
        let (began, mut said) = (std::time::Instant::now(), [0; 12]);
        while std::io::Read::read(&mut slow, &mut said).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "{target}");
            let _refused_already = std::io::Write::write_all(&mut slow, b" ");
        }
        assert_eq!(&said, b"HTTP/1.1 408", "{target}");
    }
    chat.stop();
}

#[test]
fn who_says_nothing_is_sent_away() {
    let config = "[chat.client]\nstale_close_delay = \"1s\"\nping_interval = \"5s\"\npong_timeout = \"2s\"\n";
    let folder = Folder::new();
    let chat = Setup { shards: "2", ..Setup::ours(config) }.start(&folder);
    let mut stale = Raw::open(chat.address);
    let mut deaf = Raw::connect(chat.address, "deaf");
    let mut awake = Raw::connect(chat.address, "awake");
    let address = chat.address;
    let answering = thread::spawn(move || {
        for _ in 0..2 {
            assert_eq!(awake.hear(), "{}");
            awake.say("{}");
        }
        awake.say(r#"{"id":2,"unsubscribe":{"channel":"a"}}"#);
        assert_eq!(awake.hear(), r#"{"id":2,"unsubscribe":{}}"#);
        // One answer to each ping, and none without.
        awake.say("{}");
        awake.ends_with(3501);
        drop(Raw::connect(address, "another"));
    });
    stale.ends_with(3502);
    deaf.ends_with(3012);
    answering.join().unwrap();
    chat.stop();
}
