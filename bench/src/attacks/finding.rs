//! What came of one attack, and whether its promise held.
//!
//! Answers and memory are judged strictly. Latency is judged by bounds that a busy machine of two cores keeps; what was measured is
//! told beside them.

use super::watch::Used;
use super::witness::Heard;
use crate::report::{Row, Target};

/// Others' median under attack may be so many times the calm one, and so much more, in milliseconds.
const P50_TIMES: f64 = 4.0;
const P50_MS: f64 = 1000.0;
/// The same of their 99th percentile.
const P99_TIMES: f64 = 4.0;
const P99_MS: f64 = 4000.0;
/// The share of others' requests that may be turned away with 429 or 503 ten times in two seconds. That it happens now and then
/// is what a gateway promises that has too much to do; on a busy machine it takes the others' turns for its own lag.
const REFUSED_MOST: f64 = 0.05;
/// Attackers' connections that may be left over a few seconds after they have gone.
pub const LEFT_MOST: usize = 8;
/// What a server takes to name the functions of a turn that took too long, once, in MB: symbols of its binary. Where others want
/// the core, that happens in the calm, too.
const STALL_REPORT_MB: f64 = 192.0;

/// A shard's receive buffers, in MB: 4,096 of 4 KiB, which are there from the start and count once they have been used. A flood uses
/// all of them.
pub const POOL_MB: f64 = 17.0;
/// Processor seconds per second of a table of requests, which is through in a moment: both cores of a small machine.
pub const CPU_TABLE: f64 = 2.0;

/// Processor seconds that may go on top, whatever an attack's length: it begins with all its connections at once.
const CPU_BURST_S: f64 = 0.3;

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `annulus chat`.
    Chat,
    /// `annulus gateway`.
    Gateway,
    /// `annulus image`.
    Image,
}

impl Service {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Service::Chat => "chat",
            Service::Gateway => "gateway",
            Service::Image => "image",
        }
    }
}

/// What an attacker tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How much was sent: units, requests, connections. Of nothing there is no verdict.
    pub count: u64,
    /// What was sent, in words.
    pub sent: String,
    /// How it was answered.
    pub answers: String,
    /// Answers that break the promise.
    pub wrong: Vec<String>,
}

/// What came of an attack.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was attacked.
    pub service: Service,
    /// The attack's name.
    pub attack: &'static str,
    /// What bounds it, as documentation says.
    pub promise: &'static str,
    /// Bytes, in MB, by which memory may grow.
    pub memory_mb: f64,
    /// Processor seconds per second that it may cost.
    pub cpu: f64,
    /// What the attacker tells.
    pub told: Told,
    /// What the server took.
    pub used: Used,
    /// Whether a turn that took too long was reported meanwhile.
    pub stalled: bool,
    /// Attackers' connections that were still open when they had gone.
    pub left: usize,
    /// Others, before and meanwhile.
    pub others: (Heard, Heard),
}

impl Finding {
    /// MB by which memory may have grown.
    fn memory_most(&self) -> f64 {
        self.memory_mb + if self.stalled { STALL_REPORT_MB } else { 0.0 }
    }

    /// Memory's growth in MB.
    pub fn growth_mb(&self) -> f64 {
        self.used.growth as f64 / 1e6
    }

    /// Processor seconds per second of attack.
    pub fn cpu_per_s(&self) -> f64 {
        self.used.cpu_s / self.used.seconds.max(1e-9)
    }

    /// What that may be.
    fn cpu_most(&self) -> f64 {
        self.cpu + CPU_BURST_S / self.used.seconds.max(1e-9)
    }

    /// The bounds of others' p50 and p99, in milliseconds.
    fn latency_most(&self) -> [f64; 2] {
        let calm = |percentile| self.others.0.ms(percentile).unwrap_or(0.0);
        [calm(50.0) * P50_TIMES + P50_MS, calm(99.0) * P99_TIMES + P99_MS]
    }

