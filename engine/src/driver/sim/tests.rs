//! The simulation itself under test, without a shard.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::driver::*;
use crate::frame::Frame;

const RECEIVE: Token = Token(1);
const SEND: Token = Token(2);
const ACCEPT: Token = Token(3);

fn address() -> Address {
    Address::Ip(([10, 0, 0, 2], 80).into())
}

fn batch(text: &[u8]) -> Batch {
    Batch::One(Frame::owned(text.to_vec()))
}

fn turn(driver: &mut SimDriver) -> Vec<Completion> {
    let mut out = Vec::new();
    driver.turn(Wait::Until(None), &mut out).unwrap();
    out
}

/// Turns until something completes.
fn next(driver: &mut SimDriver) -> Completion {
    let mut out = Vec::new();
    for _ in 0..1000 {
        driver.turn(Wait::Until(None), &mut out).unwrap();
        if let Some(done) = out.pop() {
            assert!(out.is_empty(), "one at a time was expected: {out:?}");
            return done;
        }
    }
    panic!("nothing completed");
}

/// A listener with one accepted connection.
fn connected(world: &World, driver: &mut SimDriver) -> (Fd, Fd, Peer) {
    let (listener, _) = driver.listen(&address(), &SocketOptions::default()).unwrap();
    driver.submit(ACCEPT, Op::Accept { listener });
    let peer = world.connect(&address()).unwrap();
    let done = next(driver);
    assert!(done.more && done.token == ACCEPT);
    (listener, Fd(done.result.unwrap() as i32), peer)
}

fn close_listener(driver: &mut SimDriver, listener: Fd) {
    driver.cancel(listener);
    let done = next(driver);
    assert_eq!((done.result, done.more), (Err(Errno::CANCELED), false));
    driver.close(listener);
}

fn lease(done: &Completion) -> &[u8] {
    match &done.memory {
        Memory::Lease(lease) => lease,
        other => panic!("no lease: {other:?}"),
    }
}

#[test]
fn bytes_go_both_ways_and_everything_is_given_back() {
    let world = World::new(1, Faults::default());
    let mut driver = world.driver(4);
    let (listener, socket, mut peer) = connected(&world, &mut driver);
    assert_eq!(driver.peer(socket).unwrap(), Address::Ip(([10, 0, 0, 1], 40_001).into()));
    driver.submit(RECEIVE, Op::Receive { socket });
    assert!(turn(&mut driver).is_empty());
    assert_eq!(peer.write(b"hello"), 5);
    let done = next(&mut driver);
    assert_eq!((lease(&done), done.more), (&b"hello"[..], true));
    drop(done);
    driver.submit(SEND, Op::Send { socket, batch: batch(b"answer"), manner: SendManner::Copy });
    let done = next(&mut driver);
    assert!(matches!((done.result, done.more, done.memory), (Ok(6), false, Memory::Batch(_))));
    let mut came = Vec::new();
    world.deliver();
    peer.read(100, &mut came);
    assert_eq!(came, b"answer");
    peer.shutdown();
    let done = next(&mut driver);
    assert_eq!((done.result, done.more), (Ok(0), false));
    driver.close(socket);
    close_listener(&mut driver, listener);
    assert_eq!((driver.in_flight(), driver.pool().leased()), (0, 0));
    world.deliver();
    assert!(peer.is_ended() && !peer.is_reset());
    world.finish();
}

#[test]
fn a_receive_without_a_buffer_ends_and_can_be_armed_again() {
    let world = World::new(1, Faults::default());
    let mut driver = world.driver(1);
    let (listener, socket, mut peer) = connected(&world, &mut driver);
    driver.submit(RECEIVE, Op::Receive { socket });
    peer.write(b"first");
    let first = next(&mut driver);
    peer.write(b"second");
    let starved = next(&mut driver);
    assert_eq!((starved.result, starved.more), (Err(Errno::NOBUFS), false));
    drop(first);
    driver.submit(RECEIVE, Op::Receive { socket });
    assert_eq!(lease(&next(&mut driver)), b"second");
    driver.cancel_receive(socket, RECEIVE);
    assert_eq!(next(&mut driver).result, Err(Errno::CANCELED));
    driver.close(socket);
    close_listener(&mut driver, listener);
    world.finish();
}

