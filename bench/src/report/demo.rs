//! A made-up run, for tests and for looking at a report without measuring anything: the same each time.
//!
//! Two servers, three rounds each. One answers in half a millisecond; the other as fast, but it stands still for 200 ms
//! of every second. In its second round the generator is late. Nothing of it was measured, and its facts say so.

use super::{Row, Target};
use crate::histogram::LATENCY_MAX_NS;
use crate::random::Random;
use crate::record::{INTERVAL_NS, Interval, Record, Round, Side, Usage};

const ROUNDS: usize = 3;
const WARM_UP_S: f64 = 1.0;
const SECONDS: f64 = 5.0;
const COOL_DOWN_S: f64 = 0.5;
const PER_S: u64 = 2000;
const PAUSE_NS: u64 = 200_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Requests that a pause catches under way: one per connection.
const CAUGHT: u64 = 16;
/// Seconds between readings of the server's accounts.
const READ_EVERY_S: f64 = 0.25;

/// The run.
pub fn record() -> Record {
    let mut sides = vec![side("steady"), side("pausing")];
    for number in 0..ROUNDS {
        for (index, side) in sides.iter_mut().enumerate() {
            let at_s = (2 * number + index) as f64 * (WARM_UP_S + SECONDS + COOL_DOWN_S + 0.5);
            side.rounds.push(round(at_s, index == 1, index == 1 && number == 1, (2 * number + index) as u64));
        }
    }
    let p99 = |side: &Side| side.rounds[0].latency_us(99.0).map(|us| us / 1e3);
    let cpu = |side: &Side| side.rounds[0].cpu_us_each();
    let ratio = cpu(&sides[0]).zip(cpu(&sides[1])).map(|(steady, pausing)| steady / pausing);
    let rows = vec![
        Row::new("p99, steady", Target::Most(5.0), p99(&sides[0]), "ms"),
        Row::new("p99, pausing", Target::Most(5.0), p99(&sides[1]), "ms, it stands still for a fifth of the time"),
        Row::new("CPU per answer, steady / pausing", Target::Most(0.9), ratio, "rounds 0.78 to 0.82"),
        Row::new("failures, steady", Target::Most(0.0), Some(sides[0].rounds[0].failures() as f64), ""),
        Row::new("answers per second, steady", Target::Least(1500.0), Some(sides[0].rounds[0].per_s()), ""),
        Row::new("p99 of round 2, pausing", Target::Most(5.0), None, "refused: the generator itself was late"),
        Row::fact("offered", PER_S as f64, "per second, evenly"),
    ];
    let facts = [
        ("cpu", "made up, nothing was measured"),
        ("kernel", "none"),
        ("load", "0.00 0.00 0.00"),
        ("rustc", "rustc 1.95.0"),
        ("commit", "0000000"),
        ("command", "annulus-bench http http://127.0.0.1:8080/items?limit=20&order=<newest> --rate 2000 --seconds 5"),
    ];
    let notes = vec![
        "This run is made up. It shows what a report looks like, and it is what the tests of the report read.".to_owned(),
        "The pausing side stands still for 200 ms of every second. A generator that waits for an answer before it sends \
         again meets few of those pauses, so that its p99 stays near the median; the latency counts from when each \
         request was meant to leave, and has them all."
            .to_owned(),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Record { title: "A made-up run: a steady server beside one that pauses".to_owned(), facts, sides, rows, notes }
}

fn side(name: &str) -> Side {
    Side { name: name.to_owned(), rounds: Vec::new() }
}

fn round(at_s: f64, pauses: bool, is_late: bool, seed: u64) -> Round {
    let mut random = Random::new(1 + 2 * seed);
    let total_s = WARM_UP_S + SECONDS + COOL_DOWN_S;
    let columns = (total_s * 1e9 / INTERVAL_NS as f64).round() as usize;
    let mut round = Round {
        at_s,
        warm_up_s: WARM_UP_S,
        seconds: SECONDS,
        offered_per_s: PER_S as f64,
        opened: 64,
        intervals: vec![Interval::default(); columns],
        usage: usage(total_s, pauses, &mut random),
        ..Round::default()
    };
    for number in 0..(total_s * PER_S as f64) as u64 {
        request(&mut round, number * SECOND_NS / PER_S, pauses, is_late, &mut random);
    }
    round
}

/// What becomes of the request that is meant to leave then.
fn request(round: &mut Round, intended_ns: u64, pauses: bool, is_late: bool, random: &mut Random) {
    let into_second = intended_ns % SECOND_NS;
    let is_warm = intended_ns as f64 / 1e9 >= WARM_UP_S;
    let is_counted = is_warm && intended_ns as f64 / 1e9 < WARM_UP_S + SECONDS;
    // Cold caches: the beginning is slower.
    let slowness = if is_warm { 1.0 } else { 3.0 - 2.0 * intended_ns as f64 / 1e9 / WARM_UP_S };
    let own = (450_000.0 * slowness * (0.35 * random.normal()).exp()) as u64;
    let own = if random.happens(0.002) { own + (3e6 * random.uniform()) as u64 } else { own };
    let held = if pauses && into_second < PAUSE_NS { PAUSE_NS - into_second } else { 0 };
    let was_caught = held > 0 && into_second < CAUGHT * SECOND_NS / PER_S;
    let late = if is_late { (4e6 * random.uniform()) as u64 } else { (60_000.0 * random.uniform()) as u64 + 2_000 };
    let chance = if held > 0 { 0.03 } else { 0.000_5 };
    let reason = random.happens(chance).then_some(if held > 0 { "no answer in 150 ms" } else { "connection reset" });
    let interval = &mut round.intervals[(intended_ns / INTERVAL_NS) as usize];
    interval.offered += 1;
    let latency = (held + own + late).min(LATENCY_MAX_NS);
    match reason {
        Some(_) => interval.failed += 1,
        None => {
            interval.completed += 1;
            interval.latency.record(latency);
        }
    }
    if !is_counted {
        return;
    }
    round.sent += 1;
    round.bytes_sent += 180;
    round.lateness.record(late).expect("it is far below the longest latency");
    match reason {
        Some(reason) => *round.failed.entry(reason.to_owned()).or_default() += 1,
        None => {
            round.completed += 1;
            round.bytes_received += 2_300;
            *round.statuses.entry(if random.happens(0.01) { 304 } else { 200 }).or_default() += 1;
            round.latency.record(latency).expect("it is limited to the longest latency");
            let forgiven = if was_caught { held + own } else { own };
            round.uncorrected.record(forgiven).expect("it is shorter than the latency");
        }
    }
}

fn usage(total_s: f64, pauses: bool, random: &mut Random) -> Vec<Usage> {
    let (user, system) = if pauses { (0.5, 0.2) } else { (0.36, 0.2) };
    let mut now = Usage {
        user_s: 1.2,
        system_s: 0.6,
        rss: 48 << 20,
        pss: 41 << 20,
        slab: 210 << 20,
        voluntary: 9_000,
        involuntary: 70,
        ..Usage::default()
    };
    let mut usage = vec![now];
    while now.at_s + READ_EVERY_S <= total_s + 1e-9 {
        now.at_s += READ_EVERY_S;
        let share = READ_EVERY_S * (0.9 + 0.2 * random.uniform());
        // It catches up after each pause.
        let stands_still = pauses && (now.at_s - READ_EVERY_S).fract() < 0.01;
        let busy = if stands_still {
            0.3
        } else if pauses {
            1.2
        } else {
            1.0
        };
        // The kernel counts nanoseconds.
        let whole = |seconds: f64| (seconds * 1e9).round() / 1e9;
        now.user_s = whole(now.user_s + user * share * busy);
        now.system_s = whole(now.system_s + system * share * busy);
        let grown = if pauses { random.below(900 << 10) } else { random.below(160 << 10) } as u64;
        now.rss += grown;
        now.pss += grown;
        now.slab += random.below(64 << 10) as u64;
        now.voluntary += 350 + random.below(80) as u64;
        now.involuntary += random.below(4) as u64;
        usage.push(now);
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_each_time_and_what_it_says_it_is() {
        let (one, two) = (record(), record());
        assert_eq!(one.sides[1].rounds[2].latency, two.sides[1].rounds[2].latency);
        assert_eq!(one.sides[0].rounds[0].usage, two.sides[0].rounds[0].usage);
        for (index, side) in one.sides.iter().enumerate() {
            assert_eq!(side.rounds.len(), ROUNDS);
            for (number, round) in side.rounds.iter().enumerate() {
                assert_eq!(round.is_honest(), (index, number) != (1, 1));
                assert_eq!(round.sent, round.completed + round.failures());
                assert_eq!(round.sent, SECONDS as u64 * PER_S);
            }
        }
        // The pause is in the latency and not in what a forgiving generator would report.
        let pausing = &one.sides[1].rounds[0];
        assert!(pausing.latency.value_at_quantile(0.9) > 50_000_000);
        assert!(pausing.uncorrected.value_at_quantile(0.9) < 5_000_000);
    }
}
