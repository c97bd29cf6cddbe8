//! Random commands and replies: a command is the same in both codecs, and so is a reply to who reads it with tables of
//! its own.

mod centrifuge_peer;
mod support;

use std::borrow::Cow;
use std::cmp::Ordering;

use annulus_protocols::centrifuge::*;
use centrifuge_peer::{read_replies, write_command};
use serde_json::Value;
use support::Rng;

const ROUNDS: usize = 3000;

const TEXTS: &[&str] = &["", "a", "news", "é水😀", "a\"b\\c", "line\nend\r", "\u{0}\u{1f}\u{7f}", "{}", "x-y_z:1"];
const JSON: &[&str] =
    &["1", "{}", "[]", "\"\"", "{\"a\":[1,2.5,\"x\"]}", "true", "\"a\\nb\"", "-0.5", "{\"b\":{\"c\":null}}"];

struct Random(Rng);

impl Random {
    fn boolean(&mut self) -> bool {
        self.0.below(2) == 0
    }

    fn number(&mut self, bits_max: u32) -> u64 {
        let bits = self.0.below(bits_max as usize + 1) as u32;
        if bits == 0 { 0 } else { self.0.next() >> (64 - bits) }
    }

    fn u32(&mut self) -> u32 {
        self.number(32) as u32
    }

