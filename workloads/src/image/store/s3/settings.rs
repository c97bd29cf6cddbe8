//! Where the bucket is, and by whose leave it is used: section `[image.s3]` of the configuration file.
//!
//! Keys that are not in the file are taken from the environment, by the names that every tool for S3 reads. Secrets are
//! never printed: not in the configuration as it is shown, not in errors, not in logs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rusty_s3::{Bucket, UrlStyle};
use toml::de::DeValue;
use url::Url;

use crate::config::{Value, expected, number, string, table, unknown};

/// Least size of a part of a multipart upload but its last; S3's own rule.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Parts of an upload, at most; S3's own rule.
pub const PARTS_MAX: u64 = 10_000;
/// Largest object that one copy can copy; S3's own rule. What is uploaded in parts gets its name by a copy.
pub const COPY_BYTES_MAX: u64 = 5 << 30;
/// Longest time that a presigned address may hold; S3's own rule.
const PRESIGNED_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Every key of the section.
const KEYS: &[&str] = &[
    "bucket",
    "endpoint",
    "public_endpoint",
    "region",
    "style",
    "prefix",
    "access_key",
    "secret_key",
    "session_token",
    "ca_certificate",
    "part_bytes",
    "uploads_max",
    "answer_seconds_max",
    "presigned_seconds",
];

/// A secret: used, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// The secret of this text.
    pub fn new(text: impl Into<String>) -> Hidden {
        Hidden(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How the bucket is named in addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `https://endpoint/bucket/key`: what servers of one's own understand.
    Path,
    /// `https://bucket.endpoint/key`: what Amazon wants.
    VirtualHost,
}

/// How an S3-compatible store is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The server, `http` or `https`. `None`: Amazon's, of the region.
    pub endpoint: Option<Url>,
    /// The server as clients reach it, where that differs: what is presigned names it.
    pub public_endpoint: Option<Url>,
    /// The region that signatures name.
    pub region: Option<String>,
    /// How the bucket is named in addresses. `None`: by path where there is an endpoint, by host at Amazon's.
    pub style: Option<Style>,
    /// What all keys begin with.
    pub prefix: String,
    /// The access key's id.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<Hidden>,
    /// Where keys are temporary, the token that belongs to them.
    pub session_token: Option<Hidden>,
    /// A certificate of an authority that is trusted beside the system's.
    pub ca_certificate: Option<PathBuf>,
    /// Bytes of a part: what is larger is uploaded in several, and so much of each upload is held in memory.
    pub part_bytes: u64,
    /// Uploads that one shard holds in memory at a time; others wait for their turn.
    pub uploads_max: usize,
    /// How long an answer may take to begin; then the call is made again.
    pub answer_max: Duration,
    /// How long presigned addresses hold.
    pub presigned: Duration,
}

impl Default for S3Settings {
    fn default() -> S3Settings {
        S3Settings {
            bucket: String::new(),
            endpoint: None,
            public_endpoint: None,
            region: None,
            style: None,
            prefix: String::new(),
            access_key: None,
            secret_key: None,
            session_token: None,
            ca_certificate: None,
            part_bytes: 8 << 20,
            uploads_max: 128,
            answer_max: Duration::from_secs(30),
            presigned: Duration::from_secs(900),
        }
    }
}

