//! Any bytes as a message of commands: no panic, one command a line, nothing after an error; and whatever a client may
//! publish becomes a push of one line whose payload means the same, so that nobody can slip a second reply into a
//! subscriber's message.
#![no_main]

use annulus_protocols::centrifuge::{
    ClientInfo, Commands, Method, Publication, SubscribeResult, write_publication, write_subscribe,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let mut commands = Commands::of(data);
    let (mut count, mut failed) = (0, false);
    while let Some(command) = commands.next() {
        assert!(!failed, "nothing follows an error");
        count += 1;
        match command {
            Err(_) => failed = true,
            Ok(command) => {
                assert!(command.id != 0 || matches!(command.method, Method::Pong | Method::Send) || has_send(data));
                check(&command.method);
            }
        }
    }
    assert!(commands.rest().is_empty());
    let lines = data.strip_suffix(b"\n").unwrap_or(data).split(|byte| *byte == b'\n').count();
    assert!(count == lines || failed && count <= lines);
});

/// A command without an id may name an earlier method beside `send`.
fn has_send(data: &[u8]) -> bool {
    // The name may be written with escapes.
    data.windows(4).any(|window| window == b"send") || data.contains(&b'\\')
}

fn check(method: &Method<'_>) {
    match method {
        Method::Publish { channel, data: Some(data) } => check_publication(channel, data),
        Method::Subscribe(subscribe) => {
            let publications = Vec::new();
            let result = SubscribeResult { epoch: &subscribe.since.epoch, publications, ..SubscribeResult::default() };
            let mut out = Vec::new();
            write_subscribe(&mut out, 1, &result);
            assert!(parse_line(&out).is_some());
        }
        Method::Connect(connect) => {
            assert!(
                connect.data.is_none_or(|data| serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok())
            );
        }
        _ => {}
    }
}

fn check_publication(channel: &str, data: &[u8]) {
    let info = ClientInfo { user: channel, client: "c" };
    let mut out = Vec::new();
    write_publication(&mut out, channel, &Publication { data, offset: 7, info: Some(info) });
    let Some(push) = parse_line(&out) else { return };
    assert_eq!(push["push"]["channel"], channel);
    assert_eq!(push["push"]["pub"]["info"]["user"], channel);
    assert_eq!(push["push"]["pub"]["offset"], 7);
    assert_eq!(serde_json::from_slice::<Value>(data).ok().as_ref(), Some(&push["push"]["pub"]["data"]));
}

/// One line of JSON; `None` where the reference cannot store a number or nests less deeply.
fn parse_line(text: &[u8]) -> Option<Value> {
    assert!(!text.contains(&b'\n') && !text.contains(&b'\r'));
    match serde_json::from_slice(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let why = error.to_string();
            assert!(why.contains("number out of range") || why.contains("recursion limit"), "{why}");
            None
        }
    }
}
