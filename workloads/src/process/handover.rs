//! How a server is replaced while it works: its successor is given the listening sockets themselves.
//!
//! ```text
//!   successor                                   the one before
//!     reads and checks its configuration
//!     connect ──"annulus 1 gateway 4711"──────►  is it one of us, and the same command?
//!     whose process is it? ◄─"sockets", names,── all listening sockets (SCM_RIGHTS)
//!                             descriptors
//!     chat, image: "release" ─────────────────►  drains to its end: log and queue have one writer
//!                  ◄───────────── "released"───  (or its end: what a process locked is free then)
//!     opens, listens on what it was given
//!     "ready" ────────────────────────────────►  gateway: drains now
//!     "failed WHY" ───────────────────────────►  goes on as if nothing had been
//! ```
//!
//! What waits in a socket's queue stays there: the socket has an owner at every moment. Nothing else is handed over;
//! connections end with the process that accepted them.
//!
//! The socket's file belongs to who runs the server and is open to nobody else. Each side asks the kernel who the other is
//! (`SO_PEERCRED`, unix(7)): whoever could make a file at that place might otherwise have all that a server listens on, or
//! have it listen on what is theirs.
//!
//! A successor that is not ready in [`READY_MAX`] ends, and the one before waits [`WORD_MAX`] longer for its word: so
//! there is no moment at which both believe that the other has given up, or that it has not.
//!
//! | file | noun |
//! |---|---|
//! | `takeover.rs` | the successor's side |
//! | `offer.rs` | the side of the one before |
//! | `place.rs` | the socket's file: its folder, and whose it is |
//! | `words.rs` | what is said, and the descriptors that go with it |

mod offer;
mod place;
mod takeover;
mod words;

use std::time::Duration;

pub use offer::Handover;
pub use takeover::Takeover;

/// What both sides begin with; the number changes with what is said.
const GREETING: &str = "annulus 1";
<<<<<<< HEAD
/// How long the other side may take for a word that it has only to say.
const WORD_MAX: Duration = Duration::from_secs(5);
/// How long a successor may take from its greeting until it is ready, or asks the one before to finish. Beyond: it ends, and
/// the one before goes on.
const READY_MAX: Duration = Duration::from_secs(120);
=======
/// Sockets at most: what the kernel passes in one message (`SCM_MAX_FD`).
const SOCKETS_MAX: usize = 253;
/// Bytes at most that are said at once.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// How long the other side may take for its first words.
const GREETING_MAX: Duration = Duration::from_secs(5);

/// The successor's side.
pub struct Takeover {
    stream: BufReader<UnixStream>,
    sockets: Vec<ListeningSocket>,
    /// The process before, as it calls itself.
    before: String,
    /// Since when nobody accepts.
    released: Option<Instant>,
}

impl Takeover {
    /// Asks the server that runs, if there is one, for its sockets.
    ///
    /// # Errors
    /// A sentence: there is one, and it gives none.
    pub fn ask(path: &Path, command: &str) -> Result<Option<Takeover>, String> {
        let failed = |why: String| format!("the server at {} cannot be taken over: {why}", path.display());
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // Nobody is there, or nobody any more.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let asked = Takeover::converse(stream, command);
        asked.map(Some).map_err(failed)
    }

    fn converse(mut stream: UnixStream, command: &str) -> Result<Takeover, String> {
        let said = |error: io::Error| error.to_string();
        stream.set_read_timeout(Some(GREETING_MAX)).map_err(said)?;
        stream.write_all(format!("{GREETING} {command} {}\n", std::process::id()).as_bytes()).map_err(said)?;
        let (words, descriptors) = receive(&stream).map_err(said)?;
        let mut lines = words.lines();
        let before = match lines.next().and_then(|line| line.split_once(' ')) {
            Some(("sockets", before)) => before.to_owned(),
            Some(("refused", why)) => return Err(why.to_owned()),
            _ => return Err(format!("it says {words:?}")),
        };
        let names: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
        if names.len() != descriptors.len() {
            return Err(format!("it names {} sockets and gives {}", names.len(), descriptors.len()));
        }
        stream.set_read_timeout(None).map_err(said)?;
        let named = |(name, socket): (&str, OwnedFd)| ListeningSocket { name: name.to_owned(), socket };
        let sockets = names.into_iter().zip(descriptors).map(named).collect();
        Ok(Takeover { stream: BufReader::new(stream), sockets, before, released: None })
    }

