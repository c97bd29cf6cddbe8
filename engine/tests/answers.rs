//! A thread that is no shard answers a shard's task, and a shard's task another thread.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use std::time::Duration;

use annulus_engine::compute::{Ticket, ticket};
use common::on_each_driver;

#[test]
fn a_foreign_thread_wakes_a_sleeping_shard() {
    on_each_driver(1, |shard| async move {
        let (calls, desk) = std::sync::mpsc::channel::<(u64, Ticket<u64>)>();
        let clerk = std::thread::spawn(move || {
            for (number, ticket) in desk {
                // Long enough, now and then, that the shard sleeps in the kernel.
                std::thread::sleep(Duration::from_micros(number % 3 * 700));
                if number % 7 != 0 {
                    ticket.answer(number * 2);
                }
            }
        });
        for number in 0..300 {
            let (ticket, reply) = ticket();
            calls.send((number, ticket)).unwrap();
            let answer = shard.timeout(Duration::from_secs(10), reply).await.unwrap();
            assert_eq!(answer, (number % 7 != 0).then_some(number * 2));
        }
        drop(calls);
        clerk.join().unwrap();
    });
}

#[test]
fn a_thread_waits_for_a_shard() {
    on_each_driver(1, |shard| async move {
        let (answered, waits) = ticket();
        let (dropped, never) = ticket::<u8>();
        let thread = std::thread::spawn(move || (waits.wait(), never.wait()));
        shard.sleep(Duration::from_millis(5)).await;
        answered.answer(7);
        drop(dropped);
        assert_eq!(thread.join().unwrap(), (Some(7), None));
    });
}
