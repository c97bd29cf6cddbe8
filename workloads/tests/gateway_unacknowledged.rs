//! Peers that never acknowledge our settings (RFC 9113 section 6.5.3) lose their connection, clients and upstreams.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_frames;
mod gateway_rig;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use gateway_frames::{DATA, GOAWAY, Peer, SETTINGS};
use gateway_rig::{Gateway, OURS, config};

const SETTINGS_TIMEOUT: u32 = 4;

#[test]
fn who_does_not_acknowledge_is_ended_on_both_sides() {
    // An upstream that greets, and says nothing more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = std::thread::spawn(move || {
        let mut peer = Peer::of(listener.accept().unwrap().0);
        peer.acknowledges = false;
        assert!(peer.send(SETTINGS, 0, 0, b""));
        let began = Instant::now();
        // What precedes the first frame.
        std::io::Read::read_exact(&mut peer.stream, &mut [0; 24]).unwrap();
        loop {
            let frame = peer.next(Duration::from_secs(20)).expect("a farewell comes before the end");
            if frame.kind == GOAWAY {
                return (frame.code(), began.elapsed());
            }
        }
    });
    let endpoint = format!(
        r#"{{"endpoint": "/v", "timeout": "20s", "backend": [{{"host": ["http://{address}"], "url_pattern": "/v", "extra_config": {{"annulus": {{"protocol": "h2c", "timeout": "20s"}}}}}}]}}"#
    );
    let gateway = Gateway::start(&config(&endpoint, &format!(r#", "use_h2c": true{OURS}"#)));
    let mut client = Peer::client(gateway.address, 65_535);
    client.acknowledges = false;
    let mut honest = Peer::client(gateway.address, 65_535);
    // It acknowledges what it reads.
    honest.wait_for(SETTINGS);
    assert!(honest.get(1, "/v"));
    let (code, waited) = upstream.join().unwrap();
    assert_eq!(code, SETTINGS_TIMEOUT, "an upstream");
    assert!((Duration::from_secs(9)..Duration::from_secs(16)).contains(&waited), "{waited:?}");
    let frame = honest.wait_for(DATA);
    let text = String::from_utf8(frame.payload).unwrap();
    assert!(text.contains("does not acknowledge our settings"), "{text}");
    assert_eq!(client.wait_for(GOAWAY).code(), SETTINGS_TIMEOUT, "a client");
    assert!(gateway.logged("does not acknowledge our settings"));
    // The one that did is still served.
    assert!(honest.get(3, "/__health"));
    assert!(!honest.wait_for(DATA).payload.is_empty());
    gateway.stop();
}
