//! What is to be made, in which order, and how small the decoder may make it: known before a sample is decoded.

use super::adjust::turns;
use super::animation::frames;
use super::geometry::{FloatBox, Geometry, geometry, geometry_by_sight, upright};
use super::jpeg::{self, Shrink};
use super::pixels::Pool;
use super::sight::Sight;
use super::turn::stored_box;
use crate::fault::Fault;
use crate::format::Format;
use crate::header::{Header, Orientation};
use crate::recipe::Recipe;

/// Samples of the source per sample of an output, along each axis: with less, Lanczos has too little left of what the
/// decoder's DCT or an output before has kept.
pub const MARGIN: f64 = 2.0;
/// The same for an output that is small, where it costs little.
pub const MARGIN_THUMBNAIL: f64 = 3.0;
/// Sides up to here are small. Pixels.
pub const THUMBNAIL_SIDE_MAX: u32 = 320;
/// Of a margin, so that sizes which were rounded count as the ratio that was meant: 1065 rows are twice 533.
const NEARLY: f64 = 0.96;

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The recipe's place in the list.
    pub index: usize,
    /// What is taken of the stored image, in its own pixels.
    pub bounds: FloatBox,
    /// What that is resampled to, as stored.
    pub size: (u32, u32),
    /// How that is turned: upright, and then as the recipe says.
    pub turn: Orientation,
    /// Canvas and place on it, upright.
    pub geometry: Geometry,
    /// What it is encoded as.
    pub format: Format,
    /// Frames that are made; 1 where it stands still.
    pub frames: u32,
}

impl Plan {
    /// Source pixels per output pixel, along the axis that is shrunk least.
    pub fn shrink(&self) -> f64 {
        (self.bounds.width / f64::from(self.size.0)).min(self.bounds.height / f64::from(self.size.1))
    }

    /// How many samples it needs per sample of its own.
    fn margin(&self) -> f64 {
        let side = self.size.0.max(self.size.1);
        NEARLY * if side <= THUMBNAIL_SIDE_MAX { MARGIN_THUMBNAIL } else { MARGIN }
    }

    /// Whether a picture that shows `bounds` of the stored image in `size` samples is enough.
    pub fn is_served_by(&self, bounds: FloatBox, size: (u32, u32)) -> bool {
        let density = (f64::from(size.0) / bounds.width, f64::from(size.1) / bounds.height);
        let needed = (
            f64::from(self.size.0) / self.bounds.width * self.margin(),
            f64::from(self.size.1) / self.bounds.height * self.margin(),
        );
        let inside = |start: f64, len: f64, outer: f64, outer_len: f64| {
            start >= outer - 1e-6 && start + len <= outer + outer_len + 1e-6
        };
        density.0 >= needed.0
            && density.1 >= needed.1
            && inside(self.bounds.left, self.bounds.width, bounds.left, bounds.width)
            && inside(self.bounds.top, self.bounds.height, bounds.top, bounds.height)
    }
}

/// All outputs, the least shrunk first, and how small the decoder may make the source.
///
/// # Errors
/// An output that is too large.
pub fn plan(header: &Header, recipes: &[Recipe]) -> Result<(Vec<Plan>, Shrink), Fault> {
    let one = |(index, recipe): (usize, &Recipe)| {
        let orientation = orientation(header, recipe);
        let geometry = geometry(upright(header, recipe), recipe)?;
        let (width, height) = geometry.size;
        Ok(Plan {
            index,
            bounds: stored_box(geometry.crop, (header.width, header.height), orientation),
            size: if orientation.swaps_sides() { (height, width) } else { (width, height) },
            turn: orientation.then(turns(recipe)),
            geometry,
            format: format(header, recipe),
            frames: frames(header, recipe),
        })
    };
    let mut plans = recipes.iter().enumerate().map(one).collect::<Result<Vec<Plan>, Fault>>()?;
    plans.sort_by(|a, b| a.shrink().total_cmp(&b.shrink()));
    let shrink = match header.format {
        Format::Jpeg => {
            Shrink::ALL.into_iter().find(|shrink| plans.iter().all(|plan| is_enough(header, *shrink, plan)))
        }
        _ => None,
    };
    Ok((plans, shrink.unwrap_or(Shrink::Whole)))
}

/// How the stored image stands upright for this recipe.
fn orientation(header: &Header, recipe: &Recipe) -> Orientation {
    if recipe.auto_rotate { header.orientation } else { Orientation::Normal }
}

