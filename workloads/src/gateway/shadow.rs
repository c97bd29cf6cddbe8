//! Copies of requests for backends that nobody gets an answer of (`proxy.shadow`): to see how they bear it.
//!
//! The request never waits for one, and neither does its client's next: a copy has its own time, its own memory, and is left out
//! where there are too many, or too much to do.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;

use super::backend::{Asking, Ready};
use super::memory::{Held, Memory, Tab};
use super::shed::Level;

/// Copies of one backend's that are under way on one shard. Beyond: requests have no copy.
const UNDER_WAY_MAX: usize = 64;
/// Bytes of bodies that those hold. Beyond: likewise.
const BODIES_BYTES_MAX: u64 = 16 << 20;

/// A backend that gets copies, on one shard.
pub struct Shadow {
    /// The backend.
    pub ready: Rc<Ready>,
    /// How long it has for its answer.
    within: Duration,
    under_way: Cell<usize>,
    /// Apart from clients' own: a slow shadow must not take what they may have.
    bodies: Arc<Tab>,
    skipped: Arc<Counter>,
}

/// A copy under way; counts itself out when it is dropped.
struct UnderWay(Rc<Shadow>);

impl UnderWay {
    fn begin(shadow: &Rc<Shadow>) -> UnderWay {
        shadow.under_way.set(shadow.under_way.get() + 1);
        UnderWay(shadow.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

impl Shadow {
    /// A backend whose copies' bodies are held in `memory`. `named` is what metrics call the endpoint and it.
    pub fn new(
        shard: &Shard,
        named: (&str, &str),
        ready: Rc<Ready>,
        within: Duration,
        memory: &Arc<Memory>,
    ) -> Rc<Shadow> {
        let skipped = shard.metrics().counter_with(
            "annulus_gateway_shadow_skipped_total",
            "Requests that a shadow backend got no copy of.",
            &[("endpoint", named.0), ("backend", named.1)],
        );
        Rc::new(Shadow { ready, within, under_way: Cell::new(0), bodies: Tab::new(memory), skipped })
    }

    /// Sends a copy of a request on its way, if there is room for one.
    pub fn copy(self: &Rc<Self>, asking: &Asking<'_>) {
        let len = self.ready.body_of(asking.request).map_or(0, <[u8]>::len);
        let mut held = Held::none(&self.bodies);
        let has_room = asking.level == Level::Calm
            && self.under_way.get() < UNDER_WAY_MAX
            && self.bodies.taken() + len as u64 <= BODIES_BYTES_MAX
            && held.grow_to(len).is_ok();
        // One that cannot be asked, because of what its path is made of, has no copy either.
        let question = has_room.then(|| self.ready.question(asking).ok()).flatten();
        let Some(question) = question else { return self.skipped.add(1) };
        let (shard, under_way) = (asking.shard.clone(), UnderWay::begin(self));
        drop(asking.shard.spawn(async move {
            // Whole, so that the task owns it: a closure may capture fields.
            let (under_way, _held) = (under_way, held);
            let shadow = &under_way.0;
            shadow.ready.ask_in_vain(&shard, &question, shadow.within).await;
        }));
    }
}
