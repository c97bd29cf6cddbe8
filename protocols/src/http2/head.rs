//! Heads out of field blocks: pseudo fields apart, everything held to RFC 9113 section 8.

use super::fields::Fields;

/// What begins a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Of a request.
    Request {
        /// `:method`
        method: String,
        /// `:scheme`; empty for CONNECT.
        scheme: String,
        /// `:authority`, or `Host` where that is all there is.
        authority: String,
        /// `:path`, with the query; empty for CONNECT.
        path: String,
        /// The other fields.
        fields: Fields,
    },
    /// Of an answer.
    Response {
        /// `:status`, 100-999.
        status: u16,
        /// The other fields.
        fields: Fields,
    },
}

impl Head {
    /// The fields that are no pseudo fields.
    pub fn fields(&self) -> &Fields {
        match self {
            Head::Request { fields, .. } | Head::Response { fields, .. } => fields,
        }
    }
}

/// Whose block it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    Trailers,
}

/// A checked block.
pub(super) struct Checked {
    pub(super) message: Message,
    pub(super) content_length: Option<u64>,
}

/// What a block is.
pub(super) enum Message {
    Head(Head),
    Trailers(Fields),
}

/// Pseudo fields by their place in [`PSEUDO`].
type Pseudo<'b> = [Option<&'b [u8]>; PSEUDO.len()];
const PSEUDO: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":status"];

/// Sorts a decoded block; the error says what is malformed (section 8.1.1). The block becomes the message's fields.
pub(super) fn check(kind: Kind, block: Fields) -> Result<Checked, &'static str> {
    let mut pseudo = Pseudo::default();
    let mut count = 0;
    for (name, value) in block.iter().take_while(|(name, _)| name.first() == Some(&b':')) {
        let index = PSEUDO.iter().position(|known| *known == name).ok_or("has an unknown pseudo field")?;
        let fits = match kind {
            Kind::Request => index < 4,
            Kind::Response => index == 4,
            Kind::Trailers => false,
        };
        if !fits || pseudo[index].replace(value).is_some() {
            return Err("has a pseudo field where none may be");
        }
        count += 1;
    }
    if pseudo.iter().flatten().any(|value| !value.iter().all(u8::is_ascii_graphic)) {
        return Err("has characters in a pseudo field that may not be there");
    }
    let (content_length, cookies) = check_fields(block.iter().skip(count))?;
    let without_pseudo = |mut block: Fields| {
        block.hide(count);
        if cookies > 1 { joined_cookies(&block) } else { block }
    };
    let message = match kind {
        Kind::Trailers => Message::Trailers(block),
        Kind::Response => {
            let status = status(pseudo[4]).ok_or("has no status")?;
            Message::Head(Head::Response { status, fields: without_pseudo(block) })
        }
        Kind::Request => {
            let [method, scheme, authority, path] = request_line(&pseudo, &block)?;
            Message::Head(Head::Request { method, scheme, authority, path, fields: without_pseudo(block) })
        }
    };
    Ok(Checked { message, content_length })
}

/// Checks what follows the pseudo fields: the content-length, and how many cookies there are.
fn check_fields<'b>(fields: impl Iterator<Item = (&'b [u8], &'b [u8])>) -> Result<(Option<u64>, usize), &'static str> {
    let (mut content_length, mut cookies) = (None, 0);
    for (name, value) in fields {
        check_field(name, value)?;
        match name {
            b"content-length" => {
                let length = parse_length(value).ok_or("has a content-length that is no number")?;
                if content_length.replace(length).is_some_and(|before| before != length) {
                    return Err("has two different content-lengths");
                }
            }
            b"cookie" => cookies += 1,
            _ => {}
        }
    }
    Ok((content_length, cookies))
}

/// Cookies may come in pieces, so that they compress well. Whoever is not HTTP/2 must see one field (section 8.2.3), so
/// nobody here sees more.
fn joined_cookies(block: &Fields) -> Fields {
    let mut whole = Vec::new();
    let mut fields = Fields::with_room();
    for (name, value) in block.iter() {
        match (name == b"cookie", whole.is_empty()) {
            (false, _) => fields.push(name, value),
            (true, true) => whole.extend_from_slice(value),
            (true, false) => whole.extend([b"; ", value].concat()),
        }
    }
    fields.push(b"cookie", &whole);
    fields
}

