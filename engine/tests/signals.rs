//! A process that is told to stop: the first signal is heard, the second ends it at once with the right status.
//!
//! Has no test harness: signals must be blocked before the first thread starts, which only `main` can do. The
//! test runs itself again as the process under test.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use annulus_engine::signals::Signals;

const CHILD: &str = "--process-under-test";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == CHILD) {
        return be_the_child();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("signals: test");
    }
    hears_then_ends("TERM", "TERM", 143);
    hears_then_ends("INT", "INT", 130);
    hears_then_ends("TERM", "INT", 130);
    survives_a_broken_pipe();
    println!("signals: ok");
}

fn be_the_child() {
    let signals = Signals::block().expect("signals can be blocked");
    // A thread from before `listen`: it inherits the mask, so no signal may end the process through it.
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    signals.listen(|signal| println!("{signal:?}")).expect("a thread can be started");
    println!("ready");
    std::thread::sleep(std::time::Duration::from_secs(30));
}

fn start() -> (Child, BufReader<ChildStdout>) {
    let this = std::env::current_exe().expect("this test is a file");
    let mut child = Command::new(this).arg(CHILD).stdout(Stdio::piped()).spawn().expect("this test can run itself");
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped"));
    expect(&mut lines, "ready");
    (child, lines)
}

fn expect(lines: &mut BufReader<ChildStdout>, text: &str) {
    let mut line = String::new();
    lines.read_line(&mut line).expect("standard output is text");
    assert_eq!(line.trim_end(), text);
}

fn send(child: &Child, signal: &str) {
    let kill = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("there is a shell").success());
}

fn hears_then_ends(first: &str, second: &str, status: i32) {
    let (mut child, mut lines) = start();
    for _ in 0..2 {
        send(&child, "HUP");
        expect(&mut lines, "Reload");
    }
    send(&child, "USR1");
    expect(&mut lines, "User1");
    send(&child, first);
    expect(&mut lines, "Drain");
    assert_eq!(child.try_wait().expect("the child can be waited for"), None, "it must go on until it has drained");
    send(&child, second);
    assert_eq!(child.wait().expect("the child can be waited for").code(), Some(status));
}

fn survives_a_broken_pipe() {
    let (mut child, mut lines) = start();
    send(&child, "PIPE");
    send(&child, "HUP");
    expect(&mut lines, "Reload");
    send(&child, "KILL");
    let status = child.wait().expect("the child can be waited for");
    assert_eq!(status.code(), None, "it was killed, not ended");
}
