//! Reading and writing PNG: every kind of pixel, interlaced too, colour chunks, and what is broken.

use super::*;
use crate::header::{Limits, Progress, read};
use crate::pipeline::trial::{Never, checked, header};

fn decoded(file: &[u8]) -> Result<Pixels, Fault> {
    let header = header(file)?;
    let pixels = checked(decode(file, &header, &mut Pool::new(1 << 24), &Never)?);
    assert!(decode_bytes(&header) >= pixels.samples.len() as u64);
    Ok(pixels)
}

/// A picture of samples that are stored as they are given: rows of packed bytes.
fn stored(width: u32, height: u32, color: ColorType, depth: BitDepth, rows: &[u8]) -> Vec<u8> {
    with(width, height, color, depth, rows, |_| {})
}

fn with(
    width: u32,
    height: u32,
    color: ColorType,
    depth: BitDepth,
    rows: &[u8],
    set: impl FnOnce(&mut png::Encoder<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    set(&mut encoder);
    encoder.write_header().unwrap().write_image_data(rows).unwrap();
    file
}

/// Every depth of every colour type that the format has, as the public test suite of PNG tries them.
#[test]
fn every_colour_type_and_depth() {
    // One row of a ramp in each depth, packed.
    for (depth, rows, expected) in [
        (BitDepth::One, &[0b0101_0000][..], [0, 255, 0, 255]),
        (BitDepth::Two, &[0b0001_1011][..], [0, 85, 170, 255]),
        (BitDepth::Four, &[0x05, 0xAF][..], [0, 85, 170, 255]),
        (BitDepth::Eight, &[0, 85, 170, 255][..], [0, 85, 170, 255]),
        (BitDepth::Sixteen, &[0, 0, 85, 85, 170, 170, 255, 255][..], [0, 85, 170, 255]),
    ] {
        let made = decoded(&stored(4, 1, ColorType::Grayscale, depth, rows)).unwrap();
        assert_eq!((made.layout, &made.samples[..]), (Layout::Gray, &expected[..]), "{depth:?}");
        if depth != BitDepth::Sixteen {
            let palette: Vec<u8> = (0..=255u8).flat_map(|at| [at, 255 - at, 7]).collect();
            let entries = 3 << (depth as u32).min(8);
            let file =
                with(4, 1, ColorType::Indexed, depth, rows, |encoder| encoder.set_palette(palette[..entries].to_vec()));
            let made = decoded(&file).unwrap();
            let index = |at: usize| u32::from(expected[at]) * ((1 << depth as u32) - 1) / 255;
            let seen: Vec<u32> = made.samples.chunks(3).map(|rgb| rgb[0].into()).collect();
            assert_eq!(seen, (0..4).map(index).collect::<Vec<u32>>(), "{depth:?}");
            let file = with(4, 1, ColorType::Indexed, depth, rows, |encoder| {
                encoder.set_palette(palette[..entries].to_vec());
                encoder.set_trns(vec![9u8]);
            });
            let made = decoded(&file).unwrap();
            assert_eq!((made.layout, &made.samples[..4]), (Layout::Rgba, &[0, 255, 7, 9][..]));
        }
    }
    let made = decoded(&stored(1, 1, ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 9])).unwrap();
    assert_eq!((made.layout, &made.samples[..]), (Layout::Rgba, &[7, 7, 7, 9][..]));
    let made = decoded(&stored(1, 1, ColorType::GrayscaleAlpha, BitDepth::Sixteen, &[7, 7, 9, 9])).unwrap();
    assert_eq!(made.samples, [7, 7, 7, 9]);
    let made = decoded(&stored(1, 1, ColorType::Rgb, BitDepth::Sixteen, &[1, 1, 2, 2, 3, 3])).unwrap();
    assert_eq!((made.layout, &made.samples[..]), (Layout::Rgb, &[1, 2, 3][..]));
    let made = decoded(&stored(1, 1, ColorType::Rgba, BitDepth::Sixteen, &[1, 1, 2, 2, 3, 3, 4, 4])).unwrap();
    assert_eq!(made.samples, [1, 2, 3, 4]);
    let file = with(2, 1, ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6], |encoder| {
        encoder.set_trns(vec![0u8, 1, 0, 2, 0, 3]);
    });
    assert_eq!(decoded(&file).unwrap().samples, [1, 2, 3, 0, 4, 5, 6, 255]);
}

