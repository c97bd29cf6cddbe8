//! An answer on its way to a task, under Loom, which tries every interleaving that matters.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p annulus-engine --test loom_ticket`
//!
//! Without `--cfg loom` this file is empty: the models need Loom's locks inside the ticket.
#![cfg(loom)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use annulus_engine::compute::{Reply, ticket};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// A task's wake-ups, of which many before a poll are one.
struct Task {
    is_woken: Mutex<bool>,
    wakes: Condvar,
}

impl Task {
    fn new() -> Arc<Task> {
        Arc::new(Task { is_woken: Mutex::new(false), wakes: Condvar::new() })
    }

    /// Polls until there is an answer, asleep in between: Loom reports a wake-up that is lost as a deadlock.
    fn wait<T>(self: &Arc<Self>, mut reply: Reply<T>) -> Option<T> {
        let waker = Waker::from(self.clone());
        loop {
            if let Poll::Ready(answer) = Pin::new(&mut reply).poll(&mut Context::from_waker(&waker)) {
                return answer;
            }
            let mut is_woken = self.is_woken.lock().unwrap();
            while !*is_woken {
                is_woken = self.wakes.wait(is_woken).unwrap();
            }
            *is_woken = false;
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap() = true;
        self.wakes.notify_one();
    }
}

#[test]
fn an_answer_always_arrives() {
    loom::model(|| {
        let (ticket, reply) = ticket();
        let answering = thread::spawn(move || ticket.answer(7));
        assert_eq!(Task::new().wait(reply), Some(7));
        answering.join().unwrap();
    });
}

#[test]
fn the_absence_of_an_answer_arrives_as_well() {
    loom::model(|| {
        let (ticket, reply) = ticket::<u32>();
        let giving_up = thread::spawn(move || drop(ticket));
        assert_eq!(Task::new().wait(reply), None);
        giving_up.join().unwrap();
    });
}

#[test]
fn who_waits_no_more_disturbs_nobody_and_leaks_nothing() {
    loom::model(|| {
        let counted = loom::sync::Arc::new(());
        let value = counted.clone();
        let (ticket, mut reply) = ticket();
        let answering = thread::spawn(move || {
            if !ticket.is_abandoned() {
                ticket.answer(value);
            }
        });
        let waker = Waker::from(Task::new());
        let _either = Pin::new(&mut reply).poll(&mut Context::from_waker(&waker)).is_ready();
        drop(reply);
        answering.join().unwrap();
        assert_eq!(loom::sync::Arc::strong_count(&counted), 1);
    });
}
