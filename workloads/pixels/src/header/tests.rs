//! Headers of every format: facts, limits, and pieces of any size.

use super::*;

fn whole(file: &[u8]) -> Result<Header, Fault> {
    whole_within(file, &Limits::DEFAULT)
}

fn whole_within(file: &[u8], limits: &Limits) -> Result<Header, Fault> {
    match read(file, Some(file.len() as u64), limits)? {
        Progress::Header(header) => Ok(header),
        Progress::NeedMore { bytes, .. } => panic!("{bytes} of {} bytes are wanted", file.len()),
    }
}

/// Gives what is asked for until the header is there; also how often and how much that was.
fn growing(file: &[u8], first: usize) -> (Result<Header, Fault>, u32, usize) {
    let (mut len, mut calls) = (first.min(file.len()), 0);
    loop {
        calls += 1;
        match read(&file[..len], Some(file.len() as u64), &Limits::DEFAULT) {
            Ok(Progress::Header(header)) => return (Ok(header), calls, len),
            Err(fault) => return (Err(fault), calls, len),
            Ok(Progress::NeedMore { bytes, .. }) => {
                assert!(bytes as usize > len && bytes as usize <= file.len(), "{bytes} after {len}");
                len = bytes as usize;
            }
        }
    }
}

fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16 + 2).to_be_bytes();
    [&[0xFF, marker], &len[..], payload].concat()
}

fn exif(orientation: u8) -> Vec<u8> {
    let mut payload = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    payload.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    payload
}

/// A JPEG up to and with its first scan's header, and a few bytes of it.
fn jpeg(sof: u8, width: u16, height: u16, samplings: &[u8], before: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"\xFF\xD8".to_vec();
    before.iter().for_each(|segment| file.extend_from_slice(segment));
    let mut frame = vec![8];
    frame.extend_from_slice(&height.to_be_bytes());
    frame.extend_from_slice(&width.to_be_bytes());
    frame.push(samplings.len() as u8);
    for (id, sampling) in samplings.iter().enumerate() {
        frame.extend_from_slice(&[id as u8 + 1, *sampling, 0]);
    }
    file.extend(segment(sof, &frame));
    let mut scan = vec![samplings.len() as u8];
    samplings.iter().enumerate().for_each(|(id, _)| scan.extend_from_slice(&[id as u8 + 1, 0]));
    scan.extend_from_slice(&[0, 63, 0]);
    file.extend(segment(SOS, &scan));
    file.extend_from_slice(&[0x12, 0xFF, 0x00, 0x34]);
    file
}

const SOS: u8 = 0xDA;
const YUV420: &[u8] = &[0x22, 0x11, 0x11];

fn chunk(name: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    // Checksums are for the decoder to judge.
    [&(payload.len() as u32).to_be_bytes()[..], name, payload, &[0; 4]].concat()
}

fn png(width: u32, height: u32, bits: u8, color: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1A\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, color, 0, 0, 0]].concat();
    file.extend(chunk(b"IHDR", &header));
    chunks.iter().for_each(|chunk| file.extend_from_slice(chunk));
    file.extend(chunk(b"IDAT", &[0; 50]));
    file.extend(chunk(b"IEND", &[]));
    file
}

fn riff(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    for (name, payload) in chunks {
        file.extend_from_slice(*name);
        file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend_from_slice(payload);
        file.resize(file.len().next_multiple_of(2), 0);
    }
    let len = (file.len() as u32 - 8).to_le_bytes();
    file[4..8].copy_from_slice(&len);
    file
}

fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let size = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    [vec![flags, 0, 0, 0], size(width), size(height)].concat()
}

fn vp8l(width: u32, height: u32, alpha: bool) -> Vec<u8> {
    let bits = (width - 1) | (height - 1) << 14 | u32::from(alpha) << 28;
    [&[0x2F], &bits.to_le_bytes()[..], &[0; 30]].concat()
}

fn vp8(width: u16, height: u16) -> Vec<u8> {
    [&[0x10, 0, 0, 0x9D, 0x01, 0x2A][..], &width.to_le_bytes(), &height.to_le_bytes(), &[0; 30]].concat()
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
}

fn full(kind: &[u8; 4], version: u8, content: &[u8]) -> Vec<u8> {
    boxed(kind, &[&[version, 0, 0, 0], content].concat())
}

