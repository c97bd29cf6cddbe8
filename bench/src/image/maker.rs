//! A child process that makes outputs of one file, ours or a peer's, on the server's core.

use crate::janitor;
use crate::placement::SERVER_CORE;
use crate::process::{self, Role};
use crate::sampler::Sample;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Images before the first that counts: files are cached then, memory is mapped, interpreters have compiled.
const WARM: usize = 2;
/// More images than anybody measures: a child is ended when it has shown enough.
const REPEAT: &str = "1000";

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// 1600, 800 and 256 pixels, sharpened with a sigma of 0.5, JPEG of quality 80, as fast as the side can.
    Cascade,
    /// The same as the side's documentation would do it.
    Idiomatic,
    /// 256 pixels, JPEG.
    Thumbnail,
    /// 256 pixels, PNG.
    Lossless,
}

impl Job {
    /// Its name, also on a peer's command line.
    pub fn option(self) -> &'static str {
        match self {
            Job::Cascade => "cascade",
            Job::Idiomatic => "idiomatic",
            Job::Thumbnail => "thumbnail",
            Job::Lossless => "lossless",
        }
    }

    fn our_options(self) -> &'static [&'static str] {
        match self {
            Job::Cascade | Job::Idiomatic => &["--preset", "web"],
            Job::Thumbnail => &["--preset", "thumbnail"],
            Job::Lossless => &["--ops", "256=rs:fit:256:256/f:png"],
        }
    }
}

/// What a measured stretch gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Images per second of processor time, of all threads and children.
    pub images_per_cpu_s: f64,
    /// The largest resident set so far, in bytes, children included.
    pub rss_peak: u64,
}

/// Where the lossless output lies.
pub fn lossless_path(peer: Option<&str>, file: &Path, folder: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    folder.join(if peer.is_none() { format!("{stem}-256.png") } else { "256.png".to_owned() })
}

/// The process.
pub struct Maker {
    child: Child,
    lines: BufReader<ChildStdout>,
    name: String,
}

impl Maker {
    /// Starts our pipeline, or the peer's when one is named.
    ///
    /// # Errors
    /// A sentence: it could not be built or started.
    pub fn start(peer: Option<&str>, job: Job, file: &Path, folder: &Path) -> Result<Maker, String> {
        let core = SERVER_CORE.to_string();
        let mut command = match peer {
            None => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &core]).arg(process::our_program()?).args(["image", "process"]);
                command.args(job.our_options());
                command
            }
            Some(peer) => {
                let mut command = Command::new(process::ready(peer, Role::Image)?);
                command.args(["--case", job.option(), "--pin", &core]);
                command
            }
        };
        command.args(["--repeat", if job == Job::Lossless { "1" } else { REPEAT }]).arg(file).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let name = peer.unwrap_or("ours").to_owned();
        let mut child = janitor::spawn(&mut command).map_err(|error| format!("cannot start {name}: {error}"))?;
        let lines = child.stdout.take().map(BufReader::new).ok_or("a child without standard output")?;
        Ok(Maker { child, lines, name })
    }

    /// Measures the processor time of so many images.
    ///
    /// # Errors
    /// A sentence: it ended too early.
    pub fn measure(mut self, images: usize) -> Result<Run, String> {
        self.wait(WARM)?;
        let before = Sample::of_tree(self.child.id())?;
        self.wait(images)?;
        let after = Sample::of_tree(self.child.id())?;
        let seconds = after.cpu_s - before.cpu_s;
        Ok(Run { images_per_cpu_s: images as f64 / seconds, rss_peak: after.rss_peak })
    }

    /// Lets it make what it was told, to the end.
    ///
    /// # Errors
    /// A sentence: it failed.
    pub fn finish(mut self) -> Result<(), String> {
        self.wait(1)?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", self.name)) }
    }

    /// Waits for so many images.
    fn wait(&mut self, images: usize) -> Result<(), String> {
        let mut left = images;
        let mut line = String::new();
        while left > 0 {
            line.clear();
            let read = self.lines.read_line(&mut line).map_err(|error| format!("{}: {error}", self.name))?;
            if read == 0 {
                return Err(format!("{} ended before it had made what it should; see above", self.name));
            }
            left -= usize::from(line.contains(" ms"));
        }
        Ok(())
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
