//! Lanczos3 along two axes, in bands between which a job can end.
//!
//! Columns first: that walks the source once, in order, and leaves a picture that is already short. Each axis is one
//! pass, so that the filter of the rows, whose table is costly, is computed once and not once per band.

use fast_image_resize::images::{Image, ImageRef, TypedCroppedImageMut};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3, U8x4, U16, U16x3, U16x4};
use fast_image_resize::{CropBox, PixelTrait, PixelType, ResizeOptions, Resizer, SrcCropping};

use super::Watch;
use super::geometry::FloatBox;
use super::pixels::Pool;
use crate::fault::{Fault, Kind};

/// Samples of the source that a band reads at least: some milliseconds of work.
const BAND_SAMPLES: f64 = 8e6;
/// Lanczos3 reaches so many samples of the coarser side to each side.
const REACH: f64 = 3.0;

/// Samples in rows without gaps.
#[derive(Clone, Copy)]
pub struct Raster<'a> {
    /// All of them.
    pub samples: &'a [u8],
    /// Pixels along.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// What a pixel is: one, three or four samples.
    pub pixel: PixelType,
}

/// A part of a target, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From the left edge.
    pub left: u32,
    /// From the upper edge.
    pub top: u32,
    /// Pixels, at least 1.
    pub width: u32,
    /// Pixels, at least 1.
    pub height: u32,
}

/// Where results go: a target of the same kind of pixel.
pub struct Target<'a> {
    /// All its samples.
    pub samples: &'a mut [u8],
    /// Pixels along.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Resamples what lies within `bounds` of a raster into a window of a target. Alpha must be premultiplied.
///
/// # Errors
/// The watch's; sizes that do not fit are our own mistake and told as [`Kind::Io`].
pub fn resample(
    from: Raster<'_>,
    bounds: FloatBox,
    to: &mut Target<'_>,
    window: Window,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let across = Axis::new(bounds.left, bounds.width, from.width, window.width);
    let down = Axis::new(bounds.top, bounds.height, from.height, window.height);
    let (first, columns) = across.reach();
    let len = columns as usize * window.height as usize * from.pixel.size();
    let mut short = pool.take(len);
    let done = squeeze(from, down, (first, columns), &mut short, watch).and_then(|()| {
        let raster = Raster { samples: &short, width: columns, height: window.height, pixel: from.pixel };
        stretch(raster, across, f64::from(first), to, window, watch)
    });
    pool.give(short);
    done
}

/// The columns: from the source into a picture that is as high as the window.
fn squeeze(
    from: Raster<'_>,
    down: Axis,
    (first, columns): (u32, u32),
    short: &mut [u8],
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let source = ImageRef::new(from.width, from.height, from.samples, from.pixel).map_err(|error| unfit(&error))?;
    let row = columns as usize * from.pixel.size();
    let mut resizer = Resizer::new();
    for (top, rows) in bands(down.to, down.step() * row as f64) {
        watch.check()?;
        let part = &mut short[top as usize * row..][..rows as usize * row];
        let mut part = Image::from_slice_u8(columns, rows, part, from.pixel).map_err(|error| unfit(&error))?;
        let (start, len) = down.part(top, rows);
        let crop = CropBox { left: f64::from(first), top: start, width: f64::from(columns), height: len };
        convolve(
            &mut resizer,
            &source,
            &mut part,
            Window { left: 0, top: 0, width: columns, height: rows },
            &options(crop),
        )?;
    }
    Ok(())
}

/// The rows: from a picture that is as high as the window into the window.
fn stretch(
    from: Raster<'_>,
    across: Axis,
    first: f64,
    to: &mut Target<'_>,
    window: Window,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let source = ImageRef::new(from.width, from.height, from.samples, from.pixel).map_err(|error| unfit(&error))?;
    let mut target =
        Image::from_slice_u8(to.width, to.height, to.samples, from.pixel).map_err(|error| unfit(&error))?;
    let mut resizer = Resizer::new();
    for (top, rows) in bands(window.height, f64::from(from.width) * from.pixel.size() as f64) {
        watch.check()?;
        let part = Window { top: window.top + top, height: rows, ..window };
        let left = across.start - first;
        let crop = CropBox { left, top: f64::from(top), width: across.len, height: f64::from(rows) };
        convolve(&mut resizer, &source, &mut target, part, &options(crop))?;
    }
    Ok(())
}

