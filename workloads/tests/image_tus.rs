//! Resumable uploads by the real binary: tus-js-client in pieces, interrupted, resumed and over a kill of the service; Uppy; and
//! what no client of tus would send.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;
mod outside;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image_rig::{Answer, Service, files, folder, jpeg, noise};
use outside::{Browser, clients, has, not_run, passes};

const KEY: &str = "a-key-of-the-shop";
const SHOP: &str = "Authorization: Bearer a-key-of-the-shop\r\n";
const OTHER: &str = "Authorization: Bearer a-key-of-another\r\n";
const TENANTS: &str = "[image.tenants]\nshop = \"a-key-of-the-shop\"\nother = \"a-key-of-another\"\n";
const TUS: &str = "Tus-Resumable: 1.0.0\r\n";
const PIECE: &str = "Content-Type: application/offset+octet-stream\r\n";

fn has_client(group: &str) -> bool {
    let is_there = clients().join("node_modules/tus-js-client").exists();
    if !is_there {
        not_run(group, "make setup-test could not install the JavaScript packages");
    }
    is_there && has("node", group)
}

fn ask(service: &Service, line: &str, fields: &str, body: &[u8]) -> Answer {
    service.ask(line, &format!("{SHOP}{TUS}Content-Length: {}\r\n{fields}", body.len()), body)
}

/// Creates an upload; its path.
fn create(service: &Service, len: usize, fields: &str) -> String {
    let answer = ask(service, "POST /v1/tus", &format!("Upload-Length: {len}\r\n{fields}"), b"");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.field("location").unwrap().to_owned()
}

fn patch(service: &Service, path: &str, offset: usize, fields: &str, bytes: &[u8]) -> Answer {
    ask(service, &format!("PATCH {path}"), &format!("{PIECE}Upload-Offset: {offset}\r\n{fields}"), bytes)
}

fn offset(service: &Service, path: &str) -> usize {
    let answer = ask(service, &format!("HEAD {path}"), "", b"");
    assert_eq!((answer.status, answer.field("cache-control")), (200, Some("no-store")), "{answer:?}");
    answer.field("upload-offset").unwrap().parse().unwrap()
}

