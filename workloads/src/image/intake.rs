//! An image on its way in: hashed, its head read and judged, written to the store, published, and entered as a job.
//!
//! Where its bytes come from is not known here: a body as it comes, or what lies somewhere already.

use std::sync::Arc;

use annulus_engine::Frame;
use ring::digest;

use super::admission::{Budget, Reservation, Verdict};
use super::api::{Api, of_fault, of_queue, of_store};
use super::asked::Asked;
use super::fault::{Fault, Kind};
use super::header::{self, Apart, Header, Limits, Progress};
use super::job::{Document, Tenant};
use super::pipeline;
use super::queue::{Enqueued, Forecast};
use super::recipe::Recipe;
use super::store::{Object, Upload};
use super::upload::whole_seconds;
use super::work::{ContentHash, Idempotency, Order, Work, WorkKey};
use crate::serve::Problem;

/// Bytes collected for one write: large enough to be worth a system call, small enough to hold one per upload.
pub(super) const WRITE_BYTES: usize = 256 << 10;

/// The verdict as an answer, or the forecast.
pub(super) fn judge(verdict: Verdict) -> Result<Forecast, Problem> {
    match verdict {
        Verdict::Welcome(forecast) => Ok(forecast),
        Verdict::Later { retry_after, why, too_many } => {
            let status = if too_many { 429 } else { 503 };
            let seconds = whole_seconds(retry_after);
            let kind = if too_many { "about:blank#queue-full" } else { "about:blank#short-of-resources" };
            let title = if too_many { "The queue is too long" } else { "The server is short of memory or disk" };
            let detail = format!("{why} Send it again in {seconds} s.");
            Err(Problem::new(status, detail).of_kind(kind, title).with("retry-after", seconds.to_string()))
        }
        Verdict::Never(why) => Err(of_fault(&Fault::new(Kind::TooLarge, why))),
    }
}

/// Bytes of an image at most that are kept in memory until it is known what it is. Cameras put depth and previews of some
/// megabytes before a photo's header; a file without any would otherwise be kept whole.
const HEAD_BYTES_MAX: usize = 16 << 20;
/// As many every upload may keep. What is beyond is rare, and taken from [`HEADS_BYTES_MAX`].
const HEAD_BYTES_FREE: usize = 256 << 10;
/// Bytes that the long heads of all uploads may take together. Beyond: 503, and the client comes again.
const HEADS_BYTES_MAX: u64 = 256 << 20;

/// The memory of long heads, for all shards.
pub(super) fn room_for_heads() -> Arc<Budget> {
    Budget::new(HEADS_BYTES_MAX, HEADS_BYTES_MAX)
}

/// As much of an image as it takes to know what it is: its beginning, or that and what lies far behind it.
pub(super) struct Head {
    start: Vec<u8>,
    /// What came from `from` on, where that is beyond the start.
    apart: Vec<u8>,
    from: u64,
    /// Bytes of the image that came.
    len: u64,
    /// How much of it the next reading needs.
    wanted: u64,
    /// How much may be kept by now, and what that took of the room of all.
    granted: usize,
    room: Arc<Budget>,
    held: Vec<Reservation>,
}

impl Head {
    /// `room` is that of all long heads.
    pub(super) fn new(room: &Arc<Budget>) -> Head {
        Head {
            start: Vec::new(),
            apart: Vec::new(),
            from: 0,
            len: 0,
            wanted: 1,
            granted: HEAD_BYTES_FREE,
            room: room.clone(),
            held: Vec::new(),
        }
    }

    /// The next bytes of an image that has `whole` bytes, where that is known; its header, once it is all here. 503 where heads
    /// take too much already.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        whole: Option<u64>,
        limits: &Limits,
    ) -> Result<Option<Header>, Problem> {
        if self.lies_ahead() {
            let passed = usize::try_from(self.from.saturating_sub(self.len)).unwrap_or(usize::MAX);
            self.apart.extend_from_slice(bytes.get(passed..).unwrap_or_default());
        } else {
            self.start.extend_from_slice(bytes);
        }
        self.len += bytes.len() as u64;
        let kept = self.start.len() + self.apart.len();
        while self.granted < kept.min(HEAD_BYTES_MAX) {
            // What grows has room for twice of what is in it.
            self.held.push(self.room.reserve(2 * self.granted as u64).ok_or_else(crowded)?);
            self.granted *= 2;
        }
        if self.len < self.wanted && kept <= HEAD_BYTES_MAX {
            return Ok(None);
        }
        match self.read(whole, limits)? {
            Progress::NeedMore { .. } if kept > HEAD_BYTES_MAX => {
                let why = format!("what it is does not follow from its first {} MiB", HEAD_BYTES_MAX >> 20);
                Err(of_fault(&Fault::new(Kind::BadImage, why)))
            }
            Progress::NeedMore { from, bytes } => {
                if !self.lies_ahead() && from > self.len {
                    self.from = from;
                }
                self.wanted = bytes;
                Ok(None)
            }
            Progress::Header(header) => Ok(Some(header)),
        }
    }

    /// Whether it is longer than heads are.
    fn is_long(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the image says what it is far behind its beginning: what lies between is not kept here.
    fn lies_ahead(&self) -> bool {
        self.from > 0
    }

    fn read(&self, whole: Option<u64>, limits: &Limits) -> Result<Progress, Problem> {
        let apart = Apart { at: usize::try_from(self.from).unwrap_or(usize::MAX), bytes: &self.apart };
        header::read_apart(&self.start, apart, whole, limits).map_err(|fault| of_fault(&fault))
    }
}

