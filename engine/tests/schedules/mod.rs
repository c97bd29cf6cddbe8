//! Random schedules: a shard with servers and clients on a simulated kernel, random peers, random faults.
//!
//! ```text
//!   seed ─► faults, sizes, script      per step: peers act at random, the shard takes one turn
//!   then, by the seed's choice:        all peers finish and everything must come to its end
//!                                  or  the shard is closed in the midst of it
//!   at last:                           nothing may be left: connections, tasks, timers, buffers, descriptors
//! ```
//!
//! A run is a function of its seed. What is checked beyond the kernel's own invariants: echoes are exact and, if
//! nobody interfered, complete; broadcasts come without a gap; uploads arrive as they were sent; timers are never
//! early; dropping a future at any moment loses nothing.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod peers;
mod servers;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::driver::Address;
use annulus_engine::driver::sim::{Faults, Random, World};
use annulus_engine::{JoinHandle, LocalShard, Shard};

use peers::Crowd;

/// Turns without any progress after which a schedule in which everyone wants to finish is stuck.
const IDLE_TURNS_MAX: usize = 5_000;

/// Most shards of a schedule.
const SHARDS_MAX: usize = 3;

/// What a schedule did, to compare runs and to see that schedules do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of all that happened.
    pub hash: u64,
    /// Turns the shard took.
    pub turns: usize,
    /// Peers' connections that ended as they should, with every byte.
    pub completed: usize,
}

/// Letters sent and received, by sender and receiver.
type Letters = [[(u64, u64); SHARDS_MAX]; SHARDS_MAX];

/// What all parts of one schedule share.
#[derive(Clone)]
pub struct Lab {
    world: World,
    shard: Shard,
    random: Rc<RefCell<Random>>,
    /// Servers may close at any time, for no reason.
    abrupt: bool,
    /// Nothing in this schedule keeps an exchange from being complete but resets, which are seen.
    complete: bool,
    /// The active phase is over: client tasks start nothing new.
    finishing: Rc<Cell<bool>>,
    /// Connections whose reader waits for all others to be gone.
    sleepers: Rc<Cell<usize>>,
    /// By sender and receiver: letters posted and letters that came.
    letters: Rc<RefCell<Letters>>,
}

/// Reports a task's panic, which would otherwise only end the task.
struct Alarm(World);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a task panicked");
        }
    }
}

impl Lab {
    fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    fn hit(&self, permille: u16) -> bool {
        self.random.borrow_mut().hit(permille)
    }

    fn spawn(&self, future: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let alarm = Alarm(self.world.clone());
        self.shard.spawn(async move {
            let _alarm = alarm;
            future.await;
        })
    }

    /// Connections of all shards.
    fn connections(&self) -> usize {
        self.shard.all_metrics().iter().map(|metrics| metrics.connections.get() as usize).sum()
    }

    fn millis(&self, most: usize) -> Duration {
        Duration::from_millis(self.below(most + 1) as u64)
    }
}

