//! What is asked for: methods, targets, fields and a body, encoded before the clock starts.

use super::url::{Origin, Url};
use std::path::Path;

/// Largest body, in bytes.
const BODY_BYTES_MAX: u64 = 1 << 30;
/// How a server sees who asks.
const AGENT: &str = concat!("annulus-bench/", env!("CARGO_PKG_VERSION"));

/// One request, for either version of the protocol.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, for example.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Head and body as HTTP/1.1 sends them.
    pub encoded: Vec<u8>,
    /// Whether sending it twice does no more than sending it once (RFC 9110 section 9.2.2).
    pub is_idempotent: bool,
}

impl Request {
    /// Whether its answer has no body.
    pub fn is_bodiless(&self) -> bool {
        self.method == "HEAD"
    }
}

/// All requests of a side, in turn or as a trace wants them.
#[derive(Clone, Debug)]
pub struct Requests {
    /// Where they go.
    pub origin: Origin,
    /// At least one.
    pub all: Vec<Request>,
    /// What `Host` says.
    pub authority: String,
    /// Fields of all requests, names in lower case, `host` and `content-length` apart.
    pub fields: Vec<(String, String)>,
    /// The body of all.
    pub body: Vec<u8>,
}

/// What a command line says about requests.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The method; GET, or POST where there is a body, if not set.
    pub method: Option<String>,
    /// `Name: value`.
    pub headers: Vec<String>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

/// The text itself, or what is in the file behind an `@`.
///
/// # Errors
/// A sentence: the file cannot be read.
pub fn read_body(text: &str) -> Result<Vec<u8>, String> {
    let Some(file) = text.strip_prefix('@') else { return Ok(text.as_bytes().to_vec()) };
    let failed = |error| format!("cannot read the body {file}: {error}");
    if std::fs::metadata(file).map_err(failed)?.len() > BODY_BYTES_MAX {
        return Err(format!("the body {file} is larger than {BODY_BYTES_MAX} bytes"));
    }
    std::fs::read(file).map_err(failed)
}

/// Methods and URLs out of a file: a line for each, the method may be left out, and of the URL everything before its
/// path.
///
/// # Errors
/// A sentence with file and line.
pub fn read_urls(file: &Path) -> Result<Vec<(Option<String>, String)>, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the URLs in {}: {error}", file.display()))?;
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#')).collect();
        match words[..] {
            [] => {}
            [url] => all.push((None, url.to_owned())),
            [method, url] if is_token(method) => all.push((Some(method.to_owned()), url.to_owned())),
            _ => {
                let at = format!("{}:{}", file.display(), number + 1);
                return Err(format!("{at}: {line:?} is not METHOD URL, nor a URL alone"));
            }
        }
    }
    if all.is_empty() { Err(format!("there is no URL in {}", file.display())) } else { Ok(all) }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Takes `Name: value` apart.
///
/// # Errors
/// A sentence.
pub fn parse_header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("the header {text:?} is not like 'Name: value'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = value.trim();
    let (name, is_clean) = (name.trim_end(), value.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 127));
    if is_token(name) && is_clean { Ok((name.to_ascii_lowercase(), value.to_owned())) } else { Err(wrong()) }
}

