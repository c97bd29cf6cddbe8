//! Whom a backend's questions go to: the hosts that its file names, or those that SRV records tell, as they change.
//!
//! ```text
//!   "host": ["_http._tcp.cart"], "sd": "dns"
//!        │ looked up again when its time to live is over (RFC 2782)
//!        ▼
//!   10 60 8080 a.cart ─┐
//!   10 40 8080 b.cart ─┼─► Hosts: who is well, by priority and weight ─► a Target with its upstream
//!   20  0 8080 c.cart ─┘
//! ```
//!
//! While nobody can answer, the targets stay as they are; where name servers say that there are none, there are none.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;

use super::balance::{Hosts, Member, Standing};
use super::config::model::{self, Backend, Discovery, Health, Outlier, Scheme};
use super::dns::codec::Service;
use super::dns::{Error, Resolver};
use super::health::{Checks, Watch};
use super::message::{Cause, Failure, Phase};
use super::upstream::{Origin, Protocol, Upstream, Upstreams};
use crate::serve::wire::Crowd;

/// How often a service's name is looked at. The resolver asks only when what it knows is too old.
const LOOK: Duration = Duration::from_secs(1);
/// Beside weights above 0, one of 0 is to have "a very small chance" (RFC 2782): a hundredth of the weight 1.
const WEIGHT_SCALE: u32 = 100;
/// RFC 2782 has a client go on to the next priority when it cannot reach the first. When that is so, unless the file
/// has an `outlier` that says it.
const OUT_OF_REACH: Outlier = Outlier {
    consecutive_errors: 5,
    ejection_time: Duration::from_secs(10),
    ejection_time_max: Duration::from_secs(60),
    ejected_max: 1.0,
};

/// Whom a question goes to.
#[derive(Clone)]
pub struct Target {
    /// How it is called.
    pub host: model::Host,
    /// Its name as requests say it.
    pub authority: String,
    /// Its connections.
    pub upstream: Rc<Upstream>,
    /// Whether it is well, where that is asked.
    watch: Option<Arc<Watch>>,
}

impl Target {
    /// Whether it is well, as far as anybody asks.
    pub fn is_well(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.is_well())
    }
}

/// The upstream follows from the host.
impl PartialEq for Target {
    fn eq(&self, other: &Target) -> bool {
        self.host == other.host
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
    }
}

/// What is known of a service.
enum Known {
    /// Nothing yet.
    Asking,
    /// Where it is.
    Found(Rc<[Service]>),
    /// Nowhere, and why.
    Failed(Error),
}

/// A backend's, on one shard.
pub struct Targets {
    hosts: Hosts<Target>,
    /// The names of services; none where hosts are written.
    services: Vec<(model::Host, RefCell<Known>)>,
    making: Making,
    outlier: Option<Outlier>,
    changed: Crowd,
}

/// What makes hosts targets.
struct Making {
    upstreams: Rc<Upstreams>,
    protocol: model::Protocol,
    health: Option<Health>,
    checks: Arc<Checks>,
}

impl Making {
    fn target(&self, host: model::Host) -> Target {
        let protocol = match self.protocol {
            model::Protocol::Auto => Protocol::Auto,
            model::Protocol::Http1 => Protocol::Http1,
            model::Protocol::H2 | model::Protocol::H2c => Protocol::Http2,
        };
        let origin = Origin { tls: host.scheme == Scheme::Https, host: host.name.clone(), port: host.port, protocol };
        let upstream = self.upstreams.of(origin);
        let shard = self.upstreams.shard();
        let watch = self.health.as_ref().map(|health| self.checks.watch(shard, &host, &upstream, &health.check));
        Target { upstream, authority: host.authority(), host, watch }
    }
}