/// Begins a piece, and waits until it is asked for: from then on nobody else may write the upload.
fn begin(service: &Service, path: &str, fields: &str, len: usize) -> TcpStream {
    let mut stream = service.connect();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: a\r\n{SHOP}{TUS}{PIECE}{fields}Upload-Offset: 0\r\nContent-Length: {len}\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = [0; 25];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

fn figure(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").text();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
    assert!(!lines.is_empty(), "{name}: {text}");
    lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn event(service: &Service, event: &str) -> u64 {
    figure(service, &format!("annulus_image_tus_total{{shard=\"0\",event=\"{event}\""))
}

/// Files of unfinished uploads.
fn left(folder: &Path) -> Vec<PathBuf> {
    files(&folder.join("data/tus"), "").into_iter().filter(|path| !path.ends_with("lock")).collect()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_client_in_pieces_interrupted_and_resumed() {
    if !has_client("resumable uploads by tus-js-client") {
        return;
    }
    let own = folder();
    let file = own.join("photo.jpg");
    std::fs::write(&file, noise(1600, 1200)).unwrap();
    let service = Service::start_in(folder(), TENANTS, &["--shards", "2"]);
    let endpoint = format!("http://{}/v1/tus", service.address);
    let node = Path::new("node");
    for mode in ["whole", "interrupted", "resumed"] {
        passes(node, "tus.mjs", &[&endpoint, KEY, file.to_str().unwrap(), own.to_str().unwrap(), mode]);
    }
    let parts = files(&service.folder.join("data/tus"), ".part");
    assert!(parts.is_empty(), "what became a job or was given up leaves no bytes: {parts:?}");
    assert_eq!(figure(&service, "annulus_image_tus_unfinished"), 0);
    service.stop();
    std::fs::remove_dir_all(own).unwrap();
}

#[test]
fn the_client_goes_on_after_the_service_was_killed() {
    if !has_client("resumable uploads over a kill of the service") {
        return;
    }
    let own = folder();
    let file = own.join("photo.jpg");
    std::fs::write(&file, noise(1600, 1200)).unwrap();
    let service = Service::start(TENANTS);
    let address = service.address.to_string();
    let mut client = Command::new("node")
        .args(["tus.mjs", &format!("http://{address}/v1/tus"), KEY])
        .args([&file, &own])
        .arg("killed")
        .current_dir(clients())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "half");
    let data = service.kill();
    client.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    let service = Service::start_in(data, TENANTS, &["--shards", "1", "--listen", &address]);
    assert!(service.log.lock().unwrap().contains("resumable uploads: 1 go on where they were"));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(client.wait().unwrap().success() && rest == ["killed: ok"], "{rest:?}");
    assert_eq!(event(&service, "created"), 0, "it went on, and did not begin anew");
    service.stop();
    std::fs::remove_dir_all(own).unwrap();
}

#[test]
fn a_kill_in_the_middle_of_a_piece_costs_no_acknowledged_byte() {
    let image = noise(4200, 3000);
    assert!(image.len() > 9 << 20, "{}", image.len());
    let service = Service::start(TENANTS);
    let path = create(&service, image.len(), "");
    let first = patch(&service, &path, 0, "", &image[..1000]);
    assert_eq!((first.status, first.field("upload-offset")), (204, Some("1000")), "{first:?}");
    // One long piece: what it has brought is durable as it comes.
    let mut stream = service.connect();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: a\r\n{SHOP}{TUS}{PIECE}Upload-Offset: 1000\r\nContent-Length: {}\r\n\r\n",
        image.len() - 1000
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&image[1000..image.len() - 1]).unwrap();
    until("the beginning is durable", || offset(&service, &path) >= 8 << 20);
    // Another one is told to wait, and what it brings does not count.
    let other = patch(&service, &path, offset(&service, &path), "", b"?");
    assert!(matches!(other.status, 409 | 423), "{other:?}");
    let data = service.kill();
    drop(stream);
    let service = Service::start_in(data, TENANTS, &["--shards", "1"]);
    let at = offset(&service, &path);
    assert!((8 << 20..image.len()).contains(&at), "{at}");
    let part = files(&service.folder.join("data/tus"), ".part");
    assert_eq!(std::fs::read(&part[0]).unwrap(), image[..at], "what is left is what was acknowledged");
    let last = patch(&service, &path, at, "", &image[at..]);
    assert_eq!((last.status, last.field("upload-offset")), (204, Some(&image.len().to_string()[..])), "{last:?}");
    let job = last.field("x-annulus-job").unwrap().to_owned();
    assert_eq!(last.field("x-annulus-job-location"), Some(&format!("/v1/jobs/{job}")[..]));
    let document = service.end_of(&job, SHOP);
    assert_eq!((&document["state"], &document["source"]["bytes"]), (&"done".into(), &image.len().into()), "{document}");
    // A client whose last answer was lost learns of its job, also after another start.
    let data = service.kill();
    let service = Service::start_in(data, TENANTS, &["--shards", "1"]);
    let head = ask(&service, &format!("HEAD {path}"), "", b"");
    assert_eq!(
        (head.field("upload-offset"), head.field("x-annulus-job")),
        (last.field("upload-offset"), Some(&job[..]))
    );
    let again = patch(&service, &path, image.len(), "", b"");
    assert_eq!((again.status, again.field("x-annulus-job")), (204, Some(&job[..])), "{again:?}");
    patch(&service, &path, image.len(), "", b"?").is_problem(413, "Upload-Length");
    patch(&service, &path, 5, "", b"?").is_problem(409, "begins there");
    service.stop();
}

#[test]
fn what_no_client_would_send_is_refused_in_words() {
    let config = format!("bytes_max = 100000\n[image.tus]\nuploads_max = 3\nbytes_max = 250000\n{TENANTS}");
    let service = Service::start(&config);
    let options = service.ask("OPTIONS /v1/tus", "", b"");
    assert_eq!((options.status, options.field("tus-max-size")), (204, Some("100000")), "{options:?}");
    assert_eq!(options.field("tus-extension"), Some("creation,creation-with-upload,termination,expiration,checksum"));
    assert_eq!(options.field("tus-checksum-algorithm"), Some("sha1,sha256"));
    let bare = |line: &str, fields: &str| service.ask(line, &format!("{fields}Content-Length: 0\r\n"), b"");
    for version in ["", "Tus-Resumable: 0.2.2\r\n"] {
        let answer = bare("POST /v1/tus", &format!("{SHOP}Upload-Length: 5\r\n{version}"));
        answer.is_problem(412, "1.0.0");
        assert_eq!((answer.field("tus-version"), answer.field("tus-resumable")), (Some("1.0.0"), Some("1.0.0")));
    }
    bare("POST /v1/tus", &format!("{TUS}Upload-Length: 5\r\n")).is_problem(401, "API key");
    for (fields, status, says) in [
        ("", 400, "Upload-Length is missing"),
        ("Upload-Length: -5\r\n", 400, "whole number"),
        ("Upload-Length: 99999999999999999999999\r\n", 400, "larger than any"),
        ("Upload-Length: 100001\r\n", 413, "100001"),
        ("Upload-Length: 0\r\n", 422, "no bytes"),
        ("Upload-Defer-Length: 1\r\n", 400, "says its length"),
        ("Upload-Length: 5\r\nUpload-Concat: partial\r\n", 400, "put together"),
        ("Upload-Length: 5\r\nUpload-Metadata: preset !\r\n", 400, "base64"),
        ("Upload-Length: 5\r\nUpload-Metadata: preset bm9wZQ==\r\n", 422, "there are: "),
        ("Upload-Length: 5\r\nUpload-Metadata: ops /w==\r\n", 400, "no text"),
        ("Upload-Length: 5\r\nUpload-Checksum: md5 AAAA\r\n", 400, "sha1,sha256"),
    ] {
        ask(&service, "POST /v1/tus", fields, b"").is_problem(status, says);
    }
    ask(&service, "POST /v1/tus?presets=web", "Upload-Length: 5\r\n", b"").is_problem(422, "presets");
    let long = format!("Upload-Length: 5\r\nUpload-Metadata: a {}\r\n", "A".repeat(5000));
    ask(&service, "POST /v1/tus", &long, b"").is_problem(413, "4096");
    let image = jpeg(300, 200, 1);
    let creation = format!("Upload-Length: {}\r\n", image.len());
    ask(&service, "POST /v1/tus", &creation, &image).is_problem(415, "offset+octet-stream");
    ask(&service, "POST /v1/tus", &format!("{PIECE}Upload-Length: 5\r\n"), &image).is_problem(413, "5 bytes");
    assert_eq!((figure(&service, "annulus_image_tus_unfinished"), left(&service.folder).len()), (0, 0));

    let path = create(&service, image.len(), "Upload-Metadata: filename YQ==\r\n");
    assert_eq!(ask(&service, &format!("HEAD {path}"), "", b"").field("upload-metadata"), Some("filename yq=="));
    let line = format!("PATCH {path}");
    ask(&service, &line, "Upload-Offset: 0\r\n", &image).is_problem(415, "offset+octet-stream");
    ask(&service, &line, PIECE, &image).is_problem(400, "Upload-Offset is missing");
    patch(&service, &path, 1, "", &image).is_problem(409, "begins there");
    patch(&service, &path, 0, "", &[&image[..], b"?"].concat()).is_problem(413, "Upload-Length");
    let wrong = "Upload-Checksum: sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n";
    patch(&service, &path, 0, wrong, &image[..100]).is_problem(460, "hash");
    assert_eq!((offset(&service, &path), event(&service, "mismatched")), (0, 1));
    // Nobody else's, and no name at all.
    let foreign = service.ask(&format!("HEAD {path}"), &format!("{OTHER}{TUS}"), b"");
    assert_eq!(foreign.status, 404);
    for id in ["0", "../../etc/passwd", "0123456789abcdef0123456789abcdef", "%2e%2e"] {
        assert_eq!(ask(&service, &format!("HEAD /v1/tus/{id}"), "", b"").status, 404, "{id}");
    }
    ask(&service, "GET /v1/tus", "", b"").is_problem(405, "POST");
    ask(&service, &format!("PUT {path}"), "", b"").is_problem(405, "PATCH");
    // In chunks, beyond the length: what was within it counts, and the last byte only with a job.
    let mut chunked = service.connect();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{SHOP}{TUS}{PIECE}Upload-Offset: 0\r\nTransfer-Encoding: \
         chunked\r\n\r\n"
    );
    chunked.write_all(head.as_bytes()).unwrap();
    chunked.write_all(format!("{:x}\r\n", image.len()).as_bytes()).unwrap();
    chunked.write_all(&image).unwrap();
    chunked.write_all(b"\r\n1\r\n?\r\n0\r\n\r\n").unwrap();
    let mut text = Vec::new();
    chunked.read_to_end(&mut text).unwrap();
    Answer::parse(&text).is_problem(413, "Upload-Length");
    let kept = offset(&service, &path);
    assert_eq!(kept, image.len() - 1);
    let hash = ring_sha256(&image[kept..]);
    let last = patch(&service, &path, kept, &format!("Upload-Checksum: sha256 {hash}\r\n"), &image[kept..]);
    assert_eq!(last.status, 204, "{last:?}");
    assert_eq!(service.end_of(last.field("x-annulus-job").unwrap(), SHOP)["state"], "done");

    // What will never be an image is refused with its first bytes, and forgotten.
    let path = create(&service, 50_000, "");
    patch(&service, &path, 0, "", &[b'?'; 4096]).is_problem(422, "");
    assert_eq!(ask(&service, &format!("HEAD {path}"), "", b"").status, 404);
    assert_eq!(event(&service, "failed"), 1);

    // Limits of what is unfinished.
    let first = create(&service, 100_000, "");
    let _second = create(&service, 100_000, "");
    let many = ask(&service, "POST /v1/tus", "Upload-Length: 50001\r\n", b"");
    many.is_problem(503, "250000");
    assert_eq!(many.field("retry-after"), Some("10"));
    let _third = create(&service, 50_000, "");
    ask(&service, "POST /v1/tus", "Upload-Length: 1\r\n", b"").is_problem(503, "3 uploads");
    assert_eq!((event(&service, "refused"), figure(&service, "annulus_image_tus_promised_bytes")), (2, 250_000));
    assert_eq!(ask(&service, &format!("DELETE {first}"), "", b"").status, 204);
    assert_eq!(ask(&service, &format!("DELETE {first}"), "", b"").status, 404);
    // The same by a method that every proxy lets through.
    let again = create(&service, 50_000, "");
    let deleted = ask(&service, &format!("POST {again}"), "X-HTTP-Method-Override: DELETE\r\n", b"");
    assert_eq!((deleted.status, event(&service, "terminated")), (204, 2));
    service.stop();
}

