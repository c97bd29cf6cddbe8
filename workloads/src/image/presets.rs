//! Outputs by the name of a preset: what a client asks for with `?preset=web`.

use std::collections::BTreeMap;

use super::fault::{Fault, Kind};
use super::options;
use super::recipe::{Recipe, Route};

/// Outputs of one preset. Beyond: refused at start.
pub const OUTPUTS_MAX: usize = 16;
/// Letters of a preset's or an output's name. Beyond: refused.
pub const NAME_MAX: usize = 64;

/// What is there without any configuration.
const BUILT_IN: &[(&str, &[(&str, &str)])] = &[
    ("thumbnail", &[("thumbnail", "rs:fit:256:256")]),
    (
        "web",
        &[
            ("small", "rs:fit:256:256/sh:0.5"),
            ("medium", "rs:fit:800:800/sh:0.5"),
            ("large", "rs:fit:1600:1600/sh:0.5"),
        ],
    ),
    (
        "web-webp",
        &[
            ("small", "rs:fit:256:256/sh:0.5/f:webp"),
            ("medium", "rs:fit:800:800/sh:0.5/f:webp"),
            ("large", "rs:fit:1600:1600/sh:0.5/f:webp"),
        ],
    ),
    ("avatar", &[("small", "rs:fill:96:96/sh:0.5"), ("large", "rs:fill:512:512")]),
    ("social", &[("card", "rs:fill:1200:630/bg:ffffff/f:jpeg")]),
    // Upright, in sRGB, without metadata but the copyright, and as large as it was.
    ("clean", &[("clean", "")]),
];

/// Presets by name, and what recipes mean by the names of watermarks.
#[derive(Clone, Debug, PartialEq)]
pub struct Presets {
    presets: BTreeMap<String, Vec<Recipe>>,
    /// Names and digests.
    watermarks: Vec<(String, String)>,
}

/// The watermark of those who name none, where there are several.
const DEFAULT_WATERMARK: &str = "default";

impl Presets {
    /// `thumbnail` (256 pixels), `web` and `web-webp` (256, 800 and 1600 pixels, sharpened), `avatar`, `social`, `clean`.
    pub fn built_in() -> Presets {
        let mut presets = Presets { presets: BTreeMap::new(), watermarks: Vec::new() };
        for (name, outputs) in BUILT_IN {
            presets.add(name, outputs).expect("the built-in presets are well formed, which a test shows");
        }
        presets
    }