/// Fills a window of a picture from another one of the same kind. Chosen here, because the library's own choice compiles
/// thirteen kinds of pixels for each kind of picture that it is asked with, and we have six kinds in one.
pub(super) fn convolve(
    resizer: &mut Resizer,
    from: &ImageRef<'_>,
    to: &mut Image<'_>,
    window: Window,
    options: &ResizeOptions,
) -> Result<(), Fault> {
    match from.pixel_type() {
        PixelType::U8 => convolve_as::<U8>(resizer, from, to, window, options),
        PixelType::U8x3 => convolve_as::<U8x3>(resizer, from, to, window, options),
        PixelType::U8x4 => convolve_as::<U8x4>(resizer, from, to, window, options),
        PixelType::U16 => convolve_as::<U16>(resizer, from, to, window, options),
        PixelType::U16x3 => convolve_as::<U16x3>(resizer, from, to, window, options),
        PixelType::U16x4 => convolve_as::<U16x4>(resizer, from, to, window, options),
        other => Err(unfit(&format_args!("nobody has pixels of {other:?}"))),
    }
}

fn convolve_as<P: InnerPixel + PixelTrait>(
    resizer: &mut Resizer,
    from: &ImageRef<'_>,
    to: &mut Image<'_>,
    window: Window,
    options: &ResizeOptions,
) -> Result<(), Fault> {
    let (Some(source), Some(target)) = (from.typed_image::<P>(), to.typed_image_mut::<P>()) else {
        return Err(unfit(&"pixels of two kinds"));
    };
    let Window { left, top, width, height } = window;
    let mut part = TypedCroppedImageMut::new(target, left, top, width, height).map_err(|error| unfit(&error))?;
    resizer.resize_typed(&source, &mut part, options).map_err(|error| unfit(&error))
}

fn options(crop: CropBox) -> ResizeOptions {
    let mut options = ResizeOptions::new().use_alpha(false);
    options.cropping = SrcCropping::Crop(crop);
    options
}

/// Starts and lengths of bands of rows, where a row takes so many samples of the source.
fn bands(rows: u32, samples_per_row: f64) -> impl Iterator<Item = (u32, u32)> {
    let band = (BAND_SAMPLES / samples_per_row.max(1.0)).ceil().clamp(1.0, f64::from(rows.max(1))) as u32;
    (0..rows).step_by(band as usize).map(move |top| (top, band.min(rows - top)))
}

fn unfit(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Kind::Io, format!("resampling went wrong: {error}. This is our mistake, please tell us."))
}

/// One axis: a stretch of the source and how many samples are made of it.
#[derive(Clone, Copy)]
struct Axis {
    start: f64,
    len: f64,
    from: u32,
    to: u32,
}

impl Axis {
    /// Held to the source: sums of fractions may stand over by the last binary place.
    fn new(start: f64, len: f64, from: u32, to: u32) -> Axis {
        let start = start.clamp(0.0, f64::from(from) - f64::EPSILON);
        Axis { start, len: len.min(f64::from(from) - start), from, to }
    }

    fn step(self) -> f64 {
        self.len / f64::from(self.to)
    }

    /// The first whole sample that the filter touches, and how many.
    fn reach(self) -> (u32, u32) {
        let reach = REACH * self.step().max(1.0) + 1.0;
        let first = (self.start - reach).floor().max(0.0) as u32;
        let last = ((self.start + self.len + reach).ceil() as u32).min(self.from);
        (first, last - first)
    }

