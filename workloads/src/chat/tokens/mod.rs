//! Tokens of the Centrifuge protocol: JSON Web Tokens (RFC 7519) that say who connects, and who may subscribe to what.
//!
//! ```text
//!   token ─► compact.rs    three parts, the header
//!              │ alg, kid
//!              ▼
//!            keys.rs ◄── cache.rs ◄── jwks.rs     the key, asked whether it is one for that alg
//!              │
//!              ├─► verified.rs    was it good a moment ago?
//!              ▼
//!            claims.rs     what the payload says, and whether it counts now
//! ```
//!
//! Pure logic: no socket, no clock (`now` is Unix seconds), no log. A [`Verifier`] is shared by all shards and compute
//! threads. None of its methods waits for a lock, so all may be called in a shard's turn; [`Verifier::weight`] says
//! which tokens take too long for it:
//!
//! ```text
//!   match verifier.weight(token, now) {
//!       Weight::Inline => verifier.verify_connection(token, now),
//!       Weight::Compute => compute.run(move || verifier.verify_connection(&token, now)),
//!   }
//! ```
//!
//! # Errors and their answers
//!
//! | error | connect | subscribe |
//! |---|---|---|
//! | [`TokenError::Expired`] | error 109, the client gets a new token | error 109 |
//! | [`TokenError::Invalid`], [`TokenError::UnknownKey`] | disconnect 3500 | error 103 |
//! | [`TokenError::KeyPending`] | wait for the fetch, then verify again | as connect |
//! | the same before a fetch: [`Verifier::tentatively`] | error 100 | error 100 |
//! | [`TokenError::KeysUnavailable`] | error 100, temporary: the client comes again | as connect |

mod cache;
mod claims;
mod compact;
mod current;
mod der;
mod jwks;
mod keys;
mod object;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
mod verified;

use std::fmt;
use std::sync::Arc;

pub use cache::{Flight, JwksCache, Landed, Lookup, Times};
pub use claims::{ConnectionClaims, Overrides, Payload, SubOptions, SubscriptionClaims};
pub use compact::{HEADER_BYTES_MAX, KEY_ID_BYTES_MAX, TOKEN_BYTES_MAX};
pub use jwks::{KeySet, SET_BYTES_MAX, SET_KEYS_MAX, Skipped};
pub use keys::{Algorithm, Kind, PublicKey, Secret};

use claims::Policy;
use compact::Compact;
use verified::{Verified, seen};

/// Tokens whose good signature is remembered, unless set otherwise: 37 bytes each. Beyond, the oldest are verified
/// again.
pub const VERIFIED_TOKENS_MAX: usize = 65_536;
/// HMAC secrets shorter than this get a warning: they can be guessed offline by whoever has one token (RFC 7518 section
/// 3.2 asks for the length of the hash).
const SECRET_BYTES_WANTED: usize = 32;

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

/// Where public keys with ids come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Jwks {
    /// Nowhere: the keys of [`Settings`] are used.
    #[default]
    None,
    /// This text of a key set, from a file.
    Set(Vec<u8>),
    /// An endpoint that the caller fetches: see [`Verifier::jwks`].
    Endpoint(Times),
}

