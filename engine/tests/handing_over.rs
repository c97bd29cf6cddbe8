//! One engine hands its listening sockets to the next while clients connect without pause: none is refused, reset or left
//! waiting, whatever the numbers of shards and sockets, on io_uring and on epoll.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use annulus_engine::{
    Address, Balance, DriverChoice, Engine, ListenOptions, ListeningSocket, Running, Shard, SocketOptions,
};

const DRIVERS: [DriverChoice; 2] = [DriverChoice::Auto, DriverChoice::Epoll];
/// Longer than a connection waits that nobody was woken for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers each connection with its engine's name, one byte.
async fn serve(shard: Shard, address: Address, balance: Balance, name: u8) -> Result<(), String> {
    let options = ListenOptions { balance, ..ListenOptions::default() };
    let listener = shard.listen(&address, &options).map_err(|error| error.to_string())?;
    let answer = |mut stream: annulus_engine::Stream| async move {
        let _may_have_left = stream.send_copy(&[&[name]]).await;
        let _likewise = stream.finish().await;
        while matches!(stream.recv().await, Ok(Some(_))) {}
    };
    while let Some(stream) = shard.until_drained(listener.accept()).await {
        drop(shard.spawn(answer(stream)));
    }
    listener.stop();
    let mut last = Vec::new();
    while let Some(stream) = shard.timeout(Duration::from_secs(5), listener.last()).await.map_err(|_| "unsettled")? {
        last.push(shard.spawn(answer(stream)));
    }
    drop(listener);
    for task in last {
        task.await.map_err(|_| "a panic")?;
    }
    // Those that were accepted before.
    shard.sleep(Duration::from_millis(50)).await;
    Ok(())
}

fn start(
    shards: usize,
    driver: DriverChoice,
    address: SocketAddr,
    balance: Balance,
    name: u8,
    sockets: Vec<ListeningSocket>,
) -> Running<Result<(), String>> {
    let address = Address::Ip(address);
    let builder = Engine::builder().shards(shards).driver(driver).oversubscribed();
    let asked = address.clone();
    let running = builder.start_with(sockets, move |shard| serve(shard, asked.clone(), balance, name)).unwrap();
    let until = Instant::now() + PATIENCE;
    while !running.engine().listens(&address) {
        assert!(Instant::now() < until, "it does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
    running
}

/// Connects, again and again, until told to stop. How often each engine answered.
fn load(address: SocketAddr, over: Arc<AtomicBool>, answered: Arc<[AtomicUsize; 8]>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(address).expect("nobody is refused");
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut name = Vec::new();
            stream.read_to_end(&mut name).expect("nobody is cut off or forgotten");
            assert_eq!(name.len(), 1, "an end without an answer");
            answered[usize::from(name[0])].fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn no_connection_is_lost_over_five_engines() {
    for driver in DRIVERS {
        for (balance, numbers) in [(Balance::ReusePort, [2, 2, 3, 1, 2]), (Balance::LeastLoaded, [2, 1, 2, 2, 1])] {
            let address = free_address();
            let (over, answered): (Arc<AtomicBool>, Arc<[AtomicUsize; 8]>) = (Arc::default(), Arc::default());
            let mut running = start(numbers[0], driver, address, balance, 0, Vec::new());
            let loads: Vec<_> = (0..4).map(|_| load(address, over.clone(), answered.clone())).collect();
            for (name, &shards) in numbers.iter().enumerate().skip(1) {
                std::thread::sleep(Duration::from_millis(150));
                let sockets = running.engine().listening_sockets().unwrap();
                assert!(!sockets.is_empty());
                let next = start(shards, driver, address, balance, name as u8, sockets);
                assert!(next.engine().give_up_sockets().is_empty(), "all of them are in use");
                let before = std::mem::replace(&mut running, next);
                before.engine().drain();
                before.wait().unwrap().into_iter().for_each(|ended| ended.unwrap());
            }
            std::thread::sleep(Duration::from_millis(150));
            over.store(true, Ordering::Relaxed);
            loads.into_iter().for_each(|load| load.join().unwrap());
            running.engine().drain();
            running.wait().unwrap().into_iter().for_each(|ended| ended.unwrap());
            for (name, count) in answered.iter().enumerate().take(numbers.len()) {
                let count = count.load(Ordering::Relaxed);
                assert!(count > 0, "{driver:?} {balance:?}: engine {name} of {numbers:?} has answered nobody");
            }
        }
    }
}

#[test]
fn who_connects_while_nobody_accepts_waits_for_the_next_engine() {
    for driver in DRIVERS {
        let address = free_address();
        let first = start(2, driver, address, Balance::ReusePort, 0, Vec::new());
        let sockets = first.engine().listening_sockets().unwrap();
        first.engine().drain();
        first.wait().unwrap().into_iter().for_each(|ended| ended.unwrap());
        let waiting: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        let next = start(2, driver, address, Balance::ReusePort, 1, sockets);
        for mut stream in waiting {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"x").unwrap();
            let mut name = Vec::new();
            stream.read_to_end(&mut name).unwrap();
            assert_eq!(name, [1]);
        }
        next.engine().drain();
        next.wait().unwrap().into_iter().for_each(|ended| ended.unwrap());
    }
}

#[test]
fn sockets_are_found_by_where_they_are_bound_and_others_given_up() {
    let anywhere = Address::Ip(([127, 0, 0, 1], 0).into());
    let one = ListeningSocket::open(&anywhere, &SocketOptions::default()).unwrap();
    let other = ListeningSocket::open(&anywhere, &SocketOptions::default()).unwrap();
    let listener: std::net::TcpListener = one.socket.try_clone().unwrap().into();
    let address = listener.local_addr().unwrap();
    let given_up = ListeningSocket { name: "elsewhere".to_owned(), ..other };
    let running = start(1, DriverChoice::Auto, address, Balance::LeastLoaded, 3, vec![one, given_up]);
    drop(listener);
    assert_eq!(running.engine().give_up_sockets(), ["elsewhere"]);
    let mut name = Vec::new();
    TcpStream::connect(address).unwrap().read_to_end(&mut name).unwrap();
    assert_eq!(name, [3]);
    running.engine().drain();
    running.wait().unwrap().into_iter().for_each(|ended| ended.unwrap());
}

#[test]
fn what_does_not_listen_is_refused() {
    let stream = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = stream.local_addr().unwrap();
    let socket = ListeningSocket { name: address.to_string(), socket: stream.into() };
    let running = Engine::builder().shards(1).oversubscribed().start_with(vec![socket], move |shard| async move {
        shard.listen(&Address::Ip(address), &ListenOptions::default()).map(drop).map_err(|error| error.to_string())
    });
    let ended = running.unwrap().wait().unwrap();
    assert!(ended[0].as_ref().unwrap_err().contains("does not listen"), "{ended:?}");
}
