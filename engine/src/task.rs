//! A shard's tasks: a slab of futures and two run queues, without an atomic on the way from wake to poll.
//!
//! A [`Waker`] is one word, `[shard:16][generation:20][index:28]`, and owns nothing: cloning it is free, a stale
//! one finds another generation and does nothing, and one that is used on a foreign thread goes through that
//! shard's remote queue and doorbell. So wakers are sound to send anywhere, and cost nothing where they stay.
//!
//! ```text
//!   wake ──► same shard?  yes ─► ready queue of its class ─► poll, within the turn's budget
//!                         no ──► remote queue + doorbell ─► (next turn) ready queue
//! ```

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use crate::remote;

/// How a task competes for its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskClass {
    /// Somebody waits for the answer: runs first.
    Interactive,
    /// Sweeps, flushes, reports: runs when no interactive task is ready, and at least once a turn.
    Background,
}

/// Names a task on any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(u64);

const INDEX_BITS: u32 = 28;
const GENERATION_BITS: u32 = 20;

impl TaskId {
    fn new(shard: u16, generation: u32, index: u32) -> TaskId {
        debug_assert!(index < 1 << INDEX_BITS);
        let generation = (generation & ((1 << GENERATION_BITS) - 1)) as u64;
        TaskId((shard as u64) << 48 | generation << INDEX_BITS | index as u64)
    }

    /// The process-wide number of the shard.
    pub(crate) fn shard(self) -> u16 {
        (self.0 >> 48) as u16
    }

    fn generation(self) -> u32 {
        (self.0 >> INDEX_BITS) as u32 & ((1 << GENERATION_BITS) - 1)
    }

    fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }

    fn waker(self) -> Waker {
        // SAFETY: the vtable's functions treat the pointer as the plain number it is, on any thread.
        unsafe { Waker::from_raw(self.raw_waker()) }
    }

    fn raw_waker(self) -> RawWaker {
        RawWaker::new(std::ptr::without_provenance(self.0 as usize), &VTABLE)
    }
}

const _: () = assert!(size_of::<usize>() == 8, "a waker packs its task into one 64-bit word");

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |word| TaskId(word.addr() as u64).raw_waker(),
    |word| wake(TaskId(word.addr() as u64)),
    |word| wake(TaskId(word.addr() as u64)),
    |_| {},
);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Tasks>>> = const { RefCell::new(None) };
}

fn wake(id: TaskId) {
    let here = CURRENT.try_with(|current| {
        let current = current.borrow();
        let tasks = current.as_ref().filter(|tasks| tasks.shard == id.shard());
        tasks.map(|tasks| tasks.wake(id)).is_some()
    });
    if !here.unwrap_or(false) {
        remote::wake(id);
    }
}

enum Progress {
    Vacant,
    Waiting(Pin<Box<dyn Future<Output = ()>>>),
    Running,
}

struct Slot {
    generation: u32,
    queued: bool,
    aborted: bool,
    class: TaskClass,
    future: Progress,
}

/// The tasks of one shard.
pub(crate) struct Tasks {
    shard: u16,
    slots: RefCell<Vec<Slot>>,
    vacant: RefCell<Vec<u32>>,
    interactive: RefCell<VecDeque<u32>>,
    background: RefCell<VecDeque<u32>>,
    /// Tasks that ended by a panic.
    pub(crate) panics: Cell<u64>,
    /// Polls made.
    pub(crate) polls: Cell<u64>,
}

impl Tasks {
    pub(crate) fn new(shard: u16) -> Rc<Tasks> {
        Rc::new(Tasks {
            shard,
            slots: RefCell::default(),
            vacant: RefCell::default(),
            interactive: RefCell::default(),
            background: RefCell::default(),
            panics: Cell::new(0),
            polls: Cell::new(0),
        })
    }

