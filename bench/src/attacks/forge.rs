//! Tokens that nobody should believe, beside some that are good (RFC 7515, RFC 7519; attacks as in RFC 8725 section 2).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// When good tokens end: 2100.
pub const EXPIRES: u64 = 4_102_444_800;
/// When those had ended that are too late.
const EXPIRED: u64 = 1_600_000_000;
/// The secret of HS256.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef-attacks";
/// The name of the Ed25519 key in the set.
pub const KID: &str = "ed";

/// A public RSA key of 2048 bits whose other half nobody here has.
pub const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAkmjVnGEZjzdddAngNwUo
7Z28m3yXSWp9KSZChfBIbB9PARW0mMTYQWIIe6C8hqCNAx5dTSuzAxSvera+6tZF
6xgazeAfwj+amu/f9PEuJgABwiYLoBpLanf9ge6PrV4HNXcusNtXJ0ABv8EUBAlY
tr5wRrcPZIpzkItm2Bep26freQrWi7qApMrgH1vtkDkFkbNj26ZlFv6RUrYKCTG4
G5f1kWbtBzGyNsmY2SNlYu4T43agG3Y/Eemdy4t00W/ys7xqMPyftcEd0/kp+ZJ2
dL/pf4uWdHkfeFsCbb8uUIWAlbeR+tNqtZNbfc+Tj+QqvpfiZ0q+gV8NO9/JsHnj
QQIDAQAB
-----END PUBLIC KEY-----
";

/// Keys of a run.
pub struct Keys {
    ed: Ed25519KeyPair,
}

impl Keys {
    /// New ones.
    ///
    /// # Errors
    /// A sentence: the kernel gives no randomness.
    pub fn new() -> Result<Keys, String> {
        let wrong = |_| "no key could be made".to_owned();
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(wrong)?;
        let ed = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| "no key could be made".to_owned())?;
        Ok(Keys { ed })
    }

    /// The set of keys that a gateway is given (RFC 7517, RFC 8037).
    pub fn set(&self) -> Value {
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KID,
            "x": base64url(self.ed.public_key().as_ref()),
        }] })
    }

    /// A token of the Ed25519 key.
    pub fn ed(&self, head: &Value, claims: &Value) -> String {
        let input = input(head, claims);
        let signature = self.ed.sign(input.as_bytes());
        format!("{input}.{}", base64url(signature.as_ref()))
    }

    /// Tokens for who takes EdDSA alone, with what each is.
    ///
    /// # Errors
    /// As [`Keys::new`]: one of them is a stranger's.
    pub fn forged_ed(&self, claims: &Value) -> Result<Vec<(&'static str, String)>, String> {
        let good = self.ed(&json!({ "alg": "EdDSA", "kid": KID }), claims);
        let public = self.ed.public_key().as_ref().to_vec();
        let text = base64url(&public);
        let set = self.set().to_string();
        let head = |alg: &str| json!({ "alg": alg, "kid": KID });
        let mut tokens = common(&good, claims);
        tokens.extend([
            ("HS256 with the public key's bytes", hs(&head("HS256"), claims, &public)),
            ("HS256 with the public key's text", hs(&head("HS256"), claims, text.as_bytes())),
            ("HS256 with the key set as a secret", hs(&head("HS256"), claims, set.as_bytes())),
            ("the right key, alg says HS256", self.ed(&head("HS256"), claims)),
            ("the right key, alg says none", self.ed(&head("none"), claims)),
            ("kid of no key", self.ed(&json!({ "alg": "EdDSA", "kid": "other" }), claims)),
            ("kid is a path", hs(&json!({ "alg": "HS256", "kid": "../../../../dev/null" }), claims, b"")),
            ("kid is SQL", self.ed(&json!({ "alg": "EdDSA", "kid": "' OR '1'='1" }), claims)),
            (
                "crit that nobody knows",
                self.ed(&json!({ "alg": "EdDSA", "kid": KID, "crit": ["b64"], "b64": false }), claims),
            ),
            ("expired", self.ed(&head("EdDSA"), &with(claims, "exp", json!(EXPIRED)))),
            ("not yet valid", self.ed(&head("EdDSA"), &with(claims, "nbf", json!(EXPIRES - 1)))),
            ("exp is a text", self.ed(&head("EdDSA"), &with(claims, "exp", json!("4102444800")))),
        ]);
        let stranger = Keys::new()?;
        let brought = json!({ "alg": "EdDSA", "kid": KID, "jwk": stranger.set()["keys"][0] });
        tokens.push(("a stranger's key, brought along as jwk", stranger.ed(&brought, claims)));
        Ok(tokens)
    }
}

