//! Two nodes on a real Redis and a real S3 server: any of them answers for any job, one that dies costs a lease, and a Redis
//! that dies costs nothing.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::image_rig::{Service, files, folder, jpeg};
use crate::outside::postgres::Postgres;
use crate::outside::redis::{Durability, Redis};
use crate::outside::s3::S3Server;
use crate::{account, figure, until};

/// What two nodes share.
struct Fleet {
    redis: Redis,
    url: String,
    store: S3Server,
}

impl Fleet {
    fn start() -> Option<Fleet> {
        let store = S3Server::start("a fleet of image services")?;
        let redis = Redis::start(Durability::Always)?;
        Some(Fleet { url: redis.url(), redis, store })
    }

    fn config(&self, more: &str) -> String {
        format!("redis = \"{}\"\nlease_seconds = 2\nworkers = 1\n{more}{}", self.url, self.store.section())
    }

    fn node(&self, more: &str) -> Service {
        Service::start_in(folder(), &self.config(more), &["--shards", "1"])
    }

    /// Outputs in the store, by their names.
    fn outputs(&self) -> Vec<String> {
        let found = files(&self.store.bucket().join("objects"), ".jpeg");
        found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }
}

fn id_of(document: &serde_json::Value) -> String {
    document["id"].as_str().unwrap().to_owned()
}

/// Lines of a stream of events, until it ends.
fn events_of(service: &Service, id: &str) -> std::thread::JoinHandle<Vec<String>> {
    let mut stream = service.connect();
    let head = format!("GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", service.address);
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).collect())
}

#[test]
fn any_node_answers_for_any_job_and_its_events() {
    let Some(mut fleet) = Fleet::start() else { return };
    // With no more rights at Redis than the guide says.
    fleet.url = fleet.redis.let_in_only("images");
    let (one, other) = (fleet.node(""), fleet.node(""));
    let said = one.log.lock().unwrap().clone();
    assert!(said.contains("as durable as that Redis") && said.contains("loses nothing (appendfsync always)"), "{said}");
    let answer = one.post("?preset=web", "Idempotency-Key: k1\r\n", &jpeg(1200, 900, 1));
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = id_of(&answer.json());
    let events = events_of(&other, &id);
    let done = other.end_of(&id, "");
    assert_eq!((done["state"].as_str(), done["outputs"].as_array().unwrap().len()), (Some("done"), 3), "{done}");
    let told = events.join().unwrap();
    assert!(told.iter().any(|line| line == "event: done"), "{told:?}");
    // The same request at the other node is the same job; the outputs are where both find them.
    let again = other.post("?preset=web", "Idempotency-Key: k1\r\n", &jpeg(1200, 900, 1));
    assert_eq!((again.field("idempotency-replayed"), id_of(&again.json())), (Some("true"), id));
    for output in done["outputs"].as_array().unwrap() {
        let url = output["url"].as_str().unwrap();
        let (here, there) = (one.get(url), other.ask(&format!("GET {url}"), "Range: bytes=0-99\r\n", b""));
        assert_eq!((here.status, there.status), (200, 206));
        assert!(here.body[..100] == there.body[..] && here.body.len() as u64 == output["bytes"].as_u64().unwrap());
    }
    assert_eq!(fleet.outputs().len(), 3);
    clients_reach_the_store_themselves(&one, &other, done["outputs"][0]["url"].as_str().unwrap());
    one.stop();
    other.stop();
}

fn clients_reach_the_store_themselves(one: &Service, other: &Service, url: &str) {
    let linked = one.get(&format!("{url}?direct"));
    assert_eq!((linked.status, linked.field("cache-control")), (307, Some("no-store")), "{linked:?}");
    // Heads are told in small letters here, and signatures are not: the address is asked for by curl, which follows it.
    let address = format!("http://{}{url}?direct", one.address);
    let fetched = Command::new("curl").args(["-sSL", &address]).output().unwrap();
    assert!(fetched.stdout == one.get(url).body, "{}", String::from_utf8_lossy(&fetched.stderr));

    let invitation = one.ask("POST /v1/uploads", "Content-Length: 0\r\n", b"");
    assert_eq!(invitation.status, 201, "{invitation:?}");
    let invitation = invitation.json();
    let (place, name) = (invitation["url"].as_str().unwrap(), invitation["upload"].as_str().unwrap());
    let named = |name: &str| format!("POST /v1/images?preset=thumbnail&upload={name}");
    other.ask(&named(name), "Content-Length: 0\r\n", b"").is_problem(404, "There is no such upload");
    let photo = folder().join("photo.jpg");
    std::fs::write(&photo, jpeg(700, 500, 77)).unwrap();
    let put = Command::new("curl").args(["-sSf", "-T"]).arg(&photo).arg(place).output().unwrap();
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    // Put there for the one, named at the other.
    let answer = other.ask(&named(name), "Content-Length: 0\r\n", b"");
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(one.end_of(&id_of(&answer.json()), "")["state"], "done");
    // Named again it is read again: what the first answer said may have been lost.
    let again = other.ask(&named(name), "Content-Length: 0\r\n", b"");
    // The same image and the same recipe: it is done already.
    assert_eq!(again.status, 200, "{again:?}");
    let (first, second) = (one.end_of(&id_of(&answer.json()), ""), one.end_of(&id_of(&again.json()), ""));
    assert_eq!(
        (first["outputs"][0]["url"].as_str(), &second["state"]),
        (second["outputs"][0]["url"].as_str(), &"done".into())
    );
    // What is no image is refused, and goes.
    let invitation = one.ask("POST /v1/uploads", "Content-Length: 0\r\n", b"").json();
    std::fs::write(&photo, "no image at all, but some text that goes on for a while").unwrap();
    let place = invitation["url"].as_str().unwrap();
    assert!(Command::new("curl").args(["-sSf", "-T"]).arg(&photo).arg(place).status().unwrap().success());
    let refused = other.ask(&named(invitation["upload"].as_str().unwrap()), "Content-Length: 0\r\n", b"");
    assert!((400..500).contains(&refused.status), "{refused:?}");
    let _temporary = std::fs::remove_dir_all(photo.parent().unwrap());
}

