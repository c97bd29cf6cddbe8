//! Decoding AVIF: colours, depths, transparency, grids and sequences, and what is broken.

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
            samples.extend_from_slice(&color[..layout.bytes()]);
        }
    }
    Pixels { width, height, layout, samples }
}

fn worst(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    for layout in [Layout::Rgb, Layout::Rgba] {
        let pixels = smooth(65, 43, layout);
        let made = decoded(&encode(&pixels, Some(95), None).unwrap()).unwrap();
        assert_eq!((made.width, made.height, made.layout), (65, 43, layout));
        let worst = worst(&made.samples, &pixels.samples);
        assert!(worst < 24, "{worst}");
    }
    let grey = decoded(&encode(&smooth(65, 43, Layout::Gray), None, None).unwrap()).unwrap();
    assert!(grey.samples.chunks(3).all(|pixel| pixel[0].abs_diff(pixel[2]) < 6));
}

#[test]
fn ten_bits_and_a_plain_colour_come_out_as_they_went_in() {
    for depth in [ravif::BitDepth::Eight, ravif::BitDepth::Ten] {
        for color in [[200, 60, 20], [20, 200, 90], [255, 255, 255], [0, 0, 0], [30, 40, 250]] {
            let pixels = vec![rgb::RGB8::from(color); 32 * 32];
            let encoder = ravif::Encoder::new().with_quality(98.0).with_speed(10).with_bit_depth(depth);
            let file = encoder.encode_rgb(ravif::Img::new(&pixels, 32, 32)).unwrap().avif_file;
            assert_eq!(header(&file).unwrap().bits, if depth == ravif::BitDepth::Ten { 10 } else { 8 });
            let made = decoded(&file).unwrap();
            let worst = worst(&made.samples[..3], &color);
            assert!(worst <= 3, "{color:?} became {:?}", &made.samples[..3]);
        }
    }
}

#[test]
fn other_primaries_are_brought_to_srgb() {
    let pixels = vec![rgb::RGB8::from([128, 102, 77]); 32 * 32];
    let encoder = ravif::Encoder::new().with_quality(98.0).with_speed(10);
    let file = encoder.encode_rgb(ravif::Img::new(&pixels, 32, 32)).unwrap().avif_file;
    // Boxes that say otherwise go before what the stream says.
    let painted = |nclx| {
        let mut avif = Avif::of(&file).unwrap();
        avif.colors.nclx = Some(nclx);
        let mut pixels = Pixels { width: 32, height: 32, layout: Layout::Rgb, samples: vec![0; 32 * 32 * 3] };
        paint(&file, &avif, &mut pixels, &Never).map(|()| pixels.samples[..3].to_vec())
    };
    let (_, _, matrix, full) =
        sequence::colors(&bytes_of(&file, &Avif::of(&file).unwrap().color.tiles[0]).unwrap()).unwrap();
    let made = painted((12, 13, matrix, full)).unwrap();
    assert!(worst(&made, &[131, 101, 74]) <= 4, "{made:?}");
    // High dynamic range is brought below white.
    let made = painted((9, 16, matrix, full)).unwrap();
    assert!(made[0] > made[2], "{made:?}");
    // A matrix that nobody uses is refused by its number.
    let fault = painted((1, 13, 14, full)).unwrap_err();
    assert_eq!(fault.kind, Kind::Unsupported);
    assert!(fault.detail.contains("14"), "{fault}");
}

#[test]
fn matrices_and_ranges_are_those_of_the_standard() {
    // White, black and pure red in limited BT.709 of 8 bits.
    let scale = Scale::of(8, false);
    let line = |y: f32, u: f32, v: f32| Line {
        luma: vec![(y - scale.luma.0) * scale.luma.1],
        u: vec![(u - scale.chroma.0) * scale.chroma.1],
        v: vec![(v - scale.chroma.0) * scale.chroma.1],
    };
    for (yuv, expected) in
        [((235, 128, 128), [255, 255, 255]), ((16, 128, 128), [0, 0, 0]), ((63, 102, 240), [255, 0, 0])]
    {
        let (y, u, v) = yuv;
        line(y as f32, u as f32, v as f32).colors(Matrix::Luma(0.2126, 0.0722), false, |_, color| {
            let made = color.map(|sample| (sample * 255.0 + 0.5) as u8);
            assert!(worst(&made, &expected) <= 2, "{yuv:?} became {made:?}");
        });
    }
}

#[test]
fn chroma_is_drawn_out_between_its_samples() {
    let plane = [0, 80, 160];
    let samples = Samples { bytes: &plane, stride: 3, wide: false };
    let chroma = Chroma { width: 3, height: 1, halved_x: true, halved_y: true };
    let mut row = [0.0; 5];
    chroma.row(&samples, 0, &mut [vec![0.0; 3], vec![0.0; 3]], &mut row);
    assert_eq!(row, [0.0, 20.0, 60.0, 100.0, 140.0]);
}

#[test]
fn rights_are_written() {
    let file = encode(&smooth(32, 32, Layout::Rgb), None, Some(b"MM\0*rights")).unwrap();
    assert!(file.windows(10).any(|bytes| bytes == b"MM\0*rights"));
    assert!(decoded(&file).is_ok());
}

#[test]
fn mutated_files_do_no_harm() {
    let kinds = [
        encode(&smooth(40, 40, Layout::Rgb), None, None).unwrap(),
        encode(&smooth(40, 40, Layout::Rgba), None, Some(b"MM\0*")).unwrap(),
    ];
    let (made, refused) = super::super::mutation::run(&kinds, 10_000, |file| decoded(file).map(drop));
    assert!(made > 0 && refused > 500, "{made} made, {refused} refused");
}
