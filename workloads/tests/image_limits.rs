//! Where the image service ends: queues that are full, disks that are, works that die. Each time the answer says so, and
//! what was promised is kept.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;
mod outside;

use std::process::Command;
use std::time::{Duration, Instant};

use image_rig::{Service, files, folder, jpeg, noise};
use outside::certificates::Authority;

fn id_of(answer: &image_rig::Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_queue_that_is_full_says_when_there_will_be_room() {
    let service = Service::start("workers = 1\nwaiting_max = 3\n");
    let (mut promised, mut refused) = (Vec::new(), 0);
    // Made before: they are to come faster than one worker can do them.
    let images: Vec<Vec<u8>> = (0..12).map(|seed| jpeg(4000, 3000, seed)).collect();
    for image in &images {
        let answer = service.post("", "", image);
        match answer.status {
            202 => promised.push(id_of(&answer)),
            _ => {
                answer.is_problem(429, "queue");
                let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
                assert!((1..=600).contains(&seconds), "{answer:?}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 4 && promised.len() >= 4, "{refused} refused, {} promised", promised.len());
    for id in &promised {
        assert_eq!(service.end_of(id, "")["state"], "done");
    }
    // There is room again, and of what was refused nothing is left.
    assert_eq!(service.post("", "", &jpeg(300, 200, 99)).status, 202);
    assert_eq!(files(&service.folder.join("data"), "original").len(), promised.len() + 1);
    service.stop();
}

#[test]
fn a_long_wait_is_told_and_a_longer_one_refused() {
    let service = Service::start("workers = 1\ndelayed_after_seconds = 0\nrefused_after_seconds = 1\n");
    // What works take is learned from the first.
    let first = id_of(&service.post("", "", &jpeg(3000, 2000, 0)));
    assert_eq!(service.end_of(&first, "")["state"], "done");
    let images: Vec<Vec<u8>> = (1..60).map(|seed| jpeg(3000, 2000, seed)).collect();
    let (mut promised, mut delayed, mut refusal) = (Vec::new(), 0, None);
    for image in &images {
        let answer = service.post("", "", image);
        if answer.status != 202 {
            refusal = Some(answer);
            break;
        }
        let document = answer.json();
        if document["delayed"] == true {
            assert!(document["predicted_wait_ms"].as_u64().unwrap() > 0, "{document}");
            delayed += 1;
        }
        promised.push(id_of(&answer));
    }
    let refusal = refusal.expect("something is refused");
    refusal.is_problem(429, "queue");
    assert!(refusal.field("retry-after").is_some() && delayed > 0, "{delayed} delayed: {refusal:?}");
    for id in &promised {
        assert_eq!(service.end_of(id, "")["state"], "done");
    }
    service.stop();
}

#[test]
fn a_disk_below_its_reserve_takes_nothing_new_and_delivers_on() {
    let service = Service::start("");
    let id = id_of(&service.post("", "", &jpeg(300, 200, 1)));
    let url = service.end_of(&id, "")["outputs"][0]["url"].as_str().unwrap().to_owned();
    let folder = service.kill();
    // More than any disk has.
    let service = Service::start_in(folder, "disk_reserve_bytes = 1_000_000_000_000_000\n", &["--shards", "1"]);
    let until = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        let answer = service.post("", "", &jpeg(300, 200, 2));
        if answer.status != 202 || Instant::now() > until {
            break answer;
        }
    };
    answer.is_problem(503, "kept free");
    assert!(answer.field("retry-after").is_some(), "{answer:?}");
    assert_eq!(service.get(&url).status, 200);
    service.stop();
}

#[test]
fn a_disk_without_room_is_told_and_loses_nothing() {
    let folder = folder();
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&data).output().unwrap();
    if !mounted.status.success() {
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        std::fs::remove_dir_all(&folder).unwrap();
        return outside::not_run("a disk without room", &format!("a small disk cannot be mounted here: {why}"));
    }
    let service = Service::start_in(folder, "disk_reserve_bytes = 0\n", &["--shards", "1"]);
    let small = id_of(&service.post("", "", &jpeg(300, 200, 1)));
    assert_eq!(service.end_of(&small, "")["state"], "done");
    let (large, mut promised, mut refused) = (noise(2200, 1500), Vec::new(), 0);
    for number in 0..8 {
        // Another picture each time: bytes after a JPEG's end are passed over.
        let answer = service.post("?preset=thumbnail", "", &[&large[..], &[number]].concat());
        match answer.status {
            202 => promised.push(id_of(&answer)),
            _ => {
                answer.is_problem(507, "no room left");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !promised.is_empty(), "{refused} refused, {} promised", promised.len());
    // Half an upload is not left behind, and what was promised is not forgotten: it ends, well or because of the disk.
    assert_eq!(files(&data, "original").len(), promised.len() + 1);
    for id in promised.iter().chain([&small]) {
        let document = service.get(&format!("/v1/jobs/{id}"));
        assert_eq!(document.status, 200, "{document:?}");
    }
    let folder = service.folder.clone();
    service.signal("TERM");
    drop(service);
    assert!(Command::new("umount").arg("--lazy").arg(&data).status().unwrap().success());
    let _temporary = std::fs::remove_dir_all(folder);
}

#[test]
fn a_work_that_dies_waits_for_a_person_who_tries_it_again() {
    let service = Service::start("workers = 1\nattempts_max = 1\n");
    let id = service.dead_letter("", 7);
    let listed = service.get("/v1/dead").json();
    assert_eq!((listed["jobs"].as_array().unwrap().len(), &listed["jobs"][0]["id"]), (1, &id[..].into()), "{listed}");
    let dead = service.get(&format!("/v1/jobs/{id}")).json();
    let detail = dead["error"]["detail"].as_str().unwrap();
    // It may have been killed before it said that it was there.
    assert!(detail.contains("killed from outside") || detail.contains("SIGKILL"), "{dead}");
    let again = service.ask(&format!("POST /v1/dead/{id}/retry"), "", b"");
    assert_eq!(again.status, 202, "{again:?}");
    let ended = service.end_of(&id, "");
    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(service.get("/v1/dead").json()["jobs"].as_array().unwrap().len(), 0);
    service.ask(&format!("POST /v1/dead/{id}/retry"), "", b"").is_problem(409, "dead");
    service.stop();
}

#[test]
fn uploads_and_delivery_over_tls() {
    let group = "the image service over TLS";
    let Some(authority) = Authority::new(group) else { return };
    if !outside::has("curl", group) {
        return;
    }
    let certified = authority.issue("images.example");
    let settings = format!(
        "tls_certificate = \"{}\"\ntls_key = \"{}\"\n[image.tenants]\nshop = \"the-tenants-key-01\"\n",
        certified.chain.display(),
        certified.key.display()
    );
    let service = Service::start_at("https", folder(), &settings, &["--shards", "1"]);
    let photo = service.folder.join("photo.jpg");
    std::fs::write(&photo, noise(1500, 1000)).unwrap();
    let curl = |arguments: &[&str], path: &str| {
        let port = service.address.port();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "30", "--cacert"])
            .arg(authority.certificate())
            .args(["--resolve", &format!("images.example:{port}:127.0.0.1")])
            .args(arguments)
            .arg(format!("https://images.example:{port}{path}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let form = format!("file=@{}", photo.display());
    let key = "Authorization: Bearer the-tenants-key-01";
    let document = curl(&["-F", "preset=web", "-F", &form, "-H", "Prefer: wait=20", "-H", key], "/v1/images");
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["state"], "done", "{document}");
    for output in document["outputs"].as_array().unwrap() {
        let image = curl(&[], output["url"].as_str().unwrap());
        assert_eq!(image.len() as u64, output["bytes"].as_u64().unwrap());
    }
    // Without TLS nobody is heard.
    let mut plain = service.connect();
    std::io::Write::write_all(&mut plain, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _reset_or_alert = std::io::Read::read_to_end(&mut plain, &mut said);
    assert!(!said.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&said));
    service.stop();
}
