//! What the lane and its worker say to each other: one JSON document per packet of a `SOCK_SEQPACKET` socket pair.
//!
//! ```text
//!   lane ── Setup + descriptors: watermarks ───────────────────────────► worker
//!        ◄───────────────────────────────────────── Ready or Refused ───
//!        ── Task + descriptors: input, one empty file per recipe ──────►
//!        ── Stop (perhaps) ────────────────────────────────────────────►
//!        ◄──────────────────── Done, Fault or Panicked: exactly one ────
//! ```
//!
//! Descriptors go one way only. The lane makes the files of the outputs, and a worker gets them for writing: so the
//! lane never holds a descriptor that a worker chose, and a worker needs no call that makes one. The lane reads an
//! answer with a bound, without waiting, and believes nothing in it.

use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::marks::MarkHead;
use crate::image::fault::Fault;
use crate::image::format::Format;
use crate::image::header::Header;
use crate::image::pipeline::Timings;
use crate::image::pipeline::placeholder::{BLURHASH_BYTES_MAX, Placeholders, THUMBHASH_BYTES_MAX};
use crate::image::recipe::Recipe;

/// Bytes of an order; a task whose recipes need more is refused.
pub const ORDER_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer; a worker that says more is ended.
pub const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Outputs of a task; more are refused. The kernel passes at most 253 descriptors in a message.
pub const OUTPUTS_MAX: usize = 32;
/// Bytes of the sentence of a fault; the rest is cut off.
pub const SENTENCE_BYTES_MAX: usize = 1024;

const _: () = assert!(OUTPUTS_MAX < 253);
/// Bytes in which an output is told, at most: its numbers and names, its ThumbHash as numbers of up to four letters, and its
/// BlurHash.
const CLAIM_BYTES_MAX: usize = 192 + 4 * THUMBHASH_BYTES_MAX + BLURHASH_BYTES_MAX;
const _: () = assert!(OUTPUTS_MAX * CLAIM_BYTES_MAX + 512 <= ANSWER_BYTES_MAX);
const _: () = assert!(SENTENCE_BYTES_MAX * 6 + 512 <= ANSWER_BYTES_MAX);

/// From the lane to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order<'a> {
    /// The first: who the worker is to be.
    Setup(Setup),
    /// Make these outputs.
    Task(TaskOrder<'a>),
    /// Give that task up.
    Stop {
        /// Its number; another task's is ignored.
        task: u64,
    },
}

/// What a worker is told before it shuts itself in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The process that it belongs to: without it, it ends.
    pub parent: u32,
    /// Whether a missing wall of the sandbox ends it.
    pub required: bool,
    /// Bytes of an output.
    pub output_bytes_max: u64,
    /// Bytes of buffers that it keeps between tasks.
    pub pool_bytes_max: u64,
    /// Whether it runs only when nothing else wants its core.
    pub yields: bool,
    /// What is to be decoded before the first task; the files are passed along, in this order.
    pub marks: Vec<MarkHead>,
}

/// A task, as a worker sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskOrder<'a> {
    /// Its number.
    pub task: u64,
    /// Bytes of the input.
    pub len: u64,
    /// Wall-clock time.
    pub time_max: Duration,
    /// What the input's head said.
    pub header: Cow<'a, Header>,
    /// What is to be made.
    pub recipes: Cow<'a, [Recipe]>,
}

/// From the worker to the lane.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Shut in, and ready for tasks.
    Ready(Walls),
    /// It could not shut itself in: why, in a sentence.
    Refused(String),
    /// All outputs are written.
    Done {
        /// The task's number.
        task: u64,
        /// One per recipe.
        outputs: Vec<Claim>,
        /// Where the time went.
        timings: Timings,
    },
    /// The task failed, and the worker is as good as before.
    Fault {
        /// The task's number.
        task: u64,
        /// Why.
        fault: Fault,
    },
    /// The pipeline panicked: a mistake of ours.
    Panicked {
        /// The task's number.
        task: u64,
        /// What the panic said, and where.
        sentence: String,
    },
}

/// What a worker says of an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The recipe's place in the list.
    pub index: usize,
    /// What it was encoded as.
    pub format: Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes.
    pub len: u64,
    /// What stands in for it, as far as the recipe asks for that.
    pub placeholders: Placeholders,
}

/// Which walls of the sandbox stand that not every kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// No path can be opened, and no port reached, whatever the next wall lets through.
    pub landlock: bool,
    /// Only a handful of system calls.
    pub seccomp: bool,
}

/// Sends one message. Never waits for a full socket.
///
/// # Errors
/// `WouldBlock` for a full socket, `BrokenPipe` when the other side is gone.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    send_bytes(socket, &text, descriptors)
}

/// Sends a message that is written already.
///
/// # Errors
/// As [`send`].
pub fn send_bytes(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OUTPUTS_MAX + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = loop {
        match sendmsg(socket, &[IoSlice::new(text)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            sent => break sent?,
        }
    };
    if sent == text.len() { Ok(()) } else { Err(io::Error::other("a message was sent in part")) }
}

/// Worker: takes the next order with its descriptors into `buffer`; `None` when the lane is gone.
///
/// # Errors
/// `WouldBlock` where `wait` is false and none is there; `InvalidData` for one that is cut off.
pub fn recv_order(socket: BorrowedFd<'_>, wait: bool, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OUTPUTS_MAX + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an order was cut off"));
    }
    Ok((received.bytes > 0).then_some((received.bytes, descriptors)))
}