fn crowded() -> Problem {
    Problem::new(503, "Too many uploads with long heads come at once. Send it again in 1 s.").with("retry-after", "1")
}

/// Where an image is until it has its name.
enum Home {
    /// Nowhere: its header is not known yet.
    Unknown,
    /// In the store, as far as it came.
    Coming(Box<dyn Upload>),
}

/// Whether the length of the queue may still be a reason against an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It comes now.
    New,
    /// It was let in when it was announced, and is not turned away at the end of a long way.
    Announced,
}

/// An image on its way in.
pub(super) struct Intake<'a> {
    api: &'a Api,
    entry: Entry,
    recipes: Arc<[Recipe]>,
    hash: digest::Context,
    head: Head,
    header: Option<Header>,
    home: Home,
    /// What will be written next.
    pending: Vec<u8>,
    len: u64,
    declared: Option<u64>,
}

impl<'a> Intake<'a> {
    /// `declared` is the length, where it is known beforehand.
    pub(super) fn new(api: &'a Api, asked: &Asked, declared: Option<u64>, entry: Entry) -> Result<Intake<'a>, Problem> {
        if let Some(len) = declared {
            api.config.limits.check_bytes(len).map_err(|fault| of_fault(&fault))?;
        }
        Ok(Intake {
            api,
            entry,
            recipes: asked.recipes.clone(),
            hash: digest::Context::new(&digest::SHA256),
            head: Head::new(&api.desk.heads),
            header: None,
            home: Home::Unknown,
            pending: Vec::new(),
            len: 0,
            declared,
        })
    }

    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.len += bytes.len() as u64;
        self.api.config.limits.check_bytes(self.len).map_err(|fault| of_fault(&fault))?;
        self.hash.update(bytes);
        self.pending.extend_from_slice(bytes);
        if self.header.is_none() {
            match self.head.take(bytes, self.declared, &self.api.config.limits)? {
                Some(header) => self.known(header).await?,
                // It would fill memory for long: so it is written although nothing is known but its format, or not even that.
                None if self.head.lies_ahead() || self.head.is_long() => self.begins().await?,
                None => return Ok(()),
            }
        }
        self.write(WRITE_BYTES).await
    }

    /// Takes what lies somewhere already.
    pub(super) async fn take_all(&mut self, object: &dyn Object) -> Result<(), Problem> {
        let (mut at, len) = (0, object.meta().len);
        while at < len {
            let piece = object.read_at(Vec::with_capacity(WRITE_BYTES), WRITE_BYTES, at).await.map_err(of_store)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            self.take(&piece).await?;
        }
        self.ends().await
    }

    /// The image is what it should be.
    async fn known(&mut self, header: Header) -> Result<(), Problem> {
        let cost = pipeline::predict(&header, &self.recipes);
        let gate = &self.api.desk.gate;
        judge(match self.entry {
            Entry::New => gate.ask(Some(&cost)),
            Entry::Announced => gate.ask_aside(&cost),
        })?;
        self.header = Some(header);
        self.begins().await
    }

    /// From now on it is written.
    async fn begins(&mut self) -> Result<(), Problem> {
        if let Home::Unknown = self.home {
            self.home = Home::Coming(self.api.shelf.create().await.map_err(of_store)?);
        }
        Ok(())
    }

    /// Writes what is pending, if that is at least so much.
    async fn write(&mut self, least: usize) -> Result<(), Problem> {
        if self.pending.len() < least {
            return Ok(());
        }
        let Home::Coming(upload) = &mut self.home else { return Ok(()) };
        let next = if least > 1 { Vec::with_capacity(WRITE_BYTES) } else { Vec::new() };
        let frame = Frame::owned(std::mem::replace(&mut self.pending, next));
        upload.write(frame).await.map_err(of_store)
    }

    /// All of it is here.
    pub(super) async fn ends(&mut self) -> Result<(), Problem> {
        // What could not be judged before: a header that ends with the file, and the ratio of pixels to bytes.
        if self.header.is_none() || self.declared.is_none() {
            match (self.head.read(Some(self.len), &self.api.config.limits)?, &self.header) {
                (Progress::Header(header), None) => self.known(header).await?,
                (Progress::NeedMore { .. }, None) => {
                    let detail = "the image ends in the middle of its header. It was probably cut off on its way.";
                    return Err(of_fault(&Fault::new(Kind::BadImage, detail)));
                }
                (_, Some(_)) => {}
            }
        }
        self.write(1).await
    }

