//! Letters between shards, and the inboxes that tasks read them from.
//!
//! ```text
//!   post ─► outgoing queue ─(end of turn)─► ring of this pair ─► dirty bit ─► bell if the peer sleeps
//!                                                │
//!              inbox of that name ◄─(bounded)────┘  in the peer's next turn
//! ```
//!
//! One ring per ordered pair of shards; letters between two shards keep their order. A full ring leaves letters
//! in the outgoing queue; a full outgoing queue refuses, which the sender sees.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::driver::Fd;
use crate::limits;
use crate::mailbox::{Consumer, DirtyMap, Producer, ring};
use crate::remote::Remote;
use crate::shard::{Core, Shard};

/// What crosses from shard to shard.
pub(crate) enum Letter {
    /// An accepted connection for the listener of that address.
    Socket { listener: Arc<str>, fd: Fd },
    /// Something for the inbox of that name.
    Mail { inbox: &'static str, body: Box<dyn Any + Send> },
}

/// A shard's ends of all rings that concern it.
pub(crate) struct Post {
    outgoing: Vec<Option<Producer<Letter>>>,
    incoming: Vec<Option<Consumer<Letter>>>,
    /// Per shard: which rings into it hold something.
    dirty: Vec<Arc<DirtyMap>>,
    remotes: Vec<Arc<Remote>>,
}

impl Post {
    /// For a shard without peers.
    pub(crate) fn alone(remote: Arc<Remote>) -> Post {
        Post {
            outgoing: vec![None],
            incoming: vec![None],
            dirty: vec![Arc::new(DirtyMap::new(1))],
            remotes: vec![remote],
        }
    }

