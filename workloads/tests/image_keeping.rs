//! What is kept, for whom, and how much of it: jobs deleted with everything of theirs, in a folder and in a bucket, and quotas.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;
mod outside;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use image_rig::{Answer, Service, files, jpeg};
use outside::s3::S3Server;
use ring::hmac;
use serde_json::Value;

const SIGNS: &str = "a-key-of-at-least-thirty-two-characters";
const SHOP: &str = "Authorization: Bearer a-key-of-the-shop\r\n";
const OTHER: &str = "Authorization: Bearer a-key-of-another\r\n";
const ADMIN: &str = "Authorization: Bearer an-admin-of-this\r\n";

fn config(more: &str) -> String {
    format!(
        "admin_key = \"an-admin-of-this\"\n{more}\n[image.tenants]\nshop = \"a-key-of-the-shop\"\nother = \
         \"a-key-of-another\"\n[image.variants]\nkeys = [\"{SIGNS}\"]\n"
    )
}

fn variant(original: &str) -> String {
    let path = format!("/v1/images/{original}/rs:fit:24:24");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SIGNS.as_bytes()), path.as_bytes());
    format!("{path}/sig:{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn upload(service: &Service, fields: &str, query: &str, image: &[u8]) -> Value {
    let answer = service.post(query, fields, image);
    assert!(answer.status == 202 || answer.status == 200, "{answer:?}");
    service.end_of(answer.json()["id"].as_str().unwrap(), fields)
}

fn purge(service: &Service, fields: &str, document: &Value) -> Answer {
    let line = format!("DELETE /v1/jobs/{}?purge", document["id"].as_str().unwrap());
    service.ask(&line, &format!("{fields}Content-Length: 0\r\n"), b"")
}

/// The objects in a store, by name.
fn objects(store: &Path) -> Vec<PathBuf> {
    let kinds = [".original", ".manifest", ".jpeg", ".variant"];
    let mut found = files(store, "objects/");
    found.retain(|path| kinds.iter().any(|kind| path.to_string_lossy().ends_with(kind)));
    found.sort();
    found
}

/// Everything of a job goes, and nothing of another's.
fn everything_of_a_job_goes(service: &Service, store: &Path) {
    let kept = upload(service, OTHER, "?ops=a=rs:fit:40:40", &jpeg(300, 200, 1));
    assert_eq!(service.get(&variant(kept["source"]["key"].as_str().unwrap())).status, 200);
    let before = objects(store);
    assert_eq!(before.len(), 4, "{before:?}");
    let image = jpeg(300, 200, 2);
    let query = "?ops=a=rs:fit:40:40&ops=b=rs:fit:50:50";
    let mine = upload(service, SHOP, query, &image);
    let address = variant(mine["source"]["key"].as_str().unwrap());
    assert_eq!(service.get(&address).status, 200);
    assert_eq!(objects(store).len(), 9, "two outputs, manifest, original, variant");
    // Another tenant's does not exist; the same image and options of another one's job keep the objects.
    assert_eq!(purge(service, OTHER, &mine).status, 404);
    let same = upload(service, OTHER, query, &image);
    let first = purge(service, SHOP, &mine);
    let told = first.json();
    assert_eq!(
        (first.status, &told["removed"]["outputs"], &told["removed"]["original"]),
        (200, &0.into(), &false.into())
    );
    assert_eq!(told["kept"].as_array().unwrap().len(), 2, "{told}");
    assert_eq!((objects(store).len(), purge(service, SHOP, &mine).status), (9, 404));
    // Another work of the same original keeps that.
    let smaller = upload(service, SHOP, "?ops=c=rs:fit:20:20", &image);
    let second = purge(service, ADMIN, &same).json();
    assert_eq!((&second["removed"]["outputs"], &second["tenant"]), (&3.into(), &"other".into()), "{second}");
    assert_eq!(second["kept"].as_array().unwrap().len(), 1, "{second}");
    assert_eq!(service.get(same["outputs"][0]["url"].as_str().unwrap()).status, 404);
    let last = purge(service, SHOP, &smaller).json();
    let removed = &last["removed"];
    assert_eq!((&removed["outputs"], &removed["variants"], &removed["original"]), (&2.into(), &1.into(), &true.into()));
    assert!(
        removed["bytes"].as_u64().unwrap() > image.len() as u64 && last["kept"] == Value::Array(Vec::new()),
        "{last}"
    );
    assert_eq!(service.get(&address).status, 404);
    assert_eq!(objects(store), before);
    assert_eq!(service.ask(&format!("GET /v1/jobs/{}", kept["id"].as_str().unwrap()), OTHER, b"").status, 200);
    // One that is under way is not deleted, and can be cancelled first.
    let under_way = service.post("?ops=a=rs:fit:4000:4000/sh:2", SHOP, &jpeg(6000, 4000, 3)).json();
    purge(service, SHOP, &under_way).is_problem(409, "Cancel it first");
    let line = format!("DELETE /v1/jobs/{}", under_way["id"].as_str().unwrap());
    assert_eq!(service.ask(&line, &format!("{SHOP}Content-Length: 0\r\n"), b"").status, 200);
    assert_eq!(purge(service, SHOP, &under_way).json()["removed"]["original"], true);
    // And the image may come again.
    assert_eq!(upload(service, SHOP, query, &image)["state"], "done");
}

