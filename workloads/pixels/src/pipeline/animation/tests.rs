//! Whole animations through the whole pipeline.

use super::*;
use crate::options;
use crate::pipeline::pixels::{Layout, Pixels};
use crate::pipeline::trial::{self, Never};
use crate::pipeline::watermark::Marks;
use crate::pipeline::webp::{Placed, chunks};
use crate::pipeline::{Wanted, process};
use ::gif::{DisposalMethod, Encoder, Frame, Repeat};

const PALETTE: &[u8] = &[255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9];

fn frame(index: u8, left: u16, top: u16, side: u16, delay: u16) -> Frame<'static> {
    let buffer = vec![index; usize::from(side) * usize::from(side)].into();
    Frame { left, top, width: side, height: side, delay, buffer, ..Frame::default() }
}

/// A red screen of 64 x 48, then a green and a blue square, each of which goes away in its own manner.
fn moving() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 64, 48, PALETTE).unwrap();
    encoder.set_repeat(Repeat::Finite(4)).unwrap();
    let ground = Frame { width: 64, height: 48, delay: 5, buffer: vec![0; 64 * 48].into(), ..Frame::default() };
    encoder.write_frame(&ground).unwrap();
    let restored = Frame { dispose: DisposalMethod::Previous, ..frame(1, 8, 8, 16, 0) };
    encoder.write_frame(&restored).unwrap();
    let cleared = Frame { dispose: DisposalMethod::Background, ..frame(2, 32, 16, 16, 20) };
    encoder.write_frame(&cleared).unwrap();
    encoder.write_frame(&frame(1, 0, 0, 4, 7)).unwrap();
    drop(encoder);
    bytes
}

/// Processes with nothing to be laid over the outputs.
fn processed(file: &[u8], header: &Header, recipes: &[Recipe], pool: &mut Pool) -> Result<Vec<Output>, Fault> {
    let mut made = Vec::new();
    let wanted = Wanted { header, recipes, marks: &Marks::default() };
    process(file, wanted, pool, &Never, &mut |output| {
        made.push(output);
        Ok(())
    })?;
    made.sort_by_key(|output: &Output| output.index);
    Ok(made)
}

fn outputs(file: &[u8], texts: &[&str]) -> Result<Vec<Output>, Fault> {
    let recipes: Vec<Recipe> = texts.iter().map(|text| options::parse("test", text).unwrap()).collect();
    processed(file, &trial::header(file)?, &recipes, &mut Pool::new(1 << 24))
}

/// What is seen of an animated WebP: each picture with its milliseconds.
fn seen(file: &[u8]) -> (Vec<(Pixels, u32)>, u16) {
    let header = trial::header(file).unwrap();
    let mut pool = Pool::new(1 << 24);
    let mut canvas = Canvas::new(header.width, header.height, &mut pool);
    let mut source = webp::Webp::open(file);
    let mut pictures = Vec::new();
    while let Some(Step { ms }) = source.step(&mut canvas, &mut pool, &Never).unwrap() {
        pictures.push((canvas.seen(&mut pool), ms));
    }
    let plays = source.plays();
    (pictures, plays)
}

fn near(pixels: &Pixels, x: usize, y: usize, color: [u8; 3]) {
    let bytes = pixels.layout.bytes();
    let pixel = &pixels.samples[(y * pixels.width as usize + x) * bytes..][..bytes];
    assert!(pixel.iter().zip(color).all(|(is, wanted)| is.abs_diff(wanted) < 60), "{x},{y}: {pixel:?}, not {color:?}");
}

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn a_gif_becomes_a_webp_that_moves_as_it_did() {
    let [made] = &outputs(&moving(), &["maf:100/w:32"]).unwrap()[..] else { panic!("one output") };
    assert_eq!((made.format, made.width, made.height), (Format::Webp, 32, 24));
    let header = trial::header(&made.bytes).unwrap();
    assert_eq!((header.frames, header.width, header.height), (4, 32, 24));
    let (pictures, plays) = seen(&made.bytes);
    assert_eq!(plays, 5, "once, and four times again");
    assert_eq!(pictures.iter().map(|(_, ms)| *ms).collect::<Vec<_>>(), [50, 100, 200, 70], "0 is meant to be 100");
    let (first, second, third, fourth) = (&pictures[0].0, &pictures[1].0, &pictures[2].0, &pictures[3].0);
    near(first, 8, 8, RED);
    near(second, 8, 8, GREEN);
    near(second, 28, 20, RED);
    near(third, 8, 8, RED);
    near(third, 20, 12, BLUE);
    assert_eq!(fourth.layout, Layout::Rgba, "where the blue square was there is nothing");
    let alpha = |x: usize, y: usize| fourth.samples[(y * 32 + x) * 4 + 3];
    assert!(alpha(20, 12) < 60 && alpha(4, 20) > 200);
    // Only what differs is written.
    let squares: Vec<_> = chunks(&made.bytes).filter(|(name, _)| *name == b"ANMF").collect();
    let size = |at: usize| Placed::of(squares[at].1).map(|placed| (placed.width, placed.height)).unwrap();
    assert_eq!(size(0), (32, 24));
    // Eight pixels, and what Lanczos makes of their edges.
    assert!(size(1).0 <= 18 && size(1).1 <= 18, "{:?}", size(1));
}

