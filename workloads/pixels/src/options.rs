//! Options as imgproxy's users write them (`rs:fill:300:200/g:no/q:80/f:webp`) to a [`Recipe`], and back to one text for
//! equal recipes: the text is hashed to address the work.
//!
//! Each option is a name and its arguments, parted by colons; options are parted by slashes, and of two that say the same
//! the later one counts. Names and meanings are imgproxy's, short and long. Four are ours: `gray`, `lin` and the mode
//! `outside`, which imgproxy does not have, and `br`, `co`, `sa`, which its paid edition has. We are stricter in one way:
//! what cannot be understood or done is refused by name, never ignored.

use super::fault::{Fault, Kind};
use super::format::Format;
use super::pipeline::geometry::OUTPUT_SIDE_MAX;
use super::recipe::{Crop, Gravity, Length, Metadata, Mode, Recipe, Resize};

/// Bytes of a text of options. Beyond: refused.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Pixels of a blur's sigma. Beyond: refused.
pub const BLUR_SIGMA_MAX: f32 = 250.0;
/// Pixels of a sharpening mask's sigma. Beyond: refused.
pub const SHARPEN_SIGMA_MAX: f32 = 50.0;
/// Pixels of padding at one side. Beyond: refused.
pub const PADDING_MAX: u32 = 16_384;
/// A factor of contrast or saturation. Beyond: refused.
pub const FACTOR_MAX: f32 = 100.0;
/// The most that `dpr` may multiply. Beyond: refused.
pub const DPR_MAX: f32 = 8.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Resize,
    Size,
    ResizingType,
    Width,
    Height,
    Dpr,
    Enlarge,
    Extend,
    Gravity,
    Crop,
    Padding,
    AutoRotate,
    Rotate,
    Flip,
    Background,
    Blur,
    Sharpen,
    Grayscale,
    Brightness,
    Contrast,
    Saturation,
    Adjust,
    StripMetadata,
    KeepCopyright,
    StripColorProfile,
    Quality,
    Format,
    Linear,
    CacheBuster,
}

/// Every spelling that is understood.
const NAMES: &[(&str, Name)] = &[
    ("resize", Name::Resize),
    ("rs", Name::Resize),
    ("size", Name::Size),
    ("s", Name::Size),
    ("resizing_type", Name::ResizingType),
    ("rt", Name::ResizingType),
    ("width", Name::Width),
    ("w", Name::Width),
    ("height", Name::Height),
    ("h", Name::Height),
    ("dpr", Name::Dpr),
    ("enlarge", Name::Enlarge),
    ("el", Name::Enlarge),
    ("extend", Name::Extend),
    ("ex", Name::Extend),
    ("gravity", Name::Gravity),
    ("g", Name::Gravity),
    ("crop", Name::Crop),
    ("c", Name::Crop),
    ("padding", Name::Padding),
    ("pd", Name::Padding),
    ("auto_rotate", Name::AutoRotate),
    ("ar", Name::AutoRotate),
    ("rotate", Name::Rotate),
    ("rot", Name::Rotate),
    ("flip", Name::Flip),
    ("fl", Name::Flip),
    ("background", Name::Background),
    ("bg", Name::Background),
    ("blur", Name::Blur),
    ("bl", Name::Blur),
    ("sharpen", Name::Sharpen),
    ("sh", Name::Sharpen),
    ("grayscale", Name::Grayscale),
    ("gray", Name::Grayscale),
    ("brightness", Name::Brightness),
    ("br", Name::Brightness),
    ("contrast", Name::Contrast),
    ("co", Name::Contrast),
    ("saturation", Name::Saturation),
    ("sa", Name::Saturation),
    ("adjust", Name::Adjust),
    ("a", Name::Adjust),
    ("strip_metadata", Name::StripMetadata),
    ("sm", Name::StripMetadata),
    ("keep_copyright", Name::KeepCopyright),
    ("kcr", Name::KeepCopyright),
    ("strip_color_profile", Name::StripColorProfile),
    ("scp", Name::StripColorProfile),
    ("quality", Name::Quality),
    ("q", Name::Quality),
    ("format", Name::Format),
    ("f", Name::Format),
    ("ext", Name::Format),
    ("linear", Name::Linear),
    ("lin", Name::Linear),
    ("cachebuster", Name::CacheBuster),
    ("cb", Name::CacheBuster),
];

