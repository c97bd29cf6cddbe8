//! The resolver against a small name server on loopback that also lies, stalls, loops and goes away.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::gateway::dns::codec::Fault;
use annulus::gateway::dns::resolver::LOOK;
use annulus::gateway::dns::settings::{Files, Settings};
use annulus::gateway::dns::{Error, Limits, Resolver};
use annulus_engine::driver::sim::Random;
use annulus_engine::{DriverChoice, Engine, Shard};

/// A name server: how often it was asked for what, and whether it is silent.
#[derive(Default)]
struct Told {
    asked: Mutex<HashMap<String, usize>>,
    silent: AtomicBool,
    ended: AtomicBool,
}

struct Server {
    address: SocketAddr,
    told: Arc<Told>,
}

/// A question as it came: the name's first label, the kind's number, and whether it has an OPT record.
struct Question<'a> {
    message: &'a [u8],
    end: usize,
    label: String,
    kind: u8,
    edns: bool,
}

impl Question<'_> {
    fn of(message: &[u8]) -> Question<'_> {
        let (mut at, mut labels) = (12, Vec::new());
        while message[at] > 0 {
            let len = message[at] as usize;
            labels.push(String::from_utf8(message[at + 1..at + 1 + len].to_vec()).unwrap());
            at += len + 1;
        }
        Question { message, end: at + 5, label: labels.remove(0), kind: message[at + 2], edns: message[11] == 1 }
    }

    /// The answer with this code and these records (their owner left out: the question's name) in the answer section.
    fn answer(&self, flags: u16, records: &[(u8, u32, Vec<u8>)]) -> Vec<u8> {
        let mut out = self.message[..2].to_vec();
        for word in [0x8180 | flags, 1, records.len() as u16, 0, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.message[12..self.end]);
        for (kind, ttl, data) in records {
            out.extend_from_slice(&[0xc0, 12, 0, *kind, 0, 1]);
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    /// `last` as an IPv4 or IPv6 address.
    fn host(&self, ttl: u32, last: u8) -> (u8, u32, Vec<u8>) {
        match self.kind {
            1 => (1, ttl, vec![10, 0, 0, last]),
            _ => (28, ttl, [vec![0xfd; 1], vec![0; 14], vec![last]].concat()),
        }
    }

    /// That there is no such name, to be believed for 60 seconds.
    fn nothing(&self) -> Vec<u8> {
        let mut out = self.answer(3, &[(6, 60, [vec![0; 18], 60u32.to_be_bytes().to_vec()].concat())]);
        out[7] = 0;
        out[9] = 1;
        out
    }

    /// What goes out over UDP, in order. A datagram that begins with `!` comes from another port.
    fn datagrams(&self) -> Vec<Vec<u8>> {
        let good = || self.answer(0, &[self.host(60, 1), self.host(60, 2)]);
        let lie = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut out = self.answer(0, &[self.host(60, 66)]);
            change(&mut out);
            out
        };
        let service = |priority: u8, port: u8, host: &[u8]| {
            (33, 60, [&[0, priority, 0, 7, 0x1f, port], host, &[0xc0, 18]].concat())
        };
        match self.label.as_str() {
            // In the domain alone.
            "good" | "GOOD" if self.end == 12 + b"\x04good\0".len() + 4 => vec![self.nothing()],
            "good" | "GOOD" => vec![good()],
            "lied-about" => vec![
                lie(&|out| out[0] ^= 1),
                lie(&|out| out[13] ^= 1),
                lie(&|out| out[2] &= 0x7f),
                [b"!".to_vec(), lie(&|_| {})].concat(),
                vec![],
                vec![0; 5],
                good(),
            ],
            "flooded" => vec![lie(&|out| out[1] ^= 1); 200],
            "long" => vec![self.answer(0x200, &[])],
            "looped" => {
                let mut out = good();
                // The first record's name points at itself.
                out[self.end + 1] = self.end as u8;
                vec![out]
            }
            "half" if self.kind == 28 => vec![self.answer(2, &[])],
            "half" => vec![good()],
            "v4" if self.kind == 28 => vec![self.answer(0, &[])],
            "v4" => vec![good()],
            "old" if self.edns => vec![self.answer(1, &[])],
            "old" => vec![good()],
            "broken" => vec![self.answer(2, &[])],
            "short" => vec![self.answer(0, &[self.host(0, 7)])],
            "alias" => vec![self.answer(0, &[(5, 60, [b"\x04good".to_vec(), vec![0xc0, 18]].concat())])],
            "ring" => vec![self.answer(0, &[(5, 60, [b"\x04gnir".to_vec(), vec![0xc0, 17]].concat())])],
            "gnir" => vec![self.answer(0, &[(5, 60, [b"\x04ring".to_vec(), vec![0xc0, 17]].concat())])],
            "_http" => vec![self.answer(0, &[service(1, 0x90, b"\x01b"), service(0, 0x91, b"\x01a")])],
            "silent" => vec![],
            _ => vec![self.nothing()],
        }
    }

    fn over_tcp(&self) -> Vec<u8> {
        let hosts: Vec<_> = (0..200).map(|last| self.host(60, last)).collect();
        self.answer(0, &hosts)
    }
}

