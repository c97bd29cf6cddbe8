//! Webhooks by the real binary: ends of jobs are told, signed with every key, again where they are not taken, also when the
//! service was killed in between; what nobody takes is listed, and told again when an admin says so.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod hook_rig;
mod image_rig;
mod outside;

use std::time::{Duration, Instant};

use hook_rig::{Backend, Delivery, Mood};
use image_rig::{Answer, Service, folder, jpeg};
use outside::redis::{Durability, Redis};
use serde_json::Value;

const NEW: &str = "the newer key of thirty-two bytes";
const OLD: &str = "the older key of thirty-two bytes";
const ADMIN: &str = "Authorization: Bearer an-admin-of-this\r\n";
const SHOP: &str = "Authorization: Bearer a-key-of-the-shop\r\n";

/// The inside of `[image]`, with more of it first and more of its webhooks last.
fn config(first: &str, port: u16, more: &str) -> String {
    format!(
        "{first}\n[image.webhooks]\nurl = \"http://127.0.0.1:{port}/ends?token=hush\"\nkeys = [\"{NEW}\", \"{OLD}\"]\nallow_private = [\"127.0.0.0/8\"]\n{more}\n"
    )
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn figure(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn outcomes(service: &Service) -> [u64; 3] {
    ["taken", "dead_letter", "lost"]
        .map(|outcome| figure(service, &format!("annulus_image_webhooks_total{{shard=\"0\",outcome=\"{outcome}\"")))
}

/// Uploads, and waits for the end; the document.
fn upload(service: &Service, fields: &str, image: &[u8]) -> Value {
    let answer = service.post("?ops=small=rs:fit:40:40/th", fields, image);
    assert!(answer.status == 202 || answer.status == 200, "{answer:?}");
    service.end_of(answer.json()["id"].as_str().unwrap(), fields)
}

fn ask(service: &Service, line: &str, fields: &str) -> Answer {
    service.ask(line, &format!("{fields}Content-Length: 0\r\n"), b"")
}

/// What of all deliveries is told, each one checked.
fn told(came: &[Delivery]) -> Vec<Value> {
    for delivery in came {
        assert!(delivery.line.starts_with("POST /ends?token=hush HTTP/1.1"), "{delivery:?}");
        assert!(delivery.is_signed_with(NEW) && delivery.is_signed_with(OLD), "{delivery:?}");
        let events = delivery.events();
        assert_eq!(delivery.id, format!("{}:{}", events[0]["id"].as_str().unwrap(), events.len()), "{delivery:?}");
    }
    came.iter().flat_map(Delivery::events).collect()
}

#[test]
fn ends_are_told_signed_and_with_their_documents() {
    let backend = Backend::start(&[]);
    let tenants = "admin_key = \"an-admin-of-this\"\n[image.tenants]\nshop = \"a-key-of-the-shop\"";
    let service = Service::start(&config(tenants, backend.port, ""));
    assert!(service.log.lock().unwrap().contains("ends of jobs are told to http://127.0.0.1:"));
    let image = jpeg(80, 60, 1);
    let done = upload(&service, SHOP, &image);
    let large = jpeg(640, 480, 1);
    let failed = upload(&service, SHOP, &large[..large.len() / 2]);
    // The work is done already, and yet it is another job.
    let joined = upload(&service, SHOP, &image);
    assert_eq!(
        [&done, &failed, &joined].map(|document| document["state"].as_str().unwrap()),
        ["done", "failed", "done"]
    );
    until("all is told", || outcomes(&service) == [3, 0, 0]);
    let events = told(&backend.came());
    for (event, document) in events.iter().zip([&done, &failed, &joined]) {
        assert_eq!((&event["type"], &event["job"]), (&document["state"], &document["id"]), "{event}");
        assert_eq!((&event["document"], &event["tenant"]), (document, &Value::from("shop")), "{event}");
        assert!(event["time_ms"].as_u64().unwrap() > 1_700_000_000_000, "{event}");
    }
    assert!(events[0]["document"]["outputs"][0]["thumbhash"].is_string(), "{}", events[0]);
    assert_eq!((figure(&service, "annulus_image_webhooks_waiting"), events.len()), (0, 3));
    assert!(!service.log.lock().unwrap().contains("hush"));
    // Dead letters are for those who run the server.
    ask(&service, "GET /v1/webhooks/dead", SHOP).is_problem(403, "admin_key");
    ask(&service, "POST /v1/webhooks/dead/retry", SHOP).is_problem(403, "admin_key");
    let none = ask(&service, "GET /v1/webhooks/dead", ADMIN).json();
    assert_eq!(none, serde_json::json!({"letters": [], "next_before": null}));
    service.stop();
}

#[test]
fn what_is_not_taken_is_told_again_under_the_same_name() {
    let moods = [Mood::Answers(503), Mood::Cuts, Mood::Answers(429), Mood::Silent];
    let backend = Backend::start(&moods);
    let service = Service::start(&config("", backend.port, "timeout_seconds = 1"));
    let document = upload(&service, "", &jpeg(80, 60, 2));
    until("it is taken", || outcomes(&service) == [1, 0, 0]);
    let came = backend.came();
    assert_eq!((came.len(), told(&came[..1])[0]["job"].clone()), (5, document["id"].clone()));
    assert!(came.iter().all(|delivery| delivery.id == came[0].id && delivery.body == came[0].body), "{came:?}");
    assert_eq!(figure(&service, "annulus_image_webhook_requests_failed_total"), 4);
    let log = service.log.lock().unwrap().clone();
    assert!(log.contains("/ends answered with status 503. It is told again (delivery "), "{log}");
    service.stop();
}

#[test]
fn no_end_is_lost_with_the_process() {
    // Nobody listens there yet.
    let backend = Backend::start(&[]);
    let port = backend.port;
    backend.kill();
    let config = config("", port, "events = [\"done\"]");
    let service = Service::start(&config);
    let documents: Vec<Value> = (0..4).map(|seed| upload(&service, "", &jpeg(80, 60, seed))).collect();
    until("it was tried", || figure(&service, "annulus_image_webhook_requests_failed_total") > 0);
    assert_eq!(figure(&service, "annulus_image_webhooks_waiting"), 4);
    let folder = service.kill();

    let backend = Backend::start_at(port, &[]);
    let service = Service::start_in(folder, &config, &["--shards", "1"]);
    until("all is told", || outcomes(&service) == [4, 0, 0]);
    let events = told(&backend.came());
    assert!(
        events.iter().map(|event| &event["job"]).eq(documents.iter().map(|document| &document["id"])),
        "{events:?}"
    );
    // What was taken does not come again.
    let folder = service.kill();
    let service = Service::start_in(folder, &config, &["--shards", "1"]);
    let last = upload(&service, "", &jpeg(80, 60, 9));
    until("the last is told", || outcomes(&service) == [1, 0, 0]);
    let events = told(&backend.came());
    assert_eq!((events.len(), &events[4]["job"]), (5, &last["id"]));
    service.stop();
}

#[test]
fn an_end_whose_document_cannot_be_read_holds_up_no_other() {
    // Nobody listens there yet.
    let backend = Backend::start(&[]);
    let port = backend.port;
    backend.kill();
    let config = config("", port, "");
    let service = Service::start(&config);
    let documents = [0, 1, 2].map(|seed| upload(&service, "", &jpeg(80, 60, seed)));
    assert_eq!(figure(&service, "annulus_image_webhooks_waiting"), 3);
    let folder = service.kill();
    let database = rusqlite::Connection::open(folder.join("data/queue.db")).unwrap();
    let second = "(SELECT job FROM webhook_events ORDER BY place LIMIT 1 OFFSET 1)";
    let damage = format!("UPDATE works SET header = '{{}}' WHERE id = (SELECT work FROM jobs WHERE id = {second})");
    assert_eq!(database.execute(&damage, []).unwrap(), 1);
    drop(database);

    let backend = Backend::start_at(port, &[]);
    let service = Service::start_in(folder, &config, &["--shards", "1"]);
    until("all others are told", || outcomes(&service) == [2, 1, 0]);
    let jobs: Vec<Value> = told(&backend.came()).iter().map(|event| event["job"].clone()).collect();
    assert_eq!(jobs, [documents[0]["id"].clone(), documents[2]["id"].clone()]);
    let dead = ask(&service, "GET /v1/webhooks/dead", "").json();
    assert_eq!(dead["letters"][0]["event"]["job"], documents[1]["id"], "{dead}");
    assert!(dead["letters"][0]["why"].as_str().unwrap().starts_with("its document cannot be read: "), "{dead}");
    assert_eq!(ask(&service, "GET /v1/webhooks/dead?before=0-0", "").json()["letters"], serde_json::json!([]));
    service.stop();
}

#[test]
fn what_nobody_takes_is_kept_listed_and_told_again() {
    let moods = [Mood::Answers(302), Mood::Answers(500), Mood::Answers(500)];
    let backend = Backend::start(&moods);
    let config = config("", backend.port, "attempts_max = 2");
    let service = Service::start(&config);
    let refused = upload(&service, "", &jpeg(80, 60, 3));
    until("it is given up", || outcomes(&service) == [0, 1, 0]);
    let exhausted = upload(&service, "", &jpeg(80, 60, 4));
    until("so is the other", || outcomes(&service) == [0, 2, 0]);
    assert_eq!(backend.came().len(), 3);

    // Newest first, in pages, and after a kill.
    let service = Service::start_in(service.kill(), &config, &["--shards", "1"]);
    assert_eq!(figure(&service, "annulus_image_webhooks_dead"), 2);
    let page = ask(&service, "GET /v1/webhooks/dead?limit=1", "").json();
    let newest = &page["letters"][0];
    assert_eq!((&newest["event"]["job"], page["letters"].as_array().unwrap().len()), (&exhausted["id"], 1));
    let why = newest["why"].as_str().unwrap();
    assert!(why.contains("/ends answered with status 500; it was told 2 times") && !why.contains("hush"), "{why}");
    let page =
        ask(&service, &format!("GET /v1/webhooks/dead?before={}", page["next_before"].as_str().unwrap()), "").json();
    let (oldest, rest) = (&page["letters"][0], &page["next_before"]);
    assert_eq!((&oldest["event"]["job"], rest), (&refused["id"], &Value::Null), "{page}");
    assert!(oldest["why"].as_str().unwrap().ends_with("answered with status 302"), "{oldest}");
    assert!(oldest["given_up_ms"].as_u64() > oldest["event"]["time_ms"].as_u64(), "{oldest}");

    // One, and only once; then the rest.
    let retry = format!("POST /v1/webhooks/dead/{}/retry", oldest["letter"].as_str().unwrap());
    let answer = ask(&service, &retry, "");
    assert_eq!((answer.status, answer.json()["told_again"].as_u64()), (202, Some(1)));
    until("it is taken", || outcomes(&service) == [1, 0, 0]);
    ask(&service, &retry, "").is_problem(404, "no such dead letter");
    assert_eq!(ask(&service, "POST /v1/webhooks/dead/retry", "").json()["told_again"], 1);
    until("the other, too", || outcomes(&service) == [2, 0, 0]);
    assert_eq!(ask(&service, "POST /v1/webhooks/dead/retry", "").json()["told_again"], 0);
    assert_eq!(figure(&service, "annulus_image_webhooks_dead"), 0);
    let came = backend.came();
    let jobs: Vec<Value> = told(&came[3..]).iter().map(|event| event["job"].clone()).collect();
    assert_eq!(jobs, [refused["id"].clone(), exhausted["id"].clone()]);
    assert_eq!(came[3].events()[0]["id"], came[0].events()[0]["id"], "an event keeps its name");

    for (line, status, says) in [
        ("GET /v1/webhooks/dead?before=x", 400, "before is a letter's name"),
        ("GET /v1/webhooks/dead?limit=x", 400, "before is a letter's name"),
        ("POST /v1/webhooks/dead/x/retry", 404, "no such dead letter"),
        ("DELETE /v1/webhooks/dead", 405, "GET, HEAD"),
        ("GET /v1/webhooks/dead/retry", 405, "POST"),
        ("GET /v1/webhooks/dead/1-0", 404, "nothing at this address"),
        ("GET /v1/webhooks", 404, "nothing at this address"),
    ] {
        ask(&service, line, "").is_problem(status, says);
    }
    service.stop();
    let silent = Service::start("");
    ask(&silent, "GET /v1/webhooks/dead", "").is_problem(404, "there is no [image.webhooks]");
    assert!(!silent.get("/metrics").text().contains("webhook"));
    silent.stop();
}

#[test]
fn jobs_wait_for_no_webhook() {
    let backend = Backend::start(&[Mood::Silent; 20]);
    let config = config("", backend.port, "timeout_seconds = 20");
    let mut service = Service::start(&config);
    for seed in 0..8 {
        assert_eq!(upload(&service, "", &jpeg(80, 60, seed))["state"], "done");
    }
    until("it is asked", || !backend.came().is_empty());
    assert_eq!((figure(&service, "annulus_image_webhooks_waiting"), outcomes(&service)), (8, [0; 3]));
    // Nor does the end, and what waits is still there after it.
    service.signal("TERM");
    until("it ends", || service.process.try_wait().unwrap().is_some_and(|status| status.success()));
    let service = Service::start_in(service.kill(), &config, &["--shards", "1"]);
    assert_eq!((figure(&service, "annulus_image_webhooks_waiting"), outcomes(&service)), (8, [0; 3]));
    service.stop();
}

#[test]
fn in_a_fleet_one_node_tells_and_another_when_it_is_gone() {
    let Some(mut redis) = Redis::start(Durability::Always) else { return };
    let backend = Backend::start(&[]);
    let (port, folder) = (backend.port, folder());
    backend.kill();
    // With no more rights at Redis than the guide says.
    let config = config(&format!("redis = \"{}\"\nlease_seconds = 2", redis.let_in_only("images")), port, "");
    let nodes = [(); 2].map(|()| Service::start_in(folder.clone(), &config, &["--shards", "1"]));
    let ends = [0, 1].map(|at: usize| upload(&nodes[at], "", &jpeg(80, 60, at as u8)));
    let failures = |node: &Service| figure(node, "annulus_image_webhook_requests_failed_total");
    until("one of them tries, and again", || nodes.iter().any(|node| failures(node) >= 3));
    assert!(nodes.iter().any(|node| failures(node) == 0), "one tells for all");
    let [one, other] = nodes;
    let (doomed, other) = if failures(&one) > 0 { (one, other) } else { (other, one) };
    let _shared = doomed.kill();
    let backend = Backend::start_at(port, &[]);
    until("the other one tells", || outcomes(&other) == [2, 0, 0]);
    let mut jobs: Vec<Value> = told(&backend.came()).iter().map(|event| event["job"].clone()).collect();
    let mut expected = ends.map(|document| document["id"].clone()).to_vec();
    jobs.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(jobs, expected);
    other.stop();
}

#[test]
fn a_name_that_means_this_machine_is_not_asked_unless_that_is_allowed() {
    let backend = Backend::start(&[]);
    let named = |more: &str| {
        let url = format!("http://hook.localhost:{}/ends?token=hush", backend.port);
        format!("[image.webhooks]\nurl = \"{url}\"\nkeys = [\"{NEW}\", \"{OLD}\"]\n{more}\n")
    };
    let service = Service::start(&named(""));
    assert_eq!(upload(&service, "", &jpeg(80, 60, 5))["state"], "done");
    until("it is tried", || figure(&service, "annulus_image_webhook_requests_failed_total") > 0);
    until("it is said", || service.log.lock().unwrap().contains(" is not an address of the public network"));
    assert!(backend.came().is_empty());
    let service =
        Service::start_in(service.kill(), &named("allow_private = [\"127.0.0.0/8\", \"::1\"]"), &["--shards", "1"]);
    until("it is told", || outcomes(&service) == [1, 0, 0]);
    assert_eq!(told(&backend.came()).len(), 1);
    service.stop();
}

#[test]
fn what_is_wrong_with_the_configuration_is_told() {
    for (section, says) in [
        ("", "image.webhooks: there is no url"),
        ("url = \"http://a/b\"", "image.webhooks: there are no keys"),
        (
            &format!("url = \"http://169.254.169.254/a\"\nkeys = [\"{NEW}\"]"),
            "169.254.169.254 is not an address of the public",
        ),
        ("url = \"http://a/b\"\nkeys = [\"hush\"]", "image.webhooks: keys: key 1 has fewer than 32 bytes"),
    ] {
        let folder = folder();
        let file = folder.join("config.toml");
        std::fs::write(&file, format!("[image]\n[image.webhooks]\n{section}\n")).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_annulus"));
        let output = command.args(["image", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says) && !said.contains("hush"), "{section}: {said}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
