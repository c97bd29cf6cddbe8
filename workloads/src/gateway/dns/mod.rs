//! Names of upstreams, made addresses: a stub resolver on the engine.
//!
//! ```text
//!   addresses("cart") ─► literal? ─► /etc/hosts? ─► cache? ─► flight (one per question) ─► UDP, TCP ─► servers
//!                                                     ▲                   │
//!                                                     └── answer, or that there is none, for its time to live
//! ```
//!
//! [`codec`] reads and writes messages, [`settings`] `/etc/resolv.conf` and `/etc/hosts`, [`cache`] remembers: all
//! without I/O. [`resolver`] asks.
//!
//! What else a system may be set up to ask (`nsswitch.conf`, multicast DNS) is not asked.
//!
//! The codec is ours because `hickory-proto`, the obvious guest, brings some fifty crates (ICU's tables among them) for
//! what is needed here: four record types.

pub mod cache;
pub mod codec;
mod exchange;
pub mod name;
pub mod resolver;
pub mod settings;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::Shard;

pub use name::Name;
pub use resolver::{Error, Limits, Resolver};
use settings::Files;

/// A shard's resolver on the system's files, with `servers` instead of theirs if there are any. It believes no answer
/// for longer than `ttl_max`.
pub fn system_resolver(shard: &Shard, servers: &[SocketAddr], ttl_max: Duration) -> Rc<Resolver> {
    let files = Files { servers: servers.to_vec(), ..Files::of_system() };
    let limits = Limits { ttl_min: Limits::DEFAULT.ttl_min.min(ttl_max), ttl_max, ..Limits::DEFAULT };
    Rc::new(Resolver::watching(shard, files, limits, unforeseeable))
}

/// A word that nobody outside can foresee: a keyed hash (SipHash) of nothing, with keys that the kernel gave and that
/// differ each time.
fn unforeseeable() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
