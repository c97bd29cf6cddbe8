//! The writer on the simulated kernel: short writes, failing syncs, full disks, power cuts, over and over.
//!
//! Each seed lives through several runs. After each the power goes, or the process is killed; then the log is opened
//! again, and the next run goes on with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::driver::Driver;
use annulus_engine::driver::sim::{Faults, World};
use annulus_engine::{Frame, LocalShard, OpenOptions, Shard};

use super::*;
use crate::chat::log::record::ChannelState;
use crate::chat::log::{LOG_INBOX, LogLetter, LogState, Reader, Told, Writer, WriterHandle};

const SHARDS: usize = 3;
/// Publications that a channel's history keeps.
const KEPT: u64 = 4;
const HOME: &str = "/log";

/// One channel per shard, as its owner sees it.
struct Channel {
    shard: usize,
    name: String,
    /// Handed over.
    top: u64,
    /// Told durable.
    durable: u64,
}

impl Channel {
    fn publish(&mut self, shard: &Shard, state: &LogState, count: u64, sync: bool) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.top += 1;
            published(&mut bytes, &self.name, self.top);
        }
        state.append(shard, Append { shard: self.shard, last: self.top, sync, tells_written: !sync, bytes }).unwrap();
    }

    /// Says its state, for a checkpoint.
    fn say(&self, shard: &Shard, state: &LogState, number: u64) {
        let mut bytes = Vec::new();
        let channel = ChannelState { channel: &self.name, epoch: *b"epoc", top: self.top, time_ms: 0 };
        write_record(&mut bytes, &Record::Channel(channel)).unwrap();
        for offset in self.top.saturating_sub(KEPT - 1).max(1)..=self.top {
            let data = data(&self.name, offset);
            write_record(&mut bytes, &Record::Kept(publication(&self.name, offset, &data))).unwrap();
        }
        let end = Record::CheckpointEnd { number, shard: self.shard as u32, shards: SHARDS as u32 };
        write_record(&mut bytes, &end).unwrap();
        state
            .append(shard, Append { shard: self.shard, last: self.top, sync: false, tells_written: true, bytes })
            .unwrap();
    }
}

/// What replay made of a channel.
#[derive(Default)]
struct Replayed {
    top: u64,
    history: BTreeMap<u64, Vec<u8>>,
}

fn replayed(seen: Vec<Seen>) -> BTreeMap<String, Replayed> {
    let mut channels: BTreeMap<String, Replayed> = BTreeMap::new();
    for seen in seen {
        let (name, top, data) = match seen {
            Seen::Published(name, offset, data) | Seen::Kept(name, offset, data) => (name, offset, Some(data)),
            Seen::Top(name, top) => (name, top, None),
            Seen::Other(_) => continue,
        };
        let channel = channels.entry(name).or_default();
        channel.top = channel.top.max(top);
        data.map(|data| channel.history.insert(top, data));
    }
    channels
}

#[derive(Default)]
struct Totals {
    durable: u64,
    torn: u64,
    failed: u64,
    checkpoints: u64,
    released: u64,
    cut: u64,
}

/// A world with a log in it, its shards, and its writer.
struct Site {
    world: World,
    shards: Vec<LocalShard>,
    state: std::sync::Arc<LogState>,
    told: Rc<RefCell<Vec<(usize, Told)>>>,
    handle: Option<WriterHandle>,
}

impl Site {
    fn new(seed: u64, folder: &Folder, mut opened: Opened, faults: Faults) -> Site {
        let world = World::new(seed, Faults::default());
        let drivers = (0..SHARDS).map(|_| Box::new(world.driver(16)) as Box<dyn Driver>).collect();
        let mut shards = LocalShard::mesh(drivers);
        let files: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        let shard = shards[0].shard();
        let copying = shard.clone().spawn(async move {
            shard.make_directory(HOME).await.unwrap();
            for path in files {
                let copy = Path::new(HOME).join(path.file_name().unwrap());
                let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
                let file = shard.open(copy, options).await.unwrap();
                file.write_at(Frame::owned(fs::read(path).unwrap()), 0).await.unwrap();
                file.sync_data().await.unwrap();
            }
            shard.sync_directory("/").await.unwrap();
            shard.sync_directory(HOME).await.unwrap();
        });
        while !copying.is_finished() {
            shards[0].turn(true).unwrap();
        }
        world.set_faults(faults);
        opened.options.directory = HOME.into();
        // Paths are the simulated disk's from here on.
        for spare in &mut opened.spares {
            *spare = Path::new(HOME).join(spare.file_name().unwrap());
        }
        let (state, told) = (opened.state.clone(), Rc::<RefCell<Vec<_>>>::default());
        let teller = told.clone();
        let handle =
            Writer::start(&shards[0].shard(), opened, move |shard, what| teller.borrow_mut().push((shard, what)));
        Site { world, shards, state, told, handle: Some(handle) }
    }

