//! Where new connections go: to the shard with the fewest, and not to one that has too much to do while others have not.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use annulus_engine::{Address, Balance, ListenOptions, Shard};
use common::on_each_driver;

const SHARDS: usize = 3;
/// Connections made at a time.
const ROUND: usize = 12;
const MS: Duration = Duration::from_millis(1);

/// What the shards of one engine share.
#[derive(Default)]
struct Board {
    strained: [AtomicBool; SHARDS],
    connections: [AtomicUsize; SHARDS],
    over: AtomicBool,
}

/// Does what the board says, and keeps every connection.
async fn follow(shard: &Shard, board: &Board) {
    while !board.over.load(Relaxed) && !shard.is_draining() {
        shard.set_strained(board.strained[shard.index()].load(Relaxed));
        shard.sleep(MS).await;
    }
}

/// How many connections of a round each shard gets while some of them are strained.
async fn round(
    shard: &Shard,
    board: &Board,
    address: SocketAddr,
    strained: [bool; SHARDS],
    kept: &mut Vec<TcpStream>,
) -> [usize; SHARDS] {
    let counts = || board.connections.each_ref().map(|count| count.load(Relaxed));
    let before = counts();
    board.strained.iter().zip(strained).for_each(|(cell, strained)| cell.store(strained, Relaxed));
    // All shards have looked by then; a shard's own word shows what the others have heard.
    shard.sleep(50 * MS).await;
    assert_eq!(shard.is_any_unstrained(), strained != [true; SHARDS]);
    kept.extend((0..ROUND).map(|_| TcpStream::connect(address).unwrap()));
    let all = before.iter().sum::<usize>() + ROUND;
    while counts().iter().sum::<usize>() < all {
        shard.sleep(MS).await;
    }
    let after = counts();
    [0, 1, 2].map(|index| after[index] - before[index])
}

#[test]
fn the_strained_get_connections_only_when_all_are() {
    static BOARDS: [std::sync::OnceLock<Board>; 2] = [const { std::sync::OnceLock::new() }; 2];
    on_each_driver(SHARDS, |shard| async move {
        let kind = usize::from(shard.driver_kind() == annulus_engine::driver::DriverKind::Epoll);
        let board = BOARDS[kind].get_or_init(Board::default);
        let options = ListenOptions { balance: Balance::LeastLoaded, ..ListenOptions::default() };
        let listener = shard.listen(&Address::Ip(([127, 0, 0, 1], 0).into()), &options).unwrap();
        let address = listener.address().clone();
        let index = shard.index();
        drop(shard.spawn(async move {
            let mut kept = Vec::new();
            loop {
                kept.push(listener.accept().await);
                board.connections[index].fetch_add(1, Relaxed);
            }
        }));
        if index == 0 {
            let Address::Ip(address) = address else { panic!("{address}") };
            let (looking, kept) = (shard.clone(), &mut Vec::new());
            drop(shard.spawn(async move { follow(&looking, board).await }));
            assert_eq!(round(&shard, board, address, [false; 3], kept).await, [4, 4, 4]);
            assert_eq!(round(&shard, board, address, [true, false, false], kept).await, [0, 6, 6]);
            assert_eq!(round(&shard, board, address, [true, false, true], kept).await, [0, 12, 0]);
            // 4, 22 and 10 by now: the first gets what it lacks.
            assert_eq!(round(&shard, board, address, [true; 3], kept).await, [9, 0, 3]);
            board.over.store(true, Relaxed);
        } else {
            follow(&shard, board).await;
        }
    });
}

#[test]
fn who_does_not_listen_yet_gets_none() {
    on_each_driver(SHARDS, |shard| async move {
        static ANSWERED: AtomicUsize = AtomicUsize::new(0);
        let address = Address::Ip(([127, 0, 0, 1], 0).into());
        let options = ListenOptions { balance: Balance::LeastLoaded, ..ListenOptions::default() };
        if shard.index() != 0 {
            // They come late, or never: everybody is served by the one that is there.
            return shard.draining().await;
        }
        ANSWERED.store(0, Relaxed);
        let listener = shard.listen(&address, &options).unwrap();
        let Address::Ip(address) = listener.address().clone() else { panic!("an IP address was asked for") };
        let clients = std::thread::spawn(move || {
            for _ in 0..ROUND {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"x").unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                ANSWERED.fetch_add(1, Relaxed);
            }
        });
        for _ in 0..ROUND {
            let mut stream = listener.accept().await;
            let chunk = stream.recv().await.unwrap().unwrap();
            stream.send_copy(&[&chunk]).await.unwrap();
            stream.finish().await.unwrap();
        }
        clients.join().unwrap();
        assert_eq!(ANSWERED.load(Relaxed), ROUND);
        shard.drain();
    });
}
