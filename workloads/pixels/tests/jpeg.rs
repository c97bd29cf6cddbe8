//! JPEGs through the whole pipeline: how near the result comes to floating point, with every kind of subsampling, turned
//! and not; what is cut off, and what ends in the middle.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "../../tests/outside/mod.rs"]
mod outside;

use std::cell::Cell;
use std::path::Path;

use annulus_pixels::fault::{Fault, Kind};
use annulus_pixels::header::{Header, Limits, Progress, read};
use annulus_pixels::options;
use annulus_pixels::pipeline::pixels::Pool;
use annulus_pixels::pipeline::watermark::Marks;
use annulus_pixels::pipeline::{Output, Wanted, Watch, process};
use annulus_pixels::recipe::Recipe;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// Stops at the check of this number.
struct Patience(Cell<u64>);

impl Patience {
    fn endless() -> Patience {
        Patience(Cell::new(u64::MAX))
    }
}

impl Watch for Patience {
    fn check(&self) -> Result<(), Fault> {
        let left = self.0.get();
        if left == 0 {
            return Err(Fault::new(Kind::Stopped, "stopped by the test"));
        }
        self.0.set(left - 1);
        Ok(())
    }
}

fn header(file: &[u8]) -> Header {
    match read(file, Some(file.len() as u64), &Limits::DEFAULT).unwrap() {
        Progress::Header(header) => header,
        Progress::NeedMore { bytes, .. } => panic!("{bytes} bytes of {} needed", file.len()),
    }
}

fn watched(file: &[u8], texts: &[&str], watch: &dyn Watch) -> Result<Vec<Output>, Fault> {
    let recipes: Vec<Recipe> = texts.iter().map(|text| options::parse("test", text).unwrap()).collect();
    let mut made = Vec::new();
    let (header, marks) = (header(file), Marks::default());
    let wanted = Wanted { header: &header, recipes: &recipes, marks: &marks };
    process(file, wanted, &mut Pool::new(256 << 20), watch, &mut |output| {
        made.push(output);
        Ok(())
    })?;
    made.sort_by_key(|output| output.index);
    Ok(made)
}

fn outputs(file: &[u8], texts: &[&str]) -> Result<Vec<Output>, Fault> {
    watched(file, texts, &Patience::endless())
}

struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Waves of all directions and colours, and a few edges.
fn scene(width: usize, height: usize) -> Picture {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f32, y as f32);
            let edge = if (x / 97 + y / 61) % 2 == 0 { 25.0 } else { -25.0 };
            let light = 128.0 + 50.0 * (u / 23.0 + v / 41.0).sin() + edge;
            rgb.push((light + 30.0 * (u / 57.0).cos()).clamp(0.0, 255.0) as u8);
            rgb.push((light + 10.0 * (v / 31.0).sin()).clamp(0.0, 255.0) as u8);
            rgb.push((light + 30.0 * ((u - v) / 77.0).sin()).clamp(0.0, 255.0) as u8);
        }
    }
    Picture { width, height, rgb }
}

fn jpeg(picture: &Picture, subsamp: Subsamp, progressive: bool) -> Vec<u8> {
    let mut encoder = Compressor::new().unwrap();
    encoder.set_quality(92).unwrap();
    encoder.set_subsamp(subsamp).unwrap();
    encoder.set_progressive(progressive).unwrap();
    let image = Image {
        pixels: &picture.rgb[..],
        width: picture.width,
        pitch: picture.width * 3,
        height: picture.height,
        format: PixelFormat::RGB,
    };
    encoder.compress_to_vec(image).unwrap()
}

fn decoded(jpeg: &[u8]) -> Picture {
    let image = turbojpeg::decompress(jpeg, PixelFormat::RGB).unwrap();
    Picture { width: image.width, height: image.height, rgb: image.pixels }
}

fn decoded_png(png: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    Picture { width: info.width as usize, height: info.height as usize, rgb }
}

