//! A WebSocket server that sends each message back: text and binary up to 16 MiB, no compression.
//!
//! ```text
//! cargo run --release -p annulus --example ws_echo -- --listen 127.0.0.1:9001 --shards 1 --pin 0
//! ```

mod common;

use annulus_engine::{ConnId, Frame, Outlet, Sent};
use annulus_protocols::websocket::{Message, Payload, message_header};
use common::Behaviour;

/// From here on a message that is ours to keep is sent in place instead of being copied.
const IN_PLACE_BYTES_MIN: usize = 4096;

struct Echo;

impl Behaviour for Echo {
    fn message(&mut self, outlet: &Outlet, from: ConnId, message: Message<'_>) -> bool {
        let header = message_header(message.kind, message.payload.len());
        let sent = match message.payload {
            Payload::Owned(bytes) if bytes.len() >= IN_PLACE_BYTES_MIN => {
                match outlet.send_copy(from, &[header.as_bytes()]) {
                    Sent::Queued => outlet.send(from, &Frame::owned(bytes)),
                    refused => refused,
                }
            }
            payload => outlet.send_copy(from, &[header.as_bytes(), &payload]),
        };
        // A peer that sends but does not read gets no more.
        sent == Sent::Full
    }
}

fn main() {
    common::serve(|_shard| Echo);
}
