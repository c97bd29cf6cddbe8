//! Connection tokens as a server's HMAC secret lets in: JSON Web Tokens signed with HS256 (RFC 7519, RFC 7515).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

/// When tokens of the bench expire: 2100, so that no run meets it.
const EXPIRES: u64 = 4_102_444_800;

/// Signs tokens with one secret.
pub struct Signer(hmac::Key);

impl Signer {
    /// A signer with this secret.
    pub fn new(secret: &str) -> Signer {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// A token for a user's connection.
    pub fn connection(&self, user: &str) -> String {
        let head = base64url(br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = base64url(format!(r#"{{"sub":"{user}","exp":{EXPIRES}}}"#).as_bytes());
        self.sign(format!("{head}.{claims}"))
    }

    fn sign(&self, input: String) -> String {
        let tag = hmac::sign(&self.0, input.as_bytes());
        format!("{input}.{}", base64url(tag.as_ref()))
    }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_known_token_is_signed_as_others_sign_it() {
        // The example that jwt.io has shown for years.
        let input = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                     eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ";
        let signed = Signer::new("your-256-bit-secret").sign(input.to_owned());
        assert_eq!(signed, format!("{input}.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"));
    }
}
