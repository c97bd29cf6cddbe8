//! Requests that two parsers would read differently (RFC 9112 section 11.2): each must be refused, or be one request and no more.

use super::raw;
use super::stage::Stage;
use super::tables::Tried;

/// The one that is no fault: a body whose bytes are a request.
const BODY_OF_GET: &str = "a body of GET is another request";
/// What comes in after a request by mistake.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// The one that both parsers read alike: two requests, which are answered one after the other. Where that does not happen, a
/// single answer to the others shows nothing.
const PAIR: &str = "two requests, as they should be";

/// Fields, each with its line end, and a body: all of a POST but its first line and `Host`.
const FRAMINGS: [(&str, &str, &str); 42] = [
    ("length and chunks", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"),
    ("two lengths", "Content-Length: 0\r\nContent-Length: 52\r\n", ""),
    ("two lengths in one", "Content-Length: 0, 52\r\n", ""),
    ("length with a sign", "Content-Length: +0\r\n", ""),
    ("length below zero", "Content-Length: -1\r\n", ""),
    ("length in hexadecimal", "Content-Length: 0x0\r\n", ""),
    ("length with a space", "Content-Length: 0 0\r\n", ""),
    ("length with a letter", "Content-Length: 0a\r\n", ""),
    ("length of nothing", "Content-Length:\r\n", ""),
    ("length beyond 64 bits", "Content-Length: 18446744073709551616\r\n", ""),
    ("length with a fraction", "Content-Length: 0.0\r\n", ""),
    ("space before the colon", "Content-Length : 0\r\n", ""),
    ("chunks, space before the colon", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    ("a coding of nobody's", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    ("identity", "Transfer-Encoding: identity\r\n", ""),
    ("chunked is not last", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    ("chunked in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
    ("coding in quotes", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
    ("vertical tab before the coding", "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
    ("NUL in the coding", "Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"),
    ("coding of nothing", "Transfer-Encoding:\r\n", ""),
    ("a folded field", "X-Folded: a\r\n Content-Length: 0\r\n", ""),
    ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    ("a field that begins with a space", " Content-Length: 0\r\n", ""),
    ("a name of nothing", ": a\r\nContent-Length: 0\r\n", ""),
    ("a line without a colon", "Content-Length\r\n", ""),
    ("a name with a space", "Content Length: 0\r\n", ""),
    ("a lone CR in a value", "X-Cr: a\rContent-Length: 52\r\n", ""),
    ("NUL in a value", "X-Nul: a\0b\r\n", ""),
    ("NUL in a name", "X-N\0ul: a\r\n", ""),
    ("another host", "Host: elsewhere.test\r\n", ""),
    ("chunk size with a sign", "Transfer-Encoding: chunked\r\n", "+0\r\n\r\n"),
    ("chunk size in hexadecimal notation", "Transfer-Encoding: chunked\r\n", "0x0\r\n\r\n"),
    ("chunk size of nothing", "Transfer-Encoding: chunked\r\n", "\r\n\r\n"),
    ("chunk size beyond 64 bits", "Transfer-Encoding: chunked\r\n", "10000000000000000\r\n\r\n"),
    ("chunk size ends with LF", "Transfer-Encoding: chunked\r\n", "1\na\r\n0\r\n\r\n"),
    ("chunk ends with LF", "Transfer-Encoding: chunked\r\n", "1\r\na\n0\r\n\r\n"),
    ("chunk longer than it says", "Transfer-Encoding: chunked\r\n", "1\r\nab\r\n0\r\n\r\n"),
    ("chunk extension with a lone LF", "Transfer-Encoding: chunked\r\n", "0;a\nb\r\n\r\n"),
    ("chunk size after a space", "Transfer-Encoding: chunked\r\n", " 0\r\n\r\n"),
];

/// First lines, up to the line end.
const LINES: [(&str, &str); 10] = [
    ("two spaces", "GET  {} HTTP/1.1"),
    ("a tab", "GET\t{}\tHTTP/1.1"),
    ("a space in the target", "GET {} {} HTTP/1.1"),
    ("no version", "GET {}"),
    ("version 1.1 and more", "GET {} HTTP/1.1x"),
    ("version 9.9", "GET {} HTTP/9.9"),
    ("small letters", "GET {} http/1.1"),
    ("a NUL", "GET {}\0 HTTP/1.1"),
    ("a lone CR", "GET {}\r HTTP/1.1"),
    ("a method with a colon", "GET: {} HTTP/1.1"),
];

/// Sends all of them to a path; what was told twice, or reached somebody, breaks the promise.
pub fn table(stage: &Stage<'_>, path: &str) -> Result<Vec<Tried>, String> {
    let mut requests: Vec<(&str, String)> = FRAMINGS
        .iter()
        .map(|(what, fields, body)| {
            (*what, format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n{body}{INNER}"))
        })
        .collect();
    requests.extend(
        LINES
            .iter()
            .map(|(what, line)| (*what, format!("{}\r\nHost: 127.0.0.1\r\n\r\n{INNER}", line.replace("{}", path)))),
    );
    requests.extend([
        ("lines that end with LF", format!("POST {path} HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 0\n\n{INNER}")),
        ("no host", format!("GET {path} HTTP/1.1\r\n\r\n{INNER}")),
        ("a host with a space", format!("GET {path} HTTP/1.1\r\nHost: a b\r\n\r\n{INNER}")),
        (
            "chunks in HTTP/1.0",
            format!("POST {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}"),
        ),
        (PAIR, format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")),
        (BODY_OF_GET, format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len())),
    ]);
    requests
        .into_iter()
        .map(|(what, bytes)| {
            let (replies, closed) = raw::tell(stage.address, bytes.as_bytes())?;
            let finals: Vec<u16> = replies.iter().map(|reply| reply.status).filter(|status| *status >= 200).collect();
            let reached = stage.yard.spy.take().iter().any(|head| head.contains("smuggled"));
            // One answer at most; and who refuses a request for how it is framed reads nothing more of this connection.
            let is_well_framed = what == BODY_OF_GET || finals.first().is_some_and(|status| *status < 400);
            let holds = match what {
                PAIR => finals.len() == 2,
                _ => finals.len() <= 1 && !reached && (closed || is_well_framed),
            };
            let answer = match (finals.first(), reached) {
                (_, true) => "passed on".to_owned(),
                (None, false) => "closed".to_owned(),
                (Some(status), false) if finals.len() == 1 => format!("{status}"),
                (Some(_), false) => format!("{} answers", finals.len()),
            };
            Ok(Tried { what: what.to_owned(), answer, holds })
        })
        .collect()
}
