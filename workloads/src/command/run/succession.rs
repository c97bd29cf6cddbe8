//! How one process follows another: what it took over, and when it may be replaced in turn. See [`crate::process::handover`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use annulus_engine::Engine;

use super::places::Place;
use crate::args::Command;
use crate::process::handover::{Handover, Takeover};
use crate::process::supervisor::Supervisor;

/// How often it is looked whether all shards listen.
const READY_LOOK: Duration = Duration::from_millis(2);

/// What has been taken over from the process before, until all shards listen.
pub(super) type Taken = Arc<Mutex<Option<Takeover>>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When all shards listen, takes the place of the process before, can be replaced in turn, and tells who waits for it.
pub(super) fn when_all_listen(
    engine: &Engine,
    places: Vec<Place>,
    handover: Option<Arc<Handover>>,
    taken: Taken,
    supervisor: Option<Arc<Supervisor>>,
    command: Command,
) -> Result<(), String> {
    if handover.is_none() && supervisor.is_none() {
        return Ok(());
    }
    let engine = engine.clone();
    let body = move || {
        while !places.iter().all(|place| engine.listens(&place.address)) {
            std::thread::sleep(READY_LOOK);
        }
        for address in engine.give_up_sockets() {
            crate::warn!("upgrade: nobody listens at {address} any more");
        }
        if lock(&taken).as_ref().is_some_and(|takeover| takeover.in_time().is_err()) {
            // Why is said when it has ended.
            return engine.drain();
        }
        if let Some(Err(sentence)) = handover.map(|handover| handover.offer(engine, command.name())) {
            crate::warn!("{sentence}");
        }
        if let Some(takeover) = lock(&taken).take() {
            takeover.ready();
        }
        if let Some(Err(sentence)) = supervisor.map(|supervisor| supervisor.ready()) {
            crate::warn!("{sentence}");
        }
    };
    let started = std::thread::Builder::new().name("ready".to_owned()).spawn(body);
    started.map(drop).map_err(|error| format!("a thread cannot start: {error}"))
}
