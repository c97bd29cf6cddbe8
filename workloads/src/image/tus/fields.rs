//! The header fields of tus 1.0: text in, verdicts out. No state, no clock, no file.
//!
//! What is cited as tus is <https://tus.io/protocols/resumable-upload> 1.0.0.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The version that is spoken.
pub const VERSION: &str = "1.0.0";
/// What is offered beyond the core.
pub const EXTENSIONS: &str = "creation,creation-with-upload,termination,expiration,checksum";
/// Hashes of [`Checksum`].
pub const ALGORITHMS: &str = "sha1,sha256";
/// The media type of a piece of an upload.
pub const PIECE_TYPE: &str = "application/offset+octet-stream";

/// Bytes of `Upload-Metadata`. Beyond: 413.
pub const METADATA_BYTES_MAX: usize = 4 << 10;
/// Pairs in it. Beyond: 400.
pub const METADATA_PAIRS_MAX: usize = 64;

/// What is wrong with a field: its answer's status, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// 400, or 413 for what is too long.
    pub status: u16,
    /// A sentence.
    pub says: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)
    }
}

fn wrong<T>(says: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { status: 400, says: says.into() })
}

/// A non-negative whole number, as `Upload-Offset` and `Upload-Length` are: digits only.
///
/// # Errors
/// It is missing or something else.
pub fn number(name: &str, value: Option<&str>) -> Result<u64, Wrong> {
    let Some(value) = value else { return wrong(format!("The field {name} is missing.")) };
    match value.trim() {
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .map_err(|_too_large| Wrong { status: 400, says: format!("{name} is larger than any upload.") }),
        _ => wrong(format!("{name} is a whole number of bytes, not {value:?}.")),
    }
}

/// The pairs of `Upload-Metadata`: keys of visible ASCII without commas, values in base64, decoded. A key without a value
/// has an empty one.
///
/// # Errors
/// It is none, or too long.
pub fn metadata(value: &str) -> Result<Vec<(String, Vec<u8>)>, Wrong> {
    if value.len() > METADATA_BYTES_MAX {
        let says = format!("Upload-Metadata has more than {METADATA_BYTES_MAX} bytes.");
        return Err(Wrong { status: 413, says });
    }
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    if value.trim().is_empty() {
        return Ok(pairs);
    }
    for pair in value.split(',') {
        let pair = pair.trim();
        let (key, encoded) = pair.split_once(' ').unwrap_or((pair, ""));
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("Upload-Metadata has a pair without a key of visible ASCII: it is KEY BASE64,KEY BASE64.");
        }
        if pairs.iter().any(|(other, _)| other == key) {
            return wrong(format!("Upload-Metadata has the key {key:?} twice."));
        }
        if pairs.len() == METADATA_PAIRS_MAX {
            return wrong(format!("Upload-Metadata has more than {METADATA_PAIRS_MAX} pairs."));
        }
        let Ok(decoded) = STANDARD.decode(encoded.trim()) else {
            return wrong(format!("The value of {key:?} in Upload-Metadata is no base64."));
        };
        pairs.push((key.to_owned(), decoded));
    }
    Ok(pairs)
}

/// What the bytes of a piece must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// By which function.
    pub algorithm: &'static Algorithm,
    digest: Vec<u8>,
}

impl Checksum {
    /// Reads `Upload-Checksum`: the function's name and the hash in base64.
    ///
    /// # Errors
    /// It is none, or of a function that is not offered.
    pub fn read(value: &str) -> Result<Checksum, Wrong> {
        let Some((name, encoded)) = value.trim().split_once(' ') else {
            return wrong("Upload-Checksum is the name of a function, a space, and a hash in base64.");
        };
        let algorithm = match name {
            "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &SHA256,
            _ => return wrong(format!("Upload-Checksum names {name:?}; offered are {ALGORITHMS}.")),
        };
        match STANDARD.decode(encoded.trim()) {
            Ok(digest) if digest.len() == algorithm.output_len() => Ok(Checksum { algorithm, digest }),
            _ => wrong(format!("The hash in Upload-Checksum is not one of {name} in base64.")),
        }
    }

    /// Whether these bytes are meant.
    pub fn is(&self, found: digest::Context) -> bool {
        found.finish().as_ref() == self.digest
    }
}

/// Whether a content type is that of a piece, whatever its parameters.
pub fn is_piece(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(PIECE_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_only() {
        for (text, value) in [("0", 0), (" 70 ", 70), ("18446744073709551615", u64::MAX)] {
            assert_eq!(number("Upload-Offset", Some(text)), Ok(value));
        }
        for text in ["", " ", "-1", "+1", "0x1", "1.0", "1 2", "18446744073709551616", "\u{661}"] {
            assert_eq!(number("Upload-Offset", Some(text)).unwrap_err().status, 400, "{text}");
        }
        assert!(number("Upload-Offset", None).unwrap_err().says.contains("missing"));
    }

    #[test]
    fn metadata_is_pairs_of_keys_and_base64() {
        // The example of tus, "Upload-Metadata".
        let pairs = metadata("filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential").unwrap();
        let expected = [
            ("filename".to_owned(), b"world_domination_plan.pdf".to_vec()),
            ("is_confidential".to_owned(), Vec::new()),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(metadata("").unwrap(), []);
        assert_eq!(metadata(" ").unwrap(), []);
        assert_eq!(metadata("a ,b").unwrap().len(), 2);
        assert_eq!(metadata("a YQ==, b Yg==").unwrap()[1], ("b".to_owned(), b"b".to_vec()));
        for (text, says) in [
            (",", "without a key"),
            ("a YQ==,", "without a key"),
            ("a YQ", "no base64"),
            ("a Y Q==", "no base64"),
            ("a ____", "no base64"),
            ("a,a", "twice"),
            ("\u{e4} YQ==", "without a key"),
        ] {
            let wrong = metadata(text).unwrap_err();
            assert!(wrong.status == 400 && wrong.says.contains(says), "{text}: {wrong}");
        }
        let many: Vec<String> = (0..=METADATA_PAIRS_MAX).map(|at| format!("k{at}")).collect();
        assert!(metadata(&many.join(",")).unwrap_err().says.contains("more than"));
        assert_eq!(metadata(&"a".repeat(METADATA_BYTES_MAX + 1)).unwrap_err().status, 413);
    }

    /// The hashes are those of `printf 'hello world' | openssl dgst -sha1 -binary | base64`, and of sha256.
    #[test]
    fn checksums_are_compared() {
        let of = |text: &str, bytes: &[u8]| {
            let checksum = Checksum::read(text).unwrap();
            let mut context = digest::Context::new(checksum.algorithm);
            context.update(bytes);
            checksum.is(context)
        };
        let sha1 = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
        let sha256 = "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=";
        assert!(of(sha1, b"hello world") && of(sha256, b"hello world"));
        assert!(!of(sha1, b"hello World") && !of(sha256, b""));
        for text in
            ["", "sha1", "md5 XrY7u+Ae7tCTyyK7j1rNww==", "sha1 AAAA", "sha1 ****", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="]
        {
            assert_eq!(Checksum::read(text).unwrap_err().status, 400, "{text}");
        }
        assert!(is_piece(Some("application/offset+octet-stream")));
        assert!(is_piece(Some("Application/Offset+Octet-Stream; a=b")));
        assert!(!is_piece(None) && !is_piece(Some("application/octet-stream")));
    }
}
