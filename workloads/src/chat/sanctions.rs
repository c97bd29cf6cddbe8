//! Who may not publish, and who may not be here, until when.
//!
//! Each shard keeps all of them, so that nobody has to be asked when somebody publishes: a set that is empty most of the
//! time, and small otherwise. The shard that a user's name hashes to keeps the log's account of that user's.
//!
//! A clock is the caller's, in whole Unix seconds.

use std::collections::HashMap;
use std::sync::Arc;

/// Sanctions of a node. Beyond, error 106: lift some, or give them an end.
pub const SANCTIONS_MAX: usize = 65_536;
/// An end that does not come by itself.
pub const FOREVER: u64 = u64::MAX;

/// What is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// To publish.
    Mute,
    /// To be there.
    Ban,
}

impl Kind {
    /// What the API calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Mute => "mute",
            Kind::Ban => "ban",
        }
    }
}

/// What is forbidden to whom, where, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sanction {
    /// What.
    pub kind: Kind,
    /// To whom; not empty.
    pub user: Arc<str>,
    /// Where; empty: everywhere.
    pub channel: Arc<str>,
    /// Until then, in Unix seconds; [`FOREVER`]: until it is lifted; 0: it is lifted.
    pub until: u64,
}

impl Sanction {
    /// It takes one back.
    pub fn lifts(&self) -> bool {
        self.until == 0
    }
}

/// There are [`SANCTIONS_MAX`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct Entry {
    kind: Kind,
    channel: Arc<str>,
    until: u64,
}

/// All sanctions in force.
#[derive(Debug, Default)]
pub struct Sanctions {
    by_user: HashMap<Arc<str>, Vec<Entry>>,
    count: usize,
    /// When the next one may end; nothing ends before.
    next_end: u64,
}