#[test]
fn a_zero_copy_send_completes_twice() {
    let world = World::new(1, Faults { short_send: 1000, ..Faults::default() });
    let mut driver = world.driver(4);
    let (listener, socket, _peer) = connected(&world, &mut driver);
    driver.submit(SEND, Op::Send { socket, batch: batch(&[7; 1000]), manner: SendManner::ZeroCopy });
    let first = next(&mut driver);
    let sent = first.result.unwrap() as usize;
    assert!(first.more && sent > 0 && sent < 1000, "{sent}");
    let Memory::Batch(rest) = first.memory else { panic!("no batch") };
    assert_eq!(rest.after(sent).unwrap().len(), 1000 - sent);
    assert_eq!(driver.in_flight(), 2);
    let second = next(&mut driver);
    assert!(matches!((second.result, second.more, second.memory), (Ok(0), false, Memory::None)));
    driver.close(socket);
    close_listener(&mut driver, listener);
    world.finish();
}

#[test]
fn a_direct_receive_waits_for_all_its_bytes() {
    let world = World::new(1, Faults { trickle: 500, ..Faults::default() });
    let mut driver = world.driver(4);
    let (listener, socket, mut peer) = connected(&world, &mut driver);
    let mut memory = Vec::with_capacity(100);
    memory.extend_from_slice(b">");
    driver.submit(RECEIVE, Op::ReceiveInto { socket, memory, want: 10 });
    assert!((0..3).all(|part| peer.write(&[part; 3]) == 3 && turn(&mut driver).is_empty()));
    peer.write(&[3; 3]);
    let done = next(&mut driver);
    assert_eq!(done.result, Ok(10));
    assert!(matches!(done.memory, Memory::Bytes(memory) if memory == [b'>', 0, 0, 0, 1, 1, 1, 2, 2, 2, 3]));
    driver.close(socket);
    close_listener(&mut driver, listener);
    (0..20).for_each(|_| world.deliver());
    assert!(peer.is_reset(), "two bytes were left unread");
    world.finish();
}

