//! Outputs one after the other, each made from the smallest picture that is large enough for it.
//!
//! ```text
//!   decoded 6008 x 4000 ─► 1600 x 1065 ─► 800 x 533 ─► 256 x 170        what is kept is not sharpened, turned or
//!                              │              │            │            coloured; what is finished is
//!                           finish         finish       finish
//! ```
//!
//! Pixels with transparency are premultiplied while they are here.

use std::time::{Duration, Instant};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{MulDiv, PixelType, ResizeOptions, Resizer, create_srgb_mapper};

use super::color::ToSrgb;
use super::geometry::FloatBox;
use super::picture::{Picture, Planes};
use super::pixels::{Layout, Pixels, Pool};
use super::placeholder::Placeholders;
use super::plan::{self, MARGIN, Plan};
use super::resample::{Raster, Target, Window, convolve, resample};
use super::turn::{reversed, turn};
use super::watermark::{self, Marks};
use super::{Made, Output, Watch, adjust, encode, sharpen};
use crate::fault::{Fault, Kind};
use crate::recipe::{Metadata, Recipe};

/// A picture and the part of the stored image that it shows.
struct Level {
    picture: Picture,
    /// In pixels of the stored image.
    bounds: FloatBox,
    /// In samples of the picture. The decoder's shrunk picture ends within its last column and row.
    extent: (f64, f64),
}

impl Level {
    /// Where a box of the stored image lies in the picture.
    fn within(&self, bounds: FloatBox) -> FloatBox {
        let (along, down) = (self.extent.0 / self.bounds.width, self.extent.1 / self.bounds.height);
        FloatBox {
            left: (bounds.left - self.bounds.left) * along,
            top: (bounds.top - self.bounds.top) * down,
            width: bounds.width * along,
            height: bounds.height * down,
        }
    }

    fn serves(&self, plan: &Plan) -> bool {
        plan.is_served_by(self.bounds, (self.picture.width(), self.picture.height()))
    }
}

/// What all steps of a job share.
pub struct Cascade<'a> {
    /// The recipes, by a plan's index.
    pub recipes: &'a [Recipe],
    /// What may be laid over outputs.
    pub marks: &'a Marks,
    /// The way to sRGB, where the source is not there.
    pub to_srgb: Option<ToSrgb>,
    /// A small EXIF that says whose image it is, for those outputs that keep it.
    pub rights: Option<Vec<u8>>,
    /// Memory.
    pub pool: &'a mut Pool,
    /// Asked between steps.
    pub watch: &'a dyn Watch,
    /// Time spent in encoders.
    pub encoding: Duration,
}

