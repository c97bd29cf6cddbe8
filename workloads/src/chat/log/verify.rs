//! `annulus chat verify-log DIR`: is the log whole? Reads everything, changes nothing.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::path::Path;

use super::checkpoint::Checkpoints;
use super::record::{Publication, Record};
use super::replay::{lock, unreadable};
use super::walk::{Chain, Damage, Verdict, Walk};
use super::{LogError, Lsn, Torn};

/// Places named one by one; more are only counted.
const NAMED_MAX: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments.
    pub segments: usize,
    /// Records that can be read.
    pub records: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Channels, each with its epoch.
    pub channels: usize,
    /// Publications whose offset is not the one after the last.
    pub gaps: u64,
    /// Publications whose offset was there before.
    pub duplicates: u64,
    /// Where the newest complete checkpoint begins.
    pub checkpoint: Option<Lsn>,
    /// Where the log ends.
    pub end: Lsn,
    /// A batch that a crash has torn: the next start cuts it off, and nobody was told that it was there.
    pub torn: Option<Torn>,
    /// What is damaged.
    pub damages: Vec<Damage>,
}

impl Summary {
    /// Whether a server would open it, and every offset is there once.
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && self.gaps == 0 && self.duplicates == 0
    }
}

/// Looks through the log in `directory`, and writes what there is to say.
///
/// # Errors
/// [`LogError::Locked`] while a server uses it; [`LogError`] when it cannot be read at all. Damage is no error here.
pub fn verify(directory: &Path, out: &mut dyn Write) -> Result<Summary, LogError> {
    // A copy may lie where nothing can be written; then nobody writes it.
    let _lock = if directory.join("lock").exists() { Some(lock(directory)?) } else { None };
    let chain = Chain::read(directory)?;
    let mut summary = Summary { segments: chain.links.len(), damages: chain.damages(), ..Summary::default() };
    let mut offsets = Offsets::default();
    if let Some(mut walk) = Walk::new(&chain, chain.oldest())? {
        read(&mut walk, &mut summary, &mut offsets)?;
    }
    summary.damages.sort_by_key(|damage| damage.lsn);
    summary.channels = offsets.tops.len();
    summary.gaps = offsets.own().map(|top| top.gaps).sum();
    summary.duplicates = offsets.own().map(|top| top.duplicates).sum();
    report(directory, &chain, &summary, &offsets, out).map_err(LogError::io("writing about", directory))?;
    Ok(summary)
}

fn read(walk: &mut Walk<'_>, summary: &mut Summary, offsets: &mut Offsets) -> Result<(), LogError> {
    let mut checkpoints = Checkpoints::default();
    loop {
        while let Some((lsn, frame)) = walk.next()? {
            let Some(record) = Record::decode(frame.kind, walk.payload(lsn, &frame)) else {
                summary.damages.push(walk.damage(lsn, unreadable(&frame)));
                continue;
            };
            summary.records += 1;
            *summary.kinds.entry(record.name()).or_default() += 1;
            checkpoints.on_record(lsn, &record);
            match &record {
                Record::Publication(publication) => offsets.on_publication(lsn, publication),
                Record::Intent(intent) => drop(offsets.shared.insert(intent.channel.to_owned())),
                _ => {}
            }
        }
        match walk.judge()? {
            Verdict::End => break,
            Verdict::Torn { until } => {
                summary.torn = Some(Torn { at: walk.at, bytes: until.0 - walk.at.0 });
                break;
            }
            Verdict::Damaged { damage, resume } => {
                // The header's own damage is known already.
                if !summary.damages.iter().any(|known| known.lsn == damage.lsn) {
                    summary.damages.push(damage);
                }
                walk.resume(resume)?;
            }
        }
    }
    (summary.checkpoint, summary.end) = (checkpoints.complete, walk.at);
    Ok(())
}

/// Offsets per channel and epoch, in the order of the log.
#[derive(Default)]
struct Offsets {
    tops: HashMap<(String, [u8; 4]), Top>,
    /// Channels that a broker numbers: between two of this node's numbers are those of others, in any order.
    shared: HashSet<String>,
}

/// The last offset of a channel, and what was wrong on the way.
#[derive(Default)]
struct Top {
    offset: u64,
    gaps: u64,
    duplicates: u64,
    /// The first of both, in words.
    named: Vec<String>,
}

impl Offsets {
    /// Of channels that this node alone numbers.
    fn own(&self) -> impl Iterator<Item = &Top> {
        self.tops.iter().filter(|((channel, _), _)| !self.shared.contains(channel)).map(|(_, top)| top)
    }

    fn on_publication(&mut self, lsn: Lsn, publication: &Publication<'_>) {
        let Publication { channel, epoch, offset, .. } = publication;
        let top = match self.tops.entry(((*channel).to_owned(), *epoch)) {
            Entry::Occupied(top) => top.into_mut(),
            // Whatever came before may have been released.
            Entry::Vacant(vacant) => {
                vacant.insert(Top { offset: *offset, ..Top::default() });
                return;
            }
        };
        let expected = top.offset + 1;
        if *offset == expected {
            top.offset = *offset;
            return;
        }
        let what = if *offset < expected { "again" } else { "too early" };
        if *offset < expected {
            top.duplicates += 1;
        } else {
            top.gaps += 1;
            top.offset = *offset;
        }
        if top.named.len() < NAMED_MAX {
            let epoch = String::from_utf8_lossy(epoch);
            top.named.push(format!("{channel:?} epoch {epoch}: offset {offset} {what} at {lsn}, not {expected}"));
        }
    }
}

fn report(
    directory: &Path,
    chain: &Chain,
    summary: &Summary,
    offsets: &Offsets,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let Summary { segments, records, channels, gaps, duplicates, end, .. } = summary;
    writeln!(out, "{}: {segments} segments, from {} to {end}", directory.display(), chain.oldest())?;
    writeln!(out, "  {records} records, {channels} channels (each epoch counted)")?;
    for (kind, count) in &summary.kinds {
        writeln!(out, "  {count:>12} {kind}")?;
    }
    match summary.checkpoint {
        Some(lsn) => writeln!(out, "  newest complete checkpoint at {lsn}")?,
        None => writeln!(out, "  no complete checkpoint")?,
    }
    writeln!(out, "  offsets: {gaps} gaps, {duplicates} duplicates")?;
    offsets.own().flat_map(|top| &top.named).take(NAMED_MAX).try_for_each(|line| writeln!(out, "    {line}"))?;
    if let Some(Torn { at, bytes }) = summary.torn {
        writeln!(
            out,
            "  torn end at {at}: {bytes} bytes of a batch that a crash cut off. Nobody was told that it was there; the \
             next start removes it."
        )?;
    }
    for Damage { lsn, path, offset, why } in summary.damages.iter().take(NAMED_MAX) {
        writeln!(out, "  DAMAGED at {lsn} ({}, byte {offset}): {why}", path.display())?;
    }
    match (summary.damages.len(), summary.is_whole()) {
        (0, true) => writeln!(out, "the log is whole"),
        (0, false) => writeln!(out, "every record is sound, but OFFSETS ARE NOT IN ORDER"),
        (count, _) => writeln!(
            out,
            "THE LOG IS DAMAGED in {count} places. Restore the directory from a copy, or start once with \
             log.accept_loss = true to go on without what is damaged."
        ),
    }
}
