//! Colours of whatever kind to sRGB, which is what every output is in.
//!
//! A profile that cannot be read or used is ignored, and sRGB assumed: what browsers do. One that is sRGB by another name
//! (most of them) is found by its effect on a few hundred colours, and costs nothing afterwards.

use std::sync::Arc;

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace, Layout as Channels,
    MatrixCoefficients, ToneReprCurve, TransferCharacteristics, Transform16BitExecutor, TransformExecutor,
    TransformOptions, XyY,
};

use super::Watch;
use super::pixels::{Layout, Pixels};
use super::tone::Tone;
use crate::fault::Fault;

/// Rows that are converted at once, and between which a job can be stopped.
const STRIP_ROWS: usize = 64;
/// Bytes of a profile's tables that are made. Beyond: the profile is ignored.
const TABLE_BYTES_MAX: usize = 16 << 20;
/// A difference of 8-bit samples that nobody sees: a profile that changes less is sRGB.
const SAME_MAX: u8 = 1;

/// Colours as a file describes them.
#[derive(Clone, Debug)]
pub struct Source(ColorProfile);

impl Source {
    /// An ICC profile, unless it is broken.
    pub fn of_icc(profile: &[u8]) -> Option<Source> {
        let options = moxcms::ParsingOptions {
            max_profile_size: profile.len() + 1,
            max_allowed_clut_size: TABLE_BYTES_MAX,
            ..moxcms::ParsingOptions::default()
        };
        ColorProfile::new_from_slice_with_options(profile, options).ok().map(Source)
    }

    /// Numbers of ITU-T H.273, of which only primaries and transfer count for red, green and blue. `None`: they mean sRGB,
    /// or nothing that is known, or a light beyond white, for which there is [`tone`](super::tone).
    pub fn of_numbers(primaries: u16, transfer: u16) -> Option<Source> {
        const SRGB: u16 = 13;
        // The curves of BT.709, 601 and 2020 are those of cameras; displays show such pictures as if they were sRGB.
        let transfer = if matches!(transfer, 1 | 2 | 6 | 14 | 15) { SRGB } else { transfer };
        let is_high_range = matches!(transfer, 16 | 18);
        if is_high_range || (transfer == SRGB && matches!(primaries, 1 | 2)) {
            return None;
        }
        let primaries = if primaries == 2 { 1 } else { primaries };
        let color_primaries = CicpColorPrimaries::try_from(u8::try_from(primaries).ok()?).ok()?;
        let transfer_characteristics = TransferCharacteristics::try_from(u8::try_from(transfer).ok()?).ok()?;
        Some(Source(ColorProfile::new_from_cicp(CicpProfile {
            color_primaries,
            transfer_characteristics,
            matrix_coefficients: MatrixCoefficients::Identity,
            full_range: true,
        })))
    }

    /// A power curve and, where they are given, chromaticities of white, red, green and blue: what `gAMA` and `cHRM` say in
    /// a PNG. `gamma` is the exponent that makes light of samples, 2.2 for most.
    pub fn of_gamma(gamma: f32, chromaticities: Option<[(f32, f32); 4]>) -> Option<Source> {
        let sane = |value: f32| value.is_finite() && (0.0..=1.0).contains(&value);
        if !(0.1..=10.0).contains(&gamma) {
            return None;
        }
        let mut profile = ColorProfile::new_srgb();
        profile.cicp = None;
        // Close to 2.2 the writer meant sRGB, whose curve is not quite a power.
        if !(2.15..=2.25).contains(&gamma) {
            let curve = ToneReprCurve::Parametric(vec![gamma]);
            profile.red_trc = Some(curve.clone());
            profile.green_trc = Some(curve.clone());
            profile.blue_trc = Some(curve);
        }
        if let Some([white, red, green, blue]) = chromaticities {
            let all = [white, red, green, blue];
            if !all.iter().all(|&(x, y)| sane(x) && sane(y) && y > 0.0) {
                return None;
            }
            let at = |(x, y): (f32, f32)| Chromaticity { x, y };
            let primaries = ColorPrimaries { red: at(red), green: at(green), blue: at(blue) };
            profile.update_rgb_colorimetry(XyY { x: white.0.into(), y: white.1.into(), yb: 1.0 }, primaries);
        }
        Some(Source(profile))
    }

