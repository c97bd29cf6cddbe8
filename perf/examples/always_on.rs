//! What the always-on sampler costs: its own thread's time, and what it takes from two busy threads.
//!
//! `always_on [SECONDS [FREQUENCY]]`: rounds of a second, with and without the sampler by turns. Work is counted per second of
//! the thread's own processor time, so that others on the machine do not count.
#![allow(clippy::unwrap_used)] // A measurement that fails says where.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use annulus_perf::sampler::{FREQUENCY, Options, Sampler};

/// Threads that are busy.
const THREADS: usize = 2;
/// How deep their stacks are.
const DEPTH: u32 = 40;

#[inline(never)]
fn work(depth: u32, done: &AtomicU64) -> u64 {
    if depth > 0 {
        return black_box(work(depth - 1, done)) + 1;
    }
    let mut sum = 0_u64;
    for at in 0..20_000_u64 {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(at));
    }
    done.fetch_add(1, Ordering::Relaxed);
    sum
}

/// Processor time of a thread of ours, in nanoseconds.
fn ran_ns(tid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn sampler_tid() -> Option<i32> {
    let mut tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let task =
        tasks.find(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default() == "annulus-perf\n")?;
    task.file_name().to_str()?.parse().ok()
}

fn rss_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<u64>().unwrap());
    let (rounds, frequency) = (words.next().unwrap_or(20), words.next().unwrap_or(FREQUENCY));
    let done: Arc<[AtomicU64]> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let end = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|at| {
            let (done, end, sender) = (done.clone(), end.clone(), sender.clone());
            std::thread::spawn(move || {
                sender.send((at, rustix::thread::gettid().as_raw_nonzero().get())).unwrap();
                while !end.load(Ordering::Relaxed) {
                    black_box(work(DEPTH, &done[at]));
                }
            })
        })
        .collect();
    let mut tids: Vec<(usize, i32)> = receiver.iter().take(THREADS).collect();
    tids.sort_unstable();
    let labels: Vec<(i32, String)> = tids.iter().map(|(at, tid)| (*tid, format!("busy {at}"))).collect();
    // Work per processor second, without and with; the sampler's own time.
    let (mut rates, mut own_ns, mut ran_sampled_ns, mut lost) = ([Vec::new(), Vec::new()], 0, 0, 0);
    let before_kib = rss_kib();
    for round in 0..rounds {
        let is_on = round % 2 == 1;
        let options = Options { threads: labels.clone(), frequency, ..Options::default() };
        let sampler = is_on.then(|| Sampler::start(options).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        let tid = sampler_tid();
        let own_before = tid.map_or(0, ran_ns);
        let before: Vec<(u64, u64)> =
            tids.iter().map(|(at, tid)| (done[*at].load(Ordering::Relaxed), ran_ns(*tid))).collect();
        std::thread::sleep(Duration::from_secs(1));
        for ((at, tid), before) in tids.iter().zip(before) {
            let (work, ran) = (done[*at].load(Ordering::Relaxed) - before.0, ran_ns(*tid) - before.1);
            rates[usize::from(is_on)].push(work as f64 / ran as f64 * 1e9);
            ran_sampled_ns += if is_on { ran } else { 0 };
        }
        if let Some(sampler) = sampler {
            own_ns += tid.map_or(0, ran_ns) - own_before;
            lost += sampler.figures().lost;
            if round + 2 >= rounds {
                println!("samples {:?}", sampler.figures());
                println!("RSS {before_kib} KiB before, {} KiB sampling", rss_kib());
                let folded = sampler.folded(Duration::from_secs(60));
                println!("RSS {} KiB after names of {} samples", rss_kib(), folded.samples());
                print!("{}", folded.collapsed().lines().next().unwrap_or_default().get(..200).unwrap_or_default());
                println!("...");
            }
        }
    }
    end.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (without, with) = (middle(&mut rates[0]), middle(&mut rates[1]));
    println!("frequency                          {frequency} Hz, {THREADS} threads, {DEPTH} frames deep");
    let sampled_s = (rounds / 2).max(1) as f64;
    println!("sampled threads ran                {:.2} cores", ran_sampled_ns as f64 / sampled_s / 1e9);
    println!("sampling thread, share of a core   {:.3} %", own_ns as f64 / sampled_s / 1e7);
    println!(
        "  as if they had run all the time  {:.3} %",
        own_ns as f64 * THREADS as f64 * 100.0 / ran_sampled_ns as f64
    );
    println!("sampled threads, slowdown          {:.3} %", (without / with - 1.0) * 100.0);
    println!("lost records                       {lost}");
}