fn status(value: Option<&[u8]>) -> Option<u16> {
    let number = value.filter(|value| value.len() == 3).and_then(parse_length)?;
    u16::try_from(number).ok().filter(|&status| status >= 100)
}

/// Method, scheme, authority and path (section 8.3.1).
fn request_line(pseudo: &Pseudo<'_>, block: &Fields) -> Result<[String; 4], &'static str> {
    const LACKING: &str = "lacks a pseudo field that every request has";
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let [method, scheme, authority, path, _] = *pseudo;
    let method = method.filter(|method| !method.is_empty()).ok_or("has no method")?;
    if !method.iter().all(is_token_byte) {
        return Err("has a method that may not be");
    }
    let hosts = block.iter().filter(|(name, _)| *name == b"host").map(|(_, value)| value);
    let mut names = authority.into_iter().chain(hosts);
    let name = names.next();
    if names.any(|other| Some(other) != name) {
        return Err("names two different hosts");
    }
    if name.is_some_and(|name| name.is_empty() || !name.iter().all(is_authority_byte)) {
        return Err("names a host that may not be");
    }
    let authority_text = name.map(text).unwrap_or_default();
    if method == b"CONNECT" {
        return match (scheme, authority, path) {
            (None, Some(_), None) => Ok([text(method), String::new(), authority_text, String::new()]),
            _ => Err("has pseudo fields that do not suit CONNECT"),
        };
    }
    let scheme = scheme.filter(|scheme| !scheme.is_empty()).ok_or(LACKING)?;
    let path = path.filter(|path| path.starts_with(b"/") || (*path == b"*" && method == b"OPTIONS")).ok_or(LACKING)?;
    if path.contains(&b'#') {
        return Err("has a fragment in its path");
    }
    Ok([text(method), text(scheme), authority_text, text(path)])
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// RFC 3986 section 3.2, without user information, which may not be here (section 8.3.1).
fn is_authority_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}

/// Section 8.2: names in lower case, values without line ends and without white space around them, and nothing that
/// concerns an HTTP/1 connection.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name.first() == Some(&b':') {
        return Err("has a pseudo field where none may be");
    }
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(byte) && !byte.is_ascii_uppercase()) {
        return Err("has a field name that may not be");
    }
    let forbidden = |byte: &u8| matches!(byte, 0..=8 | 10..=31 | 127);
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if value.iter().any(forbidden) || blank(value.first()) || blank(value.last()) {
        return Err("has a field value that may not be");
    }
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err("has a field that concerns an HTTP/1 connection")
        }
        b"te" if value != b"trailers" => Err("has a field that concerns an HTTP/1 connection"),
        _ => Ok(()),
    }
}

