//! Records in order, for a thread that may block: the database's feeder, and what looks at a log offline.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::record::{Record, kind};
use super::replay::unreadable;
use super::segment::{Frame, Listing, SegmentFile};
use super::walk::{Chain, Damage};
use super::{LogError, LogId, Lsn};

/// Reads a log that may be written at the same time, up to where it is told that it is durable.
pub struct Reader {
    directory: PathBuf,
    id: LogId,
    file: SegmentFile,
    at: Lsn,
}

impl Reader {
    /// Reads from `from` on: a place that [`Reader::position`] or the writer has told, or the oldest one
    /// ([`LogState::oldest_lsn`](super::LogState::oldest_lsn)). A place counts only together with the log's
    /// [`Reader::id`].
    ///
    /// # Errors
    /// [`LogError::Absent`] when the log does not reach there; [`LogError::Io`].
    pub fn open(directory: &Path, from: Lsn) -> Result<Reader, LogError> {
        let chain = Chain::read(directory)?;
        let end = chain.links.last().map_or(Lsn(0), |link| link.segment.end());
        let absent = || LogError::Absent { lsn: from, oldest: chain.oldest(), end };
        let (id, index) = (chain.id.ok_or_else(absent)?, chain.index_of(from).ok_or_else(absent)?);
        let segment = chain.links[index].segment;
        let file = SegmentFile::open(directory, &id, segment)?;
        Ok(Reader { directory: directory.to_owned(), id, file, at: from.max(segment.body()) })
    }

    /// Which log this is.
    pub fn id(&self) -> &LogId {
        &self.id
    }

    /// Where the next record is: everything below was read.
    pub fn position(&self) -> Lsn {
        self.at
    }

    /// The next record below `upto`, a place that the writer has told as durable; `None` when there is none yet.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when what is there is not as it was written; [`LogError::Io`]. The position stays.
    pub fn next(&mut self, upto: Lsn) -> Result<Option<(Lsn, Record<'_>)>, LogError> {
        Ok(self.next_between(upto)?.map(|(places, record)| (places.start, record)))
    }

    /// As [`Reader::next`], with the place behind the record, too: where reading can go on.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn next_between(&mut self, upto: Lsn) -> Result<Option<(Range<Lsn>, Record<'_>)>, LogError> {
        let Some((lsn, frame)) = self.next_frame(upto)? else { return Ok(None) };
        let payload = self.file.payload(lsn, &frame);
        match Record::decode(frame.kind, payload) {
            Some(record) => {
                self.at = Lsn(lsn.0 + frame.total());
                Ok(Some((lsn..self.at, record)))
            }
            None => Err(self.damage(unreadable(&frame))),
        }
    }

    fn next_frame(&mut self, upto: Lsn) -> Result<Option<(Lsn, Frame)>, LogError> {
        while self.at < upto {
            if self.at >= self.file.segment.end() {
                if !self.enter_next(upto)? {
                    return Ok(None);
                }
                continue;
            }
            match self.file.frame(self.at, upto)? {
                Some(frame) if frame.kind == kind::FILLER => self.at = Lsn(self.at.0 + frame.total()),
                Some(frame) => return Ok(Some((self.at, frame))),
                None => return Err(self.damage(format!("no sound record is here, below {upto}"))),
            }
        }
        Ok(None)
    }

    /// Goes to the next segment, if the log goes on there below `upto`.
    fn enter_next(&mut self, upto: Lsn) -> Result<bool, LogError> {
        let first = self.file.segment.end();
        if upto <= first {
            return Ok(false);
        }
        let listing = Listing::of(&self.directory)?;
        let Some(segment) = listing.segments.into_iter().find(|segment| segment.first == first) else {
            return Err(self.damage(format!("the log goes on at {first}, and that segment is missing")));
        };
        self.file = SegmentFile::open(&self.directory, &self.id, segment)?;
        self.at = segment.body();
        Ok(true)
    }

    fn damage(&self, why: String) -> LogError {
        let offset = self.at.0 - self.file.segment.first.0;
        Damage { lsn: self.at, path: self.file.path.clone(), offset, why }.into()
    }
}
