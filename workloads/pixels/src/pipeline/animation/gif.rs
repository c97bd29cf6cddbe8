//! The frames of a GIF89a.

use gif::{DisposalMethod, Repeat};

use super::Source;
use super::canvas::{Area, Canvas, Disposal, Step};
use crate::fault::{Fault, Kind};
use crate::header::Header;
use crate::pipeline::Watch;
use crate::pipeline::gif::{InMemory, broken, decoder};
use crate::pipeline::pixels::Pool;

/// What a frame that says less is shown for, in milliseconds: as browsers do, because files of old say nothing and mean that.
const SHORTEST_MS: u32 = 20;
const USUAL_MS: u32 = 100;

pub(super) struct Gif<'i> {
    decoder: InMemory<'i>,
    /// Bytes of a frame on the whole screen.
    bytes_max: usize,
}

impl<'i> Gif<'i> {
    pub(super) fn open(input: &'i [u8], header: &Header) -> Result<Gif<'i>, Fault> {
        let (decoder, bytes_max) = decoder(input, header)?;
        Ok(Gif { decoder, bytes_max })
    }
}

impl Source for Gif<'_> {
    fn step(&mut self, canvas: &mut Canvas, pool: &mut Pool, watch: &dyn Watch) -> Result<Option<Step>, Fault> {
        watch.check()?;
        let Some(frame) = self.decoder.next_frame_info().map_err(broken)? else { return Ok(None) };
        let [left, top, width, height] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
        let ms = match u32::from(frame.delay) * 10 {
            ms if ms < SHORTEST_MS => USUAL_MS,
            ms => ms,
        };
        let disposal = match frame.dispose {
            DisposalMethod::Any | DisposalMethod::Keep => Disposal::Keep,
            DisposalMethod::Background => Disposal::Clear,
            DisposalMethod::Previous => Disposal::Restore,
        };
        if width * height * 4 > self.bytes_max {
            let detail = format!("a frame of the gif, {width}x{height}, is larger than its screen");
            return Err(Fault::new(Kind::BadImage, detail));
        }
        let mut samples = pool.take(width * height * 4);
        let read = self.decoder.read_into_buffer(&mut samples).map_err(broken);
        if read.is_ok() {
            canvas.put(&samples, Area { left, top, width, height }, true, disposal);
        }
        pool.give(samples);
        read.map(|()| Some(Step { ms }))
    }

    fn plays(&self) -> u16 {
        match self.decoder.repeat() {
            Repeat::Infinite => 0,
            // So often again.
            Repeat::Finite(again) => again.saturating_add(1),
        }
    }
}
