//! The opening handshake (RFC 6455 section 4), both ends. It checks what the RFC asks for; whether an origin is welcome
//! and which subprotocol is spoken is the caller's decision, between [`Upgrade::check`] and [`write_accept`].

use super::deflate::Agreement;
use crate::http1::{BodyFraming, RequestBody, RequestHead, ResponseHead, Version, write_request_head};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt;

/// What every server appends to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A valid request for an upgrade: proof that all checks passed.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'h> {
    key: &'h [u8],
    head: &'h RequestHead<'h>,
}

/// Why a request is no valid upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a GET.
    Method,
    /// HTTP/1.0, or a body.
    Http,
    /// No `Upgrade: websocket` with `Connection: Upgrade`: an ordinary request on a WebSocket's path.
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64.
    Key,
    /// Several `Origin` fields: one of them would be checked and another believed.
    Origin,
    /// `Sec-WebSocket-Extensions` is malformed. Looked at only by [`Upgrade::deflate`].
    Extensions,
}

impl Refusal {
    /// The status that answers this refusal. Send [`Refusal::fields`] with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade => 426,
            Self::Http | Self::Version | Self::Key | Self::Origin | Self::Extensions => 400,
        }
    }

    /// Fields that belong to the answer: the version we speak (RFC 6455 section 4.4), and what the status requires.
    pub const fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("allow", "GET"), ("sec-websocket-version", "13")],
            Self::NotAnUpgrade => &[("upgrade", "websocket"), ("sec-websocket-version", "13")],
            _ => &[("sec-websocket-version", "13")],
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "a WebSocket begins with GET",
            Self::Http => "a WebSocket begins with an HTTP/1.1 request without a body",
            Self::NotAnUpgrade => "this path speaks WebSocket: send Upgrade: websocket and Connection: Upgrade",
            Self::Version => "Sec-WebSocket-Version must be 13",
            Self::Key => "Sec-WebSocket-Key must be 16 bytes in base64",
            Self::Origin => "several Origin fields",
            Self::Extensions => "Sec-WebSocket-Extensions is malformed",
        })
    }
}

impl std::error::Error for Refusal {}

impl<'h> Upgrade<'h> {
    /// Checks a request (RFC 6455 section 4.2.1).
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check(head: &'h RequestHead<'h>) -> Result<Self, Refusal> {
        let fields = head.fields();
        if head.method() != "GET" {
            return Err(Refusal::Method);
        }
        if !fields.has_token("upgrade", "websocket") || !fields.has_token("connection", "upgrade") {
            return Err(Refusal::NotAnUpgrade);
        }
        if head.version() != Version::Http11 || head.framing() != BodyFraming::None {
            return Err(Refusal::Http);
        }
        let mut versions = fields.get_all("sec-websocket-version");
        if versions.next() != Some(b"13") || versions.next().is_some() {
            return Err(Refusal::Version);
        }
        if fields.get_all("origin").nth(1).is_some() {
            return Err(Refusal::Origin);
        }
        let mut keys = fields.get_all("sec-websocket-key");
        match (keys.next(), keys.next()) {
            (Some(key), None) if is_key(key) => Ok(Self { key, head }),
            _ => Err(Refusal::Key),
        }
    }

    /// The `Origin`: present in every request from a browser page. An endpoint that browsers may reach has to compare
    /// it with what it allows, or any page can act in its visitors' name.
    pub fn origin(&self) -> Option<&'h [u8]> {
        self.head.fields().get("origin")
    }

    /// The subprotocols that the client offers, in its order of preference. An empty field offers none.
    pub fn protocols(&self) -> impl Iterator<Item = &'h str> + use<'h> {
        self.head.fields().list("sec-websocket-protocol").filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// The raw offers of extensions, one value per field.
    pub fn extensions(&self) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        self.head.fields().get_all("sec-websocket-extensions")
    }

    /// The first offer of permessage-deflate that can be taken, or `None`. Answer with [`write_accept_deflate`]; a server
    /// without compression does not ask.
    ///
    /// A client may demand that the server compress with a small window. An offer that demands one of less than
    /// `window_bits_min` is passed over: [`WINDOW_BITS_MAX`](super::deflate::WINDOW_BITS_MAX) suits a server that
    /// compresses once for all, [`WINDOW_BITS_MIN`](super::deflate::WINDOW_BITS_MIN) takes whatever can be honoured.
    ///
    /// # Errors
    ///
    /// [`Refusal::Extensions`] when the field breaks its grammar (RFC 6455 section 9.1).
    pub fn deflate(&self, window_bits_min: u8) -> Result<Option<Agreement>, Refusal> {
        Agreement::of_offers(self.extensions(), window_bits_min).map_err(|_malformed| Refusal::Extensions)
    }
}

/// Appends the answer that opens the connection. `protocol` must be one of those that were offered, or `None`.
pub fn write_accept(out: &mut Vec<u8>, upgrade: &Upgrade<'_>, protocol: Option<&str>) {
    write_accept_deflate(out, upgrade, protocol, None);
}

