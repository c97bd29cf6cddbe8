//! Runs a program from which io_uring is kept, as container runtimes do it: by seccomp.
//!
//! ```text
//! without_io_uring [--errno EPERM|ENOSYS] PROGRAM [ARGUMENT]...
//! ```
//!
//! The three system calls of io_uring fail with that error (`EPERM` if nothing is said, as in Docker and Podman) for the
//! program and for all that it starts; nothing else is changed. `.ci/test` runs tests like this, `make test-epoll` all of them.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

const USAGE: &str = "without_io_uring [--errno EPERM|ENOSYS] PROGRAM [ARGUMENT]...";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(never) => match never {},
        Err(sentence) => {
            eprintln!("without_io_uring: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn run(mut words: Vec<String>) -> Result<std::convert::Infallible, String> {
    let mut errno = libc::EPERM;
    if words.first().is_some_and(|word| word == "--errno") {
        let name = words.get(1).map(String::as_str).unwrap_or_default();
        errno = match name {
            "EPERM" => libc::EPERM,
            "ENOSYS" => libc::ENOSYS,
            other => return Err(format!("there is no error {other:?} here: use EPERM or ENOSYS")),
        };
        words.drain(..2);
    }
    let Some((program, arguments)) = words.split_first() else { return Err(USAGE.to_owned()) };
    apply_filter(&filter(errno)?).map_err(|error| format!("the kernel takes no filter: {error}"))?;
    // It only returns when it fails.
    let error = Command::new(program).args(arguments).exec();
    Err(format!("cannot run {program}: {error}"))
}

fn filter(errno: i32) -> Result<BpfProgram, String> {
    let sentence = |error: seccompiler::BackendError| error.to_string();
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let refused = SeccompAction::Errno(errno.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(sentence)?;
    let calls = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, architecture);
    filter.map_err(sentence)?.try_into().map_err(sentence)
}
