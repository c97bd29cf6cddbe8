//! Where a cut-out lies that finds its own place (`g:sm`): where there is most to see.
//!
//! ```text
//!   decoded picture ─► some thousand samples ─► score of each ─► turned as it will be seen ─► sums ─► the best window
//!   (planes, pixels)   at most 128 a side       what catches      one per orientation         of all     of the wanted
//!                                               the eye                                       to the     size
//!                                                                                             upper left
//! ```
//!
//! What counts is taken from where it proved itself, and put together anew. Detail is the Laplacian of lightness, as in
//! libvips' "attention" and in smartcrop.js. Skin and strong colours count, as in both, but mostly where there is detail,
//! which is smartcrop.js' idea: a face has edges, and a painted wall has none. Skin is a box of two colour differences (Chai
//! and Ngan 1999), because a JPEG has these already; it counts most, as in smartcrop.js. What is unlike the picture's mean
//! colour counts (Achanta and others 2009), so that a plain thing on a plain ground is found. A window is worth the sum of
//! what lies in it, its middle twice, so that things come to lie in the middle; and a little less the further it is from the
//! middle of the picture.
//!
//! Everything is whole numbers and the same whichever way the picture lies: samples lie mirrored in mirrored pictures, sums do
//! not depend on their order. So works stay addressable by content, and a picture that is stored turned is cut as the same
//! one stored upright, as far as its format decodes both to the same samples.

use super::geometry::FloatBox;
use super::picture::{Picture, Planes};
use super::pixels::{Layout, Pixels, Pool};
use super::turn::turn;
use crate::header::Orientation;

/// Scores along the longer side.
const SIDE: u32 = 128;
/// Pixels that are looked at for a score, along each axis.
const POINTS: u32 = 3;
/// Bytes at the peak, for the prediction: four sums of a score, the scores twice, and their sums.
pub const BYTES_MAX: u64 = (SIDE * SIDE) as u64 * (4 * 4 + 2) + ((SIDE + 1) * (SIDE + 1)) as u64 * 4;
/// Detail below this is noise.
const DETAIL_MIN: i32 = 8;
/// How much more than the middle there must be to see elsewhere, or the middle it is: one part in so many.
const LEAD: u64 = 20;
/// How much a window loses of its worth per axis at the edge of the picture: one part in so many.
const PULL: u64 = 32;

/// How much there is to see, as stored: a score of 0 to 255 for each part of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    width: u32,
    height: u32,
    scores: Vec<u8>,
}

/// The same, turned and ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    width: usize,
    height: usize,
    /// Of all scores above and to the left; one more column and row than there are scores.
    sums: Vec<u32>,
}

impl Sight {
    /// Looks at a decoded picture, as it is stored and with alpha not premultiplied.
    pub fn of(picture: &Picture) -> Sight {
        let (width, height) = sides(picture.width(), picture.height());
        let grid = match picture {
            Picture::Planes(planes) => {
                let planes = [0, 1, 2].map(|index| Plane::of(planes, index));
                grid(width, height, picture, |x, y| of_planes(&planes, x, y))
            }
            Picture::Pixels(pixels) => grid(width, height, picture, |x, y| of_pixels(pixels, x, y)),
        };
        Sight { width, height, scores: scores(width as usize, height as usize, &grid) }
    }

    /// As it is seen after this turn.
    pub fn seen(&self, orientation: Orientation, pool: &mut Pool) -> Seen {
        let mut samples = pool.take(self.scores.len());
        samples.copy_from_slice(&self.scores);
        let stored = Pixels { width: self.width, height: self.height, layout: Layout::Gray, samples };
        let turned = turn(Picture::Pixels(stored), orientation, pool);
        let (width, height) = (turned.width() as usize, turned.height() as usize);
        let mut sums = vec![0u32; (width + 1) * (height + 1)];
        if let Picture::Pixels(pixels) = &turned {
            for (y, row) in pixels.samples.chunks_exact(width).enumerate() {
                let mut along = 0;
                for (x, &score) in row.iter().enumerate() {
                    along += u32::from(score);
                    sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + along;
                }
            }
        }
        turned.give(pool);
        Seen { width, height, sums }
    }
}

