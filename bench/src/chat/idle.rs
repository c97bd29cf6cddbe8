//! Clients that only listen: how much memory of the server each takes, with a room and a channel of its own.

use super::fleet::{Fleet, Plan};
use super::{Options, Rig};
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use std::time::Duration;

/// Clients before the baseline, so that what a server allocates once is not charged to them.
const WARM_UP: usize = 500;
/// The most bytes of a client.
const BYTES_MOST: f64 = 512.0;
const AT_ONCE: usize = 64;
const JOIN_MAX: Duration = Duration::from_secs(120);
/// How long is waited before memory is read.
const CALM: Duration = Duration::from_secs(3);

/// Runs it.
///
/// # Errors
/// A sentence: a client could not join, or was cut off.
pub fn run(_settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let count = options.clients;
    let rig = Rig::start(options)?;
    let plan = rig.plan(options);
    let mut fleet = Fleet::new(Plan { clients: count + WARM_UP, own_channel: true, ..plan })?;
    fleet.join_first(WARM_UP, AT_ONCE, JOIN_MAX)?;
    fleet.idle(CALM)?;
    let before = Sample::of(rig.server.pid())?;
    fleet.join(AT_ONCE, JOIN_MAX)?;
    fleet.idle(CALM)?;
    let after = Sample::of(rig.server.pid())?;
    if !fleet.is_complete() {
        return Err(format!(
            "only {} of {} clients are still there: {:?}",
            fleet.live(),
            count + WARM_UP,
            fleet.book.events
        ));
    }
    let each = |after: u64, before: u64| (after as f64 - before as f64) / count as f64;
    let note = format!("PSS growth over {count} clients with two channels, {} kB before", before.pss / 1024);
    let name = |what: &str| format!("idle: {what} per client");
    Ok(vec![
        Row::new(name("bytes"), Target::Most(BYTES_MOST), Some(each(after.pss, before.pss)), note),
        Row::fact(name("RSS bytes"), each(after.rss, before.rss), ""),
        Row::fact(name("kernel slab bytes"), each(after.slab, before.slab), "both ends, whole machine"),
    ])
}
