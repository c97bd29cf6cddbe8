//! Where the log lies before shards run: a folder of the machine's, whose files go to the simulated disk and come back.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

static FOLDERS: AtomicUsize = AtomicUsize::new(0);
/// Names the machine's run in which the log was in use; see `chat/node.rs`.
const MARK_FILE: &str = "in-use";

/// A folder of the run's own, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("annulus-simulated-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All files in it.
    pub fn read(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let paths = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Replaces the log by what a life has left of it. After a power cut the machine is in another run.
    pub fn write(&self, files: Vec<(PathBuf, Vec<u8>)>, another_run: bool) {
        for (path, _) in self.read() {
            if path.extension().is_some_and(|ending| ending == "log") {
                std::fs::remove_file(path).unwrap();
            }
        }
        for (path, bytes) in files {
            if path.extension().is_some_and(|ending| ending == "log") {
                std::fs::write(path, bytes).unwrap();
            }
        }
        if another_run {
            std::fs::write(self.0.join(MARK_FILE), "a run before this one").unwrap();
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_dir_all(&self.0);
    }
}
