//! Writing replies and pushes. Several may be joined by `\n` into one message; writing that is the caller's.
//!
//! Zero values are left out, but for the fields that clients always look at.

use super::{ErrorCode, Unsubscribed};
use crate::json::{write_string, write_without_line_ends};

/// Who published, joined or is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The user; empty for nobody known.
    pub user: &'a str,
    /// The client's id.
    pub client: &'a str,
}

/// One publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// A validated JSON value.
    pub data: &'a [u8],
    /// Its place in the stream; 0 where the channel keeps none.
    pub offset: u64,
    /// The publishing client, if it was one.
    pub info: Option<ClientInfo<'a>>,
}

/// The answer to a subscribe command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeResult<'a> {
    /// Whether the stream's position is told, so that the client may recover later.
    pub recoverable: bool,
    /// The stream's life.
    pub epoch: &'a str,
    /// The stream's top, or where the client was if it recovered.
    pub offset: u64,
    /// The client asked to recover.
    pub was_recovering: bool,
    /// Nothing is missing: `publications` is all that the client did not have.
    pub recovered: bool,
    /// What was missed, oldest first.
    pub publications: Vec<Publication<'a>>,
}

/// The answer to a history command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryResult<'a> {
    /// What was asked for.
    pub publications: Vec<Publication<'a>>,
    /// The stream's top.
    pub offset: u64,
    /// The stream's life.
    pub epoch: &'a str,
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    put(out, &number.to_string());
}

/// Opens an object's next member: `,"name":`, or `"name":` for the first.
fn member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    put(out, name);
    put(out, "\":");
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
        put_number(out, number);
    }
}

fn true_member(out: &mut Vec<u8>, name: &str, value: bool) {
    if value {
        member(out, name);
        put(out, "true");
    }
}

fn write_info(out: &mut Vec<u8>, info: &ClientInfo<'_>) {
    put(out, "{\"user\":");
    write_string(out, info.user);
    put(out, ",\"client\":");
    write_string(out, info.client);
    out.push(b'}');
}

fn write_pub(out: &mut Vec<u8>, publication: &Publication<'_>) {
    put(out, "{\"data\":");
    write_without_line_ends(out, publication.data);
    number_member(out, "offset", publication.offset);
    if let Some(info) = &publication.info {
        member(out, "info");
        write_info(out, info);
    }
    out.push(b'}');
}

fn write_pubs(out: &mut Vec<u8>, publications: &[Publication<'_>]) {
    out.push(b'[');
    for (at, publication) in publications.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_pub(out, publication);
    }
    out.push(b']');
}

fn begin_reply(out: &mut Vec<u8>, id: u32, method: &str) {
    put(out, "{\"id\":");
    put_number(out, id.into());
    member(out, method);
    out.push(b'{');
}

fn end_reply(out: &mut Vec<u8>) {
    put(out, "}}");
}

/// An error in reply to the command `id`.
pub fn write_error(out: &mut Vec<u8>, id: u32, error: ErrorCode) {
    begin_reply(out, id, "error");
    number_member(out, "code", error.code.into());
    text_member(out, "message", error.message);
    true_member(out, "temporary", error.temporary);
    end_reply(out);
}

/// A result without content.
pub fn write_result(out: &mut Vec<u8>, id: u32, method: &str) {
    begin_reply(out, id, method);
    end_reply(out);
}

/// The session has begun: the client's id, and how often it is pinged, in seconds (0: it is not).
pub fn write_connect(out: &mut Vec<u8>, id: u32, client: &str, version: &str, ping_seconds: u32) {
    begin_reply(out, id, "connect");
    text_member(out, "client", client);
    text_member(out, "version", version);
    number_member(out, "ping", ping_seconds.into());
    true_member(out, "pong", ping_seconds > 0);
    end_reply(out);
}

/// The subscription has begun.
pub fn write_subscribe(out: &mut Vec<u8>, id: u32, result: &SubscribeResult<'_>) {
    begin_reply(out, id, "subscribe");
    true_member(out, "recoverable", result.recoverable);
    true_member(out, "positioned", result.recoverable);
    text_member(out, "epoch", result.epoch);
    number_member(out, "offset", result.offset);
    true_member(out, "recovered", result.recovered);
    true_member(out, "was_recovering", result.was_recovering);
    if !result.publications.is_empty() {
        member(out, "publications");
        write_pubs(out, &result.publications);
    }
    end_reply(out);
}

/// Who is there.
pub fn write_presence<'a>(out: &mut Vec<u8>, id: u32, present: impl Iterator<Item = ClientInfo<'a>>) {
    begin_reply(out, id, "presence");
    put(out, "\"presence\":{");
    for info in present {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        write_string(out, info.client);
        out.push(b':');
        write_info(out, &info);
    }
    out.push(b'}');
    end_reply(out);
}

/// How many are there.
pub fn write_presence_stats(out: &mut Vec<u8>, id: u32, clients: usize, users: usize) {
    begin_reply(out, id, "presence_stats");
    put(out, &format!("\"num_clients\":{clients},\"num_users\":{users}"));
    end_reply(out);
}

/// What was published.
pub fn write_history(out: &mut Vec<u8>, id: u32, result: &HistoryResult<'_>) {
    begin_reply(out, id, "history");
    put(out, "\"publications\":");
    write_pubs(out, &result.publications);
    put(out, ",\"epoch\":");
    write_string(out, result.epoch);
    put(out, ",\"offset\":");
    put_number(out, result.offset);
    end_reply(out);
}