    /// The ends for all shards of an engine, by shard.
    pub(crate) fn mesh(remotes: Vec<Arc<Remote>>) -> Vec<Post> {
        let count = remotes.len();
        let dirty: Vec<_> = (0..count).map(|_| Arc::new(DirtyMap::new(count))).collect();
        let mut posts: Vec<Post> = (0..count)
            .map(|_| Post {
                outgoing: (0..count).map(|_| None).collect(),
                incoming: (0..count).map(|_| None).collect(),
                dirty: dirty.clone(),
                remotes: remotes.clone(),
            })
            .collect();
        for from in 0..count {
            for to in (0..count).filter(|&to| to != from) {
                let (producer, consumer) = ring(limits::MAILBOX_LETTERS);
                posts[from].outgoing[to] = Some(producer);
                posts[to].incoming[from] = Some(consumer);
            }
        }
        posts
    }
}

/// Takes a letter's body into an inbox of a type known only there.
trait Deliver {
    fn deliver(&self, body: Box<dyn Any + Send>);
    fn state(self: Rc<Self>) -> Rc<dyn Any>;
}

struct InboxState<T> {
    queue: RefCell<VecDeque<T>>,
    waker: Cell<Option<Waker>>,
}

impl<T: Send + 'static> Deliver for InboxState<T> {
    fn deliver(&self, body: Box<dyn Any + Send>) {
        let body = body.downcast().expect("an inbox's name is used with one type only");
        self.queue.borrow_mut().push_back(*body);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn state(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

/// Where a task of this shard reads letters of one kind.
pub struct Inbox<T> {
    state: Rc<InboxState<T>>,
}

impl<T> Inbox<T> {
    /// The next letter, waiting for it.
    pub async fn recv(&mut self) -> T {
        std::future::poll_fn(|cx| match self.try_recv() {
            Some(letter) => Poll::Ready(letter),
            None => {
                self.state.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// The next letter, if it is here.
    pub fn try_recv(&mut self) -> Option<T> {
        self.state.queue.borrow_mut().pop_front()
    }

    /// Registers the waker for the next letter; for tasks that wait for several things.
    pub fn poll_recv(&mut self, cx: &mut std::task::Context<'_>) -> Poll<T> {
        match self.try_recv() {
            Some(letter) => Poll::Ready(letter),
            None => {
                self.state.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// The letter was not taken: too many wait for that shard already. It is given back.
#[derive(Debug)]
pub struct MailboxFull<T>(pub T);

/// A shard's side of the post.
pub(crate) struct Mail {
    index: usize,
    post: RefCell<Post>,
    waiting: RefCell<Vec<VecDeque<Letter>>>,
    waiting_count: Cell<usize>,
    inboxes: RefCell<HashMap<&'static str, Rc<dyn Deliver>>>,
    /// Letters that came before their inbox was opened.
    early: RefCell<HashMap<&'static str, Vec<Box<dyn Any + Send>>>>,
}

impl Mail {
    pub(crate) fn new(index: usize, post: Post) -> Mail {
        let waiting = post.outgoing.iter().map(|_| VecDeque::new()).collect();
        Mail {
            index,
            post: RefCell::new(post),
            waiting: RefCell::new(waiting),
            waiting_count: Cell::new(0),
            inboxes: RefCell::default(),
            early: RefCell::default(),
        }
    }

    /// Whether letters wait, here or in a ring towards us.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_count.get() > 0 || !self.post.borrow().dirty[self.index].is_empty()
    }

    fn deliver(&self, inbox: &'static str, body: Box<dyn Any + Send>) {
        let target = self.inboxes.borrow().get(inbox).cloned();
        match target {
            Some(target) => target.deliver(body),
            None => self.early.borrow_mut().entry(inbox).or_default().push(body),
        }
    }

    fn open<T: Send + 'static>(&self, name: &'static str) -> Rc<InboxState<T>> {
        if let Some(open) = self.inboxes.borrow().get(name) {
            return open.clone().state().downcast().expect("an inbox's name is used with one type only");
        }
        let state = Rc::new(InboxState { queue: RefCell::default(), waker: Cell::new(None) });
        self.inboxes.borrow_mut().insert(name, state.clone());
        for body in self.early.borrow_mut().remove(name).into_iter().flatten() {
            state.deliver(body);
        }
        state
    }
}

impl Core {
    /// Takes letters from the rings, a bounded batch of each.
    pub(crate) fn deliver_letters(&self) {
        let dirty = self.mail.post.borrow().dirty[self.mail.index].clone();
        for from in dirty.take() {
            for taken in 0.. {
                let letter = match &mut self.mail.post.borrow_mut().incoming[from] {
                    Some(ring) if taken < limits::LETTERS_PER_TURN => ring.pop(),
                    _ => {
                        dirty.mark(from);
                        break;
                    }
                };
                let Some(letter) = letter else { break };
                self.metrics.letters_received.add(1);
                match letter {
                    Letter::Socket { listener, fd } => self.on_handed(&listener, fd),
                    Letter::Mail { inbox, body } => self.mail.deliver(inbox, body),
                }
            }
        }
    }

    /// Queues a letter; false when the queue to that shard is full.
    pub(crate) fn post_letter(&self, to: usize, letter: Letter) -> Result<(), Letter> {
        let mut waiting = self.mail.waiting.borrow_mut();
        if waiting[to].len() >= limits::LETTERS_WAITING_MAX {
            self.metrics.mailbox_full.add(1);
            return Err(letter);
        }
        waiting[to].push_back(letter);
        self.mail.waiting_count.set(self.mail.waiting_count.get() + 1);
        Ok(())
    }

    /// Moves waiting letters into the rings as far as these have room, and wakes peers that sleep.
    pub(crate) fn send_letters(&self) {
        if self.mail.waiting_count.get() == 0 {
            return;
        }
        let mut waiting = self.mail.waiting.borrow_mut();
        let mut post = self.mail.post.borrow_mut();
        let Post { outgoing, dirty, remotes, .. } = &mut *post;
        for (to, ring) in outgoing.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let mut sent = 0;
            while let Some(letter) = waiting[to].pop_front() {
                if let Err(letter) = ring.push(letter) {
                    waiting[to].push_front(letter);
                    break;
                }
                sent += 1;
            }
            if sent == 0 {
                continue;
            }
            self.mail.waiting_count.set(self.mail.waiting_count.get() - sent);
            self.metrics.letters_sent.add(sent as u64);
            dirty[to].mark(self.mail.index);
            if remotes[to].sleep.should_ring() {
                self.metrics.doorbells_rung.add(1);
                self.driver.borrow_mut().ring(remotes[to].bell());
            }
        }
    }

    /// At the shard's end: takes what still comes, drops what still waits, and closes the connections among it.
    pub(crate) fn clear_letters(&self) {
        let dirty = self.mail.post.borrow().dirty[self.mail.index].clone();
        while !dirty.is_empty() {
            self.deliver_letters();
        }
        for letter in self.mail.waiting.borrow_mut().iter_mut().flat_map(|waiting| waiting.drain(..)) {
            if let Letter::Socket { fd, .. } = letter {
                self.driver.borrow_mut().close(fd);
            }
        }
        self.mail.waiting_count.set(0);
    }
}

impl Shard {
    /// Asks the whole engine to finish, as [`crate::Engine::drain`] does.
    pub fn drain(&self) {
        self.core.mesh.draining.store(true, std::sync::atomic::Ordering::Release);
        self.core.notice_drain();
        self.core.mail.post.borrow().remotes.iter().for_each(|remote| remote.nudge());
    }

    /// Opens this shard's inbox of that name. All users of a name share one queue and one type.
    ///
    /// # Panics
    /// When the name is in use with another type.
    pub fn inbox<T: Send + 'static>(&self, name: &'static str) -> Inbox<T> {
        Inbox { state: self.core.mail.open(name) }
    }

    /// Sends a letter to the inbox `name` of shard `to`, this one included. It arrives after this turn, in order
    /// with other letters from here.
    ///
    /// # Errors
    /// [`MailboxFull`] when that shard lags too far behind.
    ///
    /// # Panics
    /// When there is no such shard, or (there) when the inbox has another type.
    pub fn post<T: Send + 'static>(&self, to: usize, name: &'static str, letter: T) -> Result<(), MailboxFull<T>> {
        assert!(to < self.count(), "no shard {to}");
        if to == self.index() {
            self.core.mail.deliver(name, Box::new(letter));
            return Ok(());
        }
        let letter = Letter::Mail { inbox: name, body: Box::new(letter) };
        self.core.post_letter(to, letter).map_err(|refused| match refused {
            Letter::Mail { body, .. } => MailboxFull(*body.downcast().expect("it was boxed just above")),
            Letter::Socket { .. } => unreachable!("the letter that was passed comes back"),
        })
    }
}
