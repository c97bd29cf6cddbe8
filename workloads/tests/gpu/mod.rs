//! A GPU made of the processor: CUDA's driver and nvJPEG as libraries that are compiled here, in a folder of each test's
//! own, so that the real worker runs its whole way on host memory. The kernels are the very source that the device runs.
//!
//! What this cannot show is what the device itself does otherwise: times, and the order of what is not waited for.
#![allow(dead_code)] // Each test program uses a part of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const LIBRARIES: [&str; 2] = ["libcuda.so.1", "libnvjpeg.so.13"];
/// Files whose change makes the libraries old.
const SOURCES: [&str; 5] =
    ["tests/gpu/fake.h", "tests/gpu/kernels.h", "tests/gpu/cuda.cpp", "tests/gpu/nvjpeg.cpp", KERNELS];
const KERNELS: &str = "../engine/src/sys/gpu/image.cu";

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// What can go wrong with a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next decode meets an illegal address, after which the context answers with that to everything. Once.
    Sticky,
    /// The next decode never returns. Once.
    Hang,
    /// Each decode takes so many milliseconds longer.
    Slow(u64),
    /// The device has so many bytes.
    Memory(u64),
    /// No more than so many bytes are given, whatever is told to be free.
    Cramped(u64),
    /// Opening the driver never returns.
    StartHangs,
    /// Opening the driver fails with this `CUresult`.
    StartFails(u64),
    /// There is a driver and no device.
    NoDevice,
}

impl Fault {
    fn file(self) -> (&'static str, u64) {
        match self {
            Fault::Sticky => ("sticky", 1),
            Fault::Hang => ("hang", 1),
            Fault::Slow(ms) => ("slow", ms),
            Fault::Memory(bytes) => ("memory", bytes),
            Fault::Cramped(bytes) => ("cramped", bytes),
            Fault::StartHangs => ("start-hangs", 1),
            Fault::StartFails(code) => ("start-fails", code),
            Fault::NoDevice => ("no-device", 1),
        }
    }
}

/// A GPU of one test, gone with it.
pub struct Fakes {
    folder: PathBuf,
}

impl Fakes {
    /// A whole one, or a loud word that this machine cannot build it.
    pub fn new(test: &str) -> Option<Fakes> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built = match BUILT.get_or_init(build) {
            Ok(built) => built,
            Err(why) => {
                not_run(test, why);
                return None;
            }
        };
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-gpu-{}-{number}", std::process::id()));
        let _absent = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // Copies, because each looks for its faults where it lies.
        for library in LIBRARIES {
            fs::copy(built.join(library), folder.join(library)).unwrap();
        }
        // The name that is looked for first, so that a driver of this machine's is not found.
        symlink(LIBRARIES[0], folder.join("libcuda.so")).unwrap();
        let fakes = Fakes { folder };
        fakes.write_program();
        Some(fakes)
    }

    /// What a process needs that starts the lane, or a worker.
    pub fn environment(&self) -> (&'static str, OsString) {
        let mut paths = self.folder.clone().into_os_string();
        if let Some(before) = std::env::var_os("LD_LIBRARY_PATH") {
            paths.push(":");
            paths.push(before);
        }
        ("LD_LIBRARY_PATH", paths)
    }

    /// The real worker's program in that environment, for a lane in this process: it cannot change its own.
    pub fn program(&self) -> PathBuf {
        self.folder.join("annulus")
    }

    fn write_program(&self) {
        let (name, value) = self.environment();
        let (value, program) = (value.to_string_lossy(), env!("CARGO_BIN_EXE_annulus"));
        let source = self.folder.join("annulus.sh");
        fs::write(&source, format!("#!/bin/sh\n{name}='{value}' exec '{program}' \"$@\"\n")).unwrap();
        // By a process of its own: what this one writes may be open in a child of another test while it is started, and
        // then it cannot be (ETXTBSY).
        let installed = Command::new("install").args(["-m", "755"]).arg(source).arg(self.program()).status().unwrap();
        assert!(installed.success());
    }

    /// From now on, or once.
    pub fn cause(&self, fault: Fault) {
        let (name, number) = fault.file();
        let fresh = self.folder.join(format!("{name}.new"));
        fs::write(&fresh, number.to_string()).unwrap();
        fs::rename(fresh, self.folder.join(name)).unwrap();
    }

    /// Ends a lasting fault.
    pub fn mend(&self, fault: Fault) {
        fs::remove_file(self.folder.join(fault.file().0)).unwrap();
    }

    /// Whether a fault that happens once still waits for somebody.
    pub fn waits(&self, fault: Fault) -> bool {
        self.folder.join(fault.file().0).exists()
    }

    /// Images that were decoded so far: by the hardware's batches, and one by one.
    pub fn decoded(&self) -> (Vec<usize>, usize) {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let batches = log.lines().filter_map(|line| line.strip_prefix("hardware ")).map(|size| size.parse().unwrap());
        (batches.collect(), log.lines().filter(|line| line.starts_with("hybrid")).count())
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        // Left behind, it is in the way of nobody.
        let _temporary = fs::remove_dir_all(&self.folder);
    }
}

/// Says that a test did not run, where a person and the script that runs all tests see it.
pub fn not_run(test: &str, why: &str) {
    eprintln!("NOT RUN: {test}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "workloads gpu {test}: {why}").unwrap();
    }
}

/// Compiles both libraries where they are old or missing. Two programs may do so at the same time: each renames what it made
/// into place.
fn build() -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpu-fakes");
    fs::create_dir_all(&folder).unwrap();
    let changed = |path: PathBuf| fs::metadata(path).and_then(|file| file.modified());
    let youngest = SOURCES.iter().map(|source| changed(here.join(source)).unwrap()).max().unwrap();
    if LIBRARIES.iter().all(|library| changed(folder.join(library)).is_ok_and(|built| built > youngest)) {
        return Ok(folder);
    }
    let kernels = here.join(KERNELS);
    let include = kernels.parent().unwrap();
    compile(&folder, LIBRARIES[0], &here.join("tests/gpu/cuda.cpp"), &[&format!("-I{}", include.display())])?;
    // What both share lies in the driver.
    let driver = folder.join(LIBRARIES[0]);
    compile(&folder, LIBRARIES[1], &here.join("tests/gpu/nvjpeg.cpp"), &[&driver.to_string_lossy(), "-lturbojpeg"])?;
    Ok(folder)
}

/// A sentence where something is missing that a machine may well lack; what is wrong with the source is a failure.
fn compile(folder: &Path, library: &str, source: &Path, with: &[&str]) -> Result<(), String> {
    let fresh = folder.join(format!("{library}.{}", std::process::id()));
    let mut command = Command::new("c++");
    command.args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
    command.arg(format!("-Wl,-z,defs,-soname,{library}")).arg("-o").arg(&fresh).arg(source).args(with);
    let output = command.output().map_err(|error| format!("c++ cannot be started: {error}. Install g++"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && ["turbojpeg.h", "-lturbojpeg"].iter().any(|missing| said.contains(missing)) {
        return Err("libjpeg-turbo's header or library is missing. Install libturbojpeg0-dev".to_owned());
    }
    assert!(output.status.success(), "{library}: {said}");
    fs::rename(fresh, folder.join(library)).unwrap();
    Ok(())
}