/// What a deployment sets, under Centrifugo's names. An empty text is not set. For subscription tokens with settings of
/// their own there is a second verifier.
#[derive(Clone)]
pub struct Settings {
    /// Of HS256, HS384, HS512.
    pub hmac_secret_key: String,
    /// The one before, accepted besides.
    pub hmac_previous_secret_key: String,
    /// The last Unix second in which the one before is accepted; 0: always.
    pub hmac_previous_secret_key_valid_until: u64,
    /// PEM. Of RS256 to RS512 and PS256 to PS512.
    pub rsa_public_key: String,
    /// PEM. Of ES256 or ES384, by its curve.
    pub ecdsa_public_key: String,
    /// PEM. Of EdDSA. Centrifugo has this kind only in key sets.
    pub ed25519_public_key: String,
    /// If there is a set, it alone is used, as with Centrifugo: neither the secret nor the keys above.
    pub jwks: Jwks,
    /// Must be (among) the token's `aud`.
    pub audience: String,
    /// Not supported: refused if set.
    pub audience_regex: String,
    /// Must be the token's `iss`.
    pub issuer: String,
    /// Not supported: refused if set.
    pub issuer_regex: String,
    /// The claim with the user's id, instead of `sub`.
    pub user_id_claim: String,
    /// Tokens with a public-key signature that are remembered; 0: none.
    pub verified_tokens_max: usize,
    /// Signatures are not looked at: anybody may be anybody. For tests only.
    pub skip_signature: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hmac_secret_key: String::new(),
            hmac_previous_secret_key: String::new(),
            hmac_previous_secret_key_valid_until: 0,
            rsa_public_key: String::new(),
            ecdsa_public_key: String::new(),
            ed25519_public_key: String::new(),
            jwks: Jwks::None,
            audience: String::new(),
            audience_regex: String::new(),
            issuer: String::new(),
            issuer_regex: String::new(),
            user_id_claim: String::new(),
            verified_tokens_max: VERIFIED_TOKENS_MAX,
            skip_signature: false,
        }
    }
}

/// The keys that stand in a configuration.
#[derive(Default)]
struct Fixed {
    secret: Option<Secret>,
    previous: Option<(Secret, u64)>,
    public: Vec<Arc<PublicKey>>,
}

enum Keys {
    Fixed(Box<Fixed>),
    Set(KeySet),
    Endpoint(JwksCache),
}

/// What a token's signature is to be verified with.
enum Key<'v> {
    Secrets(&'v Fixed),
    Public(Arc<PublicKey>),
}

/// Verifies tokens.
pub struct Verifier {
    keys: Keys,
    policy: Policy,
    verified: Verified,
    skip_signature: bool,
    warnings: Vec<String>,
}

