//! Options as imgproxy's users write them (`rs:fill:300:200/g:no/q:80/f:webp`) to a [`Recipe`], and back to one text for
//! equal recipes: the text is hashed to address the work.
//!
//! Each option is a name and its arguments, parted by colons; options are parted by slashes, and of two that say the same
//! the later one counts. Names and meanings are imgproxy's, short and long. Some are ours: `gray`, `lin`, `ln` and the
//! mode `outside`, which imgproxy does not have, `br`, `co`, `sa`, which its paid edition has, and `th`, `bh`, which change no
//! pixel, but have a placeholder told of the output. We are stricter in one way: what cannot be understood or done is
//! refused by name, never ignored. A watermark has a name here and no address (`wmn`), since there may be several; of its file
//! the reader knows nothing, and whoever knows it writes its digest into the recipe.

mod arguments;
mod names;
#[cfg(test)]
mod tests;
mod text;

use super::fault::Fault;
use super::format::Format;
use super::pipeline::animation::FRAMES_MAX;
use super::pipeline::geometry::OUTPUT_SIDE_MAX;
use super::recipe::{Components, Crop, Gravity, Length, Metadata, Mode, Place, Recipe, Resize, Route, Watermark};
use arguments::{Arguments, refuse};
use names::{NAMES, Name, unknown};
pub use text::text;

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
/// Pixels of a watermark's offset. Beyond: refused.
pub const WATERMARK_OFFSET_MAX: f32 = 32_767.0;
/// The most that `dpr` may multiply. Beyond: refused.
pub const DPR_MAX: f32 = 8.0;

/// Reads options into the recipe of an output of this name.
///
/// # Errors
/// [`BadRequest`](super::fault::Kind::BadRequest): an option that is unknown (with the nearest known name), not offered, or has arguments that make
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

/// A recipe in the making, with what only its other options decide.
struct Draft {
    recipe: Recipe,
    resize: Resize,
    crop: Option<(Length, Length, Option<Gravity>)>,
    dpr: f32,
    watermark_name: String,
}

impl Draft {
    fn new(output: &str) -> Draft {
        Draft {
            recipe: Recipe::named(output),
            resize: Resize { mode: Mode::Fit, width: 0, height: 0, enlarge: false, extend: false },
            crop: None,
            dpr: 1.0,
            watermark_name: String::new(),
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
            Name::FramesMax => set(&mut recipe.frames_max, arguments.whole(0, 1, FRAMES_MAX)?),
            Name::Linear => set(&mut recipe.linear, arguments.flag(0)?),
            Name::Lane => recipe.route = lane(arguments)?,
            Name::ThumbHash => recipe.thumbhash = arguments.flag(0)?.unwrap_or(true),
            Name::BlurHash => {
                let count = |at| arguments.whole(at, 1, Components::MAX);
                let across = count(0)?.unwrap_or(Components::DEFAULT.across());
                recipe.blurhash = Components::new(across, count(1)?.unwrap_or(Components::DEFAULT.down()));
                return arguments.at_most(2);
            }
            Name::Watermark => {
                recipe.watermark = watermark(arguments)?;
                return arguments.at_most(5);
            }
            Name::WatermarkOf => arguments.given(0).unwrap_or_default().clone_into(&mut self.watermark_name),
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
        let Draft { mut recipe, mut resize, crop, dpr, watermark_name } = self;
        if let Some(watermark) = &mut recipe.watermark {
            watermark.name = watermark_name;
            for by in [&mut watermark.x, &mut watermark.y].into_iter().filter(|by| by.abs() >= 1.0) {
                // Shares stay shares, and pixels do not become any.
                let pixels = (*by * dpr).clamp(-WATERMARK_OFFSET_MAX, WATERMARK_OFFSET_MAX);
                *by = if pixels.abs() < 1.0 { 0.0 } else { pixels };
            }
        }
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

fn watermark(arguments: &Arguments<'_>) -> Result<Option<Watermark>, Fault> {
    let opacity = arguments.needed(arguments.number(0, 0.0, 1.0)?)?;
    let place = match arguments.given(1) {
        None => Place::At(0, 0),
        Some("re") => Place::Everywhere,
        Some(name) => match Gravity::named(name) {
            Some(Gravity::Center) => Place::At(0, 0),
            Some(Gravity::Side(x, y)) => Place::At(x, y),
            _ => {
                return arguments
                    .wrong("a watermark lies at ce, no, so, ea, we, noea, nowe, soea or sowe, or everywhere: re");
            }
        },
    };
    let least = if place == Place::Everywhere { 0.0 } else { -WATERMARK_OFFSET_MAX };
    let by = |at| Ok::<f32, Fault>(arguments.number(at, least, WATERMARK_OFFSET_MAX)?.unwrap_or(0.0));
    let scale = arguments.number(4, 0.0, 1.0)?.unwrap_or(0.0);
    let (name, digest) = (String::new(), String::new());
    // imgproxy's way to have none.
    Ok((opacity > 0.0).then_some(Watermark { name, digest, opacity, place, x: by(2)?, y: by(3)?, scale }))
}

fn lane(arguments: &Arguments<'_>) -> Result<Route, Fault> {
    match arguments.given(0).map(Route::named) {
        Some(Some(route)) => Ok(route),
        _ => arguments.wrong("there are the lanes auto, cpu and gpu"),
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
