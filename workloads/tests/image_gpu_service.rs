//! The image service where there is a GPU, here one made of the processor: uploads go both ways, their documents say which one
//! and why, and what happens to the GPU is nobody's concern but the operator's.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gpu;
mod image_rig;

use std::process::Command;
use std::time::{Duration, Instant};

use gpu::{Fakes, Fault};
use image_rig::{Answer, Service, folder, jpeg, size_of};
use serde_json::Value;

const ANNULUS: &str = env!("CARGO_BIN_EXE_annulus");

fn program(fakes: &Fakes) -> Command {
    let (name, value) = fakes.environment();
    let mut program = Command::new(ANNULUS);
    program.env(name, value);
    program
}

/// Without walls: the fakes write what they were asked for beside themselves, where a server within walls may only read.
fn service(fakes: &Fakes, config: &str) -> Service {
    Service::start_with(program(fakes), "http", folder(), config, &["--shards", "1", "--walls", "off"])
}

/// The ends of jobs that were uploaded at the same time.
fn made(service: &Service, query: &str, images: &[Vec<u8>]) -> Vec<Value> {
    let accepted: Vec<Answer> = std::thread::scope(|scope| {
        let posting: Vec<_> = images.iter().map(|image| scope.spawn(|| service.post(query, "", image))).collect();
        posting.into_iter().map(|posting| posting.join().unwrap()).collect()
    });
    let ids = accepted.iter().map(|answer| match answer.json()["id"].as_str() {
        Some(id) if answer.status == 202 => id.to_owned(),
        _ => panic!("{answer:?}"),
    });
    ids.map(|id| service.end_of(&id, "")).collect()
}

fn photos(first: u8, count: u8) -> Vec<Vec<u8>> {
    (first..first + count).map(|seed| jpeg(640, 480, seed)).collect()
}

