//! Servers as child processes: built on demand, pinned by their own option, killed when dropped.

mod gateway;
mod peers;
pub mod postgres;
pub mod redis;
pub mod store;
mod versions;

pub use gateway::Upstream;
pub use peers::{Role, names as peer_names};

use crate::chat::config::Chat;
use crate::ground;
use crate::janitor::{self, Left};
use crate::placement::SERVER_CORE;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a server may take until it accepts.
const START_MAX: Duration = Duration::from_secs(10);

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends each message back.
    Echo,
    /// Sends each message to everybody.
    Broadcast,
    /// The chat service.
    Chat,
    /// Answers `GET /fanout/N` with the answers of N upstreams.
    Gateway {
        /// Where all upstreams are.
        upstream: SocketAddr,
        /// What they speak.
        protocol: Upstream,
    },
}

/// Which kernel interface a server of ours uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// As it chooses itself.
    #[default]
    Auto,
    /// io_uring, or it does not start.
    Uring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Auto => "auto",
            Driver::Uring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

impl Mode {
    fn role(self) -> Role {
        match self {
            Mode::Echo | Mode::Broadcast | Mode::Chat => Role::WebSocket,
            Mode::Gateway { .. } => Role::Gateway,
        }
    }
}

/// Starts our gateway, or the peer's when one is named, in front of the services at `upstream`.
///
/// # Errors
/// A sentence: it could not be built or started, or ended at once.
pub fn start_gateway(peer: Option<&str>, upstream: SocketAddr, protocol: Upstream) -> io::Result<Server> {
    Server::start(peer, Mode::Gateway { upstream, protocol }).map_err(io::Error::other)
}

/// A running server.
pub struct Server {
    child: Child,
    /// Reads what the server says until it ends; gives the last line.
    said: Option<JoinHandle<Option<String>>>,
    /// Written for it, and removed with it.
    configuration: Option<PathBuf>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts our server, or the peer's when one is named.
    ///
    /// # Errors
    /// A sentence: it could not be built or started, or ended at once.
    pub fn start(peer: Option<&str>, mode: Mode) -> Result<Server, String> {
        Server::start_on(Driver::Auto, peer, mode)
    }

    /// As [`Server::start`]; ours on this driver.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_on(driver: Driver, peer: Option<&str>, mode: Mode) -> Result<Server, String> {
        let program = match peer {
            None => ours(mode)?,
            Some(peer) => peers::ready(&root()?, peer, mode.role())?,
        };
        let address = free_address()?;
        let mut command = Command::new(&program);
        let configuration = match peer {
            None => {
                command.args(our_driver(mode, driver));
                our_options(&mut command, mode, address)?
            }
            Some(_) => {
                peer_options(&mut command, mode, address);
                None
            }
        };
        Server::spawn(command, configuration, address)
    }

    /// Starts our chat with a configuration of this text; at `address`, if it must be there again.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_chat(text: &str, address: Option<SocketAddr>) -> Result<Server, String> {
        Server::start_chat_on(Driver::Auto, text, address)
    }

    /// As [`Server::start_chat`], on this driver.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_chat_on(driver: Driver, text: &str, address: Option<SocketAddr>) -> Result<Server, String> {
        let program = ours(Mode::Chat)?;
        let address = address.map_or_else(free_address, Ok)?;
        let file = write_configuration("chat", "toml", address, text)?;
        let mut command = Command::new(&program);
        command.args(["chat", "--driver", driver.name(), "--listen", &address.to_string(), "--config"]).arg(&file);
        Server::spawn(command, Some(file), address)
    }

    /// Starts our gateway on one core with a configuration that is written for its address.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_gateway_of(text: impl FnOnce(SocketAddr) -> String) -> Result<Server, String> {
        let program = ours(Mode::Chat)?;
        let address = free_address()?;
        let file = write_configuration("gateway", "json", address, &text(address))?;
        let mut command = Command::new(&program);
        command.args(["gateway", "--config"]).arg(&file).args(["--shards", "1", "--pin", &SERVER_CORE.to_string()]);
        Server::spawn(command, Some(file), address)
    }

    fn spawn(mut command: Command, configuration: Option<PathBuf>, address: SocketAddr) -> Result<Server, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = janitor::spawn(&mut command)
            .map_err(|error| format!("cannot start {}: {error}", command.get_program().to_string_lossy()))?;
        let said = child.stderr.take().map(|stderr| std::thread::spawn(move || listen(stderr)));
        let mut server = Server { child, said, configuration, address };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = self.said.take().and_then(|reader| reader.join().ok().flatten());
                return Err(match said {
                    Some(said) => {
                        format!(
                            "the server ended at once ({status}; ANNULUS_BENCH_VERBOSE=1 shows all it says): {said}"
                        )
                    }
                    None => format!("the server ended at once ({status}) and said nothing"),
                });
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
        if let Some(file) = &self.configuration {
            let _left_in_the_temporary_folder = std::fs::remove_file(file);
        }
    }
}

