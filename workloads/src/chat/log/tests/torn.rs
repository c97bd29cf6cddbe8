//! Ends that a crash has torn are cut, reported, and never come back.

use super::*;

/// A log of some batches, and where its last one lies; `None` when that lies in two segments.
fn written(batches: usize, last: usize) -> Option<(Folder, Lsn, Lsn, u64)> {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    for _ in 0..batches {
        scribe.batch(2);
    }
    let before = scribe.offset;
    let (from, until) = scribe.batch(last);
    (from.0 / 4096 == until.0 / 4096).then_some((folder, from, until, before))
}

#[test]
fn a_batch_cut_at_any_byte_ends_the_log_there() {
    let (whole, from, until, before) = written(3, 4).unwrap();
    for cut in from.0..until.0 {
        let folder = whole.copy();
        let (path, offset) = file_of(&folder, Lsn(cut));
        put(&path, offset, &vec![0; (until.0 - cut) as usize]);
        let (opened, seen) = folder.open().unwrap();
        let offsets = Seen::offsets(&seen);
        assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
        assert!(offsets.len() as u64 >= before && opened.next.0 <= cut, "cut at {cut}");
        // From its head on a record shows that something was there. (Its last byte may be a zero anyway.)
        match cut - opened.next.0 {
            0..17 => assert_eq!(opened.torn, None, "cut at {cut}"),
            17 => {}
            _ => assert!(opened.torn.is_some(), "cut at {cut}"),
        }
        drop(opened);
        let (again, seen_again) = folder.open().unwrap();
        assert_eq!((again.torn, seen_again), (None, seen), "what was cut does not come back");
    }
}

#[test]
fn any_changed_byte_of_the_last_batch_ends_the_log_before_it() {
    let (whole, from, until, before) = written(2, 3).unwrap();
    for at in from.0..until.0 {
        let folder = whole.copy();
        let (path, offset) = file_of(&folder, Lsn(at));
        let byte = fs::read(&path).unwrap()[offset as usize];
        put(&path, offset, &[byte ^ 0x10]);
        let (opened, seen) = folder.open().unwrap();
        let offsets = Seen::offsets(&seen);
        assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
        assert!((before..before + 3).contains(&(offsets.len() as u64)), "byte {at}");
        assert!(opened.next.0 <= at);
    }
}

#[test]
fn whichever_sectors_of_the_last_batch_survive_what_was_synced_is_there() {
    let mut torn = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let Some((folder, from, until, before)) = written(random.between(0, 9), random.between(1, 12)) else {
            continue;
        };
        let (path, first) = file_of(&folder, from);
        let last = first + until.0 - from.0;
        let mut lost = 0;
        for sector in first / 512..=last / 512 {
            if random.hit(400) {
                let (begin, end) = ((sector * 512).max(first), ((sector + 1) * 512).min(last));
                put(&path, begin, &vec![0; (end - begin) as usize]);
                lost += 1;
            }
        }
        let (opened, seen) = folder.open().unwrap();
        let offsets = Seen::offsets(&seen);
        assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
        assert!(offsets.len() as u64 >= before, "seed {seed}");
        torn += opened.torn.is_some() as usize;
        assert!(lost > 0 || opened.torn.is_none());
        drop(opened);
        // What is written next is read next, wherever the pieces of the torn batch lie.
        let mut scribe = Scribe::new(&folder);
        scribe.batch(random.between(1, 3));
        let expected = scribe.offset;
        drop(scribe);
        let (_, seen) = folder.open().unwrap();
        assert_eq!(Seen::offsets(&seen), (1..=expected).collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(torn > 50, "{torn} of 300");
}

#[test]
fn a_segment_used_again_shows_nothing_of_its_earlier_life() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    for _ in 0..30 {
        scribe.batch(3);
    }
    let segments: Vec<Segment> = scribe.opened.segments.iter().copied().collect();
    let (id, current, offset) = (scribe.opened.id, scribe.current(), scribe.offset);
    drop(scribe);
    assert!(segments.len() > 2);
    // The first segment's bytes under the header of the next one, as the keeper makes it.
    let mut bytes = fs::read(segments[0].path(&folder.0)).unwrap();
    let segment = Segment { first: current.end(), bytes: 4096 };
    let header = crate::chat::log::segment::Header { id, segment, checkpoint: Lsn(0) };
    bytes[..64].copy_from_slice(&header.encode());
    fs::write(segment.path(&folder.0), &bytes).unwrap();
    let (opened, seen) = folder.open().unwrap();
    assert_eq!(Seen::offsets(&seen), (1..=offset).collect::<Vec<_>>());
    assert_eq!((opened.torn, opened.segments.back()), (None, Some(&current)));
    drop(opened);
    // And where the log has gone on into it.
    fs::write(segment.path(&folder.0), &bytes).unwrap();
    let mut scribe = Scribe::new(&folder);
    while scribe.current() != segment {
        scribe.batch(1);
    }
    let path = segment.path(&folder.0);
    let end = (scribe.opened.next.0 - segment.first.0) as usize;
    put(&path, end as u64, &bytes[end..]);
    let offset = scribe.offset;
    drop(scribe);
    let (opened, seen) = folder.open().unwrap();
    assert_eq!(Seen::offsets(&seen), (1..=offset).collect::<Vec<_>>());
    assert_eq!(opened.torn, None);
}

#[test]
fn a_sound_record_of_an_earlier_batch_is_no_part_of_the_log() {
    let folder = Folder::new();
    let mut scribe = Scribe::new(&folder);
    scribe.batch(1);
    scribe.batch(1);
    let (segment, next, batch) = (scribe.current(), scribe.opened.next, scribe.opened.batch);
    let identity = Identity::new(&scribe.opened.id, &segment);
    drop(scribe);
    let mut bytes = Vec::new();
    published(&mut bytes, "c", 3);
    let frame = |batch| {
        let mut frame = Vec::new();
        identity.put_record(&mut frame, batch, 1, &bytes[5..]);
        frame
    };
    let (path, offset) = file_of(&folder, next);
    put(&path, offset, &frame(batch - 2));
    let (opened, seen) = folder.open().unwrap();
    assert_eq!((Seen::offsets(&seen), opened.next), (vec![1, 2], next));
    drop(opened);
    put(&path, offset, &frame(batch));
    assert_eq!(Seen::offsets(&folder.open().unwrap().1), [1, 2, 3], "it was only its batch");
}
