//! Options as people write them, and as they are hashed.

use super::names::NOT_OFFERED;
use super::*;
use crate::fault::Kind;

fn recipe(text: &str) -> Recipe {
    parse("test", text).unwrap()
}

fn refused(text: &str) -> String {
    let fault = parse("test", text).unwrap_err();
    assert_eq!(fault.kind, Kind::BadRequest);
    fault.detail
}

#[test]
fn imgproxys_example() {
    let read = recipe("rs:fill:300:400:0/g:sm".strip_suffix("/g:sm").unwrap());
    let resize = Resize { mode: Mode::Fill, width: 300, height: 400, enlarge: false, extend: false };
    assert_eq!(read.resize, Some(resize));
    let read = recipe("/rs:fit:300:200/g:no/q:80/f:webp/");
    assert_eq!((read.quality, read.format), (Some(80), Some(Format::Webp)));
    assert_eq!(text(&read), "rs:fit:300:200/f:webp/q:80");
}

#[test]
fn long_short_and_parted_spellings_are_one_recipe() {
    let expected = recipe("rs:fill:300:200:1:1/g:noea/rot:90");
    for other in [
        "resize:fill:300:200:1:1/gravity:noea/rotate:90",
        "s:300:200:true:t/rt:fill/g:noea:0:0/rot:-270",
        "w:300/h:200/el:1/ex:1:ce/resizing_type:fill/g:no/g:noea/rot:450",
        "rs:fit:7:7/rs:fill:300:200:1:1/g:noea/rot:90/cb:v7/sm:1",
        "rs:fill:150:100:1:1/dpr:2/g:noea/rot:90",
    ] {
        assert_eq!(recipe(other), expected, "{other}");
        assert_eq!(text(&recipe(other)), text(&expected));
    }
}

#[test]
fn every_text_is_read_as_the_recipe_that_it_was_made_of() {
    for options in [
        "",
        "ar:0",
        "c:100:0.5:so/rs:fill:300:200/g:fp:0.25:0.75",
        "c:100:100/rs:fill:30:20/g:we",
        "c:100:100:ce/rs:fill:30:20/g:we",
        "c:0.3333:7/rs:outside:0:20:1",
        "rs:force:10:20:0:1/fl:1:0/bl:1.5/sh:0.7/gray:1/br:-20/co:1.2/sa:0/pd:1:2:3:4/bg:abc/f:avif/q:50/kcr:0/lin:1/ln:gpu",
        "lane:cpu",
        "bg:1:2:3/pd:5/f:jpg",
        "a:10:1.5:0.5/fl:0:1/rot:180",
        "w:9/th:1/bh:9:1",
        "c:20:0.5:sm/rs:fill:9:9/g:no",
        "c:20:30/g:sm",
        "wm:0.5:soea:10:-0.1:0.2/wmn:logo",
        "wm:1:re:8:0.5",
    ] {
        let read = recipe(options);
        let again = parse("test", &text(&read)).unwrap();
        assert_eq!(again, read, "{options} -> {}", text(&read));
        assert_eq!(text(&again), text(&read));
    }
    assert_eq!(text(&recipe("co:1/sa:1.0/bl:-0/br:0/q:0/pd:0/fl:0:0/rot:360/g:no/w:0")), "");
}

#[test]
fn a_crop_takes_the_gravity_unless_it_has_its_own() {
    assert_eq!(recipe("c:10:10/g:no").crop.unwrap().gravity, Gravity::Side(0, -1));
    assert_eq!(recipe("g:no/c:10:10:so").crop.unwrap().gravity, Gravity::Side(0, 1));
    assert_eq!(recipe("c:0.5:1").crop.unwrap().width, Length::Share(0.5));
    assert_eq!(recipe("c:0.5:1").crop.unwrap().height, Length::Pixels(1));
}

#[test]
fn placeholders_are_asked_for_in_short_and_in_full() {
    let plain = recipe("");
    assert_eq!((plain.thumbhash, plain.blurhash), (false, None));
    for options in ["th/bh", "th:1/bh:4", "thumbhash:t/blurhash:4:3", "th:0/th/bh:1:1/bh::3"] {
        let read = recipe(options);
        assert_eq!((read.thumbhash, read.blurhash), (true, Some(Components::DEFAULT)), "{options}");
        assert_eq!(text(&read), "th:1/bh:4:3");
    }
    assert_eq!(recipe("th/th:0"), plain);
    assert_eq!(recipe("bh::9").blurhash, Components::new(4, 9));
}