#[test]
fn everything_of_a_job_leaves_the_folder() {
    let service = Service::start(&config(""));
    everything_of_a_job_goes(&service, &service.folder.join("data"));
    service.stop();
}

#[test]
fn everything_of_a_job_leaves_the_bucket() {
    let Some(store) = S3Server::start("deleting jobs from S3") else { return };
    let service = Service::start(&format!("{}{}", config(""), store.section()));
    everything_of_a_job_goes(&service, &store.bucket());
    service.stop();
}

#[test]
fn a_tenant_takes_no_more_than_its_quota() {
    let image = |seed| jpeg(640, 480, seed);
    let len = image(0).len();
    // For two of them, and not for three.
    let most = len * 5 / 2;
    let quotas = format!("[image.quotas.shop]\nbytes_per_day = {most}\n[image.quotas.other]\njobs_per_minute = 2\n");
    let service = Service::start(&format!("{}{quotas}", config("")));
    for seed in 0..2 {
        upload(&service, SHOP, "?ops=w:9", &image(seed));
    }
    let refused = service.post("?ops=w:9", SHOP, &image(100));
    refused.is_problem(429, &format!("\\\"shop\\\" is {most} bytes a day"));
    let until_midnight: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&until_midnight), "{until_midnight}");
    service.post("", SHOP, &vec![0; most + 1]).is_problem(403, "bytes_per_day");
    // It is not forgotten with the process.
    let service = Service::start_in(service.kill(), &format!("{}{quotas}", config("")), &["--shards", "1"]);
    service.post("?ops=w:9", SHOP, &image(100)).is_problem(429, "bytes a day");
    let creation = format!("{SHOP}Tus-Resumable: 1.0.0\r\nUpload-Length: {len}\r\nContent-Length: 0\r\n");
    service.ask("POST /v1/tus", &creation, b"").is_problem(429, "bytes a day");
    for seed in 0..2 {
        upload(&service, OTHER, "?ops=w:9", &image(seed));
    }
    let refused = service.post("?ops=w:9", OTHER, &image(0));
    refused.is_problem(429, "2 uploads a minute");
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let text = service.get("/metrics").text();
    for (tenant, quota, count) in
        [("shop", "bytes_per_day", 2), ("other", "jobs_per_minute", 1), ("other", "bytes_per_day", 0)]
    {
        let line =
            format!("annulus_image_quota_refused_total{{shard=\"0\",tenant=\"{tenant}\",quota=\"{quota}\"}} {count}");
        assert!(text.contains(&line), "{line}: {text}");
    }
    service.stop();
}

#[test]
fn jobs_that_wait_and_requests_are_limited_too() {
    let quotas = "[image.quotas.shop]\njobs_waiting_max = 1\n[image.quotas.\"*\"]\nrequests_per_second = 3\n";
    let service = Service::start(&format!("{}{quotas}", config("workers = 1")));
    let slow = service.post("?ops=a=rs:fit:4000:4000/sh:2", SHOP, &jpeg(6000, 4000, 1)).json();
    service.post("?ops=w:9", SHOP, &jpeg(64, 48, 1)).is_problem(429, "1 jobs that have not ended");
    service.end_of(slow["id"].as_str().unwrap(), SHOP);
    assert_eq!(upload(&service, SHOP, "?ops=w:9", &jpeg(64, 48, 1))["state"], "done");
    // Six at once, of which a second lets three through; on a slow machine some more.
    let mut answers: Vec<u16> = (0..40).map(|_| service.ask("GET /v1/presets", OTHER, b"").status).collect();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(answers, [200, 429]);
    service.stop();
}

#[test]
fn a_quota_of_nobody_is_refused() {
    let folder = image_rig::folder();
    let file = folder.join("config.toml");
    std::fs::write(&file, "[image]\n[image.quotas.nobody]\njobs_per_minute = 1\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_annulus"));
    let output = command.args(["image", "--config"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("image.quotas.nobody: there is no tenant"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}
