//! Attacks on the chat: its HTTP, its WebSocket, its commands, and who it believes.

mod answers;

use super::bombs;
use super::finding::{CPU_TABLE, POOL_MB, Service, Told};
use super::siege::{Plan, Speech};
use super::smuggling;
use super::socket::{self, CONTINUATION, FIN, Heard, PING, RSV1, Socket, TEXT};
use super::stage::{REQUEST_SECONDS, Stage, WEBSOCKET, joined, joining};
use super::tables::{Cut, Tried, storm, table, told};
use super::{Attack, anyhow, besiege, ended_by, siege};
use std::time::{Duration, Instant};

/// What a chat takes beside what its limits grant: receive buffers, code that was not used before, what its allocator keeps.
const FLOOR_MB: f64 = POOL_MB + 8.0;
/// Frames that are read, and commands that are refused, cost; but never the whole core.
const CPU_FLOOD: f64 = 0.9;
/// Who does nearly nothing must cost nearly nothing, beside the others' publications.
const CPU_SLOW: f64 = 0.4;
/// Connections that are slow at a time.
const SLOW: usize = 400;
/// Subscribers who read nothing.
const DEAF: usize = 20;
/// What may wait for each of them, in MB (`outbox_bytes_max`).
const OUTBOX_MB: f64 = 1.05;
/// Bytes of a publication for them.
const LOUD_BYTES: usize = 8 << 10;
/// Who comes and goes, and asks who is there.
const CROWD: usize = 200;
/// Sessions are looked at this often: when times are over, it is noticed as much later, in seconds.
const VISIT_SECONDS: f64 = 5.0;

/// All of them.
pub fn attacks() -> Vec<Attack> {
    let attack = |name, promise, memory_mb, cpu, seconds_least, act| Attack {
        service: Service::Chat,
        name,
        promise,
        memory_mb,
        cpu,
        seconds_least,
        act,
    };
    let overdue = REQUEST_SECONDS as f64 + VISIT_SECONDS + 1.0;
    vec![
        attack(
            "slow heads",
            "10 s for a request's head, then the connection ends",
            FLOOR_MB,
            CPU_SLOW,
            10.0 + VISIT_SECONDS + 1.0,
            siege(
                |_| slow("GET /connection/websocket HTTP/1.1\r\nHost: a\r\nX-Filler: "),
                |ledger| (ledger.ends() == 0).then(|| "nobody was sent away".to_owned()),
            ),
        ),
        attack(
            "slow bodies",
            "idle_seconds_max: a request that is not whole by then ends with its connection",
            FLOOR_MB,
            CPU_SLOW,
            overdue,
            siege(
                |_| slow("POST /emulation HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"),
                |ledger| (ledger.ends() == 0).then(|| "nobody was sent away".to_owned()),
            ),
        ),
        attack(
            "silent connections",
            "stale_close_delay: who does not connect by then is closed with 3502",
            FLOOR_MB,
            CPU_SLOW,
            overdue,
            siege(|_| silent(), ended_by("close 3502")),
        ),
        attack(
            "slow readers",
            "outbox_bytes_max: 1 MiB waits for a client, then it is sent away or set apart with its offset",
            DEAF as f64 * OUTBOX_MB + FLOOR_MB,
            CPU_FLOOD,
            0.0,
            Box::new(slow_readers),
        ),
        attack(
            "tiny frames",
            "commands_per_second: 1,000 of a connection, then error 111; others are served",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| commands(r#"{"id":7,"presence_stats":{"channel":"a"}}"#, 20_000.0), anyhow),
        ),
        attack(
            "pings without end",
            "what waits for a client is bounded, and others are served",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| frames_again(socket::frame(FIN | PING, b"12345678"), 20_000.0), anyhow),
        ),
        attack(
            "fragment flood",
            "1,024 fragments of a message may be as small as one likes, then 16 bytes on average: close 1008",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| fragments(), ended_by("close 1008")),
        ),
        attack(
            "compression bomb",
            "a message may inflate to message_bytes_max and, above 64 KiB, a hundredfold: close 1009",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| compressed(), ended_by("close 1009")),
        ),
        attack(
            "deep JSON",
            "a message that is no command is refused: close 3501",
            FLOOR_MB,
            CPU_FLOOD,
            0.0,
            siege(|_| deep(), ended_by("close 3501")),
        ),
        attack(
            "oversized everything",
            "message_bytes_max: close 1009; channel_bytes_max: 107; channel_limit: 106; heads of 16 KiB and 100 fields: 431",
            FLOOR_MB + 16.0,
            CPU_TABLE,
            0.0,
            table(answers::too_large),
        ),
        attack(
            "subscription churn",
            "commands_per_second: 1,000 of a connection, then error 111; what was left is forgotten",
            FLOOR_MB + 16.0,
            CPU_FLOOD,
            0.0,
            siege(|_| churn(), anyhow),
        ),
        attack(
            "presence flood",
            "presence_page: 1,000 clients of a reply; a reply that finds no room ends the connection",
            FLOOR_MB + 24.0,
            CPU_FLOOD,
            0.0,
            Box::new(presence),
        ),
        attack(
            "reconnect storm",
            "everybody who was cut off is back, and what was theirs is closed",
            FLOOR_MB + 16.0,
            1.2,
            0.0,
            storm(|stage, number| {
                let socket = joined(stage.address, &format!("storm{number}"), &["storm"])?;
                Ok(Box::new(socket) as Box<dyn Cut>)
            }),
        ),
        attack(
            "origins",
            "a page's Origin must match allowed_origins, else 403",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::origins),
        ),
        attack(
            "tokens",
            "a token that proves nothing is no user: close 3500, 3501 or error 109",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::tokens),
        ),
        attack(
            "token replay",
            "a subscription token is for its channel, client and user alone; a session's name cannot be made up",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::replays),
        ),
        attack(
            "API without a key",
            "the API answers nobody without its key: 401",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::without_a_key),
        ),
        attack(
            "smuggling",
            "one request, one answer: what two parsers would read differently is refused (RFC 9112)",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(|stage| smuggling::table(stage, "/emulation")),
        ),
        attack(
            "SSRF of events",
            "events go to the public network unless allow_private says more, and follow no redirect",
            FLOOR_MB,
            CPU_TABLE,
            0.0,
            table(answers::events),
        ),
    ]
}

