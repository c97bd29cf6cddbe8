//! The queue on a real Redis: several nodes, and a Redis that goes away, comes back, and has forgotten.

use std::time::Instant;

use super::*;
use crate::image::job::State;
use crate::image::outside::redis::{Durability, Redis};
use crate::image::queue::trial::order;
use crate::image::work::{ContentHash, PIPELINE_VERSION};

const PATIENT: QueueOptions = QueueOptions { backoff: std::time::Duration::ZERO, ..QueueOptions::DEFAULT };
const BRIEF: QueueOptions = QueueOptions { lease: std::time::Duration::from_millis(600), ..PATIENT };
const ALL: Ask = Ask { most: 1000, bytes: u64::MAX, bytes_total: u64::MAX, giant_bytes: u64::MAX, giant: true };

fn node(server: &Redis, options: &QueueOptions) -> RedisQueue {
    RedisQueue::open(&RedisQueueSettings::new(&server.url(), "test").unwrap(), options.clone()).unwrap()
}

fn enter(queue: &RedisQueue, number: u64) -> Document {
    match queue.enqueue(order("a", number), Forecast::default()).wait().unwrap() {
        Enqueued::Accepted(document) => document,
        other => panic!("{other:?}"),
    }
}

fn tenant() -> Tenant {
    Tenant::named("a")
}

fn manifest() -> Manifest {
    let timings = crate::image::job::JobTimings::default();
    let (lane, lane_reason) = ("cpu".to_owned(), "expected: gpu 90 ms, cpu 40 ms".to_owned());
    Manifest { version: PIPELINE_VERSION, lane, lane_reason, outputs: Vec::new(), timings }
}

/// Leases one work, once there is one.
fn lease(queue: &RedisQueue) -> Lease {
    let until = Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(lease) = queue.lease("cpu", Ask { most: 1, ..ALL }).wait().unwrap().pop() {
            return lease;
        }
        assert!(Instant::now() < until, "nothing becomes due");
        let _rung = queue.bell().recv_timeout(std::time::Duration::from_millis(20));
    }
}

