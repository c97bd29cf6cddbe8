//! A process of ours that things are done to: killed, paused, asked to end, started again where it was.

use crate::janitor;
use crate::process::{free_address, our_program, wait_until_free};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long it may take to start, and to end when asked to.
const START_MAX: Duration = Duration::from_secs(30);
const END_MAX: Duration = Duration::from_secs(45);
/// Lines of its log that are kept.
const LINES: usize = 200;

/// How it is started.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Words in front of the program: another program that runs it.
    pub before: Vec<OsString>,
    /// Its environment, besides ours.
    pub variables: Vec<(OsString, OsString)>,
}

/// See the module's description. Killed when dropped.
pub struct Service {
    name: &'static str,
    words: Vec<OsString>,
    way: Way,
    child: Option<Child>,
    said: Arc<Mutex<VecDeque<String>>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Service {
    /// Starts the chat with this configuration, in `folder`.
    ///
    /// # Errors
    /// A sentence: it could not be started, or does not accept.
    pub fn chat(folder: &Path, text: &str, address: Option<SocketAddr>, way: Way) -> Result<Service, String> {
        let address = address.map_or_else(free_address, Ok)?;
        let file = written(folder, "chat.toml", text)?;
        let words = ["chat", "--listen", &address.to_string(), "--config"].map(OsString::from);
        let mut words = Vec::from(words);
        words.extend([file.into(), "--data".into(), folder.join("data").into()]);
        Service::start("chat", words, address, way)
    }

    /// Starts the image service with these lines of its section, on `data`.
    ///
    /// # Errors
    /// As [`Service::chat`].
    pub fn image(folder: &Path, data: &Path, lines: &str, way: Way) -> Result<Service, String> {
        let address = free_address()?;
        let file = written(folder, "image.toml", &format!("[engine]\nshards = 2\n[image]\n{lines}"))?;
        let words = ["image", "--listen", &address.to_string(), "--config"].map(OsString::from);
        let mut words = Vec::from(words);
        words.extend([file.into(), "--data".into(), data.into()]);
        Service::start("image", words, address, way)
    }

    /// Starts a gateway with the configuration that `text` gives for its address.
    ///
    /// # Errors
    /// As [`Service::chat`].
    pub fn gateway(folder: &Path, text: impl FnOnce(SocketAddr) -> String, way: Way) -> Result<Service, String> {
        let address = free_address()?;
        let file = written(folder, &format!("gateway-{}.json", address.port()), &text(address))?;
        let words = vec!["gateway".into(), "--config".into(), file.into()];
        Service::start("gateway", words, address, way)
    }

    fn start(name: &'static str, words: Vec<OsString>, address: SocketAddr, way: Way) -> Result<Service, String> {
        let mut service = Service { name, words, way, child: None, said: Arc::default(), address };
        service.start_again()?;
        Ok(service)
    }

    /// Starts it where it was; how long that took until it accepted.
    ///
    /// # Errors
    /// As [`Service::chat`].
    pub fn start_again(&mut self) -> Result<Duration, String> {
        let started = Instant::now();
        if self.address.ip().is_loopback() {
            wait_until_free(self.address)?;
        }
        let program = our_program()?;
        let mut words = self.way.before.iter().cloned().chain([program.into()]).chain(self.words.iter().cloned());
        let first = words.next().expect("the program is one");
        let mut command = Command::new(&first);
        command.args(words).envs(self.way.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            janitor::spawn(&mut command).map_err(|error| format!("cannot start {}: {error}", first.display()))?;
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
        for pipe in pipes.into_iter().flatten() {
            let said = self.said.clone();
            std::thread::spawn(move || keep_lines(pipe, &said));
        }
        self.child = Some(child);
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_err() {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                // Its last words may still be on their way.
                std::thread::sleep(Duration::from_millis(50));
                return Err(format!("the {} ended at once ({status}): {}", self.name, self.last_words()));
            }
            if started.elapsed() > START_MAX {
                let (name, words) = (self.name, self.last_words());
                return Err(format!("the {name} does not accept at {} after {START_MAX:?}: {words}", self.address));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started.elapsed())
    }

    /// Its process; 0 while there is none.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Stops it where it is, as a virtual machine that is moved.
    ///
    /// # Errors
    /// A sentence: it is gone.
    pub fn pause(&self) -> Result<(), String> {
        signal(self.pid(), Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`Service::pause`].
    pub fn go_on(&self) -> Result<(), String> {
        signal(self.pid(), Signal::CONT)
    }

    /// Asks it to end, and waits for that; its exit status, and how long it took.
    ///
    /// # Errors
    /// A sentence: it does not end.
    pub fn stop(&mut self) -> Result<(ExitStatus, Duration), String> {
        signal(self.pid(), Signal::TERM)?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok((status, asked.elapsed()));
            }
            if asked.elapsed() > END_MAX {
                return Err(format!("the {} does not end: {}", self.name, self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let said = self.said.lock().expect("nobody panics with it");
        let from = said.len().saturating_sub(6);
        said.iter().skip(from).map(String::as_str).collect::<Vec<_>>().join(" | ")
    }

    /// The sum of a figure on its metrics page.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let page = crate::image::server::get(self.address, "/metrics", &[]).ok()?;
        crate::process::sum_counter(&String::from_utf8_lossy(&page.body), name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process.
///
/// # Errors
/// A sentence: it is gone.
pub fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("there is no process")?;
    kill_process(pid, signal).map_err(|error| format!("process {} takes no signal: {error}", pid.as_raw_nonzero()))
}

fn keep_lines(pipe: impl Read, said: &Mutex<VecDeque<String>>) {
    let verbose = std::env::var_os("ANNULUS_BENCH_VERBOSE").is_some();
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if verbose {
            eprintln!("{line}");
        }
        let mut said = said.lock().expect("nobody panics with it");
        if said.len() == LINES {
            said.pop_front();
        }
        said.push_back(line);
    }
}

fn written(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let file = folder.join(name);
    std::fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(file)
}
