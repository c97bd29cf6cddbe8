//! A row as it is stored becomes one of ours.

use super::palette::Palette;
use crate::fault::{Fault, Kind};
use crate::pipeline::color::{Inks, Source, Wide, narrowed};
use crate::pipeline::pixels::Layout;

/// What the colours are, and how they become sRGB where that has to happen before they are narrowed.
pub(super) enum Colors {
    Gray,
    Rgb(Box<Wide>),
    Palette(Palette),
    Inks(Box<Inks>),
}

impl Colors {
    pub(super) fn rgb(profile: Option<&[u8]>) -> Colors {
        Colors::Rgb(Box::new(Wide::new(None, profile.and_then(Source::of_icc).as_ref())))
    }

    pub(super) fn inks(profile: Option<&[u8]>) -> Colors {
        Colors::Inks(Box::new(Inks::new(profile, false)))
    }

    /// Samples of a stored pixel.
    fn samples(&self) -> usize {
        match self {
            Colors::Gray | Colors::Palette(_) => 1,
            Colors::Rgb(_) => 3,
            Colors::Inks(_) => 4,
        }
    }
}

/// The first sample behind the colours (section 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alpha {
    None,
    /// Colours have been multiplied with it ("associated").
    Premultiplied,
    Straight,
}

/// How rows of an image are stored.
pub(super) struct Row {
    colors: Colors,
    alpha: Alpha,
    /// Samples of a pixel in the decoder's buffer, those included that nobody wants.
    samples: usize,
    bits: u8,
    layout: Layout,
}

/// Memory that is used again for each row.
#[derive(Default)]
pub(super) struct Scratch {
    /// A row whose samples came in planes.
    pub(super) joined: Vec<u8>,
    /// For [`Row::convert`].
    pub(super) row: Vec<u8>,
}

impl Row {
    pub(super) fn new(colors: Colors, alpha: Alpha, samples: usize, bits: u8, layout: Layout) -> Result<Row, Fault> {
        let wanted = colors.samples() + usize::from(alpha != Alpha::None);
        let is_index = matches!(colors, Colors::Palette(_));
        if samples < wanted || !matches!(bits, 1 | 2 | 4 | 8 | 16) || bits < 8 && samples > 1 || is_index && bits > 8 {
            let what = format!("the tiff has pixels of {samples} samples of {bits} bits, which is not supported");
            return Err(Fault::new(Kind::Unsupported, what));
        }
        Ok(Row { colors, alpha, samples, bits, layout })
    }

    pub(super) fn sample_bytes(&self) -> usize {
        usize::from(self.bits.div_ceil(8))
    }

