//! Where a feed goes on after a restart, when its database does not keep that itself.
//!
//! The file says which database and which log it speaks of. If either is another one, or the file cannot be read, the feed
//! begins with the oldest row that the log has: rows that are there already are ignored by the database, so that costs
//! time and nothing else. Believing a position of another log would lose rows.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::feed::LogId;
use super::folder::Folder;
use crate::hex;

/// The position is written so often at most; rows of that time are sent again after a crash.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(1);

const NAME: &str = "feed.position";

/// The position on disk.
pub(super) struct Checkpoint {
    folder: Rc<Folder>,
    target: String,
    log: String,
    written: u64,
    at: Option<Instant>,
}

impl Checkpoint {
    /// Reads the position of that log in that database; 0 if none is known.
    pub(super) fn open(folder: Rc<Folder>, target: &str, log: LogId) -> Checkpoint {
        let log = hex::encode(&log);
        let written = match std::fs::read_to_string(folder.file(NAME)) {
            Ok(text) => match parse(&text) {
                Some((of, in_log, lsn)) if of == target && in_log == log => lsn,
                Some(_) => {
                    crate::warn!("chat: the feed's position is one of another database or log: it begins anew");
                    0
                }
                None => {
                    let name = folder.file(NAME);
                    crate::warn!("chat: {} cannot be read: the feed begins anew, no row is lost", name.display());
                    0
                }
            },
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    crate::warn!("chat: reading the feed's position: {error}: it begins anew, no row is lost");
                }
                0
            }
        };
        Checkpoint { folder, target: target.to_owned(), log, written, at: None }
    }

    /// What a restart would begin behind.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// When `lsn` may be written; `None`: it is.
    pub(super) fn due(&self, lsn: u64) -> Option<Instant> {
        (lsn > self.written).then(|| self.at.map_or_else(Instant::now, |at| at + WRITE_EVERY))
    }

    /// Writes a position that is known to be stored.
    ///
    /// # Errors
    /// It may or may not be on disk: either is right.
    pub(super) fn write(&mut self, lsn: u64) -> io::Result<()> {
        // Also after a failure: a full disk is not tried again and again.
        self.at = Some(Instant::now());
        let text = format!("annulus feed 1\ntarget {}\nlog {}\nlsn {lsn}\n", self.target, self.log);
        self.folder.replace(NAME, text.as_bytes())?;
        self.written = lsn;
        Ok(())
    }
}

fn parse(text: &str) -> Option<(&str, &str, u64)> {
    let text = text.strip_prefix("annulus feed 1\ntarget ")?.strip_suffix('\n')?;
    let (target, rest) = text.split_once("\nlog ")?;
    let (log, lsn) = rest.split_once("\nlsn ")?;
    Some((target, log, lsn.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_believed_for_its_own_database_and_log_only() {
        let path = std::env::temp_dir().join(format!("annulus-checkpoint-{}", std::process::id()));
        let folder = Rc::new(Folder::open(&path).unwrap());
        let mut checkpoint = Checkpoint::open(folder.clone(), "db", [1; 16]);
        assert_eq!((checkpoint.written(), checkpoint.due(0)), (0, None));
        checkpoint.write(77).unwrap();
        assert!(checkpoint.due(78).unwrap() > Instant::now());
        assert_eq!(Checkpoint::open(folder.clone(), "db", [1; 16]).written(), 77);
        assert_eq!(Checkpoint::open(folder.clone(), "other", [1; 16]).written(), 0);
        assert_eq!(Checkpoint::open(folder.clone(), "db", [2; 16]).written(), 0);
        for torn in ["", "annulus feed 1\ntarget db\nlog 1\nlsn 7", "annulus feed 1\ntarget db\nlog 1\nlsn x\n"] {
            std::fs::write(folder.file(NAME), torn).unwrap();
            assert_eq!(Checkpoint::open(folder.clone(), "db", [1; 16]).written(), 0, "{torn:?}");
        }
        std::fs::remove_dir_all(path).unwrap();
    }
}
