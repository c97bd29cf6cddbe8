//! The address of a variant: which original, what is made of it, until when, and by whose leave.
//!
//! ```text
//!   /v1/images/3f0c…e1.original/rs:fill:300:200/f:auto/exp:1767225600/sig:Zm9v…
//!              └── source.key ─┘ └──────────── options ────────────┘     └─ HMAC-SHA256 of all before "/sig:"
//! ```
//!
//! What is signed are the bytes of the path as they are sent, so that no two ways to read them can differ. Options are those
//! of uploads, and three more: `exp` ends the address, `pr` is an output of a preset, and `f:auto` leaves the format to what
//! the client says that it takes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::image::fault::{Fault, Kind};
use crate::image::options::{self, TEXT_BYTES_MAX};
use crate::image::presets::Presets;
use crate::image::recipe::{Recipe, Route};
use crate::image::store::{Key, Suffix};

/// What the paths of images begin with.
pub const PLACE: &str = "/v1/images/";
/// What the last segment of a signed path begins with.
const SIGNATURE: &str = "sig:";
/// Shortest key of signatures, in characters: what is shorter can be found by trying, without asking the server.
pub const KEY_CHARS_MIN: usize = 32;

/// The keys of signatures: the first one signs, all of them verify, so that an old one can go when nothing that it signed
/// is in use any more.
#[derive(Clone, Default)]
pub struct Signer(Vec<hmac::Key>);

impl Signer {
    /// With these keys, which are not empty.
    pub fn new(keys: &[impl AsRef<str>]) -> Signer {
        Signer(keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.as_ref().as_bytes())).collect())
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path with its signature; `None` without a key.
    pub fn sign(&self, path: &str) -> Option<String> {
        let signature = hmac::sign(self.0.first()?, path.as_bytes());
        Some(format!("{path}/{SIGNATURE}{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// Whether one of the keys has signed this path so. Takes the same time whichever it was.
    pub fn has_signed(&self, path: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        self.0.iter().fold(false, |so_far, key| hmac::verify(key, path.as_bytes(), &signature).is_ok() | so_far)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.0.len())
    }
}

/// A path without its signature, and that.
pub fn split(path: &str) -> (&str, Option<&str>) {
    let signed = path.rsplit_once('/').and_then(|(path, last)| Some((path, last.strip_prefix(SIGNATURE)?)));
    signed.map_or((path, None), |(path, signature)| (path, Some(signature)))
}

/// What an address asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Of which original.
    pub original: Key,
    /// What is made of it.
    pub recipe: Recipe,
    /// Whether the client's `Accept` says the format.
    pub is_negotiated: bool,
    /// Until when it may be asked for, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether it means the same for good: a preset can be changed, and a watermark.
    pub is_lasting: bool,
}

/// Reads a path without its signature.
///
/// # Errors
/// [`Kind::BadRequest`]: it names no original, or an option that makes no sense.
pub fn read(path: &str, presets: &Presets) -> Result<Asked, Fault> {
    let named = path.strip_prefix(PLACE).unwrap_or_default();
    let (name, text) = named.split_once('/').unwrap_or((named, ""));
    let original = name.parse::<Key>().ok().filter(|key| key.suffix == Suffix::Original).ok_or_else(|| {
        let detail = "variants are made of originals. Put source.key of a job's document before the options";
        Fault::new(Kind::BadRequest, detail)
    })?;
    if text.len() > TEXT_BYTES_MAX {
        return refuse(format!("options of {} bytes; at most {TEXT_BYTES_MAX} are read", text.len()));
    }
    let mut asked =
        Asked { original, recipe: Recipe::named(RECIPE), is_negotiated: false, expires: None, is_lasting: true };
    let mut of_pixels = Vec::new();
    for option in text.split('/').filter(|option| !option.is_empty()) {
        let (name, argument) = option.split_once(':').unwrap_or((option, ""));
        match name {
            "expires" | "exp" => asked.expires = Some(moment(argument)?),
            "preset" | "pr" if !asked.is_lasting => return refuse("preset is given twice; name one"),
            "preset" | "pr" => {
                of_pixels.push(output(presets, argument)?);
                asked.is_lasting = false;
            }
            "format" | "f" | "ext" => {
                asked.is_negotiated = argument == "auto";
                if !asked.is_negotiated {
                    of_pixels.push(option.to_owned());
                }
            }
            "thumbhash" | "th" | "blurhash" | "bh" => {
                return refuse(format!(
                    "\"{name}\" has a placeholder told in a job's document, and a variant has no job. Leave it out, and ask for \
                     it where the image is uploaded"
                ));
            }
            "lane" | "ln" => {
                return refuse(format!("\"{name}\" chooses a lane, and variants are always the CPU's. Leave it out"));
            }
            _ => of_pixels.push(option.to_owned()),
        }
    }
    asked.recipe = options::parse(RECIPE, &of_pixels.join("/"))?;
    // A preset is for uploads, too: with or without what is told there, and whoever makes it there, it is the same picture here.
    (asked.recipe.thumbhash, asked.recipe.blurhash, asked.recipe.route) = (false, None, Route::Auto);
    if asked.is_negotiated {
        asked.recipe.format = None;
    }
    // Another file may be meant by the same name one day.
    asked.is_lasting &= asked.recipe.watermark.is_none();
    Ok(asked)
}