/// The encoder of the tests writes no interlacing, so the passes are laid out here (PNG section 8).
fn interlaced(width: u32, height: u32, sample: impl Fn(u32, u32) -> u16) -> Vec<u8> {
    const PASSES: [[u32; 4]; 7] =
        [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
    let mut rows = Vec::new();
    for [left, top, right, down] in PASSES {
        for y in (top..height).step_by(down as usize) {
            let row: Vec<u8> = (left..width).step_by(right as usize).flat_map(|x| sample(x, y).to_be_bytes()).collect();
            if !row.is_empty() {
                rows.push(0);
                rows.extend(row);
            }
        }
    }
    // Deflated without compression: one stored block (RFC 1951 section 3.2.4) with its checksum (RFC 1950).
    let (low, high) = rows.iter().fold((1u32, 0u32), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    let len = u16::try_from(rows.len()).unwrap();
    let adler = (high << 16 | low).to_be_bytes();
    let deflated = [&[0x78, 1, 1], &len.to_le_bytes()[..], &(!len).to_le_bytes(), &rows, &adler].concat();
    let chunk = |name: &[u8; 4], payload: &[u8]| {
        let crc = [&name[..], payload].concat().iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
        });
        [&(payload.len() as u32).to_be_bytes()[..], name, payload, &(!crc).to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 0, 0, 0, 1]].concat();
    let body = [chunk(b"IHDR", &header), chunk(b"IDAT", &deflated), chunk(b"IEND", &[])];
    [b"\x89PNG\r\n\x1A\n".to_vec(), body.concat()].concat()
}

#[test]
fn interlaced_pictures_are_put_together() {
    for (width, height) in [(1, 1), (3, 2), (9, 17), (40, 33)] {
        let made = decoded(&interlaced(width, height, |x, y| ((x * 5 + y * 7) % 256) as u16 * 257)).unwrap();
        let expected: Vec<u8> =
            (0..height).flat_map(|y| (0..width).map(move |x| ((x * 5 + y * 7) % 256) as u8)).collect();
        assert_eq!(made.samples, expected, "{width}x{height}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    for layout in [Layout::Gray, Layout::Rgb, Layout::Rgba] {
        let samples = (0..50 * 40 * layout.bytes()).map(|at| (at * at % 253) as u8).collect();
        let pixels = Pixels { width: 50, height: 40, layout, samples };
        let exif = Exif { copyright: Some(b"(c) Somebody".to_vec()), ..Exif::default() };
        let file = encode(&pixels, exif.rights().as_deref()).unwrap();
        assert_eq!(decoded(&file).unwrap(), pixels);
        assert_eq!(super::exif(&file), exif);
        assert_eq!(super::exif(&encode(&pixels, None).unwrap()), Exif::default());
    }
}

#[test]
fn colours_are_brought_to_srgb() {
    // Linear light, in 16 and in 8 bits; and nothing where sRGB is said as well.
    let gamma = |depth, rows: &[u8]| {
        let file =
            with(1, 1, ColorType::Rgb, depth, rows, |encoder| encoder.set_source_gamma(png::ScaledFloat::new(1.0)));
        decoded(&file).unwrap().samples
    };
    assert!(gamma(BitDepth::Eight, &[55, 55, 55]).iter().all(|sample| sample.abs_diff(128) <= 2));
    assert!(gamma(BitDepth::Sixteen, &[55, 0, 55, 0, 55, 0]).iter().all(|sample| sample.abs_diff(128) <= 2));
    let file = with(1, 1, ColorType::Rgb, BitDepth::Eight, &[55, 55, 55], |encoder| {
        encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    });
    assert_eq!(decoded(&file).unwrap().samples, [55, 55, 55]);
}

#[test]
fn a_profile_is_applied_and_a_broken_one_ignored() {
    let p3 = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    for (profile, expected) in [(p3.clone(), [131, 101, 74]), (p3[..300].to_vec(), [128, 102, 77])] {
        let mut info = Info::with_size(1, 1);
        info.color_type = ColorType::Rgb;
        info.icc_profile = Some(profile.into());
        let mut file = Vec::new();
        let encoder = png::Encoder::with_info(&mut file, info).unwrap();
        encoder.write_header().unwrap().write_image_data(&[128, 102, 77]).unwrap();
        let made = decoded(&file).unwrap().samples;
        assert!(made.iter().zip(expected).all(|(made, expected)| made.abs_diff(expected) <= 2), "{made:?}");
    }
}

#[test]
fn a_stopped_job_ends_between_rows() {
    struct Stopped;
    impl Watch for Stopped {
        fn check(&self) -> Result<(), Fault> {
            Err(Fault::new(Kind::Stopped, "stopped"))
        }
    }
    let file = stored(1, 1, ColorType::Grayscale, BitDepth::Eight, &[1]);
    let Ok(Progress::Header(header)) = read(&file, None, &Limits::DEFAULT) else { panic!() };
    let fault = decode(&file, &header, &mut Pool::new(0), &Stopped).unwrap_err();
    assert_eq!(fault.kind, Kind::Stopped);
}

#[test]
fn ten_thousand_mutated_files_do_no_harm() {
    let pixels =
        Pixels { width: 20, height: 20, layout: Layout::Rgba, samples: (0..1600).map(|at| at as u8).collect() };
    let kinds = [
        encode(&pixels, Some(b"MM\0*\0\0\0\x08\0\0")).unwrap(),
        interlaced(20, 20, |x, y| (x * y) as u16 * 100),
        stored(30, 3, ColorType::Grayscale, BitDepth::Two, &[7; 24]),
    ];
    let (made, refused) = super::super::mutation::run(&kinds, 10_000, |file| decoded(file).map(drop));
    assert!(made > 0 && refused > 1000, "{made} made, {refused} refused");
}
