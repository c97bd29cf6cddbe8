//! What is sent to many: at once to those who were left alone, together to those who were not.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use annulus_engine::driver::DriverKind;
use annulus_engine::{Address, ConnId, Event, Frame, Group, GroupOptions, ListenOptions, Sent, Shard, limits};
use common::on_each_driver;

const MS: Duration = Duration::from_millis(1);
const BLOCKING_MAX: Duration = Duration::from_secs(10);

/// A group with so many connections, and their other ends.
async fn room(shard: &Shard, count: usize) -> (Group<()>, Vec<ConnId>, Vec<TcpStream>) {
    let mut group = shard.group::<()>(GroupOptions::default());
    let listener = shard.listen(&Address::Ip(([127, 0, 0, 1], 0).into()), &ListenOptions::default()).unwrap();
    let Address::Ip(address) = listener.address().clone() else { panic!("an IP address was asked for") };
    group.listen(listener);
    let (mut ids, mut ends) = (Vec::new(), Vec::new());
    while ids.len() < count {
        let end = TcpStream::connect(address).unwrap();
        end.set_read_timeout(Some(BLOCKING_MAX)).unwrap();
        ends.push(end);
        group.ready().await;
        while let Some(event) = group.next_event() {
            let Event::Opened(id) = event else { panic!("{event:?}") };
            ids.push(id);
        }
    }
    (group, ids, ends)
}

#[test]
fn who_was_not_sent_to_lately_does_not_wait_for_those_who_were() {
    const MEMBERS: usize = 200;
    let rest = limits::FAN_OUT_REST_PER_RECEIVER * MEMBERS as u32;
    on_each_driver(1, move |shard| async move {
        let (group, ids, mut ends) = room(&shard, MEMBERS + 1).await;
        let (outlet, (lone, members)) = (group.outlet(), ids.split_last().unwrap());
        let [first, second, third] = ["first", "second", "third"].map(|text| shard.frame(&[text.as_bytes()]));
        let waiting = |ids: &[ConnId]| ids.iter().filter(|&&id| outlet.outbox_bytes(id) > 0).count();
        let mut full = Vec::new();
        let mut seen = 0;
        // A machine that is busy may let the rest pass before it is looked at: then once more.
        for round in 0.. {
            let began = shard.now();
            outlet.send_all(members, &first, &mut full);
            shard.yield_now().await;
            assert_eq!(waiting(members), 0, "the first leaves at once");
            outlet.send_all(members, &second, &mut full);
            outlet.send_all(members, &third, &mut full);
            outlet.send_all(&[*lone], &first, &mut full);
            // Told something of its own, a member gets what waits for it as well.
            assert_eq!(outlet.send(members[0], &third), Sent::Queued);
            shard.yield_now().await;
            let (resting, others) = (waiting(&members[1..]), waiting(&[*lone, members[0]]));
            if shard.precise_now() - began < rest {
                assert_eq!((resting, others), (MEMBERS - 1, 0));
                seen = round + 1;
            }
            while waiting(&ids) > 0 {
                shard.sleep(MS).await;
            }
            if seen > 0 {
                break;
            }
            shard.sleep(4 * rest).await;
        }
        assert!(full.is_empty());
        for (at, end) in ends.iter_mut().enumerate() {
            let each = match at {
                0 => "firstsecondthirdthird",
                MEMBERS => "first",
                _ => "firstsecondthird",
            };
            let mut heard = vec![0; each.len() * seen];
            end.read_exact(&mut heard).unwrap();
            assert_eq!(String::from_utf8(heard).unwrap(), each.repeat(seen));
        }
    });
}

#[test]
fn who_is_told_very_much_does_not_rest() {
    const MEMBERS: usize = 200;
    on_each_driver(1, |shard| async move {
        let (group, ids, ends) = room(&shard, MEMBERS).await;
        let outlet = group.outlet().with_outbox_bytes_max(limits::FAN_OUT_REST_BYTES_MAX);
        let frame = Frame::owned(vec![7; limits::FAN_OUT_REST_BYTES_MAX / 16]);
        let mut full = Vec::new();
        // Within one rest, half as much again as may wait for anybody: nobody is slow for being left alone.
        for _ in 0..24 {
            outlet.send_all(&ids, &frame, &mut full);
            shard.yield_now().await;
        }
        assert!(full.is_empty(), "{} of {MEMBERS} were taken for slow", full.len());
        while ids.iter().any(|&id| outlet.outbox_bytes(id) > 0) {
            shard.sleep(MS).await;
        }
        for mut end in ends {
            end.read_exact(&mut vec![0; 24 * frame.len()]).unwrap();
        }
    });
}

#[test]
fn what_the_kernel_copies_in_any_case_is_not_read_in_place_again() {
    on_each_driver(1, |shard| async move {
        let (group, ids, mut ends) = room(&shard, 1).await;
        let (outlet, mut end) = (group.outlet(), ends.pop().unwrap());
        for number in 0..6 {
            let frame = Frame::owned(vec![number; 2 * limits::ZERO_COPY_BYTES_MIN]);
            let reader = end.try_clone().unwrap();
            let reading = std::thread::spawn(move || {
                let mut heard = vec![0; 2 * limits::ZERO_COPY_BYTES_MIN];
                (&reader).read_exact(&mut heard).unwrap();
                assert!(heard.iter().all(|&byte| byte == number));
            });
            assert_eq!(outlet.send(ids[0], &frame), Sent::Queued);
            while !reading.is_finished() || outlet.outbox_bytes(ids[0]) > 0 {
                shard.sleep(MS).await;
            }
            reading.join().unwrap();
            // Time for the word that the memory is free. On a busy machine it may take longer.
            shard.sleep(20 * MS).await;
        }
        end.set_nonblocking(true).unwrap();
        assert!(end.read(&mut [0]).is_err(), "nothing else was sent");
        let in_place = shard.metrics().zero_copy_sends.get();
        let reports = shard.driver_kind() == DriverKind::Uring && kernel_is_at_least(6, 7);
        match reports {
            true => assert!(in_place < 6, "the first brings the word that it was copied"),
            false => eprintln!("NOT RUN: nobody says here whether {in_place} sends were copied"),
        }
    });
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}
