//! What every publication carries, so that its receivers can tell which one it is: room, publisher and the room's own
//! number, in digits of fixed width that are found without parsing JSON.
//!
//! ```text
//!   {"b":"0000000c0000004100000007","t":"xxxx…"}
//!         └ room ┘└ publ. ┘└ number┘      padding up to the size that is asked for
//! ```

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// Begins the data of a publication. Nothing else on the wire contains it.
const MARK: &[u8] = b"{\"b\":\"";
/// Digits of one number.
const DIGITS: usize = 8;

/// Which publication it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The room it was meant for.
    pub room: u32,
    /// The client that published it.
    pub publisher: u32,
    /// Counts the publications of a room, whoever published them.
    pub number: u32,
}

impl Stamp {
    /// The publication's data, of `size` bytes; of as many as it needs where that is fewer.
    pub fn data(&self, size: usize) -> String {
        let Stamp { room, publisher, number } = self;
        let mut text = format!("{{\"b\":\"{room:08x}{publisher:08x}{number:08x}\"");
        // Quotes, name, colon, comma and brace of the padding.
        if let Some(padding) = size.checked_sub(text.len() + r#","t":""}"#.len()) {
            text.push_str(",\"t\":\"");
            text.extend(std::iter::repeat_n('x', padding));
            text.push('"');
        }
        text.push('}');
        text
    }

    /// Finds the first stamp, and gives what follows its digits.
    #[inline]
    pub fn find(bytes: &[u8]) -> Option<(Stamp, &[u8])> {
        static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
        let start = MARKS.find(bytes)? + MARK.len();
        let digits = bytes.get(start..start + 3 * DIGITS)?;
        let stamp = Stamp {
            room: number(&digits[..DIGITS])?,
            publisher: number(&digits[DIGITS..2 * DIGITS])?,
            number: number(&digits[2 * DIGITS..])?,
        };
        Some((stamp, &bytes[start + 3 * DIGITS..]))
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number: u32, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { room: 12, publisher: 65, number: 0xdead_beef };

    #[test]
    fn a_stamp_is_found_in_what_a_server_sends() {
        let push = format!(r#"{{"push":{{"channel":"a","pub":{{"data":{},"offset":7}}}}}}"#, STAMP.data(100));
        let (found, rest) = Stamp::find(push.as_bytes()).unwrap();
        assert_eq!(found, STAMP);
        assert!(rest.ends_with(b"\"offset\":7}}}"));
        assert_eq!(Stamp::find(rest), None);
    }

    #[test]
    fn data_is_json_of_the_size_asked_for() {
        for size in [0, 10, 32, 48, 64, 200, 4096] {
            let data = STAMP.data(size);
            assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok(), "{data}");
            assert!(data.len() == size || (size <= 48 && data.len() <= 48), "{size}: {}", data.len());
        }
    }

    #[test]
    fn what_is_cut_or_no_number_is_no_stamp() {
        let data = STAMP.data(0);
        assert_eq!(Stamp::find(&data.as_bytes()[..data.len() - 3]), None);
        assert_eq!(Stamp::find(data.replace('d', "g").as_bytes()), None);
        assert_eq!(Stamp::find(b"{}"), None);
    }
}
