//! Whole images through the whole pipeline: every format into every other, and what every step does to four corners.

use super::*;
use crate::options;
use pixels::Pixels;
use trial::Never;

const RED: [u8; 3] = [220, 30, 30];
const GREEN: [u8; 3] = [30, 200, 40];
const BLUE: [u8; 3] = [30, 50, 220];
const WHITE: [u8; 3] = [240, 240, 240];

/// Red, green, blue and white in the four corners, from the upper left by rows.
fn corners(width: u32, height: u32) -> Pixels {
    let mut samples = Vec::new();
    for y in 0..height {
        for x in 0..width {
            samples.extend_from_slice(match (x < width / 2, y < height / 2) {
                (true, true) => &RED,
                (false, true) => &GREEN,
                (true, false) => &BLUE,
                (false, false) => &WHITE,
            });
        }
    }
    Pixels { width, height, layout: Layout::Rgb, samples }
}

fn header(file: &[u8]) -> Header {
    trial::header(file).unwrap()
}

fn file(format: Format, pixels: Pixels) -> Vec<u8> {
    match format {
        Format::Gif => {
            let mut bytes = Vec::new();
            let (width, height) = (pixels.width as u16, pixels.height as u16);
            let palette = [RED, GREEN, BLUE, WHITE].concat();
            let indexes: Vec<u8> = pixels
                .samples
                .chunks(3)
                .map(|rgb| palette.chunks(3).position(|color| color == rgb).unwrap() as u8)
                .collect();
            let mut encoder = ::gif::Encoder::new(&mut bytes, width, height, &palette).unwrap();
            let frame = ::gif::Frame { width, height, buffer: indexes.into(), ..::gif::Frame::default() };
            encoder.write_frame(&frame).unwrap();
            drop(encoder);
            bytes
        }
        Format::Tiff => {
            let mut bytes = std::io::Cursor::new(Vec::new());
            let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
            let (width, height) = (pixels.width, pixels.height);
            encoder.write_image::<::tiff::encoder::colortype::RGB8>(width, height, &pixels.samples).unwrap();
            bytes.into_inner()
        }
        format => encode(format, &mut Picture::Pixels(pixels), Some(95), None).unwrap(),
    }
}

fn outputs(file: &[u8], texts: &[&str]) -> Result<Vec<Output>, Fault> {
    marked(file, texts, &Marks::default())
}

fn marked(file: &[u8], texts: &[&str], marks: &Marks) -> Result<Vec<Output>, Fault> {
    let recipes: Vec<Recipe> = texts.iter().map(|text| options::parse("test", text).unwrap()).collect();
    let mut made = Vec::new();
    let mut pool = Pool::new(1 << 26);
    let header = header(file);
    let wanted = Wanted { header: &header, recipes: &recipes, marks };
    process(file, wanted, &mut pool, &Never, &mut |output| {
        made.push(output);
        Ok(())
    })?;
    made.sort_by_key(|output| output.index);
    Ok(made)
}

/// An output's pixels, as red, green and blue, or with alpha.
fn seen(output: &Output) -> Pixels {
    let header = header(&output.bytes);
    assert_eq!((header.format, header.width, header.height), (output.format, output.width, output.height));
    if output.format == Format::Jpeg {
        let image = turbojpeg::decompress(&output.bytes, turbojpeg::PixelFormat::RGB).unwrap();
        return Pixels { width: header.width, height: header.height, layout: Layout::Rgb, samples: image.pixels };
    }
    let (picture, to_srgb) = decode(&output.bytes, &header, Shrink::Whole, &mut Pool::new(0), &Never).unwrap();
    assert!(to_srgb.is_none());
    let Picture::Pixels(pixels) = picture else { panic!("only a JPEG has planes") };
    adjust::with_layout(pixels, Layout::Rgb, &mut Pool::new(0))
}

fn at(pixels: &Pixels, x: u32, y: u32) -> [u8; 3] {
    let start = ((y * pixels.width + x) as usize) * pixels.layout.bytes();
    [0, 1, 2].map(|channel| pixels.samples[start + channel])
}

fn near(a: [u8; 3], b: [u8; 3], most: u8) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= most)
}

