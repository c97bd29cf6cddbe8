//! Now and then: removes what uploads and deaths have left in the store, and objects that no work refers to any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use annulus_engine::compute::settle;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::dispatch::Desk;
use super::store::{Key, StoreError, Suffix, Swept};

/// When to sweep, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepOptions {
    /// How often.
    pub every: Duration,
    /// Nothing younger is touched. Longer than any upload and any work lasts: their objects are not referred to yet.
    pub age: Duration,
}

impl SweepOptions {
    /// The defaults: hourly, a day.
    pub const DEFAULT: SweepOptions =
        SweepOptions { every: Duration::from_secs(3600), age: Duration::from_secs(86_400) };
}

/// What the sweeps have removed since the start.
#[derive(Debug, Default)]
pub struct SweptSums {
    sweeps: AtomicU64,
    temporaries: AtomicU64,
    orphans: AtomicU64,
    bytes: AtomicU64,
}

impl SweptSums {
    /// Sweeps that came to their end.
    pub fn sweeps(&self) -> u64 {
        self.sweeps.load(Ordering::Relaxed)
    }

    /// What they removed.
    pub fn swept(&self) -> Swept {
        let [temporaries, orphans, bytes] =
            [&self.temporaries, &self.orphans, &self.bytes].map(|sum| sum.load(Ordering::Relaxed));
        Swept { temporaries, orphans, bytes }
    }

    fn add(&self, swept: Swept) {
        self.temporaries.fetch_add(swept.temporaries, Ordering::Relaxed);
        self.orphans.fetch_add(swept.orphans, Ordering::Relaxed);
        self.bytes.fetch_add(swept.bytes, Ordering::Relaxed);
        self.sweeps.fetch_add(1, Ordering::Release);
    }
}

/// The sweeping thread. Dropping it ends it, also in the middle of a sweep.
pub struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    sums: Arc<SweptSums>,
}

impl Sweeper {
    /// Starts the thread, which runs when nothing else does, and sweeps for the first time after one period.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(desk: &Desk, options: SweepOptions) -> io::Result<Sweeper> {
        let (stop, stopped) = bounded(0);
        let sums = Arc::new(SweptSums::default());
        let (desk, inside) = (desk.clone(), sums.clone());
        let body = move || {
            settle(None, true);
            recount(&desk, &stopped);
            while stopped.recv_timeout(options.every) == Err(RecvTimeoutError::Timeout) {
                match sweep(&desk, options.age, &stopped) {
                    Ok(swept) => inside.add(swept),
                    Err(error) => crate::warn!("image: a sweep ended early: {error}"),
                }
                recount(&desk, &stopped);
            }
        };
        let thread = std::thread::Builder::new().name("image-sweep".to_owned()).spawn(body)?;
        Ok(Sweeper { stop: Some(stop), thread: Some(thread), sums })
    }

    /// What was removed.
    pub fn sums(&self) -> &Arc<SweptSums> {
        &self.sums
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ended = thread.join();
        }
    }
}

fn is_over(stopped: &Receiver<()>) -> bool {
    stopped.try_recv() == Err(TryRecvError::Disconnected)
}

fn sweep(desk: &Desk, age: Duration, stopped: &Receiver<()>) -> Result<Swept, StoreError> {
    let wanted = &mut |keys: &[Key]| {
        if is_over(stopped) {
            return Err("the service ends".to_owned());
        }
        let mut wanted = desk.queue.wanted(keys.to_vec()).wait().map_err(|error| error.to_string())?;
        // The queue knows nothing of variants: they are looked after by their own count. Where none are offered any more,
        // those that are left are nobody's.
        for (key, wanted) in keys.iter().zip(&mut wanted) {
            *wanted |= key.suffix == Suffix::Variant && desk.variants.is_some();
        }
        Ok(wanted)
    };
    desk.objects.sweep(age, wanted)
}

/// Counts what is kept of variants, and removes what is too old or too much.
fn recount(desk: &Desk, stopped: &Receiver<()>) {
    let Some(variants) = &desk.variants else { return };
    let counted = variants.cache.recount(&*desk.objects, &|| is_over(stopped));
    if let Err(error) = counted
        && !is_over(stopped)
    {
        crate::warn!("image: variants were not counted: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::image::dispatch::stand_in::Rig;
    use crate::image::job::State;
    use crate::image::queue::QueueOptions;
    use crate::image::queue::trial::Home;

    #[test]
    fn orphans_go_while_works_go_on() {
        let home = Home::new("sweeper");
        let rig = Rig::new(home.path(), 1, Duration::from_millis(1), QueueOptions::DEFAULT);
        let orphan = Key { name: [9; 32], suffix: Suffix::Jpeg };
        let _put = rig.desk.objects.put(&orphan, &mut &b"nobody wants it"[..]).unwrap();
        let document = rig.upload("a", b"photo");
        // Older than any upload and any work here: those of this test last milliseconds.
        let options = SweepOptions { every: Duration::from_millis(50), age: Duration::from_secs(2) };
        let sweeper = Sweeper::start(&rig.desk, options).unwrap();
        let dispatcher = crate::image::dispatch::Dispatcher::start(
            &rig.desk,
            rig.lanes.clone(),
            super::super::dispatch::DispatchOptions::DEFAULT,
        )
        .unwrap();
        assert_eq!(rig.ended(&document, "a").state, State::Done);
        let until = Instant::now() + Duration::from_secs(60);
        while sweeper.sums().swept().orphans == 0 {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(rig.desk.objects.head(&orphan).unwrap(), None);
        assert_eq!(sweeper.sums().swept(), Swept { temporaries: 0, orphans: 1, bytes: 15 });
        drop((sweeper, dispatcher));
        let done = rig.ended(&document, "a");
        for output in done.outputs {
            assert_eq!(rig.desk.objects.head(&output.key).unwrap().unwrap().len, output.bytes);
        }
    }

    #[test]
    fn originals_that_are_too_old_go_and_outputs_stay() {
        let home = Home::new("originals");
        let options = QueueOptions { originals_kept_for: Some(Duration::from_millis(1)), ..QueueOptions::DEFAULT };
        let rig = Rig::new(home.path(), 1, Duration::from_millis(1), options);
        let document = rig.upload("a", b"photo");
        let options = super::super::dispatch::DispatchOptions::DEFAULT;
        let dispatcher = crate::image::dispatch::Dispatcher::start(&rig.desk, rig.lanes.clone(), options).unwrap();
        let done = rig.ended(&document, "a");
        assert_eq!(done.state, State::Done);
        drop(dispatcher);
        // Of one that waits nothing goes, however old it is.
        let waiting = rig.upload("a", b"another");
        let (age, every) = (Duration::from_secs(2), Duration::from_millis(50));
        let sweeper = Sweeper::start(&rig.desk, SweepOptions { every, age }).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while rig.desk.objects.head(&done.source.key).unwrap().is_some() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(10));
        }
        let sweeps = sweeper.sums().sweeps();
        while sweeper.sums().sweeps() < sweeps + 2 {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(sweeper);
        let left = done.outputs.iter().map(|output| output.key).chain([waiting.source.key]);
        for key in left {
            assert!(rig.desk.objects.head(&key).unwrap().is_some(), "{key}");
        }
    }
}
