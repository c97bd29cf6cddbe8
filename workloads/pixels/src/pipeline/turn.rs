//! Turns and mirrors a small image upright, which is cheaper than turning a large one before it is resampled.

use super::geometry::FloatBox;
use super::picture::{Picture, Planes};
use super::pixels::{Layout, Pixels, Pool};
use crate::header::Orientation;

/// Rows and columns of a square that is turned at once, so that both sides of it stay in the cache.
const SQUARE: usize = 32;

/// Whether the upright image runs against the stored one: along the stored rows, and along the stored columns.
pub fn reversed(orientation: Orientation) -> (bool, bool) {
    use Orientation::{FlipH, FlipV, Rotate90, Rotate180, Rotate270, Transverse};
    (
        matches!(orientation, FlipH | Rotate180 | Transverse | Rotate270),
        matches!(orientation, FlipV | Rotate180 | Transverse | Rotate90),
    )
}

/// A box of the upright image as it lies in the stored one, whose size is given.
pub fn stored_box(upright: FloatBox, (width, height): (u32, u32), orientation: Orientation) -> FloatBox {
    let mut at = upright;
    if orientation.swaps_sides() {
        at = FloatBox { left: at.top, top: at.left, width: at.height, height: at.width };
    }
    let (along, down) = reversed(orientation);
    if along {
        at.left = f64::from(width) - at.left - at.width;
    }
    if down {
        at.top = f64::from(height) - at.top - at.height;
    }
    at
}

/// Makes a stored image upright.
pub fn turn(picture: Picture, orientation: Orientation, pool: &mut Pool) -> Picture {
    if orientation == Orientation::Normal {
        return picture;
    }
    match picture {
        Picture::Planes(planes) => Picture::Planes(turn_planes(planes, orientation, pool)),
        Picture::Pixels(pixels) => Picture::Pixels(turn_pixels(pixels, orientation, pool)),
    }
}

fn turn_pixels(from: Pixels, orientation: Orientation, pool: &mut Pool) -> Pixels {
    let mut to = pool.take(from.samples.len());
    let (width, height) = (from.width as usize, from.height as usize);
    let (wide, high) = if orientation.swaps_sides() { (height, width) } else { (width, height) };
    let grid = Grid { width, height, stride: width, stride_to: wide, orientation };
    match from.layout {
        Layout::Gray => grid.turn::<1>(&from.samples, &mut to),
        Layout::Rgb => grid.turn::<3>(&from.samples, &mut to),
        Layout::Rgba => grid.turn::<4>(&from.samples, &mut to),
    }
    pool.give(from.samples);
    Pixels { width: wide as u32, height: high as u32, layout: from.layout, samples: to }
}

fn turn_planes(from: Planes, orientation: Orientation, pool: &mut Pool) -> Planes {
    let swapped = |(a, b): (u32, u32)| if orientation.swaps_sides() { (b, a) } else { (a, b) };
    let (width, height) = swapped((from.width, from.height));
    let mut to = Planes::take(width, height, swapped(from.subsampling), pool);
    for index in 0..3 {
        // Luma's padding stays behind.
        let (width, height) = if index == 0 { (from.width, from.height) } else { from.plane_size(index) };
        let (stride, stride_to) = (from.plane_size(index).0 as usize, to.plane_size(index).0 as usize);
        let grid = Grid { width: width as usize, height: height as usize, stride, stride_to, orientation };
        grid.turn::<1>(from.plane(index), to.plane_mut(index));
    }
    pool.give(from.samples);
    to
}

struct Grid {
    width: usize,
    height: usize,
    stride: usize,
    stride_to: usize,
    orientation: Orientation,
}

impl Grid {
    fn turn<const BYTES: usize>(&self, from: &[u8], to: &mut [u8]) {
        let swaps = self.orientation.swaps_sides();
        let (along, down) = reversed(self.orientation);
        let (from, _) = from.as_chunks::<BYTES>();
        let (to, _) = to.as_chunks_mut::<BYTES>();
        for top in (0..self.height).step_by(SQUARE) {
            for left in (0..self.width).step_by(SQUARE) {
                for y in top..(top + SQUARE).min(self.height) {
                    let y_to = if down { self.height - 1 - y } else { y };
                    for x in left..(left + SQUARE).min(self.width) {
                        let x_to = if along { self.width - 1 - x } else { x };
                        let at = if swaps { x_to * self.stride_to + y_to } else { y_to * self.stride_to + x_to };
                        to[at] = from[y * self.stride + x];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The letter F, stored as each orientation says, stands upright afterwards (EXIF 2.32, tag 0x0112).
    #[test]
    fn every_orientation_stands_upright() {
        let upright = ["##", "# ", "##", "# "];
        let stored = [
            (1, vec!["##", "# ", "##", "# "]),
            (2, vec!["##", " #", "##", " #"]),
            (3, vec![" #", "##", " #", "##"]),
            (4, vec!["# ", "##", "# ", "##"]),
            (5, vec!["####", "# # "]),
            (6, vec!["# # ", "####"]),
            (7, vec![" # #", "####"]),
            (8, vec!["####", " # #"]),
        ];
        let letters = |rows: &[&str]| rows.concat().into_bytes();
        for (tag, rows) in stored {
            let orientation = Orientation::of_tag(tag);
            let (width, height) = (rows[0].len() as u32, rows.len() as u32);
            for layout in [Layout::Gray, Layout::Rgb, Layout::Rgba] {
                let wide = |letters: Vec<u8>| letters.into_iter().flat_map(|one| vec![one; layout.bytes()]).collect();
                let samples = wide(letters(&rows));
                let from = Picture::Pixels(Pixels { width, height, layout, samples });
                let Picture::Pixels(made) = turn(from, orientation, &mut Pool::new(0)) else { panic!() };
                let wanted: Vec<u8> = wide(letters(&upright));
                assert_eq!((made.width, made.height, made.samples), (2, 4, wanted), "{tag}");
            }
        }
    }

    #[test]
    fn boxes_turn_as_pixels_do() {
        for tag in 1..=8 {
            let orientation = Orientation::of_tag(tag);
            let (width, height) = (7, 5);
            let samples: Vec<u8> = (0..width * height).map(|at| at as u8).collect();
            let stored = Pixels { width, height, layout: Layout::Gray, samples: samples.clone() };
            let Picture::Pixels(upright) = turn(Picture::Pixels(stored), orientation, &mut Pool::new(0)) else {
                panic!()
            };
            let cut = FloatBox { left: 1.0, top: 2.0, width: 2.0, height: 3.0 };
            let stored = stored_box(cut, (width, height), orientation);
            let mut seen: Vec<u8> = Vec::new();
            for y in 2..5 {
                seen.extend(&upright.samples[(y * upright.width + 1) as usize..][..2]);
            }
            let mut taken: Vec<u8> = Vec::new();
            for y in stored.top as u32..(stored.top + stored.height) as u32 {
                taken.extend(&samples[(y * width) as usize + stored.left as usize..][..stored.width as usize]);
            }
            seen.sort_unstable();
            taken.sort_unstable();
            assert_eq!(seen, taken, "{tag}");
        }
    }
}