#[test]
fn a_node_that_is_killed_costs_one_lease_and_nothing_that_was_promised() {
    let Some(fleet) = Fleet::start() else { return };
    // Workers get the time that shards leave: on a busy machine that may be little.
    let patient = "job_seconds_max = 300\n";
    let (doomed, other) = (fleet.node(patient), fleet.node(patient));
    let ids: Vec<String> =
        (0..6).map(|seed| id_of(&doomed.post("?preset=web", "", &jpeg(3000, 2000, seed)).json())).collect();
    // Killed while it is at work.
    let until = Instant::now() + Duration::from_secs(30);
    let is_leased = |id: &String| other.get(&format!("/v1/jobs/{id}")).json()["state"] == "leased";
    while !ids.iter().any(is_leased) {
        assert!(Instant::now() < until, "nothing is worked on");
    }
    let left = doomed.kill();
    let _temporary = std::fs::remove_dir_all(left);
    let mut keys = Vec::new();
    for id in &ids {
        let done = other.end_of(id, "");
        assert_eq!(done["state"], "done", "{done}");
        keys.extend(
            done["outputs"].as_array().unwrap().iter().map(|output| output["key"].as_str().unwrap().to_owned()),
        );
    }
    keys.sort_unstable();
    let mut outputs = fleet.outputs();
    outputs.sort_unstable();
    assert_eq!((outputs.len(), outputs), (18, keys), "an output is missing, or there twice");
    other.stop();
}

#[test]
fn a_redis_that_is_killed_costs_nothing_that_was_promised() {
    let Some(mut fleet) = Fleet::start() else { return };
    let (one, other) = (fleet.node(""), fleet.node(""));
    let mut ids = Vec::new();
    for round in 0..3_u8 {
        for seed in 0..3 {
            let answer = one.post("?preset=thumbnail", "", &jpeg(800, 600, 10 * round + seed));
            assert_eq!(answer.status, 202, "{answer:?}");
            ids.push(id_of(&answer.json()));
        }
        fleet.redis.kill();
        // Asked while it is away, and answered when it is back.
        let late = std::thread::scope(|scope| {
            let late = scope.spawn(|| other.post("?preset=thumbnail", "", &jpeg(800, 600, 10 * round + 9)));
            std::thread::sleep(Duration::from_millis(300));
            fleet.redis.start_again();
            late.join().unwrap()
        });
        assert_eq!(late.status, 202, "{late:?}");
        ids.push(id_of(&late.json()));
    }
    for id in &ids {
        let done = other.end_of(id, "");
        assert_eq!(done["state"], "done", "{done}");
    }
    assert_eq!(fleet.outputs().len(), ids.len());
    one.stop();
    other.stop();
}

#[test]
fn the_account_of_jobs_has_what_happened_at_any_node() {
    let Some(mut fleet) = Fleet::start() else { return };
    let Some(mut postgres) = Postgres::start("the account of a fleet's image jobs") else { return };
    fleet.url = fleet.redis.let_in_only("images");
    let more = format!("audit_postgres = \"{}&connect_timeout=1\"\n", postgres.url());
    let (doomed, other) = (fleet.node(&more), fleet.node(&more));
    let made = |node: &Service, seed: u8| id_of(&node.post("?ops=tiny=rs:fit:64:64", "", &jpeg(320, 200, seed)).json());
    let first = [made(&doomed, 1), made(&other, 2)];
    let whole = ["accepted 0", "leased 1", "done 1"];
    until("there is a table", || postgres.sql("SELECT to_regclass('annulus_image_events') IS NOT NULL") == "t");
    let is_whole = |id: &String| account(&postgres, id) == whole;
    until("both are in the account", || first.iter().all(is_whole));
    let words = "SELECT lane, width, height, bytes_in > 1000, bytes_out > 100, error IS NULL FROM annulus_image_events \
                 WHERE event = 'done'";
    assert_eq!(postgres.sql(words), ["cpu|320|200|t|t|t"; 2].join("\n"));
    // The database goes, and one of the nodes; what happened meanwhile is told when it is back.
    postgres.crash();
    let meanwhile = [3, 4, 5, 6].map(|seed| made(&doomed, seed));
    meanwhile.iter().for_each(|id| assert_eq!(other.end_of(id, "")["state"], "done"));
    until("it has tried", || {
        figure(&other, "annulus_image_audit_retries_total") > 0
            || figure(&doomed, "annulus_image_audit_retries_total") > 0
    });
    let _temporary = std::fs::remove_dir_all(doomed.kill());
    postgres.resume();
    until("all are in the account", || {
        let of = |id: &String| account(&postgres, id);
        meanwhile.iter().all(|id| {
            of(id).first().is_some_and(|it| it == whole[0]) && of(id).last().is_some_and(|it| it.starts_with("done"))
        })
    });
    until("nothing waits", || figure(&other, "annulus_image_audit_waiting") == 0);
    assert_eq!(figure(&other, "annulus_image_audit_lost_total"), 0);
    other.stop();
}
