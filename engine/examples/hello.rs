//! Answers whatever ends in an empty line with the same few bytes: the engine and next to nothing on top of it, for
//! measuring the engine. It is no HTTP server: it reads nothing of a request and knows no limits.
//!
//! ```text
//!   cargo run --release -p annulus-engine --example hello -- 127.0.0.1:8000 0        an address, and a core
//!   annulus-bench http http://127.0.0.1:8000/
//! ```

use std::process::ExitCode;

use annulus_engine::trace::{Kind, Stage};
use annulus_engine::{Address, Close, Engine, Event, Group, GroupOptions, ListenOptions, Reason, Sent, Shard};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";
const END: &[u8] = b"\r\n\r\n";
static HELLO: Kind = Kind { name: "hello", about: "From a request to its answer.", away: "nowhere" };

/// How much of the end of a request has come.
type Seen = usize;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let address = words.next().unwrap_or_else(|| "127.0.0.1:8000".to_owned()).parse();
    let (Ok(address), Ok(core)) = (address, words.next().unwrap_or_else(|| "0".to_owned()).parse()) else {
        eprintln!("hello: expected an address and a core, as in 127.0.0.1:8000 0");
        return ExitCode::from(2);
    };
    let engine = Engine::builder().shards(1).cores(vec![core]);
    match engine.run(move |shard| serve(shard, Address::Ip(address))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(shard: Shard, address: Address) {
    let mut group = shard.group::<Seen>(GroupOptions::default());
    match shard.listen(&address, &ListenOptions::default()) {
        Ok(listener) => group.listen(listener),
        Err(error) => return eprintln!("hello: {}", annulus_engine::error::explain_listen(&address, &error)),
    }
    while shard.until_drained(group.ready()).await.is_some() {
        while let Some(event) = group.next_event() {
            turn(&shard, &mut group, event);
        }
    }
}

fn turn(shard: &Shard, group: &mut Group<Seen>, event: Event) {
    let outlet = group.outlet();
    match event {
        Event::Opened(id) => drop(group.attach(id, 0)),
        Event::Received(id, chunk) => {
            let mut trace = shard.take_trace();
            let Some(seen) = group.session(id) else { return };
            let mut answers = 0;
            for &byte in chunk.iter() {
                *seen = if byte == END[*seen] { *seen + 1 } else { usize::from(byte == END[0]) };
                if *seen == END.len() {
                    (*seen, answers) = (0, answers + 1);
                }
            }
            trace.mark(Stage::Parse);
            for _ in 0..answers {
                if outlet.send_copy(id, &[ANSWER]) != Sent::Queued {
                    outlet.close(id, Close::Now, Reason::Slow);
                }
            }
            trace.mark(Stage::Work);
            outlet.trace(id, trace, &HELLO);
        }
        Event::Ended(id) => outlet.close(id, Close::Graceful, Reason::Peer),
        Event::Closed(..) | Event::Drained(_) | Event::Tick(_) => {}
    }
}
