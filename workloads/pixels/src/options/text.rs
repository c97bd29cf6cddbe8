//! Recipes back to options.

use crate::recipe::{Gravity, Length, Metadata, Mode, Place, Recipe};

/// The options that make this recipe: equal recipes have equal texts, and reading a text gives the recipe again. The
/// output's name is not in it, nor which file a watermark's name means.
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
    if let Some(watermark) = &recipe.watermark {
        let place = match watermark.place {
            Place::At(x, y) => gravity_text(Gravity::Side(x, y)),
            Place::Everywhere => "re".to_owned(),
        };
        let (opacity, x, y, scale) = (watermark.opacity, watermark.x, watermark.y, watermark.scale);
        parts.push(format!("wm:{opacity}:{place}:{x}:{y}:{scale}"));
        if !watermark.name.is_empty() {
            parts.push(format!("wmn:{}", watermark.name));
        }
    }
    if let Some(format) = recipe.format {
        parts.push(format!("f:{}", format.name()));
    }
    if let Some(quality) = recipe.quality {
        parts.push(format!("q:{quality}"));
    }
    if recipe.frames_max != 1 {
        parts.push(format!("maf:{}", recipe.frames_max));
    }
    if !recipe.route.is_auto() {
        parts.push(format!("ln:{}", recipe.route.name()));
    }
    if recipe.thumbhash {
        parts.push("th:1".to_owned());
    }
    if let Some(components) = recipe.blurhash {
        parts.push(format!("bh:{}:{}", components.across(), components.down()));
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
        Gravity::Smart => "sm".into(),
        Gravity::Focus(x, y) => format!("fp:{x}:{y}"),
        Gravity::Side(x, y) => {
            let vertical = ["no", "", "so"][usize::from((y.signum() + 1).unsigned_abs())];
            let horizontal = ["we", "", "ea"][usize::from((x.signum() + 1).unsigned_abs())];
            let both = [vertical, horizontal].concat();
            if both.is_empty() { "ce".into() } else { both }
        }
    }
}