/// The name of the one output, which nobody sees.
const RECIPE: &str = "variant";

fn moment(argument: &str) -> Result<u64, Fault> {
    let digits = argument.bytes().all(|byte| byte.is_ascii_digit());
    match argument.parse() {
        Ok(seconds) if digits => Ok(seconds),
        _ => refuse("exp is a moment in whole seconds since 1970, such as exp:1767225600"),
    }
}

/// `NAME` of a preset with one output, or `NAME:OUTPUT`, as options.
fn output(presets: &Presets, argument: &str) -> Result<String, Fault> {
    let (name, output) = argument.split_once(':').map_or((argument, None), |(name, output)| (name, Some(output)));
    let recipes = presets.get(name)?;
    let found = match (output, recipes) {
        (Some(output), _) => recipes.iter().find(|recipe| recipe.name == output),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    match found {
        Some(recipe) => Ok(options::text(recipe)),
        None => {
            let names: Vec<String> = recipes.iter().map(|recipe| format!("pr:{name}:{}", recipe.name)).collect();
            refuse(format!("a variant is one output of the preset \"{name}\": {}", names.join(", ")))
        }
    }
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(Kind::BadRequest, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::format::Format;
    use crate::image::recipe::Mode;

    const OLD: &str = "an old key of at least 32 characters";
    const NEW: &str = "a new key of thirty-two characters, too";

    fn original() -> Key {
        Key { name: [0xa5; 32], suffix: Suffix::Original }
    }

    fn asked(options: &str) -> Result<Asked, String> {
        read(&format!("{PLACE}{}{options}", original()), &Presets::built_in()).map_err(|fault| fault.detail)
    }

    #[test]
    fn what_one_key_signed_all_that_hold_it_verify() {
        let (old, new, both) = (Signer::new(&[OLD]), Signer::new(&[NEW]), Signer::new(&[NEW, OLD]));
        let path = format!("{PLACE}{}/w:100", original());
        let signed = old.sign(&path).unwrap();
        let (without, signature) = split(&signed);
        assert_eq!(without, path);
        let signature = signature.unwrap();
        assert!(old.has_signed(&path, signature) && both.has_signed(&path, signature));
        assert!(!new.has_signed(&path, signature));
        assert_eq!(both.sign(&path), new.sign(&path));
        assert_ne!(both.sign(&path), old.sign(&path));
        assert_eq!(Signer::default().sign(&path), None);
        assert_eq!(format!("{both:?}"), "Signer(2 keys)");
    }

    /// The same as in the documentation's lines of Python, JavaScript and PHP.
    #[test]
    fn a_signature_is_the_hmac_of_the_path() {
        let path = format!("{PLACE}{}.original/rs:fit:300:300", "0".repeat(64));
        let signed = Signer::new(&["0123456789abcdef0123456789abcdef"]).sign(&path).unwrap();
        assert_eq!(signed, format!("{path}/sig:0oTzTAP39SYPDi9JsoikXDGgGvx7XiVhWI3IK1mFCFw"));
    }

    #[test]
    fn nothing_else_is_a_signature() {
        let signer = Signer::new(&[NEW]);
        let path = format!("{PLACE}{}/w:100", original());
        let signed = signer.sign(&path).unwrap();
        let signature = split(&signed).1.unwrap();
        let padded = format!("{signature}=");
        let other_end = format!("{}{}", &signature[..42], if signature.ends_with('A') { 'B' } else { 'A' });
        for wrong in
            ["", "A", &padded, &signature[..42], &signature[..22], &other_end, &signature.replace(['-', '_'], "+")]
        {
            let is_it = wrong == signature;
            assert_eq!(signer.has_signed(&path, wrong), is_it, "{wrong}");
        }
        for other in [format!("{path}/"), path.replace("100", "101"), path.to_uppercase(), path.replace(':', "%3A")] {
            assert!(!signer.has_signed(&other, signature), "{other}");
        }
        assert_eq!(split("/v1/images/x/w:1"), ("/v1/images/x/w:1", None));
        // Where it is not the last, it is an option, and there is none of that name.
        assert_eq!(split("/v1/images/x/sig:a/w:1").1, None);
        assert!(asked("/sig:a/w:1").unwrap_err().contains("\"sig\""));
    }

    #[test]
    fn options_are_those_of_uploads_and_three_more() {
        let plain = asked("/rs:fill:300:200/g:no/q:80/f:webp").unwrap();
        let resize = plain.recipe.resize.unwrap();
        assert_eq!((resize.mode, resize.width, resize.height), (Mode::Fill, 300, 200));
        assert_eq!((plain.recipe.format, plain.recipe.quality), (Some(Format::Webp), Some(80)));
        assert!(!plain.is_negotiated && plain.is_lasting && plain.expires.is_none() && plain.original == original());
        let chosen = asked("/w:10/f:png/f:auto/exp:17").unwrap();
        assert_eq!((chosen.is_negotiated, chosen.recipe.format, chosen.expires), (true, None, Some(17)));
        let fixed = asked("/f:auto/f:png").unwrap();
        assert_eq!((fixed.is_negotiated, fixed.recipe.format), (false, Some(Format::Png)));
        let preset = asked("/pr:web:medium/q:50").unwrap();
        assert_eq!((preset.recipe.resize.unwrap().width, preset.recipe.quality), (800, Some(50)));
        assert!(!preset.is_lasting);
        assert!(!asked("/w:9/wm:0.5").unwrap().is_lasting && asked("/w:9/wm:0").unwrap().is_lasting);
        assert_eq!(asked("/pr:thumbnail").unwrap().recipe, asked("/rs:fit:256:256").unwrap().recipe);
        let mut presets = Presets::built_in();
        presets.add("hero", &[("hero", "rs:fit:256:256/th/bh:4:3/ln:gpu")]).unwrap();
        let hero = read(&format!("{PLACE}{}/pr:hero", original()), &presets).unwrap();
        assert_eq!(hero.recipe, asked("/pr:thumbnail").unwrap().recipe);
        // However it is written, it is the same picture.
        assert_eq!(asked("/rs:fit:9:9").unwrap().recipe, asked("//w:9/h:9/").unwrap().recipe);
        assert_eq!(asked("").unwrap().recipe, asked("/").unwrap().recipe);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (options, says) in [
            ("/qq:1", "there is no option"),
            ("/exp:", "seconds since 1970"),
            ("/exp:+1", "seconds since 1970"),
            ("/exp:99999999999999999999", "seconds since 1970"),
            ("/pr:web", "pr:web:small, pr:web:medium, pr:web:large"),
            ("/pr:web:huge", "pr:web:small"),
            ("/pr:nope", "there are: "),
            ("/pr:avatar:small/pr:avatar:large", "twice"),
            ("/th:1", "a job's document"),
            ("/ln:cpu", "always the CPU's"),
            ("/w:9/blurhash:4:3", "where the image is uploaded"),
            ("/f:heic", "jpeg, png, webp or avif"),
            ("/rs%3Afit:1:1", "there is no option"),
        ] {
            let detail = asked(options).unwrap_err();
            assert!(detail.contains(says), "{options}: {detail}");
        }
        let long = format!("/cb:{}", "x".repeat(TEXT_BYTES_MAX));
        assert!(asked(&long).unwrap_err().contains("at most"));
        for path in ["", "/", PLACE, "/v1/images/x/w:1", &format!("{PLACE}{}.jpeg/w:1", "0".repeat(64))] {
            let fault = read(path, &Presets::built_in()).unwrap_err();
            assert!(fault.detail.contains("source.key"), "{path}: {}", fault.detail);
        }
    }
}
