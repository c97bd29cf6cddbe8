//! A Redis of a run's own: on a free port, in a folder, ended when dropped.

use crate::janitor;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start, its file read again.
const START_MAX: Duration = Duration::from_secs(20);

/// See the module's description.
pub struct Redis {
    child: Child,
    /// Where it is.
    pub address: SocketAddr,
    /// Another address at which it listens, beside the loopback.
    beside: Option<IpAddr>,
    folder: PathBuf,
}

impl Redis {
    /// Starts one that loses nothing: an append-only file, synced always.
    ///
    /// # Errors
    /// A sentence: it is not installed, or does not start.
    pub fn start(folder: &Path) -> Result<Redis, String> {
        Redis::start_beside(folder, None)
    }

    /// As [`Redis::start`]; it listens at that address, too.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_beside(folder: &Path, beside: Option<IpAddr>) -> Result<Redis, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let address = super::free_address()?;
        let mut redis = Redis { child: spawn(address, beside, folder)?, address, beside, folder: folder.to_owned() };
        redis.wait()?;
        Ok(redis)
    }

    /// Kills it and starts it again where it was.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn kill_and_start(&mut self) -> Result<(), String> {
        self.kill();
        self.start_again()
    }

    /// Kills it; it is not there until [`Redis::start_again`].
    pub fn kill(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Starts it where it was.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_again(&mut self) -> Result<(), String> {
        self.child = spawn(self.address, self.beside, &self.folder)?;
        self.wait()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Scripts that it was asked to run, and all commands, those inside scripts included.
    ///
    /// # Errors
    /// A sentence: it is gone, or does not tell.
    pub fn commands(&self) -> Result<(f64, f64), String> {
        let wrong = |error: std::io::Error| format!("Redis at {}: {error}", self.address);
        let mut stream = TcpStream::connect(self.address).map_err(wrong)?;
        stream.write_all(b"INFO everything\r\nQUIT\r\n").map_err(wrong)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(wrong)?;
        let calls = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
            line.and_then(|line| line.split(',').next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let all = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:")?.trim().parse().ok());
        let scripts = calls("cmdstat_evalsha") + calls("cmdstat_eval");
        Ok((scripts, all.ok_or("Redis does not tell how many commands it processed")?))
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while !is_ready(self.address) {
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || started.elapsed() > START_MAX {
                return Err(format!("redis-server does not answer at {}", self.address));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(address: SocketAddr, beside: Option<IpAddr>, folder: &Path) -> Result<Child, String> {
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1"]).args(beside.map(|address| address.to_string()));
    if beside.is_some() {
        redis.args(["--protected-mode", "no"]);
    }
    redis.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    redis.args(["--port", &address.port().to_string(), "--dir"]).arg(folder);
    redis.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    janitor::spawn(&mut redis)
        .map_err(|error| format!("cannot start redis-server: {error}. Fix: apt-get install redis-server"))
}

/// Whether it answers, and has read its file.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}
