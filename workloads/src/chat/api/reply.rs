//! Answers of the server HTTP API.
//!
//! Zero values are left out where Centrifugo leaves them out, and lists and maps that SDKs insist on are always there.
//! Writers append, so that the reply of a command in a batch is made when its outcome is known, and joined later.

use annulus_protocols::centrifuge::ErrorCode;
use annulus_protocols::json::{write_base64, write_string};

use crate::chat::sanctions::{FOREVER, Sanction};

/// What became of a request.
pub type Outcome<'a> = Result<Answer<'a>, ErrorCode>;

/// What is answered. JSON values in it have to be checked ones.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// To subscribe, unsubscribe, disconnect, refresh, to what removes and what forbids: nothing but that it is done.
    Done,
    /// To publish.
    Published(Published<'a>),
    /// To broadcast: one per channel, in their order.
    Broadcast(Vec<Result<Published<'a>, ErrorCode>>),
    /// To presence.
    Presence(Vec<Present<'a>>),
    /// To presence_stats.
    PresenceStats {
        /// Clients that are there.
        clients: u64,
        /// Users that they belong to.
        users: u64,
    },
    /// To history.
    History(HistoryPage<'a>),
    /// To sanctions: those that are named, and how many there are.
    Sanctions {
        /// By name.
        named: Vec<&'a Sanction>,
        /// In all.
        total: usize,
    },
    /// To channels: names, and how many clients each has.
    Channels(Vec<(&'a str, u64)>),
    /// To info.
    Info(Vec<NodeInfo<'a>>),
    /// One of these, as far as it is known: an object, which also has `missing`.
    Partial {
        /// What is known.
        known: Box<Answer<'a>>,
        /// The nodes that have not said theirs.
        missing: &'a [String],
    },
}

/// Where a publication is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published<'a> {
    /// Its place; 0 where none are kept.
    pub offset: u64,
    /// The stream's life; empty where none are kept.
    pub epoch: &'a str,
}

/// A client in a channel, or who published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present<'a> {
    /// Its id.
    pub client: &'a str,
    /// Its user.
    pub user: &'a str,
    /// What its connection brought; JSON, or empty for nothing.
    pub conn_info: &'a [u8],
    /// What its subscription brought; JSON, or empty for nothing.
    pub chan_info: &'a [u8],
}

/// A publication that was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept<'a> {
    /// JSON, unless [`Kept::binary`] says otherwise.
    pub data: &'a [u8],
    /// The data is any bytes: shown in base64.
    pub binary: bool,
    /// Who published it, if it was a client.
    pub info: Option<Present<'a>>,
    /// Its place.
    pub offset: u64,
    /// What it was given; each name once.
    pub tags: Vec<(&'a str, &'a str)>,
}

/// A part of a channel's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage<'a> {
    /// As they were asked for.
    pub publications: Vec<Kept<'a>>,
    /// The stream's life.
    pub epoch: &'a str,
    /// The place of the last publication of all.
    pub offset: u64,
}

/// What a node is and has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo<'a> {
    /// Names this run of the process.
    pub uid: &'a str,
    /// For people.
    pub name: &'a str,
    /// Of the program.
    pub version: &'a str,
    /// Clients that are connected.
    pub clients: u64,
    /// Users that they belong to.
    pub users: u64,
    /// Subscriptions of these.
    pub subscriptions: u64,
    /// Channels with subscribers.
    pub channels: u64,
    /// Seconds since the start.
    pub uptime: u64,
}

/// Appends the body that answers a request: `{"result":{...}}` or `{"error":{...}}`.
pub fn write_response(out: &mut Vec<u8>, outcome: &Outcome<'_>) {
    write_reply(out, "result", outcome);
}

/// Appends the reply to a command in a batch, under its [`method`](super::Request::method).
pub fn write_reply(out: &mut Vec<u8>, method: &str, outcome: &Outcome<'_>) {
    out.push(b'{');
    match outcome {
        Ok(answer) => {
            member(out, method);
            write_answer(out, answer);
        }
        Err(error) => {
            member(out, "error");
            write_bare_error(out, error);
        }
    }
    out.push(b'}');
}

/// Appends the body that answers a batch, of replies that [`write_reply`] wrote, in the commands' order.
pub fn write_batch<'a>(out: &mut Vec<u8>, replies: impl IntoIterator<Item = &'a [u8]>) {
    put(out, "{\"replies\":");
    list(out, replies, |out, reply| out.extend_from_slice(reply));
    out.push(b'}');
}

