//! A ragged mini-batch at a desk: images of all sizes, and all their outputs, made in a few launches.
//!
//! ```text
//!   decode all ─► round 1: the largest output of each image, from its source        one launch of each kernel
//!                 round 2: the next of each, from the smallest that is large enough  per round, for all images
//!                 ...
//!              ─► sharpen all ─► turn all ─► encode all
//! ```
//!
//! That the bytes of each are whole, the lane has seen to before it sent them.
//!
//! The order, the boxes and the choice of what an output is made of are those of the CPU lane's cascade.

use annulus_engine::gpu::{
    Decoded, Desk, Error, Picture, Plane, Quality, Resample, Samples, Sharpen, Subsampling, Turn,
};

use super::suits;
use crate::image::fault::Fault;
use crate::image::format::Format;
use crate::image::header::{Header, Orientation};
use crate::image::pipeline::Output;
use crate::image::pipeline::exif::{self, Exif};
use crate::image::pipeline::geometry::FloatBox;
use crate::image::pipeline::jpeg::{QUALITY_DEFAULT, subsampling};
use crate::image::pipeline::placeholder::Placeholders;
use crate::image::pipeline::plan::Plan;
use crate::image::pipeline::turn::reversed;
use crate::image::recipe::{Metadata, Recipe};
use std::time::{Duration, Instant};

/// One image and what is to be made of it.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The original.
    pub input: &'a [u8],
    /// What its head said.
    pub header: &'a Header,
    /// The outputs wanted.
    pub recipes: &'a [Recipe],
}

/// Why an image has no outputs. Neither is the device's fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Another lane can do it.
    Unsupported(String),
    /// Nobody can.
    Fault(Fault),
}

/// Where a batch's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Decoding.
    pub decode: Duration,
    /// Our kernels.
    pub transform: Duration,
    /// Encoding.
    pub encode: Duration,
}

/// An image's outputs, in the order in which they were made.
pub type Made = Result<Vec<Output>, Refusal>;

/// Makes all outputs of a batch. One that does not fit the desk at once is made in halves.
///
/// # Errors
/// [`Error::Failed`]: the device, and with it everything that was asked of it.
pub fn make(desk: &mut Desk, items: &[Item<'_>]) -> Result<(Vec<Made>, Spent), Error> {
    let mut batch = Batch { spent: Spent::default() };
    match batch.run(desk, items) {
        Ok(made) => Ok((made, batch.spent)),
        Err(Error::Unsupported(why)) => match items {
            [] | [_] => Ok((items.iter().map(|_| Err(Refusal::Unsupported(why.clone()))).collect(), batch.spent)),
            _ => {
                let (first, second) = items.split_at(items.len() / 2);
                let (mut made, before) = make(desk, first)?;
                let (rest, after) = make(desk, second)?;
                made.extend(rest);
                Ok((made, before + after))
            }
        },
        Err(other) => Err(other),
    }
}

impl std::ops::Add for Spent {
    type Output = Spent;

    fn add(self, other: Spent) -> Spent {
        Spent {
            decode: self.decode + other.decode,
            transform: self.transform + other.transform,
            encode: self.encode + other.encode,
        }
    }
}

/// A picture on the device, and the part of the stored image that it shows.
struct Level {
    planes: Vec<Plane>,
    size: (u32, u32),
    subsampling: Subsampling,
    /// In pixels of the stored image.
    bounds: FloatBox,
}

/// An image under way.
struct Work<'a> {
    /// The place in the batch.
    at: usize,
    recipes: &'a [Recipe],
    plans: Vec<Plan>,
    levels: Vec<Level>,
    /// Whose image it is, as a small EXIF, where an output keeps that.
    rights: Option<Vec<u8>>,
}

fn keeps_rights(recipe: &Recipe) -> bool {
    recipe.metadata == Metadata::KeepCopyright
}

/// An output that is resampled and not finished: an image, a plan, and its samples.
struct Raw {
    work: usize,
    plan: usize,
    planes: Vec<Plane>,
    size: (u32, u32),
    subsampling: Subsampling,
}

struct Batch {
    spent: Spent,
}

