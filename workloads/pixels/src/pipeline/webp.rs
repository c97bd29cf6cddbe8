//! WebP in and out, by libwebp. Of an animation the first frame, on its canvas; [`animation`](super::animation) reads the others.

mod animator;

pub use animator::Animator;
use webp::{BitstreamFeatures, Decoder, Encoder};

use super::Watch;
use super::adjust::with_layout;
use super::color::Source;
use super::exif::Exif;
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::{Fault, Kind};
use crate::header::Header;

/// Pixels of either side: the format holds no more.
pub const SIDE_MAX: u32 = 16_383;
/// The quality when none is asked for.
pub const QUALITY: u8 = 80;

const ALPHA: u8 = 0x10;
const EXIF: u8 = 0x08;

/// Bytes at the peak of [`decode`], the result included: libwebp's own frame, and ours. A lossless picture is held once
/// more as 32-bit pixels.
pub fn decode_bytes(header: &Header) -> u64 {
    header.pixels() * 12 + (1 << 20)
}

/// Decodes to sRGB as it is stored, not turned.
///
/// # Errors
/// [`Kind::BadImage`], or what `watch` says.
pub fn decode(input: &[u8], header: &Header, pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    watch.check()?;
    let broken = || Fault::new(Kind::BadImage, "the webp cannot be decoded: its data are broken or cut off");
    let frame = first_frame(input).ok_or_else(broken)?;
    let bytes = frame.alone.as_deref().unwrap_or(input);
    let features = BitstreamFeatures::new(bytes).ok_or_else(broken)?;
    let (width, height) = (features.width(), features.height());
    let inside = |from: u32, len: u32, whole: u32| u64::from(from) + u64::from(len) <= u64::from(whole);
    let whole = frame.alone.is_none();
    if !inside(frame.left, width, header.width)
        || !inside(frame.top, height, header.height)
        || (whole && (width, height) != (header.width, header.height))
    {
        return Err(Fault::new(Kind::BadImage, "the webp's image is larger than what its header says"));
    }
    let mut pixels = still(bytes, (width, height), pool).ok_or_else(broken)?;
    watch.check()?;
    if (width, height) != (header.width, header.height) {
        pixels = on_canvas(pixels, &frame, header, pool);
    }
    if let Some(to_srgb) = profile(input).and_then(|source| source.to_srgb(pixels.layout)) {
        to_srgb.apply(&mut pixels, watch)?;
    }
    Ok(pixels)
}

/// A file that is one image of that size, in its own colours. `None`: it is broken.
pub(super) fn still(file: &[u8], (width, height): (u32, u32), pool: &mut Pool) -> Option<Pixels> {
    let image = Decoder::new(file).decode()?;
    let layout = if image.is_alpha() { Layout::Rgba } else { Layout::Rgb };
    let mut samples = pool.take(image.len());
    samples.copy_from_slice(&image);
    Some(Pixels { width, height, layout, samples })
}

/// What a file's colours mean, where it says so.
pub(super) fn profile(file: &[u8]) -> Option<Source> {
    chunks(file).find(|(name, _)| *name == b"ICCP").and_then(|(_, icc)| Source::of_icc(icc))
}

/// The chunks of a file that lie wholly in it.
pub(super) fn chunks(file: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = file.get(12..).unwrap_or(&[]);
    std::iter::from_fn(move || {
        let (name, behind) = rest.split_first_chunk::<4>()?;
        let (len, behind) = behind.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let payload = behind.get(..len)?;
        rest = behind.get(len + len % 2..).unwrap_or(&[]);
        Some((name, payload))
    })
}

/// A frame of an animation, with its image as a file of its own.
pub(super) struct Placed {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// How long it is shown, in milliseconds.
    pub(super) ms: u32,
    /// It is laid over what is there, instead of taking its place.
    pub(super) blends: bool,
    /// Where it was there is nothing, once the next one comes.
    pub(super) clears: bool,
    pub(super) alone: Vec<u8>,
}

