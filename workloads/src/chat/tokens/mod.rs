//! Tokens of the Centrifuge protocol: JSON Web Tokens (RFC 7519) that say who connects, and who may subscribe to what.
//!
//! ```text
//!   token ─► jose: is its signature good? ─► claims.rs: what the payload says, and whether it counts now
//! ```
//!
//! Pure logic: no socket, no clock (`now` is Unix seconds), no log. A [`Verifier`] is shared by all shards and compute
//! threads; [`Signatures::weight`](crate::jose::Signatures::weight) says which tokens take too long for a shard's turn.
//!
//! # Errors and their answers
//!
//! | error | connect | subscribe |
//! |---|---|---|
//! | [`TokenError::Expired`] | error 109, the client gets a new token | error 109 |
//! | [`TokenError::Invalid`], [`TokenError::UnknownKey`] | disconnect 3500 | error 103 |
//! | [`TokenError::KeyPending`] | wait for the fetch, then verify again | as connect |
//! | the same before a fetch: [`Signatures::tentatively`] | error 100 | error 100 |
//! | [`TokenError::KeysUnavailable`] | error 100, temporary: the client comes again | as connect |

mod claims;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use claims::{ConnectionClaims, Overrides, Payload, SubOptions, SubscriptionClaims};

use crate::jose::{Fixed, JwksCache, KeySet, Keys, Kind, PublicKey, Secret, Signatures, Skipped, VERIFIED_TOKENS_MAX};
pub use crate::jose::{Times, TokenError};
use claims::Policy;

/// HMAC secrets shorter than this get a warning: they can be guessed offline by whoever has one token (RFC 7518 section
/// 3.2 asks for the length of the hash).
const SECRET_BYTES_WANTED: usize = 32;

/// Where public keys with ids come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Jwks {
    /// Nowhere: the keys of [`Settings`] are used.
    #[default]
    None,
    /// This text of a key set, from a file.
    Set(Vec<u8>),
    /// An endpoint that the caller fetches: see [`Signatures::jwks`].
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

/// Verifies tokens.
pub struct Verifier {
    /// Their keys, and where those come from.
    pub signatures: Arc<Signatures>,
    policy: Policy,
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
            Jwks::None => Keys::Fixed(Box::new(fixed(&settings, &mut warnings)?)),
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
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let policy = Policy {
            audience: given(settings.audience),
            issuer: given(settings.issuer),
            user_id_claim: given(settings.user_id_claim),
        };
        let signatures = Signatures::new(keys, settings.verified_tokens_max);
        let signatures = if settings.skip_signature { signatures.unlooked_at() } else { signatures };
        Ok(Verifier { signatures: Arc::new(signatures), policy, warnings })
    }

    /// Sentences about what works but should be known.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What a connection token says, if it counts at `now`.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify_connection(&self, token: &str, now: u64) -> Result<ConnectionClaims, TokenError> {
        self.policy.connection(&self.signatures.payload(token, now)?, now)
    }

    /// What a subscription token says, if it counts at `now`. Whether it is this client's, see
    /// [`SubscriptionClaims::is_for`].
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify_subscription(&self, token: &str, now: u64) -> Result<SubscriptionClaims, TokenError> {
        self.policy.subscription(&self.signatures.payload(token, now)?, now)
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

/// The keys that stand in the settings.
fn fixed(settings: &Settings, warnings: &mut Vec<String>) -> Result<Fixed, String> {
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

fn checked(times: Times) -> Result<Times, String> {
    if times.interval_seconds == 0 || times.fetch_seconds_max == 0 {
        return Err("the JWKS endpoint's interval and time-out must be at least one second".into());
    }
    if times.stale_seconds_max < times.age_seconds_max {
        return Err("the JWKS endpoint's keys must count at least as long as they are fresh".into());
    }
    Ok(times)
}
