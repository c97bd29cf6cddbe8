//! The other end of the Centrifuge protocol, for tests: it writes commands, and reads Protobuf replies into what the JSON
//! ones would be. It shares nothing with our codecs: the table of fields is made from the descriptors of the official
//! Python package (centrifuge-python 0.7.0, `client_pb2`).
#![allow(dead_code, reason = "each scenario uses its part")]

use std::cmp::Ordering;

use annulus_protocols::centrifuge::{
    Codec, Command, Connect, Filter, History, Method, NoFilter, Position, Subscribe, Test,
};
use serde_json::{Map, Value};

/// A command as the content of a message, with nothing left out in JSON but data, and what is zero left out in Protobuf.
/// In JSON, `data` has to be JSON on one line.
pub fn write_command(codec: Codec, command: &Command<'_>) -> Vec<u8> {
    match codec {
        Codec::Json => json(command).into_bytes(),
        Codec::Protobuf => delimited(&protobuf(command)),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn json(command: &Command<'_>) -> String {
    let id = command.id;
    let data = |data: Option<&[u8]>| {
        data.map_or(String::new(), |data| format!(",\"data\":{}", std::str::from_utf8(data).expect("data is JSON")))
    };
    let of_channel = |name: &str, channel: &str| format!("\"{name}\":{{\"channel\":{}}}", quoted(channel));
    let method = match &command.method {
        Method::Connect(connect) => format!("\"connect\":{}", json_connect(connect, data(connect.data))),
        Method::Subscribe(subscribe) => format!("\"subscribe\":{}", json_subscribe(subscribe, data(subscribe.data))),
        Method::Unsubscribe { channel } => of_channel("unsubscribe", channel),
        Method::Publish { channel, data: payload } => {
            format!("\"publish\":{{\"channel\":{}{}}}", quoted(channel), data(*payload))
        }
        Method::Presence { channel } => of_channel("presence", channel),
        Method::PresenceStats { channel } => of_channel("presence_stats", channel),
        Method::History(history) => format!("\"history\":{}", json_history(history)),
        Method::Ping => "\"ping\":{}".to_owned(),
        Method::Send { data: payload } => format!("\"send\":{{\"x\":null{}}}", data(*payload)),
        Method::Rpc { method, data: payload } => {
            format!("\"rpc\":{{\"method\":{}{}}}", quoted(method), data(*payload))
        }
        Method::Refresh { token } => format!("\"refresh\":{{\"token\":{}}}", quoted(token)),
        Method::SubRefresh { channel, token } => {
            format!("\"sub_refresh\":{{\"channel\":{},\"token\":{}}}", quoted(channel), quoted(token))
        }
        Method::Pong => return format!("{{\"id\":{id}}}"),
    };
    let send = if needs_send(command) { ",\"send\":{}" } else { "" };
    format!("{{\"id\":{id},{method}{send}}}")
}

/// Only beside a `send` may a command of another method be without an id.
fn needs_send(command: &Command<'_>) -> bool {
    command.id == 0 && !matches!(command.method, Method::Send { .. } | Method::Pong)
}

fn json_connect(connect: &Connect<'_>, data: String) -> String {
    let subs: Vec<String> = connect
        .subs
        .iter()
        .map(|sub| {
            let (channel, epoch) = (quoted(&sub.channel), quoted(&sub.since.epoch));
            format!("{channel}:{{\"recover\":{},\"epoch\":{epoch},\"offset\":{}}}", sub.recover, sub.since.offset)
        })
        .collect();
    let headers: Vec<String> =
        connect.headers.iter().map(|(name, value)| format!("{}:{}", quoted(name), quoted(value))).collect();
    format!(
        "{{\"token\":{},\"name\":{},\"version\":{},\"subs\":{{{}}},\"headers\":{{{}}}{data}}}",
        quoted(&connect.token),
        quoted(&connect.name),
        quoted(&connect.version),
        subs.join(","),
        headers.join(",")
    )
}

fn json_subscribe(subscribe: &Subscribe<'_>, data: String) -> String {
    let Subscribe { recover, positioned, recoverable, join_leave, kind, .. } = subscribe;
    format!(
        "{{\"channel\":{},\"token\":{},\"recover\":{recover},\"epoch\":{},\"offset\":{},\"positioned\":{positioned},\
         \"recoverable\":{recoverable},\"join_leave\":{join_leave},\"delta\":{},\"tf\":{},\"flag\":{},\
         \"type\":{kind}{data}}}",
        quoted(&subscribe.channel),
        quoted(&subscribe.token),
        quoted(&subscribe.since.epoch),
        subscribe.since.offset,
        quoted(&subscribe.delta),
        subscribe.filter.as_ref().map_or("null".to_owned(), |filter| json_filter(&Node::of(filter))),
        if subscribe.reject_unrecovered { 3 } else { 1 },
    )
}

/// A filter as it is on the wire.
#[derive(Default)]
struct Node<'f> {
    op: &'static str,
    key: &'f str,
    cmp: &'static str,
    val: &'f str,
    vals: Vec<&'f str>,
    nodes: Vec<Node<'f>>,
}

impl<'f> Node<'f> {
    fn of(filter: &'f Result<Filter, NoFilter>) -> Node<'f> {
        Node::of_good(filter.as_ref().expect("only filters that make sense are written"))
    }

    fn of_good(filter: &'f Filter) -> Node<'f> {
        let several = |nodes: &'f [Filter]| nodes.iter().map(Node::of_good).collect();
        match filter {
            Filter::And(nodes) => Node { op: "and", nodes: several(nodes), ..Node::default() },
            Filter::Or(nodes) => Node { op: "or", nodes: several(nodes), ..Node::default() },
            Filter::Not(node) => Node { op: "not", nodes: vec![Node::of_good(node)], ..Node::default() },
            Filter::Tag { key, test } => {
                let (cmp, val, vals): (_, &str, &[Box<str>]) = match test {
                    Test::Is(text) => ("eq", text, &[]),
                    Test::IsNot(text) => ("neq", text, &[]),
                    Test::In(texts) => ("in", "", texts),
                    Test::NotIn(texts) => ("nin", "", texts),
                    Test::Exists => ("ex", "", &[]),
                    Test::Absent => ("nex", "", &[]),
                    Test::Begins(text) => ("sw", text, &[]),
                    Test::Ends(text) => ("ew", text, &[]),
                    Test::Contains(text) => ("ct", text, &[]),
                    Test::Number(wanted, number) => match wanted[..] {
                        [Ordering::Greater] => ("gt", number, &[]),
                        [Ordering::Less] => ("lt", number, &[]),
                        [Ordering::Greater, _] => ("gte", number, &[]),
                        _ => ("lte", number, &[]),
                    },
                };
                Node { key, cmp, val, vals: vals.iter().map(|text| &**text).collect(), ..Node::default() }
            }
        }
    }
}

fn json_filter(node: &Node<'_>) -> String {
    let vals: Vec<_> = node.vals.iter().map(|text| quoted(text)).collect();
    let nodes: Vec<_> = node.nodes.iter().map(json_filter).collect();
    let texts = [("op", node.op), ("key", node.key), ("cmp", node.cmp), ("val", node.val)];
    let texts: Vec<_> = texts.iter().map(|(name, text)| format!("\"{name}\":{}", quoted(text))).collect();
    format!("{{{},\"vals\":[{}],\"nodes\":[{}]}}", texts.join(","), vals.join(","), nodes.join(","))
}

fn protobuf_filter(node: &Node<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, text) in [(1, node.op), (2, node.key), (3, node.cmp), (4, node.val)] {
        put_bytes(&mut out, number, text.as_bytes());
    }
    node.vals.iter().for_each(|text| put_message(&mut out, 5, text.as_bytes()));
    node.nodes.iter().for_each(|node| put_message(&mut out, 6, &protobuf_filter(node)));
    out
}

fn json_history(history: &History<'_>) -> String {
    let since = match &history.since {
        Some(since) => format!("{{\"offset\":{},\"epoch\":{}}}", since.offset, quoted(&since.epoch)),
        None => "null".to_owned(),
    };
    let (channel, limit, reverse) = (quoted(&history.channel), history.limit, history.reverse);
    format!("{{\"channel\":{channel},\"limit\":{limit},\"since\":{since},\"reverse\":{reverse}}}")
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn delimited(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

fn put_message(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    put_varint(out, number << 3 | 2);
    out.extend_from_slice(&delimited(content));
}

fn put_bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    if !content.is_empty() {
        put_message(out, number, content);
    }
}

fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_varint(out, number << 3);
        put_varint(out, value);
    }
}

fn protobuf(command: &Command<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    let out = &mut content;
    let number = match &command.method {
        Method::Connect(connect) => {
            protobuf_connect(out, connect);
            4
        }
        Method::Subscribe(subscribe) => {
            protobuf_subscribe(out, subscribe);
            5
        }
        Method::Unsubscribe { channel } => {
            put_bytes(out, 1, channel.as_bytes());
            6
        }
        Method::Publish { channel, data } => {
            put_bytes(out, 1, channel.as_bytes());
            put_bytes(out, 2, data.unwrap_or_default());
            7
        }
        Method::Presence { channel } => {
            put_bytes(out, 1, channel.as_bytes());
            8
        }
        Method::PresenceStats { channel } => {
            put_bytes(out, 1, channel.as_bytes());
            9
        }
        Method::History(history) => {
            put_bytes(out, 1, history.channel.as_bytes());
            put_number(out, 7, i64::from(history.limit) as u64);
            if let Some(since) = &history.since {
                put_message(out, 8, &protobuf_position(since));
            }
            put_number(out, 9, history.reverse.into());
            10
        }
        Method::Ping => 11,
        Method::Send { data } => {
            put_bytes(out, 1, data.unwrap_or_default());
            12
        }
        Method::Rpc { method, data } => {
            put_bytes(out, 1, data.unwrap_or_default());
            put_bytes(out, 2, method.as_bytes());
            13
        }
        Method::Refresh { token } => {
            put_bytes(out, 1, token.as_bytes());
            14
        }
        Method::SubRefresh { channel, token } => {
            put_bytes(out, 1, channel.as_bytes());
            put_bytes(out, 2, token.as_bytes());
            15
        }
        Method::Pong => return Vec::new(),
    };
    let mut out = Vec::new();
    put_number(&mut out, 1, command.id.into());
    put_message(&mut out, number, &content);
    if needs_send(command) {
        put_message(&mut out, 12, &[]);
    }
    out
}

fn protobuf_position(position: &Position<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, position.offset);
    put_bytes(&mut out, 2, position.epoch.as_bytes());
    out
}

