//! What a deployment may choose of resumable uploads: section `[image.tus]` of the configuration file.

use std::time::Duration;

use crate::config::{Value, boolean, number, table, unknown};

/// Every key of the section.
const KEYS: &[&str] = &["enabled", "uploads_max", "bytes_max", "life_seconds"];

/// How resumable uploads are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TusSettings {
    /// Whether they are offered; where nothing is said, they are on one machine and not in a fleet, whose nodes would each
    /// know their own uploads only.
    pub enabled: Option<bool>,
    /// Uploads that may be unfinished. Beyond: 503.
    pub uploads_max: u64,
    /// Bytes that they may have together when they are finished; `None`: 16 GiB, or one upload where that may have
    /// more. Beyond: 503.
    pub bytes_max: Option<u64>,
    /// How long an upload may take, from its creation. Beyond: it is removed.
    pub life: Duration,
}

impl Default for TusSettings {
    fn default() -> TusSettings {
        TusSettings { enabled: None, uploads_max: 1000, bytes_max: None, life: Duration::from_secs(DAY) }
    }
}

const DAY: u64 = 86_400;
/// Bytes of all that is unfinished where nothing is said.
const BYTES_MAX: u64 = 16 << 30;

impl TusSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(value: &Value<'_>) -> Result<TusSettings, String> {
        let mut settings = TusSettings::default();
        for (key, value) in table(value, "a section, as in [image.tus]")? {
            settings.set(key.get_ref(), value).map_err(|says| format!("{}: {says}", key.get_ref()))?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        match key {
            "enabled" => self.enabled = Some(boolean(value)?),
            "uploads_max" => self.uploads_max = number(value, 1, 1 << 20)?,
            "bytes_max" => self.bytes_max = Some(number(value, 1024, 1 << 50)?),
            "life_seconds" => self.life = Duration::from_secs(number(value, 5, 365 * DAY)?),
            _ => return Err(unknown("key", key, KEYS)),
        }
        Ok(())
    }

    /// What can only be judged when everything is known; `upload_bytes_max` is the most that an upload may have.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn check(&self, upload_bytes_max: u64) -> Result<(), String> {
        match self.bytes_max.filter(|bytes| *bytes < upload_bytes_max) {
            None => Ok(()),
            Some(bytes) => Err(format!(
                "image.tus.bytes_max = {bytes} is less than image.bytes_max = {upload_bytes_max}: an upload as large as that could \
                 never begin. Raise the first or lower the second"
            )),
        }
    }

    /// Bytes that unfinished uploads may have together.
    pub(super) fn promised_max(&self, upload_bytes_max: u64) -> u64 {
        self.bytes_max.unwrap_or(BYTES_MAX.max(upload_bytes_max))
    }
}
