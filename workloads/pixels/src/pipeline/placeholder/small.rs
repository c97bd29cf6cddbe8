//! A picture that is small enough to be transformed in whole: each of its pixels is the mean of what lies in it.
//!
//! ```text
//!   samples   a a a b b c c c d d      a cell has the samples that begin in it; where there are fewer samples than pixels,
//!   cells     └ 0 ┘└1┘└ 2 ┘└3┘         as of a JPEG's colour, several pixels show the same cell
//! ```
//!
//! Planes of a JPEG are not made pixels first: means are linear, and so is the way to red, green and blue.

use std::ops::Range;

use crate::fault::Fault;
use crate::pipeline::Watch;
use crate::pipeline::picture::{Picture, Planes};
use crate::pipeline::pixels::{Layout, Pixels};

/// Pixels of the longer side. ThumbHash takes up to 100; the fastest of nine components has sixteen of these to a wave.
const SIDE_MAX: u32 = 64;

/// Red, green, blue and alpha, from 0 to 1, not premultiplied. Rows from top to bottom.
pub(super) struct Small {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<[f64; 4]>,
}

impl Small {
    /// A picture as small as it is needed, with its proportions as far as whole pixels can have them.
    ///
    /// # Errors
    /// The watch's.
    pub(super) fn of(picture: &Picture, watch: &dyn Watch) -> Result<Small, Fault> {
        let (width, height) = (picture.width(), picture.height());
        let scale = (f64::from(SIDE_MAX) / f64::from(width.max(height))).min(1.0);
        let side = |side: u32| ((f64::from(side) * scale).round() as usize).max(1);
        let size = (side(width), side(height));
        match picture {
            Picture::Pixels(pixels) => Small::of_pixels(pixels, size, watch),
            Picture::Planes(planes) => Small::of_planes(planes, size, watch),
        }
    }

    fn of_pixels(pixels: &Pixels, size: (usize, usize), watch: &dyn Watch) -> Result<Small, Fault> {
        let (width, height) = (pixels.width as usize, pixels.height as usize);
        let raster = Raster { samples: &pixels.samples, stride: width, width, height };
        match pixels.layout {
            Layout::Gray => {
                let cells = Cells::of(&raster, size, watch, |&[grey]: &[u8; 1]| [u32::from(grey)])?;
                Ok(Small::new(size, |at| {
                    let [grey] = cells.mean(at, size).map(|mean| mean / 255.0);
                    [grey, grey, grey, 1.0]
                }))
            }
            Layout::Rgb => {
                let cells = Cells::of(&raster, size, watch, |rgb: &[u8; 3]| rgb.map(u32::from))?;
                Ok(Small::new(size, |at| {
                    let [red, green, blue] = cells.mean(at, size).map(|mean| mean / 255.0);
                    [red, green, blue, 1.0]
                }))
            }
            Layout::Rgba => {
                // The colour of what is not seen does not count.
                let seen = |&[red, green, blue, alpha]: &[u8; 4]| {
                    let [red, green, blue] = [red, green, blue].map(|color| u32::from(color) * u32::from(alpha));
                    [red, green, blue, u32::from(alpha)]
                };
                let cells = Cells::of(&raster, size, watch, seen)?;
                Ok(Small::new(size, |at| {
                    let [red, green, blue, alpha] = cells.mean(at, size);
                    let color = |seen: f64| if alpha > 0.0 { seen / alpha / 255.0 } else { 0.0 };
                    [color(red), color(green), color(blue), alpha / 255.0]
                }))
            }
        }
    }

