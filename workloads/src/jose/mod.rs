//! Signed tokens: JSON Web Signatures in compact form (RFC 7515) with claims in JSON (RFC 7519), and the keys that verify them.
//! What the claims mean is for whoever asks: the chat's connections, the gateway's endpoints.
//!
//! ```text
//!   token ─► compact.rs    three parts, the header
//!              │ alg, kid
//!              ▼
//!   Signatures: the key ◄── cache.rs ◄── jwks.rs    asked whether it is one for that alg
//!              │                ▲
//!              │                └── fetcher.rs    one shard's: fetches sets, verifies where there is time
//!              ├─► verified.rs    was it good a moment ago?
//!              ▼
//!            the payload, object.rs
//! ```
//!
//! Pure logic but for [`Fetcher`]: no socket, no clock (`now` is Unix seconds), no log. [`Signatures`] are shared by all shards and
//! compute threads. None of their methods waits for a lock, so all may be called in a shard's turn; [`Signatures::weight`] says
//! which tokens take too long for it.

mod cache;
mod compact;
mod current;
mod der;
mod fetcher;
mod jwks;
mod keys;
pub(crate) mod object;
mod registered;
#[cfg(test)]
pub(crate) mod vectors;
mod verified;

use std::fmt;
use std::sync::Arc;

pub use cache::{Flight, JwksCache, Landed, Lookup, Times};
pub use compact::{HEADER_BYTES_MAX, KEY_ID_BYTES_MAX, TOKEN_BYTES_MAX};
pub use fetcher::Fetcher;
pub use jwks::{KeySet, SET_BYTES_MAX, SET_KEYS_MAX, Secrets, Skipped};
pub use keys::{Algorithm, Kind, PublicKey, Secret};
pub use registered::Registered;

use compact::Compact;
use verified::{Verified, seen};

/// Tokens whose good signature is remembered, unless set otherwise: 37 bytes each. Beyond, the oldest are verified
/// again.
pub const VERIFIED_TOKENS_MAX: usize = 65_536;
/// Why a token is not accepted. What it prints never holds anything of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// `exp` has passed, or `nbf` lies ahead: in both cases a new token helps.
    Expired,
    /// It can never be accepted; why, as what follows "the token is invalid: ".
    Invalid(&'static str),
    /// The key set has no key of this id, which is the peer's text: not for logs.
    UnknownKey(String),
    /// Its key may be in a set that is being fetched or ought to be: see [`Lookup::Wait`].
    KeyPending,
    /// The key set could not be fetched a moment ago, and none that is left has the key.
    KeysUnavailable,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Expired => f.write_str("the token has expired or does not count yet"),
            TokenError::Invalid(why) => write!(f, "the token is invalid: {why}"),
            TokenError::UnknownKey(_) => f.write_str("the token names a key that the key set does not have"),
            TokenError::KeyPending => f.write_str("the token's key waits for the key set to be fetched"),
            TokenError::KeysUnavailable => {
                f.write_str("the token's key is not known, and the key set cannot be fetched")
            }
        }
    }
}

impl std::error::Error for TokenError {}

/// Where a token is best verified.
///
/// Nanoseconds for a token of 220 to 560 bytes, best of nine runs of 200, on a core of an AMD EPYC with SHA extensions
/// that others used too (`what_it_costs` in `tests.rs`):
///
/// | algorithm | verify | remembered | weight |
/// |---|---|---|---|
/// | HS256 | 1,400 | | 260 |
/// | HS384, HS512 | 1,900 | | 280 |
/// | RS256 to PS512, 2048 bits | 23,000 to 25,000 | 1,500 | 690 |
/// | ES256 | 54,000 | 1,350 | 520 |
/// | ES384 | 750,000 | 1,400 | 560 |
/// | EdDSA | 48,000 | 1,350 | 520 |
///
/// An HMAC costs what looking it up would, so only public-key signatures are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Weight {
    /// At once: an HMAC, a signature that is remembered, or nothing to verify.
    Inline,
    /// On a compute thread: a public-key signature.
    Compute,
}

/// Keys that stand in a configuration.
#[derive(Default)]
pub struct Fixed {
    /// Of HS256, HS384, HS512.
    pub secret: Option<Secret>,
    /// The one before, and the last Unix second in which it counts; 0: always.
    pub previous: Option<(Secret, u64)>,
    /// Found by their kind.
    pub public: Vec<Arc<PublicKey>>,
}

/// Where keys come from.
pub enum Keys {
    /// A configuration.
    Fixed(Box<Fixed>),
    /// A set that stays as it is: keys are found by their ids.
    Set(KeySet),
    /// Secrets that stay as they are.
    Secrets(Secrets),
    /// An endpoint that somebody fetches from.
    Endpoint(JwksCache),
}

