//! Real faults done to real processes, and what becomes of every promise meanwhile: a table of fault, promise and what was
//! observed.
//!
//! ```text
//!   list.rs       every fault by name                 finding.rs   what was seen of a promise, and the table
//!   chats.rs  fleets.rs  images.rs  gateways.rs        the faults, and who publishes, uploads and asks meanwhile
//!   probe.rs      requests to a gateway, one after the other, and what became of them
//!   service.rs    a process of ours: killed, paused, started again        limits.rs   descriptors and memory
//!   cable.rs      a network of its own, which is cut                      volume.rs   a small disk
//!   road.rs       a way that is slow, loses, holds back, or breaks        clock.rs    a clock that is stepped
//!   names.rs      a name server that is slow                              certificates.rs   valid ones, and expired ones
//! ```
//!
//! Who publishes and uploads, and the accounts of what was promised, are those of the kills ([`crate::chat::trial`],
//! [`crate::image::trial`]). What a machine does not let us do is told as not run, with the reason, and what was done
//! and not felt by whom it was done to as that: neither is a promise kept.

mod cable;
mod certificates;
mod chats;
mod clock;
pub mod finding;
mod fleets;
mod gateways;
mod images;
mod limits;
mod list;
mod names;
mod probe;
pub mod road;
pub mod service;
mod volume;

use crate::ground::Ground;
use crate::report;
use finding::{Findings, Trouble, Verdict};
use std::path::Path;
use std::time::Instant;

pub use list::FAULTS;

/// A fault.
pub struct Fault {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    run: fn(&Ground) -> Result<Findings, Trouble>,
}

/// Runs the faults whose names contain one of `only`, all if it is empty, prints each as it ends, and writes the table to
/// `out` if there is one. Whether every promise was held.
///
/// # Errors
/// A sentence: there is no such fault, or the table cannot be written.
pub fn run(only: &[String], out: Option<&Path>) -> Result<bool, String> {
    if let Some(unknown) = only.iter().find(|name| !FAULTS.iter().any(|fault| fault.name.contains(name.as_str()))) {
        let names: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        return Err(format!("there is no fault {unknown:?}: there are {}", names.join(", ")));
    }
    let chosen = |fault: &&Fault| only.is_empty() || only.iter().any(|name| fault.name.contains(name.as_str()));
    let mut text: String = report::facts().iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect();
    text += &finding::head();
    print!("{text}");
    let (mut all_held, mut not_run) = (true, Vec::new());
    for fault in FAULTS.iter().filter(chosen) {
        let started = Instant::now();
        let findings = Ground::new(fault.name).map_err(Trouble::from).and_then(|ground| (fault.run)(&ground));
        let took = started.elapsed().as_secs_f64();
        let findings = findings.unwrap_or_else(|trouble| match trouble {
            Trouble::NotRun(why) => {
                not_run.push(format!("{}: {why}", fault.name));
                Findings::not_run(why)
            }
            // A trial that fails has shown nothing of what was promised.
            Trouble::Failed(why) => Findings::failed(why),
        });
        not_run.extend(findings.not_felt().map(|why| format!("{}: {why}", fault.name)));
        all_held &= !findings.any(Verdict::Broken);
        let rows = findings.rows(fault, took);
        print!("{rows}");
        text += &rows;
    }
    let end = finding::end(all_held, &not_run);
    print!("{end}");
    if let Some(file) = out {
        std::fs::write(file, text + &end).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(all_held)
}
