//! The machinery with a real queue, a real store and a lane that makes no pixels.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::stand_in::{Rig, expected};
use super::*;
use crate::image::job::{State, Tenant};
use crate::image::queue::QueueOptions;
use crate::image::queue::trial::Home;

const PATIENT: QueueOptions = QueueOptions { backoff: Duration::from_millis(5), ..QueueOptions::DEFAULT };

fn rig(home: &Home, threads: usize, takes_ms: u64) -> Rig {
    Rig::new(home.path(), threads, Duration::from_millis(takes_ms), PATIENT)
}

fn start(rig: &Rig) -> Dispatcher {
    Dispatcher::start(&rig.desk, rig.lanes.clone(), DispatchOptions::DEFAULT).unwrap()
}

fn objects(rig: &Rig, suffix: Suffix) -> usize {
    let mut count = 0;
    let mut each = |key: Key, _| {
        count += usize::from(key.suffix == suffix);
        Ok(())
    };
    rig.desk.objects.list(&mut each).unwrap();
    count
}

#[test]
fn jobs_are_done_and_their_outputs_are_there() {
    let home = Home::new("dispatch");
    // Longer than a slow disk takes to note that a job has begun, so that the other thread has one meanwhile.
    let rig = rig(&home, 2, 50);
    let contents: Vec<Vec<u8>> = (0..20).map(|number| format!("photo {number}").into_bytes()).collect();
    let documents: Vec<_> = contents.iter().map(|content| rig.upload("a", content)).collect();
    // All of them wait already: both threads have something to do from the start.
    let dispatcher = start(&rig);
    for (document, content) in documents.iter().zip(&contents) {
        let done = rig.ended(document, "a");
        assert_eq!((done.state, done.attempts, done.lane.as_deref()), (State::Done, 1, Some("cpu")), "{done:?}");
        let names: Vec<&str> = done.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["small", "large"]);
        for output in &done.outputs {
            let bytes = rig.desk.objects.get(&output.key, 0..output.bytes).unwrap();
            assert_eq!(bytes, expected(&output.name, content));
        }
    }
    dispatcher.stop();
    assert_eq!((objects(&rig, Suffix::Jpeg), objects(&rig, Suffix::Manifest)), (40, 20));
    assert_eq!(rig.lane.running_max.load(Ordering::Relaxed), 2);
    let gauge = &rig.desk.lanes[0];
    assert_eq!((gauge.ran(), gauge.busy(), rig.desk.gate.budget().used()), (20, 0, 0));
    assert!(gauge.ran_us() >= 20 * 50_000);
    assert_eq!(rig.desk.gate.budget().used_max(), 200 << 20);
}

#[test]
fn the_same_work_runs_once_for_all_who_want_it() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 2, 20);
    let dispatcher = start(&rig);
    let documents: Vec<_> = ["a", "b", "c"].map(|tenant| (tenant, rig.upload(tenant, b"one photo"))).to_vec();
    for (tenant, document) in &documents {
        assert_eq!(rig.ended(document, tenant).state, State::Done);
    }
    dispatcher.stop();
    assert_eq!(rig.lane.runs.load(Ordering::Relaxed), 1);
}

#[test]
fn a_cancelled_work_stops_soon() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 1, 5);
    let dispatcher = start(&rig);
    let slow = rig.upload("a", b"slow photo");
    let other = rig.upload("a", b"other photo");
    while rig.lane.running.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let begun = Instant::now();
    let _cancelled = rig.desk.queue.cancel(&Tenant::named("a"), slow.id).wait().unwrap();
    assert_eq!(rig.ended(&other, "a").state, State::Done);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(rig.ended(&slow, "a").state, State::Cancelled);
    dispatcher.stop();
}

