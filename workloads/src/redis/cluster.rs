//! A cluster as one: every call goes to the connection of who owns its key.
//!
//! ```text
//!   call ─ key ─ slot ─► lane of the owner ─► answer
//!                          ▲     │ MOVED: the slot has a new owner, ASK: this key is on its way to another, TRYAGAIN: half of the
//!                          └─────┘ keys are: the call goes on, at most five times, with its answer's place
//! ```
//!
//! A call that is sent on was not carried out before, so nothing is done twice; but it comes after calls that were made later.
//! All owners have a connection at all times: a call never waits for one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::facts::ServerFacts;
use super::lane::{Lane, Redirect};
use super::link::Dialer;
use super::meters::Meters;
use super::parts::Parts;
use super::pipeline::{Answer, Call, Redirected};
use super::resp::write_command;
use super::settings::Place;
use super::topology::{Atlas, Follow, Topology, redirection, slot_of};
use super::trouble::Trouble;
use crate::serve::wire::Crowd;

/// How often a call is sent on.
const HOPS_MAX: u8 = 5;
/// A call whose keys are half moved is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// See the module's description.
pub(super) struct Cluster {
    own: Weak<Cluster>,
    dialer: Rc<Dialer>,
    purpose: String,
    meters: Rc<Meters>,
    atlas: Rc<Atlas>,
    lanes: RefCell<BTreeMap<Place, Rc<Lane>>>,
    changes: Rc<Crowd>,
}

impl Cluster {
    /// Begins to look for nodes.
    pub(super) fn start(dialer: &Rc<Dialer>, purpose: &str, meters: &Rc<Meters>) -> Rc<Cluster> {
        Rc::new_cyclic(|own: &Weak<Cluster>| Cluster {
            own: own.clone(),
            dialer: dialer.clone(),
            purpose: purpose.to_owned(),
            meters: meters.clone(),
            atlas: Atlas::start(dialer, purpose, own.clone()),
            lanes: RefCell::default(),
            changes: Rc::default(),
        })
    }

    /// Nobody makes calls any more.
    pub(super) fn give_up(&self) {
        self.lanes.borrow().values().for_each(|lane| lane.give_up());
        self.atlas.ask();
    }

    /// Makes a call about `key`, or one that any node answers.
    pub(super) fn call(&self, key: Option<&[u8]>, call: Call) -> Answer {
        match self.lane_for(key) {
            Some(lane) => lane.call(call),
            None => {
                self.meters.refused.add(1);
                Answer::ready(Err(Trouble::Away("no node of the cluster is known to own this key".to_owned())))
            }
        }
    }

    fn lane_for(&self, key: Option<&[u8]>) -> Option<Rc<Lane>> {
        let lanes = self.lanes.borrow();
        match key {
            Some(key) => self.atlas.with(|topology| lanes.get(topology.owner(slot_of(key))?).cloned()),
            None => lanes.values().find(|lane| lane.server().is_some()).or_else(|| lanes.values().next()).cloned(),
        }
    }

    /// The server that owns a key, if there is a connection to it.
    pub(super) fn server_of(&self, key: &[u8]) -> Option<Rc<ServerFacts>> {
        self.lane_for(Some(key))?.server()
    }

    /// The first server to which there is a connection.
    pub(super) fn server(&self) -> Option<Rc<ServerFacts>> {
        self.lanes.borrow().values().find_map(|lane| lane.server())
    }

    /// Whether every slot has an owner and every owner a connection.
    pub(super) fn is_up(&self) -> bool {
        self.atlas.with(Topology::is_whole) && self.is_well()
    }

    /// Waits until that is so.
    pub(super) async fn up(&self) {
        while !self.is_up() {
            self.changes.wait().await;
        }
    }

