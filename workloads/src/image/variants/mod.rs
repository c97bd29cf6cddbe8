//! Variants: what is made of a stored original when somebody asks for it, and kept for a while.
//!
//! ```text
//!   shard:       GET /v1/images/ORIGINAL/OPTIONS/sig:… ─► address ─► in the store? ─► answer
//!                                                                       │ no            ▲
//!                                                             header, cost, wish        │
//!                                                                       ▼               │
//!   dispatcher:                       counter: one making for all who ask the same ─► told
//!                                                                       ▼               ▲
//!   threads:                                              lane ─► store ─► cache: the oldest leave
//! ```
//!
//! The queue knows nothing of variants: nobody was promised one, so none has to survive a crash, and one that is lost is
//! made again. They run in the same lanes, within the same budget of bytes, and before the queue's works, because somebody
//! waits for each; but not so many in a row that the queue stands still.

pub mod address;
pub(in crate::image) mod answer;
pub mod cache;
pub mod counter;
pub mod settings;
pub mod sign;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus_engine::compute::{Reply, Ticket, ticket};
use crossbeam_channel::{Receiver, Sender, bounded};

pub use settings::VariantSettings;

use super::fault::Fault;
use super::format::Format;
use super::header::Header;
use super::pipeline::{self, Cost};
use super::purge::Held;
use super::recipe::Recipe;
use super::store::{Key, StoreError};
use cache::Cache;

/// Wishes on their way to the dispatcher, who takes them as they come. Beyond: 503.
const WISHES_MAX: usize = 1024;

/// A wish, and who waits for it.
pub type Call = (Wish, Ticket<Result<Made, Refused>>);

/// What shards and threads share of variants.
#[derive(Debug)]
pub struct Variants {
    /// How they are made and kept.
    pub settings: VariantSettings,
    /// What is kept.
    pub cache: Cache,
    /// What happened.
    pub figures: Figures,
    calls: Sender<Call>,
    taken: Receiver<Call>,
}

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Figures {
    /// Requests that found their variant made.
    pub found: AtomicU64,
    /// Variants made.
    pub made: AtomicU64,
    /// Requests that joined others who waited for the same.
    pub joined: AtomicU64,
    /// Requests refused because too many waited.
    pub refused: AtomicU64,
    /// Requests without a signature that counts, or too late.
    pub unsigned: AtomicU64,
    /// Variants that could not be made.
    pub failed: AtomicU64,
    /// Variants that wait to be made, now.
    pub waiting: AtomicU64,
}

/// A variant that is to be made.
#[derive(Debug)]
pub struct Wish {
    /// Where it will be.
    pub key: Key,
    /// What it is made of.
    pub original: Key,
    /// That one's length in bytes.
    pub len: u64,
    /// What its head said.
    pub header: Header,
    /// The one output.
    pub recipes: Arc<[Recipe]>,
    /// What it will take.
    pub cost: Cost,
    /// Keeps its original from being deleted meanwhile.
    pub(in crate::image) _entering: Option<Held>,
}

impl Wish {
    /// The wish for this output of an original.
    pub fn of(key: Key, original: Key, len: u64, header: Header, recipe: Recipe) -> Wish {
        let recipes: Arc<[Recipe]> = Arc::new([recipe]);
        let cost = pipeline::predict(&header, &recipes);
        Wish { key, original, len, header, recipes, cost, _entering: None }
    }
}

/// A variant that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it was encoded as.
    pub format: Format,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait; that long, probably.
    Busy(Duration),
    /// It cannot be made.
    Fault(Fault),
    /// It was made, and could not be stored.
    Store(StoreError),
}

impl Variants {
    /// With nobody who waits.
    pub fn new(settings: VariantSettings) -> Variants {
        let (calls, taken) = bounded(WISHES_MAX);
        let cache = Cache::new(settings.bytes_max, settings.kept);
        Variants { settings, cache, figures: Figures::default(), calls, taken }
    }

    /// Asks for a variant. The answer comes when it is in the store; `None` then: the service ends.
    pub fn ask(&self, wish: Wish) -> Reply<Result<Made, Refused>> {
        let (waiter, reply) = ticket();
        if let Err(error) = self.calls.try_send((wish, waiter)) {
            let (_, waiter) = error.into_inner();
            self.figures.refused.fetch_add(1, Ordering::Relaxed);
            waiter.answer(Err(Refused::Busy(Duration::from_secs(1))));
        }
        reply
    }

    /// What was asked, for the dispatcher.
    pub fn calls(&self) -> Receiver<Call> {
        self.taken.clone()
    }
}