struct MadeAvif {
    width: u32,
    height: u32,
    properties: Vec<Vec<u8>>,
    alpha: bool,
}

impl MadeAvif {
    fn of(width: u32, height: u32) -> MadeAvif {
        MadeAvif { width, height, properties: Vec::new(), alpha: false }
    }

    fn file(&self) -> Vec<u8> {
        let ispe = full(b"ispe", 0, &[self.width.to_be_bytes(), self.height.to_be_bytes()].concat());
        let config = boxed(b"av1C", &[0x81, 0, 0x40, 0]);
        let alpha = full(b"auxC", 0, b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0");
        let mut properties = vec![ispe, config, alpha];
        properties.extend(self.properties.iter().cloned());
        let own: Vec<u8> = [1, 2].into_iter().chain(4..properties.len() as u8 + 1).map(|at| at | 0x80).collect();
        let mut ipma = (1 + u32::from(self.alpha)).to_be_bytes().to_vec();
        ipma.extend_from_slice(&[0, 1, own.len() as u8]);
        ipma.extend_from_slice(&own);
        let infe = |id: u8| full(b"infe", 2, &[&[0, id, 0, 0][..], b"av01\0"].concat());
        let (mut items, mut locations) = (infe(1), vec![0x44, 0, 0, 1 + u8::from(self.alpha)]);
        let location = |id: u8| [&[0, id, 0, 0, 0, 1][..], &900u32.to_be_bytes(), &10u32.to_be_bytes()].concat();
        locations.extend(location(1));
        let mut iref = Vec::new();
        if self.alpha {
            ipma.extend_from_slice(&[0, 2, 3, 1, 2, 3]);
            items.extend(infe(2));
            locations.extend(location(2));
            iref = full(b"iref", 0, &boxed(b"auxl", &[0, 2, 0, 1, 0, 1]));
        }
        let iprp = boxed(b"iprp", &[boxed(b"ipco", &properties.concat()), full(b"ipma", 0, &ipma)].concat());
        let iinf = full(b"iinf", 0, &[&[0, 1 + u8::from(self.alpha)][..], &items].concat());
        let meta = full(
            b"meta",
            0,
            &[
                full(b"hdlr", 0, b"\0\0\0\0pict"),
                full(b"pitm", 0, &[0, 1]),
                full(b"iloc", 0, &locations),
                iinf,
                iref,
                iprp,
            ]
            .concat(),
        );
        [boxed(b"ftyp", b"avif\0\0\0\0avifmif1miaf"), meta, boxed(b"mdat", &[0; 100])].concat()
    }
}

fn gif(screen: (u16, u16), frame: (u16, u16), transparent: bool, frames: usize) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend_from_slice(&screen.0.to_le_bytes());
    file.extend_from_slice(&screen.1.to_le_bytes());
    file.extend_from_slice(&[0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    file.extend_from_slice(b"\x21\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0");
    for _ in 0..frames {
        file.extend_from_slice(&[0x21, 0xF9, 4, u8::from(transparent), 0, 0, 0, 0, 0x2C, 0, 0, 0, 0]);
        file.extend_from_slice(&frame.0.to_le_bytes());
        file.extend_from_slice(&frame.1.to_le_bytes());
        file.extend_from_slice(&[0, 2, 2, 0x4C, 0x01, 0]);
    }
    file.push(0x3B);
    file
}

/// A TIFF whose directory of SHORTs lies behind its pixels.
fn tiff(fields: &[(u16, u16)]) -> Vec<u8> {
    const PIXELS: usize = 100;
    let mut file = [&b"II*\0"[..], &(8 + PIXELS as u32).to_le_bytes(), &[7; PIXELS]].concat();
    file.extend_from_slice(&(fields.len() as u16).to_le_bytes());
    for (tag, value) in fields {
        file.extend_from_slice(&tag.to_le_bytes());
        file.extend_from_slice(&[3, 0, 1, 0, 0, 0]);
        file.extend_from_slice(&value.to_le_bytes());
        file.extend_from_slice(&[0; 2]);
    }
    file.extend_from_slice(&[0; 4]);
    file
}

fn all_kinds() -> Vec<Vec<u8>> {
    let mut alpha = MadeAvif::of(640, 480);
    alpha.alpha = true;
    alpha.properties = vec![boxed(b"irot", &[1]), boxed(b"colr", b"nclx\0\x01\0\x0D\0\x06\x80")];
    let profile = [b"ICC_PROFILE\0\x01\x01", &[7; 300][..]].concat();
    vec![
        jpeg(0xC0, 640, 480, YUV420, &[segment(0xE1, &exif(6)), segment(0xE2, &profile)]),
        jpeg(0xC2, 640, 480, YUV420, &[segment(0xFE, b"a comment")]),
        png(640, 480, 16, 6, &[chunk(b"iCCP", &[1; 80]), chunk(b"eXIf", &exif(3)[6..])]),
        riff(&[(b"VP8 ", vp8(640, 480))]),
        riff(&[(b"VP8L", vp8l(640, 480, true))]),
        riff(&[
            (b"VP8X", vp8x(0x30, 640, 480)),
            (b"ICCP", vec![1; 33]),
            (b"ALPH", vec![0; 9]),
            (b"VP8 ", vp8(640, 480)),
            (b"EXIF", exif(8)),
        ]),
        alpha.file(),
        gif((640, 480), (640, 480), true, 3),
        tiff(&[(256, 640), (257, 480), (258, 8), (259, 5), (262, 1), (274, 6), (277, 1)]),
    ]
}

#[test]
fn jpeg_kinds() {
    let header = whole(&jpeg(0xC0, 600, 400, YUV420, &[segment(0xE1, &exif(6))])).unwrap();
    assert_eq!((header.width, header.height, header.components), (600, 400, 3));
    assert_eq!((header.orientation, header.coefficient_bytes), (Orientation::Rotate90, 0));
    let bytes = |samplings| whole(&jpeg(0xC2, 60, 40, samplings, &[])).unwrap().coefficient_bytes;
    assert_eq!(bytes(YUV420), 3);
    assert_eq!(bytes(&[0x21, 0x11, 0x11]), 4);
    assert_eq!(bytes(&[0x11, 0x11, 0x11]), 6);
    assert_eq!(bytes(&[0x11]), 2);
    assert_eq!(bytes(&[0x11; 4]), 8);
    for (sof, word) in [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xC9, "arithmetic"), (0xCF, "rare")] {
        let fault = whole(&jpeg(sof, 60, 40, YUV420, &[])).unwrap_err();
        assert_eq!(fault.kind, Kind::Unsupported);
        assert!(fault.detail.contains(word), "{fault}");
    }
    assert_eq!(whole(&jpeg(0xC0, 60, 40, &[0x11; 2], &[])).unwrap_err().kind, Kind::Unsupported);
    assert_eq!(whole(&jpeg(0xC0, 60, 0, YUV420, &[])).unwrap_err().kind, Kind::BadImage);
    assert_eq!(whole(&jpeg(0xC0, 60, 40, &[0x51], &[])).unwrap_err().kind, Kind::BadImage);
}

#[test]
fn a_sequential_jpeg_in_several_scans_keeps_its_coefficients_too() {
    let mut file = jpeg(0xC0, 60, 40, YUV420, &[]);
    let scan = file.iter().rposition(|&byte| byte == SOS).unwrap();
    assert_eq!(file[scan + 3], 3);
    file[scan + 3] = 1;
    assert_eq!(whole(&file).unwrap().coefficient_bytes, 3);
}

#[test]
fn too_many_scans_are_refused_when_the_whole_file_is_there() {
    let mut file = jpeg(0xC2, 60, 40, YUV420, &[]);
    let scan = segment(SOS, &[1, 1, 0, 1, 5, 0]);
    for _ in 0..Limits::DEFAULT.scans_max - 1 {
        file.extend_from_slice(&scan);
        file.extend_from_slice(&[1, 2, 0xFF, 0, 0xFF, 0xD0, 3]);
    }
    assert!(whole(&file).is_ok());
    file.extend_from_slice(&scan);
    let fault = whole(&file).unwrap_err();
    assert_eq!(fault.kind, Kind::TooLarge);
    assert!(fault.detail.contains("scans_max") && fault.detail.contains("101"), "{fault}");
}

#[test]
fn png_kinds() {
    let header = whole(&png(300, 200, 16, 4, &[])).unwrap();
    assert_eq!((header.components, header.bits, header.alpha), (1, 16, true));
    let header = whole(&png(300, 200, 4, 3, &[chunk(b"PLTE", &[0; 9]), chunk(b"tRNS", &[0])])).unwrap();
    assert_eq!((header.components, header.bits, header.alpha), (3, 4, true));
    let header = whole(&png(300, 200, 8, 2, &[chunk(b"acTL", &[0, 0, 0, 9, 0, 0, 0, 0])])).unwrap();
    assert_eq!((header.components, header.frames, header.alpha), (3, 9, false));
    assert_eq!(whole(&png(300, 200, 3, 2, &[])).unwrap_err().kind, Kind::BadImage);
    assert_eq!(whole(&png(300, 200, 8, 5, &[])).unwrap_err().kind, Kind::BadImage);
    assert_eq!(whole(&png(0, 200, 8, 2, &[])).unwrap_err().kind, Kind::BadImage);
    let mut apple = png(300, 200, 8, 2, &[]);
    apple[12..16].copy_from_slice(b"CgBI");
    assert!(whole(&apple).unwrap_err().detail.contains("Xcode"));
}

#[test]
fn metadata_behind_the_pixels_is_seen_in_the_whole_file_only() {
    let mut file = png(300, 200, 8, 2, &[]);
    file.truncate(file.len() - 12);
    file.extend(chunk(b"eXIf", &exif(6)[6..]));
    assert_eq!(whole(&file).unwrap().orientation, Orientation::Rotate90);
    let Ok(Progress::Header(early)) = read(&file[..90], None, &Limits::DEFAULT) else { panic!() };
    assert_eq!(early.orientation, Orientation::Normal);
}

#[test]
fn webp_kinds() {
    let header = whole(&riff(&[(b"VP8L", vp8l(16384, 1, true))])).unwrap();
    assert_eq!((header.width, header.height, header.alpha), (16384, 1, true));
    let animated = |frames: usize| {
        let mut chunks = vec![(b"VP8X", vp8x(0x12, 320, 240)), (b"ANIM", vec![0; 6])];
        chunks.extend((0..frames).map(|_| (b"ANMF", vec![0; 41])));
        riff(&chunks)
    };
    assert_eq!(whole(&animated(7)).unwrap().frames, 7);
    let fault = whole(&animated(1025)).unwrap_err();
    assert!(fault.detail.contains("frames_max"), "{fault}");
    let liar = riff(&[(b"VP8X", vp8x(0, 100, 100)), (b"VP8L", vp8l(101, 100, false))]);
    assert_eq!(whole(&liar).unwrap_err().kind, Kind::BadImage);
    let oriented = riff(&[(b"VP8X", vp8x(8, 64, 48)), (b"VP8 ", vp8(64, 48)), (b"EXIF", exif(8))]);
    assert_eq!(whole(&oriented).unwrap().orientation, Orientation::Rotate270);
}

#[test]
fn avif_kinds() {
    let mut made = MadeAvif::of(640, 480);
    let header = whole(&made.file()).unwrap();
    assert_eq!((header.width, header.height, header.bits, header.alpha), (640, 480, 10, false));
    made.alpha = true;
    assert!(whole(&made.file()).unwrap().alpha);
    for (properties, orientation) in [
        (vec![boxed(b"irot", &[1])], Orientation::Rotate270),
        (vec![boxed(b"irot", &[3])], Orientation::Rotate90),
        (vec![boxed(b"imir", &[1])], Orientation::FlipH),
        (vec![boxed(b"irot", &[3]), boxed(b"imir", &[1])], Orientation::Transpose),
        (vec![boxed(b"imir", &[1]), boxed(b"irot", &[3])], Orientation::Transverse),
    ] {
        made.properties = properties;
        assert_eq!(whole(&made.file()).unwrap().orientation, orientation);
    }
    made.properties = vec![boxed(b"what", &[1])];
    assert_eq!(whole(&made.file()).unwrap_err().kind, Kind::Unsupported);
    let huge = whole(&MadeAvif::of(60_000, 60_000).file()).unwrap_err();
    assert!(huge.detail.contains("side_max"), "{huge}");
}

#[test]
fn gif_kinds() {
    let header = whole(&gif((64, 48), (64, 48), false, 5)).unwrap();
    assert_eq!((header.width, header.height, header.frames, header.alpha), (64, 48, 5, false));
    assert!(whole(&gif((64, 48), (64, 47), false, 1)).unwrap().alpha);
    assert!(whole(&gif((64, 48), (64, 48), true, 1)).unwrap().alpha);
    assert_eq!(whole(&gif((0, 0), (9, 7), false, 1)).unwrap().height, 7);
    assert!(whole(&gif((65_535, 65_535), (1, 1), false, 1)).unwrap_err().detail.contains("side_max"));
    assert_eq!(whole(&gif((64, 48), (0, 48), false, 1)).unwrap_err().kind, Kind::BadImage);
}

#[test]
fn tiff_kinds() {
    let fields = |more: &[(u16, u16)]| [&[(256, 64), (257, 48), (258, 8), (259, 1)], more].concat();
    let header = whole(&tiff(&fields(&[(262, 2), (277, 4), (338, 2)]))).unwrap();
    assert_eq!((header.width, header.height, header.components, header.alpha), (64, 48, 3, true));
    let inks = whole(&tiff(&fields(&[(262, 5), (277, 4)]))).unwrap();
    assert_eq!((inks.components, inks.alpha), (4, false));
    for (more, kind, word) in [
        (&[(262, 2), (277, 2)][..], Kind::BadImage, "2 samples"),
        (&[(277, 3)], Kind::BadImage, "262"),
        (&[(254, 1), (262, 1)], Kind::Unsupported, "raw"),
        (&[(262, 32_803)], Kind::Unsupported, "raw"),
        (&[(262, 8)], Kind::Unsupported, "Lab"),
        (&[(262, 1), (266, 2)], Kind::Unsupported, "FillOrder"),
        (&[(262, 1), (322, 9000)], Kind::BadImage, "tiles"),
        (&[(262, 1), (277, 99)], Kind::BadImage, "99 samples"),
    ] {
        let fault = whole(&tiff(&fields(more))).unwrap_err();
        assert!(fault.kind == kind && fault.detail.contains(word), "{word}: {fault}");
    }
    assert!(whole(&tiff(&[(256, 60_000), (257, 9), (262, 1)])).unwrap_err().detail.contains("side_max"));
    assert_eq!(whole(&[&b"II*\0\x04"[..], &[0; 60]].concat()).unwrap_err().kind, Kind::BadImage);
}

#[test]
fn orientations_are_a_group() {
    for first in (1..=8).map(Orientation::of_tag) {
        assert_eq!(first.then(Orientation::Normal), first);
        let inverses = (1..=8).map(Orientation::of_tag).filter(|&next| first.then(next) == Orientation::Normal);
        assert_eq!(inverses.count(), 1, "{first:?}");
        assert_eq!(first.swaps_sides(), !first.then(Orientation::Rotate90).swaps_sides());
    }
    assert_eq!(Orientation::Rotate90.then(Orientation::FlipH), Orientation::Transpose);
}

#[test]
fn every_beginning_gives_the_same_header_or_asks_for_more() {
    for file in all_kinds() {
        let expected = whole(&file).unwrap();
        let mut known = false;
        for len in 0..file.len() {
            match read(&file[..len], Some(file.len() as u64), &Limits::DEFAULT).unwrap() {
                Progress::NeedMore { bytes, .. } => {
                    assert!(!known, "{:?} forgets what it knew", expected.format);
                    assert!(bytes as usize > len && bytes as usize <= file.len());
                }
                Progress::Header(header) => {
                    known = true;
                    let late = (expected.frames, expected.orientation);
                    let header = Header { frames: late.0, orientation: late.1, ..header };
                    assert_eq!(header, expected);
                }
            }
        }
        assert!(known);
        assert_eq!(growing(&file, 0).0.unwrap().width, expected.width);
    }
}

#[test]
fn a_cut_file_is_called_cut_off() {
    for file in all_kinds() {
        let fault = whole(&file[..24]).unwrap_err();
        assert_eq!(fault.kind, Kind::BadImage);
        assert!(fault.detail.contains("24 bytes") || fault.detail.contains("too few"), "{fault}");
    }
    assert!(whole(b"").unwrap_err().detail.contains("empty"));
    assert!(whole(b"\xFF\xD8").unwrap_err().detail.contains("too few"));
}

#[test]
fn limits_are_named_with_what_was_found_and_what_is_allowed() {
    let too_large = |file: &[u8], limits: &Limits, words: &[&str]| {
        let fault = whole_within(file, limits).unwrap_err();
        assert_eq!(fault.kind, Kind::TooLarge, "{fault}");
        words.iter().for_each(|word| assert!(fault.detail.contains(word), "{fault}"));
    };
    let default = &Limits::DEFAULT;
    let giant = jpeg(0xC2, 16_000, 16_000, YUV420, &[]);
    too_large(&giant, default, &["progressive_pixels_max", "256000000", "100000000", "16000x16000"]);
    too_large(&png(20_000, 20_000, 8, 2, &[]), default, &["pixels_max", "400000000"]);
    too_large(&png(40_000, 10, 8, 2, &[]), default, &["side_max", "40000"]);
    too_large(&png(16_000, 15_000, 1, 0, &[]), default, &["pixels_per_byte_max"]);
    let small = Limits { bytes_max: 100, icc_bytes_max: 50, metadata_bytes_max: 60, frames_max: 2, ..Limits::DEFAULT };
    too_large(&jpeg(0xC0, 9, 9, YUV420, &[segment(0xFE, &[0; 99])]), &small, &["bytes_max", "100"]);
    let small = Limits { bytes_max: 1000, ..small };
    too_large(&jpeg(0xC0, 9, 9, YUV420, &[segment(0xFE, &[0; 99])]), &small, &["metadata_bytes_max", "99"]);
    let profile = [b"ICC_PROFILE\0\x01\x01", &[7; 50][..]].concat();
    too_large(&jpeg(0xC0, 9, 9, YUV420, &[segment(0xE2, &profile)]), &small, &["icc_bytes_max"]);
    too_large(&png(9, 9, 8, 2, &[chunk(b"iCCP", &[0; 51])]), &small, &["icc_bytes_max", "51", "50"]);
    too_large(&gif((9, 9), (9, 9), false, 3), &small, &["frames_max", "3", "2"]);
}

#[test]
fn a_giant_is_refused_from_its_first_bytes() {
    let file = jpeg(0xC2, 16_000, 16_000, YUV420, &[]);
    let fault = read(&file, None, &Limits::DEFAULT).unwrap_err();
    assert_eq!(fault.kind, Kind::TooLarge);
    let file = png(30_000, 30_000, 8, 2, &[]);
    assert_eq!(read(&file[..100], None, &Limits::DEFAULT).unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn long_metadata_are_walked_in_linear_time() {
    // A million empty segments: every call asks for at least twice as much.
    let many: Vec<Vec<u8>> = vec![segment(0xEC, &[]); 1_000_000];
    let (header, calls, _) = growing(&jpeg(0xC0, 9, 9, YUV420, &many), 64);
    assert_eq!(header.unwrap().width, 9);
    assert!(calls < 20, "{calls} calls");
    // Large ones are skipped.
    let large: Vec<Vec<u8>> = (0..100).map(|_| segment(0xEB, &[0; 65_000])).collect();
    let (header, calls, _) = growing(&jpeg(0xC0, 9, 9, YUV420, &large), HEAD_BYTES);
    assert!(header.is_ok() && calls < 12, "{calls} calls");
}

#[test]
fn ten_thousand_mutated_headers_of_each_format_do_no_harm() {
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for file in all_kinds() {
        let mut refused = 0;
        for _ in 0..10_000 {
            let mut mutated = file.clone();
            for _ in 0..=random(4) {
                let at = 4 + random(mutated.len() - 4);
                match random(5) {
                    0 => mutated[at] = [0, 1, 0x7F, 0x80, 0xFF][random(5)],
                    1 => mutated[at] ^= 1 << random(8),
                    2 => drop(mutated.drain(at..(at + 1 + random(9)).min(file.len() / 2 + at).min(mutated.len()))),
                    3 => mutated.splice(at..at, std::iter::repeat_n(random(256) as u8, 1 + random(9))).for_each(drop),
                    _ => mutated.truncate(at.max(20)),
                }
                mutated.resize(mutated.len().max(20), 0);
            }
            match read(&mutated, Some(mutated.len() as u64), &Limits::DEFAULT) {
                Ok(Progress::Header(header)) => assert!(header.width > 0 && header.height > 0),
                Ok(Progress::NeedMore { bytes, .. }) => panic!("{bytes} are wanted of {}", mutated.len()),
                Err(fault) => {
                    refused += 1;
                    assert!(!fault.detail.is_empty() && !fault.is_transient());
                }
            }
        }
        assert!(refused > 100, "only {refused} of 10000 were refused");
    }
}