    fn lane_at(&self, place: &Place) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        let begin = || {
            let redirect: Weak<dyn Redirect> = self.own.clone();
            Lane::start(&self.dialer, place, &self.purpose, &self.meters, &self.changes, Some(redirect))
        };
        lanes.entry(place.clone()).or_insert_with(begin).clone()
    }

    /// Once there is a connection, or not in time, a call goes on.
    fn send_on(&self, lane: Rc<Lane>, redirected: Redirected, wait: Duration) {
        if wait.is_zero() && lane.server().is_some() {
            return lane.adopt(redirected);
        }
        let shard = self.dialer.shard().clone();
        let within = self.dialer.settings().connect_max;
        drop(self.dialer.shard().spawn(async move {
            shard.sleep(wait).await;
            // Without a connection, adopting it says so.
            let _elapsed = shard.timeout(within, lane.up()).await;
            lane.adopt(redirected);
        }));
    }
}

impl Redirect for Cluster {
    fn redirect(&self, from: &Lane, mut redirected: Redirected) {
        redirected.call.hops += 1;
        if redirected.call.hops > HOPS_MAX {
            return redirected.refuse();
        }
        if redirected.code == "TRYAGAIN" {
            return self.send_on(self.lane_at(from.place()), redirected, TRY_AGAIN);
        }
        let Some((slot, place)) = redirection(&redirected.message, from.place()) else { return redirected.refuse() };
        let lane = self.lane_at(&place);
        if redirected.code == "MOVED" {
            self.atlas.moved(slot, &place);
        } else {
            let mut asking = Vec::new();
            write_command(&mut asking, &["ASKING"]);
            redirected.before = Some(Call::command(asking));
        }
        self.send_on(lane, redirected, Duration::ZERO);
    }

    fn is_down(&self) {
        self.atlas.ask();
    }
}

impl Follow for Cluster {
    fn follow(&self, topology: &Topology) {
        topology.primaries().iter().for_each(|place| drop(self.lane_at(place)));
        self.lanes.borrow_mut().retain(|place, lane| {
            let is_needed = topology.primaries().contains(place);
            if !is_needed {
                lane.give_up();
            }
            is_needed
        });
        self.changes.all();
    }

    fn is_well(&self) -> bool {
        let lanes = self.lanes.borrow();
        !lanes.is_empty() && lanes.values().all(|lane| lane.server().is_some())
    }
}

/// The key that decides where a command goes: its first, wherever it stands.
pub(super) fn key_of(parts: &impl Parts) -> Option<&[u8]> {
    let count = parts.count();
    let word = |at: usize| (at < count).then(|| parts.part(at).to_ascii_uppercase());
    let at = match &*word(0)? {
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => match &*word(2)? {
            b"0" => return None,
            _ => 3,
        },
        b"XREAD" | b"XREADGROUP" => (1..count).find(|at| word(*at).is_some_and(|word| word == b"STREAMS"))? + 1,
        b"BLMPOP" | b"BZMPOP" => 3,
        b"XGROUP" | b"XINFO" | b"OBJECT" | b"BITOP" | b"LMPOP" | b"ZMPOP" | b"SINTERCARD" | b"ZINTER" | b"ZUNION" => 2,
        b"PING" | b"INFO" | b"CONFIG" | b"CLUSTER" | b"SCRIPT" | b"FUNCTION" | b"TIME" | b"CLIENT" | b"WAIT"
        | b"DBSIZE" => {
            return None;
        }
        _ => 1,
    };
    (at < count).then(|| parts.part(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_where_their_first_key_is() {
        let key = |words: &str| {
            let parts: Vec<&str> = words.split(' ').collect();
            key_of(&parts).map(|key| String::from_utf8(key.to_vec()).unwrap())
        };
        for (words, expected) in [
            ("GET a", Some("a")),
            ("eval text 2 a b c", Some("a")),
            ("EVAL text 0 c", None),
            ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", Some("s")),
            ("xread streams s 0", Some("s")),
            ("XREAD COUNT 1", None),
            ("XGROUP CREATE s g $", Some("s")),
            ("XADD s * a b", Some("s")),
            ("PING", None),
            ("SCRIPT FLUSH", None),
            ("GET", None),
        ] {
            assert_eq!(key(words).as_deref(), expected, "{words}");
        }
    }
}
