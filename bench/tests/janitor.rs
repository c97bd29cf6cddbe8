//! What a run that is killed has left is gone a moment later: its janitor reads the end of the pipe that the run held.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_janitor_clears_away_when_its_pipe_ends_and_not_before() {
    let folder = std::env::temp_dir().join(format!("annulus-janitor-test-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let mut server = Command::new("sleep").arg("300").spawn().unwrap();
    let mut janitor = Command::new(env!("CARGO_BIN_EXE_annulus-bench"))
        .arg(annulus_bench::janitor::COMMAND)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let started = annulus_bench::observe::started(server.id()).unwrap();
    let notes = format!("folder {}\nprocess {} {started}\n", folder.display(), server.id());
    let mut pipe = janitor.stdin.take().unwrap();
    pipe.write_all(notes.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(folder.exists() && server.try_wait().unwrap().is_none(), "the run goes on");
    drop(pipe);
    let began = Instant::now();
    while folder.exists() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!folder.exists());
    assert!(!server.wait().unwrap().success());
    assert!(janitor.wait().unwrap().success());
}
