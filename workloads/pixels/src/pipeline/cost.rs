//! What a job will take, told from the header: memory at the peak, as if colour were
//! not subsampled, and processor time, roughly.

use super::Cost;
use super::jpeg::Shrink;
use super::plan::{Plan, plan};
use super::{avif, gif, png, sight, tiff, watermark, webp};
use crate::format::Format;
use crate::header::Header;
use crate::recipe::Recipe;

/// What decoders and encoders hold beside pictures: tables, rows, the encoder's output. Bytes.
const CODEC_BYTES: u64 = 1 << 20;

/// Nanoseconds of one core, as measured on one of 2.5 to 3.5 GHz: a guess that orders jobs, no promise.
mod ns {
    /// Entropy decoding of a baseline JPEG of good quality, per stored pixel.
    pub const BASELINE: f64 = 1.7;
    /// The same for a progressive one.
    pub const PROGRESSIVE: f64 = 9.5;
    /// The inverse transform and what follows, per decoded pixel.
    pub const TRANSFORM: f64 = 1.1;
    /// Resampling, per pixel of the source.
    pub const RESAMPLE: f64 = 1.5;
    /// Sharpening and turning, per output pixel.
    pub const FINISH: f64 = 3.0;
    /// Laying a watermark over all of an output, per pixel.
    pub const WATERMARK: f64 = 12.0;
    /// Finding what there is to see, at most: most of it is waiting for memory, and a smaller picture takes less.
    pub const SIGHT: f64 = 8e6;
}

/// Predicts what [`process`](super::process) will take. An output that is too large is left out: it will be refused.
pub fn predict(header: &Header, recipes: &[Recipe]) -> Cost {
    // How many frames there are is known when all of the file is there: before, what may move is taken for what does.
    let may_move = header.frames == 1 && recipes.iter().any(|recipe| recipe.frames_max > 1);
    let header = &Header { frames: if may_move { 2 } else { header.frames }, ..header.clone() };
    let mut plans = Vec::new();
    let mut shrink = None;
    let (mut watermarks, mut covered) = (0, 0);
    for recipe in recipes {
        if let Ok((mut one, needed)) = plan(header, std::slice::from_ref(recipe)) {
            if let Some(wanted) = &recipe.watermark {
                let canvas = one[0].geometry.canvas;
                watermarks = watermark::bytes(wanted, canvas).max(watermarks);
                covered += pixels(canvas);
            }
            plans.append(&mut one);
            shrink = shrink.max(Some(needed));
        }
    }
    let shrink = shrink.unwrap_or(Shrink::Whole);
    let (mut bytes, mut time) = (peak(header, shrink, &plans), time(header, shrink, &plans));
    bytes += watermarks;
    time += covered as f64 * ns::WATERMARK;
    if recipes.iter().any(Recipe::is_cut_by_sight) {
        bytes += sight::BYTES_MAX;
        time += ns::SIGHT;
    }
    Cost { peak_bytes: bytes, cpu_us: (time / 1e3) as u64 }
}

fn decoded_size(header: &Header, shrink: Shrink) -> (u64, u64) {
    let side = |side: u32| (u64::from(side) * shrink as u64).div_ceil(8);
    (side(header.width), side(header.height))
}

