//! multipart/form-data, RFC 7578 on RFC 2046 section 5.1: what forms and upload libraries send. Reading only.
//!
//! Data is handed out where it lies. The end of a part is found by its delimiter, `CRLF "--" boundary`, wherever the
//! input is split: a boundary holds no CR, so what may be the beginning of a delimiter starts at the last CR, and if it
//! was none after all, it is given out as data, and the search begins anew behind it.
//!
//! ```text
//!   Preamble --delimiter--> After --CRLF--> Head --empty line--> Part ... Data* ... --delimiter--> PartEnd, After
//!                             `----"--"--> End, then the epilogue, which is ignored
//! ```
//!
//! It does not decode transfer encodings (RFC 7578 section 4.7 forbids them) or character sets, and does not look at
//! what a part holds. Names are what a stranger says: a file name is for showing, never for a path.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use crate::Input;

/// Longest boundary in bytes (RFC 2046 section 5.1.1).
pub const BOUNDARY_BYTES_MAX: usize = 70;

/// What a sender may grow, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most parts of a body. Beyond it: [`Fault::TooManyParts`].
    pub parts_max: usize,
    /// Longest head of a part in bytes, its empty line included. Beyond it: [`Fault::HeadTooLarge`].
    pub head_bytes_max: usize,
    /// Most bytes before the first delimiter, and of white space behind one. Beyond it: [`Fault::Delimiter`].
    pub padding_bytes_max: usize,
}

impl Limits {
    /// 64 parts with heads of 8 KiB, and 1 KiB of padding.
    pub const DEFAULT: Self = Self { parts_max: 64, head_bytes_max: 8 << 10, padding_bytes_max: 1 << 10 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What was wrong with a body or its `Content-Type`. Every fault is the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The `Content-Type` is not `multipart/form-data`.
    NotFormData,
    /// The `Content-Type` names no boundary, or one that RFC 2046 section 5.1.1 does not allow.
    Boundary,
    /// Something else where a delimiter or its line end must be.
    Delimiter,
    /// A part's head that is not lines of name, colon and value in UTF-8, each ended by CRLF.
    Head,
    /// A part without `Content-Disposition: form-data` and a name (RFC 7578 section 4.2).
    Disposition,
    /// A part in a transfer encoding such as base64, which RFC 7578 section 4.7 forbids.
    TransferEncoding,
    /// A part's head is over its byte limit.
    HeadTooLarge,
    /// More parts than allowed.
    TooManyParts,
    /// The body ended before its closing delimiter.
    Truncated,
}

impl Fault {
    /// The status that answers it.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotFormData => 415,
            Self::HeadTooLarge | Self::TooManyParts => 413,
            _ => 400,
        }
    }

    /// What was wrong, in a few words; quotes nothing of the sender's.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFormData => "the content type is not multipart/form-data",
            Self::Boundary => "the content type has no boundary of 1 to 70 allowed characters",
            Self::Delimiter => "a part's delimiter is missing or malformed",
            Self::Head => "the head of a part is malformed",
            Self::Disposition => "a part has no Content-Disposition: form-data with a name",
            Self::TransferEncoding => "a part is in a transfer encoding, which forms must not use",
            Self::HeadTooLarge => "the head of a part is too large",
            Self::TooManyParts => "too many parts",
            Self::Truncated => "the body ended before its closing delimiter",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Fault {}

/// The head of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The field of the form. Not empty.
    pub name: String,
    /// The file's name, if it is a file. A stranger's claim: for showing only.
    pub file_name: Option<String>,
    /// The media type that the sender claims.
    pub content_type: Option<String>,
}

/// One thing that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Event<'a> {
    /// The input is used up; feed more.
    NeedMore,
    /// A part begins. [`Event::PartEnd`] follows in any case.
    Part(Part),
    /// The next bytes of the part. Owned where they looked like a delimiter's beginning at the end of an earlier input.
    Data(Cow<'a, [u8]>),
    /// The part is complete.
    PartEnd,
    /// The closing delimiter was there. What follows is ignored.
    End,
}

/// The reader of one body.
pub struct Multipart {
    /// `CRLF "--" boundary`.
    delimiter: Finder<'static>,
    state: State,
    parts: usize,
}

