//! GIF89a: the screen, the blocks before the first frame, and all frames counted when the whole file is there.

use super::bytes::{Head, Pause, bad};
use super::{Header, Limits, Orientation};
use crate::format::Format;

const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2C;
const TRAILER: u8 = 0x3B;
const GRAPHIC_CONTROL: u8 = 0xF9;

pub(super) fn read(head: Head<'_>, limits: &Limits) -> Result<Header, Pause> {
    let (width, height, flags) = (head.le16(6)?, head.le16(8)?, head.u8(10)?);
    let mut header = Header {
        format: Format::Gif,
        width: width.into(),
        height: height.into(),
        components: 3,
        bits: 8,
        alpha: false,
        frames: 0,
        coefficient_bytes: 0,
        orientation: Orientation::Normal,
    };
    let mut at = 13 + color_table_bytes(flags);
    let mut metadata = 0;
    loop {
        let block = match head.u8(at) {
            // A file that ends without a trailer is for the decoder to judge.
            Err(_) if header.frames > 0 && head.whole => return Ok(header),
            block => block?,
        };
        match block {
            EXTENSION if head.u8(at + 1)? == GRAPHIC_CONTROL && header.frames == 0 => {
                header.alpha |= head.u8(at + 3)? & 1 == 1;
                at = skip_sub_blocks(head, at + 2)?;
            }
            EXTENSION => {
                let end = match skip_sub_blocks(head, at + 2) {
                    Err(Pause::More(_)) if header.frames > 0 && head.whole => return Ok(header),
                    end => end?,
                };
                metadata += end - at;
                limits.check_metadata(metadata)?;
                at = end;
            }
            IMAGE => {
                if header.frames == 0 {
                    first_frame(head, at, &mut header)?;
                }
                header.frames += 1;
                if !head.whole {
                    return Ok(header);
                }
                let data = match head.u8(at + 9) {
                    Err(_) => return Ok(header),
                    flags => at + 10 + color_table_bytes(flags?) + 1,
                };
                at = match skip_sub_blocks(head, data) {
                    Err(Pause::More(_)) => return Ok(header),
                    end => end?,
                };
            }
            TRAILER if header.frames == 0 => return Err(bad("the gif has no frame")),
            TRAILER => return Ok(header),
            _ if header.frames > 0 => return Ok(header),
            _ => return Err(bad(format!("the gif has a block of kind {block:02X} before its first frame"))),
        }
    }
}

/// The screen is as large as the first frame where it claims to be nothing, and transparent where the frame does not reach.
fn first_frame(head: Head<'_>, at: u64, header: &mut Header) -> Result<(), Pause> {
    let [left, top, width, height] =
        [head.le16(at + 1)?, head.le16(at + 3)?, head.le16(at + 5)?, head.le16(at + 7)?].map(u32::from);
    if width == 0 || height == 0 {
        return Err(bad(format!("the gif's first frame says that it is {width}x{height} pixels large")));
    }
    if header.width == 0 || header.height == 0 {
        (header.width, header.height) = (left + width, top + height);
    }
    let covers = left == 0 && top == 0 && width >= header.width && height >= header.height;
    header.alpha |= !covers;
    Ok(())
}

fn color_table_bytes(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Where a chain of sub-blocks that begins at `at` ends.
fn skip_sub_blocks(head: Head<'_>, mut at: u64) -> Result<u64, Pause> {
    loop {
        let len = u64::from(head.u8(at)?);
        at += 1 + len;
        if len == 0 {
            return Ok(at);
        }
    }
}
