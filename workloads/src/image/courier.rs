//! A shard of one's own for what threads ask of the network: they hand errands over, and wait for answers or do not.
//!
//! ```text
//!   threads, shards ──errand──► channel ─► bell ─► courier's shard: its room, a task per errand ──ticket──► who asked
//! ```
//!
//! The services' shards do not do this work themselves where one connection has to serve the whole process, and lanes,
//! storing threads and sweeps are no shards at all. Neither side ever waits for a lock: the bell is a ticket that lies in
//! a channel of one, and whoever takes it rings.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use annulus_engine::compute::{Reply, Ticket, ticket};
use annulus_engine::{Engine, Running, Shard};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

/// Errands that may wait for the shard; beyond, asking is refused.
const ERRANDS_MAX: usize = 16_384;
/// Receive buffers of the shard: few connections, each of which brings much at once.
const BUFFERS: usize = 512;
/// How long errands under way are waited for at the end.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// How often the end looks whether they are done.
const FAREWELL_LOOK: Duration = Duration::from_millis(5);

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Errand<T> = Box<dyn FnOnce(Rc<T>) -> Task + Send>;

/// The channel of errands is full, or the shard is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Try again later.
    Busy,
    /// It has ended.
    Gone,
}

/// See the module's description. `T` is what the shard keeps: connections. Dropping it waits for what is under way.
pub(crate) struct Courier<T> {
    errands: Option<Sender<Errand<T>>>,
    bells: Receiver<Ticket<()>>,
    running: Option<Running<()>>,
}

impl<T: 'static> Courier<T> {
    /// Starts the shard; `furnish` makes its room there.
    ///
    /// # Errors
    /// A sentence: what `furnish` said, or that there can be no such thread.
    pub(crate) fn start(
        furnish: impl FnOnce(&Shard) -> Result<Rc<T>, String> + Send + 'static,
    ) -> Result<Courier<T>, String> {
        let (errands, waiting) = bounded::<Errand<T>>(ERRANDS_MAX);
        let (hang, bells) = bounded(1);
        let (started, furnished) = ticket();
        // The engine calls its main once per shard, and this one has one: what it needs is taken out of here.
        let once = Mutex::new(Some((furnish, started, waiting, hang)));
        let main = move |shard: Shard| {
            let taken = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let Some((furnish, started, waiting, hang)) = taken else { return };
                match furnish(&shard) {
                    Ok(room) => {
                        started.answer(Ok(()));
                        run(&shard, &room, &waiting, &hang).await;
                    }
                    Err(sentence) => started.answer(Err(sentence)),
                }
            }
        };
        let engine = Engine::builder().shards(1).oversubscribed().buffers(BUFFERS);
        let running = engine.start(main).map_err(|error| format!("a thread for the network cannot start: {error}"))?;
        let courier = Courier { errands: Some(errands), bells, running: Some(running) };
        match furnished.wait() {
            Some(Ok(())) => Ok(courier),
            Some(Err(sentence)) => Err(sentence),
            None => Err("the thread for the network ended as it began".to_owned()),
        }
    }

    /// Hands an errand over; it answers, if it does, by what it was given.
    ///
    /// # Errors
    /// [`NotTaken`]; the errand is dropped.
    pub(crate) fn send<F: Future<Output = ()> + 'static>(
        &self,
        errand: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> Result<(), NotTaken> {
        let errands = self.errands.as_ref().expect("the sender is taken only by drop");
        let boxed: Errand<T> = Box::new(move |room| Box::pin(errand(room)));
        errands.try_send(boxed).map_err(|error| match error {
            crossbeam_channel::TrySendError::Full(_) => NotTaken::Busy,
            crossbeam_channel::TrySendError::Disconnected(_) => NotTaken::Gone,
        })?;
        self.ring();
        Ok(())
    }

    /// Hands an errand over whose result is wanted.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub(crate) fn ask<R: Send + 'static, F: Future<Output = R> + 'static>(
        &self,
        errand: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> Result<Reply<R>, NotTaken> {
        let (ticket, reply) = ticket();
        self.send(move |room| {
            let result = errand(room);
            async move { ticket.answer(result.await) }
        })?;
        Ok(reply)
    }

    fn ring(&self) {
        if let Ok(bell) = self.bells.try_recv() {
            bell.answer(());
        }
    }
}

impl<T> Drop for Courier<T> {
    fn drop(&mut self) {
        self.errands = None;
        if let Ok(bell) = self.bells.try_recv() {
            bell.answer(());
        }
        if let Some(running) = self.running.take()
            && let Err(error) = running.wait()
        {
            crate::warn!("image: a thread for the network ended badly: {error}");
        }
    }
}

/// Works errands off as they come, until nobody can send any more.
async fn run<T: 'static>(shard: &Shard, room: &Rc<T>, errands: &Receiver<Errand<T>>, hang: &Sender<Ticket<()>>) {
    let under_way = Rc::new(Cell::new(0_usize));
    loop {
        // The bell is hung up before the channel is looked at: an errand that comes later finds it.
        let (bell, rung) = ticket();
        // One that hangs there already rings this one, too: it is taken down first.
        let hung = hang.try_send(bell);
        let ended = loop {
            match errands.try_recv() {
                Ok(errand) => {
                    under_way.set(under_way.get() + 1);
                    let (task, counted) = (errand(room.clone()), Counted(under_way.clone()));
                    drop(shard.spawn(async move {
                        let _counted = counted;
                        task.await;
                    }));
                }
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        if ended {
            break;
        }
        debug_assert!(hung.is_ok(), "the bell before was rung, so it hangs no more");
        rung.await;
    }
    let until = shard.now() + FAREWELL_MAX;
    while under_way.get() > 0 && shard.now() < until {
        shard.sleep(FAREWELL_LOOK).await;
    }
}

/// An errand under way; counts itself out, also when it panics.
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn errands_of_many_threads_are_all_done_and_the_end_waits_for_them() {
        let courier = Arc::new(Courier::start(|_shard| Ok(Rc::new(Cell::new(0_u64)))).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let courier = courier.clone();
                std::thread::spawn(move || {
                    for number in 0..500_u64 {
                        let reply = courier.ask(move |room| async move {
                            room.set(room.get() + 1);
                            number
                        });
                        assert_eq!(reply.unwrap().wait(), Some(number));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let sum = courier.ask(|room| async move { room.get() }).unwrap();
        assert_eq!(sum.wait(), Some(2000));
        let (last, told) = bounded(1);
        courier.send(move |_room| async move { last.send(()).unwrap() }).unwrap();
        drop(courier);
        assert!(told.try_recv().is_ok(), "it ended before its errand");
    }

    #[test]
    fn a_room_that_cannot_be_furnished_says_why() {
        let error = Courier::<()>::start(|_shard| Err("no such certificate".to_owned())).err();
        assert_eq!(error.as_deref(), Some("no such certificate"));
    }
}