    fn turn(&mut self) -> Vec<(usize, Told)> {
        self.shards.iter_mut().for_each(|shard| shard.turn(true).unwrap());
        self.told.take()
    }

    /// The end of the process, or of the power; the files that are left.
    fn end(mut self, power: bool) -> Folder {
        drop(self.handle.take());
        self.shards.iter_mut().for_each(|shard| shard.close(Duration::from_secs(60)).unwrap());
        self.world.set_faults(Faults::default());
        if !power {
            self.world.power_cut();
        }
        let folder = Folder::new();
        let end = self.state.oldest_lsn().0 + self.state.used_bytes() + 3 * 4096;
        for first in (0..end).step_by(4096) {
            let name = Segment { first: Lsn(first), bytes: 4096 }.path(Path::new(""));
            if let Some(bytes) = self.world.file(&format!("{HOME}/{}", name.display())) {
                fs::write(folder.0.join(name), bytes).unwrap();
            }
        }
        drop(self.shards);
        self.world.finish();
        folder
    }
}

/// One life of the process, and what the next one finds.
fn live(seed: u64, random: &mut Random, options: &Options, folder: &Folder, totals: &mut Totals) -> Folder {
    let (opened, seen) = open(options).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let mut faults = Faults::random(random);
    faults.out_of_descriptors /= 50;
    let before = replayed(seen);
    let mut channels: Vec<Channel> = (0..SHARDS)
        .map(|shard| {
            let name = format!("of-{shard}");
            let top = before.get(&name).map_or(0, |channel| channel.top);
            Channel { shard, name, top, durable: top }
        })
        .collect();
    // Where the feeder goes on, and with which offsets.
    let mut fed = opened.oldest;
    let mut fed_offsets = None;
    let mut site = Site::new(seed, folder, opened, faults);
    for _ in 0..random.between(20, 700) {
        for channel in &mut channels {
            if random.hit(300) && !site.state.is_full() {
                let shard = site.shards[channel.shard].shard();
                channel.publish(&shard, &site.state, random.between(1, 3) as u64, random.hit(800));
            }
        }
        for (shard, told) in site.turn() {
            let channel = &mut channels[shard];
            match told {
                Told::Written { last, .. } => assert!(last <= channel.top),
                Told::Durable { last, end } => {
                    assert!(last <= channel.top && end <= site.state.durable_lsn());
                    totals.durable += last - channel.durable.min(last);
                    channel.durable = channel.durable.max(last);
                }
                Told::Checkpoint { number } => {
                    channel.say(&site.shards[shard].shard(), &site.state, number);
                    totals.checkpoints += 1;
                }
                Told::Failed(why) => {
                    assert_eq!(site.state.failure(), Some(why.as_str()));
                    totals.failed += 1;
                }
            }
        }
        if options.has_feeder && random.hit(30) {
            fed = site.state.durable_lsn();
            fed_offsets = Some(channels.iter().map(|channel| (channel.durable, channel.top)).collect());
            site.shards[0].shard().post(0, LOG_INBOX, LogLetter::Fed { lsn: fed }).unwrap();
        }
    }
    let power = random.hit(300);
    totals.cut += !power as u64;
    let left = site.end(power);
    check(seed, options, &left, &channels, (fed, fed_offsets), totals);
    left
}

