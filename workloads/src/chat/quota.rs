//! What the channels of a namespace may take together on this node, so that one tenant does not take what is the others'.
//!
//! All shards count in the same places, with an atomic operation each when a subscription begins or ends and when a client
//! publishes, and only where there is a limit. What the server does itself (its API, subscriptions that tokens and hooks bring) is
//! counted where it stays, and not limited: that is the operator's own choice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::config::Namespace;
use crate::pace::Pace;

/// What may run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Subscriptions to any of its channels.
    Subscriptions,
    /// Channels that somebody is subscribed to.
    Channels,
    /// Publications of clients.
    Publications,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Subscriptions, Kind::Channels, Kind::Publications];

    /// As figures call it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Subscriptions => "subscriptions",
            Kind::Channels => "channels",
            Kind::Publications => "publications",
        }
    }
}

/// One namespace's.
#[derive(Debug)]
pub struct Quota {
    subscriptions: Places,
    channels: Places,
    /// Where publications are limited.
    pace: Option<Pace>,
    /// By kind: how often it had run out.
    refused: [AtomicU64; 3],
}

impl Quota {
    /// As the namespace says.
    pub fn of(namespace: &Namespace) -> Quota {
        let rate = namespace.publications;
        let pace = || Pace::new(rate.per_second.into(), Duration::from_secs(1), rate.burst.into());
        Quota {
            subscriptions: Places::of(namespace.subscriptions_max),
            channels: Places::of(namespace.channels_max),
            pace: rate.is_on().then(pace),
            refused: Default::default(),
        }
    }

    /// Whether anything is limited.
    pub fn is_on(&self) -> bool {
        self.subscriptions.most > 0 || self.channels.most > 0 || self.pace.is_some()
    }

    /// A subscription begins; `limited`: if there is room for it.
    pub fn subscribe(&self, limited: bool) -> bool {
        self.note(Kind::Subscriptions, self.subscriptions.take(limited))
    }

    /// One ends.
    pub fn unsubscribe(&self) {
        self.subscriptions.give_back();
    }

    /// A channel gets its first member; `limited`: if there is room for it.
    pub fn open(&self, limited: bool) -> bool {
        self.note(Kind::Channels, self.channels.take(limited))
    }

    /// One has lost its last member.
    pub fn close(&self) {
        self.channels.give_back();
    }

    /// A client publishes, if it is not too soon. `now_ms`: of the clock that all shards go by.
    pub fn publish(&self, now_ms: u64) -> bool {
        let is_on_time = |pace: &Pace| pace.take(Duration::from_millis(now_ms)).is_ok();
        self.note(Kind::Publications, self.pace.as_ref().is_none_or(is_on_time))
    }

    fn note(&self, kind: Kind, granted: bool) -> bool {
        if !granted {
            self.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        granted
    }

    /// Subscriptions now, where they are limited.
    pub fn subscriptions(&self) -> u64 {
        self.subscriptions.taken.load(Ordering::Relaxed)
    }

    /// Channels now, where they are limited.
    pub fn channels(&self) -> u64 {
        self.channels.taken.load(Ordering::Relaxed)
    }

    /// How often it had run out.
    pub fn refused(&self, kind: Kind) -> u64 {
        self.refused[kind as usize].load(Ordering::Relaxed)
    }
}

/// So many at the same time.
#[derive(Debug, Default)]
struct Places {
    /// 0: any number, and they are not counted.
    most: u64,
    taken: AtomicU64,
}

impl Places {
    fn of(most: u64) -> Places {
        Places { most, taken: AtomicU64::new(0) }
    }

    fn take(&self, limited: bool) -> bool {
        if self.most == 0 {
            return true;
        }
        let most = if limited { self.most } else { u64::MAX };
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < most).then_some(taken + 1))
            .is_ok()
    }

    fn give_back(&self) {
        if self.most > 0 {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let namespace = Namespace { subscriptions_max: 2, ..Namespace::closed("a") };
        let quota = Quota::of(&namespace);
        assert!(quota.is_on() && !Quota::of(&Namespace::closed("a")).is_on());
        assert!(quota.subscribe(true) && quota.subscribe(true) && !quota.subscribe(true));
        assert!(quota.subscribe(false), "the server's own are counted, not limited");
        assert_eq!((quota.subscriptions(), quota.refused(Kind::Subscriptions)), (3, 1));
        quota.unsubscribe();
        assert!(!quota.subscribe(true));
        quota.unsubscribe();
        assert!(quota.subscribe(true) && quota.open(true) && quota.publish(0), "the others are not limited");
        assert_eq!(quota.channels(), 0);
    }
}
