//! The bucket on a real server, and on one that is told how to misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use annulus_engine::{Engine, Frame};

use super::*;
use crate::image::outside::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY, ScriptedStore, answer};
use crate::image::store::tests::{SCENARIOS, Tried};
use crate::image::store::{Object, Upload};

const HOUR: Duration = Duration::from_secs(3600);

fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        bucket: BUCKET.to_owned(),
        endpoint: Some(endpoint.parse().unwrap()),
        access_key: Some(ACCESS_KEY.to_owned()),
        secret_key: Some(Hidden::new(SECRET_KEY)),
        part_bytes: settings::PART_BYTES_MIN,
        ..S3Settings::default()
    }
}

fn key(number: u8, suffix: Suffix) -> Key {
    Key { name: [number; 32], suffix }
}

/// Bytes that differ everywhere.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}

/// Runs on a shard what a test does there.
fn on_shard<F: Future<Output = ()> + 'static>(body: impl Fn(Shard) -> F + Send + Sync + 'static) {
    Engine::builder().shards(1).oversubscribed().run(body).unwrap();
}

#[test]
fn a_bucket_keeps_what_every_store_keeps() {
    let Some(server) = S3Server::start("image objects in S3") else { return };
    for (number, scenario) in SCENARIOS.into_iter().enumerate() {
        let prefix = format!("run-{number}/");
        let settings = S3Settings { prefix: prefix.clone(), ..settings(&server.endpoint()) };
        let store = Arc::new(S3::open(settings).unwrap());
        assert!(store.ways.creates_once && store.told().len() == 1);
        let folder = server.bucket().join(&prefix);
        scenario(&Tried { store, path: &|key| folder.join("objects").join(key.to_string()) });
    }
    large_objects_go_in_parts(&server);
    what_never_got_its_name_is_swept(&server);
    who_is_not_let_in_is_told_why(&server);
}

fn large_objects_go_in_parts(server: &S3Server) {
    let settings = S3Settings { prefix: "large/".to_owned(), ..settings(&server.endpoint()) };
    let store = Arc::new(S3::open(settings).unwrap());
    let (len, output) = (2 * settings::PART_BYTES_MIN as usize + 1000, key(1, Suffix::Jpeg));
    let whole = bytes(len);
    assert_eq!(store.put(&output, &mut &whole[..]).unwrap(), Put::Created(len as u64));
    assert_eq!(store.put(&output, &mut &whole[..len - 1]).unwrap(), Put::Existed(len as u64));
    let (mut file, told) = store.open(&output).unwrap();
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert!(told == len as u64 && read == whole);
    let inside = store.clone();
    on_shard(move |shard| {
        let (store, whole) = (inside.clone(), whole.clone());
        async move { streams_large(&shard, &store, &whole).await }
    });
    let list = |folder: &str| {
        let mut found = 0;
        sweep::each_page(&store, folder, &mut |page| {
            found += page.found.len();
            Ok(())
        })
        .unwrap();
        found
    };
    // Removed in its own time, and by nobody waited for.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while list("temporary/") > 0 {
        assert!(std::time::Instant::now() < until, "what was on its way in stays");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(list("objects/"), 2);
}

async fn streams_large(shard: &Shard, store: &S3, whole: &[u8]) {
    let shelf = store.on_shard(shard);
    let original = key(2, Suffix::Original);
    for expected in [Put::Created(whole.len() as u64), Put::Existed(whole.len() as u64)] {
        let mut upload: Box<dyn Upload> = shelf.create().await.unwrap();
        for piece in whole.chunks(700_001) {
            upload.write(Frame::owned(piece.to_vec())).await.unwrap();
        }
        assert_eq!(upload.publish(original).await.unwrap(), expected);
    }
    let object: Box<dyn Object> = shelf.open(&original).await.unwrap();
    // In order, as a delivery reads; then out of order.
    let mut read = Vec::new();
    object.announce(0..whole.len() as u64);
    while read.len() < whole.len() {
        let at = read.len() as u64;
        read = object.read_at(read, 65_536, at).await.unwrap();
    }
    assert!(read == whole);
    for (at, want) in [(5_000_000_usize, 1000_usize), (100, 10), (whole.len() - 5, 10)] {
        let piece = object.read_at(Vec::new(), want, at as u64).await.unwrap();
        assert!(piece == whole[at..(at + want).min(whole.len())], "{at}");
    }
    // Given up half way: nothing is left of it.
    let mut upload = shelf.create().await.unwrap();
    upload.write(Frame::owned(whole.to_vec())).await.unwrap();
    upload.abandon().await.unwrap();
    let mut dropped = shelf.create().await.unwrap();
    dropped.write(Frame::owned(whole.to_vec())).await.unwrap();
    drop(dropped);
    // Its abortion is a task that nobody waits for.
    shard.sleep(Duration::from_millis(300)).await;
}

fn what_never_got_its_name_is_swept(server: &S3Server) {
    let settings = S3Settings { prefix: "left/".to_owned(), ..settings(&server.endpoint()) };
    let store = S3::open(settings).unwrap();
    let folder = server.bucket().join("left/temporary");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, is_old) in [("old", true), ("new", false)] {
        std::fs::write(folder.join(name), "left").unwrap();
        let age = if is_old { 2 * HOUR } else { Duration::ZERO };
        std::fs::File::open(folder.join(name)).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    let swept = store.sweep(HOUR, &mut |keys| Ok(vec![true; keys.len()])).unwrap();
    assert_eq!(swept, Swept { temporaries: 1, orphans: 0, bytes: 4 });
    assert!(folder.join("new").exists() && !folder.join("old").exists());
    // Parts of uploads that were dropped or given up lie beside the buckets; none is left.
    let parts = std::fs::read_dir(server.folder()).unwrap().flatten();
    let parts: Vec<_> = parts.filter(|entry| entry.file_name().to_string_lossy().contains(".part-")).collect();
    assert!(parts.is_empty(), "{parts:?}");
}

