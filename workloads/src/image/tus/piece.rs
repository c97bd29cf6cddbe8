//! A piece of an upload: taken from a body, written, made durable; and what is done when it was the last one.

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use annulus_engine::{File, Frame, OpenOptions, Shard};
use ring::digest;

use super::fields::Checksum;
use super::record::{JOB_AT, job_slot, offset_at, offset_slot};
use super::table::{Claim, Tus};
use crate::image::api::{Api, of_fault, of_store};
use crate::image::asked::{Asked, Wishes};
use crate::image::intake::{Entry, Head, Intake, WRITE_BYTES, enter, judge};
use crate::image::job::{JobId, Tenant};
use crate::image::pipeline;
use crate::image::store::{Key, Meta, Object, Pending, StoreError, Suffix};
use crate::image::upload::asked;
use crate::serve::{Body, Problem};

/// Bytes of one piece after which what came is made durable, so that a crash costs no more of a long one.
const SYNC_BYTES: u64 = 8 << 20;
/// How often a silent body is looked up from.
const LOOK: Duration = Duration::from_secs(1);
/// How long a body may be silent while somebody else asks for the upload: its client has probably lost the connection and
/// come back. Beyond: it gives way.
const SILENT_MAX: Duration = Duration::from_secs(2);

/// Where an upload is after a piece.
pub(super) enum Reached {
    /// So many bytes are here, and more are to come.
    Offset(u64),
    /// All of them, and this is their job.
    Job(JobId),
}

/// Why no more of a piece came.
enum Cut {
    /// Its body broke off: what came counts.
    Here(Problem),
    /// It could not be written: what was made durable before counts.
    Unwritten(Problem),
    /// There is no upload any more, or no use in it.
    Over(Problem),
}

/// An upload's files while a piece is written.
struct Files {
    part: File,
    record: File,
    turn: u64,
}

/// Writes a file that is new, durably; its name is durable with its folder.
pub(super) async fn write_new(shard: &Shard, path: &std::path::Path, bytes: Vec<u8>) -> std::io::Result<()> {
    let options = OpenOptions { write: true, create_new: true, ..OpenOptions::default() };
    let file = shard.open(path, options).await?;
    if !bytes.is_empty() {
        file.write_at(Frame::owned(bytes), 0).await?;
    }
    file.sync_data().await
}

fn of_io(error: &std::io::Error) -> Problem {
    of_store(StoreError::of(error, "writing", &"a resumable upload"))
}

impl Files {
    async fn open(shard: &Shard, tus: &Tus, claim: &Claim) -> Result<Files, Problem> {
        let options = OpenOptions { write: true, ..OpenOptions::default() };
        let opened = async {
            let part = shard.open(tus.folder.part(claim.id), options).await?;
            let record = shard.open(tus.folder.record(claim.id), options).await?;
            // The place that does not hold the newest offset is written first.
            let slots = record.read_at(Vec::new(), offset_at(1) as usize + 12, 0).await?;
            let newest = offset_slot(claim.offset);
            let turn = u64::from(slots.starts_with(&newest));
            Ok(Files { part, record, turn })
        };
        opened.await.map_err(|error| of_io(&error))
    }

    /// Makes durable what was written, and then that it is.
    async fn note(&mut self, claim: &mut Claim, offset: u64) -> Result<(), Problem> {
        if offset == claim.offset {
            return Ok(());
        }
        let noted = async {
            self.part.sync_data().await?;
            self.record.write_at(Frame::owned(offset_slot(offset)), offset_at(self.turn)).await?;
            self.record.sync_data().await
        };
        noted.await.map_err(|error| of_io(&error))?;
        self.turn += 1;
        claim.reached(offset);
        Ok(())
    }
}

