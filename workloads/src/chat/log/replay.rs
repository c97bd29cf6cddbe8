//! Opening the log: what is in it is told, its end is made clean, and the writer gets what it begins with.
//!
//! ```text
//!   lock ─► headers ─► newest checkpoint known ─► walk to the end ─► (cut a torn batch) ─► replay from the newest
//!                                                      │                                     complete checkpoint
//!                                                      └─► damage in the middle: refuse, or mend if loss is accepted
//! ```
//!
//! Blocking, for the time before shards run. Segments before the checkpoint are not looked at: the database's feeder
//! reads those, and `verify-log` does.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use super::checkpoint::Checkpoints;
use super::keeper::SPARES;
use super::record::{Record, kind};
use super::segment::{FRAME_BYTES, Frame, HEADER_BYTES, Header, Identity, Segment, Spare};
use super::state::LogState;
use super::walk::{Chain, Damage, Link, Verdict, Walk};
use super::{LogError, LogId, Lsn, Options};
use crate::durable::make_directory;

/// Newest segments whose data an earlier process may have left unsynced: the one it wrote, the one before, and one made
/// ready.
const UNSETTLED: usize = 3;

/// The end of the log as a crash had left it. Nobody was told that these records are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where the log ends now.
    pub at: Lsn,
    /// How far beyond there were signs of the batch.
    pub bytes: u64,
}

/// What was lost with consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it began, and why.
    pub damage: Damage,
    /// Where the log goes on.
    pub resume: Lsn,
}

/// An open log: what was found, and all that the writer needs.
pub struct Opened {
    /// Which log it is.
    pub id: LogId,
    /// Whether there was none before.
    pub is_new: bool,
    /// Where the next record goes.
    pub next: Lsn,
    /// Where the oldest segment begins.
    pub oldest: Lsn,
    /// Where the replay began.
    pub from: Lsn,
    /// Records replayed.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// A torn batch, which was cut off.
    pub torn: Option<Torn>,
    /// What was damaged and is gone now.
    pub losses: Vec<Loss>,
    /// What all threads may see.
    pub state: Arc<LogState>,
    pub(super) options: Options,
    pub(super) segments: VecDeque<Segment>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) next_spare: u64,
    /// The number of the next batch: of the torn one, if there was one, because nothing of that is left.
    pub(super) batch: u64,
    pub(super) checkpoints: Checkpoints,
    pub(super) lock: File,
}

/// The log.
pub struct Log;

/// What the walk over the log has found.
struct Survey {
    checkpoints: Checkpoints,
    /// The segment in which the log ends.
    index: usize,
    next: Lsn,
    batch: u64,
    torn: Option<Torn>,
    losses: Vec<Loss>,
}