    /// Makes this thread's wakers of this shard find their way without atomics, until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        CURRENT.with(|current| Entered { before: current.replace(Some(self.clone())) })
    }

    /// Starts a task; its first poll comes when its turn does.
    pub(crate) fn spawn<T: 'static>(
        self: &Rc<Self>,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        let joint = Rc::new(Joint { state: RefCell::new(JointState::Running(None)) });
        let end = Ending(joint.clone());
        let id = self.insert(class, Box::pin(Body { future, end }));
        self.wake(id);
        JoinHandle { joint, id, tasks: self.clone() }
    }

    fn insert(&self, class: TaskClass, future: Pin<Box<dyn Future<Output = ()>>>) -> TaskId {
        let mut slots = self.slots.borrow_mut();
        let index = match self.vacant.borrow_mut().pop() {
            Some(index) => index,
            None => {
                let class = TaskClass::Interactive;
                slots.push(Slot { generation: 0, queued: false, aborted: false, class, future: Progress::Vacant });
                (slots.len() - 1) as u32
            }
        };
        let slot = &mut slots[index as usize];
        slot.class = class;
        slot.future = Progress::Waiting(future);
        TaskId::new(self.shard, slot.generation, index)
    }

    /// Queues the task unless it is queued, gone, or of another life.
    pub(crate) fn wake(&self, id: TaskId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id.index()) else { return };
        let alive = TaskId::new(self.shard, slot.generation, id.index() as u32).generation() == id.generation();
        if !alive || slot.queued || matches!(slot.future, Progress::Vacant) {
            return;
        }
        slot.queued = true;
        match slot.class {
            TaskClass::Interactive => self.interactive.borrow_mut().push_back(id.index() as u32),
            TaskClass::Background => self.background.borrow_mut().push_back(id.index() as u32),
        }
    }

    /// Whether any task wants to run.
    pub(crate) fn is_ready(&self) -> bool {
        !self.interactive.borrow().is_empty() || !self.background.borrow().is_empty()
    }

    /// Tasks that have not ended.
    pub(crate) fn alive(&self) -> usize {
        self.slots.borrow().len() - self.vacant.borrow().len()
    }

    /// Polls what is ready now, once each, until `enough` says so. One background task gets in even then.
    pub(crate) fn run(&self, mut enough: impl FnMut() -> bool) {
        self.run_interactive(&mut enough);
        self.run_background(&mut enough);
    }

    // Each class has a function of its own on the stack, by which profiles tell them apart.
    #[inline(never)]
    fn run_interactive(&self, enough: &mut dyn FnMut() -> bool) {
        // What becomes ready meanwhile waits for the next turn: completions and timers come in between.
        let ready = self.interactive.borrow().len();
        for _ in 0..ready {
            let Some(index) = self.pop(TaskClass::Interactive) else { break };
            self.poll(index);
            if enough() {
                break;
            }
        }
    }

    #[inline(never)]
    fn run_background(&self, enough: &mut dyn FnMut() -> bool) {
        let ready = self.background.borrow().len();
        for _ in 0..ready {
            let Some(index) = self.pop(TaskClass::Background) else { break };
            self.poll(index);
            if enough() || !self.interactive.borrow().is_empty() {
                break;
            }
        }
    }

    fn pop(&self, class: TaskClass) -> Option<u32> {
        match class {
            TaskClass::Interactive => self.interactive.borrow_mut().pop_front(),
            TaskClass::Background => self.background.borrow_mut().pop_front(),
        }
    }

    fn poll(&self, index: u32) {
        let (id, mut future) = {
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[index as usize];
            slot.queued = false;
            let Progress::Waiting(future) = std::mem::replace(&mut slot.future, Progress::Running) else {
                slot.future = Progress::Vacant;
                return;
            };
            (TaskId::new(self.shard, slot.generation, index), future)
        };
        self.polls.set(self.polls.get() + 1);
        let waker = id.waker();
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        let aborted = self.slots.borrow()[index as usize].aborted;
        match polled {
            Ok(Poll::Pending) if !aborted => {
                self.slots.borrow_mut()[index as usize].future = Progress::Waiting(future);
            }
            Ok(_) => self.retire(index, Some(future)),
            Err(payload) => {
                self.panics.set(self.panics.get() + 1);
                crate::told::tell(format_args!("a task panicked and was ended: {}", panic_text(&*payload)));
                self.retire(index, Some(future));
            }
        }
    }

    /// Frees the slot, then drops the future with nothing borrowed: its drop may spawn and wake.
    fn retire(&self, index: u32, future: Option<Pin<Box<dyn Future<Output = ()>>>>) {
        {
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[index as usize];
            slot.generation = slot.generation.wrapping_add(1);
            slot.aborted = false;
            slot.future = Progress::Vacant;
            if !slot.queued {
                self.vacant.borrow_mut().push(index);
            } else {
                // It woke itself while ending: the queue still names it, so it becomes vacant when popped.
                slot.queued = false;
                self.interactive.borrow_mut().retain(|&queued| queued != index);
                self.background.borrow_mut().retain(|&queued| queued != index);
                self.vacant.borrow_mut().push(index);
            }
        }
        drop(future);
    }

    fn abort(&self, id: TaskId) {
        let future = {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(id.index()) else { return };
            if TaskId::new(self.shard, slot.generation, id.index() as u32) != id {
                return;
            }
            match std::mem::replace(&mut slot.future, Progress::Vacant) {
                Progress::Waiting(future) => future,
                Progress::Running => {
                    slot.future = Progress::Running;
                    slot.aborted = true;
                    return;
                }
                Progress::Vacant => return,
            }
        };
        self.retire(id.index() as u32, Some(future));
    }

    /// Drops every task.
    pub(crate) fn clear(&self) {
        let count = self.slots.borrow().len();
        for index in 0..count {
            let future = std::mem::replace(&mut self.slots.borrow_mut()[index].future, Progress::Vacant);
            if let Progress::Waiting(future) = future {
                self.retire(index as u32, Some(future));
            }
        }
    }
}

