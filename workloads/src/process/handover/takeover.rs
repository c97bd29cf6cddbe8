//! The successor's side: it asks for the sockets, and says how it went.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use annulus_engine::ListeningSocket;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::{GREETING, READY_MAX, WORD_MAX, place, words};
use crate::process::user::User;

/// The server before, and what it has given.
pub struct Takeover {
    stream: BufReader<UnixStream>,
    sockets: Vec<ListeningSocket>,
    /// The process before, as it calls itself.
    before: String,
    /// Since when it waits for us.
    asked: Instant,
    /// Since when nobody accepts.
    released: Option<Instant>,
}

impl Takeover {
    /// Asks the server that runs, if there is one, for its sockets. It has to be a process of our own user, of root, or of the
    /// user that we are to become.
    ///
    /// # Errors
    /// A sentence: there is one, and it gives none; or the place is one where anybody could be it.
    pub fn ask(path: &Path, command: &str, user: Option<&User>) -> Result<Option<Takeover>, String> {
        place::check(path)?;
        let failed = |why: String| format!("the server at {} cannot be taken over: {why}", path.display());
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // Nobody is there, or nobody any more.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let peer = socket_peercred(&stream).map_err(|error| failed(error.to_string()))?;
        believe(peer.uid.as_raw(), geteuid().as_raw(), user).map_err(failed)?;
        let asked = Takeover::converse(stream, command);
        asked.map(Some).map_err(failed)
    }

    fn converse(mut stream: UnixStream, command: &str) -> Result<Takeover, String> {
        let said = |error: io::Error| error.to_string();
        let asked = Instant::now();
        stream.write_all(format!("{GREETING} {command} {}\n", std::process::id()).as_bytes()).map_err(said)?;
        let (words, descriptors) = words::receive(&stream, WORD_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => format!(
                "it has not answered within {} s. Likely cause: another process is taking over from it already. Fix: try again \
                 when that one is ready or has ended",
                WORD_MAX.as_secs()
            ),
            _ => error.to_string(),
        })?;
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
        let named = |(name, socket): (&str, OwnedFd)| ListeningSocket { name: name.to_owned(), socket };
        let sockets = names.into_iter().zip(descriptors).map(named).collect();
        Ok(Takeover { stream: BufReader::new(stream), sockets, before, asked, released: None })
    }

    /// The sockets, once.
    pub fn take_sockets(&mut self) -> Vec<ListeningSocket> {
        std::mem::take(&mut self.sockets)
    }

    /// Whether the one before still waits for us. Who is late has to end.
    ///
    /// # Errors
    /// A sentence: it does not.
    pub fn in_time(&self) -> Result<(), String> {
        match self.released.is_some() || self.asked.elapsed() < READY_MAX {
            true => Ok(()),
            false => Err(format!(
                "this server was not ready within {} s, so process {} goes on. Likely cause: the machine is busy, or something \
                 that the configuration names does not answer. Fix: start it anew",
                READY_MAX.as_secs(),
                self.before
            )),
        }
    }

    /// Has the one before finish, and waits for its end: from here on there is no way back. Clients wait meanwhile, and it
    /// takes as long as what is under way there: whoever loses patience ends that process.
    ///
    /// # Errors
    /// A sentence: it does not answer, or waits no longer.
    pub fn release(&mut self) -> Result<(), String> {
        self.in_time()?;
        crate::say!("upgrade: everything is in order; process {} is asked to finish", self.before);
        self.released = Some(Instant::now());
        let said = |error: io::Error| format!("process {} cannot be asked to finish: {error}", self.before);
        let stream = self.stream.get_mut();
        stream.set_read_timeout(None).map_err(said)?;
        stream.write_all(b"release\n").map_err(said)?;
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(_) if matches!(&line[..], "released\n" | "") => Ok(()),
            Ok(_) => Err(format!("process {} was asked to finish and says {line:?}", self.before)),
            // Its end is as good as its word.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(format!("process {} does not say that it has finished: {error}", self.before)),
        }
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

/// Whether the one who answers may be the server before.
fn believe(peer: u32, own: u32, user: Option<&User>) -> Result<(), String> {
    match peer == 0 || peer == own || user.is_some_and(|user| user.uid() == peer) {
        true => Ok(()),
        false => Err(format!(
            "a process of user {peer} answers there, and only those of user {own}, of root and of the user that --user names are \
             believed. Fix: if that is the server, start this one as the same user; if not, remove its socket and choose a folder \
             that only the server's user may write to with --handover PATH"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("annulus-takeover-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn nobody_there_is_no_error_and_who_says_otherwise_is() {
        let folder = folder("says");
        let path = folder.join("socket");
        assert!(Takeover::ask(&path, "gateway", None).unwrap().is_none());
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
            let error = Takeover::ask(&path, "gateway", None).map(|_| ()).unwrap_err();
            assert!(error.contains(expected) && error.contains("cannot be taken over"), "{error}");
            answering.join().unwrap();
        }
        drop(listener);
        assert!(Takeover::ask(&path, "gateway", None).unwrap().is_none(), "left by a dead server");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_ourselves_root_and_the_user_to_become_are_believed() {
        let user = User::find("33:34").unwrap();
        for (peer, own, user, is_believed) in [
            (1000, 1000, None, true),
            (0, 1000, None, true),
            (1001, 1000, None, false),
            (33, 0, None, false),
            (33, 0, Some(&user), true),
            (34, 0, Some(&user), false),
        ] {
            let believed = believe(peer, own, user);
            assert_eq!(believed.is_ok(), is_believed, "{peer} {own}: {believed:?}");
            if let Err(why) = believed {
                assert!(why.contains(&format!("user {peer}")) && why.contains("--user"), "{why}");
            }
        }
    }

    /// A takeover, and the other end of its stream.
    fn taken(asked: Instant) -> (Takeover, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stream = BufReader::new(ours);
        (Takeover { stream, sockets: Vec::new(), before: "7".to_owned(), asked, released: None }, theirs)
    }

    #[test]
    fn the_end_of_the_one_before_may_come_in_pieces_or_without_a_word() {
        for (says, is_its_end) in [(&["rele", "as", "ed\n"][..], true), (&[], true), (&["what", "?\n"], false)] {
            let (mut takeover, mut theirs) = taken(Instant::now());
            let saying = std::thread::spawn(move || {
                let mut word = String::new();
                BufReader::new(theirs.try_clone().unwrap()).read_line(&mut word).unwrap();
                for part in says {
                    theirs.write_all(part.as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
                word
            });
            let ended = takeover.release();
            assert_eq!(ended.is_ok(), is_its_end, "{says:?}: {ended:?}");
            assert_eq!(saying.join().unwrap(), "release\n");
        }
    }

    #[test]
    fn who_is_late_does_not_take_over() {
        let long_ago = Instant::now().checked_sub(READY_MAX).expect("this machine has run for that long");
        let (mut late, theirs) = taken(long_ago);
        let why = late.release().unwrap_err();
        assert!(why.contains("within 120 s") && why.contains("process 7 goes on"), "{why}");
        late.failed(&why);
        let mut heard = String::new();
        BufReader::new(theirs).read_line(&mut heard).unwrap();
        assert!(heard.starts_with("failed this server was not ready"), "{heard}");
        let (mut released, _theirs) = taken(long_ago);
        released.released = Some(long_ago);
        assert!(released.in_time().is_ok(), "the one before has finished: there is no way back");
    }
}
