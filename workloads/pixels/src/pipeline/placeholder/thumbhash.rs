//! ThumbHash, as its author's encoder makes it (<https://github.com/evanw/thumbhash>, `js/thumbhash.js`).
//!
//! ```text
//!   byte    0 1 2                                        3 4                                     5             6 ...
//!   bits    6 light, 6 yellow, 6 red: their means,       3 components of the shorter side,       4 alpha's     4 each: all
//!           5 light's scale, 1 has alpha                 6 yellow's and 6 red's scale,           mean, 4 its   other waves
//!                                                        1 is landscape                          scale
//! ```
//!
//! Byte 5 is there only with alpha. Light is the mean of red, green and blue; yellow and red are what differs from blue and
//! from green.

use std::f64::consts::PI;

use super::small::Small;

/// Bytes, at most: with alpha a head of six, and half a byte for each of 14 + 5 + 5 + 14 waves; without, of five and for at
/// most 27 + 5 + 5.
pub const THUMBHASH_BYTES_MAX: usize = 25;

/// Bytes, at least: that head without alpha, and half a byte for each of 14 + 5 + 5 waves.
pub const THUMBHASH_BYTES_MIN: usize = 17;

/// Components of light along the longer side.
const LIGHT: f64 = 7.0;
/// The same where alpha needs room, too.
const LIGHT_BESIDE_ALPHA: f64 = 5.0;
/// Components of light along the shorter side, at least, and of yellow and red.
const COLOR: usize = 3;
/// Components of alpha.
const ALPHA: usize = 5;

pub(super) fn thumbhash(small: &Small) -> Vec<u8> {
    let (width, height) = (small.width as f64, small.height as f64);
    let has_alpha = small.pixels.iter().any(|[.., alpha]| *alpha < 1.0);
    let shown = over_mean(small);
    let channel = |value: fn([f64; 3]) -> f64, across, down| {
        Channel::of(small, &shown.iter().copied().map(value).collect::<Vec<f64>>(), across, down)
    };
    let longest = if has_alpha { LIGHT_BESIDE_ALPHA } else { LIGHT };
    let components = |side: f64| ((longest * side / width.max(height)).round() as usize).max(1);
    let (across, down) = (components(width), components(height));
    let light = channel(|[red, green, blue]| (red + green + blue) / 3.0, across.max(COLOR), down.max(COLOR));
    let yellow = channel(|[red, green, blue]| (red + green) / 2.0 - blue, COLOR, COLOR);
    let red = channel(|[red, green, _]| red - green, COLOR, COLOR);
    let alpha = has_alpha.then(|| {
        let alpha: Vec<f64> = small.pixels.iter().map(|[.., alpha]| *alpha).collect();
        Channel::of(small, &alpha, ALPHA, ALPHA)
    });

    let is_landscape = width > height;
    let head = steps(light.mean, 63.0)
        | signed_steps(yellow.mean) << 6
        | signed_steps(red.mean) << 12
        | steps(light.scale, 31.0) << 18
        | u32::from(has_alpha) << 23;
    let shorter = if is_landscape { down } else { across } as u32;
    let more = shorter | steps(yellow.scale, 63.0) << 3 | steps(red.scale, 63.0) << 9 | u32::from(is_landscape) << 15;
    let mut hash = [&head.to_le_bytes()[..3], &more.to_le_bytes()[..2]].concat();
    if let Some(alpha) = &alpha {
        hash.push((steps(alpha.mean, 15.0) | steps(alpha.scale, 15.0) << 4) as u8);
    }
    let channels = [Some(light), Some(yellow), Some(red), alpha].into_iter().flatten();
    let waves: Vec<u8> = channels.flat_map(|channel| channel.waves).map(|wave| steps(wave, 15.0) as u8).collect();
    hash.extend(waves.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |high| high << 4)));
    hash
}

/// Red, green and blue as they look over the picture's own mean colour, so that what is not seen makes no waves.
fn over_mean(small: &Small) -> Vec<[f64; 3]> {
    let (mut mean, mut seen) = ([0.0; 3], 0.0);
    for [red, green, blue, alpha] in &small.pixels {
        seen += alpha;
        mean.iter_mut().zip([red, green, blue]).for_each(|(mean, color)| *mean += alpha * color);
    }
    if seen > 0.0 {
        mean = mean.map(|sum| sum / seen);
    }
    let over = |&[red, green, blue, alpha]: &[f64; 4]| {
        let over = |color: f64, mean: f64| mean * (1.0 - alpha) + alpha * color;
        [over(red, mean[0]), over(green, mean[1]), over(blue, mean[2])]
    };
    small.pixels.iter().map(over).collect()
}

/// One channel's frequencies.
struct Channel {
    mean: f64,
    /// The largest magnitude of a wave.
    scale: f64,
    /// From 0 to 1, in the hash's order.
    waves: Vec<f64>,
}