impl Cascade<'_> {
    /// Makes all outputs of a decoded picture, which shows `extent` samples of an image of `size`.
    ///
    /// # Errors
    /// A [`Fault`]; what was handed over before is whole.
    pub fn run(
        &mut self,
        decoded: Picture,
        size: (u32, u32),
        extent: (f64, f64),
        plans: &[Plan],
        made: Made<'_>,
    ) -> Result<(), Fault> {
        let bounds = FloatBox { left: 0.0, top: 0.0, width: size.0.into(), height: size.1.into() };
        let mut levels = vec![Level { picture: premultiplied(decoded)?, bounds, extent }];
        let mut result = Ok(());
        for (at, plan) in plans.iter().enumerate() {
            let output = self.step(&mut levels, plan, &plans[at + 1..]);
            result = output.and_then(&mut *made);
            if result.is_err() {
                break;
            }
        }
        levels.into_iter().for_each(|level| level.picture.give(self.pool));
        result
    }

    fn step(&mut self, levels: &mut Vec<Level>, plan: &Plan, later: &[Plan]) -> Result<Output, Fault> {
        self.watch.check()?;
        let recipe = &self.recipes[plan.index];
        // An image with a profile of its own leaves its planes before it is encoded.
        let planar = plan::planar(plan, recipe).filter(|_| self.to_srgb.is_none());
        let smallest = levels.iter().rposition(|level| level.serves(plan)).unwrap_or(0);
        let picture = if later.is_empty() && is_same(&levels[smallest], plan, planar) {
            levels.swap_remove(smallest).picture
        } else {
            self.resize(&levels[smallest], plan, recipe, planar.unwrap_or((1, 1)))?
        };
        let extent = (f64::from(plan.size.0), f64::from(plan.size.1));
        let level = Level { picture, bounds: plan.bounds, extent };
        let picture = if later.iter().any(|plan| level.serves(plan)) {
            let copy = self.finished(&level.picture, recipe)?;
            levels.push(level);
            copy
        } else if recipe.sharpen > 0.0 {
            let sharp = self.finished(&level.picture, recipe)?;
            level.picture.give(self.pool);
            sharp
        } else {
            straight(level.picture)?
        };
        self.output(picture, plan, recipe, planar.is_some())
    }

    /// One picture of an animation as an output wants it, not encoded. It shows all of the image.
    ///
    /// # Errors
    /// A [`Fault`].
    pub fn pictured(&mut self, shown: Pixels, plan: &Plan) -> Result<Pixels, Fault> {
        self.watch.check()?;
        let recipe = &self.recipes[plan.index];
        let extent = (f64::from(shown.width), f64::from(shown.height));
        let bounds = FloatBox { left: 0.0, top: 0.0, width: extent.0, height: extent.1 };
        let level = Level { picture: premultiplied(Picture::Pixels(shown))?, bounds, extent };
        let resized = match is_same(&level, plan, None) {
            true => level.picture,
            false => {
                let resized = self.resize(&level, plan, recipe, (1, 1))?;
                level.picture.give(self.pool);
                resized
            }
        };
        let picture = match recipe.sharpen > 0.0 {
            false => straight(resized)?,
            true => {
                let sharp = self.finished(&resized, recipe)?;
                resized.give(self.pool);
                sharp
            }
        };
        match turn(picture, plan.turn, self.pool) {
            Picture::Pixels(pixels) => self.adjusted(pixels, plan, recipe),
            Picture::Planes(_) => Err(unfit(&"planes where pixels were turned")),
        }
    }

    /// A picture of its own for an output: sharpened, or copied.
    fn finished(&mut self, picture: &Picture, recipe: &Recipe) -> Result<Picture, Fault> {
        // Sharpening looks at lightness, and what is premultiplied is darker than it looks.
        if recipe.sharpen > 0.0 && !is_transparent(picture) {
            return sharpen::sharpen(picture, recipe.sharpen, self.pool, self.watch);
        }
        let copy = straight(self.copy(picture))?;
        if recipe.sharpen <= 0.0 {
            return Ok(copy);
        }
        let sharp = sharpen::sharpen(&copy, recipe.sharpen, self.pool, self.watch);
        copy.give(self.pool);
        sharp
    }

    fn copy(&mut self, picture: &Picture) -> Picture {
        let mut copied = |from: &[u8]| {
            let mut to = self.pool.take(from.len());
            to.copy_from_slice(from);
            to
        };
        match picture {
            Picture::Planes(planes) => Picture::Planes(Planes { samples: copied(&planes.samples), ..*planes }),
            Picture::Pixels(pixels) => Picture::Pixels(Pixels { samples: copied(&pixels.samples), ..*pixels }),
        }
    }

    /// Upright, in the colours and on the canvas asked for, encoded.
    fn output(&mut self, picture: Picture, plan: &Plan, recipe: &Recipe, planar: bool) -> Result<Output, Fault> {
        let picture = match picture {
            Picture::Planes(planes) if !planar => {
                let pixels = planes.to_rgb(self.pool);
                self.pool.give(planes.samples);
                Picture::Pixels(pixels)
            }
            as_it_is => as_it_is,
        };
        let mut picture = match turn(picture, plan.turn, self.pool) {
            Picture::Pixels(pixels) => Picture::Pixels(self.adjusted(pixels, plan, recipe)?),
            planes @ Picture::Planes(_) => planes,
        };
        self.watch.check()?;
        let placeholders = Placeholders::of(&picture, recipe, self.watch)?;
        let started = Instant::now();
        let rights = self.rights.as_deref().filter(|_| recipe.metadata == Metadata::KeepCopyright);
        let bytes = encode(plan.format, &mut picture, recipe.quality, rights)?;
        self.encoding += started.elapsed();
        let (width, height) = (picture.width(), picture.height());
        picture.give(self.pool);
        Ok(Output { index: plan.index, format: plan.format, width, height, bytes, placeholders })
    }

    /// In sRGB, blurred, recoloured, laid on its canvas and background, and under its watermark.
    fn adjusted(&mut self, mut pixels: Pixels, plan: &Plan, recipe: &Recipe) -> Result<Pixels, Fault> {
        if let Some(to_srgb) = &self.to_srgb {
            to_srgb.apply(&mut pixels, self.watch)?;
        }
        adjust::blur(&mut pixels, recipe.blur, self.pool, self.watch)?;
        adjust::colors(&mut pixels, recipe);
        self.watch.check()?;
        let alpha = plan.format.has_alpha();
        let mut pixels = adjust::place(pixels, &plan.geometry, recipe, alpha, self.pool);
        adjust::flatten(&mut pixels, recipe, alpha);
        match &recipe.watermark {
            Some(wanted) => watermark::lay(pixels, wanted, self.marks, self.pool, self.watch),
            None => Ok(pixels),
        }
    }

    fn resize(
        &mut self,
        from: &Level,
        plan: &Plan,
        recipe: &Recipe,
        subsampling: (u32, u32),
    ) -> Result<Picture, Fault> {
        if recipe.linear {
            return self.resize_linear(from, plan);
        }
        let bounds = from.within(plan.bounds);
        match &from.picture {
            Picture::Planes(planes) => self.resize_planes(planes, bounds, plan, subsampling).map(Picture::Planes),
            Picture::Pixels(pixels) => self.resize_pixels(pixels, bounds, plan.size).map(Picture::Pixels),
        }
    }

    fn resize_pixels(&mut self, from: &Pixels, bounds: FloatBox, size: (u32, u32)) -> Result<Pixels, Fault> {
        let pixel = pixel_type(from.layout);
        let (width, height) = size;
        let mut samples = self.pool.take(width as usize * height as usize * from.layout.bytes());
        let raster = Raster { samples: &from.samples, width: from.width, height: from.height, pixel };
        let mut target = Target { samples: &mut samples, width, height };
        let window = Window { left: 0, top: 0, width, height };
        resample(raster, bounds, &mut target, window, self.pool, self.watch)?;
        Ok(Pixels { width, height, layout: from.layout, samples })
    }

    fn resize_planes(
        &mut self,
        from: &Planes,
        bounds: FloatBox,
        plan: &Plan,
        subsampling: (u32, u32),
    ) -> Result<Planes, Fault> {
        let (width, height) = plan.size;
        // The last colour sample of an odd side belongs to one pixel alone. In an image that will be mirrored that is
        // the first one.
        let (along, down) = reversed(plan.turn);
        let mut to = Planes::take(width, height, subsampling, self.pool);
        for index in 0..3 {
            let (per_x, per_y) = from.plane_subsampling(index);
            let unit = (1.0 / f64::from(per_x), 1.0 / f64::from(per_y));
            let step = (bounds.width / f64::from(width), bounds.height / f64::from(height));
            let (plane_width, plane_height) = from.plane_size(index);
            let raster =
                Raster { samples: from.plane(index), width: plane_width, height: plane_height, pixel: PixelType::U8 };
            let group = to.plane_subsampling(index);
            let (to_width, to_height) = to.plane_size(index);
            for rows in Span::of(height, group.1, down) {
                for columns in Span::of(width, group.0, along) {
                    let part = FloatBox {
                        left: (bounds.left + f64::from(columns.pixel) * step.0) * unit.0,
                        top: (bounds.top + f64::from(rows.pixel) * step.1) * unit.1,
                        width: f64::from(columns.pixels) * step.0 * unit.0,
                        height: f64::from(rows.pixels) * step.1 * unit.1,
                    };
                    let window =
                        Window { left: columns.sample, top: rows.sample, width: columns.samples, height: rows.samples };
                    let mut target = Target { samples: to.plane_mut(index), width: to_width, height: to_height };
                    resample(raster, part, &mut target, window, self.pool, self.watch)?;
                }
            }
        }
        Ok(to)
    }

    /// Through linear light: first as always to twice the size, then in sixteen bits. Nearly all that linear light changes
    /// happens in the last halving, and the whole source in sixteen bits would be six times as large.
    fn resize_linear(&mut self, from: &Level, plan: &Plan) -> Result<Picture, Fault> {
        let bounds = from.within(plan.bounds);
        let side = |target: u32, source: f64| ((f64::from(target) * MARGIN).min(source.ceil()) as u32).max(1);
        let size = (side(plan.size.0, bounds.width), side(plan.size.1, bounds.height));
        let twice = match &from.picture {
            Picture::Planes(planes) => {
                let twice = Plan { size, ..plan.clone() };
                let planes = self.resize_planes(planes, bounds, &twice, (1, 1))?;
                let pixels = planes.to_rgb(self.pool);
                self.pool.give(planes.samples);
                pixels
            }
            Picture::Pixels(pixels) => self.resize_pixels(pixels, bounds, size)?,
        };
        self.watch.check()?;
        let Picture::Pixels(twice) = straight(Picture::Pixels(twice))? else {
            return Err(unfit(&"planes where pixels were made"));
        };
        let mut samples = self.pool.take(plan.size.0 as usize * plan.size.1 as usize * twice.layout.bytes());
        linear(&twice, plan.size, &mut samples).map_err(|error| unfit(error.as_ref()))?;
        let (layout, (width, height)) = (twice.layout, plan.size);
        self.pool.give(twice.samples);
        premultiplied(Picture::Pixels(Pixels { width, height, layout, samples }))
    }
}