fn ring_sha256(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

#[test]
fn two_pieces_at_once_and_a_silent_one_that_gives_way() {
    let service = Service::start_in(folder(), TENANTS, &["--shards", "2"]);
    let image = jpeg(300, 200, 3);
    let path = create(&service, image.len(), "");
    let mut silent = begin(&service, &path, "", image.len());
    silent.write_all(&image[..700]).unwrap();
    patch(&service, &path, 0, "", &image).is_problem(423, "Another request");
    // It says nothing more, and somebody asks: it gives way, and what it brought is kept.
    until("it gives way", || offset(&service, &path) == 700);
    let mut text = [0; 12];
    silent.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"HTTP/1.1 408");
    let last = patch(&service, &path, 700, "", &image[700..]);
    assert_eq!(last.status, 204, "{last:?}");
    // A body that breaks off is kept, too; one with a checksum is not.
    for (checksum, kept) in [("", 700), ("Upload-Checksum: sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n", 0)] {
        let path = create(&service, image.len(), "");
        let mut stream = begin(&service, &path, checksum, image.len());
        stream.write_all(&image[..700]).unwrap();
        drop(stream);
        until("it is free again", || patch(&service, &path, 0, "", b"").status != 423);
        assert_eq!(offset(&service, &path), kept, "{checksum}");
    }
    // A creation that brings everything.
    let creation = format!("{PIECE}Upload-Length: {}\r\n", image.len());
    let answer = ask(&service, "POST /v1/tus?ops=tiny=rs:fit:9:9", &creation, &image);
    assert_eq!((answer.status, answer.field("upload-offset")), (201, Some(&image.len().to_string()[..])), "{answer:?}");
    let document = service.end_of(answer.field("x-annulus-job").unwrap(), SHOP);
    assert_eq!(document["outputs"][0]["name"], "tiny", "{document}");
    service.stop();
}

