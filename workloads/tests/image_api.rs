//! The image service as clients see it: uploads in every way, jobs to their end, delivery, and refusals that help.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_fleet;
mod image_rig;
mod openapi;
mod outside;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image_rig::{Answer, Service, files, form, jpeg, noise, size_of};
use openapi::Described;
use outside::postgres::Postgres;

#[test]
fn a_form_becomes_three_images() {
    let service = Service::start("");
    let answer = service.post_form(&[("csrf", "x"), ("preset", "web")], &jpeg(2000, 1000, 1));
    assert_eq!(answer.status, 202, "{answer:?}");
    let document = answer.json();
    let id = document["id"].as_str().unwrap();
    assert_eq!(answer.field("location"), Some(&format!("/v1/jobs/{id}")[..]));
    assert_eq!((&document["asked"], &document["source"]["width"]), (&"web".into(), &2000.into()));
    let done = service.end_of(id, "");
    assert_eq!(done["state"], "done", "{done}");
    let sizes = [("small", 256, 128), ("medium", 800, 400), ("large", 1600, 800)];
    for (output, (name, width, height)) in done["outputs"].as_array().unwrap().iter().zip(sizes) {
        assert_eq!(
            (&output["name"], &output["width"], &output["height"]),
            (&name.into(), &width.into(), &height.into())
        );
        let image = service.get(output["url"].as_str().unwrap());
        assert_eq!(image.status, 200);
        assert_eq!(image.body.len() as u64, output["bytes"].as_u64().unwrap());
        assert_eq!(size_of(&image.body), (width, height));
        for (field, value) in [
            ("content-type", "image/jpeg"),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("x-content-type-options", "nosniff"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(image.field(field), Some(value));
        }
        assert!(image.field("content-disposition").unwrap().starts_with("inline; filename=\""));
    }
    service.stop();
}

#[test]
fn raw_bytes_chunked_slow_and_waited_for() {
    let service = Service::start("");
    let image = jpeg(640, 480, 2);
    // As curl --data-binary says it, which is wrong and common.
    let fields = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nPrefer: respond-async, wait=20\r\nContent-Length: {}\r\n",
        image.len()
    );
    let answer = service.ask("POST /v1/images?ops=tiny=rs:fit:64:64", &fields, &image);
    assert_eq!((answer.status, answer.field("preference-applied")), (200, Some("wait=20")), "{answer:?}");
    let document = answer.json();
    assert_eq!((&document["state"], &document["outputs"][0]["name"]), (&"done".into(), &"tiny".into()));
    // In chunks, slowly, after being asked to go on.
    let mut stream = service.connect();
    let head = "POST /v1/images?preset=thumbnail&priority=bulk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
                Expect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    for piece in image.chunks(image.len() / 20 + 1) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        stream.write_all(piece).unwrap();
        stream.write_all(b"\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let answer = Answer::parse(&text);
    assert_eq!((answer.status, &answer.json()["priority"]), (202, &"bulk".into()), "{answer:?}");
    assert_eq!(service.end_of(answer.json()["id"].as_str().unwrap(), "")["state"], "done");
    service.stop();
}

/// A TIFF of grey noise, as libtiff writes it: its directory comes last.
fn tiff(width: u16, height: u16) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..u32::from(width) * u32::from(height)).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut file = [&b"II*\0"[..], &(8 + pixels.len() as u32).to_le_bytes(), &pixels].concat();
    let fields = [
        (256, width.into()),
        (257, height.into()),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height.into()),
        (279, pixels.len() as u32),
    ];
    file.extend_from_slice(&(fields.len() as u16).to_le_bytes());
    for (tag, value) in fields {
        file.extend_from_slice(&u16::to_le_bytes(tag));
        file.extend_from_slice(&[4, 0, 1, 0, 0, 0]);
        file.extend_from_slice(&u32::to_le_bytes(value));
    }
    file.extend_from_slice(&[0; 4]);
    file
}

