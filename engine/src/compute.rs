//! Work too long for a shard's turn, on threads of its own behind one bounded queue.
//!
//! ```text
//!   shard: run(f) ──try──► queue (bounded; full is `Busy`) ──► compute thread: f() ──► reply ──► wake the task
//! ```
//!
//! Compute threads may run at idle priority on a shard's own core. So a shard must never wait for one, not even
//! for a lock that one holds: a shard only ever *tries* (see [`Reply`]). A job that panics is caught and counted;
//! its waiter gets an error and the thread goes on.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::plan::Plan;
use crate::sys::threads::yield_to_all;
pub use crate::ticket::{Reply, Ticket, ticket};

type Work = Box<dyn FnOnce() + Send>;

/// The queue is full: do it later, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the compute threads' queue is full, or there are none: Builder::compute starts them")
    }
}

impl std::error::Error for Busy {}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobError {
    /// It panicked, with this message.
    Panicked(String),
    /// Its thread is gone, or it was dropped unrun.
    Lost,
}

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JobError::Panicked(message) => write!(f, "the job panicked: {message}"),
            JobError::Lost => f.write_str("the job was dropped before it ended"),
        }
    }
}

impl std::error::Error for JobError {}

/// The compute threads. Shared by all shards; dropping it works the queue off and ends them.
pub struct Compute {
    queue: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
    panics: Arc<AtomicU64>,
}

impl Compute {
    /// Starts the plan's compute threads behind a queue of `queue_max` jobs. A plan without any gets one, which
    /// runs when nothing else does.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(plan: &Plan, queue_max: usize) -> io::Result<Compute> {
        let (sender, receiver) = bounded::<Work>(queue_max.max(1));
        let mut compute = Compute { queue: Some(sender), threads: Vec::new(), panics: Arc::default() };
        let idle = plan.compute_is_idle || plan.compute.is_empty();
        for index in 0..plan.compute.len().max(1) {
            let core = plan.compute.get(index).copied().filter(|_| plan.pinned);
            let (receiver, panics) = (receiver.clone(), compute.panics.clone());
            let body = move || {
                settle(core, idle);
                work(&receiver, &panics);
            };
            compute.threads.push(std::thread::Builder::new().name(format!("compute-{index}")).spawn(body)?);
        }
        Ok(compute)
    }

    /// Hands a job over whose end nobody waits for.
    ///
    /// # Errors
    /// [`Busy`]; the job is dropped.
    pub fn try_submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        let queue = self.queue.as_ref().expect("the queue is taken only by drop");
        queue.try_send(Box::new(job)).map_err(|_| Busy)
    }

    /// Hands `job` over; the future gives its result. A job whose future is gone before its turn is not run.
    ///
    /// # Errors
    /// [`Busy`]; the job is dropped.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<Job<T>, Busy> {
        let (ticket, reply) = ticket();
        let panics = self.panics.clone();
        self.try_submit(move || {
            if ticket.is_abandoned() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(job));
            if result.is_err() {
                panics.fetch_add(1, Ordering::Relaxed);
            }
            ticket.answer(result.map_err(|payload| JobError::Panicked(message(&*payload))));
        })?;
        Ok(Job { reply })
    }

    /// Jobs that wait for a thread.
    pub fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, Sender::len)
    }

    /// Jobs that panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Jobs are caught; a thread that ended otherwise has nothing more to give.
            let _ended = thread.join();
        }
    }
}

/// Brings the calling thread where a plan says: to its core, and behind everything else on it if it shares it with a
/// shard. For threads that do what compute threads do, elsewhere. Neither is worth failing for: the threads work anywhere, at any priority.
pub fn settle(core: Option<usize>, idle: bool) {
    if let Some(id) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    if idle {
        let _as_good_as_it_gets = yield_to_all();
    }
}