    /// The way from pixels of this layout to sRGB, or `None` when they are sRGB already or the profile is not one for them.
    pub fn to_srgb(&self, layout: Layout) -> Option<ToSrgb> {
        let (space, from, to) = match layout {
            Layout::Gray => (DataColorSpace::Gray, Channels::Gray, Channels::Rgb),
            Layout::Rgb => (DataColorSpace::Rgb, Channels::Rgb, Channels::Rgb),
            Layout::Rgba => (DataColorSpace::Rgb, Channels::Rgba, Channels::Rgba),
        };
        if self.0.color_space != space {
            return None;
        }
        let transform = self.0.create_transform_8bit(from, &ColorProfile::new_srgb(), to, options()).ok()?;
        let way = if layout == Layout::Gray {
            let every: Vec<u8> = (0..=255).collect();
            let mut seen = [0; 256 * 3];
            transform.transform(&every, &mut seen).ok()?;
            let mut table = [0; 256];
            table.iter_mut().zip(seen.chunks_exact(3)).for_each(|(to, rgb)| *to = rgb[1]);
            Way::Table(Box::new(table))
        } else {
            Way::Transform { transform, channels: layout.bytes() }
        };
        let to_srgb = ToSrgb(way);
        (!to_srgb.is_same()).then_some(to_srgb)
    }

    /// The same for red, green and blue of 16 bits, without the shortcut.
    fn wide_to_srgb(&self) -> Option<Arc<Transform16BitExecutor>> {
        if self.0.color_space != DataColorSpace::Rgb {
            return None;
        }
        self.0.create_transform_16bit(Channels::Rgb, &ColorProfile::new_srgb(), Channels::Rgb, options()).ok()
    }

    /// The same for four inks to red, green and blue.
    fn inks_to_srgb(&self) -> Option<Arc<dyn TransformExecutor<u8> + Send + Sync>> {
        if self.0.color_space != DataColorSpace::Cmyk {
            return None;
        }
        self.0.create_transform_8bit(Channels::Rgba, &ColorProfile::new_srgb(), Channels::Rgb, options()).ok()
    }
}

fn options() -> TransformOptions {
    TransformOptions::default()
}

/// A prepared way to sRGB for 8-bit samples.
pub struct ToSrgb(Way);

enum Way {
    Table(Box<[u8; 256]>),
    Transform { transform: Arc<dyn TransformExecutor<u8> + Send + Sync>, channels: usize },
}

impl std::fmt::Debug for ToSrgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Way::Table(_) => f.write_str("ToSrgb(table)"),
            Way::Transform { channels, .. } => write!(f, "ToSrgb({channels} channels)"),
        }
    }
}

impl ToSrgb {
    /// Converts pixels where they are. Their layout is the one that this was made for.
    ///
    /// # Errors
    /// [`Kind::Stopped`](crate::fault::Kind::Stopped).
    pub fn apply(&self, pixels: &mut Pixels, watch: &dyn Watch) -> Result<(), Fault> {
        let row_bytes = pixels.width as usize * pixels.layout.bytes();
        let mut before = vec![0; row_bytes * STRIP_ROWS.min(pixels.height as usize)];
        for strip in pixels.samples.chunks_mut((row_bytes * STRIP_ROWS).max(1)) {
            watch.check()?;
            let before = &mut before[..strip.len()];
            before.copy_from_slice(strip);
            self.convert(before, strip);
        }
        Ok(())
    }

    /// Converts samples; both slices are of whole pixels and equally long.
    pub fn convert(&self, from: &[u8], to: &mut [u8]) {
        match &self.0 {
            Way::Table(table) => to.iter_mut().zip(from).for_each(|(to, &from)| *to = table[usize::from(from)]),
            Way::Transform { transform, .. } => {
                // It fails only for lengths that are no whole pixels; the colours then stay as they were.
                if transform.transform(from, to).is_err() {
                    to.copy_from_slice(from);
                }
            }
        }
    }

    /// Whether nobody would see a difference.
    fn is_same(&self) -> bool {
        let near = |from: &[u8], to: &[u8]| from.iter().zip(to).all(|(a, b)| a.abs_diff(*b) <= SAME_MAX);
        match &self.0 {
            Way::Table(table) => table.iter().zip(0..=255u8).all(|(to, from)| to.abs_diff(from) <= SAME_MAX),
            Way::Transform { channels, .. } => {
                let steps = [0, 16, 48, 96, 128, 176, 224, 255];
                let mut from = Vec::new();
                for red in steps {
                    for green in steps {
                        for blue in steps {
                            from.extend_from_slice(&[red, green, blue, 255][..*channels]);
                        }
                    }
                }
                let mut to = vec![0; from.len()];
                self.convert(&from, &mut to);
                near(&from, &to)
            }
        }
    }
}

