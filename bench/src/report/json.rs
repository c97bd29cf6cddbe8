//! A record as JSON: all of it, so that a report can be made again, and read back.
//!
//! Histograms are `[nanoseconds, count, nanoseconds, count, ...]` of what is not empty; intervals and readings are
//! columns, one value per interval or reading. [`FORMAT`] changes when a reader of today would misread a file.

use super::{Row, Target};
use crate::histogram::{Coarse, LATENCY_MAX_NS, latencies};
use crate::record::{Interval, Record, Round, Side, Usage};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The format of files that are written.
pub const FORMAT: u64 = 1;

/// A record as text, for a file.
pub fn write(record: &Record) -> String {
    let value = json!({
        "format": FORMAT,
        "title": record.title,
        "facts": record.facts.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
        "rows": record.rows.iter().map(Row::json).collect::<Vec<_>>(),
        "notes": record.notes,
        "sides": record.sides.iter().map(side).collect::<Vec<_>>(),
    });
    let mut text = String::new();
    lay_out(&value, 0, &mut text);
    text.push('\n');
    text
}

/// A record out of a file's text.
///
/// # Errors
/// A sentence: what is wrong, and where in the file.
pub fn read(text: &str) -> Result<Record, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    let at = At { value: &value, path: String::new() };
    match at.find("format").map(|at| at.whole()) {
        Some(Ok(FORMAT)) => {}
        Some(Ok(other)) => {
            return Err(format!(
                "the file has format {other}, and this annulus-bench reads format {FORMAT} alone: read it with the \
                 version that wrote it"
            ));
        }
        Some(Err(error)) => return Err(error),
        None => return Err("the file has no format: it is not a record of annulus-bench".to_owned()),
    }
    Ok(Record {
        title: at.field("title")?.text()?,
        facts: at.field("facts")?.each(|at| Ok((at.index(0)?.text()?, at.index(1)?.text()?)))?,
        sides: at
            .field("sides")?
            .each(|at| Ok(Side { name: at.field("name")?.text()?, rounds: at.field("rounds")?.each(read_round)? }))?,
        rows: at.field("rows")?.each(read_row)?,
        notes: at.field("notes")?.each(At::text)?,
    })
}

/// Several runs beside each other: a record whose sides are all of theirs, each named after its file where that is
/// needed to tell them apart.
pub fn overlay(mut runs: Vec<(String, Record)>) -> Record {
    if runs.len() == 1 {
        return runs.remove(0).1;
    }
    let mut all = Record { title: String::new(), ..Record::default() };
    let titles: Vec<String> = runs.iter().map(|(_, run)| run.title.clone()).collect();
    all.title = if titles.windows(2).all(|pair| pair[0] == pair[1]) {
        titles.first().cloned().unwrap_or_default()
    } else {
        titles.join(" | ")
    };
    let facts: Vec<_> = runs.first().map(|(_, run)| run.facts.clone()).unwrap_or_default();
    let is_common = |fact: &(String, String)| runs.iter().all(|(_, run)| run.facts.contains(fact));
    all.facts = facts.into_iter().filter(is_common).collect();
    let count = |name: &str| runs.iter().flat_map(|(_, run)| &run.sides).filter(|side| side.name == name).count();
    let is_alone: Vec<Vec<bool>> =
        runs.iter().map(|(_, run)| run.sides.iter().map(|side| count(&side.name) == 1).collect()).collect();
    for ((file, run), is_alone) in runs.into_iter().zip(is_alone) {
        let own = run.facts.into_iter().filter(|fact| !all.facts.contains(fact));
        let own: Vec<_> = own.map(|(name, value)| (format!("{name}, {file}"), value)).collect();
        all.facts.extend(own);
        all.sides.extend(run.sides.into_iter().zip(is_alone).map(|(side, is_alone)| {
            if is_alone { side } else { Side { name: format!("{} ({file})", side.name), ..side } }
        }));
        all.rows.extend(run.rows.into_iter().map(|row| Row { name: format!("{file}: {}", row.name), ..row }));
        all.notes.extend(run.notes.into_iter().map(|note| format!("{file}: {note}")));
    }
    all.notes.push(
        "These runs did not alternate with each other: where their machines or their moments differ, so may the figures, \
         for no other reason."
            .to_owned(),
    );
    all
}

