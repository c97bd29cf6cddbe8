//! What is kept of an upload on the disk, and how it is found again after a crash. Blocking; shards write the same bytes
//! through their own interface.
//!
//! ```text
//!   ID.part      the bytes, as far as they came; those behind the offset mean nothing
//!   ID.record    0: offset   512: offset   1024: job   1536: facts      each with its checksum
//! ```
//!
//! An offset is written after the bytes before it are durable, and into the place that does not hold the newest one: a torn
//! write leaves the one before. Offsets only rise, so the larger one counts. Facts never change.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crc32c::crc32c;
use serde::{Deserialize, Serialize};

use crate::hex;
use crate::image::job::JobId;

/// Where the slots of offsets begin, and how far apart: a disk writes at least so much whole or not at all.
const SECTOR: u64 = 512;
/// Where the job's id is.
pub(super) const JOB_AT: u64 = 2 * SECTOR;
/// Where the facts are.
const FACTS_AT: usize = 3 * SECTOR as usize;
/// Bytes of a record. No facts that were taken are so long; what is longer is no record.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// An upload's name: 128 random bits. As text, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(pub [u8; 16]);

impl UploadId {
    /// Reads what [`UploadId::text`] wrote; nothing else is an id.
    pub fn read(text: &str) -> Option<UploadId> {
        let mut id = [0; 16];
        hex::decode_into(text, &mut id)?;
        Some(UploadId(id))
    }

    /// As it is in addresses and names of files.
    pub fn text(self) -> String {
        hex::encode(&self.0)
    }
}

/// What was said when an upload was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whose it is.
    pub tenant: String,
    /// Bytes that it will have.
    pub len: u64,
    /// `Upload-Metadata` as it came; empty for none.
    pub metadata: String,
    /// What is asked for, as names and values.
    pub words: Vec<(String, String)>,
    /// The client's own name for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// When it goes, in seconds since 1970.
    pub expires: u64,
}

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Bytes that are durable.
    pub offset: u64,
    /// What became of it.
    pub job: Option<JobId>,
    /// What was said.
    pub facts: Facts,
}

/// Where in the record the `turn`th offset goes.
pub(super) fn offset_at(turn: u64) -> u64 {
    turn % 2 * SECTOR
}

/// An offset with its checksum.
pub(super) fn offset_slot(offset: u64) -> Vec<u8> {
    sealed(&offset.to_le_bytes())
}

/// A job's id with its checksum.
pub(super) fn job_slot(job: JobId) -> Vec<u8> {
    sealed(&job.0)
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut slot = bytes.to_vec();
    slot.extend_from_slice(&crc32c(bytes).to_le_bytes());
    slot
}

fn unsealed<const LEN: usize>(bytes: &[u8], at: u64) -> Option<[u8; LEN]> {
    let slot = bytes.get(at as usize..)?.get(..LEN + 4)?;
    let (value, seal) = slot.split_at(LEN);
    let is_whole = crc32c(value).to_le_bytes() == seal;
    is_whole.then(|| value.try_into().ok())?
}

/// A record of an upload of which nothing came yet.
pub(super) fn fresh(facts: &Facts) -> Vec<u8> {
    let json = serde_json::to_vec(facts).unwrap_or_default();
    let mut bytes = offset_slot(0);
    bytes.resize(FACTS_AT, 0);
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&sealed(&json));
    bytes
}

/// Reads a record; `None`: it is none, or was never written to its end.
pub(super) fn read(bytes: &[u8]) -> Option<Record> {
    let [first, second] = [0, 1].map(|turn| unsealed(bytes, offset_at(turn)).map(u64::from_le_bytes));
    let len = bytes.get(FACTS_AT..FACTS_AT + 4)?;
    let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
    let facts = bytes.get(FACTS_AT + 4..)?;
    let (json, seal) = (facts.get(..len)?, facts.get(len..len.checked_add(4)?)?);
    if crc32c(json).to_le_bytes() != seal {
        return None;
    }
    let facts: Facts = serde_json::from_slice(json).ok()?;
    let job = unsealed(bytes, JOB_AT).map(JobId);
    // The last byte is acknowledged by the job.
    let offset = if job.is_some() { facts.len } else { first.max(second)? };
    (offset <= facts.len).then_some(Record { offset, job, facts })
}

