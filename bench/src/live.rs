//! A run while it runs: on a terminal a few lines that are drawn again in place, elsewhere a line per round.
//!
//! ```text
//!   theirs  round 2  ████████████░░░░░░░░  3.2 of 5.0 s
//!   1,998/s  ▅▆▅▅▂▅▆▅▆▅  12 failed
//!   p50 484 µs  p90 743 µs  p99 1.07 ms  p99.9 2.23 ms  max 3.57 ms, so far
//! ```
//!
//! What was said of rounds and steps stays above. On a narrow terminal the block has more lines; nothing is cut off.
//! These figures are for watching: whether a latency may be told is known when the round is over.

use crate::progress::Progress;
use crate::record::Round;
use crate::report::figures::{count, duration, rate};
use crate::report::summary::{late_p99_ns, refusal};
use hdrhistogram::Histogram;
use std::io::{IsTerminal, Write};

/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;
/// Columns of the bar, at most.
const BAR_MAX: usize = 40;
/// Rates that are remembered for the sparkline.
const SPARKS: usize = 30;
const SPARK: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Tells what happens, to a terminal or to a file.
pub struct Live {
    out: Box<dyn Write>,
    kind: Kind,
    /// How wide it is now.
    columns: fn() -> usize,
    /// Lines that are on the screen and will be drawn over.
    drawn: Vec<String>,
    of: Option<(String, usize)>,
    at_s: f64,
    failed: u64,
    rates: Vec<f64>,
}

/// What is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not a terminal: a line per round and step.
    Lines,
    /// A terminal, with colours or without.
    Terminal { has_colours: bool },
}

impl Live {
    /// On standard error: a terminal's block if it is one that can draw, with colours unless `NO_COLOR` is set.
    pub fn stderr() -> Live {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let can_draw = std::io::stderr().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        let kind = if can_draw { Kind::Terminal { has_colours: set("NO_COLOR").is_none() } } else { Kind::Lines };
        Live::new(Box::new(std::io::stderr()), kind, columns)
    }

    fn new(out: Box<dyn Write>, kind: Kind, columns: fn() -> usize) -> Live {
        Live { out, kind, columns, drawn: Vec::new(), of: None, at_s: 0.0, failed: 0, rates: Vec::new() }
    }

