//! What stands in for an output until it is there: a ThumbHash or a BlurHash, some thirty characters in a job's document.
//!
//! ```text
//!   output, not encoded yet ─► small: at most 64 pixels a side ─┬─► ThumbHash: bytes
//!                                                               └─► BlurHash: text
//! ```
//!
//! Both are the lowest frequencies of a cosine transform. ThumbHash (<https://evanw.github.io/thumbhash/>) keeps proportions and
//! transparency, and shows more in as many bytes; BlurHash (<https://blurha.sh/>) is what more programs know. They are made of
//! the output before it is encoded: nothing is decoded twice, and what encoding loses is not seen at these frequencies.

mod blurhash;
mod small;
mod thumbhash;

use super::Watch;
use super::picture::Picture;
use crate::fault::Fault;
use crate::recipe::Recipe;
use small::Small;

pub use blurhash::BLURHASH_BYTES_MAX;
pub use thumbhash::{THUMBHASH_BYTES_MAX, THUMBHASH_BYTES_MIN};

/// What a recipe asked for of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placeholders {
    /// [`THUMBHASH_BYTES_MIN`] to [`THUMBHASH_BYTES_MAX`] bytes; documents have them in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbhash: Option<Vec<u8>>,
    /// At most [`BLURHASH_BYTES_MAX`] letters, none of which needs an escape in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<String>,
}

impl Placeholders {
    /// Those that the recipe asks for, of an output that is upright, in sRGB and not encoded yet.
    ///
    /// # Errors
    /// The watch's.
    pub fn of(picture: &Picture, recipe: &Recipe, watch: &dyn Watch) -> Result<Placeholders, Fault> {
        if !recipe.thumbhash && recipe.blurhash.is_none() {
            return Ok(Placeholders::default());
        }
        let small = Small::of(picture, watch)?;
        Ok(Placeholders {
            thumbhash: recipe.thumbhash.then(|| thumbhash::thumbhash(&small)),
            blurhash: recipe.blurhash.map(|components| blurhash::blurhash(&small, components)),
        })
    }

    /// Whether these can be what the recipe asks for: neither more nor less, of the length and in the letters that they have.
    /// For whoever is told them by a stranger; whether they look like the output is as little known as what that shows.
    pub fn answer(&self, recipe: &Recipe) -> bool {
        let is_thumbhash = match &self.thumbhash {
            Some(bytes) => recipe.thumbhash && (THUMBHASH_BYTES_MIN..=THUMBHASH_BYTES_MAX).contains(&bytes.len()),
            None => !recipe.thumbhash,
        };
        let is_blurhash = match (&self.blurhash, recipe.blurhash) {
            (Some(text), Some(components)) => blurhash::is_blurhash(text, components),
            (None, None) => true,
            _ => false,
        };
        is_thumbhash && is_blurhash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Components;

    #[test]
    fn an_answer_is_what_was_asked_for() {
        let plain = Recipe::named("a");
        let asks = Recipe { thumbhash: true, blurhash: Components::new(1, 1), ..plain.clone() };
        let answers = |thumbhash: Option<usize>, blurhash: Option<&str>, recipe: &Recipe| {
            let thumbhash = thumbhash.map(|len| vec![7; len]);
            Placeholders { thumbhash, blurhash: blurhash.map(str::to_owned) }.answer(recipe)
        };
        assert!(answers(None, None, &plain) && answers(Some(21), Some("00HB}M"), &asks));
        for (thumbhash, blurhash) in [
            (None, None),
            (Some(21), None),
            (None, Some("00HB}M")),
            (Some(THUMBHASH_BYTES_MAX + 1), Some("00HB}M")),
            (Some(THUMBHASH_BYTES_MIN - 1), Some("00HB}M")),
            (Some(21), Some("00HB}MM")),
            (Some(21), Some("00HB}\"")),
            (Some(21), Some("10HB}M")),
        ] {
            assert!(!answers(thumbhash, blurhash, &asks), "{thumbhash:?} {blurhash:?}");
        }
        assert!(!answers(Some(21), None, &plain) && !answers(None, Some("00HB}M"), &plain));
    }
}