    fn of_planes(planes: &Planes, size: (usize, usize), watch: &dyn Watch) -> Result<Small, Fault> {
        let plane = |index: usize| {
            let (stride, rows) = planes.plane_size(index);
            // Luma is padded to whole colour samples, and padding is no part of the picture.
            let (width, height) = (stride.min(planes.width) as usize, rows.min(planes.height) as usize);
            let raster = Raster { samples: planes.plane(index), stride: stride as usize, width, height };
            let cells = (size.0.min(width), size.1.min(height));
            Cells::of(&raster, cells, watch, |&[sample]: &[u8; 1]| [u32::from(sample)])
        };
        let (luma, blue, red) = (plane(0)?, plane(1)?, plane(2)?);
        Ok(Small::new(size, |at| {
            let [[luma], [blue], [red]] = [&luma, &blue, &red].map(|cells| cells.mean(at, size));
            // ITU-T T.871 section 7.
            let (blue, red) = (blue - 128.0, red - 128.0);
            let rgb = [luma + 1.402 * red, luma - 0.344_136_286 * blue - 0.714_136_286 * red, luma + 1.772 * blue];
            let [red, green, blue] = rgb.map(|value| (value / 255.0).clamp(0.0, 1.0));
            [red, green, blue, 1.0]
        }))
    }

    fn new((width, height): (usize, usize), pixel: impl Fn((usize, usize)) -> [f64; 4]) -> Small {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Small { width, height, pixels: places.map(pixel).collect() }
    }
}

/// Samples in rows.
struct Raster<'a> {
    samples: &'a [u8],
    /// Pixels from one row to the next.
    stride: usize,
    width: usize,
    height: usize,
}

/// Means over the cells of a raster, of `N` values each.
struct Cells<const N: usize> {
    columns: usize,
    rows: usize,
    means: Vec<[f64; N]>,
}

impl<const N: usize> Cells<N> {
    /// Of pixels of `B` bytes, each of which has these values. There are at least as many pixels as cells along each axis.
    fn of<const B: usize>(
        raster: &Raster<'_>,
        (columns, rows): (usize, usize),
        watch: &dyn Watch,
        values: impl Fn(&[u8; B]) -> [u32; N],
    ) -> Result<Cells<N>, Fault> {
        let spans: Vec<Range<usize>> = (0..columns).map(|column| span(column, columns, raster.width)).collect();
        let (pixels, _) = raster.samples.as_chunks::<B>();
        let mut means = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            watch.check()?;
            let lines = span(row, rows, raster.height);
            let mut sums = vec![[0_u64; N]; columns];
            for line in lines.clone() {
                let line = &pixels[line * raster.stride..][..raster.width];
                for (sums, span) in sums.iter_mut().zip(&spans) {
                    for pixel in &line[span.clone()] {
                        sums.iter_mut().zip(values(pixel)).for_each(|(sum, value)| *sum += u64::from(value));
                    }
                }
            }
            means.extend(sums.iter().zip(&spans).map(|(sums, span)| {
                let count = (span.len() * lines.len()) as f64;
                sums.map(|sum| sum as f64 / count)
            }));
        }
        Ok(Cells { columns, rows, means })
    }

    /// The mean of the cell that a pixel of a picture of `size` shows.
    fn mean(&self, (x, y): (usize, usize), size: (usize, usize)) -> [f64; N] {
        self.means[y * self.rows / size.1 * self.columns + x * self.columns / size.0]
    }
}

