//! What is seen of an animation: its frames so far, one over the other.

use crate::pipeline::adjust::drop_opaque_alpha;
use crate::pipeline::pixels::{Layout, Pixels, Pool};

/// A frame was put on the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// How long it is seen, in milliseconds.
    pub(super) ms: u32,
}

/// Where a frame lies, in pixels; it may stand over the canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What becomes of a frame when the next one comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposal {
    /// It stays.
    Keep,
    /// Where it was there is nothing.
    Clear,
    /// What was there before it comes back.
    Restore,
}

/// Red, green, blue and alpha of what is seen.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    samples: Vec<u8>,
    /// What happens before the next frame.
    due: (Disposal, Area),
    /// What a frame has covered that will come back.
    covered: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32, pool: &mut Pool) -> Canvas {
        let (width, height) = (width as usize, height as usize);
        let mut samples = pool.take(width * height * 4);
        samples.fill(0);
        Canvas { width, height, samples, due: (Disposal::Keep, Area::default()), covered: Vec::new() }
    }

    pub(super) fn give(self, pool: &mut Pool) {
        pool.give(self.samples);
    }

    /// Pixels along and down.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Puts a frame's pixels (red, green, blue, alpha) where they belong: over what is there, or in its place.
    pub(super) fn put(&mut self, frame: &[u8], area: Area, over: bool, disposal: Disposal) {
        self.dispose();
        if disposal == Disposal::Restore {
            self.covered.clear();
            self.covered.extend_from_slice(&self.samples);
        }
        let visible = area.width.min(self.width.saturating_sub(area.left)) * 4;
        let rows = self.samples.chunks_exact_mut(self.width * 4).skip(area.top);
        for (to, from) in rows.zip(frame.chunks_exact(area.width.max(1) * 4)).filter(|_| visible > 0) {
            let to = &mut to[area.left * 4..][..visible];
            match over {
                false => to.copy_from_slice(&from[..visible]),
                true => to.chunks_exact_mut(4).zip(from.chunks_exact(4)).for_each(|(to, from)| blend(to, from)),
            }
        }
        self.due = (disposal, area);
    }

    fn dispose(&mut self) {
        let (disposal, area) = self.due;
        match disposal {
            Disposal::Keep => {}
            Disposal::Clear => {
                let visible = area.width.min(self.width.saturating_sub(area.left)) * 4;
                let rows = self.samples.chunks_exact_mut(self.width * 4).skip(area.top).take(area.height);
                rows.filter(|_| visible > 0).for_each(|row| row[area.left * 4..][..visible].fill(0));
            }
            Disposal::Restore => self.samples.copy_from_slice(&self.covered),
        }
    }

    /// What is seen now, in memory of its own.
    pub(super) fn seen(&self, pool: &mut Pool) -> Pixels {
        let mut samples = pool.take(self.samples.len());
        samples.copy_from_slice(&self.samples);
        let (width, height) = (self.width as u32, self.height as u32);
        let mut pixels = Pixels { width, height, layout: Layout::Rgba, samples };
        drop_opaque_alpha(&mut pixels);
        pixels
    }
}

/// Lays a pixel over another; neither is premultiplied (RFC 9649 section 2.7.1.1).
fn blend(to: &mut [u8], from: &[u8]) {
    let (above, below) = (u32::from(from[3]), u32::from(to[3]));
    match above {
        255 => to.copy_from_slice(from),
        0 => {}
        _ => {
            let shines_through = below * (255 - above) / 255;
            let alpha = above + shines_through;
            for (to, from) in to.iter_mut().zip(from).take(3) {
                *to = ((u32::from(*from) * above + u32::from(*to) * shines_through + alpha / 2) / alpha) as u8;
            }
            to[3] = alpha as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [u8; 4] = [255, 0, 0, 255];
    const BLUE: [u8; 4] = [0, 0, 255, 255];
    const NOTHING: [u8; 4] = [0; 4];

    fn area(left: usize, top: usize, width: usize, height: usize) -> Area {
        Area { left, top, width, height }
    }

    fn canvas() -> Canvas {
        let mut canvas = Canvas::new(2, 2, &mut Pool::new(0));
        canvas.put(&RED.repeat(4), area(0, 0, 2, 2), false, Disposal::Keep);
        canvas
    }

    #[test]
    fn frames_stay_go_or_give_back_what_they_covered() {
        let after = |disposal| {
            let mut canvas = canvas();
            canvas.put(&BLUE, area(1, 1, 1, 1), false, disposal);
            assert_eq!(canvas.samples, [RED, RED, RED, BLUE].concat());
            canvas.put(&BLUE, area(0, 0, 1, 1), false, Disposal::Keep);
            canvas.samples
        };
        assert_eq!(after(Disposal::Keep), [BLUE, RED, RED, BLUE].concat());
        assert_eq!(after(Disposal::Clear), [BLUE, RED, RED, NOTHING].concat());
        assert_eq!(after(Disposal::Restore), [BLUE, RED, RED, RED].concat());
    }

    #[test]
    fn what_stands_over_is_cut_off() {
        for place in [area(1, 1, 3, 3), area(2, 0, 1, 1), area(0, 2, 2, 2), area(9, 9, 2, 2)] {
            let mut canvas = canvas();
            canvas.put(&BLUE.repeat(place.width * place.height), place, true, Disposal::Clear);
            assert_eq!(canvas.samples[..12], [RED, RED, RED].concat()[..], "{place:?}");
            canvas.put(&[], area(0, 0, 0, 0), true, Disposal::Keep);
            assert_eq!(canvas.samples[..12], [RED, RED, RED].concat()[..], "{place:?}");
        }
    }

    #[test]
    fn what_is_seen_through_is_mixed() {
        let mut canvas = canvas();
        canvas.put(&[0, 0, 255, 128].repeat(4), area(0, 0, 2, 2), true, Disposal::Keep);
        assert_eq!(canvas.samples[..4], [127, 0, 128, 255]);
        let mut empty = Canvas::new(1, 1, &mut Pool::new(0));
        empty.put(&[9, 9, 9, 128], area(0, 0, 1, 1), true, Disposal::Keep);
        assert_eq!(empty.samples, [9, 9, 9, 128]);
        empty.put(&NOTHING, area(0, 0, 1, 1), true, Disposal::Keep);
        assert_eq!(empty.samples, [9, 9, 9, 128]);
    }
}