#[test]
fn faults_end_where_they_belong() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 2, 1);
    let dispatcher = start(&rig);
    let [bad, broken, panics] =
        [&b"bad---"[..], b"broken", b"panics"].map(|content| rig.ended(&rig.upload("a", content), "a"));
    dispatcher.stop();
    assert_eq!((bad.state, bad.attempts, bad.error.unwrap().status), (State::Failed, 1, 422));
    assert_eq!((broken.state, broken.attempts), (State::Dead, 5));
    assert_eq!((panics.state, panics.attempts), (State::Dead, 2));
    assert_eq!(rig.lane.runs.load(Ordering::Relaxed), 8);
}

#[test]
fn an_original_that_is_lost_is_our_fault_and_told() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 1, 1);
    let document = rig.upload("a", b"photo");
    rig.desk.objects.delete(&rig.stored("a", b"photo").work.original).unwrap();
    let dispatcher = start(&rig);
    let dead = rig.ended(&document, "a");
    dispatcher.stop();
    assert_eq!((dead.state, rig.lane.runs.load(Ordering::Relaxed)), (State::Dead, 0));
    assert!(dead.error.unwrap().detail.contains("there is no object"));
}

#[test]
fn what_needs_more_than_there_is_fails_and_holds_nobody_up() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 1, 1);
    let mut order = rig.stored("a", b"huge photo");
    order.work.cost.peak_bytes = 2 << 30;
    let crate::image::queue::Enqueued::Accepted(huge) =
        rig.desk.queue.enqueue(order, crate::image::queue::Forecast::default()).wait().unwrap()
    else {
        panic!("not accepted");
    };
    let small = rig.upload("a", b"small photo");
    let dispatcher = start(&rig);
    assert_eq!(rig.ended(&small, "a").state, State::Done);
    let huge = rig.ended(&huge, "a");
    dispatcher.stop();
    assert_eq!((huge.state, huge.error.unwrap().status), (State::Failed, 413));
}

#[test]
fn giants_go_one_by_one_and_bytes_are_never_overdrawn() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 4, 10);
    for number in 0..12 {
        let mut order = rig.stored("a", format!("photo {number}").as_bytes());
        order.work.cost.peak_bytes = if number % 3 == 0 { 600 << 20 } else { 200 << 20 };
        let _accepted = rig.desk.queue.enqueue(order, crate::image::queue::Forecast::default()).wait().unwrap();
    }
    let dispatcher = start(&rig);
    while rig.desk.queue.counts().done < 12 {
        std::thread::sleep(Duration::from_millis(5));
    }
    dispatcher.stop();
    let budget = rig.desk.gate.budget();
    assert!(budget.used_max() >= 600 << 20 && budget.used_max() <= budget.total());
    assert_eq!((budget.used(), budget.is_giant_free()), (0, true));
}

#[test]
fn an_ending_service_gives_back_what_it_cannot_finish() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 1, 1);
    let options = DispatchOptions { grace: Duration::from_millis(50), ..DispatchOptions::DEFAULT };
    let dispatcher = Dispatcher::start(&rig.desk, rig.lanes.clone(), options).unwrap();
    let slow = rig.upload("a", b"slow photo");
    while rig.lane.running.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    dispatcher.stop();
    let back = rig.desk.queue.job(&Tenant::named("a"), slow.id).wait().unwrap().unwrap();
    assert_eq!((back.state, back.attempts), (State::Queued, 0), "{back:?}");
}

#[test]
fn work_whose_manifest_is_published_is_not_done_again() {
    let home = Home::new("dispatch");
    let rig = rig(&home, 1, 1);
    let order = rig.stored("a", b"photo");
    let manifest = Manifest {
        version: PIPELINE_VERSION,
        lane: "cpu".to_owned(),
        lane_reason: String::new(),
        outputs: Vec::new(),
        timings: JobTimings::default(),
    };
    let text = serde_json::to_vec(&manifest).unwrap();
    let key = order.work.key.manifest(rig.desk.queue.salt());
    let _put = rig.desk.objects.put(&key, &mut text.as_slice()).unwrap();
    let document = rig.upload("a", b"photo");
    let dispatcher = start(&rig);
    assert_eq!(rig.ended(&document, "a").state, State::Done);
    dispatcher.stop();
    assert_eq!(rig.lane.runs.load(Ordering::Relaxed), 0);
}
