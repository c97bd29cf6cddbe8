//! Rows and notes of a load, out of its rounds.

use super::round::{Load, Outcome};
use super::{Settings, Target as Server, Task};
use crate::compare::{Confidence, PAIRS_MIN, median};
use crate::histogram::percentile_us;
use crate::record::{LATENESS_MAX_NS, Record, Round, Side};
use crate::report::{Row, Target};
use std::collections::BTreeMap;

/// Percentiles that have rows of their own.
const PERCENTILES: [f64; 3] = [50.0, 99.0, 99.9];
/// Corrected and uncorrected latencies that differ by more at the 99th percentile are both told.
const WORTH_TELLING: f64 = 2.0;

/// What was measured, in a few words.
pub fn title(settings: &Settings, targets: &[Server]) -> String {
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let how = match &settings.task {
        Task::Search(_, bound) => format!("highest rate with {bound}"),
        Task::Rounds(pace) if pace.is_closed() => "closed loop".to_owned(),
        Task::Rounds(_) | Task::Half(_) => "open loop".to_owned(),
    };
    format!("{}, {how}", names.join(" and "))
}

/// Reasons with their counts.
pub fn failures_text(failed: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// Fills rows and notes, and takes the rounds over.
pub fn finish(record: &mut Record, settings: &Settings, loads: &[Load], outcomes: Vec<Vec<Outcome>>) {
    let is_closed = matches!(&settings.task, Task::Rounds(pace) if pace.is_closed());
    for (side, (load, outcomes)) in loads.iter().zip(outcomes).enumerate() {
        let notes = notes(settings, load, &outcomes);
        record.notes.extend(notes);
        record.sides[side].rounds.extend(outcomes.into_iter().map(|outcome| outcome.round));
        let side = &record.sides[side];
        if side.rounds.is_empty() {
            continue;
        }
        record.notes.extend(correction_note(side, is_closed));
        let rows = rows(side, is_closed);
        record.rows.extend(rows);
    }
    if let [first, second] = &record.sides[..] {
        let rows = comparison(first, second, is_closed);
        record.rows.extend(rows);
        let pairs = first.rounds.len().min(second.rounds.len());
        if pairs < PAIRS_MIN {
            record.notes.push(format!(
                "{pairs} rounds of each side say nothing about chance: use --rounds {PAIRS_MIN} or more."
            ));
        }
    }
}

fn rows(side: &Side, is_closed: bool) -> Vec<Row> {
    let name = &side.name;
    let of = |value: fn(&Round) -> Option<f64>| -> Vec<f64> { side.rounds.iter().filter_map(value).collect() };
    let per_s = of(|round| Some(round.per_s()));
    let offered = if is_closed {
        "closed loop: as fast as the connections allow".to_owned()
    } else {
        format!("of {:.0}/s offered", median(&of(|round| Some(round.offered_per_s))))
    };
    let mut rows = vec![Row::fact(format!("{name}: answered per second"), median(&per_s), offered)];
    let cpu = of(Round::cpu_us_each);
    if !cpu.is_empty() {
        let busy = of(|round| {
            let (first, last) = (round.usage.first()?, round.usage.last()?);
            Some(round.cpu_s()? * 100.0 / (last.at_s - first.at_s))
        });
        let note = format!("us, {:.0} % of a core", median(&busy));
        rows.push(Row::fact(format!("{name}: processor time per answer"), median(&cpu), note));
        let peak = side.rounds.iter().flat_map(|round| &round.usage).map(|usage| usage.rss).max().unwrap_or(0);
        rows.push(Row::fact(format!("{name}: resident memory, largest"), peak as f64 / 1e6, "MB"));
    }
    let (latency, uncorrected, lateness) = (side.latency(), side.uncorrected(), side.lateness());
    let refused = side.rounds.iter().filter(|round| !round.is_honest()).count();
    for percentile in PERCENTILES {
        let measured = percentile_us(&latency, percentile).filter(|_| side.is_honest());
        let note = match (measured, refused) {
            (Some(_), _) if is_closed => "us, closed loop: what waits for the server is not counted".to_owned(),
            (Some(_), _) => "us from the intended time".to_owned(),
            (None, 0) => "nothing was answered".to_owned(),
            (None, refused) => format!("refused: the generator was late in {refused} of {} rounds", side.rounds.len()),
        };
        rows.push(Row::new(format!("{name}: p{percentile}"), Target::Fact, measured, note));
    }
    if differ(side) {
        let note = "us from actual sending: forgives the server for holding the client up";
        let measured = percentile_us(&uncorrected, 99.0).filter(|_| side.is_honest());
        rows.push(Row::new(format!("{name}: p99, uncorrected"), Target::Fact, measured, note));
    }
    if let Some(late) = percentile_us(&lateness, 99.0) {
        let most = LATENESS_MAX_NS as f64 / 1e3;
        rows.push(Row::new(format!("{name}: generator late, p99"), Target::Most(most), Some(late), "us"));
    }
    let mut failed = BTreeMap::new();
    for (reason, count) in side.rounds.iter().flat_map(|round| &round.failed) {
        *failed.entry(reason.clone()).or_insert(0) += count;
    }
    let count = failed.values().sum::<u64>() as f64;
    rows.push(Row::new(format!("{name}: failed"), Target::Most(0.0), Some(count), failures_text(&failed)));
    rows
}

/// Whether what the client forgave is worth telling.
fn differ(side: &Side) -> bool {
    let (latency, uncorrected) = (side.latency(), side.uncorrected());
    match (percentile_us(&latency, 99.0), percentile_us(&uncorrected, 99.0)) {
        (Some(latency), Some(uncorrected)) => latency > uncorrected * WORTH_TELLING,
        _ => false,
    }
}

fn correction_note(side: &Side, is_closed: bool) -> Option<String> {
    let (latency, uncorrected) = (side.latency(), side.uncorrected());
    let latency = percentile_us(&latency, 99.0).filter(|_| side.is_honest())?;
    let uncorrected = percentile_us(&uncorrected, 99.0)?;
    (differ(side) && !is_closed).then(|| {
        format!(
            "{}: p99 is {:.1} ms from the intended time, and {:.1} ms from actual sending. Requests had to wait until the \
             server, which paused or had too much to do, freed a connection; a client that counts from actual sending \
             leaves that wait out (coordinated omission). The first is what users see.",
            side.name,
            latency / 1e3,
            uncorrected / 1e3
        )
    })
}

fn list(cores: &[usize]) -> String {
    let each: Vec<String> = cores.iter().map(usize::to_string).collect();
    each.join(",")
}

fn notes(settings: &Settings, load: &Load, outcomes: &[Outcome]) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(first) = outcomes.first() else { return notes };
    let name = &load.name;
    let mut cores = load.placed.threads.clone();
    cores.sort_unstable();
    cores.dedup();
    let server = match &load.server[..] {
        [] => "its process is unknown: no processor time, no memory".to_owned(),
        pids => format!("process {}", pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    };
    notes.push(format!(
        "{name}: {}, {} connections, {} thread(s) on core {}; server {}, {server}.",
        first.spoken,
        load.connections,
        load.placed.threads.len(),
        list(&cores),
        load.job.address,
    ));
    if load.placed.is_shared {
        notes.push(format!(
            "{name}: the generator shares core {} with the server or with itself, and so takes time from what it \
             measures: pin the server elsewhere (taskset -c), or give --generator-cores.",
            list(&cores)
        ));
    }
    let late = outcomes.iter().filter(|outcome| !outcome.round.is_honest()).count();
    if late > 0 {
        notes.push(format!(
            "{name}: in {late} of {} rounds the generator was later than {} ms at its 99th percentile: their latencies \
             are refused. Lower the rate, or use more --threads on free cores.",
            outcomes.len(),
            LATENESS_MAX_NS / 1_000_000
        ));
    }
    let resent: u64 = outcomes.iter().map(|outcome| outcome.extra.resent).sum();
    if resent > 0 {
        notes.push(format!(
            "{name}: {resent} requests were sent again, because the server had closed their connection, or refused their \
             stream, without looking at them. Their latency counts from the first time."
        ));
    }
    let mut oddities: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in outcomes.iter().flat_map(|outcome| &outcome.extra.oddities) {
        *oddities.entry(what).or_default() += count;
    }
    notes.extend(oddities.iter().map(|(what, count)| format!("{name}: {count} {what}.")));
    let opened: u64 = outcomes.iter().map(|outcome| outcome.round.opened).sum();
    let wanted = (load.connections * outcomes.len()) as u64;
    if opened > wanted {
        notes.push(format!("{name}: {} connections were replaced, which the server had closed.", opened - wanted));
    }
    for round in outcomes.iter().map(|outcome| &outcome.round) {
        let offered = (round.offered_per_s * round.seconds).round() as u64;
        if round.sent < offered {
            notes.push(format!(
                "{name}: {} of {offered} requests of a round were never sent, because no connection was free in time.",
                offered - round.sent
            ));
        }
    }
    for gone in outcomes.iter().filter_map(|outcome| outcome.gone.as_ref()) {
        notes.push(format!("{name}: {gone}. What was measured until then is kept."));
    }
    if settings.protocol.name() == "WebSocket" && load.job.requests.all.len() > 1 {
        notes.push(format!("{name}: its {} URLs are shared among the sockets in turn.", load.job.requests.all.len()));
    }
    notes
}

/// The first side to the second.
fn comparison(first: &Side, second: &Side, is_closed: bool) -> Vec<Row> {
    let what = format!("{} / {}", first.name, second.name);
    let mut rows = Vec::new();
    // Of a server whose process is unknown there is nothing to say; latencies that were refused are said to be.
    let side_is_silent = |name: &str| !name.starts_with('p') || name.starts_with("processor");
    let mut row = |name: &str, of: &dyn Fn(&Round) -> Option<f64>| {
        // Pairs are made of the rounds with the same number.
        let pairs =
            first.rounds.iter().zip(&second.rounds).filter_map(|(first, second)| Some((of(first)?, of(second)?)));
        let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.unzip();
        if ours.is_empty() && side_is_silent(name) {
            return;
        }
        let found = Confidence::of(&ours, &theirs);
        let note =
            found.map_or_else(|| format!("{} pairs of rounds that count: too few", ours.len()), |found| found.text());
        rows.push(Row::new(format!("{name}, {what}"), Target::Fact, found.map(|found| found.ratio), note));
    };
    row("processor time per answer", &Round::cpu_us_each);
    for percentile in PERCENTILES {
        row(&format!("p{percentile}"), &|round: &Round| round.latency_us(percentile));
    }
    if is_closed {
        row("answered per second", &|round: &Round| Some(round.per_s()).filter(|&per_s| per_s > 0.0));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, latencies_us: &[u64]) -> Side {
        let rounds = latencies_us.iter().map(|&us| {
            let mut round = Round { seconds: 1.0, completed: 100, offered_per_s: 100.0, ..Round::default() };
            round.latency.record_n(us * 1000, 100).unwrap();
            round.uncorrected.record_n(1000, 100).unwrap();
            round.lateness.record_n(1000, 100).unwrap();
            round
        });
        Side { name: name.to_owned(), rounds: rounds.collect() }
    }

    fn named<'r>(rows: &'r [Row], name: &str) -> &'r Row {
        rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
    }

    #[test]
    fn what_the_client_forgave_is_told() {
        let slow = side("a", &[10_000, 11_000]);
        let told = rows(&slow, false);
        assert_eq!(named(&told, "a: p99, uncorrected").measured, percentile_us(&slow.uncorrected(), 99.0));
        assert!(correction_note(&slow, false).unwrap().contains("coordinated omission"));
        let mut fast = side("a", &[1]);
        assert!(correction_note(&fast, false).is_none() && rows(&fast, false).iter().all(|row| row.holds()));
        fast.rounds[0].failed.insert("reset".to_owned(), 2);
        let told = rows(&fast, false);
        assert!(!named(&told, "a: failed").holds() && named(&told, "a: failed").note == "2 reset");
    }

    #[test]
    fn a_late_generator_refuses_its_latencies() {
        let mut late = side("a", &[10]);
        late.rounds[0].lateness.record_n(5_000_000, 100).unwrap();
        let told = rows(&late, false);
        assert_eq!(named(&told, "a: p99").measured, None);
        assert!(named(&told, "a: p99").note.contains("refused"), "{}", named(&told, "a: p99").note);
        assert!(!named(&told, "a: generator late, p99").holds());
    }

    #[test]
    fn sides_are_compared_by_pairs_of_rounds() {
        let rows = comparison(&side("a", &[200, 220, 210]), &side("b", &[100, 110, 105]), false);
        let p99 = named(&rows, "p99, a / b");
        assert!((p99.measured.unwrap() - 2.0).abs() < 0.01 && !p99.note.contains("no difference"), "{p99:?}");
        let rows = comparison(&side("a", &[100, 220, 100]), &side("b", &[100, 110, 205]), true);
        assert!(named(&rows, "p50, a / b").note.contains("no difference shown"));
        assert_eq!(named(&rows, "answered per second, a / b").measured, Some(1.0));
        let rows = comparison(&side("a", &[100]), &side("b", &[100]), false);
        assert!(named(&rows, "p99, a / b").measured.is_none() && rows[0].note.contains("too few"));
    }
}
