//! High dynamic range to sRGB: light that is brighter than white is brought below it, softly.
//!
//! PQ and HLG (ITU-R BT.2100) give light in absolute or scene terms; 203 cd/m2 is white (BT.2408). Up to three quarters of
//! white nothing changes, and what is brighter is rolled off towards it by its largest component, so that hues stay.

/// Light of diffuse white in cd/m2 (ITU-R BT.2408 section 2.2).
const WHITE_NITS: f32 = 203.0;
/// A share of white from which on light is rolled off.
const KNEE: f32 = 0.75;
/// Entries of the table of a curve.
const TABLE: usize = 4096;

/// A prepared way to sRGB.
#[derive(Clone, Debug)]
pub struct Tone {
    /// From an encoded sample to light, 1 being white.
    light: Vec<f32>,
    /// From light in the source's primaries to that in sRGB's.
    matrix: [[f32; 3]; 3],
}

impl Tone {
    /// For primaries and a transfer of ITU-T H.273, or `None` when the transfer is neither PQ nor HLG.
    pub fn of_numbers(primaries: u16, transfer: u16) -> Option<Tone> {
        let light = |encoded: f32| match transfer {
            16 => Some(pq(encoded) / WHITE_NITS),
            // A display of 1000 cd/m2, with its overall power of 1.2 per component.
            18 => Some(hlg(encoded).powf(1.2) * 1000.0 / WHITE_NITS),
            _ => None,
        };
        light(0.0)?;
        let light = (0..TABLE).filter_map(|at| light(at as f32 / (TABLE - 1) as f32)).collect();
        // Rows sum to one: grey stays grey. From the primaries' chromaticities, all with the white D65.
        let matrix = match primaries {
            9 => [
                [1.660_491, -0.587_641, -0.072_85],
                [-0.124_55, 1.132_9, -0.008_35],
                [-0.018_151, -0.100_579, 1.118_73],
            ],
            11 | 12 => [[1.224_94, -0.224_94, 0.0], [-0.042_057, 1.042_057, 0.0], [-0.019_638, -0.078_636, 1.098_274]],
            _ => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        };
        Some(Tone { light, matrix })
    }

    /// Converts one colour of 16-bit samples.
    pub fn convert(&self, encoded: [u16; 3]) -> [u8; 3] {
        let scale = (TABLE - 1) as f32 / 65535.0;
        let light = encoded.map(|sample| self.light[(f32::from(sample) * scale + 0.5) as usize]);
        let seen = self.matrix.map(|row| row.iter().zip(light).map(|(factor, light)| factor * light).sum::<f32>());
        let largest = seen.iter().copied().fold(0.0, f32::max);
        let factor = if largest > KNEE {
            let room = 1.0 - KNEE;
            (KNEE + room * (1.0 - (-(largest - KNEE) / room).exp())) / largest
        } else {
            1.0
        };
        seen.map(|light| (srgb((light * factor).clamp(0.0, 1.0)) * 255.0 + 0.5) as u8)
    }
}

/// Light in cd/m2 (BT.2100 table 4).
fn pq(encoded: f32) -> f32 {
    const M1: f32 = 2610.0 / 16384.0;
    const M2: f32 = 2523.0 / 4096.0 * 128.0;
    const C1: f32 = 3424.0 / 4096.0;
    const C2: f32 = 2413.0 / 4096.0 * 32.0;
    const C3: f32 = 2392.0 / 4096.0 * 32.0;
    let power = encoded.powf(1.0 / M2);
    10_000.0 * ((power - C1).max(0.0) / (C2 - C3 * power)).powf(1.0 / M1)
}

/// The scene's light from 0 to 1 (BT.2100 table 5).
fn hlg(encoded: f32) -> f32 {
    const A: f32 = 0.178_832_77;
    const B: f32 = 1.0 - 4.0 * A;
    const C: f32 = 0.559_910_7;
    if encoded <= 0.5 { encoded * encoded / 3.0 } else { (((encoded - C) / A).exp() + B) / 12.0 }
}

/// Light to a sample (IEC 61966-2-1).
fn srgb(light: f32) -> f32 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(tone: &Tone, encoded: f32) -> u8 {
        let [red, green, blue] = tone.convert([(encoded * 65535.0) as u16; 3]);
        assert!(red.abs_diff(green) <= 1 && green.abs_diff(blue) <= 1, "{red} {green} {blue}");
        green
    }

    #[test]
    fn the_curves_are_those_of_the_standard() {
        // BT.2100: 0.58 of PQ is about 203 cd/m2; 0.75 of HLG is 203 on a display of 1000.
        assert!((pq(0.5806) - 203.0).abs() < 2.0, "{}", pq(0.5806));
        assert!((pq(1.0) - 10_000.0).abs() < 10.0);
        assert!((hlg(0.5) - 1.0 / 12.0).abs() < 1e-4);
        assert!((hlg(1.0) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn black_is_black_greys_are_grey_and_brightness_rises() {
        for (primaries, transfer) in [(9, 16), (9, 18), (12, 16), (1, 18)] {
            let tone = Tone::of_numbers(primaries, transfer).unwrap();
            let steps: Vec<u8> = (0..=20).map(|at| grey(&tone, at as f32 / 20.0)).collect();
            assert_eq!((steps[0], steps[20]), (0, 255), "{steps:?}");
            assert!(steps.is_sorted(), "{steps:?}");
        }
        let tone = Tone::of_numbers(9, 16).unwrap();
        let white = grey(&tone, 0.5806);
        assert!((235..250).contains(&white), "{white}");
        assert!(Tone::of_numbers(9, 13).is_none());
    }
}
