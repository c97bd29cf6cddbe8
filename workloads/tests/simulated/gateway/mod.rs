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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus::gateway::config::{LoadOptions, Syntax, load_text};
use annulus::gateway::reload::Editions;
use annulus::gateway::service::{self, Edition};
use annulus_engine::driver::sim::{Faults, Random, World};

use crate::lab::{self, IDLE_TURNS_MAX};
use clients::Clients;
use services::Services;

const GATEWAY: &str = "10.0.0.1:8080";
/// Makes other lives of the same seeds than those of other services.
const LIVES: u64 = 0x6a7e;

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
    /// Requests that were refused, so that they may be asked again.
    pub refused: usize,
    /// Turns that shards took.
    pub turns: usize,
}

/// How often each service acted on each id.
type Acted = BTreeMap<(u8, u64), usize>;
type Lab = lab::Lab<Acted>;

/// A run; `kept` has its world afterwards, for the trace.
///
/// # Panics
/// When anything is not as it should be; the report was printed then.
pub fn run(seed: u64, kept: &mut Option<World>) -> Outcome {
    lab::run((seed, LIVES), kept, run_in)
}

fn run_in(world: &World, faults: &Faults, mut random: Random) -> Outcome {
    let (mut shards, buffers) = lab::shards(world, &mut random);
    let (midst, limited) = (random.hit(300), random.hit(100));
    let lab = Lab::new(world, faults, random, limited);
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
        lab.take_turns(&mut shards, &mut turns);
    }
    world.set_faults(Faults { reset: 0, clock_jump: 0, out_of_descriptors: 0, ..faults.clone() });
    world.set_descriptors_max(1 << 16);
    if !midst {
        world.note("finishing", [buffers as i64, 0, 0]);
        let finished = lab.finish(&mut shards, &mut turns, || {
            let done = clients.finish();
            services.act();
            done
        });
        if !finished {
            let open: Vec<u64> = shards[0].shard().all_metrics().iter().map(|it| it.connections.get()).collect();
            let (services, clients) = (services.waiting(), clients.waiting());
            world.fail(format!("stuck with {open:?} connections by shard, {services}; {clients:?}"));
        }
        // What was kept has gone when it is too old, and what was under way for clients that left.
        world.advance(Duration::from_secs(120));
        for _ in 0..IDLE_TURNS_MAX {
            if memory.figures().0 == 0 {
                break;
            }
            services.act();
            lab.take_turns(&mut shards, &mut turns);
        }
        if memory.figures().0 != 0 {
            world.fail(format!("{} bytes of answers are held after the last one has gone", memory.figures().0));
        }
    }
    for ((service, id), times) in &*lab.book.borrow() {
        if services::ORDERS.contains(service) && *times > 1 {
            world.fail(format!("order {id} was carried out {times} times"));
        }
    }
    world.note("closing", [midst as i64, 0, 0]);
    let clients::Seen { answers, cut, refused, mistaken, .. } = std::mem::take(&mut clients.seen);
    lab::close(world, shards, running, (clients, services));
    Outcome { answers, mistaken, cut, refused, turns }
}
