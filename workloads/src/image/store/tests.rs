//! What every store keeps, on a real file system and on a real server; and what is the directory's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::{DriverChoice, Engine};

use super::*;
use crate::image::queue::trial::Home;

fn key(number: u8, suffix: Suffix) -> Key {
    Key { name: [number; 32], suffix }
}

fn put(store: &dyn Objects, key: &Key, bytes: &[u8]) -> Put {
    store.put(key, &mut &*bytes).unwrap()
}

fn keys(store: &dyn Objects) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut each = |key, _| {
        keys.push(key);
        Ok(())
    };
    store.list(&mut each).unwrap();
    keys.sort_unstable();
    keys
}

fn entries(home: &Home, folder: &str) -> usize {
    fs::read_dir(home.path().join(folder)).unwrap().count()
}

/// Where the directory keeps an object.
fn path(home: &Home, key: &Key) -> PathBuf {
    let name = key.to_string();
    home.path().join("objects").join(&name[..1]).join(&name[1..3]).join(&name)
}

/// Sets the age of a file.
fn age(path: &Path, age: Duration) {
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

/// A store, and what a test does to it behind its back.
pub(super) struct Tried<'a> {
    pub(super) store: Arc<dyn Objects>,
    /// The file that holds an object.
    pub(super) path: &'a dyn Fn(&Key) -> PathBuf,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_directory_keeps_what_every_store_keeps() {
    // One for all: making its folders takes longer than everything else.
    let home = Home::new("store");
    let store = Arc::new(Directory::open(home.path()).unwrap());
    for scenario in SCENARIOS {
        scenario(&Tried { store: store.clone(), path: &|key| path(&home, key) });
        assert_eq!((entries(&home, "temporary"), entries(&home, "trash")), (0, 0));
        keys(&*store).iter().for_each(|key| store.delete(key).unwrap());
    }
}

/// What every store keeps. Each begins with an empty one.
pub(super) const SCENARIOS: [fn(&Tried<'_>); 6] = [
    objects_are_created_once_and_read_back,
    names_that_begin_alike_are_found_together,
    a_reader_that_fails_leaves_nothing,
    a_sweep_takes_what_is_old_and_unwanted,
    what_is_wanted_again_while_it_is_swept_stays,
    shards_stream_in_and_out_without_blocking,
];

fn objects_are_created_once_and_read_back(tried: &Tried<'_>) {
    let store = &*tried.store;
    let (key, none) = (key(1, Suffix::Jpeg), key(2, Suffix::Jpeg));
    assert_eq!(put(store, &key, b"first"), Put::Created(5));
    assert_eq!(put(store, &key, b"second!"), Put::Existed(5));
    assert_eq!(store.get(&key, 0..100).unwrap(), b"first");
    assert_eq!(store.get(&key, 1..3).unwrap(), b"ir");
    assert_eq!(store.get(&key, 9..12).unwrap(), b"");
    assert_eq!(store.head(&key).unwrap().unwrap().len, 5);
    let (mut file, len) = store.open(&key).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), len), ("first", 5));
    let flags = rustix::fs::fcntl_getfl(&file).unwrap();
    assert!(!flags.intersects(rustix::fs::OFlags::RDWR | rustix::fs::OFlags::WRONLY), "a worker could write to it");
    assert_eq!(store.head(&none).unwrap(), None);
    assert_eq!(store.get(&none, 0..1), Err(StoreError::Missing(none)));
    assert_eq!(store.open(&none).err(), Some(StoreError::Missing(none)));
    assert_eq!(keys(store), [key]);
    store.delete(&key).unwrap();
    store.delete(&key).unwrap();
    assert_eq!(keys(store).len(), 0);
}

fn names_that_begin_alike_are_found_together(tried: &Tried<'_>) {
    let store = &*tried.store;
    let of = |beginning: u8, end: u8, suffix| {
        let mut name = [beginning; 32];
        name[31] = end;
        Key { name, suffix }
    };
    let meant = [of(1, 1, Suffix::Variant), of(1, 2, Suffix::Variant), of(1, 3, Suffix::Jpeg)];
    // One differs in the last byte that counts.
    let mut near = of(1, 1, Suffix::Variant);
    near.name[BEGINNING - 1] = 2;
    for key in meant.iter().chain([&near, &of(2, 1, Suffix::Variant)]) {
        let _put = put(store, key, b"made");
    }
    let list = |beginning: u8| {
        let mut found = Vec::new();
        let mut each = |key, meta: Meta| {
            found.push((key, meta.len));
            Ok(())
        };
        store.list_of(&[beginning; BEGINNING], &mut each).unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(list(1), meant.map(|key| (key, 4)));
    assert_eq!(list(3), []);
    keys(store).iter().for_each(|key| store.delete(key).unwrap());
}

#[test]
fn a_directory_is_found_again() {
    let home = Home::new("store");
    let store = Directory::open(home.path()).unwrap();
    let _put = put(&store, &key(1, Suffix::Jpeg), b"first");
    assert!(store.free_bytes().unwrap() > 0);
    drop(store);
    assert_eq!(keys(&Directory::open(home.path()).unwrap()), [key(1, Suffix::Jpeg)]);
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
                std::thread::spawn(move || put(&*store, &key, &vec![number; 1000 + number as usize]))
            })
            .collect();
        let puts: Vec<Put> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(puts.iter().filter(|put| matches!(put, Put::Created(_))).count(), 1, "{puts:?}");
        let bytes = store.get(&key, 0..10_000).unwrap();
        assert_eq!(bytes, vec![bytes[0]; 1000 + bytes[0] as usize]);
        assert!(puts.iter().all(|put| put.bytes() == bytes.len() as u64), "{puts:?}");
    }
}