fn protobuf_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    put_bytes(out, 1, connect.token.as_bytes());
    put_bytes(out, 2, connect.data.unwrap_or_default());
    for sub in &connect.subs {
        let mut request = Vec::new();
        put_number(&mut request, 3, sub.recover.into());
        put_bytes(&mut request, 6, sub.since.epoch.as_bytes());
        put_number(&mut request, 7, sub.since.offset);
        let mut entry = Vec::new();
        put_message(&mut entry, 1, sub.channel.as_bytes());
        put_message(&mut entry, 2, &request);
        put_message(out, 3, &entry);
    }
    put_bytes(out, 4, connect.name.as_bytes());
    put_bytes(out, 5, connect.version.as_bytes());
    for (name, value) in &connect.headers {
        let mut entry = Vec::new();
        put_message(&mut entry, 1, name.as_bytes());
        put_message(&mut entry, 2, value.as_bytes());
        put_message(out, 6, &entry);
    }
}

fn protobuf_subscribe(out: &mut Vec<u8>, subscribe: &Subscribe<'_>) {
    put_bytes(out, 1, subscribe.channel.as_bytes());
    put_bytes(out, 2, subscribe.token.as_bytes());
    put_number(out, 3, subscribe.recover.into());
    put_bytes(out, 6, subscribe.since.epoch.as_bytes());
    put_number(out, 7, subscribe.since.offset);
    put_bytes(out, 8, subscribe.data.unwrap_or_default());
    put_number(out, 9, subscribe.positioned.into());
    put_number(out, 10, subscribe.recoverable.into());
    put_number(out, 11, subscribe.join_leave.into());
    put_bytes(out, 12, subscribe.delta.as_bytes());
    if let Some(filter) = &subscribe.filter {
        put_message(out, 13, &protobuf_filter(&Node::of(filter)));
    }
    put_number(out, 14, if subscribe.reject_unrecovered { 3 } else { 1 });
    put_number(out, 15, subscribe.kind.into());
}