/// Connections that begin a request and go on by a byte every two seconds.
fn slow(beginning: &'static str) -> Plan {
    Plan {
        connections: SLOW,
        rate: SLOW as f64 / 2.0,
        speech: Speech::Http1,
        reads: true,
        begin: Box::new(move |_, out| out.extend_from_slice(beginning.as_bytes())),
        unit: Box::new(|_, out| out.push(b'a')),
    }
}

/// WebSockets on which nobody connects.
fn silent() -> Plan {
    Plan {
        connections: SLOW,
        rate: 1.0,
        speech: Speech::WebSocket,
        reads: true,
        begin: Box::new(|_, out| out.extend(socket::handshake(WEBSOCKET, ""))),
        unit: Box::new(|_, _| {}),
    }
}

/// What a client begins with that then floods.
fn client_begins(number: u64, out: &mut Vec<u8>) {
    out.extend(socket::handshake(WEBSOCKET, ""));
    out.extend(socket::text(&joining(&format!("flood{number}"), &["a"])));
}

fn frames_again(unit: Vec<u8>, rate: f64) -> Plan {
    Plan {
        connections: 4,
        rate,
        speech: Speech::WebSocket,
        reads: true,
        begin: Box::new(client_begins),
        unit: Box::new(move |_, out| out.extend_from_slice(&unit)),
    }
}

fn commands(command: &str, rate: f64) -> Plan {
    frames_again(socket::text(command), rate)
}

/// A message that begins, and goes on without a byte and without an end.
fn fragments() -> Plan {
    Plan {
        connections: 4,
        rate: 20_000.0,
        speech: Speech::WebSocket,
        reads: true,
        begin: Box::new(|number, out| {
            client_begins(number, out);
            out.extend(socket::frame(TEXT, b"{"));
        }),
        unit: Box::new(|_, out| out.extend(socket::frame(CONTINUATION, b""))),
    }
}