#[derive(Debug)]
enum State {
    /// Before the first delimiter: so many bytes were ignored.
    Preamble { search: Search, ignored: usize },
    /// Behind a delimiter.
    After { byte: AfterByte, padding: usize },
    /// In a part's head: what is there of it, and where its last line starts.
    Head { bytes: Vec<u8>, line_start: usize },
    /// In a part's content.
    Content(Search),
    /// Behind the closing delimiter.
    Epilogue,
    /// After a fault.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterByte {
    First,
    Padding,
    LineFeed,
    Dash,
}

/// How much of a delimiter the last input ended with.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    matched: usize,
    /// How many of those bytes never came, or belong to the head: the line end before a delimiter at the very beginning.
    implied: usize,
}

impl Search {
    /// At the beginning of a body or a part, where the delimiter's line end has been (RFC 2046 section 5.1.1: a part
    /// without content may end with the line end of its head).
    const AT_LINE_START: Search = Search { matched: 2, implied: 2 };
}

/// What a search came upon.
enum Found<'a> {
    NeedMore,
    Data(Cow<'a, [u8]>),
    Delimiter,
}

impl Multipart {
    /// A reader for the body of a message with this `Content-Type`.
    ///
    /// # Errors
    /// [`Fault::NotFormData`] or [`Fault::Boundary`].
    pub fn new(content_type: &str) -> Result<Multipart, Fault> {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(Fault::NotFormData);
        }
        let boundary = parameter(parameters, "boundary").ok_or(Fault::Boundary)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        let is_valid = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
            && boundary.bytes().all(is_allowed)
            && !boundary.ends_with(' ');
        if !is_valid {
            return Err(Fault::Boundary);
        }
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        let state = State::Preamble { search: Search::AT_LINE_START, ignored: 0 };
        Ok(Multipart { delimiter, state, parts: 0 })
    }

    /// The next event from `input`. [`Event::NeedMore`] means that the input is used up.
    ///
    /// # Errors
    /// What is wrong with the body. All further input is then discarded.
    pub fn next_event<'a>(&mut self, limits: &Limits, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        let outcome = self.advance(limits, input);
        if outcome.is_err() {
            self.state = State::Broken;
        }
        outcome
    }

    /// The body is over.
    ///
    /// # Errors
    /// [`Fault::Truncated`] unless the closing delimiter was there.
    pub fn on_end_of_body(&self) -> Result<(), Fault> {
        match self.state {
            State::Epilogue => Ok(()),
            _ => Err(Fault::Truncated),
        }
    }

    fn advance<'a>(&mut self, limits: &Limits, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        loop {
            match &mut self.state {
                State::Preamble { search, ignored } => match search.advance(&self.delimiter, input) {
                    Found::NeedMore => return Ok(Event::NeedMore),
                    Found::Data(data) => {
                        *ignored += data.len();
                        if *ignored > limits.padding_bytes_max {
                            return Err(Fault::Delimiter);
                        }
                    }
                    Found::Delimiter => self.state = State::After { byte: AfterByte::First, padding: 0 },
                },
                State::Content(search) => match search.advance(&self.delimiter, input) {
                    Found::NeedMore => return Ok(Event::NeedMore),
                    Found::Data(data) => return Ok(Event::Data(data)),
                    Found::Delimiter => {
                        self.state = State::After { byte: AfterByte::First, padding: 0 };
                        return Ok(Event::PartEnd);
                    }
                },
                State::After { .. } => match self.after_delimiter(limits, input)? {
                    Some(event) => return Ok(event),
                    None => continue,
                },
                State::Head { .. } => match self.head(limits, input)? {
                    Some(part) => return Ok(Event::Part(part)),
                    None if input.is_empty() => return Ok(Event::NeedMore),
                    None => {}
                },
                State::Epilogue | State::Broken => {
                    input.take_rest();
                    return Ok(Event::NeedMore);
                }
            }
        }
    }

    /// One byte behind a delimiter. Stricter than RFC 2046 section 5.1.1: a line that only begins with the delimiter is
    /// a fault, not a delimiter.
    fn after_delimiter<'a>(&mut self, limits: &Limits, input: &mut Input<'a>) -> Result<Option<Event<'a>>, Fault> {
        let State::After { byte: at, padding } = &mut self.state else { return Ok(None) };
        let [byte] = *input.take(1) else { return Ok(Some(Event::NeedMore)) };
        *at = match (*at, byte) {
            (AfterByte::First, b'-') => AfterByte::Dash,
            (AfterByte::First | AfterByte::Padding, b' ' | b'\t') if *padding < limits.padding_bytes_max => {
                *padding += 1;
                AfterByte::Padding
            }
            (AfterByte::First | AfterByte::Padding, b'\r') => AfterByte::LineFeed,
            (AfterByte::LineFeed, b'\n') if self.parts >= limits.parts_max => return Err(Fault::TooManyParts),
            (AfterByte::LineFeed, b'\n') => {
                self.parts += 1;
                self.state = State::Head { bytes: Vec::new(), line_start: 0 };
                return Ok(None);
            }
            (AfterByte::Dash, b'-') => {
                self.state = State::Epilogue;
                return Ok(Some(Event::End));
            }
            _ => return Err(Fault::Delimiter),
        };
        Ok(None)
    }

    /// The next line of a part's head. The part, once its head is complete.
    fn head(&mut self, limits: &Limits, input: &mut Input<'_>) -> Result<Option<Part>, Fault> {
        let State::Head { bytes, line_start } = &mut self.state else { return Ok(None) };
        let line = memchr(b'\n', input.rest());
        let taken = input.take(line.map_or(usize::MAX, |line_feed| line_feed + 1));
        // Only as far as the limit, so that the fault does not depend on the split.
        let room = limits.head_bytes_max.saturating_sub(bytes.len());
        bytes.extend_from_slice(&taken[..taken.len().min(room)]);
        if taken.len() > room {
            return Err(Fault::HeadTooLarge);
        }
        if line.is_none() {
            return Ok(None);
        }
        let line = bytes[*line_start..].strip_suffix(b"\r\n").ok_or(Fault::Head)?;
        if !line.is_empty() {
            *line_start = bytes.len();
            return Ok(None);
        }
        let part = parse_head(&bytes[..*line_start])?;
        self.state = State::Content(Search::AT_LINE_START);
        Ok(Some(part))
    }
}

