//! Attacks on the gateway: those of its own case by frames, slowness, and everything that is a question of the answer.

mod answers;

use super::finding::{CPU_TABLE, POOL_MB, Service, Told};
use super::frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW, PREFACE, SETTINGS, frame};
use super::raw::{self, Line};
use super::siege::{Ledger, Plan, Speech};
use super::smuggling;
use super::stage::{REQUEST_SECONDS, Stage};
use super::tables::{Cut, asked, oversized, storm, table, table_again};
use super::{Act, Attack, anyhow, ended_by, siege};
use crate::gateway::attack::client::Attack as Flood;
use crate::gateway::attack::hostile::Conduct;
use std::time::Duration;

/// A gateway's own floor: its receive buffers, code that was not used before, and what its allocator keeps.
const FLOOR_MB: f64 = POOL_MB + 12.0;
/// What it was granted for answers (`memory_bytes_max`), and a third of it for everything else, in MB.
const ANSWERS_MB: f64 = 64.0 + FLOOR_MB;
/// Requests and frames that are read cost; nothing that is refused may cost half a core.
const CPU_FLOOD: f64 = 0.9;
/// Who does nearly nothing must cost nearly nothing, beside the others' requests.
const CPU_SLOW: f64 = 0.5;
/// Bytes of a request's body (`8 MiB: 413`).
const BODY_BYTES_MAX: usize = 8 << 20;
/// Connections that are slow at a time.
const SLOW: usize = 100;
/// Connections that each hold nearly a whole body.
const HOARDERS: usize = 24;
/// Connections that each hold nearly a whole head.
const HEADS: usize = 64;
/// Requests that a client has under way with windows that never open.
const STALLED: u64 = 100;

/// All of them.
pub fn attacks() -> Vec<Attack> {
    let attack = |name, promise, memory_mb, cpu, seconds_least, act| Attack {
        service: Service::Gateway,
        name,
        promise,
        memory_mb,
        cpu,
        seconds_least,
        act,
    };
    let mut all: Vec<Attack> = Flood::ALL
        .into_iter()
        .map(|flood| {
            let (promise, memory_mb, seconds_least) = bounds(flood);
            let cpu = if matches!(flood, Flood::SlowHeads | Flood::SlowReads) { CPU_SLOW } else { CPU_FLOOD };
            attack(flood.name(), promise, memory_mb, cpu, seconds_least, flooding(flood))
        })
        .collect();
    all.extend(Conduct::ATTACKS.into_iter().map(|conduct| {
        let act: Act = Box::new(move |stage, during| from_behind(stage, conduct, during));
        attack(
            service_name(conduct),
            "a service's abuse ends its own connection, or its own answer",
            ANSWERS_MB,
            CPU_FLOOD,
            0.0,
            act,
        )
    }));
    all.extend([
        attack(
            "slow bodies",
            "read_timeout: a request that is not whole by then is answered 408",
            FLOOR_MB,
            CPU_SLOW,
            REQUEST_SECONDS as f64 + 3.0,
            siege(|_| slow_bodies(), ended_by("status 408")),
        ),
        attack(
            "slow bodies over HTTP/2",
            "read_timeout: a stream whose request is not whole by then is answered 408",
            FLOOR_MB,
            CPU_SLOW,
            REQUEST_SECONDS as f64 + 3.0,
            siege(
                |_| slow_streams(),
                |ledger: &Ledger| {
                    let some = ledger.answered + ledger.resets + ledger.ends() > 0;
                    (!some).then(|| "no stream was answered, reset or ended".to_owned())
                },
            ),
        ),
        attack(
            "hoarded bodies",
            "memory_bytes_max: bodies on their way count in the budget, and beyond it requests are refused",
            ANSWERS_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| hoarded_bodies(), anyhow),
        ),
        attack(
            "hoarded heads",
            "a head of 1,000,000 bytes for each connection, for 10 s",
            HEADS as f64 * 1.1 + FLOOR_MB + 8.0,
            CPU_FLOOD,
            3.0,
            siege(|_| hoarded_heads(), anyhow),
        ),
        attack(
            "slow readers over HTTP/1.1",
            "memory_bytes_max: answers that wait count in the budget",
            ANSWERS_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| slow_readers(), anyhow),
        ),
        attack(
            "window stalls",
            "4 MiB of answers wait for one HTTP/2 client, then its further requests wait",
            ANSWERS_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| stalled_windows(), anyhow),
        ),
        attack(
            "smuggling",
            "one request, one answer: what two parsers would read differently is refused (RFC 9112)",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(|stage| smuggling::table(stage, "/spied")),
        ),
        attack(
            "path traversal",
            "what is put into a backend's path from a client can add no segment and no parameter",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::traversal),
        ),
        attack(
            "SSRF",
            "redirects of backends are not followed, and a target's or a field's host says nothing of whom is asked",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::forgery),
        ),
        attack(
            "tokens",
            "auth/validator: a token of another algorithm or key is 401",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::tokens),
        ),
        attack(
            "origins",
            "security/cors: origins are compared whole",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::origins),
        ),
        attack(
            "bombs of backends",
            "max_response_bytes (16 MiB), 128 levels of JSON, no entities, no coding that was not asked for",
            ANSWERS_MB,
            CPU_TABLE,
            0.0,
            table_again(2, answers::bombs),
        ),
        attack(
            "oversized everything",
            "request head 1,000,000 bytes, 100 fields; body 8 MiB: 413",
            FLOOR_MB + 16.0,
            CPU_TABLE,
            0.0,
            table(|stage| oversized(stage, "/post/1", BODY_BYTES_MAX, b"{")),
        ),
        attack(
            "reconnect storm",
            "everybody who was cut off is served again, and what was theirs is closed",
            // 500 connections with their buffers and sessions.
            FLOOR_MB + 16.0,
            1.2,
            0.0,
            storm(|stage, _| {
                let mut line = Line::open(stage.address)?;
                line.send(&raw::request("GET", "/spied", "", b""))?;
                match line.reply()?.status {
                    // Too much at once is a refusal, and no breach.
                    200 | 503 => Ok(Box::new(line) as Box<dyn Cut>),
                    status => Err(format!("status {status}")),
                }
            }),
        ),
    ]);
    all
}

