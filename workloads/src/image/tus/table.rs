//! The uploads that are known to this process, by all shards: how far each is, who is writing it, and how many there are.
//!
//! ```text
//!   announce ─► at an offset ⇄ written by one request ─► entered ─► a job's, remembered until its time is over
//!                     └──── terminated, expired ────┘
//! ```
//!
//! A lock around a map, held for a look and a change and never across a wait: a request of an upload takes it a few times.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use super::record::{Facts, Folder, Record, UploadId};
use super::settings::TusSettings;
use crate::durable::make_directory;
use crate::image::job::{JobId, Tenant};

/// Uploads that have become jobs and are remembered, so that a client whose last answer was lost learns of its job. Beyond,
/// those go whose time is over soonest.
const FINISHED_MAX: usize = 10_000;

/// Resumable uploads of this process.
pub struct Tus {
    pub(super) settings: TusSettings,
    promised_max: u64,
    pub(super) folder: Folder,
    table: Mutex<Table>,
    /// What happened.
    pub figures: Figures,
    /// Held for as long as the process lives: its folder is nobody else's.
    _lock: File,
}

/// What happened since the start. Read from any thread.
#[derive(Debug, Default)]
pub struct Figures {
    /// Uploads created.
    pub created: AtomicU64,
    /// Those that became jobs.
    pub finished: AtomicU64,
    /// Those that their clients gave up.
    pub terminated: AtomicU64,
    /// Those whose time was over.
    pub expired: AtomicU64,
    /// Those whose bytes were refused for good.
    pub failed: AtomicU64,
    /// Those that were not let in, because there were too many.
    pub refused: AtomicU64,
    /// Pieces whose hash was another one.
    pub mismatched: AtomicU64,
    /// Bytes that came, whatever became of them.
    pub bytes: AtomicU64,
}

#[derive(Default)]
struct Table {
    uploads: HashMap<UploadId, Entry>,
    /// Those without a job, and their bytes once they are finished.
    unfinished: u64,
    promised: u64,
}

struct Entry {
    facts: Arc<Facts>,
    offset: u64,
    job: Option<JobId>,
    /// Who writes.
    writer: Option<Arc<Writer>>,
}

/// What others have to say to the one request that writes.
#[derive(Debug, Default)]
struct Writer {
    /// Another one asks for the upload.
    is_wanted: AtomicBool,
    /// There is no upload any more.
    is_over: AtomicBool,
    /// It is becoming a job.
    is_entering: AtomicBool,
}

/// An upload as it is now.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) facts: Arc<Facts>,
    pub(super) offset: u64,
    pub(super) job: Option<JobId>,
}

/// Why an upload cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Not {
    /// There is none of this name and tenant.
    There,
    /// Its time is over.
    InTime,
    /// Another request writes it.
    Free,
}

/// The right to write an upload, until it is dropped.
pub(super) struct Claim {
    tus: Arc<Tus>,
    writer: Arc<Writer>,
    pub(super) id: UploadId,
    pub(super) facts: Arc<Facts>,
    /// Bytes that are known to be durable.
    pub(super) offset: u64,
}

