//! The socket's file: who may make one beside it, and which of those that were ever there is ours.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Others may write, and what they write others may remove unless the sticky bit is set (inode(7)).
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Whether the folder of a socket's path keeps others from replacing what is in it. One that is not there says so later.
///
/// # Errors
/// A sentence: anybody may remove a file there and put another one in its place.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let folder = folder(path);
    let Ok(metadata) = folder.metadata() else { return Ok(()) };
    match metadata.mode() & (OTHERS_WRITE | STICKY) {
        OTHERS_WRITE => Err(format!(
            "the socket for successors cannot be at {}: every user of this machine may replace files in {}. Fix: chmod o-w {1}, \
             or choose a folder that only the server's user may write to with --handover PATH",
            path.display(),
            folder.display()
        )),
        _ => Ok(()),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A socket's file that this process has made, wherever it has been moved to.
pub(super) struct Bound {
    device: u64,
    inode: u64,
}

impl Bound {
    /// Makes one that nobody else may use.
    pub(super) fn open(path: &Path) -> io::Result<(UnixListener, Bound)> {
        // Left by a process of the same number.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let metadata = path.symlink_metadata()?;
        Ok((listener, Bound { device: metadata.dev(), inode: metadata.ino() }))
    }

    /// Removes the file if it is this one that has that name, and not a successor's.
    pub(super) fn remove(&self, path: &Path) {
        let is_ours = |found: std::fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if path.symlink_metadata().is_ok_and(is_ours) {
            // Whoever finds it all the same is refused by the kernel once this process has ended.
            let _removed = std::fs::remove_file(path);
        }
    }
}

/// Where a socket is until it takes its place.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_where_anybody_may_replace_files_is_refused() {
        let home = std::env::temp_dir().join(format!("annulus-place-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        for (mode, is_good) in [(0o755, true), (0o770, true), (0o777, false), (0o1777, true), (0o702, false)] {
            std::fs::set_permissions(&home, Permissions::from_mode(mode)).unwrap();
            let checked = check(&home.join("socket"));
            assert_eq!(checked.is_ok(), is_good, "{mode:o}: {checked:?}");
            if let Err(why) = checked {
                assert!(why.contains("chmod o-w") && why.contains("--handover"), "{why}");
            }
        }
        std::fs::remove_dir_all(&home).unwrap();
        assert!(check(&home.join("socket")).is_ok(), "that it is not there is said when the socket is made");
    }

    #[test]
    fn only_the_file_that_was_made_is_removed() {
        let home = std::env::temp_dir().join(format!("annulus-bound-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let (path, other) = (home.join("socket"), home.join("other"));
        let (_listener, first) = Bound::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let (_listener, second) = Bound::open(&other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        first.remove(&path);
        assert!(path.exists(), "it is another one's");
        second.remove(&path);
        assert!(!path.exists());
        second.remove(&path);
        std::fs::remove_dir_all(&home).unwrap();
    }
}
