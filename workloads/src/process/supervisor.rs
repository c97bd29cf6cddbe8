//! What a service manager is told (sd_notify(3)): that the server serves, that its shards turn, that it is about to end.
//!
//! ```text
//!   start         $NOTIFY_SOCKET, $WATCHDOG_USEC        before the walls: nobody outside of them could be reached from within
//!   all listen    READY=1
//!   meanwhile     WATCHDOG=1                            four times in the time after which the supervisor gives a server up, if
//!                                                       every shard has turned since the last one: so one that is left out, or
//!                                                       lost, is not yet the end
//!   drain         STOPPING=1                            whoever asked for it: a signal or a successor
//! ```
//!
//! Nothing is waited for: a supervisor that does not listen costs a line, and not the service.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use annulus_engine::Shard;

/// The service manager that started this process, and waits to hear from it.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    /// After how long without a word it gives the server up.
    patience: Option<Duration>,
    /// How often each shard has turned while it was looked at.
    turns: Box<[AtomicU64]>,
    is_stopping: AtomicBool,
}

impl Supervisor {
    /// Finds it by the environment. Call it before the walls stand. `None`: nobody waits, or cannot be reached, which is said.
    pub fn find(shards: usize) -> Option<Arc<Supervisor>> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let text = |name: &str| std::env::var(name).ok();
        let patience = patience(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
        match Supervisor::at(&address, patience, shards) {
            Ok(supervisor) => Some(Arc::new(supervisor)),
            Err(error) => {
                crate::warn!("the service manager at {} cannot be told anything: {error}", address.display());
                None
            }
        }
    }

    fn at(address: &OsStr, patience: Option<Duration>, shards: usize) -> io::Result<Supervisor> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("expected a path, or @ and an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        let turns = (0..shards).map(|_| AtomicU64::new(0)).collect();
        Ok(Supervisor { socket, patience, turns, is_stopping: AtomicBool::new(false) })
    }

    /// All shards listen. From here on it also hears that they turn, if it wants to.
    ///
    /// # Errors
    /// A sentence: no thread can be started for that.
    pub fn ready(self: &Arc<Self>) -> Result<(), String> {
        self.say("READY=1\nSTATUS=serving");
        let Some(patience) = self.patience else { return Ok(()) };
        let supervisor = self.clone();
        let body = move || {
            let mut seen = supervisor.turns();
            loop {
                std::thread::sleep(patience / 4);
                supervisor.say_they_turn(&mut seen);
            }
        };
        let started = std::thread::Builder::new().name("watchdog".to_owned()).spawn(body);
        started.map(drop).map_err(|error| format!("a thread cannot start: {error}"))
    }

    /// Notes turns of the calling shard until the server is to end, and says so then. Runs as a task of every shard.
    pub async fn attend(&self, shard: &Shard) {
        let turning = async {
            let Some(patience) = self.patience else { return std::future::pending().await };
            loop {
                // More often than it is looked, so that one turn that is late is no harm.
                shard.sleep(patience / 8).await;
                self.turns[shard.index()].fetch_add(1, Ordering::Relaxed);
            }
        };
        let _drained: Option<()> = shard.until_drained(turning).await;
        if !self.is_stopping.swap(true, Ordering::Relaxed) {
            self.say("STOPPING=1\nSTATUS=finishing what is under way");
        }
    }

    fn turns(&self) -> Vec<u64> {
        self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect()
    }

    /// Says it if all have turned since they were `seen`.
    fn say_they_turn(&self, seen: &mut Vec<u64>) {
        let now = self.turns();
        let is_stopping = self.is_stopping.load(Ordering::Relaxed);
        if !is_stopping && now.iter().zip(&*seen).all(|(now, seen)| now != seen) {
            self.say("WATCHDOG=1");
            *seen = now;
        }
    }

    fn say(&self, words: &str) {
        if let Err(error) = self.socket.send(words.as_bytes()) {
            crate::warn!("the service manager could not be told {words:?}: {error}");
        }
    }
}