/// The colours in the four corners, from the upper left by rows.
fn corners_of(pixels: &Pixels) -> [[u8; 3]; 4] {
    let (right, bottom) = (pixels.width - 1 - pixels.width / 6, pixels.height - 1 - pixels.height / 6);
    let (left, top) = (pixels.width / 6, pixels.height / 6);
    [(left, top), (right, top), (left, bottom), (right, bottom)].map(|(x, y)| at(pixels, x, y))
}

fn assert_corners(pixels: &Pixels, expected: [[u8; 3]; 4], why: &str) {
    let found = corners_of(pixels);
    assert!(found.iter().zip(expected).all(|(found, expected)| near(*found, expected, 14)), "{why}: {found:?}");
}

#[test]
fn every_format_becomes_every_other() {
    for from in [Format::Jpeg, Format::Png, Format::Webp, Format::Avif, Format::Gif, Format::Tiff] {
        let file = file(from, corners(240, 160));
        assert_eq!(header(&file).format, from);
        for to in ["jpeg", "png", "webp", "avif"] {
            let made = outputs(&file, &[&format!("rs:fit:60:60/f:{to}/q:95")]).unwrap();
            assert_eq!((made[0].width, made[0].height), (60, 40));
            assert_corners(&seen(&made[0]), [RED, GREEN, BLUE, WHITE], &format!("{from:?} to {to}"));
        }
        // Without a format: the source's own, where it can be written.
        let made = outputs(&file, &["rs:fit:60:60"]).unwrap();
        assert_eq!(made[0].format, if from.is_output() { from } else { Format::Jpeg });
    }
}

#[test]
fn turns_and_flips_are_the_viewers() {
    for format in [Format::Jpeg, Format::Png] {
        let file = file(format, corners(240, 160));
        for (text, expected) in [
            ("rot:90", [BLUE, RED, WHITE, GREEN]),
            ("rot:180", [WHITE, BLUE, GREEN, RED]),
            ("rot:270", [GREEN, WHITE, RED, BLUE]),
            ("fl:1", [GREEN, RED, WHITE, BLUE]),
            ("fl:0:1", [BLUE, WHITE, RED, GREEN]),
            ("rot:90/fl:1", [RED, BLUE, GREEN, WHITE]),
            ("rot:90/rs:fill:60:90", [BLUE, RED, WHITE, GREEN]),
        ] {
            let made = outputs(&file, &[text]).unwrap();
            assert_corners(&seen(&made[0]), expected, text);
        }
        let made = outputs(&file, &["rot:90/rs:fill:60:60/g:no"]).unwrap();
        assert_eq!((made[0].width, made[0].height), (60, 60));
        // Of the turned picture, 160 by 240, the upper 160 rows: two thirds are blue and red.
        let pixels = seen(&made[0]);
        assert!(near(at(&pixels, 10, 40), BLUE, 14) && near(at(&pixels, 50, 55), GREEN, 14), "{pixels:?}");
    }
}

#[test]
fn orientation_and_turn_come_one_after_the_other() {
    let mut file = file(Format::Jpeg, corners(240, 160));
    // Turned a quarter clockwise by whoever shows it.
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    exif::into_jpeg(&mut file, exif);
    let upright = [BLUE, RED, WHITE, GREEN];
    assert_corners(&seen(&outputs(&file, &["rs:fit:90:90"]).unwrap()[0]), upright, "upright");
    assert_corners(&seen(&outputs(&file, &["rot:270"]).unwrap()[0]), [RED, GREEN, BLUE, WHITE], "turned back");
    assert_corners(&seen(&outputs(&file, &["ar:0"]).unwrap()[0]), [RED, GREEN, BLUE, WHITE], "as stored");
    let made = outputs(&file, &["c:0.5:0.5:soea", "c:0.5:0.5:nowe/rot:180"]).unwrap();
    assert!(near(at(&seen(&made[0]), 20, 20), GREEN, 14));
    assert!(near(at(&seen(&made[1]), 20, 20), GREEN, 14));
}

