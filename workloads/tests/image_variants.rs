//! Variants of stored originals: signed addresses, one making for all who ask, what is kept, and refusals that help.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use image_rig::{Answer, Service, files, jpeg, size_of};
use ring::hmac;

const OLD: &str = "an-old-key-of-at-least-32-characters";
const NEW: &str = "a-new-key-of-thirty-two-characters-too";

fn keys(keys: &[&str]) -> String {
    format!("[image.variants]\nkeys = {keys:?}\n")
}

/// As a program of a user would sign it.
fn signed(key: &str, original: &str, options: &str) -> String {
    let path = format!("/v1/images/{original}/{options}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), path.as_bytes());
    format!("{path}/sig:{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// Uploads an image, and waits for its job. What variants are asked of.
fn original(service: &Service, image: &[u8]) -> String {
    let document = service.post("?ops=tiny=rs:fit:16:16", "", image).json();
    service.end_of(document["id"].as_str().unwrap(), "");
    document["source"]["key"].as_str().unwrap_or_else(|| panic!("{document}")).to_owned()
}

fn figure(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn variants(service: &Service, event: &str) -> u64 {
    figure(service, &format!("annulus_image_variants_total{{shard=\"0\",event=\"{event}\""))
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks all at once, each on a connection of its own.
fn at_once(service: &Service, paths: &[String]) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = paths.iter().map(|path| scope.spawn(|| service.get(path))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    })
}

#[test]
fn many_who_ask_for_the_same_cost_one_decode() {
    let service = Service::start_in(image_rig::folder(), &keys(&[NEW]), &["--shards", "2"]);
    let original = original(&service, &jpeg(3000, 2000, 1));
    let works = || figure(&service, "annulus_image_lane_works_total");
    until("the job has left its lane", || works() == 1);
    let path = signed(NEW, &original, "rs:fit:800:800/sh:0.5/q:80");
    let answers = at_once(&service, &vec![path.clone(); 24]);
    for answer in &answers {
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("image/jpeg")), "{}", answer.head);
        assert_eq!(answer.body, answers[0].body);
    }
    assert_eq!(size_of(&answers[0].body), (800, 533));
    until("the variant has left its lane", || works() >= 2);
    assert_eq!(works(), 2);
    assert_eq!((variants(&service, "made"), variants(&service, "failed")), (1, 0));
    assert_eq!(variants(&service, "found") + variants(&service, "joined"), 23);
    assert_eq!(figure(&service, "annulus_image_variants_kept{"), 1);
    assert_eq!(figure(&service, "annulus_image_variants_kept_bytes{"), answers[0].body.len() as u64);

    // The same picture in other words is the same variant.
    let other_words = service.get(&signed(NEW, &original, "w:800/h:800/q:80/sh:0.5"));
    assert_eq!((other_words.status, &other_words.body), (200, &answers[0].body));
    assert_eq!(variants(&service, "made"), 1);
    service.stop();
}

#[test]
fn an_answer_is_kept_revalidated_and_sent_in_parts() {
    let service = Service::start(&keys(&[NEW]));
    let original = original(&service, &jpeg(400, 300, 2));
    let path = signed(NEW, &original, "rs:fill:100:100/f:webp");
    let with = |fields: &str| service.ask(&format!("GET {path}"), fields, b"");
    let head = service.ask(&format!("HEAD {path}"), "", b"");
    let whole = with("");
    assert_eq!((head.status, head.body.len(), whole.status), (200, 0, 200));
    assert_eq!(head.field("content-length"), Some(&whole.body.len().to_string()[..]));
    assert!(whole.body.starts_with(b"RIFF"));
    for (field, value) in [
        ("content-type", Some("image/webp")),
        ("cache-control", Some("public, max-age=31536000, immutable")),
        ("x-content-type-options", Some("nosniff")),
        ("accept-ranges", Some("bytes")),
        ("vary", None),
    ] {
        assert_eq!(whole.field(field), value, "{}", whole.head);
    }
    assert!(whole.field("content-disposition").unwrap().ends_with(".webp\""));
    let etag = whole.field("etag").unwrap();
    let same = with(&format!("If-None-Match: {etag}\r\n"));
    assert_eq!((same.status, same.field("etag"), same.body.len()), (304, Some(etag), 0));
    let part = with(&format!("Range: bytes=5-9\r\nIf-Range: {etag}\r\n"));
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[5..10]));
    with("Range: bytes=9999999-\r\n").is_problem(416, "range");
    let saved = service.get(&format!("{path}?download"));
    assert!(saved.field("content-disposition").unwrap().starts_with("attachment; "));
    assert_eq!(variants(&service, "made"), 1);

    // What was made is there after a crash, and counts.
    let bytes = whole.body.len() as u64;
    let service = Service::start_in(service.kill(), &keys(&[NEW]), &["--shards", "1"]);
    until("what is kept is counted", || figure(&service, "annulus_image_variants_kept_bytes{") == bytes);
    assert_eq!(service.get(&path).body, whole.body);
    assert_eq!((variants(&service, "made"), variants(&service, "found")), (0, 1));
    // By its own name nobody gets it.
    let kept = files(&service.folder.join("data"), ".variant");
    let name = kept[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(kept.len(), 1);
    service.get(&format!("/v1/images/{name}")).is_problem(404, "no such image");
    service.get(&format!("/v1/images/{}", name.strip_suffix(".variant").unwrap())).is_problem(404, "no such image");
    service.get(&format!("/v1/images/{original}")).is_problem(404, "no such image");
    // Who has it needs no making, even where it had to go.
    std::fs::remove_file(&kept[0]).unwrap();
    let same = service.ask(&format!("GET {path}"), &format!("If-None-Match: {etag}\r\n"), b"");
    assert_eq!((same.status, same.field("etag")), (304, Some(etag)));
    assert_eq!(variants(&service, "made"), 0);
    // And who has not gets the same bytes again.
    assert_eq!(service.get(&path).body, whole.body);
    assert_eq!(variants(&service, "made"), 1);
    service.stop();
}

