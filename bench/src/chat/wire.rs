//! The Centrifuge protocol's JSON form as a client of the bench speaks it: texts of commands, and just enough reading of
//! what a server says that the generator stays cheaper than the server.

use super::stamp::Stamp;
use memchr::memmem::{self, Finder};
use serde_json::Value;
use std::sync::LazyLock;

/// The id of `connect`. That of the first `subscribe` follows.
pub const CONNECT_ID: u32 = 1;
/// Ids of publish commands begin here; below are those of joining.
pub const PUBLISH_IDS: u32 = 16;
/// The answer to a server's ping.
pub const PONG: &[u8] = b"{}";

/// Where a client is in a channel's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The stream's life.
    pub epoch: String,
    /// The last publication.
    pub offset: u64,
}

/// Who a client says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// A name that an insecure server believes.
    Claim(&'a str),
    /// A signed token.
    Token(&'a str),
}

/// `connect` and a `subscribe` for each channel in one message, as the JavaScript SDK sends them. A channel's position is
/// where it wants to go on; `recoverable` asks for positions at all.
pub fn join(credentials: Credentials<'_>, channels: &[(String, Option<Position>)], recoverable: bool) -> String {
    let mut text = match credentials {
        Credentials::Claim(user) => {
            format!(r#"{{"id":{CONNECT_ID},"connect":{{"data":{{"user":"{user}"}},"name":"bench"}}}}"#)
        }
        Credentials::Token(token) => format!(r#"{{"id":{CONNECT_ID},"connect":{{"token":"{token}","name":"bench"}}}}"#),
    };
    for (index, (channel, since)) in channels.iter().enumerate() {
        text.push_str(&format!(
            "\n{{\"id\":{},\"subscribe\":{{\"channel\":\"{channel}\"",
            CONNECT_ID as usize + 1 + index
        ));
        if recoverable {
            text.push_str(",\"recoverable\":true,\"positioned\":true");
        }
        if let Some(Position { epoch, offset }) = since {
            text.push_str(&format!(",\"recover\":true,\"epoch\":\"{epoch}\",\"offset\":{offset}"));
        }
        text.push_str("}}");
    }
    text
}

/// A publish command.
pub fn publish(id: u32, channel: &str, data: &str) -> String {
    format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{data}}}}}"#)
}

/// A page of history after a position.
pub fn history(id: u32, channel: &str, since: &Position, limit: usize) -> String {
    let Position { epoch, offset } = since;
    let since = format!(r#"{{"offset":{offset},"epoch":"{epoch}"}}"#);
    format!(r#"{{"id":{id},"history":{{"channel":"{channel}","limit":{limit},"since":{since}}}}}"#)
}

/// One line of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A ping, which wants an answer.
    Ping,
    /// The reply to a command: its id, and the code if it is an error.
    Reply(u32, Option<u32>),
    /// A publication of ours, and its offset if the channel numbers them.
    Publication(Stamp, Option<u64>),
    /// A push that ends a subscription.
    Unsubscribed,
    /// Anything else.
    Other,
}

/// Reads a line.
#[inline]
pub fn said(line: &[u8]) -> Said {
    if line == b"{}" {
        return Said::Ping;
    }
    if let Some(rest) = line.strip_prefix(b"{\"id\":") {
        let id = leading_number(rest).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
        let error = memmem::find(rest, b",\"error\":{").map(|at| code(&rest[at..]));
        // A peer that only broadcasts gives a publisher's own words back.
        return match Stamp::find(line) {
            Some((stamp, _)) if memmem::find(rest, b",\"publish\":{\"").is_some() => Said::Publication(stamp, None),
            _ => Said::Reply(id, error),
        };
    }
    if let Some((stamp, rest)) = Stamp::find(line) {
        return Said::Publication(stamp, offset(rest));
    }
    match memmem::find(line, b"\"unsubscribe\":") {
        Some(_) => Said::Unsubscribed,
        None => Said::Other,
    }
}

/// The offset of the publication whose data ends in these bytes.
fn offset(rest: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"offset\":";
    static NAMES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));
    leading_number(&rest[NAMES.find(rest)? + NAME.len()..])
}

fn code(rest: &[u8]) -> u32 {
    const NAME: &[u8] = b"\"code\":";
    let number = memmem::find(rest, NAME).and_then(|at| leading_number(&rest[at + NAME.len()..]));
    number.and_then(|code| u32::try_from(code).ok()).unwrap_or(0)
}

fn leading_number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let add = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    bytes.first().filter(|first| first.is_ascii_digit())?;
    digits.copied().try_fold(0, |number, digit| add(number, &digit))
}

/// The reply to a subscribe command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Where the stream is; none where the channel keeps none.
    pub position: Option<Position>,
    /// Whether the client had asked to go on.
    pub was_recovering: bool,
    /// Whether `missed` is all that it had not.
    pub recovered: bool,
    /// What came meanwhile.
    pub missed: Vec<(Stamp, u64)>,
}