/// Restores what was current before.
pub(crate) struct Entered {
    before: Option<Rc<Tasks>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        CURRENT.with(|current| current.replace(before));
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// Why a task gave no value: it was aborted, it panicked, or its shard closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the task ended without a value: it was aborted, panicked, or its shard closed")
    }
}

impl std::error::Error for Ended {}

enum JointState<T> {
    Running(Option<Waker>),
    Finished(Result<T, Ended>),
    Taken,
}

struct Joint<T> {
    state: RefCell<JointState<T>>,
}

impl<T> Joint<T> {
    fn finish(&self, value: Result<T, Ended>) {
        let before = self.state.replace(JointState::Finished(value));
        if let JointState::Running(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// What runs: the future, and whom its value goes to. An `async` block would hold the future twice, as what it captured
/// and as what it awaits.
struct Body<F: Future> {
    future: F,
    end: Ending<F::Output>,
}

impl<F: Future> Future for Body<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: nothing is moved out of the pinned value: `future` is only ever reached through this pin, and neither
        // `Drop` nor `Unpin` is written for `Body`. `end` is never pinned.
        let Body { future, end } = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(future) };
        future.poll(cx).map(|value| end.0.finish(Ok(value)))
    }
}

/// Tells the waiter when the task's future is dropped before it has finished.
struct Ending<T>(Rc<Joint<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        if matches!(*self.0.state.borrow(), JointState::Running(_)) {
            self.0.finish(Err(Ended));
        }
    }
}

/// Awaits a task's value. Dropping it lets the task run on.
pub struct JoinHandle<T> {
    joint: Rc<Joint<T>>,
    id: TaskId,
    tasks: Rc<Tasks>,
}

impl<T> JoinHandle<T> {
    /// Drops the task's future at once, or at its next pause if it is the one running.
    pub fn abort(&self) {
        self.tasks.abort(self.id);
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        !matches!(*self.joint.state.borrow(), JointState::Running(_))
    }
}