/// What imgproxy has and this service has not, so that nobody takes it for a misspelling.
const NOT_OFFERED: &[&str] = &[
    "min-width",
    "mw",
    "min-height",
    "mh",
    "zoom",
    "z",
    "extend_aspect_ratio",
    "extend_ar",
    "exar",
    "trim",
    "t",
    "pixelate",
    "pix",
    "watermark",
    "wm",
    "preserve_hdr",
    "ph",
    "enforce_thumbnail",
    "eth",
    "format_quality",
    "fq",
    "max_bytes",
    "mb",
    "skip_processing",
    "skp",
    "raw",
    "expires",
    "exp",
    "filename",
    "fn",
    "return_attachment",
    "att",
    "preset",
    "pr",
    "max_src_resolution",
    "msr",
    "max_src_file_size",
    "msfs",
    "max_animation_frames",
    "maf",
    "max_animation_frame_resolution",
    "mafr",
    "max_result_dimension",
    "mrd",
    "resizing_algorithm",
    "ra",
    "objects_position",
    "op",
    "crop_aspect_ratio",
    "crop_ar",
    "car",
    "background_alpha",
    "bga",
    "monochrome",
    "mc",
    "duotone",
    "dt",
    "unsharp_masking",
    "ush",
    "blur_detections",
    "bd",
    "draw_detections",
    "dd",
    "colorize",
    "col",
    "gradient",
    "gr",
    "watermark_url",
    "wmu",
    "watermark_text",
    "wmt",
    "watermark_size",
    "wms",
    "watermark_rotate",
    "wmr",
    "watermark_shadow",
    "wmsh",
    "style",
    "st",
    "dpi",
    "autoquality",
    "aq",
    "jpeg_options",
    "jpgo",
    "png_options",
    "pngo",
    "webp_options",
    "webpo",
    "avif_options",
    "avifo",
    "page",
    "pg",
    "pages",
    "pgs",
    "disable_animation",
    "da",
    "video_thumbnail_second",
    "vts",
    "fallback_image_url",
    "fiu",
    "hashsum",
    "hs",
    "color_profile",
    "cp",
    "icc",
];

/// Reads options into the recipe of an output of this name.
///
/// # Errors
/// [`Kind::BadRequest`]: an option that is unknown (with the nearest known name), not offered, or has arguments that make
/// no sense.
pub fn parse(output: &str, text: &str) -> Result<Recipe, Fault> {
    if text.len() > TEXT_BYTES_MAX {
        return refuse(format!("options of {} bytes; at most {TEXT_BYTES_MAX} are read", text.len()));
    }
    let mut draft = Draft::new(output);
    for option in text.split('/').filter(|option| !option.is_empty()) {
        let (name, arguments) = option.split_once(':').unwrap_or((option, ""));
        let Some((_, known)) = NAMES.iter().find(|(spelling, _)| *spelling == name) else {
            return Err(unknown(name));
        };
        let mut arguments = Arguments { option, list: arguments.split(':').collect() };
        draft.apply(*known, &mut arguments)?;
    }
    draft.finish()
}