/// Where an upload's files are.
#[derive(Clone, Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn part(&self, id: UploadId) -> PathBuf {
        self.0.join(format!("{}.part", id.text()))
    }

    pub(super) fn record(&self, id: UploadId) -> PathBuf {
        self.0.join(format!("{}.record", id.text()))
    }

    /// Everything that an earlier process has left: what is whole and good for longer than `now` (seconds since 1970), cut to
    /// what is known to be durable. The rest is removed. How much that was.
    pub(super) fn recover(&self, now: u64) -> io::Result<(Vec<(UploadId, Record)>, u64)> {
        let (mut found, mut removed) = (Vec::new(), 0);
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let Some((id, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Some(id) = UploadId::read(id) else { continue };
            match kind {
                "part" => parts.push(id),
                "record" => match self.look_at(id)?.filter(|record| record.facts.expires > now) {
                    Some(record) => found.push((id, record)),
                    None => {
                        remove(&self.record(id))?;
                        removed += 1;
                    }
                },
                _ => {}
            }
        }
        let awaited: HashSet<UploadId> = found.iter().filter(|(_, it)| it.job.is_none()).map(|(id, _)| *id).collect();
        // The others are a job's by now, or nobody's.
        for id in parts.iter().filter(|id| !awaited.contains(id)) {
            remove(&self.part(*id))?;
        }
        Ok((found, removed))
    }

    /// An upload's record, and its part cut to the offset; `None`: there is no such upload any more.
    fn look_at(&self, id: UploadId) -> io::Result<Option<Record>> {
        let mut bytes = Vec::new();
        File::open(self.record(id))?.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
        let Some(record) = read(&bytes).filter(|record| record.facts.len < u64::MAX) else { return Ok(None) };
        if record.job.is_some() {
            return Ok(Some(record));
        }
        let file = match OpenOptions::new().write(true).open(self.part(id)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if file.metadata()?.len() < record.offset {
            crate::warn!(
                "image: the upload {} has fewer bytes on the disk than were known to be there; it is removed. Its client begins \
                 anew. Look at the disk.",
                id.text()
            );
            return Ok(None);
        }
        file.set_len(record.offset)?;
        Ok(Some(record))
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let words = vec![("preset".to_owned(), "web".to_owned())];
        Facts {
            tenant: "a".to_owned(),
            len: 100,
            metadata: "a YQ==".to_owned(),
            words,
            idempotency_key: None,
            expires: 50,
        }
    }

    #[test]
    fn a_torn_write_leaves_the_offset_before() {
        let mut bytes = fresh(&facts());
        assert_eq!(read(&bytes).unwrap(), Record { offset: 0, job: None, facts: facts() });
        for (turn, offset) in [(1, 10), (2, 20), (3, 35)] {
            let (at, slot) = (offset_at(turn) as usize, offset_slot(offset));
            for torn in 0..slot.len() {
                let mut torn_bytes = bytes.clone();
                torn_bytes[at..at + torn].copy_from_slice(&slot[..torn]);
                let found = read(&torn_bytes).unwrap().offset;
                assert!(found < offset || torn_bytes[at..at + slot.len()] == slot[..], "{turn} {torn} {found}");
            }
            bytes[at..at + slot.len()].copy_from_slice(&slot);
            assert_eq!(read(&bytes).unwrap().offset, offset);
        }
        let job = JobId([7; 16]);
        bytes[JOB_AT as usize..][..20].copy_from_slice(&job_slot(job));
        assert_eq!(read(&bytes).unwrap().job, Some(job));
        // Whatever is cut off or changed, nothing panics, and no offset beyond the length is believed.
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "{len}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x55;
            assert!(read(&other).is_none_or(|record| record.offset <= 100 && record.facts == facts()), "{at}");
        }
        let (mut bytes, beyond) = (fresh(&facts()), offset_slot(101));
        bytes[..beyond.len()].copy_from_slice(&beyond);
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn what_a_crash_left_is_cut_to_what_was_durable() {
        let root = std::env::temp_dir().join(format!("annulus-tus-{}", std::process::id()));
        let _absent = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let folder = Folder(root.clone());
        let ids = [1, 2, 3, 4, 5, 6].map(|byte| UploadId([byte; 16]));
        let [whole, expired, torn, lost, done, orphan] = ids;
        let with = |offset: u64, job: Option<JobId>| {
            let mut bytes = fresh(&facts());
            let slot = offset_slot(offset);
            bytes[512..512 + slot.len()].copy_from_slice(&slot);
            if let Some(job) = job {
                bytes[JOB_AT as usize..][..20].copy_from_slice(&job_slot(job));
            }
            bytes
        };
        fs::write(folder.record(whole), with(10, None)).unwrap();
        fs::write(folder.part(whole), [b'a'; 17]).unwrap();
        fs::write(folder.record(expired), fresh(&Facts { expires: 20, ..facts() })).unwrap();
        fs::write(folder.part(expired), b"").unwrap();
        fs::write(folder.record(torn), &fresh(&facts())[..600]).unwrap();
        fs::write(folder.record(lost), with(10, None)).unwrap();
        fs::write(folder.part(lost), [b'a'; 9]).unwrap();
        fs::write(folder.record(done), with(99, Some(JobId([9; 16])))).unwrap();
        fs::write(folder.part(done), [b'a'; 99]).unwrap();
        fs::write(folder.part(orphan), b"a").unwrap();
        fs::write(root.join("foreign.txt"), b"a").unwrap();
        let (mut found, removed) = folder.recover(20).unwrap();
        found.sort_by_key(|(id, _)| *id);
        let found: Vec<_> = found.into_iter().map(|(id, record)| (id, record.offset, record.job)).collect();
        assert_eq!((found, removed), (vec![(whole, 10, None), (done, 100, Some(JobId([9; 16])))], 3));
        assert_eq!(fs::read(folder.part(whole)).unwrap(), [b'a'; 10]);
        let mut left: Vec<String> =
            fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let names =
            [format!("{}.part", whole.text()), format!("{}.record", whole.text()), format!("{}.record", done.text())];
        assert_eq!(left, [&names[0][..], &names[1], &names[2], "foreign.txt"]);
        fs::remove_dir_all(&root).unwrap();
    }
}