impl Batch {
    fn run(&mut self, desk: &mut Desk, items: &[Item<'_>]) -> Result<Vec<Made>, Error> {
        desk.clear()?;
        let started = Instant::now();
        let mut made: Vec<Made> = items.iter().map(|_| Ok(Vec::new())).collect();
        let mut works = decode(desk, items, &mut made)?;
        self.spent.decode = started.elapsed();
        let started = Instant::now();
        let mut raws = Vec::new();
        for round in 0..works.iter().map(|work| work.plans.len()).max().unwrap_or(0) {
            let mut steps = Vec::new();
            for (index, work) in works.iter_mut().enumerate().filter(|(_, work)| round < work.plans.len()) {
                raws.push(work.resample(desk, index, round, &mut steps)?);
            }
            desk.resample(&steps)?;
        }
        sharpen(desk, &works, &mut raws)?;
        turn(desk, &works, &mut raws)?;
        desk.wait()?;
        self.spent.transform = started.elapsed();
        let started = Instant::now();
        let pictures: Vec<Picture> = raws.iter().map(|raw| raw.picture(&works[raw.work])).collect();
        desk.encode(&pictures, |at, bytes| {
            let (raw, picture) = (&raws[at], &pictures[at]);
            let work = &works[raw.work];
            let (width, height) = (picture.width, picture.height);
            let index = work.plans[raw.plan].index;
            let mut bytes = bytes.to_vec();
            if let Some(rights) = work.rights.as_deref().filter(|_| keeps_rights(&work.recipes[index])) {
                exif::into_jpeg(&mut bytes, rights);
            }
            // They are made of samples, which are on the device only: a job that asks for them is for the CPU.
            let placeholders = Placeholders::default();
            let output = Output { index, format: Format::Jpeg, width, height, bytes, placeholders };
            if let Ok(outputs) = &mut made[work.at] {
                outputs.push(output);
            }
        })?;
        self.spent.encode = started.elapsed();
        Ok(made)
    }
}

/// Those of the batch that the desk takes, decoded; why it does not take the others is told in `made`.
fn decode<'a>(desk: &mut Desk, items: &[Item<'a>], made: &mut [Made]) -> Result<Vec<Work<'a>>, Error> {
    let mut works: Vec<Work<'a>> = Vec::new();
    let mut inputs = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match suits::plans(item.header, item.recipes) {
            Ok(plans) => {
                let wanted = item.recipes.iter().any(keeps_rights);
                let rights = wanted.then(|| Exif::of_jpeg(item.input).rights()).flatten();
                works.push(Work { at, recipes: item.recipes, plans, levels: Vec::new(), rights });
                inputs.push(item.input);
            }
            Err(why) => made[at] = Err(Refusal::Unsupported(why.to_owned())),
        }
    }
    let decoded = desk.decode(&inputs)?;
    let mut kept = Vec::with_capacity(works.len());
    for (mut work, decoded) in works.into_iter().zip(decoded) {
        match decoded {
            Ok(decoded) if fits(&decoded, items[work.at].header) => {
                work.levels.push(source(decoded));
                kept.push(work);
            }
            Ok(_) => made[work.at] = Err(Refusal::Unsupported("a JPEG that tells two sizes of itself".to_owned())),
            Err(why) => made[work.at] = Err(Refusal::Unsupported(why.to_string())),
        }
    }
    Ok(kept)
}

fn fits(decoded: &Decoded, header: &Header) -> bool {
    (decoded.width, decoded.height) == (header.width, header.height)
}

fn source(decoded: Decoded) -> Level {
    let (width, height) = (decoded.width, decoded.height);
    let bounds = FloatBox { left: 0.0, top: 0.0, width: width.into(), height: height.into() };
    Level { planes: decoded.planes, size: (width, height), subsampling: decoded.subsampling, bounds }
}

impl Work<'_> {
    /// The steps of one output, from the smallest level that is large enough for it.
    fn resample(
        &mut self,
        desk: &mut Desk,
        work: usize,
        round: usize,
        steps: &mut Vec<Resample>,
    ) -> Result<Raw, Error> {
        let plan = &self.plans[round];
        let smallest = self.levels.iter().rposition(|level| plan.is_served_by(level.bounds, level.size)).unwrap_or(0);
        let level = &self.levels[smallest];
        let written = match (level.subsampling, subsampling(self.recipes[plan.index].quality)) {
            (Subsampling::Gray, _) => Subsampling::Gray,
            (_, (1, 1)) => Subsampling::Whole,
            _ => Subsampling::Both,
        };
        let mut planes = Vec::with_capacity(level.planes.len());
        for (index, &from) in level.planes.iter().enumerate() {
            let per = |of: Subsampling| if index == 0 { (1, 1) } else { of.pixels() };
            let (width, height) = plan.size;
            let (along, down) = per(written);
            let to = desk.plane(width.div_ceil(along), height.div_ceil(down))?;
            steps.push(step(level, plan, from, per(level.subsampling), to, (along, down)));
            planes.push(to);
        }
        let raw = Raw { work, plan: round, planes, size: plan.size, subsampling: written };
        let level = Level { planes: raw.planes.clone(), size: raw.size, subsampling: written, bounds: plan.bounds };
        if self.plans[round + 1..].iter().any(|plan| plan.is_served_by(level.bounds, level.size)) {
            self.levels.push(level);
        }
        Ok(raw)
    }
}

