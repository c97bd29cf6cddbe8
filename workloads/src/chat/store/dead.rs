//! Rows that the database refuses for what they are: kept in a file, one JSON object a line, so that one row holds up
//! nobody and nothing is lost.
//!
//! A row may be in the file twice, when the process was killed between writing it and noting so; `channel`, `epoch` and
//! `offset` tell.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

use super::feed::now_ms;
use super::folder::Folder;
use super::row::{Rows, write_json_text};
use crate::hex;

const NAME: &str = "dead-letters.jsonl";

/// Longest dead-letter file in bytes. At the limit the feed stops and says so: a database that refuses everything must not
/// empty the log into a file unnoticed. Moving the file away lets it go on.
pub(super) const BYTES_MAX: u64 = 64 << 20;

/// The file, opened when it is first needed.
pub(super) struct DeadLetters {
    folder: Rc<Folder>,
    bytes_max: u64,
}

impl DeadLetters {
    /// Letters in that folder.
    pub(super) fn new(folder: Rc<Folder>, bytes_max: u64) -> DeadLetters {
        DeadLetters { folder, bytes_max }
    }

    /// Adds a row, durably.
    ///
    /// # Errors
    /// A sentence; the row is not in the file then.
    pub(super) fn bury(&self, rows: &Rows, index: usize, error: &str) -> Result<(), String> {
        let name = self.folder.file(NAME);
        self.append(&line(rows, index, error)).map_err(|error| format!("{}: {error}", name.display()))
    }

    /// The file is opened anew each time, so that it can be moved away at any time.
    fn append(&self, line: &[u8]) -> io::Result<()> {
        let path = self.folder.file(NAME);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        if len + line.len() as u64 > self.bytes_max {
            return Err(io::Error::other(format!(
                "it would grow beyond {} bytes. Fix: see in it why the database refuses rows, then move it away",
                self.bytes_max
            )));
        }
        let whole = match ends_whole(&mut file, len)? {
            true => file.write_all(line),
            // A crash has torn the last line.
            false => file.write_all(&[b"\n", line].concat()),
        };
        if let Err(error) = whole.and_then(|()| file.sync_all()) {
            file.set_len(len)?;
            return Err(error);
        }
        // Always: a sync that failed when the file was new is not tried by anybody else.
        self.folder.sync()
    }
}

fn ends_whole(file: &mut File, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(len - 1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Everything known of the row. What is a text is there as one, anything else in hexadecimal digits.
fn line(rows: &Rows, index: usize, error: &str) -> Vec<u8> {
    let row = rows.get(index);
    let mut line = format!(r#"{{"at_ms":{},"lsn":{}"#, now_ms(), rows.lsn(index)).into_bytes();
    let mut text = |name: &str, value: &str| {
        line.extend_from_slice(format!(r#","{name}":"#).as_bytes());
        write_json_text(value, &mut line);
    };
    text("error", error);
    text("channel", row.channel);
    text("epoch", &String::from_utf8_lossy(&row.epoch));
    text("user", row.user);
    text("client", &uuid(row.client).unwrap_or_default());
    text("tags", row.tags);
    for (name, bytes) in [("conn_info", row.conn_info), ("chan_info", row.chan_info), ("data", row.data)] {
        match std::str::from_utf8(bytes) {
            Ok(value) => text(name, value),
            Err(_) => text(&format!("{name}_hex"), &hex::encode(bytes)),
        }
    }
    let numbers = format!(
        r#","offset":{},"time_ms":{},"sealed":{},"binary":{}}}"#,
        row.offset, row.time_ms, row.sealed, row.binary
    );
    line.extend_from_slice(numbers.as_bytes());
    line.push(b'\n');
    line
}

/// A client as RFC 9562 writes a UUID; none for zero, the server.
pub(super) fn uuid(client: [u8; 16]) -> Option<String> {
    let mut digits = hex::encode(&client);
    [20, 16, 12, 8].into_iter().for_each(|at| digits.insert(at, '-'));
    (client != [0; 16]).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::super::row::Row;
    use super::*;

    #[test]
    fn lines_are_whole_json_and_the_file_has_a_limit() {
        let path = std::env::temp_dir().join(format!("annulus-dead-{}", std::process::id()));
        let letters = DeadLetters::new(Rc::new(Folder::open(&path).unwrap()), 1000);
        let mut rows = Rows::new(10, 1000);
        rows.push(&Row { lsn: 5, channel: "a\0b", epoch: *b"abcd", data: b"\xff", ..Row::default() }, [("t", "\u{1}")]);
        letters.bury(&rows, 0, "no \"zero\"").unwrap();
        let file = path.join(NAME);
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.contains(r#""lsn":5,"error":"no \"zero\"","channel":"a\u0000b","epoch":"abcd""#), "{written}");
        assert!(written.contains(r#""data_hex":"ff""#) && written.ends_with("}\n"), "{written}");
        // A torn line does not swallow the next one.
        std::fs::write(&file, &written[..30]).unwrap();
        letters.bury(&rows, 0, "again").unwrap();
        let lines: Vec<_> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
        assert!(lines.len() == 2 && lines[1].contains("again"), "{lines:?}");
        let mut refused = None;
        for _ in 0..10 {
            refused = refused.or(letters.bury(&rows, 0, "more").err());
        }
        assert!(refused.unwrap().contains("move it away"));
        assert!(std::fs::metadata(&file).unwrap().len() <= 1000);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_client_is_a_uuid_or_nobody() {
        assert_eq!(uuid([0; 16]), None);
        let client: [u8; 16] = std::array::from_fn(|index| index as u8 + 1);
        assert_eq!(uuid(client).unwrap(), "01020304-0506-0708-090a-0b0c0d0e0f10");
    }
}
