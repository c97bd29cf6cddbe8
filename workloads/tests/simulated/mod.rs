//! The gateway on a simulated kernel and clock, between simulated clients and services, with faults from a seed.
//!
//! ```text
//!   Client (sim) ─► gateway::service::run on simulated shards ─► Service (sim): answers, stalls, breaks off, lies
//!   checked: every request is answered once, with its own data; what must not be repeated is not;
//!            at the end no memory of answers, no task, timer, buffer, connection or descriptor is left
//! ```
//!
//! A run is a function of its seed, except for what the gateway itself draws by chance (request ids, jitter of retries).
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod asked;
mod clients;
mod services;
mod streams;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus::gateway::config::{LoadOptions, Syntax, load_text};
use annulus::gateway::reload::Editions;
use annulus::gateway::service::{self, Edition};
use annulus_engine::driver::Address;
use annulus_engine::driver::sim::{Faults, Random, World};
use annulus_engine::{JoinHandle, LocalShard};

use clients::Clients;
use services::Services;

const GATEWAY: &str = "10.0.0.1:8080";
/// Turns without progress after which a run in which everybody wants to finish is stuck.
const IDLE_TURNS_MAX: usize = 20_000;
/// Most shards of a run.
const SHARDS_MAX: usize = 3;

/// Who answers how. The name of a service is the last number of its address.
const CONFIG: &str = r#"{
  "version": 3, "port": 8080, "listen_ip": "10.0.0.1", "timeout": "900ms",
  "use_h2c": true, "idle_timeout": "3600s", "read_header_timeout": "3600s", "max_shutdown_wait_time": "20s",
  "extra_config": { "router": { "disable_access_log": true }, "annulus": { "compat": "annulus", "memory_bytes_max": 16777216 } },
  "endpoints": [
    { "endpoint": "/one/{id}", "backend": [ { "host": ["http://10.0.1.1:80"], "url_pattern": "/{id}" } ] },
    { "endpoint": "/both/{id}", "backend": [
      { "host": ["http://10.0.1.1:80"], "url_pattern": "/{id}", "group": "first" },
      { "host": ["http://10.0.1.2:80"], "url_pattern": "/{id}", "group": "second" } ] },
    { "endpoint": "/again/{id}", "backend": [ { "host": ["http://10.0.1.2:80"], "url_pattern": "/{id}",
      "extra_config": { "annulus": { "retry": { "attempts": 3 }, "hedge": { "after": "40ms", "budget": 0.5 } } } } ] },
    { "endpoint": "/order/{id}", "method": "POST", "backend": [ { "host": ["http://10.0.1.3:80"], "url_pattern": "/{id}",
      "method": "POST", "extra_config": { "annulus": { "retry": { "attempts": 3 } } } } ] },
    { "endpoint": "/streams/{id}", "backend": [ { "host": ["http://10.0.1.4:80"], "url_pattern": "/{id}",
      "extra_config": { "annulus": { "protocol": "h2c", "retry": { "attempts": 2 } } } } ] },
    { "endpoint": "/stream-order/{id}", "method": "POST", "backend": [ { "host": ["http://10.0.1.5:80"],
      "url_pattern": "/{id}", "method": "POST",
      "extra_config": { "annulus": { "protocol": "h2c", "retry": { "attempts": 3 } } } } ] },
    { "endpoint": "/raw/{id}", "output_encoding": "no-op", "backend": [
      { "host": ["http://10.0.1.1:80"], "url_pattern": "/{id}", "encoding": "no-op" } ] },
    { "endpoint": "/kept/{id}", "backend": [ { "host": ["http://10.0.1.2:80"], "url_pattern": "/{id}",
      "extra_config": { "qos/http-cache": {},
        "qos/circuit-breaker": { "interval": 1, "timeout": 1, "max_errors": 4 } } } ] }
  ]
}"#;

/// What a run did, to see that runs do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Answers by what was asked for and by status.
    pub answers: BTreeMap<(&'static str, u16), usize>,
    /// Answers that nobody had asked for, taken for answers.
    pub mistaken: usize,
    /// Requests of which nobody can say what became of them: their connection was cut.
    pub cut: usize,
    /// Turns that shards took.
    pub turns: usize,
}

/// What all parts of a run share.
#[derive(Clone)]
struct Lab {
    world: World,
    random: Rc<RefCell<Random>>,
    /// Whether connections may end without anybody's doing.
    hostile: bool,
    /// How often each service acted on each id.
    acted: Rc<RefCell<BTreeMap<(u8, u64), usize>>>,
}

impl Lab {
    fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    fn hit(&self, permille: u16) -> bool {
        self.random.borrow_mut().hit(permille)
    }
}

fn address(text: &str) -> Address {
    Address::Ip(text.parse::<SocketAddr>().unwrap())
}