#[test]
fn a_tiff_says_what_it_is_at_its_end() {
    let service = Service::start("bytes_max = 8_000_000\n");
    let image = tiff(3000, 2000);
    let whole = service.post("?ops=tiny=rs:fit:64:64", "Prefer: wait=60\r\n", &image).json();
    let tiny = &whole["outputs"][0];
    assert_eq!((&whole["state"], &tiny["width"], &tiny["height"]), (&"done".into(), &64.into(), &43.into()), "{whole}");
    assert_eq!((&whole["source"]["format"], &whole["source"]["width"]), (&"tiff".into(), &3000.into()));
    assert_eq!(service.get(tiny["url"].as_str().unwrap()).field("content-type"), Some("image/jpeg"));

    // What ends within its directory, or is larger than it may be, was written already, and is removed.
    let before = files(&service.folder.join("data"), "").len();
    service.post("?preset=thumbnail", "", &image[..image.len() - 40]).is_problem(422, "middle of its header");
    let small = Service::start("bytes_max = 8_000_000\npixels_max = 1_000_000\n");
    small.post("?preset=thumbnail", "", &image).is_problem(413, "pixels_max");
    assert!(files(&small.folder.join("data"), ".part").is_empty());
    assert_eq!(files(&service.folder.join("data"), "").len(), before);
    small.stop();
    service.stop();
}

