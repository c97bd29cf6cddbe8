//! What strangers say of resumable uploads, and what a crash leaves of them: what the fuzzer tries, and a test with its corpus.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A target that panics has found something.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fields::{Checksum, METADATA_BYTES_MAX, METADATA_PAIRS_MAX, is_piece, metadata, number};
use super::record::{Facts, JOB_AT, Record, UploadId, fresh, job_slot, offset_at, offset_slot, read};
use super::settings::TusSettings;
use super::table::{Claim, Not, Tus, now};
use crate::fuzzing::{Choices, Folder, owned};
use crate::image::job::{JobId, Tenant};

/// Uploads that a script of [`states`] moves.
const UPLOADS: usize = 4;

/// Any bytes as header fields, as a record on the disk, and as a life of uploads with crashes in it. The first byte chooses.
pub fn uploads(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    match choice % 3 {
        0 => fields(&String::from_utf8_lossy(rest)),
        1 => record(&mut Choices(rest)),
        _ => states(&mut Choices(rest)),
    }
}

/// What is taken is what it says, and nothing else: numbers are digits, pairs come back as they are written anew.
fn fields(text: &str) {
    if let Ok(value) = number("Upload-Offset", Some(text)) {
        let digits = text.trim();
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(digits.trim_start_matches('0'), if value == 0 { String::new() } else { value.to_string() });
    }
    if let Ok(pairs) = metadata(text) {
        assert!(pairs.len() <= METADATA_PAIRS_MAX && text.len() <= METADATA_BYTES_MAX);
        let written: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
        let written = written.join(",");
        // A key alone is one byte shorter than a key with an empty value.
        assert!(written.len() > METADATA_BYTES_MAX || metadata(&written).unwrap() == pairs);
    }
    if let Ok(checksum) = Checksum::read(text) {
        let (name, encoded) = text.trim().split_once(' ').unwrap();
        let of_nothing = ring::digest::digest(checksum.algorithm, b"");
        assert_eq!(name == "sha1", of_nothing.as_ref().len() == 20);
        let fits_nothing = checksum.is(ring::digest::Context::new(checksum.algorithm));
        assert_eq!(fits_nothing, STANDARD.encode(of_nothing) == encoded.trim());
    }
    assert!(!is_piece(Some(text)) || text.len() >= super::fields::PIECE_TYPE.len());
    let _none_or_id = UploadId::read(text).map(|id| assert_eq!(id.text(), text));
}

/// A record of any bytes, behind checksums that fit where the script says so: no offset beyond the length is believed, and
/// what was read is read from what would be written of it.
fn record(script: &mut Choices<'_>) {
    let [shape, len] = script.array();
    let json = script.bytes(if shape & 1 == 0 { len.into() } else { 0 });
    let mut bytes = match serde_json::from_slice::<Facts>(json) {
        Ok(facts) => fresh(&facts),
        Err(_) => fresh(&facts(u64::from(len), u64::MAX)),
    };
    for turn in 0..u64::from(shape >> 1 & 3) {
        put(&mut bytes, offset_at(turn), &offset_slot(u64::from_le_bytes(script.array())));
    }
    if shape & 0x08 != 0 {
        put(&mut bytes, JOB_AT, &job_slot(JobId(script.array())));
    }
    while !script.is_over() {
        let (at, len) = (script.number(), script.byte());
        put(&mut bytes, at, script.bytes(usize::from(len) % 32));
    }
    let Some(record) = read(&bytes) else { return };
    assert!(record.offset <= record.facts.len);
    assert!(record.job.is_none() || record.offset == record.facts.len);
    assert_eq!(read(&fresh(&record.facts)).unwrap().facts, record.facts);
}

/// Writes over what is there, and no further.
fn put(bytes: &mut [u8], at: u64, over: &[u8]) {
    let at = (at as usize).min(bytes.len());
    let len = over.len().min(bytes.len() - at);
    bytes[at..at + len].copy_from_slice(&over[..len]);
}