    /// Removes what was written, and passes on why.
    pub(super) async fn give_up(self, problem: Problem) -> Problem {
        if let Home::Coming(upload) = self.home
            && let Err(error) = upload.abandon().await
        {
            // The sweep finds it later.
            crate::warn!("image: an upload that was given up: {error}");
        }
        problem
    }
}

/// Publishes the original and enters the job. Whether it is a new one.
pub(super) async fn enter(
    api: &Api,
    tenant: &Tenant,
    intake: Intake<'_>,
    asked: Asked,
    idempotency_key: Option<String>,
) -> Result<(Document, bool), Problem> {
    let Intake { hash, header: Some(header), home, len, .. } = intake else {
        return Err(of_fault(&Fault::new(Kind::BadImage, "the upload is no image")));
    };
    let mut content = ContentHash([0; 32]);
    content.0.copy_from_slice(hash.finish().as_ref());
    let salt = api.desk.queue.salt();
    let cost = pipeline::predict(&header, &asked.recipes);
    // It was let in by its header, and is not turned away at the end of a long way: only the forecast is new.
    let wait = api.desk.gate.forecast();
    let forecast = Forecast { delayed: wait > api.desk.gate.marks().soft, wait };
    let original = salt.original(&content);
    // From here to the queue it is not deleted.
    let _entering = api.desk.doors.enter(&api.shard, original).await?;
    let put = match home {
        Home::Coming(upload) => upload.publish(original).await,
        Home::Unknown => return Err(of_fault(&Fault::new(Kind::BadImage, "the upload is no image"))),
    };
    let put = put.map_err(of_store)?;
    debug_assert_eq!(put.bytes(), len);
    let key = WorkKey::of(salt, &content, &asked.recipes);
    let request = Idempotency::fingerprint(&content, &asked.recipes, asked.priority);
    let idempotency = idempotency_key.map(|key| Idempotency { key, request });
    let work = Work { key, original, len, header, recipes: asked.recipes, cost };
    let order = Order { tenant: tenant.clone(), work, priority: asked.priority, asked: asked.words, idempotency };
    match api.desk.queue.enqueue(order, forecast).await.map_err(of_queue)? {
        Enqueued::Accepted(document) => Ok((document, true)),
        Enqueued::Before(document) => Ok((document, false)),
        Enqueued::KeyReused(id) => Err(Problem::new(
            422,
            format!(
                "This Idempotency-Key came before with another image or other options (job {id}). \
                 Use a new key for a new request."
            ),
        )
        .of_kind("about:blank#idempotency-key-reused", "The Idempotency-Key was used before")),
        Enqueued::Refused => {
            let wait = whole_seconds(forecast.wait);
            Err(Problem::new(429, format!("The queue is full. Send it again in {wait} s."))
                .of_kind("about:blank#queue-full", "The queue is too long")
                .with("retry-after", wait.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_never_comes_is_not_waited_for() {
        let room = Budget::new(HEADS_BYTES_MAX, HEADS_BYTES_MAX);
        let mut head = Head::new(&room);
        let piece = vec![b'a'; 1 << 20];
        let mut taken = head.take(b"\xff\xd8\xff\xe0", None, &Limits::DEFAULT);
        let mut pieces = 0;
        while let Ok(None) = taken {
            taken = head.take(&piece, None, &Limits::DEFAULT);
            pieces += 1;
        }
        assert_eq!((taken.err().map(|problem| problem.status), pieces), (Some(422), 16));
        assert_eq!(room.used(), 2 * (HEAD_BYTES_MAX - HEAD_BYTES_FREE) as u64);
        drop(head);
        assert_eq!(room.used(), 0, "all of it comes back");
    }

    #[test]
    fn long_heads_of_all_uploads_have_one_room_and_short_ones_need_none() {
        let room = Budget::new(1 << 20, 1 << 20);
        let take = |head: &mut Head, bytes: usize| {
            let begins: &[u8] = if head.len == 0 { b"\xff\xd8\xff\xe0" } else { b"" };
            let taken = head.take(&[begins, &vec![b'a'; bytes]].concat(), None, &Limits::DEFAULT);
            taken.err().map(|problem| problem.status)
        };
        let (mut long, mut second, mut short) = (Head::new(&room), Head::new(&room), Head::new(&room));
        assert_eq!(take(&mut long, 400 << 10), None);
        assert_eq!((take(&mut second, 400 << 10), take(&mut second, 400 << 10)), (None, Some(503)));
        assert_eq!(take(&mut short, 200 << 10), None);
        drop((long, second));
        assert_eq!((room.used(), take(&mut short, 200 << 10)), (0, None));
    }
}
