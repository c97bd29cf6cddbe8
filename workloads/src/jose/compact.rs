//! A token's three parts (RFC 7515 section 7.1) and what its header may say.
//!
//! ```text
//!   eyJhbGciOi...  .  eyJzdWIiOi...  .  dBjftJeZ4C...
//!   header            payload           signature of "header.payload", as it stands
//! ```
//!
//! Keys that a header brings along (`jwk`, `jku`, `x5c`, `x5u`) are never used: anybody can write one there.

use annulus_protocols::json::Value;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::TokenError;
use super::keys::Algorithm;
use super::object::{self, Refused};

/// Longer tokens are refused unread. Claims of a user fit many times over.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longer headers, as they stand in the token, are refused unread: they are read before anything is known of who sent
/// them. A certificate chain (`x5c`) does not fit, and would not be used.
pub const HEADER_BYTES_MAX: usize = 2048;
/// Longer key ids are refused: no set has such.
pub const KEY_ID_BYTES_MAX: usize = 256;

/// A token taken apart, nothing of it verified.
#[derive(Debug)]
pub(super) struct Compact<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What is signed.
    pub(super) message: &'t str,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Compact<'t> {
    /// Takes it apart and reads its header.
    pub(super) fn parse(token: &'t str) -> Result<Compact<'t>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid("it is longer than 16 KiB"));
        }
        let parts = || {
            let (message, signature) = token.rsplit_once('.')?;
            let (header, payload) = message.split_once('.')?;
            (!payload.contains('.')).then_some((header, payload, message, signature))
        };
        let (header, payload, message, signature) =
            parts().ok_or(TokenError::Invalid("it does not have three parts"))?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(TokenError::Invalid("its header is longer than 2 KiB"));
        }
        let header = decode(header).ok_or(TokenError::Invalid("its header is no strict base64url"))?;
        let (algorithm, key_id) = read_header(&header)?;
        Ok(Compact { algorithm, key_id, message, payload, signature })
    }

    pub(super) fn signature(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.signature).ok_or(TokenError::Invalid("its signature is no strict base64url"))
    }

    pub(super) fn payload(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.payload).ok_or(TokenError::Invalid("its payload is no strict base64url"))
    }
}

fn read_header(header: &[u8]) -> Result<(Algorithm, Option<String>), TokenError> {
    let members = object::parse(header).map_err(|refused| match refused {
        Refused::NoObject => TokenError::Invalid("its header is no JSON object"),
        Refused::Twice => TokenError::Invalid("its header has a member twice"),
    })?;
    let (mut algorithm, mut key_id) = (None, None);
    for (name, value) in members {
        match name.as_ref() {
            "alg" => {
                let name = value.string().ok_or(TokenError::Invalid("its header's alg is no string"))?;
                let known = Algorithm::named(&name);
                algorithm = Some(known.ok_or(TokenError::Invalid("its header's alg is none that is accepted"))?);
            }
            "typ" if !is_token_type(value) => return Err(TokenError::Invalid("its header's typ is not JWT")),
            "kid" => {
                let id = value.string().filter(|id| id.len() <= KEY_ID_BYTES_MAX);
                key_id = Some(id.ok_or(TokenError::Invalid("its header's kid is no string of at most 256 bytes"))?);
            }
            // RFC 7515 section 4.1.11: whoever does not understand all that it names refuses. We understand none.
            "crit" => return Err(TokenError::Invalid("its header has crit, of which nothing is supported")),
            // RFC 7797: the payload is signed unencoded. It must be named in crit, but one that is not must not pass.
            "b64" => return Err(TokenError::Invalid("its header has b64, which is not supported")),
            _ => {}
        }
    }
    let algorithm = algorithm.ok_or(TokenError::Invalid("its header has no alg"))?;
    Ok((algorithm, key_id.map(|id| id.into_owned())))
}

/// RFC 7519 section 5.1, and access tokens of OAuth (RFC 9068 section 2.1); other kinds of token are for others
/// (RFC 8725 section 3.11).
fn is_token_type(value: Value<'_>) -> bool {
    let Some(name) = value.string() else { return false };
    let name = name.to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "jwt" | "at+jwt")
}

/// As RFC 7515 section 2 has it; of every byte string there is exactly one text, and any other is refused.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
