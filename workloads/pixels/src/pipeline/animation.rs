//! Animations: frame after frame on one canvas, each through the same recipe, into one animated WebP.
//!
//! ```text
//!   gif | webp ─► next frame ─► canvas as it is seen ─► cascade ─► what differs from the frame before ─► encoded
//! ```
//!
//! One canvas, one frame and the picture before are held at a time, however many there are.

mod canvas;
mod gif;
mod webp;

use std::time::{Duration, Instant};

use super::cascade::Cascade;
use super::picture::Picture;
use super::pixels::Pool;
use super::placeholder::Placeholders;
use super::plan::Plan;
use super::webp::Animator;
use super::{Made, Output, Timings, Watch};
use crate::fault::{Fault, Kind};
use crate::format::Format;
use crate::header::Header;
use crate::recipe::{Metadata, Recipe};
use canvas::{Canvas, Step};

/// Pixels of all canvases of an animation together. Beyond: [`Kind::TooLarge`].
pub const ANIMATION_PIXELS_MAX: u64 = 1 << 29;
/// Frames that may be asked for.
pub const FRAMES_MAX: u32 = 1024;

/// Frames that a recipe makes of an image: 1 where the output stands still.
pub fn frames(header: &Header, recipe: &Recipe) -> u32 {
    let can_move = matches!(header.format, Format::Gif | Format::Webp);
    let may_move = matches!(recipe.format, None | Some(Format::Webp));
    if can_move && may_move { header.frames.min(recipe.frames_max).max(1) } else { 1 }
}

/// Where frames come from.
trait Source {
    /// Puts the next frame on the canvas; `None`: there is none.
    fn step(&mut self, canvas: &mut Canvas, pool: &mut Pool, watch: &dyn Watch) -> Result<Option<Step>, Fault>;

    /// How often it is shown; 0: without end. Known once the first frame is there.
    fn plays(&self) -> u16;
}

/// An output in the making.
struct Making<'p> {
    plan: &'p Plan,
    animator: Animator,
    placeholders: Placeholders,
}

/// Makes the outputs of `plans`, all of which move.
///
/// # Errors
/// A [`Fault`]; what was handed over before is whole.
pub fn run(
    input: &[u8],
    header: &Header,
    plans: &[Plan],
    cascade: &mut Cascade<'_>,
    made: Made<'_>,
) -> Result<Timings, Fault> {
    let frames = plans.iter().map(|plan| plan.frames).max().unwrap_or(1);
    if u64::from(frames) * header.pixels() > ANIMATION_PIXELS_MAX {
        let detail = format!(
            "{frames} frames of {}x{} pixels; an animation has at most {ANIMATION_PIXELS_MAX} in all. Ask for fewer frames (maf).",
            header.width, header.height
        );
        return Err(Fault::new(Kind::TooLarge, detail));
    }
    let mut source: Box<dyn Source + '_> = match header.format {
        Format::Gif => Box::new(gif::Gif::open(input, header)?),
        _ => Box::new(webp::Webp::open(input)),
    };
    let mut canvas = Canvas::new(header.width, header.height, cascade.pool);
    let recipe = |plan: &Plan| &cascade.recipes[plan.index];
    let mut making: Vec<Making<'_>> = plans
        .iter()
        .map(|plan| Making {
            plan,
            animator: Animator::new(recipe(plan).quality),
            placeholders: Placeholders::default(),
        })
        .collect();
    let mut timings = Timings::default();
    for at in 0..frames {
        let began = Instant::now();
        let Some(Step { ms }) = source.step(&mut canvas, cascade.pool, cascade.watch)? else { break };
        timings.decode += began.elapsed();
        for making in making.iter_mut().filter(|making| at < making.plan.frames) {
            let (transform, encode) = frame(&canvas, making, ms, at == 0, cascade)?;
            timings.transform += transform;
            timings.encode += encode;
        }
    }
    let plays = source.plays();
    drop(source);
    canvas.give(cascade.pool);
    for Making { plan, animator, placeholders } in making {
        let recipe = &cascade.recipes[plan.index];
        let rights = cascade.rights.as_deref().filter(|_| recipe.metadata == Metadata::KeepCopyright);
        let (width, height) = plan.geometry.canvas;
        let bytes = animator.finish(plays, rights)?;
        made(Output { index: plan.index, format: Format::Webp, width, height, bytes, placeholders })?;
    }
    Ok(timings)
}

/// One frame of one output; what transforming and encoding took.
fn frame(
    canvas: &Canvas,
    making: &mut Making<'_>,
    ms: u32,
    is_first: bool,
    cascade: &mut Cascade<'_>,
) -> Result<(Duration, Duration), Fault> {
    let began = Instant::now();
    let seen = canvas.seen(cascade.pool);
    let pixels = cascade.pictured(seen, making.plan)?;
    let transform = began.elapsed();
    let began = Instant::now();
    let picture = Picture::Pixels(pixels);
    if is_first {
        let recipe = &cascade.recipes[making.plan.index];
        making.placeholders = Placeholders::of(&picture, recipe, cascade.watch)?;
    }
    if let Picture::Pixels(pixels) = picture {
        making.animator.show(pixels, ms, cascade.pool)?;
    }
    Ok((transform, began.elapsed()))
}

#[cfg(test)]
mod tests;
