//! What was seen of a promise while a fault lasted and after it, and the table of all.

use super::Fault;
use std::time::Duration;

/// Whether a promise was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Held,
    /// It was not.
    Broken,
    /// Nothing is promised of this figure.
    Told,
    /// The machine does not let us do this.
    NotRun,
    /// The fault was done and not felt: what else was observed says nothing of it.
    NotFelt,
}

/// Why a fault has no findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The machine lacks something, or does not allow it.
    NotRun(String),
    /// The trial itself went wrong: a service did not come back, or said nothing in the end.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble::Failed(why)
    }
}

/// What was seen of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    promise: String,
    observed: String,
    verdict: Verdict,
}

/// All of a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// None yet.
    pub fn new() -> Findings {
        Findings::default()
    }

    /// A promise, whether it was held, and the figures that say so.
    pub fn promise(&mut self, promise: impl Into<String>, held: bool, observed: impl Into<String>) {
        let verdict = if held { Verdict::Held } else { Verdict::Broken };
        self.0.push(Finding { promise: promise.into(), observed: observed.into(), verdict });
    }

    /// That the fault was felt by whom it was done to, as these figures say. Where it was not, nothing was shown.
    pub fn felt(&mut self, how: impl Into<String>, felt: bool, observed: impl Into<String>) {
        let verdict = if felt { Verdict::Told } else { Verdict::NotFelt };
        self.0.push(Finding { promise: format!("felt: {}", how.into()), observed: observed.into(), verdict });
    }

    /// A figure of which nothing is promised.
    pub fn told(&mut self, what: impl Into<String>, observed: impl Into<String>) {
        self.0.push(Finding { promise: what.into(), observed: observed.into(), verdict: Verdict::Told });
    }

    /// That it does by itself what it is there for, within a limit of time after the fault is over.
    pub fn recovery(&mut self, promise: &str, took: Option<Duration>, within: Duration) {
        let observed = match took {
            Some(took) => format!("again after {}", span(took)),
            None => "not in that time".to_owned(),
        };
        self.promise(format!("{promise} within {}", span(within)), took.is_some_and(|took| took <= within), observed);
    }

    /// Others after these.
    pub fn and(mut self, others: Findings) -> Findings {
        self.0.extend(others.0);
        self
    }

    pub(super) fn not_run(why: String) -> Findings {
        Findings(vec![Finding { promise: "-".to_owned(), observed: why, verdict: Verdict::NotRun }])
    }

    pub(super) fn failed(why: String) -> Findings {
        Findings(vec![Finding {
            promise: "the trial comes to its end".into(),
            observed: why,
            verdict: Verdict::Broken,
        }])
    }

    /// Why nothing was shown, if the fault was not felt.
    pub(super) fn not_felt(&self) -> Option<String> {
        let finding = self.0.iter().find(|finding| finding.verdict == Verdict::NotFelt)?;
        Some(format!("not felt ({}): {}", finding.promise.trim_start_matches("felt: "), finding.observed))
    }

    pub(super) fn any(&self, verdict: Verdict) -> bool {
        self.0.iter().any(|finding| finding.verdict == verdict)
    }

    /// Lines of the table.
    pub(super) fn rows(&self, fault: &Fault, took_s: f64) -> String {
        let mut text = format!("\n{}: {} ({took_s:.0} s)\n", fault.name, fault.what);
        let was_felt = !self.any(Verdict::NotFelt);
        for Finding { promise, observed, verdict } in &self.0 {
            let verdict = match verdict {
                Verdict::Held if was_felt => "held",
                Verdict::Held => "moot",
                Verdict::NotFelt => "NO",
                Verdict::Broken => "BROKEN",
                Verdict::Told => "",
                Verdict::NotRun => "NOT RUN",
            };
            // What somebody else said may have lines.
            let observed = observed.split_whitespace().collect::<Vec<_>>().join(" ");
            text += &format!("  {verdict:<7}  {promise:<PROMISE$}  {observed}\n");
        }
        text
    }
}

/// Width of promises.
const PROMISE: usize = 66;

/// The table's first lines.
pub(super) fn head() -> String {
    format!("\nfault\n  {:<7}  {:<PROMISE$}  observed\n", "", "promise")
}

/// Its last ones.
pub(super) fn end(all_held: bool, not_run: &[String]) -> String {
    let mut text = String::from("\n");
    if !not_run.is_empty() {
        text += "################ NOT RUN, or not felt, on this machine ################\n";
        not_run.iter().for_each(|line| text += &format!("{line}\n"));
        text += "#######################################################################\n";
    }
    text + if all_held { "every promise that was looked at was held\n" } else { "A PROMISE WAS BROKEN\n" }
}

/// A time, in words that fit it.
pub fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} ms", seconds * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_and_what_was_not_run_are_loud() {
        let fault = Fault { name: "a-kill", what: "it is killed", run: |_| Ok(Findings::new()) };
        let mut findings = Findings::new();
        findings.promise("nothing is lost", true, "0 of 5");
        findings.recovery("it answers", None, Duration::from_secs(3));
        findings.told("pause", "1.0 s");
        assert!(findings.any(Verdict::Broken));
        let text = findings.rows(&fault, 2.4);
        assert!(text.contains("a-kill: it is killed (2 s)"), "{text}");
        assert!(text.contains("  held     nothing is lost "), "{text}");
        assert!(text.contains("  BROKEN   it answers within 3.0 s "), "{text}");
        assert!(!Findings::not_run("no tmpfs".into()).any(Verdict::Broken));
        let end = end(false, &["a-kill: no tmpfs".to_owned()]);
        assert!(end.contains("NOT RUN") && end.contains("no tmpfs") && end.contains("A PROMISE WAS BROKEN"), "{end}");
    }

    #[test]
    fn what_was_not_felt_shows_nothing() {
        let fault = Fault { name: "a-step", what: "the clock is stepped", run: |_| Ok(Findings::new()) };
        let mut findings = Findings::new();
        findings.promise("nothing is lost", true, "0 of 5");
        findings.felt("its clock is an hour on", true, "3600 s");
        assert!(findings.not_felt().is_none() && findings.rows(&fault, 1.0).contains("  held     nothing is lost"));
        findings.felt("its clock is right again", false, "3600 s");
        assert_eq!(findings.not_felt().unwrap(), "not felt (its clock is right again): 3600 s");
        let text = findings.rows(&fault, 1.0);
        assert!(text.contains("  moot     nothing is lost ") && text.contains("  NO       felt: its clock"), "{text}");
    }

    #[test]
    fn a_recovery_that_takes_too_long_is_broken() {
        let mut findings = Findings::new();
        findings.recovery("it answers", Some(Duration::from_millis(30)), Duration::from_secs(1));
        assert!(!findings.any(Verdict::Broken));
        findings.recovery("it answers", Some(Duration::from_secs(2)), Duration::from_secs(1));
        assert!(findings.any(Verdict::Broken));
    }
}
