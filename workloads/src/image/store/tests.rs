//! The directory store, from threads and from shards, on a real file system.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::{DriverChoice, Engine};

use super::*;
use crate::image::queue::trial::Home;

fn key(number: u8, suffix: Suffix) -> Key {
    Key { name: [number; 32], suffix }
}

fn put(store: &Directory, key: &Key, bytes: &[u8]) -> Put {
    store.put(key, &mut &*bytes).unwrap()
}

fn keys(store: &Directory) -> Vec<Key> {
    let mut keys = Vec::new();
    store.list(&mut |key, _| keys.push(key)).unwrap();
    keys.sort_unstable();
    keys
}

fn entries(home: &Home, folder: &str) -> usize {
    fs::read_dir(home.path().join(folder)).unwrap().count()
}

/// Sets the age of an object.
fn age(home: &Home, key: &Key, age: Duration) {
    let name = key.to_string();
    let path = home.path().join("objects").join(&name[..1]).join(&name[1..3]).join(&name);
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn objects_are_created_once_and_read_back() {
    let home = Home::new("store");
    let store = Directory::open(home.path()).unwrap();
    let (key, none) = (key(1, Suffix::Jpeg), key(2, Suffix::Jpeg));
    assert_eq!(put(&store, &key, b"first"), Put::Created(5));
    assert_eq!(put(&store, &key, b"second!"), Put::Existed(5));
    assert_eq!(store.get(&key, 0..100).unwrap(), b"first");
    assert_eq!(store.get(&key, 1..3).unwrap(), b"ir");
    assert_eq!(store.get(&key, 9..12).unwrap(), b"");
    assert_eq!(store.head(&key).unwrap().unwrap().len, 5);
    let (mut file, len) = store.open(&key).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), len), ("first", 5));
    assert_eq!(store.head(&none).unwrap(), None);
    assert_eq!(store.get(&none, 0..1), Err(StoreError::Missing(none)));
    assert!(store.free_bytes().unwrap() > 0);
    drop(store);
    let store = Directory::open(home.path()).unwrap();
    assert_eq!(keys(&store), [key]);
    store.delete(&key).unwrap();
    store.delete(&key).unwrap();
    assert_eq!((keys(&store).len(), entries(&home, "temporary")), (0, 0));
}

#[test]
fn threads_that_create_the_same_object_agree_on_one() {
    let home = Home::new("race");
    let store = Arc::new(Directory::open(home.path()).unwrap());
    for round in 0..20 {
        let key = key(round, Suffix::Png);
        let threads: Vec<_> = (0..4u8)
            .map(|number| {
                let store = store.clone();
                std::thread::spawn(move || put(&store, &key, &vec![number; 1000 + number as usize]))
            })
            .collect();
        let puts: Vec<Put> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(puts.iter().filter(|put| matches!(put, Put::Created(_))).count(), 1, "{puts:?}");
        let bytes = store.get(&key, 0..10_000).unwrap();
        assert_eq!(bytes, vec![bytes[0]; 1000 + bytes[0] as usize]);
        assert!(puts.iter().all(|put| put.bytes() == bytes.len() as u64), "{puts:?}");
    }
}

#[test]
fn a_reader_that_fails_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("the client is gone"));
            }
            self.0 -= 1;
            buffer.fill(1);
            Ok(buffer.len())
        }
    }
    let home = Home::new("broken");
    let store = Directory::open(home.path()).unwrap();
    let error = store.put(&key(1, Suffix::Jpeg), &mut Broken(3)).unwrap_err();
    assert!(matches!(&error, StoreError::Io(detail) if detail.contains("the client is gone")), "{error}");
    assert_eq!((keys(&store).len(), entries(&home, "temporary")), (0, 0));
}

