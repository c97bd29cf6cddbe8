//! A program that is not ours, under load: Redis, driven by its own benchmark.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod rig;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rig::{Folder, Running, is_well_formed, may_sample, not_run, record};

const GROUP: &str = "a profile of Redis";

/// Starts a program, silently; none if it is not installed.
fn start(program: &str, words: &[&str]) -> Option<Running> {
    let child = Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.ok().map(Running)
}

#[test]
fn its_functions_are_seen_and_what_the_kernel_does_for_it() {
    if !may_sample(GROUP) {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let Some(mut server) = start("redis-server", &words) else {
        return not_run(GROUP, "redis-server is not installed");
    };
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert_eq!(server.0.try_wait().unwrap(), None, "it is still there");
        thread::sleep(Duration::from_millis(20));
    }
    let words = ["-p", &port.to_string(), "-t", "set,get", "-n", "100000000", "-c", "10", "-q"];
    let Some(_load) = start("redis-benchmark", &words) else {
        return not_run(GROUP, "redis-benchmark is not installed");
    };
    let folder = Folder::new("redis");
    let recorded = record(&folder, &["--pid", &server.pid(), "--seconds", "3", "--frequency", "199"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.said);
    is_well_formed(&recorded.picture);
    // Distributions strip it, but it exports its functions for its modules.
    assert!(recorded.with("aeMain") > 10, "{recorded:?}");
    assert!(recorded.with("readQueryFromClient") > 0, "{recorded:?}");
    let is_kernel = |name: &str| name.ends_with("_[k]");
    if !recorded.said.contains("time in the kernel is not shown") {
        assert!(recorded.folded.samples_with(is_kernel) > 0, "{recorded:?}");
    }
    let is_incomplete = |name: &str| matches!(name, "[incomplete]" | "[truncated]");
    let broken = recorded.folded.samples_with(is_incomplete);
    assert!(broken * 10 <= recorded.folded.samples(), "{broken} of {}", recorded.folded.samples());
    assert!(Path::new(&format!("/proc/{}", server.pid())).exists(), "it took no harm");
}
