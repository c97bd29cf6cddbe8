//! GIF in: the first frame on its screen; [`animation`](super::animation) reads the others.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, MemoryLimit};

use super::Watch;
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::{Fault, Kind};
use crate::header::Header;

/// Bytes at the peak of [`decode`], the result included: the screen, and a frame that may be a part of it.
pub fn decode_bytes(header: &Header) -> u64 {
    header.pixels() * 8 + (1 << 20)
}

/// Decodes the first frame to sRGB. What it does not cover is transparent.
///
/// # Errors
/// [`Kind::BadImage`], or what `watch` says.
pub fn decode(input: &[u8], header: &Header, pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    watch.check()?;
    let (mut decoder, bytes_max) = decoder(input, header)?;
    let Some(frame) = decoder.next_frame_info().map_err(broken)? else {
        return Err(Fault::new(Kind::BadImage, "the gif has no frame"));
    };
    let [left, top, frame_width, frame_height] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let (width, height) = (header.width as usize, header.height as usize);
    let frame_bytes = frame_width * frame_height * 4;
    if frame_bytes > bytes_max {
        return Err(Fault::new(
            Kind::BadImage,
            format!("the gif's first frame, {frame_width}x{frame_height}, is larger than its screen, {width}x{height}"),
        ));
    }
    let mut stored = pool.take(frame_bytes);
    if let Err(error) = decoder.read_into_buffer(&mut stored) {
        pool.give(stored);
        return Err(broken(error));
    }
    watch.check()?;
    let samples = if (left, top, frame_width, frame_height) == (0, 0, width, height) {
        stored
    } else {
        let mut screen = pool.take(width * height * 4);
        screen.fill(0);
        let visible = frame_width.min(width.saturating_sub(left)) * 4;
        let rows = screen.chunks_exact_mut(width * 4).skip(top);
        for (to, from) in rows.zip(stored.chunks_exact(frame_width * 4)).filter(|_| visible > 0) {
            to[left * 4..][..visible].copy_from_slice(&from[..visible]);
        }
        pool.give(stored);
        screen
    };
    let mut pixels = Pixels { width: header.width, height: header.height, layout: Layout::Rgba, samples };
    super::adjust::drop_opaque_alpha(&mut pixels);
    Ok(pixels)
}

/// Reads a GIF that is all in memory.
pub(super) type InMemory<'i> = Decoder<Cursor<&'i [u8]>>;

/// A decoder, and the bytes that a frame may have.
pub(super) fn decoder<'i>(input: &'i [u8], header: &Header) -> Result<(InMemory<'i>, usize), Fault> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    // A frame is at most as large as its screen; a larger one is cut off by those who show it, and refused here.
    let bytes_max = NonZeroU64::new(header.pixels() * 4 + (1 << 16)).unwrap_or(NonZeroU64::MIN);
    options.set_memory_limit(MemoryLimit::Bytes(bytes_max));
    let decoder = options.read_info(Cursor::new(input)).map_err(broken)?;
    Ok((decoder, usize::try_from(bytes_max.get()).unwrap_or(usize::MAX)))
}

pub(super) fn broken(error: DecodingError) -> Fault {
    Fault::new(Kind::BadImage, format!("the gif cannot be decoded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trial::{Never, checked, small_header};
    use gif::{Encoder, Frame};

    fn decoded(file: &[u8]) -> Result<Pixels, Fault> {
        let header = small_header(file)?;
        Ok(checked(decode(file, &header, &mut Pool::new(1 << 24), &Never)?))
    }

    const PALETTE: &[u8] = &[255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9];

    fn file(screen: (u16, u16), frames: &[Frame<'static>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, screen.0, screen.1, PALETTE).unwrap();
        frames.iter().for_each(|frame| encoder.write_frame(frame).unwrap());
        drop(encoder);
        bytes
    }

    fn frame(left: u16, top: u16, width: u16, height: u16, transparent: Option<u8>) -> Frame<'static> {
        let indexes: Vec<u8> = (0..width * height).map(|at| (at % 3) as u8).collect();
        Frame { left, top, width, height, transparent, buffer: indexes.into(), ..Frame::default() }
    }

    #[test]
    fn the_first_frame_of_several() {
        let other = Frame { buffer: vec![3; 4].into(), ..frame(0, 0, 2, 2, None) };
        let made = decoded(&file((2, 2), &[frame(0, 0, 2, 2, None), other])).unwrap();
        assert_eq!((made.layout, &made.samples[..]), (Layout::Rgb, &[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 0, 0][..]));
    }

    #[test]
    fn transparency_and_what_is_not_covered() {
        let made = decoded(&file((2, 1), &[frame(0, 0, 2, 1, Some(1))])).unwrap();
        assert_eq!((made.layout, made.samples[3], made.samples[7]), (Layout::Rgba, 255, 0));
        let made = decoded(&file((3, 3), &[frame(1, 1, 2, 1, None)])).unwrap();
        let alphas: Vec<u8> = made.samples.chunks(4).map(|pixel| pixel[3]).collect();
        assert_eq!(alphas, [0, 0, 0, 0, 255, 255, 0, 0, 0]);
        // A frame that stands over its screen is cut off.
        let made = decoded(&file((2, 2), &[frame(1, 1, 3, 1, None)])).unwrap();
        assert_eq!(&made.samples[12..], [255, 0, 0, 255]);
    }

    #[test]
    fn a_frame_larger_than_its_screen_takes_no_memory() {
        let mut bytes = file((2, 2), &[frame(0, 0, 2, 2, None)]);
        let image = bytes.iter().rposition(|&byte| byte == 0x2C).unwrap();
        bytes[image + 5..image + 9].copy_from_slice(&[0xFF, 0x7F, 0xFF, 0x7F]);
        assert_eq!(decoded(&bytes).unwrap_err().kind, Kind::BadImage);
    }

    #[test]
    fn ten_thousand_mutated_files_do_no_harm() {
        let kinds = [
            file((20, 20), &[frame(0, 0, 20, 20, None)]),
            file((20, 20), &[Frame { interlaced: true, ..frame(3, 4, 10, 10, Some(2)) }, frame(0, 0, 9, 9, None)]),
        ];
        let (made, refused) = super::super::mutation::run(&kinds, 10_000, |file| decoded(file).map(drop));
        assert!(made > 0 && refused > 500, "{made} made, {refused} refused");
    }
}
