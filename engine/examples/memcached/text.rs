//! The text protocol: from bytes to commands. Nothing here waits or stores.
//!
//! ```text
//!   set <key> <flags> <exptime> <bytes> [noreply]\r\n<data>\r\n
//!   get <key>*\r\n
//! ```
//!
//! By memcached's `doc/protocol.txt`.

use super::store::{Change, Condition, Expiry};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 250;
/// The longest line of a command, in bytes: clients ask for a thousand keys at once, of up to the longest.
pub const LINE_BYTES_MAX: usize = 256 << 10;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Values, with what `cas` needs or without.
    Get { keys: Vec<Vec<u8>>, with_unique: bool },
    /// Something with one key. `quiet`: no answer is wanted.
    Change { key: Vec<u8>, change: Change, quiet: bool },
    /// All items go.
    FlushAll { quiet: bool },
    /// Which server this is.
    Version,
    /// Something about logs that this one does not write.
    Verbosity { quiet: bool },
    /// The connection ends.
    Quit,
}

/// What the first bytes received are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not yet a whole command.
    NeedMore,
    /// A command of so many bytes.
    Command { command: Command, length: usize },
    /// Nothing that can be done; so many bytes are to be passed over.
    Refused { answer: &'static str, length: usize },
    /// Nobody knows where the next command begins: the connection has to end.
    Lost { answer: &'static str },
}

/// Looks at the first command of what was received.
pub fn parse(received: &[u8]) -> Parsed {
    let searched = &received[..received.len().min(LINE_BYTES_MAX)];
    let Some(end) = searched.iter().position(|&byte| byte == b'\n') else {
        return match received.len() >= LINE_BYTES_MAX {
            true => Parsed::Lost { answer: "CLIENT_ERROR line too long\r\n" },
            false => Parsed::NeedMore,
        };
    };
    let (line, length) = (received[..end].strip_suffix(b"\r").unwrap_or(&received[..end]), end + 1);
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let name = words.next().unwrap_or_default();
    let words: Vec<&[u8]> = words.collect();
    match name {
        b"set" => stored(&words, Condition::Any, received, length),
        b"add" => stored(&words, Condition::Absent, received, length),
        b"replace" => stored(&words, Condition::Present, received, length),
        // Which number it has to have comes with the other words.
        b"cas" => stored(&words, Condition::Unchanged(0), received, length),
        _ => match without_data(name, &words) {
            Ok(command) => Parsed::Command { command, length },
            Err(answer) => Parsed::Refused { answer, length },
        },
    }
}

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";

fn without_data(name: &[u8], words: &[&[u8]]) -> Result<Command, &'static str> {
    let (words, quiet) = match words {
        [before @ .., b"noreply"] => (before, true),
        _ => (words, false),
    };
    let change = |key: &[u8], change| Ok(Command::Change { key: checked(key)?, change, quiet });
    match (name, words) {
        (b"get" | b"gets", [_, ..]) => {
            let keys = words.iter().map(|key| checked(key)).collect::<Result<_, _>>()?;
            Ok(Command::Get { keys, with_unique: name == b"gets" })
        }
        // Old clients send a 0 that once was a time.
        (b"delete", [key] | [key, b"0"]) => change(key, Change::Delete),
        (b"incr", [key, by]) => {
            change(key, Change::Add(number(by).ok_or("CLIENT_ERROR invalid numeric delta argument\r\n")?))
        }
        (b"decr", [key, by]) => {
            change(key, Change::Subtract(number(by).ok_or("CLIENT_ERROR invalid numeric delta argument\r\n")?))
        }
        (b"touch", [key, time]) => {
            change(key, Change::Touch(expiry(time).ok_or("CLIENT_ERROR invalid exptime argument\r\n")?))
        }
        (b"flush_all", [] | [b"0"]) => Ok(Command::FlushAll { quiet }),
        (b"flush_all", [_]) => Err("SERVER_ERROR flush_all cannot be put off here\r\n"),
        (b"version", []) => Ok(Command::Version),
        (b"verbosity", [_]) => Ok(Command::Verbosity { quiet }),
        (b"quit", []) => Ok(Command::Quit),
        _ => Err("ERROR\r\n"),
    }
}

/// A command that a value follows, which has to be passed over whatever is wrong with the line.
fn stored(words: &[&[u8]], condition: Condition, received: &[u8], line: usize) -> Parsed {
    let (words, quiet) = match words {
        [before @ .., b"noreply"] => (before, true),
        _ => (words, false),
    };
    let (key, flags, time, size, condition) = match (words, condition) {
        ([key, flags, time, size, unique], Condition::Unchanged(_)) => match number(unique) {
            Some(unique) => (key, flags, time, size, Condition::Unchanged(unique)),
            None => return Parsed::Lost { answer: BAD_FORMAT },
        },
        ([key, flags, time, size], Condition::Any | Condition::Absent | Condition::Present) => {
            (key, flags, time, size, condition)
        }
        _ => return Parsed::Refused { answer: "ERROR\r\n", length: line },
    };
    let Some(size) = number(size).and_then(|size| usize::try_from(size).ok()) else {
        return Parsed::Lost { answer: "CLIENT_ERROR bad data chunk\r\n" };
    };
    if size > VALUE_BYTES_MAX {
        return Parsed::Lost { answer: "SERVER_ERROR object too large for cache\r\n" };
    }
    let length = line + size + 2;
    let Some(data) = received.get(line..length) else { return Parsed::NeedMore };
    let Some(value) = data.strip_suffix(b"\r\n") else {
        return Parsed::Lost { answer: "CLIENT_ERROR bad data chunk\r\n" };
    };
    let flags = number(flags).and_then(|flags| u32::try_from(flags).ok());
    match (checked(key), flags, expiry(time)) {
        (Ok(key), Some(flags), Some(expiry)) => {
            let change = Change::Store { condition, flags, expiry, value: value.into() };
            Parsed::Command { command: Command::Change { key, change, quiet }, length }
        }
        _ => Parsed::Refused { answer: BAD_FORMAT, length },
    }
}

fn checked(key: &[u8]) -> Result<Vec<u8>, &'static str> {
    let good = key.len() <= KEY_BYTES_MAX && !key.iter().any(u8::is_ascii_control);
    if good { Ok(key.to_vec()) } else { Err(BAD_FORMAT) }
}

fn number(word: &[u8]) -> Option<u64> {
    let digits = word.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| digits)?.parse().ok()
}

/// `exptime`: 0 is never, a negative one is past, up to 30 days are counted from now, and more is a Unix time.
fn expiry(word: &[u8]) -> Option<Expiry> {
    const COUNTED_MAX: i64 = 30 * 24 * 3600;
    let seconds: i64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    Some(match seconds {
        0 => Expiry::Never,
        1..=COUNTED_MAX => Expiry::After(seconds.unsigned_abs()),
        _ => Expiry::At(u64::try_from(seconds).unwrap_or(0)),
    })
}