/// A run; `kept` has its world afterwards, for the trace.
///
/// # Panics
/// When anything is not as it should be; the report was printed then.
pub fn run(seed: u64, kept: &mut Option<World>) -> Outcome {
    let mut random = Random::new(seed ^ 0x6a7e);
    let faults = Faults::random(&mut random);
    let world = World::new(seed, faults.clone());
    *kept = Some(world.clone());
    let whole = AssertUnwindSafe(|| run_in(&world, &faults, random));
    catch_unwind(whole).unwrap_or_else(|payload| {
        if world.failure().is_none() {
            let report = catch_unwind(AssertUnwindSafe(|| world.fail("the gateway or its test panicked")));
            drop(report);
        }
        std::panic::resume_unwind(payload)
    })
}

fn run_in(world: &World, faults: &Faults, mut random: Random) -> Outcome {
    let count = *random.pick(&[1, 1, 2, SHARDS_MAX]).unwrap();
    let buffers = *random.pick(&[2, 8, 64]).unwrap();
    let mut shards = LocalShard::mesh((0..count).map(|_| Box::new(world.driver(buffers)) as _).collect());
    let (midst, limited) = (random.hit(300), random.hit(100));
    let cuts = [faults.reset, faults.out_of_descriptors, faults.clock_jump, faults.accept_aborted];
    let hostile = limited || cuts.iter().any(|&permille| permille > 0);
    let lab = Lab { world: world.clone(), random: Rc::new(RefCell::new(random)), hostile, acted: Rc::default() };
    let loaded = load_text("simulated.json", Syntax::Json, CONFIG, &LoadOptions::default());
    let (gateway, _) = loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let edition = Edition::load(gateway).unwrap();
    let memory = edition.memory.clone();
    let editions = Editions::new(edition);
    let mut services = Services::new(&lab);
    let running: Vec<_> =
        shards.iter().map(|shard| shard.shard().spawn(service::run(shard.shard(), Arc::clone(&editions)))).collect();
    let mut clients = Clients::new(&lab);
    if limited {
        world.set_descriptors_max(12 + lab.below(20));
    }
    let mut turns = 0;
    for _ in 0..80 + lab.below(250) {
        clients.act();
        services.act();
        take_turns(&lab, &mut shards, &mut turns);
    }
    world.set_faults(Faults { reset: 0, clock_jump: 0, out_of_descriptors: 0, ..faults.clone() });
    world.set_descriptors_max(1 << 16);
    if !midst {
        world.note("finishing", [buffers as i64, 0, 0]);
        finish(&lab, (&mut clients, &mut services), &mut shards, &mut turns);
        // What was kept has gone when it is too old, and what was under way for clients that left.
        world.advance(Duration::from_secs(120));
        for _ in 0..IDLE_TURNS_MAX {
            if memory.figures().0 == 0 {
                break;
            }
            services.act();
            take_turns(&lab, &mut shards, &mut turns);
        }
        if memory.figures().0 != 0 {
            world.fail(format!("{} bytes of answers are held after the last one has gone", memory.figures().0));
        }
    }
    for ((service, id), times) in &*lab.acted.borrow() {
        if services::ORDERS.contains(service) && *times > 1 {
            world.fail(format!("order {id} was carried out {times} times"));
        }
    }
    world.note("closing", [midst as i64, 0, 0]);
    let (answers, cut, mistaken) = (clients.seen.answers.clone(), clients.seen.cut, clients.seen.mistaken);
    close(world, shards, running, (clients, services));
    Outcome { answers, mistaken, cut, turns }
}

fn take_turns(lab: &Lab, shards: &mut [LocalShard], turns: &mut usize) {
    for shard in shards {
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
fn finish(lab: &Lab, (clients, services): (&mut Clients, &mut Services), shards: &mut [LocalShard], turns: &mut usize) {
    lab.world.set_sleep_max(Duration::from_millis(20));
    let (mut idle, mut before) = (0, 0);
    while idle < IDLE_TURNS_MAX {
        let done = clients.finish();
        services.act();
        take_turns(lab, shards, turns);
        if done {
            return;
        }
        let now = lab.world.deliveries();
        idle = if now == before { idle + 1 } else { 0 };
        before = now;
    }
    let open: Vec<u64> = shards[0].shard().all_metrics().iter().map(|metrics| metrics.connections.get()).collect();
    lab.world.fail(format!(
        "stuck with {open:?} connections by shard, {}; {:?}",
        services.waiting(),
        clients.waiting()
    ));
}

fn close(
    world: &World,
    mut shards: Vec<LocalShard>,
    running: Vec<JoinHandle<Result<(), String>>>,
    crowd: (Clients, Services),
) {
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