/// What a field is.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Bool,
    Text,
    Bytes,
    Message(&'static str),
    List(&'static str),
    Map(&'static str),
    TextMap,
}

type Fields = &'static [(u64, &'static str, Kind)];

/// The fields of a message, and those that JSON has in any case.
fn fields(message: &str) -> (Fields, &'static [(&'static str, &'static str)]) {
    use Kind::*;
    match message {
        "Reply" => (
            &[
                (1, "id", Number),
                (2, "error", Message("Error")),
                (4, "push", Message("Push")),
                (5, "connect", Message("ConnectResult")),
                (6, "subscribe", Message("SubscribeResult")),
                (7, "unsubscribe", Message("Empty")),
                (8, "publish", Message("Empty")),
                (9, "presence", Message("PresenceResult")),
                (10, "presence_stats", Message("PresenceStatsResult")),
                (11, "history", Message("HistoryResult")),
                (13, "rpc", Message("RPCResult")),
                (14, "refresh", Message("RefreshResult")),
                (15, "sub_refresh", Message("SubRefreshResult")),
            ],
            &[],
        ),
        "Error" => (&[(1, "code", Number), (2, "message", Text), (3, "temporary", Bool)], &[]),
        "Push" => (
            &[
                (2, "channel", Text),
                (4, "pub", Message("Publication")),
                (5, "join", Message("Join")),
                (6, "leave", Message("Leave")),
                (7, "unsubscribe", Message("Unsubscribe")),
                (8, "message", Message("Message")),
                (9, "subscribe", Message("Subscribe")),
                (11, "disconnect", Message("Disconnect")),
            ],
            &[],
        ),
        "ClientInfo" => (
            &[(1, "user", Text), (2, "client", Text), (3, "conn_info", Bytes), (4, "chan_info", Bytes)],
            &[("user", "\"\""), ("client", "\"\"")],
        ),
        "Publication" => (
            &[
                (4, "data", Bytes),
                (5, "info", Message("ClientInfo")),
                (6, "offset", Number),
                (7, "tags", TextMap),
                (8, "delta", Bool),
                (9, "time", Number),
            ],
            &[],
        ),
        "Join" | "Leave" => (&[(1, "info", Message("ClientInfo"))], &[]),
        "Unsubscribe" => (&[(2, "code", Number), (3, "reason", Text)], &[]),
        "Subscribe" => (
            &[
                (1, "recoverable", Bool),
                (4, "epoch", Text),
                (5, "offset", Number),
                (6, "positioned", Bool),
                (7, "data", Bytes),
            ],
            &[],
        ),
        "Message" | "RPCResult" => (&[(1, "data", Bytes)], &[]),
        "Disconnect" => (&[(1, "code", Number), (2, "reason", Text)], &[]),
        "ConnectResult" => (
            &[
                (1, "client", Text),
                (2, "version", Text),
                (3, "expires", Bool),
                (4, "ttl", Number),
                (5, "data", Bytes),
                (6, "subs", Map("SubscribeResult")),
                (7, "ping", Number),
                (8, "pong", Bool),
                (9, "session", Text),
                (10, "node", Text),
                (11, "time", Number),
            ],
            &[],
        ),
        "SubscribeResult" => (
            &[
                (1, "expires", Bool),
                (2, "ttl", Number),
                (3, "recoverable", Bool),
                (6, "epoch", Text),
                (7, "publications", List("Publication")),
                (8, "recovered", Bool),
                (9, "offset", Number),
                (10, "positioned", Bool),
                (11, "data", Bytes),
                (12, "was_recovering", Bool),
                (13, "delta", Bool),
            ],
            &[],
        ),
        "PresenceResult" => (&[(1, "presence", Map("ClientInfo"))], &[("presence", "{}")]),
        "PresenceStatsResult" => {
            (&[(1, "num_clients", Number), (2, "num_users", Number)], &[("num_clients", "0"), ("num_users", "0")])
        }
        "HistoryResult" => (
            &[(1, "publications", List("Publication")), (2, "epoch", Text), (3, "offset", Number)],
            &[("publications", "[]"), ("epoch", "\"\""), ("offset", "0")],
        ),
        "RefreshResult" => {
            (&[(1, "client", Text), (2, "version", Text), (3, "expires", Bool), (4, "ttl", Number)], &[])
        }
        "SubRefreshResult" => (&[(1, "expires", Bool), (2, "ttl", Number)], &[]),
        "Empty" => (&[], &[]),
        other => panic!("no message {other}"),
    }
}

