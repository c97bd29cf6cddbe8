//! A helper process looks up the same names as this one would, and its memory does not become ours.
//!
//! It is its own helper, so it needs its own `main`.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::fs;
use std::process::ExitCode;

use annulus_perf::frame::Frame;
use annulus_perf::module::Modules;
use annulus_perf::symbols::{self, Helper, Names};
use annulus_perf::target;

/// The word that makes it the helper.
const HELPER: &str = "help";
/// Places that are looked up.
const PLACES: u64 = 500;
/// What names, modules and their tables may take, in KiB.
const GROWTH_KIB_MAX: u64 = 8 << 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((HELPER, rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return if symbols::help(rest) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    // Asked by the test runner what there is.
    if words.iter().any(|word| word == "--list") {
        println!("a_helper_says_the_same: test");
        return ExitCode::SUCCESS;
    }
    a_helper_says_the_same();
    println!("a_helper_says_the_same ... ok");
    ExitCode::SUCCESS
}

fn a_helper_says_the_same() {
    let own = std::process::id() as i32;
    let mut modules = Modules::default();
    let program = std::env::current_exe().unwrap();
    let maps = target::maps(own).unwrap();
    let mapped = maps.iter().find(|mapped| mapped.path == program).unwrap();
    let number = modules.number(own, mapped).unwrap();
    let module = modules.get(number);
    let text = module.tables.text.clone().unwrap();
    let step = (text.end - text.start) / PLACES;
    let first = module.offset(text.start).unwrap();
    let frames: Vec<Frame> = (0..PLACES).map(|at| Frame::module(number, first + at * step)).collect();

    let before = rss_kib();
    let mut asked = Names::default();
    asked.look_up(modules.all(), frames.iter().copied(), Some(&Helper::new([HELPER.into()])));
    let grown = rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");

    // A helper that fails is no reason to have no names.
    for helper in [None, Some(Helper::new(["--list".into(), "and more".into()]))] {
        let mut looked_up = Names::default();
        looked_up.look_up(modules.all(), frames.iter().copied(), helper.as_ref());
        for &frame in &frames {
            assert_eq!(asked.of(frame), looked_up.of(frame));
        }
    }
    let named = frames.iter().filter(|&&frame| asked.unnamed(frame).is_none()).count();
    assert!(named > frames.len() / 2, "{named}");
}

fn rss_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
