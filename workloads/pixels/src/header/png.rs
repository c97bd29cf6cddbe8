//! PNG (W3C PNG third edition section 5): the chunks before the pixels, and those behind when the whole file is there.

use super::bytes::{Head, Pause, bad, unsupported};
use super::{Header, Limits, Orientation};
use crate::format::Format;
use crate::pipeline::exif::Exif;

pub(super) fn read(head: Head<'_>, limits: &Limits) -> Result<Header, Pause> {
    if head.array(12)? == *b"CgBI" {
        return Err(unsupported(
            "this is a PNG as Xcode rewrites it for iPhones (CgBI), which is no standard PNG. Send the original.",
        ));
    }
    if head.be32(8)? != 13 || head.array(12)? != *b"IHDR" {
        return Err(bad("the png does not begin with its header chunk"));
    }
    let mut header = image_header(head)?;
    let (mut metadata, mut at) = (0, 33);
    let mut pixels_seen = false;
    loop {
        // Behind the pixels only orientation is of interest, and a missing end is for the decoder to judge.
        let (len, name) = match (head.be32(at), head.array::<4>(at + 4)) {
            (Ok(len), Ok(name)) => (u64::from(len), name),
            (Err(_), _) | (_, Err(_)) if pixels_seen => return Ok(header),
            (Err(pause), _) | (_, Err(pause)) => return Err(pause),
        };
        if len > i32::MAX as u64 {
            return Err(bad("the png has a chunk that claims to be longer than the format allows"));
        }
        match &name {
            b"IDAT" if !head.whole => return Ok(header),
            b"IDAT" => pixels_seen = true,
            b"IEND" if pixels_seen => return Ok(header),
            b"IEND" => return Err(bad("the png ends before its pixels")),
            b"tRNS" => header.alpha = true,
            b"acTL" => header.frames = head.be32(at + 8)?.max(1),
            b"iCCP" => limits.check_icc(len)?,
            b"PLTE" | b"fdAT" | b"fcTL" => {}
            _ => {
                metadata += len;
                limits.check_metadata(metadata)?;
                if &name == b"eXIf" && header.orientation == Orientation::Normal {
                    match head.slice(at + 8, len) {
                        Ok(exif) => header.orientation = Exif::read(exif).orientation,
                        Err(pause) if !pixels_seen => return Err(pause),
                        Err(_) => return Ok(header),
                    }
                }
            }
        }
        at += 12 + len;
    }
}

fn image_header(head: Head<'_>) -> Result<Header, Pause> {
    let (width, height) = (head.be32(16)?, head.be32(20)?);
    let [bits, color, compression, filter, interlace] = head.array(24)?;
    if width == 0 || height == 0 {
        return Err(bad(format!("the png says that it is {width}x{height} pixels large")));
    }
    let (components, alpha, allowed): (u8, bool, &[u8]) = match color {
        0 => (1, false, &[1, 2, 4, 8, 16]),
        2 => (3, false, &[8, 16]),
        3 => (3, false, &[1, 2, 4, 8]),
        4 => (1, true, &[8, 16]),
        6 => (3, true, &[8, 16]),
        _ => return Err(bad(format!("the png has colour type {color}, which does not exist"))),
    };
    if !allowed.contains(&bits) {
        return Err(bad(format!("the png has {bits} bits with colour type {color}, which the format does not allow")));
    }
    if compression != 0 || filter != 0 || interlace > 1 {
        return Err(bad("the png has a compression, filter or interlace method that does not exist"));
    }
    Ok(Header {
        format: Format::Png,
        width,
        height,
        components,
        bits,
        alpha,
        frames: 1,
        coefficient_bytes: 0,
        orientation: Orientation::Normal,
    })
}
