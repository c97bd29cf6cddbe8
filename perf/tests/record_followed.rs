//! Where there are too many threads for an event on each core, new threads and children are followed by what the kernel
//! tells of their beginning.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::thread;
use std::time::{Duration, Instant};

use annulus_perf::record::{DRAIN_EVERY, Recording, Request};
use rig::{Build, Running, may_sample, spin};

fn recorded(words: &[&str]) -> annulus_perf::folded::Folded {
    let running = Running::start(spin(Build::Full), words);
    let pid = running.0.id() as i32;
    let mut recording = Recording::start(Request { events_max: 0, ..Request::new(pid, 199) }).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        thread::sleep(DRAIN_EVERY);
        recording.step();
    }
    let profile = recording.finish();
    profile.fold(&profile.names(), true, false)
}

#[test]
fn a_thread_that_begins_later_is_followed() {
    if !may_sample("threads that are followed") {
        return;
    }
    let folded = recorded(&["2", "later"]);
    let has = |function: &'static str| folded.samples_with(|name| name.ends_with(function));
    assert!(has("both") > 10 && has("alone") > 5, "{folded:?}");
    assert!(folded.iter().any(|(stack, _)| stack.starts_with("second;")), "{folded:?}");
}

#[test]
fn a_child_is_followed() {
    if !may_sample("children that are followed") {
        return;
    }
    // The child begins at once: what is recorded from the beginning may be the parent alone, or both.
    let folded = recorded(&["2", "child", "late"]);
    assert!(folded.samples_with(|name| name.ends_with("seven_parts")) > 5, "{folded:?}");
}