fn who_is_not_let_in_is_told_why(server: &S3Server) {
    let good = settings(&server.endpoint());
    let refused = |settings: S3Settings| S3::open(settings).err().expect("it was let in").to_string();
    let wrong = refused(S3Settings { secret_key: Some(Hidden::new("another-secret")), ..good.clone() });
    assert!(wrong.contains("SignatureDoesNotMatch") && wrong.contains("correct secret_key"), "{wrong}");
    assert!(!wrong.contains("another-secret"), "{wrong}");
    let nobodys = ScriptedStore::start(|_line| {
        answer("404 Not Found", "", "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>")
    });
    let nowhere = refused(S3Settings { endpoint: Some(nobodys.endpoint().parse().unwrap()), ..good });
    let place = format!("bucket photos at {}", nobodys.endpoint());
    assert!(nowhere.contains(&place) && nowhere.contains("Fix: make the bucket"), "{nowhere}");
    nobodys.stop();
}

/// A store that keeps everything but the condition.
#[test]
fn a_store_without_conditions_is_told_and_looked_at_first() {
    let puts = AtomicUsize::new(0);
    let server = ScriptedStore::start(move |line| match line.split(' ').next().unwrap() {
        "PUT" => {
            puts.fetch_add(1, Ordering::Relaxed);
            answer("200 OK", "ETag: \"a\"\r\n", "")
        }
        "GET" => answer("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
        "HEAD" if line.contains("/objects/") && puts.load(Ordering::Relaxed) > 2 => {
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nLast-Modified: Sun, 06 Nov 2094 08:49:37 GMT\r\n\
                 Connection: close\r\n\r\n"
                .to_owned()
        }
        "HEAD" => answer("404 Not Found", "", ""),
        _ => answer("204 No Content", "", ""),
    });
    let store = S3::open(settings(&server.endpoint())).unwrap();
    assert!(!store.ways.creates_once);
    assert!(store.told()[1].contains("DOES NOT KEEP If-None-Match"), "{:?}", store.told());
    assert_eq!(store.put(&key(1, Suffix::Jpeg), &mut &b"first"[..]).unwrap(), Put::Created(5));
    assert_eq!(store.put(&key(1, Suffix::Jpeg), &mut &b"second"[..]).unwrap(), Put::Existed(5));
    let asked = server.stop();
    let puts = asked.iter().filter(|line| line.starts_with("PUT /photos/objects/")).count();
    assert_eq!(puts, 1, "{asked:?}");
}

#[test]
fn what_passes_is_asked_again_and_what_is_left_in_parts_is_aborted() {
    let count = AtomicUsize::new(0);
    let server = ScriptedStore::start(move |line| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let slow = answer("503 Slow Down", "", "<Error><Code>SlowDown</Code><Message>less</Message></Error>");
        match (number, line.split(' ').next().unwrap()) {
            // The first two attempts of the first call.
            (0 | 1, _) => slow,
            (_, "PUT") if number == 3 => answer("412 Precondition Failed", "", ""),
            (_, "PUT") => answer("200 OK", "", ""),
            (_, "GET") if line.contains("uploads=") => answer(
                "200 OK",
                "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>\
                 <Upload><Key>temporary/old</Key><UploadId>u1</UploadId><Initiated>1994-11-05T00:00:00.000Z</Initiated></Upload>\
                 <Upload><Key>temporary/new</Key><UploadId>u2</UploadId><Initiated>1994-11-06T08:30:00.000Z</Initiated></Upload>\
                 </ListMultipartUploadsResult>",
            ),
            (_, "GET") => answer("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
            _ => answer("204 No Content", "", ""),
        }
    });
    let store = S3::open(settings(&server.endpoint())).unwrap();
    let swept = store.sweep(HOUR, &mut |keys| Ok(vec![true; keys.len()])).unwrap();
    assert_eq!(swept.temporaries, 1);
    let asked = server.stop();
    let aborted: Vec<_> = asked.iter().filter(|line| line.contains("uploadId=")).collect();
    assert!(aborted.len() == 1 && aborted[0].starts_with("DELETE /photos/temporary/old?"), "{aborted:?}");
    assert!(aborted[0].contains("uploadId=u1"), "{aborted:?}");
    assert!(asked[..3].iter().all(|line| line.starts_with("PUT /photos/probe/")), "{asked:?}");
}

/// An object whose connection breaks in the middle is read on from there.
#[test]
fn a_broken_answer_is_read_on_from_where_it_broke() {
    let count = AtomicUsize::new(0);
    let server = ScriptedStore::start(move |line| {
        let list = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        match line.split(' ').next().unwrap() {
            "PUT" if count.fetch_add(1, Ordering::Relaxed) == 0 => answer("200 OK", "", ""),
            "PUT" => answer("412 Precondition Failed", "", ""),
            "GET" if line.contains("list-type") => answer("200 OK", "", list),
            "GET" if count.fetch_add(1, Ordering::Relaxed) == 2 => {
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123".to_owned()
            }
            "GET" => answer("206 Partial Content", "Content-Range: bytes 4-9/10\r\n", "456789"),
            _ => answer("204 No Content", "", ""),
        }
    });
    let store = S3::open(settings(&server.endpoint())).unwrap();
    let (mut file, len) = store.open(&key(1, Suffix::Original)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((&text[..], len), ("0123456789", 10));
    assert!(server.stop().len() > 5);
}
