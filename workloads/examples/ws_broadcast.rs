//! A WebSocket server that sends each message to everybody, its sender included. Text and binary up to 16 MiB; with
//! several shards, everybody on all of them.
//!
//! ```text
//! cargo run --release -p annulus --example ws_broadcast -- --listen 127.0.0.1:9001 --shards 1 --pin 0
//! ```
//!
//! A message is encoded once per shard. What several messages add to one receiver within a turn is one run of bytes,
//! and leaves in one send.

mod common;

use annulus_engine::{Close, ConnId, Frame, Outlet, Reason, Shard};
use annulus_protocols::websocket::{Message, message_header};
use common::Behaviour;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The name of the inbox for frames from other shards.
const INBOX: &str = "ws_broadcast";

#[derive(Default)]
struct Room {
    members: Vec<ConnId>,
    full: Vec<ConnId>,
}

impl Room {
    fn publish(&mut self, outlet: &Outlet, frame: &Frame) {
        outlet.send_all(&self.members, frame, &mut self.full);
        for slow in self.full.drain(..) {
            outlet.close(slow, Close::Now, Reason::Slow);
        }
    }
}

struct Broadcast {
    shard: Shard,
    room: Rc<RefCell<Room>>,
}

impl Broadcast {
    fn new(shard: &Shard) -> Broadcast {
        Broadcast { shard: shard.clone(), room: Rc::default() }
    }
}

impl Behaviour for Broadcast {
    fn message(&mut self, outlet: &Outlet, _from: ConnId, message: Message<'_>) -> bool {
        let header = message_header(message.kind, message.payload.len());
        let frame = self.shard.frame(&[header.as_bytes(), &message.payload]);
        self.room.borrow_mut().publish(outlet, &frame);
        if self.shard.count() > 1 {
            let letter: Arc<[u8]> = Arc::from(&frame[..]);
            for shard in (0..self.shard.count()).filter(|&shard| shard != self.shard.index()) {
                if self.shard.post(shard, INBOX, letter.clone()).is_err() {
                    eprintln!("shard {shard} lags too far behind: its members miss a message");
                }
            }
        }
        false
    }

    fn started(&mut self, outlet: &Outlet) {
        if self.shard.count() == 1 {
            return;
        }
        let (room, outlet, shard) = (self.room.clone(), outlet.clone(), self.shard.clone());
        drop(self.shard.spawn(async move {
            let mut inbox = shard.inbox::<Arc<[u8]>>(INBOX);
            loop {
                let letter = inbox.recv().await;
                let frame = shard.frame(&[&letter]);
                room.borrow_mut().publish(&outlet, &frame);
            }
        }));
    }

    fn opened(&mut self, id: ConnId) {
        self.room.borrow_mut().members.push(id);
    }

    fn closed(&mut self, id: ConnId) {
        self.room.borrow_mut().members.retain(|&member| member != id);
    }
}

fn main() {
    common::serve(Broadcast::new);
}
