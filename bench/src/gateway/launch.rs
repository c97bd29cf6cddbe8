//! Our gateway as a child process on the server's core.

use super::config::{self, Choices};
use super::shop::Shop;
use crate::placement::{self, SERVER_CORE};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take until it accepts.
const START_MAX: Duration = Duration::from_secs(10);

/// A running gateway of ours, with its configuration in a temporary file.
pub struct Launched {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    config: PathBuf,
}

impl Launched {
    /// Writes a configuration for these services and starts a gateway with it, of one shard unless it may have all cores.
    ///
    /// # Errors
    /// A sentence: it could not be built or started, or ended at once.
    pub fn start(shop: &Shop, choices: &Choices) -> Result<Launched, String> {
        let program = program()?;
        let probe = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
        let address = probe.local_addr().map_err(|error| error.to_string())?;
        drop(probe);
        let config = std::env::temp_dir().join(format!("annulus-bench-{}-{}.json", std::process::id(), address.port()));
        let text = config::write(address, shop.address, choices);
        std::fs::write(&config, text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let mut command = Command::new(&program);
        command.arg("gateway").arg("--config").arg(&config);
        let cores = if choices.all_cores { placement::server_cores() } else { vec![SERVER_CORE] };
        command.args([
            "--driver",
            choices.driver.name(),
            "--shards",
            &cores.len().to_string(),
            "--pin",
            &placement::list(&cores),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("ANNULUS_BENCH_VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut launched = Launched { child, address, config };
        launched.wait()?;
        Ok(launched)
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "the gateway ended at once ({status}); ANNULUS_BENCH_VERBOSE=1 shows what it says"
                ));
            }
            if started.elapsed() > START_MAX {
                return Err(format!("the gateway does not accept at {} after {START_MAX:?}", self.address));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
        let _a_leftover_in_the_temporary_folder_harms_nobody = std::fs::remove_file(&self.config);
    }
}

/// The program: from the folder that `ANNULUS_BENCH_BIN` names, else built here.
fn program() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("ANNULUS_BENCH_BIN") {
        return Ok(Path::new(&folder).join("annulus"));
    }
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let root = here
        .ancestors()
        .find(|folder| folder.join("bench/peers").is_dir())
        .ok_or("run annulus-bench inside its source tree: it builds the servers it measures")?;
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--quiet", "-p", "annulus", "--bin", "annulus"]).current_dir(root);
    let status = command.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("our gateway could not be built (cargo: {status})"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/annulus"))
}