#[test]
fn nodes_share_the_work_and_any_answers_for_any_job() {
    let Some(server) = Redis::start(Durability::None) else { return };
    let (one, other) = (node(&server, &BRIEF), node(&server, &BRIEF));
    let content = ContentHash([9; 32]);
    assert_eq!(one.salt().original(&content), other.salt().original(&content));
    let document = enter(&one, 1);
    assert_eq!(other.job(&tenant(), document.id).wait().unwrap(), Some(document.clone()));
    assert_eq!(other.job(&Tenant::named("b"), document.id).wait().unwrap(), None);
    // The other one's bell rings, and it knows how full the queue is.
    assert!(other.bell().recv_timeout(std::time::Duration::from_secs(60)).is_ok());
    assert_eq!(other.depth().waiting(), 1);
    let followed = one.follow(&tenant(), document.id, document.revision);
    let taken = lease(&other);
    let leased = followed.wait().unwrap().unwrap();
    assert_eq!(leased.state, State::Leased);
    assert!(one.lease("cpu", ALL).wait().unwrap().is_empty());
    let followed = one.follow(&tenant(), document.id, leased.revision);
    assert_eq!(other.heartbeat(vec![(taken.id, 0.25)]).wait().unwrap(), [Held::Yes]);
    let quarter = followed.wait().unwrap().unwrap();
    assert_eq!((quarter.state, quarter.progress), (State::Leased, 0.25));
    // Cancelled where it is not worked on; the holder hears of it.
    assert_eq!(one.cancel(&tenant(), document.id).wait().unwrap().unwrap().state, State::Cancelled);
    let until = Instant::now() + std::time::Duration::from_secs(60);
    while other.heartbeat(vec![(taken.id, 0.3)]).wait().unwrap() == [Held::Yes] {
        assert!(Instant::now() < until, "the holder does not hear of it");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // A node that is gone costs its works one lease.
    let second = enter(&one, 2);
    let lost = lease(&other);
    drop(other);
    let begun = Instant::now();
    let again = lease(&one);
    assert_eq!((again.id.work, again.attempt), (lost.id.work, 2));
    assert!(begun.elapsed() < 4 * BRIEF.lease, "{:?}", begun.elapsed());
    assert_eq!(one.counts().expired, 1);
    assert_eq!(one.complete(again.id, manifest()).wait().unwrap(), Settled::Ended);
    assert_eq!(one.fail(lost.id, Fault::new(crate::image::fault::Kind::Io, "late")).wait().unwrap(), Settled::Stale);
    assert_eq!(one.job(&tenant(), second.id).wait().unwrap().unwrap().state, State::Done);
}

#[test]
fn a_redis_that_comes_back_is_waited_for_and_has_lost_nothing() {
    let Some(mut server) = Redis::start(Durability::Always) else { return };
    let queue = node(&server, &BRIEF);
    assert!(queue.told().iter().any(|line| line.contains("loses nothing (appendfsync always)")), "{:?}", queue.told());
    let documents: Vec<Document> = (0..5).map(|number| enter(&queue, number)).collect();
    let held = lease(&queue);
    server.kill();
    // Asked while it is away, and answered when it is back.
    let late = queue.enqueue(order("a", 99), Forecast::default());
    let answer = queue.complete(held.id, manifest());
    std::thread::sleep(std::time::Duration::from_millis(200));
    server.start_again();
    assert!(matches!(late.wait().unwrap(), Enqueued::Accepted(_)));
    // The end may have found nothing to ask; it is told again, as the dispatcher does.
    let settled = answer.wait().or_else(|_| queue.complete(held.id, manifest()).wait()).unwrap();
    assert_eq!(settled, Settled::Ended);
    for document in &documents {
        let state = queue.job(&tenant(), document.id).wait().unwrap().expect("a job that was answered is gone").state;
        assert!(matches!(state, State::Queued | State::Done), "{state:?}");
    }
    for _ in 0..5 {
        assert_eq!(queue.complete(lease(&queue).id, manifest()).wait().unwrap(), Settled::Ended);
    }
    assert_eq!(queue.depth(), Depth::default());
}

#[test]
fn a_redis_that_has_forgotten_is_gone_on_with_under_the_same_names() {
    let Some(mut server) = Redis::start(Durability::None) else { return };
    let queue = node(&server, &PATIENT);
    assert!(queue.told().iter().any(|line| line.contains("loses everything")), "{:?}", queue.told());
    let original = queue.salt().original(&ContentHash([9; 32]));
    let forgotten = enter(&queue, 1);
    server.kill();
    server.start_again();
    // Empty twice: once seen by its connections, once not.
    for is_seen in [true, false] {
        if !is_seen {
            server.cli(&["FLUSHALL"]);
        }
        let until = Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let is_known = queue.job(&tenant(), forgotten.id).wait().unwrap().is_some();
            let has_secret = !server.cli(&["KEYS", "*:secret"]).is_empty();
            if !is_known && queue.depth().waiting() == 0 && has_secret {
                break;
            }
            assert!(Instant::now() < until, "{is_known} {has_secret} {:?}", queue.depth());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    // A node that comes later has the same names, and the queue works.
    let other = node(&server, &PATIENT);
    assert_eq!(other.salt().original(&ContentHash([9; 32])), original);
    let document = enter(&other, 2);
    assert_eq!(queue.complete(lease(&queue).id, manifest()).wait().unwrap(), Settled::Ended);
    assert_eq!(other.job(&tenant(), document.id).wait().unwrap().unwrap().state, State::Done);
}

#[test]
fn what_is_too_old_is_forgotten() {
    let Some(server) = Redis::start(Durability::None) else { return };
    let zero = std::time::Duration::ZERO;
    let dead_kept = std::time::Duration::from_secs(1000);
    let options = QueueOptions { jobs_kept: zero, outputs_kept: Some(zero), dead_kept, ..PATIENT };
    let queue = node(&server, &options);
    let [done, failed, dead, waiting] = [1, 2, 3, 4].map(|number| enter(&queue, number).id);
    let fault = |kind| Fault::new(kind, "over");
    let ended = [lease(&queue), lease(&queue), lease(&queue)];
    let _settled = queue.complete(ended[0].id, manifest()).wait().unwrap();
    let _settled = queue.fail(ended[1].id, fault(crate::image::fault::Kind::BadImage)).wait().unwrap();
    let _settled = queue.fail(ended[2].id, fault(crate::image::fault::Kind::Crashed)).wait().unwrap();
    for lease in queue.lease("cpu", ALL).wait().unwrap() {
        let _settled = match lease.id.work == ended[2].id.work {
            true => queue.fail(lease.id, fault(crate::image::fault::Kind::Crashed)).wait().unwrap(),
            false => queue.release(lease.id).wait().unwrap(),
        };
    }
    std::thread::sleep(std::time::Duration::from_millis(5));
    for _ in 0..2 {
        queue.call(|room| async move { room.tend(true).await }).wait().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let there = [done, failed, dead, waiting].map(|id| queue.job(&tenant(), id).wait().unwrap().is_some());
    assert_eq!((there, queue.depth().dead), ([false, false, true, true], 1));
    let published = order("a", 1).work.key.manifest(queue.salt());
    assert_eq!(queue.wanted(vec![order("a", 1).work.original, published]).wait().unwrap(), [false, false]);
    // Nothing of them is left in Redis.
    let left = server.cli(&["KEYS", "*"]);
    assert!(!left.contains(&done.to_string()) && !left.contains(&failed.to_string()), "{left}");
}

#[test]
fn events_are_kept_with_their_changes_until_one_node_has_sent_them_and_have_a_limit() {
    let Some(server) = Redis::start(Durability::None) else { return };
    let options = QueueOptions { events_max: 8, ..BRIEF };
    let (one, other) = (node(&server, &options), node(&server, &options));
    // One work that two jobs want: each has an account of its own.
    let job = enter(&one, 1);
    let twin = crate::image::work::Order { tenant: Tenant::named("b"), ..order("a", 1) };
    assert!(matches!(other.enqueue(twin, Forecast::default()).wait().unwrap(), Enqueued::Accepted(_)));
    // It is lost once, and done the second time.
    drop(lease(&one));
    assert_eq!(other.complete(lease(&other).id, manifest()).wait().unwrap(), Settled::Ended);
    let events = one.first(Reader::Account, 100).wait().unwrap();
    assert!(events.windows(2).all(|pair| pair[0].place < pair[1].place));
    let of = |tenant: &str| -> Vec<(String, i64)> {
        let own = events.iter().filter(|noted| noted.tenant == tenant);
        own.map(|noted| (noted.event.clone(), noted.attempt)).collect()
    };
    let [accepted, leased, expired, retried] = ["accepted", "leased", "expired", "retried"];
    let expected = [(accepted, 0), (leased, 1), (expired, 1), (retried, 1)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!((of("a"), of("b")), (expected.to_vec(), expected.to_vec()), "then there is no room for four more");
    assert_eq!(one.fill(Reader::Account).lost + other.fill(Reader::Account).lost, 4);
    assert_eq!((events[0].job.clone(), events[0].time_ms >= job.created_ms as i64), (job.id.to_string(), true));
    assert_eq!((events[0].width, events[0].bytes_in), (Some(6000), order("a", 1).work.len as i64));
    assert!(events.iter().all(|noted| noted.error.is_some() == (noted.event == retried)));
    // While one node sends, others do not.
    assert_eq!(
        (other.first(Reader::Account, 100).wait().unwrap(), other.fill(Reader::Account).waiting),
        (Vec::new(), 8)
    );
    one.forget(Reader::Account, events[5].place).wait().unwrap();
    assert_eq!(one.fill(Reader::Account).waiting, 2);
    // It is gone, and its time is over.
    drop(one);
    server.cli(&["DEL", server.cli(&["KEYS", "*:sender"]).trim()]);
    assert_eq!(other.first(Reader::Account, 100).wait().unwrap(), events[6..]);
    other.forget(Reader::Account, events[7].place).wait().unwrap();
    // What is asked for again, taken, and given up.
    let second = enter(&other, 2);
    assert_eq!(other.release(lease(&other).id).wait().unwrap(), Settled::Again(std::time::Duration::ZERO));
    assert!(other.cancel(&tenant(), second.id).wait().unwrap().is_some());
    let names: Vec<String> =
        other.first(Reader::Account, 100).wait().unwrap().into_iter().map(|noted| noted.event).collect();
    assert_eq!(names, [accepted, leased, "released", "cancelled"]);
}

#[test]
fn a_redis_that_is_not_there_is_named_without_its_password() {
    let settings = RedisQueueSettings::new("redis://annulus:s3cret@127.0.0.1:1?connect_ms=200", "test").unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    for prefix in ["", "a{b}", "a b"] {
        assert!(RedisQueueSettings::new("redis://127.0.0.1", prefix).is_err(), "{prefix}");
    }
}