    /// Adds a preset, or puts it in the place of one of the same name.
    ///
    /// # Errors
    /// [`Kind::BadRequest`]: a name or option that cannot be, no outputs, too many, or two of one name.
    pub fn add(&mut self, name: &str, outputs: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<(), Fault> {
        check_name("a preset", name)?;
        if outputs.is_empty() || outputs.len() > OUTPUTS_MAX {
            return refuse(format!(
                "the preset \"{name}\" has {} outputs; 1 to {OUTPUTS_MAX} are possible",
                outputs.len()
            ));
        }
        let mut recipes: Vec<Recipe> = Vec::with_capacity(outputs.len());
        for (output, text) in outputs {
            let (output, text) = (output.as_ref(), text.as_ref());
            check_name("an output", output)?;
            let recipe = options::parse(output, text).map_err(|fault| {
                Fault::new(fault.kind, format!("in output \"{output}\" of preset \"{name}\": {}", fault.detail))
            })?;
            if recipes.iter().any(|other| collide(other, &recipe)) {
                return refuse(format!(
                    "the preset \"{name}\" has two outputs named \"{output}\"; only different formats (f) can share a name"
                ));
            }
            recipes.push(recipe);
        }
        if Route::of(&recipes).is_none() {
            return refuse(format!(
                "the preset \"{name}\" asks for the lane cpu (ln) in one output and for gpu in another; one lane makes all of a \
                 request"
            ));
        }
        self.presets.insert(name.to_owned(), recipes);
        Ok(())
    }

    /// Tells what watermarks there are, by name and digest; presets mean these from then on.
    ///
    /// # Errors
    /// A preset asks for one that there is not.
    pub fn know_watermarks(&mut self, watermarks: Vec<(String, String)>) -> Result<(), Fault> {
        self.watermarks = watermarks;
        let mut presets = std::mem::take(&mut self.presets);
        for (name, recipes) in &mut presets {
            for recipe in recipes {
                self.resolve(recipe).map_err(|fault| {
                    Fault::new(
                        fault.kind,
                        format!("in output \"{}\" of preset \"{name}\": {}", recipe.name, fault.detail),
                    )
                })?;
            }
        }
        self.presets = presets;
        Ok(())
    }

    /// Writes into a recipe which file it means by the name of its watermark.
    ///
    /// # Errors
    /// [`Kind::BadRequest`], with the names that there are.
    pub fn resolve(&self, recipe: &mut Recipe) -> Result<(), Fault> {
        let Some(wanted) = &mut recipe.watermark else { return Ok(()) };
        let named = |name: &str| self.watermarks.iter().find(|(known, _)| known == name);
        let found = match (&*wanted.name, self.watermarks.as_slice()) {
            (_, []) => return refuse("there are no watermarks here. They are named in [image.watermarks]".to_owned()),
            ("", [only]) => Some(only),
            ("", _) => named(DEFAULT_WATERMARK),
            (name, _) => named(name),
        };
        let Some((name, digest)) = found else {
            let names: Vec<String> = self.watermarks.iter().map(|(name, _)| format!("wmn:{name}")).collect();
            return refuse(format!("which watermark? There are: {}", names.join(", ")));
        };
        (wanted.name, wanted.digest) = (name.clone(), digest.clone());
        Ok(())
    }

    /// The outputs of a preset.
    ///
    /// # Errors
    /// [`Kind::BadRequest`], with the names that there are.
    pub fn get(&self, name: &str) -> Result<&[Recipe], Fault> {
        match self.presets.get(name) {
            Some(recipes) => Ok(recipes),
            None => {
                let name: String = name.chars().take(NAME_MAX).collect();
                let names: Vec<&str> = self.names().collect();
                refuse(format!("there is no preset \"{}\"; there are: {}", name.escape_debug(), names.join(", ")))
            }
        }
    }

    /// All names, in the alphabet's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.presets.keys().map(String::as_str)
    }
}

/// The one text of a list of outputs: equal lists have equal texts, whatever they were called and however written. Part of
/// the address of work.
pub fn text(recipes: &[Recipe]) -> String {
    let outputs: Vec<String> =
        recipes.iter().map(|recipe| format!("{}={}", recipe.name, options::text(recipe))).collect();
    outputs.join("\n")
}

/// Whether this can name a preset or an output: names become parts of addresses and documents.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether two outputs cannot stand beside each other: of the same name, they are the same picture, and only known,
/// different formats tell their addresses apart.
pub fn collide(one: &Recipe, other: &Recipe) -> bool {
    one.name == other.name && (one.format == other.format || one.format.is_none() || other.format.is_none())
}

fn check_name(what: &str, name: &str) -> Result<(), Fault> {
    if is_name(name) {
        return Ok(());
    }
    let name: String = name.chars().take(NAME_MAX).collect();
    refuse(format!(
        "\"{}\" cannot name {what}: a name takes 1 to {NAME_MAX} letters, digits, - or _",
        name.escape_debug()
    ))
}