fn side(side: &Side) -> Value {
    json!({ "name": side.name, "rounds": side.rounds.iter().map(round).collect::<Vec<_>>() })
}

fn round(round: &Round) -> Value {
    let statuses: Map<String, Value> =
        round.statuses.iter().map(|(status, count)| (status.to_string(), Value::from(*count))).collect();
    json!({
        "at_s": round.at_s,
        "warm_up_s": round.warm_up_s,
        "seconds": round.seconds,
        "offered_per_s": round.offered_per_s,
        "sent": round.sent,
        "completed": round.completed,
        "failed": round.failed,
        "statuses": statuses,
        "bytes_received": round.bytes_received,
        "bytes_sent": round.bytes_sent,
        "opened": round.opened,
        "latency_ns": histogram(&round.latency),
        "uncorrected_ns": histogram(&round.uncorrected),
        "lateness_ns": histogram(&round.lateness),
        "intervals": {
            "offered": column(&round.intervals, |interval| interval.offered),
            "completed": column(&round.intervals, |interval| interval.completed),
            "failed": column(&round.intervals, |interval| interval.failed),
            "latency_ns": column(&round.intervals, |interval| coarse(&interval.latency)),
        },
        "usage": {
            "at_ns": column(&round.usage, |usage| ns(usage.at_s)),
            "user_ns": column(&round.usage, |usage| ns(usage.user_s)),
            "system_ns": column(&round.usage, |usage| ns(usage.system_s)),
            "rss": column(&round.usage, |usage| usage.rss),
            "pss": column(&round.usage, |usage| usage.pss),
            "slab": column(&round.usage, |usage| usage.slab),
            "voluntary": column(&round.usage, |usage| usage.voluntary),
            "involuntary": column(&round.usage, |usage| usage.involuntary),
        },
    })
}

