//! Programs from outside that tests run: a browser, scripts in Node and Python. What is not installed is reported, not
//! passed over.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

pub mod certificates;
pub mod postgres;
pub mod redis;
pub mod s3;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the scripts and what is installed for them are. The tests of `bench` use them, too.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("workloads/tests/clients")
}

/// Reports a group that cannot be run here, to the file that `make test` prints at its end.
pub fn not_run(group: &str, why: &str) {
    eprintln!("NOT RUN: {group}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{group}: {why}").unwrap();
    }
}

/// Runs a script, which says that all is well or why not.
pub fn passes(program: &Path, script: &str, arguments: &[&str]) {
    let output = Command::new(program).arg(script).args(arguments).current_dir(clients()).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains(": ok"), "{script}: {out}{error}");
}

/// Whether a program can be run here; if not, the group is reported.
pub fn has(program: &str, group: &str) -> bool {
    let found =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|at| at.join(program).is_file());
    if !found {
        not_run(group, &format!("{program} is not installed"));
    }
    found
}

/// Each has a profile of its own.
static BROWSERS: AtomicUsize = AtomicUsize::new(0);

/// A headless browser, ended with the test.
pub struct Browser {
    process: Child,
    profile: PathBuf,
    /// Where it takes orders: a WebSocket's address.
    pub devtools: String,
}

impl Browser {
    /// Starts it, if everything for it is installed; reports the group if not.
    pub fn start(group: &str) -> Option<Browser> {
        if !clients().join("node_modules/ws").exists() {
            not_run(group, "make setup-test could not install the JavaScript packages");
            return None;
        }
        let number = BROWSERS.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("annulus-browser-{}-{number}", std::process::id()));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
        ];
        let browser = Command::new("chromium")
            .args(arguments)
            .arg(format!("--user-data-dir={}", profile.display()))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut process) = browser else {
            not_run(group, "chromium is not installed");
            return None;
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("DevTools listening on ")).unwrap().unwrap();
        let devtools = line.split("listening on ").nth(1).unwrap().trim().to_owned();
        // It goes on talking: an unread pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Browser { process, profile, devtools })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
        let _temporary = std::fs::remove_dir_all(&self.profile);
    }
}
