//! Reading, verifying and exporting a log that nobody writes.

use super::*;
use crate::chat::log::Reader;
use crate::chat::log::export::{Filter, export};
use crate::chat::log::record::{ChannelState, Cleared, Removed};
use crate::chat::log::verify::verify;

fn text(directory: &Path, filter: &Filter) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    let lines = export(directory, filter, &mut out).unwrap();
    let values: Vec<_> =
        std::str::from_utf8(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, values.len() as u64);
    values
}

#[test]
fn a_reader_gives_every_record_once_and_nothing_beyond_what_it_may() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let places: Vec<(Lsn, Lsn)> = (0..25).map(|_| scribe.batch(3)).collect();
    let mut reader = Reader::open(&folder.0, Lsn(0)).unwrap();
    assert_eq!(*reader.id(), scribe.opened.id);
    let mut offset = 0;
    for &(_, until) in &places {
        while let Some((lsn, record)) = reader.next(until).unwrap() {
            offset += 1;
            assert!(lsn < until);
            assert_eq!(Seen::of(&record), Seen::Published("c".to_owned(), offset, data("c", offset)));
        }
        assert!(offset.is_multiple_of(3) && reader.position() <= until);
    }
    assert_eq!(offset, 75);
    // From the beginning of any batch.
    for (at, &(from, _)) in places.iter().enumerate() {
        let mut reader = Reader::open(&folder.0, from).unwrap();
        let (_, record) = reader.next(scribe.opened.next).unwrap().unwrap();
        let expected = 3 * at as u64 + 1;
        assert_eq!(Seen::of(&record), Seen::Published("c".to_owned(), expected, data("c", expected)));
    }
    let end = scribe.current().end();
    assert!(matches!(Reader::open(&folder.0, end), Err(LogError::Absent { .. })));
    assert!(matches!(Reader::open(&folder.0.join("lock"), end), Err(LogError::Io { .. })));
}

#[test]
fn a_reader_that_keeps_up_sees_what_is_written_after_it_looked() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let mut reader = Reader::open(&folder.0, Lsn(0)).unwrap();
    for offset in 1..200 {
        assert!(reader.next(scribe.opened.next).unwrap().is_none());
        scribe.batch(1);
        // What is beyond is not even looked at: it may be half written.
        assert!(reader.next(reader.position()).unwrap().is_none());
        let (_, record) = reader.next(scribe.opened.next).unwrap().unwrap();
        assert_eq!(Seen::of(&record), Seen::Published("c".to_owned(), offset, data("c", offset)));
    }
}

#[test]
fn a_reader_stops_at_damage_and_stays_there() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    scribe.batch(1);
    let (bad, _) = scribe.batch(1);
    let (_, until) = scribe.batch(1);
    let (path, offset) = file_of(&folder, bad);
    put(&path, offset + 20, b"damage");
    let mut reader = Reader::open(&folder.0, Lsn(0)).unwrap();
    assert!(reader.next(until).unwrap().is_some());
    for _ in 0..2 {
        let error = reader.next(until).unwrap_err();
        assert!(matches!(error, LogError::Damaged { lsn, .. } if lsn == bad), "{error}");
    }
    assert_eq!(reader.position(), bad);
}

