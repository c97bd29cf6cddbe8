//! What is made of an image: one recipe per output, written with imgproxy's option names.

use super::format::Format;

/// How an image is brought to a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As large as fits into the box, proportions kept (imgproxy's `fit`; "inside" elsewhere).
    Fit,
    /// Covers the box, proportions kept, and what stands over is cut off at the gravity (`fill`; "cover").
    Fill,
    /// Covers the box, proportions kept, nothing cut off ("outside").
    Outside,
    /// Exactly the box, proportions lost (`force`).
    Force,
}

/// Where a cut-out lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Gravity {
    /// The middle (`ce`).
    #[default]
    Center,
    /// `no`, `so`, `ea`, `we`, `noea`, `nowe`, `soea`, `sowe` as signs: x and y are -1, 0 or 1, y downwards.
    Side(i8, i8),
    /// `fp:x:y`: a point that should stay in the middle, as shares of width and height from 0 to 1.
    Focus(f32, f32),
    /// `sm`: where there is most to see, which is known when the image is decoded; until then, the middle.
    Smart,
}

impl Gravity {
    /// The middle or a side of this name.
    pub fn named(name: &str) -> Option<Gravity> {
        Some(match name {
            "ce" => Gravity::Center,
            "no" => Gravity::Side(0, -1),
            "so" => Gravity::Side(0, 1),
            "ea" => Gravity::Side(1, 0),
            "we" => Gravity::Side(-1, 0),
            "noea" => Gravity::Side(1, -1),
            "nowe" => Gravity::Side(-1, -1),
            "soea" => Gravity::Side(1, 1),
            "sowe" => Gravity::Side(-1, 1),
            _ => return None,
        })
    }
}

/// A length: pixels, or a share of the source's side.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Length {
    /// Pixels; 0 means the whole side.
    Pixels(u32),
    /// A share between 0 and 1.
    Share(f32),
}

/// A cut-out of the source, before it is resized (`c:width:height:gravity`).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Crop {
    /// Its width.
    pub width: Length,
    /// Its height.
    pub height: Length,
    /// Where.
    pub gravity: Gravity,
}

/// A target size (`rs:mode:width:height:enlarge:extend`).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Resize {
    /// How.
    pub mode: Mode,
    /// Pixels; 0 follows from the height and the proportions.
    pub width: u32,
    /// Pixels; 0 follows from the width and the proportions.
    pub height: u32,
    /// Whether a smaller source is made larger.
    pub enlarge: bool,
    /// Whether what is missing to the box is filled with the background.
    pub extend: bool,
}

/// What happens to the metadata. The orientation is always applied and dropped, and colours are always made sRGB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// Nothing is kept.
    Strip,
    /// Artist and copyright are kept (`kcr:1`, the default as imgproxy's).
    #[default]
    KeepCopyright,
}

/// Which lane makes an output, where a service has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Whichever is expected to have it done sooner.
    #[default]
    Auto,
    /// The CPU's.
    Cpu,
    /// The GPU's, wherever it can.
    Gpu,
}

impl Route {
    /// The lane of this name.
    pub fn named(name: &str) -> Option<Route> {
        match name {
            "auto" => Some(Route::Auto),
            "cpu" => Some(Route::Cpu),
            "gpu" => Some(Route::Gpu),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Route::Auto => "auto",
            Route::Cpu => "cpu",
            Route::Gpu => "gpu",
        }
    }

    /// Whether nothing is asked for.
    pub fn is_auto(&self) -> bool {
        *self == Route::Auto
    }

    /// What several outputs that are made together ask for; `None` where one wants the CPU and another the GPU.
    pub fn of(recipes: &[Recipe]) -> Option<Route> {
        let asked = |route| recipes.iter().any(|recipe| recipe.route == route);
        match (asked(Route::Cpu), asked(Route::Gpu)) {
            (true, true) => None,
            (true, false) => Some(Route::Cpu),
            (false, true) => Some(Route::Gpu),
            (false, false) => Some(Route::Auto),
        }
    }
}

/// Components of a BlurHash along and down, 1 to [`Components::MAX`] each: more show more, in two letters each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Components {
    across: u8,
    down: u8,
}

impl Components {
    /// The most along an axis: the first letter of a BlurHash has room for no more.
    pub const MAX: u8 = 9;
    /// What its author advises for what is wider than it is high.
    pub const DEFAULT: Components = Components { across: 4, down: 3 };

    /// So many; `None` where there cannot be.
    pub fn new(across: u8, down: u8) -> Option<Components> {
        let is_possible = |count| (1..=Components::MAX).contains(&count);
        (is_possible(across) && is_possible(down)).then_some(Components { across, down })
    }

    /// Along.
    pub fn across(self) -> u8 {
        self.across
    }

    /// Down.
    pub fn down(self) -> u8 {
        self.down
    }
}

impl From<Components> for (u8, u8) {
    fn from(components: Components) -> (u8, u8) {
        (components.across, components.down)
    }
}

impl TryFrom<(u8, u8)> for Components {
    type Error = String;