/// The options that make this recipe: equal recipes have equal texts, and reading a text gives the recipe again. The
/// output's name is not in it.
pub fn text(recipe: &Recipe) -> String {
    let mut parts = Vec::new();
    let mut flag = |set: bool, text: &str| {
        if set {
            parts.push(text.to_owned());
        }
    };
    flag(!recipe.auto_rotate, "ar:0");
    flag(recipe.grayscale, "gray:1");
    flag(recipe.linear, "lin:1");
    flag(recipe.metadata == Metadata::Strip, "kcr:0");
    if let Some(crop) = &recipe.crop {
        let inherited = crop.gravity == recipe.gravity;
        let gravity = if inherited { String::new() } else { format!(":{}", gravity_text(crop.gravity)) };
        parts.push(format!("c:{}:{}{gravity}", length_text(crop.width), length_text(crop.height)));
    }
    if let Some(resize) = recipe.resize.filter(|resize| resize.width > 0 || resize.height > 0) {
        let more = match (resize.enlarge, resize.extend) {
            (false, false) => "",
            (true, false) => ":1",
            (false, true) => ":0:1",
            (true, true) => ":1:1",
        };
        parts.push(format!("rs:{}:{}:{}{more}", mode_text(resize.mode), resize.width, resize.height));
    }
    if recipe.gravity != Gravity::Center {
        parts.push(format!("g:{}", gravity_text(recipe.gravity)));
    }
    if recipe.quarter_turns != 0 {
        parts.push(format!("rot:{}", u32::from(recipe.quarter_turns) * 90));
    }
    if recipe.flip != (false, false) {
        parts.push(format!("fl:{}:{}", u8::from(recipe.flip.0), u8::from(recipe.flip.1)));
    }
    let mut number = |name: &str, value: f32, neutral: f32| {
        if value != neutral {
            parts.push(format!("{name}:{value}"));
        }
    };
    number("bl", recipe.blur, 0.0);
    number("sh", recipe.sharpen, 0.0);
    number("br", recipe.brightness.into(), 0.0);
    number("co", recipe.contrast, 1.0);
    number("sa", recipe.saturation, 1.0);
    if recipe.padding != [0; 4] {
        let [top, right, bottom, left] = recipe.padding;
        parts.push(format!("pd:{top}:{right}:{bottom}:{left}"));
    }
    if let Some([red, green, blue]) = recipe.background {
        parts.push(format!("bg:{red:02x}{green:02x}{blue:02x}"));
    }
    if let Some(format) = recipe.format {
        parts.push(format!("f:{}", format.name()));
    }
    if let Some(quality) = recipe.quality {
        parts.push(format!("q:{quality}"));
    }
    parts.join("/")
}

fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Fit => "fit",
        Mode::Fill => "fill",
        Mode::Outside => "outside",
        Mode::Force => "force",
    }
}

fn length_text(length: Length) -> String {
    match length {
        Length::Pixels(pixels) => pixels.to_string(),
        Length::Share(share) => share.to_string(),
    }
}

fn gravity_text(gravity: Gravity) -> String {
    match gravity {
        Gravity::Center => "ce".into(),
        Gravity::Focus(x, y) => format!("fp:{x}:{y}"),
        Gravity::Side(x, y) => {
            let vertical = ["no", "", "so"][usize::from((y.signum() + 1).unsigned_abs())];
            let horizontal = ["we", "", "ea"][usize::from((x.signum() + 1).unsigned_abs())];
            let both = [vertical, horizontal].concat();
            if both.is_empty() { "ce".into() } else { both }
        }
    }
}

fn refuse<T>(what: String) -> Result<T, Fault> {
    Err(Fault::new(Kind::BadRequest, what))
}

fn unknown(name: &str) -> Fault {
    if NOT_OFFERED.contains(&name) {
        let detail = format!("the option \"{name}\" of imgproxy is not offered here. Leave it out.");
        return Fault::new(Kind::BadRequest, detail);
    }
    // A name from a stranger: short enough for a table of distances, and readable in an answer.
    let name: String = name.chars().take(40).collect();
    let nearest = NAMES.iter().min_by_key(|(known, _)| distance(known, &name)).map_or("resize", |(known, _)| known);
    Fault::new(
        Kind::BadRequest,
        format!("there is no option \"{}\". The nearest is \"{nearest}\".", name.escape_debug()),
    )
}