    /// Both are whole rows.
    pub(super) fn convert(&self, from: &[u8], to: &mut [u8], scratch: &mut Vec<u8>) {
        if self.bits == 16 {
            let wide = || from.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair));
            if let Colors::Rgb(way) = &self.colors {
                return self.convert_wide(&wide().collect::<Vec<u16>>(), way, to);
            }
            scratch.clear();
            scratch.extend(wide().map(narrowed));
            return self.convert_narrow(scratch, to);
        }
        if self.bits < 8 {
            scratch.clear();
            let (bits, mask) = (u32::from(self.bits), (1u8 << self.bits) - 1);
            // A grey's range becomes 0 to 255; an index stays what it is.
            let scale = if matches!(self.colors, Colors::Gray) { 255 / mask } else { 1 };
            let shifts = (0..8 / bits).rev().map(|at| at * bits);
            scratch.extend(from.iter().flat_map(|byte| shifts.clone().map(move |by| (byte >> by & mask) * scale)));
            return self.convert_narrow(scratch, to);
        }
        self.convert_narrow(from, to);
    }

    fn convert_wide(&self, from: &[u16], way: &Wide, to: &mut [u8]) {
        let pixels = from.chunks_exact(self.samples);
        let alphas = pixels.clone().map(|pixel| if self.alpha == Alpha::None { u16::MAX } else { pixel[3] });
        let mut colors: Vec<u16> = Vec::with_capacity(pixels.len() * 3);
        for (pixel, alpha) in pixels.zip(alphas.clone()) {
            colors.extend(pixel[..3].iter().map(|&sample| self.straight(sample.into(), alpha.into(), 65_535) as u16));
        }
        let mut rgb = vec![0; colors.len()];
        way.convert(&mut colors, &mut rgb);
        let rgb = rgb.as_chunks::<3>().0.iter();
        match self.layout {
            Layout::Rgba => {
                let all = to.as_chunks_mut::<4>().0.iter_mut().zip(rgb).zip(alphas);
                all.for_each(|((to, rgb), alpha)| *to = [rgb[0], rgb[1], rgb[2], narrowed(alpha)]);
            }
            _ => to.as_chunks_mut::<3>().0.iter_mut().zip(rgb).for_each(|(to, rgb)| *to = *rgb),
        }
    }

    fn convert_narrow(&self, from: &[u8], to: &mut [u8]) {
        let colors = self.colors.samples();
        let pixels = from.chunks_exact(self.samples);
        let alpha = |pixel: &[u8]| if self.alpha == Alpha::None { 255 } else { pixel[colors] };
        let straight = |pixel: &[u8], at: usize| self.straight(pixel[at].into(), alpha(pixel).into(), 255) as u8;
        match &self.colors {
            Colors::Gray => put(to, self.layout, pixels.map(|pixel| ([straight(pixel, 0); 3], alpha(pixel)))),
            Colors::Rgb(_) => {
                let rgb = pixels.map(|pixel| ([0, 1, 2].map(|at| straight(pixel, at)), alpha(pixel)));
                put(to, self.layout, rgb);
            }
            Colors::Palette(palette) => {
                put(to, self.layout, pixels.map(|pixel| (palette.color(pixel[0]), alpha(pixel))));
            }
            Colors::Inks(inks) => {
                let mut four: Vec<u8> =
                    pixels.clone().flat_map(|pixel| [0, 1, 2, 3].map(|at| straight(pixel, at))).collect();
                let mut rgb = vec![0; four.len() / 4 * 3];
                inks.convert(&mut four, &mut rgb);
                put(to, self.layout, rgb.as_chunks::<3>().0.iter().copied().zip(pixels.map(alpha)));
            }
        }
    }

    /// A sample without its alpha in it.
    fn straight(&self, sample: u32, alpha: u32, most: u32) -> u32 {
        match (self.alpha, alpha) {
            (Alpha::Premultiplied, 1..) if alpha < most => ((sample * most + alpha / 2) / alpha).min(most),
            _ => sample,
        }
    }
}

fn put(to: &mut [u8], layout: Layout, pixels: impl Iterator<Item = ([u8; 3], u8)>) {
    match layout {
        Layout::Gray => to.iter_mut().zip(pixels).for_each(|(to, (rgb, _))| *to = rgb[0]),
        Layout::Rgb => to.as_chunks_mut::<3>().0.iter_mut().zip(pixels).for_each(|(to, (rgb, _))| *to = rgb),
        Layout::Rgba => {
            let all = to.as_chunks_mut::<4>().0.iter_mut().zip(pixels);
            all.for_each(|(to, ([red, green, blue], alpha))| *to = [red, green, blue, alpha]);
        }
    }
}

/// Pixels without transparency in a row that may want it.
pub(super) fn laid_out(from: &[u8], layout: Layout, to: &mut [u8], wanted: Layout) {
    match layout {
        Layout::Gray => put(to, wanted, from.iter().map(|&gray| ([gray; 3], 255))),
        Layout::Rgb => put(to, wanted, from.as_chunks::<3>().0.iter().map(|&rgb| (rgb, 255))),
        Layout::Rgba => put(
            to,
            wanted,
            from.as_chunks::<4>().0.iter().map(|&[red, green, blue, alpha]| ([red, green, blue], alpha)),
        ),
    }
}