/// Takes a piece, which begins at the claim's offset.
pub(super) async fn take(
    api: &Api,
    tus: &Tus,
    claim: &mut Claim,
    body: &mut Body<'_>,
    checksum: Option<Checksum>,
) -> Result<Reached, Problem> {
    let mut files = Files::open(&api.shard, tus, claim).await?;
    let mut piece = Piece {
        api,
        at: claim.offset,
        pending: Vec::new(),
        hash: checksum.as_ref().map(|checksum| digest::Context::new(checksum.algorithm)),
        head: (claim.offset == 0).then(|| Head::new(&api.desk.heads)),
        asked: wanted(api, claim)?,
    };
    let began = claim.offset;
    let came = piece.takes(claim, body, &mut files).await;
    tus.figures.bytes.fetch_add(piece.at - began, Ordering::Relaxed);
    match came {
        Ok(()) => {}
        Err(Cut::Unwritten(problem)) => return Err(problem),
        // Of bytes whose hash is not known to be right, none count.
        Err(Cut::Here(problem)) if checksum.is_some() => return Err(problem),
        Err(Cut::Here(problem)) => {
            piece.write(&files, 1).await?;
            // All of an upload is here only when a body has ended well.
            let offset = piece.at.min(claim.facts.len.saturating_sub(1)).max(claim.offset);
            files.note(claim, offset).await?;
            return Err(problem);
        }
        Err(Cut::Over(problem)) => {
            if !claim.is_over() {
                give_up(api, tus, claim).await;
            }
            return Err(problem);
        }
    }
    piece.write(&files, 1).await?;
    if let (Some(checksum), Some(found)) = (checksum, piece.hash.take())
        && !checksum.is(found)
    {
        tus.figures.mismatched.fetch_add(1, Ordering::Relaxed);
        return Err(mismatch());
    }
    if piece.at < claim.facts.len {
        files.note(claim, piece.at).await?;
        return Ok(Reached::Offset(piece.at));
    }
    let asked = piece.asked;
    become_job(api, tus, claim, files, asked).await.map(Reached::Job)
}

/// tus, "Checksum": a status of its own, 460.
fn mismatch() -> Problem {
    Problem::new(
        460,
        "The bytes that came do not have the hash in Upload-Checksum; none of them were kept. Send them again.",
    )
    .of_kind("about:blank#checksum-mismatch", "Checksum mismatch")
}

fn gone() -> Problem {
    Problem::new(410, "This upload was given up, or its time is over. Begin a new one.")
}

/// What is asked to be made of an upload.
fn wanted(api: &Api, claim: &Claim) -> Result<Asked, Problem> {
    let mut wishes = Wishes::default();
    for (name, value) in &claim.facts.words {
        wishes.add(name, value).map_err(|fault| of_fault(&fault))?;
    }
    asked(api, &wishes)
}

/// Removes an upload that is of no use.
async fn give_up(api: &Api, tus: &Tus, claim: &Claim) {
    claim.failed();
    if let Err(error) = remove(&api.shard, tus, claim.id).await {
        crate::warn!("image: a resumable upload that was refused: {error}");
    }
}