impl Placed {
    /// Of what an `ANMF` chunk holds (RFC 9649 section 2.7.1.1): place and size in 24 bits each, duration, flags, then the
    /// frame's own chunks.
    pub(super) fn of(payload: &[u8]) -> Option<Placed> {
        let (head, inner) = payload.split_at_checked(16)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]);
        let (left, top) = (number(0).checked_mul(2)?, number(3).checked_mul(2)?);
        let (width, height) = (number(6) + 1, number(9) + 1);
        let has_alpha = inner.starts_with(b"ALPH");
        let extended = extended_header(if has_alpha { ALPHA } else { 0 }, width, height);
        let alone = if has_alpha { riff(&[&extended, inner]) } else { riff(&[inner]) };
        let (blends, clears) = (head[15] & 2 == 0, head[15] & 1 != 0);
        Some(Placed { left, top, width, height, ms: number(12), blends, clears, alone })
    }
}

/// A still image, or the first of an animation as a file of its own.
struct Frame {
    left: u32,
    top: u32,
    alone: Option<Vec<u8>>,
}

fn first_frame(file: &[u8]) -> Option<Frame> {
    let Some((_, animated)) = chunks(file).find(|(name, _)| *name == b"ANMF") else {
        return Some(Frame { left: 0, top: 0, alone: None });
    };
    let Placed { left, top, alone, .. } = Placed::of(animated)?;
    Some(Frame { left, top, alone: Some(alone) })
}

fn extended_header(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"VP8X\x0A\0\0\0".to_vec();
    chunk.extend_from_slice(&[flags, 0, 0, 0]);
    chunk.extend_from_slice(&(width - 1).to_le_bytes()[..3]);
    chunk.extend_from_slice(&(height - 1).to_le_bytes()[..3]);
    chunk
}

fn riff(parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(len as u32).to_le_bytes());
    file.extend_from_slice(b"WEBP");
    parts.iter().for_each(|part| file.extend_from_slice(part));
    file
}

/// Appends a chunk, padded to whole words.
fn push_chunk(out: &mut Vec<u8>, name: &[u8; 4], payload: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
    if payload.len() % 2 == 1 {
        out.push(0);
    }
}

/// A frame that is smaller than the animation, with nothing around it.
fn on_canvas(pixels: Pixels, frame: &Frame, header: &Header, pool: &mut Pool) -> Pixels {
    let pixels = with_layout(pixels, Layout::Rgba, pool);
    let (width, height) = (header.width as usize, header.height as usize);
    let mut canvas = pool.take(width * height * 4);
    canvas.fill(0);
    let row = pixels.width as usize * 4;
    let rows = canvas.chunks_exact_mut(width * 4).skip(frame.top as usize);
    for (to, from) in rows.zip(pixels.samples.chunks_exact(row)) {
        to[frame.left as usize * 4..][..row].copy_from_slice(from);
    }
    pool.give(pixels.samples);
    Pixels { width: header.width, height: header.height, layout: Layout::Rgba, samples: canvas }
}

/// Encodes, lossy. `rights` is a small EXIF of [`Exif::rights`].
///
/// # Errors
/// [`Kind::BadRequest`]: it is larger than [`SIDE_MAX`]. [`Kind::Memory`]: libwebp failed, which it does without memory.
pub fn encode(pixels: &Pixels, quality: Option<u8>, rights: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    let (width, height) = (pixels.width, pixels.height);
    super::check_sides("a WebP", (width, height), SIDE_MAX)?;
    let grey: Vec<u8>;
    let encoder = match pixels.layout {
        Layout::Gray => {
            grey = pixels.samples.iter().flat_map(|&sample| [sample; 3]).collect();
            Encoder::from_rgb(&grey, width, height)
        }
        Layout::Rgb => Encoder::from_rgb(&pixels.samples, width, height),
        Layout::Rgba => Encoder::from_rgba(&pixels.samples, width, height),
    };
    let encoded = encoder
        .encode_simple(false, quality.unwrap_or(QUALITY).into())
        .map_err(|error| Fault::new(Kind::Memory, format!("the webp encoder failed: {error:?}")))?;
    match rights {
        Some(rights) => Ok(with_exif(&encoded, width, height, rights)),
        None => Ok(encoded.to_vec()),
    }
}