/// Appends `{"code":..,"message":".."}`: with [`transport_status`] it is the whole body.
pub fn write_bare_error(out: &mut Vec<u8>, error: &ErrorCode) {
    out.push(b'{');
    number_member(out, "code", error.code.into());
    text_member(out, "message", &error.message);
    out.push(b'}');
}

/// The status of an error for requests with `X-Centrifugo-Error-Mode: transport`.
pub const fn transport_status(error: &ErrorCode) -> u16 {
    match error.code {
        102 | 104 => 404,
        107 | 108 => 400,
        112 => 416,
        113 => 409,
        // The model knows no other; this one is ours, for publishes that may be tried again.
        111 => 503,
        _ => 500,
    }
}

fn write_answer(out: &mut Vec<u8>, answer: &Answer<'_>) {
    match answer {
        Answer::Done => put(out, "{}"),
        Answer::Published(published) => write_published(out, published),
        Answer::Broadcast(responses) => {
            put(out, "{\"responses\":");
            list(out, responses, |out, response| {
                write_response(out, &response.clone().map(Answer::Published));
            });
            out.push(b'}');
        }
        Answer::Presence(present) => {
            put(out, "{\"presence\":");
            map(out, present.iter().map(|one| (one.client, one)), write_present);
            out.push(b'}');
        }
        Answer::PresenceStats { clients, users } => {
            put(out, &format!("{{\"num_clients\":{clients},\"num_users\":{users}}}"));
        }
        Answer::History(page) => write_history(out, page),
        Answer::Channels(channels) => {
            put(out, "{\"channels\":");
            map(out, channels.iter().copied(), |out, clients| {
                out.push(b'{');
                number_member(out, "num_clients", clients);
                out.push(b'}');
            });
            out.push(b'}');
        }
        Answer::Sanctions { named, total } => {
            put(out, "{\"sanctions\":");
            list(out, named.iter(), |out, sanction| write_sanction(out, sanction));
            number_member(out, "total", *total as u64);
            out.push(b'}');
        }
        Answer::Info(nodes) => {
            put(out, "{\"nodes\":");
            list(out, nodes, write_node);
            out.push(b'}');
        }
        Answer::Partial { known, missing } => {
            write_answer(out, known);
            if !missing.is_empty() && out.pop_if(|last| *last == b'}').is_some() {
                member(out, "missing");
                list(out, *missing, |out, name| write_string(out, name));
                out.push(b'}');
            }
        }
    }
}

fn write_published(out: &mut Vec<u8>, published: &Published<'_>) {
    out.push(b'{');
    number_member(out, "offset", published.offset);
    text_member(out, "epoch", published.epoch);
    out.push(b'}');
}

fn write_present(out: &mut Vec<u8>, present: &Present<'_>) {
    put(out, "{\"user\":");
    write_string(out, present.user);
    put(out, ",\"client\":");
    write_string(out, present.client);
    json_member(out, "conn_info", present.conn_info);
    json_member(out, "chan_info", present.chan_info);
    out.push(b'}');
}

fn write_history(out: &mut Vec<u8>, page: &HistoryPage<'_>) {
    put(out, "{\"publications\":");
    list(out, &page.publications, write_kept);
    put(out, ",\"epoch\":");
    write_string(out, page.epoch);
    put(out, &format!(",\"offset\":{}}}", page.offset));
}

fn write_kept(out: &mut Vec<u8>, kept: &Kept<'_>) {
    out.push(b'{');
    match kept.binary {
        false => json_member(out, "data", kept.data),
        true => {
            member(out, "data");
            write_base64(out, kept.data);
        }
    }
    if let Some(info) = &kept.info {
        member(out, "info");
        write_present(out, info);
    }
    number_member(out, "offset", kept.offset);
    if !kept.tags.is_empty() {
        member(out, "tags");
        map(out, kept.tags.iter().copied(), write_string);
    }
    out.push(b'}');
}

