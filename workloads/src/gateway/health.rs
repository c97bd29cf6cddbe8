//! Whether hosts are well, by asking them: each host now and then by one shard, and what comes of it is read by all.
//!
//! ```text
//!   one shard:   ask ─► wait ─► ask ...        each shard:   choose among those that are well
//!                 └─► Streak ─► Watch ◄───────────────────────┘
//! ```
//!
//! A host is well until it has failed several times in a row, and again when it has passed several times in a row: one slow
//! answer turns nobody away. What is done where too few are well is up to who chooses.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::Gauge;

use super::config::model::{self, HealthCheck};
use super::live::USER_AGENT;
use super::message::{Call, Cause, FieldList, Phase};
use super::meters::HealthMeters;
use super::upstream::{Protocol, Upstream};
use crate::backoff::{Backoff, seed};

/// Bytes of an answer that are read, so that its connection can be used again. One that is longer counts by its status.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// First questions are spread over so long, or an interval where that is shorter: a gateway that starts does not ask all
/// hosts in the same moment.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// The part of the interval by which two questions are closer or further apart at random: gateways that started together do
/// not go on asking together.
const JITTER: f64 = 0.1;

/// Who is asked what.
type Question = (model::Host, Protocol, HealthCheck);

/// All hosts that are asked, of all shards and backends: those that ask a host the same share the outcome.
#[derive(Default)]
pub struct Checks {
    watches: Mutex<HashMap<Question, Weak<Watch>>>,
    /// Who was not well in the configuration before this one.
    unwell_before: HashSet<Question>,
    /// Another configuration is in force, which asks by itself.
    is_retired: AtomicBool,
}

/// What is known of a host.
pub struct Watch {
    is_well: AtomicBool,
}

impl Watch {
    /// Whether it is well, as far as anybody knows.
    pub fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }
}

impl Checks {
    /// Those of a new configuration, which go on with what the one before knows. That one asks no more.
    pub fn after(before: &Checks) -> Checks {
        before.is_retired.store(true, Ordering::Relaxed);
        let watches = before.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unwell = |watch: &Weak<Watch>| watch.upgrade().is_some_and(|watch| !watch.is_well());
        let unwell = watches.iter().filter(|(_, watch)| is_unwell(watch)).map(|(question, _)| question.clone());
        Checks { unwell_before: unwell.collect(), ..Checks::default() }
    }

    /// What is known of a host. Whoever wants to know first has its shard ask, for as long as anybody wants to know.
    pub fn watch(
        self: &Arc<Self>,
        shard: &Shard,
        host: &model::Host,
        upstream: &Rc<Upstream>,
        check: &HealthCheck,
    ) -> Arc<Watch> {
        let question = (host.clone(), upstream.origin.protocol, check.clone());
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watches.get(&question).and_then(Weak::upgrade) {
            return watch;
        }
        // Hosts that discovery has lost.
        watches.retain(|_, watch| watch.strong_count() > 0);
        let is_well = !self.unwell_before.contains(&question);
        let watch = Arc::new(Watch { is_well: AtomicBool::new(is_well) });
        watches.insert(question, Arc::downgrade(&watch));
        drop(watches);
        let asker = Asker {
            shard: shard.clone(),
            checks: self.clone(),
            watch: Arc::downgrade(&watch),
            host: host.clone(),
            upstream: upstream.clone(),
            check: check.clone(),
            meters: HealthMeters::new(shard),
        };
        drop(shard.spawn(asker.run(is_well)));
        watch
    }
}

/// Asks one host.
struct Asker {
    shard: Shard,
    checks: Arc<Checks>,
    watch: Weak<Watch>,
    host: model::Host,
    upstream: Rc<Upstream>,
    check: HealthCheck,
    meters: HealthMeters,
}

impl Asker {
    async fn run(self, is_well: bool) {
        let (interval, seed) = (self.check.interval, seed());
        let mut streak = Streak { is_well, against: 0 };
        let mut _unwell = (!is_well).then(|| Unwell::new(&self.meters.unwell));
        let first = FIRST_WITHIN.min(interval);
        self.shard.sleep(Backoff::new(first, first, seed).next()).await;
        let spread = interval.mul_f64(2.0 * JITTER);
        let mut jitter = Backoff::new(spread, spread, seed);
        loop {
            let outcome = self.ask().await;
            // Nobody wants to know any more, or another configuration's asker does this.
            let Some(watch) = self.watch.upgrade().filter(|_| !self.checks.is_retired.load(Ordering::Relaxed)) else {
                return;
            };
            self.meters.count(outcome.is_ok());
            if let Some(is_well) = streak.turn(outcome.is_ok(), &self.check) {
                watch.is_well.store(is_well, Ordering::Relaxed);
                _unwell = (!is_well).then(|| Unwell::new(&self.meters.unwell));
                self.say(outcome.err());
            }
            drop(watch);
            jitter.reset();
            self.shard.sleep(interval.mul_f64(1.0 - JITTER) + jitter.next()).await;
        }
    }

