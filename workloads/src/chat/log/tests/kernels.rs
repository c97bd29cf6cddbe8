//! The writer on real kernels' interfaces: three shards, one log, on this machine's disk.

use std::sync::Arc;
use std::sync::Mutex;

use annulus_engine::{DriverChoice, Engine, Shard};

use super::*;
use crate::chat::log::{LOG_INBOX, LogLetter, LogState, Reader, Told, Writer};

const SHARDS: usize = 3;
const EACH: u64 = 400;
const TOLD: &str = "told";

/// Runs on three shards with each interface that this machine grants.
fn on_each_driver(scenario: impl Fn(Folder, DriverChoice)) {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        scenario(Folder::on_disk(), driver);
    }
}

/// Starts the writer on shard 0, and `main` on all.
fn run<F: Future<Output = ()> + 'static>(
    options: &Options,
    driver: DriverChoice,
    main: impl Fn(Shard, Arc<LogState>) -> F + Send + Sync + Clone + 'static,
) {
    let (opened, _) = open(options).unwrap();
    let state = opened.state.clone();
    let opened = Mutex::new(Some(opened));
    let main = move |shard: Shard| {
        let handle = (shard.index() == 0).then(|| {
            let opened = opened.lock().unwrap().take().unwrap();
            let teller = shard.clone();
            Writer::start(&shard, opened, move |to, told| teller.post(to, TOLD, told).expect("few letters wait"))
        });
        let ran = main(shard.clone(), state.clone());
        async move {
            ran.await;
            let done = shard.inbox::<()>("done");
            shard.post(0, "done", ()).expect("few letters wait");
            // The bell of a letter is rung with the next turn, so there must be one.
            shard.sleep(std::time::Duration::from_millis(1)).await;
            if let Some(handle) = handle {
                let mut done = done;
                for _ in 0..SHARDS {
                    done.recv().await;
                }
                handle.finish().await;
            }
        }
    };
    match Engine::builder().shards(SHARDS).oversubscribed().driver(driver).run(main) {
        Ok(_) => {}
        Err(error) if driver == DriverChoice::Uring && error.to_string().starts_with("io_uring_setup failed") => {
            eprintln!("NOT RUN with io_uring: {error}");
        }
        Err(error) => panic!("{driver:?}: {error}"),
    }
}