impl Sanctions {
    /// Puts one in force, in the place of an earlier one of that kind for that user there, or lifts that.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub fn set(&mut self, sanction: &Sanction) -> Result<(), Full> {
        match self.count >= SANCTIONS_MAX && !sanction.lifts() && self.end_of(sanction).is_none() {
            true => Err(Full),
            false => {
                self.put(sanction);
                Ok(())
            }
        }
    }

    /// As [`Sanctions::set`], whatever there is: for what was within the limit in an earlier life.
    pub fn put(&mut self, sanction: &Sanction) {
        let Sanction { kind, user, channel, until } = sanction;
        match (self.position(sanction), sanction.lifts()) {
            (None, true) => return,
            (None, false) => {
                let entry = Entry { kind: *kind, channel: channel.clone(), until: *until };
                self.by_user.entry(user.clone()).or_default().push(entry);
                self.count += 1;
            }
            (Some(at), lifts) => {
                let entries = self.by_user.get_mut(user).expect("it was just found");
                match lifts {
                    false => entries[at].until = *until,
                    true => {
                        entries.swap_remove(at);
                        self.count -= 1;
                    }
                }
                if entries.is_empty() {
                    self.by_user.remove(user);
                }
            }
        }
        if !sanction.lifts() {
            self.next_end = if self.count == 1 { *until } else { self.next_end.min(*until) };
        }
    }

    /// When exactly that one ends, whichever end it was given here; `None`: there is none such.
    pub fn end_of(&self, sanction: &Sanction) -> Option<u64> {
        Some(self.by_user.get(&sanction.user)?[self.position(sanction)?].until)
    }

    fn position(&self, Sanction { kind, user, channel, .. }: &Sanction) -> Option<usize> {
        self.by_user.get(user)?.iter().position(|one| one.kind == *kind && one.channel == *channel)
    }

    /// Until when that is forbidden to the user in the channel, or, with an empty one, everywhere. `None`: it is not.
    pub fn until(&self, now: u64, kind: Kind, user: &str, channel: &str) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let is_there = |entry: &&Entry| entry.kind == kind && (entry.channel.is_empty() || *entry.channel == *channel);
        let ends = self.by_user.get(user)?.iter().filter(is_there).map(|entry| entry.until);
        ends.max().filter(|until| *until > now)
    }

    /// Forgets those that have ended.
    pub fn expire(&mut self, now: u64) {
        if self.count == 0 || now < self.next_end {
            return;
        }
        self.by_user.retain(|_, entries| {
            entries.retain(|entry| entry.until > now);
            !entries.is_empty()
        });
        self.count = self.by_user.values().map(Vec::len).sum();
        self.next_end = self.by_user.values().flatten().map(|entry| entry.until).min().unwrap_or(0);
    }

    /// All of them, or those of one user, in no order.
    pub fn of(&self, user: Option<&str>) -> impl Iterator<Item = Sanction> {
        let is_meant = move |name: &Arc<str>| user.is_none_or(|user| **name == *user);
        self.by_user.iter().filter(move |(name, _)| is_meant(name)).flat_map(|(name, entries)| {
            entries.iter().map(|Entry { kind, channel, until }| Sanction {
                kind: *kind,
                user: name.clone(),
                channel: channel.clone(),
                until: *until,
            })
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanction(kind: Kind, user: &str, channel: &str, until: u64) -> Sanction {
        Sanction { kind, user: user.into(), channel: channel.into(), until }
    }

    #[test]
    fn one_holds_for_its_user_there_until_it_ends_or_is_lifted() {
        let mut all = Sanctions::default();
        all.set(&sanction(Kind::Mute, "ann", "room", 100)).unwrap();
        all.set(&sanction(Kind::Ban, "ann", "", FOREVER)).unwrap();
        all.set(&sanction(Kind::Mute, "bob", "", 200)).unwrap();
        assert_eq!(all.until(99, Kind::Mute, "ann", "room"), Some(100));
        assert_eq!(all.until(100, Kind::Mute, "ann", "room"), None, "it has ended");
        assert_eq!(all.until(1, Kind::Mute, "ann", "other"), None);
        assert_eq!(all.until(1, Kind::Mute, "ann", ""), None, "not everywhere");
        assert_eq!(all.until(1, Kind::Mute, "bob", "any"), Some(200));
        assert_eq!(all.until(u64::MAX - 1, Kind::Ban, "ann", "room"), Some(FOREVER));
        all.set(&sanction(Kind::Mute, "ann", "room", 300)).unwrap();
        assert_eq!((all.until(250, Kind::Mute, "ann", "room"), all.len()), (Some(300), 3), "in the place of the first");
        all.set(&sanction(Kind::Ban, "ann", "", 0)).unwrap();
        all.set(&sanction(Kind::Ban, "ann", "", 0)).unwrap();
        assert_eq!((all.until(1, Kind::Ban, "ann", ""), all.len()), (None, 2));
        assert_eq!(all.of(Some("ann")).collect::<Vec<_>>(), [sanction(Kind::Mute, "ann", "room", 300)]);
    }

    #[test]
    fn those_that_have_ended_make_room() {
        let mut all = Sanctions::default();
        for number in 0..SANCTIONS_MAX {
            all.set(&sanction(Kind::Mute, &format!("u{}", number / 2), &format!("c{number}"), 10)).unwrap();
        }
        assert_eq!(all.set(&sanction(Kind::Ban, "one more", "", 20)), Err(Full));
        assert_eq!(all.set(&sanction(Kind::Mute, "u0", "c0", 30)), Ok(()), "it was there already");
        all.expire(9);
        assert_eq!(all.len(), SANCTIONS_MAX);
        all.expire(10);
        assert_eq!(all.of(None).collect::<Vec<_>>(), [sanction(Kind::Mute, "u0", "c0", 30)]);
        all.set(&sanction(Kind::Ban, "one more", "", 20)).unwrap();
        all.expire(30);
        assert!(all.is_empty());
        all.set(&sanction(Kind::Ban, "later", "", 40)).unwrap();
        all.expire(40);
        assert!(all.is_empty(), "the end of the first after none is known");
    }
}
