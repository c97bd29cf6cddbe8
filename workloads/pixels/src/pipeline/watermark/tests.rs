//! Where watermarks come to lie, and what is mixed, against floating point.

use super::*;
use crate::options;
use crate::pipeline::trial::Never;

fn plain(width: u32, height: u32, layout: Layout, pixel: &[u8]) -> Pixels {
    let samples = pixel.repeat((width * height) as usize);
    Pixels { width, height, layout, samples }
}

fn laid(onto: &Pixels, over: &Pixels, text: &str) -> Pixels {
    let wanted = options::parse("test", text).unwrap().watermark.unwrap();
    let marks = Marks::new(vec![Mark::of(&wanted.name, over.clone())]);
    lay(onto.clone(), &wanted, &marks, &mut Pool::new(1 << 20), &Never).unwrap()
}

/// The box of pixels that are not 0, and how many there are: from the left, from the top, to the right, to the bottom.
fn marked(pixels: &Pixels) -> (u32, u32, u32, u32, usize) {
    let bytes = pixels.layout.bytes();
    let places = pixels.samples.chunks(bytes).enumerate().filter(|(_, pixel)| pixel[0] != 0);
    let places: Vec<(u32, u32)> = places.map(|(at, _)| (at as u32 % pixels.width, at as u32 / pixels.width)).collect();
    let (x, y) = (places.iter().map(|at| at.0), places.iter().map(|at| at.1));
    (x.clone().min().unwrap(), y.clone().min().unwrap(), x.max().unwrap() + 1, y.max().unwrap() + 1, places.len())
}

#[test]
fn every_place_has_its_offset() {
    let (black, white) = (plain(100, 60, Layout::Rgb, &[0; 3]), plain(10, 6, Layout::Gray, &[255]));
    for (text, at) in [
        // (90 + 1) / 2 and (54 + 1) / 2, rounded to even numbers as imgproxy does.
        ("wm:1", (46, 28)),
        ("wm:1:ce:-6:2", (40, 30)),
        ("wm:1:no", (46, 0)),
        ("wm:1:so", (46, 54)),
        ("wm:1:ea", (90, 28)),
        ("wm:1:we", (0, 28)),
        ("wm:1:noea:3:4", (87, 4)),
        ("wm:1:nowe:3:4", (3, 4)),
        ("wm:1:soea:3:4", (87, 50)),
        ("wm:1:sowe:3:4", (3, 50)),
        ("wm:1:nowe:0.1:0.5", (10, 30)),
    ] {
        let found = marked(&laid(&black, &white, text));
        assert_eq!(found, (at.0, at.1, at.0 + 10, at.1 + 6, 60), "{text}");
    }
    // What stands over is cut off, and what is outside is not there.
    assert_eq!(marked(&laid(&black, &white, "wm:1:nowe:-4:-2")), (0, 0, 6, 4, 24));
    assert_eq!(marked(&laid(&black, &white, "wm:1:soea:-4:-2")), (94, 56, 100, 60, 24));
    assert_eq!(laid(&black, &white, "wm:1:nowe:200"), black);
    assert_eq!(laid(&black, &white, "wm:1:nowe:-200:-200"), black);
}

#[test]
fn a_scale_is_a_share_of_the_output() {
    let (black, white) = (plain(100, 60, Layout::Gray, &[0]), plain(30, 10, Layout::Rgba, &[255; 4]));
    let sides = |text: &str| {
        let (left, top, right, bottom, count) = marked(&laid(&black, &white, text));
        assert_eq!((right - left) * (bottom - top), count as u32, "{text}");
        (right - left, bottom - top)
    };
    assert_eq!(sides("wm:1:ce"), (30, 10));
    assert_eq!(sides("wm:1:ce:0:0:0.5"), (50, 17));
    assert_eq!(sides("wm:1:ce:0:0:1"), (100, 33));
    assert_eq!(sides("wm:1:ce:0:0:0.001"), (1, 1));
    let tall = plain(10, 40, Layout::Rgba, &[255; 4]);
    assert_eq!(marked(&laid(&black, &tall, "wm:1:nowe:0:0:0.5")), (0, 0, 8, 30, 240));
}

