//! The page of a run in a real browser: the made-up one, which has everything that a report can show.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "../../workloads/tests/outside/mod.rs"]
mod outside;

use annulus_bench::report::{demo, figures, html};
use outside::{Browser, passes};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

#[test]
fn the_page_is_whole_legible_and_loads_nothing() {
    let Some(browser) = Browser::start("the report's page in a browser") else { return };
    let folder = std::env::temp_dir().join(format!("annulus-report-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let record = demo::record();
    let file = folder.join("report.html");
    fs::write(&file, html::page(&record)).unwrap();
    let page = format!("file://{}", file.display());
    let command = &record.facts.iter().find(|(name, _)| name == "command").unwrap().1;
    let p999 = figures::duration(record.sides[0].latency().value_at_quantile(0.999));
    let refused = "refused: the generator itself was late (p99 late by 3.";
    // Pictures of each part, for somebody to look at.
    let parts = std::env::var("ANNULUS_PICTURES").unwrap_or_default();
    let arguments = [&page, &browser.devtools, folder.to_str().unwrap(), &parts, command, &p999, refused];
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