#[test]
fn canvas_background_and_colours() {
    let file = file(Format::Png, corners(240, 160));
    let made =
        outputs(&file, &["rs:fit:60:60:0:1/pd:10/bg:ff00ff", "rs:fit:60:60:0:1", "rs:fit:60:60:0:1/f:jpeg"]).unwrap();
    assert_eq!((made[0].width, made[0].height), (80, 80));
    assert!(near(at(&seen(&made[0]), 5, 5), [255, 0, 255], 0));
    assert!(near(at(&seen(&made[0]), 15, 25), RED, 14));
    assert_eq!(seen(&made[1]).samples[..4], [0; 4]);
    // Colour of the picture reaches into the white of its block by a little.
    assert!(near(at(&seen(&made[2]), 2, 2), [255; 3], 24), "{:?}", at(&seen(&made[2]), 2, 2));
    let made = outputs(&file, &["gray:1", "gray:1/f:jpeg", "br:20", "sa:0", "bl:3/rs:fit:60:60"]).unwrap();
    assert_eq!(header(&made[0].bytes).components, 1);
    assert_eq!(header(&made[1].bytes).components, 1);
    assert!(near(at(&seen(&made[2]), 10, 10), RED.map(|sample| sample + 20), 1));
    let [red, green, blue] = at(&seen(&made[3]), 10, 10);
    assert!(red == green && green == blue);
    // A blurred edge has colours of both sides.
    assert!(!near(at(&seen(&made[4]), 30, 10), RED, 40) && !near(at(&seen(&made[4]), 30, 10), GREEN, 40));
}

#[test]
fn transparency_lies_on_the_background_where_it_must() {
    let mut pixels = adjust::with_layout(corners(40, 40), Layout::Rgba, &mut Pool::new(0));
    pixels.samples.chunks_exact_mut(4).for_each(|pixel| pixel[3] = 0);
    let file = file(Format::Png, pixels);
    let made = outputs(&file, &["rs:fit:20:20", "f:jpeg", "f:jpeg/bg:0000ff", "bg:00ff00"]).unwrap();
    assert!(header(&made[0].bytes).alpha);
    assert!(near(at(&seen(&made[1]), 5, 5), [255; 3], 2));
    assert!(near(at(&seen(&made[2]), 5, 5), [0, 0, 255], 6));
    assert!(near(at(&seen(&made[3]), 5, 5), [0, 255, 0], 0));
    assert!(!header(&made[3].bytes).alpha);
}

#[test]
fn placeholders_are_of_the_output_however_it_is_made() {
    let asks = "rs:fit:60:60/th/bh:4:3";
    let picture = Picture::Pixels(corners(60, 40));
    let expected = Placeholders::of(&picture, &options::parse("test", asks).unwrap(), &Never).unwrap();
    for from in [Format::Jpeg, Format::Png] {
        let file = file(from, corners(240, 160));
        // Of planes, and of pixels.
        let texts = [&format!("{asks}/f:jpeg"), &format!("{asks}/f:png"), "rs:fit:200:200"];
        let made = outputs(&file, &texts).unwrap();
        assert_eq!(made[2].placeholders, Placeholders::default());
        for output in &made[..2] {
            let (found, told) = (&output.placeholders, format!("{from:?} to {:?}", output.format));
            let [ours, theirs] = [found, &expected].map(|hashes| hashes.thumbhash.clone().unwrap());
            assert_eq!(ours.len(), theirs.len(), "{told}");
            // The mean light, of which a codec changes a step at most.
            assert!((ours[0] & 63).abs_diff(theirs[0] & 63) <= 1, "{told}: {ours:?} {theirs:?}");
            assert_eq!((ours[3] & 7, ours[4] >> 7), (theirs[3] & 7, 1), "{told}");
            assert_eq!(found.blurhash.as_ref().map(String::len), Some(28), "{told}");
        }
    }
    // As it is seen: higher than wide when it is turned, and with the transparency that lies around it.
    let plain = Pixels { width: 90, height: 60, layout: Layout::Rgb, samples: [220, 30, 30].repeat(90 * 60) };
    let turned = outputs(&file(Format::Png, plain), &["rot:90/th", "rs:fit:60:60:0:1/th"]).unwrap();
    let [upright, padded] = [0, 1].map(|at: usize| turned[at].placeholders.thumbhash.clone().unwrap());
    assert_eq!((upright[4] >> 7, upright[2] >> 7), (0, 0));
    assert_eq!((padded[4] >> 7, padded[2] >> 7), (0, 1));
}

