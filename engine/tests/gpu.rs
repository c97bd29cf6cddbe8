//! The kernels and codecs of the GPU against floating point on the host, wherever there is a GPU. Elsewhere this says
//! loudly that it was not run; `ANNULUS_GPU=1` makes that a failure. `ANNULUS_NVJPEG` names the library's file.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::path::PathBuf;
use std::sync::Arc;

use annulus_engine::gpu::{
    Colour, Desk, Device, Error, Nvjpeg, Picture, Plane, Quality, Resample, Samples, Sharpen, Subsampling, Turn,
};

/// A desk, or a loud word that there is none.
fn desk(test: &str) -> Option<Desk> {
    let opened = Device::open(0).and_then(|device| {
        let path = std::env::var_os("ANNULUS_NVJPEG").map(PathBuf::from);
        let nvjpeg = Nvjpeg::open(&device, path.as_deref())?;
        Ok((device, nvjpeg))
    });
    let (device, nvjpeg): (Arc<Device>, Arc<Nvjpeg>) = match opened {
        Ok(both) => both,
        Err(Error::Absent(why)) => {
            assert!(std::env::var_os("ANNULUS_GPU").is_none(), "a GPU was asked for: {why}");
            not_run(test, &why);
            return None;
        }
        Err(other) => panic!("{other}"),
    };
    println!("{:?} {:?}", device.facts(), nvjpeg);
    Some(Desk::new(&device, &nvjpeg, 256 << 20).unwrap())
}

fn not_run(test: &str, why: &str) {
    eprintln!("NOT RUN: {test}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "engine gpu {test}: {why}").unwrap();
    }
}

fn random(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    }
}

