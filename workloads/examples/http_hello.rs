//! Says hello over HTTP/1.1: the engine's sockets and a protocol machine, and nothing else. Masses of connections as a
//! group; heads that take too long, idle connections and what is no HTTP come to a proper end.
//!
//! ```text
//!   cargo run --release -p annulus --example http_hello -- 127.0.0.1:8000
//!   curl -i http://127.0.0.1:8000/
//! ```

#[path = "../../engine/examples/common/mod.rs"]
mod common;

use std::process::ExitCode;
use std::time::Duration;

use annulus_engine::{Close, Engine, Event, Group, GroupOptions, Listener, Outlet, Reason, Sent, Shard};
use annulus_protocols::Input;
use annulus_protocols::http1::{
    BodyLength, Event as Said, Exchange, Limits, Server, write_continue, write_response_head,
};

const LIMITS: Limits = Limits::DEFAULT;
/// A connection is looked at once in this many ticks of a second.
const COHORTS: u32 = 4;
/// How long a connection may be silent.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What a connection is about.
struct Session {
    server: Server,
    /// The request under way: how its answer is framed, and whether there is something at its path.
    asked: Option<(Exchange, bool)>,
}

#[allow(dead_code)] // Its test has a main of its own.
fn main() -> ExitCode {
    common::serve_on(Engine::builder(), "127.0.0.1:8000", serve)
}

/// Serves until the engine drains.
pub async fn serve(shard: Shard, listener: Listener) {
    let options = GroupOptions { tick: Some(Duration::from_secs(1)), cohorts: COHORTS, ..GroupOptions::default() };
    let mut group = shard.group::<Session>(options);
    group.listen(listener);
    while shard.until_drained(group.ready()).await.is_some() {
        while let Some(event) = group.next_event() {
            turn(&shard, &mut group, event);
        }
    }
}

fn turn(shard: &Shard, group: &mut Group<Session>, event: Event) {
    let (outlet, now) = (group.outlet(), shard.now().as_millis() as u64);
    match event {
        Event::Opened(id) => drop(group.attach(id, Session { server: Server::new(), asked: None })),
        Event::Received(id, mut chunk) => {
            let Some(session) = group.session(id) else { return };
            let mut out = Vec::new();
            let stays = session.answer(&mut chunk, now, &mut out);
            if outlet.send_copy(id, &[&out]) != Sent::Queued {
                outlet.close(id, Close::Now, Reason::Slow);
            } else if !stays {
                outlet.close(id, Close::Graceful, Reason::Local);
            }
        }
        Event::Ended(id) => outlet.close(id, Close::Graceful, Reason::Peer),
        Event::Tick(cohort) => tend(group, &outlet, cohort, now),
        Event::Closed(..) | Event::Drained(_) => {}
    }
}

impl Session {
    /// Answers the requests among what was received. Whether the connection stays.
    fn answer(&mut self, received: &mut [u8], now: u64, out: &mut Vec<u8>) -> bool {
        let mut input = Input::new(received);
        loop {
            match self.server.next_event(&LIMITS, now, &mut input) {
                Ok(Said::NeedMore) => return true,
                Ok(Said::Head(head)) => {
                    let exchange = head.exchange();
                    if exchange.expects_continue() {
                        write_continue(out);
                    }
                    self.asked = Some((exchange, head.path() == "/"));
                }
                // Nobody asked for a body, and it is no reason to be rude.
                Ok(Said::Body(_) | Said::Trailers(_)) => {}
                Ok(Said::End) => {
                    let Some((exchange, is_here)) = self.asked.take() else { return false };
                    let (status, text) = if is_here { (200, "hello\n") } else { (404, "there is nothing but /\n") };
                    if write(out, &exchange, status, text) {
                        return false;
                    }
                }
                Err(fault) => {
                    write(out, &Exchange::REFUSED, fault.status(), &format!("{}\n", fault.reason()));
                    return false;
                }
            }
        }
    }
}

/// Writes a whole answer. Whether it is its connection's last.
fn write(out: &mut Vec<u8>, exchange: &Exchange, status: u16, text: &str) -> bool {
    let (fields, length) = ([("content-type", "text/plain")], BodyLength::Known(text.len() as u64));
    let mut body = write_response_head(out, exchange, status, &fields, length);
    body.write_data(out, text.as_bytes());
    body.write_end(out)
}

/// Ends the connections of a cohort whose head takes too long, or that have nothing to say.
fn tend(group: &mut Group<Session>, outlet: &Outlet, cohort: u32, now: u64) {
    let mut ids = Vec::new();
    outlet.cohort(cohort, &mut ids);
    for id in ids {
        let is_late = group.peek(id).is_some_and(|session| session.server.is_overdue(&LIMITS, now));
        if is_late {
            let mut out = Vec::new();
            write(&mut out, &Exchange::REFUSED, 408, "the request's head took too long\n");
            // It is closed either way.
            let _told = outlet.send_copy(id, &[&out]);
        }
        if is_late || outlet.silence(id) > IDLE_MAX {
            outlet.close(id, Close::Graceful, Reason::Local);
        }
    }
}
