//! Opening: a new log, a whole one, one in use, options that cannot work.

use super::*;

#[test]
fn a_new_log_is_empty_and_stays_the_same_log() {
    let folder = Folder::new();
    let (opened, seen) = folder.open().unwrap();
    assert!(opened.is_new && seen.is_empty() && opened.torn.is_none() && opened.losses.is_empty());
    assert_eq!((opened.oldest, opened.next), (Lsn(0), Lsn(64)));
    let id = opened.id;
    drop(opened);
    let (opened, _) = folder.open().unwrap();
    assert!(!opened.is_new);
    assert_eq!((opened.id, opened.next), (id, Lsn(64)));
}

#[test]
fn what_was_written_is_replayed_in_order_over_many_segments() {
    let folder = Folder::new();
    for run in 1..=3 {
        let mut scribe = Scribe::new(&folder);
        for count in 1..20 {
            scribe.batch(count);
        }
        let next = scribe.opened.next;
        drop(scribe);
        let (opened, seen) = folder.open().unwrap();
        assert_eq!(opened.next, next);
        assert_eq!(Seen::offsets(&seen), (1..=190 * run).collect::<Vec<u64>>());
        assert_eq!((opened.records, opened.torn), (190 * run, None));
        for seen in seen {
            let Seen::Published(channel, offset, bytes) = seen else { panic!("{seen:?}") };
            assert_eq!(bytes, data(&channel, offset));
        }
    }
}

#[test]
fn one_process_at_a_time() {
    let folder = Folder::new();
    let first = folder.open().unwrap();
    let Err(error) = folder.open() else { panic!("opened twice") };
    assert!(matches!(error, LogError::Locked(_)));
    let text = error.to_string();
    assert!(text.contains("in use by another annulus") && text.contains("Fix:"), "{text}");
    drop(first);
    folder.open().unwrap();
}

#[test]
fn options_that_cannot_work_are_refused_with_what_would() {
    let folder = Folder::new();
    let good = folder.options();
    for (options, names) in [
        (Options { segment_bytes: 5000, ..good.clone() }, "segment_bytes"),
        (Options { segment_bytes: 2048, ..good.clone() }, "segment_bytes"),
        (Options { bytes_max: 8192, ..good.clone() }, "bytes_max"),
        (Options { batch_bytes_max: 1, ..good.clone() }, "batch_bytes_max"),
    ] {
        let Err(error) = open(&options) else { panic!("{options:?}") };
        assert!(error.to_string().contains(names), "{error}");
    }
    assert_eq!(Options::new("/x").check().err().map(|error| error.to_string()), None);
}

#[test]
fn a_log_goes_on_with_segments_of_another_size() {
    let folder = Folder::new();
    Scribe::new(&folder).batch(3);
    let options = Options { segment_bytes: 8192, ..folder.options() };
    let (opened, seen) = open(&options).unwrap();
    assert_eq!(Seen::offsets(&seen), [1, 2, 3]);
    assert_eq!(opened.segments[0].bytes, 4096);
}

#[test]
fn a_log_that_ends_with_a_full_segment_goes_on_in_a_new_one() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    while scribe.opened.segments.len() == 1 {
        scribe.batch(1);
    }
    let (next, offset) = (scribe.opened.next, scribe.offset);
    let path = scribe.current().path(&folder.0);
    let in_new = next.0 > scribe.current().body().0;
    drop(scribe);
    fs::remove_file(path).unwrap();
    let (opened, seen) = folder.open().unwrap();
    assert_eq!(Seen::offsets(&seen).len() as u64, offset - u64::from(in_new));
    assert_eq!((opened.next, opened.segments.len()), (Lsn(4096 + 64), 2));
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let folder = Folder::new();
    drop(folder.open().unwrap());
    let (path, _) = file_of(&folder, Lsn(0));
    let mut header = fs::read(&path).unwrap()[..64].to_vec();
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    put(&path, 0, &header);
    let Err(error) = folder.open() else { panic!("opened a log of version 9") };
    assert!(matches!(error, LogError::Version { version: 9, .. }), "{error}");
}

#[test]
fn spare_files_are_kept_by_number_and_others_left_alone() {
    let folder = Folder::new();
    drop(folder.open().unwrap());
    for (name, bytes) in [("spare-5.log", 4096), ("spare-7.log", 100), ("spare-x.log", 4096), ("wal-7.log", 4096)] {
        fs::write(folder.0.join(name), vec![1; bytes]).unwrap();
    }
    let (opened, _) = folder.open().unwrap();
    assert_eq!(opened.spares, [folder.0.join("spare-5.log")]);
    assert_eq!(opened.next_spare, 8, "no name is given twice");
    let there = |name: &str| folder.0.join(name).exists();
    assert!(!there("spare-7.log") && there("spare-x.log") && there("wal-7.log"));
}
