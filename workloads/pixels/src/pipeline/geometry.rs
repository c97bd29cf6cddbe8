//! Which part of an image a recipe takes, and how large the result is. Whole numbers are rounded as imgproxy rounds
//! them, so that its users get the sizes that they are used to. Pure; no pixel is touched here.
//!
//! ```text
//!   upright source ──crop──► resample to `size` ──turn, flip, filters──► placed at `offset` on `canvas`
//! ```
//!
//! A recipe speaks of the picture as its viewer sees it: crop, box and gravity are those of the turned and flipped
//! image (as imgproxy's are). Turning a small result is cheaper than turning a large source, so a [`Geometry`] is given
//! in the frame *before* the recipe's own turns: whoever follows it crops and resamples first and turns then.

use super::sight::Seen;
use crate::fault::{Fault, Kind};
use crate::header::Header;
use crate::recipe::{Crop, Gravity, Length, Mode, Recipe, Resize};

/// Pixels of either side of an output. Beyond: [`Kind::TooLarge`].
pub const OUTPUT_SIDE_MAX: u32 = 32_767;
/// Pixels of an output. Beyond: [`Kind::TooLarge`].
pub const OUTPUT_PIXELS_MAX: u64 = 256_000_000;

/// A box with fractions of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatBox {
    /// From the left edge.
    pub left: f64,
    /// From the upper edge.
    pub top: f64,
    /// Its width, above 0.
    pub width: f64,
    /// Its height, above 0.
    pub height: f64,
}

/// What a recipe means for a source of a certain size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// What is taken of the upright source, before the recipe's own turns.
    pub crop: FloatBox,
    /// What that is resampled to, before the recipe's own turns. At least 1 by 1.
    pub size: (u32, u32),
    /// The output: the resampled and turned image with what extends and pads it.
    pub canvas: (u32, u32),
    /// Where the turned image lies on the canvas, from the upper left.
    pub offset: (u32, u32),
}

impl Geometry {
    /// Whether the canvas is larger than the image on it.
    pub fn is_padded(&self, recipe: &Recipe) -> bool {
        self.canvas != swapped(self.size, recipe.quarter_turns % 2 == 1)
    }

    /// How many source pixels make one output pixel along the axis that is shrunk least. Below 1: it is enlarged.
    pub fn shrink(&self) -> f64 {
        (self.crop.width / f64::from(self.size.0)).min(self.crop.height / f64::from(self.size.1))
    }
}

/// The size of the source as it stands upright for this recipe.
pub fn upright(header: &Header, recipe: &Recipe) -> (u32, u32) {
    swapped((header.width, header.height), recipe.auto_rotate && header.orientation.swaps_sides())
}

/// What `recipe` makes of a source that is `source` pixels large when upright. Neither side is 0. A cut-out that finds its own
/// place is in the middle.
///
/// # Errors
/// [`Kind::TooLarge`]: the result is beyond [`OUTPUT_SIDE_MAX`] or [`OUTPUT_PIXELS_MAX`].
pub fn geometry(source: (u32, u32), recipe: &Recipe) -> Result<Geometry, Fault> {
    placed(source, recipe, None)
}

/// The same with cut-outs where there is most to see. `seen` is turned as the recipe turns. Only the place differs.
///
/// # Errors
/// As [`geometry`].
pub fn geometry_by_sight(source: (u32, u32), recipe: &Recipe, seen: &Seen) -> Result<Geometry, Fault> {
    placed(source, recipe, Some(seen))
}

fn placed(source: (u32, u32), recipe: &Recipe, seen: Option<&Seen>) -> Result<Geometry, Fault> {
    let turned = recipe.quarter_turns % 2 == 1;
    let view = swapped(source, turned);
    let cut = match &recipe.crop {
        None => Cut { left: 0, top: 0, width: view.0, height: view.1 },
        Some(crop) => cut_out(view, crop, seen),
    };
    let scaled = match &recipe.resize {
        None => (cut.width, cut.height),
        Some(resize) => scaled_size((cut.width, cut.height), resize),
    };
    let visible = match &recipe.resize {
        Some(resize) if resize.mode == Mode::Fill => {
            (scaled.0.min(nonzero(resize.width, scaled.0)), scaled.1.min(nonzero(resize.height, scaled.1)))
        }
        _ => scaled,
    };
    let (canvas, offset) = canvas(visible, recipe);
    check(canvas)?;

    let (step_x, step_y) = (f64::from(cut.width) / f64::from(scaled.0), f64::from(cut.height) / f64::from(scaled.1));
    let place = match (recipe.gravity, seen) {
        (Gravity::Smart, Some(seen)) => {
            seen.best(view, cut.as_box(), (f64::from(visible.0) * step_x, f64::from(visible.1) * step_y))
        }
        _ => None,
    };
    let at = position(scaled, visible, recipe.gravity, place);
    let seen = FloatBox {
        left: f64::from(cut.left) + f64::from(at.0) * step_x,
        top: f64::from(cut.top) + f64::from(at.1) * step_y,
        width: f64::from(visible.0) * step_x,
        height: f64::from(visible.1) * step_y,
    };
    Ok(Geometry { crop: unturned(seen, view, recipe), size: swapped(visible, turned), canvas, offset })
}

