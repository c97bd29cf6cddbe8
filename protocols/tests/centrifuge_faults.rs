//! Everything a client can do wrong, in both codecs: what is refused, that a message cut anywhere is refused or a shorter
//! one, and that no bytes do harm.

mod centrifuge_peer;
mod support;

use annulus_protocols::centrifuge::*;
use centrifuge_peer::write_command;
use support::Rng;

fn fault(codec: Codec, message: &[u8]) -> Option<Malformed> {
    Commands::of(codec, message).find_map(Result::err)
}

fn json_fault(text: &str) -> Option<Malformed> {
    fault(Codec::Json, text.as_bytes())
}

/// Of one command with this content.
fn protobuf_fault(content: &[u8]) -> Option<Malformed> {
    assert!(content.len() < 0x80);
    fault(Codec::Protobuf, &[&[content.len() as u8], content].concat())
}

#[test]
fn empty_commands() {
    for text in ["", "\n", "{}\n\n", "{}\n\n{}", "\n{}", "{}\n\n\n"] {
        assert_eq!(json_fault(text), Some(Malformed::Empty), "{text:?}");
    }
    for text in ["{}", "{}\n", "{}\n{}\n", " {} \r\n\t{}"] {
        assert_eq!(json_fault(text), None, "{text:?}");
    }
    assert_eq!(fault(Codec::Protobuf, b""), Some(Malformed::Empty));
    assert_eq!(fault(Codec::Protobuf, b"\x00\x00"), None, "an empty message is a pong");
}

#[test]
fn what_is_no_json() {
    for text in ["1", "[]", "{\"id\":1", "{}{}", "{}\nx", "null", "\u{0}", " ", "{'id':1}"] {
        assert_eq!(json_fault(text), Some(Malformed::NotAnObject), "{text:?}");
    }
    assert_eq!(fault(Codec::Json, b"{\"id\":1,\"rpc\":{\"method\":\"\xff\"}}"), Some(Malformed::NotAnObject));
}

#[test]
fn json_fields_of_the_wrong_type() {
    for text in [
        "{\"id\":-1}",
        "{\"id\":4294967296}",
        "{\"id\":1.5}",
        "{\"id\":1e0}",
        "{\"id\":\"1\"}",
        "{\"id\":true}",
        "{\"id\":1,\"connect\":7}",
        "{\"connect\":7}",
        "{\"id\":1,\"connect\":{},\"publish\":7}",
        "{\"id\":1,\"connect\":{\"subs\":[]}}",
        "{\"id\":1,\"connect\":{\"subs\":{\"c\":7}}}",
        "{\"id\":1,\"connect\":{\"headers\":{\"h\":7}}}",
        "{\"id\":1,\"subscribe\":{\"channel\":7}}",
        "{\"id\":1,\"subscribe\":{\"recover\":1}}",
        "{\"id\":1,\"subscribe\":{\"offset\":-1}}",
        "{\"id\":1,\"subscribe\":{\"offset\":18446744073709551616}}",
        "{\"id\":1,\"subscribe\":{\"tf\":\"x\"}}",
        "{\"id\":1,\"history\":{\"limit\":\"x\"}}",
        "{\"id\":1,\"history\":{\"limit\":2147483648}}",
        "{\"id\":1,\"history\":{\"since\":3}}",
        "{\"id\":1,\"rpc\":[]}",
        "{\"id\":1,\"ping\":0}",
    ] {
        assert_eq!(json_fault(text), Some(Malformed::Field), "{text:?}");
    }
}

#[test]
fn protobuf_fields_of_the_wrong_type() {
    let cases: [&[u8]; 9] = [
        b"\x0a\x01\x01",                         // id as bytes
        b"\x08\x01\x20\x01",                     // connect as a number
        b"\x08\x01\x22\x02\x08\x01",             // connect.token as a number
        b"\x08\x01\x22\x03\x0a\x01\xff",         // connect.token that is not UTF-8
        b"\x08\x01\x22\x05\x1a\x03\x0a\x01\xff", // a key of connect.subs that is not UTF-8
        b"\x08\x01\x22\x04\x32\x02\x10\x01",     // a value of connect.headers as a number
        b"\x08\x01\x2a\x03\x1a\x01\x01",         // subscribe.recover as bytes
        b"\x08\x01\x2a\x02\x68\x01",             // subscribe.tf as a number
        b"\x08\x01\x3a\x05\x15\x00\x00\x00\x00", // publish.data as four fixed bytes
    ];
    for content in cases {
        assert_eq!(protobuf_fault(content), Some(Malformed::Field), "{}", content.escape_ascii());
    }
}