/// Like [`write_accept`], with what [`Upgrade::deflate`] of the same upgrade found.
pub fn write_accept_deflate(
    out: &mut Vec<u8>,
    upgrade: &Upgrade<'_>,
    protocol: Option<&str>,
    deflate: Option<Agreement>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
    );
    out.extend_from_slice(&accept_key(upgrade.key));
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol {
        crate::http1::write_field(out, "sec-websocket-protocol", protocol.as_bytes());
    }
    if let Some(agreement) = deflate {
        crate::http1::write_field(out, "sec-websocket-extensions", agreement.answer().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Why an answer does not open the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Another status than 101; a redirect or a request for credentials is the caller's to follow.
    Status(u16),
    /// No `Upgrade: websocket` with `Connection: Upgrade`.
    NotAnUpgrade,
    /// `Sec-WebSocket-Accept` is missing, repeated or made from another key.
    AcceptKey,
    /// An extension that was not offered, or an answer that does not fit the offer.
    Extension,
    /// A subprotocol that was not offered, or several.
    Protocol,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answered {status} instead of 101"),
            Self::NotAnUpgrade => f.write_str("the server did not upgrade to websocket"),
            Self::AcceptKey => f.write_str("the server's accept key does not belong to ours"),
            Self::Extension => f.write_str("the server's answer about extensions does not fit what was offered"),
            Self::Protocol => f.write_str("the server chose a subprotocol that was not offered"),
        }
    }
}

impl std::error::Error for Rejection {}

/// Appends a client's request (RFC 6455 section 4.1). `nonce` is fresh and random; keep it for [`check_accept`].
/// `fields` carries what else is wanted, such as `Origin` or `Authorization`; to offer compression,
/// `("sec-websocket-extensions", deflate::OFFER)`.
pub fn write_request(
    out: &mut Vec<u8>,
    target: &str,
    host: &str,
    nonce: [u8; 16],
    protocols: &[&str],
    fields: &[(&str, &str)],
) {
    let key = key_of(nonce);
    let key = std::str::from_utf8(&key).expect("base64 is ASCII");
    let offered = protocols.join(", ");
    let mut all = vec![
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key),
    ];
    if !offered.is_empty() {
        all.push(("sec-websocket-protocol", &offered));
    }
    all.extend_from_slice(fields);
    write_request_head(out, "GET", target, host, &all, RequestBody::None);
}

/// Checks a server's answer to [`write_request`] with the same `nonce` and `protocols`, and no offer of an extension.
/// Returns the subprotocol that the server chose.
///
/// # Errors
///
/// The first rule of RFC 6455 section 4.1 that is broken: the connection must be given up.
pub fn check_accept<'p>(
    head: &ResponseHead<'_>,
    nonce: [u8; 16],
    protocols: &[&'p str],
) -> Result<Option<&'p str>, Rejection> {
    if head.fields().list("sec-websocket-extensions").next().is_some() {
        check_opening(head, nonce)?;
        return Err(Rejection::Extension);
    }
    Ok(check_accept_deflate(head, nonce, protocols)?.0)
}

/// Like [`check_accept`], for a request that offered [`deflate::OFFER`](super::deflate::OFFER). Returns also what was
/// agreed on compression; `None` when the server declined.
///
/// # Errors
///
/// As of [`check_accept`]; [`Rejection::Extension`] when the answer is anything but one that the offer allows.
pub fn check_accept_deflate<'p>(
    head: &ResponseHead<'_>,
    nonce: [u8; 16],
    protocols: &[&'p str],
) -> Result<(Option<&'p str>, Option<Agreement>), Rejection> {
    check_opening(head, nonce)?;
    let fields = head.fields();
    let deflate = Agreement::of_answer(fields.get_all("sec-websocket-extensions"));
    let deflate = deflate.map_err(|_malformed| Rejection::Extension)?;
    let mut chosen = fields.get_all("sec-websocket-protocol");
    let protocol = match (chosen.next(), chosen.next()) {
        (None, _) => None,
        (Some(name), None) => {
            let offered = protocols.iter().find(|offered| offered.as_bytes() == name);
            Some(*offered.ok_or(Rejection::Protocol)?)
        }
        _ => return Err(Rejection::Protocol),
    };
    Ok((protocol, deflate))
}

/// What an answer must have whatever was offered.
fn check_opening(head: &ResponseHead<'_>, nonce: [u8; 16]) -> Result<(), Rejection> {
    let fields = head.fields();
    if head.status() != 101 {
        return Err(Rejection::Status(head.status()));
    }
    if !fields.has_token("upgrade", "websocket") || !fields.has_token("connection", "upgrade") {
        return Err(Rejection::NotAnUpgrade);
    }
    let mut accepts = fields.get_all("sec-websocket-accept");
    if accepts.next() != Some(&accept_key(&key_of(nonce))[..]) || accepts.next().is_some() {
        return Err(Rejection::AcceptKey);
    }
    Ok(())
}

fn key_of(nonce: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    BASE64_STANDARD.encode_slice(nonce, &mut key).expect("16 bytes make 24 characters");
    key
}

/// The `Sec-WebSocket-Accept` for a key: base64 of the SHA-1 of key and GUID (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key);
    sha1.update(GUID);
    let mut encoded = [0; 28];
    BASE64_STANDARD.encode_slice(sha1.digest().bytes(), &mut encoded).expect("20 bytes make 28 characters");
    encoded
}

/// Whether this is 16 bytes in base64: 22 digits and `==`. The unused bits of the last digit may be set, as some
/// clients do.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_of_the_rfc() {
        // RFC 6455 section 1.3.
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
