//! `kill -9` at random moments: a child uploads and works, and is killed; nothing that it answered is lost, nothing is
//! there twice or in part.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::stand_in::{Rig, expected};
use super::*;
use crate::image::job::{JobId, State, Tenant, random};
use crate::image::queue::trial::Home;
use crate::image::queue::{Enqueued, QueueOptions};

/// As many attempts as there are deaths: none of them is a job's fault here.
const OPTIONS: QueueOptions =
    QueueOptions { attempts_max: 100_000, backoff: Duration::from_millis(1), ..QueueOptions::DEFAULT };

fn rig(home: &std::path::Path) -> Rig {
    Rig::new(home, 2, Duration::from_millis(3), OPTIONS)
}

/// Bytes that follow from the number, long enough to be torn.
fn content(number: u64) -> Vec<u8> {
    (0..20_000 + number % 977).flat_map(|at| (at.wrapping_mul(number + 1) as u16).to_le_bytes()).collect()
}

fn below(most: u64) -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % most
}

/// How often; `make crash` asks for more.
fn rounds() -> u64 {
    std::env::var("ANNULUS_CRASHES").ok().map_or(25, |count| count.parse().unwrap())
}

#[test]
fn nothing_answered_is_lost_and_nothing_is_done_twice() {
    let home = Home::new("crash");
    let mut answered: HashMap<JobId, u64> = HashMap::new();
    let mut next = 0;
    for _ in 0..rounds() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::dispatch::crash::works_until_it_is_killed", "--ignored", "--nocapture"])
            .env("ANNULUS_HOME", home.path())
            .env("ANNULUS_FIRST", next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, first) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || -> Vec<(JobId, u64)> {
            let answers = lines.map_while(Result::ok).filter_map(|line| {
                let (number, id) = line.strip_prefix("answered ")?.split_once(' ')?;
                // Nobody listens after the first.
                let _heard = tell.send(());
                Some((id.parse().ok()?, number.parse().ok()?))
            });
            answers.collect()
        });
        // Not before it works, however slowly that begins here.
        first.recv_timeout(Duration::from_secs(60)).unwrap();
        std::thread::sleep(Duration::from_millis(below(180)));
        child.kill().unwrap();
        child.wait().unwrap();
        for (id, number) in reader.join().unwrap() {
            next = next.max(number + 1);
            answered.insert(id, number);
        }
        // Numbers that were stored and not answered may come again, as clients that heard nothing do.
    }
    assert!(answered.len() as u64 >= rounds(), "the child was killed before it did anything: {}", answered.len());
    finish(&home, &answered);
}

/// Ends what is left, in peace, and looks at everything.
fn finish(home: &Home, answered: &HashMap<JobId, u64>) {
    let rig = rig(home.path());
    let dispatcher = Dispatcher::start(&rig.desk, rig.lanes.clone(), DispatchOptions::DEFAULT).unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while rig.desk.queue.depth().waiting() + rig.desk.queue.depth().leased > 0 {
        assert!(Instant::now() < until, "{:?}", rig.desk.queue.depth());
        std::thread::sleep(Duration::from_millis(10));
    }
    dispatcher.stop();
    for (id, number) in answered {
        let document = rig.desk.queue.job(&Tenant::named("a"), *id).wait().unwrap().expect("an answered job is there");
        assert_eq!((document.state, document.outputs.len()), (State::Done, 2), "{document:?}");
        for output in &document.outputs {
            let bytes = rig.desk.objects.get(&output.key, 0..u64::MAX).unwrap();
            assert_eq!(bytes.len() as u64, output.bytes);
            assert!(bytes == expected(&output.name, &content(*number)), "a torn output of {number}");
        }
    }
    // Every output that is there belongs to a work that is done: none was made under two names, none half.
    let (mut outputs, mut manifests) = (Vec::new(), 0);
    let sort = &mut |key: crate::image::store::Key, _| {
        match key.suffix {
            Suffix::Jpeg => outputs.push(key),
            Suffix::Manifest => manifests += 1,
            _ => {}
        }
        Ok(())
    };
    rig.desk.objects.list(sort).unwrap();
    assert_eq!(outputs.len(), 2 * manifests);
    assert!(rig.desk.queue.wanted(outputs.clone()).wait().unwrap().iter().all(|wanted| *wanted));
    let queue = rig.desk.queue.clone();
    let wanted = &mut |keys: &[_]| queue.wanted(keys.to_vec()).wait().map_err(|error| error.to_string());
    let swept = rig.desk.objects.sweep(Duration::ZERO, wanted).unwrap();
    // What a death leaves: a temporary file for each thread that wrote one, originals without an order, nothing else.
    assert!(swept.temporaries + swept.orphans <= rounds() * 8, "{swept:?}");
    let mut after = 0;
    let count = &mut |key: crate::image::store::Key, _| {
        after += usize::from(key.suffix == Suffix::Jpeg);
        Ok(())
    };
    rig.desk.objects.list(count).unwrap();
    assert_eq!(after, outputs.len());
    assert_eq!(std::fs::read_dir(home.path().join("store/temporary")).unwrap().count(), 0);
}

#[test]
#[ignore = "a child of nothing_answered_is_lost_and_nothing_is_done_twice"]
fn works_until_it_is_killed() {
    let home = std::path::PathBuf::from(std::env::var_os("ANNULUS_HOME").unwrap());
    let first: u64 = std::env::var("ANNULUS_FIRST").unwrap().parse().unwrap();
    let rig = rig(&home);
    let _dispatcher = Dispatcher::start(&rig.desk, rig.lanes.clone(), DispatchOptions::DEFAULT).unwrap();
    let begun = Instant::now();
    for number in first.. {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody killed it");
        let Enqueued::Accepted(document) = rig.order("a", &content(number)) else { panic!("not accepted") };
        let mut out = std::io::stdout().lock();
        writeln!(out, "answered {number} {}", document.id).unwrap();
        out.flush().unwrap();
        if number % 4 == 3 {
            rig.ended(&document, "a");
        }
    }
}