/// How many letters are to be added, dropped or exchanged.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, other) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *other);
            diagonal = row[at + 1];
            row[at + 1] = exchanged.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[b.len()]
}

/// The arguments of one option.
struct Arguments<'a> {
    option: &'a str,
    list: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    fn wrong<T>(&self, what: impl std::fmt::Display) -> Result<T, Fault> {
        let option: String = self.option.chars().take(80).collect();
        refuse(format!("\"{}\": {what}", option.escape_debug()))
    }

    fn at_most(&self, count: usize) -> Result<(), Fault> {
        if self.list.len() > count {
            return self.wrong(format_args!("it has {} arguments; at most {count} are understood", self.list.len()));
        }
        Ok(())
    }

    /// The argument at `at`, unless it is absent or empty: then what was said before, or the default, stays.
    fn given(&self, at: usize) -> Option<&'a str> {
        self.list.get(at).copied().filter(|argument| !argument.is_empty())
    }

    fn flag(&self, at: usize) -> Result<Option<bool>, Fault> {
        match self.given(at) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => self.wrong(format_args!("\"{}\" is neither 1 nor 0", other.escape_debug())),
        }
    }

    fn whole<N: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &self,
        at: usize,
        least: N,
        most: N,
    ) -> Result<Option<N>, Fault> {
        let Some(argument) = self.given(at) else { return Ok(None) };
        match argument.parse::<N>() {
            Ok(number) if number >= least && number <= most => Ok(Some(number)),
            _ => self.wrong(format_args!("\"{}\" is no whole number from {least} to {most}", argument.escape_debug())),
        }
    }

    fn number(&self, at: usize, least: f32, most: f32) -> Result<Option<f32>, Fault> {
        let Some(argument) = self.given(at) else { return Ok(None) };
        match argument.parse::<f32>() {
            // Adding nothing makes a negative zero a positive one, which has another text.
            Ok(number) if number >= least && number <= most => Ok(Some(number + 0.0)),
            _ => self.wrong(format_args!("\"{}\" is no number from {least} to {most}", argument.escape_debug())),
        }
    }

    fn needed<T>(&self, value: Option<T>) -> Result<T, Fault> {
        match value {
            Some(value) => Ok(value),
            None => self.wrong("an argument is missing"),
        }
    }

    fn gravity(&self, at: usize) -> Result<Option<Gravity>, Fault> {
        let Some(name) = self.given(at) else { return Ok(None) };
        let gravity = match name {
            "ce" => Gravity::Center,
            "no" => Gravity::Side(0, -1),
            "so" => Gravity::Side(0, 1),
            "ea" => Gravity::Side(1, 0),
            "we" => Gravity::Side(-1, 0),
            "noea" => Gravity::Side(1, -1),
            "nowe" => Gravity::Side(-1, -1),
            "soea" => Gravity::Side(1, 1),
            "sowe" => Gravity::Side(-1, 1),
            "fp" => {
                let (x, y) = (self.number(at + 1, 0.0, 1.0)?, self.number(at + 2, 0.0, 1.0)?);
                self.at_most(at + 3)?;
                return Ok(Some(Gravity::Focus(self.needed(x)?, self.needed(y)?)));
            }
            "sm" | "obj" | "objw" => {
                return self.wrong("a cut-out that finds its own place is not offered here; say where, or use fp:x:y");
            }
            _ => {
                return self.wrong("there are the gravities ce, no, so, ea, we, noea, nowe, soea, sowe and fp:x:y");
            }
        };
        self.at_most(at + 3)?;
        if (at + 1..at + 3).any(|offset| !matches!(self.given(offset), None | Some("0"))) {
            return self.wrong("offsets of a gravity are not offered here; use fp:x:y");
        }
        Ok(Some(gravity))
    }

    fn length(&self, at: usize) -> Result<Option<Length>, Fault> {
        Ok(self.number(at, 0.0, 1e9)?.map(|number| match number {
            share if share > 0.0 && share < 1.0 => Length::Share(share),
            pixels => Length::Pixels(pixels as u32),
        }))
    }
}

