//! A clock of a process's own that is stepped: by libfaketime, which stands between the process and the kernel. The machine's
//! clock is nobody's to change.

use super::finding::Trouble;
use super::service::Way;
use std::path::{Path, PathBuf};

/// Where distributions put it.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// See the module's description.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that is right, to begin with.
    ///
    /// # Errors
    /// That libfaketime is not installed.
    pub fn new(folder: &Path) -> Result<Clock, Trouble> {
        let library = PLACES.iter().map(PathBuf::from).find(|place| place.is_file());
        let library = library.ok_or_else(|| {
            let why =
                "libfaketime is not installed (apt-get install faketime), and this machine's own clock is not touched";
            Trouble::NotRun(why.to_owned())
        })?;
        let clock = Clock { library, file: folder.join("clock") };
        clock.step("+0")?;
        Ok(clock)
    }

    /// How a process is started that goes by it. Its monotonic clock is the kernel's, as with a real step.
    pub fn way(&self) -> Way {
        let variables = [
            ("LD_PRELOAD", self.library.clone().into_os_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into_os_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        Way { variables: variables.map(|(name, value)| (name.into(), value)).to_vec(), ..Way::default() }
    }

    /// Steps it from what is right: `+3600s`, `-1h`.
    ///
    /// # Errors
    /// A sentence.
    pub fn step(&self, by: &str) -> Result<(), String> {
        // At once: a process must not read half of it.
        let next = self.file.with_extension("next");
        let moved = std::fs::write(&next, format!("{by}\n")).and_then(|()| std::fs::rename(&next, &self.file));
        moved.map_err(|error| format!("the clock cannot be stepped: {error}"))
    }
}
