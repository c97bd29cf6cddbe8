//! Files of other people's programs (`tests/tiff/make.py`), and broken ones.

use super::*;
use crate::format::Format;
use crate::header::{Apart, Limits, Orientation, Progress, SNIFF_BYTES, read, read_apart};
use crate::pipeline::exif::Exif;
use crate::pipeline::mutation;
use crate::pipeline::trial::{Never, checked, header, small_header};

macro_rules! file {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../tests/tiff/", $name, ".tiff")) as &[u8])
    };
}

type File = (&'static str, &'static [u8]);

/// Whose corners are red, green, blue and white.
const COLORS: [File; 20] = [
    file!("rgb8-raw"),
    file!("rgb8-lzw"),
    file!("rgb8-predictor"),
    file!("rgb8-deflate"),
    file!("rgb8-adobe_deflate"),
    file!("rgb8-packbits"),
    file!("rgb16-lzw"),
    file!("rgb-jpeg"),
    file!("ycbcr-jpeg"),
    file!("tiles-deflate"),
    file!("tiles-jpeg"),
    file!("palette8"),
    file!("cmyk8"),
    file!("big-endian"),
    file!("big-endian16"),
    file!("planes"),
    file!("planes16"),
    file!("five"),
    file!("pages"),
    file!("turned"),
];
/// Whose corners are four greys.
const GRAYS: [File; 4] = [file!("gray8"), file!("bits2"), file!("bits4-white"), file!("gray-alpha")];

fn decoded(file: &[u8]) -> Result<Pixels, Fault> {
    let header = small_header(file)?;
    Ok(checked(decode(file, &header, &mut Pool::new(1 << 24), &Never)?))
}

/// The middle pixels of the four quarters.
fn corners(pixels: &Pixels) -> [&[u8]; 4] {
    let (width, height, bytes) = (pixels.width as usize, pixels.height as usize, pixels.layout.bytes());
    [(1, 1), (3, 1), (1, 3), (3, 3)]
        .map(|(x, y)| &pixels.samples[(height * y / 4 * width + width * x / 4) * bytes..][..bytes])
}

fn near(found: &[u8], expected: &[u8]) -> bool {
    found.iter().zip(expected).all(|(found, expected)| found.abs_diff(*expected) <= 3)
}

#[test]
fn colours_of_every_kind_are_the_same_picture() {
    for (name, file) in COLORS {
        let made = decoded(file).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!((made.width, made.height), (40, 24), "{name}");
        let expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3]];
        let found = corners(&made);
        assert!(found.iter().zip(expected).all(|(found, rgb)| near(&found[..3], &rgb)), "{name}: {found:?}");
        assert_eq!(made.layout, if name == "five" { Layout::Rgba } else { Layout::Rgb }, "{name}");
    }
}

#[test]
fn greys_of_every_kind_are_the_same_picture() {
    for (name, file) in GRAYS {
        let made = decoded(file).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let found = corners(&made);
        assert!(
            found.iter().zip([0, 85, 170, 255]).all(|(found, gray)| near(&found[..1], &[gray])),
            "{name}: {found:?}"
        );
    }
    let (_, file) = file!("bilevel-group4");
    let made = decoded(file).unwrap();
    assert_eq!((corners(&made), made.layout), ([&[0u8][..], &[0], &[255], &[255]], Layout::Gray));
}

#[test]
fn transparency_is_not_in_the_colours() {
    for (name, file) in [file!("rgba-straight"), file!("rgba-premultiplied"), file!("five")] {
        let made = decoded(file).unwrap();
        let [red, green, ..] = corners(&made);
        assert!(near(red, &[255, 0, 0, 128]) && near(green, &[0, 255, 0, 255]), "{name}: {red:?} {green:?}");
    }
    let (_, file) = file!("gray-alpha");
    assert!(near(corners(&decoded(file).unwrap())[0], &[0, 0, 0, 128]));
}

#[test]
fn what_is_not_read_is_called_by_its_name() {
    for ((name, file), word) in
        [(file!("big"), "BigTIFF"), (file!("float"), "32 bits"), (file!("bilevel-group3"), "group 3")]
    {
        let fault = decoded(file).unwrap_err();
        assert_eq!(fault.kind, Kind::Unsupported, "{name}");
        assert!(fault.detail.contains(word), "{name}: {fault}");
    }
}

/// The directory's entry of a field: where its value lies.
fn value_of(file: &[u8], tag: u16) -> usize {
    let directory = Directory::read(Head::of(file)).unwrap();
    directory.entry(tag).unwrap().at as usize + 8
}

#[test]
fn raw_files_and_previews_are_refused() {
    let (_, file) = file!("rgb8-lzw");
    let mut preview = file.to_vec();
    let at = value_of(&preview, tag::COMPRESSION);
    // The field of a preview takes the place of one that a picture can do without.
    preview[at..at + 2].copy_from_slice(&34_713u16.to_le_bytes());
    let fault = decoded(&preview).unwrap_err();
    assert!(fault.kind == Kind::Unsupported && fault.detail.contains("raw"), "{fault}");
}

#[test]
fn it_is_turned_and_says_whose_it_is() {
    let (_, file) = file!("turned");
    assert_eq!(header(file).unwrap().orientation, Orientation::Rotate90);
    assert_eq!(Exif::read(file).copyright.as_deref(), Some(&b"(c) Somebody"[..]));
}

#[test]
fn a_directory_at_the_end_is_read_without_what_lies_before() {
    let (_, file) = file!("rgb8-raw");
    let (len, expected) = (Some(file.len() as u64), header(file).unwrap());
    assert_eq!(expected.format, Format::Tiff);
    let Progress::NeedMore { from, bytes } = read(&file[..SNIFF_BYTES], len, &Limits::DEFAULT).unwrap() else {
        panic!("it was read without its directory");
    };
    assert!(from > 2800 && bytes > from);
    let mut apart = Apart { at: from as usize, bytes: &[] };
    for _ in 0..2 {
        match read_apart(&file[..SNIFF_BYTES], apart, len, &Limits::DEFAULT).unwrap() {
            Progress::Header(header) => return assert_eq!(header, expected),
            Progress::NeedMore { from: again, bytes } => {
                assert_eq!(again, from);
                apart.bytes = &file[from as usize..bytes as usize];
            }
        }
    }
    assert_eq!(read_apart(&file[..SNIFF_BYTES], apart, len, &Limits::DEFAULT).unwrap(), Progress::Header(expected));
}

#[test]
fn a_jpeg_strip_larger_than_its_place_takes_no_memory() {
    let (_, file) = file!("ycbcr-jpeg");
    let mut liar = file.to_vec();
    let frame = liar.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    liar[frame + 5..frame + 9].copy_from_slice(&[4, 0, 4, 0]);
    let fault = decoded(&liar).unwrap_err();
    assert!(fault.kind == Kind::BadImage && fault.detail.contains("belong there"), "{fault}");
}

#[test]
fn ten_thousand_mutated_files_do_no_harm() {
    let kinds: Vec<Vec<u8>> = COLORS.iter().chain(&GRAYS).map(|(_, file)| file.to_vec()).collect();
    let (made, refused) = mutation::run(&kinds, 10_000, |file| decoded(file).map(drop));
    assert!(made > 0 && refused > 500, "{made} made, {refused} refused");
}
