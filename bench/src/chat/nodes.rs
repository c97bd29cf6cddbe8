//! Several nodes of the chat around one Redis, all on this machine: what a node adds, and what a publication costs the
//! processor and Redis.

use super::config::Chat;
use super::deliver::{account, load, times, warm_up};
use super::fleet::Fleet;
use super::{Folder, Options};
use crate::process::Server;
use crate::process::redis::Redis;
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use std::net::SocketAddr;

/// Nodes around a Redis, each with a log of its own.
pub struct Nodes {
    /// What they share.
    pub redis: Redis,
    /// They themselves; `None` while one is being started again.
    pub servers: Vec<Option<Server>>,
    texts: Vec<String>,
    /// Where they are, for as long as the run lasts.
    pub addresses: Vec<SocketAddr>,
}

impl Nodes {
    /// Starts so many; their channels keep everything if `keeps_all`.
    ///
    /// # Errors
    /// A sentence: something does not start.
    pub fn start(options: &Options, folder: &Folder, count: usize, keeps_all: bool) -> Result<Nodes, String> {
        let redis = Redis::start(&folder.path().join(format!("redis-{count}")))?;
        let mut nodes = Nodes { redis, servers: Vec::new(), texts: Vec::new(), addresses: Vec::new() };
        let url = nodes.redis.url();
        for number in 0..count {
            let log = folder.path().join(format!("node-{count}-{number}")).join("log");
            let chat = Chat { keeps_all, broker: Some(&url), ..options.chat(&log, None) };
            nodes.texts.push(chat.text());
            let server = Server::start_chat(&nodes.texts[number], None)?;
            nodes.addresses.push(server.address);
            nodes.servers.push(Some(server));
        }
        Ok(nodes)
    }

    /// Kills a node; it is not there until [`Nodes::start_again`].
    pub fn kill(&mut self, number: usize) {
        drop(self.servers[number].take());
    }

    /// Starts a node where it was.
    ///
    /// # Errors
    /// A sentence: it does not start.
    pub fn start_again(&mut self, number: usize) -> Result<(), String> {
        crate::process::wait_until_free(self.addresses[number])?;
        self.servers[number] = Some(Server::start_chat(&self.texts[number], Some(self.addresses[number]))?);
        Ok(())
    }

    fn cpu_s(&self) -> Result<f64, String> {
        self.servers.iter().flatten().map(|server| Ok(Sample::of(server.pid())?.cpu_s)).sum()
    }
}

/// The same load on one node, two, and so on up to `nodes`.
///
/// # Errors
/// A sentence: something could not be started, or is gone.
pub fn scaling(settings: &Settings, options: &Options, nodes: usize) -> Result<Vec<Row>, String> {
    let folder = Folder::new(options.asked.directory.as_deref())?;
    let mut rows = Vec::new();
    for count in 1..=nodes.max(1) {
        rows.extend(measure(settings, options, &folder, count)?);
    }
    Ok(rows)
}

fn measure(settings: &Settings, options: &Options, folder: &Folder, count: usize) -> Result<Vec<Row>, String> {
    let nodes = Nodes::start(options, folder, count, false)?;
    let mut fleet = Fleet::new(options.plan(nodes.addresses.clone()))?;
    warm_up(&mut fleet, settings, options.rate)?;
    let pid = nodes.servers[0].as_ref().map(Server::pid).ok_or("no node")?;
    let (cpu, redis_cpu) = (nodes.cpu_s()?, Sample::of(nodes.redis.pid())?.cpu_s);
    let (scripts, commands) = nodes.redis.commands()?;
    let loaded = load(&mut fleet, pid, settings, options.rate, settings.seconds)?;
    let published = (loaded.rate * loaded.seconds).max(1.0);
    let cpu = nodes.cpu_s()? - cpu;
    let redis_cpu = Sample::of(nodes.redis.pid())?.cpu_s - redis_cpu;
    let after = nodes.redis.commands()?;
    let plural = if count == 1 { "" } else { "s" };
    let name = format!("{count} node{plural}, {}", options.name());
    let fact = |what: &str, value: f64, note: &str| Row::fact(format!("{name}: {what}"), value, note);
    let mut rows = times(&name, &loaded, super::Goals::default());
    rows.extend([
        fact("CPU per publication, all nodes", cpu * 1e6 / published, "us, program and kernel, deliveries included"),
        fact("deliveries per CPU second", loaded.delivered as f64 / cpu.max(1e-9), "all nodes"),
        fact("Redis' CPU per publication", redis_cpu * 1e6 / published, "us; appendfsync always"),
        fact("Redis' scripts per publication", (after.0 - scripts) / published, "leases and reads included"),
        fact("Redis' commands per publication", (after.1 - commands) / published, "those inside scripts included"),
    ]);
    rows.extend(account(&name, &fleet.book));
    rows.push(quiet(&nodes, &mut fleet, &name)?);
    Ok(rows)
}

/// What Redis is asked to write while nothing is published and everybody is there.
fn quiet(nodes: &Nodes, fleet: &mut Fleet, name: &str) -> Result<Row, String> {
    const QUIET_S: f64 = 5.0;
    let before = nodes.redis.commands()?.0;
    fleet.idle(std::time::Duration::from_secs_f64(QUIET_S))?;
    let scripts = nodes.redis.commands()?.0 - before;
    let what = format!("{name}: Redis' scripts per second in a quiet time");
    Ok(Row::new(what, Target::Most(10.0), Some(scripts / QUIET_S), "leases; presence is written nowhere".to_owned()))
}
