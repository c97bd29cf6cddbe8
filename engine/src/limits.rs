//! Everything in the engine that could grow, with its limit, its unit, and what happens there.

use std::time::Duration;

/// Submission entries of a ring. More operations than this wait in the driver for the next enter.
pub const SQ_ENTRIES: u32 = 2048;
/// Completion entries of a ring. Beyond, the kernel holds completions back and ends multishot operations, which
/// are armed again.
pub const CQ_ENTRIES: u32 = 16384;
/// Kernel worker threads per ring, for operations that block. More such operations queue in the kernel.
pub const KERNEL_WORKERS_MAX: u32 = 4;
/// Whether shards wake each other by a message from ring to ring instead of an eventfd (measured: see
/// ARCHITECTURE.md, "Doorbell").
pub const WAKE_BY_MESSAGE: bool = true;

/// Completions worked off in one turn. The rest waits for the next.
pub const COMPLETIONS_PER_TURN: usize = 256;
/// Time after which a turn starts no further task.
pub const TURN_BUDGET: Duration = Duration::from_micros(500);
/// A turn longer than this is a stall: it is reported with a backtrace.
pub const STALL: Duration = Duration::from_millis(25);
/// After a fan-out, its receivers are left alone so long for each of them: a send costs 4 us, and twice that with as much
/// as gathers meanwhile, so that a room takes about half of a core at most, and a small one does not wait noticeably.
pub const FAN_OUT_REST_PER_RECEIVER: Duration = Duration::from_micros(20);
/// But no longer than this.
pub const FAN_OUT_REST_MAX: Duration = Duration::from_millis(20);
/// And at least so long for each receiver, in whatever fan-out, that is left alone at that moment: many small rooms.
pub const FAN_OUT_REST_PER_RESTING: Duration = Duration::from_micros(10);
/// But no longer than this.
pub const FAN_OUT_REST_AMONG_MANY_MAX: Duration = Duration::from_millis(2);
/// A receiver for whom so much waits rests no longer: it is not slow, and its outbox has a cap.
pub const FAN_OUT_REST_BYTES_MAX: usize = 64 * 1024;
/// Events a group gives out before other tasks have their turn.
pub const GROUP_EVENTS_PER_BATCH: usize = 128;
/// Wakes from other threads taken in one turn. The rest waits for the next.
pub const REMOTE_WAKES_PER_TURN: usize = 1024;

/// Receive buffers per shard, of 4 KiB each; 16 MiB of address space. When all are in use, sockets are parked
/// until one is given back.
pub const BUFFERS: usize = 4096;
/// Received bytes that may wait for a connection's reader. Beyond, its receive is stopped and the peer waits.
pub const RECEIVE_QUEUE_BYTES_MAX: usize = 256 * 1024;
/// A direct receive of less than this is not worth switching over for: it goes through the buffers.
pub const DIRECT_RECEIVE_BYTES_MIN: usize = 16 * 1024;

/// Bytes in one send operation. What is beyond leaves with the next.
pub const SEND_BYTES_MAX: usize = 1024 * 1024;
/// Frames in one send operation, within the kernel's `UIO_MAXIOV` of 1024.
pub const SEND_FRAMES_MAX: usize = 512;
/// Sends at least this long are done without copying into the kernel. `usize::MAX`: never.
pub const ZERO_COPY_BYTES_MIN: usize = 64 * 1024;
/// Bytes that may wait for one peer of a group before [`crate::Sent::Full`], unless the group says otherwise.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes queued on a stream above which [`crate::Stream::send`] waits.
pub const STREAM_HIGH_WATER_BYTES: usize = 256 * 1024;
/// Bytes that may wait on a stream before [`crate::Stream::queue`] refuses.
pub const STREAM_OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections per shard unless a listener says otherwise. More are closed as they come.
pub const CONNECTIONS_MAX: usize = 1 << 24;
/// How long accepting pauses when descriptors ran out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait in a socket's queue until they are accepted, unless a listener says otherwise. More are not answered, and
/// their peers try again (listen(2)).
pub const BACKLOG: u32 = 4096;
/// Connections that a listener which stops takes off its socket's queue before it closes it, whichever driver accepts: a bound, so that
/// a flood does not keep it from its end. What comes beyond waits for a successor that has the socket too, and is reset without one.
pub const LAST_MAX: usize = 4096;
/// How long a closed connection waits for its peer's end of stream before it is cut.
pub const LINGER_MAX: Duration = Duration::from_secs(2);
/// How long a closing shard waits for operations in flight. What is left then is leaked, not freed.
pub const TEARDOWN_MAX: Duration = Duration::from_secs(5);

/// Letters in the ring between two shards. More wait at the sender.
pub const MAILBOX_LETTERS: usize = 1024;
/// Letters that wait at the sender for one shard. Beyond, [`crate::MailboxFull`].
pub const LETTERS_WAITING_MAX: usize = 65536;
/// Letters taken from one peer in one turn. The rest waits for the next.
pub const LETTERS_PER_TURN: usize = 256;

/// Jobs that wait for the compute threads. Beyond, `Busy`.
pub const COMPUTE_QUEUE_MAX: usize = 1024;

const _: () = assert!(CQ_ENTRIES >= 4 * SQ_ENTRIES, "multishot operations complete many times per submission");
const _: () = assert!(COMPLETIONS_PER_TURN <= CQ_ENTRIES as usize);
const _: () = assert!(BUFFERS <= crate::buffers::BUFFERS_MAX && BUFFERS.is_power_of_two());
const _: () = assert!(SEND_FRAMES_MAX <= 1024, "UIO_MAXIOV");
const _: () = assert!(FAN_OUT_REST_BYTES_MAX <= OUTBOX_BYTES_MAX / 2, "who rests is not slow");
const _: () = assert!(OUTBOX_BYTES_MAX >= crate::frame::BLOCK_BYTES);
const _: () = assert!(STREAM_HIGH_WATER_BYTES < STREAM_OUTBOX_BYTES_MAX && STREAM_OUTBOX_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(RECEIVE_QUEUE_BYTES_MAX >= 4 * crate::buffers::BUFFER_BYTES);
const _: () = assert!(CONNECTIONS_MAX < u32::MAX as usize);
const _: () = assert!(LAST_MAX >= BACKLOG as usize, "what waited when a listener stops is served");
const _: () = assert!(MAILBOX_LETTERS.is_power_of_two() && LETTERS_PER_TURN <= MAILBOX_LETTERS);
const _: () = assert!(TURN_BUDGET.as_millis() < STALL.as_millis());