#[test]
fn a_sweep_takes_what_is_old_and_unwanted() {
    let home = Home::new("sweep");
    let store = Directory::open(home.path()).unwrap();
    let [wanted, orphan, young] = [1, 2, 3].map(|number| key(number, Suffix::Jpeg));
    for key in [wanted, orphan, young] {
        let _put = put(&store, &key, b"twelve bytes");
    }
    age(&home, &wanted, DAY);
    age(&home, &orphan, DAY);
    fs::write(home.path().join("temporary/old"), "left").unwrap();
    fs::File::open(home.path().join("temporary/old")).unwrap().set_modified(SystemTime::now() - DAY).unwrap();
    fs::write(home.path().join("temporary/new"), "in use").unwrap();
    fs::write(home.path().join("objects/0/00/README"), "not ours").unwrap();
    let mut asked = Vec::new();
    let swept = store.sweep(HOUR, &mut |keys| {
        asked.extend_from_slice(keys);
        Ok(keys.iter().map(|key| *key == wanted).collect())
    });
    assert_eq!(swept.unwrap(), Swept { temporaries: 1, orphans: 1, bytes: 16 });
    asked.sort_unstable();
    assert_eq!(asked, [wanted, orphan]);
    assert_eq!(keys(&store), [wanted, young]);
    assert!(home.path().join("objects/0/00/README").exists());
    assert_eq!((entries(&home, "temporary"), entries(&home, "trash")), (1, 0));
    let failed = store.sweep(HOUR, &mut |_| Err("the queue has ended".to_owned()));
    assert!(failed.unwrap_err().to_string().contains("the queue has ended"));
    assert_eq!(keys(&store), [wanted, young]);
}

#[test]
fn what_is_wanted_again_while_it_is_swept_stays() {
    let home = Home::new("again");
    let store = Directory::open(home.path()).unwrap();
    let (one, other) = (key(1, Suffix::Original), key(2, Suffix::Original));
    for key in [one, other] {
        let _put = put(&store, &key, b"bytes");
        age(&home, &key, DAY);
    }
    let swept = store.sweep(HOUR, &mut |keys| {
        // The moment after the question and before the removal: the same bytes come once more.
        assert_eq!(put(&store, &one, b"bytes"), Put::Existed(5));
        Ok(vec![false; keys.len()])
    });
    assert_eq!(swept.unwrap().orphans, 1);
    assert_eq!(keys(&store), [one]);
    // A sweep that died between the two steps has left an object in the trash: it comes back.
    let name = one.to_string();
    let path = home.path().join("objects").join(&name[..1]).join(&name[1..3]).join(&name);
    fs::rename(path, home.path().join("trash").join(&name)).unwrap();
    assert_eq!(keys(&store), []);
    let _swept = store.sweep(HOUR, &mut |keys| Ok(vec![true; keys.len()])).unwrap();
    assert_eq!(keys(&store), [one]);
}

#[test]
fn objects_are_not_reached_through_links() {
    let home = Home::new("links");
    let store = Directory::open(home.path()).unwrap();
    let key = key(1, Suffix::Jpeg);
    fs::write(home.path().join("secret"), "secret").unwrap();
    let name = key.to_string();
    let path = home.path().join("objects").join(&name[..1]).join(&name[1..3]).join(&name);
    std::os::unix::fs::symlink(home.path().join("secret"), path).unwrap();
    assert!(store.open(&key).is_err());
    assert!(store.head(&key).is_err());
}

#[test]
fn a_newer_layout_is_refused() {
    let home = Home::new("layout");
    drop(Directory::open(home.path()).unwrap());
    fs::write(home.path().join("layout"), "2\n").unwrap();
    let error = Directory::open(home.path()).err().unwrap().to_string();
    assert!(error.contains("made by a newer one"), "{error}");
}