impl Log {
    /// Opens or makes the log, and tells `apply` what is in it: from the begin of the newest complete checkpoint, or
    /// from the log's beginning. A publication may come twice, as itself and as [`Record::Kept`], in any order.
    ///
    /// # Errors
    /// [`LogError`]: the directory cannot be used or is in use, or the log is damaged and loss is not accepted. The log
    /// was not changed then.
    pub fn open(options: &Options, apply: &mut dyn FnMut(Lsn, Record<'_>)) -> Result<Opened, LogError> {
        options.check()?;
        let directory = &options.directory;
        make_directory(directory).map_err(LogError::io("making", directory))?;
        let lock = lock(directory)?;
        let mut chain = Chain::read(directory)?;
        let is_new = chain.links.is_empty();
        let mut losses = Vec::new();
        if is_new {
            begin(directory, options.segment_bytes)?;
            chain = Chain::read(directory)?;
        } else if let Some(damage) = chain.damages().into_iter().next() {
            if !options.accept_loss {
                return Err(damage.into());
            }
            losses = mend_chain(&chain, options)?;
            chain = Chain::read(directory)?;
        }
        settle(&chain)?;
        let from = start(&chain, options.accept_loss);
        let mut survey = survey(&chain, from, options.accept_loss)?;
        losses.append(&mut survey.losses);
        let from = survey.checkpoints.complete.unwrap_or(from);
        let (records, bytes) = replay(&chain, from, options.accept_loss, &mut losses, apply)?;
        let oldest = chain.oldest();
        let Survey { checkpoints, index, next, batch, torn, .. } = survey;
        if torn.is_some() {
            cut(&chain.links[index].segment, directory, next)?;
        }
        let Tidied { segments, spares, next_spare, next } = tidy(&chain, index, next, options.segment_bytes)?;
        let state = Arc::new(LogState::new(options, oldest, next));
        Ok(Opened {
            id: chain.id.expect("a chain of sound segments has an id"),
            options: options.clone(),
            is_new,
            next,
            oldest,
            from,
            records,
            bytes,
            torn,
            losses,
            state,
            segments,
            spares,
            next_spare,
            batch,
            checkpoints: checkpoints.resumed(),
            lock,
        })
    }
}

/// Keeps other processes out for as long as the file is open. A copy that may only be read has the file, or needs none.
pub(super) fn lock(directory: &Path) -> Result<File, LogError> {
    let path = directory.join("lock");
    let opened = File::open(&path).or_else(|_| File::options().create(true).truncate(false).write(true).open(&path));
    let file = opened.map_err(LogError::io("opening", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LogError::Locked(directory.to_owned())),
        Err(error) => Err(LogError::io("locking", &path)(error.into())),
    }
}

/// Makes the first segment of a new log.
fn begin(directory: &Path, segment_bytes: u64) -> Result<(), LogError> {
    let mut id = LogId::default();
    let path = Path::new("/dev/urandom");
    let random = File::open(path).and_then(|mut random| io::Read::read_exact(&mut random, &mut id));
    random.map_err(LogError::io("reading", path))?;
    make_segment(directory, id, Segment { first: Lsn(0), bytes: segment_bytes })
}

/// Makes a segment of zeros. It has its name only once it is whole.
pub(super) fn make_segment(directory: &Path, id: LogId, segment: Segment) -> Result<(), LogError> {
    let (new, path) = (directory.join("spare-new.log"), segment.path(directory));
    let make = || {
        let file = File::create(&new)?;
        let zeros = vec![0; 1 << 20];
        for at in (0..segment.bytes).step_by(zeros.len()) {
            file.write_all_at(&zeros[..zeros.len().min((segment.bytes - at) as usize)], at)?;
        }
        file.write_all_at(&Header { id, segment, checkpoint: Lsn(0) }.encode(), 0)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    make().map_err(LogError::io("making", &path))?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), LogError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(LogError::io("syncing", directory))
}

/// Makes durable what an earlier process has written and not synced, and forgets what is cached: after a failed sync the
/// cache says that all is well, and only the disk knows. From here on what is read is what is on the disk.
fn settle(chain: &Chain) -> Result<(), LogError> {
    for link in chain.links.iter().rev().take(UNSETTLED) {
        let path = link.segment.path(&chain.directory);
        let settled = File::open(&path).and_then(|file| {
            file.sync_all()?;
            Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
        });
        settled.map_err(LogError::io("syncing", &path))?;
    }
    Ok(())
}

/// Where the walk begins: at the newest checkpoint that a header knows of. If that was released meanwhile, a newer one
/// lies in what is there, and the walk finds it.
fn start(chain: &Chain, accepts_loss: bool) -> Lsn {
    let knows = !accepts_loss && chain.checkpoint > Lsn(0) && chain.index_of(chain.checkpoint).is_some();
    if knows { chain.checkpoint } else { chain.oldest() }
}

/// Walks to the log's end.
fn survey(chain: &Chain, from: Lsn, accepts_loss: bool) -> Result<Survey, LogError> {
    let mut walk = Walk::new(chain, from)?.expect("the start lies in a segment");
    let mut checkpoints = Checkpoints::default();
    let mut losses = Vec::new();
    let torn = loop {
        while let Some((lsn, frame)) = walk.next()? {
            if matches!(frame.kind, kind::CHECKPOINT_BEGIN | kind::CHECKPOINT_END)
                && let Some(mark) = Record::decode(frame.kind, walk.payload(lsn, &frame))
            {
                checkpoints.on_record(lsn, &mark);
            }
        }
        match walk.judge()? {
            Verdict::End => break None,
            Verdict::Torn { until } => break Some(Torn { at: walk.at, bytes: until.0 - walk.at.0 }),
            Verdict::Damaged { damage, .. } if !accepts_loss => return Err(damage.into()),
            Verdict::Damaged { damage, resume } => {
                mend(chain, &damage, resume, walk.batch)?;
                losses.push(Loss { damage, resume });
                walk.resume(resume)?;
            }
        }
    };
    if !accepts_loss && from > Lsn(0) && checkpoints.complete.is_none() {
        let why = "what came before is not there, and no complete checkpoint follows".to_owned();
        let walk = Walk::new(chain, from)?.expect("the start lies in a segment");
        return Err(walk.damage(from, why).into());
    }
    let (index, next, batch) = (walk.index(), walk.at, walk.next_batch());
    Ok(Survey { checkpoints, index, next, batch, torn, losses })
}

/// Tells what is in the log from `from` on: how many records, and their bytes.
fn replay(
    chain: &Chain,
    from: Lsn,
    accepts_loss: bool,
    losses: &mut Vec<Loss>,
    apply: &mut dyn FnMut(Lsn, Record<'_>),
) -> Result<(u64, u64), LogError> {
    let mut walk = Walk::new(chain, from)?.expect("the start lies in a segment");
    let (mut records, mut bytes) = (0, 0);
    while let Some((lsn, frame)) = walk.next()? {
        match Record::decode(frame.kind, walk.payload(lsn, &frame)) {
            Some(record) => apply(lsn, record),
            None => {
                let damage = walk.damage(lsn, unreadable(&frame));
                if !accepts_loss {
                    return Err(damage.into());
                }
                losses.push(Loss { damage, resume: walk.at });
            }
        }
        records += 1;
        bytes += frame.total();
    }
    Ok((records, bytes))
}

pub(super) fn unreadable(frame: &Frame) -> String {
    format!("its checksum is right, but it is no record of kind {} that this version can read", frame.kind)
}

/// Makes damaged headers anew, and fills gaps with segments of nothing.
fn mend_chain(chain: &Chain, options: &Options) -> Result<Vec<Loss>, LogError> {
    let id = chain.id.expect("a chain with segments has an id");
    let gap = |pair: &&[Link]| pair[1].segment.first.0.saturating_sub(pair[0].segment.end().0);
    if let Some(pair) = chain.links.windows(2).find(|pair| gap(pair) > options.bytes_max) {
        // What lies so far off is no loss within this log, and is not made good by as many zeros. Nothing has been changed yet.
        return Err(LogError::Strange(pair[1].segment.path(&chain.directory)));
    }
    let mut losses = Vec::new();
    for (index, Link { segment, is_sound }) in chain.links.iter().enumerate() {
        let next = chain.links.get(index + 1).map(|next| next.segment.first);
        let mut segment = *segment;
        if !is_sound {
            segment.bytes = next.map_or(segment.bytes.max(options.segment_bytes), |next| next.0 - segment.first.0);
            let path = segment.path(&chain.directory);
            let mended = File::options().write(true).open(&path).and_then(|file| {
                file.set_len(segment.bytes)?;
                file.write_all_at(&Header { id, segment, checkpoint: Lsn(0) }.encode(), 0)?;
                file.sync_all()
            });
            mended.map_err(LogError::io("mending", &path))?;
        }
        if let Some(next) = next.filter(|next| *next != segment.end()) {
            let gap = next.0.checked_sub(segment.end().0).filter(|gap| *gap > HEADER_BYTES + FRAME_BYTES as u64);
            let bytes = gap.ok_or_else(|| LogError::Strange(segment.path(&chain.directory)))?;
            make_segment(&chain.directory, id, Segment { first: segment.end(), bytes })?;
        }
    }
    for damage in chain.damages() {
        losses.push(Loss { resume: damage.lsn, damage });
    }
    Ok(losses)
}

/// Puts fillers over what is damaged, so that the log can be walked from now on.
fn mend(chain: &Chain, damage: &Damage, resume: Lsn, batch: u64) -> Result<(), LogError> {
    let id = chain.id.expect("a chain with segments has an id");
    let touched = chain.links.iter().filter(|link| damage.lsn < link.segment.end() && link.segment.first < resume);
    for Link { segment, .. } in touched {
        let (from, until) = (damage.lsn.max(segment.body()), resume.min(segment.end()));
        if from == until {
            continue;
        }
        let path = segment.path(&chain.directory);
        let bytes = until.0.checked_sub(from.0).filter(|bytes| *bytes >= FRAME_BYTES as u64);
        let bytes = bytes.ok_or_else(|| LogError::from(damage.clone()))?;
        let mut filler = Vec::new();
        let identity = Identity::new(&id, segment);
        identity.put_filler(&mut filler, batch, bytes);
        identity.end_batch(&mut filler);
        let mended = File::options().write(true).open(&path).and_then(|file| {
            file.write_all_at(&filler, from.0 - segment.first.0)?;
            file.sync_data()
        });
        mended.map_err(LogError::io("mending", &path))?;
    }
    Ok(())
}

/// Writes zeros over what a crash left of a batch.
fn cut(segment: &Segment, directory: &Path, at: Lsn) -> Result<(), LogError> {
    let path = segment.path(directory);
    let zeros = vec![0; (segment.end().0 - at.0) as usize];
    let cut = File::options().write(true).open(&path).and_then(|file| {
        file.write_all_at(&zeros, at.0 - segment.first.0)?;
        file.sync_data()
    });
    cut.map_err(LogError::io("cutting", &path))
}

/// What the writer begins with.
struct Tidied {
    segments: VecDeque<Segment>,
    spares: Vec<PathBuf>,
    next_spare: u64,
    next: Lsn,
}

/// Takes back segments behind the log's end, which are made ready anew; makes sure that there is one to write to; and
/// removes files of no use.
fn tidy(chain: &Chain, index: usize, next: Lsn, segment_bytes: u64) -> Result<Tidied, LogError> {
    let directory = &chain.directory;
    let (mut spares, mut next_spare) = (Vec::new(), 0);
    for Spare { number, bytes } in &chain.spares {
        next_spare = next_spare.max(number + 1);
        let path = Spare::path(directory, *number);
        match *bytes == segment_bytes && spares.len() < SPARES {
            true => spares.push(path),
            false => fs::remove_file(&path).map_err(LogError::io("removing", &path))?,
        }
    }
    // Newest first and each for good before the next: what a crash leaves has no gap.
    for Link { segment, .. } in chain.links[index + 1..].iter().rev() {
        let (path, spare) = (segment.path(directory), Spare::path(directory, next_spare));
        let keeps = segment.bytes == segment_bytes && spares.len() <= SPARES;
        let moved = if keeps { fs::rename(&path, &spare) } else { fs::remove_file(&path) };
        moved.map_err(LogError::io("taking back", &path))?;
        sync_directory(directory)?;
        if keeps {
            spares.push(spare);
            next_spare += 1;
        }
    }
    let mut segments: VecDeque<Segment> = chain.links[..=index].iter().map(|link| link.segment).collect();
    let current = segments[index];
    let mut next = next.max(current.body());
    if next >= current.end() {
        let segment = Segment { first: current.end(), bytes: segment_bytes };
        make_segment(directory, chain.id.expect("a chain with segments has an id"), segment)?;
        segments.push_back(segment);
        next = segment.body();
    }
    sync_directory(directory)?;
    Ok(Tidied { segments, spares, next_spare, next })
}