/// Shows where it stands only: a boundary is the sender's.
impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Preamble { .. } => "preamble",
            State::After { .. } => "after a delimiter",
            State::Head { .. } => "head",
            State::Content(_) => "content",
            State::Epilogue => "epilogue",
            State::Broken => "broken",
        };
        f.debug_struct("Multipart").field("state", &state).field("parts", &self.parts).finish()
    }
}

impl Search {
    fn advance<'a>(&mut self, delimiter: &Finder<'static>, input: &mut Input<'a>) -> Found<'a> {
        let needle = delimiter.needle();
        if self.matched > 0 {
            let missing = &needle[self.matched..];
            let common = input.rest().iter().zip(missing).take_while(|(came, wanted)| came == wanted).count();
            input.take(common);
            self.matched += common;
            if self.matched == needle.len() {
                *self = Search::default();
                return Found::Delimiter;
            }
            if input.is_empty() {
                return Found::NeedMore;
            }
            let Search { matched, implied } = std::mem::take(self);
            if matched > implied {
                return Found::Data(Cow::Owned(needle[implied..matched].to_vec()));
            }
        }
        if input.is_empty() {
            return Found::NeedMore;
        }
        let data = match delimiter.find(input.rest()) {
            Some(0) => {
                input.take(needle.len());
                return Found::Delimiter;
            }
            Some(at) => input.take(at),
            None => {
                let data = input.take(input.len() - begun(needle, input.rest()));
                self.matched = input.take_rest().len();
                data
            }
        };
        match data.is_empty() {
            true => Found::NeedMore,
            false => Found::Data(Cow::Borrowed(data)),
        }
    }
}

/// How many bytes at the end of `text`, which does not hold the needle, may be its beginning.
fn begun(needle: &[u8], text: &[u8]) -> usize {
    let tail = &text[text.len() - text.len().min(needle.len() - 1)..];
    let last = memrchr(b'\r', tail).map(|at| &tail[at..]);
    last.filter(|last| needle.starts_with(last)).map_or(0, <[u8]>::len)
}