/// As the kernel tells it: a decimal fraction of many digits would be read back a little different.
fn ns(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

fn column<T, V: Into<Value>>(rows: &[T], of: impl Fn(&T) -> V) -> Vec<Value> {
    rows.iter().map(|row| of(row).into()).collect()
}

fn histogram(of: &Histogram<u64>) -> Vec<u64> {
    // The lowest of the values that it does not tell apart is always within its bounds.
    of.iter_recorded().flat_map(|at| [of.lowest_equivalent(at.value_iterated_to()), at.count_at_value()]).collect()
}

fn coarse(of: &Coarse) -> Vec<Value> {
    of.buckets().flat_map(|(from, _, count)| [Value::from(from), Value::from(count)]).collect()
}

/// A place in the file, for sentences that say where.
struct At<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    fn find(&self, name: &str) -> Option<At<'a>> {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.value.get(name).map(|value| At { value, path: format!("{}{dot}{name}", self.path) })
    }

    fn field(&self, name: &str) -> Result<At<'a>, String> {
        self.find(name).ok_or_else(|| format!("{} has no {name}", self.name()))
    }

    fn index(&self, index: usize) -> Result<At<'a>, String> {
        let value = self.value.get(index).ok_or_else(|| format!("{} has no element {index}", self.name()))?;
        Ok(At { value, path: format!("{}[{index}]", self.path) })
    }

    fn each<T>(&self, of: impl Fn(At<'a>) -> Result<T, String>) -> Result<Vec<T>, String> {
        let list = self.value.as_array().ok_or_else(|| self.is_not("a list"))?;
        let each = list.iter().enumerate();
        each.map(|(index, value)| of(At { value, path: format!("{}[{index}]", self.path) })).collect()
    }

    fn entries<T>(&self, of: impl Fn(&str, At<'a>) -> Result<T, String>) -> Result<Vec<T>, String> {
        let entries = self.value.as_object().ok_or_else(|| self.is_not("an object"))?.iter();
        entries.map(|(name, value)| of(name, At { value, path: format!("{}.{name}", self.path) })).collect()
    }

    fn text(self) -> Result<String, String> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.is_not("a text"))
    }

    fn number(self) -> Result<f64, String> {
        self.value.as_f64().ok_or_else(|| self.is_not("a number"))
    }

    /// A length of time, or a rate.
    fn amount(self) -> Result<f64, String> {
        let number = self.value.as_f64().filter(|number| (0.0..=MOST).contains(number));
        number.ok_or_else(|| self.is_not(&format!("a number from 0 to {MOST:e}")))
    }

    /// Bytes or nanoseconds.
    fn whole(self) -> Result<u64, String> {
        let whole = self.value.as_u64().filter(|whole| *whole <= WHOLE_MAX);
        whole.ok_or_else(|| self.is_not(&format!("a whole number up to {WHOLE_MAX}")))
    }

    /// How often something was.
    fn count(self) -> Result<u64, String> {
        let count = self.value.as_u64().filter(|count| *count <= COUNT_MAX);
        count.ok_or_else(|| self.is_not(&format!("a whole number up to {COUNT_MAX}")))
    }

    fn pairs(self) -> Result<Vec<(At<'a>, At<'a>)>, String> {
        let numbers = self.each(Ok)?;
        if numbers.len() % 2 == 1 {
            return Err(format!("{} has a value without a count", self.name()));
        }
        let mut numbers = numbers.into_iter();
        Ok(std::iter::from_fn(|| numbers.next().zip(numbers.next())).collect())
    }

    fn is_not(&self, what: &str) -> String {
        let (kind, shown) = match self.value {
            Value::Null => ("null", String::new()),
            Value::Bool(value) => ("the truth value ", value.to_string()),
            Value::Number(value) => ("the number ", value.to_string()),
            Value::String(_) => ("a text", String::new()),
            Value::Array(_) => ("a list", String::new()),
            Value::Object(_) => ("an object", String::new()),
        };
        format!("{} should be {what} and is {kind}{shown}", self.name())
    }

    fn name(&self) -> &str {
        if self.path.is_empty() { "the file" } else { &self.path }
    }
}

/// More seconds or requests per second than any run has: what is beyond is damage, and would make plots absurd.
const MOST: f64 = 1e12;
/// More of anything than a run counts; a week's intervals of it still add up to less than 2^64.
const COUNT_MAX: u64 = 1_000_000_000_000;
/// Three years in nanoseconds, a hundred petabytes; those of a hundred rounds still add up to less than 2^64.
const WHOLE_MAX: u64 = 100_000_000_000_000_000;
/// More intervals than any round has: a week.
const INTERVALS_MAX: usize = 7 * 24 * 3600 * 10;

fn read_row(at: At<'_>) -> Result<Row, String> {
    let target = at.field("target")?;
    let target = match (target.find("at_most"), target.find("at_least")) {
        (Some(most), _) => Target::Most(most.number()?),
        (None, Some(least)) => Target::Least(least.number()?),
        (None, None) if target.value.is_null() => Target::Fact,
        (None, None) => return Err(target.is_not("null or an object with at_most or at_least")),
    };
    let measured = at.field("measured")?;
    let measured = if measured.value.is_null() { None } else { Some(measured.number()?) };
    let from = at.find("projected_from").filter(|from| !from.value.is_null());
    let from = from.map(|from| from.text()).transpose()?;
    let row = Row::new(at.field("name")?.text()?, target, measured, at.field("note")?.text()?);
    Ok(row.projected(from))
}