/// What the first 1 to 10 bytes say, and how many they are.
fn take_varint(bytes: &mut &[u8]) -> u64 {
    let len = 1 + bytes.iter().position(|byte| byte & 0x80 == 0).expect("a varint ends");
    let (varint, rest) = bytes.split_at(len);
    *bytes = rest;
    varint.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7F))
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let len = take_varint(bytes) as usize;
    let (content, rest) = bytes.split_at(len);
    *bytes = rest;
    content
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text is UTF-8")
}

/// Bytes in JSON: as they are, or in base 64.
fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let digits = bits.as_bytes().chunks(6).map(|digit| {
            let value = utf8(digit) + &"0".repeat(6 - digit.len());
            match u8::from_str_radix(&value, 2).expect("six bits") {
                value @ 0..26 => (b'A' + value) as char,
                value @ 26..52 => (b'a' + value - 26) as char,
                value @ 52..62 => (b'0' + value - 52) as char,
                62 => '+',
                _ => '/',
            }
        });
        let text: String = digits.collect();
        Value::from(format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4)))
    })
}

fn entry(mut content: &[u8]) -> (String, &[u8]) {
    let (mut key, mut value) = (String::new(), &[][..]);
    while !content.is_empty() {
        match take_varint(&mut content) {
            0x0A => key = utf8(take_bytes(&mut content)),
            0x12 => value = take_bytes(&mut content),
            other => panic!("tag {other} in a map's entry"),
        }
    }
    (key, value)
}