impl S3Settings {
    /// Reads the section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(value: &Value<'_>) -> Result<S3Settings, String> {
        let mut settings = S3Settings::default();
        for (key, value) in table(value, "a section, as in [image.s3]")? {
            settings.set(key.get_ref(), value).map_err(|says| format!("{}: {says}", key.get_ref()))?;
        }
        if settings.bucket.is_empty() {
            return Err("bucket is missing: name the bucket that images are kept in".to_owned());
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let seconds = |least, most| number(value, least, most).map(Duration::from_secs);
        match key {
            "bucket" => self.bucket = word(value, "the bucket's name")?,
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "public_endpoint" => self.public_endpoint = Some(endpoint(value)?),
            "region" => self.region = Some(word(value, "a region's name")?),
            "prefix" => self.prefix = prefix(value)?,
            "access_key" => self.access_key = Some(word(value, "an access key's id")?),
            "secret_key" => self.secret_key = Some(Hidden(word(value, "the access key's secret")?)),
            "session_token" => self.session_token = Some(Hidden(word(value, "the token of a temporary key")?)),
            "ca_certificate" => self.ca_certificate = Some(PathBuf::from(word(value, "a PEM file's path")?)),
            "part_bytes" => self.part_bytes = number(value, PART_BYTES_MIN, 512 << 20)?,
            "uploads_max" => self.uploads_max = number(value, 1, 100_000)? as usize,
            "answer_seconds_max" => self.answer_max = seconds(1, 600)?,
            "presigned_seconds" => self.presigned = seconds(1, PRESIGNED_MAX.as_secs())?,
            "style" => {
                self.style = Some(match value.get_ref() {
                    DeValue::String(text) if text == "path" => Style::Path,
                    DeValue::String(text) if text == "virtual-host" => Style::VirtualHost,
                    _ => return expected("\"path\" or \"virtual-host\""),
                });
            }
            _ => return Err(unknown("key", key, KEYS)),
        }
        Ok(())
    }

    /// What the file left open, from the environment, as `variable` tells it.
    pub(crate) fn settle(mut self, variable: &dyn Fn(&str) -> Option<String>) -> S3Settings {
        let told = |name: &str| variable(name).filter(|value| !value.is_empty());
        // A key and its token belong together: who names one in the file names all there.
        if self.access_key.is_none() && self.secret_key.is_none() {
            self.access_key = told("AWS_ACCESS_KEY_ID");
            self.secret_key = told("AWS_SECRET_ACCESS_KEY").map(Hidden);
            self.session_token = self.session_token.or_else(|| told("AWS_SESSION_TOKEN").map(Hidden));
        }
        self.region = self.region.or_else(|| told("AWS_REGION")).or_else(|| told("AWS_DEFAULT_REGION"));
        self
    }

    /// What can only be judged when everything is known; `bytes_max` is the largest upload.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn check(&self, bytes_max: u64) -> Result<(), String> {
        let (Some(_), Some(_)) = (&self.access_key, &self.secret_key) else {
            return Err("image.s3 has no credentials. Set access_key and secret_key there, or \
                        AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
                .to_owned());
        };
        if self.endpoint.is_none() && self.region.is_none() {
            return Err("image.s3 names neither a server nor a region. Set endpoint, or region (or AWS_REGION) for \
                        Amazon's"
                .to_owned());
        }
        let most = COPY_BYTES_MAX.min(self.part_bytes.saturating_mul(PARTS_MAX));
        if bytes_max > most {
            return Err(format!(
                "image.bytes_max = {bytes_max} is more than an object in S3 can become here ({most}: 5 GiB, and \
                 {PARTS_MAX} parts of image.s3.part_bytes). Lower it, or raise part_bytes"
            ));
        }
        self.bucket_at(None).map(drop)
    }

    /// The bucket, as seen from `at` or from here.
    pub(super) fn bucket_at(&self, at: Option<&Url>) -> Result<Bucket, String> {
        let region = self.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let amazons = format!("https://s3.{region}.amazonaws.com");
        let endpoint = match at.or(self.endpoint.as_ref()) {
            Some(endpoint) => endpoint.clone(),
            None => amazons.parse().map_err(|error| format!("image.s3.region {region:?}: {error}"))?,
        };
        let style = match (self.style, &self.endpoint) {
            (Some(Style::Path), _) | (None, Some(_)) => UrlStyle::Path,
            (Some(Style::VirtualHost), _) | (None, None) => UrlStyle::VirtualHost,
        };
        let named = format!("{:?} at {endpoint}", self.bucket);
        Bucket::new(endpoint, style, self.bucket.clone(), region)
            .map_err(|error| format!("image.s3.bucket {named} makes no address: {error}. Try style = \"path\""))
    }
}

fn word(value: &Value<'_>, what: &str) -> Result<String, String> {
    let text = string(value, what)?;
    match text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        true => expected(&format!("{what}, of visible ASCII characters")),
        false => Ok(text.to_owned()),
    }
}