#[test]
fn what_is_too_old_is_deleted() {
    let service = Service::start(&format!("[image.tus]\nlife_seconds = 5\n{TENANTS}"));
    let image = jpeg(300, 200, 4);
    let path = create(&service, image.len(), "");
    assert_eq!(patch(&service, &path, 0, "", &image[..500]).status, 204);
    assert_eq!(left(&service.folder).len(), 2);
    until("it is deleted", || left(&service.folder).is_empty());
    patch(&service, &path, 500, "", &image[500..]).is_problem(404, "Begin a new one");
    assert_eq!((event(&service, "expired"), figure(&service, "annulus_image_tus_unfinished")), (1, 0));
    // One that was too old when the service started is gone, too.
    let path = create(&service, image.len(), "");
    let data = service.kill();
    std::thread::sleep(Duration::from_secs(6));
    let service = Service::start_in(data, TENANTS, &["--shards", "1"]);
    assert_eq!((ask(&service, &format!("HEAD {path}"), "", b"").status, left(&service.folder).len()), (404, 0));
    service.stop();
}

#[test]
fn pages_of_named_sites_may_ask() {
    let service = Service::start(&format!("origins = [\"https://shop.example.com\"]\n{TENANTS}"));
    let preflight = |path: &str, origin: &str| {
        let fields = format!("Origin: {origin}\r\nAccess-Control-Request-Method: PATCH\r\n");
        service.ask(&format!("OPTIONS {path}"), &fields, b"")
    };
    for path in ["/v1/tus", "/v1/tus/0123456789abcdef0123456789abcdef", "/v1/jobs/0", "/v1/images"] {
        let answer = preflight(path, "https://shop.example.com");
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://shop.example.com"));
        assert!(answer.field("access-control-allow-methods").unwrap().contains("patch"));
        assert!(answer.field("access-control-allow-headers").unwrap().contains("upload-offset"));
        assert_eq!(preflight(path, "https://evil.example").field("access-control-allow-origin"), None, "{path}");
    }
    let fields = format!("Origin: https://shop.example.com\r\n{SHOP}{TUS}Upload-Length: 5\r\nContent-Length: 0\r\n");
    let created = service.ask("POST /v1/tus", &fields, b"");
    assert_eq!((created.status, created.field("vary")), (201, Some("origin")), "{created:?}");
    for field in ["location", "upload-offset", "x-annulus-job"] {
        assert!(created.field("access-control-expose-headers").unwrap().contains(field), "{field}");
    }
    // Refusals can be read, too.
    let refused = service.ask("GET /v1/presets", "Origin: https://shop.example.com\r\n", b"");
    assert_eq!((refused.status, refused.field("access-control-allow-origin")), (401, Some("https://shop.example.com")));
    service.stop();
}

#[test]
fn uppy_uploads_from_a_page_of_another_site() {
    if !has_client("resumable uploads by Uppy") {
        return;
    }
    let Some(browser) = Browser::start("resumable uploads by Uppy") else { return };
    let own = folder();
    let file = own.join("photo.jpg");
    std::fs::write(&file, noise(1600, 1200)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let service = Service::start(&format!("origins = [\"http://127.0.0.1:{port}\"]\n{TENANTS}"));
    let endpoint = format!("http://{}/v1/tus", service.address);
    let arguments = [&endpoint, KEY, file.to_str().unwrap(), own.to_str().unwrap(), &port, &browser.devtools]
        .map(|word| word as &str);
    passes(Path::new("node"), "uppy.mjs", &arguments);
    service.stop();
    std::fs::remove_dir_all(own).unwrap();
}
