//! What the two sides say: lines, and once descriptors along with them.
//!
//! A stream has no messages: whatever is read here may arrive in pieces of any size.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use annulus_engine::ListeningSocket;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Sockets at most: what the kernel passes in one message (`SCM_MAX_FD`).
pub(super) const SOCKETS_MAX: usize = 253;
/// Bytes at most that are said at once.
const WORDS_BYTES_MAX: usize = 64 << 10;

/// Has the next read end at that moment.
fn read_until(stream: &UnixStream, until: Instant) -> io::Result<()> {
    // No time at all is no limit (setsockopt(2), `SO_RCVTIMEO`).
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))
}

/// A line without its end; empty when the other side has ended without one.
///
/// # Errors
/// It did not come in that time (`WouldBlock`), or it is longer than anything that is said here.
pub(super) fn line(lines: &mut BufReader<UnixStream>, max: Duration) -> io::Result<String> {
    let until = Instant::now() + max;
    let mut line = Vec::new();
    loop {
        read_until(lines.get_ref(), until)?;
        let part = match lines.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            part => part?,
        };
        let end = part.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(part.len(), |end| end + 1);
        line.extend_from_slice(&part[..taken]);
        lines.consume(taken);
        if end.is_some() || taken == 0 {
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if line.len() > WORDS_BYTES_MAX || Instant::now() >= until {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
}

/// Says which sockets there are, and gives them.
pub(super) fn send(stream: &UnixStream, sockets: &[ListeningSocket]) -> io::Result<()> {
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
///
/// # Errors
/// The other side ends before, says more than is ever said here, or is not done in that time.
pub(super) fn receive(stream: &UnixStream, max: Duration) -> io::Result<(String, Vec<OwnedFd>)> {
    let until = Instant::now() + max;
    let (mut words, mut descriptors) = (Vec::new(), Vec::new());
    let mut bytes = [0; 4096];
    while !words.ends_with(b"\n\n") {
        read_until(stream, until)?;
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = match recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            read => read?,
        };
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

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn sockets_and_their_names_arrive_together() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let anywhere = Address::Ip(([127, 0, 0, 1], 0).into());
        let sockets: Vec<_> =
            (0..100).map(|_| ListeningSocket::open(&anywhere, &SocketOptions::default()).unwrap()).collect();
        send(&ours, &sockets).unwrap();
        let (words, descriptors) = receive(&theirs, PATIENCE).unwrap();
        assert_eq!((words.lines().count(), descriptors.len()), (102, 100));
        assert!(words.starts_with("sockets ") && words.contains("\n127.0.0.1:0\n"));
        drop(ours);
        assert!(receive(&theirs, PATIENCE).is_err(), "an end is no message");
    }

    /// Says it a byte at a time, each when the one before has been read.
    fn by_bytes(mut stream: UnixStream, says: &'static str) -> std::thread::JoinHandle<UnixStream> {
        std::thread::spawn(move || {
            for byte in says.bytes() {
                stream.write_all(&[byte]).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            stream
        })
    }

    #[test]
    fn words_may_arrive_in_pieces() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let saying = by_bytes(ours, "sockets 7\na\n\nrelease\nready\nfailed");
        let (words, descriptors) = receive(&theirs, PATIENCE).unwrap();
        assert_eq!((&words[..], descriptors.len()), ("sockets 7\na\n\n", 0));
        let mut lines = BufReader::new(theirs);
        assert_eq!(line(&mut lines, PATIENCE).unwrap(), "release");
        assert_eq!(line(&mut lines, PATIENCE).unwrap(), "ready");
        drop(saying.join().unwrap());
        assert_eq!(line(&mut lines, PATIENCE).unwrap(), "failed", "up to the end");
        assert_eq!(line(&mut lines, PATIENCE).unwrap(), "", "an end");
    }

    #[test]
    fn a_word_has_a_time_however_many_pieces_come() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut lines = BufReader::new(theirs);
        let silent = line(&mut lines, Duration::from_millis(20)).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        let saying = by_bytes(ours, "one word that takes longer than there is time for it, although it goes on and on");
        let late = line(&mut lines, Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        saying.join().unwrap();
    }
}
