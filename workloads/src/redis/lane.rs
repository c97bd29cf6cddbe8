//! One connection to one server, kept: made again when it breaks, used by all calls of a shard in turn.
//!
//! ```text
//!   connect ─► serve: send what gathered ◄─► take answers ─► broken, or left ─► wait (backoff, jitter) ─► connect
//! ```
//!
//! Calls are sent when nothing is under way, when an answer has come, or 100 us after the last send; meanwhile they gather.
//! So a call on a quiet connection leaves with its turn, and many calls share sends, which is where the cost is. While there
//! is no connection calls are told so at once: whoever can wait awaits [`Lane::up`].

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::facts::ServerFacts;
use super::herald;
use super::link::{Dialer, Link};
use super::meters::Meters;
use super::pipeline::{Answer, Call, Pipeline, Redirected, Verdict};
use super::resp::{Reply, write_command};
use super::settings::Place;
use super::trouble::Trouble;
use crate::backoff::{Backoff, seed};
use crate::serve::wire::{Crowd, Either, Notify, either};

/// While answers are awaited, calls gather for this long.
const GATHER: Duration = Duration::from_micros(100);
/// The engine's timers are no finer: calls that gather are looked at again after this long at most.
const GATHER_TICK: Duration = Duration::from_millis(1);
/// A quiet connection is asked whether it lives after this long.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// First and longest wait after what will probably pass. Each is a random part of its length.
const PASSING: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// First and longest wait after what a person has to change.
const SETUP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A connection that lived for this long was a good one: the next failure is a first one.
const STEADY: Duration = Duration::from_secs(2);

/// Waits between attempts.
pub(super) struct Waits {
    passing: Backoff,
    setup: Backoff,
}

impl Waits {
    /// Those of somebody who has not failed yet.
    pub(super) fn new() -> Waits {
        let seed = seed();
        let [passing, setup] = [PASSING, SETUP].map(|(first, most)| Backoff::new(first, most, seed));
        Waits { passing, setup }
    }

    /// How long to wait after a failure.
    pub(super) fn next(&mut self, is_setup: bool) -> Duration {
        if is_setup { self.setup.next() } else { self.passing.next() }
    }

    /// It worked: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.passing.reset();
        self.setup.reset();
    }

    /// How long to wait after a connection that lived for `age`.
    pub(super) fn after(&mut self, age: Duration) -> Duration {
        if age >= STEADY {
            self.reset();
        }
        self.passing.next()
    }
}

/// The cluster around a lane.
pub(super) trait Redirect {
    /// A call that was made at `from` belongs elsewhere.
    fn redirect(&self, from: &Lane, redirected: Redirected);
    /// A lane has lost its connection.
    fn is_down(&self);
}

/// How a connection goes.
struct Pace {
    /// When something came last.
    heard: Duration,
    /// When something was sent last.
    sent: Duration,
    /// Whether an answer has come since.
    is_answered: bool,
    /// Why nothing more is sent, if so.
    leaving: Option<String>,
}

impl Pace {
    fn has_gathered(&self, now: Duration) -> bool {
        self.is_answered || now.saturating_sub(self.sent) >= GATHER
    }
}

enum State {
    Up(Rc<ServerFacts>),
    Down(String),
}

/// See the module's description.
pub(super) struct Lane {
    dialer: Rc<Dialer>,
    place: Place,
    /// What it is for and where it leads: for the log.
    subject: String,
    meters: Rc<Meters>,
    pipeline: RefCell<Pipeline>,
    state: RefCell<State>,
    wake: Notify,
    /// Who waits for connections to come.
    changes: Rc<Crowd>,
    cluster: Option<Weak<dyn Redirect>>,
    is_wanted: Cell<bool>,
}