#[test]
fn everywhere_is_one_in_the_middle_and_others_around_it() {
    let (black, white) = (plain(100, 60, Layout::Gray, &[0]), plain(10, 10, Layout::Gray, &[255]));
    assert_eq!(marked(&laid(&black, &white, "wm:1:re")), (0, 0, 100, 60, 6000));
    let gaps = laid(&black, &white, "wm:1:re:10:10");
    let is_marked = |x: u32, y: u32| gaps.samples[(y * 100 + x) as usize] == 255;
    // Tiles of 20 pixels, the mark in the middle of each, and the middle of one in the middle.
    assert!(is_marked(50, 30) && is_marked(45, 25) && !is_marked(44, 30) && !is_marked(55, 30) && is_marked(25, 45));
    assert_eq!(marked(&gaps).4, 5 * 3 * 100);
    let large = plain(300, 300, Layout::Gray, &[255]);
    assert_eq!(marked(&laid(&black, &large, "wm:1:re")).4, 6000);
}

#[test]
fn mixing_is_exact_to_half_a_step() {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    for round in 0..20_000 {
        let opacity = f64::from(round % 101) / 100.0;
        let (mut to, from): ([u8; 4], [u8; 4]) = ([0; 4].map(|_: u8| random()), [0; 4].map(|_: u8| random()));
        if round % 3 == 0 {
            to[3] = 255;
        }
        let mut opaque = [to[0], to[1], to[2]];
        let over = f64::from(from[3]) / 255.0 * opacity;
        let under = f64::from(to[3]) / 255.0 * (1.0 - over);
        let before = to;
        let fixed = (opacity * OPAQUE as f64).round() as u64;
        mix(&mut to, &from, fixed);
        mix(&mut opaque, &from, fixed);
        let near =
            |found: u8, exact: f64| assert!((f64::from(found) - exact).abs() <= 0.52, "{before:?} {from:?} {opacity}");
        near(to[3], (over + under) * 255.0);
        for channel in 0..3 {
            let (a, b) = (f64::from(from[channel]), f64::from(before[channel]));
            near(opaque[channel], a * over + b * (1.0 - over));
            if over + under > 0.0 {
                near(to[channel], (a * over + b * under) / (over + under));
            }
        }
    }
}

#[test]
fn grey_stays_grey_under_grey_and_gets_colours_under_colours() {
    let grey = plain(20, 20, Layout::Gray, &[100]);
    assert_eq!(laid(&grey, &plain(4, 4, Layout::Rgba, &[9, 9, 9, 200]), "wm:0.5").layout, Layout::Gray);
    let coloured = laid(&grey, &plain(4, 4, Layout::Rgba, &[200, 0, 0, 255]), "wm:1:nowe");
    assert_eq!(
        (coloured.layout, &coloured.samples[..3], &coloured.samples[12..15]),
        (Layout::Rgb, &[200, 0, 0][..], &[100; 3][..])
    );
    let clear = plain(20, 20, Layout::Rgba, &[0; 4]);
    let half = laid(&clear, &plain(4, 4, Layout::Gray, &[80]), "wm:0.5:nowe");
    assert_eq!(half.samples[..4], [80, 80, 80, 128]);
}

#[test]
fn what_is_not_there_may_be_there_later() {
    let wanted = options::parse("test", "wm:1/wmn:logo").unwrap().watermark.unwrap();
    let fault = Marks::default().get(&wanted).unwrap_err();
    assert!(fault.is_transient() && fault.detail.contains("\"logo\""), "{fault}");
    let marks = Marks::new(vec![Mark::of("logo", plain(1, 1, Layout::Gray, &[0]))]);
    assert!(marks.get(&wanted).is_ok());
    assert!(marks.get(&Watermark { digest: "another".to_owned(), ..wanted }).is_err());
}