fn endpoint(value: &Value<'_>) -> Result<Url, String> {
    const WHAT: &str = "an address such as \"https://s3.eu-central-1.amazonaws.com\" or \"http://127.0.0.1:9000\"";
    let url: Url = string(value, WHAT)?.parse().or_else(|_| expected(WHAT))?;
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err("an endpoint holds no user and no password: set access_key and secret_key".to_owned())
        }
        "http" | "https" if url.host_str().is_some() && url.query().is_none() => Ok(url),
        _ => expected(WHAT),
    }
}

/// A prefix is part of paths and of listings: only what needs no encoding, and no way up.
fn prefix(value: &Value<'_>) -> Result<String, String> {
    const WHAT: &str =
        "a prefix such as \"annulus/\": letters, digits, - _ . /, none of them first but letters and digits";
    let text = string(value, WHAT)?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let begins = text.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    let is_way_up = text.split('/').any(|segment| segment == "." || segment == "..");
    match text.bytes().all(fine) && begins && !is_way_up && !text.contains("//") && text.len() <= 256 {
        true if text.is_empty() || text.ends_with('/') => Ok(text.to_owned()),
        true => Ok(format!("{text}/")),
        false => expected(WHAT),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<S3Settings, String> {
        let config = Config::read(Path::new("a.toml"), &format!("[image.s3]\n{text}"))?;
        Ok(config.image.s3.unwrap())
    }

    #[test]
    fn the_section_is_read_and_its_secrets_are_not_shown() {
        let text = "bucket = \"photos\"\nendpoint = \"http://127.0.0.1:9000\"\nregion = \"eu-west-1\"\nprefix = \"a/b\"\n\
            access_key = \"AKIA\"\nsecret_key = \"s3cret\"\nsession_token = \"t0ken\"\npart_bytes = 6_000_000\n";
        let settings = read(text).unwrap();
        assert_eq!((&settings.prefix[..], settings.part_bytes), ("a/b/", 6_000_000));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("t0ken") && shown.contains("AKIA"), "{shown}");
        assert!(settings.check(64 << 20).is_ok());
        assert_eq!(settings.bucket_at(None).unwrap().base_url().as_str(), "http://127.0.0.1:9000/photos/");
        let error = settings.check(1 << 40).unwrap_err();
        assert!(error.contains("more than an object in S3 can become"), "{error}");
    }

    #[test]
    fn the_environment_fills_what_the_file_leaves_open() {
        let environment = |name: &str| Some(format!("{name}-value"));
        let settled = read("bucket = \"b\"\n").unwrap().settle(&environment);
        assert_eq!(settled.access_key.as_deref(), Some("AWS_ACCESS_KEY_ID-value"));
        assert_eq!(settled.secret_key, Some(Hidden::new("AWS_SECRET_ACCESS_KEY-value")));
        assert_eq!(settled.region.as_deref(), Some("AWS_REGION-value"));
        // A key of the file does not mix with another's token.
        let own = read("bucket = \"b\"\naccess_key = \"a\"\nsecret_key = \"s\"\n").unwrap().settle(&environment);
        assert_eq!((own.access_key.as_deref(), own.session_token), (Some("a"), None));
        let none = read("bucket = \"b\"\nregion = \"r\"\n").unwrap().settle(&|_| None);
        assert!(none.check(0).unwrap_err().contains("no credentials"));
        let at_amazons = S3Settings { access_key: Some("a".into()), secret_key: Some(Hidden::new("s")), ..none };
        assert_eq!(at_amazons.bucket_at(None).unwrap().base_url().as_str(), "https://b.s3.r.amazonaws.com/");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "bucket is missing"),
            ("bucket = \"\"\n", "bucket: expected the bucket's name"),
            ("bucket = \"b\"\nbuckt = \"b\"\n", "did you mean \"bucket\"?"),
            ("bucket = \"b\"\nendpoint = \"ftp://a\"\n", "endpoint: expected an address"),
            ("bucket = \"b\"\nendpoint = \"http://u:p@a\"\n", "no user and no password"),
            ("bucket = \"b\"\nprefix = \"../up\"\n", "prefix: expected a prefix"),
            ("bucket = \"b\"\nstyle = \"dns\"\n", "\"path\" or \"virtual-host\""),
            ("bucket = \"b\"\npart_bytes = 1000\n", "part_bytes: expected a whole number from 5242880"),
            ("bucket = \"b\"\nsecret_key = \"a b\"\n", "secret_key: expected the access key's secret"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
