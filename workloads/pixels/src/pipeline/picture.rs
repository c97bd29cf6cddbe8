//! What the decoder hands to the cascade: packed pixels, or the three planes that a JPEG is made of.
//!
//! Most JPEGs come in and go out as YCbCr with a quarter of the colour samples. Their planes are resampled as they are,
//! each at its own resolution: no upsampling, no colour conversion, and half the samples. Planes lie one after the other
//! in one buffer, as TurboJPEG has them: rows without gaps, and luma padded to whole colour samples.
//!
//! ```text
//!   5 x 3 pixels, 2 x 2 subsampled:   Y Y Y Y Y p    Cb Cb Cb    Cr Cr Cr      a colour sample lies in the middle of
//!                                     Y Y Y Y Y p    Cb Cb Cb    Cr Cr Cr      the 2 x 2 pixels that it belongs to;
//!                                     Y Y Y Y Y p                              p is padding
//!                                     p p p p p p
//! ```

use super::pixels::{Layout, Pixels, Pool};

/// An image between decoding and encoding, as stored: its orientation is not applied yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picture {
    /// YCbCr planes, full range BT.601 as JFIF has it.
    Planes(Planes),
    /// Packed pixels.
    Pixels(Pixels),
}

impl Picture {
    /// Pixels.
    pub fn width(&self) -> u32 {
        match self {
            Picture::Planes(planes) => planes.width,
            Picture::Pixels(pixels) => pixels.width,
        }
    }

    /// Pixels.
    pub fn height(&self) -> u32 {
        match self {
            Picture::Planes(planes) => planes.height,
            Picture::Pixels(pixels) => pixels.height,
        }
    }

    /// Gives the memory back.
    pub fn give(self, pool: &mut Pool) {
        pool.give(match self {
            Picture::Planes(planes) => planes.samples,
            Picture::Pixels(pixels) => pixels.samples,
        });
    }
}

/// Three planes: luma, blue and red difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pixels per colour sample, along and down: 1, 2 or 4.
    pub subsampling: (u32, u32),
    /// All three, one after the other.
    pub samples: Vec<u8>,
}

impl Planes {
    /// Planes with unspecified content.
    pub fn take(width: u32, height: u32, subsampling: (u32, u32), pool: &mut Pool) -> Planes {
        let len = Planes::len(width, height, subsampling);
        Planes { width, height, subsampling, samples: pool.take(len) }
    }

    /// Bytes of all three.
    pub fn len(width: u32, height: u32, subsampling: (u32, u32)) -> usize {
        let area = |(width, height): (u32, u32)| width as usize * height as usize;
        area(luma_size(width, height, subsampling)) + 2 * area(colour_size(width, height, subsampling))
    }

    /// Samples along and down of a plane, padding included.
    pub fn plane_size(&self, index: usize) -> (u32, u32) {
        match index {
            0 => luma_size(self.width, self.height, self.subsampling),
            _ => colour_size(self.width, self.height, self.subsampling),
        }
    }

    /// Pixels per sample of a plane.
    pub fn plane_subsampling(&self, index: usize) -> (u32, u32) {
        if index == 0 { (1, 1) } else { self.subsampling }
    }

    /// The samples of a plane.
    pub fn plane(&self, index: usize) -> &[u8] {
        &self.samples[self.range(index)]
    }

    /// The samples of a plane.
    pub fn plane_mut(&mut self, index: usize) -> &mut [u8] {
        let range = self.range(index);
        &mut self.samples[range]
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let len = |index| {
            let (width, height) = self.plane_size(index);
            width as usize * height as usize
        };
        let start = (0..index).map(len).sum();
        start..start + len(index)
    }

    /// Fills luma's padding with its neighbours.
    pub fn pad(&mut self) {
        let (stride, rows) = self.plane_size(0);
        let (stride, rows) = (stride as usize, rows as usize);
        let (width, height) = (self.width as usize, self.height as usize);
        let luma = self.plane_mut(0);
        for row in luma.chunks_exact_mut(stride).take(height) {
            let last = row[width - 1];
            row[width..].fill(last);
        }
        for row in height..rows {
            luma.copy_within((height - 1) * stride..height * stride, row * stride);
        }
    }

    /// The same in red, green and blue. For planes that are not subsampled (see [`Planes::subsampling`]).
    pub fn to_rgb(&self, pool: &mut Pool) -> Pixels {
        debug_assert_eq!(self.subsampling, (1, 1));
        let mut samples = pool.take(self.plane(0).len() * 3);
        let colours = self.plane(1).iter().zip(self.plane(2));
        for ((pixel, &luma), (&blue, &red)) in samples.chunks_exact_mut(3).zip(self.plane(0)).zip(colours) {
            pixel.copy_from_slice(&rgb(luma, blue, red));
        }
        Pixels { width: self.width, height: self.height, layout: Layout::Rgb, samples }
    }
}

/// JFIF's conversion (ITU-T T.871 section 7), with 16 binary places.
#[inline]
fn rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let luma = (i32::from(luma) << 16) + HALF;
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    let sample = |value: i32| (value >> 16).clamp(0, 255) as u8;
    [sample(luma + 91_881 * red), sample(luma - 22_554 * blue - 46_802 * red), sample(luma + 116_130 * blue)]
}

fn luma_size(width: u32, height: u32, (along, down): (u32, u32)) -> (u32, u32) {
    (width.next_multiple_of(along), height.next_multiple_of(down))
}

fn colour_size(width: u32, height: u32, (along, down): (u32, u32)) -> (u32, u32) {
    (width.div_ceil(along), height.div_ceil(down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_lie_as_turbojpeg_has_them() {
        use turbojpeg::{Subsamp, yuv_pixels_len};
        let kinds = [
            ((1, 1), Subsamp::None),
            ((2, 1), Subsamp::Sub2x1),
            ((2, 2), Subsamp::Sub2x2),
            ((1, 2), Subsamp::Sub1x2),
            ((4, 1), Subsamp::Sub4x1),
            ((1, 4), Subsamp::Sub1x4),
        ];
        for (subsampling, theirs) in kinds {
            for (width, height) in [(1, 1), (5, 3), (16, 8), (751, 500)] {
                let len = yuv_pixels_len(width as usize, 1, height as usize, theirs).unwrap();
                assert_eq!(Planes::len(width, height, subsampling), len, "{subsampling:?} {width} {height}");
            }
        }
    }

    #[test]
    fn padding_repeats_the_edge() {
        let mut planes = Planes::take(3, 1, (2, 2), &mut Pool::new(0));
        planes.plane_mut(0)[..3].copy_from_slice(&[1, 2, 3]);
        planes.pad();
        assert_eq!(planes.plane(0), [1, 2, 3, 3, 1, 2, 3, 3]);
    }

    #[test]
    fn conversion_is_exact_to_half_a_step() {
        for (luma, blue, red) in (0..=255).step_by(5).flat_map(|y| {
            (0..=255).step_by(15).flat_map(move |b| (0..=255).step_by(15).map(move |r| (y as u8, b as u8, r as u8)))
        }) {
            let (y, b, r) = (f64::from(luma), f64::from(blue) - 128.0, f64::from(red) - 128.0);
            let exact = [y + 1.402 * r, y - 0.344_136_286 * b - 0.714_136_286 * r, y + 1.772 * b];
            for (ours, exact) in rgb(luma, blue, red).into_iter().zip(exact) {
                assert!((f64::from(ours) - exact.clamp(0.0, 255.0)).abs() <= 0.501, "{luma} {blue} {red}");
            }
        }
    }
}