/// Tokens for who takes HS256 and RSA, with what each is.
pub fn forged_hs_rsa(claims: &Value) -> Vec<(&'static str, String)> {
    let head = |alg: &str| json!({ "alg": alg, "typ": "JWT" });
    let good = hs(&head("HS256"), claims, SECRET.as_bytes());
    let der: Vec<&str> = RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(der.concat()).expect("the key above is base64");
    let mut tokens = common(&good, claims);
    tokens.extend([
        ("HS256 with the RSA key's PEM", hs(&head("HS256"), claims, RSA_PEM.as_bytes())),
        ("HS256 with the RSA key's PEM, trimmed", hs(&head("HS256"), claims, RSA_PEM.trim_end().as_bytes())),
        ("HS256 with the RSA key's DER", hs(&head("HS256"), claims, &der)),
        ("HS256 without a secret", hs(&head("HS256"), claims, b"")),
        ("HS256's signature, alg says RS256", hs(&head("RS256"), claims, SECRET.as_bytes())),
        ("HS256's signature, alg says HS512", hs(&head("HS512"), claims, SECRET.as_bytes())),
        ("RS256 with a signature of zeros", format!("{}.{}", input(&head("RS256"), claims), base64url(&[0; 256]))),
        ("kid is a path", hs(&json!({ "alg": "HS256", "kid": "../../../../dev/null" }), claims, b"")),
        ("jku elsewhere", hs(&json!({ "alg": "HS256", "jku": "http://127.0.0.1:1/keys" }), claims, b"jku")),
        ("expired", hs(&head("HS256"), &with(claims, "exp", json!(EXPIRED)), SECRET.as_bytes())),
        ("not yet valid", hs(&head("HS256"), &with(claims, "nbf", json!(EXPIRES - 1)), SECRET.as_bytes())),
        ("exp is a text", hs(&head("HS256"), &with(claims, "exp", json!("4102444800")), SECRET.as_bytes())),
        ("user twice", twice(&good, claims)),
    ]);
    tokens
}

/// What is done to a good token, whatever its algorithm.
fn common(good: &str, claims: &Value) -> Vec<(&'static str, String)> {
    let unsigned = |alg: &str| format!("{}.", input(&json!({ "alg": alg, "typ": "JWT" }), claims));
    let (body, signature) = good.rsplit_once('.').unwrap_or((good, ""));
    let (head, payload) = body.split_once('.').unwrap_or((body, ""));
    let other = base64url(with(claims, "sub", json!("root")).to_string().as_bytes());
    let mut cut = signature.to_owned();
    cut.pop();
    vec![
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg NONE", unsigned("NONE")),
        ("alg nOnE", unsigned("nOnE")),
        ("alg empty", unsigned("")),
        ("alg none, an old signature", format!("{}{signature}", unsigned("none"))),
        ("no alg", format!("{}.", input(&json!({ "typ": "JWT" }), claims))),
        ("a signature of nothing", format!("{body}.")),
        ("no signature", body.to_owned()),
        ("a signature cut by a letter", format!("{body}.{cut}")),
        ("other claims, an old signature", format!("{head}.{other}.{signature}")),
        ("a fourth part", format!("{good}.{signature}")),
        ("padding", format!("{head}==.{payload}.{signature}")),
        ("head is no JSON", format!("{}.{payload}.{signature}", base64url(b"alg=none"))),
        ("not a token", "null".to_owned()),
    ]
}

/// A signed token in which a claim stands twice: which of the two counts is what parsers disagree about.
fn twice(good: &str, claims: &Value) -> String {
    let head = good.split('.').next().unwrap_or_default();
    let text = claims.to_string().replacen('{', r#"{"sub":"root","#, 1);
    let input = format!("{head}.{}", base64url(text.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), input.as_bytes());
    format!("{input}.{}", base64url(tag.as_ref()))
}

/// A token of HS256 with this key, whatever its head says.
pub fn hs(head: &Value, claims: &Value, key: &[u8]) -> String {
    let input = input(head, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), input.as_bytes());
    format!("{input}.{}", base64url(tag.as_ref()))
}

/// Claims with one that differs.
pub fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn input(head: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(head.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forgery_differs_from_the_good_token_and_from_the_others() {
        let (claims, keys) = (json!({ "sub": "ann", "exp": EXPIRES }), Keys::new().unwrap());
        let good = hs(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, SECRET.as_bytes());
        for tokens in [forged_hs_rsa(&claims), keys.forged_ed(&claims).unwrap()] {
            let mut texts: Vec<&str> = tokens.iter().map(|(_, token)| token.as_str()).chain([good.as_str()]).collect();
            let count = texts.len();
            texts.sort_unstable();
            texts.dedup();
            assert!(texts.len() == count && count > 20, "{count}");
        }
    }
}
