//! Watermarks of a whole service: from a file to sandboxed workers and into outputs, and another file in its place. And what else is
//! made of more than an image's pixels: cut-outs that find their own place, and animations.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;

use std::path::Path;
use std::process::Command;

use image_rig::{Service, folder, jpeg};
use serde_json::Value;

/// A picture of one colour.
fn logo(path: &Path, pixel: [u8; 4]) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), 20, 10);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&pixel.repeat(200)).unwrap();
}

/// The pixel in the lower right corner of a JPEG.
fn corner(jpeg: &[u8]) -> [u8; 3] {
    let image = turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).unwrap();
    let end = image.pixels.len();
    [image.pixels[end - 3], image.pixels[end - 2], image.pixels[end - 1]]
}

fn near(found: [u8; 3], wanted: [u8; 3]) -> bool {
    found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) < 12)
}

/// Uploads, and waits: the job's document, and its first output's corner.
fn made(service: &Service, query: &str, image: &[u8]) -> (Value, [u8; 3]) {
    let answer = service.post(query, "", image);
    assert!(matches!(answer.status, 200 | 202), "{} {}", answer.head, answer.text());
    let document = service.end_of(answer.json()["id"].as_str().unwrap(), "");
    assert_eq!(document["state"], "done", "{document}");
    let output = service.get(document["outputs"][0]["url"].as_str().unwrap());
    (document, corner(&output.body))
}

#[test]
fn a_logo_is_laid_over_outputs_and_another_one_makes_others() {
    for isolation in ["process", "thread"] {
        let folder = folder();
        let file = folder.join("logo.png");
        logo(&file, [255, 0, 0, 255]);
        let section = format!(
            "isolation = {isolation:?}\n[image.watermarks]\nlogo = {file:?}\n[image.variants]\nunsigned = true\n\
             [image.presets]\nmarked = [\"a=rs:fit:300:300/wm:1:soea\"]\n"
        );
        let image = jpeg(600, 400, 3);
        let service = Service::start_in(folder.clone(), &section, &["--shards", "1"]);
        let (first, red) = made(&service, "?preset=marked", &image);
        assert!(near(red, [255, 0, 0]), "{red:?}");
        let (plain, none) = made(&service, "?ops=rs:fit:300:300", &image);
        assert!(!near(none, [255, 0, 0]) && plain["outputs"][0]["url"] != first["outputs"][0]["url"], "{none:?}");
        service.post("?ops=wm:1/wmn:nope", "", &image).is_problem(422, "wmn:logo");
        let original = first["source"]["key"].as_str().unwrap();
        let variant = format!("/v1/images/{original}/rs:fit:200:200/wm:1:soea/wmn:logo");
        let answer = service.get(&variant);
        assert!(answer.status == 200 && near(corner(&answer.body), [255, 0, 0]), "{}", answer.head);
        assert!(!answer.field("cache-control").unwrap().contains("immutable"), "{}", answer.head);
        // Another file of the same name: other outputs, and those that were made stay.
        service.kill();
        logo(&file, [0, 0, 255, 255]);
        let service = Service::start_in(folder, &section, &["--shards", "1"]);
        let (second, blue) = made(&service, "?preset=marked", &image);
        assert!(near(blue, [0, 0, 255]) && second["outputs"][0]["url"] != first["outputs"][0]["url"], "{blue:?}");
        let old = service.get(first["outputs"][0]["url"].as_str().unwrap());
        assert!(old.status == 200 && near(corner(&old.body), [255, 0, 0]));
        let answer = service.get(&variant);
        assert!(answer.status == 200 && near(corner(&answer.body), [0, 0, 255]), "{}", answer.head);
        service.stop();
    }
}

#[test]
fn a_cut_out_that_finds_its_own_place_is_made_beside_others() {
    let service = Service::start("[image.variants]\nunsigned = true\n");
    let (document, _) = made(&service, "?ops=a=rs:fill:100:100/g:sm&ops=b=c:200:100:sm", &jpeg(600, 400, 9));
    let size = |at: usize| (document["outputs"][at]["width"].as_u64(), document["outputs"][at]["height"].as_u64());
    assert_eq!((size(0), size(1)), ((Some(100), Some(100)), (Some(200), Some(100))), "{document}");
    let original = document["source"]["key"].as_str().unwrap();
    let answer = service.get(&format!("/v1/images/{original}/rs:fill:60:90/g:sm"));
    assert_eq!((answer.status, image_rig::size_of(&answer.body)), (200, (60, 90)), "{}", answer.head);
    service.stop();
}

/// Red, and then green: two frames of 2 x 2 pixels.
const MOVING: &[u8] = b"\
    \x47\x49\x46\x38\x39\x61\x02\x00\x02\x00\x91\x00\x00\xff\x00\x00\x00\xff\x00\x00\x00\xff\x09\x09\
    \x09\x21\xf9\x04\x04\x14\x00\x00\x00\x2c\x00\x00\x00\x00\x02\x00\x02\x00\x00\x02\x03\x04\x08\xb0\
    \x00\x21\xf9\x04\x04\x14\x00\x00\x00\x2c\x00\x00\x00\x00\x02\x00\x02\x00\x00\x02\x03\x4c\x98\xb0\
    \x00\x3b";

#[test]
fn an_animation_goes_on_moving_though_only_its_head_was_read() {
    let service = Service::start("[image.variants]\nunsigned = true\n");
    let answer = service.post("?ops=a=maf:5/el:1/w:8&ops=b=w:2", "", MOVING);
    assert!(matches!(answer.status, 200 | 202), "{} {}", answer.head, answer.text());
    let document = service.end_of(answer.json()["id"].as_str().unwrap(), "");
    assert_eq!(document["state"], "done", "{document}");
    let frames = |path: &str| {
        let output = service.get(path);
        assert_eq!(output.status, 200, "{}", output.head);
        (output.head.contains("image/webp"), output.body.windows(4).filter(|bytes| bytes == b"ANMF").count())
    };
    let url = |at: usize| document["outputs"][at]["url"].as_str().unwrap();
    assert_eq!((frames(url(0)), frames(url(1)).1), ((true, 2), 0), "{document}");
    let original = document["source"]["key"].as_str().unwrap();
    assert_eq!(frames(&format!("/v1/images/{original}/maf:9/w:2")), (true, 2));
    service.stop();
}

#[test]
fn what_cannot_be_laid_over_anything_ends_the_start() {
    let folder = folder();
    let broken = folder.join("broken.png");
    logo(&broken, [1, 2, 3, 4]);
    let mut bytes = std::fs::read(&broken).unwrap();
    bytes.truncate(bytes.len() - 30);
    std::fs::write(&broken, bytes).unwrap();
    std::fs::write(folder.join("words.png"), "no image at all").unwrap();
    std::fs::write(folder.join("photo.jpg"), jpeg(40, 40, 1)).unwrap();
    logo(&folder.join("good.png"), [9; 4]);
    for (name, preset, says) in [
        ("absent.png", "", "absent.png: No such file"),
        ("words.png", "", "too few to be an image"),
        ("broken.png", "", "the watermark \"logo\" cannot be used"),
        ("photo.jpg", "", "Save it as PNG"),
        ("good.png", "[image.presets]\na = [\"a=wm:1/wmn:other\"]\n", "preset \"a\""),
    ] {
        let config = folder.join("config.toml");
        let file = folder.join(name);
        std::fs::write(&config, format!("[image]\n[image.watermarks]\nlogo = {file:?}\n{preset}")).unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_annulus"))
            .args(["image", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(folder.join("data"))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && error.contains(says), "{name}: {error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