#[test]
fn shards_stream_in_and_out_without_blocking() {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        let home = Home::new("shelf");
        let store = Arc::new(Directory::open(home.path()).unwrap());
        let inside = store.clone();
        let main = move |shard: Shard| {
            let store = inside.clone();
            async move { stream(&shard, &store).await }
        };
        match Engine::builder().shards(1).oversubscribed().driver(driver).run(main) {
            Ok(_) => {}
            Err(error) if driver == DriverChoice::Uring && error.to_string().starts_with("io_uring_setup failed") => {
                eprintln!("NOT RUN with io_uring: {error}");
                continue;
            }
            Err(error) => panic!("{driver:?}: {error}"),
        }
        assert_eq!(keys(&store), [key(1, Suffix::Original)], "{driver:?}");
        assert_eq!(store.get(&key(1, Suffix::Original), 0..100).unwrap(), b"one two three");
        assert_eq!(entries(&home, "temporary"), 0, "{driver:?}");
    }
}

async fn stream(shard: &Shard, store: &Directory) {
    let shelf = store.on_shard(shard);
    let key = key(1, Suffix::Original);
    for expected in [Put::Created(13), Put::Existed(13)] {
        let mut upload = shelf.create().await.unwrap();
        for part in [&b"one "[..], b"two ", b"three"] {
            upload.write(Frame::owned(part.to_vec())).await.unwrap();
        }
        assert_eq!(upload.len(), 13);
        assert_eq!(upload.publish(key).await.unwrap(), expected);
    }
    let object = shelf.open(&key).await.unwrap();
    assert_eq!(object.meta().len, 13);
    assert!(object.meta().modified.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(object.read_at(b">".to_vec(), 5, 4).await.unwrap(), b">two t");
    let missing = Key { suffix: Suffix::Gif, ..key };
    assert_eq!(shelf.open(&missing).await.err(), Some(StoreError::Missing(missing)));
    let mut given_up = shelf.create().await.unwrap();
    given_up.write(Frame::owned(vec![1; 1000])).await.unwrap();
    given_up.abandon().await.unwrap();
    // A client that is gone: its task ends, and with it the upload.
    drop(shelf.create().await.unwrap());
    shard.sleep(Duration::from_millis(50)).await;
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let home = Home::new("full-store");
    let exe = std::env::current_exe().unwrap();
    // 512-byte blocks in POSIX shells: a limit of 256 KiB for each file. Beyond, writing fails as on a full disk.
    let script =
        "trap '' XFSZ; ulimit -f 512; exec \"$0\" --exact image::store::tests::fills_the_disk --ignored --nocapture";
    let output = Command::new("sh").args(["-c", script]).arg(exe).env("ANNULUS_HOME", home.path()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let store = Directory::open(home.path()).unwrap();
    assert_eq!(keys(&store), [key(1, Suffix::Jpeg)]);
    assert_eq!(store.get(&key(1, Suffix::Jpeg), 0..1 << 20).unwrap().len(), 100_000);
    assert_eq!(entries(&home, "temporary"), 0);
}

#[test]
#[ignore = "a child of a_full_disk_is_told_and_loses_nothing"]
fn fills_the_disk() {
    let home = std::env::var_os("ANNULUS_HOME").unwrap();
    let store = Directory::open(home.as_ref()).unwrap();
    assert_eq!(put(&store, &key(1, Suffix::Jpeg), &[7; 100_000]), Put::Created(100_000));
    let error = store.put(&key(2, Suffix::Jpeg), &mut &[7; 1_000_000][..]).unwrap_err();
    assert!(matches!(&error, StoreError::Full(detail) if detail.contains("no room")), "{error:?}");
    let shards = move |shard: Shard| {
        let store = Directory::open(std::env::var_os("ANNULUS_HOME").unwrap().as_ref()).unwrap();
        async move {
            let shelf = store.on_shard(&shard);
            let mut upload = shelf.create().await.unwrap();
            let error = upload.write(Frame::owned(vec![7; 1_000_000])).await.unwrap_err();
            assert!(matches!(&error, StoreError::Full(_)), "{error:?}");
            upload.abandon().await.unwrap();
        }
    };
    let driver = DriverChoice::Epoll;
    Engine::builder().shards(1).oversubscribed().driver(driver).run(shards).unwrap();
}
