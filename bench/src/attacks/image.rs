//! Attacks on the image service: slow and endless uploads, pictures that are more than they seem, and addresses.

mod answers;

use super::finding::{CPU_TABLE, POOL_MB, Service, Told};
use super::raw::{self, Line};
use super::siege::{Plan, Speech};
use super::smuggling;
use super::stage::Stage;
use super::tables::{Cut, storm, table, table_again};
use super::{Attack, anyhow, ended_by, siege};
use std::time::Duration;

/// What the service takes beside pixels: receive buffers of both shards of a small machine, code that was not used before, what its
/// allocator keeps; its workers' too.
const FLOOR_MB: f64 = 2.0 * POOL_MB + 8.0;
/// What looking at a picture may take before it is refused, and what the smallest ones take in a worker.
const PICTURES_MB: f64 = 96.0;
/// Uploads that are read, hashed and refused cost; so does the disk.
const CPU_FLOOD: f64 = 1.2;
/// Who does nearly nothing must cost nearly nothing, beside the others' requests.
const CPU_SLOW: f64 = 0.5;
/// Connections that are slow at a time.
const SLOW: usize = 200;
/// Unfinished resumable uploads (`uploads_max` of `[image.tus]`).
const TUS_MAX: u64 = 1000;

/// All of them.
pub fn attacks() -> Vec<Attack> {
    let attack = |name, promise, memory_mb, cpu, seconds_least, act| Attack {
        service: Service::Image,
        name,
        promise,
        memory_mb,
        cpu,
        seconds_least,
        act,
    };
    vec![
        attack(
            "slow heads",
            "10 s for a request's head: 408",
            FLOOR_MB,
            CPU_SLOW,
            13.0,
            siege(|_| slow("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: ", 0.5), ended_by("status 408")),
        ),
        attack(
            "slow bodies",
            "body_pause_seconds_max of a body: 408",
            FLOOR_MB,
            CPU_SLOW,
            5.0,
            siege(
                |_| slow("POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n", 0.4),
                ended_by("status 408"),
            ),
        ),
        attack(
            "tiny chunks",
            "16 KiB of chunk sizes beyond the data's own size, and what will never be an image is refused at its head",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| tiny_chunks(), ended_by("status 4")),
        ),
        attack(
            "slow readers",
            "an answer waits on the disk and not in memory: 256 KiB of it per connection",
            FLOOR_MB + 16.0,
            CPU_SLOW,
            0.0,
            siege(slow_readers, anyhow),
        ),
        attack(
            "pixel bombs",
            "pixels_max, side_max, frames_max, icc_bytes_max, pixels_per_byte_max: 413 before a pixel is decoded",
            PICTURES_MB,
            CPU_TABLE,
            0.0,
            table_again(2, answers::pixel_bombs),
        ),
        attack(
            "not an image",
            "what an image is, is seen from its first bytes: 415 or 422",
            PICTURES_MB,
            CPU_TABLE,
            0.0,
            table_again(2, answers::not_images),
        ),
        attack(
            "oversized everything",
            "bytes_max: 413; what an image is does not follow from its first 16 MiB: 422; a head of 16 KiB and 100 fields: 431; \
             a form of 64 KiB beside its file and 64 parts: 413",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::too_large),
        ),
        attack(
            "smuggling",
            "one request, one answer: what two parsers would read differently is refused (RFC 9112)",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(|stage| smuggling::table(stage, "/v1/presets")),
        ),
        attack(
            "path traversal",
            "names come from content, and what is no name is not found",
            PICTURES_MB,
            CPU_TABLE,
            0.0,
            table(answers::traversal),
        ),
        attack(
            "origins",
            "a page of another site, or under a name that is not this machine's, is 403 where no key is needed",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::origins),
        ),
        attack(
            "variants not signed",
            "a variant's address is signed, byte by byte: 403",
            PICTURES_MB,
            CPU_TABLE,
            0.0,
            table(answers::variants),
        ),
        attack(
            "unfinished uploads",
            "uploads_max of [image.tus]: 1,000 may be unfinished, then 503",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            Box::new(unfinished),
        ),
        attack(
            "reconnect storm",
            "everybody who was cut off is served again, and what was theirs is closed",
            FLOOR_MB + 16.0,
            CPU_FLOOD,
            0.0,
            storm(|stage, _| {
                let mut line = Line::open(stage.address)?;
                line.send(&raw::request("GET", "/health", "", b""))?;
                match line.reply()?.status {
                    200 => Ok(Box::new(line) as Box<dyn Cut>),
                    status => Err(format!("status {status}")),
                }
            }),
        ),
        attack(
            "SSRF of webhooks",
            "webhooks go to the public network unless allow_private says more, and follow no redirect",
            PICTURES_MB,
            CPU_TABLE,
            0.0,
            table(answers::webhooks),
        ),
    ]
}

/// Connections that begin a request and go on by a byte, each so often per second.
fn slow(beginning: &'static str, per_second: f64) -> Plan {
    Plan {
        connections: SLOW,
        rate: SLOW as f64 * per_second,
        speech: Speech::Http1,
        reads: true,
        begin: Box::new(move |_, out| out.extend_from_slice(beginning.as_bytes())),
        unit: Box::new(|_, out| out.push(b'a')),
    }
}

/// A picture that begins well, in chunks of one byte.
fn tiny_chunks() -> Plan {
    Plan {
        connections: 4,
        rate: 20_000.0,
        speech: Speech::Http1,
        reads: true,
        begin: Box::new(|_, out| {
            out.extend_from_slice(b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n");
            out.extend_from_slice(b"3\r\n\xff\xd8\xff\r\n");
        }),
        unit: Box::new(|_, out| out.extend_from_slice(b"1\r\nx\r\n")),
    }
}

/// Outputs that are asked for again and again, and never read.
fn slow_readers(stage: &Stage<'_>) -> Plan {
    let path = stage.output.clone().unwrap_or_default().0;
    Plan {
        connections: 64,
        rate: 2000.0,
        speech: Speech::Http1,
        reads: false,
        begin: Box::new(|_, _| {}),
        unit: Box::new(move |number, out| {
            if number < 50 {
                out.extend(raw::request("GET", &path, "", b""));
            }
        }),
    }
}

/// Uploads that are begun and left alone.
fn unfinished(stage: &Stage<'_>, during: Duration) -> Result<Told, String> {
    let begin = raw::request("POST", "/v1/tus", "Tus-Resumable: 1.0.0\r\nUpload-Length: 1000\r\n", b"");
    let (began, mut line, mut taken, mut refused, mut others) =
        (std::time::Instant::now(), None, 0u64, 0u64, Vec::new());
    while began.elapsed() < during || (refused == 0 && began.elapsed() < during * 4) {
        let line = match &mut line {
            Some(line) => line,
            None => line.insert(Line::open(stage.address)?),
        };
        line.send(&begin)?;
        match line.reply()?.status {
            201 => taken += 1,
            503 => refused += 1,
            status => others.push(format!("a creation: {status}")),
        }
    }
    others.dedup();
    if taken > TUS_MAX {
        others.push(format!("{taken} are unfinished"));
    }
    let answers = format!("{taken} x 201, {refused} x 503");
    Ok(Told { count: taken, sent: format!("{} creations", taken + refused), answers, wrong: others })
}