impl Lane {
    /// Begins to connect. `changes` is told when there is a connection.
    pub(super) fn start(
        dialer: &Rc<Dialer>,
        place: &Place,
        purpose: &str,
        meters: &Rc<Meters>,
        changes: &Rc<Crowd>,
        cluster: Option<Weak<dyn Redirect>>,
    ) -> Rc<Lane> {
        let lane = Rc::new(Lane {
            dialer: dialer.clone(),
            place: place.clone(),
            subject: format!("{purpose} at {place}"),
            meters: meters.clone(),
            pipeline: RefCell::new(Pipeline::new(cluster.is_some())),
            state: RefCell::new(State::Down(format!("not connected to {place} yet"))),
            wake: Notify::default(),
            changes: changes.clone(),
            cluster,
            is_wanted: Cell::new(true),
        });
        drop(dialer.shard().spawn(lane.clone().run()));
        lane
    }

    /// Nobody makes calls any more: those that were made are answered, then the connection is closed.
    pub(super) fn give_up(&self) {
        self.is_wanted.set(false);
        self.wake.notify();
    }

    /// Where it leads.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Makes a call: it is in the queue when this returns.
    pub(super) fn call(&self, call: Call) -> Answer {
        let pushed = match &*self.state.borrow() {
            State::Up(_) => self.pipeline.borrow_mut().push(call),
            State::Down(why) => Err(Trouble::Away(why.clone())),
        };
        match pushed {
            Ok(answer) => {
                self.wake.notify();
                answer
            }
            Err(trouble) => {
                self.meters.refused.add(1);
                Answer::ready(Err(trouble))
            }
        }
    }

    /// Takes a call that was made at another lane.
    pub(super) fn adopt(&self, redirected: Redirected) {
        match &*self.state.borrow() {
            State::Up(_) => self.pipeline.borrow_mut().adopt(redirected),
            State::Down(why) => redirected.fail(Trouble::Away(why.clone())),
        }
        self.wake.notify();
    }

    fn cluster(&self) -> Option<Rc<dyn Redirect>> {
        self.cluster.as_ref()?.upgrade()
    }

    /// The server, if there is a connection.
    pub(super) fn server(&self) -> Option<Rc<ServerFacts>> {
        match &*self.state.borrow() {
            State::Up(facts) => Some(facts.clone()),
            State::Down(_) => None,
        }
    }

    /// Waits until there is a connection.
    pub(super) async fn up(&self) {
        while self.server().is_none() {
            self.changes.wait().await;
        }
    }

    async fn run(self: Rc<Lane>) {
        let mut waits = Waits::new();
        while self.is_wanted.get() {
            let Either::First(opened) = either(self.dialer.open(&self.place), self.unwanted()).await else { return };
            let wait = match opened {
                Ok((link, facts)) => {
                    let began = self.dialer.shard().now();
                    self.live(link, facts).await;
                    waits.after(self.dialer.shard().now().saturating_sub(began))
                }
                Err(unreachable) => {
                    self.meters.failures.add(1);
                    herald::say_trouble(&self.subject, &unreachable.why);
                    *self.state.borrow_mut() = State::Down(unreachable.why);
                    waits.next(unreachable.is_setup)
                }
            };
            either(self.dialer.shard().sleep(wait), self.unwanted()).await;
        }
    }

    /// A connection's life.
    async fn live(&self, mut link: Link, facts: ServerFacts) {
        let words = format!(
            "connected to Redis {} ({:?}); what it acknowledged and a crash of it can lose: {}",
            facts.version,
            link.version(),
            facts.durability.loses()
        );
        herald::say_well(&self.subject, &words);
        *self.state.borrow_mut() = State::Up(Rc::new(facts));
        self.meters.connects.add(1);
        self.meters.up.add(1);
        self.changes.all();
        let ended = self.serve(&mut link).await;
        self.meters.up.sub(1);
        let why = format!("{}: {}", self.place, ended.as_deref().unwrap_or("it is not used any more"));
        *self.state.borrow_mut() = State::Down(why.clone());
        let doubtful = self.pipeline.borrow_mut().on_broken(&why);
        self.meters.doubtful.add(doubtful as u64);
        if let Some(cluster) = self.cluster() {
            cluster.is_down();
        }
        if ended.is_some() {
            herald::say_trouble(&self.subject, &why);
        }
        link.abort();
    }

