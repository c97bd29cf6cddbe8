//! Which server of a cluster owns which keys, and keeping up with it.
//!
//! ```text
//!   key ─ CRC16 of it, or of what stands in {} ─► one of 16,384 slots ─► the primary that owns it
//! ```
//!
//! Servers know; they are asked (`CLUSTER SLOTS`) at the beginning, when one of them says that a slot has moved, when a
//! connection breaks, and now and again. What one says of a single slot (`MOVED`) is believed at once.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::herald;
use super::lane::Waits;
use super::link::Dialer;
use super::settings::Place;
use super::value::Value;
use crate::backoff::{Backoff, seed};
use crate::serve::wire::{Notify, either};

/// Slots of a cluster (Redis Cluster specification, "Key distribution model").
pub(super) const SLOTS: usize = 16_384;
/// Primaries that are believed in one cluster.
const PRIMARIES_MAX: usize = 1_000;
/// Nodes are asked so often without a reason. Each wait is at least half of it.
const EVERY: Duration = Duration::from_secs(60);
/// And so often while one of the owners cannot be reached: it may have been replaced.
const EVERY_IN_TROUBLE: Duration = Duration::from_millis(500);
/// A storm of news is one question: it is asked this much later at most.
const GATHER: Duration = Duration::from_millis(50);

/// The slot of a key, or of a channel.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    redis_protocol::redis_keyslot(key)
}

/// Who owns what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    primaries: Vec<Place>,
    /// By slot, the owner's place in `primaries` and one; zero is nobody.
    owners: Vec<u16>,
}

impl Topology {
    /// Nothing is known.
    pub(super) fn unknown() -> Topology {
        Topology { primaries: Vec::new(), owners: vec![0; SLOTS] }
    }

    /// What an answer to `CLUSTER SLOTS` says. A node without an address is the one that was asked.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn read(answer: &Value, asked: &Place) -> Result<Topology, String> {
        let mut topology = Topology::unknown();
        for range in answer.as_list().ok_or("its answer to CLUSTER SLOTS is no list")? {
            let (from, to, host, port) = range_of(range).ok_or("its answer to CLUSTER SLOTS cannot be read")?;
            let host = match host {
                // It does not know its name, or prefers not to say one.
                "" => asked.host.clone(),
                "?" => continue,
                host => host.to_owned(),
            };
            for slot in from..=to {
                topology.set_owner(slot, &Place { host: host.clone(), port })?;
            }
        }
        if topology.primaries.is_empty() { Err("it knows of no slots".to_owned()) } else { Ok(topology) }
    }

    /// Whoever owns a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Place> {
        let index = usize::from(*self.owners.get(usize::from(slot))?);
        self.primaries.get(index.checked_sub(1)?)
    }

    /// All who own something, or did when the cluster was asked.
    pub(super) fn primaries(&self) -> &[Place] {
        &self.primaries
    }

    /// Whether every slot has an owner.
    pub(super) fn is_whole(&self) -> bool {
        self.owners.iter().all(|owner| *owner != 0)
    }

    /// A slot is somebody else's.
    ///
    /// # Errors
    /// A sentence: there is no such slot, or there are too many owners.
    pub(super) fn set_owner(&mut self, slot: u16, place: &Place) -> Result<(), String> {
        let index = match self.primaries.iter().position(|known| known == place) {
            Some(index) => index,
            None if self.primaries.len() < PRIMARIES_MAX => {
                self.primaries.push(place.clone());
                self.primaries.len() - 1
            }
            None => return Err(format!("a cluster of more than {PRIMARIES_MAX} primaries")),
        };
        let owner = self.owners.get_mut(usize::from(slot)).ok_or_else(|| format!("slot {slot} of {SLOTS}"))?;
        *owner = index as u16 + 1;
        Ok(())
    }
}

/// First slot, last slot, host and port of one range.
fn range_of(range: &Value) -> Option<(u16, u16, &str, u16)> {
    let [from, to, primary, ..] = range.as_list()? else { return None };
    let [host, port, ..] = primary.as_list()? else { return None };
    let slot = |value: &Value| value.as_int().and_then(|slot| u16::try_from(slot).ok());
    let host = if host.is_nil() { "" } else { host.as_str()? };
    Some((slot(from)?, slot(to)?, host, slot(port)?))
}

/// `MOVED 3999 127.0.0.1:6381`, without its first word; `asked` said so.
pub(super) fn redirection(words: &str, asked: &Place) -> Option<(u16, Place)> {
    let (slot, place) = words.split_once(' ')?;
    let (host, port) = place.rsplit_once(':')?;
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => &asked.host,
        host => host,
    };
    let slot = slot.parse().ok().filter(|slot| usize::from(*slot) < SLOTS)?;
    Some((slot, Place { host: host.to_owned(), port: port.parse().ok()? }))
}

/// Who acts on what a topology says.
pub(super) trait Follow {
    /// It may have changed.
    fn follow(&self, topology: &Topology);
    /// Whether everyone who is needed can be reached.
    fn is_well(&self) -> bool;
}

/// A topology that is kept up to date, for as long as its follower lives.
pub(super) struct Atlas {
    dialer: Rc<Dialer>,
    subject: String,
    topology: RefCell<Topology>,
    wanted: Notify,
}

impl Atlas {
    /// Begins to ask.
    pub(super) fn start(dialer: &Rc<Dialer>, purpose: &str, follower: Weak<dyn Follow>) -> Rc<Atlas> {
        let atlas = Rc::new(Atlas {
            dialer: dialer.clone(),
            subject: format!("{purpose}, the cluster's nodes"),
            topology: RefCell::new(Topology::unknown()),
            wanted: Notify::default(),
        });
        drop(dialer.shard().spawn(atlas.clone().run(follower)));
        atlas
    }