/// Colours of 16 bits per sample to sRGB of 8: what is computed between is not rounded twice.
pub enum Wide {
    /// They are sRGB.
    Same,
    /// By a profile.
    Profile(Arc<Transform16BitExecutor>),
    /// High dynamic range.
    Tone(Tone),
}

impl Wide {
    /// By numbers of ITU-T H.273 where they are of high dynamic range, else by the profile.
    pub fn new(numbers: Option<(u16, u16)>, source: Option<&Source>) -> Wide {
        if let Some(tone) = numbers.and_then(|(primaries, transfer)| Tone::of_numbers(primaries, transfer)) {
            return Wide::Tone(tone);
        }
        // A profile that is sRGB for 8 bits is so for 16.
        match source.filter(|source| source.to_srgb(Layout::Rgb).is_some()).and_then(Source::wide_to_srgb) {
            Some(transform) => Wide::Profile(transform),
            None => Wide::Same,
        }
    }

    /// Converts pixels of three samples: `rgb` takes as many. `wide` is left in an unspecified state.
    pub fn convert(&self, wide: &mut [u16], rgb: &mut [u8]) {
        match self {
            Wide::Tone(tone) => {
                let pixels = wide.as_chunks::<3>().0.iter().zip(rgb.as_chunks_mut::<3>().0);
                pixels.for_each(|(wide, rgb)| *rgb = tone.convert(*wide));
                return;
            }
            Wide::Profile(transform) => {
                let from = wide.to_vec();
                // It fails only for lengths that are no whole pixels; the colours then stay as they were.
                if transform.transform(&from, wide).is_err() {
                    wide.copy_from_slice(&from);
                }
            }
            Wide::Same => {}
        }
        rgb.iter_mut().zip(wide.iter()).for_each(|(narrow, &wide)| *narrow = narrowed(wide));
    }
}

/// The nearest sample of 8 bits to one of 16.
pub fn narrowed(wide: u16) -> u8 {
    ((u32::from(wide) * 255 + 32_767) / 65_535) as u8
}

/// Four inks to red, green and blue.
pub struct Inks {
    transform: Option<Arc<dyn TransformExecutor<u8> + Send + Sync>>,
    inverted: bool,
}

impl Inks {
    /// `inverted`: 255 stands for no ink, which is how Adobe's programs store it. Without a profile that can be used, inks
    /// are taken to be ideal, as programs without colour management do.
    pub fn new(icc: Option<&[u8]>, inverted: bool) -> Inks {
        Inks { transform: icc.and_then(Source::of_icc).and_then(|source| source.inks_to_srgb()), inverted }
    }