    /// Draws over what was drawn before; with `stays`, these lines are not drawn over in turn.
    fn draw(&mut self, lines: Vec<String>, stays: bool) {
        let mut text = String::new();
        if self.kind != Kind::Lines {
            // On a terminal that has become narrower, some break old lines and some do not, so that nobody knows how far
            // up the block begins: it stays, and the next one is drawn below.
            let columns = (self.columns)();
            let rows = if self.drawn.iter().all(|line| visible(line) <= columns) { self.drawn.len() } else { 0 };
            if rows > 0 {
                // Up, and everything below erased: ECMA-48, 8.3.22 and 8.3.39.
                text += &format!("\x1b[{rows}F\x1b[J");
            }
        }
        lines.iter().for_each(|line| text += &format!("{line}\n"));
        self.drawn = if stays { Vec::new() } else { lines };
        // A closed terminal is no reason to stop a measurement.
        let _nobody_watches = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.kind {
            Kind::Terminal { has_colours: true } => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    fn block(&self, total_s: f64, latency: &Histogram<u64>, columns: usize) -> Vec<String> {
        let (side, round) = self.of.as_ref().map_or(("", 0), |(side, round)| (side, *round));
        let bar_columns = columns.saturating_sub(side.chars().count() + 28).clamp(8, BAR_MAX);
        let share = if total_s > 0.0 { (self.at_s / total_s).clamp(0.0, 1.0) } else { 0.0 };
        let filled = (share * bar_columns as f64).round() as usize;
        let bar = self.paint("36", &"█".repeat(filled)) + &self.paint("2", &"░".repeat(bar_columns - filled));
        let head =
            [self.paint("1", side), format!("round {round}"), bar, format!("{:.1} of {total_s:.1} s", self.at_s)];
        let failed = format!("{} failed", count(self.failed));
        let failed = if self.failed > 0 { self.paint("31", &failed) } else { self.paint("2", &failed) };
        let now = self.rates.last().copied().unwrap_or(0.0);
        let rates = [self.paint("1", &rate(now)), spark(&self.rates), failed];
        let latencies = if latency.is_empty() {
            vec![self.paint("2", "no answer yet")]
        } else {
            let at = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
            let told = at.map(|(name, quantile)| (name, latency.value_at_quantile(quantile)));
            let told = told.into_iter().chain([("max", latency.max())]);
            let told = told.map(|(name, ns)| format!("{} {}", self.paint("2", name), duration(ns)));
            told.chain([self.paint("2", "so far")]).collect()
        };
        [wrapped(&head, columns), wrapped(&rates, columns), wrapped(&latencies, columns)].concat()
    }
}

impl Progress for Live {
    fn on_step(&mut self, what: &str) {
        let line = self.paint("2", what);
        self.draw(vec![line], true);
    }

    fn on_interval(
        &mut self,
        side: &str,
        round: usize,
        at_s: f64,
        total_s: f64,
        completed: u64,
        failed: u64,
        latency_so_far: &Histogram<u64>,
    ) {
        if self.kind == Kind::Lines {
            return;
        }
        if self.of.as_ref().is_none_or(|(before, number)| before != side || *number != round) {
            self.of = Some((side.to_owned(), round));
            (self.at_s, self.failed) = (0.0, 0);
            self.rates.clear();
        }
        let seconds = at_s - self.at_s;
        if seconds > 0.0 {
            self.rates.push(completed as f64 / seconds);
        }
        if self.rates.len() > SPARKS {
            self.rates.remove(0);
        }
        self.at_s = at_s;
        self.failed += failed;
        let block = self.block(total_s, latency_so_far, (self.columns)());
        self.draw(block, false);
    }

    fn on_round(&mut self, side: &str, round: usize, of: &Round) {
        self.of = None;
        let line = line(side, round, of);
        let line = if of.is_honest() && of.failures() == 0 { line } else { self.paint("33", &line) };
        self.draw(vec![line], true);
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Live").field("kind", &self.kind).field("of", &self.of).finish_non_exhaustive()
    }
}

/// A round in one line.
pub fn line(side: &str, round: usize, of: &Round) -> String {
    let latency = if !of.is_honest() {
        format!("latencies {}", refusal(late_p99_ns(of)))
    } else if of.latency.is_empty() {
        "nothing was answered".to_owned()
    } else {
        let at = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
        let told = at.map(|(name, quantile)| format!("{name} {}", duration(of.latency.value_at_quantile(quantile))));
        format!("{}, max {}", told.join(", "), duration(of.latency.max()))
    };
    let cpu = of.cpu_us_each().map_or_else(String::new, |us| format!(", {us:.2} µs CPU each"));
    format!("{side} round {round}: {}, {} failed, {latency}{cpu}", rate(of.per_s()), count(of.failures()))
}

/// How wide the terminal is: what `COLUMNS` says, or the terminal itself if it is narrower.
fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse::<usize>().ok());
    let own = || rustix::termios::tcgetwinsize(std::io::stderr()).ok().map(|size| usize::from(size.ws_col));
    [said, own()].into_iter().flatten().filter(|columns| *columns > 0).min().unwrap_or(COLUMNS)
}

/// Rates as a little picture, from nothing to the highest.
fn spark(rates: &[f64]) -> String {
    let most = rates.iter().copied().fold(0.0, f64::max);
    let step = |rate: &f64| if most > 0.0 { (rate / most * (SPARK.len() - 1) as f64).round() as usize } else { 0 };
    rates.iter().map(|rate| SPARK[step(rate).min(SPARK.len() - 1)]).collect()
}

/// Parts beside each other, in as many lines as are needed.
fn wrapped(parts: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        match lines.last_mut() {
            Some(line) if visible(line) + 2 + visible(part) <= columns => *line += &format!("  {part}"),
            _ => lines.push(part.clone()),
        }
    }
    lines
}

