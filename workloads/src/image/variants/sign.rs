//! `annulus image sign`: an address of a variant, signed by hand. For trying options, and to compare with what a program of
//! one's own makes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::address::{PLACE, read};
use super::settings::KEYS_VARIABLE;
use crate::command::Trouble;
use crate::command::words::Words;
use crate::image::config::Config;
use crate::image::store::{Key, Suffix};

/// What to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// The file with the keys.
    pub config: Option<PathBuf>,
    original: Key,
    options: String,
    base: String,
    expires: Option<Duration>,
}

impl Sign {
    /// Takes the words after `image sign`.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn read(words: &Words) -> Result<Sign, String> {
        let what = "seconds, above 0";
        let expires = match words.parsed("--expires", what)? {
            Some(0) => return Err(format!("--expires 0: expected {what}")),
            seconds => seconds.map(Duration::from_secs),
        };
        let base = words.value("--base").unwrap_or_default().trim_end_matches('/').to_owned();
        let (original, options) = match words.operands() {
            [original] => (original, ""),
            [original, options] => (original, options.trim_matches('/')),
            _ => {
                return Err("of which original, and what? For example: annulus image sign --config annulus.toml \
                            3f0c...e1.original rs:fit:300:300/f:auto"
                    .to_owned());
            }
        };
        let key = original.parse::<Key>().ok().filter(|key| key.suffix == Suffix::Original);
        let original = key.ok_or_else(|| format!("{original} is no original: take source.key of a job's document"))?;
        let config = words.value("--config").map(PathBuf::from);
        Ok(Sign { config, original, options: options.to_owned(), base, expires })
    }

    /// The address.
    ///
    /// # Errors
    /// There are no keys, or the options make no sense.
    pub fn run(&self, config: &Config) -> Result<String, Trouble> {
        let signer = config.variants.as_ref().map(|variants| &variants.signer).filter(|signer| !signer.is_empty());
        let no_keys =
            || format!("there are no keys: name a file with [image.variants] keys by --config, or set {KEYS_VARIABLE}");
        let signer = signer.ok_or_else(no_keys)?;
        let mut path = format!("{PLACE}{}", self.original);
        if !self.options.is_empty() {
            path = format!("{path}/{}", self.options);
        }
        if let Some(expires) = self.expires {
            let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(expires);
            path = format!("{path}/exp:{}", until.as_secs());
        }
        read(&path, &config.presets).map_err(|fault| Trouble::Words(fault.detail))?;
        if let Some(byte) = path.bytes().find(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#' | b'%')) {
            let byte = char::from(byte);
            return Err(Trouble::Words(format!("{byte:?} does not stand in a path as it is: leave it out")));
        }
        let signed = signer.sign(&path).ok_or_else(no_keys)?;
        Ok(format!("{}{signed}", self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::super::VariantSettings;
    use super::super::address::{Signer, split};
    use super::*;
    use crate::command::commands::find;

    fn sign(line: &str) -> Result<Sign, String> {
        let line = line.replace("ORIGINAL", &format!("{}.original", "a5".repeat(32)));
        let words = Words::read(find("image sign").unwrap(), line.split_whitespace().map(str::to_owned))?;
        Sign::read(&words)
    }

    #[test]
    fn an_address_is_signed_with_what_the_file_says() {
        let signer = Signer::new(&["0123456789abcdef0123456789abcdef"]);
        let variants = VariantSettings { signer: signer.clone(), ..VariantSettings::default() };
        let mut config = Config::default();
        config.variants = Some(variants);
        let run = |line: &str| sign(line).unwrap().run(&config);
        let address = run("--base https://img.example.com/ --expires=60 ORIGINAL /rs:fit:300:300/f:auto/").unwrap();
        let (path, signature) = split(address.strip_prefix("https://img.example.com").unwrap());
        assert!(path.contains("a5.original/rs:fit:300:300/f:auto/exp:"), "{path}");
        assert!(signer.has_signed(path, signature.unwrap()));
        let bare = run("ORIGINAL").unwrap();
        assert!(bare.starts_with("/v1/images/a5") && bare.contains(".original/sig:"), "{bare}");
        let refusal = |line: &str, config: &Config| match sign(line).unwrap().run(config).unwrap_err() {
            Trouble::Words(sentence) => (true, sentence),
            Trouble::Failed(sentence) => (false, sentence),
        };
        let (of_words, says) = refusal("ORIGINAL qq:1", &config);
        assert!(of_words && says.contains("there is no option"), "{says}");
        let (of_words, says) = refusal("ORIGINAL cb:a%20b", &config);
        assert!(of_words && says.contains("'%'"), "{says}");
        let (of_words, says) = refusal("ORIGINAL w:1", &Config::default());
        assert!(!of_words && says.contains("there are no keys"), "{says}");
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("", "of which original"),
            ("a b c", "2 words are enough"),
            ("photo.jpg w:1", "source.key"),
            ("--expires 0 ORIGINAL", "above 0"),
            ("--expires soon ORIGINAL", "above 0"),
            ("--key secret ORIGINAL", "there is no option"),
            ("ORIGINAL --base", "needs a value"),
        ] {
            let error = sign(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
