//! Messages of every size, through a client and a server machine joined in memory: byte-exact in several splits.

mod support;

use annulus_protocols::websocket::{Limits, MessageKind, Role, WebSocket, write_fragment, write_message};
use support::{Rng, Seen, feed};

fn echo(rng: &mut Rng, len: usize, piece_maxima: &[usize]) {
    let payload = rng.bytes(len);
    for piece_max in piece_maxima {
        let (mut server, mut client) = (WebSocket::new(Role::Server), WebSocket::new(Role::Client));
        let mut to_server = Vec::new();
        write_message(&mut to_server, MessageKind::Binary, &payload, Some(rng.mask()));
        let seen = feed(&mut server, &Limits::DEFAULT, rng.split(&to_server, *piece_max));
        let [Seen::Binary(received)] = &seen[..] else { panic!("server saw {} events", seen.len()) };
        assert!(*received == payload, "server received other bytes at length {len}, pieces up to {piece_max}");
        let mut to_client = Vec::new();
        write_message(&mut to_client, MessageKind::Binary, received, None);
        let seen = feed(&mut client, &Limits::DEFAULT, rng.split(&to_client, *piece_max));
        assert!(seen == [Seen::Binary(payload.clone())], "client received other bytes at length {len}");
        assert!(!server.is_partial() && !client.is_partial());
        assert_eq!((server.heap_bytes(), client.heap_bytes()), (0, 0));
    }
}

#[test]
fn small_sizes() {
    let mut rng = Rng(1);
    for len in 0..=300 {
        echo(&mut rng, len, &[1, 2, 5, 13, 64, 1 << 20]);
    }
}

#[test]
fn sizes_around_the_long_header() {
    let mut rng = Rng(2);
    for len in 65_530..=65_540 {
        echo(&mut rng, len, &[1, 100, 4096, 1 << 20]);
    }
}

#[test]
fn one_and_sixteen_mebibytes() {
    let mut rng = Rng(3);
    echo(&mut rng, 1 << 20, &[7, 4096, 2 << 20]);
    echo(&mut rng, 16 << 20, &[5000, 64 << 10, 32 << 20]);
}

#[test]
fn fragmented_texts_with_pings_between() {
    let mut rng = Rng(4);
    for len in [0, 1, 5, 126, 1000, 70_000] {
        let text: String = (0..len).map(|_| ['a', 'ß', '水', '🍣'][rng.below(4)]).collect();
        for piece_max in [1, 3, 50, 5000] {
            let mut wire = Vec::new();
            let mut pings = Vec::new();
            // At least thirty bytes on average, to stay within the fragment limits.
            let fragments = rng.split(text.as_bytes(), 60 + len / 10);
            for (index, fragment) in fragments.iter().enumerate() {
                let last = index + 1 == fragments.len();
                write_fragment(&mut wire, MessageKind::Text, index == 0, last, fragment, Some(rng.mask()));
                if !last {
                    annulus_protocols::websocket::write_ping(&mut wire, &[index as u8], Some(rng.mask()));
                    pings.push(Seen::Ping(vec![index as u8]));
                }
            }
            if fragments.is_empty() {
                write_fragment(&mut wire, MessageKind::Text, true, true, b"", Some(rng.mask()));
            }
            let seen = feed(&mut WebSocket::new(Role::Server), &Limits::DEFAULT, rng.split(&wire, piece_max));
            let (message, before) = seen.split_last().expect("one message");
            assert_eq!(before, pings);
            assert_eq!(*message, Seen::Text(text.clone()));
        }
    }
}
