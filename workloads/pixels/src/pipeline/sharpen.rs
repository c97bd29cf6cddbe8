//! An unsharp mask on lightness, with the curve of libvips' `sharpen`: flat areas, where it would only raise noise, are
//! left alone, and how far an edge may overshoot is limited. Colour is not touched, so that no edge gets a coloured rim.
//!
//! Sixteen-bit integers throughout: compilers make vector code of every loop here.

use super::Watch;
use super::picture::{Picture, Planes};
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::Fault;
use crate::options::SHARPEN_SIGMA_MAX;

/// Differences are counted in 1/128 of a sample.
const ONE: f32 = 128.0;
/// A step of CIE lightness in samples.
const LIGHTNESS: f32 = 2.55;
/// Differences below this many steps of lightness stay as they are (libvips' x1).
const FLAT: u16 = (2.0 * LIGHTNESS * ONE) as u16;
/// How much a difference beyond is raised (libvips' m2).
const SLOPE: u16 = 3;
/// The most that is added, and taken (libvips' y2, y3).
const BRIGHTER_MAX: u16 = (10.0 * LIGHTNESS * ONE) as u16;
const DARKER_MAX: u16 = (20.0 * LIGHTNESS * ONE) as u16;
/// Rows between two looks at the watch.
const BAND_ROWS: usize = 256;

/// Sharpens, into fresh memory of the pool: the cascade goes on with the original.
///
/// # Errors
/// The watch's.
pub fn sharpen(from: &Picture, sigma: f32, pool: &mut Pool, watch: &dyn Watch) -> Result<Picture, Fault> {
    let mut mask = Mask::new(sigma);
    match from {
        Picture::Planes(planes) => sharpen_planes(planes, &mut mask, pool, watch).map(Picture::Planes),
        Picture::Pixels(pixels) => sharpen_pixels(pixels, &mut mask, pool, watch).map(Picture::Pixels),
    }
}

fn sharpen_planes(from: &Planes, mask: &mut Mask, pool: &mut Pool, watch: &dyn Watch) -> Result<Planes, Fault> {
    let mut to = Planes { samples: pool.take(from.samples.len()), ..*from };
    let luma = from.plane(0).len();
    to.samples[luma..].copy_from_slice(&from.samples[luma..]);
    let stride = from.plane_size(0).0 as usize;
    let (width, height) = (from.width as usize, from.height as usize);
    let source = from.plane(0);
    for (y, row) in to.plane_mut(0).chunks_exact_mut(stride).take(height).enumerate() {
        if y % BAND_ROWS == 0 {
            watch.check()?;
        }
        // Not the padding: nobody has written there yet.
        let delta = mask.row(source, stride, (width, height), y);
        let original = &source[y * stride..][..width];
        for ((to, &from), &delta) in row.iter_mut().zip(original).zip(delta) {
            *to = raised(from, delta);
        }
    }
    Ok(to)
}

fn sharpen_pixels(from: &Pixels, mask: &mut Mask, pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    let (width, height, bytes) = (from.width as usize, from.height as usize, from.layout.bytes());
    let colours = bytes.min(3);
    let mut luma = pool.take(width * height);
    for (luma, pixel) in luma.iter_mut().zip(from.samples.chunks_exact(bytes)) {
        *luma = if from.layout == Layout::Gray { pixel[0] } else { lightness(pixel[0], pixel[1], pixel[2]) };
    }
    let mut samples = pool.take(from.samples.len());
    samples.copy_from_slice(&from.samples);
    for (y, row) in samples.chunks_exact_mut(width * bytes).enumerate() {
        if y % BAND_ROWS == 0 {
            watch.check()?;
        }
        for (pixel, &delta) in row.chunks_exact_mut(bytes).zip(mask.row(&luma, width, (width, height), y)) {
            pixel[..colours].iter_mut().for_each(|sample| *sample = raised(*sample, delta));
        }
    }
    pool.give(luma);
    Ok(Pixels { samples, ..*from })
}

/// Luma of BT.601, as JPEG has it.
#[inline]
fn lightness(red: u8, green: u8, blue: u8) -> u8 {
    ((19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 32_768) >> 16) as u8
}

#[inline]
fn raised(sample: u8, delta: i16) -> u8 {
    (((i16::from(sample) << 7).saturating_add(delta).saturating_add(64)) >> 7).max(0) as u8
}

