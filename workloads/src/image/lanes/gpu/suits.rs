//! What the GPU lane takes: baseline JPEGs to JPEGs that can be made of their planes. Everything else has a reason, which
//! the job's document shows, and goes to the CPU lane.
//!
//! The hardware decoder does not tell when an image is cut off or spoilt: it fills in grey and says that all is well. So
//! the walk over the entropy-coded bytes here is no formality. It finds a missing end, and any marker where none may be;
//! what it cannot find is damage that happens to look like data, which the processor's decoder would notice more often.

use crate::image::fault::Fault;
use crate::image::format::Format;
use crate::image::header::Header;
use crate::image::pipeline::color::Source;
use crate::image::pipeline::pixels::Layout;
use crate::image::pipeline::plan::{Plan, plan, planar};
use crate::image::pipeline::{PROFILE_BYTES_MAX, jpeg};
use crate::image::recipe::Recipe;

/// Pixels of a side that a hardware decoder takes at most (nvJPEG documentation, "Hardware Acceleration").
const SIDE_MAX: u32 = 16_384;

/// The plans of a job that suits by its header and its recipes.
///
/// # Errors
/// Why it does not, in words that end "... is for the CPU".
pub fn plans(header: &Header, recipes: &[Recipe]) -> Result<Vec<Plan>, &'static str> {
    by_header(header)?;
    if recipes.iter().any(|recipe| recipe.thumbhash || recipe.blurhash.is_some()) {
        return Err("a ThumbHash or a BlurHash of an output");
    }
    if recipes.iter().any(|recipe| recipe.watermark.is_some()) {
        return Err("a watermark");
    }
    if recipes.iter().any(Recipe::is_cut_by_sight) {
        return Err("a cut-out that finds its own place (sm)");
    }
    let (plans, _) = plan(header, recipes).map_err(|_: Fault| "an output that will be refused")?;
    match plans.iter().all(|plan| planar(plan, &recipes[plan.index]).is_some()) {
        true => Ok(plans),
        false => Err("an output that is no JPEG, or whose colours or canvas change"),
    }
}

fn by_header(header: &Header) -> Result<(), &'static str> {
    if header.format != Format::Jpeg {
        return Err("a source that is no JPEG");
    }
    if header.coefficient_bytes > 0 {
        return Err("a progressive JPEG: no GPU decodes its entropy");
    }
    if !matches!(header.components, 1 | 3) || header.bits != 8 {
        return Err("a JPEG of four inks or more than 8 bits");
    }
    if header.width.max(header.height) > SIDE_MAX {
        return Err("an image that is larger than hardware decoders take");
    }
    Ok(())
}

/// Whether a JPEG is whole, in one scan, and in colours that need no profile.
///
/// # Errors
/// Why not.
pub fn bytes(input: &[u8], header: &Header) -> Result<(), &'static str> {
    const BROKEN: &str = "a JPEG whose segments are broken";
    if !input.starts_with(&[0xFF, 0xD8]) {
        return Err("no JPEG");
    }
    let mut at = 2;
    let (mut adobe, mut profile) = (false, false);
    let mut components = 0;
    loop {
        let rest = input.get(at..).ok_or(BROKEN)?;
        let &[0xFF, marker, ref rest @ ..] = rest else { return Err(BROKEN) };
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let &[high, low, ..] = rest else { return Err(BROKEN) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let body = rest.get(2..len).ok_or(BROKEN)?;
        match marker {
            0xC0 => {
                let ids = body.get(5).map(|&count| usize::from(count)).ok_or(BROKEN)?;
                components = ids;
                let id = |component: usize| body.get(6 + component * 3).copied();
                if ids == 3 && [id(0), id(1), id(2)] == [Some(b'R'), Some(b'G'), Some(b'B')] {
                    return Err("a JPEG that stores red, green and blue");
                }
            }
            0xC1..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => return Err("a JPEG that is not baseline"),
            0xE2 if body.starts_with(b"ICC_PROFILE\0") => profile = true,
            0xEE if body.starts_with(b"Adobe") => adobe = body.get(11) != Some(&1),
            0xDA if body.first().map(|&count| usize::from(count)) != Some(components) => {
                return Err("a JPEG in several scans");
            }
            0xDA if adobe && components == 3 => return Err("a JPEG that stores red, green and blue"),
            0xDA if profile && !is_srgb(input, header) => return Err("a JPEG in other colours than sRGB"),
            0xDA => return scan(rest.get(len..).ok_or(BROKEN)?),
            _ => {}
        }
        at += 2 + len;
    }
}

/// Whether a profile changes nothing that anybody sees, or is one that is ignored: what the CPU lane keeps in planes, too.
fn is_srgb(input: &[u8], header: &Header) -> bool {
    let layout = if header.components == 1 { Layout::Gray } else { Layout::Rgb };
    let profile = jpeg::profile(input, PROFILE_BYTES_MAX);
    profile.as_deref().and_then(Source::of_icc).and_then(|source| source.to_srgb(layout)).is_none()
}