#[test]
fn a_profile_is_applied_and_dropped() {
    let plain = Pixels { width: 64, height: 64, layout: Layout::Rgb, samples: [128, 102, 77].repeat(64 * 64) };
    let mut file = file(Format::Jpeg, plain);
    let icc = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let len = (2 + 14 + icc.len()) as u16;
    let segment = [&[0xFF, 0xE2], &len.to_be_bytes()[..], b"ICC_PROFILE\0\x01\x01", &icc].concat();
    file.splice(2..2, segment);
    for text in ["rs:fit:32:32", "rs:fit:32:32/f:png", "lin:1/rs:fit:32:32"] {
        let made = outputs(&file, &[text]).unwrap();
        assert!(near(at(&seen(&made[0]), 5, 5), [131, 101, 74], 3), "{text}: {:?}", at(&seen(&made[0]), 5, 5));
        assert!(jpeg::profile(&made[0].bytes, 1 << 20).is_none());
    }
}

#[test]
fn rights_are_kept_unless_told_otherwise() {
    let rights = Exif { copyright: Some(b"(c) Somebody".to_vec()), ..Exif::default() };
    for from in [Format::Jpeg, Format::Png, Format::Webp] {
        let mut picture = Picture::Pixels(corners(40, 40));
        let file = encode(from, &mut picture, None, rights.rights().as_deref()).unwrap();
        let made = outputs(&file, &["f:jpeg", "f:png", "f:webp", "f:jpeg/kcr:0", "f:avif"]).unwrap();
        for output in &made[..3] {
            assert_eq!(exif(&output.bytes, output.format), rights, "{from:?} to {:?}", output.format);
        }
        assert_eq!(exif(&made[3].bytes, Format::Jpeg), Exif::default());
        assert!(made[4].bytes.windows(12).any(|bytes| bytes == b"(c) Somebody"));
    }
}

#[test]
fn four_inks_become_three_colours() {
    // What Adobe's programs write: inverted, here a pure cyan of no black.
    let mut encoder = turbojpeg::Compressor::new().unwrap();
    encoder.set_subsamp(turbojpeg::Subsamp::None).unwrap();
    let inks: Vec<u8> = [0, 255, 255, 255].repeat(32 * 32);
    let image = turbojpeg::Image {
        pixels: &inks[..],
        width: 32,
        pitch: 32 * 4,
        height: 32,
        format: turbojpeg::PixelFormat::CMYK,
    };
    let file = encoder.compress_to_vec(image).unwrap();
    assert_eq!(header(&file).components, 4);
    let made = outputs(&file, &["f:png", "rs:fit:8:8"]).unwrap();
    assert!(near(at(&seen(&made[0]), 5, 5), [0, 255, 255], 4), "{:?}", at(&seen(&made[0]), 5, 5));
    assert!(near(at(&seen(&made[1]), 3, 3), [0, 255, 255], 8));
}

/// Grey, with a bright square that has a pattern, its upper left corner here.
fn with_thing(width: u32, height: u32, at: (u32, u32)) -> Pixels {
    let mut samples = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let inside = x.wrapping_sub(at.0) < 40 && y.wrapping_sub(at.1) < 40;
        samples.extend_from_slice(match (inside, (x / 10 + y / 10) % 2) {
            (false, _) => &[110, 110, 110],
            (true, 0) => &RED,
            (true, _) => &WHITE,
        });
    }
    Pixels { width, height, layout: Layout::Rgb, samples }
}

#[test]
fn a_cut_out_finds_what_there_is_to_see() {
    let things = |pixels: &Pixels| {
        let all = pixels.samples.chunks(pixels.layout.bytes());
        all.filter(|pixel| near([pixel[0], pixel[1], pixel[2]], RED, 40)).count()
    };
    for format in [Format::Jpeg, Format::Png, Format::Webp] {
        for at in [(0, 0), (200, 0), (0, 120), (200, 120), (100, 60)] {
            let file = file(format, with_thing(240, 160, at));
            for text in
                ["c:80:80:sm/f:png", "c:100:100:sm/rs:fill:80:80/f:png", "c:80:80/g:sm/rot:90", "c:80:80/g:sm/lin/fl:1"]
            {
                let count = things(&seen(&outputs(&file, &[text]).unwrap()[0]));
                // At least half of 1600 pixels are red, and at the edges of a JPEG's they are not quite.
                let scale = if text.contains("fill") { 800 * 64 / 100 } else { 800 };
                assert!(count > scale * 7 / 10, "{format:?} {at:?} {text}: {count}");
            }
        }
        // With others that need all of the picture, and a small one that is made of the decoder's small one.
        let file = file(format, with_thing(2400, 1600, (2300, 1500)));
        let made =
            outputs(&file, &["rs:fit:600:600", "rs:fill:40:60/g:sm/f:png", "rs:fill:200:300/g:sm/f:png"]).unwrap();
        assert_eq!((made[1].width, made[1].height, made[2].width, made[2].height), (40, 60, 200, 300));
        assert!(things(&seen(&made[2])) > 10, "{format:?}");
    }
}

