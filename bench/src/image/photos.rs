//! What is worked on: real photos where they are, else pictures made to cost a decoder as much.

use std::path::{Path, PathBuf};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// Of a synthesised picture.
const SIZE: (usize, usize) = (6000, 4000);
/// Bytes that a synthesised picture should have: what a camera of 24 megapixels writes.
const BYTES: std::ops::Range<usize> = 4_500_000..5_500_000;

/// A file to work on.
pub struct Photo {
    /// How rows call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is stored in several scans: then there is no target.
    pub progressive: bool,
    about: String,
}

impl Photo {
    /// Size, bytes and where it is from.
    pub fn note(&self) -> String {
        self.about.clone()
    }

    fn read(path: PathBuf, origin: &str) -> Result<Photo, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let input = std::fs::read(&path).map_err(|error| wrong(&error))?;
        let header = turbojpeg::read_header(&input).map_err(|error| wrong(&error))?;
        let (width, height, bytes) = (header.width, header.height, input.len() as f64 / 1e6);
        Ok(Photo {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            progressive: header.is_progressive,
            about: format!("{origin}, {width}x{height}, {bytes:.1} MB"),
            path,
        })
    }
}

/// The photos in `ANNULUS_DATA/photos`, else one that is made in `folder`.
///
/// # Errors
/// A sentence: a photo cannot be read, or none can be made.
pub fn all(folder: &Path) -> Result<Vec<Photo>, String> {
    let real = std::env::var_os("ANNULUS_DATA").map(|data| Path::new(&data).join("photos"));
    let mut paths: Vec<PathBuf> = real
        .and_then(|real| std::fs::read_dir(real).ok())
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jpg" || ending == "jpeg"));
    paths.sort();
    if paths.is_empty() {
        let path = folder.join("synthesised.jpg");
        std::fs::write(&path, synthesised()?).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        return Ok(vec![Photo::read(path, "synthesised")?]);
    }
    paths.into_iter().map(|path| Photo::read(path, "photo")).collect()
}

/// Clouds of all sizes, whose amplitude falls with their frequency as it does in nature, with hard edges here and there.
fn synthesised() -> Result<Vec<u8>, String> {
    let (width, height) = SIZE;
    let mut random = crate::random::Random::new(24);
    let mut layers = Vec::new();
    for octave in 1..11u32 {
        let cells = 1usize << octave;
        let grid: Vec<f32> = (0..(cells + 1) * (cells + 1)).map(|_| random.uniform() as f32 - 0.5).collect();
        layers.push((cells, grid));
    }
    let mut pixels = vec![0u8; width * height * 3];
    for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let mut sum = 0.0;
            for (cells, grid) in &layers {
                let (a, b) = (u * *cells as f32, v * *cells as f32);
                let (column, line) = (a as usize, b as usize);
                let (p, q) = (a - column as f32, b - line as f32);
                let at = |x: usize, y: usize| grid[(line + y) * (cells + 1) + column + x];
                let value =
                    (at(0, 0) * (1.0 - p) + at(1, 0) * p) * (1.0 - q) + (at(0, 1) * (1.0 - p) + at(1, 1) * p) * q;
                sum += value / (*cells as f32).sqrt();
            }
            let edge = if sum.abs() < 0.05 { 60.0 } else { 0.0 };
            let light = 128.0 + 90.0 * sum + edge;
            for (sample, tint) in pixel.iter_mut().zip([1.1, 1.0, 0.85]) {
                *sample = (light * tint).clamp(0.0, 255.0) as u8;
            }
        }
    }
    encoded(&mut pixels, &mut random)
}

/// With as much noise of a sensor as makes the file as large as a camera's.
fn encoded(pixels: &mut [u8], random: &mut crate::random::Random) -> Result<Vec<u8>, String> {
    let (width, height) = SIZE;
    for sample in pixels.iter_mut() {
        *sample = sample.saturating_add((random.uniform() * 7.0) as u8);
    }
    let mut last = Vec::new();
    // Sizes grow with the quality, so the right one is found by halving.
    let (mut low, mut high) = (20, 98);
    while low <= high {
        let quality = i32::midpoint(low, high);
        let mut encoder = Compressor::new().map_err(|error| error.to_string())?;
        encoder.set_quality(quality).map_err(|error| error.to_string())?;
        encoder.set_subsamp(Subsamp::Sub2x2).map_err(|error| error.to_string())?;
        let image = Image { pixels: &*pixels, width, pitch: width * 3, height, format: PixelFormat::RGB };
        last = encoder.compress_to_vec(image).map_err(|error| error.to_string())?;
        match last.len() {
            len if len < BYTES.start => low = quality + 1,
            len if len >= BYTES.end => high = quality - 1,
            _ => break,
        }
    }
    Ok(last)
}