fn figure(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn routed(service: &Service, lane: &str, why: &str) -> u64 {
    figure(service, &format!("annulus_image_routed_total{{shard=\"0\",lane=\"{lane}\",why=\"{why}\""))
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn jobs_go_where_they_are_to_go_and_say_so() {
    let Some(fakes) = Fakes::new("jobs_go_where_they_are_to_go_and_say_so") else { return };
    let config = "[image.gpu]\nmode = \"required\"\ndesks = 1\narena_bytes = 67108864\n[image.presets]\n\
                  there = [\"small=rs:fit:200:200/ln:gpu\", \"tiny=rs:fit:20:20/ln:gpu\"]\n";
    let service = service(&fakes, config);
    let told = |document: &Value| {
        assert_eq!(document["state"], "done", "{document}");
        (document["lane"].as_str().unwrap().to_owned(), document["lane_reason"].as_str().unwrap().to_owned())
    };
    let on_gpu = made(&service, "?preset=there", &photos(1, 12));
    for document in &on_gpu {
        assert_eq!(told(document), ("gpu".to_owned(), "this lane was asked for".to_owned()));
        let url = document["outputs"][0]["url"].as_str().unwrap();
        assert_eq!(size_of(&service.get(url).body), (200, 150));
    }
    // The request's own word counts more, and its outputs are others than those of the other lane.
    let on_cpu = made(&service, "?preset=there&lane=cpu", &photos(1, 2));
    assert_eq!(told(&on_cpu[0]), ("cpu".to_owned(), "this lane was asked for".to_owned()));
    assert_ne!(on_cpu[0]["outputs"][0]["url"], on_gpu[0]["outputs"][0]["url"]);
    let unsuited = made(&service, "?ops=rs:fit:20:20/f:png&lane=gpu", &photos(1, 1));
    assert_eq!(told(&unsuited[0]).0, "cpu");
    assert!(told(&unsuited[0]).1.contains("an output that is no JPEG"), "{unsuited:?}");
    let chosen = made(&service, "?ops=rs:fit:30:30", &photos(1, 1));
    assert!(told(&chosen[0]).1.starts_with("expected: gpu "), "{chosen:?}");
    service.post("?ops=a=w:9/ln:cpu&ops=b=w:8/ln:gpu", "", &photos(1, 1)[0]).is_problem(422, "one lane makes all");
    service.post("?lane=tpu", "", &photos(1, 1)[0]).is_problem(422, "lane is");

    assert_eq!((routed(&service, "gpu", "asked"), routed(&service, "cpu", "asked")), (12, 2));
    assert_eq!(routed(&service, "cpu", "unsuited"), 1);
    assert_eq!(routed(&service, "gpu", "sooner") + routed(&service, "cpu", "sooner"), 1);
    assert_eq!((figure(&service, "annulus_image_gpu_up"), figure(&service, "annulus_image_gpu_faults_total")), (1, 0));
    assert!(figure(&service, "annulus_image_gpu_batch_works_total") >= 12);
    let figures = service.get("/v1/figures").json();
    assert_eq!(figures["gpu"]["name"], "a fake of the tests", "{figures}");
    assert_eq!(figures["lanes"][0]["name"], "both", "{figures}");
}

#[test]
fn a_gpu_that_breaks_costs_no_job_and_no_attempt() {
    let Some(fakes) = Fakes::new("a_gpu_that_breaks_costs_no_job_and_no_attempt") else { return };
    let service = service(&fakes, "[image.gpu]\nlane = \"gpu\"\ndesks = 2\narena_bytes = 67108864\n");
    fakes.cause(Fault::Sticky);
    let documents = made(&service, "?ops=rs:fit:200:200", &photos(1, 16));
    let lost = documents.iter().filter(|document| document["lane"] == "cpu").count();
    assert!(documents.iter().all(|document| document["state"] == "done" && document["attempts"] == 1), "{documents:?}");
    assert!(lost > 0, "{documents:?}");
    assert_eq!(figure(&service, "annulus_image_gpu_faults_total"), 1);
    until("it is up again", || figure(&service, "annulus_image_gpu_up") == 1);
    let again = made(&service, "?ops=rs:fit:201:201", &photos(1, 4));
    assert!(again.iter().all(|document| document["lane"] == "gpu"), "{again:?}");
    service.stop();
}

#[test]
fn where_there_is_none_everything_says_so() {
    let Some(fakes) = Fakes::new("where_there_is_none_everything_says_so") else { return };
    fakes.cause(Fault::NoDevice);
    let says = |program: &mut Command, words: &[&str]| {
        let output = program.args(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, plan) = says(&mut program(&fakes), &["image", "--plan"]);
    let none = "gpu       none, and its term falls away: no GPU: the driver sees no device\n";
    assert!(code == Some(0) && plan.contains(none), "{plan}");
    let (_, doctor) = says(&mut program(&fakes), &["doctor"]);
    assert!(doctor.contains("note no GPU: the driver sees no device\n       Fix: none is needed"), "{doctor}");
    let home = folder();
    let file = home.join("config.toml");
    std::fs::write(&file, "[image.gpu]\nmode = \"required\"\n").unwrap();
    let mut required = program(&fakes);
    required.arg("image").arg("--config").arg(&file).arg("--data").arg(home.join("data"));
    let (code, refused) = says(&mut required, &["--listen", "127.0.0.1:0"]);
    assert!(
        code == Some(1) && refused.contains("the GPU cannot be used: no GPU: the driver sees no device"),
        "{refused}"
    );
    let service = service(&fakes, "");
    let log = service.log.lock().unwrap().clone();
    assert_eq!(log.matches("no GPU").count(), 1, "one line: {log}");
    let document = &made(&service, "?ops=rs:fit:20:20&lane=gpu", &photos(1, 1))[0];
    assert_eq!((document["lane"].as_str(), document["state"].as_str()), (Some("cpu"), Some("done")), "{document}");
    // Where there is one again, it is part of the rule.
    fakes.mend(Fault::NoDevice);
    let (_, plan) = says(&mut program(&fakes), &["image", "--plan"]);
    assert!(plan.contains("gpu       a fake of the tests, 7 decoder engines"), "{plan}");
    let (_, doctor) = says(&mut program(&fakes), &["doctor"]);
    assert!(doctor.contains("yes a fake of the tests, 7 decoder engines"), "{doctor}");
}
