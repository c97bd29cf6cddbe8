//! The page of a run in a real browser: the made-up one, which has everything that a report can show.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "../../workloads/tests/outside/mod.rs"]
mod outside;

use annulus_bench::record::Record;
use annulus_bench::report::{demo, figures, html};
use outside::{Browser, passes};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

#[test]
fn the_page_is_whole_legible_and_loads_nothing() {
    let Some(browser) = Browser::start("the report's page in a browser") else { return };
    looked_at(&browser, "usual", &demo::record(), 1);
    looked_at(&browser, "crowded", &crowded(), 7);
}

/// Many sides with long names, many rounds, of which some are late, and two sides with a single, longer one.
fn crowded() -> Record {
    let mut record = demo::record();
    let sides = record.sides.clone();
    record.sides = (0..6).map(|number| sides[number % 2].clone()).collect();
    for (number, side) in record.sides.iter_mut().enumerate() {
        side.name = format!("{} of a distribution with a long name, {number}", side.name);
        let rounds = side.rounds.clone();
        side.rounds = (0..9).map(|round| rounds[round % 3].clone()).collect();
    }
    record.sides.truncate(5);
    let mut long = sides[0].clone();
    long.rounds.truncate(1);
    let intervals = long.rounds[0].intervals.clone();
    long.rounds[0].intervals = (0..8).flat_map(|_| intervals.clone()).collect();
    long.rounds[0].seconds = 50.0;
    // All of this one's rounds are late.
    let mut late = sides[1].clone();
    late.rounds = vec![late.rounds[1].clone()];
    record.sides.extend([long, late]);
    record
}

fn looked_at(browser: &Browser, name: &str, record: &Record, late: usize) {
    let folder = std::env::temp_dir().join(format!("annulus-report-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("report.html");
    fs::write(&file, html::page(record)).unwrap();
    let page = format!("file://{}", file.display());
    let command = &record.facts.iter().find(|(name, _)| name == "command").unwrap().1;
    let p999 = figures::duration(record.sides[0].latency().value_at_quantile(0.999));
    let refused = "refused: the generator itself was late (p99 late by 3.";
    // Pictures of each part, for somebody to look at.
    let parts = std::env::var("ANNULUS_PICTURES").map_or_else(|_| String::new(), |parts| format!("{parts}/{name}"));
    if !parts.is_empty() {
        fs::create_dir_all(&parts).unwrap();
    }
    let (sides, late) = (record.sides.len().to_string(), late.to_string());
    let pictures = folder.to_str().unwrap();
    let arguments = [&page, &browser.devtools, pictures, &parts, &sides, &late, command, &p999, refused];
    passes(Path::new("node"), "report.mjs", &arguments);
    for screen in ["1280-light", "1280-dark", "390-light", "390-dark"] {
        let colours = colours(&folder.join(format!("report-{screen}.png")));
        assert!(colours > 20, "{screen} has {colours} colours: it is blank");
    }
    fs::remove_dir_all(folder).unwrap();
}

/// How many colours a picture has.
fn colours(picture: &Path) -> usize {
    let mut reader = png::Decoder::new(BufReader::new(File::open(picture).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    pixels[..frame.buffer_size()].chunks(frame.color_type.samples()).collect::<HashSet<_>>().len()
}