/// Whether entropy-coded bytes go on to the end marker: in them a 0xFF is followed by zero, by a restart marker, or by
/// another one that fills (T.81 section B.1.1.2).
fn scan(mut rest: &[u8]) -> Result<(), &'static str> {
    const CUT: &str = "a JPEG that ends before its picture does";
    loop {
        let at = memchr::memchr(0xFF, rest).ok_or(CUT)?;
        match rest.get(at + 1).ok_or(CUT)? {
            0x00 | 0xD0..=0xD7 => rest = &rest[at + 2..],
            0xFF => rest = &rest[at + 1..],
            0xD9 => return Ok(()),
            _ => return Err("a JPEG with a marker in its picture"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::header::Orientation;
    use crate::image::recipe::{Components, Gravity, Mode, Resize};

    fn header() -> Header {
        Header {
            format: Format::Jpeg,
            width: 6000,
            height: 4000,
            components: 3,
            bits: 8,
            alpha: false,
            frames: 1,
            coefficient_bytes: 0,
            orientation: Orientation::Rotate90,
        }
    }

    fn thumbnail() -> Recipe {
        let mut recipe = Recipe::named("thumbnail");
        recipe.resize = Some(Resize { mode: Mode::Fit, width: 256, height: 256, enlarge: false, extend: false });
        recipe
    }

    #[test]
    fn what_suits_is_told_from_what_does_not() {
        assert_eq!(plans(&header(), &[thumbnail()]).unwrap().len(), 1);
        let refused = |header: Header, recipe: Recipe| plans(&header, &[recipe]).unwrap_err();
        assert!(refused(Header { coefficient_bytes: 3, ..header() }, thumbnail()).contains("progressive"));
        assert!(refused(Header { components: 4, ..header() }, thumbnail()).contains("inks"));
        assert!(refused(Header { format: Format::Png, ..header() }, thumbnail()).contains("no JPEG"));
        assert!(refused(Header { width: 20_000, ..header() }, thumbnail()).contains("larger"));
        let png = Recipe { format: Some(Format::Png), ..thumbnail() };
        assert!(refused(header(), png).contains("no JPEG"));
        assert!(refused(header(), Recipe { grayscale: true, ..thumbnail() }).contains("colours"));
        assert!(refused(header(), Recipe { thumbhash: true, ..thumbnail() }).contains("ThumbHash"));
        let read = |text| crate::image::options::parse("thumbnail", text).unwrap();
        assert!(refused(header(), read("rs:fit:256:256/wm:0.5")).contains("watermark"));
        let mut smart = Recipe { gravity: Gravity::Smart, ..thumbnail() };
        // Where nothing is cut off, nothing has to find its place.
        assert_eq!(plans(&header(), &[smart.clone()]).unwrap().len(), 1);
        smart.resize.as_mut().unwrap().mode = Mode::Fill;
        assert!(refused(header(), smart).contains("own place"));
        let blurhash = Some(Components::DEFAULT);
        assert!(refused(header(), Recipe { blurhash, ..thumbnail() }).contains("BlurHash"));
    }

    fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
        let mut segment = vec![0xFF, marker];
        segment.extend((body.len() as u16 + 2).to_be_bytes());
        segment.extend(body);
        segment
    }

    fn jpeg(before: &[Vec<u8>], frame: u8, ids: [u8; 3], data: &[u8]) -> Vec<u8> {
        let mut jpeg = vec![0xFF, 0xD8];
        before.iter().for_each(|segment| jpeg.extend(segment));
        let body = [8, 0, 16, 0, 16, 3, ids[0], 0x22, 0, ids[1], 0x11, 1, ids[2], 0x11, 1];
        jpeg.extend(segment(frame, &body));
        jpeg.extend(segment(0xDA, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]));
        jpeg.extend(data);
        jpeg
    }

    #[test]
    fn a_whole_baseline_jpeg_suits_and_nothing_less() {
        let ids = [1, 2, 3];
        let data = [1, 2, 0xFF, 0, 3, 0xFF, 0xD0, 4, 0xFF, 0xFF, 0xD9];
        let whole = jpeg(&[], 0xC0, ids, &data);
        assert_eq!(bytes(&whole, &header()), Ok(()));
        for len in 0..whole.len() {
            assert!(bytes(&whole[..len], &header()).is_err(), "{len}");
        }
        let adobe = |transform| segment(0xEE, &[b"Adobe\0d\0\0\0\0".as_slice(), &[transform]].concat());
        assert_eq!(bytes(&jpeg(&[adobe(1)], 0xC0, ids, &data), &header()), Ok(()));
        // One that cannot be read is ignored, as the CPU lane does.
        let broken = segment(0xE2, b"ICC_PROFILE\0\x01\x01profile");
        assert_eq!(bytes(&jpeg(&[broken], 0xC0, ids, &data), &header()), Ok(()));
        let wrong = [
            jpeg(&[adobe(0)], 0xC0, ids, &data),
            jpeg(&[], 0xC0, *b"RGB", &data),
            jpeg(&[], 0xC2, ids, &data),
            jpeg(&[], 0xC0, ids, &[1, 2, 0xFF, 0xC4, 0xFF, 0xD9]),
        ];
        let reasons: std::collections::BTreeSet<_> =
            wrong.iter().map(|jpeg| bytes(jpeg, &header()).unwrap_err()).collect();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
    }
}
