//! The way into a shard from any thread: wakes of its tasks, and the bell that ends its sleep.
//!
//! Shards have process-wide numbers, so that a waker finds its shard wherever it is used. A number may be used
//! again after its shard closed; a waker that survived then wakes a stranger for nothing, which tasks allow.

use std::sync::{Arc, RwLock};

use crossbeam_channel::{Receiver, Sender};

use crate::driver::Doorbell;
use crate::mailbox::Sleep;
use crate::task::TaskId;

/// What other threads hold of a shard.
pub(crate) struct Remote {
    wakes: Sender<TaskId>,
    /// The sleep protocol that all senders to this shard follow.
    pub(crate) sleep: Sleep,
    bell: Doorbell,
}

impl Remote {
    /// Ends the shard's sleep if it sleeps. Call after what it shall see has been published.
    pub(crate) fn nudge(&self) {
        if self.sleep.should_ring() {
            self.bell.ring();
        }
    }

    /// The bell itself, for a peer shard that knows a cheaper way to ring it.
    pub(crate) fn bell(&self) -> &Doorbell {
        &self.bell
    }
}

static SHARDS: RwLock<Vec<Option<Arc<Remote>>>> = RwLock::new(Vec::new());

/// A shard's entry in the process-wide list, removed on drop.
pub(crate) struct Registered {
    number: u16,
    pub(crate) remote: Arc<Remote>,
    pub(crate) wakes: Receiver<TaskId>,
}

impl Registered {
    /// Enters a shard whose sleep `bell` ends.
    pub(crate) fn new(bell: Doorbell) -> Registered {
        let (sender, wakes) = crossbeam_channel::unbounded();
        let remote = Arc::new(Remote { wakes: sender, sleep: Sleep::new(), bell });
        let mut shards = SHARDS.write().expect("nothing panics under this lock");
        let number = match shards.iter().position(Option::is_none) {
            Some(number) => number,
            None => {
                shards.push(None);
                shards.len() - 1
            }
        };
        shards[number] = Some(remote.clone());
        let number = u16::try_from(number).expect("a process has at most 65,536 shards");
        Registered { number, remote, wakes }
    }

    /// The process-wide number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        SHARDS.write().expect("nothing panics under this lock")[self.number as usize] = None;
    }
}

/// Wakes a task of another thread's shard.
pub(crate) fn wake(id: TaskId) {
    let shards = SHARDS.read().expect("nothing panics under this lock");
    if let Some(Some(remote)) = shards.get(id.shard() as usize) {
        // The receiver lives as long as the entry; a closing shard has no more use for wakes.
        let _closing = remote.wakes.send(id);
        remote.nudge();
    }
}