/// One plane of an output. `source` and `group` are the pixels per sample of both planes.
fn step(level: &Level, plan: &Plan, from: Plane, source: (u32, u32), to: Plane, group: (u32, u32)) -> Resample {
    let density = |pixels: u32, side: f64| f64::from(pixels) / side;
    let along = density(level.size.0, level.bounds.width);
    let down = density(level.size.1, level.bounds.height);
    // The last sample of an odd side stands for one pixel alone. In an image that will be mirrored that is the first one.
    let (first_x, first_y) = reversed(plan.turn);
    let axis = |start: f64, len: f64, side: u32, samples: u32, group: u32, source: u32, first: bool| {
        let step = len / f64::from(side);
        let over = f64::from(samples * group - side) * step;
        let start = if first { start - over } else { start };
        (start / f64::from(source), (len + over) / f64::from(source))
    };
    let (left, width) = axis(
        (plan.bounds.left - level.bounds.left) * along,
        plan.bounds.width * along,
        plan.size.0,
        to.width(),
        group.0,
        source.0,
        first_x,
    );
    let (top, height) = axis(
        (plan.bounds.top - level.bounds.top) * down,
        plan.bounds.height * down,
        plan.size.1,
        to.height(),
        group.1,
        source.1,
        first_y,
    );
    Resample { from, left, top, width, height, to }
}

impl Raw {
    fn picture(&self, work: &Work<'_>) -> Picture {
        let (width, height) = self.size;
        let steps = work.recipes[work.plans[self.plan].index].quality.unwrap_or(QUALITY_DEFAULT).clamp(1, 100);
        Picture {
            width,
            height,
            subsampling: self.subsampling,
            samples: Samples::Planes(self.planes.clone()),
            quality: Quality { steps, optimized: true },
        }
    }
}

/// Sharpens the luma of whatever asks for it; what was resampled stays as it is for those that are made of it.
fn sharpen(desk: &mut Desk, works: &[Work<'_>], raws: &mut [Raw]) -> Result<(), Error> {
    let mut steps = Vec::new();
    for raw in raws {
        let work = &works[raw.work];
        let sigma = work.recipes[work.plans[raw.plan].index].sharpen;
        if sigma > 0.0 {
            let (from, to) = (raw.planes[0], desk.plane(raw.planes[0].width(), raw.planes[0].height())?);
            steps.push(Sharpen { from, to, sigma });
            raw.planes[0] = to;
        }
    }
    desk.sharpen(&steps)
}

/// Turns what is stored otherwise than it is seen.
fn turn(desk: &mut Desk, works: &[Work<'_>], raws: &mut [Raw]) -> Result<(), Error> {
    let mut steps = Vec::new();
    for raw in raws {
        let orientation = works[raw.work].plans[raw.plan].turn;
        if orientation == Orientation::Normal {
            continue;
        }
        let (swaps, flips_x, flips_y) = mirrors(orientation);
        for plane in &mut raw.planes {
            let (width, height) = (plane.width(), plane.height());
            let to = if swaps { desk.plane(height, width)? } else { desk.plane(width, height)? };
            steps.push(Turn { from: *plane, to, swaps, flips_x, flips_y });
            *plane = to;
        }
        if swaps {
            raw.size = (raw.size.1, raw.size.0);
        }
    }
    desk.turn(&steps)
}

/// An orientation as a mirroring at the main diagonal, then left to right, then top to bottom.
fn mirrors(orientation: Orientation) -> (bool, bool, bool) {
    match orientation {
        Orientation::Normal => (false, false, false),
        Orientation::FlipH => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipV => (false, false, true),
        Orientation::Transpose => (true, false, false),
        Orientation::Rotate90 => (true, true, false),
        Orientation::Transverse => (true, true, true),
        Orientation::Rotate270 => (true, false, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::pipeline::picture::Picture as Pixels;
    use crate::image::pipeline::pixels::{self, Layout, Pool};

    #[test]
    fn mirrors_do_what_the_cpu_lane_does() {
        let (width, height) = (3u32, 2u32);
        let samples: Vec<u8> = (1..=6).collect();
        for tag in 1..=8 {
            let orientation = Orientation::of_tag(tag);
            let picture = pixels::Pixels { width, height, layout: Layout::Gray, samples: samples.clone() };
            let turned = crate::image::pipeline::turn::turn(Pixels::Pixels(picture), orientation, &mut Pool::new(0));
            let Pixels::Pixels(turned) = turned else { panic!("pixels stay pixels") };
            let (swaps, flips_x, flips_y) = mirrors(orientation);
            for (at, &sample) in turned.samples.iter().enumerate() {
                let (x, y) = (at as u32 % turned.width, at as u32 / turned.width);
                let (x, y) =
                    (if flips_x { turned.width - 1 - x } else { x }, if flips_y { turned.height - 1 - y } else { y });
                let (x, y) = if swaps { (y, x) } else { (x, y) };
                assert_eq!(sample, samples[(y * width + x) as usize], "{orientation:?} {at}");
            }
        }
    }
}