impl Verifier {
    /// By those settings. Without any key every token is refused.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn new(settings: Settings) -> Result<Verifier, String> {
        for (name, value) in [("audience_regex", &settings.audience_regex), ("issuer_regex", &settings.issuer_regex)] {
            if !value.is_empty() {
                let plain = name.trim_end_matches("_regex");
                return Err(format!("{name} is not supported; set {plain} to the text that tokens carry"));
            }
        }
        let mut warnings = Vec::new();
        let keys = match &settings.jwks {
            Jwks::None => Keys::Fixed(Box::new(Fixed::new(&settings, &mut warnings)?)),
            Jwks::Set(text) => Keys::Set(KeySet::parse(text).map_err(|says| format!("the JWKS file {says}"))?),
            Jwks::Endpoint(times) => Keys::Endpoint(JwksCache::new(checked(*times)?)),
        };
        if settings.jwks != Jwks::None {
            let unused = settings.fixed().into_iter().filter(|(_, value)| !value.is_empty());
            warnings.extend(unused.map(|(name, _)| format!("{name} is not used, since a JWKS is set")));
        }
        if let Keys::Set(set) = &keys
            && *set.skipped() != Skipped::default()
        {
            warnings.push(format!("the JWKS file has keys that are not used: {}", set.skipped()));
        }
        let has_public_keys = !matches!(&keys, Keys::Fixed(fixed) if fixed.public.is_empty());
        let verified = Verified::new(if has_public_keys { settings.verified_tokens_max } else { 0 });
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let policy = Policy {
            audience: given(settings.audience),
            issuer: given(settings.issuer),
            user_id_claim: given(settings.user_id_claim),
        };
        let skip_signature = settings.skip_signature;
        Ok(Verifier { keys, policy, verified, skip_signature, warnings })
    }

    /// Sentences about what works but should be known.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The key set to be fetched; `None` if there is no endpoint.
    pub fn jwks(&self) -> Option<&JwksCache> {
        match &self.keys {
            Keys::Endpoint(cache) => Some(cache),
            Keys::Fixed(_) | Keys::Set(_) => None,
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
            Ok(Key::Public(key)) if !self.skip_signature && !self.verified.contains(&seen(&key, token)) => {
                Weight::Compute
            }
            _ => Weight::Inline,
        }
    }

    /// What a connection token says, if it counts at `now`.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify_connection(&self, token: &str, now: u64) -> Result<ConnectionClaims, TokenError> {
        self.policy.connection(&self.verified_payload(token, now)?, now)
    }

    /// What a subscription token says, if it counts at `now`. Whether it is this client's, see
    /// [`SubscriptionClaims::is_for`].
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify_subscription(&self, token: &str, now: u64) -> Result<SubscriptionClaims, TokenError> {
        self.policy.subscription(&self.verified_payload(token, now)?, now)
    }

    fn verified_payload(&self, token: &str, now: u64) -> Result<Vec<u8>, TokenError> {
        let compact = Compact::parse(token)?;
        if self.skip_signature {
            return compact.payload();
        }
        let (algorithm, message) = (compact.algorithm, compact.message.as_bytes());
        let is_good = match self.key(&compact, now)? {
            Key::Secrets(fixed) => fixed.verify(algorithm, message, &compact.signature()?, now),
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
                return fixed.has_secret().then_some(Key::Secrets(fixed)).ok_or(NO_KEY);
            }
            Keys::Fixed(fixed) => {
                fixed.public.iter().find(|key| key.allows(compact.algorithm)).cloned().ok_or(NO_KEY)?
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

impl Settings {
    /// What [`Jwks`] replaces.
    fn fixed(&self) -> [(&'static str, &str); 5] {
        [
            ("hmac_secret_key", &self.hmac_secret_key),
            ("hmac_previous_secret_key", &self.hmac_previous_secret_key),
            ("rsa_public_key", &self.rsa_public_key),
            ("ecdsa_public_key", &self.ecdsa_public_key),
            ("ed25519_public_key", &self.ed25519_public_key),
        ]
    }
}

impl Fixed {
    fn new(settings: &Settings, warnings: &mut Vec<String>) -> Result<Fixed, String> {
        let mut secret = |name: &str, text: &str| {
            if (1..SECRET_BYTES_WANTED).contains(&text.len()) {
                warnings.push(format!("{name} has fewer than {SECRET_BYTES_WANTED} bytes and could be guessed"));
            }
            (!text.is_empty()).then(|| Secret::new(text.as_bytes()))
        };
        let current = secret("hmac_secret_key", &settings.hmac_secret_key);
        let previous = secret("hmac_previous_secret_key", &settings.hmac_previous_secret_key);
        let mut public = Vec::new();
        for (name, text, kinds) in [
            ("rsa_public_key", &settings.rsa_public_key, &[Kind::Rsa][..]),
            ("ecdsa_public_key", &settings.ecdsa_public_key, &[Kind::P256, Kind::P384]),
            ("ed25519_public_key", &settings.ed25519_public_key, &[Kind::Ed25519]),
        ] {
            if text.is_empty() {
                continue;
            }
            let key = PublicKey::from_pem(text).map_err(|says| format!("{name} {says}"))?;
            if !kinds.contains(&key.kind()) {
                return Err(format!("{name} is a key of another kind ({:?})", key.kind()));
            }
            public.push(Arc::new(key));
        }
        let previous = previous.map(|secret| (secret, settings.hmac_previous_secret_key_valid_until));
        Ok(Fixed { secret: current, previous, public })
    }

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

fn checked(times: Times) -> Result<Times, String> {
    if times.interval_seconds == 0 || times.fetch_seconds_max == 0 {
        return Err("the JWKS endpoint's interval and time-out must be at least one second".into());
    }
    if times.stale_seconds_max < times.age_seconds_max {
        return Err("the JWKS endpoint's keys must count at least as long as they are fresh".into());
    }
    Ok(times)
}
