//! Directories whose names survive a loss of power.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Makes a directory, and those above it that are missing. Each is synced into the one above: a name is durable only once
/// its directory is (`fsync(2)`).
///
/// # Errors
/// As `mkdir(2)` and `fsync(2)`; something else that has the name already is an error, a directory is not.
pub fn make_directory(path: &Path) -> io::Result<()> {
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        // The root.
        None => return Ok(()),
    };
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => make_directory(above).and_then(|()| fs::create_dir(path)),
        made => made,
    };
    match made {
        Ok(()) => File::open(above)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_with_those_above_them() {
        let root = std::env::temp_dir().join(format!("annulus-durable-{}", std::process::id()));
        let deep = root.join("a/b/c");
        make_directory(&deep).unwrap();
        make_directory(&deep).unwrap();
        assert!(deep.is_dir());
        make_directory(Path::new("/")).unwrap();
        fs::write(root.join("file"), b"").unwrap();
        for taken in ["file", "file/below"] {
            assert!(make_directory(&root.join(taken)).is_err(), "{taken}");
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
