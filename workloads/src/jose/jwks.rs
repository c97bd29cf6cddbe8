//! A JSON Web Key Set (RFC 7517): what of it can verify tokens, and what was passed over, counted by reason.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use annulus_protocols::json::Value;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::compact::KEY_ID_BYTES_MAX;
use super::keys::{Algorithm, Kind, PublicKey, Secret};
use super::object::{self, Member, Refused};

/// Longer sets are refused unread. Sets of providers hold two to ten keys of some hundred bytes.
pub const SET_BYTES_MAX: usize = 256 * 1024;
/// Keys beyond are passed over and counted: checking one takes up to a millisecond.
pub const SET_KEYS_MAX: usize = 128;

/// Keys by their ids.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: HashMap<String, Arc<PublicKey>>,
    skipped: Skipped,
}

/// How many keys of a set are not used, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Without `kid`, or one that is too long: no token can name them.
    pub without_id: u32,
    /// `use` or `key_ops` say that they verify nothing.
    pub other_use: u32,
    /// Of a type, curve or algorithm that is not supported, HMAC secrets among them: a secret is not published.
    pub unsupported: u32,
    /// Not well-formed, too short, or no point of their curve.
    pub malformed: u32,
    /// With the `kid` of one before.
    pub duplicate: u32,
    /// After [`SET_KEYS_MAX`] others.
    pub beyond_limit: u32,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.without_id, "without id"),
            (self.other_use, "of other use"),
            (self.unsupported, "unsupported"),
            (self.malformed, "malformed"),
            (self.duplicate, "with the id of another"),
            (self.beyond_limit, "beyond the limit"),
        ];
        let mut between = "";
        for (count, reason) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{between}{count} {reason}")?;
            between = ", ";
        }
        if between.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// Why one key is not used.
enum Unfit {
    WithoutId,
    OtherUse,
    Unsupported,
    Malformed,
}

impl KeySet {
    /// Reads a set. Takes up to a millisecond per key: not for a shard's turn.
    ///
    /// # Errors
    /// What is wrong with the whole of it, as the end of a sentence. A set of which no key can be used is an error too:
    /// taken for the truth it would lock everybody out.
    pub fn parse(text: &[u8]) -> Result<KeySet, String> {
        let mut set = KeySet::default();
        for (index, key) in keys_of(text)?.enumerate() {
            match index < SET_KEYS_MAX {
                true => set.add(key),
                false => set.skipped.beyond_limit += 1,
            }
        }
        match set.keys.is_empty() {
            true => Err(format!("has no key that can verify tokens; passed over: {}", set.skipped)),
            false => Ok(set),
        }
    }

    fn add(&mut self, key: Value<'_>) {
        match read_key(key) {
            Ok((id, _)) if self.keys.contains_key(&id) => self.skipped.duplicate += 1,
            Ok((id, key)) => _ = self.keys.insert(id, Arc::new(key)),
            Err(Unfit::WithoutId) => self.skipped.without_id += 1,
            Err(Unfit::OtherUse) => self.skipped.other_use += 1,
            Err(Unfit::Unsupported) => self.skipped.unsupported += 1,
            Err(Unfit::Malformed) => self.skipped.malformed += 1,
        }
    }