impl Server {
    fn start() -> Server {
        // A port that is free for both.
        let (udp, tcp) = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap())
            .find_map(|udp| TcpListener::bind(udp.local_addr().unwrap()).ok().map(|tcp| (udp, tcp)))
            .unwrap();
        let (address, told) = (udp.local_addr().unwrap(), Arc::<Told>::default());
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let shared = told.clone();
        std::thread::spawn(move || {
            let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
            while !shared.ended.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = tcp.accept() {
                    Server::serve_tcp(stream);
                }
                let mut buffer = [0; 512];
                let Ok((len, peer)) = udp.recv_from(&mut buffer) else { continue };
                let question = Question::of(&buffer[..len]);
                *shared.asked.lock().unwrap().entry(question.label.clone()).or_default() += 1;
                if shared.silent.load(Ordering::Relaxed) {
                    continue;
                }
                for datagram in question.datagrams() {
                    match datagram.strip_prefix(b"!") {
                        Some(lie) => elsewhere.send_to(lie, peer).unwrap(),
                        None => udp.send_to(&datagram, peer).unwrap(),
                    };
                }
            }
        });
        Server { address, told }
    }

    /// One question per connection, answered in two pieces.
    fn serve_tcp(mut stream: std::net::TcpStream) {
        stream.set_nonblocking(false).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut message = vec![0; u16::from_be_bytes(len) as usize];
        stream.read_exact(&mut message).unwrap();
        let answer = Question::of(&message).over_tcp();
        let whole = [&(answer.len() as u16).to_be_bytes(), &answer[..]].concat();
        stream.write_all(&whole[..1]).unwrap();
        stream.write_all(&whole[1..700]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(&whole[700..]).unwrap();
    }

    fn asked(&self, label: &str) -> usize {
        self.told.asked.lock().unwrap().get(label).copied().unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.told.ended.store(true, Ordering::Relaxed);
    }
}

/// How long a server has in these tests: much for one on the same machine, even a busy one.
const PATIENCE: Duration = Duration::from_millis(400);

/// Servers that are asked in turn, twice.
fn settings(servers: &[&Server]) -> Settings {
    let servers = servers.iter().map(|server| server.address).collect();
    Settings {
        servers,
        timeout: PATIENCE,
        ..Settings::parse("search shop\nnameserver 127.0.0.1", "10.9.9.9 inhouse\n")
    }
}

fn resolver(shard: &Shard, settings: Settings) -> Resolver {
    let limits = Limits { ttl_min: Duration::from_millis(50), ..Limits::DEFAULT };
    let random = RefCell::new(Random::new(1));
    Resolver::new(shard, settings, limits, move || random.borrow_mut().bits())
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn good() -> Vec<IpAddr> {
    addresses(&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"])
}

/// Runs `main` on a shard with each driver in turn. io_uring is left out, loudly, where it is blocked.
fn on_each_driver<F: Future<Output = ()> + 'static>(main: impl Fn(Shard) -> F + Send + Sync + Clone + 'static) {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        match Engine::builder().shards(1).oversubscribed().driver(driver).run(main.clone()) {
            Ok(_) => {}
            Err(error) if driver == DriverChoice::Uring && error.to_string().starts_with("io_uring_setup failed") => {
                eprintln!("NOT RUN: gateway_dns with io_uring: {error}");
                if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
                    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
                    writeln!(file, "gateway_dns with io_uring: {error}").unwrap();
                }
            }
            Err(error) => panic!("{driver:?}: {error}"),
        }
    }
}