/// Removes an upload's files, the record first: what has none is found and removed by the next start.
pub(super) async fn remove(shard: &Shard, tus: &Tus, id: super::record::UploadId) -> std::io::Result<()> {
    for path in [tus.folder.record(id), tus.folder.part(id)] {
        match shard.remove(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A piece on its way in.
struct Piece<'a> {
    api: &'a Api,
    /// Where in the upload the next byte goes.
    at: u64,
    pending: Vec<u8>,
    hash: Option<digest::Context>,
    /// The image's head, while it is read along: what will never be an image need not come as a whole.
    head: Option<Head>,
    asked: Asked,
}

impl Piece<'_> {
    async fn takes(&mut self, claim: &mut Claim, body: &mut Body<'_>, files: &mut Files) -> Result<(), Cut> {
        let pause_max = self.api.config.serve.body_pause_max;
        let mut silent = Duration::ZERO;
        loop {
            if claim.is_over() {
                return Err(Cut::Over(gone()));
            }
            match self.api.shard.timeout(LOOK, body.next()).await {
                Ok(Ok(Some(bytes))) => {
                    silent = Duration::ZERO;
                    self.arrives(bytes, claim.facts.len)?;
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(broken)) => return Err(Cut::Here(broken.into())),
                Err(_elapsed) => {
                    silent += LOOK;
                    if silent >= pause_max || silent >= SILENT_MAX && claim.is_wanted() {
                        let detail =
                            "The piece came too slowly. Ask with HEAD how far the upload is, and go on from there.";
                        return Err(Cut::Here(Problem::new(408, detail)));
                    }
                    continue;
                }
            }
            self.write(files, WRITE_BYTES).await.map_err(Cut::Unwritten)?;
            let written = self.at - self.pending.len() as u64;
            if self.hash.is_none() && written - claim.offset >= SYNC_BYTES && written < claim.facts.len {
                files.note(claim, written).await.map_err(Cut::Unwritten)?;
            }
        }
    }

    fn arrives(&mut self, bytes: &[u8], len: u64) -> Result<(), Cut> {
        if bytes.len() as u64 > len - self.at {
            let detail = format!("The piece goes beyond the {len} bytes that Upload-Length says.");
            return Err(Cut::Here(Problem::new(413, detail)));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if let Some(head) = &mut self.head {
            let limits = &self.api.config.limits;
            match head.take(bytes, Some(len), limits) {
                Ok(None) => {}
                Ok(Some(header)) => {
                    let cost = pipeline::predict(&header, &self.asked.recipes);
                    // That the machine is busy now says nothing of when the rest is here.
                    match judge(self.api.desk.gate.ask_aside(&cost)) {
                        Err(never) if never.status == 413 => return Err(Cut::Over(never)),
                        _ => self.head = None,
                    }
                }
                // Nor does it here: all of it is looked at once more at the end.
                Err(busy) if busy.status == 503 => self.head = None,
                Err(never) => return Err(Cut::Over(never)),
            }
        }
        self.pending.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is pending, if that is at least so much.
    async fn write(&mut self, files: &Files, least: usize) -> Result<(), Problem> {
        if self.pending.len() < least {
            return Ok(());
        }
        let offset = self.at - self.pending.len() as u64;
        let frame = Frame::owned(std::mem::take(&mut self.pending));
        files.part.write_at(frame, offset).await.map_err(|error| of_io(&error))
    }
}

/// All bytes are written: they go the way of every image, and the upload is its job's.
async fn become_job(api: &Api, tus: &Tus, claim: &mut Claim, mut files: Files, asked: Asked) -> Result<JobId, Problem> {
    if !claim.enters() {
        return Err(gone());
    }
    let entered = enter_job(api, claim, &files, asked).await;
    let job = match entered {
        Ok(job) => job,
        Err(problem) if is_final(&problem) => {
            give_up(api, tus, claim).await;
            return Err(problem);
        }
        Err(mut problem) => {
            // All but the last byte are kept: who sends that again asks for the job again.
            files.note(claim, (claim.facts.len - 1).max(claim.offset)).await?;
            // A client of tus tries again after this status, and not after the other one.
            if problem.status == 429 {
                problem.status = 503;
            }
            return Err(problem);
        }
    };
    let noted = async {
        files.record.write_at(Frame::owned(job_slot(job)), JOB_AT).await?;
        files.record.sync_data().await?;
        claim.entered(job);
        api.shard.remove(tus.folder.part(claim.id)).await
    };
    if let Err(error) = noted.await {
        // The job is durable; who asks for it again gets the same one.
        crate::warn!("image: a resumable upload that became job {job}: {error}");
    }
    Ok(job)
}

/// Whether it would be refused again.
fn is_final(problem: &Problem) -> bool {
    (400..500).contains(&problem.status) && !matches!(problem.status, 408 | 429)
}

async fn enter_job(api: &Api, claim: &Claim, files: &Files, asked: Asked) -> Result<JobId, Problem> {
    let arrived = api.shard.precise_now();
    let len = claim.facts.len;
    let modified = UNIX_EPOCH;
    let object = Part { file: &files.part, meta: Meta { len, modified } };
    let mut intake = Intake::new(api, &asked, Some(len), Entry::Announced)?;
    if let Err(problem) = intake.take_all(&object).await {
        return Err(intake.give_up(problem).await);
    }
    // What was entered just before a crash is entered again, and is the same job.
    let key = claim.facts.idempotency_key.clone().unwrap_or_else(|| format!("tus:{}", claim.id.text()));
    let tenant = Tenant::named(&claim.facts.tenant);
    let (document, _is_new) = enter(api, &tenant, intake, asked, Some(key)).await?;
    api.meters.accepted(api.shard.precise_now().saturating_sub(arrived), document.source.bytes);
    Ok(document.id)
}

/// The bytes of an upload as an object.
struct Part<'a> {
    file: &'a File,
    meta: Meta,
}

impl Object for Part<'_> {
    fn meta(&self) -> Meta {
        self.meta
    }

    fn read_at(&self, memory: Vec<u8>, want: usize, offset: u64) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            // It has no key yet; this one is for sentences only.
            let key = Key { name: [0; 32], suffix: Suffix::Original };
            let read = self.file.read_at(memory, want, offset).await;
            read.map_err(|error| StoreError::of(&error, "reading", &key))
        })
    }
}