fn check(
    seed: u64,
    options: &Options,
    folder: &Folder,
    channels: &[Channel],
    (fed, fed_offsets): (Lsn, Option<Vec<(u64, u64)>>),
    totals: &mut Totals,
) {
    // A copy, so that the next life begins with what the crash left.
    let copy = folder.copy();
    let (opened, seen) = open(&Options { directory: copy.0.clone(), ..options.clone() })
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    totals.torn += opened.torn.is_some() as u64;
    totals.released += (opened.oldest > Lsn(0)) as u64;
    let replayed = replayed(seen);
    for Channel { name, top, durable, .. } in channels {
        let nothing = Replayed::default();
        let found = replayed.get(name).unwrap_or(&nothing);
        assert!(found.top >= *durable, "seed {seed}: {name} lost {} of {durable}", found.top);
        assert!(found.top <= *top, "seed {seed}: {name} has {} of {top}", found.top);
        for offset in found.top.saturating_sub(KEPT - 1).max(1)..=found.top {
            let kept = found.history.get(&offset);
            assert_eq!(kept, Some(&data(name, offset)), "seed {seed}: {name} {offset}");
        }
        assert!(found.history.iter().all(|(offset, kept)| *kept == data(name, *offset)));
    }
    if !options.has_feeder {
        return;
    }
    // The feeder finds everything that it has not fed, in order and without a gap.
    let mut reader = Reader::open(&copy.0, fed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let mut next = vec![None; channels.len()];
    while let Some((_, record)) = reader.next(opened.next).unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
        let Record::Publication(Publication { channel, offset, .. }) = record else { continue };
        let at = channels.iter().position(|known| known.name == channel).unwrap();
        match (next[at], &fed_offsets) {
            (Some(next), _) => assert_eq!(offset, next, "seed {seed}"),
            // Of a hand-over that lies in two batches the first part was fed before it was told.
            (None, Some(fed)) => assert!(fed[at].0 < offset && offset <= fed[at].1 + 1, "seed {seed}"),
            (None, None) => {}
        }
        next[at] = Some(offset + 1);
    }
}

#[test]
fn whatever_happens_what_was_told_durable_is_there_and_nothing_else() {
    let mut totals = Totals::default();
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut folder = Folder::new();
        let has_feeder = random.hit(500);
        for run in 0..4 {
            let options = Options {
                has_feeder,
                bytes_max: 40 << 10,
                checkpoint_bytes: if random.hit(500) { 6 << 10 } else { 20 << 10 },
                batch_bytes_max: *random.pick(&[4096, 6000, 16384]).unwrap(),
                ..folder.options()
            };
            folder = live(seed * 8 + run, &mut random, &options, &folder, &mut totals);
        }
    }
    let Totals { durable, torn, failed, checkpoints, released, cut } = totals;
    eprintln!("{durable} durable, {torn} torn, {failed} failed, {checkpoints} asked, {released} released, {cut} cut");
    assert!(durable > 10_000 && torn > 20 && failed > 50 && checkpoints > 500 && released > 100 && cut > 500);
}

/// A run without chance but the seed's.
fn calm(folder: &Folder, options: &Options) -> Site {
    let (opened, _) = open(options).unwrap();
    Site::new(1, folder, opened, Faults::default())
}

fn append(site: &Site, last: u64) {
    let mut bytes = Vec::new();
    published(&mut bytes, "c", last);
    let append = Append { shard: 1, last, sync: true, tells_written: false, bytes };
    site.state.append(&site.shards[1].shard(), append).unwrap();
}

/// Says a shard's state when it is asked to.
fn answer(site: &Site, shard: usize, told: &Told, top: u64) {
    if let Told::Checkpoint { number } = told {
        let channel = Channel { shard, name: "c".to_owned(), top, durable: top };
        channel.say(&site.shards[shard].shard(), &site.state, *number);
    }
}

/// Publishes one after the other until the log is full; the last one's offset.
fn publish_until_full(site: &mut Site, from: u64) -> u64 {
    let mut last = from;
    let mut durable = from;
    while !site.state.is_full() {
        last += 1;
        append(site, last);
        while durable < last {
            for (shard, told) in site.turn() {
                durable = if let (1, Told::Durable { last, .. }) = (shard, &told) { *last } else { durable };
                answer(site, shard, &told, last);
            }
        }
        assert!(last < from + 10_000, "the log never fills");
    }
    last
}

#[test]
fn a_full_log_says_so_and_takes_more_once_it_was_fed() {
    let folder = Folder::new();
    let options = Options { has_feeder: true, bytes_max: 32 << 10, checkpoint_bytes: 1 << 30, ..folder.options() };
    let mut site = calm(&folder, &options);
    let first = publish_until_full(&mut site, 0);
    assert!(site.state.used_bytes() >= 32 << 10 && !site.state.is_starved());
    for _ in 0..500 {
        for (shard, told) in site.turn() {
            answer(&site, shard, &told, first);
        }
        assert!(site.state.is_full(), "only feeding helps");
    }
    let meters = site.handle.as_ref().unwrap().meters.clone();
    assert_eq!(meters.full.get(), 1);
    let lsn = site.state.durable_lsn();
    site.shards[0].shard().post(0, LOG_INBOX, LogLetter::Fed { lsn }).unwrap();
    let mut turns = 0;
    while site.state.is_full() {
        for (shard, told) in site.turn() {
            answer(&site, shard, &told, first);
        }
        turns += 1;
        assert!(turns < 10_000, "the log stays full");
    }
    assert_eq!(meters.full.get(), 0, "it is shown before anybody sends anything again");
    assert!(publish_until_full(&mut site, first) > first + 10);
    let left = site.end(false);
    let (opened, _) = open(&Options { directory: left.0.clone(), ..options }).unwrap();
    assert!(opened.oldest > Lsn(0));
}

