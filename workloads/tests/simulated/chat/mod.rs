//! The chat on a simulated kernel, disk and clock, between simulated clients, with faults from a seed.
//!
//! ```text
//!   Person (sim) ─► WebSocket ─► chat::serve::run on simulated shards ─► log on the simulated disk
//!        ▲              ╎ the process is killed, the power goes, or it is asked to end          │
//!        └── knows where it was, and goes on in the next life ◄── opened again from what is left ┘
//!   checked: every command is answered once; a subscriber sees every publication after its position once, in order;
//!            what was acknowledged is there after any restart, and at its place; what was told is never untold;
//!            at the end no client, subscription, task, timer, buffer, connection or descriptor is left
//! ```
//!
//! A seed lives through several lives of the process on one disk. The last one is without faults: in it everybody comes back, and
//! the histories are read. A run is a function of its seed, except for what the chat itself draws by chance (names of clients
//! and epochs, and the order of its hash tables).
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // The example adds nothing up.

mod book;
mod conn;
mod folder;
mod people;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulus::chat::Config;
use annulus::chat::config::Namespace;
use annulus::chat::node::Node;
use annulus::chat::serve;
use annulus_engine::driver::sim::{Faults, Random, World};
use annulus_engine::{JoinHandle, LocalShard};

use crate::lab::{self, IDLE_TURNS_MAX, address};
use book::{Book, Seen};
use folder::Folder;
use people::People;

const CHAT: &str = "10.0.0.1:8000";
/// Makes other lives of the same seeds than those of other services.
const LIVES: u64 = 0xc4a7;
/// Channels, and how many publications each keeps: a client that was away for more cannot recover.
const CHANNELS: [(&str, u64); 3] = [("long", 1000), ("room", 1000), ("short:room", 4)];
/// What may wait for a client: little, so that slow ones show, and in the last life all that there is.
const OUTBOX_BYTES_MAX: [usize; 2] = [16 << 10, 16 << 20];

type Lab = lab::Lab<Book>;

/// What a run did, to see that runs do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub seen: Seen,
    /// Turns that shards took.
    pub turns: usize,
}

impl Outcome {
    /// Adds another run's.
    pub fn add(&mut self, other: Outcome) {
        self.turns += other.turns;
        self.seen.add(other.seen);
    }
}

/// How a life of the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `kill -9`: what was written stays.
    Killed,
    /// What was not synced may be gone.
    PowerCut,
    /// As it is asked to: everybody is sent away, and the log is closed.
    Drained,
}

/// A run; `kept` has its world afterwards, for the trace.
///
/// # Panics
/// When anything is not as it should be; the report was printed then.
pub fn run(seed: u64, kept: &mut Option<World>) -> Outcome {
    lab::run((seed, LIVES), kept, run_in)
}

fn config(folder: &Folder, is_tight: bool) -> Config {
    let mut config = Config {
        listen: CHAT.parse().unwrap(),
        message_bytes_max: 4096,
        outbox_bytes_max: OUTBOX_BYTES_MAX[usize::from(!is_tight)],
        node_name: "simulated".to_owned(),
        ..Config::default()
    };
    config.client.insecure = Some(true);
    (config.client.history_max, config.client.recovery_max) = (100_000, 100_000);
    if !is_tight {
        // A window of a few bytes takes minutes for all that was missed, and a ping would wait behind it.
        config.client.ping_interval_ms = 0;
    }
    config.log.directory = Some(folder.path().to_owned());
    config.log.segment_bytes = 2 << 20;
    let kept = |name: &str| CHANNELS.iter().find(|(channel, _)| channel.starts_with(name)).unwrap().1 as usize;
    let namespace = Namespace { history_ttl_ms: 30 * 24 * 3600 * 1000, ..config.channels.default.clone() };
    config.channels.default = Namespace { history_size: kept("long"), ..namespace.clone() };
    config.channels.namespaces =
        vec![Namespace { name: "short".to_owned(), history_size: kept("short:"), ..namespace }];
    config
}

fn run_in(world: &World, faults: &Faults, mut random: Random) -> Outcome {
    let lives = random.between(1, 3);
    let limited = random.hit(100);
    // Descriptors that run out end connections, and files that cannot be opened are waited for.
    let faults = Faults { out_of_descriptors: faults.out_of_descriptors / 50, ..faults.clone() };
    let lab = Lab::new(world, &faults, random, limited);
    lab.book.borrow_mut().may_refuse = limited || faults.sync_fails + faults.disk_full + faults.out_of_descriptors > 0;
    lab.book.borrow_mut().is_tight = true;
    let folder = Folder::new();
    let (mut people, mut turns) = (People::new(&lab), 0);
    for _ in 0..lives {
        let life = Life::begin(&lab, &folder);
        life.live(&faults, limited, &mut people, &mut turns);
    }
    // The last life is a good one.
    lab.is_friendly();
    (lab.book.borrow_mut().may_refuse, lab.book.borrow_mut().is_tight) = (false, false);
    let life = Life::begin(&lab, &folder);
    life.end_well(&mut people, &mut turns);
    if let Err(why) = lab.book.borrow().check() {
        world.fail(why);
    }
    let seen = lab.book.borrow().seen.clone();
    Outcome { seen, turns }
}

/// One life of the process.
struct Life<'l> {
    lab: &'l Lab,
    folder: &'l Folder,
    shards: Vec<LocalShard>,
    running: Vec<JoinHandle<Result<(), String>>>,
}

