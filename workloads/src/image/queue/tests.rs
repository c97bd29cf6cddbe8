//! What every queue keeps, on SQLite and on a real Redis: order, sharing, repetition; and what is the database's own.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trial::{Home, order};
use super::*;
use crate::image::fault::Kind;
use crate::image::format::Format;
use crate::image::job::{JobOutput, JobTimings, State};
use crate::image::outbox::{Event, EventSet, Fill, Letter, Outbox, Reader};
use crate::image::recipe::{Components, Recipe};
use crate::image::store::Suffix;
use crate::image::work::{Idempotency, PIPELINE_VERSION};

const PATIENT: QueueOptions = QueueOptions { backoff: Duration::ZERO, ..QueueOptions::DEFAULT };
const ALL: Ask = Ask { most: 1000, bytes: u64::MAX, bytes_total: u64::MAX, giant_bytes: u64::MAX, giant: true };

/// How long a lock may be held that was let go of.
const LOCK_MAX: Duration = Duration::from_secs(20);

/// Opens what has one owner. A process that another test is just starting has our descriptors until it has become a program,
/// and so holds a lock for a moment that we let go of.
fn owned<T>(open: impl Fn() -> Result<T, QueueError>) -> T {
    let until = Instant::now() + LOCK_MAX;
    loop {
        match open() {
            Ok(opened) => return opened,
            Err(error) if error.to_string().contains(" is locked ") && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn open(home: &Home, options: &QueueOptions) -> Arc<dyn Queue> {
    Arc::new(owned(|| SqliteQueue::open(home.path(), options.clone())))
}

/// Where a queue is, and stays when it is closed.
enum Place {
    Directory(Home),
    Redis(crate::image::outside::redis::Redis),
}

impl Place {
    fn open(&self, options: &QueueOptions) -> Arc<dyn Queue> {
        self.open_with_outbox(options).0
    }

    fn open_with_outbox(&self, options: &QueueOptions) -> (Arc<dyn Queue>, Arc<dyn Outbox>) {
        match self {
            Place::Directory(home) => {
                let queue = Arc::new(owned(|| SqliteQueue::open(home.path(), options.clone())));
                (queue.clone(), queue)
            }
            Place::Redis(server) => {
                let settings = RedisQueueSettings::new(&server.url(), "test").unwrap();
                let queue = Arc::new(RedisQueue::open(&settings, options.clone()).unwrap());
                (queue.clone(), queue)
            }
        }
    }

    /// Lets the next node tell events at once, as it would when the one before has been silent for long enough.
    fn forget_sender(&self) {
        if let Place::Redis(server) = self {
            for key in server.cli(&["KEYS", "*:sender*"]).split_whitespace() {
                server.cli(&["DEL", key]);
            }
        }
    }
}

/// Runs a scenario on every kind of queue, each time an empty one.
fn everywhere(name: &str, scenario: impl Fn(&Place)) {
    scenario(&Place::Directory(Home::new(name)));
    if let Some(server) = crate::image::outside::redis::Redis::start(crate::image::outside::redis::Durability::None) {
        scenario(&Place::Redis(server));
    }
}

fn enter(queue: &Arc<dyn Queue>, order: Order) -> Document {
    match queue.enqueue(order, Forecast::default()).wait().unwrap() {
        Enqueued::Accepted(document) => document,
        other => panic!("{other:?}"),
    }
}

fn lease_all(queue: &Arc<dyn Queue>) -> Vec<Lease> {
    queue.lease("cpu", ALL).wait().unwrap()
}

fn lease_one(queue: &Arc<dyn Queue>) -> Lease {
    let mut leases = queue.lease("cpu", Ask { most: 1, ..ALL }).wait().unwrap();
    leases.pop().expect("something is due")
}

fn number(lease: &Lease) -> u64 {
    u64::from_be_bytes(lease.work.key.0[..8].try_into().unwrap())
}

fn job(queue: &Arc<dyn Queue>, tenant: &str, id: JobId) -> Document {
    queue.job(&Tenant::named(tenant), id).wait().unwrap().unwrap()
}

fn manifest() -> Manifest {
    let (lane, lane_reason) = ("cpu".to_owned(), "expected: gpu 90 ms, cpu 40 ms".to_owned());
    Manifest { version: PIPELINE_VERSION, lane, lane_reason, outputs: Vec::new(), timings: JobTimings::default() }
}

fn output_at(key: Key) -> JobOutput {
    let (name, format) = ("small".to_owned(), Format::Jpeg);
    JobOutput { name, key, format, width: 1, height: 1, bytes: 1, thumbhash: None, blurhash: None }
}

fn bulk(number: u64) -> Order {
    Order { priority: Priority::Bulk, ..order("a", number) }
}

fn io() -> Fault {
    Fault::new(Kind::Io, "the disk was unplugged")
}

#[test]
fn a_job_goes_its_way_and_its_document_tells() {
    everywhere("way", scenario_way);
}

fn scenario_way(place: &Place) {
    let queue = place.open(&PATIENT);
    let forecast = Forecast { delayed: true, wait: Duration::from_millis(1500) };
    let Enqueued::Accepted(document) = queue.enqueue(order("a", 1), forecast).wait().unwrap() else { panic!() };
    assert_eq!((document.state, document.delayed, document.predicted_wait_ms), (State::Queued, true, 1500));
    assert_eq!((document.source.width, document.source.bytes, document.attempts), (6000, 5_000_000, 0));
    assert_eq!(queue.depth(), Depth { interactive: 1, waiting_cpu_us: 200_000, ..Depth::default() });
    let lease = lease_one(&queue);
    assert_eq!((number(&lease), lease.attempt), (1, 1));
    assert_eq!(lease.work, order("a", 1).work);
    assert_eq!(queue.depth(), Depth { leased: 1, ..Depth::default() });
    let leased = job(&queue, "a", document.id);
    assert_eq!((leased.state, leased.lane.as_deref(), leased.attempts), (State::Leased, Some("cpu"), 1));
    assert!(leased.revision > document.revision);
    assert_eq!(queue.heartbeat(vec![(lease.id, 0.5)]).wait().unwrap(), [Held::Yes]);
    let half = job(&queue, "a", document.id);
    assert!(half.revision > leased.revision && half.progress == 0.5);
    assert_eq!(queue.complete(lease.id, manifest()).wait().unwrap(), Settled::Ended);
    let done = job(&queue, "a", document.id);
    assert!(done.revision > half.revision && done.finished_ms.is_some());
    assert_eq!((done.state, done.progress, done.error), (State::Done, 1.0, None));
    assert_eq!(queue.depth(), Depth::default());
    // Done is done: nothing that comes late changes it.
    assert_eq!(queue.complete(lease.id, manifest()).wait().unwrap(), Settled::Stale);
    assert_eq!(queue.fail(lease.id, io()).wait().unwrap(), Settled::Stale);
    assert_eq!(queue.cancel(&Tenant::named("a"), document.id).wait().unwrap().unwrap().state, State::Done);
    // The same again is done at once.
    assert_eq!(enter(&queue, order("b", 1)).state, State::Done);
}

#[test]
fn tenants_share_work_and_nothing_else() {
    everywhere("share", scenario_share);
}

fn scenario_share(place: &Place) {
    let queue = place.open(&PATIENT);
    let (ours, theirs) = (enter(&queue, order("a", 1)), enter(&queue, order("b", 1)));
    assert_ne!(ours.id, theirs.id);
    assert_eq!((queue.depth().waiting(), queue.counts().joined), (1, 1));
    for call in [queue.job(&Tenant::named("b"), ours.id), queue.cancel(&Tenant::named("b"), ours.id)] {
        assert_eq!(call.wait().unwrap(), None);
    }
    let lease = lease_one(&queue);
    assert!(lease_all(&queue).is_empty());
    let cancelled = queue.cancel(&Tenant::named("a"), ours.id).wait().unwrap().unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    assert_eq!(job(&queue, "b", theirs.id).state, State::Leased);
    assert_eq!(queue.heartbeat(vec![(lease.id, 0.1)]).wait().unwrap(), [Held::Yes]);
    let last = queue.cancel(&Tenant::named("b"), theirs.id).wait().unwrap().unwrap();
    assert_eq!(last.state, State::Cancelled);
    assert_eq!(queue.heartbeat(vec![(lease.id, 0.2)]).wait().unwrap(), [Held::No]);
    assert_eq!(queue.fail(lease.id, Fault::new(Kind::Stopped, "stopped")).wait().unwrap(), Settled::Stale);
    assert_eq!(queue.depth(), Depth::default());
    // Asked for again, it begins anew; those who cancelled it stay cancelled.
    let again = enter(&queue, order("c", 1));
    assert_eq!((again.state, job(&queue, "a", ours.id).state), (State::Queued, State::Cancelled));
    assert_eq!(lease_one(&queue).attempt, 1);
}

#[test]
fn a_cancelled_job_that_waits_is_never_leased() {
    everywhere("cancel", scenario_cancel);
}

fn scenario_cancel(place: &Place) {
    let queue = place.open(&PATIENT);
    let document = enter(&queue, order("a", 1));
    let seen = queue.follow(&Tenant::named("a"), document.id, document.revision);
    let _cancelled = queue.cancel(&Tenant::named("a"), document.id).wait().unwrap();
    assert_eq!(seen.wait().unwrap().unwrap().state, State::Cancelled);
    assert!(lease_all(&queue).is_empty());
}

#[test]
fn the_same_request_is_the_same_job() {
    everywhere("idempotent", scenario_idempotent);
}

fn scenario_idempotent(place: &Place) {
    let queue = place.open(&PATIENT);
    let with = |tenant: &str, number, request| Order {
        idempotency: Some(Idempotency { key: "k1".to_owned(), request: [request; 32] }),
        ..order(tenant, number)
    };
    let first = enter(&queue, with("a", 1, 7));
    let again = queue.enqueue(with("a", 1, 7), Forecast::default()).wait().unwrap();
    assert_eq!(again, Enqueued::Before(first.clone()));
    let other = queue.enqueue(with("a", 2, 8), Forecast::default()).wait().unwrap();
    assert_eq!(other, Enqueued::KeyReused(first.id));
    assert_eq!(queue.depth().waiting(), 1);
    let theirs = enter(&queue, with("b", 2, 8));
    assert_ne!(theirs.id, first.id);
    assert_eq!(queue.find(&Tenant::named("a"), "k1").wait().unwrap(), Some((first, [7; 32])));
    assert_eq!(queue.find(&Tenant::named("a"), "k2").wait().unwrap(), None);
}

#[test]
fn first_come_first_served_with_a_share_for_bulk() {
    everywhere("order", scenario_order);
}

fn scenario_order(place: &Place) {
    let queue = place.open(&PATIENT);
    for number in 0..10 {
        enter(&queue, bulk(100 + number));
    }
    for number in 0..10 {
        enter(&queue, order("a", number));
    }
    let order: Vec<u64> = lease_all(&queue).iter().map(number).collect();
    let interactive: Vec<u64> = order.iter().copied().filter(|number| *number < 100).collect();
    let bulk: Vec<u64> = order.iter().copied().filter(|number| *number >= 100).collect();
    assert!(interactive.is_sorted() && bulk.is_sorted());
    assert_eq!((interactive.len(), bulk.len()), (10, 10));
    assert_eq!(order[..10].iter().filter(|number| **number >= 100).count(), 2, "{order:?}");
}

#[test]
fn bulk_that_somebody_waits_for_goes_first() {
    everywhere("raise", scenario_raise);
}

fn scenario_raise(place: &Place) {
    let queue = place.open(&PATIENT);
    enter(&queue, bulk(1));
    enter(&queue, bulk(2));
    enter(&queue, order("b", 2));
    assert_eq!((queue.depth().interactive, queue.depth().bulk), (1, 1));
    assert_eq!(number(&lease_one(&queue)), 2);
}

#[test]
fn a_lease_takes_what_fits_and_one_giant_at_most() {
    everywhere("giants", scenario_giants);
}

fn scenario_giants(place: &Place) {
    let queue = place.open(&PATIENT);
    for (number, peak_bytes) in [(1, 500), (2, 10), (3, 500), (4, 300), (5, 10)] {
        let mut order = order("a", number);
        order.work.cost.peak_bytes = peak_bytes;
        enter(&queue, order);
    }
    let ask = Ask { most: 10, bytes: 1000, bytes_total: 1000, giant_bytes: 400, giant: true };
    let numbers = |ask| -> Vec<u64> { queue.lease("cpu", ask).wait().unwrap().iter().map(number).collect() };
    // The second giant is stepped over, not waited for.
    assert_eq!(numbers(ask), [1, 2, 4, 5]);
    assert!(numbers(Ask { giant: false, ..ask }).is_empty());
    // What does not fit yet is waited for, and nothing behind it goes first.
    enter(&queue, order("a", 6));
    assert!(numbers(Ask { bytes: 499, ..ask }).is_empty());
    let large = Ask { giant_bytes: 500, giant: false, ..ask };
    assert_eq!(numbers(Ask { most: 1, bytes: 500, ..large }), [3]);
    // What can never fit is handed out so that it can be failed.
    assert_eq!(numbers(ask), [6]);
}

#[test]
fn the_images_own_fault_ends_it_and_ours_is_tried_again() {
    everywhere("faults", scenario_faults);
}

fn scenario_faults(place: &Place) {
    let queue = place.open(&PATIENT);
    let tenant = Tenant::named("a");
    let bad = enter(&queue, order("a", 1));
    let fault = Fault::new(Kind::BadImage, "its end is missing");
    assert_eq!(queue.fail(lease_one(&queue).id, fault).wait().unwrap(), Settled::Ended);
    let failed = job(&queue, "a", bad.id);
    assert_eq!((failed.state, failed.error.as_ref().unwrap().status), (State::Failed, 422));
    assert_eq!(enter(&queue, order("b", 1)).state, State::Failed, "the same bytes cannot come to another end");

    let ours = enter(&queue, order("a", 2));
    for attempt in 1..=5 {
        let lease = lease_one(&queue);
        assert_eq!(lease.attempt, attempt);
        let settled = queue.fail(lease.id, io()).wait().unwrap();
        assert_eq!(settled, if attempt < 5 { Settled::Again(Duration::ZERO) } else { Settled::Ended });
    }
    assert_eq!(job(&queue, "a", ours.id).state, State::Dead);
    assert_eq!(queue.depth().dead, 1);

    let crasher = enter(&queue, order("a", 3));
    for _ in 0..2 {
        let _settled = queue.fail(lease_one(&queue).id, Fault::new(Kind::Crashed, "signal 11")).wait().unwrap();
    }
    assert_eq!(job(&queue, "a", crasher.id).state, State::Dead);

    let dead = queue.dead(Some(&tenant), u64::MAX, 10).wait().unwrap();
    assert_eq!(dead.len(), 2);
    assert!(queue.dead(Some(&Tenant::named("b")), u64::MAX, 10).wait().unwrap().is_empty());
    assert_eq!(queue.dead(None, u64::MAX, 1).wait().unwrap().len(), 1);
    assert_eq!(queue.retry(Some(&Tenant::named("b")), ours.id).wait().unwrap(), None);
    let again = queue.retry(Some(&tenant), ours.id).wait().unwrap().unwrap();
    assert_eq!((again.state, again.attempts, again.finished_ms), (State::Queued, 0, None));
    assert_eq!((queue.depth().dead, queue.depth().waiting()), (1, 1));
    assert_eq!(queue.complete(lease_one(&queue).id, manifest()).wait().unwrap(), Settled::Ended);
    assert_eq!(queue.retry(None, ours.id).wait().unwrap().unwrap().state, State::Done, "only the dead are revived");
    assert_eq!((queue.counts().died, queue.counts().retried, queue.counts().failed), (2, 5, 1));
}

#[test]
fn what_ran_out_of_time_is_failed_and_may_be_asked_for_again() {
    everywhere("time", scenario_time);
}

fn scenario_time(place: &Place) {
    let queue = place.open(&PATIENT);
    let first = enter(&queue, order("a", 1));
    let fault = Fault::new(Kind::Stopped, "30 s are over");
    assert_eq!(queue.fail(lease_one(&queue).id, fault).wait().unwrap(), Settled::Ended);
    assert_eq!(job(&queue, "a", first.id).state, State::Failed);
    assert_eq!(enter(&queue, order("a", 1)).state, State::Queued);
    assert_eq!(lease_one(&queue).attempt, 1);
}

#[test]
fn a_repetition_waits_and_then_the_bell_rings() {
    everywhere("backoff", scenario_backoff);
}

fn scenario_backoff(place: &Place) {
    let queue = place.open(&QueueOptions { backoff: Duration::from_millis(200), ..QueueOptions::DEFAULT });
    let bell = queue.bell();
    // Full jitter may also draw a short wait; some attempt draws one that can be seen.
    for number in 0..20 {
        enter(&queue, order("a", number));
        let lease = lease_one(&queue);
        let Settled::Again(wait) = queue.fail(lease.id, io()).wait().unwrap() else { panic!() };
        if wait < Duration::from_millis(60) {
            continue;
        }
        let _rung_before = bell.try_recv();
        let waiting = queue.depth().waiting();
        assert!(waiting >= 1);
        assert!(!lease_all(&queue).iter().any(|other| other.id.work == lease.id.work));
        let begun = Instant::now();
        while !lease_all(&queue).iter().any(|other| other.id.work == lease.id.work) {
            assert!(bell.recv_timeout(Duration::from_secs(5)).is_ok(), "nobody rang");
        }
        assert!(begun.elapsed() < Duration::from_secs(2));
        return;
    }
    panic!("twenty draws from 0..200 ms below 60 ms");
}

#[test]
fn a_lease_that_is_not_renewed_goes_back() {
    everywhere("expire", scenario_expire);
}

fn scenario_expire(place: &Place) {
    let queue = place.open(&QueueOptions { lease: Duration::from_millis(500), ..PATIENT });
    let document = enter(&queue, order("a", 1));
    let lease = lease_one(&queue);
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(queue.heartbeat(vec![(lease.id, 0.0)]).wait().unwrap(), [Held::Yes], "renewed in time");
    }
    let bell = queue.bell();
    let second = loop {
        let leases = lease_all(&queue);
        if let Some(lease) = leases.into_iter().next() {
            break lease;
        }
        let _may_ring = bell.recv_timeout(Duration::from_millis(20));
    };
    assert_eq!((second.attempt, queue.counts().expired), (2, 1));
    assert_eq!(queue.heartbeat(vec![(lease.id, 0.0), (second.id, 0.0)]).wait().unwrap(), [Held::No, Held::Yes]);
    assert_eq!(queue.fail(lease.id, io()).wait().unwrap(), Settled::Stale);
    // The first holder was slow, not dead: its outputs are the same objects.
    assert_eq!(queue.complete(lease.id, manifest()).wait().unwrap(), Settled::Ended);
    assert_eq!(job(&queue, "a", document.id).state, State::Done);
    assert_eq!(queue.complete(second.id, manifest()).wait().unwrap(), Settled::Stale);
}

#[test]
fn what_is_given_back_was_never_taken() {
    everywhere("release", scenario_release);
}

fn scenario_release(place: &Place) {
    let queue = place.open(&PATIENT);
    enter(&queue, order("a", 1));
    for _ in 0..10 {
        let lease = lease_one(&queue);
        assert_eq!(lease.attempt, 1);
        assert_eq!(queue.release(lease.id).wait().unwrap(), Settled::Again(Duration::ZERO));
    }
}

#[test]
fn all_of_it_survives_the_process() {
    let home = Home::new("survive");
    let queue = open(&home, &PATIENT);
    let salt = queue.salt().original(&crate::image::work::ContentHash([9; 32]));
    let documents: Vec<Document> = (0..4).map(|number| enter(&queue, order("a", number))).collect();
    let leases = queue.lease("cpu", Ask { most: 2, ..ALL }).wait().unwrap();
    assert_eq!(queue.complete(leases[0].id, manifest()).wait().unwrap(), Settled::Ended);
    drop(queue);
    let queue = open(&home, &PATIENT);
    assert_eq!(queue.salt().original(&crate::image::work::ContentHash([9; 32])), salt);
    let states: Vec<State> = documents.iter().map(|document| job(&queue, "a", document.id).state).collect();
    assert_eq!(states, [State::Done, State::Queued, State::Queued, State::Queued]);
    assert_eq!(queue.depth(), Depth { interactive: 3, waiting_cpu_us: 600_000, ..Depth::default() });
    assert_eq!((job(&queue, "a", documents[1].id).attempts, queue.counts().expired), (1, 1));
    assert!(job(&queue, "a", documents[1].id).revision > documents[1].revision);
    // The holder of before has no say any more.
    assert_eq!(queue.fail(leases[1].id, io()).wait().unwrap(), Settled::Stale);
}

#[test]
fn calls_that_come_together_are_made_durable_together() {
    let home = Home::new("group");
    let queue = open(&home, &PATIENT);
    let answers: Vec<_> = (0..500).map(|number| queue.enqueue(order("a", number), Forecast::default())).collect();
    for answer in answers {
        assert!(matches!(answer.wait().unwrap(), Enqueued::Accepted(_)));
    }
    let counts = queue.counts();
    assert_eq!((counts.accepted, counts.committed_calls), (500, 500));
    assert!(counts.commits <= 100, "{} transactions for 500 calls", counts.commits);
    assert_eq!(queue.depth().waiting(), 500);
}

#[test]
fn beyond_the_mark_new_work_is_refused_and_shared_work_is_not() {
    everywhere("mark", scenario_mark);
}

fn scenario_mark(place: &Place) {
    let queue = place.open(&QueueOptions { waiting_max: 2, ..PATIENT });
    enter(&queue, order("a", 1));
    enter(&queue, order("a", 2));
    assert_eq!(queue.enqueue(order("a", 3), Forecast::default()).wait().unwrap(), Enqueued::Refused);
    enter(&queue, order("b", 2));
    let _leased = lease_one(&queue);
    enter(&queue, order("a", 3));
}

#[test]
fn followers_hear_of_every_change_and_of_no_other() {
    everywhere("follow", scenario_follow);
}

fn scenario_follow(place: &Place) {
    let queue = place.open(&PATIENT);
    let document = enter(&queue, order("a", 1));
    let (told, heard) = crossbeam_channel::unbounded();
    let follower = {
        let (queue, id) = (queue.clone(), document.id);
        std::thread::spawn(move || {
            let mut seen = 0;
            loop {
                let document = queue.follow(&Tenant::named("a"), id, seen).wait().unwrap().unwrap();
                assert!(document.revision > seen);
                seen = document.revision;
                told.send((document.state, document.progress)).unwrap();
                if document.state.is_final() {
                    return;
                }
            }
        })
    };
    let next = || heard.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(next(), (State::Queued, 0.0));
    enter(&queue, order("a", 2));
    assert!(heard.try_recv().is_err());
    let lease = lease_one(&queue);
    assert_eq!(next(), (State::Leased, 0.0));
    let _held = queue.heartbeat(vec![(lease.id, 0.25)]).wait().unwrap();
    assert_eq!(next(), (State::Leased, 0.25));
    let _settled = queue.complete(lease.id, manifest()).wait().unwrap();
    assert_eq!(next(), (State::Done, 1.0));
    follower.join().unwrap();
    assert_eq!(queue.follow(&Tenant::named("b"), document.id, 0).wait().unwrap(), None);
}

#[test]
fn placeholders_are_asked_for_and_told() {
    everywhere("placeholders", scenario_placeholders);
}

/// Without them the words are those of earlier versions, which tests of recipes and outputs show: so what such a version has
/// left in a queue is read here, too.
fn scenario_placeholders(place: &Place) {
    let queue = place.open(&PATIENT);
    let mut asking = order("a", 1);
    let recipe = Recipe { thumbhash: true, blurhash: Some(Components::DEFAULT), ..Recipe::named("small") };
    asking.work.recipes = vec![recipe].into();
    let documents = [enter(&queue, asking.clone()), enter(&queue, order("a", 2))];
    let plain = output_at(Key { name: [7; 32], suffix: Suffix::Jpeg });
    // What Lua, SQL and JSON have signs for.
    let blurhash = Some("L%[]{}~$#:;?@^_|=+-*,.0123Az".to_owned());
    let told = JobOutput { thumbhash: Some("3wcKNZqAdncH/4h3d4h4+A==".to_owned()), blurhash, ..plain.clone() };
    let outputs = [vec![told], vec![plain]];
    for (order, outputs) in [asking, order("a", 2)].into_iter().zip(&outputs) {
        let lease = lease_one(&queue);
        assert_eq!(lease.work, order.work);
        let manifest = Manifest { outputs: outputs.clone(), ..manifest() };
        assert_eq!(queue.complete(lease.id, manifest).wait().unwrap(), Settled::Ended);
    }
    drop(queue);
    let queue = place.open(&PATIENT);
    for (document, outputs) in documents.iter().zip(outputs) {
        assert_eq!(job(&queue, "a", document.id).outputs, outputs);
    }
}

#[test]
fn a_sweep_learns_what_is_wanted() {
    everywhere("wanted", scenario_wanted);
}

fn scenario_wanted(place: &Place) {
    let queue = place.open(&PATIENT);
    enter(&queue, order("a", 1));
    enter(&queue, order("a", 2));
    let original = |number: u64| order("a", number).work.original;
    let output = Key { name: [7; 32], suffix: Suffix::Jpeg };
    let lease = lease_one(&queue);
    let manifest = Manifest { outputs: vec![output_at(output)], ..manifest() };
    let published = lease.work.key.manifest(queue.salt());
    assert_eq!(queue.wanted(vec![output, published]).wait().unwrap(), [false, false]);
    assert_eq!(queue.complete(lease.id, manifest).wait().unwrap(), Settled::Ended);
    let keys = vec![original(1), original(2), original(3), output, published];
    assert_eq!(queue.wanted(keys.clone()).wait().unwrap(), [true, true, false, true, true]);
    let _failed = queue.fail(lease_one(&queue).id, Fault::new(Kind::BadImage, "broken")).wait().unwrap();
    assert_eq!(queue.wanted(keys.clone()).wait().unwrap(), [true, false, false, true, true]);
    drop(queue);
    let queue = place.open(&QueueOptions { originals_kept: false, ..PATIENT });
    assert_eq!(queue.wanted(keys.clone()).wait().unwrap(), [false, false, false, true, true]);
    drop(queue);
    for (kept_for, is_kept) in [(Duration::ZERO, false), (Duration::from_secs(1000), true)] {
        let queue = place.open(&QueueOptions { originals_kept_for: Some(kept_for), ..PATIENT });
        assert_eq!(queue.wanted(keys.clone()).wait().unwrap(), [is_kept, false, false, true, true]);
    }
}

#[test]
fn a_job_is_deleted_with_what_no_other_needs() {
    everywhere("purge", scenario_purge);
}

fn scenario_purge(place: &Place) {
    let queue = place.open(&PATIENT);
    let (a, b) = (Tenant::named("a"), Tenant::named("b"));
    let purge = |tenant: &Tenant, id| queue.purge(tenant, id).wait().unwrap();
    let first = enter(&queue, order("a", 1));
    assert!(matches!(purge(&a, first.id), Purged::Unended(document) if document.id == first.id));
    assert_eq!((purge(&b, first.id), queue.whose(JobId([9; 16])).wait().unwrap()), (Purged::Unknown, None));
    let shared = enter(&queue, order("b", 1));
    let mut of_same = order("a", 2);
    of_same.work.original = first.source.key;
    let of_same = enter(&queue, of_same);
    let outputs = [7, 8].map(|number| Key { name: [number; 32], suffix: Suffix::Jpeg });
    let mut manifests = Vec::new();
    for output in outputs {
        let lease = lease_one(&queue);
        manifests.push(lease.work.key.manifest(queue.salt()));
        let manifest = Manifest { outputs: vec![output_at(output)], ..manifest() };
        assert_eq!(queue.complete(lease.id, manifest).wait().unwrap(), Settled::Ended);
    }
    // Another tenant has the same outputs.
    assert_eq!(purge(&a, first.id), Purged::Gone(Remains { keeps_outputs: true, ..Remains::default() }));
    assert_eq!((purge(&a, first.id), queue.job(&a, first.id).wait().unwrap()), (Purged::Unknown, None));
    let (whose, document) = queue.whose(shared.id).wait().unwrap().unwrap();
    assert_eq!((whose, document.id, document.state), (b.clone(), shared.id, State::Done));
    let sorted = |purged: Purged| match purged {
        Purged::Gone(mut remains) => {
            remains.objects.sort_unstable();
            remains
        }
        other => panic!("{other:?}"),
    };
    // And another work has the same original.
    let mut objects = vec![outputs[0], manifests[0]];
    objects.sort_unstable();
    let remains = sorted(purge(&b, shared.id));
    assert_eq!(remains, Remains { objects: objects.clone(), original: None, keeps_outputs: false });
    let still = vec![outputs[0], manifests[0], outputs[1], manifests[1], first.source.key];
    assert_eq!(queue.wanted(still.clone()).wait().unwrap(), [false, false, true, true, true]);
    let remains = sorted(purge(&a, of_same.id));
    let mut objects = vec![outputs[1], manifests[1]];
    objects.sort_unstable();
    assert_eq!(remains, Remains { objects, original: Some(first.source.key), keeps_outputs: false });
    assert_eq!(queue.wanted(still).wait().unwrap(), [false; 5]);
    // Who still holds the lease of one that was deleted cannot end another that came after it.
    let cancelled = enter(&queue, order("a", 4));
    let held = lease_one(&queue);
    let _cancelled = queue.cancel(&a, cancelled.id).wait().unwrap();
    assert!(matches!(purge(&a, cancelled.id), Purged::Gone(_)));
    std::thread::sleep(Duration::from_millis(2));
    let next = enter(&queue, order("a", 5));
    let lease = lease_one(&queue);
    assert_ne!(lease.id, held.id);
    assert_eq!(queue.fail(held.id, Fault::new(Kind::Stopped, "stopped")).wait().unwrap(), Settled::Stale);
    assert_eq!(queue.complete(lease.id, manifest()).wait().unwrap(), Settled::Ended);
    assert!(matches!(purge(&a, next.id), Purged::Gone(_)));
    // It may come again, and a cancelled one and a dead one may go.
    let again = enter(&queue, order("a", 1));
    assert_eq!(again.state, State::Queued);
    let _cancelled = queue.cancel(&a, again.id).wait().unwrap();
    assert!(matches!(purge(&a, again.id), Purged::Gone(Remains { original: Some(_), .. })));
    let dead = enter(&queue, order("a", 3));
    for _ in 0..2 {
        let _settled = queue.fail(lease_one(&queue).id, Fault::new(Kind::Crashed, "signal 11")).wait().unwrap();
    }
    assert_eq!((job(&queue, "a", dead.id).state, queue.depth().dead), (State::Dead, 1));
    assert!(matches!(purge(&a, dead.id), Purged::Gone(_)));
    assert_eq!((queue.depth(), queue.dead(None, u64::MAX, 9).wait().unwrap()), (Depth::default(), Vec::new()));
}

#[test]
fn what_a_tenant_takes_is_counted() {
    everywhere("usage", scenario_usage);
}

fn scenario_usage(place: &Place) {
    let queue = place.open(&PATIENT);
    let usage = |queue: &Arc<dyn Queue>, tenant: &str| {
        let Usage { unended, bytes_of_day } = queue.usage(&Tenant::named(tenant)).wait().unwrap();
        (unended, bytes_of_day)
    };
    assert_eq!(usage(&queue, "a"), (0, 0));
    let first = enter(&queue, order("a", 1));
    enter(&queue, order("b", 1));
    enter(&queue, order("a", 2));
    assert_eq!((usage(&queue, "a"), usage(&queue, "b")), ((2, 10_000_000), (1, 5_000_000)));
    let _cancelled = queue.cancel(&Tenant::named("a"), first.id).wait().unwrap();
    assert_eq!((usage(&queue, "a"), usage(&queue, "b")), ((1, 10_000_000), (1, 5_000_000)));
    let _settled = queue.complete(lease_one(&queue).id, manifest()).wait().unwrap();
    let _settled = queue.fail(lease_one(&queue).id, Fault::new(Kind::BadImage, "broken")).wait().unwrap();
    // What is there already takes no time, but it was sent.
    enter(&queue, order("a", 1));
    assert_eq!((usage(&queue, "a"), usage(&queue, "b")), ((0, 15_000_000), (0, 5_000_000)));
    let dead = enter(&queue, order("a", 3));
    for _ in 0..2 {
        assert_eq!(usage(&queue, "a").0, 1);
        let _settled = queue.fail(lease_one(&queue).id, Fault::new(Kind::Crashed, "signal 11")).wait().unwrap();
    }
    assert_eq!(usage(&queue, "a").0, 0);
    let _revived = queue.retry(None, dead.id).wait().unwrap();
    assert_eq!(usage(&queue, "a"), (1, 20_000_000));
    drop(queue);
    assert_eq!(usage(&place.open(&PATIENT), "a"), (1, 20_000_000));
}

#[test]
fn what_is_too_old_is_forgotten() {
    let home = Home::new("forget");
    let options = QueueOptions {
        jobs_kept: Duration::ZERO,
        outputs_kept: Some(Duration::ZERO),
        dead_kept: Duration::from_secs(1000),
        ..PATIENT
    };
    let queue = open(&home, &options);
    let [done, failed, dead, waiting] = [1, 2, 3, 4].map(|number| enter(&queue, order("a", number)).id);
    let leases = queue.lease("cpu", Ask { most: 3, ..ALL }).wait().unwrap();
    let _settled = queue.complete(leases[0].id, manifest()).wait().unwrap();
    let _settled = queue.fail(leases[1].id, Fault::new(Kind::BadImage, "broken")).wait().unwrap();
    let crash = || Fault::new(Kind::Crashed, "signal 11");
    let _settled = queue.fail(leases[2].id, crash()).wait().unwrap();
    for lease in lease_all(&queue) {
        let _settled = match number(&lease) {
            3 => queue.fail(lease.id, crash()).wait().unwrap(),
            _ => queue.release(lease.id).wait().unwrap(),
        };
    }
    std::thread::sleep(Duration::from_millis(5));
    drop(queue);
    let schema::Database { connection, secret, lock } = owned(|| schema::open(home.path()));
    let mut ledger = ledger::Ledger::new(connection, Salt::new(&secret), options.clone()).unwrap();
    ledger.begin().unwrap();
    assert!(!ledger.forget().unwrap());
    let _committed = ledger.commit(0).unwrap();
    drop((ledger, lock));
    let queue = open(&home, &options);
    let there = [done, failed, dead, waiting].map(|id| queue.job(&Tenant::named("a"), id).wait().unwrap().is_some());
    assert_eq!((there, queue.depth().dead), ([false, false, true, true], 1));
    let published = order("a", 1).work.key.manifest(queue.salt());
    assert_eq!(queue.wanted(vec![order("a", 1).work.original, published]).wait().unwrap(), [false, false]);
}

#[test]
fn what_waits_goes_with_a_clock_that_is_set_back() {
    let home = Home::new("clock");
    let hours = Duration::from_secs(7200);
    let options = QueueOptions { backoff: hours, backoff_max: hours, ..QueueOptions::DEFAULT };
    let queue = open(&home, &options);
    enter(&queue, order("a", 1));
    drop(queue);
    let schema::Database { connection, secret, lock } = owned(|| schema::open(home.path()));
    let mut ledger = ledger::Ledger::new(connection, Salt::new(&secret), options).unwrap();
    let mut leased = |ahead: Duration| {
        let ahead_ms = ahead.as_millis() as i64;
        ledger.follow_clock(Instant::now(), ledger::now_ms() + ahead_ms).unwrap();
        ledger.begin().unwrap();
        let leases = ledger.lease("cpu", ALL).unwrap();
        for lease in &leases {
            let Settled::Again(_) = ledger.fail(lease.id, &Fault::new(Kind::Io, "gone")).unwrap() else { panic!() };
        }
        let _committed = ledger.commit(0).unwrap();
        leases.len()
    };
    assert_eq!([leased(Duration::ZERO), leased(Duration::ZERO)], [1, 0], "it waits for its backoff");
    // It was set ahead, and is right again when the batch begins: what is due by then is due at once.
    assert_eq!(leased(hours), 1);
    drop((ledger, lock));
}

#[test]
fn a_directory_has_one_owner() {
    let home = Home::new("owner");
    let queue = open(&home, &PATIENT);
    let error = SqliteQueue::open(home.path(), PATIENT).err().unwrap().to_string();
    assert!(error.contains("another annulus uses this directory"), "{error}");
    drop(queue);
    let _again = open(&home, &PATIENT);
}

#[test]
fn foreign_newer_and_damaged_databases_are_refused_in_words() {
    let path = |home: &Home| home.path().join("queue.db");
    let refused = |home: &Home| SqliteQueue::open(home.path(), PATIENT).err().unwrap().to_string();
    let altered = |sql: &str| {
        let home = Home::new("refused");
        drop(open(&home, &PATIENT));
        rusqlite::Connection::open(path(&home)).unwrap().execute_batch(sql).unwrap();
        refused(&home)
    };
    let newer = altered("PRAGMA user_version = 7");
    assert!(newer.contains("written by a newer annulus (its tables are version 7"), "{newer}");
    let foreign = altered("PRAGMA application_id = 5");
    assert!(foreign.contains("another program"), "{foreign}");
    let text = Home::new("refused");
    fs::write(
        path(&text),
        "this is a text, and no database, however long one looks at it, at least 100 bytes of it.....",
    )
    .unwrap();
    assert!(refused(&text).contains("is damaged"), "{}", refused(&text));

    // Pages in the middle torn by a disk: either they are noticed now, or not a page of ours was hit.
    let home = Home::new("refused");
    let queue = open(&home, &PATIENT);
    for number in 0..200 {
        enter(&queue, order("a", number));
    }
    drop(queue);
    let mut bytes = fs::read(path(&home)).unwrap();
    for page in bytes.chunks_mut(4096).skip(3) {
        page[..2000].fill(0xa5);
    }
    fs::write(path(&home), bytes).unwrap();
    assert!(refused(&home).contains("is damaged"), "{}", refused(&home));
}

#[test]
fn a_torn_log_loses_its_torn_end_only() {
    let home = Home::new("torn");
    let queue = open(&home, &PATIENT);
    let ids: Vec<JobId> = (0..40).map(|number| enter(&queue, order("a", number)).id).collect();
    // As a power cut leaves it: the log copied while the queue is open.
    let log = fs::read(home.path().join("queue.db-wal")).unwrap();
    let database = fs::read(home.path().join("queue.db")).unwrap();
    assert!(log.len() > 100_000);
    for cut in (0..log.len()).step_by(log.len() / 23) {
        let copy = Home::new("torn");
        fs::write(copy.path().join("queue.db"), &database).unwrap();
        fs::write(copy.path().join("queue.db-wal"), &log[..cut]).unwrap();
        // An empty database of which nothing was ever answered is as good as none.
        let queue = open(&copy, &PATIENT);
        let there: Vec<bool> =
            ids.iter().map(|id| queue.job(&Tenant::named("a"), *id).wait().unwrap().is_some()).collect();
        let kept = there.iter().take_while(|there| **there).count();
        assert!(there[kept..].iter().all(|there| !there), "a hole at {cut}: {there:?}");
    }
}

/// Runs a test of this file that is ignored otherwise, as a child of its own, after `shell` has prepared it.
fn child(name: &str, shell: &str, home: &Home) -> std::process::Output {
    let script = format!("{shell} exec \"$0\" --exact image::queue::tests::{name} --ignored --nocapture");
    let exe = std::env::current_exe().unwrap();
    Command::new("sh").args(["-c", &script]).arg(exe).env("ANNULUS_HOME", home.path()).output().unwrap()
}

#[test]
fn a_full_disk_loses_nothing_that_was_answered() {
    let home = Home::new("full");
    // 512-byte blocks in POSIX shells: about 2 MB for each file. Beyond, writing fails as on a full disk.
    let output = child("fills_the_disk", "trap '' XFSZ; ulimit -f 4000;", &home);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let ids: Vec<JobId> =
        text.lines().filter_map(|line| line.strip_prefix("answered ")).map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() > 10 && text.contains("refused "), "{text}");
    let queue = open(&home, &PATIENT);
    for id in &ids {
        assert_eq!(job(&queue, "a", *id).state, State::Queued);
    }
    assert_eq!(queue.depth().waiting(), ids.len() as u64);
    enter(&queue, order("a", u64::MAX));
}

#[test]
#[ignore = "a child of a_full_disk_loses_nothing_that_was_answered"]
fn fills_the_disk() {
    let home = std::env::var_os("ANNULUS_HOME").unwrap();
    let queue = SqliteQueue::open(home.as_ref(), PATIENT).unwrap();
    for number in 0..100_000 {
        match queue.enqueue(order("a", number), Forecast::default()).wait() {
            Ok(Enqueued::Accepted(document)) => println!("answered {}", document.id),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                println!("refused {error}");
                // It goes on answering what needs no room.
                assert!(queue.job(&Tenant::named("a"), JobId([0; 16])).wait().is_ok());
                return;
            }
        }
    }
    panic!("100,000 orders fit into 2 MB");
}