/// A recipe in the making, with what only its other options decide.
struct Draft {
    recipe: Recipe,
    resize: Resize,
    crop: Option<(Length, Length, Option<Gravity>)>,
    dpr: f32,
}

impl Draft {
    fn new(output: &str) -> Draft {
        Draft {
            recipe: Recipe::named(output),
            resize: Resize { mode: Mode::Fit, width: 0, height: 0, enlarge: false, extend: false },
            crop: None,
            dpr: 1.0,
        }
    }

    fn apply(&mut self, name: Name, arguments: &mut Arguments<'_>) -> Result<(), Fault> {
        let recipe = &mut self.recipe;
        match name {
            Name::Resize => {
                self.mode(arguments)?;
                return self.size(arguments, 1);
            }
            Name::Size => return self.size(arguments, 0),
            Name::ResizingType => {
                arguments.at_most(1)?;
                return self.mode(arguments);
            }
            Name::Width => set(&mut self.resize.width, arguments.whole(0, 0, OUTPUT_SIDE_MAX)?),
            Name::Height => set(&mut self.resize.height, arguments.whole(0, 0, OUTPUT_SIDE_MAX)?),
            Name::Dpr => set(&mut self.dpr, arguments.number(0, 0.01, DPR_MAX)?),
            Name::Enlarge => set(&mut self.resize.enlarge, arguments.flag(0)?),
            Name::Extend => return self.extend(arguments, 0),
            Name::Gravity => {
                recipe.gravity = arguments.needed(arguments.gravity(0)?)?;
                return Ok(());
            }
            Name::Crop => {
                let width = arguments.needed(arguments.length(0)?)?;
                let height = arguments.length(1)?.unwrap_or(Length::Pixels(0));
                self.crop = Some((width, height, arguments.gravity(2)?));
                return arguments.at_most(5);
            }
            Name::Padding => {
                let side = |at| arguments.whole(at, 0, PADDING_MAX);
                let top = side(0)?.unwrap_or(recipe.padding[0]);
                let right = side(1)?.unwrap_or(top);
                recipe.padding = [top, right, side(2)?.unwrap_or(top), side(3)?.unwrap_or(right)];
                return arguments.at_most(4);
            }
            Name::AutoRotate => set(&mut recipe.auto_rotate, arguments.flag(0)?),
            Name::Rotate => {
                let angle = arguments.needed(arguments.whole(0, -3600, 3600)?)?;
                if angle % 90 != 0 {
                    return arguments.wrong("only multiples of 90 are possible");
                }
                recipe.quarter_turns = (angle / 90i32).rem_euclid(4) as u8;
            }
            Name::Flip => {
                set(&mut recipe.flip.0, arguments.flag(0)?);
                set(&mut recipe.flip.1, arguments.flag(1)?);
                return arguments.at_most(2);
            }
            Name::Background => {
                recipe.background = background(arguments)?;
                return Ok(());
            }
            Name::Blur => set(&mut recipe.blur, arguments.number(0, 0.0, BLUR_SIGMA_MAX)?),
            Name::Sharpen => set(&mut recipe.sharpen, arguments.number(0, 0.0, SHARPEN_SIGMA_MAX)?),
            Name::Grayscale => set(&mut recipe.grayscale, arguments.flag(0)?),
            Name::Brightness => set(&mut recipe.brightness, arguments.whole(0, -255, 255)?),
            Name::Contrast => set(&mut recipe.contrast, arguments.number(0, 0.0, FACTOR_MAX)?),
            Name::Saturation => set(&mut recipe.saturation, arguments.number(0, 0.0, FACTOR_MAX)?),
            Name::Adjust => {
                set(&mut recipe.brightness, arguments.whole(0, -255, 255)?);
                set(&mut recipe.contrast, arguments.number(1, 0.0, FACTOR_MAX)?);
                set(&mut recipe.saturation, arguments.number(2, 0.0, FACTOR_MAX)?);
                return arguments.at_most(3);
            }
            Name::StripMetadata if arguments.flag(0)? == Some(false) => {
                return arguments.wrong("metadata are always stripped; kcr:1 keeps artist and copyright");
            }
            Name::StripColorProfile if arguments.flag(0)? == Some(false) => {
                return arguments.wrong("colours are always made sRGB, so that no profile is left to keep");
            }
            Name::StripMetadata | Name::StripColorProfile => {}
            Name::KeepCopyright => match arguments.flag(0)? {
                Some(false) => recipe.metadata = Metadata::Strip,
                _ => recipe.metadata = Metadata::KeepCopyright,
            },
            // 0 is imgproxy's way to say the default.
            Name::Quality => recipe.quality = arguments.whole(0, 0, 100)?.filter(|&quality| quality > 0),
            Name::Format => recipe.format = Some(format(arguments)?),
            Name::Linear => set(&mut recipe.linear, arguments.flag(0)?),
            // It only makes an address new, which a content-addressed service does not need.
            Name::CacheBuster => {}
        }
        arguments.at_most(1)
    }

