//! A folder of a run's own, below the temporary one.
//!
//! Everything that a run makes outside of its process has a name that begins with the program's and the process's number, so
//! that whoever comes later can see whose it was ([`crate::janitor`]).

use crate::janitor::{self, Left};
use std::path::{Path, PathBuf};

/// What such names begin with, before the process's number.
pub const PREFIX: &str = "annulus-bench-";

/// A name of this run.
pub fn name(what: &str) -> String {
    format!("{PREFIX}{}-{what}", std::process::id())
}

/// Where something happens; removed when dropped.
pub struct Ground {
    /// The folder.
    pub folder: PathBuf,
}

impl Ground {
    /// An empty folder with this in its name, in the one for temporary files.
    ///
    /// # Errors
    /// A sentence: it cannot be made.
    pub fn new(what: &str) -> Result<Ground, String> {
        Ground::within(&std::env::temp_dir(), what)
    }

    /// The same in another folder.
    ///
    /// # Errors
    /// As [`Ground::new`].
    pub fn within(parent: &Path, what: &str) -> Result<Ground, String> {
        let folder = parent.join(name(what));
        std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        janitor::note(&Left::Folder(folder.clone()));
        Ok(Ground { folder })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _left_to_the_janitor = std::fs::remove_dir_all(&self.folder);
    }
}
