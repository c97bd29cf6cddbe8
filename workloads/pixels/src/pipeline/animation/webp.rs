//! The frames of an animated WebP (RFC 9649 section 2.7.1).

use webp::BitstreamFeatures;

use super::Source;
use super::canvas::{Area, Canvas, Disposal, Step};
use crate::fault::{Fault, Kind};
use crate::pipeline::Watch;
use crate::pipeline::adjust::with_layout;
use crate::pipeline::color::ToSrgb;
use crate::pipeline::pixels::{Layout, Pool};
use crate::pipeline::webp::{Placed, chunks, profile, still};

pub(super) struct Webp<'i> {
    input: &'i [u8],
    /// Of all frames: from their own colours, where these are others.
    to_srgb: Option<ToSrgb>,
    rest: Box<dyn Iterator<Item = &'i [u8]> + 'i>,
}

impl<'i> Webp<'i> {
    pub(super) fn open(input: &'i [u8]) -> Webp<'i> {
        let frames = chunks(input).filter(|(name, _)| *name == b"ANMF").map(|(_, frame)| frame);
        let to_srgb = profile(input).and_then(|profile| profile.to_srgb(Layout::Rgba));
        Webp { input, to_srgb, rest: Box::new(frames) }
    }
}

impl Source for Webp<'_> {
    fn step(&mut self, canvas: &mut Canvas, pool: &mut Pool, watch: &dyn Watch) -> Result<Option<Step>, Fault> {
        watch.check()?;
        let Some(payload) = self.rest.next() else { return Ok(None) };
        let broken =
            || Fault::new(Kind::BadImage, "a frame of the webp cannot be decoded: its data are broken or cut off");
        let placed = Placed::of(payload).ok_or_else(broken)?;
        let features = BitstreamFeatures::new(&placed.alone).ok_or_else(broken)?;
        let (width, height) = (features.width(), features.height());
        if (width, height) != (placed.width, placed.height) || !canvas.holds(&placed) {
            return Err(Fault::new(Kind::BadImage, "a frame of the webp is larger than what its header says"));
        }
        let pixels = still(&placed.alone, (width, height), pool).ok_or_else(broken)?;
        let mut pixels = with_layout(pixels, Layout::Rgba, pool);
        if let Some(to_srgb) = &self.to_srgb {
            to_srgb.apply(&mut pixels, watch)?;
        }
        let disposal = if placed.clears { Disposal::Clear } else { Disposal::Keep };
        canvas.put(&pixels.samples, Area::of(&placed), placed.blends, disposal);
        pool.give(pixels.samples);
        Ok(Some(Step { ms: placed.ms }))
    }

    fn plays(&self) -> u16 {
        let loops = chunks(self.input).find(|(name, _)| *name == b"ANIM");
        loops.and_then(|(_, payload)| payload.get(4..6)?.try_into().ok()).map_or(0, u16::from_le_bytes)
    }
}

impl Area {
    fn of(placed: &Placed) -> Area {
        let [left, top, width, height] =
            [placed.left, placed.top, placed.width, placed.height].map(|number| number as usize);
        Area { left, top, width, height }
    }
}

impl Canvas {
    fn holds(&self, placed: &Placed) -> bool {
        let (width, height) = self.size();
        let inside = |from: u32, len: u32, whole: usize| u64::from(from) + u64::from(len) <= whole as u64;
        inside(placed.left, placed.width, width) && inside(placed.top, placed.height, height)
    }
}
