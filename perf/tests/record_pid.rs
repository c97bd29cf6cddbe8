//! A process that runs already: its functions with their shares, its threads by name, and those that begin later.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use rig::{Build, Folder, Running, is_well_formed, may_sample, record, spin};

#[test]
fn functions_have_their_shares_and_threads_their_names() {
    if !may_sample("profiles of a running process") {
        return;
    }
    let (folder, running) = (Folder::new("pid"), Running::start(spin(Build::Full), &["60"]));
    let recorded = record(&folder, &["--pid", &running.pid(), "--seconds", "2", "--frequency", "199"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    recorded.has_shares();
    let roots: Vec<&str> = recorded.folded.iter().filter_map(|(stack, _)| stack.split(';').next()).collect();
    assert!(roots.contains(&"spin") && roots.contains(&"second"), "{roots:?}");
    // Down to where a program begins, and nothing of one thread in the other.
    let of = |root: &str, function: &str| {
        let has = |stack: &str| stack.starts_with(root) && stack.split(';').any(|name| name.ends_with(function));
        recorded.folded.iter().filter(|(stack, _)| has(stack)).map(|(_, count)| count).sum::<u64>()
    };
    assert!(of("spin;", "main") > 0 && of("spin;", "both") > 0 && of("spin;", "alone") == 0, "{recorded:?}");
    assert!(of("second;", "alone") > 0 && of("second;", "both") == 0, "{recorded:?}");
    is_well_formed(&recorded.picture);
    for function in ["seven_parts", "three_parts", "alone"] {
        assert!(recorded.picture.contains(function), "{function}");
    }
    let merged = record(&folder, &["--pid", &running.pid(), "--seconds", "0.5", "--merge-threads"]);
    assert!(merged.folded.iter().all(|(stack, _)| !stack.starts_with("spin;")), "{merged:?}");
}

#[test]
fn a_thread_that_begins_later_is_seen() {
    if !may_sample("profiles of later threads") {
        return;
    }
    let (folder, running) = (Folder::new("later"), Running::start(spin(Build::Full), &["3", "later"]));
    let recorded = record(&folder, &["--pid", &running.pid(), "--seconds", "60", "--frequency", "199"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    assert!(recorded.with("alone") > 5, "{recorded:?}");
    assert!(recorded.said.contains("ended after"), "{}", recorded.said);
}

#[test]
fn frame_pointers_do_as_well_for_a_program_that_has_them() {
    if !may_sample("profiles by frame pointers") {
        return;
    }
    let (folder, running) = (Folder::new("frames"), Running::start(spin(Build::Full), &["60"]));
    let words = ["--pid", &running.pid(), "--seconds", "2", "--frequency", "199", "--unwind", "frame-pointers"];
    let recorded = record(&folder, &words);
    recorded.has_shares();
    assert!(recorded.with("both") > 0, "{recorded:?}");
}

#[test]
fn a_stack_that_is_too_deep_is_marked() {
    if !may_sample("profiles of deep stacks") {
        return;
    }
    let (folder, running) = (Folder::new("deep"), Running::start(spin(Build::Full), &["60", "deep"]));
    let recorded = record(&folder, &["--pid", &running.pid(), "--seconds", "1", "--frequency", "199"]);
    let deep: Vec<&str> = recorded.folded.iter().map(|(stack, _)| stack).filter(|s| s.contains("deep")).collect();
    let whole = |stack: &&str| stack.contains("[truncated]");
    assert!(!deep.is_empty() && deep.iter().all(whole), "{deep:?}");
    assert!(recorded.said.contains("begin with [truncated]"), "{}", recorded.said);
    recorded.has_shares();
}
