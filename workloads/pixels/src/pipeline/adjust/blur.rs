//! Gaussian blur, rows and then columns. A small sigma uses the bell curve itself; a large one three running means, whose
//! time does not grow with it and whose difference from the curve nobody sees (P. Kovesi, Fast Almost-Gaussian
//! Filtering, 2010). Colours are weighted by their opacity, so that what cannot be seen does not bleed. At the edges the
//! outermost pixel is repeated.

use crate::fault::Fault;
use crate::pipeline::Watch;
use crate::pipeline::pixels::{Layout, Pixels, Pool};

/// From here on running means are closer to the curve than anybody can see, and faster.
const MEANS_SIGMA_MIN: f32 = 3.0;
/// Columns that are blurred together: as many samples as a few cache lines hold.
const COLUMNS: usize = 64;

/// Blurs with a Gaussian of this sigma, in pixels. Nothing happens at 0.
///
/// # Errors
/// [`Kind::Stopped`](crate::fault::Kind::Stopped).
pub fn blur(pixels: &mut Pixels, sigma: f32, pool: &mut Pool, watch: &dyn Watch) -> Result<(), Fault> {
    // Below a tenth of a pixel the curve has one sample that counts.
    if sigma < 0.1 || pixels.samples.is_empty() {
        return Ok(());
    }
    let alpha = pixels.layout == Layout::Rgba;
    if alpha {
        premultiply(&mut pixels.samples);
    }
    let channels = pixels.layout.bytes();
    let row = pixels.width as usize * channels;
    let filter = if sigma < MEANS_SIGMA_MIN { Filter::curve(sigma) } else { Filter::means(sigma) };

    let mut line = Vec::new();
    for (at, samples) in pixels.samples.chunks_exact_mut(row).enumerate() {
        if at % COLUMNS == 0 {
            watch.check()?;
        }
        filter.apply(samples, channels, &mut line);
    }
    // A block of columns is copied beside itself so that its columns lie one after the other.
    let height = pixels.height as usize;
    let mut block = pool.take(COLUMNS * height);
    for left in (0..row).step_by(COLUMNS) {
        watch.check()?;
        let columns = COLUMNS.min(row - left);
        for (y, samples) in pixels.samples.chunks_exact(row).enumerate() {
            block[y * columns..][..columns].copy_from_slice(&samples[left..][..columns]);
        }
        filter.apply(&mut block[..columns * height], columns, &mut line);
        for (y, samples) in pixels.samples.chunks_exact_mut(row).enumerate() {
            samples[left..][..columns].copy_from_slice(&block[y * columns..][..columns]);
        }
    }
    pool.give(block);
    if alpha {
        unpremultiply(&mut pixels.samples);
    }
    Ok(())
}

enum Filter {
    /// Weights from the middle outwards, in 65536ths.
    Curve(Vec<u32>),
    /// Radii of three running means.
    Means([usize; 3]),
}

impl Filter {
    fn curve(sigma: f32) -> Filter {
        let radius = (sigma * 3.0).ceil().max(1.0) as usize;
        let curve: Vec<f64> = (0..=radius).map(|x| (-0.5 * (x as f64 / f64::from(sigma)).powi(2)).exp()).collect();
        let sum = 2.0 * curve.iter().sum::<f64>() - curve[0];
        let mut weights: Vec<u32> = curve.iter().map(|weight| (weight / sum * 65536.0).round() as u32).collect();
        // A plain surface stays as it is: the weights make exactly one.
        let outside: u32 = weights[1..].iter().sum();
        weights[0] = 65536 - 2 * outside;
        Filter::Curve(weights)
    }

    /// Radii whose variances together come closest to the curve's: a mean over 2r + 1 has the variance r(r + 1)/3.
    fn means(sigma: f32) -> Filter {
        let wanted = f64::from(sigma).powi(2);
        let variance = |radius: usize| radius as f64 * (radius as f64 + 1.0) / 3.0;
        let mut low = 0;
        while 3.0 * variance(low + 1) <= wanted {
            low += 1;
        }
        let missing = (wanted - 3.0 * variance(low)) / (variance(low + 1) - variance(low));
        let larger = missing.round() as usize;
        Filter::Means([0, 1, 2].map(|at| low + usize::from(at < larger)))
    }

    /// Filters each of `lanes` interleaved lines where it is. `line` is scratch.
    fn apply(&self, samples: &mut [u8], lanes: usize, line: &mut Vec<u32>) {
        let count = samples.len() / lanes;
        match self {
            Filter::Curve(weights) => {
                let before = samples.to_vec();
                for at in 0..count {
                    line.clear();
                    line.resize(lanes, 32_768);
                    let mut add = |from: usize, weight: u32| {
                        let from = &before[from * lanes..][..lanes];
                        line.iter_mut().zip(from).for_each(|(sum, &sample)| *sum += weight * u32::from(sample));
                    };
                    add(at, weights[0]);
                    for (distance, &weight) in weights.iter().enumerate().skip(1) {
                        add(at.saturating_sub(distance), weight);
                        add((at + distance).min(count - 1), weight);
                    }
                    let to = &mut samples[at * lanes..][..lanes];
                    to.iter_mut().zip(line.iter()).for_each(|(to, sum)| *to = (sum >> 16) as u8);
                }
            }
            Filter::Means(radii) => {
                // Means of means are kept in 256ths, so that rounding three times does not show.
                let mut now: Vec<u16> = samples.iter().map(|&sample| u16::from(sample) << 8).collect();
                let mut next = vec![0; now.len()];
                for &radius in radii {
                    mean(&now, &mut next, lanes, radius, line);
                    std::mem::swap(&mut now, &mut next);
                }
                samples
                    .iter_mut()
                    .zip(&now)
                    .for_each(|(to, &from)| *to = ((u32::from(from) + 128) >> 8).min(255) as u8);
            }
        }
    }
}

