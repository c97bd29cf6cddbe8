//! A thread that always has one worker more than are at work: a crash costs no start-up time.
//!
//! It starts all workers, because the kernel ends a worker when the *thread* that started it ends. Another thread
//! waits for the ends of those that were given up, because taking hundreds of megabytes apart takes a while.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded, unbounded};

use super::child::Child;
use super::cpu::Options;

/// Between two attempts to start a worker when one failed.
const PAUSE: Duration = Duration::from_millis(100);
/// And at most, after many.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Where workers come from and go to.
pub(super) struct Nursery {
    spare: Option<Receiver<Result<Child, String>>>,
    graves: Option<Sender<Child>>,
    threads: Vec<JoinHandle<()>>,
}

impl Nursery {
    /// Starts both threads.
    ///
    /// # Errors
    /// As starting a thread.
    pub fn start(options: Arc<Options>) -> std::io::Result<Nursery> {
        // Without room in between: the spare waits in the thread's hand.
        let (give, spare) = bounded(0);
        // A worker that is given up was counted when it was started, so there are never many.
        let (graves, dead) = unbounded::<Child>();
        let nursery = thread::Builder::new().name("image-nursery".to_owned()).spawn(move || raise(&options, &give))?;
        let burial = thread::Builder::new().name("image-burial".to_owned());
        let burial = burial.spawn(move || dead.into_iter().for_each(Child::bury))?;
        Ok(Nursery { spare: Some(spare), graves: Some(graves), threads: vec![nursery, burial] })
    }

    /// A fresh worker: the spare, or when that has just gone, the next.
    ///
    /// # Errors
    /// Why none can be started, in a sentence.
    pub fn worker(&self) -> Result<Child, String> {
        let spare = self.spare.as_ref().and_then(|spare| spare.recv().ok());
        spare.unwrap_or_else(|| Err("the thread that starts workers is gone".to_owned()))
    }

    /// Ends a worker, and returns at once.
    pub fn give_up(&self, mut worker: Child) {
        worker.kill();
        if let Some(graves) = &self.graves {
            // Fails only when this ends, and then the kernel ends the worker with its starter.
            let _ending = graves.send(worker);
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.spare = None;
        self.graves = None;
        for thread in self.threads.drain(..) {
            // A panic there was told there.
            let _told = thread.join();
        }
    }
}

/// Starts workers, one ahead.
fn raise(options: &Options, give: &Sender<Result<Child, String>>) {
    let mut pause = PAUSE;
    loop {
        match Child::start(options) {
            Ok(worker) => {
                pause = PAUSE;
                if let Err(unwanted) = give.send(Ok(worker)) {
                    return unwanted.into_inner().into_iter().for_each(Child::bury);
                }
            }
            // Told to whoever asks meanwhile, and to nobody later.
            Err(sentence) => {
                match give.send_timeout(Err(sentence), pause) {
                    Ok(()) => thread::sleep(pause),
                    Err(SendTimeoutError::Timeout(_)) => {}
                    Err(SendTimeoutError::Disconnected(_)) => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