#[test]
fn a_closed_number_is_used_again_at_once() {
    let world = World::new(1, Faults::default());
    let mut driver = world.driver(4);
    let first = driver.socket(&address(), &SocketOptions::default()).unwrap();
    let second = driver.socket(&address(), &SocketOptions::default()).unwrap();
    assert_ne!(first, second);
    driver.close(first);
    assert_eq!(driver.socket(&address(), &SocketOptions::default()).unwrap(), first);
    world.set_descriptors_max(5);
    let error = driver.socket(&address(), &SocketOptions::default()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    driver.close(first);
    driver.close(second);
    world.finish();
}

#[test]
fn connecting_finds_listeners_and_is_refused_without() {
    let world = World::new(1, Faults::default());
    let mut driver = world.driver(4);
    let refused = driver.socket(&address(), &SocketOptions::default()).unwrap();
    driver.submit(SEND, Op::Connect { socket: refused, peer: address() });
    assert_eq!(next(&mut driver).result, Err(Errno(libc::ECONNREFUSED)));
    driver.close(refused);
    let mut server = world.serve(&address());
    let socket = driver.socket(&address(), &SocketOptions::default()).unwrap();
    driver.submit(SEND, Op::Connect { socket, peer: address() });
    assert_eq!(next(&mut driver).result, Ok(0));
    let peer = server.accept().expect("it was connected to");
    peer.reset();
    driver.submit(RECEIVE, Op::Receive { socket });
    assert_eq!(next(&mut driver).result, Err(Errno(libc::ECONNRESET)));
    driver.close(socket);
    world.finish();
}

#[test]
fn what_a_shard_must_not_do_is_reported() {
    type Crime = fn(&mut SimDriver, Fd, Fd);
    let crimes: [(&str, Crime); 5] = [
        ("second send", |driver, _, socket| {
            for _ in 0..2 {
                driver.submit(SEND, Op::Send { socket, batch: batch(b"x"), manner: SendManner::Copy });
            }
        }),
        ("second receive", |driver, _, socket| {
            driver.submit(RECEIVE, Op::Receive { socket });
            driver.submit(RECEIVE, Op::ReceiveInto { socket, memory: Vec::with_capacity(1), want: 1 });
        }),
        ("operations in flight", |driver, listener, _| driver.close(listener)),
        ("closed twice", |driver, _, socket| (0..2).for_each(|_| driver.close(socket))),
        ("closed descriptor", |driver, _, socket| {
            driver.close(socket);
            driver.submit(RECEIVE, Op::Receive { socket });
        }),
    ];
    for (complaint, crime) in crimes {
        let world = World::new(1, Faults::default());
        let mut driver = world.driver(4);
        let (listener, socket, _peer) = connected(&world, &mut driver);
        let caught = catch_unwind(AssertUnwindSafe(|| crime(&mut driver, listener, socket)));
        assert!(caught.is_err(), "{complaint} went unseen");
        assert!(world.failure().unwrap().contains(complaint), "{:?}", world.failure());
        assert!(catch_unwind(AssertUnwindSafe(|| world.finish())).is_err());
    }
}

#[test]
fn what_is_left_open_is_reported() {
    let world = World::new(1, Faults::default());
    let mut driver = world.driver(4);
    let (_, _, _peer) = connected(&world, &mut driver);
    assert!(catch_unwind(AssertUnwindSafe(|| world.finish())).is_err());
}

#[test]
fn files_are_durable_once_synced() {
    let world = World::new(3, Faults { short_file: 300, ..Faults::default() });
    let mut driver = world.driver(1);
    let open = Op::Open { path: c"/log".into(), flags: libc::O_RDWR | libc::O_CREAT, mode: 0o644 };
    driver.submit(SEND, open);
    let file = Fd(next(&mut driver).result.unwrap() as i32);
    let mut left = Some(batch(b"some durable text"));
    let mut offset = 0;
    while let Some(part) = left {
        driver.submit(SEND, Op::Write { file, batch: part, offset });
        let done = next(&mut driver);
        let Memory::Batch(part) = done.memory else { panic!("no batch") };
        offset += done.result.unwrap() as u64;
        left = part.after(done.result.unwrap() as usize);
    }
    driver.submit(SEND, Op::Open { path: c"/".into(), flags: libc::O_DIRECTORY, mode: 0 });
    let directory = Fd(next(&mut driver).result.unwrap() as i32);
    for fd in [file, directory] {
        driver.submit(SEND, Op::Sync { file: fd, metadata: true });
        assert_eq!(next(&mut driver).result, Ok(0));
        driver.close(fd);
    }
    world.finish();
    world.power_cut();
    assert_eq!(world.file("/log").unwrap(), b"some durable text");
}

#[test]
fn datagrams_find_their_way() {
    let world = World::new(1, Faults { datagram_doubled: 1000, ..Faults::default() });
    let mut driver = world.driver(1);
    let (socket, local) = driver.datagram(([10, 0, 0, 2], 0).into()).unwrap();
    let remote = ([10, 0, 0, 9], 53).into();
    driver.submit(SEND, Op::SendTo { socket, memory: b"query".to_vec(), peer: remote });
    assert_eq!(next(&mut driver).result, Ok(5));
    assert_eq!(world.take_datagram(remote), Some((b"query".to_vec(), local)));
    assert!(world.take_datagram(remote).is_some());
    world.send_datagram(remote, local, b"a long answer");
    driver.submit(RECEIVE, Op::ReceiveFrom { socket, memory: Vec::with_capacity(6) });
    assert!(matches!(next(&mut driver).memory, Memory::Datagram(bytes, from) if bytes == b"a long" && from == remote));
    driver.submit(RECEIVE, Op::ReceiveFrom { socket, memory: Vec::with_capacity(100) });
    assert!(matches!(next(&mut driver).memory, Memory::Datagram(bytes, _) if bytes == b"a long answer"));
    driver.close(socket);
    world.finish();
}

#[test]
fn a_wait_ends_no_later_than_its_deadline() {
    let world = World::new(1, Faults::default());
    world.set_sleep_max(Duration::MAX);
    let mut driver = world.driver(1);
    let until = driver.now() + Duration::from_secs(100);
    driver.turn(Wait::Until(Some(until)), &mut Vec::new()).unwrap();
    assert!(driver.now() >= until && driver.now() < until + Duration::from_millis(1));
    driver.doorbell().ring();
    driver.turn(Wait::Until(Some(until + Duration::from_secs(100))), &mut Vec::new()).unwrap();
    assert!(driver.now() < until + Duration::from_secs(1));
    world.finish();
}

/// A plain copy loop on the bare driver under every fault; its trace's hash.
fn echo_under_faults(seed: u64) -> u64 {
    let world = World::new(seed, Faults { reset: 0, accept_aborted: 0, ..Faults::random(&mut Random::new(seed)) });
    let mut driver = world.driver(3);
    let Ok((listener, _)) = driver.listen(&address(), &SocketOptions::default()) else { return seed };
    driver.submit(ACCEPT, Op::Accept { listener });
    let mut peer = world.connect(&address()).unwrap();
    let (mut socket, mut sent, mut came, mut echoed) = (None, 0, Vec::new(), Vec::new());
    let text: Vec<u8> = (0..500u32).map(|at| (at * at / 7) as u8).collect();
    let (mut accepting, mut receiving, mut pending, mut sending, mut noticing) = (true, false, Vec::new(), false, 0);
    let mut out = Vec::new();
    while echoed.len() < text.len() || noticing > 0 || sending {
        sent += peer.write(&text[sent..]);
        peer.read(usize::MAX, &mut echoed);
        driver.turn(Wait::Until(None), &mut out).unwrap();
        for done in out.drain(..) {
            match (done.token, done.result) {
                (ACCEPT, result) => {
                    accepting = done.more;
                    socket = socket.or(result.ok().map(|fd| Fd(fd as i32)));
                }
                (RECEIVE, result) => {
                    receiving = done.more;
                    if result.is_ok() {
                        came.extend_from_slice(lease(&done));
                        pending.extend_from_slice(lease(&done));
                    }
                }
                (SEND, result) => match done.memory {
                    Memory::Batch(batch) => {
                        noticing += done.more as usize;
                        sending = false;
                        let rest = batch.after(result.unwrap() as usize);
                        let rest = rest
                            .map_or(Vec::new(), |rest| rest.frames().iter().flat_map(|frame| frame.to_vec()).collect());
                        pending.splice(0..0, rest);
                    }
                    _ => noticing -= 1,
                },
                (token, _) => panic!("{token:?}"),
            }
        }
        if !accepting && socket.is_none() {
            accepting = true;
            driver.submit(ACCEPT, Op::Accept { listener });
        }
        let Some(socket) = socket else { continue };
        if !receiving {
            receiving = true;
            driver.submit(RECEIVE, Op::Receive { socket });
        }
        if !pending.is_empty() && !sending {
            sending = true;
            driver.submit(
                SEND,
                Op::Send { socket, batch: batch(&std::mem::take(&mut pending)), manner: SendManner::ZeroCopy },
            );
        }
    }
    assert_eq!(came, text);
    assert_eq!(echoed, text);
    world.trace_hash()
}

#[test]
fn bytes_stay_in_order_under_all_faults_and_a_seed_gives_one_run() {
    // Miri is slow.
    let seeds = if cfg!(miri) { 3 } else { 200 };
    let hashes: std::collections::BTreeSet<u64> = (0..seeds).map(echo_under_faults).collect();
    assert!(hashes.len() as u64 > seeds * 9 / 10);
    assert_eq!(echo_under_faults(77), echo_under_faults(77));
}
