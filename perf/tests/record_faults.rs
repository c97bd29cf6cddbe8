//! What goes wrong is told in a sentence with its remedy, and what was sampled until then is kept.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rig::{
    Build, Folder, Recorded, Running, copy_program, is_well_formed, may_sample, not_run, profiler, record, spin,
};
use rustix::process::{Pid, Signal};

/// Some user who is nobody.
const NOBODY: &str = "65534";

#[test]
fn a_process_that_dies_leaves_what_was_sampled() {
    if !may_sample("profiles of what dies") {
        return;
    }
    let (folder, mut running) = (Folder::new("dies"), Running::start(spin(Build::Full), &["60"]));
    let pid = running.pid();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500));
        running.0.kill().unwrap();
        running.0.wait().unwrap();
    });
    let began = Instant::now();
    let recorded = record(&folder, &["--pid", &pid, "--seconds", "60", "--frequency", "199"]);
    killer.join().unwrap();
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    assert!(began.elapsed() < Duration::from_secs(40), "it did not wait for the time to be over");
    assert!(recorded.said.contains(&format!("process {pid} ended after")), "{}", recorded.said);
    recorded.has_shares();
    is_well_formed(&recorded.picture);
}

#[test]
fn ctrl_c_ends_it_and_keeps_what_was_sampled() {
    if !may_sample("Ctrl-C") {
        return;
    }
    let (folder, running) = (Folder::new("ctrl-c"), Running::start(spin(Build::Full), &["60"]));
    for signal in [Signal::INT, Signal::TERM] {
        let (picture, text) = (folder.file("a.svg"), folder.file("a.txt"));
        let outputs = ["--output", picture.to_str().unwrap(), "--collapsed", text.to_str().unwrap()];
        let mut command = profiler();
        command.arg("record").args(outputs).args(["--pid", &running.pid(), "--seconds", "60", "--frequency", "199"]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(Duration::from_millis(1500));
        rustix::process::kill_process(Pid::from_child(&child), signal).unwrap();
        let recorded = Recorded::new(&folder, &child.wait_with_output().unwrap());
        assert_eq!(recorded.code, Some(0), "{}", recorded.said);
        recorded.has_shares();
    }
}

#[test]
fn a_stripped_program_is_named_with_the_remedy() {
    if !may_sample("profiles of stripped programs") {
        return;
    }
    let folder = Folder::new("stripped");
    let recorded = record(&folder, &["--frequency", "199", "--", spin(Build::Stripped).to_str().unwrap(), "1"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    assert!(
        recorded.said.contains("bare has no symbols") && recorded.said.contains("debug package"),
        "{}",
        recorded.said
    );
    assert_eq!(recorded.said.matches("has no symbols").count(), 1, "{}", recorded.said);
    assert!(recorded.folded.samples_with(|name| name == "[bare]") > 10, "{recorded:?}");
    assert!(recorded.folded.iter().all(|(stack, _)| !stack.contains("[bare];[bare]")), "neighbours count as one");
}

#[test]
fn a_deleted_program_keeps_its_names() {
    if !may_sample("profiles of deleted programs") {
        return;
    }
    let folder = Folder::new("deleted");
    let program = folder.file("gone");
    copy_program(spin(Build::Full), &program);
    let running = Running::start(&program, &["60"]);
    while fs::read_link(format!("/proc/{}/exe", running.pid())).unwrap() != program.canonicalize().unwrap() {
        thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(&program).unwrap();
    // Another file of its name is not taken for it.
    fs::write(&program, "no program").unwrap();
    let recorded = record(&folder, &["--pid", &running.pid(), "--seconds", "1.5", "--frequency", "199"]);
    recorded.has_shares();
}

#[test]
fn who_sleeps_is_not_sampled_and_that_is_said() {
    if !may_sample("profiles of sleepers") {
        return;
    }
    let (folder, running) = (Folder::new("sleeps"), Running::start(Path::new("sleep"), &["60"]));
    // It has come to rest when it waits.
    while !fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap().contains("(sleep) S ") {
        thread::sleep(Duration::from_millis(5));
    }
    let recorded = record(&folder, &["--pid", &running.pid(), "--seconds", "0.5"]);
    assert_eq!((recorded.code, recorded.picture.as_str()), (Some(1), ""), "{}", recorded.said);
    assert!(recorded.said.contains("no samples in") && recorded.said.contains("give it work"), "{}", recorded.said);
}

#[test]
fn wrong_words_end_with_2_and_what_cannot_be_with_1() {
    let code = |words: &[&str]| {
        let output = profiler().args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = code(&["record", "--pid", "x"]);
    assert!(status == Some(2) && said.contains("--pid: expected the number of a process"), "{said}");
    let (status, said) = code(&["record", "--frequency", "10000000", "--pid", "1"]);
    assert!(status == Some(2) && said.contains("--frequency"), "{said}");
    let (status, said) = code(&["record", "--pid", &i32::MAX.to_string()]);
    assert!(status == Some(1) && said.contains(&format!("there is no process {}", i32::MAX)), "{said}");
    let (status, said) = code(&["record", "--pid", "1", "--output", "/no/such/folder/a.svg"]);
    assert!(status == Some(1) && said.contains("/no/such/folder/a.svg cannot be written"), "{said}");
    let (status, said) = code(&["diff", "/no/before.txt", "/no/after.txt"]);
    assert!(status == Some(1) && said.contains("/no/before.txt: it cannot be read"), "{said}");
    let output = profiler().arg("--help").output().unwrap();
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("usage:"));
}

/// The profiler and `spin`, where everybody may run them, as somebody without rights.
fn as_nobody(folder: &Folder) -> Option<impl Fn(&[&str]) -> Recorded + '_> {
    const GROUP: &str = "profiles without rights";
    if !rustix::process::geteuid().is_root() {
        not_run(GROUP, "these tests are not run as root, so they cannot become another user");
        return None;
    }
    let program = folder.file("annulus-perf");
    copy_program(Path::new(env!("CARGO_BIN_EXE_annulus-perf")), &program);
    copy_program(spin(Build::Full), &folder.file("spin"));
    let setpriv = move || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps=-all"]).arg(&program);
        command
    };
    if setpriv().arg("--help").output().is_ok_and(|output| output.status.success()) {
        let outputs = [folder.file("a.svg"), folder.file("a.txt")].map(|file| file.to_str().unwrap().to_owned());
        return Some(move |words: &[&str]| {
            let outputs = ["record", "--output", &outputs[0], "--collapsed", &outputs[1]];
            Recorded::new(folder, &setpriv().args(outputs).args(words).output().unwrap())
        });
    }
    not_run(GROUP, "setpriv is not installed, or may not change the user");
    None
}

#[test]
fn who_may_not_is_told_why_and_what_helps() {
    if !may_sample("profiles without rights") {
        return;
    }
    let folder = Folder::new("rights");
    let Some(record) = as_nobody(&folder) else { return };
    let running = Running::start(spin(Build::Full), &["60"]);
    let refused = record(&["--pid", &running.pid(), "--seconds", "1"]);
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    for part in ["may not be sampled", "belongs to user 0", "CAP_PERFMON", "perf_event_paranoid is"] {
        assert!(refused.said.contains(part), "{part}: {}", refused.said);
    }
    let paranoid: i32 = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap().trim().parse().unwrap();
    let spin = folder.file("spin");
    let own = record(&["--frequency", "199", "--", spin.to_str().unwrap(), "1.5"]);
    if paranoid > 2 {
        assert!(own.code == Some(1) && own.said.contains("sysctl kernel.perf_event_paranoid=1"), "{}", own.said);
        return;
    }
    own.has_shares();
    let is_kernel = |name: &str| name.ends_with("_[k]");
    if paranoid == 2 {
        assert!(own.said.contains("time in the kernel is not shown: perf_event_paranoid is 2"), "{}", own.said);
        assert_eq!(own.folded.samples_with(is_kernel), 0, "{own:?}");
    }
}