    fn text(&mut self) -> Cow<'static, str> {
        match self.0.below(5) {
            0 => Cow::Owned("long ".repeat(self.0.below(400))),
            _ => Cow::Borrowed(TEXTS[self.0.below(TEXTS.len())]),
        }
    }

    fn str(&mut self) -> &'static str {
        TEXTS[self.0.below(TEXTS.len())]
    }

    fn json(&mut self) -> &'static [u8] {
        JSON[self.0.below(JSON.len())].as_bytes()
    }

    fn maybe_json(&mut self) -> Option<&'static [u8]> {
        self.boolean().then(|| self.json())
    }

    fn payload(&mut self) -> Payload<'static> {
        let binary: [&[u8]; 4] = [b"\xff", b"\x00\x01\x02", b"{\"a\"", &[0xFB; 200]];
        match self.0.below(3) {
            0 => Payload::Binary(binary[self.0.below(binary.len())]),
            _ => Payload::Json(self.json()),
        }
    }

    fn position(&mut self) -> Position<'static> {
        Position { offset: self.number(64), epoch: self.text() }
    }

    fn connect(&mut self) -> Connect<'static> {
        Connect {
            token: self.text(),
            data: self.maybe_json(),
            name: self.text(),
            version: self.text(),
            subs: (0..self.0.below(4))
                .map(|_| ServerSub { channel: self.text(), recover: self.boolean(), since: self.position() })
                .collect(),
            headers: (0..self.0.below(4)).map(|_| (self.text(), self.text())).collect(),
        }
    }

    fn subscribe(&mut self) -> Subscribe<'static> {
        Subscribe {
            channel: self.text(),
            token: self.text(),
            data: self.maybe_json(),
            recover: self.boolean(),
            since: self.position(),
            positioned: self.boolean(),
            recoverable: self.boolean(),
            join_leave: self.boolean(),
            reject_unrecovered: self.boolean(),
            delta: self.text(),
            filter: self.boolean().then(|| Ok(self.filter(3))),
            kind: self.u32(),
        }
    }

    fn filter(&mut self, depth: usize) -> Filter {
        let below = if depth == 0 { 0 } else { self.0.below(4) };
        let some = |it: &mut Self| (0..=it.0.below(2)).map(|_| it.filter(depth - 1)).collect();
        match below {
            1 => Filter::And(some(self)),
            2 => Filter::Or(some(self)),
            3 => Filter::Not(Box::new(self.filter(depth - 1))),
            _ => {
                let text = |it: &mut Self| format!("{}.", it.text()).into();
                let test = match self.0.below(7) {
                    0 => Test::Is(text(self)),
                    1 => Test::NotIn((0..=self.0.below(3)).map(|_| text(self)).collect()),
                    2 => Test::Absent,
                    3 => Test::Begins(text(self)),
                    4 => Test::Contains(text(self)),
                    5 => Test::Number(vec![Ordering::Greater, Ordering::Equal], self.u32().to_string().into()),
                    _ => Test::Number(vec![Ordering::Less], format!("-{}.5", self.u32()).into()),
                };
                Filter::Tag { key: text(self), test }
            }
        }
    }

    fn method(&mut self) -> Method<'static> {
        match self.0.below(12) {
            0 => Method::Connect(self.connect()),
            1 => Method::Subscribe(self.subscribe()),
            2 => Method::Unsubscribe { channel: self.text() },
            3 => Method::Publish { channel: self.text(), data: self.maybe_json() },
            4 => Method::Presence { channel: self.text() },
            5 => Method::PresenceStats { channel: self.text() },
            6 => Method::History(History {
                channel: self.text(),
                limit: self.u32() as i32,
                since: self.boolean().then(|| self.position()),
                reverse: self.boolean(),
            }),
            7 => Method::Ping,
            8 => Method::Send { data: self.maybe_json() },
            9 => Method::Rpc { method: self.text(), data: self.maybe_json() },
            10 => Method::Refresh { token: self.text() },
            _ => Method::SubRefresh { channel: self.text(), token: self.text() },
        }
    }

    /// A command without an id is a pong, unless it has a `send` and nothing that comes before it.
    fn command(&mut self) -> Command<'static> {
        let (id, method) = (self.u32().max(1), self.method());
        match self.0.below(12) {
            0 => Command { id: 0, method: Method::Pong },
            1 => Command { id: 0, method: Method::Send { data: self.maybe_json() } },
            2 => Command { id: 0, method: Method::Publish { channel: self.text(), data: self.maybe_json() } },
            _ => Command { id, method },
        }
    }

    fn info(&mut self) -> ClientInfo<'static> {
        ClientInfo { user: self.str(), client: self.str(), conn_info: self.maybe_json(), chan_info: self.maybe_json() }
    }

    fn publication(&mut self) -> Publication<'static> {
        const TAGS: &[(Cow<'_, str>, Cow<'_, str>)] = &[
            (Cow::Borrowed("a"), Cow::Borrowed("1")),
            (Cow::Borrowed(""), Cow::Borrowed("")),
            (Cow::Borrowed("é\n"), Cow::Borrowed("\"")),
        ];
        Publication {
            data: self.payload(),
            offset: self.number(64),
            info: self.boolean().then(|| self.info()),
            tags: &TAGS[..self.0.below(TAGS.len() + 1)],
            delta: self.boolean(),
            time_ms: self.number(41),
        }
    }

    fn subscribe_result(&mut self) -> SubscribeResult<'static> {
        SubscribeResult {
            expires: self.boolean(),
            ttl: self.u32(),
            recoverable: self.boolean(),
            positioned: self.boolean(),
            epoch: self.str(),
            offset: self.number(64),
            publications: (0..self.0.below(4)).map(|_| self.publication()).collect(),
            recovered: self.boolean(),
            was_recovering: self.boolean(),
            delta: self.boolean(),
            data: self.boolean().then(|| self.payload()),
        }
    }

    /// Writes one reply or push in both codecs.
    fn write(&mut self, id: u32, [json, protobuf]: &mut [Vec<u8>; 2]) {
        let mut both = |write: &dyn Fn(Codec, &mut Vec<u8>)| {
            write(Codec::Json, json);
            write(Codec::Protobuf, protobuf);
        };
        match self.0.below(18) {
            0 => {
                let error = ErrorCode { code: self.u32(), message: self.text(), temporary: self.boolean() };
                both(&|codec, out| write_error(codec, out, id, &error));
            }
            1 => {
                let mut subs: Vec<_> = TEXTS.iter().map(|&name| (name, self.subscribe_result())).collect();
                subs.truncate(self.0.below(TEXTS.len()));
                let result = ConnectResult {
                    client: self.str(),
                    version: self.str(),
                    expires: self.boolean(),
                    ttl: self.u32(),
                    data: self.boolean().then(|| self.payload()),
                    subs: &subs,
                    ping_seconds: self.u32(),
                    pong: self.boolean(),
                    session: self.str(),
                    node: self.str(),
                    time_ms: self.number(41),
                };
                both(&|codec, out| write_connect(codec, out, id, &result));
            }
            2 => {
                let result = self.subscribe_result();
                both(&|codec, out| write_subscribe(codec, out, id, &result));
            }
            3 => both(&|codec, out| write_unsubscribe_result(codec, out, id)),
            4 => both(&|codec, out| write_publish_result(codec, out, id)),
            5 => {
                let infos: Vec<_> = (0..self.0.below(4)).map(|_| self.info()).collect();
                both(&|codec, out| write_presence(codec, out, id, infos.iter().copied()));
            }
            6 => {
                let (clients, users) = (self.u32() as usize, self.u32() as usize);
                both(&|codec, out| write_presence_stats(codec, out, id, clients, users));
            }
            7 => {
                let publications = (0..self.0.below(20)).map(|_| self.publication()).collect();
                let result = HistoryResult { publications, offset: self.number(64), epoch: self.str() };
                both(&|codec, out| write_history(codec, out, id, &result));
            }
            8 => {
                let data = self.boolean().then(|| self.payload());
                both(&|codec, out| write_rpc(codec, out, id, data));
            }
            9 => {
                let (client, version) = (self.str(), self.str());
                let result = RefreshResult { client, version, expires: self.boolean(), ttl: self.u32() };
                both(&|codec, out| write_refresh(codec, out, id, &result));
            }
            10 => {
                let result = SubRefreshResult { expires: self.boolean(), ttl: self.u32() };
                both(&|codec, out| write_sub_refresh(codec, out, id, &result));
            }
            11 => {
                let (channel, publication) = (self.text(), self.publication());
                both(&|codec, out| write_publication(codec, out, &channel, &publication));
            }
            12 => {
                let (channel, info) = (self.text(), self.info());
                both(&|codec, out| write_join(codec, out, &channel, &info));
            }
            13 => {
                let (channel, info) = (self.text(), self.info());
                both(&|codec, out| write_leave(codec, out, &channel, &info));
            }
            14 => {
                let (channel, why) = (self.text(), Unsubscribed { code: self.u32(), reason: self.text() });
                both(&|codec, out| write_unsubscribe_push(codec, out, &channel, &why));
            }
            15 => {
                let (channel, result) = (self.text(), self.subscribe_result());
                both(&|codec, out| write_subscribe_push(codec, out, &channel, &result));
            }
            16 => {
                let data = self.payload();
                both(&|codec, out| write_message_push(codec, out, data));
            }
            _ => {
                let why = Disconnect { code: self.u32() as u16, reason: self.text() };
                both(&|codec, out| write_disconnect_push(codec, out, &why));
            }
        }
    }
}

