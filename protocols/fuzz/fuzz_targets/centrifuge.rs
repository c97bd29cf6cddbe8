//! Any bytes as a message of commands, in both codecs: no panic, nothing after an error, the same when read on from
//! anywhere; and every command that was read is the same when it is written again, in either codec. Whatever a client may
//! publish becomes one push that means the same in both codecs, so that nobody can slip a second reply into a
//! subscriber's message.
#![no_main]

#[path = "../../tests/centrifuge_peer/mod.rs"]
mod peer;

use annulus_protocols::centrifuge::{
    ClientInfo, Codec, Command, Commands, Connect, Method, Payload, Publication, SubscribeResult, delta, patch,
    write_publication, write_rpc, write_subscribe,
};
use annulus_protocols::json::validate;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    for codec in Codec::ALL {
        read(codec, data);
    }
    differ(data);
});

/// Bytes that a delta may make.
const TARGET_BYTES_MAX: usize = 1 << 20;

/// One half told as its difference from the other; and as if it were such a difference.
fn differ(data: &[u8]) {
    let (source, target) = data.split_at(data.len() / 2);
    if let Some(delta) = delta(source, target) {
        assert!(delta.len() < target.len());
        assert_eq!(patch(source, &delta, target.len()).as_deref(), Some(target));
    }
    assert!(patch(source, target, TARGET_BYTES_MAX).is_none_or(|made| made.len() <= TARGET_BYTES_MAX));
}

fn read(codec: Codec, message: &[u8]) {
    let whole: Vec<_> = Commands::of(codec, message).collect();
    assert!(!whole.is_empty());
    let mut commands = Commands::of(codec, message);
    for (at, command) in whole.iter().enumerate() {
        assert_eq!(commands.next().as_ref(), Some(command));
        assert_eq!(Commands::of(codec, commands.from_last()).next().as_ref(), Some(command));
        match command {
            Err(_) => assert!(at + 1 == whole.len() && commands.rest().is_empty(), "nothing follows an error"),
            Ok(command) => {
                assert_eq!(commands.rest().is_empty(), at + 1 == whole.len());
                check(codec, command);
            }
        }
    }
}

fn check(codec: Codec, command: &Command<'_>) {
    let data = data_of(&command.method);
    // What makes no sense is not kept as it came.
    let can_be_written = !matches!(&command.method, Method::Subscribe(wish) if matches!(wish.filter, Some(Err(_))));
    for other in Codec::ALL.into_iter().filter(|_| can_be_written) {
        if other == codec || other == Codec::Protobuf || data.is_none_or(is_a_json_field) {
            let message = peer::write_command(other, command);
            let mut again = Commands::of(other, &message);
            assert_eq!(again.next(), Some(Ok(command.clone())));
            assert_eq!(again.next(), None);
        }
    }
    let text = match &command.method {
        Method::Subscribe(subscribe) => &subscribe.channel,
        Method::Publish { channel, .. } => channel,
        Method::Connect(Connect { token, .. }) => token,
        Method::Rpc { method, .. } => method,
        _ => return,
    };
    check_replies(text, data.map_or(Payload::default(), Payload::of));
}

fn data_of<'a>(method: &Method<'a>) -> Option<&'a [u8]> {
    match method {
        Method::Connect(connect) => connect.data,
        Method::Subscribe(subscribe) => subscribe.data,
        Method::Publish { data, .. } | Method::Send { data } | Method::Rpc { data, .. } => *data,
        _ => None,
    }
}

/// Whether these bytes, written as a member of an object on one line, are the member's value.
fn is_a_json_field(data: &[u8]) -> bool {
    validate(data).is_ok()
        && data.trim_ascii() == data
        && data != b"null"
        && !data.contains(&b'\n')
        && fits_in_a_command(data)
}

/// Within a command everything is two levels deeper.
fn fits_in_a_command(data: &[u8]) -> bool {
    let within: Vec<u8> = [b"[[", data, b"]]"].concat();
    validate(&within).is_ok()
}

fn check_replies(text: &str, data: Payload<'_>) {
    let conn_info = if let Payload::Json(data) = data { Some(data) } else { None };
    let info = ClientInfo { user: text, client: "c", conn_info, chan_info: None };
    let tags = [(text.into(), "tag".into())];
    let publication = Publication { data, offset: 7, info: Some(info), tags: &tags, ..Publication::default() };
    both(|codec, out| write_publication(codec, out, text, &publication));

    let publications = vec![publication; 2];
    let result = SubscribeResult { epoch: text, publications, data: Some(data), ..SubscribeResult::default() };
    both(|codec, out| write_subscribe(codec, out, 1, &result));
    both(|codec, out| write_rpc(codec, out, 1, Some(data)));
}

/// One reply, which means the same in both codecs.
fn both(write: impl Fn(Codec, &mut Vec<u8>)) {
    let [json, protobuf] = Codec::ALL.map(|codec| {
        let mut out = Vec::new();
        write(codec, &mut out);
        out
    });
    let replies = peer::read_replies(&protobuf);
    assert_eq!(replies.len(), 1);
    if let Some(line) = parse_line(&json) {
        assert_eq!(replies[0], line);
    }
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