    /// The sockets, once.
    pub fn take_sockets(&mut self) -> Vec<ListeningSocket> {
        std::mem::take(&mut self.sockets)
    }

    /// Has the one before finish, and waits for its end: from here on there is no way back. Clients wait meanwhile.
    ///
    /// # Errors
    /// A sentence: it does not answer.
    pub fn release(&mut self) -> Result<(), String> {
        crate::say!("upgrade: everything is in order; process {} is asked to finish", self.before);
        self.released = Some(Instant::now());
        let said = |error: io::Error| format!("process {} cannot be asked to finish: {error}", self.before);
        self.stream.get_mut().write_all(b"release\n").map_err(said)?;
        let mut line = String::new();
        // Its end is as good as its word.
        let _ended = self.stream.read_line(&mut line);
        Ok(())
    }

    /// All shards listen.
    pub fn ready(mut self) {
        let paused = self.released.map(|since| format!("; clients waited for {} ms", since.elapsed().as_millis()));
        crate::say!("upgrade: taken over from process {}{}", self.before, paused.unwrap_or_default());
        // If it has ended, nobody needs to be told.
        let _heard = self.stream.get_mut().write_all(b"ready\n");
    }

    /// It was not to be.
    pub fn failed(mut self, why: &str) {
        let why = why.lines().collect::<Vec<_>>().join(" / ");
        let _heard = self.stream.get_mut().write_all(format!("failed {why}\n").as_bytes());
    }
}

/// The side of the one before: where a successor finds it.
pub struct Handover {
    path: PathBuf,
    listener: UnixListener,
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
        let own = beside(path);
        let failed = |error: io::Error| {
            format!(
                "the socket for successors cannot be made at {}: {error}. Its folder has to be there, and writable for the user \
                 that the server runs as",
                path.display()
            )
        };
        // Left by a process of the same number.
        let _absent = std::fs::remove_file(&own);
        let listener = UnixListener::bind(&own).map_err(failed)?;
        std::fs::set_permissions(&own, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Arc::new(Handover { path: path.to_owned(), listener, state: Mutex::new(State::Prepared) }))
    }

    /// From now on successors find this server here, and not the one before.
    ///
    /// # Errors
    /// A sentence: nobody will find it.
    pub fn offer(self: &Arc<Self>, engine: Engine, command: &'static str) -> Result<(), String> {
        let mut state = self.state();
        if !matches!(*state, State::Prepared) {
            return Ok(());
        }
        let failed = |error: io::Error| format!("no successor can take over at {}: {error}", self.path.display());
        std::fs::rename(beside(&self.path), &self.path).map_err(failed)?;
        *state = State::Offered;
        drop(state);
        let handover = self.clone();
        let body = move || while !handover.serve(&engine, command) {};
        std::thread::Builder::new().name("handover".to_owned()).spawn(body).map(drop).map_err(failed)
    }

    /// It ends by itself: nobody is to look for it any more.
    pub fn withdraw(&self) {
        let mut state = self.state();
        let file = match *state {
            State::Prepared => beside(&self.path),
            State::Offered => self.path.clone(),
            State::Succeeded(_) | State::Withdrawn => return,
        };
        *state = State::Withdrawn;
        // Whoever finds it all the same is refused by the kernel once this process has ended.
        let _removed = std::fs::remove_file(file);
    }

    /// Everything is closed that only one may have: tells the successor, if there is one.
    pub fn finish(&self) {
        self.withdraw();
        if let State::Succeeded(stream) = &*self.state() {
            // It sees our end, too.
            let _heard = (&mut &*stream).write_all(b"released\n");
        }
    }

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
        stream.set_read_timeout(Some(GREETING_MAX))?;
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
        let greeting = line(&mut lines)?;
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
        let sockets = engine.listening_sockets()?;
        if sockets.len() > SOCKETS_MAX {
            refused(&mut stream, "there are more sockets than the kernel passes at once")?;
            return Ok(false);
        }
        crate::say!("upgrade: process {number} is given {} listening sockets", sockets.len());
        send(&stream, &sockets)?;
        drop(sockets);
        stream.set_read_timeout(None)?;
        let word = line(&mut lines)?;
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

