//! `annulus chat export`: the history that a log holds, as JSON lines. Reads everything, changes nothing.
//!
//! ```text
//!   {"channel":"room","epoch":"abcd","offset":7,"time":1790000000000,"user":"42","client":"uuid","tags":{…},"data":…}
//! ```
//!
//! `data` is the message as it is where that is JSON; else base64, with `"binary":true`, or `"sealed":true` where it is
//! encrypted. What a channel's history was cleared of, and what was removed of it, is left out. Publications come in the order
//! of the log. What the log has only from checkpoints, because the segment it was written to first was released, comes before
//! them.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use annulus_protocols::json::write_base64;

use super::LogError;
use super::record::{Cleared, Publication, Record, Removed};
use super::replay::{lock, unreadable};
use super::walk::{Chain, Verdict, Walk};

/// What to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only channels whose names begin so.
    pub prefix: String,
    /// Only offsets above this.
    pub since: u64,
}

/// What is known of a channel's epoch before anything is written.
#[derive(Default)]
struct Known {
    /// The first offset that is in the log as itself.
    first: Option<u64>,
    /// The last offset that the history was cleared of.
    cleared: u64,
    /// Offsets that were removed one by one.
    removed: HashSet<u64>,
    /// The last offset written from a checkpoint.
    kept: u64,
}

impl Known {
    /// It is in the history for all that the log says.
    fn shows(&self, offset: u64) -> bool {
        offset > self.cleared && !self.removed.contains(&offset)
    }
}

type Channels = HashMap<(String, [u8; 4]), Known>;

/// Writes what `filter` lets through; how many lines.
///
/// # Errors
/// [`LogError::Locked`] while a server uses the log; [`LogError::Damaged`] at the first place that cannot be read, after
/// what comes before it was written.
pub fn export(directory: &Path, filter: &Filter, out: &mut dyn Write) -> Result<u64, LogError> {
    // A copy may lie where nothing can be written; then nobody writes it.
    let _lock = if directory.join("lock").exists() { Some(lock(directory)?) } else { None };
    let chain = Chain::read(directory)?;
    let mut channels = Channels::new();
    let chosen = |publication: &Publication<'_>| publication.channel.starts_with(&filter.prefix);
    let known = |channel: &str, epoch: &[u8; 4]| (channel.to_owned(), *epoch);
    let looked = each(&chain, &mut |record| {
        match record {
            Record::Publication(publication) if chosen(publication) => {
                let of = channels.entry(known(publication.channel, &publication.epoch)).or_default();
                of.first.get_or_insert(publication.offset);
            }
            Record::Cleared(Cleared { channel, epoch, upto }) if channel.starts_with(&filter.prefix) => {
                let of = channels.entry(known(channel, epoch)).or_default();
                of.cleared = of.cleared.max(*upto);
            }
            Record::Removed(Removed { channel, epoch, offset }) if channel.starts_with(&filter.prefix) => {
                channels.entry(known(channel, epoch)).or_default().removed.insert(*offset);
            }
            _ => {}
        }
        Ok(())
    });
    let mut lines = 0;
    let mut line = Vec::new();
    let mut write = |publication: &Publication<'_>| {
        line.clear();
        put_line(&mut line, publication);
        lines += 1;
        out.write_all(&line).map_err(LogError::io("writing the export of", directory))
    };
    each_sound(&chain, &mut |record| match record {
        Record::Kept(publication) if chosen(publication) && publication.offset > filter.since => {
            let of = channels.entry(known(publication.channel, &publication.epoch)).or_default();
            let offset = publication.offset;
            let is_new = offset > of.kept && of.shows(offset) && of.first.is_none_or(|first| offset < first);
            // The place of one that was removed before the log's present beginning.
            let is_new = is_new && (publication.binary || !publication.data.is_empty());
            if is_new {
                of.kept = offset;
                write(publication)?;
            }
            Ok(())
        }
        _ => Ok(()),
    })?;
    each_sound(&chain, &mut |record| match record {
        Record::Publication(publication) if chosen(publication) && publication.offset > filter.since => {
            let of = channels.get(&known(publication.channel, &publication.epoch));
            match of.is_none_or(|of| of.shows(publication.offset)) {
                true => write(publication),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    })?;
    looked.map(|()| lines)
}

/// As [`each`], up to the first damage, which was reported once already.
fn each_sound(chain: &Chain, see: &mut dyn FnMut(&Record<'_>) -> Result<(), LogError>) -> Result<(), LogError> {
    match each(chain, see) {
        Err(LogError::Damaged { .. }) => Ok(()),
        ended => ended,
    }
}

/// All records, oldest first.
fn each(chain: &Chain, see: &mut dyn FnMut(&Record<'_>) -> Result<(), LogError>) -> Result<(), LogError> {
    let Some(mut walk) = Walk::new(chain, chain.oldest())? else { return Ok(()) };
    while let Some((lsn, frame)) = walk.next()? {
        match Record::decode(frame.kind, walk.payload(lsn, &frame)) {
            Some(record) => see(&record)?,
            None => return Err(walk.damage(lsn, unreadable(&frame)).into()),
        }
    }
    match walk.judge()? {
        Verdict::End | Verdict::Torn { .. } => Ok(()),
        Verdict::Damaged { damage, .. } => Err(damage.into()),
    }
}

fn put_line(out: &mut Vec<u8>, publication: &Publication<'_>) {
    let Publication { channel, epoch, offset, time_ms, user, client, tags, data, sealed, binary, .. } = publication;
    out.extend_from_slice(b"{\"channel\":");
    put_text(out, channel);
    out.extend_from_slice(b",\"epoch\":");
    put_text(out, &String::from_utf8_lossy(epoch));
    out.extend_from_slice(format!(",\"offset\":{offset},\"time\":{time_ms},\"user\":").as_bytes());
    put_text(out, user);
    if *client != [0; 16] {
        out.extend_from_slice(b",\"client\":");
        put_text(out, &uuid(client));
    }
    if !tags.is_empty() {
        out.extend_from_slice(b",\"tags\":{");
        for (at, (name, value)) in tags.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"" } else { b"," });
            put_text(out, name);
            out.push(b':');
            put_text(out, value);
        }
        out.push(b'}');
    }
    // What claims to be JSON is checked all the same: it must not break the line.
    let is_json = !sealed && !binary && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    out.extend_from_slice(b",\"data\":");
    if is_json {
        // Between two values a line break means nothing, and inside of a text there is none.
        out.extend(data.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
    } else {
        write_base64(out, data);
        out.extend_from_slice(if *sealed { b",\"sealed\":true" } else { b",\"binary\":true" });
    }
    out.extend_from_slice(b"}\n");
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is written into memory as JSON without fail");
}

/// The usual form (RFC 9562 section 4).
fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}