    /// The key of that id.
    pub fn get(&self, key_id: &str) -> Option<&Arc<PublicKey>> {
        self.keys.get(key_id)
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none can; only before the first set.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What was passed over.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

/// Secrets in a key set that is nobody else's to read: `oct` keys (RFC 7518 section 6.4), for HMAC.
pub struct Secrets(Vec<(Option<String>, Secret)>);

impl Secrets {
    /// Reads those of a set; other keys are passed over.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence: there is none, for example.
    pub fn parse(text: &[u8]) -> Result<Secrets, String> {
        let mut secrets = Vec::new();
        for key in keys_of(text)?.take(SET_KEYS_MAX) {
            secrets.extend(read_secret(key).map_err(|_| "has a secret that is no strict base64url")?);
        }
        if secrets.is_empty() { Err("has no secret (a key of type oct)".to_owned()) } else { Ok(Secrets(secrets)) }
    }

    /// The secret of that id; without one, the only one that there is.
    pub fn get(&self, key_id: Option<&str>) -> Option<&Secret> {
        match (key_id, &self.0[..]) {
            (None, [(_, only)]) | (Some(_), [(None, only)]) => Some(only),
            (None, _) => None,
            (Some(id), all) => all.iter().find(|(own, _)| own.as_deref() == Some(id)).map(|(_, secret)| secret),
        }
    }
}

fn read_secret(key: Value<'_>) -> Result<Option<(Option<String>, Secret)>, Unfit> {
    let members = object::members(key).map_err(|_| Unfit::Malformed)?;
    if member(&members, "kty")?.as_deref() != Some("oct") {
        return Ok(None);
    }
    let id = member(&members, "kid")?.map(Cow::into_owned);
    let secret = bytes(&members, "k")?;
    if secret.is_empty() { Err(Unfit::Malformed) } else { Ok(Some((id, Secret::new(&secret)))) }
}

/// The keys of a set, unread.
fn keys_of(text: &[u8]) -> Result<impl Iterator<Item = Value<'_>>, String> {
    if text.len() > SET_BYTES_MAX {
        return Err(format!("is longer than {SET_BYTES_MAX} bytes"));
    }
    let members = object::parse(text).map_err(|refused| match refused {
        Refused::NoObject => "is no JSON object".to_owned(),
        Refused::Twice => "has a member twice".to_owned(),
    })?;
    let keys = members.iter().find(|(name, _)| name == "keys").and_then(|(_, keys)| keys.elements());
    keys.ok_or_else(|| "has no list of keys".to_owned())
}

fn read_key(key: Value<'_>) -> Result<(String, PublicKey), Unfit> {
    let members = object::members(key).map_err(|_| Unfit::Malformed)?;
    let id = member(&members, "kid")?.filter(|id| id.len() <= KEY_ID_BYTES_MAX).ok_or(Unfit::WithoutId)?;
    // RFC 7517 sections 4.2 and 4.3.
    if member(&members, "use")?.is_some_and(|usage| usage != "sig") || !may_verify(&members) {
        return Err(Unfit::OtherUse);
    }
    let kind = member(&members, "kty")?.ok_or(Unfit::Malformed)?;
    let curve = member(&members, "crv")?;
    let key = match (kind.as_ref(), curve.as_deref()) {
        // RFC 7518 section 6.3.1.
        ("RSA", _) => PublicKey::rsa(&bytes(&members, "n")?, &bytes(&members, "e")?),
        // RFC 7518 section 6.2.1: coordinates of full length.
        ("EC", Some("P-256")) => PublicKey::point(Kind::P256, &coordinates(&members, 32)?),
        ("EC", Some("P-384")) => PublicKey::point(Kind::P384, &coordinates(&members, 48)?),
        // RFC 8037 section 2.
        ("OKP", Some("Ed25519")) => PublicKey::point(Kind::Ed25519, &bytes(&members, "x")?),
        _ => return Err(Unfit::Unsupported),
    };
    let key = key.map_err(|_| Unfit::Malformed)?;
    // RFC 7517 section 4.4: the only algorithm that it is for.
    let key = match member(&members, "alg")? {
        Some(name) => Algorithm::named(&name).and_then(|only| key.only(only)).ok_or(Unfit::Unsupported)?,
        None => key,
    };
    Ok((id.into_owned(), key))
}

/// A member that must be a string if it is there.
fn member<'a>(members: &[Member<'a>], name: &str) -> Result<Option<Cow<'a, str>>, Unfit> {
    let value = members.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    value.map(|value| value.string().ok_or(Unfit::Malformed)).transpose()
}