#[test]
fn the_client_chooses_the_format() {
    let service = Service::start(&keys(&[NEW]));
    let original = original(&service, &jpeg(300, 200, 3));
    let path = signed(NEW, &original, "w:60/f:auto");
    let ask = |accept: &str| service.ask(&format!("GET {path}"), accept, b"");
    let mut tags = Vec::new();
    for (accept, kind) in [
        ("Accept: image/avif,image/webp,image/apng,image/*,*/*;q=0.8\r\n", "image/avif"),
        ("Accept: image/webp,*/*;q=0.8\r\n", "image/webp"),
        ("Accept: */*\r\n", "image/jpeg"),
        ("", "image/jpeg"),
    ] {
        // The second time it is found.
        for _ in 0..2 {
            let answer = ask(accept);
            assert_eq!((answer.status, answer.field("content-type")), (200, Some(kind)), "{accept} {}", answer.head);
            assert_eq!(answer.field("vary"), Some("accept"));
            tags.push(answer.field("etag").unwrap().to_owned());
        }
    }
    tags.dedup();
    assert_eq!(tags.len(), 3, "each format is an answer of its own");
    let same = ask(&format!("Accept: image/webp\r\nIf-None-Match: {}\r\n", tags[1]));
    assert_eq!((same.status, same.field("vary")), (304, Some("accept")));
    assert_eq!((variants(&service, "made"), variants(&service, "found")), (3, 6));
    // Whoever asks for one by its name gets the one that was made.
    let named = service.get(&signed(NEW, &original, "w:60/f:avif"));
    assert_eq!((named.field("content-type"), named.field("vary")), (Some("image/avif"), None));
    assert_eq!(named.field("etag"), Some(&tags[0][..]));
    assert_eq!(variants(&service, "made"), 3);
    service.stop();
}

#[test]
fn addresses_are_good_while_a_key_and_their_time_are() {
    let service = Service::start(&keys(&[OLD]));
    let original = original(&service, &jpeg(200, 200, 4));
    let old = signed(OLD, &original, "w:50");
    let new = signed(NEW, &original, "w:50");
    assert_eq!(service.get(&old).status, 200);
    service.get(&new).is_problem(403, "Sign it anew");
    let service = Service::start_in(service.kill(), &keys(&[NEW, OLD]), &["--shards", "1"]);
    assert_eq!((service.get(&old).status, service.get(&new).status), (200, 200));
    // The helper signs with the first key of the file.
    let printed = |words: &[&str]| {
        let mut helper = Command::new(env!("CARGO_BIN_EXE_annulus"));
        let output = helper.args(["image", "sign", "--config"]).arg(service.folder.join("config.toml")).args(words);
        let output = output.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(printed(&[&original, "w:50"]), (true, format!("{new}\n"), String::new()));
    let (is_well, address, _) = printed(&["--expires", "3600", "--base", "http://x/", &original, "w:50/f:png"]);
    let path = address.trim().strip_prefix("http://x").unwrap();
    let expiring = service.get(path);
    assert_eq!((is_well, expiring.status, expiring.field("content-type")), (true, 200, Some("image/png")));
    let max_age: u64 =
        expiring.field("cache-control").unwrap().strip_prefix("public, max-age=").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&max_age), "{max_age}");
    let (is_well, _, says) = printed(&[&original, "wdth:50"]);
    assert!(!is_well && says.contains("The nearest is \"width\""), "{says}");
    // A preset may be changed: its variant is not for ever.
    let preset = service.get(&signed(NEW, &original, "pr:avatar:small/q:60"));
    assert_eq!((preset.status, preset.field("cache-control")), (200, Some("public, max-age=31536000")));
    assert_eq!(size_of(&preset.body), (96, 96));

    let service = Service::start_in(service.kill(), &keys(&[NEW]), &["--shards", "1"]);
    service.get(&old).is_problem(403, "Sign it anew");
    let made = figure(&service, "annulus_image_lane_works_total");
    service.get(&format!("/v1/images/{original}/w:50")).is_problem(403, "annulus image sign");
    service.get(&new.replace("w:50", "w:51")).is_problem(403, "Sign it anew");
    service.get(&format!("{new}A")).is_problem(403, "Sign it anew");
    service.get(&signed(NEW, &original, "w:50/exp:1700000000")).is_problem(410, "exp:");
    assert_eq!(variants(&service, "unsigned"), 5);
    service.get(&signed(NEW, &original, "w:50/qq:1")).is_problem(422, "no option");
    service.get(&signed(NEW, &original, "pr:web")).is_problem(422, "pr:web:small");
    service.get(&signed(NEW, &format!("{}.jpeg", "0".repeat(64)), "w:50")).is_problem(422, "source.key");
    service.get(&signed(NEW, &format!("{}.original", "0".repeat(64)), "w:50")).is_problem(404, "no such original");
    let post = service.ask(&format!("POST {new}"), "Content-Length: 0\r\n", b"");
    post.is_problem(405, "GET, HEAD");
    assert_eq!(figure(&service, "annulus_image_lane_works_total"), made);
    service.stop();
}