fn linear(from: &Pixels, (width, height): (u32, u32), to: &mut [u8]) -> Result<(), Box<dyn std::error::Error>> {
    let (narrow, wide) = (pixel_type(from.layout), pixel_type_16(from.layout));
    let mapper = create_srgb_mapper();
    let source = ImageRef::new(from.width, from.height, &from.samples, narrow)?;
    let mut light = Image::new(from.width, from.height, wide);
    mapper.forward_map(&source, &mut light)?;
    let light = ImageRef::new(from.width, from.height, light.buffer(), wide)?;
    let mut small = Image::new(width, height, wide);
    let whole = Window { left: 0, top: 0, width, height };
    convolve(&mut Resizer::new(), &light, &mut small, whole, &ResizeOptions::new()).map_err(|fault| fault.detail)?;
    let mut target = Image::from_slice_u8(width, height, to, narrow)?;
    mapper.backward_map(&small, &mut target)?;
    Ok(())
}

/// A run of a plane's samples, and the pixels that they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    sample: u32,
    samples: u32,
    pixel: u32,
    pixels: u32,
}

impl Span {
    /// The whole groups of a side, and the sample that stands for what is left, at the end or at the start.
    fn of(side: u32, group: u32, rest_first: bool) -> impl Iterator<Item = Span> {
        let (samples, rest) = (side / group, side % group);
        let (before, rest_sample, rest_pixel) = if rest_first { (rest, 0, 0) } else { (0, samples, samples * group) };
        let whole = Span { sample: before.min(1), samples, pixel: before, pixels: samples * group };
        let rest = Span { sample: rest_sample, samples: u32::from(rest > 0), pixel: rest_pixel, pixels: rest };
        [whole, rest].into_iter().filter(|span| span.samples > 0)
    }
}

