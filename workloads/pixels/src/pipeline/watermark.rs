//! Pictures that are laid over outputs (`wm`), as imgproxy lays them: last of all, over padding and background, too.
//!
//! ```text
//!   a file ─► decoded once, when a worker starts ─► resampled for an output of this size ─► alpha times opacity ─► mixed in
//! ```
//!
//! Positions, the rounding of offsets and the middle one of replicated pictures are imgproxy's. Mixing is by straight alpha in
//! whole numbers, exact to half a step.

use fast_image_resize::PixelType;

use super::adjust::with_layout;
use super::cascade::{premultiplied, straight};
use super::geometry::{FloatBox, scaled_size};
use super::picture::Picture;
use super::pixels::{Layout, Pixels, Pool};
use super::resample::{Raster, Target, Window, resample};
use super::turn::turn;
use super::{Decoded, Watch, decode_pixels};
use crate::fault::{Fault, Kind};
use crate::header::Header;
use crate::recipe::{Mode, Place, Resize, Watermark};

/// Pixels of either side of a watermark's file. Beyond: refused at the start.
pub const SIDE_MAX: u32 = 4096;
/// Pixels of a watermark's file. Beyond: refused at the start.
pub const PIXELS_MAX: u64 = 4 << 20;

/// An opacity of 1.
const OPAQUE: u64 = 65_535;
/// What is opaque in the file, at an opacity of 1.
const FULL: u64 = 255 * OPAQUE;

/// A picture to be laid over others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What recipes call it.
    pub name: String,
    /// What tells its file from others of that name.
    pub digest: String,
    pixels: Pixels,
}

impl Mark {
    /// Decodes a file whose header has been read, to sRGB and upright.
    ///
    /// # Errors
    /// It cannot be decoded, or is too large.
    pub fn decode(name: &str, digest: &str, file: &[u8], header: &Header, watch: &dyn Watch) -> Result<Mark, Fault> {
        if header.width.max(header.height) > SIDE_MAX || header.pixels() > PIXELS_MAX {
            let (width, height) = (header.width, header.height);
            return Err(Fault::new(
                Kind::TooLarge,
                format!(
                    "it is {width}x{height} pixels; a watermark has at most {SIDE_MAX} at a side and {PIXELS_MAX} in all"
                ),
            ));
        }
        let mut pool = Pool::new(0);
        match decode_pixels(file, header, &mut pool, watch)? {
            Decoded::Pixels(pixels) => match turn(Picture::Pixels(pixels), header.orientation, &mut pool) {
                Picture::Pixels(pixels) => Ok(Mark { name: name.to_owned(), digest: digest.to_owned(), pixels }),
                Picture::Planes(_) => Err(unfit()),
            },
            Decoded::Jpeg => {
                Err(Fault::new(Kind::Unsupported, "it is a JPEG, which cannot be transparent. Save it as PNG or WebP"))
            }
        }
    }

    /// Of pixels that are there, with alpha not premultiplied.
    #[cfg(test)]
    pub fn of(name: &str, pixels: Pixels) -> Mark {
        Mark { name: name.to_owned(), digest: String::new(), pixels }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.pixels.samples.len() as u64
    }
}

/// All that a worker has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// These.
    pub fn new(marks: Vec<Mark>) -> Marks {
        Marks(marks)
    }

    /// The one that a recipe means.
    ///
    /// # Errors
    /// It is not here: another node, or this one before it was configured anew, entered the work. Another attempt may be made
    /// where it is.
    fn get(&self, wanted: &Watermark) -> Result<&Mark, Fault> {
        let found = self.0.iter().find(|mark| mark.name == wanted.name && mark.digest == wanted.digest);
        found.ok_or_else(|| {
            let detail = format!(
                "the watermark \"{}\" is not the one that was asked for, or is not there any more. All nodes need the same in \
                 [image.watermarks]; what is asked for now has the new one",
                wanted.name
            );
            Fault::new(Kind::Io, detail)
        })
    }
}

