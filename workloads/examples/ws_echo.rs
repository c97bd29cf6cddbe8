//! A WebSocket server that sends each message back: text and binary up to 16 MiB, compressed with `--deflate` and a client
//! that offers it.
//!
//! ```text
//! cargo run --release -p annulus --example ws_echo -- --listen 127.0.0.1:9001 --shards 1 --pin 0 --deflate
//! ```

mod common;

use annulus_engine::{ConnId, Frame, Outlet, Sent};
use annulus_protocols::websocket::deflate::{Agreement, CompressOptions, Compressor};
use annulus_protocols::websocket::{Message, Payload, message_header};
use common::Behaviour;
use std::collections::HashMap;

/// From here on a message that is ours to keep is sent in place instead of being copied.
const IN_PLACE_BYTES_MIN: usize = 4096;
/// Memory for compressed frames beyond this is given back after each.
const FRAME_BYTES_KEPT: usize = 64 << 10;

#[derive(Default)]
struct Echo {
    /// One for each size of window that was agreed on, at most seven.
    compressors: HashMap<u8, Compressor>,
    frame: Vec<u8>,
}

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

    fn message_of_deflater(
        &mut self,
        outlet: &Outlet,
        from: ConnId,
        message: Message<'_>,
        agreement: Agreement,
    ) -> bool {
        let window_bits = agreement.window_bits();
        let options = CompressOptions { window_bits, bytes_min: 0, ..CompressOptions::DEFAULT };
        let compressor = self.compressors.entry(window_bits).or_insert_with(|| Compressor::new(options));
        self.frame.clear();
        compressor.write_message(&mut self.frame, message.kind, &message.payload, None);
        let sent = outlet.send_copy(from, &[&self.frame]);
        if self.frame.capacity() > FRAME_BYTES_KEPT {
            self.frame = Vec::new();
        }
        sent == Sent::Full
    }
}

fn main() {
    common::serve(|_shard| Echo::default());
}
