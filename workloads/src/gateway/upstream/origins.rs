//! A shard's upstreams: one per origin, for as long as somebody may ask it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use annulus_engine::Shard;

use super::{Dialer, Origin, Settings, Upstream};

/// See the module's description.
pub struct Upstreams {
    shard: Shard,
    dialer: Rc<Dialer>,
    settings: Rc<Settings>,
    by_origin: RefCell<BTreeMap<Origin, Rc<Upstream>>>,
}

impl Upstreams {
    /// None yet.
    pub fn new(shard: &Shard, dialer: Rc<Dialer>, settings: Settings) -> Upstreams {
        Upstreams { shard: shard.clone(), dialer, settings: Rc::new(settings), by_origin: RefCell::default() }
    }

    /// The shard that they are on.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The one for `origin`.
    pub fn of(&self, origin: Origin) -> Rc<Upstream> {
        let mut by_origin = self.by_origin.borrow_mut();
        let make = || Upstream::new(&self.shard, self.dialer.clone(), origin.clone(), self.settings.clone());
        by_origin.entry(origin.clone()).or_insert_with(make).clone()
    }

    /// All of them, by origin.
    pub fn all(&self) -> Vec<Rc<Upstream>> {
        self.by_origin.borrow().values().cloned().collect()
    }

    /// Closes connections that are not needed, and forgets upstreams that nobody can ask any more: those that discovery
    /// has lost, once their last call and connection have ended.
    pub fn sweep(&self) {
        self.by_origin.borrow_mut().retain(|_, upstream| Rc::strong_count(upstream) > 1);
        self.all().iter().for_each(|upstream| upstream.sweep());
    }
}

/// Their configuration is not in force any more and its last request has ended: nobody would sweep them.
impl Drop for Upstreams {
    fn drop(&mut self) {
        self.by_origin.get_mut().values().for_each(|upstream| upstream.retire());
    }
}