    fn mode(&mut self, arguments: &Arguments<'_>) -> Result<(), Fault> {
        self.resize.mode = match arguments.given(0) {
            None => return Ok(()),
            Some("fit") => Mode::Fit,
            Some("fill") => Mode::Fill,
            Some("outside") => Mode::Outside,
            Some("force") => Mode::Force,
            Some("fill-down" | "auto") => {
                return arguments.wrong("this resizing type of imgproxy is not offered here; use fit or fill");
            }
            Some(_) => return arguments.wrong("there are the resizing types fit, fill, outside and force"),
        };
        Ok(())
    }

    fn size(&mut self, arguments: &Arguments<'_>, at: usize) -> Result<(), Fault> {
        set(&mut self.resize.width, arguments.whole(at, 0, OUTPUT_SIDE_MAX)?);
        set(&mut self.resize.height, arguments.whole(at + 1, 0, OUTPUT_SIDE_MAX)?);
        set(&mut self.resize.enlarge, arguments.flag(at + 2)?);
        self.extend(arguments, at + 3)
    }

    fn extend(&mut self, arguments: &Arguments<'_>, at: usize) -> Result<(), Fault> {
        set(&mut self.resize.extend, arguments.flag(at)?);
        if arguments.gravity(at + 1)?.is_some_and(|gravity| gravity != Gravity::Center) {
            return arguments.wrong("an extended image always lies in the middle");
        }
        arguments.at_most(at + 4)
    }