#[test]
fn what_will_never_work_is_refused_early_and_leaves_nothing() {
    let service = Service::start("bytes_max = 200_000\npixels_max = 1_000_000\n");
    let image = jpeg(320, 200, 3);
    let large = jpeg(2000, 1000, 3);
    // A length that is announced is refused before a byte is sent.
    let answer = service.ask("POST /v1/images", "Content-Length: 900000\r\nExpect: 100-continue\r\n", b"");
    answer.is_problem(413, "bytes_max");
    // A header that is beyond a limit is refused when it is here: the rest is never sent.
    let mut stream = service.connect();
    stream
        .write_all(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n")
        .unwrap();
    stream.write_all(&large[..4096]).unwrap();
    let mut text = vec![0; 4096];
    let len = stream.read(&mut text).unwrap();
    Answer::parse(&text[..len]).is_problem(413, "pixels_max");
    let heic = [&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], &[0; 100]].concat();
    service.post("", "", &heic).is_problem(415, "HEIC");
    service
        .post("", "", b"hello, I am no image at all, whatever my name says; and I go on for a while to say so")
        .is_problem(422, "no image");
    service.post("", "", b"").is_problem(422, "empty");
    service.post("", "", &image[..200]).is_problem(422, "cut off");
    service.post("?preset=nope", "", &image).is_problem(422, "there are: ");
    service.post("?ops=qq:1", "", &image).is_problem(422, "qq");
    service.post("?size=1", "", &image).is_problem(422, "preset, ops, priority and upload");
    service.post("?priority=now", "", &image).is_problem(422, "interactive");
    service.post("", &format!("Idempotency-Key: {}\r\n", "k".repeat(256)), &image).is_problem(400, "255");
    // Forms that are none.
    let as_form = |boundary: &str, body: &[u8]| {
        let head = format!("Content-Type: multipart/form-data{boundary}\r\nContent-Length: {}\r\n", body.len());
        service.ask("POST /v1/images", &head, body)
    };
    as_form("", b"x").is_problem(400, "boundary");
    as_form("; boundary=XX", b"--XX\r\nnonsense\r\n\r\n").is_problem(400, "head of a part");
    as_form("; boundary=XX", &form(&[("a", "b")], "x", &image)[..80]).is_problem(400, "closing delimiter");
    as_form("; boundary=XX", b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--XX--")
        .is_problem(400, "no file");
    let one = form(&[], "x", &image);
    let open = &one[..one.len() - "--XX--\r\n".len()];
    as_form("; boundary=XX", &[open, &one].concat()).is_problem(400, "more than one file");
    let late = b"--XX\r\nContent-Disposition: form-data; name=preset\r\n\r\nweb\r\n--XX--";
    as_form("; boundary=XX", &[open, late].concat()).is_problem(400, "before it");
    let long = form(&[("preset", &"x".repeat(5000))], "x", &image);
    as_form("; boundary=XX", &long).is_problem(413, "4096");
    assert!(files(&service.folder.join("data"), "original").is_empty());
    // What was never asked for is not there.
    service.get("/v1/nothing").is_problem(404, "nothing at this address");
    service.get("/v1/jobs/0123").is_problem(404, "no such job");
    service.get("/v1/images/0123").is_problem(404, "no such image");
    service.get(&format!("/v1/images/{}.original", "0".repeat(64))).is_problem(404, "no such image");
    service.get("/v1/images/../queue.db").is_problem(404, "nothing");
    let answer = service.ask("PUT /v1/images", "", b"");
    answer.is_problem(405, "POST");
    assert_eq!(answer.field("allow"), Some("post"));
    service.stop();
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let service = Service::start("body_pause_seconds_max = 1\n");
    let image = noise(1000, 1000);
    assert!(image.len() > 300_000, "{}", image.len());
    let head = format!("POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", image.len());
    // Gone half way.
    let mut stream = service.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&image[..image.len() - 1000]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(stream);
    // Silent half way.
    let mut stream = service.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&image[..image.len() - 1000]).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    Answer::parse(&text).is_problem(408, "too slowly");
    let until = Instant::now() + Duration::from_secs(5);
    let data = service.folder.join("data");
    let left = || {
        files(&data, "")
            .into_iter()
            .filter(|path| !["queue", "layout", "tus/lock"].iter().any(|own| path.to_string_lossy().contains(own)))
            .collect::<Vec<_>>()
    };
    while !left().is_empty() {
        assert!(Instant::now() < until, "left over: {:?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
    let metrics = service.get("/metrics").text();
    assert!(metrics.contains("annulus_image_uploads{shard=\"0\"} 0"), "{metrics}");
    service.stop();
}

#[test]
fn delivery_in_parts_and_under_conditions() {
    let service = Service::start("");
    let answer =
        service.post("?ops=a=rs:fit:100:100/f:jpeg&ops=b=rs:fit:50:50", "Prefer: wait=20\r\n", &jpeg(400, 300, 5));
    let url = answer.json()["outputs"][0]["url"].as_str().unwrap().to_owned();
    let whole = service.get(&url);
    let etag = whole.field("etag").unwrap().to_owned();
    let with = |fields: &str| service.ask(&format!("GET {url}"), fields, b"");
    let part = with("Range: bytes=10-19\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..20]));
    assert_eq!(part.field("content-range"), Some(&format!("bytes 10-19/{}", whole.body.len())[..]));
    let tail = with(&format!("Range: bytes=-7\r\nIf-Range: {etag}\r\n"));
    assert_eq!((tail.status, &tail.body[..]), (206, &whole.body[whole.body.len() - 7..]));
    assert_eq!(with("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n").body, whole.body);
    let none = with("Range: bytes=99999999-\r\n");
    none.is_problem(416, "range");
    assert_eq!(none.field("content-range"), Some(&format!("bytes */{}", whole.body.len())[..]));
    let same = with(&format!("If-None-Match: W/\"x\", {etag}\r\n"));
    assert_eq!((same.status, same.body.len(), same.field("etag")), (304, 0, Some(&etag[..])));
    let head = service.ask(&format!("HEAD {url}"), "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-length"), Some(&whole.body.len().to_string()[..]));
    let saved = service.get(&format!("{url}?download"));
    assert!(saved.field("content-disposition").unwrap().starts_with("attachment; "));
    // Without its ending the key names every format that there is.
    let any = url.strip_suffix(".jpeg").unwrap();
    let chosen = service.ask(&format!("GET {any}"), "Accept: image/avif,image/*;q=0.8\r\n", b"");
    assert_eq!(
        (chosen.status, chosen.field("vary"), chosen.field("content-location")),
        (200, Some("accept"), Some(&url[..]))
    );
    service.ask(&format!("GET {any}"), "Accept: text/html\r\n", b"").is_problem(406, "image/jpeg");
    service.stop();
}

#[test]
fn placeholders_are_told_where_they_are_asked_for() {
    let config = "[image.presets]\nhero = [\"hero=rs:fit:300:300/th/bh:4:3\", \"plain=rs:fit:100:100\"]\n";
    let service = Service::start(config);
    let done = |service: &Service, query: &str| {
        let answer = service.post(query, "Prefer: wait=20\r\n", &jpeg(640, 480, 9));
        assert_eq!(answer.status, 200, "{answer:?}");
        let document = answer.json();
        assert_eq!(document["state"], "done", "{document}");
        document
    };
    let document = done(&service, "?preset=hero");
    let hero = &document["outputs"][0];
    // Grey on average, four to three, and nothing to see through.
    let hash = STANDARD.decode(hero["thumbhash"].as_str().unwrap()).unwrap();
    assert!((17..=25).contains(&hash.len()) && (30..=34).contains(&(hash[0] & 63)), "{hash:?}");
    assert_eq!((hash[3] & 7, hash[4] >> 7, hash[2] >> 7), (5, 1, 0), "{hash:?}");
    let blurhash = hero["blurhash"].as_str().unwrap();
    assert!(blurhash.len() == 28 && blurhash.starts_with('L'), "{blurhash}");
    assert!(hero["url"].as_str().is_some_and(|url| service.get(url).status == 200), "{hero}");
    let plain = &document["outputs"][1];
    assert_eq!((plain.get("thumbhash"), plain.get("blurhash")), (None, None), "{plain}");
    // By options, of one of them alone, of pixels as of planes, and of what lies around the picture.
    let document = done(&service, "?ops=a=rs:fit:300:300/bh:9:9/f:png&ops=b=rs:fit:300:300:0:1/th/f:webp");
    let (a, b) = (&document["outputs"][0], &document["outputs"][1]);
    assert_eq!((a["blurhash"].as_str().map(str::len), a.get("thumbhash")), (Some(166), None), "{a}");
    let hash = STANDARD.decode(b["thumbhash"].as_str().unwrap()).unwrap();
    assert_eq!((hash[2] >> 7, hash[4] >> 7, b.get("blurhash")), (1, 0, None), "{b}");
    for (ops, says) in
        [("th:yes", "neither 1 nor 0"), ("bh:0", "from 1 to 9"), ("bh:4:10", "from 1 to 9"), ("bh:1:2:3", "at most 2")]
    {
        service.post(&format!("?ops={ops}"), "", &jpeg(64, 48, 9)).is_problem(422, says);
    }
    let presets = service.get("/v1/presets").text();
    assert!(presets.contains("rs:fit:300:300/th:1/bh:4:3"), "{presets}");
    // Another process finds them with the job, and so does who asks for the same again.
    let job = done(&service, "?preset=hero");
    let folder = service.kill();
    let service = Service::start_in(folder, config, &["--shards", "1"]);
    let again = service.get(job["url"].as_str().unwrap()).json();
    assert_eq!(again["outputs"][0]["thumbhash"], job["outputs"][0]["thumbhash"], "{again}");
    assert_eq!(again["outputs"], job["outputs"]);
    service.stop();
    // Without a wall around the codecs they are the same.
    let service = Service::start(&format!("isolation = \"thread\"\n{config}"));
    let unwalled = done(&service, "?preset=hero");
    for name in ["thumbhash", "blurhash"] {
        assert_eq!(unwalled["outputs"][0][name], job["outputs"][0][name], "{unwalled}");
    }
    service.stop();
}

#[test]
fn events_tell_every_change_and_end() {
    let service = Service::start("");
    let id = service.post("", "", &jpeg(3000, 2000, 6)).json()["id"].as_str().unwrap().to_owned();
    let events = service.get(&format!("/v1/jobs/{id}/events"));
    assert_eq!(events.field("content-type"), Some("text/event-stream"));
    let text = events.text();
    assert!(text.starts_with("retry: ") && text.contains("event: done\ndata: {"), "{text}");
    let revisions: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    assert!(!revisions.is_empty() && revisions.is_sorted(), "{text}");
    // Nothing new: an event source is told to stay away.
    let last = revisions.last().unwrap();
    let again = service.ask(&format!("GET /v1/jobs/{id}/events"), &format!("Last-Event-ID: {last}\r\n"), b"");
    assert_eq!(again.status, 204, "{again:?}");
    let several = service.get(&format!("/v1/events?job={id}&job={}", "0".repeat(32)));
    let text = several.text();
    assert!(text.contains("event: done\n") && text.contains("event: gone\n") && !text.contains("id: "), "{text}");
    service.get("/v1/events").is_problem(400, "Name 1 to");
    service.stop();
}

#[test]
fn the_same_request_twice_is_one_job() {
    let service = Service::start("");
    let image = jpeg(300, 300, 7);
    let first = service.post("", "Idempotency-Key: abc\r\n", &image);
    let second = service.post("", "Idempotency-Key: abc\r\n", &image);
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!((first.field("idempotency-replayed"), second.field("idempotency-replayed")), (None, Some("true")));
    service.post("?preset=avatar", "Idempotency-Key: abc\r\n", &image).is_problem(422, "new key");
    service.post("", "Idempotency-Key: abc\r\n", &jpeg(300, 300, 8)).is_problem(422, "new key");
    // Without a key they are two jobs on one work.
    let other = service.post("", "", &image);
    assert_ne!(other.json()["id"], first.json()["id"]);
    let (one, two) = (
        service.end_of(first.json()["id"].as_str().unwrap(), ""),
        service.end_of(other.json()["id"].as_str().unwrap(), ""),
    );
    assert_eq!(one["outputs"], two["outputs"]);
    service.stop();
}

#[test]
fn tenants_see_their_own_jobs_only() {
    let keys =
        "admin_key = \"admin-key-0123456\"\n[image.tenants]\na = \"tenant-a-0123456\"\nb = \"tenant-b-0123456\"\n";
    let service = Service::start(keys);
    let image = jpeg(200, 200, 9);
    let (a, b) = ("Authorization: Bearer tenant-a-0123456\r\n", "X-API-Key: tenant-b-0123456\r\n");
    let refused = service.post("", "", &image);
    refused.is_problem(401, "API key");
    assert_eq!(refused.field("www-authenticate"), Some("bearer"));
    service.post("", "Authorization: Bearer tenant-a-012345\r\n", &image).is_problem(401, "API key");
    let id = service.post("", a, &image).json()["id"].as_str().unwrap().to_owned();
    for line in [format!("GET /v1/jobs/{id}"), format!("DELETE /v1/jobs/{id}"), format!("GET /v1/jobs/{id}/events")] {
        service.ask(&line, b, b"").is_problem(404, "no such job");
        service.ask(&line, "", b"").is_problem(401, "API key");
    }
    service.ask(&format!("POST /v1/dead/{id}/retry"), b, b"").is_problem(404, "no such job");
    let done = service.end_of(&id, a);
    assert_eq!(done["state"], "done");
    // Outputs are delivered to whoever knows their address.
    assert_eq!(service.get(done["outputs"][0]["url"].as_str().unwrap()).status, 200);
    service.ask("GET /v1/figures", a, b"").is_problem(403, "admin_key");
    let figures = service.ask("GET /v1/figures", "Authorization: Bearer admin-key-0123456\r\n", b"").json();
    assert_eq!(figures["jobs"]["done"], 1, "{figures}");
    service.ask(&format!("POST /v1/dead/{id}/retry"), a, b"").is_problem(409, "done");
    assert_eq!(service.ask("GET /v1/dead", a, b"").json()["jobs"], serde_json::json!([]));
    assert!(!service.log.lock().unwrap().contains("NO API KEYS"));
    service.stop();
}

#[test]
fn an_open_service_is_for_this_machine_and_its_own_page() {
    let service = Service::start("");
    assert!(service.log.lock().unwrap().contains("NO API KEYS"));
    let image = jpeg(100, 100, 10);
    service.post("", "Origin: http://evil.example\r\n", &image).is_problem(403, "own page");
    let mut stream = service.connect();
    stream.write_all(b"GET /v1/presets HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    Answer::parse(&text).is_problem(403, "own page");
    let own = format!("Origin: http://{}\r\n", service.address);
    assert_eq!(service.post("", &own, &image).status, 202);
    assert_eq!(service.get("/health").text(), "{\"status\":\"ok\"}\n");
    let presets = service.get("/v1/presets").json();
    assert_eq!(presets["default"], "web");
    for (path, kind) in [("/", "text/html"), ("/console", "text/html"), ("/upload.js", "text/javascript")] {
        let page = service.get(path);
        assert!(page.status == 200 && page.field("content-type").unwrap().starts_with(kind), "{path}");
        let policy = page.field("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(
            !page.text().replace("http://www.w3.org/2000/svg", "").contains("://"),
            "{path} needs something from elsewhere"
        );
    }
    service.stop();
}

#[test]
fn cancelled_jobs_end_and_stay_so() {
    let service = Service::start("workers = 1\n");
    let ids: Vec<String> = (0..6)
        .map(|seed| service.post("", "", &jpeg(3000, 2000, 20 + seed)).json()["id"].as_str().unwrap().to_owned())
        .collect();
    let last = ids.last().unwrap();
    let cancelled = service.ask(&format!("DELETE /v1/jobs/{last}"), "", b"").json();
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert_eq!(service.get(&format!("/v1/jobs/{last}")).json()["state"], "cancelled");
    for id in &ids[..5] {
        assert_eq!(service.end_of(id, "")["state"], "done");
    }
    // What has ended stays as it is.
    assert_eq!(service.ask(&format!("DELETE /v1/jobs/{}", ids[0]), "", b"").json()["state"], "done");
    service.stop();
}

#[test]
fn a_kill_loses_nothing_that_was_promised() {
    let mut service = Service::start("");
    let mut ids = Vec::new();
    for round in 0..4u8 {
        for seed in 0..3 {
            let answer = service.post("?preset=thumbnail", "", &jpeg(1200, 900, 40 + 3 * round + seed));
            assert_eq!(answer.status, 202);
            ids.push(answer.json()["id"].as_str().unwrap().to_owned());
        }
        let folder = service.kill();
        service = Service::start_in(folder, "", &["--shards", "1"]);
    }
    for id in &ids {
        let document = service.end_of(id, "");
        assert_eq!(document["state"], "done", "{document}");
        assert_eq!(service.get(document["outputs"][0]["url"].as_str().unwrap()).status, 200);
    }
    service.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Service::start("");
    let mut stream = service.connect();
    let get = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
    let image = jpeg(50, 50, 60);
    let mut wire = get("/health", "").into_bytes();
    let post = format!("POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", image.len());
    wire.extend_from_slice(post.as_bytes());
    wire.extend_from_slice(&image);
    wire.extend_from_slice(get("/nothing", "").as_bytes());
    wire.extend_from_slice(get("/health", "Connection: close\r\n").as_bytes());
    stream.write_all(&wire).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let statuses: Vec<&str> = text.matches("HTTP/1.1 ").map(|_| "").collect();
    assert_eq!(statuses.len(), 4, "{text}");
    let places =
        ["HTTP/1.1 200", "HTTP/1.1 202", "HTTP/1.1 404", "connection: close"].map(|part| text.find(part).unwrap());
    assert!(places.is_sorted(), "{text}");
    service.stop();
}

/// What the account has of a job: events in order, with attempts.
fn account(postgres: &Postgres, job: &str) -> Vec<String> {
    let words = format!(
        "SELECT event || ' ' || attempt FROM annulus_image_events WHERE job = '{job}' ORDER BY revision, event"
    );
    postgres.sql(&words).lines().map(str::to_owned).collect()
}

fn figure(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_account_of_jobs_outlives_its_database_and_the_service() {
    let Some(mut postgres) = Postgres::start("the account of image jobs in PostgreSQL") else { return };
    let config = format!(
        "audit_postgres = \"{}&connect_timeout=1\"\nattempts_max = 1\nbackoff_seconds = 1\n[image.tenants]\nshop = \
         \"a-key-of-the-shop\"\n",
        postgres.url()
    );
    let fields = "X-API-Key: a-key-of-the-shop\r\n";
    let service = Service::start(&config);
    let made = |service: &Service, seed: u8| {
        let answer = service.post("?ops=tiny=rs:fit:64:64", fields, &jpeg(320, 200, seed));
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(service.end_of(&id, fields)["state"], "done");
        id
    };
    let whole = ["accepted 0", "leased 1", "done 1"];
    let first = made(&service, 1);
    until("there is a table", || postgres.sql("SELECT to_regclass('annulus_image_events') IS NOT NULL") == "t");
    until("it is in the account", || account(&postgres, &first) == whole);
    let words = format!(
        "SELECT tenant, lane, width, height, bytes_in > 1000, bytes_out > 100, abs(extract(epoch FROM now() - time)) < 60, \
         error IS NULL FROM annulus_image_events WHERE job = '{first}' AND event = 'done'"
    );
    assert_eq!(postgres.sql(&words), "shop|cpu|320|200|t|t|t|t");
    // What the image is to blame for, and what a person has to look at.
    let mut torn = jpeg(640, 480, 9);
    torn.truncate(torn.len() / 2);
    let torn = service.post("", fields, &torn).json()["id"].as_str().unwrap().to_owned();
    let ended = service.end_of(&torn, fields)["state"].as_str().unwrap().to_owned();
    until("it is in the account", || account(&postgres, &torn).last().is_some_and(|last| last.starts_with(&ended)));
    let dead = service.dead_letter(fields, 3);
    until("it is in the account", || account(&postgres, &dead) == ["accepted 0", "leased 1", "dead 1"]);
    let words = format!("SELECT error FROM annulus_image_events WHERE job = '{dead}' AND event = 'dead'");
    let error = postgres.sql(&words);
    // It may have been killed before it said that it was there.
    assert!(error.contains("its worker was killed") || error.contains("SIGKILL"), "{error}");

    // Without the database jobs are done as ever; then the service is killed, and nothing of it is lost.
    postgres.crash();
    let meanwhile: Vec<String> = (10..15).map(|seed| made(&service, seed)).collect();
    assert!(figure(&service, "annulus_image_audit_waiting") >= 15);
    until("it has tried", || figure(&service, "annulus_image_audit_retries_total") > 0);
    let folder = service.kill();
    let service = Service::start_in(folder, &config, &["--shards", "1"]);
    postgres.resume();
    for id in &meanwhile {
        until("it is in the account", || account(&postgres, id) == whole);
    }
    until("nothing waits", || figure(&service, "annulus_image_audit_waiting") == 0);
    assert_eq!(figure(&service, "annulus_image_audit_lost_total"), 0);
    service.stop();
}

#[test]
fn the_description_for_tools_is_true() {
    let service = Service::start("admin_key = \"0123456789abcdef\"\n[image.variants]\nunsigned = true\n");
    let key = "X-API-Key: 0123456789abcdef\r\n";
    let image = jpeg(640, 480, 4);
    let job = |seed: u8| {
        let answer = service.post("?preset=thumbnail", &format!("{key}Prefer: wait=30\r\n"), &jpeg(320, 200, seed));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let done = job(5);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (id, output, original) = (text(&done["id"]), text(&done["outputs"][0]["key"]), text(&done["source"]["key"]));
    let tus = |method: &str, path: &str, fields: &str, body: &[u8]| {
        let fields = format!("{key}Tus-Resumable: 1.0.0\r\nContent-Length: {}\r\n{fields}", body.len());
        service.ask(&format!("{method} {path}"), &fields, body)
    };
    let created = |len: usize| tus("POST", "/v1/tus", &format!("Upload-Length: {len}\r\n"), b"");
    let api = Described::read("openapi-image.json");
    for operation in api.operations() {
        let of = |parameter: &str, value: &str| operation.path.replace(parameter, value);
        let answer = match (&operation.method[..], &operation.path[..]) {
            ("POST", "/v1/images") => {
                service.post("?ops=tiny=rs:fit:64:64/th/bh&priority=bulk", &format!("{key}Prefer: wait=30\r\n"), &image)
            }
            // What is deleted is not asked for again.
            ("DELETE", "/v1/jobs/{id}") => {
                let own = text(&job(6)["id"]);
                let cancelled = service.ask(&format!("DELETE /v1/jobs/{own}"), key, b"");
                api.check(&operation, cancelled.status, &cancelled.body);
                service.ask(&format!("DELETE /v1/jobs/{own}?purge"), key, b"")
            }
            ("GET", "/v1/jobs/{id}/events") => {
                let seen = format!("{key}Last-Event-ID: {}\r\n", done["revision"]);
                service.ask(&format!("GET /v1/jobs/{id}/events"), &seen, b"")
            }
            ("GET", "/v1/events") => service.ask(&format!("GET /v1/events?job={id}"), key, b""),
            ("GET", "/v1/images/{key}") => service.get(&of("{key}", &output)),
            ("GET", "/v1/images/{original}/{options}") => {
                let address = format!("/v1/images/{original}/rs:fit:32:32");
                service.get(&address)
            }
            ("POST", "/v1/tus") => created(10),
            (method, "/v1/tus/{upload}") => {
                let place = created(image.len()).field("location").unwrap().to_owned();
                let piece = "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n";
                match method {
                    "PATCH" => tus(method, &place, piece, &image),
                    _ => tus(method, &place, "", b""),
                }
            }
            (method, path) => {
                let path = path.replace("{id}", &id).replace("{letter}", "1");
                service.ask(&format!("{method} {path}"), &format!("{key}Content-Length: 0\r\n"), b"")
            }
        };
        // Nothing is dead here, and neither a bucket nor webhooks are configured. All else is done.
        let is_absent = matches!(&operation.path[..], "/v1/uploads" | "/v1/dead/{id}/retry")
            || operation.path.starts_with("/v1/webhooks/");
        let (method, path, status) = (&operation.method, &operation.path, answer.status);
        assert_eq!(status >= 400, is_absent, "{method} {path} answered {status}: {}", answer.text());
        assert!(!answer.text().contains("nothing at this address"), "{} {}", operation.method, operation.path);
        api.check(&operation, answer.status, &answer.body);
    }
    let refused = service.post("?preset=nonesuch", key, &image);
    let upload = api.operations().into_iter().find(|operation| operation.path == "/v1/images").unwrap();
    assert!(refused.status == 422 || refused.status == 400, "{refused:?}");
    api.check(&upload, refused.status, &refused.body);
    service.stop();
}