/// One running mean over `2 * radius + 1` samples of each lane.
fn mean(from: &[u16], to: &mut [u16], lanes: usize, radius: usize, sums: &mut Vec<u32>) {
    let count = from.len() / lanes;
    let at = |index: usize| &from[index.min(count - 1) * lanes..][..lanes];
    let window = 2 * radius as u32 + 1;
    sums.clear();
    sums.extend(at(0).iter().map(|&sample| u32::from(sample) * (radius as u32 + 1)));
    for ahead in 1..=radius {
        sums.iter_mut().zip(at(ahead)).for_each(|(sum, &sample)| *sum += u32::from(sample));
    }
    for index in 0..count {
        let out = &mut to[index * lanes..][..lanes];
        out.iter_mut().zip(sums.iter()).for_each(|(out, sum)| *out = ((sum + window / 2) / window) as u16);
        let (enters, leaves) = (at(index + radius + 1), at(index.saturating_sub(radius)));
        for ((sum, &enters), &leaves) in sums.iter_mut().zip(enters).zip(leaves) {
            *sum = *sum + u32::from(enters) - u32::from(leaves);
        }
    }
}

fn premultiply(samples: &mut [u8]) {
    for pixel in samples.as_chunks_mut::<4>().0 {
        let opacity = u32::from(pixel[3]);
        pixel[..3].iter_mut().for_each(|sample| *sample = ((u32::from(*sample) * opacity + 127) / 255) as u8);
    }
}

fn unpremultiply(samples: &mut [u8]) {
    for pixel in samples.as_chunks_mut::<4>().0 {
        let opacity = u32::from(pixel[3]).max(1);
        pixel[..3]
            .iter_mut()
            .for_each(|sample| *sample = ((u32::from(*sample) * 255 + opacity / 2) / opacity).min(255) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trial::Never;

    fn blurred(mut pixels: Pixels, sigma: f32) -> Pixels {
        blur(&mut pixels, sigma, &mut Pool::new(1 << 20), &Never).unwrap();
        pixels
    }

    /// The curve in floating point, from every pixel to every pixel.
    fn reference(pixels: &Pixels, sigma: f64) -> Vec<f64> {
        let (width, height) = (pixels.width as i64, pixels.height as i64);
        let reach = (sigma * 5.0).ceil() as i64;
        let weight = |x: i64| (-0.5 * (x as f64 / sigma).powi(2)).exp();
        let sum: f64 = (-reach..=reach).map(weight).sum();
        let pass = |from: &[f64], across: bool| -> Vec<f64> {
            let mut to = Vec::new();
            for y in 0..height {
                for x in 0..width {
                    let sample = |d: i64| match across {
                        true => from[(y * width + (x + d).clamp(0, width - 1)) as usize],
                        false => from[((y + d).clamp(0, height - 1) * width + x) as usize],
                    };
                    to.push((-reach..=reach).map(|d| weight(d) * sample(d)).sum::<f64>() / sum);
                }
            }
            to
        };
        let samples: Vec<f64> = pixels.samples.iter().map(|&sample| f64::from(sample)).collect();
        pass(&pass(&samples, true), false)
    }

    #[test]
    fn both_ways_follow_the_curve() {
        let mut samples = vec![30; 90 * 70];
        samples[35 * 90 + 45] = 255;
        (0..70).for_each(|y| samples[y * 90..][..20].fill(200));
        let pixels = Pixels { width: 90, height: 70, layout: Layout::Gray, samples };
        for (sigma, most) in [(0.5, 1.0), (1.3, 1.0), (2.9, 1.0), (3.0, 4.0), (7.5, 4.0)] {
            let expected = reference(&pixels, sigma);
            let made = blurred(pixels.clone(), sigma as f32);
            for (at, (made, expected)) in made.samples.iter().zip(&expected).enumerate() {
                assert!((f64::from(*made) - expected).abs() <= most, "sigma {sigma} at {at}: {made} for {expected}");
            }
        }
    }

    #[test]
    fn a_plain_surface_stays_as_it_is() {
        for sigma in [0.3, 1.0, 3.0, 40.0, 250.0] {
            for layout in [Layout::Gray, Layout::Rgb, Layout::Rgba] {
                let samples = vec![200; 37 * 11 * layout.bytes()];
                let pixels = Pixels { width: 37, height: 11, layout, samples };
                let made = blurred(pixels.clone(), sigma);
                let worst = made.samples.iter().map(|sample| sample.abs_diff(200)).max().unwrap();
                // Weighting by opacity and back rounds twice.
                assert!(worst <= u8::from(layout == Layout::Rgba), "{sigma} {layout:?} {worst}");
            }
        }
    }

    #[test]
    fn what_is_invisible_does_not_bleed() {
        let mut samples = Vec::new();
        (0..40).for_each(|at| samples.extend_from_slice(if at < 20 { &[255, 0, 0, 0] } else { &[0, 0, 255, 255] }));
        let made = blurred(Pixels { width: 40, height: 1, layout: Layout::Rgba, samples }, 2.0);
        for pixel in made.samples.chunks_exact(4).filter(|pixel| pixel[3] > 0) {
            assert_eq!(pixel[0], 0, "{pixel:?}");
            assert!(pixel[2] > 200, "{pixel:?}");
        }
    }

    #[test]
    fn tiny_pictures_and_huge_sigmas_do_no_harm() {
        for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 2)] {
            for sigma in [0.0, 0.1, 2.0, 250.0] {
                let samples = (0..width * height * 3).map(|at| at as u8 * 9).collect();
                blurred(Pixels { width, height, layout: Layout::Rgb, samples }, sigma);
            }
        }
    }
}
