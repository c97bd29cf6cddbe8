//! The same samples as libjpeg-turbo, whatever the file; and nothing where it is not flawless.

use turbojpeg::{Compressor, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp};

use super::*;
use crate::pipeline::mutation;

/// 4:2:0 with a restart marker after every third unit.
const RESTARTS: &[u8] = include_bytes!("restart.jpg");

/// What libjpeg-turbo makes of it.
fn theirs(input: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut decoder = Decompressor::new().unwrap();
    let header = decoder.read_header(input).ok()?;
    decoder.set_scaling_factor(ScalingFactor::new(1, 8)).unwrap();
    let scale = ScalingFactor::new(1, 8);
    let (width, height) = (scale.scale(header.width), scale.scale(header.height));
    let format = if header.subsamp == Subsamp::Gray { PixelFormat::GRAY } else { PixelFormat::RGB };
    let mut pixels = vec![0; width * height * format.size()];
    let target = Image { pixels: &mut pixels[..], width, pitch: width * format.size(), height, format };
    decoder.decompress(input, target).ok()?;
    Some((width, height, pixels))
}

fn ours(input: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let pixels = decode(input, &mut Pool::new(0))?;
    Some((pixels.width as usize, pixels.height as usize, pixels.samples))
}

/// From quiet to noise, so that codes of all lengths occur.
fn encoded(width: usize, height: usize, noise: i32, quality: i32, subsamp: Subsamp, optimized: bool) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut sample = |at: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let wave = ((at / 3 % width) as f64 / 7.0).sin() * 90.0 + (at / 3 / width) as f64;
        (128 + wave as i32 + (state >> 8) as i32 % (noise + 1)).clamp(0, 255) as u8
    };
    let pixels: Vec<u8> = (0..width * height * 3).map(&mut sample).collect();
    let mut encoder = Compressor::new().unwrap();
    encoder.set_quality(quality).unwrap();
    encoder.set_subsamp(subsamp).unwrap();
    encoder.set_optimize(optimized).unwrap();
    let image = Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
    encoder.compress_to_vec(image).unwrap()
}

#[test]
fn samples_are_libjpegs_to_the_bit() {
    let sizes = [(1, 1), (8, 8), (17, 9), (37, 129), (250, 131)];
    for (subsamp, (width, height)) in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Gray]
        .into_iter()
        .flat_map(|subsamp| sizes.map(|size| (subsamp, size)))
    {
        for (noise, quality) in [(0, 30), (20, 75), (60, 90), (255, 50), (255, 98), (255, 100)] {
            for optimized in [false, true] {
                let jpeg = encoded(width, height, noise, quality, subsamp, optimized);
                let found = ours(&jpeg).unwrap_or_else(|| panic!("{subsamp:?} {width}x{height} {noise} {quality}"));
                assert!(Some(found) == theirs(&jpeg), "{subsamp:?} {width}x{height} noise {noise} quality {quality}");
            }
        }
    }
}

#[test]
fn restart_markers_are_followed() {
    assert!(ours(RESTARTS).is_some() && ours(RESTARTS) == theirs(RESTARTS));
    let at = RESTARTS.windows(2).position(|two| two == [0xFF, 0xD3]).unwrap();
    let mut wrong = RESTARTS.to_vec();
    wrong[at + 1] = 0xD5;
    assert_eq!(ours(&wrong), None, "a part is missing");
}

#[test]
fn what_is_not_plain_is_left_to_libjpeg() {
    let plain = encoded(100, 80, 30, 80, Subsamp::Sub2x2, true);
    assert!(ours(&plain).is_some());
    for len in [0, 2, 20, 300, plain.len() - 3, plain.len() - 2, plain.len() - 1] {
        assert_eq!(ours(&plain[..len]), None, "{len} bytes");
    }
    // Something between the data and the end.
    let padded = [&plain[..plain.len() - 2], &[1, 2, 3, 0xFF, 0xD9]].concat();
    assert_eq!(ours(&padded), None);
    assert_eq!(ours(&encoded(100, 80, 30, 80, Subsamp::Sub1x2, true)), None);
    assert_eq!(ours(&encoded(100, 80, 30, 80, Subsamp::Sub4x1, true)), None);
    let mut progressive = Compressor::new().unwrap();
    progressive.set_progressive(true).unwrap();
    let pixels = [77; 64 * 64];
    let image = Image { pixels: &pixels[..], width: 64, pitch: 64, height: 64, format: PixelFormat::GRAY };
    progressive.set_subsamp(Subsamp::Gray).unwrap();
    assert_eq!(ours(&progressive.compress_to_vec(image).unwrap()), None);
}

/// Whatever is changed: where ours finds a file flawless, libjpeg finds the same in it.
#[test]
fn mutated_files_agree() {
    let mut files: Vec<Vec<u8>> = [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Gray]
        .map(|subsamp| encoded(60, 50, 60, 85, subsamp, true))
        .into();
    files.push(RESTARTS.to_vec());
    let mut agreed = 0;
    mutation::run(&files, 20_000, |mutated| {
        if let (Some(ours), Some(theirs)) = (ours(mutated), theirs(mutated)) {
            assert!(ours == theirs);
            agreed += 1;
        }
        Ok(())
    });
    assert!(agreed > 100, "{agreed}");
}