    /// Looks at what is known.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Topology) -> T) -> T {
        look(&self.topology.borrow())
    }

    /// Something may have changed: ask soon.
    pub(super) fn ask(&self) {
        self.wanted.notify();
    }

    /// A node says that a slot is somebody else's.
    pub(super) fn moved(&self, slot: u16, place: &Place) {
        // Beyond the limits of belief it is not believed; the question that follows says so.
        let _believed = self.topology.borrow_mut().set_owner(slot, place);
        self.ask();
    }

    async fn run(self: Rc<Atlas>, follower: Weak<dyn Follow>) {
        let shard = self.dialer.shard();
        let mut waits = Waits::new();
        let [mut rest, mut hurry, mut gather] =
            [EVERY, EVERY_IN_TROUBLE, GATHER].map(|most| Backoff::new(most, most, seed()));
        let mut turn = seed() as usize;
        loop {
            if follower.strong_count() == 0 {
                return;
            }
            turn = turn.wrapping_add(1);
            let looked = self.look(turn).await;
            let Some(follower) = follower.upgrade() else { return };
            let wait = match looked {
                Ok(topology) => {
                    waits.reset();
                    herald::say_well(&self.subject, &format_args!("{} primaries", topology.primaries.len()));
                    *self.topology.borrow_mut() = topology.clone();
                    follower.follow(&topology);
                    if follower.is_well() {
                        EVERY / 2 + rest.next() / 2
                    } else {
                        EVERY_IN_TROUBLE / 2 + hurry.next() / 2
                    }
                }
                Err(why) => {
                    herald::say_trouble(&self.subject, &why);
                    waits.next(false)
                }
            };
            drop(follower);
            either(shard.sleep(wait), self.wanted.notified()).await;
            shard.sleep(gather.next()).await;
        }
    }

    /// Asks one after the other, beginning with another one each time.
    async fn look(&self, turn: usize) -> Result<Topology, String> {
        let mut places = self.topology.borrow().primaries.clone();
        if !places.is_empty() {
            let first = turn % places.len();
            places.rotate_left(first);
        }
        places.extend(self.dialer.settings().places.iter().cloned());
        let mut last = String::new();
        for place in places {
            let asked = async {
                let (mut link, _facts) = self.dialer.open_any(&place).await.map_err(|unreachable| unreachable.why)?;
                let within = self.dialer.settings().answer_max;
                let answer = self.dialer.shard().timeout(within, link.call(&["CLUSTER", "SLOTS"])).await;
                link.abort();
                match answer.map_err(|_elapsed| format!("{place}: no answer within {within:?}"))? {
                    Ok(Value::Error { code, message }) => Err(format!("{place}: {code} {message}")),
                    Ok(answer) => Topology::read(&answer, &place).map_err(|wrong| format!("{place}: {wrong}")),
                    Err(why) => Err(format!("{place}: {why}")),
                }
            };
            match asked.await {
                Ok(topology) => return Ok(topology),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        Place { host: "10.0.0.1".to_owned(), port }
    }

    fn range(from: i64, to: i64, host: Value, port: i64) -> Value {
        let node = Value::List(vec![host, Value::Int(port), Value::Text("id".to_owned()), Value::List(vec![])]);
        Value::List(vec![Value::Int(from), Value::Int(to), node])
    }

    fn text(host: &str) -> Value {
        Value::Text(host.to_owned())
    }

    #[test]
    fn what_stands_in_braces_chooses_the_slot() {
        // The specification's own value, and its examples of tags.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
    }

    #[test]
    fn slots_have_owners() {
        let answer = Value::List(vec![
            range(0, 99, text("10.0.0.1"), 1),
            range(100, 16_382, Value::Nil, 2),
            range(16_383, 16_383, text("?"), 3),
        ]);
        let mut topology = Topology::read(&answer, &place(9)).unwrap();
        assert_eq!(topology.primaries(), [place(1), place(2)]);
        assert_eq!((topology.owner(0), topology.owner(100)), (Some(&place(1)), Some(&place(2))));
        assert_eq!((topology.owner(16_383), topology.owner(16_384)), (None, None));
        assert!(!topology.is_whole());
        topology.set_owner(16_383, &place(3)).unwrap();
        assert!(topology.is_whole() && topology.owner(16_383) == Some(&place(3)));
    }

    #[test]
    fn answers_that_cannot_be_are_refused() {
        for answer in [
            Value::Nil,
            Value::List(vec![]),
            Value::List(vec![Value::Int(1)]),
            Value::List(vec![range(0, 20_000, text("a"), 1)]),
            Value::List(vec![range(-1, 3, text("a"), 1)]),
            Value::List(vec![range(0, 3, text("a"), 70_000)]),
            Value::List(vec![range(0, 3, Value::Int(3), 1)]),
            Value::List((0..2_000).map(|slot| range(slot, slot, text("a"), slot + 1)).collect()),
        ] {
            assert!(Topology::read(&answer, &place(1)).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn redirections_name_a_slot_and_a_place() {
        assert_eq!(redirection("3999 10.0.0.1:6381", &place(1)), Some((3999, place(6381))));
        assert_eq!(redirection("3999 :6381", &place(1)), Some((3999, place(6381))));
        assert_eq!(redirection("1 ::1:7", &place(1)), Some((1, Place { host: "::1".to_owned(), port: 7 })));
        for wrong in ["", "3999", "99999 a:1", "x a:1", "1 a", "1 a:b"] {
            assert_eq!(redirection(wrong, &place(1)), None, "{wrong}");
        }
    }
}
