//! A room where everybody hears every line that anybody writes: masses of sockets as a [`Group`], without a task or a buffer
//! for each, on several shards that pass lines on to each other.
//!
//! ```text
//!   cargo run --release -p annulus-engine --example room -- 127.0.0.1:7008
//!   nc 127.0.0.1 7008          twice, and write
//!
//!   a line ─► its shard: one frame ─► all members here
//!             post, an Arc to each other shard ─► inbox ─► all members there
//! ```

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::{Close, Engine, Event, Frame, Group, GroupOptions, Listener, Outlet, Reason, Shard};

/// The longest line, in bytes. Who writes a longer one has to go.
pub const LINE_BYTES_MAX: usize = 4096;
/// How long members may take to receive what waits for them at the end.
const DRAIN_MAX: Duration = Duration::from_secs(5);
const INBOX: &str = "lines";

/// What has come of a line that has not ended.
type Begun = Vec<u8>;

#[allow(dead_code)] // Its tests have a main of their own.
fn main() -> ExitCode {
    common::serve_on(Engine::builder(), "127.0.0.1:7008", serve)
}

/// Serves until the engine drains.
pub async fn serve(shard: Shard, listener: Listener) {
    let mut group = shard.group::<Begun>(GroupOptions::default());
    group.listen(listener);
    let (outlet, mut inbox) = (group.outlet(), shard.inbox::<Arc<[u8]>>(INBOX));
    drop(shard.spawn(async move {
        loop {
            tell(&outlet, &Frame::shared(inbox.recv().await));
        }
    }));
    while shard.until_drained(group.ready()).await.is_some() {
        while let Some(event) = group.next_event() {
            turn(&shard, &mut group, event);
        }
    }
    leave(&shard, group).await;
}

fn turn(shard: &Shard, group: &mut Group<Begun>, event: Event) {
    let outlet = group.outlet();
    match event {
        Event::Opened(id) => drop(group.attach(id, Vec::new())),
        Event::Received(id, chunk) => {
            let Some(begun) = group.session(id) else { return };
            let mut rest = &chunk[..];
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let (line, behind) = rest.split_at(end + 1);
                say(shard, &outlet, &[begun, line]);
                begun.clear();
                rest = behind;
            }
            begun.extend_from_slice(rest);
            if begun.len() > LINE_BYTES_MAX {
                outlet.close(id, Close::Now, Reason::Local);
            }
        }
        Event::Ended(id) => outlet.close(id, Close::Graceful, Reason::Peer),
        Event::Closed(..) | Event::Drained(_) | Event::Tick(_) => {}
    }
}

/// Tells a line to everybody, here and on the other shards.
fn say(shard: &Shard, outlet: &Outlet, parts: &[&[u8]]) {
    let line: Arc<[u8]> = parts.concat().into();
    for other in (0..shard.count()).filter(|&other| other != shard.index()) {
        // A shard that lags so far behind misses the line; its members are too slow anyway.
        let _missed = shard.post(other, INBOX, line.clone());
    }
    tell(outlet, &Frame::shared(line));
}

/// Sends the same frame to every member of this shard.
fn tell(outlet: &Outlet, line: &Frame) {
    let (mut members, mut full) = (Vec::new(), Vec::new());
    outlet.all(&mut members);
    outlet.send_all(&members, line, &mut full);
    for slow in full {
        outlet.close(slow, Close::Now, Reason::Slow);
    }
}

/// Says farewell: what waits for members is sent first.
async fn leave(shard: &Shard, mut group: Group<Begun>) {
    group.stop_listening();
    let (outlet, mut members) = (group.outlet(), Vec::new());
    outlet.all(&mut members);
    members.iter().for_each(|&id| outlet.close(id, Close::Graceful, Reason::Shutdown));
    let emptied = async {
        while !group.is_empty() {
            group.ready().await;
            while group.next_event().is_some() {}
        }
    };
    // Who has not taken it by then is cut off.
    let _in_time = shard.timeout(DRAIN_MAX, emptied).await;
}
