//! What a request asks to be made of its image: a preset by name, or options written out.

use std::sync::Arc;

use super::fault::{Fault, Kind};
use super::job::Priority;
use super::options;
use super::presets::{OUTPUTS_MAX, Presets, collide, is_name};
use super::recipe::{Recipe, Route};

/// The outputs that are wanted, and how urgent they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// One per output.
    pub recipes: Arc<[Recipe]>,
    /// As the client wrote it.
    pub words: String,
    /// Who goes first.
    pub priority: Priority,
}

/// What was said so far, by the query and the fields of a form.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    preset: Option<String>,
    ops: Vec<String>,
    priority: Option<Priority>,
    lane: Option<Route>,
}

impl Wishes {
    /// Whether a word is one of ours.
    pub fn knows(name: &str) -> bool {
        matches!(name, "preset" | "ops" | "priority" | "lane")
    }

    /// One more word. Whether it is one of ours.
    ///
    /// # Errors
    /// [`Kind::BadRequest`]: it contradicts what was said, or means nothing.
    pub fn add(&mut self, name: &str, value: &str) -> Result<bool, Fault> {
        match name {
            "preset" if self.preset.is_some() => return refuse("preset is given twice; name one"),
            "preset" => self.preset = Some(value.to_owned()),
            "ops" if self.ops.len() == OUTPUTS_MAX => {
                return refuse(format!("more than {OUTPUTS_MAX} outputs (ops) in one request"));
            }
            "ops" => self.ops.push(value.to_owned()),
            "priority" => {
                self.priority = match value {
                    "interactive" => Some(Priority::Interactive),
                    "bulk" => Some(Priority::Bulk),
                    _ => return refuse("priority is \"interactive\" or \"bulk\""),
                };
            }
            "lane" => match Route::named(value) {
                Some(route) => self.lane = Some(route),
                None => return refuse("lane is \"auto\", \"cpu\" or \"gpu\""),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What all words together mean; `default` is the preset of those who name none.
    ///
    /// # Errors
    /// [`Kind::BadRequest`].
    pub fn asked(&self, presets: &Presets, default: &str) -> Result<Asked, Fault> {
        let mut asked = self.outputs(presets, default)?;
        if let Some(route) = self.lane {
            Arc::make_mut(&mut asked.recipes).iter_mut().for_each(|recipe| recipe.route = route);
        }
        if Route::of(&asked.recipes).is_none() {
            return refuse("one output asks for the lane cpu and another for gpu; one lane makes all of a request");
        }
        Ok(asked)
    }

    fn outputs(&self, presets: &Presets, default: &str) -> Result<Asked, Fault> {
        let priority = self.priority.unwrap_or_default();
        if self.ops.is_empty() {
            let preset = self.preset.as_deref().unwrap_or(default);
            let recipes = presets.get(preset)?.into();
            return Ok(Asked { recipes, words: preset.to_owned(), priority });
        }
        if self.preset.is_some() {
            return refuse("preset and ops cannot be combined; put everything into ops");
        }
        let mut recipes: Vec<Recipe> = Vec::with_capacity(self.ops.len());
        for (index, text) in self.ops.iter().enumerate() {
            let mut recipe = match text.split_once('=').filter(|(name, _)| is_name(name)) {
                Some((name, text)) => options::parse(name, text)?,
                None if self.ops.len() == 1 => options::parse("output", text)?,
                None => options::parse(&format!("output-{}", index + 1), text)?,
            };
            presets.resolve(&mut recipe)?;
            if recipes.iter().any(|other| collide(other, &recipe)) {
                return refuse(format!(
                    "two outputs are named \"{}\"; only outputs of different formats (f) can share a name",
                    recipe.name
                ));
            }
            recipes.push(recipe);
        }
        Ok(Asked { recipes: recipes.into(), words: self.ops.join("&"), priority })
    }
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(Kind::BadRequest, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::format::Format;

    fn asked(words: &[(&str, &str)]) -> Result<Asked, String> {
        let mut wishes = Wishes::default();
        for (name, value) in words {
            assert!(wishes.add(name, value).map_err(|fault| fault.detail)?);
        }
        wishes.asked(&Presets::built_in(), "web").map_err(|fault| fault.detail)
    }

    #[test]
    fn presets_and_options() {
        let names = |asked: &Asked| asked.recipes.iter().map(|recipe| recipe.name.clone()).collect::<Vec<_>>();
        let web = asked(&[]).unwrap();
        assert_eq!((names(&web), &web.words[..]), (vec!["small".into(), "medium".into(), "large".into()], "web"));
        let thumbnail = asked(&[("preset", "thumbnail"), ("priority", "bulk")]).unwrap();
        assert_eq!((names(&thumbnail), thumbnail.priority), (vec!["thumbnail".to_owned()], Priority::Bulk));
        let one = asked(&[("ops", "rs:fit:100:100")]).unwrap();
        assert_eq!((names(&one), one.priority), (vec!["output".to_owned()], Priority::Interactive));
        let several = asked(&[("ops", "a=w:10"), ("ops", "w:20"), ("ops", "a=w:10/f:webp")]);
        assert!(several.unwrap_err().contains("two outputs are named \"a\""));
        let formats = asked(&[("ops", "a=w:10/f:avif"), ("ops", "a=w:10/f:webp")]).unwrap();
        assert_eq!(names(&formats), ["a", "a"]);
        assert_eq!(formats.recipes[1].format, Some(Format::Webp));
        let routes = |words: &[(&str, &str)]| asked(words).unwrap().recipes.iter().map(|r| r.route).collect::<Vec<_>>();
        assert_eq!(routes(&[("ops", "a=w:1/ln:gpu"), ("ops", "b=w:1")]), [Route::Gpu, Route::Auto]);
        assert_eq!(routes(&[("ops", "a=w:1/ln:gpu"), ("ops", "b=w:1"), ("lane", "cpu")]), [Route::Cpu; 2]);
        // An equals sign in an option is not the end of a name.
        assert_eq!(names(&asked(&[("ops", "w:10/cb:a=b")]).unwrap()), ["output"]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (words, says) in [
            (&[("preset", "web"), ("preset", "web")][..], "twice"),
            (&[("preset", "web"), ("ops", "w:1")], "cannot be combined"),
            (&[("preset", "nope")], "there are: "),
            (&[("priority", "high")], "\"interactive\" or \"bulk\""),
            (&[("ops", "qq:1")], "qq"),
            (&[("lane", "tpu")], "\"gpu\""),
            (&[("ops", "a=ln:cpu"), ("ops", "b=ln:gpu")], "one lane makes all"),
            (&[("ops", "a=w:1"), ("ops", "a=w:2")], "two outputs"),
        ] {
            let detail = asked(words).unwrap_err();
            assert!(detail.contains(says), "{words:?}: {detail}");
        }
        let many = vec![("ops", "w:1"); OUTPUTS_MAX + 1];
        assert!(asked(&many).unwrap_err().contains("more than"));
    }
}
