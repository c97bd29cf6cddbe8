//! Processor time per message, as the owner estimates it: validation that takes as long, and encryption at rest.
//!
//! The server has no knob for that, and should have none. It gets a JSON Schema of so many checks that one publication
//! takes the time that is asked for; how many that are is found out on the spot, with a server that does nothing else.

use super::config::WorkFiles;
use super::fleet::{Fleet, Plan};
use super::{Folder, Options, SIZE};
use crate::process::Server;
use crate::report::Row;
use crate::sampler::Sample;
use crate::schedule::{Schedule, Spread};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Processor seconds per second for work on messages, where shards and generator have every core.
const SPARE_LEAST: f64 = 0.25;
/// Checks that a definition of the schema has, so that its file stays small.
const GROUP: usize = 100;
/// With so many checks it is first found out what one costs.
const TRIAL: usize = 20 * GROUP;
/// How often.
const TRIALS: usize = 2;
/// Checks at most, whatever one seems to cost: the schema's file has a limit.
const CHECKS_MAX: usize = 2_000 * GROUP;
/// How long a trial takes, at the rate of the run but at least at this one: what is rarely done costs more.
const TRIAL_SECONDS: f64 = 1.5;
const TRIAL_RATE_LEAST: f64 = 50.0;
const JOIN_MAX: Duration = Duration::from_secs(10);
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What is asked, and what this machine has room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    asked_us: f64,
    given_us: f64,
    /// Processor seconds per second that are left for it.
    spare: f64,
}

impl Work {
    /// Scales down what shards and generator leave no room for.
    pub fn new(asked_ms: f64, rate: f64, cores: usize, shards: usize) -> Work {
        let spare = (cores as f64 - shards as f64 - 1.0).max(SPARE_LEAST);
        let share = (spare / (asked_ms * rate / 1e3)).min(1.0);
        Work { asked_us: asked_ms * 1e3, given_us: asked_ms * 1e3 * share, spare }
    }

    /// Writes the files with which a publication takes that long.
    ///
    /// # Errors
    /// A sentence: the server does not start with such files, or the folder cannot be written.
    pub fn prepare(&self, options: &Options, folder: &Folder) -> Result<WorkFiles, String> {
        let few = trial(options, folder, GROUP)?;
        let mut checks = TRIAL;
        // What one costs depends on how many there are: the second trial is with as many as the first found.
        for _ in 0..TRIALS {
            let each = (trial(options, folder, GROUP + checks)? - few) / checks as f64;
            if each <= 0.0 {
                return Err(format!("{checks} checks of a schema cost nothing here, beside {few:.1} us for all else"));
            }
            checks = ((self.given_us / each) as usize).clamp(GROUP, CHECKS_MAX);
        }
        eprintln!("  {checks} checks of a schema make {:.0} us of work per message", self.given_us);
        write(folder.path(), checks)
    }

    /// What ran instead of what was asked for, if that was too much for this machine.
    pub fn projected_from(&self) -> Option<String> {
        let Work { asked_us, given_us, .. } = self;
        (given_us < asked_us)
            .then(|| format!("{:.1} ms of work per message instead of {:.1}", given_us / 1e3, asked_us / 1e3))
    }

    /// What came of it, for the report.
    pub fn row(&self, name: &str) -> Row {
        let Work { asked_us, given_us, spare } = self;
        let note = match asked_us == given_us {
            true => "us, as asked: a schema's checks, and encryption on top".to_owned(),
            false => {
                format!("us: scaled down from {asked_us:.0}, for which {spare:.2} cores that are left are too few")
            }
        };
        Row::fact(format!("{name}: work per message"), *given_us, note)
    }
}

/// What a publication costs the server with so many checks, in microseconds.
fn trial(options: &Options, folder: &Folder, checks: usize) -> Result<f64, String> {
    let files = write(folder.path(), checks)?;
    let log = Folder::new(Some(folder.path()))?;
    let server = Server::start_chat(&options.chat(log.path(), Some(&files)).text(), None)?;
    let plan = Plan { clients: 1, room_size: 1, size: SIZE, ..options.plan(vec![server.address]) };
    let rate = options.rate.max(TRIAL_RATE_LEAST);
    // On a thread of its own, which pins itself: this one starts servers.
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut fleet = Fleet::new(plan)?;
            fleet.join(1, JOIN_MAX)?;
            let before = Sample::of(server.pid())?;
            fleet.load(Schedule::new(Spread::Constant, rate, 1), TRIAL_SECONDS)?;
            let settled = fleet.settle(SETTLE_MAX)?;
            let after = Sample::of(server.pid())?;
            let verdict = fleet.book.tally.verdict();
            match settled && verdict.refused == 0 {
                true => Ok((after.cpu_s - before.cpu_s) * 1e6 / verdict.acknowledged.max(1) as f64),
                false => Err(format!("the server does not take what its schema allows: {:?}", fleet.book.events)),
            }
        });
        load.join().map_err(|_| "the trial panicked".to_owned())?
    })
}

/// Writes a schema of so many checks, and a key.
fn write(folder: &Path, checks: usize) -> Result<WorkFiles, String> {
    let files = WorkFiles { schema: folder.join("schema.json"), key: folder.join("key") };
    let failed = |error: std::io::Error| format!("cannot write to {}: {error}", folder.display());
    std::fs::write(&files.schema, schema(checks).to_string()).map_err(failed)?;
    std::fs::write(&files.key, "5a".repeat(32)).map_err(failed)?;
    Ok(files)
}

/// Every publication of the bench passes; it is looked at so many times, in groups.
fn schema(checks: usize) -> Value {
    // Different ones, so that no library makes one of them.
    let check = |index: usize| json!({ "properties": { "t": { "maxLength": 100_000 + index } } });
    let group: Vec<Value> = (0..GROUP).map(check).collect();
    let references = vec![json!({ "$ref": "#/$defs/group" }); checks.div_ceil(GROUP)];
    json!({ "type": "object", "required": ["b"], "allOf": references, "$defs": { "group": { "allOf": group } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_scaled_to_the_cores_that_are_left() {
        let of = |cores, shards| Work::new(4.0, 250.0, cores, shards).given_us;
        assert_eq!((of(8, 4), of(3, 1), of(2, 1)), (4000.0, 4000.0, 1000.0));
        assert!(Work::new(4.0, 250.0, 2, 1).row("a").note.contains("scaled down from 4000"));
    }

    #[test]
    fn a_schema_has_as_many_checks_as_asked_in_a_small_file() {
        let schema = schema(40_000);
        assert_eq!(schema["allOf"].as_array().unwrap().len(), 400);
        assert!(schema.to_string().len() < 64 * 1024);
    }
}