#[test]
fn a_command_is_the_same_in_both_codecs() {
    let mut random = Random(Rng(7));
    for _ in 0..ROUNDS {
        let command = random.command();
        for codec in Codec::ALL {
            let message = write_command(codec, &command);
            let read: Vec<_> = Commands::of(codec, &message).collect();
            assert_eq!(read, [Ok(command.clone())], "{}", message.escape_ascii());
        }
    }
}

#[test]
fn several_commands_are_the_same_in_both_codecs() {
    let mut random = Random(Rng(11));
    for _ in 0..ROUNDS / 10 {
        let commands: Vec<_> = (0..1 + random.0.below(6)).map(|_| random.command()).collect();
        for codec in Codec::ALL {
            let separator: &[u8] = if codec == Codec::Json { b"\n" } else { b"" };
            let message: Vec<_> = commands.iter().map(|command| write_command(codec, command)).collect();
            let message = message.join(separator);
            let read: Vec<_> = Commands::of(codec, &message).collect::<Result<_, _>>().unwrap();
            assert_eq!(read, commands);
        }
    }
}

#[test]
fn a_reply_is_the_same_in_both_codecs() {
    let mut random = Random(Rng(13));
    for _ in 0..ROUNDS {
        let mut written = [Vec::new(), Vec::new()];
        let count = 1 + random.0.below(3);
        for _ in 0..count {
            let id = random.u32();
            random.write(id, &mut written);
        }
        let [json, protobuf] = written;
        let lines: Vec<Value> =
            json.split(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(lines.len(), count);
        assert_eq!(read_replies(&protobuf), lines, "{}", json.escape_ascii());
    }
}
