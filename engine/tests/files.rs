//! Files through both kernel interfaces: linked, opened beneath a directory, never by a link out of it.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::{Frame, OpenOptions, Shard};
use common::on_each_driver;

const NEW: OpenOptions = OpenOptions { write: true, create: false, create_new: true, truncate: false };
const READ: OpenOptions = OpenOptions { write: false, create: false, create_new: false, truncate: false };

#[test]
fn a_link_replaces_nothing_and_beneath_means_beneath() {
    on_each_driver(1, |shard| async move { scenario(&shard, &shard.driver_kind().to_string()).await });
}

async fn scenario(shard: &Shard, kind: &str) {
    let home = std::env::temp_dir().join(format!("annulus-files-{}-{kind}", std::process::id()));
    let store = home.join("store");
    shard.make_directory(&home).await.unwrap();
    shard.make_directory(&store).await.unwrap();
    let file = shard.open(store.join("temporary"), NEW).await.unwrap();
    file.write_at(Frame::owned(b"twelve bytes".to_vec()), 0).await.unwrap();
    let meta = file.meta().unwrap();
    assert_eq!(meta.len, 12);
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().abs_diff(meta.modified);
    assert!(age < Duration::from_secs(60), "{age:?}");

    shard.link(store.join("temporary"), store.join("name")).await.unwrap();
    let again = shard.link(store.join("temporary"), store.join("name")).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    shard.remove(store.join("temporary")).await.unwrap();

    let directory = shard.open_directory(&store).await.unwrap();
    let read = directory.open("name", READ).await.unwrap().read_at(Vec::new(), 100, 0).await.unwrap();
    assert_eq!(read, b"twelve bytes");
    std::fs::write(home.join("outside"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside", store.join("out")).unwrap();
    std::os::unix::fs::symlink("name", store.join("in")).unwrap();
    for path in ["../outside", "out", "in", "/etc/passwd", "none"] {
        assert!(directory.open(path, READ).await.is_err(), "{kind} opened {path}");
    }
    let made = directory.open("new", NEW).await.unwrap();
    made.write_at(Frame::owned(b"x".to_vec()), 0).await.unwrap();
    assert_eq!(std::fs::read(store.join("new")).unwrap(), b"x");
    std::fs::remove_dir_all(&home).unwrap();
}
