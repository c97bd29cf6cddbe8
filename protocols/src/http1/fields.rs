//! Fields of a head that was already checked: a view over its bytes, without an index. A look-up walks the lines, which
//! for heads of the usual size costs less than building a table.

use memchr::memchr;
use std::fmt;

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as sent; compare it without regard to case.
    pub name: &'a str,
    /// The value without surrounding white space. Visible characters, spaces, tabs and bytes from 0x80 up.
    pub value: &'a [u8],
}

/// Shows the name only: values may hold credentials.
impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ({} bytes)", self.name, self.value.len())
    }
}

/// The fields of a head in the order in which they were sent.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// Checked field lines, each ended by CRLF; may end with the empty line.
    lines: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `lines` have passed the head parser.
    pub(super) fn from_checked(lines: &'a [u8]) -> Self {
        Self { lines }
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// All values of that name, in order.
    pub fn get_all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.into_iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The elements of a comma-separated list over all fields of that name, without empty elements (RFC 9110
    /// section 5.6.1). Not for names whose elements may contain quoted commas.
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.get_all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether the list of that name has this element, without regard to case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = Field<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { rest: self.lines }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// Iterator over [`Fields`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let end = memchr(b'\n', self.rest)?;
        let line = self.rest[..end].strip_suffix(b"\r")?;
        // The empty line, or something that the head parser would not have let through.
        let colon = memchr(b':', line)?;
        self.rest = &self.rest[end + 1..];
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some(Field { name, value: line[colon + 1..].trim_ascii() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_lines_and_lists() {
        let fields = Fields::from_checked(b"Host: a\r\nAccept:b , c,\r\naccept:\r\nACCEPT: \tD\r\n\r\n");
        assert_eq!(fields.into_iter().count(), 4);
        assert_eq!(fields.get("host"), Some(&b"a"[..]));
        assert_eq!(fields.get("missing"), None);
        assert_eq!(fields.get_all("accept").collect::<Vec<_>>(), [&b"b , c,"[..], b"", b"D"]);
        assert_eq!(fields.list("Accept").collect::<Vec<_>>(), [&b"b"[..], b"c", b"D"]);
        assert!(fields.has_token("accept", "d") && !fields.has_token("accept", "e"));
    }
}
