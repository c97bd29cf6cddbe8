//! The always-on sampler on threads of this very process: labels, classes, bursts, and what it refuses.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus_perf::folded::Folded;
use annulus_perf::refusal::Reason;
use annulus_perf::sampler::{Options, Sampler};
use rig::{is_well_formed, may_sample};

#[inline(never)]
fn first_kind(rounds: u64) -> u64 {
    let mut sum = 0_u64;
    for at in 0..rounds {
        sum = black_box(sum.wrapping_add(at));
    }
    sum
}

#[inline(never)]
fn second_kind(rounds: u64) -> u64 {
    black_box(first_kind(rounds)) + 1
}

/// Two threads that work.
struct Busy {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    labels: Vec<(i32, String)>,
}

impl Busy {
    fn start() -> Busy {
        let (end, (sender, receiver)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let kinds: [fn(u64) -> u64; 2] = [first_kind, second_kind];
        let threads = kinds.into_iter().enumerate().map(|(at, kind)| {
            let (end, sender) = (end.clone(), sender.clone());
            thread::spawn(move || {
                sender.send((at, rustix::thread::gettid().as_raw_nonzero().get())).unwrap();
                while !end.load(Ordering::Relaxed) {
                    black_box(kind(10_000));
                }
            })
        });
        let threads = threads.collect();
        let mut tids: Vec<(usize, i32)> = receiver.iter().take(2).collect();
        tids.sort_unstable();
        let labels = tids.into_iter().map(|(at, tid)| (tid, format!("shard {at}"))).collect();
        Busy { end, threads, labels }
    }

    fn options(&self) -> Options {
        Options { threads: self.labels.clone(), frequency: 199, ..Options::default() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn has(folded: &Folded, label: &str, function: &str) -> bool {
    folded.iter().any(|(stack, _)| stack.starts_with(label) && stack.contains(function))
}

#[test]
fn threads_are_seen_under_their_labels_and_classes() {
    if !may_sample("the always-on sampler") {
        return;
    }
    let busy = Busy::start();
    let classify = |functions: &[&str]| {
        assert!(functions.len() < 2 || !functions[0].contains("_kind"), "outermost first: {functions:?}");
        functions.iter().any(|name| name.contains("second_kind")).then(|| "class two".to_owned())
    };
    let sampler = Sampler::start(Options { classify: Some(classify), ..busy.options() }).unwrap();
    thread::sleep(Duration::from_secs(2));
    let folded = sampler.folded(Duration::from_secs(60));
    assert!(folded.samples() > 20 && folded.samples() <= sampler.figures().samples as u64, "{folded:?}");
    assert!(has(&folded, "shard 0;", "first_kind") && !has(&folded, "shard 0;", "second_kind"), "{folded:?}");
    assert!(has(&folded, "shard 1;class two;", "second_kind"), "{folded:?}");
    assert!(!has(&folded, "shard 0;class two;", ""), "{folded:?}");
    is_well_formed(&String::from_utf8(folded.flamegraph("two shards")).unwrap());
    // What is asked for is the last so long, and no more.
    let short = sampler.folded(Duration::from_millis(600));
    assert!(short.samples() < folded.samples(), "{} of {}", short.samples(), folded.samples());
    assert!(sampler.folded(Duration::ZERO).is_empty());
}

#[test]
fn samples_are_forgotten_in_time() {
    if !may_sample("what the always-on sampler forgets") {
        return;
    }
    let busy = Busy::start();
    let sampler = Sampler::start(Options { keep: Duration::from_millis(500), ..busy.options() }).unwrap();
    thread::sleep(Duration::from_secs(2));
    // Two threads, 199 times a second for half a second and as long as a look at the rings takes; with room for a slow machine.
    let kept = sampler.figures().samples;
    assert!(kept > 0 && kept < 2 * 199 * 3 / 2, "{kept}");
}

#[test]
fn a_burst_is_sampled_beside_it_and_only_one_at_a_time() {
    if !may_sample("bursts") {
        return;
    }
    let busy = Busy::start();
    let sampler = Sampler::start(busy.options()).unwrap();
    let (folded, refused) = thread::scope(|scope| {
        let burst = scope.spawn(|| sampler.burst(499, Duration::from_secs(2)).unwrap());
        thread::sleep(Duration::from_millis(500));
        let refused = sampler.burst(499, Duration::from_millis(1)).unwrap_err();
        (burst.join().unwrap(), refused)
    });
    assert_eq!(refused.reason, Reason::Busy);
    assert!(has(&folded, "shard 0;", "first_kind") && has(&folded, "shard 1;", "second_kind"), "{folded:?}");
    assert!(folded.samples() > 50, "{}", folded.samples());
    assert_eq!(sampler.burst(0, Duration::from_secs(1)).unwrap_err().reason, Reason::Unsupported);
    assert_eq!(sampler.burst(99, Duration::from_secs(3600)).unwrap_err().reason, Reason::Unsupported);
    assert!(!sampler.burst(99, Duration::from_millis(200)).unwrap().is_empty(), "the next one may");
}

#[test]
fn a_thread_that_is_not_there_is_refused() {
    if !may_sample("the always-on sampler on nobody") {
        return;
    }
    let options = Options { threads: vec![(i32::MAX, "nobody".into())], ..Options::default() };
    let refusal = Sampler::start(options).err().unwrap();
    assert_eq!(refusal.reason, Reason::NoProcess);
    assert!(refusal.sentence.contains(&i32::MAX.to_string()), "{refusal}");
}

#[test]
fn the_end_of_a_thread_or_of_the_sampler_does_no_harm() {
    if !may_sample("the end of the always-on sampler") {
        return;
    }
    let busy = Busy::start();
    let sampler = Sampler::start(busy.options()).unwrap();
    thread::sleep(Duration::from_millis(700));
    drop(busy);
    thread::sleep(Duration::from_millis(300));
    let folded = sampler.folded(Duration::from_secs(60));
    assert!(has(&folded, "shard 0;", "first_kind"), "{folded:?}");
    drop(sampler);
}
