//! Claims that mean the same everywhere (RFC 7519 section 4.1).

use annulus_protocols::json::Value;

use super::TokenError;
use super::object;

/// What a token says of itself.
#[derive(Default)]
pub struct Registered {
    /// `sub`.
    pub subject: Option<String>,
    /// `exp`, in Unix seconds.
    pub exp: Option<i64>,
    /// `jti`.
    pub jti: Option<String>,
    issuer: Option<String>,
    audience: Vec<String>,
    not_before: Option<i64>,
}

impl Registered {
    /// Takes a claim, if it is one of them.
    ///
    /// # Errors
    /// It is of another type than it must be.
    pub fn take(&mut self, name: &str, value: Value<'_>) -> Result<bool, TokenError> {
        match name {
            "sub" => self.subject = Some(text(value, "its sub is no string")?),
            "iss" => self.issuer = Some(text(value, "its iss is no string")?),
            "aud" => self.audience = audience(value)?,
            "exp" => self.exp = Some(time(value, "its exp is no time")?),
            "nbf" => self.not_before = Some(time(value, "its nbf is no time")?),
            "iat" => _ = time(value, "its iat is no time")?,
            "jti" => self.jti = Some(text(value, "its jti is no string")?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the token counts at `now`, with so many seconds of leeway: it is for all of `audience`, and of `issuer`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, now: u64, leeway: u64, audience: &[String], issuer: Option<&str>) -> Result<(), TokenError> {
        if !audience.iter().all(|own| self.audience.contains(own)) {
            return Err(TokenError::Invalid("its aud is not ours"));
        }
        if issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err(TokenError::Invalid("its iss is not ours"));
        }
        let [now, leeway] = [now, leeway].map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        // RFC 7519 section 4.1.4: on or after `exp` it must not be accepted; section 4.1.5: before `nbf` neither.
        let is_over = self.exp.is_some_and(|exp| now.saturating_sub(leeway) >= exp);
        let is_early = self.not_before.is_some_and(|begin| now.saturating_add(leeway) < begin);
        if is_over || is_early { Err(TokenError::Expired) } else { Ok(()) }
    }
}

fn text(value: Value<'_>, says: &'static str) -> Result<String, TokenError> {
    value.string().map(|text| text.into_owned()).ok_or(TokenError::Invalid(says))
}

fn time(value: Value<'_>, says: &'static str) -> Result<i64, TokenError> {
    object::time(value).ok_or(TokenError::Invalid(says))
}

/// One string or a list of them (RFC 7519 section 4.1.3).
fn audience(value: Value<'_>) -> Result<Vec<String>, TokenError> {
    const SAYS: &str = "its aud is neither string nor list of strings";
    match value.elements() {
        Some(elements) => elements.map(|element| text(element, SAYS)).collect(),
        None => Ok(vec![text(value, SAYS)?]),
    }
}