#[test]
fn a_webp_moves_on_through_crops_turns_and_colours() {
    let [first] = &outputs(&moving(), &["maf:100"]).unwrap()[..] else { panic!("one output") };
    let made =
        outputs(&first.bytes, &["maf:100/rs:fill:24:24/rot:90/gray:1", "maf:2", "f:png", "maf:9/f:jpeg", ""]).unwrap();
    let frames = |at: usize| trial::header(&made[at].bytes).unwrap().frames;
    assert_eq!([0, 1, 2, 3, 4].map(frames), [4, 2, 1, 1, 1]);
    assert_eq!([0, 1, 2, 3, 4].map(|at: usize| made[at].format.name()), ["webp", "webp", "png", "jpeg", "webp"]);
    assert_eq!((made[0].width, made[0].height), (24, 24));
    let (pictures, plays) = seen(&made[0].bytes);
    assert_eq!((pictures.len(), plays), (4, 5));
    let (red, green, blue, _) = pictures[2]
        .0
        .samples
        .chunks_exact(pictures[2].0.layout.bytes())
        .fold((0_i64, 0_i64, 0_i64, 0), |sums, pixel| {
            (sums.0 + i64::from(pixel[0]), sums.1 + i64::from(pixel[1]), sums.2 + i64::from(pixel[2]), 0)
        });
    assert!((red - green).abs() < 3 * 24 * 24 && (green - blue).abs() < 3 * 24 * 24, "grey: {red} {green} {blue}");
}

#[test]
fn frames_are_counted_anew_where_only_the_head_was_read() {
    let (file, recipe) = (moving(), options::parse("test", "maf:9").unwrap());
    let header = Header { frames: 1, ..trial::header(&file).unwrap() };
    let made = processed(&file, &header, &[recipe], &mut Pool::new(1 << 24)).unwrap();
    assert_eq!((made[0].format, trial::header(&made[0].bytes).unwrap().frames), (Format::Webp, 4));
}

#[test]
fn placeholders_and_rights_come_with_the_first_frame() {
    let made = outputs(&moving(), &["maf:3/th:1/bh:2:2"]).unwrap();
    assert!(made[0].placeholders.thumbhash.is_some() && made[0].placeholders.blurhash.is_some());
}

#[test]
fn what_is_too_much_is_refused_and_says_what_to_do() {
    // Four frames on a screen that is within the limit once and not four times.
    let header = Header { width: 16_000, height: 16_000, ..trial::header(&moving()).unwrap() };
    assert!(header.pixels() < super::ANIMATION_PIXELS_MAX);
    let recipe = options::parse("test", "maf:1024").unwrap();
    let (mut pool, input) = (Pool::new(1 << 20), moving());
    let fault = processed(&input, &header, &[recipe], &mut pool).unwrap_err();
    assert_eq!(fault.kind, Kind::TooLarge);
    assert!(fault.detail.contains("maf"), "{fault}");
    assert!(options::parse("test", "maf:0").is_err() && options::parse("test", "maf:1025").is_err());
}

#[test]
fn memory_and_time_are_predicted_with_the_frames() {
    let header = Header { width: 2000, height: 2000, ..trial::header(&moving()).unwrap() };
    let still = crate::pipeline::predict(&header, &[options::parse("a", "f:webp").unwrap()]);
    let moves = crate::pipeline::predict(&header, &[options::parse("a", "maf:4").unwrap()]);
    assert!(moves.cpu_us > 2 * still.cpu_us && moves.peak_bytes > still.peak_bytes, "{still:?} {moves:?}");
}

#[test]
fn ten_thousand_mutated_animations_do_no_harm() {
    let moved = outputs(&moving(), &["maf:100/w:24"]).unwrap().swap_remove(0).bytes;
    let (made, refused) = crate::pipeline::mutation::run(&[moving(), moved], 10_000, |file| {
        let header = trial::small_header(file)?;
        let recipe = Recipe { frames_max: 8, ..Recipe::named("a") };
        processed(file, &header, &[recipe], &mut Pool::new(1 << 22)).map(drop)
    });
    assert!(made > 0 && refused > 500, "{made} made, {refused} refused");
}