    /// Sends calls and takes answers until the connection breaks, and why; nothing, when nobody needs it any more.
    async fn serve(&self, link: &mut Link) -> Option<String> {
        let shard = self.dialer.shard();
        let answer_max = self.dialer.settings().answer_max;
        let mut pace = Pace { heard: shard.now(), sent: Duration::ZERO, is_answered: true, leaving: None };
        let mut out = Vec::new();
        loop {
            if let Err(why) = self.take_answers(link, &mut pace) {
                return Some(why);
            }
            let (is_under_way, is_empty, is_ready, oldest) = {
                let pipeline = self.pipeline.borrow();
                (pipeline.is_under_way(), pipeline.is_empty(), pipeline.is_ready(), pipeline.oldest())
            };
            if pace.leaving.is_some() && !is_under_way {
                return pace.leaving;
            }
            if !self.is_wanted.get() && is_empty {
                return None;
            }
            let is_ready = is_ready && pace.leaving.is_none();
            if is_ready && (!is_under_way || pace.has_gathered(shard.precise_now())) {
                // What others call in this turn leaves with it.
                shard.yield_now().await;
                if let Err(why) = self.send(link, &mut pace, &mut out).await {
                    return Some(why);
                }
                continue;
            }
            let wait = match oldest {
                _ if is_ready => GATHER_TICK,
                Some(at) => (at + answer_max).saturating_sub(shard.now()),
                None => (pace.heard + HEARTBEAT).saturating_sub(shard.now()),
            };
            match either(link.feed(), either(self.wake.notified(), shard.sleep(wait))).await {
                Either::First(Ok(bytes)) => {
                    pace.heard = shard.now();
                    self.meters.received.add(bytes as u64);
                }
                Either::First(Err(why)) => return Some(why),
                Either::Second(Either::First(())) => {}
                Either::Second(Either::Second(())) => match oldest {
                    Some(at) if shard.now() >= at + answer_max => {
                        return Some(format!("no answer within {answer_max:?}"));
                    }
                    None if shard.now() >= pace.heard + HEARTBEAT => self.ask_for_life(),
                    _ => {}
                },
            }
        }
    }

    /// Gives the answers that are here to their calls.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    fn take_answers(&self, link: &mut Link, pace: &mut Pace) -> Result<(), String> {
        while let Some(reply) = link.next_reply()? {
            // Nobody here subscribes to anything.
            let Reply::Answer(value) = reply else { continue };
            pace.is_answered = true;
            if let Some(sent) = self.pipeline.borrow().oldest() {
                let taken = self.dialer.shard().now().saturating_sub(sent);
                self.meters.answers.record(taken.as_micros() as u64);
            }
            let verdict = self.pipeline.borrow_mut().on_answer(value);
            match verdict {
                Verdict::Serves => {}
                Verdict::Redirected(redirected) => match self.cluster() {
                    Some(cluster) => cluster.redirect(self, redirected),
                    None => redirected.refuse(),
                },
                Verdict::Leave(why) => pace.leaving = Some(why),
                Verdict::Unasked => return Err("the server answered what nobody asked".to_owned()),
            }
        }
        Ok(())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    async fn send(&self, link: &mut Link, pace: &mut Pace, out: &mut Vec<u8>) -> Result<(), String> {
        let (shard, answer_max) = (self.dialer.shard(), self.dialer.settings().answer_max);
        (pace.sent, pace.is_answered) = (shard.precise_now(), false);
        let calls = self.pipeline.borrow_mut().write_batch(shard.now(), out);
        self.meters.calls.add(calls as u64);
        self.meters.sends.add(1);
        self.meters.sent.add(out.len() as u64);
        match shard.timeout(answer_max, link.send(out)).await {
            Ok(sent) => sent,
            Err(_elapsed) => Err(format!("it took nothing for {answer_max:?}")),
        }
    }

    fn ask_for_life(&self) {
        let mut bytes = Vec::new();
        write_command(&mut bytes, &["PING"]);
        // Its answer is that there is one. A full queue asks often enough.
        let _heard = self.pipeline.borrow_mut().push(Call::command(bytes));
    }

    async fn unwanted(&self) {
        while self.is_wanted.get() {
            self.wake.notified().await;
        }
    }
}
