//! BlurHash, as its author's encoder in C makes it (<https://github.com/woltapp/blurhash>, `C/encode.c`, `Algorithm.md`).
//!
//! ```text
//!   letter   0            1                 2 3 4 5        6 7 ...
//!            components   largest of the    mean colour    two for each other component: red, green and blue in
//!            - 1          other ones                       19 steps each
//! ```
//!
//! The author's encoder in JavaScript takes the largest value for the largest magnitude, and cuts off what is further below
//! nothing than that; every decoder reads both.

use std::f64::consts::PI;

use super::small::Small;
use crate::recipe::Components;

/// Bytes, at most.
pub const BLURHASH_BYTES_MAX: usize = bytes(Components::MAX, Components::MAX);

/// The digits, all of them ASCII: none needs an escape in JSON.
const DIGITS: &[u8; 83] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

const fn bytes(across: u8, down: u8) -> usize {
    4 + 2 * across as usize * down as usize
}

/// Whether this is the text of a BlurHash of so many components.
pub(super) fn is_blurhash(text: &str, components: Components) -> bool {
    let first = DIGITS[usize::from(number_of(components))];
    text.len() == bytes(components.across(), components.down())
        && text.as_bytes().first() == Some(&first)
        && text.bytes().all(|digit| DIGITS.contains(&digit))
}

/// The first letter, which says how many components there are.
fn number_of(components: Components) -> u8 {
    (components.across() - 1) + (components.down() - 1) * Components::MAX
}

pub(super) fn blurhash(small: &Small, components: Components) -> String {
    let pixels: Vec<[f64; 3]> = small.pixels.iter().map(light_on_paper).collect();
    let places = (0..components.down()).flat_map(|down| (0..components.across()).map(move |across| (across, down)));
    let mut factors = places.map(|place| factor(small, &pixels, place));
    let mean = factors.next().expect("there is at least one component");
    let waves: Vec<[f64; 3]> = factors.collect();
    let most = waves.iter().flatten().fold(0.0_f64, |most, value| most.max(value.abs()));
    let step = (most * 166.0 - 0.5).floor().clamp(0.0, 82.0);
    let most = (step + 1.0) / 166.0;

    let mut text = String::with_capacity(BLURHASH_BYTES_MAX);
    write(&mut text, number_of(components).into(), 1);
    write(&mut text, step as u32, 1);
    let [red, green, blue] = mean.map(|value| (from_linear(value.clamp(0.0, 1.0)) * 255.0).round() as u32);
    write(&mut text, red << 16 | green << 8 | blue, 4);
    for wave in waves {
        let [red, green, blue] = wave.map(|value| {
            let root = (value / most).abs().sqrt().copysign(value);
            (root * 9.0 + 9.5).floor().clamp(0.0, 18.0) as u32
        });
        write(&mut text, (red * 19 + green) * 19 + blue, 2);
    }
    text
}

/// Linear light. A BlurHash has no transparency; where its own encoders would show the colour of what is not seen, often
/// black, this shows paper.
fn light_on_paper(&[red, green, blue, alpha]: &[f64; 4]) -> [f64; 3] {
    [red, green, blue].map(|color| to_linear(color * alpha + 1.0 - alpha))
}

/// How much of one component is in the picture.
fn factor(small: &Small, pixels: &[[f64; 3]], (across, down): (u8, u8)) -> [f64; 3] {
    let (columns, rows) = (cosine(across, small.width), cosine(down, small.height));
    let mut sum = [0.0; 3];
    for (row, along_y) in pixels.chunks_exact(small.width).zip(&rows) {
        for (pixel, along_x) in row.iter().zip(&columns) {
            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value * along_x * along_y);
        }
    }
    let strength = if (across, down) == (0, 0) { 1.0 } else { 2.0 };
    sum.map(|sum| sum * strength / pixels.len() as f64)
}

/// A wave at the edges of a side's samples, which is where its author has it.
fn cosine(frequency: u8, side: usize) -> Vec<f64> {
    (0..side).map(|at| (PI * f64::from(frequency) * at as f64 / side as f64).cos()).collect()
}

/// So many digits of a number, the highest first.
fn write(text: &mut String, value: u32, digits: u32) {
    text.extend((0..digits).rev().map(|place| char::from(DIGITS[(value / 83_u32.pow(place) % 83) as usize])));
}

/// IEC 61966-2-1.
fn to_linear(value: f64) -> f64 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

fn from_linear(value: f64) -> f64 {
    if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::super::small::tests::picture;
    use super::*;
    use crate::pipeline::picture::Picture;
    use crate::pipeline::pixels::{Layout, Pixels};
    use crate::pipeline::trial::Never;

    fn hash(picture: &Picture, across: u8, down: u8) -> String {
        blurhash(&Small::of(picture, &Never).unwrap(), Components::new(across, down).unwrap())
    }

    /// The author's encoder in C, as PyPI's `blurhash-python` 1.2.2 has it, makes these of the same pixels.
    #[test]
    fn hashes_are_those_of_its_author() {
        const MANY: &str = "|zHB}M2W$5Sco0bIa|j[a{l}azjuf7fPf7fPf6fRgcfhfQfgfPflfQfjfPnTa|jufQfOfQfPfPfRfkfNfRfLfOfTfPfRf\
                            PoHa{jpfNfVfSfSfPfSf6fSfPfUfSfOfRfOfQoea|jsfPfQfPfPfOfRe:fRfPfSfSfPfRfPfP";
        for (width, height, across, down, expected) in [
            (64, 48, 4, 3, "LzHB}M2W$5Scl}azjuf7gcfhfQfg"),
            (64, 48, 1, 1, "00HB}M"),
            (64, 48, 9, 9, MANY),
            (20, 60, 4, 3, "LzGu{~2@wxbvhnadfPe:gbfifPfk"),
            (64, 64, 4, 3, "LzHC1T2Y$4Sehqayjuf5gbfifPfh"),
            (1, 1, 4, 3, "L00000fQfQfQfQfQfQfQfQfQfQfQ"),
            (64, 1, 4, 3, "L~H6do6ewsWk|l6ewsWk|l6ewsWk"),
        ] {
            let hash = hash(&picture(width, height, Layout::Rgb), across, down);
            assert_eq!(hash, expected, "{width}x{height}");
            assert!(hash.len() <= BLURHASH_BYTES_MAX);
            assert!(is_blurhash(&hash, Components::new(across, down).unwrap()));
        }
    }

    #[test]
    fn only_its_own_text_is_one() {
        let components = Components::new(4, 3).unwrap();
        let text = "LzHB}M2W$5Scl}azjuf7gcfhfQfg";
        assert!(is_blurhash(text, components));
        // Of as many components, and of other ones in as many letters.
        assert!(!is_blurhash(text, Components::new(3, 4).unwrap()));
        for wrong in ["", "L", &text[1..], &text.replace('z', "\""), &text.replace('z', "\\"), &text.replace("zH", "é")]
        {
            assert!(!is_blurhash(wrong, components), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_seen_is_paper() {
        let none = Pixels { width: 30, height: 30, layout: Layout::Rgba, samples: vec![0; 30 * 30 * 4] };
        let white = Pixels { width: 30, height: 30, layout: Layout::Gray, samples: vec![255; 30 * 30] };
        assert_eq!(hash(&Picture::Pixels(none), 4, 3), hash(&Picture::Pixels(white), 4, 3));
    }
}