/// The Gaussian, and a row's room.
struct Mask {
    /// From the middle outwards; the middle once and the others twice are 65,535.
    taps: Vec<u16>,
    /// A row blurred down its columns, with its edges repeated to both sides; 256 to a sample.
    column: Vec<u16>,
    blurred: Vec<u16>,
    delta: Vec<i16>,
}

impl Mask {
    fn new(sigma: f32) -> Mask {
        let sigma = sigma.min(SHARPEN_SIGMA_MAX);
        let at = |x: usize| (-((x * x) as f32) / (2.0 * sigma * sigma)).exp();
        // As libvips: taps below a tenth of the middle one are left out.
        let reach = (1..).take_while(|&x| at(x) >= 0.1).count();
        let sum: f32 = 1.0 + 2.0 * (1..=reach).map(at).sum::<f32>();
        let mut taps: Vec<u16> = (0..=reach).map(|x| (at(x) / sum * 65_535.0).round() as u16).collect();
        let beside: u32 = taps[1..].iter().map(|&tap| 2 * u32::from(tap)).sum();
        taps[0] = (65_535 - beside) as u16;
        Mask { taps, column: Vec::new(), blurred: Vec::new(), delta: Vec::new() }
    }

    /// What is to be added to row `y`, in 1/128 of a sample.
    fn row(&mut self, source: &[u8], stride: usize, (width, height): (usize, usize), y: usize) -> &[i16] {
        let reach = self.taps.len() - 1;
        self.column.resize(width + 2 * reach, 0);
        self.blurred.resize(width, 0);
        self.delta.resize(width, 0);
        let row = |y: usize| &source[y * stride..][..width];
        let column = &mut self.column[reach..][..width];
        weigh(column, row(y).iter().map(|&sample| u16::from(sample) << 8), self.taps[0]);
        for (distance, &tap) in self.taps.iter().enumerate().skip(1) {
            let (above, below) = (row(y.saturating_sub(distance)), row((y + distance).min(height - 1)));
            let both = above.iter().zip(below).map(|(&above, &below)| (u16::from(above) + u16::from(below)) << 7);
            add(column, both, tap);
        }
        let (left, right) = (column[0], column[width - 1]);
        self.column[..reach].fill(left);
        self.column[reach + width..].fill(right);
        weigh(&mut self.blurred, self.column[reach..].iter().copied(), self.taps[0]);
        for (distance, &tap) in self.taps.iter().enumerate().skip(1) {
            let (left, right) = (&self.column[reach - distance..], &self.column[reach + distance..]);
            let both = left.iter().zip(right).map(|(&left, &right)| (left >> 1) + (right >> 1));
            add(&mut self.blurred, both, tap);
        }
        for ((delta, &blurred), &sample) in self.delta.iter_mut().zip(&self.blurred).zip(row(y)) {
            *delta = curve((i16::from(sample) << 7) - (blurred >> 1) as i16);
        }
        &self.delta
    }
}

fn weigh(sums: &mut [u16], samples: impl Iterator<Item = u16>, tap: u16) {
    sums.iter_mut().zip(samples).for_each(|(sum, sample)| *sum = share(sample, tap));
}

/// Adds a tap of both sides; `both` is their mean.
fn add(sums: &mut [u16], both: impl Iterator<Item = u16>, tap: u16) {
    let twice = tap.saturating_mul(2);
    sums.iter_mut().zip(both).for_each(|(sum, mean)| *sum += share(mean, twice));
}

#[inline]
fn share(sample: u16, tap: u16) -> u16 {
    ((u32::from(sample) * u32::from(tap)) >> 16) as u16
}