    /// What others felt beyond its bounds.
    fn slowness(&self) -> Vec<String> {
        let (mut slow, meanwhile) = (Vec::new(), &self.others.1);
        if meanwhile.refused as f64 > refused_most(meanwhile) {
            slow.push(format!("{} of {} requests of others were turned away", meanwhile.refused, meanwhile.ended()));
        }
        for (percentile, most) in [50.0, 99.0].into_iter().zip(self.latency_most()) {
            match self.others.1.ms(percentile) {
                Some(ms) if ms <= most => {}
                Some(ms) => slow.push(format!("others' p{percentile:.0} was {ms:.0} ms, more than {most:.0}")),
                None => return vec!["others had no answer at all".to_owned()],
            }
        }
        slow
    }

    /// Whether this may be what the machine does besides, which does not come again, and nothing of it is an answer.
    pub fn may_be_noise(&self) -> bool {
        let reported = self.stalled && self.growth_mb() > self.memory_mb;
        self.told.wrong.is_empty() && (reported || !self.slowness().is_empty())
    }

    /// Every promise that was broken, in a sentence each.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.told.wrong.clone();
        if self.told.count == 0 {
            broken.push("nothing was sent, so nothing was shown".to_owned());
        }
        if self.growth_mb() > self.memory_most() {
            broken.push(format!("memory grew by {:.1} MB, more than {:.0}", self.growth_mb(), self.memory_most()));
        }
        if self.cpu_per_s() > self.cpu_most() {
            broken.push(format!(
                "it cost {:.2} processor seconds a second, more than {:.2}",
                self.cpu_per_s(),
                self.cpu_most()
            ));
        }
        if self.left > LEFT_MOST {
            broken.push(format!("{} connections were left open when their clients had gone", self.left));
        }
        let meanwhile = &self.others.1;
        for (why, count) in &meanwhile.failed {
            broken.push(format!("{count} requests of others failed: {why}"));
        }
        broken.extend(self.slowness());
        broken
    }

    /// The finding as text: a line for the eye, and what it rests on below.
    pub fn text(&self) -> String {
        let broken = self.broken();
        let verdict = if broken.is_empty() { "held" } else { "BROKEN" };
        let ms = |heard: &Heard, percentile| heard.ms(percentile).map_or("none".to_owned(), |ms| format!("{ms:.1}"));
        let (before, meanwhile) = &self.others;
        let [p50_most, p99_most] = self.latency_most();
        let mut text = format!(
            "{:<8} {:<28} {verdict:<6}  {}\n         sent: {}\n         answered: {}\n         memory +{:.1} MB of {:.0}{}, \
             CPU {:.2} s/s of {:.2}, descriptors +{} at the peak, {} connections left\n         others: p50 {} -> {} ms of {p50_most:.0}, \
             p99 {} -> {} ms of {p99_most:.0}; {} requests, {} asked again, {} turned away, {} failed\n",
            self.service.name(),
            self.attack,
            self.promise,
            self.told.sent,
            self.told.answers,
            self.growth_mb(),
            self.memory_most(),
            if self.stalled { " (a turn was reported)" } else { "" },
            self.cpu_per_s(),
            self.cpu_most(),
            self.used.descriptors.1.saturating_sub(self.used.descriptors.0),
            self.left,
            ms(before, 50.0),
            ms(meanwhile, 50.0),
            ms(before, 99.0),
            ms(meanwhile, 99.0),
            meanwhile.ended(),
            meanwhile.again,
            meanwhile.refused,
            meanwhile.failures(),
        );
        for why in broken {
            text += &format!("         BROKEN: {why}\n");
        }
        text
    }

    /// The finding as rows, for the reports that everything here has.
    pub fn rows(&self) -> Vec<Row> {
        let name = |what: &str| format!("{}, {}: {what}", self.service.name(), self.attack);
        let (before, meanwhile) = &self.others;
        let [p50_most, p99_most] = self.latency_most();
        let calm = |percentile| before.ms(percentile).map_or("calm: none".to_owned(), |ms| format!("ms; calm {ms:.1}"));
        let wrong = self.told.wrong.first().map_or(String::new(), |wrong| format!("; {wrong}"));
        vec![
            Row::new(
                name("answers that break it"),
                Target::Most(0.0),
                Some(self.told.wrong.len() as f64),
                format!("{}; {}{wrong}", self.promise, self.told.answers),
            ),
            Row::new(name("sent"), Target::Least(1.0), Some(self.told.count as f64), self.told.sent.clone()),
            Row::new(name("memory growth"), Target::Most(self.memory_most()), Some(self.growth_mb()), "MB"),
            Row::new(name("processor time"), Target::Most(self.cpu_most()), Some(self.cpu_per_s()), "s per s"),
            Row::new(name("others' p50"), Target::Most(p50_most), meanwhile.ms(50.0), calm(50.0)),
            Row::new(name("others' p99"), Target::Most(p99_most), meanwhile.ms(99.0), calm(99.0)),
            Row::new(
                name("others' failures"),
                Target::Most(0.0),
                Some(meanwhile.failures() as f64),
                format!("of {}; {} asked again", meanwhile.ended(), meanwhile.again),
            ),
            Row::new(
                name("others turned away"),
                Target::Most(refused_most(meanwhile)),
                Some(meanwhile.refused as f64),
                format!("of {}", meanwhile.ended()),
            ),
            Row::new(
                name("connections left"),
                Target::Most(LEFT_MOST as f64),
                Some(self.left as f64),
                "open when their clients had gone",
            ),
        ]
    }
}

