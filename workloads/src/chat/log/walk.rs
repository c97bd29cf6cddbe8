//! The segments of a log in order, and a walk over their frames that says why it ends.
//!
//! ```text
//!   …[batch 7, its last frame marked][batch 8][batch 8 ✗ unsound  ...  ]
//!                                               │
//!       searched up to the end of the log: ─────┴─► nothing, or frames of batch 8 only   a crash tore batch 8: the end
//!                                                   a frame of batch 9 or later          damage: 9 was begun only when
//!                                                                                        8 was on stable storage
//! ```
//!
//! What this cannot tell: damage in the very last batch looks like a torn one.

use std::path::{Path, PathBuf};

use super::record::kind;
use super::segment::{FRAME_BYTES, Frame, Listing, Segment, SegmentFile, Spare, read_header};
use super::{LogError, LogId, Lsn};

/// How far the number of a batch may be ahead of the last one that was read: at a thousand batches a second, seventeen
/// minutes of a log that is damaged throughout.
const BATCHES_AHEAD: u64 = 1 << 20;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the log.
    pub lsn: Lsn,
    /// In which file.
    pub path: PathBuf,
    /// Where in that file.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
}

impl From<Damage> for LogError {
    fn from(damage: Damage) -> LogError {
        let Damage { lsn, path, offset, why } = damage;
        LogError::Damaged { lsn, path, offset, why }
    }
}

/// A segment and whether its header can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) segment: Segment,
    pub(super) is_sound: bool,
}

/// The segments of a directory, oldest first.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) directory: PathBuf,
    /// `None`: there are no segments.
    pub(super) id: Option<LogId>,
    pub(super) links: Vec<Link>,
    /// The newest checkpoint that a header speaks of; 0: none.
    pub(super) checkpoint: Lsn,
    pub(super) spares: Vec<Spare>,
}

impl Chain {
    /// Reads the headers. Damaged ones, and gaps, are in [`Chain::damages`].
    pub(super) fn read(directory: &Path) -> Result<Chain, LogError> {
        let listing = Listing::of(directory)?;
        let (mut id, mut checkpoint, mut links) = (None, Lsn(0), Vec::new());
        for segment in listing.segments {
            if segment.first.0.checked_add(segment.bytes).is_none() {
                return Err(LogError::Strange(segment.path(directory)));
            }
            let header = match read_header(directory, &segment) {
                // A reader beside the writer: released since it was listed.
                Err(LogError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => continue,
                header => header?,
            };
            if let Some(header) = &header {
                if *id.get_or_insert(header.id) != header.id {
                    return Err(LogError::Strange(segment.path(directory)));
                }
                checkpoint = checkpoint.max(header.checkpoint);
            }
            links.push(Link { segment, is_sound: header.is_some() });
        }
        if id.is_none() && !links.is_empty() {
            let first: Link = links[0];
            return Err(LogError::Strange(first.segment.path(directory)));
        }
        Ok(Chain { directory: directory.to_owned(), id, links, checkpoint, spares: listing.spares })
    }

    /// Headers that cannot be read, and segments that are missing.
    pub(super) fn damages(&self) -> Vec<Damage> {
        let damage = |segment: &Segment, why: String| Damage {
            lsn: segment.first,
            path: segment.path(&self.directory),
            offset: 0,
            why,
        };
        let headers = self.links.iter().filter(|link| !link.is_sound);
        let headers = headers.map(|link| damage(&link.segment, "its header cannot be read".to_owned()));
        let pairs = self.links.iter().zip(self.links.iter().skip(1));
        let gaps = pairs.filter(|(a, b)| a.is_sound && a.segment.end() != b.segment.first);
        let gaps = gaps.map(|(a, b)| {
            let why = format!("what lies between {} and {} is missing", a.segment.end(), b.segment.first);
            damage(&b.segment, why)
        });
        let mut damages: Vec<Damage> = headers.chain(gaps).collect();
        damages.sort_by_key(|damage| damage.lsn);
        damages
    }

    /// Which segment holds this place.
    pub(super) fn index_of(&self, lsn: Lsn) -> Option<usize> {
        self.links.iter().position(|link| link.segment.first <= lsn && lsn < link.segment.end())
    }

    /// The first place of all.
    pub(super) fn oldest(&self) -> Lsn {
        self.links.first().map_or(Lsn(0), |link| link.segment.first)
    }
}

/// Why a walk has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was written here.
    End,
    /// A crash tore a batch that nobody was told of; signs of it reach to `until`.
    Torn { until: Lsn },
    /// The log goes on at `resume`.
    Damaged { damage: Damage, resume: Lsn },
}