#[inline]
fn curve(difference: i16) -> i16 {
    let beyond = difference.unsigned_abs().saturating_sub(FLAT);
    let up = (beyond.min(BRIGHTER_MAX / SLOPE) * SLOPE) as i16;
    let down = (beyond.min(DARKER_MAX / SLOPE) * SLOPE) as i16;
    if difference < 0 { -down } else { up }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Patient;
    impl Watch for Patient {
        fn check(&self) -> Result<(), Fault> {
            Ok(())
        }
    }

    fn gray(width: u32, height: u32, sample: impl Fn(u32, u32) -> u8) -> Pixels {
        let samples = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| sample(x, y)).collect();
        Pixels { width, height, layout: Layout::Gray, samples }
    }

    fn sharpened(from: Pixels, sigma: f32) -> Vec<u8> {
        let made = sharpen(&Picture::Pixels(from), sigma, &mut Pool::new(1 << 20), &Patient).unwrap();
        let Picture::Pixels(made) = made else { panic!("pixels stay pixels") };
        made.samples
    }

    #[test]
    fn what_lies_in_the_padding_does_not_matter() {
        let made = [0, 255].map(|padding| {
            let mut planes = Planes::take(5, 4, (2, 2), &mut Pool::new(0));
            planes.samples.fill(128);
            for row in planes.plane_mut(0).chunks_exact_mut(6) {
                row.copy_from_slice(&[10, 200, 30, 90, 240, padding]);
            }
            let made = sharpen(&Picture::Planes(planes), 1.5, &mut Pool::new(0), &Patient).unwrap();
            let Picture::Planes(mut made) = made else { panic!("planes stay planes") };
            made.pad();
            made.samples
        });
        assert_eq!(made[0], made[1]);
    }

    /// The same in floating point.
    fn reference(from: &Pixels, sigma: f64) -> Vec<f64> {
        let at = |x: i64| (-((x * x) as f64) / (2.0 * sigma * sigma)).exp();
        let reach = (1..).take_while(|&x| at(x) >= 0.1).count() as i64;
        let sum: f64 = (-reach..=reach).map(at).sum();
        let (width, height) = (i64::from(from.width), i64::from(from.height));
        let sample =
            |x: i64, y: i64| f64::from(from.samples[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize]);
        let mut out = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let mut blurred = 0.0;
                for b in -reach..=reach {
                    for a in -reach..=reach {
                        blurred += at(a) * at(b) / sum / sum * sample(x + a, y + b);
                    }
                }
                let difference = sample(x, y) - blurred;
                let beyond = (difference.abs() - 5.1).max(0.0) * 3.0;
                let delta = if difference < 0.0 { -beyond.min(51.0) } else { beyond.min(25.5) };
                out.push((sample(x, y) + delta).clamp(0.0, 255.0));
            }
        }
        out
    }

    #[test]
    fn agrees_with_floating_point() {
        let mut state = 7u32;
        let noise: Vec<u8> = (0..61 * 37)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let from = gray(61, 37, |x, y| noise[(y * 61 + x) as usize]);
        for sigma in [0.5, 1.0, 2.5] {
            let exact = reference(&from, f64::from(sigma));
            for (ours, exact) in sharpened(from.clone(), sigma).into_iter().zip(exact) {
                assert!((f64::from(ours) - exact).abs() < 1.0, "sigma {sigma}: {ours} {exact}");
            }
        }
    }

    #[test]
    fn flat_areas_and_faint_noise_are_left_alone_and_edges_overshoot_within_limits() {
        for value in [0, 1, 128, 255] {
            let flat = gray(20, 20, |_, _| value);
            assert_eq!(sharpened(flat.clone(), 1.0), flat.samples);
        }
        let faint = gray(20, 20, |x, y| 100 + ((x + y) % 2 * 4) as u8);
        assert_eq!(sharpened(faint.clone(), 1.0), faint.samples);
        let edge = gray(20, 1, |x, _| if x < 10 { 60 } else { 180 });
        let made = sharpened(edge, 1.0);
        assert!(made[9] < 60 && made[9] >= 60 - 51, "{made:?}");
        assert!(made[10] > 180 && made[10] <= 180 + 26, "{made:?}");
    }

    #[test]
    fn colour_and_transparency_stay() {
        let samples: Vec<u8> =
            (0..20u8).flat_map(|x| if x < 10 { [60, 80, 40, 9] } else { [160, 180, 140, 200] }).collect();
        let from = Pixels { width: 20, height: 1, layout: Layout::Rgba, samples };
        let made = sharpened(from.clone(), 1.0);
        let (before, after) = (&from.samples[36..40], &made[36..40]);
        assert_eq!(before[3], after[3]);
        assert_eq!(before[0] - after[0], before[1] - after[1]);
        assert!(after[0] < before[0]);
    }
}