#[test]
fn a_full_disk_is_waited_out() {
    let folder = Folder::new();
    let options = folder.options();
    let mut site = calm(&folder, &options);
    site.world.set_faults(Faults { disk_full: 1000, ..Faults::default() });
    while !site.state.is_starved() {
        site.turn();
    }
    assert!(site.state.is_full() && site.state.failure().is_none());
    let meters = site.handle.as_ref().unwrap().meters.clone();
    assert_eq!(meters.full.get(), 1, "it is shown, though nobody sends anything any more");
    site.world.set_faults(Faults::default());
    let mut turns = 0;
    while site.state.is_full() {
        site.turn();
        turns += 1;
        assert!(turns < 100_000, "the log stays starved");
    }
    assert_eq!(meters.full.get(), 0);
    for last in 1..=60 {
        append(&site, last);
        while !site
            .turn()
            .iter()
            .any(|(_, told)| matches!(told, Told::Durable { last: durable, .. } if *durable == last))
        {}
    }
    let left = site.end(true);
    assert_eq!(Seen::offsets(&left.open().unwrap().1), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_is_told_to_all_and_never_tried_again() {
    let folder = Folder::new();
    let mut site = calm(&folder, &folder.options());
    append(&site, 1);
    while !site.turn().iter().any(|(_, told)| matches!(told, Told::Durable { .. })) {}
    // The next segment is ready by now, so that this sync is the log's own.
    (0..500).for_each(|_| drop(site.turn()));
    site.world.set_faults(Faults { sync_fails: 1000, ..Faults::default() });
    append(&site, 2);
    let mut failed = Vec::new();
    while failed.len() < SHARDS {
        for (shard, told) in site.turn() {
            let Told::Failed(why) = told else { panic!("{told:?}") };
            assert!(why.contains("syncing") && why.contains("Fix:"), "{why}");
            failed.push(shard);
        }
    }
    assert_eq!(failed, [0, 1, 2]);
    site.world.set_faults(Faults::default());
    append(&site, 3);
    for _ in 0..500 {
        assert!(site.turn().is_empty(), "nothing is told any more");
    }
    let left = site.end(false);
    assert_eq!(Seen::offsets(&left.open().unwrap().1), [1]);
}

#[test]
fn damage_among_what_the_writer_has_written_is_refused() {
    let folder = Folder::new();
    let mut site = calm(&folder, &folder.options());
    let mut ends = vec![Lsn(64)];
    for last in 1..=6 {
        append(&site, last);
        while ends.len() as u64 <= last {
            let durable = |(_, told)| if let Told::Durable { end, .. } = told { Some(end) } else { None };
            ends.extend(site.turn().into_iter().filter_map(durable));
        }
    }
    let whole = site.end(true);
    for at in 0..6 {
        let folder = whole.copy();
        let (path, offset) = file_of(&folder, ends[at]);
        put(&path, offset + 20, b"damage");
        match folder.open() {
            // The last batch of all could have been torn by a crash.
            Ok((opened, seen)) => assert_eq!((at, opened.next, seen.len()), (5, ends[5], 5)),
            Err(error) => {
                assert!(matches!(error, LogError::Damaged { lsn, .. } if lsn == ends[at] && at < 5), "{error}")
            }
        }
    }
}

#[test]
fn what_are_no_records_stops_the_log_instead_of_spoiling_it() {
    let folder = Folder::new();
    let mut site = calm(&folder, &folder.options());
    append(&site, 1);
    let bytes = vec![9, 9, 9, 9, 9, 9];
    let wrong = Append { shard: 1, last: 2, sync: true, tells_written: false, bytes };
    site.state.append(&site.shards[1].shard(), wrong).unwrap();
    while site.state.failure().is_none() {
        site.turn();
    }
    assert!(site.state.failure().is_some_and(|why| why.contains("no records")));
    assert!(Seen::offsets(&site.end(true).open().unwrap().1).len() <= 1);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let hash = || {
        let folder = Folder::new();
        let mut site = calm(&folder, &folder.options());
        (1..20).for_each(|last| {
            append(&site, last);
            site.turn();
        });
        let hash = site.world.trace_hash();
        drop(site.end(true));
        hash
    };
    assert_eq!(hash(), hash());
}