#[test]
fn what_three_shards_were_told_is_durable_is_there() {
    on_each_driver(|folder, driver| {
        run(&folder.options(), driver, |shard, state| async move {
            let (index, channel) = (shard.index(), format!("shard-{}", shard.index()));
            let mut told = shard.inbox::<Told>(TOLD);
            let (mut handed, mut durable, mut end) = (0, 0, Lsn(0));
            while durable < EACH {
                // Up to seven are on their way.
                while handed < EACH && handed < durable + 7 {
                    handed += 1;
                    let mut bytes = Vec::new();
                    published(&mut bytes, &channel, handed);
                    state
                        .append(&shard, Append { shard: index, last: handed, sync: true, tells_written: false, bytes })
                        .unwrap();
                }
                match told.recv().await {
                    Told::Durable { last, end: to } => {
                        assert!(last > durable && last <= handed && to > end);
                        assert!(state.durable_lsn() >= to);
                        (durable, end) = (last, to);
                    }
                    // Answered by nobody: replay begins at the beginning then.
                    Told::Checkpoint { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        let (opened, seen) = folder.open().unwrap();
        for shard in 0..SHARDS {
            let channel = format!("shard-{shard}");
            let mut expected =
                (1..=EACH).map(|offset| Seen::Published(channel.clone(), offset, data(&channel, offset)));
            let found = seen.iter().filter(|seen| matches!(seen, Seen::Published(of, ..) if *of == channel));
            assert!(found.cloned().eq(&mut expected), "{driver:?} {channel}");
        }
        assert_eq!(opened.torn, None);
    });
}

#[test]
fn pages_are_told_when_written_and_synced_with_the_next_that_is() {
    on_each_driver(|folder, driver| {
        run(&folder.options(), driver, |shard, state| async move {
            if shard.index() != 1 {
                return;
            }
            let mut told = shard.inbox::<Told>(TOLD);
            let append = |last, sync| {
                let mut bytes = Vec::new();
                published(&mut bytes, "c", last);
                state.append(&shard, Append { shard: 1, last, sync, tells_written: !sync, bytes }).unwrap();
            };
            append(1, false);
            assert!(matches!(told.recv().await, Told::Written { last: 1, .. }));
            append(2, false);
            assert!(matches!(told.recv().await, Told::Written { last: 2, .. }));
            assert!(told.try_recv().is_none());
            append(3, true);
            assert!(matches!(told.recv().await, Told::Durable { last: 3, .. }));
            append(4, false);
            assert!(matches!(told.recv().await, Told::Written { last: 4, .. }));
        });
        assert_eq!(Seen::offsets(&folder.open().unwrap().1), [1, 2, 3, 4], "{driver:?}");
    });
}

#[test]
fn without_syncs_everything_is_told_when_it_is_written() {
    let folder = Folder::on_disk();
    let options = Options { sync: false, ..folder.options() };
    run(&options, DriverChoice::Auto, |shard, state| async move {
        if shard.index() != 2 {
            return;
        }
        let mut told = shard.inbox::<Told>(TOLD);
        for last in 1..=200 {
            let mut bytes = Vec::new();
            published(&mut bytes, "c", last);
            state.append(&shard, Append { shard: 2, last, sync: true, tells_written: false, bytes }).unwrap();
            while !matches!(told.recv().await, Told::Durable { last: durable, .. } if durable == last) {}
        }
    });
    let (opened, seen) = open(&options).unwrap();
    assert_eq!(Seen::offsets(&seen), (1..=200).collect::<Vec<_>>());
    assert!(opened.segments.len() > 2);
}

#[test]
fn a_checkpoint_releases_what_is_fed_and_a_reader_follows() {
    let folder = Folder::on_disk();
    // So much that no checkpoint is asked for but the one below.
    let (bytes_max, checkpoint_bytes) = (1 << 20, 1 << 20);
    let options = Options { has_feeder: true, bytes_max, checkpoint_bytes, ..folder.options() };
    let directory = folder.0.clone();
    run(&options, DriverChoice::Auto, move |shard, state| {
        let directory = directory.clone();
        async move {
            let index = shard.index();
            let mut told = shard.inbox::<Told>(TOLD);
            // Publications by shard 0, then one checkpoint of all.
            if index == 0 {
                for last in 1..=300 {
                    let mut bytes = Vec::new();
                    published(&mut bytes, "c", last);
                    state.append(&shard, Append { shard: 0, last, sync: true, tells_written: false, bytes }).unwrap();
                    while !matches!(told.recv().await, Told::Durable { last: durable, .. } if durable == last) {}
                }
                shard.post(0, LOG_INBOX, LogLetter::Checkpoint).unwrap();
            }
            let number = loop {
                if let Told::Checkpoint { number } = told.recv().await {
                    break number;
                }
            };
            let mut bytes = Vec::new();
            let end = Record::CheckpointEnd { number, shard: index as u32, shards: SHARDS as u32 };
            write_record(&mut bytes, &end).unwrap();
            state.append(&shard, Append { shard: index, last: 1000, sync: false, tells_written: true, bytes }).unwrap();
            // An end is synced though nobody asked for it: it releases what is older.
            while !matches!(told.recv().await, Told::Durable { last: 1000, .. }) {}
            if index == 0 {
                assert_eq!(state.oldest_lsn(), Lsn(0), "nothing is fed yet");
                let mut reader = Reader::open(&directory, Lsn(0)).unwrap();
                let upto = state.durable_lsn();
                let mut offset = 0;
                while let Some((_, record)) = reader.next(upto).unwrap() {
                    offset += matches!(record, Record::Publication(_)) as u64;
                }
                assert_eq!(offset, 300);
                shard.post(0, LOG_INBOX, LogLetter::Fed { lsn: reader.position() }).unwrap();
                while state.oldest_lsn() == Lsn(0) {
                    shard.sleep(std::time::Duration::from_millis(1)).await;
                }
                assert!(state.used_bytes() < 3 * 4096);
            }
        }
    });
    let (opened, seen) = open(&options).unwrap();
    assert!(opened.oldest > Lsn(0) && opened.from >= opened.oldest);
    assert!(Seen::offsets(&seen).is_empty(), "the checkpoint says nothing of them");
    assert_eq!(seen.len(), 1 + SHARDS);
    let files = fs::read_dir(&folder.0).unwrap().count();
    // The lock, up to four segments in use, three ready or kept.
    assert!(
        files <= 8 && opened.oldest > Lsn(8 * 4096),
        "{files} files: segments were released, or kept to be used again"
    );
}