/// What bounds a flood, MB by which memory may grow, and how long until it is due.
fn bounds(flood: Flood) -> (&'static str, f64, f64) {
    let idle = "1,000 frames without effect in 10 s beyond those of use, then ENHANCE_YOUR_CALM";
    match flood {
        Flood::Pings | Flood::Settings | Flood::Priorities | Flood::EmptyData => (idle, FLOOR_MB, 0.0),
        Flood::WindowUpdates | Flood::TinyData => ("10,000 tiny frames in 10 s, then ENHANCE_YOUR_CALM", FLOOR_MB, 2.5),
        Flood::Continuations => ("8 CONTINUATION frames or 32 KiB of a block, then ENHANCE_YOUR_CALM", FLOOR_MB, 0.0),
        Flood::Bomb => ("16 KiB and 100 fields of a message, then the stream is reset", FLOOR_MB, 0.0),
        Flood::RapidReset | Flood::MadeYouReset => ("200 resets in 10 s, then ENHANCE_YOUR_CALM", FLOOR_MB, 0.0),
        Flood::EndlessHead => ("a head of 1,000,000 bytes and 100 fields, then 431", FLOOR_MB, 0.0),
        Flood::TinyChunks => ("16 KiB of chunk sizes beyond the data's own size, then 400", FLOOR_MB, 2.5),
        Flood::SlowHeads => ("10 s for a request's head, then 408", FLOOR_MB, 13.0),
        Flood::SlowReads => ("memory_bytes_max: answers that wait count in the budget", ANSWERS_MB, 0.0),
    }
}

fn flooding(flood: Flood) -> Act {
    let plan = move |_: &Stage<'_>| flood.plan("/fanout/1");
    match flood {
        Flood::SlowReads => siege(plan, anyhow),
        // Its streams are reset one by one, which are resets at last.
        Flood::Bomb => siege(plan, |ledger: &Ledger| {
            (ledger.ends() + ledger.resets == 0).then(|| "neither a stream nor a connection was reset".to_owned())
        }),
        Flood::EndlessHead => siege(plan, ended_by("status 431")),
        Flood::TinyChunks => siege(plan, ended_by("status 4")),
        Flood::SlowHeads => siege(plan, ended_by("status 408")),
        _ => siege(plan, ended_by("GOAWAY ENHANCE_YOUR_CALM")),
    }
}