impl Targets {
    /// A backend's hosts, or what is found by their names from now on.
    pub fn new(
        shard: &Shard,
        backend: &Backend,
        upstreams: &Rc<Upstreams>,
        resolver: &Rc<Resolver>,
        checks: &Arc<Checks>,
    ) -> Rc<Targets> {
        let is_written = backend.sd == Discovery::Static;
        let (written, services) = match is_written {
            true => (&backend.hosts[..], &[][..]),
            false => (&[][..], &backend.hosts[..]),
        };
        let making = Making {
            upstreams: upstreams.clone(),
            protocol: backend.protocol,
            health: backend.health.clone(),
            checks: checks.clone(),
        };
        let targets = Rc::new(Targets {
            hosts: Hosts::new(written.iter().map(|host| (making.target(host.clone()), Standing::EQUAL))),
            services: services.iter().map(|host| (host.clone(), RefCell::new(Known::Asking))).collect(),
            making,
            outlier: backend.outlier.clone().or_else(|| (!is_written).then_some(OUT_OF_REACH)),
            changed: Crowd::default(),
        });
        for (index, host) in services.iter().enumerate() {
            let following = follow(shard.clone(), resolver.clone(), host.name.clone(), Rc::downgrade(&targets), index);
            drop(shard.spawn(following));
        }
        targets
    }

    /// All of them, and how they fare.
    pub fn hosts(&self) -> &Hosts<Target> {
        &self.hosts
    }

    /// The one to ask. Waits while services are looked up for the first time.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn choose(&self, shard: &Shard, balancing: model::LoadBalancing) -> Result<Rc<Member<Target>>, Failure> {
        let panic_below = self.making.health.as_ref().map_or(0.0, |health| health.panic_below);
        loop {
            if let Some(member) = self.hosts.choose(shard.now(), balancing, panic_below, Target::is_well) {
                return Ok(member);
            }
            if let Some(cause) = self.nowhere() {
                return Err(Failure { phase: Phase::Resolve, cause, unprocessed: true });
            }
            self.changed.wait().await;
        }
    }

    /// A call ended; leaves its host out where it has failed too often.
    pub fn settle(&self, now: Duration, member: &Member<Target>, took: Duration, served: bool) {
        self.hosts.settle(now, member, took, served, self.outlier.as_ref());
    }

    /// Why there is no target; `None` if that is not known yet.
    fn nowhere(&self) -> Option<Cause> {
        let mut cause = Cause::Refused("it has no host");
        for (host, known) in &self.services {
            match &*known.borrow() {
                Known::Asking => return None,
                Known::Failed(why) => cause = Cause::Unresolved(host.name.clone(), *why),
                Known::Found(_) => {}
            }
        }
        Some(cause)
    }

    /// Takes in what was found of a service. What people should know of it goes to the log.
    fn learn(&self, index: usize, found: Result<Rc<[Service]>, Error>) {
        let (host, known) = &self.services[index];
        let name = &host.name;
        let next = match (&*known.borrow(), found) {
            (Known::Found(old), Ok(new)) if *old == new => return,
            // Nobody can say: whoever was there is the best guess.
            (Known::Found(_), Err(why)) if why != Error::NotFound => return,
            (Known::Failed(old), Err(why)) if *old == why => return,
            (Known::Failed(_), Ok(services)) => {
                self.say(format_args!("{name} is found again, with {} targets", services.len()));
                Known::Found(services)
            }
            (_, Ok(services)) => Known::Found(services),
            (_, Err(why)) => {
                self.say(format_args!("{name} has no targets: {why}"));
                Known::Failed(why)
            }
        };
        *known.borrow_mut() = next;
        self.hosts.renew(self.found());
        self.changed.all();
    }

    /// Once for the whole process: other shards see the same.
    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.making.upstreams.shard().index() == 0 {
            crate::say!("gateway: {what}");
        }
    }

    /// All targets of all services.
    fn found(&self) -> Vec<(Target, Standing)> {
        let mut all = Vec::new();
        for (host, known) in &self.services {
            let Known::Found(services) = &*known.borrow() else { continue };
            let some_have_weight = services.iter().any(|service| service.weight > 0);
            for service in services.iter() {
                let weight = match some_have_weight {
                    true => (u32::from(service.weight) * WEIGHT_SCALE).max(1),
                    false => 1,
                };
                let host = model::Host { name: service.host.to_string(), port: service.port, ..host.clone() };
                let standing = Standing { rank: service.priority, weight };
                all.push((self.making.target(host), standing));
            }
        }
        all
    }
}

/// Looks a service up again and again, for as long as its targets are of use to anybody.
async fn follow(shard: Shard, resolver: Rc<Resolver>, name: String, targets: Weak<Targets>, index: usize) {
    loop {
        let found = resolver.services(&name).await;
        match targets.upgrade() {
            Some(targets) => targets.learn(index, found),
            None => return,
        }
        shard.sleep(LOOK).await;
    }
}
