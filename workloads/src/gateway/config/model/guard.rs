//! What is asked of a client before its request is served: its program, its origin, its token.

use std::path::PathBuf;
use std::time::Duration;

use crate::jose::Algorithm;

/// `auth/validator`: the token that a client must show, in a field or a cookie.
#[derive(Clone, Debug, PartialEq)]
pub struct Validator {
    /// The only one that is accepted.
    pub algorithm: Algorithm,
    /// Where the keys are.
    pub keys: KeySource,
    /// How long a key set that was fetched is fresh.
    pub keys_fresh: Duration,
    /// All of these must be in the token's `aud`.
    pub audience: Vec<String>,
    /// Must be the token's `iss`.
    pub issuer: Option<String>,
    /// Of these roles the token must have one.
    pub roles: Option<Demand>,
    /// Of these scopes it must have one, or all.
    pub scopes: Option<Demand>,
    /// Claims, by their paths, that backends get, and the fields they get them in. Lower case.
    pub propagated: Vec<(Vec<String>, String)>,
    /// A claim that is a list becomes a field for each of its entries, and not one with commas.
    pub keeps_lists: bool,
    /// The field with the token. Lower case.
    pub header: String,
    /// The cookie with the token, where there is no such field.
    pub cookie: String,
    /// So long a token counts after its time, and before.
    pub leeway: Duration,
    /// Tokens that are refused are logged with the reason.
    pub tells: bool,
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A key set in a file, which may hold secrets.
    File(PathBuf),
    /// A key set that is fetched.
    Url(String),
}

/// What a claim must hold: a list of texts, or one text with spaces between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The way to the claim.
    pub claim: Vec<String>,
    /// What is looked for.
    pub wanted: Vec<String>,
    /// All of it, or one.
    pub all: bool,
}

/// `security/cors`: which pages of other origins may ask (the Fetch standard, section 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins; in each at most one `*`, which stands for anything. One that is only `*`: all.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Fields that pages may send. Lower case; one that is `*`: all.
    pub headers: Vec<String>,
    /// Fields of answers that pages may read.
    pub exposed: Vec<String>,
    /// Pages may send cookies.
    pub credentials: bool,
    /// How long browsers may remember what was allowed; zero: nothing is said.
    pub max_age: Duration,
    /// Pages of public networks may ask a gateway in a private one.
    pub private_network: bool,
    /// The status that answers a preflight.
    pub preflight_status: u16,
}

/// `security/bot-detector`: which programs are refused, by their `User-Agent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BotDetector {
    /// Let in, whatever else is said.
    pub allow: Vec<String>,
    /// Refused.
    pub deny: Vec<String>,
    /// Refused where one of these regular expressions matches.
    pub patterns: Vec<String>,
    /// Refused when it says nothing.
    pub denies_empty: bool,
}