    fn try_from((across, down): (u8, u8)) -> Result<Components, String> {
        let most = Components::MAX;
        Components::new(across, down).ok_or_else(|| {
            format!("a BlurHash of {across} by {down} components; there are 1 to {most} along each axis")
        })
    }
}

/// Where a watermark lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// `ce`, `no`, ..., `sowe` as signs: x and y are -1, 0 or 1, y downwards.
    At(i8, i8),
    /// `re`: one beside the other.
    Everywhere,
}

/// A picture that is laid over an output (`wm:opacity:place:x:y:scale`, `wmn:name`).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Watermark {
    /// What the configuration calls it; empty until that was asked, where nobody named one.
    pub name: String,
    /// What tells its file from others of that name, so that a new one makes new outputs; empty until the configuration was
    /// asked.
    pub digest: String,
    /// Above 0, up to 1.
    pub opacity: f32,
    /// Where.
    pub place: Place,
    /// From the side or the middle, or the gap between one and the next: pixels, or below 1 a share of the output's width.
    pub x: f32,
    /// The same, of the height.
    pub y: f32,
    /// A share of the output's size, into which it is fitted; 0 leaves it as it is.
    pub scale: f32,
}

/// One output. Steps are done in this order whatever the order of the options: orient, rotate, flip, crop, resize, blur,
/// sharpen, adjust, pad, flatten, watermark, encode. As with imgproxy, crop, box and gravity are so those of the picture as it is
/// seen; [`geometry`](super::pipeline::geometry) says what that means in the frame before the turns, where it is cheaper.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recipe {
    /// The output's name, unique in its preset.
    pub name: String,
    /// Whether the orientation of the metadata is applied (`ar`).
    pub auto_rotate: bool,
    /// `c`.
    pub crop: Option<Crop>,
    /// `rs`, `s`, `rt`, `w`, `h`, `el`, `ex`.
    pub resize: Option<Resize>,
    /// `g`: where [`Mode::Fill`] cuts.
    pub gravity: Gravity,
    /// `rot`: quarters clockwise, 0 to 3.
    pub quarter_turns: u8,
    /// `fl`: left to right, top to bottom.
    pub flip: (bool, bool),
    /// `bl`: the Gaussian's sigma in pixels; 0 for none.
    pub blur: f32,
    /// `sh`: the sigma of the mask that is subtracted, in pixels; 0 for none.
    pub sharpen: f32,
    /// `gray`: without colour.
    pub grayscale: bool,
    /// `br`: -255 to 255, added.
    pub brightness: i16,
    /// `co`: a factor around the middle; 1 for none.
    pub contrast: f32,
    /// `sa`: a factor; 1 for none, 0 is grey.
    pub saturation: f32,
    /// `pd`: pixels at top, right, bottom, left.
    pub padding: [u32; 4],
    /// `bg`: what transparency and padding show; without it padding is transparent where the format can, else white.
    pub background: Option<[u8; 3]>,
    /// `f`: the format; without it the source's where that can be written, else JPEG or, with transparency, PNG.
    pub format: Option<Format>,
    /// `q`: 1 to 100; without it the format's default.
    pub quality: Option<u8>,
    /// `sm`, `kcr`.
    pub metadata: Metadata,
    /// `maf`: how many frames of an animation are made, of those formats that can move; 1: it stands still. Written only where it
    /// is more, as the next ones.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub frames_max: u32,
    /// `lin`: resample in linear light, after the decoder's own shrink.
    pub linear: bool,
    /// `ln`: which lane. Part of what is asked for, because the pixels of two lanes may differ by a hair.
    #[serde(default, skip_serializing_if = "Route::is_auto")]
    pub route: Route,
    /// `th`: whether its ThumbHash is told. Written only where it is, and so is the next one: works are named by what is
    /// written of their recipes, and those without keep the names that they had before there were any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thumbhash: bool,
    /// `bh`: of how many components its BlurHash is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<Components>,
    /// `wm`, `wmn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
}

impl Recipe {
    /// Whether it cuts something out that finds its own place.
    pub fn is_cut_by_sight(&self) -> bool {
        let crops = self.crop.is_some_and(|crop| crop.gravity == Gravity::Smart);
        let fills = self.resize.is_some_and(|resize| resize.mode == Mode::Fill) && self.gravity == Gravity::Smart;
        crops || fills
    }

    /// The source as it is, named so.
    pub fn named(name: impl Into<String>) -> Recipe {
        Recipe {
            name: name.into(),
            auto_rotate: true,
            crop: None,
            resize: None,
            gravity: Gravity::Center,
            quarter_turns: 0,
            flip: (false, false),
            blur: 0.0,
            sharpen: 0.0,
            grayscale: false,
            brightness: 0,
            contrast: 1.0,
            saturation: 1.0,
            padding: [0; 4],
            background: None,
            format: None,
            quality: None,
            metadata: Metadata::KeepCopyright,
            frames_max: 1,
            linear: false,
            route: Route::Auto,
            thumbhash: false,
            blurhash: None,
            watermark: None,
        }
    }
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde wants it.
fn is_one(count: &u32) -> bool {
    *count == 1
}