/// Digits and nothing else.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// How urgent an answer is, and whether pieces of it are of use (RFC 9218).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// From 0, the most urgent, to 7.
    pub urgency: u8,
    /// Whether answers of the same urgency are to be sent in turn, not one after the other.
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Priority {
        Priority { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// Reads a `priority` field or a PRIORITY_UPDATE. What is not understood is ignored (RFC 9218 section 4).
    pub fn parse(value: &[u8]) -> Priority {
        let mut priority = Priority::default();
        for member in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let item = member.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            match item {
                [b'u', b'=', digit @ b'0'..=b'7'] => priority.urgency = digit - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        pairs.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        fields
    }

    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

    #[test]
    fn a_request_is_sorted() {
        let pairs = [&GET[..], &[("content-length", "3"), ("te", "trailers")]].concat();
        let checked = check(Kind::Request, block(&pairs)).unwrap_or_else(|what| panic!("{what}"));
        let Message::Head(Head::Request { method, path, authority, fields, .. }) = checked.message else {
            panic!("no request")
        };
        assert_eq!((&method[..], &path[..], &authority[..], fields.len()), ("GET", "/", "a", 2));
        assert_eq!(checked.content_length, Some(3));
    }

    #[test]
    fn malformed_requests_are_refused() {
        let with = |more: &[(&str, &str)]| check(Kind::Request, block(&[&GET[..], more].concat())).is_ok();
        assert!(with(&[]));
        for more in [
            (":path", "/again"),
            (":status", "200"),
            (":unknown", "x"),
            ("Upper", "x"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("a", " b"),
            ("a", "b\r\nc: d"),
            ("a b", "c"),
            ("", "c"),
            ("content-length", "+1"),
            ("host", "other"),
            ("late", "x\0y"),
        ] {
            assert!(!with(&[more]), "{more:?}");
        }
        assert!(!with(&[("content-length", "1"), ("content-length", "2")]));
        assert!(!with(&[("a", "b"), (":authority", "late")]));
        for leave_out in 0..3 {
            let rest: Vec<_> =
                GET.iter().enumerate().filter(|(at, _)| *at != leave_out).map(|(_, pair)| *pair).collect();
            assert!(check(Kind::Request, block(&rest)).is_err());
        }
        let replaced = |name: &str, value: &str| {
            let pairs: Vec<_> = GET.iter().map(|pair| if pair.0 == name { (name, value) } else { *pair }).collect();
            check(Kind::Request, block(&pairs)).is_ok()
        };
        assert!(replaced(":authority", "[::1]:80") && replaced(":path", "/a?b=%20") && replaced(":method", "M-SEARCH"));
        for (name, value) in [
            (":method", ""),
            (":method", "GET/"),
            (":scheme", ""),
            (":authority", ""),
            (":authority", "user@a"),
            (":authority", "a/b"),
            (":path", ""),
            (":path", "*"),
            (":path", "/a b"),
            (":path", "/a#b"),
            (":path", "/\u{e9}"),
        ] {
            assert!(!replaced(name, value), "{name} {value}");
        }
        let no_authority = [GET[0], GET[1], GET[2]];
        assert!(check(Kind::Request, block(&[&no_authority[..], &[("host", "b")]].concat())).is_ok());
        assert!(check(Kind::Request, block(&[&no_authority[..], &[("host", "b"), ("host", "c")]].concat())).is_err());
        let relative = [(":method", "GET"), (":scheme", "http"), (":path", "x")];
        assert!(check(Kind::Request, block(&relative)).is_err());
        assert!(check(Kind::Request, block(&[(":method", "CONNECT"), (":authority", "a:1")])).is_ok());
    }

    #[test]
    fn cookies_in_pieces_are_put_together() {
        let pairs = [&GET[..], &[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("cookie", "c=3")]].concat();
        let checked = check(Kind::Request, block(&pairs)).unwrap_or_else(|what| panic!("{what}"));
        let Message::Head(head) = checked.message else { panic!("no request") };
        assert_eq!((head.fields().len(), head.fields().get(b"cookie")), (2, Some(&b"a=1; b=2; c=3"[..])));
    }

    #[test]
    fn answers_have_a_status_and_trailers_no_pseudo_fields() {
        for (status, good) in
            [("200", true), ("099", false), ("20", false), ("2000", false), ("2x0", false), ("", false)]
        {
            assert_eq!(check(Kind::Response, block(&[(":status", status)])).is_ok(), good, "{status}");
        }
        assert!(check(Kind::Response, block(&[])).is_err());
        assert!(check(Kind::Trailers, block(&[("a", "b")])).is_ok());
        assert!(check(Kind::Trailers, block(&[(":status", "200")])).is_err());
    }

    #[test]
    fn priorities_are_read_leniently() {
        let read = |text: &str| Priority::parse(text.as_bytes());
        assert_eq!(read("u=1, i"), Priority { urgency: 1, incremental: true });
        assert_eq!(read("i=?0;x, u=9, z"), Priority::default());
        assert_eq!(read("u=7"), Priority { urgency: 7, incremental: false });
    }
}