fn work(queue: &Receiver<Work>, panics: &AtomicU64) {
    for job in queue {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What `panic!` was given, as text.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a text".to_owned())
}

/// Waits for a job of the compute threads.
pub struct Job<T> {
    reply: Reply<Result<T, JobError>>,
}

impl<T> Future for Job<T> {
    type Output = Result<T, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(cx).map(|reply| reply.unwrap_or(Err(JobError::Lost)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::task::{Wake, Waker};
    use std::thread::Thread;
    use std::time::Duration;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Polls until ready, parked in between: a lost wake-up shows as a test that hangs.
    fn wait<F: Future + Unpin>(mut future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    fn compute(threads: usize, queue_max: usize) -> Compute {
        let (shards, compute, notes) = (vec![0], vec![0; threads], Vec::new());
        // Miri knows no priorities.
        let compute_is_idle = cfg!(not(miri));
        let plan = Plan { shards, compute, gpu: 0, pinned: false, compute_is_idle, granted: 1, notes };
        Compute::start(&plan, queue_max).unwrap()
    }

    #[test]
    fn a_job_gives_its_result() {
        let compute = compute(2, 16);
        let jobs: Vec<_> = (0..10u64).map(|n| compute.run(move || n * n).unwrap()).collect();
        let results: Vec<_> = jobs.into_iter().map(|job| wait(job).unwrap()).collect();
        assert_eq!(results, (0..10).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!((compute.threads(), compute.panics()), (2, 0));
    }

    #[test]
    fn no_result_is_lost_over_many_jobs() {
        let compute = compute(2, 4);
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        for n in 0..rounds {
            assert_eq!(wait(compute.run(move || n).unwrap()), Ok(n));
        }
    }

    #[test]
    fn a_full_queue_says_busy_and_never_blocks() {
        let compute = compute(1, 2);
        let (hold, held) = bounded::<()>(0);
        let (started, running) = bounded(1);
        compute
            .try_submit(move || {
                started.send(()).unwrap();
                let _released = held.recv();
            })
            .unwrap();
        running.recv().unwrap();
        let jobs = [compute.run(|| 1).unwrap(), compute.run(|| 2).unwrap()];
        assert_eq!(compute.queued(), 2);
        assert_eq!(compute.run(|| 3).err(), Some(Busy));
        assert_eq!(compute.try_submit(|| ()), Err(Busy));
        drop(hold);
        assert_eq!(jobs.map(|job| wait(job).unwrap()), [1, 2]);
    }

    #[test]
    fn a_panic_is_the_waiters_error_and_the_thread_goes_on() {
        let compute = compute(1, 4);
        let failed = compute.run(|| -> u8 { panic!("bad pixel {}", 7) }).unwrap();
        assert_eq!(wait(failed), Err(JobError::Panicked("bad pixel 7".to_owned())));
        compute.try_submit(|| panic!("nobody waits")).unwrap();
        assert_eq!(wait(compute.run(|| 5).unwrap()), Ok(5));
        assert_eq!(compute.panics(), 2);
    }

    #[test]
    fn a_job_that_nobody_waits_for_is_skipped() {
        let compute = compute(1, 4);
        let ran = Arc::new(AtomicBool::new(false));
        let (hold, held) = bounded::<()>(0);
        let waits = move || {
            let _released = held.recv();
        };
        compute.try_submit(waits).unwrap();
        let flag = ran.clone();
        drop(compute.run(move || flag.store(true, Ordering::Relaxed)).unwrap());
        drop(hold);
        wait(compute.run(|| ()).unwrap()).unwrap();
        assert!(!ran.load(Ordering::Relaxed));
    }

    #[test]
    fn drop_works_the_queue_off() {
        let compute = compute(1, 8);
        let count = Arc::new(AtomicU64::new(0));
        for _ in 0..8 {
            let count = count.clone();
            let counts = move || {
                std::thread::sleep(Duration::from_millis(1));
                count.fetch_add(1, Ordering::Relaxed);
            };
            while compute.try_submit(counts.clone()).is_err() {
                std::thread::yield_now();
            }
        }
        drop(compute);
        assert_eq!(count.load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_ticket_that_is_dropped_tells_the_waiter() {
        let (ticket, reply) = ticket::<u8>();
        let thread = std::thread::spawn(move || drop(ticket));
        assert_eq!(wait(reply), None);
        thread.join().unwrap();
    }

    #[test]
    fn an_answer_that_nobody_waits_for_goes_nowhere() {
        let (ticket, reply) = ticket::<u8>();
        assert!(!ticket.is_abandoned());
        drop(reply);
        assert!(ticket.is_abandoned());
        ticket.answer(1);
    }
}