impl<'l> Life<'l> {
    fn begin(lab: &'l Lab, folder: &'l Folder) -> Life<'l> {
        let (world, mut random) = (&lab.world, lab.fork());
        world.set_faults(Faults::default());
        world.set_sleep_max(Duration::from_millis(2));
        let (shards, buffers) = lab::shards(world, &mut random);
        world.note("a life begins", [shards.len() as i64, buffers as i64, 0]);
        // Opening happens before shards run, on the machine's own disk.
        let node = Node::open(config(folder, lab.book.borrow().is_tight), shards.len()).unwrap_or_else(|why| {
            world.fail(&why);
            panic!("{why}")
        });
        world.set_files(folder.read());
        let run = |shard: &LocalShard| shard.shard().spawn(serve::run(shard.shard(), Arc::clone(&node)));
        let running = shards.iter().map(run).collect();
        Life { lab, folder, shards, running }
    }

    /// A life among faults.
    fn live(mut self, faults: &Faults, limited: bool, people: &mut People, turns: &mut usize) {
        let (lab, world) = (self.lab, &self.lab.world);
        world.set_faults(faults.clone());
        if limited {
            world.set_descriptors_max(14 + lab.below(20));
        }
        for _ in 0..60 + lab.below(250) {
            people.act();
            lab.take_turns(&mut self.shards, turns);
        }
        world.set_faults(Faults { reset: 0, clock_jump: 0, out_of_descriptors: 0, ..faults.clone() });
        world.set_descriptors_max(1 << 16);
        if lab.hit(500) {
            self.settle(people, turns);
        }
        let end = [End::Killed, End::PowerCut, End::Drained][lab.below(3)];
        self.end(end, people, turns);
    }

    /// Lets everybody get what they asked for, and go; looks for what is left then.
    fn settle(&mut self, people: &mut People, turns: &mut usize) {
        let (lab, world) = (self.lab, &self.lab.world);
        world.note("finishing", [0; 3]);
        if !lab.finish(&mut self.shards, turns, || people.finish()) {
            world.fail(format!("stuck: {:?}", people.waiting()));
        }
        // Who was let go is forgotten, and what waits for clients is counted every five seconds.
        let mut left = Vec::new();
        for _ in 0..IDLE_TURNS_MAX {
            left = self.left();
            if left.is_empty() {
                return;
            }
            lab.take_turns(&mut self.shards, turns);
        }
        world.fail(format!("left after everybody has gone: {left:?}"));
    }

    /// Which of the figures that go to zero have not.
    fn left(&self) -> Vec<(&'static str, u64)> {
        const FIGURES: [&str; 5] = [
            "annulus_chat_clients",
            "annulus_chat_users",
            "annulus_chat_subscriptions",
            "annulus_chat_unsettled",
            "annulus_chat_outbound_bytes",
        ];
        let shard = self.shards[0].shard();
        let all = shard.all_metrics();
        let sum = |name| all.iter().map(|metrics| metrics.gauge(name, "").get()).sum();
        let figures = FIGURES.iter().map(|name| (*name, sum(name)));
        let connections = all.iter().map(|metrics| metrics.connections.get()).sum();
        figures.chain([("connections", connections)]).filter(|(_, left)| *left > 0).collect()
    }

    /// Everybody comes back, gets what was missed, and goes; then the histories are read, and the process is asked to end.
    fn end_well(mut self, people: &mut People, turns: &mut usize) {
        let mut patience = IDLE_TURNS_MAX;
        while self.lab.world.connect(&address(CHAT)).is_err() {
            self.lab.take_turns(&mut self.shards, turns);
            patience -= 1;
            if patience == 0 {
                self.lab.world.fail("the chat does not begin");
            }
        }
        people.come_back();
        self.settle(people, turns);
        people.read_histories();
        self.settle(people, turns);
        self.end(End::Drained, people, turns);
    }

    fn end(mut self, how: End, people: &mut People, turns: &mut usize) {
        let (lab, world) = (self.lab, &self.lab.world);
        world.note("a life ends", [how as i64, 0, 0]);
        if how == End::Drained {
            self.shards[0].shard().drain();
            let running = &self.running;
            let drained = lab.finish(&mut self.shards, turns, || {
                people.hear_farewells();
                running.iter().all(JoinHandle::is_finished)
            });
            if !drained {
                world.fail("the chat does not end when it is asked to");
            }
            let results = self.running.drain(..).map(ended);
            if let Some(why) = results.filter_map(Result::err).find(|_| !lab.book.borrow().may_refuse) {
                world.fail(why);
            }
        }
        people.are_cut_off();
        let shard = self.shards[0].shard();
        let slow = shard
            .all_metrics()
            .iter()
            .map(|metrics| metrics.counter("annulus_chat_slow_clients_total", "").get() as usize);
        lab.book.borrow_mut().seen.slow += slow.sum::<usize>();
        lab::close(world, self.shards, self.running, ());
        if how == End::PowerCut {
            world.power_cut();
        }
        self.folder.write(world.files(), how == End::PowerCut);
    }
}

/// What a task that is finished has said.
fn ended(task: JoinHandle<Result<(), String>>) -> Result<(), String> {
    match std::pin::pin!(task).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(said)) => said,
        Poll::Ready(Err(_)) => Err("the chat's task panicked".to_owned()),
        Poll::Pending => Err("the chat's task goes on".to_owned()),
    }
}