#[test]
fn what_is_no_protobuf() {
    let varint_of_ten = [0xF8, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    assert_eq!(protobuf_fault(&varint_of_ten), None, "64 bits are the most");
    let cases: [&[u8]; 14] = [
        b"\x08",                                                 // a tag alone
        b"\x08\x80",                                             // a number that does not end
        b"\xf8\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",     // 65 bits
        b"\xf8\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", // eleven bytes
        b"\x22\x01",                                             // bytes that are not there
        b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",         // as many as there can be
        b"\x22\xff\xff\xff\xff\x0f",                             // 4 GiB
        b"\x00\x00",                                             // field 0
        b"\x80\x80\x80\x80\x10\x00",                             // field 2^29
        b"\xfb\x01\xfc\x01",                                     // a group, and its end
        b"\xfe\x01",                                             // type 6
        b"\xff\x01",                                             // type 7
        b"\xf9\x01\x00\x00\x00\x00\x00\x00\x00",                 // seven of eight bytes
        b"\xfd\x01\x00\x00\x00",                                 // three of four
    ];
    for content in cases {
        assert_eq!(protobuf_fault(content), Some(Malformed::NotAMessage), "{}", content.escape_ascii());
        // The same within a method.
        let inside = [&[0x08, 0x01, 0x3a, content.len() as u8], content].concat();
        assert_eq!(protobuf_fault(&inside), Some(Malformed::NotAMessage), "{}", content.escape_ascii());
    }
    // Where the length of a message should be.
    for message in [&b"\x80"[..], b"\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x00\x02\x08"] {
        assert_eq!(fault(Codec::Protobuf, message), Some(Malformed::NotAMessage), "{}", message.escape_ascii());
    }
}

#[test]
fn commands_without_a_method() {
    for text in ["{\"id\":1}", "{\"id\":1,\"fly\":{}}", "{\"id\":1,\"ping\":null}"] {
        assert_eq!(json_fault(text), Some(Malformed::NoMethod));
    }
    for content in [&b"\x08\x01"[..], b"\x08\x01\x82\x01\x00"] {
        assert_eq!(protobuf_fault(content), Some(Malformed::NoMethod));
    }
}

#[test]
fn maps_are_bounded() {
    let connect = |subs: usize, headers: usize| Command {
        id: 1,
        method: Method::Connect(Connect {
            subs: vec![ServerSub::default(); subs],
            headers: vec![("".into(), "".into()); headers],
            ..Connect::default()
        }),
    };
    for codec in Codec::ALL {
        let read = |command: &Command<'_>| fault(codec, &write_command(codec, command));
        assert_eq!(read(&connect(SERVER_SUBS_MAX, HEADERS_MAX)), None);
        assert_eq!(read(&connect(SERVER_SUBS_MAX + 1, 0)), Some(Malformed::TooMany));
        assert_eq!(read(&connect(0, HEADERS_MAX + 1)), Some(Malformed::TooMany));
    }
}

#[test]
fn nothing_follows_an_error() {
    for (codec, message) in [(Codec::Json, &b"{}\n7\n{}"[..]), (Codec::Protobuf, b"\x00\x01\x08\x00")] {
        let mut commands = Commands::of(codec, message);
        assert!(commands.next().is_some_and(|command| command.is_ok()));
        assert!(commands.next().is_some_and(|command| command.is_err()));
        assert_eq!(commands.next(), None);
        assert_eq!(commands.rest(), b"");
    }
}

/// A message of each codec in which everything occurs.
fn messages() -> [(Codec, Vec<u8>); 2] {
    let position = || Position { offset: 300, epoch: "é".into() };
    let (channel, token, data) = ("news", "t0k", Some(&b"{\"a\":[1,\"x\"]}"[..]));
    let methods = [
        Method::Connect(Connect {
            token: token.into(),
            data,
            name: "js".into(),
            version: "1".into(),
            subs: vec![ServerSub { channel: channel.into(), recover: true, since: position() }],
            headers: vec![("h".into(), "v".into())],
        }),
        Method::Subscribe(Subscribe {
            channel: channel.into(),
            token: token.into(),
            data,
            recover: true,
            since: position(),
            filter: Some(Ok(Filter::Tag { key: "k".into(), test: Test::In(vec!["v".into(), "w".into()]) })),
            kind: 1,
            ..Subscribe::default()
        }),
        Method::Publish { channel: channel.into(), data },
        Method::History(History { channel: channel.into(), limit: -1, since: Some(position()), reverse: true }),
        Method::Rpc { method: "m".into(), data },
        Method::SubRefresh { channel: channel.into(), token: token.into() },
    ];
    Codec::ALL.map(|codec| {
        let separator: &[u8] = if codec == Codec::Json { b"\n" } else { b"" };
        let commands =
            methods.iter().zip(1..).map(|(method, id)| write_command(codec, &Command { id, method: method.clone() }));
        (codec, commands.collect::<Vec<_>>().join(separator))
    })
}

#[test]
fn a_message_that_is_cut_has_the_same_commands_up_to_the_cut() {
    for (codec, message) in messages() {
        let whole: Vec<_> = Commands::of(codec, &message).collect::<Result<_, _>>().unwrap();
        for end in 0..message.len() {
            let cut: Vec<_> = Commands::of(codec, &message[..end]).collect();
            for (at, command) in cut.iter().enumerate() {
                match command {
                    Ok(command) => assert_eq!(command, &whole[at]),
                    Err(_) => assert_eq!(at + 1, cut.len()),
                }
            }
            let is_between_commands = match codec {
                Codec::Json => message[end] == b'\n' || message[..end].ends_with(b"\n"),
                Codec::Protobuf => ends_of_protobuf(&message).contains(&end),
            };
            assert_eq!(cut.iter().all(Result::is_ok), is_between_commands, "{codec:?} {end}");
        }
    }
}

/// Where the commands end, each of which has its length in one byte.
fn ends_of_protobuf(message: &[u8]) -> Vec<usize> {
    std::iter::successors(Some(0), |&end| Some(end + 1 + usize::from(*message.get(end)?))).skip(1).collect()
}

/// Reading on from anywhere gives what reading through gives.
fn read_in_every_way(codec: Codec, message: &[u8]) -> usize {
    let whole: Vec<_> = Commands::of(codec, message).collect();
    let mut commands = Commands::of(codec, message);
    for at in 0..whole.len() {
        assert!(Commands::of(codec, commands.rest()).eq(whole[at..].iter().cloned()));
        assert_eq!(commands.next().as_ref(), Some(&whole[at]));
        assert!(Commands::of(codec, commands.from_last()).eq(whole[at..].iter().cloned()));
    }
    assert!(commands.next().is_none() && commands.rest().is_empty());
    whole.iter().filter(|command| command.is_ok()).count()
}

#[test]
fn changed_messages_do_no_harm() {
    let mut rng = Rng(3);
    for (codec, message) in messages() {
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            let mut changed = message.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(changed.len());
                match rng.below(4) {
                    0 => changed[at] = rng.next() as u8,
                    1 => changed[at] ^= 1 << rng.below(8),
                    2 => changed.insert(at, rng.next() as u8),
                    _ => drop(changed.remove(at)),
                }
            }
            let read = read_in_every_way(codec, &changed);
            (good, bad) = (good + usize::from(read == 6), bad + usize::from(read < 6));
        }
        assert!(good > 100 && bad > 100, "{codec:?}: {good} good, {bad} bad");
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut rng = Rng(5);
    for codec in Codec::ALL {
        for len in 0..300 {
            let bytes = rng.bytes(len);
            read_in_every_way(codec, &bytes);
        }
    }
}
