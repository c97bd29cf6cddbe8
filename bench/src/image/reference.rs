//! The picture that a small one should be: the full decode, resampled with Lanczos3 in floating point, never rounded.

use std::path::Path;
use turbojpeg::PixelFormat;

/// A decoded PNG: red, green and blue.
pub struct Small {
    /// Pixels.
    pub size: (usize, usize),
    /// Three per pixel.
    pub samples: Vec<u8>,
}

/// Reads an 8-bit PNG without transparency.
///
/// # Errors
/// A sentence: it is not one.
pub fn read_png(path: &Path) -> Result<Small, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().map_err(|error| wrong(&error))?;
    let mut samples = vec![0; reader.output_buffer_size().ok_or_else(|| wrong(&"too large"))?];
    let info = reader.next_frame(&mut samples).map_err(|error| wrong(&error))?;
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err(wrong(&format!("{:?} of {:?} bits where RGB of 8 was expected", info.color_type, info.bit_depth)));
    }
    samples.truncate(info.buffer_size());
    Ok(Small { size: (info.width as usize, info.height as usize), samples })
}

/// The reference in this size, three samples per pixel.
///
/// # Errors
/// A sentence: the JPEG cannot be decoded.
pub fn lanczos3(jpeg: &[u8], (width, height): (usize, usize)) -> Result<Vec<f32>, String> {
    let whole = turbojpeg::decompress(jpeg, PixelFormat::RGB).map_err(|error| error.to_string())?;
    let row = whole.width * 3;
    let mut short = vec![0f32; row * height];
    for (line, taps) in short.chunks_exact_mut(row).zip(taps(whole.height, height)) {
        for (y, weight) in taps {
            let from = &whole.pixels[y * whole.pitch..][..row];
            line.iter_mut().zip(from).for_each(|(sum, &sample)| *sum += weight * f32::from(sample));
        }
    }
    let columns = taps(whole.width, width);
    let mut out = Vec::with_capacity(width * height * 3);
    for line in short.chunks_exact(row) {
        for taps in &columns {
            for colour in 0..3 {
                out.push(taps.iter().map(|&(x, weight)| weight * line[x * 3 + colour]).sum::<f32>());
            }
        }
    }
    Ok(out)
}

/// For each sample of a side, the source's samples and their weights.
fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    let one = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let first = (centre - 3.0 * scale).floor().max(0.0) as usize;
        let last = ((centre + 3.0 * scale).ceil() as usize).min(from);
        let weight = |sample: usize| {
            let x = (sample as f64 + 0.5 - centre) / scale;
            if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
        };
        let sum: f64 = (first..last).map(weight).sum();
        (first..last).map(|sample| (sample, (weight(sample) / sum) as f32)).collect()
    };
    (0..to).map(one).collect()
}

/// The peak signal-to-noise ratio of samples against exact ones.
pub fn decibels(made: &[u8], exact: &[f32]) -> f64 {
    let error = |(&made, &exact): (&u8, &f32)| (f64::from(made) - f64::from(exact.clamp(0.0, 255.0))).powi(2);
    let mean = made.iter().zip(exact).map(error).sum::<f64>() / made.len().max(1) as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-9)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_lie_around_their_sample() {
        for taps in taps(600, 25) {
            let sum: f32 = taps.iter().map(|(_, weight)| weight).sum();
            assert!((sum - 1.0).abs() < 1e-4);
        }
        assert_eq!(taps(10, 10)[4].iter().filter(|(_, weight)| weight.abs() > 1e-6).count(), 1);
    }

    #[test]
    fn half_a_step_everywhere_is_54_decibels() {
        let exact = vec![100.5f32; 300];
        assert!((decibels(&[100; 300], &exact) - 54.15).abs() < 0.01);
    }
}
