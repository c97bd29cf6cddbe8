//! The server's own HTTP API: `POST /api/<method>` with JSON bodies, answered in JSON with status 200, errors included.

use annulus_protocols::centrifuge::ErrorCode;
use annulus_protocols::json::{Value, validate, write_string};

/// A request of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Publish `data` to `channel`.
    Publish {
        /// Where.
        channel: String,
        /// A JSON value.
        data: &'a [u8],
    },
    /// What this node is and has.
    Info,
}

/// Reads the request of `POST /api/<method>`.
///
/// # Errors
/// 104 for a method we do not have, 107 for a body that does not fit it.
pub fn read<'a>(method: &str, body: &'a [u8]) -> Result<Request<'a>, ErrorCode> {
    match method {
        "info" => Ok(Request::Info),
        "publish" => read_publish(body),
        _ => Err(ErrorCode::METHOD_NOT_FOUND),
    }
}

fn read_publish(body: &[u8]) -> Result<Request<'_>, ErrorCode> {
    validate(body).map_err(|_| ErrorCode::BAD_REQUEST)?;
    let (mut channel, mut data) = (None, None);
    for (name, value) in Value::of(body).members().ok_or(ErrorCode::BAD_REQUEST)? {
        match &*name {
            "channel" => channel = value.string(),
            "data" if !value.is_null() => data = Some(value.raw()),
            // Not offered yet; ignoring it would promise what we do not keep.
            "b64data" | "idempotency_key" | "delta" | "tags" => return Err(ErrorCode::NOT_AVAILABLE),
            _ => {}
        }
    }
    match (channel, data) {
        (Some(channel), Some(data)) => Ok(Request::Publish { channel: channel.into_owned(), data }),
        _ => Err(ErrorCode::BAD_REQUEST),
    }
}

/// `{"error": ...}`
pub fn error(error: ErrorCode) -> Vec<u8> {
    format!("{{\"error\":{{\"code\":{},\"message\":\"{}\"}}}}", error.code, error.message).into_bytes()
}

/// The result of a publish; without history there is no position to tell.
pub fn published(offset: u64, epoch: &str) -> Vec<u8> {
    match offset {
        0 => b"{\"result\":{}}".to_vec(),
        offset => format!("{{\"result\":{{\"offset\":{offset},\"epoch\":\"{epoch}\"}}}}").into_bytes(),
    }
}

/// What [`info`] tells of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Names this run of the process.
    pub uid: String,
    /// The machine's name.
    pub name: String,
    /// Connected clients.
    pub clients: u64,
    /// Users, counted per shard.
    pub users: u64,
    /// Channels known, counted per shard.
    pub channels: u64,
    /// Seconds since the start.
    pub uptime: u64,
}

/// The result of an info request.
pub fn info(node: &Node) -> Vec<u8> {
    let mut out = b"{\"result\":{\"nodes\":[{\"uid\":".to_vec();
    write_string(&mut out, &node.uid);
    out.extend_from_slice(b",\"name\":");
    write_string(&mut out, &node.name);
    out.extend_from_slice(b",\"version\":\"annulus ");
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    let Node { clients, users, channels, uptime, .. } = node;
    let rest = format!(
        "\",\"num_clients\":{clients},\"num_users\":{users},\"num_channels\":{channels},\"uptime\":{uptime}}}]}}}}"
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_needs_a_channel_and_data() {
        let good = read("publish", b"{\"channel\":\"news\",\"data\":{\"a\":1},\"skip_history\":false}");
        assert_eq!(good, Ok(Request::Publish { channel: "news".into(), data: b"{\"a\":1}" }));
        for bad in
            ["", "[]", "{}", "{\"channel\":\"a\"}", "{\"channel\":7,\"data\":1}", "{\"channel\":\"a\",\"data\":null}"]
        {
            assert_eq!(read("publish", bad.as_bytes()), Err(ErrorCode::BAD_REQUEST), "{bad}");
        }
        let keyed = read("publish", b"{\"channel\":\"a\",\"data\":1,\"idempotency_key\":\"k\"}");
        assert_eq!(keyed, Err(ErrorCode::NOT_AVAILABLE));
        assert_eq!(read("broadcast", b"{}"), Err(ErrorCode::METHOD_NOT_FOUND));
        assert_eq!(read("info", b""), Ok(Request::Info));
    }

    #[test]
    fn answers_are_json() {
        let node = Node { uid: "u\"".into(), clients: 3, ..Node::default() };
        for answer in [error(ErrorCode::BAD_REQUEST), published(0, ""), published(7, "abcd"), info(&node)] {
            assert!(validate(&answer).is_ok(), "{}", answer.escape_ascii());
        }
    }
}