/// The samples that begin in a cell.
fn span(cell: usize, cells: usize, samples: usize) -> Range<usize> {
    let start = |cell: usize| (cell * samples).div_ceil(cells);
    start(cell)..start(cell + 1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fault::Kind;
    use crate::pipeline::trial::Never;

    /// The picture that BlurHash's test vectors were made of.
    pub(in super::super) fn picture(width: u32, height: u32, layout: Layout) -> Picture {
        let mut samples = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let rgb = [x * 255 / width, y * 255 / height, (x * 7 + y * 13) % 256].map(|value| value as u8);
                match layout {
                    Layout::Gray => samples.push(rgb[2]),
                    Layout::Rgb => samples.extend(rgb),
                    Layout::Rgba => samples.extend(rgb.into_iter().chain([((x + y) * 255 / (width + height)) as u8])),
                }
            }
        }
        Picture::Pixels(Pixels { width, height, layout, samples })
    }

    fn small(picture: &Picture) -> Small {
        Small::of(picture, &Never).unwrap()
    }

    #[test]
    fn cells_take_every_sample_once() {
        for (cells, samples) in [(1, 1), (1, 5), (3, 7), (64, 64), (64, 65), (64, 1000)] {
            let spans: Vec<Range<usize>> = (0..cells).map(|cell| span(cell, cells, samples)).collect();
            assert_eq!((spans[0].start, spans[cells - 1].end), (0, samples));
            assert!(spans.windows(2).all(|two| two[0].end == two[1].start), "{spans:?}");
            assert!(spans.iter().all(|span| !span.is_empty()), "{spans:?}");
        }
    }

    #[test]
    fn what_is_large_is_averaged_and_what_is_small_stays() {
        let large = small(&picture(1000, 750, Layout::Rgb));
        assert_eq!((large.width, large.height), (64, 48));
        let mean = large.pixels.iter().map(|pixel| pixel[0]).sum::<f64>() / large.pixels.len() as f64;
        assert!((mean - 0.498).abs() < 0.002, "{mean}");
        let long = small(&picture(5000, 3, Layout::Gray));
        assert_eq!((long.width, long.height, long.pixels.len()), (64, 1, 64));
        let same = small(&picture(7, 5, Layout::Rgba));
        assert_eq!((same.width, same.height), (7, 5));
        // The last one: 6 of 7, 4 of 5, and (6 * 7 + 4 * 13) of 256; alpha is 10 of 12.
        let expected = [6.0 * 255.0 / 7.0, 4.0 * 255.0 / 5.0, 94.0, 10.0 * 255.0 / 12.0].map(f64::floor);
        for (found, expected) in same.pixels[34].into_iter().zip(expected) {
            assert!((found * 255.0 - expected).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn what_is_not_seen_has_no_colour() {
        let half = [[255, 0, 0, 255], [0, 255, 0, 0]].concat().repeat(100);
        let half = Picture::Pixels(Pixels { width: 200, height: 1, layout: Layout::Rgba, samples: half });
        for pixel in small(&half).pixels {
            assert!(pixel[0] > 0.99 && pixel[1] < 0.01 && (0.2..0.8).contains(&pixel[3]), "{pixel:?}");
        }
        let none = Pixels { width: 90, height: 90, layout: Layout::Rgba, samples: vec![0; 90 * 90 * 4] };
        assert!(small(&Picture::Pixels(none)).pixels.iter().all(|pixel| *pixel == [0.0; 4]));
    }

    #[test]
    fn planes_are_averaged_without_their_padding() {
        for (width, height) in [(101, 75), (1, 1), (3, 200)] {
            let mut planes = Planes { width, height, subsampling: (2, 2), samples: Vec::new() };
            let (luma, colour) = (planes.plane_size(0), planes.plane_size(1));
            // Red, and a padding that is not.
            for y in 0..luma.1 {
                planes.samples.extend((0..luma.0).map(|x| if x < width && y < height { 76 } else { 255 }));
            }
            let count = (colour.0 * colour.1) as usize;
            planes.samples.extend(vec![85; count]);
            planes.samples.extend(vec![255; count]);
            for pixel in small(&Picture::Planes(planes)).pixels {
                assert!(pixel[0] > 0.98 && pixel[1] < 0.03 && pixel[2] < 0.03, "{pixel:?}");
            }
        }
    }

    #[test]
    fn it_ends_when_it_is_told() {
        struct Stopped;
        impl Watch for Stopped {
            fn check(&self) -> Result<(), Fault> {
                Err(Fault::new(Kind::Stopped, "told to"))
            }
        }
        let stopped = Small::of(&picture(100, 100, Layout::Rgb), &Stopped);
        assert_eq!(stopped.map(|_| ()).unwrap_err().kind, Kind::Stopped);
    }
}