fn pixels((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// Samples of a decoded pixel in memory. A CMYK JPEG arrives as four and leaves as three.
fn channels(header: &Header) -> u64 {
    match (header.components, header.alpha) {
        (1, false) => 1,
        (4, _) | (_, true) => 4,
        _ => 3,
    }
}

fn peak(header: &Header, shrink: Shrink, plans: &[Plan]) -> u64 {
    let (width, height) = decoded_size(header, shrink);
    let channels = channels(header);
    let coefficients = header.pixels() * u64::from(header.coefficient_bytes);
    let decoded = width * height * channels;
    // Of planes, one is resampled at a time.
    let at_once = if header.format == Format::Jpeg && shrink >= Shrink::Half { 1 } else { channels };
    // Beside the source: the picture that is short already, the output that is sharpened and turned, and its file.
    let beside = |plan: &Plan| width * u64::from(plan.size.1) * at_once + pixels(plan.size) * channels * 2;
    let kept: u64 = plans.iter().map(|plan| pixels(plan.size) * channels).sum();
    // Of an animation the frame before is kept, and the canvas beside the frame, once more where it will come back.
    let moving = plans.iter().filter(|plan| plan.frames > 1);
    let moving: u64 = moving.map(|plan| pixels(plan.geometry.canvas) * 8 + header.pixels() * 12).sum();
    let padded = plans.iter().map(|plan| pixels(plan.geometry.canvas) * 4).max().unwrap_or(0);
    let step = plans.iter().map(beside).max().unwrap_or(0).max(padded) + kept + moving;
    // Memory of a decoder is given back before the first output is made, memory of an encoder is taken beside it.
    let decoder = match header.format {
        // There planes lie beside the pixels that are made of them.
        Format::Jpeg if shrink == Shrink::Eighth => coefficients.max(decoded),
        Format::Jpeg => coefficients,
        Format::Png => png::decode_bytes(header).saturating_sub(decoded),
        Format::Webp => webp::decode_bytes(header).saturating_sub(decoded),
        Format::Avif => avif::decode_bytes(header).saturating_sub(decoded),
        Format::Gif => gif::decode_bytes(header).saturating_sub(decoded),
        Format::Tiff => tiff::decode_bytes(header).saturating_sub(decoded),
    };
    let encoder = plans.iter().map(|plan| pixels(plan.geometry.canvas) * encoder_bytes(plan.format)).max();
    CODEC_BYTES + decoded + decoder.max(step + encoder.unwrap_or(0))
}

/// What an encoder holds per pixel beside the picture and its output.
fn encoder_bytes(format: Format) -> u64 {
    match format {
        Format::Jpeg | Format::Gif | Format::Tiff => 0,
        Format::Png => 8,
        Format::Webp => 12,
        Format::Avif => 80,
    }
}

fn time(header: &Header, shrink: Shrink, plans: &[Plan]) -> f64 {
    let stored = header.pixels() as f64;
    let (width, height) = decoded_size(header, shrink);
    let decoded = (width * height) as f64;
    let reading = match header.format {
        Format::Jpeg if header.coefficient_bytes > 0 => stored * ns::PROGRESSIVE + decoded * ns::TRANSFORM,
        Format::Jpeg => stored * ns::BASELINE + decoded * ns::TRANSFORM,
        Format::Png => stored * 12.0,
        Format::Webp => stored * 15.0,
        Format::Avif => stored * 25.0,
        Format::Gif => stored * 6.0,
        Format::Tiff => stored * 12.0,
    };
    let writing = |plan: &Plan| {
        let per_pixel = match plan.format {
            Format::Jpeg => 4.0,
            Format::Png | Format::Gif | Format::Tiff => 40.0,
            Format::Webp => 120.0,
            Format::Avif => 600.0,
        };
        let one = pixels(plan.geometry.canvas) as f64 * per_pixel + pixels(plan.size) as f64 * ns::FINISH;
        f64::from(plan.frames) * one
    };
    let frames = plans.iter().map(|plan| plan.frames).max().unwrap_or(1);
    f64::from(frames) * (reading + decoded * ns::RESAMPLE) + plans.iter().map(writing).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trial::{fit, jpeg};

    #[test]
    fn shrinking_in_the_decoder_costs_less_and_progressive_costs_more() {
        let small = predict(&jpeg(6000, 4000, 0), &[fit(256)]);
        let large = predict(&jpeg(6000, 4000, 0), &[fit(256), fit(1600)]);
        let progressive = predict(&jpeg(6000, 4000, 3), &[fit(256)]);
        assert!(small.peak_bytes < 6 << 20, "{small:?}");
        assert!((72_000_000..110_000_000).contains(&large.peak_bytes), "{large:?}");
        assert!(progressive.peak_bytes >= 72_000_000, "{progressive:?}");
        assert!(small.cpu_us < large.cpu_us && large.cpu_us < progressive.cpu_us);
    }

    #[test]
    fn a_bomb_is_seen_from_its_jpeg() {
        let bomb = predict(&jpeg(16_000, 16_000, 6), &[fit(256)]);
        assert!(bomb.peak_bytes > 1_500_000_000 && bomb.cpu_us > 2_000_000, "{bomb:?}");
    }
}
