//! Loads on servers that others wrote, over HTTP/1.1 and HTTP/2, with TLS and without.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use annulus_bench::load::conn::Protocol;
use annulus_bench::load::request::Asked;
use annulus_bench::load::run;
use annulus_bench::load::search::Quiet;
use annulus_bench::load::tls::Trust;
use annulus_bench::record::Record;
use common::{Program, certificate, failed, folder, free_port, load, nginx, open, settings, target, wait_for};
use std::process::Command;

/// Whether a program is installed; says so if not.
fn installed(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("-v").output().is_ok();
    if !found {
        eprintln!("NOT RUN: {program} is not installed: apt-get install {package}");
    }
    found
}

/// All 199 requests of a second were answered.
fn assert_complete(record: &Record) {
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, failed(record)), (199, Vec::new()), "{:?}", record.notes);
    assert_eq!(round.latency.len(), 199);
    assert!(round.bytes_received > 0 && round.bytes_sent > 0);
}

#[test]
fn nginx_over_http1_and_http2() {
    if !installed("nginx", "nginx-light") {
        return;
    }
    let folder = folder("load-tls");
    certificate(&folder);
    let (plain, clear, secure) = (free_port(), free_port(), free_port());
    let at = folder.display();
    let page = "location / { return 200 'hello'; } location /gone { return 404; }";
    let servers = format!(
        "server {{ listen 127.0.0.1:{plain}; keepalive_requests 20; {page} }}\n\
         server {{ listen 127.0.0.1:{clear} http2; {page} }}\n\
         server {{ listen 127.0.0.1:{secure} ssl http2; ssl_certificate {at}/cert.pem; \
         ssl_certificate_key {at}/key.pem; {page} }}"
    );
    let program = nginx("nginx", &servers, plain);
    let pace = || open(200.0, 1.0);

    // HTTP/1.1: connections are retired after 20 requests, and replaced. The server is found by its port.
    let record = load(&settings(pace(), 4), &format!("http://127.0.0.1:{plain}/"));
    assert_complete(&record);
    let round = &record.sides[0].rounds[0];
    assert!(round.opened >= 10, "{}", round.opened);
    assert!(record.notes[0].contains(&format!("process {}", program.child.id())), "{:?}", record.notes);
    assert!(round.usage.len() > 5 && round.cpu_us_each().is_some_and(|us| us > 0.0), "{:?}", round.usage.len());

    // Many URLs, in turn.
    let urls = [format!("http://127.0.0.1:{plain}/"), format!("http://127.0.0.1:{plain}/gone")];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let record = run(&settings(pace(), 4), &[target(&urls, &Asked::default())], &mut Quiet).unwrap();
    let statuses = &record.sides[0].rounds[0].statuses;
    assert_eq!((statuses[&200], statuses[&404]), (100, 99));

    // HEAD, whose answer announces a body that does not come.
    let asked = Asked { method: Some("HEAD".to_owned()), ..Asked::default() };
    let url = format!("http://127.0.0.1:{plain}/");
    assert_complete(&run(&settings(pace(), 2), &[target(&[&url], &asked)], &mut Quiet).unwrap());

    // HTTP/2 by prior knowledge.
    let mut http2 = settings(pace(), 2);
    http2.protocol = Protocol::Http2;
    let record = load(&http2, &format!("http://127.0.0.1:{clear}/"));
    assert_complete(&record);
    assert!(record.notes[0].contains("HTTP/2"), "{:?}", record.notes);

    // TLS: by itself HTTP/2, and HTTP/1.1 where that is asked for; trusted by its file, by nobody, or blindly.
    let url = format!("https://localhost:{secure}/");
    let mut tls = settings(pace(), 2);
    tls.trust = Trust::File(folder.join("cert.pem"));
    let record = load(&tls, &url);
    assert_complete(&record);
    assert!(record.notes[0].contains("HTTP/2"), "{:?}", record.notes);
    tls.protocol = Protocol::Http1;
    let record = load(&tls, &url);
    assert_complete(&record);
    assert!(record.notes[0].contains("HTTP/1.1"), "{:?}", record.notes);
    tls.trust = Trust::Anybody;
    assert_complete(&load(&tls, &url));
    std::fs::write(folder.join("other.pem"), "").unwrap();
    let other = common::folder("load-tls-other");
    certificate(&other);
    tls.trust = Trust::File(other.join("cert.pem"));
    let error = run(&tls, &[target(&[&url], &Asked::default())], &mut Quiet).unwrap_err();
    assert!(error.contains("--cacert") && error.contains("--insecure"), "{error}");
    let error = run(&tls, &[target(&[&format!("https://127.0.0.1:{plain}/")], &Asked::default())], &mut Quiet);
    assert!(error.unwrap_err().contains("does not speak TLS"));
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::remove_dir_all(other).unwrap();
}

#[test]
fn nghttpd_over_http2_with_a_body_larger_than_its_window() {
    if !installed("nghttpd", "nghttp2-server") {
        return;
    }
    let folder = folder("nghttpd");
    std::fs::write(folder.join("index.html"), vec![b'x'; 300_000]).unwrap();
    let port = free_port();
    let child = Command::new("nghttpd")
        .args(["--no-tls", "--address=127.0.0.1", &port.to_string(), "--echo-upload", "-d"])
        .arg(&folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _program = Program { child, folder };
    wait_for(port);
    let mut http2 = settings(open(50.0, 0.6), 2);
    http2.protocol = Protocol::Http2;
    // Our window lets 300 kB through at once, nghttpd's only 64 kB of what it echoes.
    let record = load(&http2, &format!("http://127.0.0.1:{port}/index.html"));
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, failed(&record)), (29, Vec::new()));
    assert!(round.bytes_received > 20 * 300_000, "{}", round.bytes_received);
    let asked = Asked { body: Some(vec![b'y'; 200_000]), ..Asked::default() };
    let target = target(&[&format!("http://127.0.0.1:{port}/")], &asked);
    let record = run(&http2, &[target], &mut Quiet).unwrap();
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, failed(&record)), (29, Vec::new()));
    assert!(round.bytes_sent > 20 * 200_000, "{}", round.bytes_sent);
}