/// Lane: takes an answer that is there already; `None` when the worker has hung up. Descriptors that a worker attaches
/// are closed by the kernel, because no room is offered for them.
///
/// # Errors
/// `InvalidData` for what is too long or no answer; `WouldBlock` where none is there.
pub fn recv_answer(socket: impl AsFd, buffer: &mut [u8; ANSWER_BYTES_MAX]) -> io::Result<Option<Answer>> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    let len = match recv(socket, &mut buffer[..], flags) {
        Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Ok((_, len)) if len <= ANSWER_BYTES_MAX => len,
        Ok((_, len)) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it said {len} bytes at once")));
        }
        Err(error) => return Err(error.into()),
    };
    let answer = serde_json::from_slice(&buffer[..len]);
    answer.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A sentence of a stranger: one line, without control characters, not too long.
pub fn tame(sentence: &str) -> String {
    let mut tame: String = sentence.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    tame = tame.trim().to_owned();
    tame.truncate(tame.floor_char_boundary(SENTENCE_BYTES_MAX));
    tame
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn orders_carry_descriptors_and_answers_do_not() {
        let (lane, worker) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        send(lane.as_fd(), &Order::Stop { task: 7 }, &[null.as_fd(), null.as_fd()]).unwrap();
        let mut buffer = [0; ORDER_BYTES_MAX];
        let (len, descriptors) = recv_order(worker.as_fd(), true, &mut buffer).unwrap().unwrap();
        assert!(matches!(serde_json::from_slice(&buffer[..len]).unwrap(), Order::Stop { task: 7 }));
        assert_eq!(descriptors.len(), 2);

        let (mut reads, writes) = std::io::pipe().unwrap();
        let answer = Answer::Ready(Walls { landlock: true, seccomp: false });
        send(worker.as_fd(), &answer, &[writes.as_fd()]).unwrap();
        drop(writes);
        let answer = recv_answer(&lane, &mut [0; ANSWER_BYTES_MAX]).unwrap();
        assert!(matches!(answer, Some(Answer::Ready(Walls { landlock: true, seccomp: false }))));
        // The pipe has an end only when nobody holds the descriptor that was sent along.
        assert_eq!(std::io::Read::read(&mut reads, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_is_long_or_wrong_or_missing_is_told_apart() {
        let (lane, worker) = pair();
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let kind = |answer: io::Result<Option<Answer>>| answer.map(|_| ()).unwrap_err().kind();
        assert_eq!(kind(recv_answer(&lane, &mut buffer)), io::ErrorKind::WouldBlock);
        send_bytes(worker.as_fd(), &vec![b' '; ANSWER_BYTES_MAX + 1], &[]).unwrap();
        assert_eq!(kind(recv_answer(&lane, &mut buffer)), io::ErrorKind::InvalidData);
        send_bytes(worker.as_fd(), "[".repeat(ANSWER_BYTES_MAX).as_bytes(), &[]).unwrap();
        assert_eq!(kind(recv_answer(&lane, &mut buffer)), io::ErrorKind::InvalidData);
        send_bytes(worker.as_fd(), b"{\"Ready\":{}}", &[]).unwrap();
        assert_eq!(kind(recv_answer(&lane, &mut buffer)), io::ErrorKind::InvalidData);
        drop(worker);
        assert!(recv_answer(&lane, &mut buffer).unwrap().is_none());
        assert_eq!(send(lane.as_fd(), &Order::Stop { task: 1 }, &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_longest_answer_fits_a_packet() {
        let placeholders = Placeholders {
            thumbhash: Some(vec![255; THUMBHASH_BYTES_MAX]),
            blurhash: Some("~".repeat(BLURHASH_BYTES_MAX)),
        };
        let (index, width, height, len) = (OUTPUTS_MAX, u32::MAX, u32::MAX, u64::MAX);
        let claim = Claim { index, format: Format::Jpeg, width, height, len, placeholders };
        let text = serde_json::to_vec(&claim).unwrap();
        assert!(text.len() < CLAIM_BYTES_MAX, "{}", text.len());
        let answer = Answer::Done { task: u64::MAX, timings: Timings::default(), outputs: vec![claim; OUTPUTS_MAX] };
        let (lane, worker) = pair();
        send(worker.as_fd(), &answer, &[]).unwrap();
        let answer = recv_answer(&lane, &mut [0; ANSWER_BYTES_MAX]).unwrap();
        assert!(matches!(answer, Some(Answer::Done { outputs, .. }) if outputs.len() == OUTPUTS_MAX));
    }

    #[test]
    fn strangers_sentences_are_tamed() {
        assert_eq!(tame("a\nb\u{1b}[31mc\0 "), "a b [31mc");
        assert_eq!(tame(&"é".repeat(1000)).len(), SENTENCE_BYTES_MAX);
    }
}