struct Cut {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Cut {
    fn as_box(&self) -> FloatBox {
        FloatBox { left: self.left.into(), top: self.top.into(), width: self.width.into(), height: self.height.into() }
    }
}

fn swapped(size: (u32, u32), swap: bool) -> (u32, u32) {
    if swap { (size.1, size.0) } else { size }
}

fn nonzero(value: u32, or: u32) -> u32 {
    if value == 0 { or } else { value }
}

fn cut_out(view: (u32, u32), crop: &Crop, seen: Option<&Seen>) -> Cut {
    let side = |whole: u32, length: Length| match length {
        Length::Pixels(0) => whole,
        Length::Pixels(pixels) => pixels.min(whole),
        Length::Share(share) => rounded(f64::from(whole) * f64::from(share)).min(whole),
    };
    let size = (side(view.0, crop.width), side(view.1, crop.height));
    let whole = FloatBox { left: 0.0, top: 0.0, width: view.0.into(), height: view.1.into() };
    let place = match (crop.gravity, seen) {
        (Gravity::Smart, Some(seen)) => seen.best(view, whole, (size.0.into(), size.1.into())),
        _ => None,
    };
    let (left, top) = position(view, size, crop.gravity, place);
    Cut { left, top, width: size.0, height: size.1 }
}

/// The nearest whole number of pixels, at least one. What is beyond 32 bits is refused by [`check`] later.
fn rounded(value: f64) -> u32 {
    (value.round() as u32).max(1)
}

/// The size after scaling and before anything that stands over is cut off.
pub(super) fn scaled_size(from: (u32, u32), resize: &Resize) -> (u32, u32) {
    let (width, height) = (f64::from(from.0), f64::from(from.1));
    let mut shrink =
        (width / f64::from(nonzero(resize.width, from.0)), height / f64::from(nonzero(resize.height, from.1)));
    shrink = match (resize.width, resize.height, resize.mode) {
        (_, _, Mode::Force) => shrink,
        (0, _, _) => (shrink.1, shrink.1),
        (_, 0, _) => (shrink.0, shrink.0),
        (_, _, Mode::Fit) => (shrink.0.max(shrink.1), shrink.0.max(shrink.1)),
        (_, _, Mode::Fill | Mode::Outside) => (shrink.0.min(shrink.1), shrink.0.min(shrink.1)),
    };
    let least = shrink.0.min(shrink.1);
    if !resize.enlarge && least < 1.0 {
        shrink = (shrink.0 / least, shrink.1 / least);
    }
    (rounded(width / shrink.0.min(width)), rounded(height / shrink.1.min(height)))
}

/// The canvas that extension and padding make, and where the image lies on it.
fn canvas(image: (u32, u32), recipe: &Recipe) -> ((u32, u32), (u32, u32)) {
    let extended = match &recipe.resize {
        Some(resize) if resize.extend => (image.0.max(resize.width), image.1.max(resize.height)),
        _ => image,
    };
    let at = position(extended, image, Gravity::Center, None);
    let [top, right, bottom, left] = recipe.padding;
    let sum = |a: u32, b: u32, c: u32| a.saturating_add(b).saturating_add(c);
    let canvas = (sum(extended.0, left, right), sum(extended.1, top, bottom));
    (canvas, (at.0.saturating_add(left), at.1.saturating_add(top)))
}

fn check(canvas: (u32, u32)) -> Result<(), Fault> {
    let too_large = |what: String| {
        Err(Fault::new(
            Kind::TooLarge,
            format!(
                "the output would be {}x{} pixels; {what}. Ask for a smaller size, or for less padding.",
                canvas.0, canvas.1
            ),
        ))
    };
    if canvas.0.max(canvas.1) > OUTPUT_SIDE_MAX {
        return too_large(format!("a side of at most {OUTPUT_SIDE_MAX} is allowed"));
    }
    if u64::from(canvas.0) * u64::from(canvas.1) > OUTPUT_PIXELS_MAX {
        return too_large(format!("at most {OUTPUT_PIXELS_MAX} in all are allowed"));
    }
    Ok(())
}

/// Where an inner box lies in an outer one that is not smaller: at `place`, where that was found, as shares of what is left
/// over.
fn position(outer: (u32, u32), inner: (u32, u32), gravity: Gravity, place: Option<(f64, f64)>) -> (u32, u32) {
    if let Some(share) = place {
        let along = |outer: u32, inner: u32, share: f64| (f64::from(outer - inner) * share).round_ties_even() as u32;
        return (along(outer.0, inner.0, share.0), along(outer.1, inner.1, share.1));
    }
    let along = |outer: u32, inner: u32, side: i8, focus: Option<f32>| {
        let spare = outer - inner;
        match (focus, side) {
            (Some(share), _) => {
                let point = (f64::from(outer) * f64::from(share)).round_ties_even() as i64;
                (point - i64::from(inner / 2)).clamp(0, i64::from(spare)) as u32
            }
            (None, ..0) => 0,
            (None, 0) => ((f64::from(spare) + 1.0) / 2.0).round_ties_even().min(f64::from(spare)) as u32,
            (None, _) => spare,
        }
    };
    let (side, focus) = match gravity {
        Gravity::Center | Gravity::Smart => ((0, 0), (None, None)),
        Gravity::Side(x, y) => ((x, y), (None, None)),
        Gravity::Focus(x, y) => ((0, 0), (Some(x), Some(y))),
    };
    (along(outer.0, inner.0, side.0, focus.0), along(outer.1, inner.1, side.1, focus.1))
}

/// A box of the turned and flipped image, in the frame before that.
fn unturned(seen: FloatBox, view: (u32, u32), recipe: &Recipe) -> FloatBox {
    let (mut width, mut height) = (f64::from(view.0), f64::from(view.1));
    let mut at = seen;
    if recipe.flip.0 {
        at.left = width - at.left - at.width;
    }
    if recipe.flip.1 {
        at.top = height - at.top - at.height;
    }
    for _ in 0..recipe.quarter_turns % 4 {
        // One quarter anticlockwise: what was the left edge becomes the lower one.
        at = FloatBox { left: at.top, top: width - at.left - at.width, width: at.height, height: at.width };
        (width, height) = (height, width);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(mode: Mode, width: u32, height: u32) -> Recipe {
        let mut recipe = Recipe::named("test");
        recipe.resize = Some(Resize { mode, width, height, enlarge: false, extend: false });
        recipe
    }

    fn enlarged(mode: Mode, width: u32, height: u32) -> Recipe {
        let mut recipe = resized(mode, width, height);
        recipe.resize.as_mut().unwrap().enlarge = true;
        recipe
    }

    fn size(source: (u32, u32), recipe: &Recipe) -> (u32, u32) {
        geometry(source, recipe).unwrap().size
    }

    fn whole(width: u32, height: u32) -> FloatBox {
        FloatBox { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) }
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        let made = geometry((640, 480), &Recipe::named("same")).unwrap();
        assert_eq!(made.crop, whole(640, 480));
        assert_eq!((made.size, made.canvas, made.offset), ((640, 480), (640, 480), (0, 0)));
        assert!(!made.is_padded(&Recipe::named("same")));
    }

    #[test]
    fn fit_keeps_proportions_and_never_enlarges_unless_told() {
        assert_eq!(size((6000, 4000), &resized(Mode::Fit, 256, 256)), (256, 171));
        assert_eq!(size((4000, 6000), &resized(Mode::Fit, 256, 256)), (171, 256));
        assert_eq!(size((100, 50), &resized(Mode::Fit, 256, 256)), (100, 50));
        assert_eq!(size((100, 50), &enlarged(Mode::Fit, 256, 256)), (256, 128));
        assert_eq!(size((6000, 4000), &resized(Mode::Fit, 300, 0)), (300, 200));
        assert_eq!(size((6000, 4000), &resized(Mode::Fit, 0, 300)), (450, 300));
        assert_eq!(size((6000, 4000), &resized(Mode::Fit, 0, 0)), (6000, 4000));
        // A side never vanishes.
        assert_eq!(size((30_000, 2), &resized(Mode::Fit, 100, 100)), (100, 1));
    }

    #[test]
    fn fill_covers_and_cuts_at_the_gravity() {
        let mut recipe = resized(Mode::Fill, 200, 200);
        let made = geometry((4000, 2000), &recipe).unwrap();
        assert_eq!(made.size, (200, 200));
        // Scaled to 400 by 200; (200 + 1) / 2 rounds to the even 100.
        assert_eq!(made.crop, FloatBox { left: 1000.0, top: 0.0, width: 2000.0, height: 2000.0 });
        recipe.gravity = Gravity::Side(-1, 0);
        assert_eq!(geometry((4000, 2000), &recipe).unwrap().crop.left, 0.0);
        recipe.gravity = Gravity::Side(1, 1);
        assert_eq!(geometry((4000, 2000), &recipe).unwrap().crop.left, 2000.0);
        recipe.gravity = Gravity::Focus(0.3, 0.9);
        // 0.3 of 400 is 120, less half of 200.
        assert_eq!(geometry((4000, 2000), &recipe).unwrap().crop.left, 200.0);
        recipe.gravity = Gravity::Focus(1.0, 1.0);
        assert_eq!(geometry((4000, 2000), &recipe).unwrap().crop.left, 2000.0);
    }

    #[test]
    fn fill_of_a_smaller_source_cuts_what_stands_over_and_stays_small() {
        assert_eq!(size((400, 100), &resized(Mode::Fill, 200, 200)), (200, 100));
        assert_eq!(size((100, 50), &resized(Mode::Fill, 200, 200)), (100, 50));
        assert_eq!(size((100, 50), &enlarged(Mode::Fill, 200, 200)), (200, 200));
    }

    #[test]
    fn outside_covers_and_cuts_nothing() {
        let made = geometry((4000, 2000), &resized(Mode::Outside, 200, 200)).unwrap();
        assert_eq!((made.size, made.crop), ((400, 200), whole(4000, 2000)));
    }

    #[test]
    fn force_loses_proportions_but_keeps_those_of_the_box_when_it_may_not_enlarge() {
        assert_eq!(size((4000, 2000), &resized(Mode::Force, 200, 200)), (200, 200));
        assert_eq!(size((100, 100), &resized(Mode::Force, 200, 50)), (100, 25));
        assert_eq!(size((100, 100), &enlarged(Mode::Force, 200, 50)), (200, 50));
        assert_eq!(size((100, 80), &resized(Mode::Force, 50, 0)), (50, 80));
    }

    #[test]
    fn crop_comes_first_and_takes_shares() {
        let mut recipe = resized(Mode::Fit, 100, 100);
        recipe.crop = Some(Crop { width: Length::Share(0.5), height: Length::Pixels(0), gravity: Gravity::Side(1, 0) });
        let made = geometry((1000, 400), &recipe).unwrap();
        assert_eq!(made.crop, FloatBox { left: 500.0, top: 0.0, width: 500.0, height: 400.0 });
        assert_eq!(made.size, (100, 80));
        recipe.crop =
            Some(Crop { width: Length::Pixels(5000), height: Length::Share(0.0001), gravity: Gravity::Center });
        assert_eq!(geometry((1000, 400), &recipe).unwrap().crop.height, 1.0);
    }

    #[test]
    fn the_recipe_speaks_of_the_turned_picture() {
        // A quarter clockwise: the box is the viewer's, so the source is taken with sides exchanged.
        let mut recipe = resized(Mode::Fill, 100, 200);
        recipe.quarter_turns = 1;
        recipe.gravity = Gravity::Side(0, -1);
        let made = geometry((1000, 400), &recipe).unwrap();
        assert_eq!((made.size, made.canvas), ((200, 100), (100, 200)));
        // The viewer's upper edge is the source's left one.
        assert_eq!(made.crop, FloatBox { left: 0.0, top: 0.0, width: 800.0, height: 400.0 });
        recipe.quarter_turns = 3;
        assert_eq!(geometry((1000, 400), &recipe).unwrap().crop.left, 200.0);
        recipe.quarter_turns = 2;
        recipe.resize = Some(Resize { mode: Mode::Fill, width: 100, height: 10, enlarge: false, extend: false });
        assert_eq!(geometry((1000, 400), &recipe).unwrap().crop.top, 300.0);
        recipe.flip.1 = true;
        assert_eq!(geometry((1000, 400), &recipe).unwrap().crop.top, 0.0);
    }

    /// Turning a picture of numbered corners after cropping shows what cropping after turning shows.
    #[test]
    fn crop_then_turn_is_turn_then_crop() {
        let corner = |x: f64, y: f64, width: f64, height: f64, recipe: &Recipe| {
            let (mut x, mut y, mut w, mut h) = (x, y, width, height);
            for _ in 0..recipe.quarter_turns {
                (x, y, w, h) = (h - y, x, h, w);
            }
            (if recipe.flip.0 { w - x } else { x }, if recipe.flip.1 { h - y } else { y })
        };
        for quarter_turns in 0..4 {
            for flip in [(false, false), (true, false), (false, true), (true, true)] {
                let mut recipe = Recipe::named("turn");
                (recipe.quarter_turns, recipe.flip) = (quarter_turns, flip);
                recipe.crop =
                    Some(Crop { width: Length::Pixels(20), height: Length::Pixels(10), gravity: Gravity::Side(1, -1) });
                let view = swapped((100, 60), quarter_turns % 2 == 1);
                let made = geometry((100, 60), &recipe).unwrap().crop;
                let a = corner(made.left, made.top, 100.0, 60.0, &recipe);
                let b = corner(made.left + made.width, made.top + made.height, 100.0, 60.0, &recipe);
                let seen = (a.0.min(b.0), a.1.min(b.1), (a.0 - b.0).abs(), (a.1 - b.1).abs());
                assert_eq!(seen, (f64::from(view.0) - 20.0, 0.0, 20.0, 10.0), "{quarter_turns} {flip:?}");
            }
        }
    }

    #[test]
    fn extension_and_padding_make_the_canvas() {
        let mut recipe = resized(Mode::Fit, 200, 200);
        recipe.resize.as_mut().unwrap().extend = true;
        recipe.padding = [1, 2, 3, 4];
        let made = geometry((4000, 2000), &recipe).unwrap();
        assert_eq!(made.size, (200, 100));
        assert_eq!((made.canvas, made.offset), ((206, 204), (4, 51)));
        assert!(made.is_padded(&recipe));
        // Extension is no enlargement: a small image lies in the middle of the box.
        let made = geometry((10, 10), &recipe).unwrap();
        assert_eq!((made.size, made.canvas, made.offset), ((10, 10), (206, 204), (100, 97)));
    }

    #[test]
    fn what_is_too_large_is_refused_by_name() {
        let fault = geometry((1, 30_000), &enlarged(Mode::Fit, 16_000, 0)).unwrap_err();
        assert_eq!(fault.kind, Kind::TooLarge);
        assert!(fault.detail.contains("at most 32767"), "{fault}");
        let fault = geometry((100, 100), &enlarged(Mode::Fit, 20_000, 0)).unwrap_err();
        assert!(fault.detail.contains("at most 256000000"), "{fault}");
        let mut recipe = Recipe::named("padded");
        recipe.padding = [u32::MAX; 4];
        assert_eq!(geometry((100, 100), &recipe).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn every_box_lies_in_its_source() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            let source = (random(3000) as u32 + 1, random(3000) as u32 + 1);
            let mode = [Mode::Fit, Mode::Fill, Mode::Outside, Mode::Force][random(4) as usize];
            let mut recipe = resized(mode, random(2000) as u32, random(2000) as u32);
            recipe.resize.as_mut().unwrap().enlarge = random(2) == 0;
            recipe.gravity = match random(3) {
                0 => Gravity::Center,
                1 => Gravity::Side(random(3) as i8 - 1, random(3) as i8 - 1),
                _ => Gravity::Focus(random(101) as f32 / 100.0, random(101) as f32 / 100.0),
            };
            recipe.quarter_turns = random(4) as u8;
            recipe.flip = (random(2) == 0, random(2) == 0);
            let Ok(made) = geometry(source, &recipe) else { continue };
            let inside = |from: f64, len: f64, side: u32| from >= -1e-6 && from + len <= f64::from(side) + 1e-6;
            assert!(inside(made.crop.left, made.crop.width, source.0), "{source:?} {recipe:?} {made:?}");
            assert!(inside(made.crop.top, made.crop.height, source.1), "{source:?} {recipe:?} {made:?}");
            assert!(made.size.0 > 0 && made.size.1 > 0);
            if !recipe.resize.as_ref().unwrap().enlarge && mode != Mode::Force {
                assert!(made.shrink() >= 0.49, "{source:?} {recipe:?} {made:?}");
            }
        }
    }
}