/// What a token's signature is to be verified with.
enum Key<'v> {
    Fixed(&'v Fixed),
    Secret(&'v Secret),
    Public(Arc<PublicKey>),
}

/// Verifies signatures.
pub struct Signatures {
    keys: Keys,
    verified: Verified,
    /// The only one that is accepted.
    only: Option<Algorithm>,
    is_skipped: bool,
}

impl Signatures {
    /// By those keys. `verified_max` tokens with a public-key signature are remembered.
    pub fn new(keys: Keys, verified_max: usize) -> Signatures {
        let has_public_keys = match &keys {
            Keys::Fixed(fixed) => !fixed.public.is_empty(),
            Keys::Secrets(_) => false,
            Keys::Set(_) | Keys::Endpoint(_) => true,
        };
        let verified = Verified::new(if has_public_keys { verified_max } else { 0 });
        Signatures { keys, verified, only: None, is_skipped: false }
    }

    /// The same, for tokens of one algorithm.
    #[must_use]
    pub fn only(self, algorithm: Algorithm) -> Signatures {
        Signatures { only: Some(algorithm), ..self }
    }

    /// The same, without looking at signatures: anybody may be anybody. For tests only.
    #[must_use]
    pub fn unlooked_at(self) -> Signatures {
        Signatures { is_skipped: true, ..self }
    }

    /// The key set to be fetched; `None` if there is no endpoint.
    pub fn jwks(&self) -> Option<&JwksCache> {
        match &self.keys {
            Keys::Endpoint(cache) => Some(cache),
            Keys::Fixed(_) | Keys::Set(_) | Keys::Secrets(_) => None,
        }
    }

    /// The same outcome for a token that has waited for no fetch: a key that is not in the endpoint's set may have been
    /// published since, so that it is unknown is not final then. The client comes again, until a fetch falls to it.
    ///
    /// # Errors
    /// Why the token does not count, or does not count yet.
    pub fn tentatively<C>(&self, claims: Result<C, TokenError>) -> Result<C, TokenError> {
        match claims {
            Err(TokenError::UnknownKey(_)) if self.jwks().is_some() => Err(TokenError::KeysUnavailable),
            claims => claims,
        }
    }

    /// Where to verify this token. Takes a microsecond or two.
    pub fn weight(&self, token: &str, now: u64) -> Weight {
        let key = Compact::parse(token).and_then(|compact| self.key(&compact, now));
        match key {
            Ok(Key::Public(key)) if !self.is_skipped && !self.verified.contains(&seen(&key, token)) => Weight::Compute,
            _ => Weight::Inline,
        }
    }

    /// What a token with a good signature says, as JSON that nobody has looked at.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn payload(&self, token: &str, now: u64) -> Result<Vec<u8>, TokenError> {
        let compact = Compact::parse(token)?;
        if self.only.is_some_and(|only| only != compact.algorithm) {
            return Err(TokenError::Invalid("its alg is not the one that is accepted here"));
        }
        if self.is_skipped {
            return compact.payload();
        }
        let (algorithm, message) = (compact.algorithm, compact.message.as_bytes());
        let is_good = match self.key(&compact, now)? {
            Key::Fixed(fixed) => fixed.verify(algorithm, message, &compact.signature()?, now),
            Key::Secret(secret) => secret.verifies(algorithm, message, &compact.signature()?),
            Key::Public(key) => {
                let seen = seen(&key, token);
                self.verified.contains(&seen) || {
                    let is_good = key.verifies(algorithm, message, &compact.signature()?);
                    if is_good {
                        self.verified.insert(seen);
                    }
                    is_good
                }
            }
        };
        if is_good { compact.payload() } else { Err(TokenError::Invalid("its signature is wrong")) }
    }

    /// The key for a token, which is always one for its algorithm.
    fn key(&self, compact: &Compact<'_>, now: u64) -> Result<Key<'_>, TokenError> {
        const NO_KEY: TokenError = TokenError::Invalid("there is no key for its alg");
        let named = || compact.key_id.as_deref().ok_or(TokenError::Invalid("its header has no kid"));
        let unknown = |id: &str| TokenError::UnknownKey(id.to_owned());
        let key = match &self.keys {
            Keys::Fixed(fixed) if compact.algorithm.kind() == Kind::Hmac => {
                return fixed.has_secret().then_some(Key::Fixed(fixed)).ok_or(NO_KEY);
            }
            Keys::Fixed(fixed) => {
                fixed.public.iter().find(|key| key.allows(compact.algorithm)).cloned().ok_or(NO_KEY)?
            }
            Keys::Secrets(secrets) => {
                let secret = secrets.get(compact.key_id.as_deref()).map(Key::Secret);
                return secret.filter(|_| compact.algorithm.kind() == Kind::Hmac).ok_or(NO_KEY);
            }
            // Nobody publishes a secret, so no set is asked, let alone fetched, for one.
            Keys::Set(_) | Keys::Endpoint(_) if compact.algorithm.kind() == Kind::Hmac => return Err(NO_KEY),
            Keys::Set(set) => named().and_then(|id| set.get(id).cloned().ok_or_else(|| unknown(id)))?,
            Keys::Endpoint(cache) => match named().map(|id| (id, cache.lookup(id, now)))? {
                (_, Lookup::Found(key)) => key,
                (_, Lookup::Wait) => return Err(TokenError::KeyPending),
                (id, Lookup::Unknown) => return Err(unknown(id)),
                (_, Lookup::Unavailable) => return Err(TokenError::KeysUnavailable),
            },
        };
        if key.allows(compact.algorithm) { Ok(Key::Public(key)) } else { Err(NO_KEY) }
    }
}

impl Fixed {
    fn has_secret(&self) -> bool {
        self.secret.is_some() || self.previous.is_some()
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], mac: &[u8], now: u64) -> bool {
        let current = self.secret.as_ref();
        let previous = self.previous.as_ref().filter(|(_, until)| *until == 0 || now <= *until);
        current.is_some_and(|secret| secret.verifies(algorithm, message, mac))
            || previous.is_some_and(|(secret, _)| secret.verifies(algorithm, message, mac))
    }
}
