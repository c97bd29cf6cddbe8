//! Counting what costs more than it achieves: floods of frames, and streams that end by resets.

use super::Limits;
use super::fault::{ErrorCode, Fault, fault};

/// Window updates that are usual for a frame of data: one for the stream, one for the connection.
const WINDOW_UPDATES_PER_DATA: u32 = 2;

/// Counts of one period.
#[derive(Debug, Default)]
pub(super) struct Floods {
    began: u64,
    idle: u32,
    tiny: u32,
    /// Streams reset, less those that ended well.
    resets: u32,
}

impl Floods {
    fn turn(&mut self, limits: &Limits, now: u64) {
        if now.saturating_sub(self.began) >= limits.period_ms {
            *self = Floods { began: now, ..Floods::default() };
        }
    }

    /// A frame that achieves nothing.
    pub(super) fn count_idle(&mut self, limits: &Limits, now: u64) -> Result<(), Fault> {
        self.turn(limits, now);
        self.idle += 1;
        match self.idle > limits.idle_frames_max {
            true => Err(fault(ErrorCode::ENHANCE_YOUR_CALM, "sent too many frames without effect")),
            false => Ok(()),
        }
    }

    /// A frame that achieves little.
    pub(super) fn count_tiny(&mut self, limits: &Limits, now: u64) -> Result<(), Fault> {
        self.turn(limits, now);
        self.tiny += 1;
        match self.tiny > limits.tiny_frames_max {
            true => Err(fault(ErrorCode::ENHANCE_YOUR_CALM, "sent too many tiny frames")),
            false => Ok(()),
        }
    }

    /// A stream that the peer reset, or made us reset.
    pub(super) fn count_reset(&mut self, limits: &Limits, now: u64) -> Result<(), Fault> {
        self.turn(limits, now);
        self.resets += 1;
        match self.resets > limits.resets_max {
            true => Err(fault(ErrorCode::ENHANCE_YOUR_CALM, "had too many streams reset")),
            false => Ok(()),
        }
    }

    /// A stream that ended well. It pays for a reset, and for a priority or the like.
    pub(super) fn count_good(&mut self) {
        self.resets = self.resets.saturating_sub(1);
        self.idle = self.idle.saturating_sub(1);
    }

    /// A frame of data that was worth its header, in either direction. It pays for the windows that the peer opens by
    /// what it read of it, the stream's and the connection's, and for a ping that measures it.
    pub(super) fn count_data(&mut self) {
        self.tiny = self.tiny.saturating_sub(WINDOW_UPDATES_PER_DATA);
        self.idle = self.idle.saturating_sub(1);
    }
}