    /// The stretch of the source behind some of the target's samples.
    fn part(self, first: u32, count: u32) -> (f64, f64) {
        let start = self.start + f64::from(first) * self.step();
        (start, (f64::from(count) * self.step()).min(f64::from(self.from) - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Patience(Cell<u32>);

    impl Watch for Patience {
        fn check(&self) -> Result<(), Fault> {
            match self.0.get() {
                0 => Err(Fault::new(Kind::Stopped, "stopped")),
                left => {
                    self.0.set(left - 1);
                    Ok(())
                }
            }
        }
    }

    fn waves(width: u32, height: u32) -> Vec<u8> {
        (0..width * height)
            .map(|at| {
                let (x, y) = (f64::from(at % width), f64::from(at / width));
                (127.5 + 100.0 * (x / 9.0).sin() * (y / 7.0).cos()) as u8
            })
            .collect()
    }

    /// In floating point, one axis after the other.
    fn reference(from: &[u8], size: (u32, u32), bounds: FloatBox, to: (u32, u32)) -> Vec<f64> {
        let weights = |start: f64, len: f64, from: u32, to: u32, at: u32| {
            let scale = (len / f64::from(to)).max(1.0);
            let centre = start + (f64::from(at) + 0.5) * len / f64::from(to);
            let sinc =
                |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
            let weight = |sample: u32| {
                let x = (f64::from(sample) + 0.5 - centre) / scale;
                if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
            };
            let all: Vec<f64> = (0..from).map(weight).collect();
            let sum: f64 = all.iter().sum();
            all.into_iter().map(|weight| weight / sum).collect::<Vec<_>>()
        };
        let mut short = vec![0.0; (size.0 * to.1) as usize];
        for y in 0..to.1 {
            let weights = weights(bounds.top, bounds.height, size.1, to.1, y);
            for x in 0..size.0 {
                let column =
                    (0..size.1).map(|row| f64::from(from[(row * size.0 + x) as usize]) * weights[row as usize]);
                short[(y * size.0 + x) as usize] = column.sum();
            }
        }
        let mut out = vec![0.0; (to.0 * to.1) as usize];
        for x in 0..to.0 {
            let weights = weights(bounds.left, bounds.width, size.0, to.0, x);
            for y in 0..to.1 {
                let row = (0..size.0).map(|at| short[(y * size.0 + at) as usize] * weights[at as usize]);
                out[(y * to.0 + x) as usize] = row.sum();
            }
        }
        out
    }

    #[test]
    fn agrees_with_floating_point_on_fractional_boxes() {
        let (width, height) = (211, 157);
        let from = waves(width, height);
        for (bounds, to) in [
            (FloatBox { left: 0.0, top: 0.0, width: 211.0, height: 157.0 }, (40, 31)),
            (FloatBox { left: 0.0, top: 0.0, width: 210.375, height: 156.25 }, (70, 52)),
            (FloatBox { left: 13.7, top: 20.2, width: 100.1, height: 90.9 }, (33, 30)),
            (FloatBox { left: 200.0, top: 0.0, width: 11.0, height: 157.0 }, (1, 50)),
            (FloatBox { left: 50.0, top: 50.0, width: 20.0, height: 10.0 }, (41, 25)),
        ] {
            let mut made = vec![0; (to.0 * to.1) as usize];
            let raster = Raster { samples: &from, width, height, pixel: PixelType::U8 };
            let window = Window { left: 0, top: 0, width: to.0, height: to.1 };
            let mut target = Target { samples: &mut made, width: to.0, height: to.1 };
            let patient = Patience(Cell::new(u32::MAX));
            resample(raster, bounds, &mut target, window, &mut Pool::new(1 << 20), &patient).unwrap();
            for (ours, exact) in made.iter().zip(reference(&from, (width, height), bounds, to)) {
                assert!((f64::from(*ours) - exact.clamp(0.0, 255.0)).abs() < 2.0, "{bounds:?} {to:?}: {ours} {exact}");
            }
        }
    }

    #[test]
    fn many_bands_are_one() {
        let cut: Vec<_> = bands(10, BAND_SAMPLES / 3.0).collect();
        assert_eq!(cut, [(0, 3), (3, 3), (6, 3), (9, 1)]);
        assert_eq!(bands(7, 1e12).count(), 7);
        assert_eq!(bands(7, 0.0).count(), 1);
    }

    #[test]
    fn ends_between_bands() {
        let from = vec![9; 6000 * 3000];
        let raster = Raster { samples: &from, width: 6000, height: 3000, pixel: PixelType::U8 };
        let mut made = vec![0; 60 * 30];
        let mut target = Target { samples: &mut made, width: 60, height: 30 };
        let window = Window { left: 0, top: 0, width: 60, height: 30 };
        let bounds = FloatBox { left: 0.0, top: 0.0, width: 6000.0, height: 3000.0 };
        let impatient = Patience(Cell::new(2));
        let mut pool = Pool::new(1 << 20);
        let fault = resample(raster, bounds, &mut target, window, &mut pool, &impatient).unwrap_err();
        assert_eq!(fault.kind, Kind::Stopped);
    }
}
