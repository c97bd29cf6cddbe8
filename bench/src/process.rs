//! Servers as child processes: built on demand, pinned by their own option, killed when dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The core servers are pinned to; the generator takes the other.
pub const SERVER_CORE: usize = 0;
/// How long a server may take until it accepts.
const START_MAX: Duration = Duration::from_secs(10);

/// What a server does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends each message back.
    Echo,
    /// Sends each message to everybody.
    Broadcast,
    /// The chat service.
    Chat,
}

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts our server, or the peer's when one is named.
    ///
    /// # Errors
    /// A sentence: it could not be built or started, or ended at once.
    pub fn start(peer: Option<&str>, mode: Mode) -> Result<Server, String> {
        let program = match peer {
            None => ours(mode)?,
            Some(peer) => build_peer(peer)?,
        };
        let probe = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
        let address = probe.local_addr().map_err(|error| error.to_string())?;
        drop(probe);
        let mut command = Command::new(&program);
        match (peer, mode) {
            (None, Mode::Chat) => command.arg("chat"),
            (None, _) => command.args(["--shards", "1", "--pin", &SERVER_CORE.to_string()]),
            (Some(_), Mode::Echo) => command.args(["--mode", "echo", "--pin", &SERVER_CORE.to_string()]),
            (Some(_), _) => command.args(["--mode", "broadcast", "--pin", &SERVER_CORE.to_string()]),
        };
        command.args(["--listen", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("ANNULUS_BENCH_VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut server = Server { child, address };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at once ({status}); ANNULUS_BENCH_VERBOSE=1 shows what it says"));
            }
            if started.elapsed() > START_MAX {
                return Err(format!("the server does not accept at {} after {START_MAX:?}", self.address));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of a counter over all shards on its metrics page; none where it has none.
    pub fn counter(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").ok()?;
        let mut page = Vec::new();
        let _partial_is_fine = stream.read_to_end(&mut page);
        sum_counter(&String::from_utf8_lossy(&page), name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Adds up the lines of one metric.
fn sum_counter(page: &str, name: &str) -> Option<f64> {
    let of_line = |line: &str| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' '])).then(|| rest.rsplit(' ').next()?.trim().parse::<f64>().ok())?
    };
    page.lines().filter_map(of_line).reduce(|sum, value| sum + value)
}

/// Where the workspace is: the current directory or one above.
fn root() -> Result<PathBuf, String> {
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    here.ancestors()
        .find(|folder| folder.join("bench/peers").is_dir())
        .map(Path::to_path_buf)
        .ok_or_else(|| "run annulus-bench inside its source tree: it builds the servers it measures".to_owned())
}

/// Builds our server and gives its path. `ANNULUS_BENCH_BIN` names a folder with `annulus` and `examples/` to use as is.
fn ours(mode: Mode) -> Result<PathBuf, String> {
    let (file, what) = match mode {
        Mode::Echo => ("examples/ws_echo", ["--example", "ws_echo"]),
        Mode::Broadcast => ("examples/ws_broadcast", ["--example", "ws_broadcast"]),
        Mode::Chat => ("annulus", ["--bin", "annulus"]),
    };
    if let Some(folder) = std::env::var_os("ANNULUS_BENCH_BIN") {
        return Ok(Path::new(&folder).join(file));
    }
    let root = root()?;
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--quiet", "-p", "annulus"]).args(what).current_dir(&root);
    built(command, "our server")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release").join(file))
}

/// Builds a peer's server and gives its path.
fn build_peer(peer: &str) -> Result<PathBuf, String> {
    let folder = root()?.join("bench/peers").join(peer);
    let manifest = folder.join("Cargo.toml");
    if peer.contains('/') || !manifest.is_file() {
        return Err(format!("there is no peer {peer:?}; bench/peers/README.md lists them"));
    }
    let target = folder.join("target");
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
    command.env("CARGO_TARGET_DIR", &target);
    built(command, peer)?;
    Ok(target.join("release").join(format!("peer-{peer}")))
}

fn built(mut command: Command, what: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what} could not be built (cargo: {status})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_shards_and_not_over_namesakes() {
        let page = "# TYPE a counter\na{shard=\"0\"} 2\na{shard=\"1\"} 3.5\na_total 100\nb 7\n";
        assert_eq!(sum_counter(page, "a"), Some(5.5));
        assert_eq!(sum_counter(page, "b"), Some(7.0));
        assert_eq!(sum_counter(page, "c"), None);
    }
}