fn bytes(members: &[Member<'_>], name: &str) -> Result<Vec<u8>, Unfit> {
    let text = member(members, name)?.ok_or(Unfit::Malformed)?;
    BASE64_URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(|_| Unfit::Malformed)
}

/// An uncompressed point (SEC 1 section 2.3.3).
fn coordinates(members: &[Member<'_>], len: usize) -> Result<Vec<u8>, Unfit> {
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    match x.len() == len && y.len() == len {
        true => Ok([&[4], &x[..], &y].concat()),
        false => Err(Unfit::Malformed),
    }
}

fn may_verify(members: &[Member<'_>]) -> bool {
    let Some((_, operations)) = members.iter().find(|(name, _)| name == "key_ops") else { return true };
    operations.elements().is_some_and(|mut all| all.any(|one| one.string().is_some_and(|name| name == "verify")))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::jwks;
    use super::*;

    fn of(keys: &str) -> Result<KeySet, String> {
        KeySet::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes())
    }

    #[test]
    fn a_set_and_its_kinds() {
        let set = KeySet::parse(jwks().as_bytes()).unwrap();
        assert_eq!((set.len(), set.is_empty(), set.skipped().to_string().as_str()), (4, false, "none"));
        let kinds = ["rsa", "p256", "p384", "ed"].map(|id| set.get(id).unwrap().kind());
        assert_eq!(kinds, [Kind::Rsa, Kind::P256, Kind::P384, Kind::Ed25519]);
        assert!(set.get("rsa").unwrap().allows(Algorithm::Rs256));
        assert!(!set.get("rsa").unwrap().allows(Algorithm::Rs512), "its alg says so");
        assert!(set.get("other").is_none());
    }

    #[test]
    fn keys_that_are_passed_over_are_counted() {
        let x = r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
        let ed = format!(r#""kty":"OKP","crv":"Ed25519",{x}"#);
        let good = format!(r#"{{"kid":"good","key_ops":["verify"],{ed}}}"#);
        let long = "k".repeat(KEY_ID_BYTES_MAX + 1);
        let point = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU""#;
        for (key, reason) in [
            (format!("{{{ed}}}"), "1 without id"),
            (format!(r#"{{"kid":"{long}",{ed}}}"#), "1 without id"),
            (format!(r#"{{"kid":"k","use":"enc",{ed}}}"#), "1 of other use"),
            (format!(r#"{{"kid":"k","key_ops":["sign"],{ed}}}"#), "1 of other use"),
            (format!(r#"{{"kid":"k","key_ops":"verify",{ed}}}"#), "1 of other use"),
            (r#"{"kid":"k","kty":"oct","k":"c2VjcmV0"}"#.into(), "1 unsupported"),
            (r#"{"kid":"k","kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.into(), "1 unsupported"),
            (format!(r#"{{"kid":"k","kty":"OKP","crv":"X25519",{x}}}"#), "1 unsupported"),
            (format!(r#"{{"kid":"k","alg":"ES512",{ed}}}"#), "1 unsupported"),
            (format!(r#"{{"kid":"k","alg":"HS256",{ed}}}"#), "1 unsupported"),
            ("1".into(), "1 malformed"),
            (format!(r#"{{"kid":"k","kid":"l",{ed}}}"#), "1 malformed"),
            (format!(r#"{{"kid":1,{ed}}}"#), "1 malformed"),
            (format!(r#"{{"kid":"k",{x}}}"#), "1 malformed"),
            (r#"{"kid":"k","kty":"OKP","crv":"Ed25519","x":"AA"}"#.into(), "1 malformed"),
            (r#"{"kid":"k","kty":"OKP","crv":"Ed25519","x":"A"}"#.into(), "1 malformed"),
            (r#"{"kid":"k","kty":"OKP","crv":"Ed25519"}"#.into(), "1 malformed"),
            (r#"{"kid":"k","kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(), "1 malformed"),
            (format!(r#"{{"kid":"k",{point}}}"#), "1 malformed"),
            (format!(r#"{{"kid":"k",{point},"y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}}"#), "1 malformed"),
            (format!(r#"{{"kid":"k",{point},"y":"AA"}}"#), "1 malformed"),
            (good.clone(), "1 with the id of another"),
        ] {
            let set = of(&format!("{good},{key}")).unwrap();
            assert_eq!((set.len(), set.skipped().to_string().as_str()), (1, reason), "{key}");
        }
    }

    #[test]
    fn sets_that_are_refused_whole() {
        let long = format!("{{\"keys\":[]}}{}", " ".repeat(SET_BYTES_MAX));
        for (text, says) in [
            ("", "is no JSON object"),
            ("[]", "is no JSON object"),
            ("{}", "has no list of keys"),
            (r#"{"keys":{}}"#, "has no list of keys"),
            (r#"{"keys":[],"keys":[]}"#, "has a member twice"),
            (r#"{"keys":[]}"#, "has no key that can verify tokens; passed over: none"),
            (
                r#"{"keys":[1,{"kid":"a","use":"enc"}]}"#,
                "has no key that can verify tokens; passed over: 1 of other use, 1 malformed",
            ),
            (&long, "is longer than 262144 bytes"),
        ] {
            assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), says);
        }
    }

    #[test]
    fn keys_beyond_the_limit_are_not_looked_at() {
        let keys: Vec<String> = (0..SET_KEYS_MAX + 3)
            .map(|id| {
                format!(
                    r#"{{"kid":"{id}","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#
                )
            })
            .collect();
        let set = of(&keys.join(",")).unwrap();
        assert_eq!((set.len(), set.skipped().beyond_limit), (SET_KEYS_MAX, 3));
    }
}
