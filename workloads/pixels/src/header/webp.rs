//! WebP (RFC 9649): the first chunk, which is the image itself or a header of what follows; frames and EXIF, which come
//! last, when the whole file is there.

use super::bytes::{Head, Pause, bad};
use super::{Header, Limits, Orientation};
use crate::format::Format;
use crate::pipeline::exif::Exif;

const ALPHA: u8 = 0x10;
const ANIMATION: u8 = 0x02;

pub(super) fn read(head: Head<'_>, limits: &Limits) -> Result<Header, Pause> {
    let still = |width, height, alpha| Header {
        format: Format::Webp,
        width,
        height,
        components: 3,
        bits: 8,
        alpha,
        frames: 1,
        coefficient_bytes: 0,
        orientation: Orientation::Normal,
    };
    match &head.array::<4>(12)? {
        b"VP8 " => lossy(head, 20).map(|(width, height)| still(width, height, false)),
        b"VP8L" => lossless(head, 20).map(|(width, height, alpha)| still(width, height, alpha)),
        b"VP8X" => {
            let flags = head.u8(20)?;
            let (width, height) = (head.le24(24)? + 1, head.le24(27)? + 1);
            let header = still(width, height, flags & ALPHA != 0);
            extended(head, header, flags & ANIMATION != 0, limits)
        }
        _ => Err(bad("the webp does not begin with an image")),
    }
}

/// A lossy key frame's header (RFC 6386 section 9.1).
fn lossy(head: Head<'_>, at: u64) -> Result<(u32, u32), Pause> {
    let is_key_frame = head.u8(at)? & 1 == 0;
    if !is_key_frame || head.array(at + 3)? != [0x9D, 0x01, 0x2A] {
        return Err(bad("the webp's image does not begin with a key frame"));
    }
    let (width, height) = (head.le16(at + 6)? & 0x3FFF, head.le16(at + 8)? & 0x3FFF);
    if width == 0 || height == 0 {
        return Err(bad(format!("the webp says that it is {width}x{height} pixels large")));
    }
    Ok((width.into(), height.into()))
}

/// A lossless image's header (RFC 9649 section 3.4).
fn lossless(head: Head<'_>, at: u64) -> Result<(u32, u32, bool), Pause> {
    let bits = head.le32(at + 1)?;
    if head.u8(at)? != 0x2F || bits >> 29 != 0 {
        return Err(bad("the webp's lossless image does not begin as one"));
    }
    Ok(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1 == 1))
}

/// The chunks of the extended format. What lies behind the pixels is looked at only in a whole file.
fn extended(head: Head<'_>, mut header: Header, animated: bool, limits: &Limits) -> Result<Header, Pause> {
    let (mut at, mut metadata, mut frames) = (30, 0, 0);
    loop {
        let (name, len) = match (head.array::<4>(at), head.le32(at + 4)) {
            (Ok(name), Ok(len)) => (name, u64::from(len)),
            (Err(_), _) | (_, Err(_)) if frames > 0 && head.whole => break,
            (Err(pause), _) | (_, Err(pause)) => return Err(pause),
        };
        match &name {
            b"VP8 " | b"VP8L" if !animated => {
                let (width, height, alpha) = match &name {
                    b"VP8 " => lossy(head, at + 8).map(|(width, height)| (width, height, false))?,
                    _ => lossless(head, at + 8)?,
                };
                if (width, height) != (header.width, header.height) {
                    return Err(bad(format!(
                        "the webp says that it is {}x{} pixels large and holds an image of {width}x{height}",
                        header.width, header.height
                    )));
                }
                header.alpha |= alpha;
                frames = 1;
            }
            b"ANMF" if animated => frames += 1,
            b"ICCP" => limits.check_icc(len)?,
            b"ALPH" => header.alpha = true,
            b"ANIM" => {}
            _ => {
                metadata += len;
                limits.check_metadata(metadata)?;
                if &name == b"EXIF" {
                    match head.slice(at + 8, len) {
                        Ok(exif) => header.orientation = Exif::read(exif).orientation,
                        Err(pause) if frames == 0 => return Err(pause),
                        Err(_) => break,
                    }
                }
            }
        }
        if frames > 0 && !head.whole {
            break;
        }
        at += 8 + len + len % 2;
    }
    header.frames = frames;
    Ok(header)
}
