//! The side of the one before: where a successor finds it, and what it is given.

use std::io::{self, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use annulus_engine::Engine;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::place::{self, Bound, beside};
use super::words::{self, SOCKETS_MAX};
use super::{GREETING, READY_MAX, WORD_MAX};

/// Where a successor finds this server. When the last owner lets go of it, its socket goes along, and not that of a successor
/// that has the same name.
pub struct Handover(Arc<Shared>);

/// What the thread that answers has, too.
struct Shared {
    path: PathBuf,
    listener: UnixListener,
    file: Bound,
    state: Mutex<State>,
}

enum State {
    /// Its file has a name that nobody looks for: the one before still has the right one.
    Prepared,
    Offered,
    /// Somebody takes over, and hears of our end.
    Succeeded(UnixStream),
    /// It ends without a successor.
    Withdrawn,
}

impl Handover {
    /// Opens the socket, beside its place.
    ///
    /// # Errors
    /// A sentence: it cannot be made there.
    pub fn open(path: &Path) -> Result<Arc<Handover>, String> {
        place::check(path)?;
        let failed = |error: io::Error| {
            format!(
                "the socket for successors cannot be made at {}: {error}. Its folder has to be there, and writable for the user \
                 that the server runs as",
                path.display()
            )
        };
        let (listener, file) = Bound::open(&beside(path)).map_err(failed)?;
        let shared = Shared { path: path.to_owned(), listener, file, state: Mutex::new(State::Prepared) };
        Ok(Arc::new(Handover(Arc::new(shared))))
    }

    /// From now on successors find this server here, and not the one before.
    ///
    /// # Errors
    /// A sentence: nobody will find it.
    pub fn offer(&self, engine: Engine, command: &'static str) -> Result<(), String> {
        let shared = &self.0;
        let mut state = shared.state();
        if !matches!(*state, State::Prepared) {
            return Ok(());
        }
        let failed = |error: io::Error| format!("no successor can take over at {}: {error}", shared.path.display());
        std::fs::rename(beside(&shared.path), &shared.path).map_err(failed)?;
        *state = State::Offered;
        drop(state);
        let shared = shared.clone();
        let body = move || while !shared.serve(&engine, command) {};
        std::thread::Builder::new().name("handover".to_owned()).spawn(body).map(drop).map_err(failed)
    }

    /// It ends by itself: nobody is to look for it any more.
    pub fn withdraw(&self) {
        let mut state = self.0.state();
        let name = match *state {
            State::Prepared => beside(&self.0.path),
            State::Offered => self.0.path.clone(),
            State::Succeeded(_) | State::Withdrawn => return,
        };
        *state = State::Withdrawn;
        self.0.file.remove(&name);
    }

    /// Everything is closed that only one may have: tells the successor, if there is one.
    pub fn finish(&self) {
        self.withdraw();
        if let State::Succeeded(stream) = &*self.0.state() {
            // It sees our end, too.
            let _heard = (&mut &*stream).write_all(b"released\n");
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One who asks. Whether there is a successor now.
    fn serve(&self, engine: &Engine, command: &str) -> bool {
        let Ok((stream, _)) = self.listener.accept() else {
            // Out of descriptors: others end connections meanwhile.
            std::thread::sleep(Duration::from_millis(100));
            return false;
        };
        match self.converse(stream, engine, command) {
            Ok(is_succeeded) => is_succeeded,
            Err(error) => {
                crate::warn!("upgrade: a process that asked for the sockets went away: {error}");
                false
            }
        }
    }

    fn converse(&self, mut stream: UnixStream, engine: &Engine, command: &str) -> io::Result<bool> {
        let mut lines = BufReader::new(stream.try_clone()?);
        let refused = |stream: &mut UnixStream, why: &str| {
            crate::warn!("upgrade: a process that asked for the sockets was refused: {why}");
            stream.write_all(format!("refused {why}\n\n").as_bytes())
        };
        let peer = socket_peercred(&stream)?;
        if !peer.uid.is_root() && peer.uid != geteuid() {
            refused(&mut stream, "it runs as another user")?;
            return Ok(false);
        }
        let greeting = words::line(&mut lines, WORD_MAX)?;
        let Some(rest) = greeting.strip_prefix(GREETING).map(str::trim) else {
            refused(&mut stream, "this release speaks otherwise: stop the server and start the other one")?;
            return Ok(false);
        };
        let Some(("", number)) = rest.strip_prefix(command).and_then(|rest| rest.split_once(' ')) else {
            refused(&mut stream, &format!("this is annulus {command}"))?;
            return Ok(false);
        };
        if matches!(*self.state(), State::Withdrawn) {
            refused(&mut stream, "this server is about to end")?;
            return Ok(false);
        }
        let sockets = match engine.listening_sockets() {
            Ok(sockets) => sockets,
            Err(error) => {
                refused(&mut stream, &format!("its listening sockets cannot be copied: {error}"))?;
                return Ok(false);
            }
        };
        if sockets.len() > SOCKETS_MAX {
            refused(&mut stream, "there are more sockets than the kernel passes at once")?;
            return Ok(false);
        }
        crate::say!("upgrade: process {number} is given {} listening sockets", sockets.len());
        words::send(&stream, &sockets)?;
        drop(sockets);
        let word = match words::line(&mut lines, READY_MAX + WORD_MAX) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let waited = READY_MAX.as_secs();
                crate::warn!("upgrade: process {number} was not ready within {waited} s, and this one goes on");
                return Ok(false);
            }
            word => word?,
        };
        match word.split_once(' ').unwrap_or((&word, "")) {
            ("ready" | "release", _) => {
                crate::say!("upgrade: process {number} takes over; this one finishes what is under way");
                *self.state() = State::Succeeded(stream);
                engine.drain();
                Ok(true)
            }
            ("failed", why) => {
                crate::warn!("upgrade: process {number} could not start, and this one goes on: {why}");
                Ok(false)
            }
            _ => {
                crate::warn!("upgrade: process {number} ended before it was ready, and this one goes on");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_go_of_it_takes_its_file_along_and_not_a_successors() {
        let folder = std::env::temp_dir().join(format!("annulus-offer-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let prepared = Handover::open(&path).unwrap();
        assert!(beside(&path).exists() && !path.exists());
        drop(prepared);
        assert!(!beside(&path).exists(), "a server that could not start leaves nothing behind");
        let running = Engine::builder().shards(1).oversubscribed().start(|shard| async move {
            shard.draining().await;
        });
        let running = running.unwrap();
        let offered = Handover::open(&path).unwrap();
        offered.offer(running.engine().clone(), "gateway").unwrap();
        assert!(path.exists() && !beside(&path).exists());
        // Somebody else who was started by hand, and found nobody.
        let successor = UnixListener::bind(beside(&path)).unwrap();
        std::fs::rename(beside(&path), &path).unwrap();
        drop(offered);
        assert!(path.exists(), "it is the successor's");
        drop(successor);
        running.engine().drain();
        running.wait().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
