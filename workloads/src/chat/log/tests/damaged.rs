//! Damage in the middle is refused with its place; with consent it is left out, once and for all.

use super::*;

/// A log of several segments, and where each batch begins.
fn written() -> (Folder, Vec<Lsn>, u64) {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let begins = (0..16).map(|_| scribe.batch(2).0).collect();
    let offset = scribe.offset;
    assert!(scribe.opened.segments.len() >= 2);
    drop(scribe);
    (folder, begins, offset)
}

fn refused(folder: &Folder) -> LogError {
    match folder.open() {
        Err(error) => error,
        Ok((opened, seen)) => panic!("opened: next {}, {} records", opened.next, seen.len()),
    }
}

fn accept(folder: &Folder) -> (Opened, Vec<Seen>) {
    open(&Options { accept_loss: true, ..folder.options() }).unwrap()
}

#[test]
fn a_changed_byte_in_the_middle_is_refused_with_its_place_and_the_way_out() {
    let (whole, begins, _) = written();
    for begin in &begins[..13] {
        let folder = whole.copy();
        let (path, offset) = file_of(&folder, *begin);
        let byte = fs::read(&path).unwrap()[offset as usize + 25];
        put(&path, offset + 25, &[byte ^ 1]);
        let before = fs::read(&path).unwrap();
        let error = refused(&folder);
        let text = error.to_string();
        assert!(text.contains("annulus chat verify-log") && text.contains("accept_loss"), "{text}");
        let LogError::Damaged { lsn, path: named, offset: at, .. } = error else { panic!("{error}") };
        assert_eq!((named, at), (path.clone(), offset));
        assert_eq!(lsn, *begin);
        assert_eq!(fs::read(&path).unwrap(), before, "nothing was changed");
    }
}

#[test]
fn with_consent_only_the_damaged_records_are_gone_and_the_log_is_whole_again() {
    let (whole, begins, count) = written();
    for begin in &begins[..13] {
        let folder = whole.copy();
        let (path, offset) = file_of(&folder, *begin);
        put(&path, offset, &[0xff; 30]);
        let (opened, seen) = accept(&folder);
        let offsets = Seen::offsets(&seen);
        assert!(opened.losses.len() == 1 && opened.losses[0].damage.lsn == *begin, "{:?}", opened.losses);
        assert!((count - 2..count).contains(&(offsets.len() as u64)) && offsets.is_sorted());
        assert_eq!(offsets.last(), Some(&count));
        let next = opened.next;
        drop(opened);
        let (opened, again) = folder.open().unwrap();
        assert_eq!((again, opened.next), (seen, next));
        drop(opened);
        Scribe::new(&folder).batch(1);
        assert_eq!(Seen::offsets(&folder.open().unwrap().1).last(), Some(&(count + 1)));
    }
}

#[test]
fn damage_over_the_end_of_a_segment_loses_what_it_covers() {
    let (folder, _, count) = written();
    let (path, _) = file_of(&folder, Lsn(0));
    put(&path, 3500, &[0xaa; 596]);
    let (next, _) = file_of(&folder, Lsn(4096));
    put(&next, 64, &[0xaa; 200]);
    assert!(matches!(refused(&folder), LogError::Damaged { .. }));
    let (opened, seen) = accept(&folder);
    assert!(!opened.losses.is_empty());
    assert_eq!(Seen::offsets(&seen).last(), Some(&count));
    drop(opened);
    assert_eq!(folder.open().unwrap().1, seen);
}

#[test]
fn a_missing_segment_and_a_damaged_header_are_refused_or_mended() {
    let (whole, _, count) = written();
    let folder = whole.copy();
    fs::remove_file(file_of(&folder, Lsn(0)).0).unwrap();
    let text = refused(&folder).to_string();
    assert!(text.contains("no complete checkpoint follows"), "{text}");
    let (opened, seen) = accept(&folder);
    assert_eq!((opened.oldest, Seen::offsets(&seen).last()), (Lsn(4096), Some(&count)));

    let folder = whole.copy();
    put(&file_of(&folder, Lsn(4096)).0, 20, b"xx");
    let text = refused(&folder).to_string();
    assert!(text.contains("header"), "{text}");
    let (opened, seen) = accept(&folder);
    assert_eq!(Seen::offsets(&seen), (1..=count).collect::<Vec<_>>(), "a header is known without it");
    drop(opened);
    assert_eq!(folder.open().unwrap().1, seen);
}

