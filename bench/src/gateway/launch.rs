//! Our gateway as a child process on the server's core.

use super::config::{self, Choices};
use super::shop::Shop;
use crate::ground;
use crate::janitor::{self, Left};
use crate::placement::{self, SERVER_CORE};
use crate::process::{free_address, our_program};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
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
        let program = our_program()?;
        let address = free_address()?;
        let config = std::env::temp_dir().join(ground::name(&format!("{}.json", address.port())));
        janitor::note(&Left::File(config.clone()));
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
        let child =
            janitor::spawn(&mut command).map_err(|error| format!("cannot start {}: {error}", program.display()))?;
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
