//! Where cut-outs come to lie in made pictures, whichever way these are stored, and in photos where there are some.

use super::*;
use crate::options;
use crate::pipeline::adjust::turns;
use crate::pipeline::plan::{move_by_sight, plan};
use crate::pipeline::trial;
use crate::recipe::Recipe;

const ORIENTATIONS: std::ops::RangeInclusive<u16> = 1..=8;

fn pool() -> Pool {
    Pool::new(1 << 20)
}

/// A plain ground with something on it that is to be found: a square of `side` pixels, chequered in two strong colours.
fn with_thing(size: (u32, u32), at: (u32, u32), side: u32) -> Pixels {
    let mut samples = Vec::new();
    for y in 0..size.1 {
        for x in 0..size.0 {
            let inside = x.wrapping_sub(at.0) < side && y.wrapping_sub(at.1) < side;
            samples.extend_from_slice(match (inside, (x / 5 + y / 5) % 2) {
                (false, _) => &[120, 130, 140],
                (true, 0) => &[250, 200, 40],
                (true, _) => &[180, 20, 60],
            });
        }
    }
    Pixels { width: size.0, height: size.1, layout: Layout::Rgb, samples }
}

/// Blots of all sizes and colours.
fn blots(width: u32, height: u32, mut state: u64) -> Pixels {
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut pixels = Pixels { width, height, layout: Layout::Rgb, samples: vec![128; (width * height) as usize * 3] };
    for _ in 0..12 {
        let (left, top) = (random(width.into()) as u32, random(height.into()) as u32);
        let (wide, high) = (4 + random(u64::from(width) / 4) as u32, 4 + random(u64::from(height) / 4) as u32);
        let colour = [0; 3].map(|_: u8| random(256) as u8);
        for y in top..(top + high).min(height) {
            for x in left..(left + wide).min(width) {
                pixels.samples[((y * width + x) * 3) as usize..][..3].copy_from_slice(&colour);
            }
        }
    }
    pixels
}

/// The cut-out of this recipe in a picture that is stored turned: as it is stored, and as it is seen.
fn cut(pixels: &Pixels, orientation: Orientation, text: &str) -> (FloatBox, FloatBox) {
    let recipe = options::parse("test", text).unwrap();
    let mut header = trial::jpeg(pixels.width, pixels.height, 0);
    header.orientation = orientation;
    let recipes = [recipe];
    let (mut plans, _) = plan(&header, &recipes).unwrap();
    let size = plans[0].size;
    let sight = Sight::of(&Picture::Pixels(pixels.clone()));
    move_by_sight(&mut plans, &header, &recipes, &sight, &mut pool()).unwrap();
    assert_eq!(plans[0].size, size);
    (plans[0].bounds, plans[0].geometry.crop)
}

fn contains(cut: FloatBox, at: (u32, u32), side: u32) -> bool {
    let (x, y, side) = (f64::from(at.0), f64::from(at.1), f64::from(side));
    // A score stands for some pixels.
    let off = 2.0;
    cut.left <= x + off
        && cut.top <= y + off
        && cut.left + cut.width >= x + side - off
        && cut.top + cut.height >= y + side - off
}

fn back(orientation: Orientation) -> Orientation {
    ORIENTATIONS.map(Orientation::of_tag).find(|back| back.then(orientation) == Orientation::Normal).unwrap()
}

#[test]
fn what_catches_the_eye_is_in_the_cut_wherever_it_is() {
    for size in [(300, 200), (200, 301), (1600, 900), (90, 64)] {
        let side = size.0.min(size.1) / 5;
        for place in 0..9 {
            let at = (place % 3 * (size.0 - side) / 2, place / 3 * (size.1 - side) / 2);
            let pixels = with_thing(size, at, side);
            for text in [
                &format!("c:{}:{}:sm", size.0 * 2 / 5, size.1 * 2 / 5),
                "c:0.5:0.4:sm/rs:fill:20:20/g:sm",
                "rs:fill:30:60/g:sm",
                "rs:fill:60:30/g:sm/lin",
            ] {
                let (cut, _) = cut(&pixels, Orientation::Normal, text);
                assert!(contains(cut, at, side), "{size:?} {text} {at:?}: {cut:?}");
            }
        }
    }
}

#[test]
fn a_picture_that_is_stored_turned_is_cut_as_it_is_seen() {
    for (seed, size) in [(1, (301, 203)), (2, (128, 400)), (3, (64, 64)), (4, (7, 5)), (5, (1001, 640))] {
        let upright = blots(size.0, size.1, seed);
        for text in
            ["c:0.4:0.3:sm", "rs:fill:30:70/g:sm", "c:0.7:0.8:sm/rs:fill:40:20/g:sm", "rot:90/c:0.5:0.3:sm/fl:1"]
        {
            let seen = cut(&upright, Orientation::Normal, text).1;
            for orientation in ORIENTATIONS.map(Orientation::of_tag) {
                let stored = turn(Picture::Pixels(upright.clone()), back(orientation), &mut pool());
                let Picture::Pixels(stored) = stored else { panic!("pixels stay pixels") };
                assert_eq!(cut(&stored, orientation, text).1, seen, "{size:?} {text} {orientation:?}");
            }
        }
    }
}