/// Waits until a killed server's address can be listened at again; how long that took. The kernel ends what an io_uring
/// had under way after its process is gone, and listens meanwhile.
///
/// # Errors
/// A sentence: it cannot.
pub fn wait_until_free(address: SocketAddr) -> Result<Duration, String> {
    let started = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(started.elapsed()),
            Err(error) if started.elapsed() > START_MAX => {
                return Err(format!("{address} is not free again after {START_MAX:?}: {error}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub(crate) fn free_address() -> Result<SocketAddr, String> {
    let probe = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    probe.local_addr().map_err(|error| error.to_string())
}

/// Writes a server's configuration to a temporary file.
fn write_configuration(service: &str, ending: &str, address: SocketAddr, text: &str) -> Result<PathBuf, String> {
    let file = std::env::temp_dir().join(ground::name(&format!("{service}-{}.{ending}", address.port())));
    janitor::note(&Left::File(file.clone()));
    std::fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(file)
}

/// The option for a driver; of the services it follows their name.
fn our_driver(mode: Mode, driver: Driver) -> Vec<&'static str> {
    match (mode, driver) {
        (Mode::Echo | Mode::Broadcast, Driver::Uring | Driver::Epoll) => vec!["--driver", driver.name()],
        _ => Vec::new(),
    }
}

/// Our server's options. Gives the configuration file that had to be written for them.
fn our_options(command: &mut Command, mode: Mode, address: SocketAddr) -> Result<Option<PathBuf>, String> {
    let one_shard = ["--shards", "1", "--pin", &SERVER_CORE.to_string()];
    match mode {
        Mode::Echo | Mode::Broadcast => command.args(one_shard).args(["--listen", &address.to_string()]),
        Mode::Chat => {
            // Without a log: it would else be where the bench was started.
            let file = write_configuration("chat", "toml", address, &Chat::default().text())?;
            command.args(["chat", "--listen", &address.to_string(), "--config"]).arg(&file);
            return Ok(Some(file));
        }
        Mode::Gateway { upstream, protocol } => {
            let text = gateway::configuration(address, upstream, protocol);
            let file = write_configuration("gateway", "json", address, &text)?;
            command.args(["gateway", "--config"]).arg(&file).args(one_shard);
            return Ok(Some(file));
        }
    };
    Ok(None)
}

/// A peer's options: the same for all of one role.
fn peer_options(command: &mut Command, mode: Mode, address: SocketAddr) {
    command.args(["--listen", &address.to_string(), "--pin", &SERVER_CORE.to_string()]);
    match mode {
        Mode::Echo => command.args(["--mode", "echo"]),
        Mode::Broadcast | Mode::Chat => command.args(["--mode", "broadcast"]),
        Mode::Gateway { upstream, protocol } => {
            command.args(["--upstream", &upstream.to_string(), "--protocol", protocol.name(), "--threads", "1"])
        }
    };
}

/// Reads a server's words to their end, passes them on if `ANNULUS_BENCH_VERBOSE` is set, and gives the last line.
fn listen(stderr: ChildStderr) -> Option<String> {
    let verbose = std::env::var_os("ANNULUS_BENCH_VERBOSE").is_some();
    let mut last = None;
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if verbose {
            eprintln!("{line}");
        }
        last = last_line(&line).or(last);
    }
    last
}

/// The last line that is not blank.
fn last_line(text: &str) -> Option<String> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Adds up the lines of one metric.
pub(crate) fn sum_counter(page: &str, name: &str) -> Option<f64> {
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

/// Our one binary, built.
///
/// # Errors
/// A sentence: it could not be built.
pub fn our_program() -> Result<PathBuf, String> {
    ours(Mode::Chat)
}

/// The versions that a peer is made of, in one line.
///
/// # Errors
/// A sentence: this is not the source tree.
pub fn versions(peer: &str) -> Result<String, String> {
    Ok(versions::of(&root()?.join("bench/peers").join(peer)))
}

/// Makes a peer ready and gives the program to start.
///
/// # Errors
/// A sentence: there is no such peer for this role, or it could not be made ready.
pub fn ready(peer: &str, role: Role) -> Result<PathBuf, String> {
    peers::ready(&root()?, peer, role)
}

/// Builds our server and gives its path. `ANNULUS_BENCH_BIN` names a folder with `annulus` and `examples/` to use as is.
fn ours(mode: Mode) -> Result<PathBuf, String> {
    let (file, what) = match mode {
        Mode::Echo => ("examples/ws_echo", ["--example", "ws_echo"]),
        Mode::Broadcast => ("examples/ws_broadcast", ["--example", "ws_broadcast"]),
        Mode::Chat | Mode::Gateway { .. } => ("annulus", ["--bin", "annulus"]),
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

    #[test]
    fn the_last_line_that_says_something_is_kept() {
        assert_eq!(last_line("first\n  why it ended \n\n"), Some("why it ended".to_owned()));
        assert_eq!(last_line(" \n"), None);
    }

    #[test]
    fn what_a_server_says_before_it_ends_is_told() {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck >&2; exit 3"]).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = child.stderr.take().map(|stderr| std::thread::spawn(move || listen(stderr)));
        let mut server = Server { child, said, configuration: None, address };
        let error = server.wait().unwrap_err();
        assert!(error.contains("exit status: 3") && error.ends_with("no such luck"), "{error}");
    }
}