#[test]
fn a_watermark_lies_over_everything() {
    let logo = Pixels { width: 20, height: 10, layout: Layout::Rgba, samples: [0, 0, 255, 255].repeat(200) };
    let png = encode(Format::Png, &mut Picture::Pixels(logo), None, None).unwrap();
    let mark = watermark::Mark::decode("logo", "", &png, &header(&png), &Never).unwrap();
    let marks = Marks::new(vec![mark]);
    const PURE: [u8; 3] = [0, 0, 255];
    for from in [Format::Jpeg, Format::Png] {
        let file = file(from, corners(240, 160));
        for to in ["jpeg", "png", "webp", "avif"] {
            let text = format!("rs:fit:120:120/wm:1:soea/wmn:logo/f:{to}/q:95");
            let made = seen(&marked(&file, &[&text], &marks).unwrap()[0]);
            assert!(near(at(&made, 110, 75), PURE, 30) && near(at(&made, 80, 60), WHITE, 20), "{from:?} {to}");
        }
        // Over the padding, and as large as was asked; of the output and not of the picture that is kept for the next one.
        let texts = ["rs:fit:120:120/pd:10/bg:000/wm:1:nowe:0:0:0.5/wmn:logo/f:png", "rs:fit:60:60/f:png"];
        let made = marked(&file, &texts, &marks).unwrap();
        let (padded, next) = (seen(&made[0]), seen(&made[1]));
        assert!(
            near(at(&padded, 1, 1), PURE, 1)
                && near(at(&padded, 69, 34), PURE, 1)
                && near(at(&padded, 72, 5), [0; 3], 1)
        );
        assert_corners(&next, [RED, GREEN, BLUE, WHITE], "next");
        let half = seen(&marked(&file, &["wm:0.5:soea/wmn:logo/f:png"], &marks).unwrap()[0]);
        assert!(near(at(&half, 235, 155), [120, 120, 248], 4), "{:?}", at(&half, 235, 155));
    }
    let fault = outputs(&file(Format::Png, corners(24, 16)), &["wm:1/wmn:logo"]).unwrap_err();
    assert!(fault.is_transient() && fault.detail.contains("\"logo\""), "{fault}");
    let jpeg = file(Format::Jpeg, corners(24, 16));
    let fault = watermark::Mark::decode("logo", "", &jpeg, &header(&jpeg), &Never).unwrap_err();
    assert!(fault.detail.contains("Save it as PNG"), "{fault}");
    let mut large = header(&png);
    large.width = 5000;
    assert!(watermark::Mark::decode("logo", "", &png, &large, &Never).unwrap_err().detail.contains("at most 4096"));
}

#[test]
fn what_no_format_holds_is_refused_in_words() {
    let file = file(Format::Png, corners(40, 2));
    let fault = outputs(&file, &["rs:force:17000:1:1/f:webp"]).unwrap_err();
    assert_eq!(fault.kind, Kind::BadRequest);
    assert!(fault.detail.contains("16383"), "{fault}");
}

#[test]
fn mutated_jpegs_do_no_harm() {
    let mut progressive = turbojpeg::Compressor::new().unwrap();
    progressive.set_progressive(true).unwrap();
    let pixels = corners(48, 32);
    let image = turbojpeg::Image {
        pixels: &pixels.samples[..],
        width: 48,
        pitch: 48 * 3,
        height: 32,
        format: turbojpeg::PixelFormat::RGB,
    };
    let kinds = [file(Format::Jpeg, corners(48, 32)), progressive.compress_to_vec(image).unwrap()];
    let recipes = [options::parse("test", "rs:fit:16:16/f:png").unwrap()];
    let mut pool = Pool::new(1 << 24);
    let (made, refused) = mutation::run(&kinds, 10_000, |file| {
        let header = trial::small_header(file)?;
        let wanted = Wanted { header: &header, recipes: &recipes, marks: &Marks::default() };
        process(file, wanted, &mut pool, &Never, &mut |_| Ok(())).map(drop)
    });
    assert!(made > 0 && refused > 500, "{made} made, {refused} refused");
}
