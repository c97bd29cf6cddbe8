//! Where the time of a message went: sampled, from the bytes' arrival to the answer's departure.
//!
//! ```text
//!   bytes in the socket ─► reaped ─► reader's turn ─► parsed ─► worked ─► away ─► mailbox ─► outbox ─► kernel has it
//!        Socket              Queue        Parse         Work     Away     Mailbox    Outbox      Send
//! ```
//!
//! A shard chooses some of its receives, evenly and so many per second that it costs nothing: everything while little
//! comes, every n-th while much does. A chosen one makes a [`Trace`], which its reader takes
//! ([`Shard::take_trace`](crate::Shard::take_trace)), marks at the ends of stages, carries along, also to other shards,
//! and hands over with the answer. Unchosen messages carry an empty one: marking it is one look at a null pointer.
//!
//! What nobody can see, because the bytes lie in the kernel while a turn of the shard works, is bounded: what is reaped
//! right after a turn may have come when that turn began. So `Socket` is the most that it can have been, and a turn that
//! lasts 40 ms shows as 40 ms of the messages it delayed. While the shard sleeps, arrival wakes it, and `Socket` is zero.
//!
//! What was traced is kept in the shard's metrics: the last [`KEPT`] of each kind, and the slowest of the last minutes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Traced messages of one kind that a shard keeps. Beyond, the oldest are forgotten.
pub const KEPT: usize = 4096;
/// The slowest that are kept besides, of the last [`SLOW_KEPT_FOR`].
pub const SLOW_KEPT: usize = 64;
/// How long.
pub const SLOW_KEPT_FOR: Duration = Duration::from_secs(300);
/// What a message was waiting for, or being done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its bytes lay in the socket while the shard's turn before worked: at most so long.
    Socket,
    /// It was here, and waited for its reader's turn, or, having been away, for the shard's.
    Queue,
    /// Its bytes were read.
    Parse,
    /// It was worked at.
    Work,
    /// It waited for something else: the disk, a service, a compute thread. What, its kind says.
    Away,
    /// It was a letter to another shard, or to a later turn of this one.
    Mailbox,
    /// Its answer waited to be sent.
    Outbox,
    /// The kernel was taking its answer.
    Send,
}

impl Stage {
    /// All of them, in the order in which a message goes through them.
    pub const ALL: [Stage; 8] = [
        Stage::Socket,
        Stage::Queue,
        Stage::Parse,
        Stage::Work,
        Stage::Away,
        Stage::Mailbox,
        Stage::Outbox,
        Stage::Send,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Socket => "socket",
            Stage::Queue => "queue",
            Stage::Parse => "parse",
            Stage::Work => "work",
            Stage::Away => "away",
            Stage::Mailbox => "mailbox",
            Stage::Outbox => "outbox",
            Stage::Send => "send",
        }
    }
}

/// What was traced: one of these per way that messages take through a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name in tables.
    pub name: &'static str,
    /// From what to what.
    pub about: &'static str,
    /// What [`Stage::Away`] means.
    pub away: &'static str,
}

/// How long a traced message spent in each stage, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// When it ended.
    pub ended: Instant,
    /// By stage, in the order of [`Stage::ALL`].
    pub spent: [u64; Stage::ALL.len()],
}

impl Journey {
    /// The time in all, in nanoseconds.
    pub fn total(&self) -> u64 {
        self.spent.iter().sum()
    }
}

/// A message's trace; empty where it was not chosen. May be cloned where the way forks, and sent to other shards.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Box<Journey>>);

impl Trace {
    /// A message's that was not chosen.
    pub const NONE: Trace = Trace(None);

    /// Of bytes that were reaped at `reaped` and may have come so much earlier.
    pub(crate) fn begin(reaped: Instant, slack: Duration) -> Trace {
        let mut journey = Journey { ended: reaped, spent: [0; Stage::ALL.len()] };
        journey.spent[Stage::Socket as usize] = slack.as_nanos() as u64;
        Trace(Some(Box::new(journey)))
    }

    /// Whether the message was chosen.
    pub fn is_chosen(&self) -> bool {
        self.0.is_some()
    }

    /// The time since the last mark was spent in this stage.
    pub fn mark(&mut self, stage: Stage) {
        if let Some(journey) = &mut self.0 {
            let now = Instant::now();
            journey.spent[stage as usize] += (now - journey.ended).as_nanos() as u64;
            journey.ended = now;
        }
    }

    /// As [`Trace::mark`], of a stage that may have ended at `ready`: what came after is [`Stage::Queue`].
    pub(crate) fn mark_until(&mut self, stage: Stage, ready: Instant) {
        if let Some(journey) = &mut self.0 {
            let spent = ready.saturating_duration_since(journey.ended);
            journey.spent[stage as usize] += spent.as_nanos() as u64;
            journey.ended += spent;
        }
        self.mark(Stage::Queue);
    }

    pub(crate) fn into_journey(self) -> Option<Journey> {
        self.0.map(|journey| *journey)
    }
}

/// What was traced of one kind.
#[derive(Debug)]
struct Kept {
    kind: &'static Kind,
    last: VecDeque<Journey>,
    slow: Vec<Journey>,
}

/// A shard's traced messages. The shard writes, anybody reads.
#[derive(Debug, Default)]
pub struct Traces(Mutex<Vec<Kept>>);

