//! Runs a scenario on each real driver this machine grants.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::future::Future;

use annulus_engine::{DriverChoice, Engine, Shard};

/// Runs `main` on `shards` shards with each driver in turn. io_uring is left out, loudly, where it is blocked.
pub fn on_each_driver<F: Future<Output = ()> + 'static>(
    shards: usize,
    main: impl Fn(Shard) -> F + Send + Sync + Clone + 'static,
) {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        match Engine::builder().shards(shards).oversubscribed().driver(driver).run(main.clone()) {
            Ok(_) => {}
            Err(error) if driver == DriverChoice::Uring && error.to_string().starts_with("io_uring_setup failed") => {
                eprintln!("NOT RUN with io_uring: {error}");
            }
            Err(error) => panic!("{driver:?}: {error}"),
        }
    }
}
