//! What a deployment may choose of variants: section `[image.variants]` of the configuration file. Without it there are none.

use std::time::Duration;

use super::address::{KEY_CHARS_MIN, Signer};
use crate::config::{Value, boolean, expected, list, number, string, table, unknown};
use crate::image::format::Format;

/// Keys of signatures, at most: each is tried for every address.
const KEYS_MAX: usize = 16;
/// Least room for variants: several of the largest outputs that a lane makes. Bytes.
const BYTES_MAX_MIN: u64 = 256 << 20;
/// The variable that keys are taken from where the file has none, several of them with commas between.
pub const KEYS_VARIABLE: &str = "ANNULUS_VARIANT_KEYS";

/// Every key of the section.
const KEYS: &[&str] = &[
    "keys",
    "unsigned",
    "bytes_max",
    "kept_seconds",
    "waiting_max",
    "wait_seconds_max",
    "max_age_seconds",
    "auto_formats",
];

/// How variants are made and kept.
#[derive(Clone, Debug)]
pub struct VariantSettings {
    /// Whose signatures count.
    pub signer: Signer,
    /// Whether an address needs no signature.
    pub unsigned: bool,
    /// Bytes of variants that are kept; beyond, the oldest go.
    pub bytes_max: u64,
    /// How long they are kept; with the first sweep after it they go.
    pub kept: Duration,
    /// Variants that may wait to be made; beyond, 503.
    pub waiting_max: usize,
    /// How long a request waits for its variant; beyond, 503, and it goes on being made.
    pub wait_max: Duration,
    /// How long caches may keep an answer.
    pub max_age: Duration,
    /// What `f:auto` may choose where the client names it, the best one first.
    pub auto: Vec<Format>,
}

impl Default for VariantSettings {
    fn default() -> VariantSettings {
        VariantSettings {
            signer: Signer::default(),
            unsigned: false,
            bytes_max: 4 << 30,
            kept: Duration::from_secs(30 * DAY),
            waiting_max: 256,
            wait_max: Duration::from_secs(30),
            max_age: Duration::from_secs(365 * DAY),
            auto: vec![Format::Avif, Format::Webp],
        }
    }
}

const DAY: u64 = 86_400;

impl VariantSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(value: &Value<'_>) -> Result<VariantSettings, String> {
        let mut settings = VariantSettings::default();
        for (key, value) in table(value, "a section, as in [image.variants]")? {
            settings.set(key.get_ref(), value).map_err(|says| format!("{}: {says}", key.get_ref()))?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let seconds = |least, most| number(value, least, most).map(Duration::from_secs);
        match key {
            "keys" => {
                let what = "a list of keys, the one that signs first";
                let keys: Vec<&str> = list(value, what)?.map(|key| string(key, what)).collect::<Result<_, _>>()?;
                self.signer = signer(&keys)?;
            }
            "unsigned" => self.unsigned = boolean(value)?,
            "bytes_max" => self.bytes_max = number(value, BYTES_MAX_MIN, 1 << 50)?,
            "kept_seconds" => self.kept = seconds(60, 3650 * DAY)?,
            "waiting_max" => self.waiting_max = number(value, 1, 10_000)? as usize,
            "wait_seconds_max" => self.wait_max = seconds(1, 600)?,
            "max_age_seconds" => self.max_age = seconds(0, 3650 * DAY)?,
            "auto_formats" => self.auto = formats(value)?,
            _ => return Err(unknown("key", key, KEYS)),
        }
        Ok(())
    }

    /// Keys from the environment, where the file has none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn settle(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let Some(text) = variable(KEYS_VARIABLE).filter(|text| self.signer.is_empty() && !text.is_empty()) else {
            return Ok(());
        };
        let keys: Vec<&str> = text.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
        self.signer = signer(&keys).map_err(|says| format!("{KEYS_VARIABLE}: {says}"))?;
        Ok(())
    }

    /// What can only be judged when everything is known.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn check(&self, originals_kept: bool) -> Result<(), String> {
        if self.signer.is_empty() && !self.unsigned {
            return Err(format!(
                "image.variants has no keys: nobody could sign an address. Set keys = [\"...\"] there, or \
                 {KEYS_VARIABLE} in the environment, or unsigned = true to let anybody who knows an original's key make \
                 whatever they like of it"
            ));
        }
        if !originals_kept {
            return Err(
                "image.variants are made of originals, which image.originals_kept = false removes. Leave one of \
                        them out"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn signer(keys: &[&str]) -> Result<Signer, String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("{} keys; at most {KEYS_MAX} are tried for an address", keys.len()));
    }
    for (at, key) in keys.iter().enumerate() {
        if key.chars().count() < KEY_CHARS_MIN {
            return Err(format!(
                "key {} has fewer than {KEY_CHARS_MIN} characters: one signature would be enough to find it by trying. \
                 Choose a longer one, such as what `openssl rand -hex 32` prints",
                at + 1
            ));
        }
        if keys[..at].contains(key) {
            return Err(format!("key {} is there twice", at + 1));
        }
    }
    Ok(Signer::new(keys))
}

fn formats(value: &Value<'_>) -> Result<Vec<Format>, String> {
    const WHAT: &str = "a list of \"avif\", \"webp\", \"jpeg\" and \"png\", each once, the best one first";
    let mut formats = Vec::new();
    for name in list(value, WHAT)? {
        let name = string(name, WHAT)?;
        let known = [Format::Avif, Format::Webp, Format::Jpeg, Format::Png].into_iter();
        match known.into_iter().find(|format| format.name() == name && !formats.contains(format)) {
            Some(format) => formats.push(format),
            None => return expected(WHAT),
        }
    }
    Ok(formats)
}