/// Field lines of a part, each ended by CRLF.
fn parse_head(lines: &[u8]) -> Result<Part, Fault> {
    let lines = std::str::from_utf8(lines).map_err(|_| Fault::Head)?;
    let (mut disposition, mut content_type) = (None, None);
    for line in lines.split_terminator("\r\n") {
        let (name, value) = line.split_once(':').ok_or(Fault::Head)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        // Folded lines begin with white space, which is no name.
        if name.is_empty() || !name.bytes().all(is_token) || !value.bytes().all(is_text) {
            return Err(Fault::Head);
        }
        let value = value.trim_matches([' ', '\t']);
        let once = match name {
            _ if name.eq_ignore_ascii_case("content-disposition") => &mut disposition,
            _ if name.eq_ignore_ascii_case("content-type") => &mut content_type,
            _ if name.eq_ignore_ascii_case("content-transfer-encoding") => {
                let is_identity = ["7bit", "8bit", "binary"].iter().any(|known| value.eq_ignore_ascii_case(known));
                if is_identity {
                    continue;
                }
                return Err(Fault::TransferEncoding);
            }
            // RFC 7578 section 4.8: others are ignored.
            _ => continue,
        };
        if once.replace(value).is_some() {
            return Err(Fault::Head);
        }
    }
    let (kind, parameters) = disposition.and_then(|value| value.split_once(';')).ok_or(Fault::Disposition)?;
    let name = parameter(parameters, "name").filter(|name| !name.is_empty());
    match name {
        Some(name) if kind.trim().eq_ignore_ascii_case("form-data") => Ok(Part {
            name,
            file_name: parameter(parameters, "filename"),
            content_type: content_type.map(str::to_owned),
        }),
        _ => Err(Fault::Disposition),
    }
}

/// The value of a parameter; `None` if it is missing, repeated, or the list is malformed. `filename*` is another name,
/// which RFC 7578 section 4.2 forbids and which is ignored.
fn parameter(list: &str, wanted: &str) -> Option<String> {
    let mut rest = list;
    let mut found = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return found;
        }
        let (name, after) = rest.split_once('=')?;
        // RFC 2045 lets white space stand around the equals sign.
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim_matches([' ', '\t']).to_owned(), &after[end..])
            }
        };
        if name.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(';') {
            return None;
        }
    }
}

/// A quoted string behind its first quote, and what follows it. Browsers write a quote as `%22` and line ends as `%0D`
/// and `%0A` (RFC 7578 section 2), others as `\"`. A backslash before anything else is a backslash, as in old paths.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\'])?;
        value.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if rest.as_bytes()[at] == b'"' {
            return Some((value.replace("%22", "\""), after));
        }
        let escaped = after.chars().next().filter(|next| matches!(next, '"' | '\\'));
        value.push(escaped.unwrap_or('\\'));
        rest = &after[escaped.map_or(0, char::len_utf8)..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_in_every_writing() {
        for (list, name) in [
            (r#" name="a""#, Some("a")),
            ("name=a", Some("a")),
            (r#"NAME = "a" ; x=y"#, Some("a")),
            (r#" x="name=b"; name="a;b""#, Some("a;b")),
            (r#"name="a\"b\\c\d""#, Some("a\"b\\c\\d")),
            (r#"name="a%22b%0D""#, Some("a\"b%0D")),
            (r#"name*=UTF-8''x; name="ä""#, Some("ä")),
            (r#"name="a"; name="b""#, None),
            (r#"name="a"#, None),
            (r#"name="a" b"#, None),
            ("; ;", None),
            ("name", None),
        ] {
            assert_eq!(parameter(list, "name").as_deref(), name, "{list}");
        }
    }

    #[test]
    fn boundaries_are_checked() {
        let of = |content_type: &str| Multipart::new(content_type).map(|machine| machine.delimiter.needle().to_vec());
        assert_eq!(of("multipart/form-data; boundary=ab").unwrap(), b"\r\n--ab");
        assert_eq!(of("Multipart/Form-Data;charset=x; BOUNDARY=\"a b:c\"").unwrap(), b"\r\n--a b:c");
        assert_eq!(of("multipart/form-data"), Err(Fault::Boundary));
        assert_eq!(of("multipart/mixed; boundary=a"), Err(Fault::NotFormData));
        for bad in ["", "\"\"", "\"a \"", "\"a\r\nb\"", "ä", &"x".repeat(71)] {
            assert_eq!(of(&format!("multipart/form-data; boundary={bad}")), Err(Fault::Boundary), "{bad}");
        }
        assert!(of(&format!("multipart/form-data; boundary={}", "x".repeat(70))).is_ok());
    }

    #[test]
    fn a_begun_delimiter_is_found_at_the_end() {
        let needle = b"\r\n--ab";
        for (text, held) in [
            (&b"x\r\n--a"[..], 5),
            (b"\r", 1),
            (b"\r\r", 1),
            (b"\r\n--x", 0),
            (b"\r\n\r\n-", 3),
            (b"abcdefgh", 0),
            (b"", 0),
        ] {
            assert_eq!(begun(needle, text), held, "{text:?}");
        }
    }
}