    /// Converts pixels of cyan, magenta, yellow and black to red, green and blue: `rgb` takes three bytes for four.
    pub fn convert(&self, inks: &mut [u8], rgb: &mut [u8]) {
        if self.inverted == self.transform.is_some() {
            // A profile speaks of ink, the formula below of its absence.
            inks.iter_mut().for_each(|ink| *ink = 255 - *ink);
        }
        if let Some(transform) = &self.transform
            && transform.transform(inks, rgb).is_ok()
        {
            return;
        }
        for (inks, rgb) in inks.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
            for (light, absence) in rgb.iter_mut().zip(inks) {
                let product = u32::from(*absence) * u32::from(inks[3]);
                *light = ((product + 127) / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trial::Never;

    fn pixels(layout: Layout, samples: &[u8]) -> Pixels {
        let width = (samples.len() / layout.bytes()) as u32;
        Pixels { width, height: 1, layout, samples: samples.to_vec() }
    }

    fn converted(source: &Source, layout: Layout, samples: &[u8]) -> Vec<u8> {
        let mut pixels = pixels(layout, samples);
        source.to_srgb(layout).unwrap().apply(&mut pixels, &Never).unwrap();
        pixels.samples
    }

    fn near(a: &[u8], b: &[u8], most: u8) {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= most), "{a:?} {b:?}");
    }

    #[test]
    fn srgb_by_any_name_costs_nothing() {
        let icc = ColorProfile::new_srgb().encode().unwrap();
        let source = Source::of_icc(&icc).unwrap();
        assert!(source.to_srgb(Layout::Rgb).is_none() && source.to_srgb(Layout::Rgba).is_none());
        assert!(Source::of_numbers(1, 13).is_none());
        assert!(Source::of_numbers(1, 1).is_none());
        assert!(Source::of_gamma(2.2, None).unwrap().to_srgb(Layout::Rgb).is_none());
        let srgb = [(0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)];
        assert!(Source::of_gamma(2.2, Some(srgb)).unwrap().to_srgb(Layout::Rgb).is_none());
    }

    #[test]
    fn display_p3_becomes_srgb() {
        // Within both gamuts, from CSS Color 4: color(display-p3 0.5 0.4 0.3) is about rgb(131 101 73).
        let icc = ColorProfile::new_display_p3().encode().unwrap();
        for source in [Source::of_icc(&icc).unwrap(), Source::of_numbers(12, 13).unwrap()] {
            near(&converted(&source, Layout::Rgb, &[128, 102, 77]), &[131, 101, 74], 2);
            // Grey stays grey, and alpha stays.
            near(&converted(&source, Layout::Rgba, &[100, 100, 100, 7]), &[100, 100, 100, 7], 1);
            // What lies outside is cut off.
            near(&converted(&source, Layout::Rgb, &[255, 0, 0]), &[255, 0, 0], 2);
        }
    }

    #[test]
    fn gamma_is_applied() {
        // Linear light: 0.2140 of it is the sRGB value 0.5.
        let source = Source::of_gamma(1.0, None).unwrap();
        near(&converted(&source, Layout::Rgb, &[55, 55, 55, 255, 255, 255]), &[128, 128, 128, 255, 255, 255], 2);
        assert!(Source::of_gamma(0.0, None).is_none());
        assert!(Source::of_gamma(f32::NAN, None).is_none());
        assert!(Source::of_gamma(2.2, Some([(0.3, 0.0); 4])).is_none());
    }

    #[test]
    fn sixteen_bits_are_rounded_once() {
        for narrow in 0..=255u8 {
            assert_eq!(narrowed(u16::from(narrow) * 257), narrow);
        }
        let linear = Source::of_gamma(1.0, None).unwrap();
        let mut rgb = [0; 6];
        // So dark that 8 linear bits would know two steps.
        Wide::new(None, Some(&linear)).convert(&mut [100, 100, 100, 300, 300, 300], &mut rgb);
        near(&rgb, &[5, 5, 5, 15, 15, 15], 1);
        Wide::new(None, None).convert(&mut [0, 257, 65_535, 128, 129, 386], &mut rgb);
        assert_eq!(rgb, [0, 1, 255, 0, 1, 2]);
        assert!(matches!(Wide::new(Some((9, 16)), None), Wide::Tone(_)));
    }

    #[test]
    fn a_grey_profile_is_a_table() {
        let icc = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        let source = Source::of_icc(&icc).unwrap();
        near(&converted(&source, Layout::Gray, &[0, 55, 255]), &[0, 128, 255], 2);
        // A profile for other pixels is ignored.
        assert!(source.to_srgb(Layout::Rgb).is_none());
    }

    #[test]
    fn broken_profiles_are_ignored() {
        let icc = ColorProfile::new_display_p3().encode().unwrap();
        let mut state = 5u64;
        for round in 0..2000usize {
            let mut broken = icc.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % broken.len();
                broken[at] = (state >> 25) as u8;
            }
            broken.truncate(if round % 3 == 0 { round % icc.len() } else { icc.len() });
            if let Some(way) = Source::of_icc(&broken).and_then(|source| source.to_srgb(Layout::Rgb)) {
                way.convert(&[1, 2, 3], &mut [0; 3]);
            }
        }
        assert!(Source::of_icc(b"").is_none());
        assert!(Source::of_icc(&[0; 200]).is_none());
    }

    #[test]
    fn inks_without_a_profile_are_ideal() {
        let convert = |inks: [u8; 4], inverted| {
            let (mut inks, mut rgb) = (inks, [9; 3]);
            Inks::new(None, inverted).convert(&mut inks, &mut rgb);
            rgb
        };
        assert_eq!(convert([0, 0, 0, 0], false), [255, 255, 255]);
        assert_eq!(convert([255, 0, 0, 0], false), [0, 255, 255]);
        assert_eq!(convert([0, 0, 0, 255], false), [0, 0, 0]);
        assert_eq!(convert([255, 255, 255, 255], true), [255, 255, 255]);
        assert_eq!(convert([0, 255, 255, 128], true), [0, 128, 128]);
    }
}