fn write_sanction(out: &mut Vec<u8>, sanction: &Sanction) {
    out.push(b'{');
    text_member(out, "kind", sanction.kind.name());
    text_member(out, "user", &sanction.user);
    text_member(out, "channel", &sanction.channel);
    number_member(out, "expire_at", if sanction.until == FOREVER { 0 } else { sanction.until });
    out.push(b'}');
}

fn write_node(out: &mut Vec<u8>, node: &NodeInfo<'_>) {
    put(out, "{\"uid\":");
    write_string(out, node.uid);
    put(out, ",\"name\":");
    write_string(out, node.name);
    put(out, ",\"version\":");
    write_string(out, node.version);
    let NodeInfo { clients, users, channels, subscriptions, .. } = node;
    put(out, &format!(",\"num_clients\":{clients},\"num_users\":{users},\"num_channels\":{channels}"));
    number_member(out, "uptime", node.uptime);
    put(out, &format!(",\"num_subs\":{subscriptions}}}"));
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Opens an object's next member. A value never ends in `{`, so that only the first has none in front of it.
fn member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

fn text_member(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        member(out, name);
        write_string(out, text);
    }
}

fn number_member(out: &mut Vec<u8>, name: &str, number: u64) {
    if number != 0 {
        member(out, name);
        put(out, &number.to_string());
    }
}