/// The same image in the extended format, with an `EXIF` chunk behind it.
fn with_exif(encoded: &[u8], width: u32, height: u32, rights: &[u8]) -> Vec<u8> {
    let flags = chunks(encoded).find(|(name, _)| *name == b"VP8X").map_or(0, |(_, payload)| payload[0]) | EXIF;
    let has_alpha = BitstreamFeatures::new(encoded).is_some_and(|features| features.has_alpha());
    let header = extended_header(flags | if has_alpha { ALPHA } else { 0 }, width, height);
    let mut body = Vec::new();
    for (name, payload) in chunks(encoded).filter(|(name, _)| *name != b"VP8X").chain([(b"EXIF", rights)]) {
        push_chunk(&mut body, name, payload);
    }
    riff(&[&header, &body])
}

/// Whose image it is.
pub fn exif(input: &[u8]) -> Exif {
    chunks(input).find(|(name, _)| *name == b"EXIF").map(|(_, tiff)| Exif::read(tiff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trial::{Never, checked, header, small_header};

    fn decoded(file: &[u8]) -> Result<Pixels, Fault> {
        let header = small_header(file)?;
        Ok(checked(decode(file, &header, &mut Pool::new(1 << 24), &Never)?))
    }

    fn smooth(width: u32, height: u32, layout: Layout) -> Pixels {
        let mut samples = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let color = [x * 255 / width, y * 255 / height, 128, 255 - x * 200 / width].map(|sample| sample as u8);
                samples.extend_from_slice(match layout {
                    Layout::Gray => &color[..1],
                    Layout::Rgb => &color[..3],
                    Layout::Rgba => &color,
                });
            }
        }
        Pixels { width, height, layout, samples }
    }

    fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
    }

    #[test]
    fn what_is_written_is_read_again() {
        for layout in [Layout::Rgb, Layout::Rgba] {
            let pixels = smooth(60, 45, layout);
            let made = decoded(&encode(&pixels, Some(90), None).unwrap()).unwrap();
            assert_eq!(made.layout, layout);
            assert!(mean_difference(&made.samples, &pixels.samples) < 3.0);
        }
        let made = decoded(&encode(&smooth(60, 45, Layout::Gray), None, None).unwrap()).unwrap();
        assert_eq!(made.layout, Layout::Rgb);
        let small = encode(&smooth(60, 45, Layout::Rgb), Some(10), None).unwrap();
        assert!(small.len() < encode(&smooth(60, 45, Layout::Rgb), Some(100), None).unwrap().len());
    }

    #[test]
    fn rights_are_kept_in_the_extended_format() {
        let exif = Exif { copyright: Some(b"(c) Somebody".to_vec()), ..Exif::default() };
        for layout in [Layout::Rgb, Layout::Rgba] {
            let pixels = smooth(31, 17, layout);
            let plain = encode(&pixels, None, None).unwrap();
            let file = encode(&pixels, None, exif.rights().as_deref()).unwrap();
            assert_eq!(super::exif(&file), exif);
            assert_eq!(super::exif(&plain), Exif::default());
            assert_eq!(header(&file).unwrap().alpha, layout == Layout::Rgba);
            assert_eq!(decoded(&file).unwrap(), decoded(&plain).unwrap());
        }
    }

    /// An animation of the given frames, each with its place.
    fn animation(width: u32, height: u32, frames: &[(u32, u32, Pixels)]) -> Vec<u8> {
        let mut body = b"ANIM\x06\0\0\0\0\0\0\0\0\0".to_vec();
        for (left, top, pixels) in frames {
            let still = encode(pixels, Some(90), None).unwrap();
            let inner: Vec<u8> = chunks(&still)
                .filter(|(name, _)| *name != b"VP8X")
                .flat_map(|(name, payload)| {
                    let len = (payload.len() as u32).to_le_bytes();
                    let pad = vec![0; payload.len() % 2];
                    [&name[..], &len[..], payload, &pad[..]].concat()
                })
                .collect();
            let place = [left / 2, top / 2, pixels.width - 1, pixels.height - 1, 100];
            let mut head: Vec<u8> = place.iter().flat_map(|number| number.to_le_bytes()[..3].to_vec()).collect();
            head.push(0);
            body.extend_from_slice(b"ANMF");
            body.extend_from_slice(&((head.len() + inner.len()) as u32).to_le_bytes());
            body.extend(head);
            body.extend(inner);
        }
        riff(&[&extended_header(0x12, width, height), &body])
    }

    #[test]
    fn the_first_frame_of_an_animation_lies_on_its_canvas() {
        let second = Pixels { samples: vec![0; 32 * 32 * 3], ..smooth(32, 32, Layout::Rgb) };
        let whole = smooth(32, 32, Layout::Rgb);
        let made = decoded(&animation(32, 32, &[(0, 0, whole.clone()), (0, 0, second)])).unwrap();
        assert!(mean_difference(&made.samples, &whole.samples) < 4.0);

        let made = decoded(&animation(40, 50, &[(8, 18, smooth(32, 32, Layout::Rgba))])).unwrap();
        assert_eq!((made.width, made.height, made.layout), (40, 50, Layout::Rgba));
        let alpha = |x: usize, y: usize| made.samples[(y * 40 + x) * 4 + 3];
        assert_eq!((alpha(0, 0), alpha(7, 18), alpha(8, 17)), (0, 0, 0));
        assert!(alpha(8, 18) > 240);
        // A frame that leaves its canvas is no frame.
        let liar = animation(40, 50, &[(10, 18, smooth(32, 32, Layout::Rgba))]);
        assert_eq!(decoded(&liar).unwrap_err().kind, Kind::BadImage);
    }

    #[test]
    fn a_profile_is_applied() {
        let p3 = moxcms::ColorProfile::new_display_p3().encode().unwrap();
        let pixels = Pixels { width: 16, height: 16, layout: Layout::Rgb, samples: [128, 102, 77].repeat(256) };
        let encoded = encode(&pixels, Some(100), None).unwrap();
        let mut body = b"ICCP".to_vec();
        body.extend_from_slice(&(p3.len() as u32).to_le_bytes());
        body.extend_from_slice(&p3);
        body.resize(body.len().next_multiple_of(2), 0);
        let file = riff(&[&extended_header(0x20, 16, 16), &body, &encoded[12..]]);
        let made = decoded(&file).unwrap().samples;
        assert!(made[..3].iter().zip([131, 101, 74]).all(|(made, expected)| made.abs_diff(expected) <= 3), "{made:?}");
    }

    #[test]
    fn what_the_format_cannot_hold_is_said() {
        let long = Pixels { width: 16_384, height: 1, layout: Layout::Gray, samples: vec![0; 16_384] };
        let fault = encode(&long, None, None).unwrap_err();
        assert!(fault.detail.contains("16383"), "{fault}");
    }

    #[test]
    fn ten_thousand_mutated_files_do_no_harm() {
        let exif = Exif { copyright: Some(b"(c)".to_vec()), ..Exif::default() };
        let lossless = Encoder::from_rgba(&smooth(20, 20, Layout::Rgba).samples, 20, 20).encode_lossless().to_vec();
        let kinds = [
            encode(&smooth(20, 20, Layout::Rgb), None, None).unwrap(),
            encode(&smooth(20, 20, Layout::Rgba), None, exif.rights().as_deref()).unwrap(),
            animation(24, 24, &[(2, 2, smooth(20, 20, Layout::Rgba))]),
            lossless,
        ];
        let (made, refused) = super::super::mutation::run(&kinds, 10_000, |file| decoded(file).map(drop));
        assert!(made > 0 && refused > 500, "{made} made, {refused} refused");
    }
}