/// The value of a task that has ended.
pub(crate) fn take_finished<T>(handle: JoinHandle<T>) -> Result<T, Ended> {
    match handle.joint.state.replace(JointState::Taken) {
        JointState::Finished(value) => value,
        _ => Err(Ended),
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Ended>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.joint.state.borrow_mut();
        match &mut *state {
            JointState::Running(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => match std::mem::replace(&mut *state, JointState::Taken) {
                JointState::Finished(value) => Poll::Ready(value),
                _ => Poll::Ready(Err(Ended)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields once.
    async fn pause() {
        let mut paused = false;
        std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn run_all(tasks: &Rc<Tasks>) {
        let _entered = tasks.enter();
        while tasks.is_ready() {
            tasks.run(|| false);
        }
    }

    #[test]
    fn a_task_runs_to_its_end_and_gives_its_value() {
        let tasks = Tasks::new(900);
        let inner = tasks.spawn(TaskClass::Interactive, async {
            pause().await;
            7
        });
        let outer = tasks.spawn(TaskClass::Interactive, async move { inner.await.unwrap() + 1 });
        let seen = Rc::new(Cell::new(0));
        let sink = seen.clone();
        drop(tasks.spawn(TaskClass::Background, async move { sink.set(outer.await.unwrap()) }));
        run_all(&tasks);
        assert_eq!(seen.get(), 8);
        assert_eq!(tasks.alive(), 0);
    }

    #[test]
    fn a_panic_ends_its_task_only() {
        let tasks = Tasks::new(901);
        let bad = tasks.spawn::<()>(TaskClass::Interactive, async { panic!("expected in this test") });
        let good = tasks.spawn(TaskClass::Interactive, async { 1 });
        run_all(&tasks);
        assert!(bad.is_finished() && good.is_finished());
        assert_eq!(tasks.panics.get(), 1);
        let verdict = tasks.spawn(TaskClass::Interactive, async move { (bad.await, good.await) });
        run_all(&tasks);
        assert!(matches!(*verdict.joint.state.borrow(), JointState::Finished(Ok((Err(Ended), Ok(1))))));
    }

    #[test]
    fn abort_drops_the_future_and_tells_the_waiter() {
        let tasks = Tasks::new(902);
        let kept = Rc::new(());
        let inside = kept.clone();
        let handle = tasks.spawn(TaskClass::Interactive, async move {
            let _inside = inside;
            std::future::pending::<()>().await
        });
        run_all(&tasks);
        assert_eq!(Rc::strong_count(&kept), 2);
        handle.abort();
        assert_eq!(Rc::strong_count(&kept), 1);
        assert!(handle.is_finished());
    }

    #[test]
    fn a_stale_waker_wakes_nobody() {
        let tasks = Tasks::new(903);
        let stolen: Rc<RefCell<Option<Waker>>> = Rc::default();
        let thief = stolen.clone();
        let first = tasks.spawn(TaskClass::Interactive, async move {
            std::future::poll_fn(|cx| {
                *thief.borrow_mut() = Some(cx.waker().clone());
                Poll::Ready(())
            })
            .await
        });
        run_all(&tasks);
        assert!(first.is_finished());
        drop(tasks.spawn(TaskClass::Interactive, std::future::pending::<()>()));
        run_all(&tasks);
        let _entered = tasks.enter();
        stolen.take().unwrap().wake();
        assert!(!tasks.is_ready());
    }

    #[test]
    fn interactive_tasks_go_first_and_background_is_not_starved() {
        let tasks = Tasks::new(904);
        let order: Rc<RefCell<Vec<&str>>> = Rc::default();
        let (a, b) = (order.clone(), order.clone());
        drop(tasks.spawn(TaskClass::Background, async move { a.borrow_mut().push("background") }));
        drop(tasks.spawn(TaskClass::Interactive, async move {
            loop {
                b.borrow_mut().push("interactive");
                pause().await;
            }
        }));
        let _entered = tasks.enter();
        tasks.run(|| true);
        assert_eq!(*order.borrow(), ["interactive", "background"]);
        tasks.clear();
        assert_eq!(tasks.alive(), 0);
    }
}
