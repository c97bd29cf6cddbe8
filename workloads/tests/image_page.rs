//! The upload page and the console in a browser.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;
mod outside;

use std::path::Path;

use image_rig::{Service, folder, jpeg};
use outside::{Browser, passes};

#[test]
fn the_pages_do_what_they_say() {
    let Some(browser) = Browser::start("the upload page in a browser") else { return };
    let settings =
        "attempts_max = 1\nadmin_key = \"the-admins-key-01\"\n[image.tenants]\nshop = \"the-tenants-key-01\"\n";
    let service = Service::start(settings);
    let dead = service.dead_letter("Authorization: Bearer the-tenants-key-01\r\n", 9);
    let files = folder();
    for (seed, name) in ["one", "two", "three", "four", "five"].iter().enumerate() {
        std::fs::write(files.join(format!("{name}.jpg")), jpeg(1800, 1200, seed as u8)).unwrap();
    }
    std::fs::write(files.join("broken.jpg"), &jpeg(1800, 1200, 9)[..20_000]).unwrap();
    let heic = [&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], &[0; 1000]].concat();
    std::fs::write(files.join("heic.jpg"), heic).unwrap();
    let page = format!("http://{}/", service.address);
    let pictures = std::env::var("ANNULUS_PICTURES").unwrap_or_default();
    passes(Path::new("node"), "image.mjs", &[&page, &browser.devtools, files.to_str().unwrap(), &pictures]);
    // The button in the console has brought it back.
    assert_eq!(service.end_of(&dead, "Authorization: Bearer the-tenants-key-01\r\n")["state"], "done");
    service.stop();
    std::fs::remove_dir_all(files).unwrap();
}