impl Seen {
    /// Where a window of the size `inner` lies best within `outer`, both in pixels of a picture that is `view` pixels large: the
    /// shares of what is left over that are to the left of it and above it. `None` where nothing speaks against the middle.
    pub fn best(&self, view: (u32, u32), outer: FloatBox, inner: (f64, f64)) -> Option<(f64, f64)> {
        let across = Axis::new(self.width, view.0, outer.left, outer.width, inner.0);
        let down = Axis::new(self.height, view.1, outer.top, outer.height, inner.1);
        let middle = across.middle().flat_map(|x| down.middle().map(move |y| (x, y)));
        let middle = middle.map(|(x, y)| self.worth(&across, x, &down, y)).max()?;
        let mut best = (0, 0, 0);
        for y in 0..=down.spare {
            for x in 0..=across.spare {
                let pulled = self.worth(&across, x, &down, y) * (PULL * 1024 - across.offset(x) - down.offset(y));
                if pulled > best.0 {
                    best = (pulled, x, y);
                }
            }
        }
        let (_, x, y) = best;
        let found = self.worth(&across, x, &down, y);
        (found > middle + middle / LEAD).then(|| (across.share(x), down.share(y)))
    }

    /// What is to be seen in a window, its middle counted twice.
    fn worth(&self, across: &Axis, x: usize, down: &Axis, y: usize) -> u64 {
        let sum = |inset: (usize, usize)| {
            let (left, right) = (across.start + x + inset.0, across.start + x + across.window - inset.0);
            let (top, bottom) = (down.start + y + inset.1, down.start + y + down.window - inset.1);
            let at = |x: usize, y: usize| u64::from(self.sums[y * (self.width + 1) + x]);
            at(right, bottom) + at(left, top) - at(right, top) - at(left, bottom)
        };
        sum((0, 0)) + sum((across.window / 4, down.window / 4))
    }
}

/// One axis of a search, in scores.
struct Axis {
    start: usize,
    window: usize,
    /// Places that the window can move by.
    spare: usize,
}

impl Axis {
    fn new(side: usize, view: u32, start: f64, len: f64, inner: f64) -> Axis {
        let scale = side as f64 / f64::from(view);
        // Outwards, but not for what a sum of fractions is off by.
        let first = ((start * scale + 1e-6).floor() as usize).min(side - 1);
        let end = (((start + len) * scale - 1e-6).ceil() as usize).clamp(first + 1, side);
        let window = ((inner * scale).round() as usize).clamp(1, end - first);
        Axis { start: first, window, spare: end - first - window }
    }

    /// The place in the middle, or the two around it.
    fn middle(&self) -> impl Iterator<Item = usize> + use<> {
        self.spare / 2..=self.spare.div_ceil(2)
    }

    /// How far from the middle, squared: 0 to 1024.
    fn offset(&self, at: usize) -> u64 {
        let (from_middle, most) = ((2 * at).abs_diff(self.spare) as u64, self.spare.max(1) as u64);
        from_middle * from_middle * 1024 / (most * most)
    }

    fn share(&self, at: usize) -> f64 {
        if self.spare == 0 { 0.5 } else { at as f64 / self.spare as f64 }
    }
}

/// Scores along and down: square parts, an even number of them where there are several, so that the middle is between two.
fn sides(width: u32, height: u32) -> (u32, u32) {
    let longer = width.max(height);
    let side = |side: u32| {
        let scaled = u64::from(side) * u64::from(longer.min(SIDE)) / u64::from(longer.max(1));
        (scaled as u32 & !1).max(1)
    };
    (side(width), side(height))
}

/// Where the points lie along a side, the same from both ends.
fn points(count: u32, side: u32) -> Vec<u32> {
    let from_start = |at: u32| ((2 * u64::from(at) + 1) * u64::from(side) / (2 * u64::from(count))) as u32;
    let place = |at: u32| match at < count.div_ceil(2) {
        true => from_start(at),
        false => side - 1 - from_start(count - 1 - at),
    };
    (0..count).map(place).collect()
}

/// Lightness, blue and red difference, and opacity, 0 to 255, in the mean of each part. What is transparent is grey.
fn grid(width: u32, height: u32, picture: &Picture, sample: impl Fn(usize, usize) -> [i32; 4]) -> Vec<[i32; 4]> {
    let per_part = |parts: u32, side: u32| (side / parts).clamp(1, POINTS);
    let (along, down) = (per_part(width, picture.width()), per_part(height, picture.height()));
    let (columns, rows) = (points(width * along, picture.width()), points(height * down, picture.height()));
    let mut sums = vec![[0; 4]; (width * height) as usize];
    for (row, &y) in rows.iter().enumerate() {
        let to = &mut sums[row / down as usize * width as usize..][..width as usize];
        for (part, columns) in to.iter_mut().zip(columns.chunks_exact(along as usize)) {
            for &x in columns {
                let sample = sample(x as usize, y as usize);
                part.iter_mut().zip(sample).for_each(|(sum, sample)| *sum += sample);
            }
        }
    }
    let count = (along * down) as i32;
    sums.iter_mut().flatten().for_each(|sum| *sum = (*sum + count / 2) / count);
    sums
}

struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    /// Pixels per sample along and down, as powers of two.
    shifts: (u32, u32),
}

impl Plane<'_> {
    fn of(planes: &Planes, index: usize) -> Plane<'_> {
        let (along, down) = planes.plane_subsampling(index);
        Plane {
            samples: planes.plane(index),
            stride: planes.plane_size(index).0 as usize,
            shifts: (along.trailing_zeros(), down.trailing_zeros()),
        }
    }
}

fn of_planes(planes: &[Plane<'_>; 3], x: usize, y: usize) -> [i32; 4] {
    let [lightness, to_blue, to_red] = [0, 1, 2].map(|index: usize| {
        let Plane { samples, stride, shifts } = &planes[index];
        i32::from(samples[(y >> shifts.1) * stride + (x >> shifts.0)])
    });
    [lightness, to_blue, to_red, 255]
}

fn of_pixels(pixels: &Pixels, x: usize, y: usize) -> [i32; 4] {
    let bytes = pixels.layout.bytes();
    let pixel = &pixels.samples[(y * pixels.width as usize + x) * bytes..][..bytes];
    match *pixel {
        [grey] => [i32::from(grey), 128, 128, 255],
        [red, green, blue] => differences([red, green, blue].map(i32::from), 255),
        [red, green, blue, alpha] => differences([red, green, blue].map(i32::from), i32::from(alpha)),
        _ => [128, 128, 128, 0],
    }
}

/// BT.601 as JFIF has it, in 1024ths, laid on grey as far as it is transparent.
fn differences([red, green, blue]: [i32; 3], alpha: i32) -> [i32; 4] {
    let lightness = (306 * red + 601 * green + 117 * blue) / 1024 - 128;
    let (to_blue, to_red) =
        ((-173 * red - 339 * green + 512 * blue) / 1024, (512 * red - 429 * green - 83 * blue) / 1024);
    let [lightness, to_blue, to_red] = [lightness, to_blue, to_red].map(|sample| 128 + sample * alpha / 255);
    [lightness, to_blue, to_red, alpha]
}

fn scores(width: usize, height: usize, grid: &[[i32; 4]]) -> Vec<u8> {
    let opacity: i64 = grid.iter().map(|part| i64::from(part[3])).sum();
    let mean = [0, 1, 2].map(|channel| {
        let sum: i64 = grid.iter().map(|part| i64::from(part[channel]) * i64::from(part[3])).sum();
        (sum / opacity.max(1)) as i32
    });
    let is_transparent = grid.iter().any(|part| part[3] < 255);
    let lightness = |x: usize, y: usize| grid[y * width + x][0];
    let score = |at: usize| {
        let (x, y) = (at % width, at / width);
        let part = grid[at];
        let around = lightness(x.saturating_sub(1), y)
            + lightness((x + 1).min(width - 1), y)
            + lightness(x, y.saturating_sub(1))
            + lightness(x, (y + 1).min(height - 1));
        let detail = (4 * part[0] - around).abs().min(255);
        let detail = if detail < DETAIL_MIN { 0 } else { detail };
        let unlike = [0, 1, 2].map(|channel| (part[channel] - mean[channel]).abs());
        let unlike = (unlike[0] / 2 + unlike[1] + unlike[2]).min(255);
        let (skin, colour) = (skin(part), colour(part));
        // Nothing at all is less to see than anything.
        let presence = if is_transparent { part[3] / 16 } else { 0 };
        let score = detail * (64 + unlike / 2 + 4 * skin + colour / 2) / 256 + (unlike + 2 * skin) / 16 + presence;
        (score.min(255) * part[3] / 255) as u8
    };
    (0..width * height).map(score).collect()
}

/// How much this is like skin, 0 to 128: the colour differences of all complexions lie in 77 to 127 and 133 to 173.
fn skin([lightness, to_blue, to_red, _]: [i32; 4]) -> i32 {
    if !(40..=240).contains(&lightness) {
        return 0;
    }
    let off = ((to_blue - 102).abs() * 128 / 26).max((to_red - 153).abs() * 128 / 21);
    (128 - off).max(0)
}

/// How strong its colour is, 0 to 128.
fn colour([lightness, to_blue, to_red, _]: [i32; 4]) -> i32 {
    let strength = (to_blue - 128).abs().max((to_red - 128).abs()) - 16;
    if (20..=240).contains(&lightness) { (strength * 2).clamp(0, 128) } else { 0 }
}

#[cfg(test)]
mod tests;
