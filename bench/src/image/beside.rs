//! A neighbour: an echo server on the cores on which every thread of the image service decodes. Its tail tells whether
//! compute yields to shards.

use super::photos;
use super::server::{Server, marked, upload};
use super::service::emptied;
use crate::compare::median;
use crate::generator::Load;
use crate::ground::Ground;
use crate::process::{self, Mode};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::{Schedule, Spread};

/// Sockets of the echo, bytes of a message, and messages per second.
const SOCKETS: usize = 200;
const SIZE: usize = 512;
const RATE: f64 = 2000.0;
/// Works that wait when a round begins, per second of the round: more than both cores could do.
const WORKS_PER_SECOND: f64 = 25.0;
/// What the 99.9th percentile may grow by.
const TIMES_MOST: f64 = 3.0;

/// Echo alone and echo beside decoding, by turns.
///
/// # Errors
/// A sentence: a server could not be started, or is gone.
pub fn beside(settings: &Settings) -> Result<Vec<Row>, String> {
    let ground = Ground::new("image")?;
    let photo = photos::all(&ground.folder)?.into_iter().find(|photo| !photo.progressive).ok_or("no baseline photo")?;
    let bytes = std::fs::read(&photo.path).map_err(|error| format!("cannot read {}: {error}", photo.path.display()))?;
    let image = Server::start(&ground.folder.join("data"), "")?;
    let echo = process::Server::start(None, Mode::Echo)?;
    let sockets = settings.sockets.unwrap_or(SOCKETS);
    let mut load = Load::open(echo.address, sockets, settings.size.unwrap_or(SIZE))?;
    let (rate, seconds) = (settings.rate.unwrap_or(RATE), settings.seconds.max(1.0));
    let works = |name: &str| image.figure(name).ok_or("the image service is gone");
    let (mut alone, mut beside, mut done, mut number) = ([vec![], vec![]], [vec![], vec![]], Vec::new(), 0);
    let mut idle = 0;
    for round in 0..settings.rounds as u64 {
        for decoding in [false, true] {
            if decoding {
                for _ in 0..(WORKS_PER_SECOND * seconds).ceil() as u64 {
                    number += 1;
                    let answer = upload(image.address, "web", &marked(&bytes, number))?;
                    if answer.status != 202 {
                        return Err(format!("an upload was answered with {}", answer.status));
                    }
                }
            }
            let before = works("annulus_image_lane_works_total")?;
            let outcome = load.open_loop(Schedule::new(Spread::Poisson, rate, round), seconds)?;
            let after = works("annulus_image_lane_works_total")?;
            let side = if decoding { &mut beside } else { &mut alone };
            for (values, percentile) in side.iter_mut().zip([50.0, 99.9]) {
                let late = "the generator itself was late: another program shares its core";
                values.push(outcome.latency_us(percentile).ok_or(late)?);
            }
            if decoding {
                done.push((after - before) / outcome.seconds);
                // The queue must have lasted until the round's end.
                idle += usize::from(works("annulus_image_queue_depth")? == 0.0);
                emptied(&image)?;
            }
            let names = if decoding { "beside decoding" } else { "alone" };
            eprintln!("  round {}, {names}: p99.9 {:.0} us", round + 1, side[1].last().copied().unwrap_or_default());
        }
    }
    let row = |what: &str, target, value: f64, note: &str| {
        Row::new(format!("echo beside decoding: {what}"), target, Some(value), note)
    };
    let (tail, quiet) = (median(&beside[1]), median(&alone[1]));
    Ok(vec![
        row("p50 alone", Target::Fact, median(&alone[0]), "us"),
        row("p50 beside", Target::Fact, median(&beside[0]), "us"),
        row("p99.9 alone", Target::Fact, quiet, "us"),
        row("p99.9 beside", Target::Fact, tail, "us"),
        row("p99.9, times of alone", Target::Most(TIMES_MOST), tail / quiet, &format!("{rate:.0}/s; {}", photo.note())),
        row("works done meanwhile", Target::Fact, median(&done), "images/s, three outputs each, on what echo leaves"),
        row("rounds in which the queue ran dry", Target::Most(0.0), idle as f64, "then nobody decoded for a while"),
    ])
}