fn read_round(at: At<'_>) -> Result<Round, String> {
    let statuses = at.field("statuses")?.entries(|name, at| {
        let status = name.parse().map_err(|_| format!("{}: {name} is not a status", at.name()))?;
        Ok((status, at.count()?))
    })?;
    let failed = at.field("failed")?.entries(|name, at| Ok((name.to_owned(), at.count()?)))?;
    Ok(Round {
        at_s: at.field("at_s")?.amount()?,
        warm_up_s: at.field("warm_up_s")?.amount()?,
        seconds: at.field("seconds")?.amount()?,
        offered_per_s: at.field("offered_per_s")?.amount()?,
        sent: at.field("sent")?.count()?,
        completed: at.field("completed")?.count()?,
        failed: failed.into_iter().collect::<BTreeMap<_, _>>(),
        statuses: statuses.into_iter().collect::<BTreeMap<_, _>>(),
        bytes_received: at.field("bytes_received")?.whole()?,
        bytes_sent: at.field("bytes_sent")?.whole()?,
        opened: at.field("opened")?.count()?,
        latency: read_histogram(at.field("latency_ns")?)?,
        uncorrected: read_histogram(at.field("uncorrected_ns")?)?,
        lateness: read_histogram(at.field("lateness_ns")?)?,
        intervals: read_intervals(&at.field("intervals")?)?,
        usage: read_usage(&at.field("usage")?)?,
    })
}

fn read_histogram(at: At<'_>) -> Result<Histogram<u64>, String> {
    let mut histogram = latencies();
    for (value, count) in at.pairs()? {
        let place = value.path.clone();
        let (ns, count) = (value.whole()?, count.count()?);
        histogram
            .record_n(ns, count)
            .map_err(|_| format!("{place} is {ns} ns: a histogram holds at most {LATENCY_MAX_NS} ns"))?;
    }
    Ok(histogram)
}

fn read_coarse(at: At<'_>) -> Result<Coarse, String> {
    let mut coarse = Coarse::default();
    for (value, count) in at.pairs()? {
        let (value_name, count_name) = (value.path.clone(), count.path.clone());
        let (ns, count) = (value.whole()?, count.count()?);
        if ns > LATENCY_MAX_NS {
            return Err(format!("{value_name} is {ns} ns: a latency is at most {LATENCY_MAX_NS} ns"));
        }
        let count =
            u32::try_from(count).map_err(|_| format!("{count_name} is {count}: that is too many for an interval"))?;
        coarse.record_many(ns, count);
    }
    Ok(coarse)
}

fn read_intervals(at: &At<'_>) -> Result<Vec<Interval>, String> {
    let count = |name: &str| at.field(name)?.each(At::count);
    let (offered, completed, failed) = (count("offered")?, count("completed")?, count("failed")?);
    let latency = at.field("latency_ns")?.each(read_coarse)?;
    same_length(at, &[offered.len(), completed.len(), failed.len(), latency.len()])?;
    if offered.len() > INTERVALS_MAX {
        return Err(format!("{} has {} elements, more than a week's", at.name(), offered.len()));
    }
    let counts = offered.into_iter().zip(completed).zip(failed);
    let each = counts.zip(latency).map(|(((offered, completed), failed), latency)| Interval {
        offered,
        completed,
        failed,
        latency,
    });
    Ok(each.collect())
}

fn read_usage(at: &At<'_>) -> Result<Vec<Usage>, String> {
    let whole = |name: &str| at.field(name)?.each(At::whole);
    let (at_ns, user_ns, system_ns) = (whole("at_ns")?, whole("user_ns")?, whole("system_ns")?);
    let seconds = |ns: u64| ns as f64 / 1e9;
    let (rss, pss, slab) = (whole("rss")?, whole("pss")?, whole("slab")?);
    let counts = |name: &str| at.field(name)?.each(At::count);
    let (voluntary, involuntary) = (counts("voluntary")?, counts("involuntary")?);
    let lengths = [at_ns.len(), user_ns.len(), system_ns.len(), rss.len(), pss.len(), slab.len()];
    same_length(at, &lengths)?;
    same_length(at, &[rss.len(), voluntary.len(), involuntary.len()])?;
    let each = (0..at_ns.len()).map(|index| Usage {
        at_s: seconds(at_ns[index]),
        user_s: seconds(user_ns[index]),
        system_s: seconds(system_ns[index]),
        rss: rss[index],
        pss: pss[index],
        slab: slab[index],
        voluntary: voluntary[index],
        involuntary: involuntary[index],
    });
    Ok(each.collect())
}

