//! The promise's price: how long an acknowledgement takes when it waits for stable storage, beside what this disk needs
//! for that itself, measured in the same folder between the rounds.

use super::book::ms;
use super::config::Ack;
use super::deliver::{account, load, warm};
use super::{Options, Rig};
use crate::compare::median;
use crate::report::{Row, Target};
use crate::scenario::Settings;
use hdrhistogram::Histogram;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// The longest that a batch may be gathered, in milliseconds.
const BATCH_MS: f64 = 2.0;
/// How many times the disk's own 99th percentile may come on top.
const DISK_TIMES: f64 = 3.0;
/// What the disk is measured with: blocks written one after the other into a file of zeros.
const BLOCK_BYTES: usize = 4096;
const BLOCKS: usize = 256;

/// Runs it.
///
/// # Errors
/// A sentence: the server does not know this level, or is gone; the disk cannot be measured.
pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let rig = Rig::start(options)?;
    let mut fleet = warm(&rig, options, settings, options.rate)?;
    let (mut acknowledged, mut halves, mut disk, mut disk_halves) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut refused = 0;
    for round in 0..settings.rounds {
        let own = sync_times(rig.folder.path())?;
        let (own_p50, own_p99) = (ms(&own, 50.0).unwrap_or(0.0), ms(&own, 99.0).unwrap_or(0.0));
        disk.push(own_p99);
        disk_halves.push(own_p50);
        let loaded = load(&mut fleet, rig.server.pid(), settings, options.rate, settings.seconds)?;
        let of = |percentile| ms(&loaded.times.acknowledgement, percentile);
        match (of(50.0), of(99.0)) {
            (Some(p50), Some(p99)) if loaded.times.is_honest() => {
                eprintln!(
                    "  round {}: p50 {p50:.2} ms, p99 {p99:.2} ms; disk {own_p50:.2}, {own_p99:.2} ms",
                    round + 1
                );
                acknowledged.push(p99);
                halves.push(p50);
            }
            _ => refused += 1,
        }
    }
    let most = BATCH_MS + DISK_TIMES * median(&disk);
    let name =
        |what: &str| format!("acknowledgement at {}: {what}", options.asked.ack.map_or("the default", Ack::name));
    let measured = |values: &[f64]| (!values.is_empty()).then(|| median(values));
    let note =
        format!("ms; {BATCH_MS} ms + {DISK_TIMES} x the disk's; {refused} rounds refused; {:.0}/s", options.rate);
    let mut rows = vec![
        Row::new(
            name("p50"),
            Target::Fact,
            measured(&halves),
            format!("ms; the disk's own {:.3}", median(&disk_halves)),
        ),
        Row::new(name("p99"), Target::Most(most), measured(&acknowledged), note),
        Row::fact(
            name("the disk's own p99"),
            median(&disk),
            format!("ms, {BLOCKS} times {BLOCK_BYTES} bytes and fdatasync"),
        ),
    ];
    rows.extend(account("acknowledgement", &fleet.book));
    Ok(rows)
}

/// What `fdatasync` takes after each of many blocks, in a file of zeros in this folder.
fn sync_times(folder: &Path) -> Result<Histogram<u64>, String> {
    let path = folder.join("disk");
    let failed = |error: std::io::Error| format!("the disk cannot be measured with {}: {error}", path.display());
    let file = File::create(&path).map_err(failed)?;
    file.write_all_at(&vec![0; BLOCK_BYTES * BLOCKS], 0).and_then(|()| file.sync_all()).map_err(failed)?;
    let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| error.to_string())?;
    let block = [0x5a; BLOCK_BYTES];
    for at in 0..BLOCKS {
        let began = Instant::now();
        file.write_all_at(&block, (at * BLOCK_BYTES) as u64).and_then(|()| file.sync_data()).map_err(failed)?;
        times.saturating_record(began.elapsed().as_nanos() as u64);
    }
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_left_as_it_was() {
        let folder = super::super::Folder::new(None).unwrap();
        assert_eq!(sync_times(folder.path()).unwrap().len(), BLOCKS as u64);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