/// Lanczos3 of the full decode in floating point, one axis after the other.
fn reference(whole: &Picture, width: usize, height: usize) -> Vec<f32> {
    let row = whole.width * 3;
    let mut short = vec![0f32; row * height];
    for (line, taps) in short.chunks_exact_mut(row).zip(taps(whole.height, height)) {
        for (y, weight) in taps {
            let from = &whole.rgb[y * row..][..row];
            line.iter_mut().zip(from).for_each(|(sum, &sample)| *sum += weight * f32::from(sample));
        }
    }
    let columns = taps(whole.width, width);
    let mut out = Vec::with_capacity(width * height * 3);
    for line in short.chunks_exact(row) {
        for taps in &columns {
            for colour in 0..3 {
                out.push(taps.iter().map(|&(x, weight)| weight * line[x * 3 + colour]).sum());
            }
        }
    }
    out
}

fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    let one = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let weight = |sample: usize| {
            let x = (sample as f64 + 0.5 - centre) / scale;
            if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
        };
        let first = (centre - 3.0 * scale).floor().max(0.0) as usize;
        let last = ((centre + 3.0 * scale).ceil() as usize).min(from);
        let sum: f64 = (first..last).map(weight).sum();
        (first..last).map(|sample| (sample, (weight(sample) / sum) as f32)).collect()
    };
    (0..to).map(one).collect()
}

fn decibels(made: &[u8], exact: impl IntoIterator<Item = f32>) -> f64 {
    let mut sum = 0.0;
    for (&made, exact) in made.iter().zip(exact) {
        sum += (f64::from(made) - f64::from(exact.clamp(0.0, 255.0))).powi(2);
    }
    10.0 * (255.0 * 255.0 * made.len() as f64 / sum.max(1e-9)).log10()
}

fn fidelity(whole: &Picture, png: &[u8]) -> f64 {
    let made = decoded_png(png);
    decibels(&made.rgb, reference(whole, made.width, made.height))
}

/// The promise of the project: 50 dB at 256 pixels, alone and at the end of a cascade.
#[test]
fn photos_keep_50_decibels() {
    let folder = std::env::var_os("ANNULUS_DATA").map(|data| Path::new(&data).join("photos"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        return outside::not_run("fidelity of photos", "set ANNULUS_DATA to a folder with photos/*.jpg");
    };
    let mut photos = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::read(&path).unwrap();
        let whole = decoded(&file);
        let alone = outputs(&file, &["rs:fit:256:256/f:png"]).unwrap();
        let alone = fidelity(&whole, &alone[0].bytes);
        let texts = ["rs:fit:256:256/f:png", "rs:fit:800:800/f:png", "rs:fit:1600:1600"];
        let cascade = outputs(&file, &texts).unwrap();
        let (small, medium) = (fidelity(&whole, &cascade[0].bytes), fidelity(&whole, &cascade[1].bytes));
        println!("{}: alone {alone:.2} dB; cascade {small:.2}, 800 px {medium:.2}", path.display());
        assert!(alone >= 50.0 && small >= 50.0, "{}: {alone:.2} {small:.2}", path.display());
        assert!(medium >= 47.0, "{}: {medium:.2}", path.display());
        photos += 1;
    }
    assert!(photos > 0, "the folder of photos is empty");
}

#[test]
fn every_subsampling_and_every_shrink_stays_near_floating_point() {
    let scene = scene(1201, 803);
    for subsamp in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Sub4x1, Subsamp::Sub1x4]
    {
        let file = jpeg(&scene, subsamp, false);
        let whole = decoded(&file);
        for side in [47, 97, 151, 290, 580, 1000] {
            let made = outputs(&file, &[&format!("rs:fit:{side}:{side}/f:png")]).unwrap();
            let decibels = fidelity(&whole, &made[0].bytes);
            assert!(decibels >= 42.0, "{subsamp:?} {side}: {decibels:.2} dB");
        }
    }
}

/// A JPEG made of planes and a PNG made of pixels show the same, whatever the size, subsampling and turn.
#[test]
fn planes_and_pixels_show_the_same_however_turned() {
    let scene = scene(641, 427);
    for subsamp in [Subsamp::Sub2x2, Subsamp::Sub2x1, Subsamp::None] {
        let file = jpeg(&scene, subsamp, false);
        for size in ["fit:201:201", "fit:200:200", "fill:101:77", "force:33:90"] {
            for turn in ["rot:0", "rot:90", "rot:180", "rot:270", "fl:1:0", "fl:0:1", "rot:90/fl:1:0", "rot:270/fl:1:0"]
            {
                let text = format!("rs:{size}/{turn}");
                let (planes, pixels) = (format!("{text}/f:jpeg/q:89"), format!("{text}/f:png"));
                let made = outputs(&file, &[&planes, &pixels]).unwrap();
                let (planes, pixels) = (decoded(&made[0].bytes), decoded_png(&made[1].bytes));
                assert_eq!((planes.width, planes.height), (pixels.width, pixels.height), "{text}");
                let decibels = decibels(&planes.rgb, pixels.rgb.iter().map(|&sample| f32::from(sample)));
                assert!(decibels >= 33.0, "{subsamp:?} {text}: {decibels:.2} dB");
            }
        }
    }
}

