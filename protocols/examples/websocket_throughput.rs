//! How fast the WebSocket machine is without any I/O: nanoseconds per message and bytes per second, receiving masked
//! frames as a server does. Absolute numbers mean little on a shared machine; compare two builds in one run.
//!
//! ```text
//! cargo run --release -p annulus-protocols --example websocket_throughput
//! ```

use annulus_protocols::Input;
use annulus_protocols::websocket::{Event, Limits, MessageKind, Role, WebSocket, write_message};
use std::hint::black_box;
use std::time::Instant;

/// Bytes received per "read", as an engine's receive buffer would hold.
const BUFFER_BYTES: usize = 64 << 10;

fn main() {
    println!("{:>10} {:>8} {:>12} {:>10} {:>10}", "payload", "kind", "split", "ns/message", "GB/s");
    for (kind, sample) in [(MessageKind::Binary, "x"), (MessageKind::Text, "x"), (MessageKind::Text, "水")] {
        for len in [20, 126, 512, 4096, 65_536, 1 << 20] {
            let payload: Vec<u8> = sample.bytes().cycle().take(len / sample.len() * sample.len()).collect();
            measure(kind, sample, &payload);
        }
    }
}

/// Feeds about 256 MiB of copies of one message and prints what it cost. The masked bytes are copied into the buffer
/// anew each time, and that copy is measured too and subtracted.
fn measure(kind: MessageKind, sample: &str, payload: &[u8]) {
    let mut frame = Vec::new();
    write_message(&mut frame, kind, payload, Some([0x11, 0x92, 0x73, 0xe4]));
    let per_buffer = (BUFFER_BYTES / frame.len()).max(1);
    let wire = frame.repeat(per_buffer);
    let rounds = ((64 << 20) / wire.len()).max(1);
    let mut buffer = wire.clone();

    let started = Instant::now();
    for _ in 0..rounds {
        black_box(&mut buffer).copy_from_slice(black_box(&wire));
    }
    let copying = started.elapsed();

    let mut machine = WebSocket::new(Role::Server);
    let mut received = 0;
    let started = Instant::now();
    for _ in 0..rounds {
        black_box(&mut buffer).copy_from_slice(black_box(&wire));
        // Larger messages arrive in several buffers, and are put together.
        for part in buffer.chunks_mut(BUFFER_BYTES) {
            received += drain(&mut machine, part);
        }
    }
    let total = started.elapsed().saturating_sub(copying);
    assert_eq!(received, rounds * per_buffer);
    let ns = total.as_nanos() as f64 / received as f64;
    let split = if wire.len() > BUFFER_BYTES { "assembled" } else { "whole" };
    let kind = format!("{kind:?}{}", if sample.is_ascii() { "" } else { "+" });
    println!("{:>10} {kind:>8} {split:>12} {ns:>10.1} {:>10.2}", payload.len(), payload.len() as f64 / ns);
}

fn drain(machine: &mut WebSocket, received: &mut [u8]) -> usize {
    let mut input = Input::new(received);
    let mut messages = 0;
    loop {
        match machine.next_event(&Limits::DEFAULT, 0, &mut input).expect("good frames") {
            Event::NeedMore => return messages,
            Event::Message(message) => {
                black_box(&message.payload[..]);
                messages += 1;
            }
            _ => {}
        }
    }
}