/// Where a socket is until it takes its place.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// A line without its end; empty when there is none.
fn line(lines: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    lines.by_ref().take(WORDS_BYTES_MAX as u64).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn send(stream: &UnixStream, sockets: &[ListeningSocket]) -> io::Result<()> {
    let names: String = sockets.iter().map(|socket| format!("{}\n", socket.name)).collect();
    let words = format!("sockets {}\n{names}\n", std::process::id());
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.socket.as_fd()).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("more sockets than one message takes"));
    }
    let sent = sendmsg(stream, &[IoSlice::new(words.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    // The descriptors went with the first bytes.
    (&mut &*stream).write_all(&words.as_bytes()[sent..])
}

/// What is said up to an empty line, and what came with it.
fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut words, mut descriptors) = (Vec::new(), Vec::new());
    let mut bytes = [0; 4096];
    while !words.ends_with(b"\n\n") {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if read.bytes == 0 || words.len() > WORDS_BYTES_MAX {
            return Err(io::Error::other(format!("it ended with {:?}", String::from_utf8_lossy(&words))));
        }
        words.extend_from_slice(&bytes[..read.bytes]);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
    }
    Ok((String::from_utf8_lossy(&words).into_owned(), descriptors))
}

#[cfg(test)]
mod tests {
    use annulus_engine::{Address, SocketOptions};

    use super::*;

    #[test]
    fn sockets_and_their_names_arrive_together() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let anywhere = Address::Ip(([127, 0, 0, 1], 0).into());
        let sockets: Vec<_> =
            (0..100).map(|_| ListeningSocket::open(&anywhere, &SocketOptions::default()).unwrap()).collect();
        send(&ours, &sockets).unwrap();
        let (words, descriptors) = receive(&theirs).unwrap();
        assert_eq!((words.lines().count(), descriptors.len()), (102, 100));
        assert!(words.starts_with("sockets ") && words.contains("\n127.0.0.1:0\n"));
        drop(ours);
        assert!(receive(&theirs).is_err(), "an end is no message");
    }

    #[test]
    fn nobody_there_is_no_error_and_who_says_otherwise_is() {
        let folder = std::env::temp_dir().join(format!("annulus-handover-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        assert!(Takeover::ask(&path, "gateway").unwrap().is_none());
        let listener = UnixListener::bind(&path).unwrap();
        for (says, expected) in [
            ("refused no\n\n", "no"),
            ("hello\n\n", "it says"),
            ("sockets 1\na\n\n", "1 sockets and gives 0"),
            ("", "ended"),
        ] {
            let answering = std::thread::spawn({
                let listener = listener.try_clone().unwrap();
                move || {
                    let mut stream = listener.accept().unwrap().0;
                    // All of it: what is closed with something unread is reset.
                    BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
                    stream.write_all(says.as_bytes()).unwrap();
                }
            });
            let error = Takeover::ask(&path, "gateway").map(|_| ()).unwrap_err();
            assert!(error.contains(expected) && error.contains("cannot be taken over"), "{error}");
            answering.join().unwrap();
        }
        drop(listener);
        assert!(Takeover::ask(&path, "gateway").unwrap().is_none(), "left by a dead server");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
>>>>>>> part-cli