    /// Asks once.
    async fn ask(&self) -> Result<(), Cause> {
        let (authority, target) = (self.host.authority(), format!("{}{}", self.host.base_path, self.check.path));
        let mut fields = FieldList::new();
        fields.push("user-agent", USER_AGENT.as_bytes());
        let progress = Cell::new(Phase::Admission);
        let call = Call {
            method: "GET",
            target: &target,
            authority: &authority,
            fields: &fields,
            body: None,
            inflow: None,
            progress: &progress,
        };
        let asking = async {
            let answer = self.upstream.call(&call).await.map_err(|failure| failure.cause)?;
            let status = answer.status;
            match answer.collect(ANSWER_BYTES_MAX).await.map_err(|failure| failure.cause) {
                Ok(_) | Err(Cause::TooLarge(_)) if (200..300).contains(&status) => Ok(()),
                Ok(_) | Err(Cause::TooLarge(_)) => Err(Cause::Status(status)),
                Err(cause) => Err(cause),
            }
        };
        self.shard.timeout(self.check.timeout, pin!(asking)).await.unwrap_or(Err(Cause::Timeout))
    }

    fn say(&self, cause: Option<Cause>) {
        let (host, path) = (&self.host, &self.check.path);
        match cause {
            None => crate::say!("gateway: {host} is well again: it passes its check at {path}"),
            Some(cause) => crate::warn!("gateway: {host} is not well: its check at {path} says: {cause}"),
        }
    }
}

/// Outcomes in a row that contradict what is known.
struct Streak {
    is_well: bool,
    against: u32,
}

impl Streak {
    /// Takes an outcome in. Says what is known from now on, if that is something else.
    fn turn(&mut self, passed: bool, check: &HealthCheck) -> Option<bool> {
        if passed == self.is_well {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let wanted = if self.is_well { check.unhealthy_after } else { check.healthy_after };
        if self.against < wanted {
            return None;
        }
        *self = Streak { is_well: passed, against: 0 };
        Some(passed)
    }
}

/// A host that is not well, counted for as long as it is not and somebody wants to know.
struct Unwell(Arc<Gauge>);

impl Unwell {
    fn new(gauge: &Arc<Gauge>) -> Unwell {
        gauge.add(1);
        Unwell(gauge.clone())
    }
}

impl Drop for Unwell {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            path: "/".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }

    #[test]
    fn only_several_outcomes_in_a_row_change_what_is_known() {
        let mut streak = Streak { is_well: true, against: 0 };
        let mut turns = |outcomes: &str| -> Vec<Option<bool>> {
            outcomes.chars().map(|outcome| streak.turn(outcome == '+', &check())).collect()
        };
        assert_eq!(turns("--+--+-"), [None; 7], "never three in a row");
        assert_eq!(turns("--"), [None, Some(false)]);
        assert_eq!(turns("-+-+"), [None; 4], "never two in a row");
        assert_eq!(turns("++--"), [Some(true), None, None, None]);
        assert_eq!(turns("-"), [Some(false)]);
    }

    #[test]
    fn a_new_configuration_goes_on_with_what_is_known() {
        let host = |name: &str| model::Host {
            scheme: model::Scheme::Http,
            name: name.into(),
            port: 80,
            base_path: String::new(),
        };
        let question = |name| (host(name), Protocol::Http1, check());
        let before = Checks::default();
        let known = [true, false, false].map(|is_well| Arc::new(Watch { is_well: AtomicBool::new(is_well) }));
        for (name, watch) in ["well", "unwell", "gone"].into_iter().zip(&known) {
            before.watches.lock().unwrap().insert(question(name), Arc::downgrade(watch));
        }
        let [_well, _unwell, gone] = known;
        drop(gone);
        let after = Checks::after(&before);
        assert!(before.is_retired.load(Ordering::Relaxed) && !after.is_retired.load(Ordering::Relaxed));
        assert_eq!(after.unwell_before, HashSet::from([question("unwell")]));
    }
}
