//! More than can be done: a shard that cannot keep up sends its clients to one that can, and an upstream that turns requests
//! away is spared them until it is well again.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_frames;
mod gateway_rig;
mod outside;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_frames::{GOAWAY, HEADERS, Peer};
use gateway_rig::{Answer, Gateway, OURS, Upstream, config};

/// A connection that is used again until it is told not to be.
struct Kept {
    address: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Kept {
    fn new(address: SocketAddr) -> Kept {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Kept { address, reader: BufReader::new(stream) }
    }

    /// Asks; afterwards on a new connection if this was its last answer.
    fn get(&mut self, path: &str) -> Answer {
        // In one piece: a second small one would wait for the acknowledgement of the first.
        self.reader.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut text).unwrap() > 0, "the connection ended after {text:?}");
        }
        let lower = text.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.reader.read_exact(&mut body).unwrap();
        text += std::str::from_utf8(&body).unwrap();
        let answer = Answer::parse(text.as_bytes());
        if answer.has("connection: close") {
            *self = Kept::new(self.address);
        }
        answer
    }
}

/// Takes nearly all of the time of the processor of one of a program's threads; gives it back when dropped.
struct Squeeze {
    spinner: Child,
}

impl Squeeze {
    fn on(process: u32, thread: &str) -> Squeeze {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
        let named = |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).unwrap().trim() == thread;
        let task = tasks.into_iter().find(named).expect("the thread is there");
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let processors = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
        let id = task.file_name().unwrap();
        let idle = Command::new("chrt").args(["--idle", "--pid", "0"]).arg(id).status().unwrap();
        assert!(idle.success());
        let spin = ["--cpu-list", processors, "sh", "-c", "while :; do :; done"];
        Squeeze { spinner: Command::new("taskset").args(spin).stdin(Stdio::null()).spawn().unwrap() }
    }
}

impl Drop for Squeeze {
    fn drop(&mut self) {
        self.spinner.kill().unwrap();
        self.spinner.wait().unwrap();
    }
}

#[test]
fn clients_of_a_shard_that_cannot_keep_up_go_to_one_that_can() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return outside::not_run("a shard that cannot keep up", "two shards need two processors");
    }
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "/v"}}]}}"#,
        upstream.address
    );
    let root = r#", "use_h2c": true, "extra_config": {"annulus": {"compat": "annulus"}}"#;
    let gateway = Gateway::start_on(&config(&endpoint, root), "2", "auto");
    let mut clients: Vec<Kept> = (0..8).map(|_| Kept::new(gateway.address)).collect();
    let mut peers: Vec<Peer> = (0..2).map(|_| Peer::client(gateway.address, 65_535)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/v").status, 200));
    for peer in &mut peers {
        peer.get(1, "/v");
        peer.wait_for(HEADERS);
    }
    let squeeze = Squeeze::on(gateway.process.id(), "shard-1");
    let (until, mut moved, mut told, mut calm, mut stream) =
        (Instant::now() + Duration::from_secs(30), 0, [false; 2], 0, 1);
    while calm < 20 || told == [false; 2] {
        assert!(Instant::now() < until, "{moved} were sent elsewhere, {told:?} told to go, {calm} calm rounds");
        let refused = clients.iter_mut().filter_map(|client| {
            let answer = client.get("/v");
            (answer.status != 200).then_some(answer)
        });
        let refused: Vec<Answer> = refused.collect();
        for answer in &refused {
            assert!(answer.status == 503 && answer.has("connection: close"), "{answer:?}");
        }
        moved += refused.len();
        calm = if refused.is_empty() { calm + 1 } else { 0 };
        stream += 2;
        for (peer, told) in peers.iter_mut().zip(&mut told).filter(|(_, told)| !**told) {
            peer.get(stream, "/v");
            while let Some(frame) = peer.next(Duration::from_millis(1)) {
                *told |= frame.kind == GOAWAY && frame.code() == 0;
            }
        }
    }
    assert!(moved > 0 && told != [true; 2], "{moved} were sent elsewhere, {told:?} told to go");
    drop(squeeze);
    gateway.stop();
}

#[test]
fn an_upstream_that_turns_requests_away_is_spared_them_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let upstream = Upstream::start(move |_| match is_well.load(Ordering::Relaxed) {
        true => Upstream::json("{}"),
        false => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let breaker = r#""extra_config": {"qos/circuit-breaker": {"interval": 60, "timeout": 1, "max_errors": 100}}"#;
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "/v", {breaker}}}]}}"#,
        upstream.address
    );
    let gateway = Gateway::start(&config(&endpoint, OURS));
    let mut client = Kept::new(gateway.address);
    // A few say nothing; then a tenth of the requests goes there to see.
    let answers: Vec<Answer> = (0..350).map(|_| client.get("/v")).collect();
    let spared = answers.iter().filter(|answer| answer.body.contains("its upstream turns most requests away")).count();
    let reached = upstream.asked().len();
    assert!((60..=100).contains(&reached) && spared + reached == 350, "{reached} reached it, {spared} did not");
    // The breaker opens, and the trial that closes it ends the sparing, too.
    let until = Instant::now() + Duration::from_secs(20);
    while !client.get("/v").body.contains("its circuit breaker is open") {
        assert!(Instant::now() < until);
    }
    well.store(true, Ordering::Relaxed);
    while client.get("/v").status != 200 {
        assert!(Instant::now() < until);
    }
    (0..200).for_each(|_| assert_eq!(client.get("/v").status, 200));
    gateway.stop();
}
