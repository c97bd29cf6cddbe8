//! An S3 server of a run's own: on a free port, in a folder, ended when dropped.

use crate::janitor;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(20);
/// The bucket, and who may use it.
const BUCKET: &str = "photos";
const KEY: (&str, &str) = ("annulus-bench", "annulus-bench-secret");

/// See the module's description.
pub struct Store {
    child: Child,
    /// Where it is.
    pub address: SocketAddr,
    folder: PathBuf,
}

impl Store {
    /// Starts one with an empty bucket.
    ///
    /// # Errors
    /// A sentence: it is not installed, or does not start.
    pub fn start(folder: &Path) -> Result<Store, String> {
        let bucket = folder.join(BUCKET);
        std::fs::create_dir_all(&bucket).map_err(|error| format!("cannot create {}: {error}", bucket.display()))?;
        let address = super::free_address()?;
        let mut store = Store { child: spawn(address, folder)?, address, folder: folder.to_owned() };
        store.wait()?;
        Ok(store)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the bucket's objects are.
    pub fn bucket(&self) -> PathBuf {
        self.folder.join(BUCKET)
    }

    /// How many outputs of the image service are in the bucket.
    ///
    /// # Errors
    /// A sentence: there is not one.
    pub fn outputs(&self) -> Result<usize, String> {
        let folder = self.bucket().join("objects");
        let entries =
            std::fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        Ok(entries.flatten().filter(|entry| entry.file_name().to_string_lossy().ends_with(".jpeg")).count())
    }

    /// Kills it; it is not there until [`Store::start_again`].
    pub fn kill(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Starts it where it was.
    ///
    /// # Errors
    /// As [`Store::start`].
    pub fn start_again(&mut self) -> Result<(), String> {
        self.child = spawn(self.address, &self.folder)?;
        self.wait()
    }

    /// The section of the image service's configuration that leads here.
    pub fn settings(&self) -> String {
        self.settings_at(self.address)
    }

    /// As [`Store::settings`], for a way through somebody else's address.
    pub fn settings_at(&self, address: SocketAddr) -> String {
        let (access, secret) = KEY;
        format!(
            "[image.s3]\nendpoint = \"http://{address}\"\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\n\
             access_key = \"{access}\"\nsecret_key = \"{secret}\"\n"
        )
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait().ok().flatten().is_some() || started.elapsed() > START_MAX {
                return Err(format!("s3s-fs does not answer at {}", self.address));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(address: SocketAddr, folder: &Path) -> Result<Child, String> {
    let mut store = Command::new("s3s-fs");
    store.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
    store.args(["--access-key", KEY.0, "--secret-key", KEY.1]).arg(folder).env("RUST_LOG", "error");
    store.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    janitor::spawn(&mut store)
        .map_err(|error| format!("cannot start s3s-fs: {error}. Install it: make setup-test does"))
}