/// Waves under noise: what a photo has, and its worst case.
fn scene(width: u32, height: u32, seed: u64) -> Vec<u8> {
    let mut random = random(seed);
    let mut sample = |x: u32, y: u32| {
        let wave = 127.5 + 90.0 * (f64::from(x) / 23.0).sin() * (f64::from(y) / 17.0).cos();
        (wave + f64::from(random() % 61) - 30.0).clamp(0.0, 255.0) as u8
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| sample(x, y)).collect()
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn weights(start: f64, len: f64, from: u32, to: u32, at: u32) -> Vec<f64> {
    let scale = (len / f64::from(to)).max(1.0);
    let centre = start + (f64::from(at) + 0.5) * len / f64::from(to);
    let all: Vec<f64> = (0..from).map(|sample| lanczos((f64::from(sample) + 0.5 - centre) / scale)).collect();
    let sum: f64 = all.iter().sum();
    all.into_iter().map(|weight| weight / sum).collect()
}

fn resampled(from: &[u8], (width, height): (u32, u32), [left, top, wide, high]: [f64; 4], to: (u32, u32)) -> Vec<f64> {
    let mut short = vec![0.0; (width * to.1) as usize];
    for y in 0..to.1 {
        let weights = weights(top, high, height, to.1, y);
        for (row, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            for x in 0..width as usize {
                short[y as usize * width as usize + x] += weight * f64::from(from[row * width as usize + x]);
            }
        }
    }
    let mut out = vec![0.0; (to.0 * to.1) as usize];
    for x in 0..to.0 {
        let weights = weights(left, wide, width, to.0, x);
        for y in 0..to.1 as usize {
            let row = &short[y * width as usize..][..width as usize];
            out[y * to.0 as usize + x as usize] =
                row.iter().zip(&weights).map(|(sample, weight)| sample * weight).sum();
        }
    }
    out
}

fn assert_near(ours: &[u8], exact: &[f64], by: f64, what: &str) {
    assert_eq!(ours.len(), exact.len());
    for (at, (&ours, &exact)) in ours.iter().zip(exact).enumerate() {
        assert!((f64::from(ours) - exact.clamp(0.0, 255.0)).abs() <= by, "{what}: {at}: {ours} instead of {exact}");
    }
}

#[test]
fn resampling_agrees_with_floating_point_in_a_ragged_batch() {
    let Some(mut desk) = desk("resampling_agrees_with_floating_point_in_a_ragged_batch") else { return };
    type Case = ((u32, u32), [f64; 4], (u32, u32));
    let cases: [Case; 11] = [
        ((600, 400), [0.0, 0.0, 600.0, 400.0], (60, 40)),
        ((601, 403), [0.0, 0.0, 600.375, 402.5], (160, 107)),
        ((211, 157), [13.7, 20.2, 100.1, 90.9], (33, 30)),
        ((211, 157), [200.0, 0.0, 11.0, 157.0], (1, 50)),
        ((211, 157), [50.0, 50.0, 20.0, 10.0], (41, 25)),
        ((1, 1), [0.0, 0.0, 1.0, 1.0], (9, 7)),
        ((3001, 17), [0.5, 0.25, 3000.0, 16.5], (2, 3)),
        ((17, 3001), [0.0, 0.0, 17.0, 3001.0], (17, 1)),
        ((900, 700), [899.0, 699.0, 1.0, 1.0], (5, 5)),
        // Standing over by half a step, as the colour of odd sides does, at the end and at the start.
        ((301, 201), [0.0, 0.0, 302.0, 202.0], (151, 101)),
        ((301, 201), [-1.0, -1.0, 302.0, 202.0], (151, 101)),
    ];
    for round in 0..3 {
        desk.clear().unwrap();
        let scenes: Vec<Vec<u8>> =
            cases.iter().map(|((width, height), ..)| scene(*width, *height, 77 + round)).collect();
        let mut batch = Vec::new();
        for ((size, [left, top, width, height], to), scene) in cases.iter().zip(&scenes) {
            let from = desk.plane(size.0, size.1).unwrap();
            desk.write(&from, scene).unwrap();
            let to = desk.plane(to.0, to.1).unwrap();
            // What is not written shows.
            desk.write(&to, &vec![0xA5; (to.width() * to.height()) as usize]).unwrap();
            batch.push(Resample { from, left: *left, top: *top, width: *width, height: *height, to });
        }
        desk.resample(&batch).unwrap();
        for ((resample, (size, bounds, to)), scene) in batch.iter().zip(&cases).zip(&scenes) {
            let ours = desk.read(&resample.to).unwrap();
            assert_near(&ours, &resampled(scene, *size, *bounds, *to), 0.51, &format!("{size:?} {bounds:?} {to:?}"));
        }
    }
}

#[test]
fn sharpening_agrees_with_floating_point() {
    let Some(mut desk) = desk("sharpening_agrees_with_floating_point") else { return };
    for (size, sigma) in [((61u32, 37u32), 0.5f32), ((300, 200), 1.0), ((64, 64), 2.5), ((90, 33), 10.0), ((1, 1), 1.0)]
    {
        desk.clear().unwrap();
        let source = scene(size.0, size.1, 5);
        let from = desk.plane(size.0, size.1).unwrap();
        desk.write(&from, &source).unwrap();
        let to = desk.plane(size.0, size.1).unwrap();
        desk.sharpen(&[Sharpen { from, to, sigma }]).unwrap();
        let ours = desk.read(&to).unwrap();
        assert_near(&ours, &sharpened(&source, size, f64::from(sigma)), 0.52, &format!("{size:?} {sigma}"));
    }
}

fn sharpened(from: &[u8], (width, height): (u32, u32), sigma: f64) -> Vec<f64> {
    let at = |x: i64| (-((x * x) as f64) / (2.0 * sigma * sigma)).exp();
    let reach = (1..).take_while(|&x| at(x) >= 0.1).count() as i64;
    let sum: f64 = (-reach..=reach).map(at).sum();
    let (width, height) = (i64::from(width), i64::from(height));
    let sample = |x: i64, y: i64| f64::from(from[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize]);
    let mut out = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let row = |y: i64| (-reach..=reach).map(|a| at(a) * sample(x + a, y)).sum::<f64>();
            let blurred = (-reach..=reach).map(|b| at(b) * row(y + b)).sum::<f64>() / sum / sum;
            let difference = sample(x, y) - blurred;
            let beyond = (difference.abs() - 5.093_75).max(0.0) * 3.0;
            let raise = if difference < 0.0 { -beyond.min(51.0) } else { beyond.min(25.5) };
            out.push(sample(x, y) + raise);
        }
    }
    out
}

#[test]
fn turns_move_every_sample() {
    let Some(mut desk) = desk("turns_move_every_sample") else { return };
    let (width, height) = (37u32, 22u32);
    let source = scene(width, height, 9);
    let from = desk.plane(width, height).unwrap();
    desk.write(&from, &source).unwrap();
    for swaps in [false, true] {
        for (flips_x, flips_y) in [(false, false), (true, false), (false, true), (true, true)] {
            let (wide, high) = if swaps { (height, width) } else { (width, height) };
            let to = desk.plane(wide, high).unwrap();
            desk.turn(&[Turn { from, to, swaps, flips_x, flips_y }]).unwrap();
            let ours = desk.read(&to).unwrap();
            for (at, &sample) in ours.iter().enumerate() {
                let (x, y) = (at as u32 % wide, at as u32 / wide);
                let (x, y) = (if flips_x { wide - 1 - x } else { x }, if flips_y { high - 1 - y } else { y });
                let (x, y) = if swaps { (y, x) } else { (x, y) };
                assert_eq!(sample, source[(y * width + x) as usize], "{swaps} {flips_x} {flips_y} {at}");
            }
        }
    }
}

