//! Keys, and which algorithms each of them may be used with.
//!
//! ```text
//!   HS256 HS384 HS512                    Secret
//!   RS256 RS384 RS512 PS256 PS384 PS512  PublicKey of kind Rsa
//!   ES256 | ES384 | EdDSA                PublicKey of kind P256 | P384 | Ed25519
//! ```
//!
//! A token names its algorithm, but never chooses the key's kind: a key is asked whether it is one for that algorithm.
//! So nobody can have an RSA public key taken for an HMAC secret, and `none` is no algorithm at all.

use annulus_engine::tls::rustls::pki_types::CertificateDer;
use annulus_engine::tls::rustls::pki_types::pem::{PemObject, SectionKind};
use annulus_engine::tls::rustls::server::ParsedCertificate;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use ring::{agreement, digest, hmac, rand};

use super::der::{Der, Malformed, OBJECT_IDENTIFIER, SEQUENCE};

/// Shorter RSA keys are refused where they are configured (RFC 7518 section 3.3).
const RSA_BITS_MIN: usize = 2048;
/// Longer RSA keys are refused where they are configured: verifying would take milliseconds, and ring takes none.
const RSA_BITS_MAX: usize = 8192;
/// RSA public exponents beyond are refused where they are configured, as ring does: they only cost time.
const RSA_EXPONENT_MAX: u64 = (1 << 33) - 1;

// Object identifiers, as DER has them.
const RSA_ENCRYPTION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const RSASSA_PSS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];

/// An algorithm of JSON Web Signatures that can be verified here (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A secret that signs and verifies.
    Hmac,
    /// An RSA public key.
    Rsa,
    /// A point on P-256.
    P256,
    /// A point on P-384.
    P384,
    /// An Ed25519 public key.
    Ed25519,
}

