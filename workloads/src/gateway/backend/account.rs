//! What is counted of a call, whichever way it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::Shard;

use super::{Ready, refused};
use crate::gateway::balance::Member;
use crate::gateway::breaker::Pass;
use crate::gateway::message::{Cause, Failure, Phase};
use crate::gateway::targets::{Target, Targets};
use crate::gateway::throttle::Load;

/// A call that the breaker let through. Dropped unsettled, it counts as failed if its time was over.
pub(super) struct Asked<'a> {
    ready: &'a Ready,
    shard: &'a Shard,
    /// Until when it is waited for, by the shard's clock.
    pub(super) deadline: Duration,
    began: Duration,
    pass: Option<Pass>,
    /// How far it has come.
    pub(super) progress: Cell<Phase>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(ready: &'a Ready, shard: &'a Shard, deadline: Duration, pass: Pass) -> Asked<'a> {
        Asked { ready, shard, deadline, began: shard.now(), pass: Some(pass), progress: Cell::new(Phase::Admission) }
    }

    /// Whether the breaker tries with it if the backend is well again.
    pub(super) fn is_trial(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_trial)
    }

    /// It has ended: served, failed, or neither.
    pub(super) fn settle(&mut self, served: Option<bool>) {
        let now = self.shard.now();
        let Some(pass) = self.pass.take() else { return };
        self.ready.meters.count(served, now.saturating_sub(self.began));
        let Some(breaker) = &self.ready.breaker else { return };
        if let (Some(state), Some(name)) = (breaker.settle(now, pass, served), breaker.logs_as()) {
            let name = if name.is_empty() { &self.ready.backend.url_pattern.source } else { name };
            crate::warn!("gateway: the circuit breaker of {name} is {} (shard {})", state.name(), self.shard.index());
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let late = self.shard.now() >= self.deadline;
        self.settle(late.then_some(false));
    }
}

/// A call to one host, counted while it is under way. Dropped unsettled, its host has failed if its time was over.
pub(super) struct OnHost<'a> {
    targets: &'a Targets,
    shard: &'a Shard,
    pub(super) member: Rc<Member<Target>>,
    began: Duration,
    deadline: Duration,
    /// The breaker tries with it whether the backend is well again.
    is_trial: bool,
    /// How it ended: whether it was served, and what that says about the upstream's load.
    ended: Cell<(Option<bool>, Load)>,
}

impl<'a> OnHost<'a> {
    /// Unless the upstream has too much already.
    pub(super) fn begin(
        targets: &'a Targets,
        shard: &'a Shard,
        member: Rc<Member<Target>>,
        deadline: Duration,
        is_trial: bool,
    ) -> Result<OnHost<'a>, Failure> {
        let began = shard.now();
        member.what.upstream.bearing.begin(began).map_err(refused)?;
        member.in_flight.set(member.in_flight.get() + 1);
        Ok(OnHost { targets, shard, member, began, deadline, is_trial, ended: Cell::new((None, Load::Unknown)) })
    }

    /// Its answer's head, or why there is none.
    pub(super) fn settle(&self, answered: Result<u16, &Failure>) {
        self.ended.set(match answered {
            Ok(status) => (Some(status < 500), load_of(status)),
            Err(failure) => (is_served(failure), load_in(failure)),
        });
    }
}

impl Drop for OnHost<'_> {
    fn drop(&mut self) {
        let now = self.shard.now();
        self.member.in_flight.set(self.member.in_flight.get() - 1);
        let ended = match self.ended.get() {
            (None, _) if now >= self.deadline => (Some(false), Load::TooMuch),
            ended => ended,
        };
        let bearing = &self.member.what.upstream.bearing;
        if self.is_trial && ended.1 == Load::Fine {
            bearing.forgive();
        }
        bearing.end(now, ended.1);
        if let Some(served) = ended.0 {
            self.targets.settle(now, &self.member, now.saturating_sub(self.began), served);
        }
    }
}

/// What a status says about the load of the one who sent it.
fn load_of(status: u16) -> Load {
    if matches!(status, 429 | 503) { Load::TooMuch } else { Load::Fine }
}

/// What a failure says about it: silence and refused streams that there is too much; no connection nothing.
fn load_in(failure: &Failure) -> Load {
    match &failure.cause {
        Cause::Status(status) => load_of(*status),
        Cause::Timeout => Load::TooMuch,
        Cause::Transport(_) | Cause::Reset(_) if failure.unprocessed && failure.phase == Phase::Request => {
            Load::TooMuch
        }
        Cause::Transport(_) | Cause::Reset(_) | Cause::Refused(_) | Cause::Unresolved(..) => Load::Unknown,
        Cause::Protocol(_) | Cause::TooLarge(_) | Cause::Malformed(_) => Load::Fine,
    }
}

/// Whether the upstream did its part, as far as its health is concerned: a 404 is an answer.
pub(super) fn is_served(failure: &Failure) -> Option<bool> {
    match failure.cause {
        Cause::Status(status) => Some(status < 500),
        Cause::Refused(_) => None,
        Cause::TooLarge(_) => Some(true),
        Cause::Timeout
        | Cause::Unresolved(..)
        | Cause::Transport(_)
        | Cause::Reset(_)
        | Cause::Protocol(_)
        | Cause::Malformed(_) => Some(false),
    }
}