fn json_member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        member(out, name);
        out.extend_from_slice(value);
    }
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn map<'a, T>(out: &mut Vec<u8>, entries: impl Iterator<Item = (&'a str, T)>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'{');
    for (name, value) in entries {
        member(out, name);
        write(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::json::{self, validate};

    use crate::chat::sanctions::Kind;

    fn response(outcome: &Outcome<'_>) -> String {
        let mut out = Vec::new();
        write_response(&mut out, outcome);
        assert_eq!(validate(&out), Ok(json::Kind::Object));
        String::from_utf8(out).unwrap()
    }

    const PRESENT: Present<'static> =
        Present { client: "c\"1", user: "42", conn_info: b"{\"name\":\"A\"}", chan_info: b"" };

    #[test]
    fn results_have_exactly_the_fields_of_the_model() {
        let published = Published { offset: 7, epoch: "abcd" };
        let kept = Kept {
            data: b"{\"a\":1}",
            info: Some(PRESENT),
            offset: 3,
            tags: vec![("k", "v"), ("l", "")],
            ..Kept::default()
        };
        let bare = Kept { data: b"1", offset: 4, ..Kept::default() };
        // Bytes of a Protobuf client go into JSON as text, whatever they are.
        let binary = Kept { data: b"\"},\xff", binary: true, offset: 5, ..Kept::default() };
        let page = HistoryPage { publications: vec![kept, bare, binary], epoch: "e", offset: 5 };
        let muted = Sanction { kind: Kind::Mute, user: "ann".into(), channel: "room".into(), until: 9 };
        let banned = Sanction { kind: Kind::Ban, channel: "".into(), until: FOREVER, ..muted.clone() };
        for (answer, expected) in [
            (Answer::Done, "{}"),
            (Answer::Published(published), "{\"offset\":7,\"epoch\":\"abcd\"}"),
            (Answer::Published(Published::default()), "{}"),
            (
                Answer::Broadcast(vec![Ok(published), Err(ErrorCode::UNKNOWN_CHANNEL)]),
                "{\"responses\":[{\"result\":{\"offset\":7,\"epoch\":\"abcd\"}},{\"error\":{\"code\":102,\"message\":\"unknown channel\"}}]}",
            ),
            (
                Answer::Presence(vec![PRESENT, Present { chan_info: b"1", ..Present::default() }]),
                "{\"presence\":{\"c\\\"1\":{\"user\":\"42\",\"client\":\"c\\\"1\",\"conn_info\":{\"name\":\"A\"}},\"\":{\"user\":\"\",\"client\":\"\",\"chan_info\":1}}}",
            ),
            (Answer::Presence(vec![]), "{\"presence\":{}}"),
            (Answer::PresenceStats { clients: 0, users: 0 }, "{\"num_clients\":0,\"num_users\":0}"),
            (
                Answer::History(page),
                "{\"publications\":[{\"data\":{\"a\":1},\"info\":{\"user\":\"42\",\"client\":\"c\\\"1\",\"conn_info\":{\"name\":\"A\"}},\"offset\":3,\"tags\":{\"k\":\"v\",\"l\":\"\"}},{\"data\":1,\"offset\":4},{\"data\":\"In0s/w==\",\"offset\":5}],\"epoch\":\"e\",\"offset\":5}",
            ),
            (Answer::History(HistoryPage::default()), "{\"publications\":[],\"epoch\":\"\",\"offset\":0}"),
            (
                Answer::Channels(vec![("news", 2), ("{", 0), ("odd", 1)]),
                "{\"channels\":{\"news\":{\"num_clients\":2},\"{\":{},\"odd\":{\"num_clients\":1}}}",
            ),
            (Answer::Channels(vec![]), "{\"channels\":{}}"),
            (
                Answer::Sanctions { named: vec![&muted, &banned], total: 7 },
                "{\"sanctions\":[{\"kind\":\"mute\",\"user\":\"ann\",\"channel\":\"room\",\"expire_at\":9},{\"kind\":\"ban\",\"user\":\"ann\"}],\"total\":7}",
            ),
            (Answer::Sanctions { named: vec![], total: 0 }, "{\"sanctions\":[]}"),
            (
                Answer::Partial {
                    known: Box::new(Answer::Channels(vec![])),
                    missing: &["a".to_owned(), "b".to_owned()],
                },
                "{\"channels\":{},\"missing\":[\"a\",\"b\"]}",
            ),
            (Answer::Partial { known: Box::new(Answer::Channels(vec![])), missing: &[] }, "{\"channels\":{}}"),
        ] {
            assert_eq!(response(&Ok(answer)), format!("{{\"result\":{expected}}}"));
        }
        assert_eq!(
            response(&Err(super::super::NOT_FOUND)),
            "{\"error\":{\"code\":104,\"message\":\"not found\"}}",
            "whether an error is temporary is told to clients only"
        );
    }

    #[test]
    fn nodes_tell_of_themselves() {
        let bare = NodeInfo { uid: "u", name: "n", ..NodeInfo::default() };
        let full = NodeInfo { clients: 3, subscriptions: 9, uptime: 7, ..bare.clone() };
        assert_eq!(
            response(&Ok(Answer::Info(vec![bare, full]))),
            "{\"result\":{\"nodes\":[{\"uid\":\"u\",\"name\":\"n\",\"version\":\"\",\"num_clients\":0,\"num_users\":0,\
             \"num_channels\":0,\"num_subs\":0},{\"uid\":\"u\",\"name\":\"n\",\"version\":\"\",\"num_clients\":3,\
             \"num_users\":0,\"num_channels\":0,\"uptime\":7,\"num_subs\":9}]}}"
        );
    }

    #[test]
    fn replies_of_a_batch_are_joined() {
        let outcomes = [
            ("publish", Ok(Answer::Published(Published::default()))),
            ("presence", Err(ErrorCode::NOT_AVAILABLE)),
            ("subscribe", Ok(Answer::Done)),
        ];
        let replies = outcomes.map(|(method, outcome)| {
            let mut out = Vec::new();
            write_reply(&mut out, method, &outcome);
            out
        });
        let mut out = Vec::new();
        write_batch(&mut out, replies.iter().map(Vec::as_slice));
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "{\"replies\":[{\"publish\":{}},{\"error\":{\"code\":108,\"message\":\"not available\"}},{\"subscribe\":{}}]}"
        );
        out.clear();
        write_batch(&mut out, []);
        assert_eq!(out, b"{\"replies\":[]}");
    }

    #[test]
    fn errors_have_a_status() {
        for (error, status) in [
            (ErrorCode::UNKNOWN_CHANNEL, 404),
            (ErrorCode::BAD_REQUEST, 400),
            (ErrorCode::UNRECOVERABLE_POSITION, 416),
            (ErrorCode::TOO_MANY_REQUESTS, 503),
            (ErrorCode::INTERNAL, 500),
        ] {
            assert_eq!(transport_status(&error), status);
        }
    }
}