#[test]
fn verify_counts_what_is_there_and_names_what_is_wrong() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let places: Vec<_> = (0..20).map(|_| scribe.batch(2)).collect();
    let mut bytes = Vec::new();
    for offset in [41, 43, 43] {
        published(&mut bytes, "c", offset);
    }
    published(&mut bytes, "d", 7);
    scribe.write(bytes);
    let segments = scribe.opened.segments.len();
    assert!(matches!(verify(&folder.0, &mut Vec::new()), Err(LogError::Locked(_))), "a server uses it");
    drop(scribe);
    let mut out = Vec::new();
    let summary = verify(&folder.0, &mut out).unwrap();
    assert_eq!((summary.segments, summary.records, summary.channels), (segments, 44, 2));
    assert_eq!((summary.gaps, summary.duplicates), (1, 1));
    assert!(summary.damages.is_empty() && summary.torn.is_none() && !summary.is_whole());
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("offset 43 too early") && out.contains("offset 43 again"), "{out}");

    let (path, offset) = file_of(&folder, places[4].0);
    put(&path, offset + 30, b"damage");
    let before = fs::read(&path).unwrap();
    let mut out = Vec::new();
    let summary = verify(&folder.0, &mut out).unwrap();
    assert_eq!(summary.damages.len(), 1);
    assert_eq!((summary.damages[0].lsn, summary.damages[0].offset), (places[4].0, offset));
    assert!(String::from_utf8(out).unwrap().contains("THE LOG IS DAMAGED in 1 places"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn verify_calls_a_torn_end_torn_and_an_empty_directory_whole() {
    let folder = Folder::new();
    let mut out = Vec::new();
    assert!(verify(&folder.0, &mut out).unwrap().is_whole());
    let mut scribe = Scribe::new(&folder);
    scribe.batch(2);
    let (from, until) = scribe.batch(2);
    drop(scribe);
    let (path, offset) = file_of(&folder, from);
    put(&path, offset + 18, &[0xee; 3]);
    let summary = verify(&folder.0, &mut out).unwrap();
    assert!(summary.is_whole());
    assert_eq!((summary.end, summary.torn.map(|torn| torn.bytes)), (from, Some(until.0 - from.0)));
}

#[test]
fn an_export_has_every_publication_once_with_its_data_readable() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let mut bytes = Vec::new();
    let tags = Tags::encode([("lang", "nl"), ("q\"", "\n")]);
    let json = b"{\"a\":\n [1, \"two\"]}";
    let base = Publication { binary: false, ..publication("room:1", 1, json) };
    let all = [
        Publication { tags: Tags::new(&tags).unwrap(), client: *b"0123456789abcdef", ..base.clone() },
        Publication { offset: 2, sealed: true, data: &[0, 1, 2, 3], ..base.clone() },
        Publication { offset: 3, binary: true, data: b"\xff\xfe", ..base.clone() },
        Publication { offset: 4, data: b"not json", ..base.clone() },
        Publication { channel: "other", offset: 9, ..base.clone() },
    ];
    for publication in all {
        write_record(&mut bytes, &Record::Publication(publication)).unwrap();
    }
    scribe.write(bytes);
    drop(scribe);
    let lines = text(&folder.0, &Filter::default());
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["data"], serde_json::json!({"a": [1, "two"]}));
    assert_eq!(lines[0]["tags"], serde_json::json!({"lang": "nl", "q\"": "\n"}));
    assert_eq!(lines[0]["client"], "30313233-3435-3637-3839-616263646566");
    assert_eq!(lines[0]["epoch"], "epoc");
    assert_eq!((&lines[1]["data"], &lines[1]["sealed"]), (&"AAECAw==".into(), &true.into()));
    assert_eq!((&lines[2]["data"], &lines[2]["binary"]), (&"//4=".into(), &true.into()));
    assert_eq!(lines[3]["data"], "bm90IGpzb24=");
    assert_eq!(lines[4]["channel"], "other");
    let filter = Filter { prefix: "room:".to_owned(), since: 2 };
    assert_eq!(text(&folder.0, &filter).len(), 2);
}

#[test]
fn an_export_takes_from_checkpoints_what_was_released_and_leaves_out_what_was_cleared() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let mut bytes = Vec::new();
    let kept = |bytes: &mut Vec<u8>, offsets: std::ops::RangeInclusive<u64>| {
        let top = ChannelState { channel: "c", epoch: *b"epoc", top: *offsets.end(), time_ms: 0 };
        write_record(bytes, &Record::Channel(top)).unwrap();
        offsets.for_each(|offset| {
            write_record(bytes, &Record::Kept(publication("c", offset, b"kept"))).unwrap();
        });
    };
    kept(&mut bytes, 3..=6);
    published(&mut bytes, "c", 7);
    kept(&mut bytes, 4..=7);
    published(&mut bytes, "c", 8);
    let cleared = Cleared { channel: "c", epoch: *b"epoc", upto: 4 };
    write_record(&mut bytes, &Record::Cleared(cleared)).unwrap();
    scribe.write(bytes);
    drop(scribe);
    let offsets: Vec<_> =
        text(&folder.0, &Filter::default()).iter().map(|line| line["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [5, 6, 7, 8]);
}

#[test]
fn an_export_leaves_out_what_was_removed_one_by_one() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let mut bytes = Vec::new();
    // Of a checkpoint: the place of one that was removed long ago, and one that is removed later.
    let place = Publication { binary: false, ..publication("c", 1, b"") };
    write_record(&mut bytes, &Record::Kept(place)).unwrap();
    write_record(&mut bytes, &Record::Kept(publication("c", 2, b"2"))).unwrap();
    (3..=6).for_each(|offset| published(&mut bytes, "c", offset));
    for offset in [2, 4, 6] {
        let removed = Removed { channel: "c", epoch: *b"epoc", offset };
        write_record(&mut bytes, &Record::Removed(removed)).unwrap();
    }
    scribe.write(bytes);
    drop(scribe);
    let offsets: Vec<_> =
        text(&folder.0, &Filter::default()).iter().map(|line| line["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [3, 5]);
}

#[test]
fn an_export_of_a_damaged_log_says_so_after_what_it_could_read() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    scribe.batch(2);
    let (bad, _) = scribe.batch(2);
    scribe.batch(2);
    drop(scribe);
    let (path, offset) = file_of(&folder, bad);
    put(&path, offset + 20, b"damage");
    let mut out = Vec::new();
    let error = export(&folder.0, &Filter::default(), &mut out).unwrap_err();
    assert!(matches!(error, LogError::Damaged { lsn, .. } if lsn == bad));
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
}