impl Requests {
    /// Encodes them.
    ///
    /// # Errors
    /// A sentence: a method or header is wrong, or the URLs lead to different servers.
    pub fn new(urls: &[(Option<String>, Url)], asked: &Asked) -> Result<Requests, String> {
        let (_, first) = urls.first().ok_or("there is no URL: give at least one")?;
        let mut fields = asked.headers.iter().map(|text| parse_header(text)).collect::<Result<Vec<_>, _>>()?;
        for own in ["content-length", "transfer-encoding", "connection", "upgrade"] {
            if fields.iter().any(|(name, _)| name == own) {
                return Err(format!("the header {own} is set by the load itself: leave it out"));
            }
        }
        let mut authority = first.origin.authority();
        fields.retain(|(name, value)| {
            let is_host = name == "host";
            if is_host {
                authority.clone_from(value);
            }
            !is_host
        });
        for (name, value) in [("accept", "*/*"), ("user-agent", AGENT)] {
            if !fields.iter().any(|(other, _)| other == name) {
                fields.push((name.to_owned(), value.to_owned()));
            }
        }
        let body = asked.body.clone().unwrap_or_default();
        let usual = asked.method.as_deref().unwrap_or(if asked.body.is_some() { "POST" } else { "GET" });
        let mut all = Vec::with_capacity(urls.len());
        for (method, url) in urls {
            if url.origin != first.origin {
                return Err(format!(
                    "{} and {} are two servers: measure one at a time, or both with --compare",
                    first.origin, url.origin
                ));
            }
            let method = method.as_deref().unwrap_or(usual);
            if !is_token(method) || method == "CONNECT" {
                return Err(format!("{method:?} is no method that can be asked: use GET, POST and the like"));
            }
            let mut encoded = format!("{method} {} HTTP/1.1\r\nhost: {authority}\r\n", url.target);
            fields.iter().for_each(|(name, value)| encoded += &format!("{name}: {value}\r\n"));
            if asked.body.is_some() || matches!(method, "POST" | "PUT" | "PATCH") {
                encoded += &format!("content-length: {}\r\n", body.len());
            }
            let encoded = [encoded.as_bytes(), b"\r\n", &body].concat();
            let is_idempotent = matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE");
            let (method, target) = (method.to_owned(), url.target.clone());
            all.push(Request { method, target, encoded, is_idempotent });
        }
        Ok(Requests { origin: first.origin.clone(), all, authority, fields, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> (Option<String>, Url) {
        (None, Url::parse(text).unwrap())
    }

    #[test]
    fn requests_are_encoded_once() {
        let asked = Asked { headers: vec!["Accept: x".to_owned(), "X-A:  b c ".to_owned()], ..Asked::default() };
        let requests = Requests::new(&[url("http://a:81/b?c"), url("http://a:81/d")], &asked).unwrap();
        let text = String::from_utf8(requests.all[0].encoded.clone()).unwrap();
        assert!(text.starts_with("GET /b?c HTTP/1.1\r\nhost: a:81\r\naccept: x\r\nx-a: b c\r\nuser-agent: "), "{text}");
        assert!(text.ends_with("\r\n\r\n") && requests.all[1].target == "/d");
        let asked = Asked { body: Some(b"xyz".to_vec()), headers: vec!["Host: other".to_owned()], ..Asked::default() };
        let requests = Requests::new(&[url("http://a/")], &asked).unwrap();
        let text = String::from_utf8(requests.all[0].encoded.clone()).unwrap();
        assert!(
            text.starts_with("POST / HTTP/1.1\r\nhost: other\r\n") && text.ends_with("content-length: 3\r\n\r\nxyz")
        );
        assert!(!requests.all[0].is_idempotent);
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let with = |header: &str| Asked { headers: vec![header.to_owned()], ..Asked::default() };
        for header in ["x", ": y", "a b: c", "a: b\nc: d", "Content-Length: 3", "Connection: close"] {
            assert!(Requests::new(&[url("http://a/")], &with(header)).is_err(), "{header:?}");
        }
        let wrong = Requests::new(&[url("http://a/"), url("http://b/")], &Asked::default()).unwrap_err();
        assert!(wrong.contains("--compare"), "{wrong}");
        let asked = Asked { method: Some("G T".to_owned()), ..Asked::default() };
        assert!(Requests::new(&[url("http://a/")], &asked).unwrap_err().contains("G T"));
        assert!(read_body("@/nowhere/at/all").unwrap_err().contains("/nowhere/at/all"));
        assert_eq!(read_body("text").unwrap(), b"text");
    }

    #[test]
    fn lists_of_urls_are_read() {
        let file = std::env::temp_dir().join(format!("annulus-bench-urls-{}", std::process::id()));
        std::fs::write(&file, "# all\nhttp://a/\nPOST /b # c\n\n").unwrap();
        let wanted = [(None, "http://a/".to_owned()), (Some("POST".to_owned()), "/b".to_owned())];
        assert_eq!(read_urls(&file).unwrap(), wanted);
        std::fs::write(&file, "/a\nGET /b /c\n").unwrap();
        assert!(read_urls(&file).unwrap_err().contains(":2:"));
        std::fs::remove_file(&file).unwrap();
        assert!(read_urls(&file).is_err());
    }
}