fn facts(len: u64, expires: u64) -> Facts {
    Facts {
        tenant: "ann".to_owned(),
        len,
        metadata: String::new(),
        words: vec![("preset".to_owned(), "web".to_owned())],
        idempotency_key: None,
        expires,
    }
}

/// An upload as it must be.
struct Upload {
    len: u64,
    /// What a client was told, and what may have reached the disk without a word.
    offset: u64,
    torn: Option<u64>,
    turn: u64,
    job: Option<JobId>,
    claim: Option<Claim>,
}

/// A life of some uploads beside a model of it: who may write, how far each is, how much is promised; and after a crash
/// everything is where clients were told it is, or one piece further, which was written and not told.
fn states(script: &mut Choices<'_>) {
    let folder = Folder::new("tus");
    let settings = TusSettings { bytes_max: Some(2000), ..TusSettings::default() };
    let open = || owned(|| Tus::open(folder.path(), settings.clone(), 1000)).unwrap();
    let mut tus = open();
    let mut uploads: BTreeMap<u8, Upload> = BTreeMap::new();
    while !script.is_over() {
        let [step, which] = script.array();
        let which = which % UPLOADS as u8;
        match step % 8 {
            0 | 1 => announce(&tus, which, script, &mut uploads),
            2 => claim(&tus, which, &mut uploads),
            3 => piece(&tus, which, script, &mut uploads),
            4 => drop(uploads.get_mut(&which).and_then(|upload| upload.claim.take())),
            5 => finish(&tus, which, &mut uploads),
            6 => terminate(&tus, which, &mut uploads),
            _ => {
                uploads.values_mut().for_each(|upload| upload.claim = None);
                drop(tus);
                tus = open();
                recovered(&tus, &mut uploads);
            }
        }
        agree(&tus, &uploads);
    }
}

fn id(which: u8) -> UploadId {
    UploadId([which; 16])
}

fn tenant() -> Tenant {
    Tenant::named("ann")
}

fn announce(tus: &Arc<Tus>, which: u8, script: &mut Choices<'_>, uploads: &mut BTreeMap<u8, Upload>) {
    let len = 1 + script.number() % 1000;
    if uploads.contains_key(&which) {
        return;
    }
    let promised: u64 = uploads.values().filter(|upload| upload.job.is_none()).map(|upload| upload.len).sum();
    let facts = facts(len, now() + 1_000_000);
    match tus.announce(id(which), facts.clone()) {
        Err(_) => assert!(promised + len > 2000),
        Ok(claim) => {
            assert!(promised + len <= 2000);
            fs::write(tus.folder.part(id(which)), b"").unwrap();
            fs::write(tus.folder.record(id(which)), fresh(&facts)).unwrap();
            uploads.insert(which, Upload { len, offset: 0, torn: None, turn: 1, job: None, claim: Some(claim) });
        }
    }
}

fn claim(tus: &Arc<Tus>, which: u8, uploads: &mut BTreeMap<u8, Upload>) {
    match (uploads.get_mut(&which), tus.claim(&tenant(), id(which))) {
        (None, claim) => assert_eq!(claim.err(), Some(Not::There)),
        (Some(upload), Err(not)) => {
            assert_eq!(not, Not::Free);
            assert!(upload.claim.is_some() || upload.job.is_some());
        }
        (Some(upload), Ok(claim)) => {
            assert!(upload.claim.is_none());
            assert_eq!((claim.offset, claim.facts.len), (upload.offset, upload.len));
            upload.claim = Some(claim);
        }
    }
}