#[test]
fn colours_agree_with_floating_point() {
    let Some(mut desk) = desk("colours_agree_with_floating_point") else { return };
    let (width, height) = (45u32, 31u32);
    let scenes = [scene(width, height, 1), scene(width, height, 2), scene(width, height, 3)];
    let mut planes = Vec::new();
    for scene in &scenes {
        let plane = desk.plane(width, height).unwrap();
        desk.write(&plane, scene).unwrap();
        planes.push(plane);
    }
    let from: [Plane; 3] = planes.try_into().unwrap();
    let to = desk.plane(width * 3, height).unwrap();
    let matrix = [[0.9, 0.1, 0.0, 3.0], [0.0, 1.1, -0.1, -4.0], [0.2, 0.3, 0.5, 0.0]];
    desk.colour(&[Colour { from, to, matrix }]).unwrap();
    let ours = desk.read(&to).unwrap();
    for (at, pixel) in ours.chunks_exact(3).enumerate() {
        let [y, b, r] = [0, 1, 2].map(|plane| f64::from(scenes[plane][at]));
        let (b, r) = (b - 128.0, r - 128.0);
        let rgb = [y + 1.402 * r, y - 0.344_136_286 * b - 0.714_136_286 * r, y + 1.772 * b];
        let rgb = rgb.map(|sample| sample.round().clamp(0.0, 255.0));
        for (&ours, row) in pixel.iter().zip(matrix) {
            let exact = f64::from(row[0]) * rgb[0]
                + f64::from(row[1]) * rgb[1]
                + f64::from(row[2]) * rgb[2]
                + f64::from(row[3]);
            assert!((f64::from(ours) - exact.clamp(0.0, 255.0)).abs() < 1.6, "{at}: {ours} {exact}");
        }
    }
}

#[test]
fn what_is_encoded_is_decoded_again() {
    let Some(mut desk) = desk("what_is_encoded_is_decoded_again") else { return };
    let smooth = |width: u32, height: u32, step: f64| -> Vec<u8> {
        (0..width * height)
            .map(|at| {
                (128.0 + 80.0 * (f64::from(at % width) / step).sin() * (f64::from(at / width) / step).cos()) as u8
            })
            .collect()
    };
    for (width, height) in [(640u32, 480u32), (333, 251), (17, 9), (1, 1)] {
        for subsampling in
            [Subsampling::Both, Subsampling::Whole, Subsampling::Along, Subsampling::Down, Subsampling::Gray]
        {
            desk.clear().unwrap();
            let (along, down) = subsampling.pixels();
            let sizes = [
                (width, height),
                (width.div_ceil(along), height.div_ceil(down)),
                (width.div_ceil(along), height.div_ceil(down)),
            ];
            let mut planes = Vec::new();
            let mut samples = Vec::new();
            for (at, (wide, high)) in sizes.into_iter().take(subsampling.planes()).enumerate() {
                let plane = desk.plane(wide, high).unwrap();
                samples.push(smooth(wide, high, 20.0 + 7.0 * at as f64));
                desk.write(&plane, &samples[at]).unwrap();
                planes.push(plane);
            }
            let picture = Picture {
                width,
                height,
                subsampling,
                samples: Samples::Planes(planes),
                quality: Quality { steps: 95, optimized: true },
            };
            let mut encoded = Vec::new();
            desk.encode(&[picture.clone(), picture], |_, bytes| encoded.push(bytes.to_vec())).unwrap();
            assert_eq!(encoded.len(), 2);
            assert_eq!(encoded[0], encoded[1]);
            let inputs: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
            for decoded in desk.decode(&inputs).unwrap() {
                let decoded = decoded.unwrap();
                println!(
                    "{width} x {height} {subsampling:?}: {} bytes, by hardware {}",
                    encoded[0].len(),
                    decoded.hardware
                );
                assert_eq!((decoded.width, decoded.height, decoded.subsampling), (width, height, subsampling));
                for (plane, samples) in decoded.planes.iter().zip(&samples) {
                    let again = desk.read(plane).unwrap();
                    let squares: f64 = again.iter().zip(samples).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
                    let mean = squares / samples.len() as f64;
                    assert!(mean < 4.0, "{width} x {height} {subsampling:?}: mean square {mean}");
                }
            }
        }
    }
}

#[test]
fn a_broken_image_spoils_no_other() {
    let Some(mut desk) = desk("a_broken_image_spoils_no_other") else { return };
    let plane = desk.plane(640, 480).unwrap();
    desk.write(&plane, &scene(640, 480, 3)).unwrap();
    let picture = Picture {
        width: 640,
        height: 480,
        subsampling: Subsampling::Gray,
        samples: Samples::Planes(vec![plane]),
        quality: Quality { steps: 90, optimized: false },
    };
    let mut whole = Vec::new();
    desk.encode(&[picture], |_, bytes| whole = bytes.to_vec()).unwrap();
    let inputs: [&[u8]; 4] = [&whole, b"no JPEG at all", &whole[..40], &whole];
    let decoded = desk.decode(&inputs).unwrap();
    assert!(decoded[0].is_ok() && decoded[3].is_ok());
    assert!(matches!(decoded[1], Err(Error::Unsupported(_))), "{:?}", decoded[1]);
    assert!(matches!(decoded[2], Err(Error::Unsupported(_))), "{:?}", decoded[2]);
}
