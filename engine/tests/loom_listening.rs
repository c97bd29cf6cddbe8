//! The end of accepting under Loom: whoever is told that nothing more can come has everything that came.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p annulus-engine --test loom_listening`
//!
//! Without `--cfg loom` this file is empty: the models need Loom's atomics inside.
#![cfg(loom)]

use annulus_engine::listening::Listening;
use annulus_engine::mailbox::ring;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

#[test]
fn nothing_is_under_way_once_it_is_settled() {
    loom::model(|| {
        let listening = Arc::new(Listening::new(2));
        let arrived = Arc::new(AtomicUsize::new(0));
        listening.accepts(1);
        let (mut letters, mut inbox) = ring(1);
        let accepting = {
            let listening = listening.clone();
            thread::spawn(move || {
                listening.sends();
                letters.push(()).expect("the ring has room for one");
                listening.accepts_no_more();
            })
        };
        let receiving = {
            let (listening, arrived) = (listening.clone(), arrived.clone());
            thread::spawn(move || {
                if inbox.pop().is_some() {
                    // Relaxed on purpose: the counter alone must make it seen.
                    arrived.store(1, Ordering::Relaxed);
                    listening.has_arrived();
                }
            })
        };
        if listening.is_settled() {
            assert_eq!(arrived.load(Ordering::Relaxed), 1);
        }
        accepting.join().unwrap();
        receiving.join().unwrap();
        assert_eq!(listening.is_settled(), arrived.load(Ordering::Relaxed) == 1);
    });
}

#[test]
fn two_sockets_are_two_reasons_to_wait() {
    loom::model(|| {
        let listening = Arc::new(Listening::new(2));
        let closed = Arc::new(AtomicUsize::new(0));
        listening.accepts(2);
        let closing: Vec<_> = (0..2)
            .map(|_| {
                let (listening, closed) = (listening.clone(), closed.clone());
                thread::spawn(move || {
                    closed.fetch_add(1, Ordering::Relaxed);
                    listening.accepts_no_more();
                })
            })
            .collect();
        if listening.is_settled() {
            assert_eq!(closed.load(Ordering::Relaxed), 2);
        }
        closing.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(listening.is_settled());
    });
}
