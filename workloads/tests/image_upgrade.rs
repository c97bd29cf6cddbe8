//! An image service that is replaced while it works, three times: every upload is taken, and every job that was promised is done.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image_rig::{Answer, Service, folder, jpeg};

/// Uploads without pause until told to stop; the jobs' ids.
fn uploader(address: SocketAddr, seed: u8, over: Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let image = jpeg(120, 80, seed);
        let mut ids = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(address).expect("nobody is refused");
            stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            let (count, length) = (ids.len(), image.len());
            let head = format!(
                "POST /v1/images?ops=s=rs:fit:{}:64 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
                 Content-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n",
                32 + count % 64
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&image).expect("nobody is cut off");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("each upload is answered");
            let answer = Answer::parse(&bytes);
            assert!([200, 202].contains(&answer.status), "upload {count}: {} {}", answer.status, answer.text());
            ids.push(answer.json()["id"].as_str().unwrap().to_owned());
            std::thread::sleep(Duration::from_millis(20));
        }
        ids
    })
}

fn start(port: u16, folder: &std::path::Path, shards: &str) -> Service {
    let socket = folder.join("handover").display().to_string();
    // The last `--listen` wins.
    let listen = format!("127.0.0.1:{port}");
    let mut program = Command::new(env!("CARGO_BIN_EXE_annulus"));
    program.env("ANNULUS_UPGRADE_TEST", "1");
    let options = ["--shards", shards, "--listen", &listen, "--handover", &socket];
    Service::start_with(program, "http", folder.to_owned(), "", &options)
}

fn said(service: &Service, what: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while !service.log.lock().unwrap().contains(what) {
        assert!(Instant::now() < until, "{what}: {}", service.log.lock().unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn three_upgrades_lose_no_upload_and_no_job() {
    let folder = folder();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut service = start(port, &folder, "2");
    let over: Arc<AtomicBool> = Arc::default();
    let uploaders = [1, 2, 3].map(|seed| uploader(service.address, seed, over.clone()));
    while !folder.join("handover").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for shards in ["1", "2", "2"] {
        std::thread::sleep(Duration::from_millis(800));
        let successor = start(port, &folder, shards);
        said(&successor, "upgrade: taken over");
        let log = successor.log.lock().unwrap().clone();
        println!(
            "to {shards} shards: clients waited for {} ms",
            log.split("waited for ").nth(1).unwrap().split(' ').next().unwrap()
        );
        let mut before = std::mem::replace(&mut service, successor);
        // Its folder is its successor's.
        before.folder.clear();
        assert!(before.process.wait().unwrap().success());
    }
    std::thread::sleep(Duration::from_millis(500));
    over.store(true, Ordering::Relaxed);
    let ids: Vec<String> = uploaders.into_iter().flat_map(|uploader| uploader.join().unwrap()).collect();
    assert!(ids.len() > 20, "{}", ids.len());
    for id in &ids {
        assert_eq!(service.end_of(id, "")["state"], "done");
    }
    println!("{} uploads over three upgrades, none failed, all done", ids.len());
    service.stop();
}