#[test]
fn a_gap_between_segments_is_refused_or_bridged() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    while scribe.opened.segments.len() < 4 {
        scribe.batch(3);
    }
    scribe.batch(1);
    let count = scribe.offset;
    drop(scribe);
    fs::remove_file(file_of(&folder, Lsn(4096)).0).unwrap();
    let text = refused(&folder).to_string();
    assert!(text.contains("missing"), "{text}");
    let (opened, seen) = accept(&folder);
    let offsets = Seen::offsets(&seen);
    assert_eq!((offsets.first(), offsets.last()), (Some(&1), Some(&count)));
    assert!(offsets.is_sorted() && (offsets.len() as u64) < count && !opened.losses.is_empty());
    drop(opened);
    assert_eq!(folder.open().unwrap().1, seen);
}

#[test]
fn a_segment_of_another_log_is_strange_even_with_consent() {
    let (folder, ..) = written();
    let other = Folder::new();
    let mut scribe = Scribe::new(&other);
    while scribe.opened.segments.len() < 6 {
        scribe.batch(3);
    }
    drop(scribe);
    let (path, _) = file_of(&other, Lsn(5 * 4096));
    fs::copy(&path, file_of(&folder, Lsn(5 * 4096)).0).unwrap();
    assert!(matches!(refused(&folder), LogError::Strange(_)));
    let error = open(&Options { accept_loss: true, ..folder.options() });
    assert!(matches!(error, Err(LogError::Strange(_))));
}

#[test]
fn a_batch_of_several_writes_is_one_batch() {
    // Two writes that nobody wanted synced, one that was, and the next batch.
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    let places: Vec<(Lsn, Lsn)> = [false, false, true, true]
        .into_iter()
        .map(|sync| {
            let mut bytes = Vec::new();
            scribe.offset += 1;
            write_record(&mut bytes, &Record::Publication(publication("c", scribe.offset, b"some data"))).unwrap();
            scribe.write_level(bytes, sync)
        })
        .collect();
    drop(scribe);
    for (at, (from, until)) in places.iter().enumerate() {
        let copy = folder.copy();
        let (path, offset) = file_of(&copy, *from);
        put(&path, offset + 20, b"damage");
        if at < 3 {
            assert!(matches!(refused(&copy), LogError::Damaged { lsn, .. } if lsn == *from), "write {at}");
        }
        // Without the next batch all of it may be what a crash has left.
        let (path, offset) = file_of(&copy, places[3].0);
        put(&path, offset, &vec![0; (places[3].1.0 - places[3].0.0) as usize]);
        let (opened, seen) = copy.open().unwrap();
        assert_eq!((opened.next, seen.len()), (*from, at), "write {at} to {until}");
        drop(opened);
        assert_eq!(copy.open().unwrap().1.len(), at);
    }
}

#[test]
fn a_message_that_looks_like_a_record_is_none() {
    // Frames of a later batch inside of a message, as somebody would write them who knows everything but the log's id.
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    scribe.batch(1);
    let segment = scribe.current();
    let mut forged = Vec::new();
    Identity::new(&[7; 16], &segment).put_record(&mut forged, 50, 6, &[9]);
    Identity::new(&[0; 16], &segment).put_record(&mut forged, 50, 6, &[9]);
    let mut bytes = Vec::new();
    write_record(&mut bytes, &Record::Publication(publication("c", 2, &forged))).unwrap();
    let (at, until) = scribe.write(bytes);
    drop(scribe);
    let (path, offset) = file_of(&folder, at);
    put(&path, offset + 4, &[1, 2, 3]);
    let (opened, seen) = folder.open().unwrap();
    assert_eq!(Seen::offsets(&seen), [1]);
    assert_eq!(opened.torn.map(|torn| (torn.at, torn.bytes)), Some((at, until.0 - at.0)));
}