impl Subscribed {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence: it is an error, or no such reply.
    pub fn read(line: &[u8]) -> Result<Subscribed, String> {
        let reply: Value = serde_json::from_slice(line).map_err(|error| format!("a reply that is no JSON: {error}"))?;
        if let Some(error) = reply.get("error") {
            return Err(format!("a subscription was refused: {error}"));
        }
        let result = reply.get("subscribe").ok_or_else(|| format!("no reply to subscribe: {reply}"))?;
        let truth = |name: &str| result[name].as_bool().unwrap_or(false);
        let position = result["epoch"]
            .as_str()
            .map(|epoch| Position { epoch: epoch.to_owned(), offset: result["offset"].as_u64().unwrap_or(0) });
        let missed = publications(&result["publications"])?;
        Ok(Subscribed { position, was_recovering: truth("was_recovering"), recovered: truth("recovered"), missed })
    }
}

/// Reads a list of publications with their offsets.
///
/// # Errors
/// A sentence: one of them has no offset, or is none of ours.
pub fn publications(list: &Value) -> Result<Vec<(Stamp, u64)>, String> {
    let each = |one: &Value| {
        let data = one["data"].to_string();
        let stamp = Stamp::find(data.as_bytes()).map(|(stamp, _)| stamp);
        stamp.zip(one["offset"].as_u64()).ok_or_else(|| format!("a publication of nobody's: {one}"))
    };
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { room: 3, publisher: 5, number: 8 };

    #[test]
    fn a_server_is_understood() {
        let data = STAMP.data(100);
        let push = format!(
            r#"{{"push":{{"channel":"room-3","pub":{{"data":{data},"offset":41,"info":{{"user":"u5","client":"c"}}}}}}}}"#
        );
        assert_eq!(said(push.as_bytes()), Said::Publication(STAMP, Some(41)));
        let without_history = format!(r#"{{"push":{{"channel":"room-3","pub":{{"data":{data}}}}}}}"#);
        assert_eq!(said(without_history.as_bytes()), Said::Publication(STAMP, None));
        assert_eq!(said(b"{}"), Said::Ping);
        assert_eq!(said(br#"{"id":17,"publish":{}}"#), Said::Reply(17, None));
        let error = br#"{"id":18,"error":{"code":108,"message":"not available"}}"#;
        assert_eq!(said(error), Said::Reply(18, Some(108)));
        let end = br#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
        assert_eq!(said(end), Said::Unsubscribed);
        assert_eq!(said(br#"{"push":{"channel":"a","join":{"info":{}}}}"#), Said::Other);
        assert_eq!(said(b"{\"id\":99999999999999999999}"), Said::Reply(0, None));
    }

    #[test]
    fn a_recovered_subscription_tells_what_was_missed() {
        let data = STAMP.data(0);
        let reply = format!(
            r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"e","offset":9,"recovered":true,"was_recovering":true,"publications":[{{"data":{data},"offset":9}}]}}}}"#
        );
        let subscribed = Subscribed::read(reply.as_bytes()).unwrap();
        assert_eq!(subscribed.position, Some(Position { epoch: "e".into(), offset: 9 }));
        assert!(subscribed.was_recovering && subscribed.recovered);
        assert_eq!(subscribed.missed, [(STAMP, 9)]);
        let refused = br#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert!(Subscribed::read(refused).unwrap_err().contains("103"));
        let foreign = br#"{"id":2,"subscribe":{"publications":[{"data":1,"offset":9}]}}"#;
        assert!(Subscribed::read(foreign).is_err());
    }

    #[test]
    fn commands_are_lines_of_json() {
        let since = Position { epoch: "e".into(), offset: 7 };
        let channels = [("a".to_owned(), None), ("b".to_owned(), Some(since.clone()))];
        let text = join(Credentials::Claim("u"), &channels, true) + "\n" + &publish(16, "a", &STAMP.data(0));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["connect"]["data"]["user"], "u");
        assert_eq!((&lines[1]["id"], &lines[1]["subscribe"]["recoverable"]), (&2.into(), &true.into()));
        assert_eq!(lines[1]["subscribe"].get("recover"), None);
        assert_eq!((&lines[2]["id"], &lines[2]["subscribe"]["offset"]), (&3.into(), &7.into()));
        assert_eq!(lines[3]["publish"]["channel"], "a");
        let page: Value = serde_json::from_str(&history(5, "a", &since, 100)).unwrap();
        assert_eq!(page["history"]["since"]["epoch"], "e");
        let with_token: Value = serde_json::from_str(&join(Credentials::Token("t"), &[], false)).unwrap();
        assert_eq!(with_token["connect"]["token"], "t");
    }

    #[test]
    fn a_broadcasting_peers_echo_is_a_publication() {
        let own = publish(16, "a", &STAMP.data(0));
        assert_eq!(said(own.as_bytes()), Said::Publication(STAMP, None));
    }
}
