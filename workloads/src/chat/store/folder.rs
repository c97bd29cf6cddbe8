//! The folder that a feed keeps its files in: one feed at a time, and names that survive a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::durable::make_directory;

/// A folder that is ours as long as this lives.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is not there, and keeps other processes out of it.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub(super) fn open(path: &Path) -> Result<Folder, String> {
        let unusable = |doing: &str, error: &dyn std::fmt::Display| {
            format!("{doing} {}: {error}. Fix: make it a directory that this user may write.", path.display())
        };
        make_directory(path).map_err(|error| unusable("making", &error))?;
        let lock = path.join("feed.lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(lock);
        let lock = opened.map_err(|error| unusable("locking", &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            format!(
                "{} is locked ({error}): another annulus feeds its database from here. Fix: stop it, or give this one \
                 another folder.",
                path.display()
            )
        })?;
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }

    /// The path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Gives a file new content, all or nothing, also across a power cut: written beside it, synced, renamed, and the name
    /// synced.
    ///
    /// # Errors
    /// The file is as it was before, or the new one is there but not certain to stay.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (target, beside) = (self.file(name), self.file(&format!("{name}.new")));
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, &target)?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_and_whole_files() {
        let path = std::env::temp_dir().join(format!("annulus-folder-{}", std::process::id()));
        let folder = Folder::open(&path).unwrap();
        let second = Folder::open(&path).map(|_| ()).unwrap_err();
        assert!(second.contains("locked") && second.contains("Fix:"), "{second}");
        folder.replace("a", b"one").unwrap();
        folder.replace("a", b"two").unwrap();
        assert_eq!(fs::read(folder.file("a")).unwrap(), b"two");
        assert!(!folder.file("a.new").exists());
        drop(folder);
        Folder::open(&path).unwrap();
        fs::remove_dir_all(path).unwrap();
    }
}
