//! What a shard counts, and how the outside reads it.
//!
//! Every value has one writer: its shard. It writes by a relaxed load and a relaxed store, which costs what a
//! plain variable costs; any thread may read at any time. A second writer would lose counts, nothing worse.
//!
//! The engine's own values are fields of [`ShardMetrics`]. Workloads add theirs by name, once at start
//! ([`ShardMetrics::counter`] and its siblings), and keep the handle. [`render`] writes all shards' values as
//! Prometheus text (exposition format 0.0.4), one family per name, with a label `shard`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::trace::Traces;

/// Built so (`RUSTFLAGS="--cfg annulus_bare"`), nothing is counted and nothing traced: what is measured against, to see what
/// counting costs. See `perf/notes/overhead.md`.
pub(crate) const BARE: bool = cfg!(annulus_bare);

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        if BARE {
            return;
        }
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes over a total that is kept elsewhere.
    pub fn set(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// The total so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks, never below zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Grows by `n`.
    pub fn add(&self, n: u64) {
        self.set(self.get().saturating_add(n));
    }

    /// Shrinks by `n`, to zero at most.
    pub fn sub(&self, n: u64) {
        self.set(self.get().saturating_sub(n));
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets per power of two, as a power of two: a bucket is at most 1/8 of its value wide.
const FINE_BITS: u32 = 3;
const FINE: usize = 1 << FINE_BITS;
/// Values from here on share the last bucket. In microseconds: 19 hours.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = (VALUE_BITS - FINE_BITS + 1) as usize * FINE;

/// How often which value occurred: exact below 8, then in eighths of each power of two. 2.2 KB.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

/// The bucket of `value`: `[exponent][its three bits after the leading one]`.
fn bucket(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    if value < FINE as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - FINE_BITS;
    (shift as usize) * FINE + (value >> shift) as usize
}

/// The first value above a bucket.
fn bucket_end(index: usize) -> u64 {
    if index < FINE {
        return index as u64 + 1;
    }
    let shift = index / FINE - 1;
    ((FINE + index % FINE + 1) as u64) << shift
}

impl Histogram {
    /// Counts one occurrence of `value`.
    pub fn record(&self, value: u64) {
        if BARE {
            return;
        }
        let count = &self.counts[bucket(value)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.sum.store(self.sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
    }

    /// The counts at about this moment.
    pub fn snapshot(&self) -> Snapshot {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        // The total is of the same reads as the buckets, so that they agree whatever is written meanwhile.
        Snapshot { total: counts.iter().sum(), counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// A histogram at one moment; may be merged with others'.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
}

impl Snapshot {
    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Snapshot) {
        self.counts.resize(BUCKETS, 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What was counted since `earlier`, a snapshot of the same histogram.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> = self.counts.iter().zip(before).map(|(now, before)| now - before.min(*now)).collect();
        Snapshot { total: counts.iter().sum(), counts, sum: self.sum.wrapping_sub(earlier.sum) }
    }

    /// Occurrences.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value of the bucket that holds quantile `q` (0 to 1), or 0 when nothing was recorded.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = ((q * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let holds = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        holds.map_or(0, |index| bucket_end(index) - 1)
    }

    /// Upper bounds as they are shown, in seconds or as they are, and the occurrences up to each. Beyond the last are those
    /// that are missing from [`Snapshot::count`].
    pub fn cumulated(&self, unit: Unit) -> impl Iterator<Item = (f64, u64)> {
        let mut buckets = self.counts.iter().enumerate().peekable();
        let mut below = 0;
        SHOWN.map(move |exponent| {
            let end = 1u64 << exponent;
            while let Some((_, count)) = buckets.next_if(|(index, _)| bucket_end(*index) <= end) {
                below += count;
            }
            let bound = match unit {
                // Rounded down, so below `end` as an integer is below `end` as a time.
                Unit::Micros => end as f64 / 1e6,
                // A bound belongs to its bucket.
                Unit::Plain => (end - 1) as f64,
            };
            (bound, below)
        })
    }
}

/// What a histogram's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, rounded down; shown as seconds.
    Micros,
    /// Bytes, items: shown as they are.
    Plain,
}

/// One series of a family that a workload added.
#[derive(Clone, Debug)]
struct Added {
    name: &'static str,
    help: &'static str,
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>, Unit),
}

/// Declares the engine's own counters and gauges, each with the fields whose sum it shows.
macro_rules! engine_metrics {
    (
        counters { $($counter:ident $(+ $part:ident)* : $counter_help:literal,)* }
        gauges { $($gauge:ident: $gauge_help:literal,)* }
        histograms { $($histogram:ident as $shown:literal: $histogram_help:literal,)* }
    ) => {
        /// A shard's values. Fields are written by the shard alone, unless they say otherwise.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardMetrics {
            /// When the turn at hand began to work, in nanoseconds of the shard's clock; zero while the shard may sleep.
            working_since: AtomicU64,
            $(#[doc = $counter_help] pub $counter: Counter,
              $(#[doc = concat!("A part of `", stringify!($counter), "` that is counted elsewhere.")]
                pub $part: Counter,)*)*
            $(#[doc = $gauge_help] pub $gauge: Gauge,)*
            $(#[doc = $histogram_help] pub $histogram: Histogram,)*
            added: Mutex<Vec<Added>>,
            /// Where the time of sampled messages went.
            pub traces: Traces,
        }

        /// Name, help, and value.
        type Single = (&'static str, &'static str, fn(&ShardMetrics) -> u64);
        const COUNTERS: &[Single] = &[$((
            concat!("annulus_", stringify!($counter), "_total"),
            $counter_help,
            |shard| shard.$counter.get() $(+ shard.$part.get())*,
        ),)*];
        const GAUGES: &[Single] =
            &[$((concat!("annulus_", stringify!($gauge)), $gauge_help, |shard| shard.$gauge.get()),)*];
        /// All in microseconds.
        const HISTOGRAMS: &[(&str, &str, fn(&ShardMetrics) -> &Histogram)] =
            &[$(($shown, $histogram_help, |shard| &shard.$histogram),)*];
    };
}

engine_metrics! {
    counters {
        turns: "Turns of the shard's loop.",
        enters: "Calls into the kernel to submit, wait or both.",
        task_panics: "Tasks ended by a panic.",
        sqes: "Operations submitted to the kernel.",
        cqes: "Completions taken from the kernel.",
        cq_overflows: "Times that completions overflowed the completion queue.",
        enobufs: "Receives that ended because no buffer was free.",
        parked: "Connections parked until receive buffers return.",
        stale_completions: "Completions that came after the life of what they were for.",
        accepted: "Connections accepted.",
        refused: "Connections closed unserved: out of descriptors, or at a limit.",
        closed: "Connections closed.",
        bytes_received: "Bytes received from peers.",
        bytes_sent: "Bytes that the kernel took for sending.",
        bytes_copied + bytes_copied_frames: "Bytes copied in user space on their way from or to peers.",
        zero_copy_sends: "Sends for which the kernel reads our memory in place.",
        short_sends: "Sends of which the kernel took a part only.",
        send_errors: "Sends that failed.",
        letters_sent: "Letters put into other shards' mailboxes.",
        letters_received: "Letters taken from other shards.",
        mailbox_full: "Letters refused because too many waited.",
        doorbells_rung: "Sleeping shards woken.",
        timers_fired: "Timers fired.",
        task_polls: "Times that a task was run.",
        compute_submitted: "Jobs given to the compute threads.",
        compute_busy: "Jobs refused because the compute queue was full.",
        stalls: "Turns that lasted too long. Written by the watchdog.",
    }
    gauges {
        connections: "Connections open.",
        groups_ready: "Connections that wait for their group's runner.",
        buffers_published: "Receive buffers that the kernel may fill.",
        buffers_leased: "Receive buffers whose bytes are being read.",
    }
    histograms {
        turn_us as "annulus_turn_seconds": "Time that a turn worked.",
        timer_lateness_us as "annulus_timer_lateness_seconds": "How late timers fired.",
    }
}

impl ShardMetrics {
    /// A turn begins to work, at this time of the shard's clock.
    pub fn turn_began(&self, now: Duration) {
        // Never zero, which says that none works.
        self.working_since.store((now.as_nanos() as u64).max(1), Ordering::Relaxed);
    }

    /// The shard may sleep from now on.
    pub fn turn_ended(&self) {
        self.working_since.store(0, Ordering::Relaxed);
    }

    /// Since when the turn at hand works, by the shard's clock; `None` while the shard may sleep.
    pub fn working_since(&self) -> Option<Duration> {
        match self.working_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_nanos(since)),
        }
    }

    /// Adds a counter, or gives the one of that name. Names of counters end in `_total`.
    ///
    /// # Panics
    /// When the name is not one, or belongs to something else than a counter.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Arc<Counter> {
        self.counter_with(name, help, &[])
    }

    /// As [`ShardMetrics::counter`], one of several with different labels.
    ///
    /// # Panics
    /// As there, and when a label's name is not one.
    pub fn counter_with(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Counter> {
        assert!(name.ends_with("_total"), "a counter's name ends in _total: {name}");
        match self.add(name, help, labels, Value::Counter(Arc::default())) {
            Value::Counter(counter) => counter,
            _ => panic!("{name} is in use and not a counter"),
        }
    }

    /// Adds a gauge, or gives the one of that name.
    ///
    /// # Panics
    /// When the name is not one, or belongs to something else than a gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Arc<Gauge> {
        self.gauge_with(name, help, &[])
    }

    /// As [`ShardMetrics::gauge`], one of several with different labels.
    ///
    /// # Panics
    /// As there, and when a label's name is not one.
    pub fn gauge_with(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Arc<Gauge> {
        match self.add(name, help, labels, Value::Gauge(Arc::default())) {
            Value::Gauge(gauge) => gauge,
            _ => panic!("{name} is in use and not a gauge"),
        }
    }

    /// Adds a histogram, or gives the one of that name. Names of times end in `_seconds`.
    ///
    /// # Panics
    /// When the name is not one, or belongs to something else than a histogram.
    pub fn histogram(&self, name: &'static str, help: &'static str, unit: Unit) -> Arc<Histogram> {
        self.histogram_with(name, help, unit, &[])
    }

    /// As [`ShardMetrics::histogram`], one of several with different labels.
    ///
    /// # Panics
    /// As there, and when a label's name is not one.
    pub fn histogram_with(
        &self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        labels: &[(&'static str, &str)],
    ) -> Arc<Histogram> {
        match self.add(name, help, labels, Value::Histogram(Arc::default(), unit)) {
            Value::Histogram(histogram, _) => histogram,
            _ => panic!("{name} is in use and not a histogram"),
        }
    }

    fn add(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: Value) -> Value {
        assert!(is_name(name), "not a metric's name: {name}");
        let own = COUNTERS.iter().chain(GAUGES).map(|single| single.0).chain(HISTOGRAMS.iter().map(|h| h.0));
        assert!(!own.into_iter().any(|own| own == name), "{name} is the engine's own");
        assert!(labels.iter().all(|(label, _)| is_label(label)), "not labels: {labels:?}");
        let labels: Vec<_> = labels.iter().map(|(label, value)| (*label, value.to_string())).collect();
        let mut added = self.lock();
        if let Some(same) = added.iter().find(|one| one.name == name && one.labels == labels) {
            return same.value.clone();
        }
        let kind = added.iter().find(|one| one.name == name).map(|one| one.value.kind());
        assert!(kind.is_none_or(|kind| kind == value.kind()), "{name} is in use for another kind");
        added.push(Added { name, help, labels, value: value.clone() });
        value
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Added>> {
        // A panic above leaves the list as it was.
        self.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Histogram(..) => "histogram",
        }
    }

    fn reading(&self) -> Reading {
        match self {
            Value::Counter(counter) => Reading::Counter(counter.get()),
            Value::Gauge(gauge) => Reading::Gauge(gauge.get()),
            Value::Histogram(histogram, unit) => Reading::Histogram(histogram.snapshot(), *unit),
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `shard` is ours, `le` is the format's.
fn is_label(label: &str) -> bool {
    is_name(label) && !matches!(label, "shard" | "le") && !label.starts_with("__")
}

/// One value of one shard at one moment.
#[derive(Debug)]
pub struct Sample<'a> {
    /// The family's name.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Whose it is.
    pub shard: usize,
    /// What tells it from others of its family and shard.
    pub labels: &'a [(&'static str, String)],
    /// The value.
    pub reading: Reading,
}

/// What a value was.
#[derive(Debug)]
pub enum Reading {
    /// A total.
    Counter(u64),
    /// A level.
    Gauge(u64),
    /// How often which value occurred.
    Histogram(Snapshot, Unit),
}

impl Reading {
    fn kind(&self) -> &'static str {
        match self {
            Reading::Counter(_) => "counter",
            Reading::Gauge(_) => "gauge",
            Reading::Histogram(..) => "histogram",
        }
    }
}

/// All shards' values as Prometheus text (`text/plain; version=0.0.4`). A shard is labelled by its place.
pub fn render(shards: &[Arc<ShardMetrics>]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let mut family = "";
    visit(shards, |sample| {
        let Sample { name, help, shard, labels, reading } = sample;
        if *name != family {
            family = name;
            head(&mut out, name, help, reading.kind());
        }
        match reading {
            Reading::Counter(value) | Reading::Gauge(value) => line(&mut out, name, "", *shard, labels, None, value),
            Reading::Histogram(snapshot, unit) => histogram_lines(&mut out, name, *shard, labels, snapshot, *unit),
        }
    });
    out
}

/// Shows all shards' values, one family after the other: for who passes them on in a form of their own.
pub fn visit(shards: &[Arc<ShardMetrics>], each: impl FnMut(&Sample<'_>)) {
    visit_some(shards, |_| true, each);
}

/// Shows the values of those families whose names are wanted: for who looks at a few of them often.
pub fn visit_some(shards: &[Arc<ShardMetrics>], wanted: impl Fn(&str) -> bool, mut each: impl FnMut(&Sample<'_>)) {
    let mut show = |name, help, shard, labels: Labels<'_>, reading| {
        each(&Sample { name, help, shard, labels, reading });
    };
    for &(name, help, value) in COUNTERS.iter().filter(|single| wanted(single.0)) {
        shards.iter().enumerate().for_each(|(i, shard)| show(name, help, i, &[], Reading::Counter(value(shard))));
    }
    for &(name, help, value) in GAUGES.iter().filter(|single| wanted(single.0)) {
        shards.iter().enumerate().for_each(|(i, shard)| show(name, help, i, &[], Reading::Gauge(value(shard))));
    }
    for &(name, help, histogram) in HISTOGRAMS.iter().filter(|histogram| wanted(histogram.0)) {
        for (i, shard) in shards.iter().enumerate() {
            show(name, help, i, &[], Reading::Histogram(histogram(shard).snapshot(), Unit::Micros));
        }
    }
    let added =
        |shard: &ShardMetrics| -> Vec<Added> { shard.lock().iter().filter(|one| wanted(one.name)).cloned().collect() };
    let all: Vec<(usize, Added)> =
        shards.iter().enumerate().flat_map(|(i, shard)| added(shard).into_iter().map(move |one| (i, one))).collect();
    let mut order: Vec<&Added> = Vec::new();
    for (_, one) in &all {
        if !order.iter().any(|seen| seen.name == one.name) {
            order.push(one);
        }
    }
    for family in order {
        // A shard that registered the name for another kind would break the format: it is left out.
        let same = |one: &&(usize, Added)| one.1.name == family.name && one.1.value.kind() == family.value.kind();
        for (shard, one) in all.iter().filter(same) {
            show(one.name, family.help, *shard, &one.labels, one.value.reading());
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

type Labels<'a> = &'a [(&'static str, String)];

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    shard: usize,
    labels: Labels<'_>,
    le: Option<&str>,
    value: impl std::fmt::Display,
) {
    let _infallible = write!(out, "{name}{suffix}{{shard=\"{shard}\"");
    for (label, text) in labels {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _infallible = write!(out, ",{label}=\"{text}\"");
    }
    if let Some(le) = le {
        let _infallible = write!(out, ",le=\"{le}\"");
    }
    let _infallible = writeln!(out, "}} {value}");
}

/// Powers of two shown as bucket bounds. In microseconds: up to 67 seconds. Beyond is `+Inf`.
const SHOWN: std::ops::RangeInclusive<u32> = 0..=26;

fn histogram_lines(out: &mut String, name: &str, shard: usize, labels: Labels<'_>, snapshot: &Snapshot, unit: Unit) {
    for (bound, count) in snapshot.cumulated(unit) {
        line(out, name, "_bucket", shard, labels, Some(&bound.to_string()), count);
    }
    line(out, name, "_bucket", shard, labels, Some("+Inf"), snapshot.count());
    match unit {
        Unit::Micros => line(out, name, "_sum", shard, labels, None, snapshot.sum() as f64 / 1e6),
        Unit::Plain => line(out, name, "_sum", shard, labels, None, snapshot.sum()),
    }
    line(out, name, "_count", shard, labels, None, snapshot.count());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_snapshot_since_another_holds_what_came_between() {
        let histogram = Histogram::default();
        histogram.record(5);
        let before = histogram.snapshot();
        (0..10).for_each(|_| histogram.record(1000));
        let between = histogram.snapshot().since(&before);
        assert_eq!((between.count(), between.sum()), (10, 10_000));
        assert!(between.quantile(0.01) >= 1000);
        assert_eq!(before.since(&before).count(), 0);
        assert_eq!(before.since(&Snapshot::default()).count(), 1);
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        let mut start = 0;
        for index in 0..BUCKETS {
            let end = bucket_end(index);
            assert!(end > start, "bucket {index} is empty");
            assert_eq!((bucket(start), bucket(end - 1)), (index, index));
            assert!(end - start <= (start / FINE as u64).max(1), "bucket {index} is too wide");
            start = end;
        }
        assert_eq!(start, 1 << VALUE_BITS);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        (1..=10_000).for_each(|value| histogram.record(value));
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.quantile(0.5), 0);
        snapshot.merge(&histogram.snapshot());
        for (q, exact) in [(0.0, 1), (0.5, 5_000), (0.99, 9_900), (1.0, 10_000)] {
            let got = snapshot.quantile(q);
            assert!(got >= exact && got - exact <= exact / 8, "{q}: {got}");
        }
        snapshot.merge(&histogram.snapshot());
        assert_eq!((snapshot.count(), snapshot.sum()), (20_000, 2 * 50_005_000));
    }

    #[test]
    fn it_is_told_since_when_a_turn_works() {
        let metrics = ShardMetrics::default();
        assert_eq!(metrics.working_since(), None);
        metrics.turn_began(Duration::ZERO);
        assert!(metrics.working_since().is_some());
        metrics.turn_began(Duration::from_micros(7));
        assert_eq!(metrics.working_since(), Some(Duration::from_micros(7)));
        metrics.turn_ended();
        assert_eq!(metrics.working_since(), None);
    }

    #[test]
    fn a_name_gives_the_same_value_again() {
        let metrics = ShardMetrics::default();
        metrics.counter("test_things_total", "Things.").add(2);
        metrics.counter("test_things_total", "Things.").add(3);
        assert_eq!(metrics.counter("test_things_total", "Things.").get(), 5);
        assert_eq!(metrics.counter_with("test_things_total", "Things.", &[("of", "b")]).get(), 0);
        let wrong = std::panic::AssertUnwindSafe(|| metrics.gauge("test_things_total", "Things."));
        assert!(std::panic::catch_unwind(wrong).is_err());
        assert_eq!(metrics.counter("test_things_total", "Things.").get(), 5);
    }

    #[test]
    fn a_gauge_stays_above_zero() {
        let gauge = Gauge::default();
        gauge.add(3);
        gauge.sub(5);
        assert_eq!(gauge.get(), 0);
    }

    /// Series by their text up to the value, checked against the rules of the format on the way.
    fn parse(text: &str) -> HashMap<String, f64> {
        let mut series = HashMap::new();
        let mut families: HashMap<&str, &str> = HashMap::new();
        let mut current = "";
        let mut helped = "";
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helped = rest.split_once(' ').expect("a help text").0;
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, helped);
                assert!(families.insert(name, kind).is_none(), "{name} has two heads");
                current = name;
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let suffix = name.strip_prefix(current).expect("series stand under their head");
            match families[current] {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            assert!(series.insert(key.to_string(), value.parse().unwrap()).is_none(), "{key} appears twice");
        }
        series
    }

    #[test]
    fn the_text_reads_back_as_what_was_counted() {
        let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
        shards[0].turns.add(7);
        shards[1].connections.set(3);
        shards[1].bytes_copied.add(10);
        shards[1].bytes_copied_frames.set(32);
        for value in [0, 1, 100, 1_000_000] {
            shards[1].turn_us.record(value);
        }
        shards[0].counter("test_jobs_total", "Jobs,\nby \\ kind.").add(1);
        shards[1].counter_with("test_jobs_total", "Jobs.", &[("kind", "a \"b\" \\ c\n")]).add(2);
        shards[1].histogram("test_size_bytes", "Sizes.", Unit::Plain).record(4096);
        let series = parse(&render(&shards));
        let expected = [
            ("annulus_turns_total{shard=\"0\"}", 7.0),
            ("annulus_turns_total{shard=\"1\"}", 0.0),
            ("annulus_connections{shard=\"1\"}", 3.0),
            ("annulus_bytes_copied_total{shard=\"1\"}", 42.0),
            ("annulus_turn_seconds_bucket{shard=\"1\",le=\"0.000001\"}", 1.0),
            ("annulus_turn_seconds_bucket{shard=\"1\",le=\"0.000064\"}", 2.0),
            ("annulus_turn_seconds_bucket{shard=\"1\",le=\"0.000128\"}", 3.0),
            ("annulus_turn_seconds_bucket{shard=\"1\",le=\"+Inf\"}", 4.0),
            ("annulus_turn_seconds_sum{shard=\"1\"}", 1.000101),
            ("annulus_turn_seconds_count{shard=\"1\"}", 4.0),
            ("test_jobs_total{shard=\"0\"}", 1.0),
            ("test_jobs_total{shard=\"1\",kind=\"a \\\"b\\\" \\\\ c\\n\"}", 2.0),
            ("test_size_bytes_bucket{shard=\"1\",le=\"4095\"}", 0.0),
            ("test_size_bytes_bucket{shard=\"1\",le=\"8191\"}", 1.0),
            ("test_size_bytes_sum{shard=\"1\"}", 4096.0),
        ];
        for (key, value) in expected {
            assert_eq!(series.get(key), Some(&value), "{key}");
        }
    }

    #[test]
    fn only_wanted_families_are_shown() {
        let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
        shards[1].turns.add(7);
        shards[1].counter("test_jobs_total", "Jobs.").add(2);
        shards[1].counter("test_others_total", "Others.").add(2);
        let mut seen = Vec::new();
        let wanted = |name: &str| ["annulus_turns_total", "test_jobs_total"].contains(&name);
        visit_some(&shards, wanted, |sample| seen.push((sample.name, sample.shard)));
        assert_eq!(seen, [("annulus_turns_total", 0), ("annulus_turns_total", 1), ("test_jobs_total", 1)]);
    }

    #[test]
    fn buckets_only_grow_along_their_bounds() {
        let shard = Arc::new(ShardMetrics::default());
        (0..40).for_each(|exponent| shard.turn_us.record(1 << exponent));
        let text = render(&[shard]);
        let counts = text.lines().filter(|line| line.starts_with("annulus_turn_seconds_bucket"));
        let counts: Vec<u64> = counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(counts.is_sorted());
        assert_eq!((counts[0], counts.last()), (0, Some(&40)));
    }
}