#[test]
fn names_become_addresses_once_per_time_to_live() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        for name in ["good.shop", "GOOD.shop.", "good"] {
            assert_eq!(resolver.addresses(name).await.unwrap().to_vec(), good(), "{name}");
        }
        // Once per address family. Three spellings are one name; the short one was looked up where `search` says.
        assert_eq!(server.asked("good"), 2);
        assert_eq!(resolver.addresses("v4.shop").await.unwrap().to_vec(), addresses(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(resolver.addresses("alias.shop").await.unwrap().to_vec(), good());
        assert_eq!(resolver.addresses("old.shop").await.unwrap().to_vec(), good(), "without EDNS");
    });
}

#[test]
fn what_needs_no_server_asks_none() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        for (name, address) in [("10.0.0.9", "10.0.0.9"), ("[::1]", "::1"), ("inhouse", "10.9.9.9")] {
            assert_eq!(resolver.addresses(name).await.unwrap().to_vec(), addresses(&[address]));
        }
        assert_eq!(resolver.addresses("localhost").await.unwrap().to_vec(), addresses(&["127.0.0.1", "::1"]));
        for name in ["", "a b", "a..b", "[good]"] {
            assert_eq!(resolver.addresses(name).await, Err(Error::BadName), "{name}");
        }
        assert!(server.told.asked.lock().unwrap().is_empty());
    });
}

#[test]
fn equal_questions_fly_together_and_survive_who_asked() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let resolver = resolver.clone();
                shard.spawn(async move { resolver.addresses("good.shop").await.unwrap().to_vec() })
            })
            .collect();
        for task in waiting {
            assert_eq!(task.await.unwrap(), good());
        }
        assert_eq!(server.asked("good"), 2);
        // The one who asked goes away at once; the answer comes and is kept.
        let gone = shard.timeout(Duration::ZERO, resolver.addresses("v4.shop")).await;
        assert!(gone.is_err());
        while server.asked("v4") < 2 {
            shard.sleep(Duration::from_millis(1)).await;
        }
        shard.sleep(Duration::from_millis(30)).await;
        assert_eq!(resolver.addresses("v4.shop").await.unwrap().len(), 2);
        assert_eq!(server.asked("v4"), 2);
    });
}

#[test]
fn lies_are_not_believed() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        assert_eq!(resolver.addresses("lied-about.shop").await.unwrap().to_vec(), good());
        assert_eq!(resolver.addresses("flooded.shop.").await, Err(Error::Nonsense(Fault::NotOurs)));
        assert_eq!(resolver.addresses("looped.shop.").await, Err(Error::Nonsense(Fault::Malformed)));
        assert_eq!(resolver.addresses("ring.shop.").await, Err(Error::TooManyAliases));
    });
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let over_udp = resolver(&shard, settings(&[&server]));
        let all = over_udp.addresses("long.shop").await.unwrap();
        assert_eq!((all.len(), all[199], all[399]), (400, "10.0.0.199".parse().unwrap(), "fd00::c7".parse().unwrap()));
        assert_eq!(server.asked("long"), 2);
        let over_tcp = resolver(&shard, Settings { tcp: true, ..settings(&[&server]) });
        assert_eq!(over_tcp.addresses("any.shop").await.unwrap().len(), 400);
        assert_eq!(server.asked("any"), 0, "not over UDP");
    });
}

#[test]
fn absence_is_remembered_and_failure_is_not() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        for _ in 0..3 {
            assert_eq!(resolver.addresses("none.shop.").await, Err(Error::NotFound));
        }
        assert_eq!(server.asked("none"), 2);
        assert_eq!(resolver.addresses("broken.shop.").await, Err(Error::Refused(2)));
        let asked = server.asked("broken");
        assert_eq!(asked, 4, "twice for each family");
        assert_eq!(resolver.addresses("broken.shop.").await, Err(Error::Refused(2)));
        assert_eq!(server.asked("broken"), 2 * asked);
        // Half an answer is better than none.
        assert_eq!(resolver.addresses("half.shop").await.unwrap().to_vec(), addresses(&["10.0.0.1", "10.0.0.2"]));
    });
}

#[test]
fn a_dead_server_is_passed_over_and_then_avoided() {
    on_each_driver(|shard| async move {
        let (dead, alive) = (Server::start(), Server::start());
        dead.told.silent.store(true, Ordering::Relaxed);
        let resolver = resolver(&shard, settings(&[&dead, &alive]));
        let begin = shard.now();
        assert_eq!(resolver.addresses("good.shop").await.unwrap().to_vec(), good());
        assert!(shard.now() - begin >= PATIENCE);
        assert_eq!(resolver.addresses("v4.shop").await.unwrap().len(), 2);
        assert_eq!((dead.asked("good"), dead.asked("v4")), (2, 0), "the one that answered is asked first");
        let begin = shard.now();
        assert_eq!(resolver.addresses("silent.shop.").await, Err(Error::TimedOut));
        let took = shard.now() - begin;
        assert!(took >= 4 * PATIENCE, "two servers, twice: {took:?}");
    });
}