fn write_push(out: &mut Vec<u8>, channel: &str, kind: &str, content: impl FnOnce(&mut Vec<u8>)) {
    put(out, "{\"push\":{\"channel\":");
    write_string(out, channel);
    member(out, kind);
    content(out);
    put(out, "}}");
}

/// A publication for its channel's subscribers.
pub fn write_publication(out: &mut Vec<u8>, channel: &str, publication: &Publication<'_>) {
    write_push(out, channel, "pub", |out| write_pub(out, publication));
}

/// Somebody came.
pub fn write_join(out: &mut Vec<u8>, channel: &str, info: &ClientInfo<'_>) {
    write_presence_change(out, channel, "join", info);
}

/// Somebody left.
pub fn write_leave(out: &mut Vec<u8>, channel: &str, info: &ClientInfo<'_>) {
    write_presence_change(out, channel, "leave", info);
}

fn write_presence_change(out: &mut Vec<u8>, channel: &str, kind: &str, info: &ClientInfo<'_>) {
    write_push(out, channel, kind, |out| {
        put(out, "{\"info\":");
        write_info(out, info);
        out.push(b'}');
    });
}

/// The server ended a subscription.
pub fn write_unsubscribe(out: &mut Vec<u8>, channel: &str, why: Unsubscribed) {
    write_push(out, channel, "unsubscribe", |out| {
        put(out, &format!("{{\"code\":{},\"reason\":\"{}\"}}", why.code, why.reason));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(crate::json::validate(&out), Ok(crate::json::Kind::Object));
        assert!(!out.contains(&b'\n'));
        String::from_utf8(out).unwrap()
    }

    const INFO: ClientInfo<'static> = ClientInfo { user: "42", client: "c1" };

    #[test]
    fn replies_leave_out_zeros_and_keep_what_clients_look_at() {
        assert_eq!(text(|out| write_result(out, 3, "publish")), "{\"id\":3,\"publish\":{}}");
        assert_eq!(
            text(|out| write_error(out, 4, ErrorCode::INTERNAL)),
            "{\"id\":4,\"error\":{\"code\":100,\"message\":\"internal server error\",\"temporary\":true}}"
        );
        assert_eq!(
            text(|out| write_connect(out, 1, "abc", "annulus 0.1.0", 25)),
            "{\"id\":1,\"connect\":{\"client\":\"abc\",\"version\":\"annulus 0.1.0\",\"ping\":25,\"pong\":true}}"
        );
        assert_eq!(text(|out| write_subscribe(out, 2, &SubscribeResult::default())), "{\"id\":2,\"subscribe\":{}}");
        assert_eq!(
            text(|out| write_presence(out, 5, [INFO].into_iter())),
            "{\"id\":5,\"presence\":{\"presence\":{\"c1\":{\"user\":\"42\",\"client\":\"c1\"}}}}"
        );
        assert_eq!(text(|out| write_presence(out, 5, [].into_iter())), "{\"id\":5,\"presence\":{\"presence\":{}}}");
        assert_eq!(
            text(|out| write_presence_stats(out, 6, 2, 0)),
            "{\"id\":6,\"presence_stats\":{\"num_clients\":2,\"num_users\":0}}"
        );
        assert_eq!(
            text(|out| write_history(out, 7, &HistoryResult { epoch: "e", ..Default::default() })),
            "{\"id\":7,\"history\":{\"publications\":[],\"epoch\":\"e\",\"offset\":0}}"
        );
    }

    #[test]
    fn recovered_publications_come_with_their_offsets() {
        let publications = vec![Publication { data: b"{\n\"a\":1}", offset: 6, info: Some(INFO) }];
        let result = SubscribeResult {
            recoverable: true,
            epoch: "e",
            offset: 5,
            was_recovering: true,
            recovered: true,
            publications,
        };
        assert_eq!(
            text(|out| write_subscribe(out, 2, &result)),
            "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"positioned\":true,\"epoch\":\"e\",\"offset\":5,\"recovered\":true,\
             \"was_recovering\":true,\"publications\":[{\"data\":{\"a\":1},\"offset\":6,\"info\":{\"user\":\"42\",\"client\":\"c1\"}}]}}"
        );
    }

    #[test]
    fn pushes_name_their_channel() {
        let publication = Publication { data: b"\"hi\"", offset: 0, info: None };
        assert_eq!(
            text(|out| write_publication(out, "a\"b", &publication)),
            "{\"push\":{\"channel\":\"a\\\"b\",\"pub\":{\"data\":\"hi\"}}}"
        );
        assert_eq!(
            text(|out| write_leave(out, "c", &INFO)),
            "{\"push\":{\"channel\":\"c\",\"leave\":{\"info\":{\"user\":\"42\",\"client\":\"c1\"}}}}"
        );
        assert_eq!(
            text(|out| write_unsubscribe(out, "c", Unsubscribed::INSUFFICIENT_STATE)),
            "{\"push\":{\"channel\":\"c\",\"unsubscribe\":{\"code\":2500,\"reason\":\"insufficient state\"}}}"
        );
        assert!(text(|out| write_join(out, "c", &INFO)).contains("\"join\":{\"info\""));
    }
}
