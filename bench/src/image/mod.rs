//! The image pipeline alone beside peers (images per processor second, fidelity, memory), and the service: uploads,
//! overload, crashes, a neighbour, several nodes.
//!
//! In the pipeline's case every side is a child process on one core that makes the outputs of one file again and again and
//! prints a line with ` ms` for each time. Processor time is the kernel's account between two such lines, so that no side pays for starting.

mod beside;
mod crash;
mod fleet;
mod maker;
pub mod photos;
mod reference;
pub mod server;
mod service;
pub mod trial;
mod variants;

pub use beside::beside;
pub use crash::crash;
pub use fleet::{crash as fleet_crash, scaling};
pub use service::{overload, seed_target};
pub use variants::variants;

use crate::compare::{Ratio, median};
use crate::ground::Ground;
use crate::process::{Role, peer_names};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use maker::{Job, Maker, Run};
use photos::Photo;

/// Images measured per round.
const IMAGES: usize = 5;

/// A peer, what it makes, and the least ratio of ours to it.
type Against = (&'static str, Job, f64);

/// What is measured, and the targets: ours against a peer, in images per processor second.
const CASES: [(Job, &[Against]); 2] = [
    (
        Job::Cascade,
        &[
            ("sharp", Job::Cascade, 1.4),
            ("sharp", Job::Idiomatic, 2.0),
            ("pyvips", Job::Cascade, 1.6),
            ("pillow", Job::Cascade, 1.6),
            ("opencv", Job::Cascade, 1.6),
        ],
    ),
    (
        Job::Thumbnail,
        &[
            ("sharp", Job::Thumbnail, 1.3),
            ("pyvips", Job::Thumbnail, 1.3),
            ("pillow", Job::Thumbnail, 1.3),
            ("opencv", Job::Thumbnail, 1.0),
        ],
    ),
];
/// Images per processor second, three outputs.
const RATE_GOAL: f64 = 7.5;
/// Decibels against the reference, 256 pixels.
const FIDELITY_LEAST: f64 = 50.0;
/// Bytes at the peak with three outputs, the whole process.
const PEAK_MOST: f64 = 110e6;

/// One side of a case.
struct Side {
    peer: Option<&'static str>,
    job: Job,
    /// The least ratio of ours to it.
    target: Option<f64>,
    runs: Vec<Run>,
}

impl Side {
    fn name(&self) -> String {
        format!("{} {}", self.peer.unwrap_or("ours"), self.job.option())
    }

    fn rates(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.images_per_cpu_s).collect()
    }

    fn peak(&self) -> f64 {
        median(&self.runs.iter().map(|run| run.rss_peak as f64).collect::<Vec<_>>())
    }
}

/// Runs all of it.
///
/// # Errors
/// A sentence: a side could not be built, started or measured.
pub fn pipeline(settings: &Settings) -> Result<Vec<Row>, String> {
    let known = peer_names(Role::Image);
    if let Some(unknown) = settings.peers.iter().find(|peer| !known.contains(&peer.as_str())) {
        return Err(format!("there is no peer {unknown:?} for images; there are {}", known.join(", ")));
    }
    let ground = Ground::new("image")?;
    let photos = photos::all(&ground.folder)?;
    let mut rows = Vec::new();
    for photo in &photos {
        for (job, peers) in CASES {
            rows.extend(case(settings, photo, job, peers, &ground.folder)?);
        }
        rows.extend(fidelity(settings, photo, &ground.folder)?);
    }
    Ok(rows)
}

/// One photo and job, all sides in turn, round after round.
fn case(
    settings: &Settings,
    photo: &Photo,
    job: Job,
    peers: &'static [Against],
    folder: &std::path::Path,
) -> Result<Vec<Row>, String> {
    let wanted = peers.iter().filter(|(peer, ..)| settings.peers.iter().any(|name| name == peer));
    let mut sides = vec![Side { peer: None, job, target: None, runs: Vec::new() }];
    sides.extend(wanted.map(|&(peer, job, least)| Side {
        peer: Some(peer),
        job,
        target: (!photo.progressive).then_some(least),
        runs: Vec::new(),
    }));
    for round in 0..settings.rounds {
        for side in &mut sides {
            let run = Maker::start(side.peer, side.job, &photo.path, folder)?.measure(IMAGES)?;
            eprintln!("  {}, {}, round {}: {:.2} images/s", photo.name, side.name(), round + 1, run.images_per_cpu_s);
            side.runs.push(run);
        }
    }
    let (ours, theirs) = sides.split_first().expect("ours is always there");
    let what = |text: &str| format!("{}, {}: {text}", photo.name, job.option());
    let goal = match job {
        Job::Cascade if !photo.progressive => Target::Least(RATE_GOAL),
        _ => Target::Fact,
    };
    let mut rows = vec![Row::new(what("images per CPU second"), goal, Some(median(&ours.rates())), photo.note())];
    let peak = if job == Job::Cascade && !photo.progressive { Target::Most(PEAK_MOST / 1e6) } else { Target::Fact };
    rows.push(Row::new(what("peak RSS of the process, MB"), peak, Some(ours.peak() / 1e6), "input and code included"));
    for side in theirs {
        let ratio = Ratio::of(&ours.rates(), &side.rates());
        let note = ratio.map_or_else(String::new, |ratio| {
            let (rate, peak) = (median(&side.rates()), side.peak() / 1e6);
            format!("{:.2} to {:.2} between rounds; theirs {rate:.2} images/s, {peak:.0} MB", ratio.low, ratio.high)
        });
        let target = side.target.map_or(Target::Fact, Target::Least);
        rows.push(Row::new(what(&format!("ratio to {}", side.name())), target, ratio.map(|ratio| ratio.value), note));
    }
    Ok(rows)
}

/// How near 256 pixels come to a float Lanczos3 of the full decode.
fn fidelity(settings: &Settings, photo: &Photo, folder: &std::path::Path) -> Result<Vec<Row>, String> {
    let input = std::fs::read(&photo.path).map_err(|error| format!("cannot read {}: {error}", photo.path.display()))?;
    let mut rows = Vec::new();
    let peers = peer_names(Role::Image).into_iter().filter(|name| settings.peers.iter().any(|peer| peer == name));
    for peer in std::iter::once(None).chain(peers.map(Some)) {
        Maker::start(peer, Job::Lossless, &photo.path, folder)?.finish()?;
        let made = reference::read_png(&maker::lossless_path(peer, &photo.path, folder))?;
        let exact = reference::lanczos3(&input, made.size)?;
        let name = format!("{}: 256 px, dB against float Lanczos3, {}", photo.name, peer.unwrap_or("ours"));
        let target = if peer.is_none() { Target::Least(FIDELITY_LEAST) } else { Target::Fact };
        rows.push(Row::new(name, target, Some(reference::decibels(&made.samples, &exact)), ""));
    }
    Ok(rows)
}