/// As `piece.rs` does: the bytes, then the offset, into the slot that does not hold the newest one. Perhaps torn.
fn piece(tus: &Arc<Tus>, which: u8, script: &mut Choices<'_>, uploads: &mut BTreeMap<u8, Upload>) {
    let [len, torn] = script.array();
    let Some(upload) = uploads.get_mut(&which).filter(|upload| upload.job.is_none()) else { return };
    let Some(claim) = upload.claim.as_mut().filter(|claim| !claim.is_over()) else { return };
    let offset = upload.len.min(claim.offset + u64::from(len));
    if offset == claim.offset || upload.torn.is_some() {
        return;
    }
    let (part, record) = (tus.folder.part(id(which)), tus.folder.record(id(which)));
    fs::write(part, vec![which; offset as usize]).unwrap();
    let mut bytes = fs::read(&record).unwrap();
    let slot = offset_slot(offset);
    let came = if torn % 2 == 0 { slot.len() } else { usize::from(torn) % slot.len() };
    put(&mut bytes, offset_at(upload.turn), &slot[..came]);
    fs::write(record, bytes).unwrap();
    if came < slot.len() {
        upload.torn = Some(offset);
        return;
    }
    upload.turn += 1;
    upload.offset = offset;
    claim.reached(offset);
}

fn finish(tus: &Arc<Tus>, which: u8, uploads: &mut BTreeMap<u8, Upload>) {
    let Some(upload) = uploads.get_mut(&which).filter(|upload| upload.job.is_none()) else { return };
    let Some(claim) = upload.claim.as_ref() else { return };
    assert!(claim.enters());
    assert_eq!(tus.terminate(&tenant(), id(which)), Err(Not::Free));
    let job = JobId([which; 16]);
    let record = tus.folder.record(id(which));
    let mut bytes = fs::read(&record).unwrap();
    put(&mut bytes, JOB_AT, &job_slot(job));
    fs::write(record, bytes).unwrap();
    claim.entered(job);
    (upload.job, upload.offset, upload.claim, upload.torn) = (Some(job), upload.len, None, None);
}

fn terminate(tus: &Arc<Tus>, which: u8, uploads: &mut BTreeMap<u8, Upload>) {
    let there = uploads.remove(&which);
    assert_eq!(tus.terminate(&tenant(), id(which)).is_ok(), there.is_some());
    if let Some(Upload { claim: Some(claim), .. }) = &there {
        assert!(claim.is_over() && !claim.enters());
    }
    for path in [tus.folder.record(id(which)), tus.folder.part(id(which))] {
        let _absent = fs::remove_file(path);
    }
}

/// After a crash: nothing that was told is lost, and of a torn record nothing is believed that is not whole.
fn recovered(tus: &Arc<Tus>, uploads: &mut BTreeMap<u8, Upload>) {
    for (which, upload) in uploads.iter_mut() {
        let seen = tus.look(&tenant(), id(*which)).unwrap();
        if let Some(torn) = upload.torn.take() {
            assert!(seen.offset == upload.offset || seen.offset == torn);
        }
        assert!(seen.offset >= upload.offset);
        if upload.job.is_none() {
            assert_eq!(fs::metadata(tus.folder.part(id(*which))).unwrap().len(), seen.offset);
        }
        let bytes = fs::read(tus.folder.record(id(*which))).unwrap();
        let Record { offset, job, facts } = read(&bytes).unwrap();
        assert_eq!((offset, job, facts.len), (seen.offset, upload.job, upload.len));
        // The slot that does not hold the newest offset is next, as `piece.rs` finds it.
        upload.turn = u64::from(bytes.starts_with(&offset_slot(offset)));
        upload.offset = seen.offset;
    }
}

fn agree(tus: &Arc<Tus>, uploads: &BTreeMap<u8, Upload>) {
    let unfinished = uploads.values().filter(|upload| upload.job.is_none());
    let (count, bytes) = unfinished.fold((0, 0), |(count, bytes), upload| (count + 1, bytes + upload.len));
    assert_eq!(tus.unfinished(), (count, bytes));
    for which in 0..UPLOADS as u8 {
        match (tus.look(&tenant(), id(which)), uploads.get(&which)) {
            (Ok(seen), Some(upload)) => {
                assert_eq!((seen.offset, seen.job, seen.facts.len), (upload.offset, upload.job, upload.len));
            }
            (seen, upload) => assert!(seen.is_err() && upload.is_none(), "{which}"),
        }
    }
    assert_eq!(tus.look(&Tenant::named("bob"), id(0)).err(), Some(Not::There));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_uploads_is_taken_or_refused() {
        assert!(crate::fuzzing::replay("tus", super::uploads) > 10);
    }
}