fn same_length(at: &At<'_>, lengths: &[usize]) -> Result<(), String> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(format!("the columns of {} differ in length: {lengths:?}", at.name()))
}

/// Objects and lists of objects over several lines, everything else on one.
fn lay_out(value: &Value, depth: usize, text: &mut String) {
    let indent = |depth: usize| "  ".repeat(depth);
    let mut items = |open: char, close: char, items: Vec<(Option<&String>, &Value)>| {
        text.push(open);
        for (index, (name, item)) in items.iter().enumerate() {
            text.push_str(if index > 0 { ",\n" } else { "\n" });
            text.push_str(&indent(depth + 1));
            if let Some(name) = name {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push_str(": ");
            }
            lay_out(item, depth + 1, text);
        }
        text.push('\n');
        text.push_str(&indent(depth));
        text.push(close);
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            items('{', '}', fields.iter().map(|(name, value)| (Some(name), value)).collect());
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            items('[', ']', list.iter().map(|value| (None, value)).collect());
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::*;

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let mut record = demo::record();
        // The edges of what a round can hold.
        let edge = &mut record.sides[0].rounds[0];
        edge.latency.record(LATENCY_MAX_NS).unwrap();
        edge.latency.record(1).unwrap();
        edge.intervals[3].latency.record(LATENCY_MAX_NS);
        edge.intervals[3].latency.record(0);
        edge.failed.insert("said \"no\"\nand more".to_owned(), 7);
        let again = read(&write(&record)).unwrap();
        assert_eq!((&again.title, &again.facts, &again.notes), (&record.title, &record.facts, &record.notes));
        assert_eq!(again.rows, record.rows);
        assert_eq!(again.sides.len(), record.sides.len());
        for (again, side) in again.sides.iter().zip(&record.sides) {
            assert_eq!((&again.name, again.rounds.len()), (&side.name, side.rounds.len()));
            for (again, round) in again.rounds.iter().zip(&side.rounds) {
                for quantile in [0.0, 0.1, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0] {
                    let at = |of: &Histogram<u64>| of.value_at_quantile(quantile);
                    assert_eq!(at(&again.latency), at(&round.latency), "{quantile}");
                    assert_eq!(at(&again.uncorrected), at(&round.uncorrected), "{quantile}");
                    assert_eq!(at(&again.lateness), at(&round.lateness), "{quantile}");
                }
                let all = |of: &Round| [&of.latency, &of.uncorrected, &of.lateness].map(histogram);
                assert_eq!(all(again), all(round), "every count is where it was");
                assert_eq!((&again.intervals, &again.usage), (&round.intervals, &round.usage));
                let counts = |of: &Round| (of.sent, of.completed, of.failed.clone(), of.statuses.clone(), of.opened);
                assert_eq!(counts(again), counts(round));
                let more = |of: &Round| {
                    (of.at_s, of.warm_up_s, of.seconds, of.offered_per_s, of.bytes_received, of.bytes_sent)
                };
                assert_eq!(more(again), more(round));
            }
        }
        // What is written again is the same file.
        assert_eq!(write(&again), write(&record));
    }

    #[test]
    fn a_file_that_is_not_a_record_is_refused_with_the_place() {
        let text = write(&demo::record());
        let refused = |text: &str| read(text).err().unwrap();
        assert!(refused("{").starts_with("this is not JSON: "));
        assert_eq!(refused("[]"), "the file has no format: it is not a record of annulus-bench");
        assert!(refused(&text.replacen("\"format\": 1", "\"format\": 2", 1)).starts_with("the file has format 2, and"));
        assert_eq!(refused(&text.replacen("\"title\": ", "\"titel\": ", 1)), "the file has no title");
        let sent = text.replacen("\"sent\": 10000", "\"sent\": \"many\"", 1);
        assert_eq!(
            refused(&sent),
            "sides[0].rounds[0].sent should be a whole number up to 1000000000000 and is a text"
        );
        let negative = text.replacen("\"seconds\": 5.0", "\"seconds\": -5", 1);
        assert!(
            refused(&negative).starts_with("sides[0].rounds[0].seconds should be a number from 0 to"),
            "{}",
            refused(&negative)
        );
        let odd = text.replacen("\"lateness_ns\": [", "\"lateness_ns\": [1, ", 1);
        assert_eq!(refused(&odd), "sides[0].rounds[0].lateness_ns has a value without a count");
        let short = text.replacen("\"offered\": [", "\"offered\": [1, ", 1);
        assert!(refused(&short).starts_with("the columns of sides[0].rounds[0].intervals differ in length: [66, 65"));
        let long = text.replacen("\"latency_ns\": [", "\"latency_ns\": [900000000000000, 1, ", 2);
        assert!(
            refused(&long).contains("rounds[0].") && refused(&long).contains("at most 120000000000 ns"),
            "{}",
            refused(&long)
        );
    }

    #[test]
    fn damaged_files_are_refused_or_read_but_nothing_breaks() {
        let mut record = demo::record();
        record.sides.truncate(1);
        record.sides[0].rounds.truncate(1);
        record.sides[0].rounds[0].intervals.truncate(2);
        let text = write(&record);
        let mut random = crate::random::Random::new(5);
        let mut refused = 0;
        for _ in 0..300 {
            let mut bytes = text.clone().into_bytes();
            let at = random.below(bytes.len());
            bytes[at] = b"0-9[]{}\",:eE"[random.below(12)];
            match read(&String::from_utf8(bytes).unwrap()) {
                Ok(record) => {
                    assert!(super::super::html::page(&record).ends_with("</html>\n"));
                    assert!(!super::super::text::summary(&record).is_empty());
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 50, "{refused}");
    }

    #[test]
    fn the_largest_figures_that_are_read_are_told_too() {
        let mut record = demo::record();
        record.sides.truncate(1);
        let most = record.sides[0].rounds.last_mut().unwrap();
        (most.sent, most.completed, most.opened) = (COUNT_MAX, COUNT_MAX, COUNT_MAX);
        (most.bytes_received, most.seconds, most.offered_per_s) = (WHOLE_MAX, MOST, MOST);
        most.at_s = MOST;
        most.intervals.iter_mut().for_each(|interval| {
            (interval.offered, interval.completed, interval.failed) = (COUNT_MAX, COUNT_MAX, COUNT_MAX);
            interval.latency.record_many(LATENCY_MAX_NS, u32::MAX);
        });
        let last = most.usage.last_mut().unwrap();
        (last.at_s, last.user_s, last.rss, last.slab) = (1e8, 1e8, WHOLE_MAX, 0);
        let again = read(&write(&record)).unwrap();
        assert!(super::super::html::page(&again).contains("<figure id=\"memory-plot\">"));
        assert!(super::super::text::summary(&again).contains("88.8 PiB"));
    }

    #[test]
    fn runs_laid_over_each_other_keep_their_names_apart() {
        let (one, mut two) = (demo::record(), demo::record());
        two.sides.remove(1);
        two.facts[4].1 = "1111111".to_owned();
        let all = overlay(vec![("one".to_owned(), one), ("two".to_owned(), two)]);
        let names: Vec<&str> = all.sides.iter().map(|side| side.name.as_str()).collect();
        assert_eq!(names, ["steady (one)", "pausing", "steady (two)"]);
        assert!(all.facts.contains(&("commit, two".to_owned(), "1111111".to_owned())), "{:?}", all.facts);
        assert!(all.facts.contains(&("kernel".to_owned(), "none".to_owned())));
        assert_eq!(all.rows.len(), 14);
        assert!(all.notes.last().unwrap().starts_with("These runs did not alternate"));
    }
}
