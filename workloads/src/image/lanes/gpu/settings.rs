//! What a deployment may choose of the GPU: section `[image.gpu]` of the configuration file. Without it, a GPU that is there
//! is used.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Options;
use super::wire::BATCH_MAX;
use crate::config::{Value, expected, number, string, table, unknown};
use crate::image::recipe::Route;

/// Every key of the section.
const KEYS: &[&str] = &[
    "mode",
    "lane",
    "device",
    "nvjpeg",
    "desks",
    "batch_max",
    "batch_wait_milliseconds",
    "batch_seconds_max",
    "start_seconds_max",
    "arena_bytes",
];

/// Whether there is to be a GPU lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Where there is a GPU.
    #[default]
    Auto,
    /// Never.
    Off,
    /// The service does not start without one.
    Required,
}

/// Whether and how a GPU is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuSettings {
    /// Whether.
    pub mode: Mode,
    /// Which lane makes what does not ask for one.
    pub lane: Route,
    /// How.
    pub options: Options,
}

impl GpuSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(value: &Value<'_>) -> Result<GpuSettings, String> {
        let mut settings = GpuSettings::default();
        for (key, value) in table(value, "a section, as in [image.gpu]")? {
            settings.set(key.get_ref(), value).map_err(|says| format!("{}: {says}", key.get_ref()))?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let options = &mut self.options;
        match key {
            "mode" => {
                self.mode = match value.get_ref() {
                    DeValue::String(text) if text == "auto" => Mode::Auto,
                    DeValue::String(text) if text == "off" => Mode::Off,
                    DeValue::String(text) if text == "required" => Mode::Required,
                    _ => return expected("\"auto\", \"off\" or \"required\""),
                }
            }
            "lane" => {
                let what = "\"auto\", \"cpu\" or \"gpu\"";
                self.lane = Route::named(string(value, what)?).map_or_else(|| expected(what), Ok)?;
            }
            "device" => options.device = number(value, 0, 255)? as usize,
            "nvjpeg" => options.nvjpeg = Some(PathBuf::from(string(value, "the path of libnvjpeg.so.13 or .12")?)),
            "desks" => options.desks = number(value, 1, 16)? as usize,
            "batch_max" => options.batch_max = number(value, 1, BATCH_MAX as u64)? as usize,
            "batch_wait_milliseconds" => options.batch_wait = Duration::from_millis(number(value, 0, 1000)?),
            "batch_seconds_max" => options.batch_time_max = Duration::from_secs(number(value, 1, 600)?),
            "start_seconds_max" => options.start_time_max = Duration::from_secs(number(value, 1, 600)?),
            "arena_bytes" => options.arena_bytes = number(value, 64 << 20, 1 << 38)?,
            _ => return Err(unknown("key", key, KEYS)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GpuSettings, String> {
        let document = toml::de::DeTable::parse(text).unwrap();
        let (_, value) = document.get_ref().iter().next().unwrap();
        GpuSettings::read(value)
    }

    #[test]
    fn what_is_chosen_is_kept_and_nonsense_is_named() {
        let read_all =
            read("[gpu]\nmode = \"required\"\nlane = \"gpu\"\ndevice = 1\nbatch_max = 7\nbatch_wait_milliseconds = 9");
        let settings = read_all.unwrap();
        assert_eq!((settings.mode, settings.lane, settings.options.device), (Mode::Required, Route::Gpu, 1));
        assert_eq!((settings.options.batch_max, settings.options.batch_wait), (7, Duration::from_millis(9)));
        for (text, says) in [
            ("[gpu]\nmode = true", "\"required\""),
            ("[gpu]\nlane = \"tpu\"", "\"cpu\""),
            ("[gpu]\nbatch_max = 65", "64"),
            ("[gpu]\ndesk = 1", "desks"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