/// The bytes of stream `key`, from `offset` on: different everywhere, so that no mix-up goes unseen.
pub fn pattern(key: u64, offset: u64) -> impl Iterator<Item = u8> {
    (offset..).map(move |at| {
        let word = (at ^ key.wrapping_mul(0x9e37_79b9)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        (word >> 29) as u8
    })
}

/// Where the servers listen.
pub struct Addresses {
    echo_group: Option<Address>,
    adopting: Option<Address>,
    echo_stream: Option<Address>,
    sleepy: Option<Address>,
    broadcast: Option<Address>,
    upload: Option<Address>,
    shared: Option<Address>,
    remote: Address,
}

/// Runs one schedule. Its world stays in `kept`, for the trace.
///
/// # Panics
/// When anything is not as it should be; the report was printed then.
pub fn run(seed: u64, kept: &mut Option<World>) -> Outcome {
    let mut random = Random::new(seed ^ 0x5eed);
    let faults = Faults::random(&mut random);
    let world = World::new(seed, faults.clone());
    *kept = Some(world.clone());
    let schedule = AssertUnwindSafe(|| run_in(&world, faults, random));
    match catch_unwind(schedule) {
        Ok(outcome) => outcome,
        Err(payload) => {
            if world.failure().is_none() {
                // The shard itself panicked: give that a report too.
                let report = catch_unwind(AssertUnwindSafe(|| world.fail("the shard panicked")));
                drop(report);
            }
            std::panic::resume_unwind(payload)
        }
    }
}

fn run_in(world: &World, faults: Faults, mut random: Random) -> Outcome {
    let buffers = *random.pick(&[2, 3, 8, 64]).expect("not empty");
    let count = *random.pick(&[1, 1, 1, 2, SHARDS_MAX]).expect("not empty");
    let mut shards = LocalShard::mesh((0..count).map(|_| Box::new(world.driver(buffers)) as _).collect());
    let (abrupt, midst, limited) = (random.hit(300), random.hit(300), random.hit(100));
    if limited {
        world.set_descriptors_max(random.between(8, 20));
    }
    let first = Lab {
        world: world.clone(),
        shard: shards[0].shard(),
        complete: !abrupt && faults.out_of_descriptors == 0 && !limited,
        abrupt,
        random: Rc::new(RefCell::new(random)),
        finishing: Rc::default(),
        sleepers: Rc::default(),
        letters: Rc::default(),
    };
    let labs: Vec<Lab> = shards.iter().map(|shard| Lab { shard: shard.shard(), ..first.clone() }).collect();
    let mut crowd = Crowd::new(&first, servers::start(&labs));
    let mut turns = 0;
    for _ in 0..50 + first.below(150) {
        crowd.act();
        take_turns(&first, &mut shards, &mut turns);
    }
    first.finishing.set(true);
    world.set_faults(Faults { reset: 0, clock_jump: 0, out_of_descriptors: 0, ..faults });
    world.set_descriptors_max(1 << 16);
    if !midst {
        world.note("finishing", [0; 3]);
        finish(&labs, &mut crowd, &mut shards, &mut turns);
    }
    world.note("closing", [midst as i64, 0, 0]);
    let completed = crowd.completed();
    drop((crowd, first, labs));
    close(world, shards);
    Outcome { hash: world.trace_hash(), turns, completed }
}

/// Every shard takes a turn, or some do.
fn take_turns(lab: &Lab, shards: &mut [LocalShard], turns: &mut usize) {
    let all = shards.len() == 1 || lab.hit(500);
    for shard in shards {
        if !all && lab.hit(400) {
            continue;
        }
        *turns += 1;
        if let Err(error) = shard.turn(true) {
            lab.world.fail(format!("a turn failed: {error}"));
        }
        if let Some(why) = lab.world.failure() {
            panic!("{why}");
        }
    }
}

/// Lets every exchange come to its end, which it must.
fn finish(labs: &[Lab], crowd: &mut Crowd, shards: &mut [LocalShard], turns: &mut usize) {
    let lab = &labs[0];
    lab.world.set_sleep_max(Duration::from_millis(20));
    let (mut idle, mut before) = (0, 0);
    while idle < IDLE_TURNS_MAX {
        let done = crowd.finish();
        take_turns(lab, shards, turns);
        let arrived = lab.letters.borrow().iter().flatten().all(|(posted, came)| posted == came);
        if done && arrived && lab.connections() == 0 {
            return;
        }
        let now = lab.world.deliveries();
        idle = if now == before { idle + 1 } else { 0 };
        before = now;
    }
    let (waiting, connections) = (crowd.waiting(), lab.connections());
    let letters = lab.letters.borrow();
    lab.world.fail(format!("stuck: {connections} connections of the shards, peers {waiting:?}, letters {letters:?}"));
}

fn close(world: &World, mut shards: Vec<LocalShard>) {
    world.set_sleep_max(Duration::from_millis(1));
    for shard in &mut shards {
        if let Err(error) = shard.close(Duration::from_secs(30)) {
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
