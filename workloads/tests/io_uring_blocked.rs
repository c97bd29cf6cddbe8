//! A container runtime keeps io_uring from the binary, as most do: it goes on with epoll, says why where people look, and
//! serves. Really blocked, by a filter of system calls that the process inherits.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};

use gateway_rig::{Upstream, config};
use outside::not_run;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

const REFUSALS: [(i32, &str); 2] = [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")];

/// Does something on a thread that may not use io_uring, nor may what it starts.
fn without_io_uring<T: Send>(errno: i32, what: impl FnOnce() -> T + Send) -> T {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    without(calls.into_iter().map(|call| (call, Vec::new())).collect(), errno, what)
}

/// Likewise, on a thread that may use io_uring, but may not restrict a ring.
fn without_restrictions<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    /// `IORING_REGISTER_RESTRICTIONS`, io_uring_register(2).
    const RESTRICTIONS: u64 = 11;
    let asks = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, RESTRICTIONS).unwrap();
    let rule = SeccompRule::new(vec![asks]).unwrap();
    without(BTreeMap::from([(libc::SYS_io_uring_register, vec![rule])]), libc::EPERM, what)
}

fn without<T: Send>(calls: BTreeMap<i64, Vec<SeccompRule>>, errno: i32, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let refused = SeccompAction::Errno(errno.unsigned_abs());
            let here = TargetArch::try_from(std::env::consts::ARCH).unwrap();
            let filter: BpfProgram =
                SeccompFilter::new(calls, SeccompAction::Allow, refused, here).unwrap().try_into().unwrap();
            apply_filter(&filter).unwrap();
            what()
        });
        thread.join().unwrap()
    })
}

fn annulus(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn doctor_says_that_it_is_blocked_what_to_do_and_what_is_used_instead() {
    for (errno, name) in REFUSALS {
        let output = without_io_uring(errno, || annulus(&["doctor"]).output().unwrap());
        let text = said(&output);
        assert!(output.status.success(), "it works all the same: {text}");
        assert!(text.contains(&format!("no io_uring: io_uring_setup failed: {name}.")), "{text}");
        assert!(text.contains("seccomp profile") || text.contains("io_uring_disabled"), "{text}");
        assert!(text.contains("yes epoll"), "{text}");
    }
}

#[test]
fn a_service_goes_on_with_epoll_says_why_and_serves() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok": 1}"#));
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "/v"}}]}}"#,
        upstream.address
    );
    for (errno, name) in REFUSALS {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = std::env::temp_dir().join(format!("annulus-blocked-{}-{name}.json", std::process::id()));
        std::fs::write(&file, config(&endpoint, "").replace("PORT", &port.to_string())).unwrap();
        let start = || annulus(&["gateway", "--config", file.to_str().unwrap()]).spawn().unwrap();
        let gateway = without_io_uring(errno, start);
        let answered = answer_of(port);
        let text = ended(gateway);
        std::fs::remove_file(&file).unwrap();
        assert!(answered.contains(r#""ok""#), "{answered:?}: {text}");
        assert!(text.contains(&format!("io_uring_setup failed: {name}.")), "{text}");
        assert!(text.contains("Going on with epoll."), "{text}");
    }
}

#[test]
fn who_insists_on_io_uring_is_refused_with_the_reason() {
    let folder = std::env::temp_dir().join(format!("annulus-blocked-{}", std::process::id()));
    let data = folder.to_str().unwrap();
    let arguments = ["chat", "--driver", "io_uring", "--listen", "127.0.0.1:0", "--data", data];
    let output = without_io_uring(libc::EPERM, || annulus(&arguments).output().unwrap());
    let _never_made = std::fs::remove_dir_all(&folder);
    assert!(!output.status.success());
    assert!(said(&output).contains("io_uring_setup failed: EPERM."), "{}", said(&output));
}

/// Filters of system calls do not see what a ring is asked for, so walls without its restriction would have a door.
#[test]
fn who_requires_walls_is_refused_where_rings_cannot_be_restricted() {
    let doctor = said(&annulus(&["doctor"]).output().unwrap());
    if !doctor.contains("yes restricted operations") {
        return not_run("rings that cannot be restricted", "io_uring is not offered here, or restricts none");
    }
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok": 1}"#));
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "/v"}}]}}"#,
        upstream.address
    );
    for (walls, driver, starts, says) in [
        ("auto", "auto", true, "the restriction of rings is not offered here (Operation not permitted"),
        ("required", "epoll", true, "the restriction of rings stands"),
        ("required", "auto", false, "this kernel offers no restriction of rings (Operation not permitted"),
    ] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file =
            std::env::temp_dir().join(format!("annulus-unrestricted-{}-{walls}-{driver}.json", std::process::id()));
        std::fs::write(&file, config(&endpoint, "").replace("PORT", &port.to_string())).unwrap();
        let words = ["gateway", "--config", file.to_str().unwrap(), "--walls", walls, "--driver", driver];
        let gateway = without_restrictions(|| annulus(&words).spawn().unwrap());
        let text = match starts {
            true => {
                let answered = answer_of(port);
                assert!(answered.contains(r#""ok""#), "{answered:?}");
                ended(gateway)
            }
            false => {
                let output = gateway.wait_with_output().unwrap();
                assert!(!output.status.success(), "{}", said(&output));
                said(&output)
            }
        };
        std::fs::remove_file(&file).unwrap();
        assert!(text.contains(says), "--walls {walls} --driver {driver}: {text}");
        if !text.contains("landlock stands") && starts {
            return not_run("walls that are required", "the kernel does not offer landlock");
        }
    }
}

/// What `GET /v` is answered, once somebody listens.
fn answer_of(port: u16) -> String {
    use std::io::{Read, Write};
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
            let mut text = String::new();
            let asked = stream.write_all(b"GET /v HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            if asked.is_ok() && stream.read_to_string(&mut text).is_ok() && text.contains("200 OK") {
                return text;
            }
        }
        assert!(std::time::Instant::now() < until, "nobody answers at port {port}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Asks it to end; all that it said.
fn ended(process: Child) -> String {
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}