/// How many columns a line takes, without what only paints it.
fn visible(line: &str) -> usize {
    let mut count = 0;
    let mut is_code = false;
    for letter in line.chars() {
        match (is_code, letter) {
            (false, '\x1b') => is_code = true,
            (false, _) => count += 1,
            (true, letter) => is_code = !letter.is_ascii_alphabetic(),
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::latencies;
    use crate::report::demo;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// What a terminal of unlimited width shows in the end.
        fn shown(&self) -> Vec<String> {
            let mut lines: Vec<String> = Vec::new();
            for part in self.text().split("\x1b[J") {
                let part = match part.rsplit_once("\x1b[") {
                    Some((before, up)) if up.ends_with('F') => (before, up.trim_end_matches('F').parse().unwrap()),
                    _ => (part, 0),
                };
                lines.extend(part.0.lines().map(str::to_owned));
                lines.truncate(lines.len() - part.1);
            }
            lines
        }
    }

    fn watched(kind: Kind) -> Screen {
        let screen = Screen::default();
        let mut live = Live::new(Box::new(screen.clone()), kind, || 80);
        let record = demo::record();
        live.on_step("looking for a rate that it bears");
        for (side, round) in [("steady", 1), ("pausing", 1), ("steady", 2), ("pausing", 2)] {
            let of = &record.sides[usize::from(side == "pausing")].rounds[round - 1];
            for quarter in 1..=4 {
                live.on_interval(side, round, 0.25 * f64::from(quarter), 6.5, 500, 1, &of.latency);
            }
            if (side, round) != ("pausing", 2) {
                live.on_round(side, round, of);
            }
        }
        screen
    }

    #[test]
    fn a_terminal_keeps_rounds_and_the_last_state() {
        let screen = watched(Kind::Terminal { has_colours: false });
        let shown = screen.shown();
        assert_eq!(shown[0], "looking for a rate that it bears");
        assert!(shown[1].starts_with("steady round 1: 1,998/s, 8 failed, p50 483 µs"), "{shown:?}");
        assert!(shown[2].starts_with("pausing round 1: "), "{shown:?}");
        assert!(shown[4].starts_with("pausing  round 2  ") && shown[4].ends_with("1.0 of 6.5 s"), "{shown:?}");
        assert!(shown[5].contains("2,000/s") && shown[5].contains("4 failed"), "{shown:?}");
        assert!(shown[6].starts_with("p50 ") && shown[6].contains("max "), "{shown:?}");
        assert_eq!(shown.len(), 7, "{shown:?}");
        assert!(!screen.text().contains("\x1b[0m"), "there are no colours");
        assert!(watched(Kind::Terminal { has_colours: true }).text().contains("\x1b[0m"));
    }

    #[test]
    fn a_file_has_a_line_per_round_and_step() {
        let text = watched(Kind::Lines).text();
        assert!(!text.contains('\x1b'));
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn a_late_round_has_no_latency() {
        let told = line("pausing", 2, &demo::record().sides[1].rounds[1]);
        assert!(told.contains("latencies refused: the generator itself was late") && !told.contains("p50"), "{told}");
        assert!(line("x", 1, &Round::default()).contains("nothing was answered"));
    }

    #[test]
    fn a_narrow_terminal_has_more_lines_and_loses_nothing() {
        let mut live = Live::new(Box::new(std::io::sink()), Kind::Terminal { has_colours: true }, || 80);
        live.of = Some(("a-server-with-a-name".to_owned(), 3));
        live.rates = vec![1.0, 2.0, 4.0];
        let mut latency = latencies();
        latency.record(1_000_000).unwrap();
        let words = |columns| {
            let block = live.block(5.0, &latency, columns);
            assert!(block.iter().all(|line| visible(line) <= columns), "{columns}: {block:?}");
            let text = block.join(" ");
            ["a-server-with-a-name", "round 3", "of 5.0 s", "4.00/s", "▃▅█", "0 failed", "p99.9", "max"]
                .iter()
                .all(|word| text.contains(word))
        };
        assert!([32, 40, 80, 200].into_iter().all(words));
        let lines = |columns| live.block(5.0, &latency, columns).len();
        assert!(lines(32) > lines(80) && lines(120) == 3);
    }

    #[test]
    fn what_was_drawn_on_a_wider_terminal_stays() {
        let screen = Screen::default();
        let mut live = Live::new(Box::new(screen.clone()), Kind::Terminal { has_colours: false }, || 120);
        live.on_interval("steady", 1, 0.5, 5.0, 10, 0, &latencies());
        live.columns = || 40;
        live.on_interval("steady", 1, 1.0, 5.0, 10, 0, &latencies());
        assert!(!screen.text().contains("\x1b["), "nothing is erased");
        live.on_interval("steady", 1, 1.5, 5.0, 10, 0, &latencies());
        assert!(screen.text().contains("\x1b[3F\x1b[J"), "{:?}", screen.text());
    }

    #[test]
    fn sparks_reach_from_nothing_to_the_highest() {
        assert_eq!(spark(&[0.0, 50.0, 100.0]), "▁▅█");
        assert_eq!((spark(&[]), spark(&[0.0, 0.0])), (String::new(), "▁▁".to_owned()));
        assert_eq!(visible("\x1b[31mred\x1b[0m"), 3);
    }
}