/// See the module's description.
pub(super) struct Walk<'c> {
    chain: &'c Chain,
    id: LogId,
    index: usize,
    file: SegmentFile,
    /// Where the next frame is expected.
    pub(super) at: Lsn,
    /// The batch of the last frame, and whether that was its last.
    pub(super) batch: u64,
    pub(super) ended: bool,
}

impl<'c> Walk<'c> {
    /// A walk from `from`; `None` when no segment holds that place.
    pub(super) fn new(chain: &'c Chain, from: Lsn) -> Result<Option<Walk<'c>>, LogError> {
        let (Some(index), Some(id)) = (chain.index_of(from), chain.id) else { return Ok(None) };
        let segment = chain.links[index].segment;
        let file = SegmentFile::open(&chain.directory, &id, segment)?;
        Ok(Some(Walk { chain, id, index, file, at: from.max(segment.body()), batch: 0, ended: true }))
    }

    /// Which segment it is in.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The next record's frame; `None` when no sound one follows.
    pub(super) fn next(&mut self) -> Result<Option<(Lsn, Frame)>, LogError> {
        loop {
            if self.at >= self.file.segment.end() && !self.enter(self.index + 1)? {
                return Ok(None);
            }
            let frame = self.file.frame(self.at, Lsn(u64::MAX))?;
            // Batches never go back: what was cut off once does not return.
            let Some(frame) = frame.filter(|frame| frame.batch >= self.batch) else { return Ok(None) };
            let lsn = self.at;
            self.at = Lsn(lsn.0 + frame.total());
            (self.batch, self.ended) = (frame.batch, frame.ends);
            if frame.kind != kind::FILLER {
                return Ok(Some((lsn, frame)));
            }
        }
    }

    /// The payload of the frame that [`Walk::next`] has just given.
    pub(super) fn payload(&self, lsn: Lsn, frame: &Frame) -> &[u8] {
        self.file.payload(lsn, frame)
    }

    /// Goes to the beginning of a segment. Whether there is one.
    fn enter(&mut self, index: usize) -> Result<bool, LogError> {
        let Some(link) = self.chain.links.get(index) else { return Ok(false) };
        self.file = SegmentFile::open(&self.chain.directory, &self.id, link.segment)?;
        (self.index, self.at) = (index, link.segment.body());
        Ok(true)
    }

    /// Goes on behind what is damaged.
    pub(super) fn resume(&mut self, at: Lsn) -> Result<(), LogError> {
        if let Some(index) = self.chain.index_of(at)
            && index != self.index
        {
            self.enter(index)?;
        }
        self.at = at;
        Ok(())
    }

    /// The batch that goes on here, or begins. If any is torn, it is this one: numbers have no gaps.
    pub(super) fn next_batch(&self) -> u64 {
        if self.ended { self.batch.saturating_add(1) } else { self.batch }
    }

    /// What a reader makes of a place where it found something unreadable.
    pub(super) fn damage(&self, lsn: Lsn, why: String) -> Damage {
        let segment = &self.chain.links[self.index].segment;
        Damage { lsn, path: segment.path(&self.chain.directory), offset: lsn.0 - segment.first.0, why }
    }

    /// Why nothing sound follows: looks through the rest of the log.
    pub(super) fn judge(&self) -> Result<Verdict, LogError> {
        if self.at >= self.file.segment.end() {
            return Ok(Verdict::End);
        }
        let torn = self.next_batch();
        // Where nothing was read yet, any number may be the present one.
        let batches = torn..if self.batch == 0 { u64::MAX } else { torn.saturating_add(BATCHES_AHEAD) };
        let mut until = None;
        for (index, link) in self.chain.links.iter().enumerate().skip(self.index) {
            let mut file = SegmentFile::open(&self.chain.directory, &self.id, link.segment)?;
            let behind = Lsn(self.at.0 + FRAME_BYTES as u64);
            let mut from = if index == self.index { behind } else { link.segment.body() };
            while let Some((lsn, frame)) = file.find(from, &batches)? {
                if frame.batch > torn {
                    let why = format!(
                        "no sound record of batch {torn} is here, but one of batch {} at {lsn}, which was begun only \
                         after everything before it was on stable storage",
                        frame.batch
                    );
                    return Ok(Verdict::Damaged { damage: self.damage(self.at, why), resume: lsn });
                }
                from = Lsn(lsn.0 + frame.total());
                until = Some(from);
            }
        }
        let claimed = || SegmentFile::open(&self.chain.directory, &self.id, self.file.segment)?.claims(self.at, torn);
        Ok(match until {
            Some(until) => Verdict::Torn { until },
            None => claimed()?.map_or(Verdict::End, |until| Verdict::Torn { until }),
        })
    }
}
