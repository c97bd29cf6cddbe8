//! What may go wrong, each with its own probability. A kernel without faults is [`Faults::default`].

use super::Random;

/// Probabilities per mille; each is drawn where its effect could occur.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A turn is interrupted: nothing starts, nothing is reaped.
    pub interrupted: u16,
    /// The submission queue takes only part of what waits.
    pub slow_submit: u16,
    /// An operation that could go on is passed over this time, so that others overtake it.
    pub delayed: u16,
    /// A turn reaps only part of what has completed.
    pub partial_reap: u16,
    /// A multishot operation ends with a completion that would not have been its last.
    pub multishot_ends: u16,
    /// The completion queue overflows: every multishot operation with news ends.
    pub overflow: u16,
    /// A receive finds no buffer although there are some.
    pub no_buffers: u16,
    /// A completion without bytes, an error for instance, brings a buffer all the same.
    pub buffer_without_bytes: u16,
    /// A receive takes only some of the bytes that are there, often one.
    pub short_receive: u16,
    /// The network hands bytes over in pieces.
    pub trickle: u16,
    /// A send ends after part of its bytes.
    pub short_send: u16,
    /// The kernel keeps a send's memory after its result, as for a zero-copy send.
    pub late_notice: u16,
    /// A cancelled operation succeeds first.
    pub cancel_race: u16,
    /// A descriptor is asked for and there is none.
    pub out_of_descriptors: u16,
    /// A connection is gone before it is accepted.
    pub accept_aborted: u16,
    /// The network resets a connection, both ends. Drawn once a turn and connection.
    pub reset: u16,
    /// A connect times out.
    pub connect_fails: u16,
    /// The clock jumps ahead by up to ten seconds.
    pub clock_jump: u16,
    /// Time passes between two looks at the clock, so that turns run out of budget.
    pub slow_code: u16,
    /// A datagram is lost.
    pub datagram_lost: u16,
    /// A datagram arrives twice.
    pub datagram_doubled: u16,
    /// A file is read or written in part.
    pub short_file: u16,
    /// Syncing a file fails, and what was written since the last sync never becomes durable.
    pub sync_fails: u16,
    /// A write finds the disk full.
    pub disk_full: u16,
}

impl Faults {
    /// A mixture: half of the faults never happen in it, the others rarely or often. Many different mixtures find
    /// more than one mixture of everything, where faults hide each other.
    pub fn random(random: &mut Random) -> Faults {
        let mut faults = Faults::default();
        for fault in faults.each_mut() {
            if random.hit(500) {
                *fault = *random.pick(&[5, 50, 250]).expect("the list is not empty");
            }
        }
        // These end what they hit, or skip much: often would leave little to see.
        faults.reset /= 50;
        faults.clock_jump /= 10;
        faults.sync_fails /= 5;
        faults.disk_full /= 5;
        faults
    }

    fn each_mut(&mut self) -> [&mut u16; 24] {
        let Faults {
            interrupted,
            slow_submit,
            delayed,
            partial_reap,
            multishot_ends,
            overflow,
            no_buffers,
            buffer_without_bytes,
            short_receive,
            trickle,
            short_send,
            late_notice,
            cancel_race,
            out_of_descriptors,
            accept_aborted,
            reset,
            connect_fails,
            clock_jump,
            slow_code,
            datagram_lost,
            datagram_doubled,
            short_file,
            sync_fails,
            disk_full,
        } = self;
        [
            interrupted,
            slow_submit,
            delayed,
            partial_reap,
            multishot_ends,
            overflow,
            no_buffers,
            buffer_without_bytes,
            short_receive,
            trickle,
            short_send,
            late_notice,
            cancel_race,
            out_of_descriptors,
            accept_aborted,
            reset,
            connect_fails,
            clock_jump,
            slow_code,
            datagram_lost,
            datagram_doubled,
            short_file,
            sync_fails,
            disk_full,
        ]
    }
}
