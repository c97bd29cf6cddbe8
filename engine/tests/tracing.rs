//! Where a message's time went: a stall, a reader that comes late and a wait are found in their stages, and nothing else is.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use annulus_engine::trace::{Journey, Kind, Stage, Traced};
use annulus_engine::{Address, Event, GroupOptions, ListenOptions, Listener, Sent, Shard};
use common::on_each_driver;

const MS: Duration = Duration::from_millis(1);
const STALL: Duration = Duration::from_millis(40);
const BLOCKING_MAX: Duration = Duration::from_secs(10);
static ECHO: Kind = Kind { name: "echo", about: "From a byte to its echo.", away: "nap" };

fn listen(shard: &Shard) -> (Listener, SocketAddr) {
    let listener = shard.listen(&Address::Ip(([127, 0, 0, 1], 0).into()), &ListenOptions::default()).unwrap();
    let Address::Ip(address) = listener.address().clone() else { panic!("an IP address was asked for") };
    (listener, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let end = TcpStream::connect(address).unwrap();
    end.set_nodelay(true).unwrap();
    end.set_read_timeout(Some(BLOCKING_MAX)).unwrap();
    end
}

/// Works without giving anybody else a turn.
fn stall() {
    let until = Instant::now() + STALL;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn spent(journey: &Journey, stage: Stage) -> Duration {
    Duration::from_nanos(journey.spent[stage as usize])
}

fn echoes(shard: &Shard) -> Traced {
    annulus_engine::trace::all(shard.all_metrics()).into_iter().find(|traced| traced.kind == &ECHO).unwrap()
}

#[test]
fn a_stall_is_charged_to_the_messages_that_it_delayed() {
    on_each_driver(1, |shard| async move {
        let mut group = shard.group::<()>(GroupOptions::default());
        let (listener, address) = listen(&shard);
        group.listen(listener);
        let outlet = group.outlet();
        let client = std::thread::spawn(move || {
            let (mut victim, mut culprit) = (connect(address), connect(address));
            let mut byte = [0];
            for _ in 0..20 {
                victim.write_all(b"v").unwrap();
                victim.read_exact(&mut byte).unwrap();
            }
            // The shard stalls over the one, while the other's byte comes.
            culprit.write_all(b"s").unwrap();
            std::thread::sleep(5 * MS);
            victim.write_all(b"v").unwrap();
            victim.read_exact(&mut byte).unwrap();
            culprit.read_exact(&mut byte).unwrap();
        });
        let mut closed = 0;
        while closed < 2 {
            group.ready().await;
            while let Some(event) = group.next_event() {
                match event {
                    Event::Received(id, chunk) => {
                        let mut trace = shard.take_trace();
                        assert!(trace.is_chosen(), "little comes: all is traced");
                        trace.mark(Stage::Parse);
                        if chunk[0] == b's' {
                            stall();
                        }
                        assert_eq!(outlet.send_copy(id, &[&chunk]), Sent::Queued);
                        trace.mark(Stage::Work);
                        outlet.trace(id, trace, &ECHO);
                    }
                    Event::Ended(id) => outlet.close(id, annulus_engine::Close::Graceful, annulus_engine::Reason::Peer),
                    Event::Closed(..) => closed += 1,
                    _ => {}
                }
            }
        }
        client.join().unwrap();
        let traced = echoes(&shard);
        assert_eq!(traced.last.len(), 22);
        let has = |stage| traced.last.iter().filter(|journey| spent(journey, stage) >= STALL * 3 / 5).count();
        assert!(has(Stage::Work) >= 1, "the culprit's own: {traced:?}");
        assert!(has(Stage::Socket) + has(Stage::Queue) >= 1, "the victim's: {traced:?}");
        assert!(traced.slow[0].total() >= STALL.as_nanos() as u64);
        // The watchdog has seen it, too.
        let patience = Instant::now() + BLOCKING_MAX;
        while shard.stalls().reports().is_empty() && Instant::now() < patience {
            shard.sleep(5 * MS).await;
        }
        let reports = shard.stalls().reports();
        assert!(reports.iter().any(|(_, report)| report.to_string().contains("stall")), "{reports:?}");
    });
}

#[test]
fn a_wait_is_told_from_waiting_for_the_shard() {
    const NAP: Duration = Duration::from_millis(30);
    on_each_driver(1, |shard| async move {
        let (listener, address) = listen(&shard);
        let client = std::thread::spawn(move || {
            let mut end = connect(address);
            let mut byte = [0];
            end.write_all(b"x").unwrap();
            end.read_exact(&mut byte).unwrap();
            let mut rest = Vec::new();
            end.read_to_end(&mut rest).unwrap();
        });
        let mut stream = listener.accept().await;
        let chunk = stream.recv().await.unwrap().unwrap();
        let mut trace = shard.take_trace();
        assert!(trace.is_chosen() && !shard.take_trace().is_chosen(), "taken once");
        trace.mark(Stage::Parse);
        // Somebody else takes the shard's time just before the nap is over.
        let other = shard.clone();
        let stalls = shard.spawn(async move {
            other.sleep(NAP - 5 * MS).await;
            stall();
        });
        shard.sleep(NAP).await;
        let mut fork = trace.clone();
        shard.woke(&mut trace, Stage::Away);
        stream.send_copy(&[&chunk]).await.unwrap();
        stream.trace(trace, &ECHO);
        // The other branch of the way ends elsewhere.
        fork.mark(Stage::Work);
        stream.trace(fork, &ECHO);
        stalls.await.unwrap();
        stream.finish().await.unwrap();
        drop(stream);
        client.join().unwrap();
        let traced = echoes(&shard);
        assert_eq!(traced.last.len(), 2, "{traced:?}");
        let (waited, worked) = (&traced.last[0], &traced.last[1]);
        let away = spent(waited, Stage::Away);
        assert!(away >= NAP / 2, "{traced:?}");
        assert!(spent(waited, Stage::Queue) >= STALL * 3 / 5, "the stall is no part of the wait: {traced:?}");
        assert_eq!(spent(worked, Stage::Away), Duration::ZERO);
    });
}