fn is_same(level: &Level, plan: &Plan, planar: Option<(u32, u32)>) -> bool {
    let kept = match &level.picture {
        Picture::Planes(planes) => planes.subsampling == planar.unwrap_or((1, 1)),
        Picture::Pixels(_) => true,
    };
    kept && level.bounds == plan.bounds && level.extent == (f64::from(plan.size.0), f64::from(plan.size.1))
}

fn is_transparent(picture: &Picture) -> bool {
    matches!(picture, Picture::Pixels(Pixels { layout: Layout::Rgba, .. }))
}

pub(super) fn premultiplied(picture: Picture) -> Result<Picture, Fault> {
    with_alpha(picture, |image| MulDiv::new().multiply_alpha_inplace(image))
}

pub(super) fn straight(picture: Picture) -> Result<Picture, Fault> {
    with_alpha(picture, |image| MulDiv::new().divide_alpha_inplace(image))
}

fn with_alpha<E: std::fmt::Display>(
    mut picture: Picture,
    change: impl Fn(&mut Image<'_>) -> Result<(), E>,
) -> Result<Picture, Fault> {
    if let Picture::Pixels(Pixels { width, height, layout: Layout::Rgba, samples }) = &mut picture {
        let mut image =
            Image::from_slice_u8(*width, *height, samples, PixelType::U8x4).map_err(|error| unfit(&error))?;
        change(&mut image).map_err(|error| unfit(&error))?;
    }
    Ok(picture)
}

fn pixel_type(layout: Layout) -> PixelType {
    match layout {
        Layout::Gray => PixelType::U8,
        Layout::Rgb => PixelType::U8x3,
        Layout::Rgba => PixelType::U8x4,
    }
}

fn pixel_type_16(layout: Layout) -> PixelType {
    match layout {
        Layout::Gray => PixelType::U16,
        Layout::Rgb => PixelType::U16x3,
        Layout::Rgba => PixelType::U16x4,
    }
}

fn unfit(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Kind::Io, format!("resizing went wrong: {error}. This is our mistake, please tell us."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_every_pixel_once() {
        let spans = |side, group, first| Span::of(side, group, first).collect::<Vec<_>>();
        assert_eq!(spans(6, 2, false), [Span { sample: 0, samples: 3, pixel: 0, pixels: 6 }]);
        assert_eq!(
            spans(5, 2, false),
            [Span { sample: 0, samples: 2, pixel: 0, pixels: 4 }, Span { sample: 2, samples: 1, pixel: 4, pixels: 1 }]
        );
        assert_eq!(
            spans(5, 2, true),
            [Span { sample: 1, samples: 2, pixel: 1, pixels: 4 }, Span { sample: 0, samples: 1, pixel: 0, pixels: 1 }]
        );
        assert_eq!(spans(1, 2, false), [Span { sample: 0, samples: 1, pixel: 0, pixels: 1 }]);
        assert_eq!(spans(3, 1, true), [Span { sample: 0, samples: 3, pixel: 0, pixels: 3 }]);
    }
}
