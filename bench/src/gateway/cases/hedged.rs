//! A second question where the first is slow: what it takes off the tail, and what it costs the service.
//!
//! The same gateway has the same service behind two paths, one of which asks again. They are loaded by turns, so what the
//! machine does meanwhile happens to both.

use super::super::Options;
use super::super::generator::Request;
use super::super::rig::Rig;
use super::super::tally::{Tally, percentile_ms};
use super::{plain, progress, shop};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use std::net::SocketAddr;

/// A service that is usually quick, and slow for one in a hundred.
const LATENCY: &str = "lognormal:20ms,200ms";
const RATE: f64 = 300.0;
/// Percentiles that are told, and the most that is left of one of them.
const PERCENTILES: [(f64, Target); 3] = [(50.0, Target::Fact), (99.0, Target::Most(0.6)), (99.9, Target::Fact)];
/// The budget is 5 % of the questions.
const QUESTIONS_MOST: f64 = 1.06;

#[derive(Default)]
struct Side {
    tally: Tally,
    questions: u64,
    cpu_s: f64,
    honest: bool,
}

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", LATENCY), ("sizes", "1KB")])?;
    let rate = settings.rate.unwrap_or(RATE);
    let start = |path: &'static str| {
        let requests = move |address: SocketAddr| vec![Request::get(address, path, 0)];
        Rig::start(None, options.outside, &shop, &plain(options), &requests, 1)
    };
    let mut sides = [("once", start("/once")?, Side::default()), ("hedged", start("/hedged")?, Side::default())];
    for round in 1..=settings.rounds {
        for (name, rig, side) in &mut sides {
            let profile = Profile::steady(rate, settings.seconds, round as u64);
            let measured = rig.measured(&shop, |load| load.open_loop(&profile))?;
            let whole = measured.outcome.whole();
            progress(&format!(
                "round {round} {name}: p99 {:.0} ms, {} questions for {} requests",
                percentile_ms(&whole.total, 99.0).unwrap_or_default(),
                measured.counts.requests,
                whole.sent
            ));
            side.tally.add(&whole);
            side.questions += measured.counts.requests;
            side.cpu_s += measured.cpu_s;
            side.honest = (side.honest || round == 1) && measured.outcome.is_honest();
        }
    }
    let [(_, _, once), (_, _, hedged)] = &sides;
    let mut rows = Vec::new();
    for (percentile, target) in PERCENTILES {
        let of = |side: &Side| percentile_ms(&side.tally.total, percentile).filter(|_| side.honest);
        for (name, _, side) in &sides {
            let note = if side.honest { "ms" } else { "refused: the generator itself was late" };
            rows.push(Row::new(format!("{name}: answer p{percentile}"), Target::Fact, of(side), note));
        }
        let ratio = of(hedged).zip(of(once)).map(|(hedged, once)| hedged / once);
        rows.push(Row::new(format!("p{percentile}, hedged / once"), target, ratio, ""));
    }
    for (name, _, side) in &sides {
        let sent = side.tally.sent.max(1) as f64;
        let questions = side.questions as f64 / sent;
        let most = Target::Most(if *name == "once" { 1.01 } else { QUESTIONS_MOST });
        rows.push(Row::new(format!("{name}: questions per request"), most, Some(questions), format!("of {sent}")));
        rows.push(Row::fact(format!("{name}: CPU per request"), side.cpu_s * 1e6 / sent, "us"));
        let failures = Some(side.tally.failures() as f64);
        rows.push(Row::new(format!("{name}: failures"), Target::Most(0.0), failures, side.tally.failures_text()));
    }
    Ok(rows)
}