/// How long the supervisor waits for a word of this process (sd_watchdog_enabled(3)); of another one nothing follows.
fn patience(microseconds: Option<&str>, process: Option<&str>) -> Option<Duration> {
    let is_ours = process.is_none_or(|process| process.parse() == Ok(std::process::id()));
    let microseconds: u64 = microseconds?.parse().ok()?;
    (is_ours && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use annulus_engine::Engine;

    use super::*;

    /// A supervisor's ear, where it is, and how its next words are heard.
    fn ear(name: &str) -> (UnixDatagram, SocketAddr, std::ffi::OsString) {
        let name = format!("annulus-supervisor-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let ear = UnixDatagram::bind_addr(&address).unwrap();
        ear.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (ear, address, format!("@{name}").into())
    }

    fn hear(ear: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let len = ear.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_server_is_ready_turns_and_stops() {
        let (ear, _, address) = ear("life");
        let supervisor = Arc::new(Supervisor::at(&address, Some(Duration::from_millis(160)), 2).unwrap());
        let attending = supervisor.clone();
        let engine = Engine::builder().shards(2).oversubscribed();
        let main = move |shard: Shard| {
            let supervisor = attending.clone();
            async move { supervisor.attend(&shard).await }
        };
        let running = engine.start(main).unwrap();
        supervisor.ready().unwrap();
        assert_eq!(hear(&ear), "READY=1\nSTATUS=serving");
        assert_eq!(hear(&ear), "WATCHDOG=1");
        assert_eq!(hear(&ear), "WATCHDOG=1");
        running.engine().drain();
        running.wait().unwrap();
        ear.set_nonblocking(true).unwrap();
        let said = std::iter::from_fn(|| {
            let mut bytes = [0; 256];
            let len = ear.recv(&mut bytes).ok()?;
            Some(String::from_utf8(bytes[..len].to_vec()).unwrap())
        });
        // Words that were on their way beside it; the end once, for both shards.
        let said: Vec<String> = said.filter(|words| words != "WATCHDOG=1").collect();
        assert_eq!(said, ["STOPPING=1\nSTATUS=finishing what is under way"]);
    }

    #[test]
    fn one_shard_that_does_not_turn_is_enough_for_silence() {
        let (ear, _, address) = ear("silence");
        ear.set_nonblocking(true).unwrap();
        let supervisor = Supervisor::at(&address, Some(Duration::from_secs(1)), 2).unwrap();
        let mut seen = supervisor.turns();
        supervisor.turns[0].fetch_add(1, Ordering::Relaxed);
        supervisor.say_they_turn(&mut seen);
        assert_eq!(ear.recv(&mut [0; 256]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        supervisor.turns[1].fetch_add(1, Ordering::Relaxed);
        supervisor.say_they_turn(&mut seen);
        assert_eq!(hear(&ear), "WATCHDOG=1");
        supervisor.say_they_turn(&mut seen);
        assert_eq!(ear.recv(&mut [0; 256]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn addresses_are_paths_or_abstract_and_somebody_is_there() {
        let folder = std::env::temp_dir().join(format!("annulus-supervisor-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("notify");
        assert!(Supervisor::at(path.as_os_str(), None, 1).is_err(), "nobody");
        let ear = UnixDatagram::bind(&path).unwrap();
        Arc::new(Supervisor::at(path.as_os_str(), None, 1).unwrap()).ready().unwrap();
        assert_eq!(hear(&ear), "READY=1\nSTATUS=serving");
        for address in ["vsock:2:1234", "relative", "@annulus-nobody-is-there"] {
            assert!(Supervisor::at(address.as_ref(), None, 1).is_err(), "{address}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn patience_is_ours_or_nobodys() {
        let own = std::process::id().to_string();
        assert_eq!(patience(Some("30000000"), None), Some(Duration::from_secs(30)));
        assert_eq!(patience(Some("30000000"), Some(&own)), Some(Duration::from_secs(30)));
        for (microseconds, process) in
            [(None, None), (Some("0"), None), (Some("x"), None), (Some("5"), Some("1")), (Some("5"), Some("x"))]
        {
            assert_eq!(patience(microseconds, process), None, "{microseconds:?} {process:?}");
        }
    }
}