fn refuse<T>(detail: String) -> Result<T, Fault> {
    Err(Fault::new(Kind::BadRequest, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_presets_are_well_formed() {
        let presets = Presets::built_in();
        let names: Vec<&str> = presets.names().collect();
        assert_eq!(names, ["avatar", "clean", "social", "thumbnail", "web", "web-webp"]);
        let web = presets.get("web").unwrap();
        let sizes: Vec<u32> = web.iter().map(|recipe| recipe.resize.unwrap().width).collect();
        assert_eq!(sizes, [256, 800, 1600]);
        assert!(web.iter().all(|recipe| recipe.sharpen > 0.0));
        let text = text(web);
        assert!(text.starts_with("small=rs:fit:256:256/sh:0.5\nmedium="), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mut presets = Presets::built_in();
        let mut refused = |name: &str, outputs: &[(&str, &str)]| presets.add(name, outputs).unwrap_err().detail;
        assert!(refused("mine", &[]).contains("0 outputs"));
        assert!(refused("mine", &[("a", ""), ("a", "")]).contains("two outputs"));
        assert!(refused("mine", &[("a", "qq:1")]).contains("output \"a\" of preset \"mine\""));
        assert!(refused("../etc", &[("a", "")]).contains("cannot name a preset"));
        assert!(refused("mine", &[("a", "ln:cpu"), ("b", "ln:gpu")]).contains("one lane makes all"));
        assert!(refused("mine", &[("", "")]).contains("cannot name an output"));
        assert!(presets.get("nope").unwrap_err().detail.contains("thumbnail"));
    }

    #[test]
    fn one_name_in_several_formats() {
        let mut presets = Presets::built_in();
        presets.add("formats", &[("a", "w:9/f:avif"), ("a", "w:9/f:jpeg"), ("b", "w:9")]).unwrap();
        assert!(presets.add("same", &[("a", "w:9/f:avif"), ("a", "w:8/f:avif")]).is_err());
        assert!(presets.add("open", &[("a", "w:9/f:avif"), ("a", "w:9")]).is_err());
    }

    #[test]
    fn a_watermark_is_the_file_that_its_name_means() {
        let named =
            |names: &[&str]| names.iter().map(|name| (name.to_string(), format!("of {name}"))).collect::<Vec<_>>();
        let mut presets = Presets::built_in();
        presets.add("marked", &[("a", "w:9/wm:0.5")]).unwrap();
        let asked = |presets: &Presets, text: &str| {
            let mut recipe = options::parse("test", text).unwrap();
            let resolved = presets.resolve(&mut recipe).map(|()| recipe.watermark.map(|mark| (mark.name, mark.digest)));
            resolved.map_err(|fault| fault.detail)
        };
        let of = |name: &str| Ok(Some((name.to_owned(), format!("of {name}"))));
        assert!(asked(&presets, "wm:1").unwrap_err().contains("[image.watermarks]"));
        assert_eq!(asked(&presets, "w:1"), Ok(None));
        presets.know_watermarks(named(&["logo"])).unwrap();
        assert_eq!(presets.get("marked").unwrap()[0].watermark.as_ref().unwrap().digest, "of logo");
        assert_eq!(asked(&presets, "wm:1"), of("logo"));
        assert!(asked(&presets, "wm:1/wmn:nope").unwrap_err().contains("wmn:logo"));
        presets.know_watermarks(named(&["logo", "default"])).unwrap();
        assert_eq!((asked(&presets, "wm:1"), asked(&presets, "wm:1/wmn:logo")), (of("default"), of("logo")));
        // A preset means what it meant.
        assert_eq!(presets.get("marked").unwrap()[0].watermark.as_ref().unwrap().name, "logo");
        let fault = Presets::built_in().know_watermarks(Vec::new());
        assert_eq!(fault, Ok(()));
        let mut several = Presets::built_in();
        several.add("marked", &[("a", "w:9/wm:0.5")]).unwrap();
        assert!(several.know_watermarks(named(&["a", "b"])).unwrap_err().detail.contains("preset \"marked\""));
    }

    #[test]
    fn a_preset_can_be_replaced() {
        let mut presets = Presets::built_in();
        presets.add("thumbnail", &[("tiny", "rs:fit:64:64")]).unwrap();
        assert_eq!(presets.get("thumbnail").unwrap()[0].name, "tiny");
    }
}