#[test]
fn an_old_answer_is_served_while_nobody_can_answer() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        let old = addresses(&["10.0.0.7", "fd00::7"]);
        assert_eq!(resolver.addresses("short.shop.").await.unwrap().to_vec(), old);
        shard.sleep(Duration::from_millis(60)).await;
        assert_eq!(resolver.addresses("short.shop.").await.unwrap().to_vec(), old);
        assert_eq!(server.asked("short"), 4, "its time was over");
        server.told.silent.store(true, Ordering::Relaxed);
        shard.sleep(Duration::from_millis(60)).await;
        assert_eq!(resolver.addresses("short.shop.").await.unwrap().to_vec(), old);
        // Who asked has the old answer; the question goes on until all attempts are over.
        while server.asked("short") < 8 {
            shard.sleep(Duration::from_millis(20)).await;
        }
        shard.sleep(Duration::from_millis(500)).await;
        let asked = server.asked("short");
        assert_eq!(asked, 8);
        assert_eq!(resolver.addresses("short.shop.").await.unwrap().to_vec(), old);
        assert_eq!(server.asked("short"), asked, "servers in trouble are left alone");
        // Five seconds of silence per question: the old answer comes long before that, within the time that a request has.
        let slow = self::resolver(&shard, Settings { timeout: Duration::from_secs(5), ..settings(&[&server]) });
        server.told.silent.store(false, Ordering::Relaxed);
        assert_eq!(slow.addresses("short.shop.").await.unwrap().to_vec(), old);
        server.told.silent.store(true, Ordering::Relaxed);
        shard.sleep(Duration::from_millis(60)).await;
        let begin = shard.now();
        assert_eq!(slow.addresses("short.shop.").await.unwrap().to_vec(), old);
        assert!((300..1500).contains(&(shard.now() - begin).as_millis()));
    });
}

#[test]
fn files_that_change_are_read_again() {
    on_each_driver(|shard| async move {
        let (one, other) = (Server::start(), Server::start());
        let folder = std::env::temp_dir().join(format!("annulus-dns-{}-{:?}", std::process::id(), one.address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = Files {
            resolv_conf: folder.join("resolv.conf"),
            hosts: folder.join("hosts"),
            servers: vec![one.address, other.address],
        };
        std::fs::write(&files.hosts, "10.9.9.9 inhouse\n").unwrap();
        assert_eq!(files.read().servers, files.servers, "a port cannot be written in resolv.conf");
        let random = RefCell::new(Random::new(1));
        let resolver = Resolver::watching(&shard, files.clone(), Limits::DEFAULT, move || random.borrow_mut().bits());
        assert_eq!(resolver.addresses("inhouse").await.unwrap().to_vec(), addresses(&["10.9.9.9"]));
        assert_eq!(resolver.addresses("good").await, Err(Error::NotFound), "nothing says where short names are");
        std::fs::write(&files.hosts, "10.9.9.8 inhouse\n").unwrap();
        std::fs::write(&files.resolv_conf, "search shop\n").unwrap();
        assert_eq!(resolver.addresses("inhouse").await.unwrap().to_vec(), addresses(&["10.9.9.9"]), "not yet");
        shard.sleep(LOOK).await;
        assert_eq!(resolver.addresses("inhouse").await.unwrap().to_vec(), addresses(&["10.9.9.8"]));
        assert_eq!(resolver.addresses("good").await.unwrap().to_vec(), good());
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn services_are_listed_with_their_hosts() {
    on_each_driver(|shard| async move {
        let server = Server::start();
        let resolver = resolver(&shard, settings(&[&server]));
        let services = resolver.services("_http.shop").await.unwrap();
        let list: Vec<_> = services.iter().map(|s| (s.priority, s.weight, s.port, s.host.as_str())).collect();
        assert_eq!(list, [(1, 7, 8080, "b.shop"), (0, 7, 8081, "a.shop")]);
        assert_eq!(resolver.services("_none.shop.").await, Err(Error::NotFound));
        assert_eq!(resolver.services("_http.shop").await.unwrap().len(), 2);
        assert_eq!(server.asked("_http"), 1);
    });
}
