//! Factors numbers, one a line: work that takes longer than a turn goes through the queue to the compute threads, answers come
//! back in the order of the questions, and what does not fit into the queue is refused at once.
//!
//! ```text
//!   cargo run --release -p annulus-engine --example factors -- 127.0.0.1:7009
//!   echo 1000000016000000063 | nc -q 3 127.0.0.1 7009        1000000016000000063 = 1000000007 1000000009
//!
//!   line ─► job ─► lock-free queue ─► compute thread ─► reply ─► its place in the answers
//! ```

mod common;

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use annulus_engine::compute::Job;
use annulus_engine::{Engine, Listener, Shard, Stream};

/// The longest line in bytes: the largest number has 20 digits.
pub const LINE_BYTES_MAX: usize = 64;
/// Questions of one connection that are at work at a time. Beyond, it is not read from.
pub const AT_WORK_MAX: usize = 16;

#[allow(dead_code)] // Its tests have a main of their own.
fn main() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    common::serve_on(Engine::builder().compute(threads), "127.0.0.1:7009", serve)
}

/// Serves until the engine drains.
pub async fn serve(shard: Shard, listener: Listener) {
    while let Some(stream) = shard.until_drained(listener.accept()).await {
        let own = shard.clone();
        drop(shard.spawn(async move { own.until_drained(answer(&own, stream)).await }));
    }
}

/// An answer that is here, or on its way.
enum Answer {
    Here(String),
    Coming(Job<String>),
}

async fn answer(shard: &Shard, mut stream: Stream) -> io::Result<()> {
    let (mut begun, mut answers) = (Vec::new(), VecDeque::new());
    while let Some(chunk) = stream.recv().await? {
        begun.extend_from_slice(&chunk);
        while let Some(end) = begun.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = begun.drain(..=end).collect();
            answers.push_back(ask(shard, &line));
            if answers.len() >= AT_WORK_MAX {
                send_first(&mut stream, &mut answers).await?;
            }
        }
        while !answers.is_empty() {
            send_first(&mut stream, &mut answers).await?;
        }
        if begun.len() > LINE_BYTES_MAX {
            return stream.send_copy(&[b"a number has at most 20 digits\n"]).await;
        }
    }
    Ok(())
}

fn ask(shard: &Shard, line: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(line);
    match text.trim().parse() {
        Ok(number) => match shard.compute(move || factored(number)) {
            Ok(job) => Answer::Coming(job),
            Err(busy) => Answer::Here(format!("{number}: {busy}; ask again later\n")),
        },
        Err(_) => Answer::Here(format!("{:?} is no number from 0 to {}\n", text.trim(), u64::MAX)),
    }
}

async fn send_first(stream: &mut Stream, answers: &mut VecDeque<Answer>) -> io::Result<()> {
    let text = match answers.pop_front() {
        Some(Answer::Here(text)) => text,
        Some(Answer::Coming(job)) => job.await.unwrap_or_else(|error| format!("failed: {error}\n")),
        None => return Ok(()),
    };
    stream.send_copy(&[text.as_bytes()]).await
}

/// `12 = 2 2 3`, by trial division: up to some seconds of work.
fn factored(number: u64) -> String {
    let (mut text, mut rest, mut divisor) = (format!("{number} ="), number, 2);
    while divisor <= rest / divisor {
        while rest.is_multiple_of(divisor) {
            write!(text, " {divisor}").expect("writing to memory does not fail");
            rest /= divisor;
        }
        divisor += if divisor == 2 { 1 } else { 2 };
    }
    if rest > 1 || number < 2 {
        write!(text, " {rest}").expect("writing to memory does not fail");
    }
    text + "\n"
}
