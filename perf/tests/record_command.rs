//! A program that is started to be profiled: from its first instruction, with its children, to its end.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::fs;

use rig::{Build, Folder, is_well_formed, may_sample, profiler, record, spin};
use rustix::process::{Pid, Signal};

#[test]
fn a_program_is_seen_from_its_beginning_to_its_end() {
    if !may_sample("profiles of a program that is started") {
        return;
    }
    let (folder, spin) = (Folder::new("command"), spin(Build::Full).to_str().unwrap());
    for unwind in ["dwarf", "frame-pointers"] {
        let recorded = record(&folder, &["--frequency", "199", "--unwind", unwind, "--", spin, "1.5"]);
        assert_eq!(recorded.code, Some(0), "{}", recorded.said);
        assert!(recorded.said.contains("ended with exit status 0"), "{}", recorded.said);
        recorded.has_shares();
        is_well_formed(&recorded.picture);
        // Nothing of what started it is in it.
        assert_eq!(recorded.folded.samples_with(|name| name.contains("start_when_told")), 0, "{recorded:?}");
    }
}

#[test]
fn its_children_are_seen_too() {
    if !may_sample("profiles of children") {
        return;
    }
    let (folder, spin) = (Folder::new("children"), spin(Build::Full).to_str().unwrap());
    let recorded = record(&folder, &["--frequency", "199", "--", spin, "1.5", "child"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    recorded.has_shares();
}

#[test]
fn its_words_and_streams_are_its_own_and_its_end_is_told() {
    if !may_sample("the ends of programs") {
        return;
    }
    let folder = Folder::new("words");
    let picture = folder.file("a.svg");
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo \"$1|$2\"; exit 7";
    let words =
        ["--frequency", "999", "--output", picture.to_str().unwrap(), "--", "sh", "-c", script, "sh", "a b", "--pid"];
    let output = profiler().arg("record").args(words).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b|--pid\n", "{said}");
    assert!(said.contains("sh ended with exit status 7"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(fs::read_to_string(picture).unwrap().contains("<svg"));
    let spin = spin(Build::Full).to_str().unwrap();
    let died = record(&folder, &["--frequency", "199", "--", spin, "1.5", "die"]);
    assert!(died.said.contains("was ended by signal 6"), "{}", died.said);
    died.has_shares();
}

#[test]
fn a_program_that_is_not_there_is_told() {
    if !may_sample("programs that cannot be started") {
        return;
    }
    let folder = Folder::new("nothing");
    let recorded = record(&folder, &["--", "/no/such/program"]);
    assert_eq!(recorded.code, Some(1), "{}", recorded.said);
    assert!(recorded.said.contains("/no/such/program cannot be started: No such file"), "{}", recorded.said);
}

#[test]
fn a_program_that_goes_on_is_left_alone() {
    if !may_sample("programs that go on") {
        return;
    }
    let (folder, spin) = (Folder::new("goes-on"), spin(Build::Full).to_str().unwrap());
    // Whoever waits for what is said would wait for everybody who could still say something.
    let script = "exec \"$0\" 60 >/dev/null 2>&1";
    let recorded = record(&folder, &["--seconds", "1", "--frequency", "199", "--", "sh", "-c", script, spin]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    recorded.has_shares();
    let pid = recorded.said.split("is still running as process ").nth(1).unwrap().lines().next().unwrap();
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}
