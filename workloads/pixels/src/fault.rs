//! Why an image has no result, and whether trying again can help.

use std::fmt;

/// Whose fault it is, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The bytes are not what they claim to be, or are broken: never tried again.
    BadImage,
    /// A kind of image that is known and not offered (HEIC, say): never tried again.
    Unsupported,
    /// Beyond a named limit: never tried again.
    TooLarge,
    /// What was asked for cannot be done to this image: never tried again.
    BadRequest,
    /// It was cancelled, or its time was over.
    Stopped,
    /// It needed more memory than it was given.
    Memory,
    /// Its worker ended without an answer: a crash counts.
    Crashed,
    /// Reading or writing failed on our side.
    Io,
}

/// A failure with a sentence for people: what happened, to what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// Whose fault.
    pub kind: Kind,
    /// The sentence.
    pub detail: String,
}

impl Fault {
    /// A fault of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Fault {
        Fault { kind, detail: detail.into() }
    }

    /// Whether another attempt can end otherwise.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Memory | Kind::Crashed | Kind::Io)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}
