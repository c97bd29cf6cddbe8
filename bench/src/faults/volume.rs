//! A small disk in memory (tmpfs), which is filled, and gets room again.

use super::finding::Trouble;
use crate::janitor::{self, Left};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// See the module's description. Unmounted when dropped.
pub struct Volume {
    /// Where it is.
    pub path: PathBuf,
}

impl Volume {
    /// Mounts one of so many megabytes.
    ///
    /// # Errors
    /// That it is not allowed here.
    pub fn new(path: &Path, megabytes: usize) -> Result<Volume, Trouble> {
        std::fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        janitor::note(&Left::Mount(path.to_owned()));
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "annulus-faults"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Volume { path: path.to_owned() }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Trouble::NotRun(format!("no small disk can be mounted: {why}. Needs CAP_SYS_ADMIN")))
            }
            Err(error) => Err(Trouble::NotRun(format!("no small disk can be mounted: {error}"))),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes all the room that there is.
    ///
    /// # Errors
    /// A sentence: it could not even begin.
    pub fn fill(&self) -> Result<u64, String> {
        let mut file = File::create(self.ballast()).map_err(|error| format!("no ballast: {error}"))?;
        let (block, mut bytes) = (vec![0; 64 << 10], 0);
        // To the last page.
        for size in [block.len(), 4096] {
            while file.write_all(&block[..size]).is_ok() {
                bytes += size as u64;
            }
        }
        Ok(bytes)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// A sentence.
    pub fn make_room(&self) -> Result<(), String> {
        std::fs::remove_file(self.ballast()).map_err(|error| format!("the ballast stays: {error}"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still hold files there.
        let _left_for_a_person = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}