#[test]
fn progressive_is_baseline_in_another_order() {
    let scene = scene(500, 300);
    let texts = ["rs:fit:220:220", "rs:fit:60:60"];
    let made = outputs(&jpeg(&scene, Subsamp::Sub2x2, false), &texts).unwrap();
    assert_eq!(made, outputs(&jpeg(&scene, Subsamp::Sub2x2, true), &texts).unwrap());
}

#[test]
fn what_is_cut_off_is_refused_but_a_missing_end_marker_is_not() {
    for progressive in [false, true] {
        let file = jpeg(&scene(400, 300), Subsamp::Sub2x2, progressive);
        let texts = ["rs:fit:200:200", "rs:fit:30:30"];
        let whole = outputs(&file, &texts).unwrap();
        assert_eq!(outputs(&file[..file.len() - 2], &texts).unwrap(), whole);
        assert_eq!(outputs(&file[..file.len() - 1], &texts).unwrap(), whole);
        let mut longer = file.clone();
        longer.extend_from_slice(&[0; 5000]);
        assert_eq!(outputs(&longer, &texts).unwrap(), whole);
        for len in [file.len() / 2, file.len() * 9 / 10, file.len() - 200] {
            let fault = outputs(&file[..len], &texts).unwrap_err();
            assert_eq!(fault.kind, Kind::BadImage, "{fault}");
            assert!(fault.detail.contains("cut off"), "{fault}");
        }
    }
}

#[test]
fn broken_data_is_a_bad_image() {
    let mut file = jpeg(&scene(400, 300), Subsamp::Sub2x2, false);
    let middle = file.len() / 2;
    file[middle..middle + 300].fill(0xFF);
    let fault = outputs(&file, &["rs:fit:200:200"]).unwrap_err();
    assert_eq!(fault.kind, Kind::BadImage, "{fault}");
}

#[test]
fn a_job_ends_at_whichever_check_it_is_told() {
    let file = jpeg(&scene(800, 600), Subsamp::Sub2x2, false);
    let texts = ["rs:fit:400:400/sh:1", "rs:fit:200:200/f:png/bl:2", "rs:fit:60:60/f:webp"];
    let all = Patience::endless();
    watched(&file, &texts, &all).unwrap();
    let checks = u64::MAX - all.0.get();
    assert!(checks >= 10, "{checks}");
    for at in 0..checks {
        let fault = watched(&file, &texts, &Patience(Cell::new(at))).unwrap_err();
        assert_eq!(fault.kind, Kind::Stopped, "check {at} of {checks}: {fault}");
    }
}

#[test]
fn a_grey_jpeg_stays_grey() {
    let (width, height) = (300, 200);
    let gray: Vec<u8> = (0..width * height).map(|at| (at % width * 255 / width) as u8).collect();
    let image = Image { pixels: &gray[..], width, pitch: width, height, format: PixelFormat::GRAY };
    let file = turbojpeg::compress(image, 95, Subsamp::Gray).unwrap();
    let made = outputs(&file, &["rs:fit:100:100/sh:0.5"]).unwrap();
    let found = turbojpeg::read_header(&made[0].bytes).unwrap();
    assert_eq!((found.subsamp, found.width, found.height), (Subsamp::Gray, 100, 67));
}

#[test]
fn good_quality_keeps_whole_colour() {
    let file = jpeg(&scene(300, 200), Subsamp::None, false);
    let made = outputs(&file, &["rs:fit:100:100/q:89", "rs:fit:100:100/q:90"]).unwrap();
    let subsamp = |output: &Output| turbojpeg::read_header(&output.bytes).unwrap().subsamp;
    assert_eq!((subsamp(&made[0]), subsamp(&made[1])), (Subsamp::Sub2x2, Subsamp::None));
}
