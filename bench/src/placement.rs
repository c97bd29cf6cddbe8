//! Who runs on which core, so that nobody measures the others' turns.
//!
//! ```text
//!   2 or 3 cores    server 0                 generator 1    services 1
//!   4 to 11         server 0                 generator 1    services 2, 3
//!   12 and more     server 0 (0, 2, 4, 6)    generator 8    services 9, 10, 11
//! ```
//!
//! On large machines a server's shards take every second core: neighbours are often two threads of one core.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::OnceLock;

/// From so many cores on, a server may have four shards of its own.
const MANY: usize = 12;
/// From so many cores on, the services have cores of their own.
const SOME: usize = 4;
/// Shards of a server where there is room.
const SHARDS: usize = 4;

/// How many cores this process was started with. To be called first before any thread is pinned.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| core_affinity::get_core_ids().map_or(1, |cores| cores.len()))
}

/// The core of a server with one shard.
pub const SERVER_CORE: usize = 0;

/// The cores of a server that may have as many as the owner's case allows; one where the machine is small.
pub fn server_cores() -> Vec<usize> {
    if cores() >= MANY { (0..SHARDS).map(|shard| 2 * shard).collect() } else { vec![SERVER_CORE] }
}

/// The generator's core.
pub fn generator_core() -> usize {
    if cores() >= MANY { 8 } else { 1 }
}

/// The cores of the services behind a gateway.
pub fn services_cores() -> &'static [usize] {
    match cores() {
        MANY.. => &[9, 10, 11],
        SOME.. => &[2, 3],
        _ => &[1],
    }
}

/// Pins this thread to the generator's core.
pub fn pin_generator() {
    core_affinity::set_for_current(core_affinity::CoreId { id: generator_core() });
}

/// Lets this thread run on all cores again. To be called before a server is started: it inherits where it may run, and one that
/// may not have the core that it is told shares another.
///
/// # Errors
/// A sentence: the kernel refuses.
pub fn unpin() -> Result<(), String> {
    let mut all = CpuSet::new();
    (0..cores()).for_each(|core| all.set(core));
    sched_setaffinity(None, &all).map_err(|error| format!("this thread stays on the generator's core: {error}"))
}

/// Cores as servers' options want them.
pub fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
