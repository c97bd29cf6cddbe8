//! Answers that are kept, and answers that are compressed: what they cost, beside a peer that does the same.
//!
//! A kept answer asks no service, so what is left is the gateway's own: a request read, an answer written. There sides answer as
//! fast as they can. Compressed answers are asked for at a rate that all sides carry: ours compresses nothing when it has too much to
//! do, and would look cheap.

use super::super::Options;
use super::super::config::Choices;
use super::super::generator::Request;
use super::super::rig::{Measured, Rig};
use super::{plain, progress, shop};
use crate::compare::Ratio;
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use std::net::SocketAddr;

/// Requests under way.
const AT_ONCE: usize = 64;
/// Compressed answers per second.
const RATE: f64 = 2000.0;
/// The longest turn of a side.
const SECONDS_MAX: f64 = 2.0;
/// What is asked for: path, what it is in rows, and whether the client takes gzip.
const ASKED: [(&str, &str, bool); 3] =
    [("/kept/1k", "kept, 1 KB", false), ("/kept/100k", "kept, 100 KB", false), ("/packed", "10 KB, gzip", true)];

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", "0"), ("sizes", "1KB")])?;
    let seconds = settings.seconds.min(SECONDS_MAX);
    let choices = Choices { compresses: true, ..plain(options) };
    let mut rows = Vec::new();
    for (path, what, gzip) in ASKED {
        let requests = |address: SocketAddr| {
            let request = if gzip { Request::get_gzip } else { Request::get };
            vec![request(address, path, 0)]
        };
        let sides = std::iter::once(None).chain(settings.peers.iter().map(|peer| Some(peer.as_str())));
        let start = |peer| Rig::start(peer, options.outside, &shop, &choices, &requests, 1);
        let mut rigs = sides.map(start).collect::<Result<Vec<_>, _>>()?;
        let mut spent: Vec<Vec<f64>> = rigs.iter().map(|_| Vec::new()).collect();
        for round in 1..=settings.rounds {
            for (rig, spent) in rigs.iter_mut().zip(&mut spent) {
                let rate = settings.rate.unwrap_or(RATE);
                let measured = rig.measured(&shop, |load| match gzip {
                    true => load.open_loop(&Profile::steady(rate, seconds, round as u64)),
                    false => load.closed_loop(AT_ONCE, seconds),
                })?;
                let per_answer = measured.cpu_us_per_request();
                spent.push(per_answer);
                progress(&format!(
                    "round {round} {what}, {}: {:.0}/s, {per_answer:.1} us CPU per answer, {}",
                    rig.name,
                    measured.goodput(),
                    measured.shares_text()
                ));
                if round == settings.rounds {
                    side_rows(&format!("{what}, {}", rig.name), &measured, !gzip, &mut rows);
                }
            }
        }
        for (rig, of) in rigs.iter().zip(&spent).skip(1) {
            let ratio = Ratio::of(&spent[0], of);
            let note = ratio.map_or_else(String::new, |ratio| format!("rounds {:.2} to {:.2}", ratio.low, ratio.high));
            let name = format!("{what}: CPU per answer, {} / {}", rigs[0].name, rig.name);
            rows.push(Row::new(name, Target::Most(1.0), ratio.map(|ratio| ratio.value), note));
        }
    }
    Ok(rows)
}

fn side_rows(name: &str, measured: &Measured, kept: bool, rows: &mut Vec<Row>) {
    let whole = measured.outcome.whole();
    let note = format!("us; {}", measured.shares_text());
    rows.push(Row::fact(format!("{name}: CPU per answer"), measured.cpu_us_per_request(), note));
    rows.push(Row::fact(format!("{name}: answers"), measured.goodput(), "/s".to_owned()));
    let bytes = whole.body_bytes as f64 / whole.answered().max(1) as f64;
    rows.push(Row::fact(format!("{name}: bytes of a body"), bytes, String::new()));
    let failures = Target::Most(0.0);
    rows.push(Row::new(format!("{name}: failures"), failures, Some(whole.failures() as f64), whole.failures_text()));
    if kept {
        // The warm-up has asked once.
        let asked = measured.counts.requests as f64;
        rows.push(Row::new(format!("{name}: questions to the service"), Target::Most(0.0), Some(asked), ""));
    }
}