/// The traced messages of one kind.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Which.
    pub kind: &'static Kind,
    /// The last ones, oldest first.
    pub last: Vec<Journey>,
    /// The slowest of the last minutes, the slowest first.
    pub slow: Vec<Journey>,
}

impl Traces {
    /// Keeps a journey that has ended.
    pub(crate) fn keep(&self, kind: &'static Kind, journey: Journey) {
        let mut all = self.lock();
        let at = all.iter().position(|kept| kept.kind.name == kind.name).unwrap_or_else(|| {
            all.push(Kept { kind, last: VecDeque::new(), slow: Vec::new() });
            all.len() - 1
        });
        let kept = &mut all[at];
        if kept.last.len() == KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(journey);
        kept.keep_if_slow(journey);
    }

    /// What is kept, by kind.
    pub fn all(&self) -> Vec<Traced> {
        let traced = |kept: &Kept| Traced {
            kind: kept.kind,
            last: kept.last.iter().copied().collect(),
            slow: {
                let mut slow = kept.slow.clone();
                slow.sort_by_key(|journey| std::cmp::Reverse(journey.total()));
                slow
            },
        };
        self.lock().iter().map(traced).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Whole at every moment at which its holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep_if_slow(&mut self, journey: Journey) {
        if self.slow.len() < SLOW_KEPT {
            return self.slow.push(journey);
        }
        let is_old = |kept: &Journey| journey.ended.saturating_duration_since(kept.ended) > SLOW_KEPT_FOR;
        // The one that is missed least: an old one before any other.
        let least = self.slow.iter_mut().min_by_key(|kept| (!is_old(kept), kept.total()));
        if let Some(least) = least.filter(|kept| is_old(kept) || kept.total() < journey.total()) {
            *least = journey;
        }
    }
}

/// All shards' traced messages, by kind.
pub fn all(shards: &[Arc<crate::metrics::ShardMetrics>]) -> Vec<Traced> {
    let mut kinds: Vec<Traced> = Vec::new();
    for traced in shards.iter().flat_map(|shard| shard.traces.all()) {
        match kinds.iter_mut().find(|of| of.kind.name == traced.kind.name) {
            Some(of) => {
                of.last.extend(traced.last);
                of.slow.extend(traced.slow);
                of.slow.sort_by_key(|journey| std::cmp::Reverse(journey.total()));
            }
            None => kinds.push(traced),
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    static KIND: Kind = Kind { name: "test", about: "", away: "nowhere" };

    fn journey(ended: Instant, work: u64) -> Journey {
        let mut spent = [0; Stage::ALL.len()];
        spent[Stage::Work as usize] = work;
        Journey { ended, spent }
    }

    #[test]
    fn stages_stand_in_the_order_of_their_numbers() {
        assert!(Stage::ALL.iter().enumerate().all(|(index, stage)| *stage as usize == index));
    }

    #[test]
    fn every_moment_belongs_to_one_stage() {
        let reaped = Instant::now();
        let mut trace = Trace::begin(reaped, Duration::from_millis(3));
        trace.mark(Stage::Queue);
        std::thread::sleep(Duration::from_millis(2));
        trace.mark(Stage::Work);
        std::thread::sleep(Duration::from_millis(4));
        let ready = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        trace.mark_until(Stage::Away, ready);
        let journey = trace.into_journey().unwrap();
        let spent = |stage: Stage| Duration::from_nanos(journey.spent[stage as usize]);
        assert_eq!(spent(Stage::Socket), Duration::from_millis(3));
        assert!(spent(Stage::Work) >= Duration::from_millis(2) && spent(Stage::Away) >= Duration::from_millis(4));
        assert!(spent(Stage::Queue) >= Duration::from_millis(2));
        assert_eq!(u128::from(journey.total()), (journey.ended - reaped).as_nanos() + 3_000_000);
        // What was ready before it was marked last was not away at all.
        let mut early = Trace::begin(reaped, Duration::ZERO);
        early.mark(Stage::Work);
        early.mark_until(Stage::Away, reaped);
        assert_eq!(early.into_journey().unwrap().spent[Stage::Away as usize], 0);
    }

    #[test]
    fn an_empty_trace_stays_empty() {
        let mut trace = Trace::NONE;
        trace.mark(Stage::Work);
        assert!(!trace.is_chosen() && trace.into_journey().is_none());
    }

    #[test]
    fn the_last_and_the_slowest_are_kept() {
        let (traces, now) = (Traces::default(), Instant::now());
        for work in 0..10_000 {
            traces.keep(&KIND, journey(now, work % 5000));
        }
        let traced = traces.all().remove(0);
        assert_eq!((traced.last.len(), traced.slow.len()), (KEPT, SLOW_KEPT));
        assert_eq!(traced.last.last().unwrap().total(), 4999);
        assert!(traced.slow.iter().all(|slow| slow.total() > 4900));
        assert!(traced.slow.is_sorted_by(|one, next| one.total() >= next.total()));
        // Minutes later even quick ones are the slowest of late.
        let later = now + SLOW_KEPT_FOR + Duration::from_secs(1);
        (0..SLOW_KEPT).for_each(|_| traces.keep(&KIND, journey(later, 7)));
        assert!(traces.all()[0].slow.iter().all(|slow| slow.total() == 7));
    }
}