impl Channel {
    /// The triangle of frequencies below `across` and `down`.
    fn of(small: &Small, values: &[f64], across: usize, down: usize) -> Channel {
        let (mut mean, mut scale, mut waves) = (0.0, 0.0_f64, Vec::new());
        for vertical in 0..down {
            let rows = cosine(vertical, small.height);
            for horizontal in (0_usize..).take_while(|horizontal| horizontal * down < across * (down - vertical)) {
                let columns = cosine(horizontal, small.width);
                let along = |row: &[f64]| row.iter().zip(&columns).map(|(value, wave)| value * wave).sum::<f64>();
                let sum: f64 = values.chunks_exact(small.width).zip(&rows).map(|(row, wave)| along(row) * wave).sum();
                let strength = sum / values.len() as f64;
                match (horizontal, vertical) {
                    (0, 0) => mean = strength,
                    _ => {
                        scale = scale.max(strength.abs());
                        waves.push(strength);
                    }
                }
            }
        }
        if scale > 0.0 {
            waves.iter_mut().for_each(|wave| *wave = 0.5 + 0.5 / scale * *wave);
        }
        Channel { mean, scale, waves }
    }
}

/// A wave at the middles of a side's samples.
fn cosine(frequency: usize, side: usize) -> Vec<f64> {
    (0..side).map(|at| (PI / side as f64 * frequency as f64 * (at as f64 + 0.5)).cos()).collect()
}

/// What goes from 0 to 1, in so many steps.
fn steps(value: f64, most: f64) -> u32 {
    (value * most).round().clamp(0.0, most) as u32
}

/// What goes from -1 to 1, in 63 steps.
fn signed_steps(value: f64) -> u32 {
    (31.5 + 31.5 * value).round().clamp(0.0, 63.0) as u32
}

#[cfg(test)]
mod tests {
    use super::super::small::tests::picture;
    use super::*;
    use crate::pipeline::picture::Picture;
    use crate::pipeline::pixels::{Layout, Pixels};
    use crate::pipeline::trial::Never;

    fn hash(picture: &Picture) -> Vec<u8> {
        thumbhash(&Small::of(picture, &Never).unwrap())
    }

    /// A picture without symmetry: a wave that is nothing is halfway between two steps, where the last bit of a cosine decides.
    fn patches(width: u32, height: u32, layout: Layout) -> Picture {
        let mut samples = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let rgb = [(x * x + 3 * y + 40) % 256, (5 * x + y * y * 7 + 90) % 251, (x * 7 + y * 13 + x * y) % 256];
                let alpha = (layout == Layout::Rgba).then_some((x * x * 2 + y * 9 + 30) % 256);
                samples.extend(rgb.into_iter().chain(alpha).map(|value| value as u8));
            }
        }
        Picture::Pixels(Pixels { width, height, layout, samples })
    }

    /// `rgbaToThumbHash` of the author's package (npm, `thumbhash` 0.1.1) makes these of the same pixels.
    #[test]
    fn hashes_are_those_of_its_author() {
        for (width, height, layout, expected) in [
            (64, 48, Layout::Rgb, "2008020d84ea44574606366665568875fa65775092"),
            (20, 60, Layout::Rgb, "6108060a065a0431775777857e05830964"),
            (64, 64, Layout::Rgb, "2008020f02f9887866164457567877577877a66f671a0407"),
            (40, 30, Layout::Rgba, "2008820c8407091278656669e8028370547677777807018b03"),
            (30, 41, Layout::Rgba, "61f8810c0207096142778b66f730007170655684895744020a"),
            (2, 3, Layout::Rgb, "ce891d0d0477088778888888888788077c7f9bf858"),
            (7, 1, Layout::Rgb, "cf991d719a8687878888087988887078f8"),
            (64, 9, Layout::Rgb, "dff705098465504576387568dbfe066173"),
        ] {
            let hash = hash(&patches(width, height, layout));
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{width}x{height}");
        }
    }

    #[test]
    fn every_shape_stays_within_the_limits() {
        let (mut shortest, mut longest) = (usize::MAX, 0);
        for (width, height) in (1..=64).map(|side| (64, side)).chain((1..64).map(|side| (side, 64))) {
            for layout in [Layout::Gray, Layout::Rgb, Layout::Rgba] {
                let hash = hash(&picture(width, height, layout));
                assert_eq!((hash[2] >> 7 == 1, hash[4] >> 7 == 1), (layout == Layout::Rgba, width > height));
                (shortest, longest) = (shortest.min(hash.len()), longest.max(hash.len()));
            }
        }
        assert_eq!((shortest, longest), (THUMBHASH_BYTES_MIN, THUMBHASH_BYTES_MAX));
    }

    #[test]
    fn nothing_to_see_is_a_hash_too() {
        let none = Pixels { width: 80, height: 20, layout: Layout::Rgba, samples: vec![0; 80 * 20 * 4] };
        let hash = hash(&Picture::Pixels(none));
        // Black, level, and transparent everywhere.
        assert_eq!((hash[0] & 63, hash[5]), (0, 0));
    }
}