fn slow_bodies() -> Plan {
    Plan {
        connections: SLOW,
        rate: SLOW as f64 * 2.0,
        speech: Speech::Http1,
        reads: true,
        begin: Box::new(|_, out| {
            out.extend_from_slice(b"POST /post/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        }),
        unit: Box::new(|_, out| out.push(b'a')),
    }
}

/// A hundred streams of one connection whose bodies do not end; so slow that no count of tiny frames minds.
fn slow_streams() -> Plan {
    Plan {
        connections: 2,
        rate: 100.0,
        speech: Speech::Http2,
        reads: true,
        begin: Box::new(|_, out| {
            out.extend_from_slice(PREFACE);
            frame(out, SETTINGS, 0, 0, b"");
            // The preface has to be acknowledged, or that would be what ends it.
            frame(out, SETTINGS, frames::ACK, 0, b"");
            for stream in (1..60).step_by(2) {
                frame(out, HEADERS, END_HEADERS, stream, &frames::request("POST", "/post/1"));
            }
        }),
        unit: Box::new(|number, out| frame(out, DATA, 0, (number % 30) as u32 * 2 + 1, b"a")),
    }
}

fn hoarded_bodies() -> Plan {
    const PIECE: usize = 64 << 10;
    Plan {
        connections: HOARDERS,
        rate: 3000.0,
        speech: Speech::Http1,
        reads: true,
        begin: Box::new(|_, out| {
            let head = format!("POST /post/1 HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n");
            out.extend_from_slice(head.as_bytes());
        }),
        // All but the last piece.
        unit: Box::new(|number, out| {
            if (number as usize + 1) * PIECE < BODY_BYTES_MAX {
                out.resize(out.len() + PIECE, b' ');
            }
        }),
    }
}

fn hoarded_heads() -> Plan {
    const PIECE: usize = 16 << 10;
    Plan {
        connections: HEADS,
        rate: 2000.0,
        speech: Speech::Http1,
        reads: true,
        begin: Box::new(|_, out| out.extend_from_slice(b"GET /fanout/1 HTTP/1.1\r\nHost: a\r\nX-Filler: ")),
        unit: Box::new(|number, out| {
            if (number as usize) < 900_000 / PIECE {
                out.resize(out.len() + PIECE, b'a');
            }
        }),
    }
}

/// Large answers, asked for again and again, of which nothing is read.
fn slow_readers() -> Plan {
    Plan {
        connections: 32,
        rate: 500.0,
        speech: Speech::Http1,
        reads: false,
        begin: Box::new(|_, _| {}),
        unit: Box::new(|number, out| {
            if number < STALLED {
                out.extend(raw::request("GET", "/large", "", b""));
            }
        }),
    }
}

fn stalled_windows() -> Plan {
    Plan {
        connections: 4,
        rate: 500.0,
        speech: Speech::Http2,
        reads: true,
        begin: Box::new(|_, out| {
            out.extend_from_slice(PREFACE);
            frame(out, SETTINGS, 0, 0, &frames::setting(INITIAL_WINDOW, 0));
        }),
        unit: Box::new(|number, out| {
            if number < STALLED {
                let stream = number as u32 * 2 + 1;
                frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &frames::request("GET", "/large"));
            }
        }),
    }
}

fn service_name(conduct: Conduct) -> &'static str {
    match conduct {
        Conduct::Honest => "service's honesty",
        Conduct::Interim => "service's endless 1xx",
        Conduct::Pings => "service's PING flood",
        Conduct::Settings => "service's SETTINGS flood",
        Conduct::Continuations => "service's CONTINUATION",
        Conduct::LargeHead => "service's oversized head",
        Conduct::Resets => "service's resets",
        Conduct::Overflow => "service's window overflow",
        Conduct::TinyData => "service's tiny DATA",
        Conduct::Closes => "service's closed connections",
    }
}

/// A backend attacks while its endpoint is asked for.
fn from_behind(stage: &Stage<'_>, conduct: Conduct, during: Duration) -> Result<Told, String> {
    let hostile = &stage.yard.hostile;
    hostile.behave(conduct);
    let asking = table_again(1, |stage| {
        // Whatever is said of it, it is said in time.
        let tried = asked(
            stage,
            "hostile",
            &raw::request("GET", "/hostile", "Connection: close\r\n", b""),
            &[200, 500, 502, 503, 504],
        );
        std::thread::sleep(Duration::from_millis(20));
        tried.map(|tried| vec![tried])
    });
    let told = asking(stage, during);
    let ledger = hostile.behave(Conduct::Honest);
    let told = told?;
    Ok(Told {
        // As long as nothing is asked of it, a backend attacks nobody.
        count: ledger.units.min(told.count),
        sent: format!(
            "{} requests; the service: {} units on {} connections",
            told.sent, ledger.units, ledger.connections
        ),
        answers: format!("{}; to the service: {}", told.answers, ledger.answers()),
        wrong: told.wrong,
    })
}