/// The text and the row of an attack that could not be carried out to its end.
pub fn not_done(service: Service, attack: &str, promise: &str, why: &str) -> (String, Row) {
    let service = service.name();
    let text =
        format!("{service:<8} {attack:<28} BROKEN  {promise}\n         BROKEN: it did not come to its end: {why}\n");
    (text, Row::new(format!("{service}, {attack}: it comes to its end"), Target::Least(1.0), Some(0.0), why))
}

fn refused_most(heard: &Heard) -> f64 {
    heard.ended() as f64 * REFUSED_MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        let mut heard = Heard::default();
        (0..100).for_each(|_| heard.latency.record(1_000_000).unwrap());
        Finding {
            service: Service::Chat,
            attack: "tiny frames",
            promise: "a limit",
            memory_mb: 8.0,
            cpu: 0.5,
            told: Told { count: 5, ..Told::default() },
            used: Used { growth: 1 << 20, cpu_s: 0.4, seconds: 1.0, descriptors: (10, 12) },
            stalled: false,
            left: 0,
            others: (heard.clone(), heard),
        }
    }

    #[test]
    fn a_promise_holds_until_one_of_its_bounds_is_passed() {
        assert_eq!(finding().broken(), Vec::<String>::new());
        let mut stalled = finding();
        stalled.used.growth = 60 << 20;
        assert_eq!(stalled.broken().len(), 1);
        assert!(!stalled.may_be_noise(), "memory is strict where nothing explains it");
        stalled.stalled = true;
        assert_eq!((stalled.broken(), stalled.may_be_noise()), (Vec::new(), true));
        let mut worse = finding();
        worse.told.wrong.push("it let me in".to_owned());
        worse.used = Used { growth: 9 << 20, cpu_s: 0.9, ..worse.used };
        worse.left = LEFT_MOST + 1;
        worse.others.1.failed.insert("closed".to_owned(), 2);
        (0..100).for_each(|_| worse.others.1.latency.record(5_000_000_000).unwrap());
        assert_eq!(worse.broken().len(), 6, "{:?}", worse.broken());
        assert!(worse.text().contains("BROKEN: it let me in\n"), "{}", worse.text());
        assert_eq!(worse.rows().iter().filter(|row| !row.holds()).count(), 6);
        let mut idle = finding();
        idle.told.count = 0;
        assert_eq!(idle.broken(), ["nothing was sent, so nothing was shown"]);
    }

    #[test]
    fn what_was_not_done_is_broken_and_says_why() {
        let (text, row) = not_done(Service::Chat, "tiny frames", "a limit", "it did not start");
        assert!(text.contains("BROKEN  a limit\n") && text.ends_with("it did not start\n") && !row.holds(), "{text}");
    }

    #[test]
    fn others_may_be_turned_away_sometimes_and_must_be_answered() {
        let mut some = finding();
        some.others.1.refused = 5;
        assert_eq!(some.broken(), Vec::<String>::new());
        some.others.1.refused = 10;
        assert_eq!(some.broken().len(), 1);
        assert_eq!(some.rows().iter().filter(|row| !row.holds()).count(), 1);
        some.others.1 = Heard::default();
        assert_eq!(some.broken(), ["others had no answer at all"]);
    }
}
