//! A program that spins, built for these tests, and the profiler run on it. What cannot be run here is reported, not passed
//! over.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use annulus_perf::folded::Folded;
use annulus_perf::sampler::{Options, Sampler};

/// Reports a group that cannot be run here, to the file that `make test` prints at its end.
pub fn not_run(group: &str, why: &str) {
    eprintln!("NOT RUN: {group}: {why}");
    if let Some(path) = env::var_os("ANNULUS_NOT_RUN") {
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{group}: {why}").unwrap();
    }
}

/// Whether the kernel lets us sample at all; if not, the group is reported.
pub fn may_sample(group: &str) -> bool {
    let own = i32::try_from(std::process::id()).unwrap();
    match Sampler::start(Options { threads: vec![(own, "main".into())], ..Options::default() }) {
        Ok(_) => true,
        Err(refusal) => {
            not_run(group, &refusal.sentence);
            false
        }
    }
}

/// A folder of a test's own, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("annulus-perf-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // For tests that go on as another user.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _temporary = fs::remove_dir_all(&self.0);
    }
}

/// How `spin` is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With symbols and frame pointers.
    Full,
    /// Without symbols.
    Stripped,
}

/// The program of `examples/spin.rs`, built as these tests need it: see there what it does.
pub fn spin(build: Build) -> &'static Path {
    static FULL: OnceLock<PathBuf> = OnceLock::new();
    static STRIPPED: OnceLock<PathBuf> = OnceLock::new();
    let (once, name) = if build == Build::Full { (&FULL, "spin") } else { (&STRIPPED, "bare") };
    once.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = folder.join(format!("{name}-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/spin.rs");
        let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        command.args(["--edition=2024", "-Copt-level=1", "-Cforce-frame-pointers=yes", "-Cdebuginfo=1"]);
        command.arg(if build == Build::Full { "-Cstrip=none" } else { "-Cstrip=symbols" });
        assert!(command.arg("-o").arg(&target).arg(source).status().unwrap().success());
        // Under a name of its own only while it was being written: thread names have 15 letters.
        let home = folder.join(std::process::id().to_string());
        fs::create_dir_all(&home).unwrap();
        fs::rename(target, home.join(name)).unwrap();
        home.join(name)
    })
}

/// Copies a program, by one: were it written from here, a process that another test begins meanwhile would hold it open for
/// writing until it has become a program, and nobody could start the copy.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// A child that is ended with the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(program: &Path, words: &[&str]) -> Running {
        Running(Command::new(program).args(words).spawn().unwrap())
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub fn profiler() -> Command {
    Command::new(env!("CARGO_BIN_EXE_annulus-perf"))
}

/// `record` with its outputs in a folder.
pub fn record(folder: &Folder, words: &[&str]) -> Recorded {
    let (picture, text) = (folder.file("a.svg"), folder.file("a.txt"));
    let _from_before = fs::remove_file(&picture);
    let outputs = ["record", "--output", picture.to_str().unwrap(), "--collapsed", text.to_str().unwrap()];
    // In the folder: what programs leave behind goes with it.
    let output = profiler().args(outputs).args(words).current_dir(&folder.0).output().unwrap();
    Recorded::new(folder, &output)
}

/// What a `record` left behind.
#[derive(Debug)]
pub struct Recorded {
    pub said: String,
    pub code: Option<i32>,
    pub folded: Folded,
    pub picture: String,
}

impl Recorded {
    pub fn new(folder: &Folder, output: &Output) -> Recorded {
        let text = fs::read_to_string(folder.file("a.txt")).unwrap_or_default();
        Recorded {
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
            folded: Folded::read(&text).unwrap(),
            picture: fs::read_to_string(folder.file("a.svg")).unwrap_or_default(),
        }
    }

    /// Samples with a function anywhere in their stack; `spin::both` and `both` are the same.
    pub fn with(&self, function: &str) -> u64 {
        let is_it = |name: &str| name.rsplit("::").next() == Some(function);
        self.folded.samples_with(is_it)
    }

    /// `seven_parts` has about seven tenths of what it and `three_parts` have together.
    pub fn has_shares(&self) {
        let (seven, three) = (self.with("seven_parts"), self.with("three_parts"));
        let share = seven as f64 / (seven + three).max(1) as f64;
        assert!(seven + three >= 20, "{seven} + {three} samples: {self:?}");
        assert!((0.5..0.9).contains(&share), "{seven} of {} samples: {self:?}", seven + three);
    }
}

/// Fails unless it is well-formed XML.
pub fn is_well_formed(picture: &str) {
    let mut reader = quick_xml::Reader::from_str(picture);
    let mut elements = 0;
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("at {}: {error}", reader.error_position())) {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Start(_) => elements += 1,
            _ => {}
        }
    }
    assert!(elements > 0);
}
