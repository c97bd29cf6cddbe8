//! `annulus image sign`: an address of a variant, signed by hand. For trying options, and to compare with what a program of
//! one's own makes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::address::{PLACE, read};
use super::settings::KEYS_VARIABLE;
use crate::image::config::Config;
use crate::image::store::{Key, Suffix};

/// What is printed for `annulus image sign --help`.
pub const HELP: &str = "\
annulus image sign: prints the signed address of a variant

usage: annulus image sign [options] ORIGINAL [OPTIONS]

  ORIGINAL              source.key of a job's document, such as 3f0c...e1.original
  OPTIONS               what is made of it, such as rs:fill:300:200/f:auto; without any, the original as a clean image

  --config FILE         the file whose [image.variants] keys sign; the first one does. Without keys there, those in
                        ANNULUS_VARIANT_KEYS
  --expires SECONDS     how long the address is good from now on; without it, for good
  --base URL            what the address begins with, such as https://img.example.com
";

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
    /// Reads the words after `image sign`.
    ///
    /// # Errors
    /// A sentence: what is wrong and what was expected.
    pub fn read(words: Vec<String>) -> Result<Sign, String> {
        let (mut config, mut base, mut expires, mut names) = (None, String::new(), None, Vec::new());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
                _ => (word, None),
            };
            if !option.starts_with("--") {
                names.push(option);
                continue;
            }
            let value = value.or_else(|| words.next()).ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--config" => config = Some(PathBuf::from(value)),
                "--base" => base = value.trim_end_matches('/').to_owned(),
                "--expires" => {
                    let seconds = value.parse().ok().filter(|&seconds| seconds > 0);
                    let seconds = seconds.ok_or_else(|| format!("--expires {value}: expected seconds, above 0"))?;
                    expires = Some(Duration::from_secs(seconds));
                }
                _ => return Err(format!("there is no option {option:?}; there are: --config, --expires, --base")),
            }
        }
        let (original, options) = match &names[..] {
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
        Ok(Sign { config, original, options: options.to_owned(), base, expires })
    }

    /// The address.
    ///
    /// # Errors
    /// A sentence: there are no keys, or the options make no sense.
    pub fn run(&self, config: &Config) -> Result<String, String> {
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
        read(&path, &config.presets).map_err(|fault| fault.detail)?;
        if let Some(byte) = path.bytes().find(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#' | b'%')) {
            return Err(format!("{:?} does not stand in a path as it is: leave it out", char::from(byte)));
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

    fn sign(line: &str) -> Result<Sign, String> {
        let line = line.replace("ORIGINAL", &format!("{}.original", "a5".repeat(32)));
        Sign::read(line.split_whitespace().map(str::to_owned).collect())
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
        assert!(run("ORIGINAL qq:1").unwrap_err().contains("there is no option"));
        assert!(run("ORIGINAL cb:a%20b").unwrap_err().contains("'%'"));
        let without = sign("ORIGINAL w:1").unwrap().run(&Config::default());
        assert!(without.unwrap_err().contains("there are no keys"));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("", "of which original"),
            ("a b c", "of which original"),
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