#[test]
fn a_mirrored_picture_is_cut_mirrored() {
    let mut moved = 0;
    for seed in 0..40 {
        let upright = blots(320, 240, seed);
        let mirrored = turn(Picture::Pixels(upright.clone()), Orientation::FlipH, &mut pool());
        let Picture::Pixels(mirrored) = mirrored else { panic!("pixels stay pixels") };
        let (a, b) =
            (cut(&upright, Orientation::Normal, "c:100:80:sm").0, cut(&mirrored, Orientation::Normal, "c:100:80:sm").0);
        // Half pixels are rounded to one side.
        assert!((320.0 - a.left - a.width - b.left).abs() <= 1.0 && a.top == b.top, "{seed}: {a:?} {b:?}");
        moved += u32::from((a.left, a.top) != (110.0, 80.0));
        // The same by the recipe's own mirror.
        let flipped = cut(&upright, Orientation::Normal, "c:100:80:sm/fl:1").0;
        assert!((flipped.left - a.left).abs() <= 1.0 && flipped.top == a.top, "{seed}: {a:?} {flipped:?}");
    }
    assert!(moved > 30, "{moved}");
}

#[test]
fn where_there_is_nothing_to_see_the_middle_is_taken() {
    let flat = |layout: Layout, pixel: &[u8]| Pixels { width: 200, height: 100, layout, samples: pixel.repeat(20_000) };
    let mut noisy = flat(Layout::Rgb, &[128, 128, 128]);
    noisy.samples.iter_mut().enumerate().for_each(|(at, sample)| *sample += (at * 7919 % 3) as u8);
    for pixels in [
        flat(Layout::Gray, &[90]),
        flat(Layout::Rgb, &[200, 30, 30]),
        flat(Layout::Rgba, &[255, 0, 0, 0]),
        flat(Layout::Rgba, &[255, 0, 0, 128]),
        noisy,
    ] {
        for text in ["c:50:50:", "rs:fill:20:20/g:"] {
            let found = cut(&pixels, Orientation::Normal, &format!("{text}sm"));
            assert_eq!(found, cut(&pixels, Orientation::Normal, &format!("{text}ce")), "{text} {:?}", pixels.layout);
        }
    }
}

#[test]
fn what_is_transparent_is_less_to_see_than_what_is_not() {
    // Grey on nothing, whatever the invisible colours are.
    let mut samples = Vec::new();
    for (y, x) in (0..100).flat_map(|y| (0..200).map(move |x| (y, x))) {
        let inside = (150..180).contains(&x) && (60..90).contains(&y);
        samples.extend(if inside { [128, 128, 128, 255] } else { [255, (x * 7 % 256) as u8, 0, 0] });
    }
    let pixels = Pixels { width: 200, height: 100, layout: Layout::Rgba, samples };
    let found = cut(&pixels, Orientation::Normal, "c:60:60:sm").0;
    assert!(contains(found, (150, 60), 30), "{found:?}");
}

#[test]
fn planes_and_grey_are_looked_at_as_pixels_are() {
    let pixels = with_thing((300, 200), (220, 20), 50);
    let mut planes = Planes::take(300, 200, (2, 2), &mut pool());
    let grey: Vec<u8> =
        pixels.samples.as_chunks::<3>().0.iter().map(|rgb| differences(rgb.map(i32::from), 255)[0] as u8).collect();
    planes.plane_mut(0).copy_from_slice(&grey);
    for index in [1, 2] {
        let samples = (0..100u32).flat_map(|y| (0..150u32).map(move |x| (x, y)));
        let samples: Vec<u8> =
            samples.map(|(x, y)| of_pixels(&pixels, 2 * x as usize, 2 * y as usize)[index] as u8).collect();
        planes.plane_mut(index).copy_from_slice(&samples);
    }
    let grey = Pixels { width: 300, height: 200, layout: Layout::Gray, samples: grey };
    for picture in [Picture::Planes(planes), Picture::Pixels(grey)] {
        let seen = Sight::of(&picture).seen(turns(&Recipe::named("test")), &mut pool());
        let whole = FloatBox { left: 0.0, top: 0.0, width: 300.0, height: 200.0 };
        let (x, y) = seen.best((300, 200), whole, (100.0, 100.0)).unwrap();
        let cut = FloatBox { left: x * 200.0, top: y * 100.0, width: 100.0, height: 100.0 };
        assert!(contains(cut, (220, 20), 50), "{cut:?}");
    }
}

#[test]
fn points_lie_the_same_from_both_ends() {
    for side in 1..500 {
        let (parts, _) = sides(side, 200);
        let per_part = (side / parts).clamp(1, POINTS);
        let all = points(parts * per_part, side);
        assert!(all.iter().zip(all.iter().rev()).all(|(a, b)| a + b == side - 1 || a == b), "{side}: {all:?}");
        assert!(all.is_sorted() && all.iter().all(|&at| at < side), "{side}: {all:?}");
    }
}

#[test]
fn a_picture_of_any_size_is_looked_at() {
    for (width, height) in [(1, 1), (1, 700), (700, 1), (2, 3), (3, 2), (129, 127), (5, 4000)] {
        let pixels = blots(width.max(4), height.max(4), 9);
        let pixels =
            Pixels { width, height, samples: pixels.samples[..(width * height * 3) as usize].to_vec(), ..pixels };
        for text in ["c:1:1:sm", "c:0.3:0.9:sm", "rs:fill:10:3/g:sm", "rs:fill:3:10:1/g:sm"] {
            let (cut, _) = cut(&pixels, Orientation::Normal, text);
            let inside = |from: f64, len: f64, side: u32| from >= -1e-6 && from + len <= f64::from(side) + 1e-6;
            assert!(inside(cut.left, cut.width, width) && inside(cut.top, cut.height, height), "{text} {cut:?}");
        }
    }
}