/// Messages of 8 MB in 53 KB: such a frame may be sent, and what it inflates to may not.
fn compressed() -> Plan {
    let bomb = socket::frame(FIN | RSV1 | TEXT, &bombs::message(8 << 20));
    Plan {
        connections: 4,
        rate: 100.0,
        speech: Speech::WebSocket,
        reads: true,
        begin: Box::new(|number, out| {
            let fields = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";
            out.extend(socket::handshake(WEBSOCKET, fields));
            out.extend(socket::text(&joining(&format!("bomb{number}"), &[])));
        }),
        unit: Box::new(move |_, out| out.extend_from_slice(&bomb)),
    }
}

fn deep() -> Plan {
    let nested = format!(r#"{{"id":7,"publish":{{"channel":"a","data":{}"#, "[".repeat(60_000));
    commands(&nested, 200.0)
}

/// In and out of a hundred channels, with everybody told.
fn churn() -> Plan {
    Plan {
        connections: 8,
        rate: 16_000.0,
        speech: Speech::WebSocket,
        reads: true,
        begin: Box::new(client_begins),
        unit: Box::new(|number, out| {
            let (id, channel) = (number + 100, number / 2 % 100);
            let command = match number % 2 {
                0 => format!(r#"{{"id":{id},"subscribe":{{"channel":"churn-{channel}","join_leave":true}}}}"#),
                _ => format!(r#"{{"id":{id},"unsubscribe":{{"channel":"churn-{channel}"}}}}"#),
            };
            out.extend(socket::text(&command));
        }),
    }
}

/// Subscribers of a loud channel who read nothing.
fn slow_readers(stage: &Stage<'_>, during: Duration) -> Result<Told, String> {
    let deaf: Vec<Socket> =
        (0..DEAF).map(|number| joined(stage.address, &format!("deaf{number}"), &["loud"])).collect::<Result<_, _>>()?;
    let mut speaker = joined(stage.address, "speaker", &[])?;
    let data = "x".repeat(LOUD_BYTES);
    let (began, mut id, mut refused) = (Instant::now(), 100, 0);
    while began.elapsed() < during {
        speaker.send(&socket::text(&format!(r#"{{"id":{id},"publish":{{"channel":"loud","data":"{data}"}}}}"#)))?;
        match speaker.reply(id) {
            Heard::Line(line) if line.get("error").is_none() => {}
            Heard::Line(_) => refused += 1,
            other => return Err(format!("the speaker: {}", other.text())),
        }
        id += 1;
    }
    let (published, mut ends) = (id - 100, Vec::new());
    for mut socket in deaf {
        let end = loop {
            match socket.hear_within(Duration::from_millis(500)) {
                Heard::Line(line) if line["push"].get("unsubscribe").is_some() => break "unsubscribed".to_owned(),
                Heard::Line(_) => {}
                other => break other.text(),
            }
        };
        ends.push(Tried { what: "a deaf client".to_owned(), answer: end, holds: true });
    }
    let sent = format!("{published} publications of {LOUD_BYTES} bytes for {DEAF} who read nothing, {refused} refused");
    Ok(Told { count: published.into(), sent, ..told(&ends) })
}

/// A crowd in one channel, of whom all ask who is there.
fn presence(stage: &Stage<'_>, during: Duration) -> Result<Told, String> {
    let crowd: Vec<Socket> = (0..CROWD)
        .map(|number| joined(stage.address, &format!("crowd{number}"), &["crowd"]))
        .collect::<Result<_, _>>()?;
    let plan = Plan {
        connections: 8,
        rate: 8000.0,
        speech: Speech::WebSocket,
        reads: true,
        begin: Box::new(|number, out| {
            out.extend(socket::handshake(WEBSOCKET, ""));
            out.extend(socket::text(&joining(&format!("asking{number}"), &["crowd"])));
        }),
        unit: Box::new(|number, out| {
            out.extend(socket::text(&format!(r#"{{"id":{},"presence":{{"channel":"crowd"}}}}"#, number + 100)));
        }),
    };
    let told = besiege(stage, plan, during, &anyhow)?;
    drop(crowd);
    Ok(told)
}