#[test]
fn a_watermark_is_laid_as_imgproxy_lays_it() {
    let read = recipe("wm:0.5:soea:10:-0.1:0.2/wmn:logo").watermark.unwrap();
    assert_eq!((read.name.as_str(), read.opacity, read.place), ("logo", 0.5, Place::At(1, 1)));
    assert_eq!((read.x, read.y, read.scale), (10.0, -0.1, 0.2));
    let doubled = recipe("dpr:2/watermark:1:re:10:0.1").watermark.unwrap();
    assert_eq!((doubled.place, doubled.x, doubled.y), (Place::Everywhere, 20.0, 0.1));
    assert_eq!(recipe("wm:1/wm:0/wmn:logo"), recipe(""));
    assert_eq!(text(&recipe("wm:1")), "wm:1:ce:0:0:0");
}

#[test]
fn colours_are_written_three_ways() {
    assert_eq!(recipe("bg:ff8000").background, Some([255, 128, 0]));
    assert_eq!(recipe("bg:f80").background, Some([255, 136, 0]));
    assert_eq!(recipe("bg:1:2:3").background, Some([1, 2, 3]));
    assert_eq!(recipe("bg:1:2:3/bg:").background, None);
    assert!(refused("bg:ff80").contains("rrggbb"));
    assert!(refused("bg:1:2:256").contains("255"));
    assert!(refused("bg:é12345").contains("rrggbb"));
}

#[test]
fn an_unknown_option_is_answered_with_the_nearest() {
    assert!(refused("resise:fit:10:10").contains("\"resize\""));
    assert!(refused("qualty:80").contains("\"quality\""));
    assert!(refused("grayscal:1").contains("\"grayscale\""));
    let detail = refused("wmu:aGk");
    assert!(detail.contains("imgproxy") && detail.contains("not offered"), "{detail}");
    assert!(refused(&"x".repeat(1000)).len() < 200);
    assert!(refused(&"x".repeat(3000)).contains("2048"));
    assert!(NOT_OFFERED.iter().all(|name| NAMES.iter().all(|(known, _)| known != name)));
}

#[test]
fn arguments_that_make_no_sense_are_refused_by_name() {
    for (options, word) in [
        ("rs:fit:wide", "\"wide\""),
        ("rs:fit:99999:1", "32767"),
        ("rs:fit:-1:1", "-1"),
        ("rs:stretch:1:1", "outside"),
        ("rs:auto:1:1", "not offered"),
        ("rs:fit:1:1:yes", "\"yes\""),
        ("rs:fit:1:1:0:1:no", "middle"),
        ("rs:fit:1:1:0:1:ce:0:0:7", "at most"),
        ("ln:both", "auto, cpu and gpu"),
        ("ln", "auto, cpu and gpu"),
        ("g:obj", "use sm"),
        ("g:sm:0.5:0.5", "offsets"),
        ("rs:fit:1:1:0:1:sm", "middle"),
        ("wm", "missing"),
        ("wm:1.5", "from 0 to 1"),
        ("wm:1:sm", "everywhere: re"),
        ("wm:1:ce:40000", "32767"),
        ("wm:1:re:-3", "from 0"),
        ("wm:1:ce:0:0:2", "from 0 to 1"),
        ("wm:1:ce:0:0:1:1", "at most 5"),
        ("g:up", "noea"),
        ("g:fp:0.5", "missing"),
        ("g:fp:0.5:1.5", "1.5"),
        ("g:no:10:0", "offsets"),
        ("g:", "missing"),
        ("c:", "missing"),
        ("rot:45", "90"),
        ("q:101", "100"),
        ("f:gif", "avif"),
        ("f:heic", "avif"),
        ("bl:nan", "250"),
        ("bl:inf", "250"),
        ("br:300", "255"),
        ("sm:0", "kcr:1"),
        ("scp:0", "sRGB"),
        ("w:1:2", "at most 1"),
        ("th:2", "neither 1 nor 0"),
        ("th:1:1", "at most 1"),
        ("bh:0", "from 1 to 9"),
        ("bh:4:10", "from 1 to 9"),
        ("bh:4x3", "from 1 to 9"),
        ("bh:4:3:2", "at most 2"),
        ("dpr:8/w:5000", "40000"),
    ] {
        let detail = refused(options);
        assert!(detail.contains(word), "{options}: {detail}");
    }
}

#[test]
fn any_text_is_read_or_refused() {
    let letters: Vec<char> = "rs:fitlwhgcqbx/:.0-19eé ".chars().collect();
    let mut state = 3u64;
    for _ in 0..20_000 {
        let text: String = (0..12)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                letters[(state >> 33) as usize % letters.len()]
            })
            .collect();
        if let Ok(read) = parse("test", &text) {
            assert_eq!(parse("test", &super::text(&read)).unwrap(), read, "{text}");
        }
    }
}