fn a_reader_that_fails_leaves_nothing(tried: &Tried<'_>) {
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
    let error = tried.store.put(&key(1, Suffix::Jpeg), &mut Broken(3)).unwrap_err();
    assert!(matches!(&error, StoreError::Io(detail) if detail.contains("the client is gone")), "{error}");
    assert_eq!(keys(&*tried.store).len(), 0);
}

fn a_sweep_takes_what_is_old_and_unwanted(tried: &Tried<'_>) {
    let store = &*tried.store;
    let [wanted, orphan, young] = [1, 2, 3].map(|number| key(number, Suffix::Jpeg));
    for key in [wanted, orphan, young] {
        let _put = put(store, &key, b"twelve bytes");
    }
    for key in [wanted, orphan] {
        age(&(tried.path)(&key), DAY);
    }
    let mut asked = Vec::new();
    let swept = store.sweep(HOUR, &mut |keys| {
        asked.extend_from_slice(keys);
        Ok(keys.iter().map(|key| *key == wanted).collect())
    });
    assert_eq!(swept.unwrap(), Swept { temporaries: 0, orphans: 1, bytes: 12 });
    asked.sort_unstable();
    assert_eq!(asked, [wanted, orphan]);
    assert_eq!(keys(store), [wanted, young]);
    let failed = store.sweep(HOUR, &mut |_| Err("the queue has ended".to_owned()));
    assert!(failed.unwrap_err().to_string().contains("the queue has ended"));
    assert_eq!(keys(store), [wanted, young]);
}

fn what_is_wanted_again_while_it_is_swept_stays(tried: &Tried<'_>) {
    let store = &*tried.store;
    let (one, other) = (key(1, Suffix::Original), key(2, Suffix::Original));
    for key in [one, other] {
        let _put = put(store, &key, b"bytes");
        age(&(tried.path)(&key), DAY);
    }
    let swept = store.sweep(HOUR, &mut |keys| {
        // The moment after the question and before the removal: the same bytes come once more.
        assert_eq!(put(store, &one, b"bytes"), Put::Existed(5));
        Ok(vec![false; keys.len()])
    });
    assert_eq!(swept.unwrap().orphans, 1);
    assert_eq!(keys(store), [one]);
    assert_eq!(store.get(&one, 0..9).unwrap(), b"bytes");
}

#[test]
fn a_directory_is_swept_of_what_is_not_an_object() {
    let home = Home::new("sweep");
    let store = Directory::open(home.path()).unwrap();
    fs::write(home.path().join("temporary/old"), "left").unwrap();
    age(&home.path().join("temporary/old"), DAY);
    fs::write(home.path().join("temporary/new"), "in use").unwrap();
    fs::write(home.path().join("objects/0/00/README"), "not ours").unwrap();
    let swept = store.sweep(HOUR, &mut |keys| Ok(vec![false; keys.len()]));
    assert_eq!(swept.unwrap(), Swept { temporaries: 1, orphans: 0, bytes: 4 });
    assert!(home.path().join("objects/0/00/README").exists());
    assert_eq!((entries(&home, "temporary"), entries(&home, "trash")), (1, 0));
    // A sweep that died between its two steps has left an object in the trash: it comes back.
    let one = key(1, Suffix::Original);
    let _put = put(&store, &one, b"bytes");
    fs::rename(path(&home, &one), home.path().join("trash").join(one.to_string())).unwrap();
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
    std::os::unix::fs::symlink(home.path().join("secret"), path(&home, &key)).unwrap();
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

fn shards_stream_in_and_out_without_blocking(tried: &Tried<'_>) {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        let (store, original) = (tried.store.clone(), key(1, Suffix::Original));
        let main = move |shard: Shard| {
            let store = store.clone();
            async move { stream(&shard, &*store).await }
        };
        match Engine::builder().shards(1).oversubscribed().driver(driver).run(main) {
            Ok(_) => {}
            Err(error) if driver == DriverChoice::Uring && error.to_string().starts_with("io_uring_setup failed") => {
                eprintln!("NOT RUN with io_uring: {error}");
                continue;
            }
            Err(error) => panic!("{driver:?}: {error}"),
        }
        assert_eq!(keys(&*tried.store), [original], "{driver:?}");
        assert_eq!(tried.store.get(&original, 0..100).unwrap(), b"one two three");
        tried.store.delete(&original).unwrap();
    }
}

async fn stream(shard: &Shard, store: &dyn Objects) {
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