impl Algorithm {
    /// By its name in a header or a JWK; names are case-sensitive (RFC 7515 section 4.1.1).
    pub fn named(name: &str) -> Option<Algorithm> {
        Some(match name {
            "HS256" => Algorithm::Hs256,
            "HS384" => Algorithm::Hs384,
            "HS512" => Algorithm::Hs512,
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "PS384" => Algorithm::Ps384,
            "PS512" => Algorithm::Ps512,
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            // RFC 9864 names what EdDSA always was here.
            "EdDSA" | "Ed25519" => Algorithm::EdDsa,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The kind of key that it takes.
    pub fn kind(self) -> Kind {
        match self {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => Kind::Hmac,
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => Kind::Rsa,
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 => Kind::Rsa,
            Algorithm::Es256 => Kind::P256,
            Algorithm::Es384 => Kind::P384,
            Algorithm::EdDsa => Kind::Ed25519,
        }
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        Some(match self {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }

    /// With signatures of fixed length, r and s side by side (RFC 7518 section 3.4).
    fn curve(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Algorithm::EdDsa => &signature::ED25519,
            _ => return None,
        })
    }
}

/// An HMAC secret, ready for all three hashes. It is never printed.
pub struct Secret {
    sha256: hmac::Key,
    sha384: hmac::Key,
    sha512: hmac::Key,
}

impl Secret {
    /// Of the bytes as they are.
    pub fn new(secret: &[u8]) -> Secret {
        Secret {
            sha256: hmac::Key::new(hmac::HMAC_SHA256, secret),
            sha384: hmac::Key::new(hmac::HMAC_SHA384, secret),
            sha512: hmac::Key::new(hmac::HMAC_SHA512, secret),
        }
    }

    /// Whether this secret made `mac` of `message`; compared in constant time.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], mac: &[u8]) -> bool {
        let key = match algorithm {
            Algorithm::Hs256 => &self.sha256,
            Algorithm::Hs384 => &self.sha384,
            Algorithm::Hs512 => &self.sha512,
            _ => return false,
        };
        hmac::verify(key, message, mac).is_ok()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Both big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// An uncompressed point (SEC 1 section 2.3.3), or Ed25519's 32 bytes.
    Point(Kind, Vec<u8>),
}

/// A public key that was checked as far as can be known without a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    material: Material,
    /// The only one that it may be used with, where a JWK says so.
    only: Option<Algorithm>,
    fingerprint: [u8; 32],
}

impl PublicKey {
    /// Of a PEM text: `PUBLIC KEY` (SPKI), `RSA PUBLIC KEY` (PKCS#1) or `CERTIFICATE` (X.509, for its key only: neither
    /// its dates nor its issuer are looked at).
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn from_pem(text: &str) -> Result<PublicKey, String> {
        // The reader passes over the PKCS#1 label, which it does not know. The two forms differ in their content.
        let text = text.replace("RSA PUBLIC KEY-----", "PUBLIC KEY-----");
        let mut found = None;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|error| format!("is no readable PEM: {error}"))?;
            let key = match kind {
                SectionKind::PublicKey => PublicKey::from_der(&der)?,
                SectionKind::Certificate => PublicKey::from_certificate(der)?,
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    return Err(
                        "holds a private key; it takes the public one only, and that one belongs elsewhere".into()
                    );
                }
                _ => continue,
            };
            if found.replace(key).is_some() {
                return Err("holds more than one key".into());
            }
        }
        found.ok_or_else(|| "holds no PEM section PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE".into())
    }

    fn from_certificate(der: Vec<u8>) -> Result<PublicKey, String> {
        let der = CertificateDer::from(der);
        let certificate =
            ParsedCertificate::try_from(&der).map_err(|error| format!("holds an unusable certificate: {error}"))?;
        PublicKey::from_der(&certificate.subject_public_key_info())
    }

    fn from_der(der: &[u8]) -> Result<PublicKey, String> {
        let malformed = |Malformed| "holds a key that is no strict DER".to_owned();
        let mut outer = Der::new(der);
        let mut info = outer.sequence().and_then(|info| outer.end().map(|()| info)).map_err(malformed)?;
        if info.peek() != Some(SEQUENCE) {
            return PublicKey::from_pkcs1(der);
        }
        let mut algorithm = info.sequence().map_err(malformed)?;
        let key = info.bit_string().and_then(|key| info.end().map(|()| key)).map_err(malformed)?;
        let name = algorithm.take(OBJECT_IDENTIFIER).map_err(malformed)?;
        let ends = |algorithm: Der<'_>| algorithm.end().map_err(malformed);
        match name {
            RSA_ENCRYPTION => {
                algorithm.null().map_err(malformed)?; // RFC 3279 section 2.3.1: present, and null.
                ends(algorithm)?;
                PublicKey::from_pkcs1(key)
            }
            EC_PUBLIC_KEY => {
                let curve = algorithm.take(OBJECT_IDENTIFIER).map_err(malformed)?;
                ends(algorithm)?;
                match curve {
                    P256 => PublicKey::point(Kind::P256, key),
                    P384 => PublicKey::point(Kind::P384, key),
                    P521 => Err("is on P-521: ES512 is not supported, use P-256 or P-384".into()),
                    _ => Err("is on a curve that is not supported; use P-256 or P-384".into()),
                }
            }
            ED25519 => {
                ends(algorithm)?; // RFC 8410 section 3: no parameters.
                PublicKey::point(Kind::Ed25519, key)
            }
            RSASSA_PSS => {
                Err("is restricted to RSASSA-PSS, which is not supported; a plain RSA key does PS256 too".into())
            }
            _ => Err("is of a kind that is not supported; use RSA, P-256, P-384 or Ed25519".into()),
        }
    }

    fn from_pkcs1(der: &[u8]) -> Result<PublicKey, String> {
        let numbers = || {
            let mut outer = Der::new(der);
            let mut key = outer.sequence()?;
            outer.end()?;
            let (modulus, exponent) = (key.unsigned()?, key.unsigned()?);
            key.end().map(|()| (modulus, exponent))
        };
        let (modulus, exponent) = numbers().map_err(|Malformed| "holds a key that is no strict DER".to_owned())?;
        PublicKey::rsa(modulus, exponent)
    }

    /// An RSA key, both numbers big-endian without leading zeros.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, String> {
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if bits < RSA_BITS_MIN {
            return Err(format!(
                "is an RSA key of {bits} bits; at least {RSA_BITS_MIN} are needed (RFC 7518 section 3.3)"
            ));
        }
        if bits > RSA_BITS_MAX {
            return Err(format!("is an RSA key of {bits} bits; more than {RSA_BITS_MAX} are not supported"));
        }
        let number = exponent.iter().try_fold(0u64, |number, byte| Some(number.checked_mul(256)? + u64::from(*byte)));
        if !number.is_some_and(|number| number % 2 == 1 && (3..=RSA_EXPONENT_MAX).contains(&number))
            || exponent[0] == 0
            || modulus[0] == 0
            || modulus[modulus.len() - 1].is_multiple_of(2)
        {
            return Err("is an RSA key whose numbers cannot be one's".into());
        }
        Ok(PublicKey::of(Material::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() }))
    }

    /// A point: uncompressed on P-256 or P-384, or Ed25519's 32 bytes.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn point(kind: Kind, point: &[u8]) -> Result<PublicKey, String> {
        let is_valid = match kind {
            Kind::P256 => point.len() == 65 && is_on_curve(&agreement::ECDH_P256, point)?,
            Kind::P384 => point.len() == 97 && is_on_curve(&agreement::ECDH_P384, point)?,
            Kind::Ed25519 => point.len() == 32,
            Kind::Hmac | Kind::Rsa => false,
        };
        match is_valid {
            true => Ok(PublicKey::of(Material::Point(kind, point.to_vec()))),
            false if matches!(point.first(), Some(2 | 3)) && kind != Kind::Ed25519 => {
                Err("is a compressed point, which is not supported; write it uncompressed".into())
            }
            false => Err("is no point of its curve".into()),
        }
    }

    fn of(material: Material) -> PublicKey {
        let mut hash = digest::Context::new(&digest::SHA256);
        match &material {
            Material::Rsa { modulus, exponent } => {
                hash.update(b"rsa");
                hash.update(&[exponent.len() as u8]); // Five at most. So no two keys give the same bytes.
                hash.update(exponent);
                hash.update(modulus);
            }
            Material::Point(kind, point) => {
                hash.update(format!("{kind:?}").as_bytes());
                hash.update(point);
            }
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        PublicKey { material, only: None, fingerprint }
    }

    /// May only be used with that algorithm, which must be one for its kind.
    #[must_use]
    pub fn only(self, algorithm: Algorithm) -> Option<PublicKey> {
        (algorithm.kind() == self.kind()).then_some(PublicKey { only: Some(algorithm), ..self })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match &self.material {
            Material::Rsa { .. } => Kind::Rsa,
            Material::Point(kind, _) => *kind,
        }
    }

    /// Whether it is a key for that algorithm.
    #[must_use]
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        self.kind() == algorithm.kind() && self.only.is_none_or(|only| only == algorithm)
    }

    /// A hash of its numbers. Two keys with the same verify the same.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whether this key's owner made `signature` of `message` with that algorithm.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.allows(algorithm) {
            return false;
        }
        match (&self.material, algorithm.rsa(), algorithm.curve()) {
            (Material::Rsa { modulus, exponent }, Some(parameters), _) => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature).is_ok()
            }
            (Material::Point(_, point), _, Some(algorithm)) => {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Tried by agreeing on a secret with it, since ring looks at a point only where it is used.
fn is_on_curve(curve: &'static agreement::Algorithm, point: &[u8]) -> Result<bool, String> {
    let ours = agreement::EphemeralPrivateKey::generate(curve, &rand::SystemRandom::new())
        .map_err(|_| "could not be checked: the system gives no random numbers".to_owned())?;
    Ok(agreement::agree_ephemeral(ours, &agreement::UnparsedPublicKey::new(curve, point), |_| ()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::vectors;
    use super::*;

    #[test]
    fn public_keys_in_every_form() {
        let plain = PublicKey::from_pem(vectors::RSA).unwrap();
        for same in [vectors::RSA_PKCS1, vectors::RSA_CERTIFICATE] {
            assert_eq!(PublicKey::from_pem(same).unwrap(), plain);
        }
        let point = PublicKey::from_pem(vectors::P256).unwrap();
        assert_eq!(PublicKey::from_pem(vectors::P256_CERTIFICATE).unwrap(), point);
        let with_text = format!("A key, with words around it.\n{}\nAnd after.\n", vectors::P256.replace('\n', "\r\n"));
        assert_eq!(PublicKey::from_pem(&with_text).unwrap(), point);
        assert_ne!(plain.fingerprint(), point.fingerprint());
    }

    #[test]
    fn public_keys_that_are_refused() {
        let private = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----";
        let empty = "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----";
        let no_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----";
        let two = format!("{}\n{}", vectors::RSA, vectors::P256);
        for (pem, says) in [
            (vectors::RSA1024, "is an RSA key of 1024 bits; at least 2048 are needed"),
            (vectors::RSAPSS, "is restricted to RSASSA-PSS, which is not supported"),
            (vectors::P521, "is on P-521: ES512 is not supported"),
            (vectors::K256, "is on a curve that is not supported"),
            (vectors::ED448, "is of a kind that is not supported"),
            (vectors::P256_COMPRESSED, "is a compressed point, which is not supported"),
            (private, "holds a private key"),
            (empty, "holds a key that is no strict DER"),
            (no_certificate, "holds an unusable certificate"),
            (&two, "holds more than one key"),
            ("a text", "holds no PEM section PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE"),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", "is no readable PEM"),
        ] {
            let error = PublicKey::from_pem(pem).unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn changed_keys_are_refused_or_other_keys() {
        // Every byte of a key's DER, and of PKCS#1 within: whatever comes of it, it is never taken for the same key.
        for pem in [vectors::RSA, vectors::P256, vectors::P384, vectors::ED25519] {
            let key = PublicKey::from_pem(pem).unwrap();
            let (begin, rest) = pem.split_once('\n').unwrap();
            let (body, end) = rest.rsplit_once('\n').unwrap();
            for at in (0..body.len()).filter(|at| body.as_bytes()[*at] != b'\n') {
                let mut changed = body.as_bytes().to_vec();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                if let Ok(other) = PublicKey::from_pem(&format!("{begin}\n{changed}\n{end}")) {
                    assert_ne!(other, key, "{at}");
                    assert_ne!(other.fingerprint(), key.fingerprint(), "{at}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_no_rsa_key() {
        let odd = [&[0x80][..], &[0; 254], &[1]].concat();
        assert!(PublicKey::rsa(&odd, &[1, 0, 1]).is_ok());
        assert!(PublicKey::rsa(&odd, &[3]).is_ok());
        let even = [&[0x80][..], &[0; 255]].concat();
        let padded = [&[0][..], &odd].concat();
        for (modulus, exponent) in [
            (&odd, &[][..]),
            (&odd, &[1]),
            (&odd, &[2]),
            (&odd, &[0, 3]),
            (&odd, &[2, 0, 0, 0, 1]),
            (&odd, &[1; 20]),
            (&even, &[3]),
            (&padded, &[3]),
        ] {
            assert!(PublicKey::rsa(modulus, exponent).is_err(), "{exponent:?}");
        }
        assert!(PublicKey::rsa(&[], &[3]).unwrap_err().contains("0 bits"));
        assert!(PublicKey::rsa(&[0xFF; 1025], &[3]).unwrap_err().contains("8200 bits"));
        let beside = [&[4][..], &[1; 64]].concat();
        assert_eq!(PublicKey::point(Kind::P256, &beside).unwrap_err(), "is no point of its curve");
        assert_eq!(PublicKey::point(Kind::Ed25519, &[2; 33]).unwrap_err(), "is no point of its curve");
    }
}