    fn finish(self) -> Result<Recipe, Fault> {
        let Draft { mut recipe, mut resize, crop, dpr } = self;
        recipe.crop =
            crop.map(|(width, height, gravity)| Crop { width, height, gravity: gravity.unwrap_or(recipe.gravity) });
        if dpr != 1.0 {
            let scaled = |side: u32| (side as f32 * dpr).round() as u32;
            (resize.width, resize.height) = (scaled(resize.width), scaled(resize.height));
            recipe.padding = recipe.padding.map(scaled);
            if resize.width.max(resize.height) > OUTPUT_SIDE_MAX {
                return refuse(format!(
                    "dpr:{dpr} makes the size {}x{}; a side has at most {OUTPUT_SIDE_MAX} pixels",
                    resize.width, resize.height
                ));
            }
        }
        recipe.resize = (resize.width > 0 || resize.height > 0).then_some(resize);
        // Where nothing is cut off, a gravity says nothing: work that is the same shall have one address.
        if recipe.resize.is_none_or(|resize| resize.mode != Mode::Fill) {
            recipe.gravity = Gravity::Center;
        }
        Ok(recipe)
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn background(arguments: &Arguments<'_>) -> Result<Option<[u8; 3]>, Fault> {
    arguments.at_most(3)?;
    if arguments.list.len() > 1 {
        let color = |at| arguments.needed(arguments.whole(at, 0, 255)?);
        return Ok(Some([color(0)?, color(1)?, color(2)?]));
    }
    let Some(hex) = arguments.given(0) else { return Ok(None) };
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    match digits.as_deref() {
        Some(&[red, green, blue]) => Ok(Some([red * 17, green * 17, blue * 17])),
        Some(&[a, b, c, d, e, f]) => Ok(Some([a * 16 + b, c * 16 + d, e * 16 + f])),
        _ => arguments.wrong("a colour is written rrggbb, rgb or red:green:blue"),
    }
}

fn format(arguments: &Arguments<'_>) -> Result<Format, Fault> {
    match arguments.given(0) {
        Some("jpeg" | "jpg") => Ok(Format::Jpeg),
        Some("png") => Ok(Format::Png),
        Some("webp") => Ok(Format::Webp),
        Some("avif") => Ok(Format::Avif),
        _ => arguments.wrong("outputs are jpeg, png, webp or avif"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Recipe {
        parse("test", text).unwrap()
    }

    fn refused(text: &str) -> String {
        let fault = parse("test", text).unwrap_err();
        assert_eq!(fault.kind, Kind::BadRequest);
        fault.detail
    }

    #[test]
    fn imgproxys_example() {
        let read = recipe("rs:fill:300:400:0/g:sm".strip_suffix("/g:sm").unwrap());
        let resize = Resize { mode: Mode::Fill, width: 300, height: 400, enlarge: false, extend: false };
        assert_eq!(read.resize, Some(resize));
        let read = recipe("/rs:fit:300:200/g:no/q:80/f:webp/");
        assert_eq!((read.quality, read.format), (Some(80), Some(Format::Webp)));
        assert_eq!(text(&read), "rs:fit:300:200/f:webp/q:80");
    }

    #[test]
    fn long_short_and_parted_spellings_are_one_recipe() {
        let expected = recipe("rs:fill:300:200:1:1/g:noea/rot:90");
        for other in [
            "resize:fill:300:200:1:1/gravity:noea/rotate:90",
            "s:300:200:true:t/rt:fill/g:noea:0:0/rot:-270",
            "w:300/h:200/el:1/ex:1:ce/resizing_type:fill/g:no/g:noea/rot:450",
            "rs:fit:7:7/rs:fill:300:200:1:1/g:noea/rot:90/cb:v7/sm:1",
            "rs:fill:150:100:1:1/dpr:2/g:noea/rot:90",
        ] {
            assert_eq!(recipe(other), expected, "{other}");
            assert_eq!(text(&recipe(other)), text(&expected));
        }
    }

    #[test]
    fn every_text_is_read_as_the_recipe_that_it_was_made_of() {
        for options in [
            "",
            "ar:0",
            "c:100:0.5:so/rs:fill:300:200/g:fp:0.25:0.75",
            "c:100:100/rs:fill:30:20/g:we",
            "c:100:100:ce/rs:fill:30:20/g:we",
            "c:0.3333:7/rs:outside:0:20:1",
            "rs:force:10:20:0:1/fl:1:0/bl:1.5/sh:0.7/gray:1/br:-20/co:1.2/sa:0/pd:1:2:3:4/bg:abc/f:avif/q:50/kcr:0/lin:1",
            "bg:1:2:3/pd:5/f:jpg",
            "a:10:1.5:0.5/fl:0:1/rot:180",
        ] {
            let read = recipe(options);
            let again = parse("test", &text(&read)).unwrap();
            assert_eq!(again, read, "{options} -> {}", text(&read));
            assert_eq!(text(&again), text(&read));
        }
        assert_eq!(text(&recipe("co:1/sa:1.0/bl:-0/br:0/q:0/pd:0/fl:0:0/rot:360/g:no/w:0")), "");
    }

    #[test]
    fn a_crop_takes_the_gravity_unless_it_has_its_own() {
        assert_eq!(recipe("c:10:10/g:no").crop.unwrap().gravity, Gravity::Side(0, -1));
        assert_eq!(recipe("g:no/c:10:10:so").crop.unwrap().gravity, Gravity::Side(0, 1));
        assert_eq!(recipe("c:0.5:1").crop.unwrap().width, Length::Share(0.5));
        assert_eq!(recipe("c:0.5:1").crop.unwrap().height, Length::Pixels(1));
    }

    #[test]
    fn colours_are_written_three_ways() {
        assert_eq!(recipe("bg:ff8000").background, Some([255, 128, 0]));
        assert_eq!(recipe("bg:f80").background, Some([255, 136, 0]));
        assert_eq!(recipe("bg:1:2:3").background, Some([1, 2, 3]));
        assert_eq!(recipe("bg:1:2:3/bg:").background, None);
        assert!(refused("bg:ff80").contains("rrggbb"));
        assert!(refused("bg:1:2:256").contains("255"));
        assert!(refused("bg:é12345").contains("rrggbb"));
    }

    #[test]
    fn an_unknown_option_is_answered_with_the_nearest() {
        assert!(refused("resise:fit:10:10").contains("\"resize\""));
        assert!(refused("qualty:80").contains("\"quality\""));
        assert!(refused("grayscal:1").contains("\"grayscale\""));
        let detail = refused("wm:0.5");
        assert!(detail.contains("imgproxy") && detail.contains("not offered"), "{detail}");
        assert!(refused(&"x".repeat(1000)).len() < 200);
        assert!(refused(&"x".repeat(3000)).contains("2048"));
        assert!(NOT_OFFERED.iter().all(|name| NAMES.iter().all(|(known, _)| known != name)));
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_by_name() {
        for (options, word) in [
            ("rs:fit:wide", "\"wide\""),
            ("rs:fit:99999:1", "32767"),
            ("rs:fit:-1:1", "-1"),
            ("rs:stretch:1:1", "outside"),
            ("rs:auto:1:1", "not offered"),
            ("rs:fit:1:1:yes", "\"yes\""),
            ("rs:fit:1:1:0:1:no", "middle"),
            ("rs:fit:1:1:0:1:ce:0:0:7", "at most"),
            ("g:sm", "fp:x:y"),
            ("g:up", "noea"),
            ("g:fp:0.5", "missing"),
            ("g:fp:0.5:1.5", "1.5"),
            ("g:no:10:0", "offsets"),
            ("g:", "missing"),
            ("c:", "missing"),
            ("rot:45", "90"),
            ("q:101", "100"),
            ("f:gif", "avif"),
            ("f:heic", "avif"),
            ("bl:nan", "250"),
            ("bl:inf", "250"),
            ("br:300", "255"),
            ("sm:0", "kcr:1"),
            ("scp:0", "sRGB"),
            ("w:1:2", "at most 1"),
            ("dpr:8/w:5000", "40000"),
        ] {
            let detail = refused(options);
            assert!(detail.contains(word), "{options}: {detail}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        let letters: Vec<char> = "rs:fitlwhgcqbx/:.0-19eé ".chars().collect();
        let mut state = 3u64;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    letters[(state >> 33) as usize % letters.len()]
                })
                .collect();
            if let Ok(read) = parse("test", &text) {
                assert_eq!(parse("test", &super::text(&read)).unwrap(), read, "{text}");
            }
        }
    }
}
