//! What looking up names costs: `names PROGRAM [FRAMES]` looks up that many places spread over a program's code, first in
//! a helper process and then in its own, and says how long that took and what memory stays.
#![allow(clippy::unwrap_used)] // A measurement that fails says where.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

use annulus_perf::events::Mapped;
use annulus_perf::frame::Frame;
use annulus_perf::module::Modules;
use annulus_perf::symbols::{self, Helper, Names};

/// The word that makes it the helper.
const HELPER: &str = "help";

fn status_mib(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(HELPER) {
        std::process::exit(i32::from(!symbols::help(&std::env::args().skip(2).collect::<Vec<_>>())));
    }
    let mut words = std::env::args().skip(1);
    let path = PathBuf::from(words.next().expect("names PROGRAM [FRAMES]")).canonicalize().unwrap();
    let count: u64 = words.next().map_or(1000, |word| word.parse().unwrap());
    let inode = fs::metadata(&path).unwrap().ino();
    println!("RSS {:.1} MiB at first", status_mib("VmRSS"));
    let mut modules = Modules::default();
    let mapped = Mapped { start: 0, end: 1 << 40, offset: 0, inode, path };
    let number = modules.number(std::process::id() as i32, &mapped).unwrap();
    let module = modules.get(number);
    println!("RSS {:.1} MiB with unwind tables", status_mib("VmRSS"));
    let text = module.tables.text.clone().unwrap();
    let range = module.offset(text.start).unwrap()..module.offset(text.end - 1).unwrap();
    let step = (range.end - range.start) / count;
    let helper = Some(Helper::new([HELPER.into()]));
    for (round, helper) in [&helper, &helper, &None, &None].into_iter().enumerate() {
        let frames = (0..count).map(|at| Frame::module(number, range.start + at * step + round as u64));
        let (mut names, began) = (Names::default(), Instant::now());
        names.look_up(modules.all(), frames.clone(), helper.as_ref());
        let named = frames.filter(|&frame| names.unnamed(frame).is_none()).count();
        let took = began.elapsed().as_secs_f64();
        let by = if helper.is_some() { "a helper" } else { "itself" };
        println!("{named} of {count} named in {took:.2} s by {by}; RSS {:.1} MiB with names", status_mib("VmRSS"));
        drop(names);
        println!("RSS {:.1} MiB after, {:.1} MiB at most", status_mib("VmRSS"), status_mib("VmHWM"));
    }
}