/// How many orders a second are made durable, one after the other and 64 at a time; printed, not judged.
#[test]
#[ignore = "measures"]
fn measures_commits() {
    for together in [1, 8, 64] {
        let home = Home::new("measure-commits");
        let queue = open(&home, &PATIENT);
        let (begun, each) = (Instant::now(), 2048 / together);
        let threads: Vec<_> = (0..together)
            .map(|thread| {
                let queue = queue.clone();
                std::thread::spawn(move || (0..each).for_each(|at| drop(enter(&queue, order("a", thread * each + at)))))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (counts, took) = (queue.counts(), begun.elapsed().as_secs_f64());
        let (rate, slowest) = (counts.accepted as f64 / took, counts.commit_us_max / 1000);
        println!("{together} callers: {rate:.0} orders/s in {} commits, the slowest {slowest} ms", counts.commits);
    }
}

#[test]
fn events_are_kept_with_their_changes_until_they_are_sent_and_have_a_limit() {
    let home = Home::new("events");
    let options = QueueOptions { events_max: 6, attempts_max: 2, ..PATIENT };
    let open = |home: &Home, options: &QueueOptions| -> (Arc<SqliteQueue>, Arc<dyn Queue>) {
        let outbox = Arc::new(owned(|| SqliteQueue::open(home.path(), options.clone())));
        (outbox.clone(), outbox)
    };
    let (outbox, queue) = open(&home, &options);
    let fill = |outbox: &SqliteQueue| {
        let Fill { waiting, lost, .. } = outbox.fill(Reader::Account);
        (waiting, lost)
    };
    let told = |queue: &SqliteQueue| -> Vec<(String, String, i64)> {
        let events = Outbox::first(queue, Reader::Account, 100).wait().unwrap();
        assert!(events.windows(2).all(|pair| pair[0].place < pair[1].place));
        events.into_iter().map(|noted| (noted.tenant, noted.event, noted.attempt)).collect()
    };
    let event = |tenant: &str, event: &str, attempt| (tenant.to_owned(), event.to_owned(), attempt);
    // One work that two jobs want: each has an account of its own.
    enter(&queue, order("a", 1));
    enter(&queue, Order { tenant: Tenant::named("b"), ..order("a", 1) });
    let lease = lease_one(&queue);
    let four = [event("a", "accepted", 0), event("b", "accepted", 0), event("a", "leased", 1), event("b", "leased", 1)];
    let (mut both, mut expected) = (told(&outbox), four.to_vec());
    both.sort();
    expected.sort();
    assert_eq!(both, expected);
    // They outlive the process; what was sent does not come again.
    let sent = Outbox::first(&*outbox, Reader::Account, 100).wait().unwrap()[3].place;
    drop((outbox, queue));
    let (outbox, queue) = open(&home, &options);
    let after: Vec<_> = told(&outbox).into_iter().skip(4).map(|(_, event, _)| event).collect();
    assert_eq!(after, ["expired", "expired"], "and then two more did not fit");
    assert_eq!(fill(&outbox), (6, 2));
    Outbox::forget(&*outbox, Reader::Account, sent).wait().unwrap();
    assert_eq!(fill(&outbox), (2, 2));
    assert_eq!(queue.complete(lease.id, manifest()).wait().unwrap(), Settled::Ended);
    let after: Vec<_> = told(&outbox).into_iter().map(|(_, event, _)| event).collect();
    assert_eq!(after, ["expired", "expired", "done", "done"]);
    // Each job's revisions name its events for good.
    let events = Outbox::first(&*outbox, Reader::Account, 100).wait().unwrap();
    let names: std::collections::HashSet<_> =
        events.iter().map(|noted| (&noted.job, noted.revision, &noted.event)).collect();
    assert_eq!(names.len(), 4);
    drop((outbox, queue));
    // Without an account nothing is noted.
    let other = Home::new("no-events");
    let (outbox, queue) = open(&other, &PATIENT);
    enter(&queue, order("a", 1));
    assert_eq!((told(&outbox).len(), fill(&outbox)), (0, (0, 0)));
}

#[test]
fn ends_wait_for_webhooks_until_they_are_told_or_dead_letters() {
    everywhere("webhooks", scenario_webhooks);
}

fn scenario_webhooks(place: &Place) {
    let webhooks = EventSet::of(&[Event::Done, Event::Failed, Event::Dead]);
    // Whether there is an account, too: each reader has its own.
    for events_max in [0, 1000] {
        let options = QueueOptions { webhooks, events_max, attempts_max: 1, ..PATIENT };
        let number = |number: u64| events_max + number;
        let (queue, outbox) = place.open_with_outbox(&options);
        let told = |outbox: &dyn Outbox| -> Vec<(String, String)> {
            let events = outbox.first(Reader::Webhooks, 100).wait().unwrap();
            assert!(events.windows(2).all(|pair| pair[0].place < pair[1].place));
            events.into_iter().map(|noted| (noted.job, noted.event)).collect()
        };
        let end = |document: &Document, event: &str| (document.id.to_string(), event.to_owned());
        // Two that want the same, one that nobody wants any more, a bad image, and one that fails too often.
        let done = enter(&queue, order("a", number(1)));
        let twin = enter(&queue, Order { tenant: Tenant::named("b"), ..order("a", number(1)) });
        let cancelled = enter(&queue, order("a", number(2)));
        assert!(queue.cancel(&Tenant::named("a"), cancelled.id).wait().unwrap().is_some());
        let lease = lease_one(&queue);
        assert!(told(&*outbox).is_empty(), "nothing has ended");
        assert_eq!(queue.complete(lease.id, manifest()).wait().unwrap(), Settled::Ended);
        let failed = enter(&queue, order("a", number(3)));
        let fault = Fault::new(Kind::BadImage, "its end is missing");
        assert_eq!(queue.fail(lease_one(&queue).id, fault).wait().unwrap(), Settled::Ended);
        let dead = enter(&queue, order("a", number(4)));
        assert_eq!(queue.fail(lease_one(&queue).id, io()).wait().unwrap(), Settled::Ended);
        // They ended before they were entered.
        let joined = enter(&queue, order("a", number(1)));
        let hopeless = enter(&queue, order("a", number(3)));
        let mut ends = told(&*outbox);
        let mut twins = vec![end(&done, "done"), end(&twin, "done")];
        ends[..2].sort();
        twins.sort();
        assert_eq!(ends[..2], twins);
        let rest = [end(&failed, "failed"), end(&dead, "dead"), end(&joined, "done"), end(&hopeless, "failed")];
        assert_eq!(ends[2..], rest);
        let events = outbox.first(Reader::Webhooks, 100).wait().unwrap();
        let says = |at: usize| events[at].error.clone().unwrap_or_default();
        assert!([2, 5].iter().all(|at| says(*at).contains("its end is missing")) && says(4).is_empty(), "{events:?}");
        assert_eq!(outbox.first(Reader::Account, 100).wait().unwrap().is_empty(), events_max == 0);

        // What is told is gone, what is given up is kept, and both outlive the process.
        outbox.forget(Reader::Webhooks, events[1].place).wait().unwrap();
        outbox.give_up(events[3].place, "nobody \"listens\"").wait().unwrap();
        assert_eq!(told(&*outbox), rest[2..]);
        assert_eq!(outbox.fill(Reader::Webhooks), Fill { waiting: 2, lost: 0, dead: 2 });
        drop((queue, outbox));
        place.forget_sender();
        let (queue, outbox) = place.open_with_outbox(&options);
        assert_eq!(told(&*outbox), rest[2..]);
        let letters = outbox.letters(None, 10).wait().unwrap();
        let jobs =
            |letters: &[Letter]| -> Vec<String> { letters.iter().map(|letter| letter.noted.job.clone()).collect() };
        assert_eq!(jobs(&letters), [dead.id.to_string(), failed.id.to_string()], "newest first");
        assert!(letters.iter().all(|letter| letter.why == "nobody \"listens\"" && letter.given_up_ms > 0));
        assert_eq!((&letters[1].noted.event, &letters[1].noted.error), (&events[2].event, &events[2].error));
        assert_eq!(outbox.letters(None, 1).wait().unwrap(), letters[..1]);
        assert_eq!(outbox.letters(Some(letters[0].noted.place), 10).wait().unwrap(), letters[1..]);
        assert_eq!(outbox.letters(Some(crate::image::outbox::Place(0, 0)), 10).wait().unwrap(), []);

        // One of them again, behind what waits, and once; then the other.
        assert_eq!(outbox.again(Some(letters[0].noted.place)).wait().unwrap(), 1);
        assert_eq!(outbox.again(Some(letters[0].noted.place)).wait().unwrap(), 0);
        assert_eq!(told(&*outbox), [&rest[2..], &rest[1..2]].concat());
        assert_eq!(outbox.letters(None, 10).wait().unwrap(), letters[1..]);
        assert_eq!(outbox.again(None).wait().unwrap(), 1);
        let again = outbox.first(Reader::Webhooks, 100).wait().unwrap();
        assert_eq!((again[3].revision, again[3].time_ms), (events[2].revision, events[2].time_ms), "as it was noted");
        assert_eq!(outbox.fill(Reader::Webhooks), Fill { waiting: 4, lost: 0, dead: 0 });
        // A dead job that is tried again ends again.
        outbox.forget(Reader::Webhooks, again[3].place).wait().unwrap();
        assert_eq!(queue.retry(None, dead.id).wait().unwrap().unwrap().state, State::Queued);
        assert_eq!(queue.complete(lease_one(&queue).id, manifest()).wait().unwrap(), Settled::Ended);
        let events = outbox.first(Reader::Webhooks, 100).wait().unwrap();
        assert_eq!((events.len(), &events[0].job, &events[0].event[..]), (1, &dead.id.to_string(), "done"));
        outbox.forget(Reader::Webhooks, events[0].place).wait().unwrap();
        drop((queue, outbox));
        place.forget_sender();
    }
    // Without webhooks nothing is noted for them, and nothing is to be had.
    let (queue, outbox) = place.open_with_outbox(&PATIENT);
    enter(&queue, order("a", 1));
    assert!(outbox.first(Reader::Webhooks, 10).wait().unwrap().is_empty());
}