/// Bytes at the peak beside the output, for the prediction.
pub fn bytes(wanted: &Watermark, (width, height): (u32, u32)) -> u64 {
    let area = u64::from(width) * u64::from(height);
    let pixel = Layout::Rgba.bytes() as u64;
    // An output of grey gets colours. A scaled watermark is no larger than the output; beside it there are its premultiplied
    // source, and that at the height that it will have.
    match wanted.scale > 0.0 {
        true => (area * 2 + PIXELS_MAX + u64::from(SIDE_MAX) * u64::from(height)) * pixel,
        false => area * pixel,
    }
}

/// Lays a watermark over an output.
///
/// # Errors
/// It is not there, or what the watch says.
pub fn lay(
    onto: Pixels,
    wanted: &Watermark,
    marks: &Marks,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<Pixels, Fault> {
    let mark = marks.get(wanted)?;
    let size = (onto.width, onto.height);
    let mark_size = scaled(mark, wanted, size);
    let resized = match mark_size == (mark.pixels.width, mark.pixels.height) {
        true => None,
        false => Some(resized(&mark.pixels, mark_size, pool, watch)?),
    };
    watch.check()?;
    let over = resized.as_ref().unwrap_or(&mark.pixels);
    let layout = if is_grey(over) { onto.layout } else { Layout::Rgb };
    let mut onto = with_layout(onto, layout, pool);
    let opacity = (f64::from(wanted.opacity) * OPAQUE as f64).round() as u64;
    match wanted.place {
        Place::At(along, down) => {
            let left = start(size.0, mark_size.0, along, wanted.x);
            let top = start(size.1, mark_size.1, down, wanted.y);
            blend(&mut onto, over, (left, top), opacity);
        }
        Place::Everywhere => {
            let (across, down) = (tiles(size.0, mark_size.0, wanted.x), tiles(size.1, mark_size.1, wanted.y));
            for top in down {
                watch.check()?;
                across.clone().for_each(|left| blend(&mut onto, over, (left, top), opacity));
            }
        }
    }
    if let Some(resized) = resized {
        pool.give(resized.samples);
    }
    Ok(onto)
}

/// Its size on an output.
fn scaled(mark: &Mark, wanted: &Watermark, size: (u32, u32)) -> (u32, u32) {
    let own = (mark.pixels.width, mark.pixels.height);
    if wanted.scale <= 0.0 {
        return own;
    }
    let side = |side: u32| (even(f64::from(side) * f64::from(wanted.scale)) as u32).max(1);
    let (width, height) = (side(size.0), side(size.1));
    scaled_size(own, &Resize { mode: Mode::Fit, width, height, enlarge: true, extend: false })
}

fn even(value: f64) -> i64 {
    value.round_ties_even() as i64
}

/// Pixels of an offset: a share of the output's side where it is below 1.
fn offset(side: u32, offset: f32) -> i64 {
    if offset.abs() < 1.0 { even(f64::from(side) * f64::from(offset)) } else { even(f64::from(offset)) }
}

/// Where it begins along an axis; it may stand over.
fn start(outer: u32, inner: u32, side: i8, by: f32) -> i64 {
    let (outer_side, outer, inner) = (outer, i64::from(outer), i64::from(inner));
    let by = offset(outer_side, by);
    match side {
        ..0 => by,
        0 => even((outer - inner + 1) as f64 / 2.0) + by,
        _ => outer - inner - by,
    }
}

/// Where each of a row of them begins, one in the middle, with gaps.
fn tiles(outer: u32, inner: u32, gap: f32) -> impl Iterator<Item = i64> + Clone {
    let gap = offset(outer, gap).max(0);
    let tile = i64::from(inner) + gap;
    let outer = i64::from(outer);
    // An odd number of them, of which the outer ones are cut off alike.
    let count = ((outer + tile - 1) / tile) | 1;
    let first = gap / 2 - (count * tile - outer) / 2;
    (0..count).map(move |at| first + at * tile)
}

fn is_grey(pixels: &Pixels) -> bool {
    match pixels.layout {
        Layout::Gray => true,
        Layout::Rgb => {
            pixels.samples.as_chunks::<3>().0.iter().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
        }
        Layout::Rgba => {
            pixels.samples.as_chunks::<4>().0.iter().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
        }
    }
}

fn resized(from: &Pixels, (width, height): (u32, u32), pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    let mut copy = pool.take(from.samples.len());
    copy.copy_from_slice(&from.samples);
    let copy = premultiplied(Picture::Pixels(Pixels { samples: copy, ..*from }))?;
    let mut samples = pool.take(width as usize * height as usize * from.layout.bytes());
    if let Picture::Pixels(copy) = &copy {
        let pixel = match from.layout {
            Layout::Gray => PixelType::U8,
            Layout::Rgb => PixelType::U8x3,
            Layout::Rgba => PixelType::U8x4,
        };
        let raster = Raster { samples: &copy.samples, width: copy.width, height: copy.height, pixel };
        let all = FloatBox { left: 0.0, top: 0.0, width: copy.width.into(), height: copy.height.into() };
        let mut target = Target { samples: &mut samples, width, height };
        resample(raster, all, &mut target, Window { left: 0, top: 0, width, height }, pool, watch)?;
    }
    copy.give(pool);
    match straight(Picture::Pixels(Pixels { width, height, layout: from.layout, samples }))? {
        Picture::Pixels(pixels) => Ok(pixels),
        Picture::Planes(_) => Err(unfit()),
    }
}

fn unfit() -> Fault {
    Fault::new(Kind::Io, "a watermark became planes. This is our mistake, please tell us.")
}

/// Mixes what lies on the output into it.
fn blend(onto: &mut Pixels, over: &Pixels, (left, top): (i64, i64), opacity: u64) {
    let (to_bytes, bytes) = (onto.layout.bytes(), over.layout.bytes());
    let skipped = (left.min(0).unsigned_abs() as usize, top.min(0).unsigned_abs() as usize);
    let start = (left.max(0) as usize, top.max(0) as usize);
    let (width, height) = (onto.width as usize, onto.height as usize);
    let columns = (over.width as usize).saturating_sub(skipped.0).min(width.saturating_sub(start.0));
    if columns == 0 {
        return;
    }
    let rows = onto.samples.chunks_exact_mut(width * to_bytes).take(height).skip(start.1);
    let from = over.samples.chunks_exact(over.width as usize * bytes).skip(skipped.1);
    for (to, from) in rows.zip(from) {
        let to = to[start.0 * to_bytes..].chunks_exact_mut(to_bytes).take(columns);
        for (to, from) in to.zip(from[skipped.0 * bytes..].chunks_exact(bytes)) {
            mix(to, from, opacity);
        }
    }
}

/// One pixel over another one (Porter and Duff 1984), neither premultiplied.
fn mix(to: &mut [u8], from: &[u8], opacity: u64) {
    let over = from.get(3).map_or(255, |&alpha| u64::from(alpha)) * opacity;
    if over == 0 {
        return;
    }
    let colours = to.len().min(3);
    let source = |channel: usize| u64::from(if from.len() < 3 { from[0] } else { from[channel] });
    // Shares of the result in 255ths of `FULL`, and how much there is then.
    let (over, under) = match to.get(3) {
        Some(&alpha) => (over * 255, (FULL - over) * u64::from(alpha)),
        None => (over * 255, (FULL - over) * 255),
    };
    let all = over + under;
    for (channel, sample) in to.iter_mut().take(colours).enumerate() {
        *sample = ((source(channel) * over + u64::from(*sample) * under + all / 2) / all) as u8;
    }
    if let Some(alpha) = to.get_mut(3) {
        *alpha = ((all + FULL / 2) / FULL) as u8;
    }
}

#[cfg(test)]
mod tests;