#[test]
fn what_cannot_be_made_is_said_and_not_tried_again_and_again() {
    let service = Service::start(&keys(&[NEW]));
    let mut torn = jpeg(640, 480, 5);
    torn.truncate(torn.len() / 2);
    let document = service.post("?ops=tiny=rs:fit:600:600", "", &torn).json();
    let state = service.end_of(document["id"].as_str().unwrap(), "")["state"].clone();
    let path = signed(NEW, document["source"]["key"].as_str().unwrap(), "w:500/f:png");
    // What a job makes of it, a variant does, too.
    let answer = service.get(&path);
    if state == "failed" {
        answer.is_problem(422, "");
        service.get(&path).is_problem(422, "");
        assert_eq!((variants(&service, "failed"), variants(&service, "made")), (1, 0));
    } else {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // Larger than anything may be here.
    let original = original(&service, &jpeg(640, 480, 6));
    service.get(&signed(NEW, &original, "rs:force:20000:20000:1/f:avif")).is_problem(413, "are allowed");
    service.stop();
}

/// Stops the service's worker processes where they are, or lets them go on.
fn tell_workers(service: &Service, signal: &str) {
    let threads = std::fs::read_dir(format!("/proc/{}/task", service.process.id())).unwrap().flatten();
    let workers: String = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("children"))).collect();
    assert!(!workers.trim().is_empty(), "there are no workers");
    for worker in workers.split_whitespace() {
        assert!(Command::new("kill").args(["-s", signal, worker]).status().unwrap().success());
    }
}

#[test]
fn when_too_many_wait_clients_are_told_when_to_come_back() {
    let config = format!("workers = 1\njob_seconds_max = 3600\n{}waiting_max = 1\n", keys(&[NEW]));
    let service = Service::start(&config);
    let original = original(&service, &jpeg(300, 200, 7));
    let [runs, waits, refused] = ["w:50", "w:60", "w:70"].map(|options| signed(NEW, &original, options));
    tell_workers(&service, "STOP");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| service.get(&runs));
        until("it is being made", || figure(&service, "annulus_image_lane_busy{") == 1);
        let waiting = scope.spawn(|| service.get(&waits));
        until("it waits", || figure(&service, "annulus_image_variants_waiting{") == 1);
        let answer = service.get(&refused);
        answer.is_problem(503, "Too many variants wait");
        assert!(answer.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(variants(&service, "refused"), 1);
        // To wait for what others wait for is always possible.
        let joins = scope.spawn(|| service.get(&waits));
        until("it has joined", || variants(&service, "joined") == 1);
        tell_workers(&service, "CONT");
        for asking in [running, waiting, joins] {
            assert_eq!(asking.join().unwrap().status, 200);
        }
    });
    assert_eq!(service.get(&refused).status, 200);
    assert_eq!((variants(&service, "made"), figure(&service, "annulus_image_variants_waiting{")), (3, 0));
    service.stop();
}

#[test]
fn without_the_section_there_are_none_and_without_signatures_only_by_choice() {
    let service = Service::start("");
    let original = original(&service, &jpeg(100, 100, 8));
    service.get(&signed(NEW, &original, "w:50")).is_problem(404, "[image.variants]");
    let folder = service.kill();
    let service = Service::start_in(folder, "[image.variants]\nunsigned = true\n", &["--shards", "1"]);
    assert!(service.log.lock().unwrap().contains("NO SIGNATURE"));
    let unsigned = service.get(&format!("/v1/images/{original}/rs:fit:50:50"));
    assert_eq!((unsigned.status, size_of(&unsigned.body)), (200, (50, 50)));
    let bare = service.get(&format!("/v1/images/{original}/"));
    assert_eq!((bare.status, size_of(&bare.body)), (200, (100, 100)));
    service.get(&signed(NEW, &original, "w:50")).is_problem(403, "Sign it anew");
    service.stop();
}
