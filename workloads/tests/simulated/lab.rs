//! What lives of all services have in common: a world, chance, the turns of shards, the report, and the end.
//!
//! A service runs whole on simulated shards ([`annulus_engine::driver::sim`]); what it talks with are simulated peers, moved
//! between the shards' turns. Nothing that they do asks the machine's clock: time is the world's.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each program uses a part of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::driver::Address;
use annulus_engine::driver::sim::{Faults, Random, World};
use annulus_engine::{JoinHandle, LocalShard};

/// Turns without progress after which a run in which everybody wants to finish is stuck.
pub const IDLE_TURNS_MAX: usize = 20_000;
/// Most shards of a run.
const SHARDS_MAX: usize = 3;
/// How long a service's patience with a slow peer lasts at least: the gateway's, with a client that takes next to nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What all parts of a run share; `B` is what only those of its service do.
pub struct Lab<B> {
    pub world: World,
    random: Rc<RefCell<Random>>,
    /// Whether connections may end without anybody's doing.
    hostile: Rc<Cell<bool>>,
    pub book: Rc<RefCell<B>>,
}

impl<B> Clone for Lab<B> {
    fn clone(&self) -> Lab<B> {
        let Lab { world, random, hostile, book } = self;
        Lab { world: world.clone(), random: random.clone(), hostile: hostile.clone(), book: book.clone() }
    }
}

impl<B: Default> Lab<B> {
    /// Of a run in `world` with these faults, in which descriptors are limited or not.
    pub fn new(world: &World, faults: &Faults, random: Random, limited: bool) -> Lab<B> {
        let cuts = [faults.reset, faults.out_of_descriptors, faults.clock_jump, faults.accept_aborted];
        let hostile = limited || cuts.iter().any(|&permille| permille > 0);
        Lab {
            world: world.clone(),
            random: Rc::new(RefCell::new(random)),
            hostile: Rc::new(Cell::new(hostile)),
            book: Rc::default(),
        }
    }
}

impl<B> Lab<B> {
    /// A number below `end`.
    pub fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    /// Yes, so many times out of a thousand.
    pub fn hit(&self, permille: u16) -> bool {
        self.random.borrow_mut().hit(permille)
    }

    /// Chance of its own for a part of the run.
    pub fn fork(&self) -> Random {
        Random::new(self.random.borrow_mut().bits())
    }

    /// Milliseconds of the world's clock, for protocol machines.
    pub fn now_ms(&self) -> u64 {
        self.world.now().as_millis() as u64
    }

    /// From now on no connection ends without anybody's doing.
    pub fn is_friendly(&self) {
        self.hostile.set(false);
    }

    /// Whether a connection that began at `since` may end with an answer owed: in a world that cuts connections, and where it
    /// took longer than a service's patience with a slow peer lasts.
    pub fn may_cut(&self, since: Duration, patience: Duration) -> bool {
        self.hostile.get() || self.world.now() > since + patience
    }

    /// Every shard takes a turn.
    ///
    /// # Panics
    /// When a turn fails, or an invariant was broken within a task, where the panic was caught.
    pub fn take_turns(&self, shards: &mut [LocalShard], turns: &mut usize) {
        for shard in shards {
            *turns += 1;
            if let Err(error) = shard.turn(true) {
                self.world.fail(format!("a turn failed: {error}"));
            }
            if let Some(why) = self.world.failure() {
                panic!("{why}");
            }
        }
    }

    /// Turns until `act`, which moves everybody else, says that all is done. Whether it did before nothing moved any more.
    pub fn finish(&self, shards: &mut [LocalShard], turns: &mut usize, mut act: impl FnMut() -> bool) -> bool {
        self.world.set_sleep_max(Duration::from_millis(20));
        let (mut idle, mut before) = (0, 0);
        while idle < IDLE_TURNS_MAX {
            let done = act();
            self.take_turns(shards, turns);
            if done {
                return true;
            }
            let now = self.world.deliveries();
            idle = if now == before { idle + 1 } else { 0 };
            before = now;
        }
        false
    }
}

/// The address that a text names.
pub fn address(text: &str) -> Address {
    Address::Ip(text.parse::<SocketAddr>().unwrap())
}

/// A run; `kept` has its world afterwards, for the trace. `service` makes the seeds of one service other lives than those of
/// the next.
///
/// # Panics
/// When anything is not as it should be; the report was printed then.
pub fn run<T>(
    (seed, service): (u64, u64),
    kept: &mut Option<World>,
    live: impl FnOnce(&World, &Faults, Random) -> T,
) -> T {
    let mut random = Random::new(seed ^ service);
    let faults = Faults::random(&mut random);
    let world = World::new(seed, faults.clone());
    *kept = Some(world.clone());
    let whole = AssertUnwindSafe(|| live(&world, &faults, random));
    catch_unwind(whole).unwrap_or_else(|payload| {
        if world.failure().is_none() {
            let report = catch_unwind(AssertUnwindSafe(|| world.fail("the service or its test panicked")));
            drop(report);
        }
        std::panic::resume_unwind(payload)
    })
}

/// The shards of a run, and how many buffers each has.
pub fn shards(world: &World, random: &mut Random) -> (Vec<LocalShard>, usize) {
    let count = *random.pick(&[1, 1, 2, SHARDS_MAX]).unwrap();
    let buffers = *random.pick(&[2, 8, 64]).unwrap();
    (LocalShard::mesh((0..count).map(|_| Box::new(world.driver(buffers)) as _).collect()), buffers)
}

/// The end of a run, in the midst or not: `running` is stopped where it is, `crowd` goes, and nothing must be left.
pub fn close<T, C>(world: &World, mut shards: Vec<LocalShard>, running: Vec<JoinHandle<T>>, crowd: C) {
    world.set_sleep_max(Duration::from_millis(1));
    if let Some(panics) =
        shards.iter().map(|shard| shard.shard().metrics().task_panics.get()).find(|panics| *panics > 0)
    {
        world.fail(format!("{panics} tasks panicked"));
    }
    drop((running, crowd));
    for shard in &mut shards {
        if let Err(error) = shard.close(Duration::from_secs(60)) {
            world.fail(format!("closing failed: {error}"));
        }
    }
    for shard in &shards {
        let residue = shard.residue();
        if residue != [0; 5] {
            world.fail(format!("left (connections, tasks, timers, chunks, buffers): {residue:?}"));
        }
    }
    drop(shards);
    world.finish();
}