/// Too many uploads are unfinished, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) String);

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Tus {
    /// Opens or makes the folder, and finds what an earlier process has left there. An upload may have `upload_bytes_max`.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(data_dir: &std::path::Path, settings: TusSettings, upload_bytes_max: u64) -> Result<Arc<Tus>, String> {
        let path = data_dir.join("tus");
        let cannot = |error: io::Error| {
            format!(
                "resumable uploads cannot be kept in {}: {error}. Make it writable for this user, or set image.tus.enabled = \
                 false",
                path.display()
            )
        };
        let lock = prepare(&path).map_err(cannot)?;
        let folder = Folder(path.clone());
        let (found, removed) = folder.recover(now()).map_err(cannot)?;
        let mut table = Table::default();
        for (id, Record { offset, job, facts }) in found {
            table.insert(id, Entry { facts: Arc::new(facts), offset, job, writer: None });
        }
        if table.unfinished > 0 || removed > 0 {
            crate::say!(
                "image     resumable uploads: {} go on where they were, {removed} were too old or never begun",
                table.unfinished
            );
        }
        let promised_max = settings.promised_max(upload_bytes_max);
        let (table, figures) = (Mutex::new(table), Figures::default());
        Ok(Arc::new(Tus { settings, promised_max, folder, table, figures, _lock: lock }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new upload, which the caller writes first. Its files are the caller's to make.
    pub(super) fn announce(self: &Arc<Self>, id: UploadId, facts: Facts) -> Result<Claim, TooMany> {
        let (uploads_max, bytes_max) = (self.settings.uploads_max, self.promised_max);
        let mut table = self.table();
        let why = if table.unfinished >= uploads_max {
            Some(format!("{uploads_max} uploads are unfinished, and no more may be"))
        } else if table.promised.saturating_add(facts.len) > bytes_max {
            let promised = table.promised;
            Some(format!("unfinished uploads will have {promised} bytes, and more than {bytes_max} are not taken"))
        } else {
            None
        };
        if let Some(why) = why {
            self.figures.refused.fetch_add(1, Ordering::Relaxed);
            return Err(TooMany(why));
        }
        let (facts, writer) = (Arc::new(facts), Arc::new(Writer::default()));
        table.insert(id, Entry { facts: facts.clone(), offset: 0, job: None, writer: Some(writer.clone()) });
        drop(table);
        self.figures.created.fetch_add(1, Ordering::Relaxed);
        Ok(Claim { tus: self.clone(), writer, id, facts, offset: 0 })
    }

    /// How far an upload is. Who writes it in silence is told that somebody asks.
    pub(super) fn look(&self, tenant: &Tenant, id: UploadId) -> Result<Seen, Not> {
        let table = self.table();
        let entry = table.of(tenant, id)?;
        if let Some(writer) = &entry.writer {
            writer.is_wanted.store(true, Ordering::Relaxed);
        }
        Ok(Seen { facts: entry.facts.clone(), offset: entry.offset, job: entry.job })
    }

    /// The right to write an upload that is no job yet.
    pub(super) fn claim(self: &Arc<Self>, tenant: &Tenant, id: UploadId) -> Result<Claim, Not> {
        let mut table = self.table();
        table.of(tenant, id)?;
        let entry = table.uploads.get_mut(&id).ok_or(Not::There)?;
        if let Some(writer) = &entry.writer {
            writer.is_wanted.store(true, Ordering::Relaxed);
            return Err(Not::Free);
        }
        let writer = Arc::new(Writer::default());
        entry.writer = Some(writer.clone());
        Ok(Claim { tus: self.clone(), writer, id, facts: entry.facts.clone(), offset: entry.offset })
    }

    /// Forgets an upload that its client gives up, unless it is just becoming a job. Its files are the caller's to remove.
    pub(super) fn terminate(&self, tenant: &Tenant, id: UploadId) -> Result<(), Not> {
        let mut table = self.table();
        let entry = table.of(tenant, id)?;
        if entry.is_entering() {
            return Err(Not::Free);
        }
        table.remove(id);
        drop(table);
        self.figures.terminated.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets what is too old and no request is making a job of. Their files are the caller's to remove.
    pub(super) fn expire(&self, now: u64) -> Vec<UploadId> {
        let mut table = self.table();
        let over = |(_, entry): &(&UploadId, &Entry)| entry.facts.expires <= now && !entry.is_entering();
        let over: Vec<(UploadId, bool)> =
            table.uploads.iter().filter(over).map(|(id, entry)| (*id, entry.job.is_none())).collect();
        let mut removed = Vec::with_capacity(over.len());
        for (id, is_unfinished) in over {
            table.remove(id);
            self.figures.expired.fetch_add(u64::from(is_unfinished), Ordering::Relaxed);
            removed.push(id);
        }
        removed.extend(table.forget_finished());
        removed
    }

    /// Uploads without a job, and the bytes that they will have.
    pub fn unfinished(&self) -> (u64, u64) {
        let table = self.table();
        (table.unfinished, table.promised)
    }
}

impl Claim {
    /// Whether there is no upload any more.
    pub(super) fn is_over(&self) -> bool {
        self.writer.is_over.load(Ordering::Relaxed)
    }

    /// Whether another request asks for the upload.
    pub(super) fn is_wanted(&self) -> bool {
        self.writer.is_wanted.load(Ordering::Relaxed)
    }

    /// So many bytes are durable now, and so is the record that says so.
    pub(super) fn reached(&mut self, offset: u64) {
        self.offset = offset;
        if let Some(entry) = self.tus.table().uploads.get_mut(&self.id) {
            entry.offset = offset;
        }
    }

    /// From now on it is not given up any more; `false`: it was.
    pub(super) fn enters(&self) -> bool {
        let table = self.tus.table();
        let is_there = table.uploads.contains_key(&self.id);
        self.writer.is_entering.store(is_there, Ordering::Relaxed);
        is_there
    }

    /// It is a job's.
    pub(super) fn entered(&self, job: JobId) {
        let mut table = self.tus.table();
        if let Some(mut entry) = table.remove(self.id) {
            (entry.offset, entry.job) = (entry.facts.len, Some(job));
            table.insert(self.id, entry);
        }
        self.tus.figures.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// There is no use in it. Its files are the caller's to remove.
    pub(super) fn failed(&self) {
        self.tus.table().remove(self.id);
        self.tus.figures.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = self.tus.table().uploads.get_mut(&self.id) {
            entry.writer = None;
        }
    }
}

impl Entry {
    fn is_entering(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.is_entering.load(Ordering::Relaxed))
    }
}

impl Table {
    /// The upload of this name, which is nobody else's.
    fn of(&self, tenant: &Tenant, id: UploadId) -> Result<&Entry, Not> {
        let entry = self.uploads.get(&id).filter(|entry| *entry.facts.tenant == *tenant.0).ok_or(Not::There)?;
        if entry.facts.expires <= now() { Err(Not::InTime) } else { Ok(entry) }
    }

    fn insert(&mut self, id: UploadId, entry: Entry) {
        if entry.job.is_none() {
            self.unfinished += 1;
            self.promised += entry.facts.len;
        }
        self.uploads.insert(id, entry);
    }

    fn remove(&mut self, id: UploadId) -> Option<Entry> {
        let entry = self.uploads.remove(&id)?;
        if entry.job.is_none() {
            self.unfinished -= 1;
            self.promised -= entry.facts.len;
        }
        if let Some(writer) = &entry.writer {
            writer.is_over.store(true, Ordering::Relaxed);
        }
        Some(entry)
    }

    /// Forgets finished ones beyond [`FINISHED_MAX`].
    fn forget_finished(&mut self) -> Vec<UploadId> {
        let beyond = (self.uploads.len() - self.unfinished as usize).saturating_sub(FINISHED_MAX);
        if beyond == 0 {
            return Vec::new();
        }
        let finished = self.uploads.iter().filter(|(_, entry)| entry.job.is_some());
        let mut by_time: Vec<(u64, UploadId)> = finished.map(|(id, entry)| (entry.facts.expires, *id)).collect();
        by_time.sort_unstable();
        by_time.truncate(beyond);
        by_time.into_iter().map(|(_, id)| id).filter(|id| self.remove(*id).is_some()).collect()
    }
}

/// Makes the folder, for this user only, and takes its lock.
fn prepare(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt;
    make_directory(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    let lock = File::options().write(true).create(true).truncate(false).open(path.join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => io::Error::other("another annulus uses it"),
        error => error.into(),
    })?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(tenant: &str, len: u64, expires: u64) -> Facts {
        let (metadata, words) = (String::new(), Vec::new());
        Facts { tenant: tenant.to_owned(), len, metadata, words, idempotency_key: None, expires }
    }

    fn open(name: &str, settings: TusSettings) -> (Arc<Tus>, std::path::PathBuf) {
        let root = std::env::temp_dir().join(format!("annulus-table-{name}-{}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&root);
        (Tus::open(&root, settings, 64).unwrap(), root)
    }

    #[test]
    fn limits_count_what_is_unfinished_and_one_writes_at_a_time() {
        let (tus, root) =
            open("limits", TusSettings { uploads_max: 3, bytes_max: Some(100), ..TusSettings::default() });
        assert!(Tus::open(&root, TusSettings::default(), 64).err().unwrap().contains("another annulus"));
        let [a, b, c] = [1, 2, 3].map(|byte| UploadId([byte; 16]));
        let (mine, other) = (Tenant::named("mine"), Tenant::named("other"));
        let later = now() + 1000;
        let mut claim = tus.announce(a, facts("mine", 60, later)).unwrap();
        assert!(tus.announce(b, facts("mine", 41, later)).err().unwrap().0.contains("100"));
        let _second = tus.announce(b, facts("mine", 40, later)).unwrap();
        let _third = tus.announce(c, facts("mine", 0, later)).unwrap();
        assert!(tus.announce(UploadId([4; 16]), facts("mine", 0, later)).err().unwrap().0.contains("3 uploads"));
        assert_eq!((tus.unfinished(), tus.look(&other, a).unwrap_err()), ((3, 100), Not::There));
        assert!(!claim.is_wanted());
        assert_eq!(tus.claim(&mine, a).err(), Some(Not::Free));
        assert!(claim.is_wanted() && !claim.is_over());
        claim.reached(30);
        drop(claim);
        let claim = tus.claim(&mine, a).unwrap();
        assert_eq!((claim.offset, tus.look(&mine, a).unwrap().offset), (30, 30));
        // What becomes a job cannot be given up, and what was given up becomes none.
        assert!(claim.enters());
        assert_eq!(tus.terminate(&mine, a), Err(Not::Free));
        claim.entered(JobId([5; 16]));
        drop(claim);
        assert_eq!((tus.unfinished(), tus.look(&mine, a).unwrap().job), ((2, 40), Some(JobId([5; 16]))));
        let claim = tus.announce(UploadId([6; 16]), facts("mine", 60, later)).unwrap();
        assert_eq!(tus.terminate(&mine, claim.id), Ok(()));
        assert!(claim.is_over() && !claim.enters());
        assert_eq!(tus.unfinished(), (2, 40));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_is_too_old_goes() {
        let (tus, root) = open("expiry", TusSettings::default());
        let mine = Tenant::named("mine");
        let [old, young, finished] = [1, 2, 3].map(|byte| UploadId([byte; 16]));
        let claim = tus.announce(old, facts("mine", 1, 10)).unwrap();
        drop(tus.announce(young, facts("mine", 1, now() + 1000)).unwrap());
        let third = tus.announce(finished, facts("mine", 1, 10)).unwrap();
        third.entered(JobId([1; 16]));
        drop(third);
        assert_eq!(tus.look(&mine, old).unwrap_err(), Not::InTime);
        let mut gone = tus.expire(now());
        gone.sort();
        assert_eq!((gone, claim.is_over(), tus.unfinished()), (vec![old, finished], true, (1, 1)));
        assert_eq!(tus.figures.expired.load(Ordering::Relaxed), 1);
        drop(claim);
        assert_eq!(tus.look(&mine, old).unwrap_err(), Not::There);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