/// Moves the cut-outs that find their own place, once it is known what there is to see. Sizes stay as they were planned, and so
/// does what the decoder had to keep.
///
/// # Errors
/// As [`plan`], which has been asked before.
pub fn move_by_sight(
    plans: &mut [Plan],
    header: &Header,
    recipes: &[Recipe],
    sight: &Sight,
    pool: &mut Pool,
) -> Result<(), Fault> {
    for plan in plans {
        let recipe = &recipes[plan.index];
        if recipe.is_cut_by_sight() {
            let seen = sight.seen(plan.turn, pool);
            plan.geometry = geometry_by_sight(upright(header, recipe), recipe, &seen)?;
            let stored = (header.width, header.height);
            plan.bounds = stored_box(plan.geometry.crop, stored, orientation(header, recipe));
        }
    }
    Ok(())
}

fn is_enough(header: &Header, shrink: Shrink, plan: &Plan) -> bool {
    let whole = FloatBox { left: 0.0, top: 0.0, width: header.width.into(), height: header.height.into() };
    let side = |side: u32| (f64::from(side) * shrink.factor()) as u32;
    plan.is_served_by(whole, (side(header.width), side(header.height)))
}

/// The format of an output: the recipe's, else the source's, else JPEG or, with transparency, PNG.
pub fn format(header: &Header, recipe: &Recipe) -> Format {
    match recipe.format {
        Some(format) => format,
        None if frames(header, recipe) > 1 => Format::Webp,
        None if header.format.is_output() => header.format,
        None if header.alpha => Format::Png,
        None => Format::Jpeg,
    }
}

/// Whether the output is a JPEG and nothing is asked that needs pixels: it can be made of planes, which can be turned.
/// Gives the pixels per colour sample.
pub fn planar(plan: &Plan, recipe: &Recipe) -> Option<(u32, u32)> {
    let untouched = recipe.blur == 0.0
        && !recipe.grayscale
        && recipe.brightness == 0
        && recipe.contrast == 1.0
        && recipe.saturation == 1.0
        && !recipe.linear
        && recipe.watermark.is_none()
        && !plan.geometry.is_padded(recipe);
    (plan.format == Format::Jpeg && untouched).then(|| jpeg::subsampling(recipe.quality))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trial::{self, fit};
    use crate::recipe::Mode;

    fn header(width: u32, height: u32) -> Header {
        trial::jpeg(width, height, 0)
    }

    #[test]
    fn the_largest_comes_first_and_decides_what_is_decoded() {
        let (plans, shrink) = plan(&header(6000, 4000), &[fit(256), fit(1600), fit(800)]).unwrap();
        assert_eq!(plans.iter().map(|plan| plan.index).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(shrink, Shrink::Whole);
        for (side, wanted) in [
            (250, Shrink::Eighth),
            (256, Shrink::Eighth),
            (300, Shrink::Quarter),
            (800, Shrink::Half),
            (1500, Shrink::Half),
            (1600, Shrink::Whole),
        ] {
            assert_eq!(plan(&header(6000, 4000), &[fit(side)]).unwrap().1, wanted, "{side}");
        }
    }

    #[test]
    fn a_cut_out_needs_the_samples_that_it_shows() {
        let mut recipe = fit(800);
        recipe.crop = Some(crate::recipe::Crop {
            width: crate::recipe::Length::Pixels(1600),
            height: crate::recipe::Length::Pixels(1600),
            gravity: crate::recipe::Gravity::Center,
        });
        assert_eq!(plan(&header(6000, 4000), &[recipe]).unwrap().1, Shrink::Whole);
    }

    #[test]
    fn a_turned_image_is_planned_as_it_is_stored() {
        let mut header = header(6000, 4000);
        header.orientation = Orientation::Rotate90;
        let mut recipe = fit(800);
        let (plans, _) = plan(&header, &[recipe.clone()]).unwrap();
        assert_eq!((plans[0].size, plans[0].geometry.size), ((800, 533), (533, 800)));
        recipe.resize.as_mut().unwrap().mode = Mode::Fill;
        recipe.gravity = crate::recipe::Gravity::Side(0, -1);
        let (plans, _) = plan(&header, &[recipe]).unwrap();
        // The upper edge of what is seen is the left one of what is stored.
        assert_eq!(plans[0].bounds, FloatBox { left: 0.0, top: 0.0, width: 4000.0, height: 4000.0 });
    }

    #[test]
    fn outputs_serve_outputs_that_are_half_as_large() {
        let (plans, _) = plan(&header(6008, 4000), &[fit(1600), fit(800), fit(256), fit(700)]).unwrap();
        let by = |a: usize, b: usize| plans[b].is_served_by(plans[a].bounds, plans[a].size);
        assert_eq!(
            plans.iter().map(|plan| plan.size).collect::<Vec<_>>(),
            [(1600, 1065), (800, 533), (700, 466), (256, 170)]
        );
        assert!(by(0, 1) && by(0, 2) && by(1, 3));
        assert!(!by(1, 2) && !by(2, 3));
    }
}
