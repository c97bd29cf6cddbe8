//! The names of objects: generated, never joined from what a user wrote.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hex;
use crate::image::format::Format;

/// Bytes at the beginning of names that objects may have in common: half of one, which nobody can guess either.
pub const BEGINNING: usize = 16;

/// An object's name: 256 bits that nobody can guess, and what it holds. As text, 64 hexadecimal digits, a dot, the
/// suffix; nothing else is a key, so a key's text is safe in a path, an address and a header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Made by [`Salt`](crate::image::work::Salt).
    pub name: [u8; 32],
    /// What it holds.
    pub suffix: Suffix,
}

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suffix {
    /// An upload as it came: `.original`. Never delivered.
    Original,
    /// A work's manifest: `.manifest`. Never delivered.
    Manifest,
    /// `.jpeg`.
    Jpeg,
    /// `.png`.
    Png,
    /// `.webp`.
    Webp,
    /// `.avif`.
    Avif,
    /// `.gif`.
    Gif,
    /// `.tiff`.
    Tiff,
    /// An output that was made when it was asked for: `.variant`. Its bytes say its format. Never delivered by its own name.
    Variant,
}

impl Suffix {
    const ALL: [Suffix; 9] = [
        Suffix::Original,
        Suffix::Manifest,
        Suffix::Jpeg,
        Suffix::Png,
        Suffix::Webp,
        Suffix::Avif,
        Suffix::Gif,
        Suffix::Tiff,
        Suffix::Variant,
    ];

    /// The suffix of an output of this format.
    pub fn of(format: Format) -> Suffix {
        match format {
            Format::Jpeg => Suffix::Jpeg,
            Format::Png => Suffix::Png,
            Format::Webp => Suffix::Webp,
            Format::Avif => Suffix::Avif,
            Format::Gif => Suffix::Gif,
            Format::Tiff => Suffix::Tiff,
        }
    }

    /// The format of an output; `None` for what is not delivered.
    pub fn format(self) -> Option<Format> {
        match self {
            Suffix::Original | Suffix::Manifest | Suffix::Variant => None,
            Suffix::Jpeg => Some(Format::Jpeg),
            Suffix::Png => Some(Format::Png),
            Suffix::Webp => Some(Format::Webp),
            Suffix::Avif => Some(Format::Avif),
            Suffix::Gif => Some(Format::Gif),
            Suffix::Tiff => Some(Format::Tiff),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Suffix::Original => "original",
            Suffix::Manifest => "manifest",
            Suffix::Variant => "variant",
            _ => self.format().map_or("", Format::name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ".{}", self.suffix.text())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key is 64 hexadecimal digits in lower case, a dot, and a suffix")
    }
}

impl std::error::Error for NotAKey {}

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Key, NotAKey> {
        let (digits, suffix) = text.split_once('.').ok_or(NotAKey)?;
        let suffix = Suffix::ALL.into_iter().find(|known| known.text() == suffix).ok_or(NotAKey)?;
        let mut name = [0; 32];
        hex::decode_into(digits, &mut name).ok_or(NotAKey)?;
        Ok(Key { name, suffix })
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_nothing_else_is_one() {
        for suffix in Suffix::ALL {
            let key = Key { name: [0xa5; 32], suffix };
            assert_eq!(key.to_string().parse(), Ok(key));
            if let Some(format) = suffix.format() {
                assert_eq!(Suffix::of(format), suffix);
            }
        }
        let hex = "a5".repeat(32);
        let bad = [
            String::new(),
            hex.clone(),
            format!("{hex}."),
            format!("{hex}.exe"),
            format!("{hex}.png/"),
            format!("../{hex}.png"),
            format!("{}.png", hex.to_uppercase()),
            format!("{}.png", &hex[2..]),
        ];
        for text in bad {
            assert_eq!(text.parse::<Key>(), Err(NotAKey), "{text}");
        }
    }
}