/// A message as the JSON that it stands for. Fields come in the order of their numbers, and none is zero.
fn read(message: &str, mut content: &[u8]) -> Value {
    let mut object = Map::new();
    let (fields, present) = fields(message);
    for (name, value) in present {
        object.insert((*name).to_owned(), serde_json::from_str(value).expect("the table is right"));
    }
    let mut last = 0;
    while !content.is_empty() {
        let tag = take_varint(&mut content);
        let (number, name, kind) = *fields.iter().find(|field| field.0 == tag >> 3).expect("a field of the message");
        assert!(number > last || number == last && matches!(kind, Kind::List(_) | Kind::Map(_) | Kind::TextMap));
        last = number;
        let name = name.to_owned();
        if matches!(kind, Kind::Number | Kind::Bool) {
            assert_eq!(tag & 7, 0, "{name}");
            let number = take_varint(&mut content);
            assert_ne!(number, 0, "{name}");
            object.insert(name, if matches!(kind, Kind::Bool) { Value::from(number == 1) } else { number.into() });
            continue;
        }
        assert_eq!(tag & 7, 2, "{name}");
        let bytes = take_bytes(&mut content);
        match kind {
            Kind::Text | Kind::Bytes => {
                assert!(!bytes.is_empty(), "{name}");
                object.insert(name, if matches!(kind, Kind::Text) { utf8(bytes).into() } else { payload(bytes) });
            }
            Kind::Message(message) => {
                object.insert(name, read(message, bytes));
            }
            Kind::List(message) => {
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut().expect("a list").push(read(message, bytes));
            }
            Kind::Map(_) | Kind::TextMap => {
                let (key, value) = entry(bytes);
                let value = if let Kind::Map(message) = kind { read(message, value) } else { utf8(value).into() };
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                map.as_object_mut().expect("a map").insert(key, value);
            }
            Kind::Number | Kind::Bool => unreachable!("these are varints"),
        }
    }
    Value::Object(object)
}

/// The replies of a Protobuf message as the JSON that they stand for.
///
/// # Panics
/// When it is not what an official encoder would have written.
pub fn read_replies(mut message: &[u8]) -> Vec<Value> {
    let mut replies = Vec::new();
    while !message.is_empty() {
        replies.push(read("Reply", take_bytes(&mut message)));
    }
    replies
}
