//! An animated WebP, written frame by frame (RFC 9649 section 2.7.1): of each only the box that differs from what is seen already.

use webp::Encoder;

use super::{ALPHA, EXIF, QUALITY, SIDE_MAX, chunks, extended_header, push_chunk, riff};
use crate::fault::{Fault, Kind};
use crate::pipeline::adjust::with_layout;
use crate::pipeline::pixels::{Layout, Pixels, Pool};

const ANIMATION: u8 = 0x02;
/// A frame takes the place of what it covers, and stays.
const NO_BLENDING: u8 = 0x02;
/// What a frame's duration has room for, in milliseconds.
const MS_MAX: u32 = 0xFF_FFFF;
/// Bytes of a frame's head.
const FRAME_HEAD: usize = 16;
/// Where the duration stands in it.
const MS_AT: usize = 12;

/// An animation in the making.
pub struct Animator {
    quality: f32,
    body: Vec<u8>,
    /// What is seen: red, green, blue, alpha.
    seen: Option<Pixels>,
    /// Where the head of the last frame stands in the body, and how long it is shown.
    last: (usize, u32),
    has_alpha: bool,
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Animator {
    /// An empty one.
    pub fn new(quality: Option<u8>) -> Animator {
        let quality = quality.unwrap_or(QUALITY).into();
        Animator { quality, body: Vec::new(), seen: None, last: (0, 0), has_alpha: false }
    }

    /// Shows a picture for some milliseconds. All are of the first one's size.
    ///
    /// # Errors
    /// As of [`encode`](super::encode).
    pub fn show(&mut self, pixels: Pixels, ms: u32, pool: &mut Pool) -> Result<(), Fault> {
        super::super::check_sides("a WebP", (pixels.width, pixels.height), SIDE_MAX)?;
        let pixels = with_layout(pixels, Layout::Rgba, pool);
        let whole = Part { left: 0, top: 0, width: pixels.width, height: pixels.height };
        let part = match &self.seen {
            None => Some(whole),
            Some(seen) => different(seen, &pixels),
        };
        match part {
            // The one before goes on, as long as its duration has room.
            None if self.last.1 + ms <= MS_MAX => self.prolong(ms),
            None => self.write(&pixels, Part { width: 1, height: 1, ..whole }, ms)?,
            Some(part) => self.write(&pixels, part, ms)?,
        }
        if let Some(seen) = self.seen.replace(pixels) {
            pool.give(seen.samples);
        }
        Ok(())
    }

    fn prolong(&mut self, ms: u32) {
        let (at, shown) = self.last;
        self.last.1 = shown + ms;
        self.body[at + MS_AT..][..3].copy_from_slice(&self.last.1.to_le_bytes()[..3]);
    }

    fn write(&mut self, pixels: &Pixels, part: Part, ms: u32) -> Result<(), Fault> {
        let row = pixels.width as usize * 4;
        let rows = pixels.samples.chunks_exact(row).skip(part.top as usize).take(part.height as usize);
        let samples: Vec<u8> =
            rows.flat_map(|row| &row[part.left as usize * 4..][..part.width as usize * 4]).copied().collect();
        let is_transparent = samples.iter().skip(3).step_by(4).any(|&alpha| alpha != 255);
        self.has_alpha |= is_transparent;
        let still = Encoder::from_rgba(&samples, part.width, part.height)
            .encode_simple(false, self.quality)
            .map_err(|error| Fault::new(Kind::Memory, format!("the webp encoder failed: {error:?}")))?;
        let ms = ms.min(MS_MAX);
        let mut frame = Vec::with_capacity(FRAME_HEAD + still.len());
        for number in [part.left / 2, part.top / 2, part.width - 1, part.height - 1, ms] {
            frame.extend_from_slice(&number.to_le_bytes()[..3]);
        }
        frame.push(NO_BLENDING);
        for (name, payload) in chunks(&still).filter(|(name, _)| matches!(*name, b"ALPH" | b"VP8 " | b"VP8L")) {
            push_chunk(&mut frame, name, payload);
        }
        self.last = (self.body.len() + 8, ms);
        push_chunk(&mut self.body, b"ANMF", &frame);
        Ok(())
    }

    /// The file: shown `plays` times, 0 without end. `rights` is a small EXIF.
    ///
    /// # Errors
    /// [`Kind::BadImage`]: nothing was shown.
    pub fn finish(self, plays: u16, rights: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
        let Some(seen) = self.seen else { return Err(Fault::new(Kind::BadImage, "the animation has no frame")) };
        let exif = if rights.is_some() { EXIF } else { 0 };
        let alpha = if self.has_alpha { ALPHA } else { 0 };
        let header = extended_header(ANIMATION | alpha | exif, seen.width, seen.height);
        let mut parameters = Vec::new();
        push_chunk(&mut parameters, b"ANIM", &[[0; 4].as_slice(), &plays.to_le_bytes()].concat());
        let mut behind = Vec::new();
        if let Some(rights) = rights {
            push_chunk(&mut behind, b"EXIF", rights);
        }
        Ok(riff(&[&header, &parameters, &self.body, &behind]))
    }
}

/// The box in which two pictures of one size differ; it begins at even places, since those are all that a frame can say.
fn different(one: &Pixels, other: &Pixels) -> Option<Part> {
    let row = one.width as usize * 4;
    let rows = || one.samples.chunks_exact(row).zip(other.samples.chunks_exact(row));
    let differs = |(one, other): &(&[u8], &[u8])| one != other;
    let top = rows().position(|pair| differs(&pair))?;
    let bottom = rows().rposition(|pair| differs(&pair))?;
    let (mut left, mut right) = (row, 0);
    for (one, other) in rows().skip(top).take(bottom + 1 - top) {
        let pixels = || one.chunks_exact(4).zip(other.chunks_exact(4));
        if let Some(first) = pixels().position(|(one, other)| one != other) {
            left = left.min(first);
            right = right.max(pixels().rposition(|(one, other)| one != other).unwrap_or(first));
        }
    }
    let (left, top) = (left & !1, top & !1);
    let [left, top, width, height] = [left, top, right + 1 - left, bottom + 1 - top].map(|number| number as u32);
    Some(Part { left, top, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(change: impl Fn(u32, u32) -> bool) -> Pixels {
        let color = |x, y| if change(x, y) { [200, 10, 10, 255] } else { [10, 200, 10, 255] };
        let samples = (0..9).flat_map(|y| (0..11).flat_map(move |x| [(x, y)])).flat_map(|(x, y)| color(x, y)).collect();
        Pixels { width: 11, height: 9, layout: Layout::Rgba, samples }
    }

    #[test]
    fn a_frame_has_the_box_that_differs() {
        let plain = picture(|_, _| false);
        assert_eq!(different(&plain, &plain), None);
        let part = |left, top, width, height| Some(Part { left, top, width, height });
        assert_eq!(different(&plain, &picture(|x, y| (x, y) == (4, 6))), part(4, 6, 1, 1));
        assert_eq!(different(&plain, &picture(|x, y| (x, y) == (5, 7))), part(4, 6, 2, 2));
        assert_eq!(different(&plain, &picture(|x, y| (x, y) == (1, 8) || (x, y) == (10, 3))), part(0, 2, 11, 7));
    }

    #[test]
    fn what_stays_the_same_is_shown_for_longer() {
        let pool = &mut Pool::new(1 << 20);
        let mut animator = Animator::new(None);
        for (change, ms) in [(false, 100), (false, 50), (true, 70), (true, 30)] {
            animator.show(picture(|x, _| change && x == 3), ms, pool).unwrap();
        }
        let file = animator.finish(3, Some(b"II*\0\x08\0\0\0\0\0\0\0\0\0")).unwrap();
        let frames: Vec<_> = chunks(&file).filter(|(name, _)| *name == b"ANMF").collect();
        let number = |frame: &[u8], at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], 0]);
        assert_eq!(frames.iter().map(|(_, frame)| number(frame, MS_AT)).collect::<Vec<_>>(), [150, 100]);
        assert_eq!([0, 3, 6, 9].map(|at| number(frames[1].1, at)), [1, 0, 1, 8], "column 3, from column 2 on");
        let names: Vec<_> = chunks(&file).map(|(name, _)| *name).collect();
        assert_eq!(names, [*b"VP8X", *b"ANIM", *b"ANMF", *b"ANMF", *b"EXIF"]);
        assert!(Animator::new(None).finish(0, None).is_err());
    }
}
