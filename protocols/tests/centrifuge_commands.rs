//! Every command in both codecs: the JSON as clients send it, and the Protobuf as the official Python package
//! (centrifuge-python 0.7.0, `client_pb2`) encodes it, are the same command.

use annulus_protocols::centrifuge::{
    Codec, Command, Commands, Connect, Filter, History, Method, Position, ServerSub, Subscribe, Test,
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A short command made by hand, with its length in front.
fn framed(hex: &str) -> Vec<u8> {
    let content = bytes(hex);
    assert!(content.len() < 0x80);
    [&[content.len() as u8], &content[..]].concat()
}

fn assert_reads(codec: Codec, message: &[u8], id: u32, method: &Method<'_>) {
    let read: Vec<_> = Commands::of(codec, message).collect::<Result<_, _>>().expect("a good message");
    assert_eq!(read, [Command { id, method: method.clone() }], "{codec:?}");
}

/// As [`assert_both`], with a command that no official encoder writes.
fn assert_both_framed(json: &str, hex: &str, id: u32, method: Method<'_>) {
    assert_reads(Codec::Json, json.as_bytes(), id, &method);
    assert_reads(Codec::Protobuf, &framed(hex), id, &method);
}

fn assert_both(json: &str, hex: &str, id: u32, method: Method<'_>) {
    assert_reads(Codec::Json, json.as_bytes(), id, &method);
    assert_reads(Codec::Protobuf, &bytes(hex), id, &method);
}

#[test]
fn connect() {
    assert_both(
        "{\"id\":1,\"connect\":{\"token\":\"t0k\",\"data\":{\"a\":1},\"name\":\"python\",\"version\":\"0.7.0\",\
         \"subs\":{\"news\":{\"recover\":true,\"epoch\":\"ep\",\"offset\":300}},\"headers\":{\"X-A\":\"\\u00e9\"}}}",
        "3f0801223b0a0374306b12077b2261223a317d1a110a046e657773120918013202657038ac022206707974686f6e2a05302e372e3032090a\
         03582d411202c3a9",
        1,
        Method::Connect(Connect {
            token: "t0k".into(),
            data: Some(b"{\"a\":1}"),
            name: "python".into(),
            version: "0.7.0".into(),
            subs: vec![ServerSub {
                channel: "news".into(),
                recover: true,
                since: Position { offset: 300, epoch: "ep".into() },
            }],
            headers: vec![("X-A".into(), "é".into())],
        }),
    );
}

/// Fields 7 to 9 are `flag`, `dict` and `profile`.
#[test]
fn fields_of_later_versions_are_skipped() {
    assert_both(
        "{\"connect\":{\"name\":\"js\",\"flag\":1,\"dict\":\"dict\",\"profile\":\"pr\"},\"id\":2,\"trace\":[{}]}",
        "140802221022026a7338014204646963744a027072",
        2,
        Method::Connect(Connect { name: "js".into(), ..Connect::default() }),
    );
    // An unknown field of each type that can be skipped, in the command and in its method.
    let unknown = "f80101 f9010102030405060708 fa0102ffff fd0101020304";
    let message = framed(&format!("{unknown} 0804 3a1b {unknown} 0a0163"));
    assert_reads(Codec::Protobuf, &message, 4, &Method::Publish { channel: "c".into(), data: None });
}

#[test]
fn subscribe() {
    assert_both(
        "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}",
        "0a08022a060a046e657773",
        2,
        Method::Subscribe(Subscribe { channel: "news".into(), ..Subscribe::default() }),
    );
    let all = |data| {
        Method::Subscribe(Subscribe {
            channel: "cé".into(),
            token: "tok".into(),
            data: Some(data),
            recover: true,
            since: Position { offset: u64::MAX, epoch: "e".into() },
            positioned: true,
            recoverable: true,
            join_leave: true,
            reject_unrecovered: true,
            delta: "fossil".into(),
            filter: Some(Ok(Filter::Tag { key: "k".into(), test: Test::Is("v".into()) })),
            kind: 4,
        })
    };
    let json = "{\"id\":4294967295,\"subscribe\":{\"channel\":\"cé\",\"token\":\"tok\",\"recover\":true,\"epoch\":\"e\",\
                \"offset\":18446744073709551615,\"data\": [ 1 ],\"positioned\":true,\"recoverable\":true,\
                \"join_leave\":true,\"delta\":\"fossil\",\"tf\":{\"key\":\"k\",\"cmp\":\"eq\",\"val\":\"v\"},\"flag\":3,\"type\":4}}";
    let hex = "4408ffffffff0f2a3c0a0363c3a91203746f6b180132016538ffffffffffffffffff01420200ff4801500158016206666f7373696c6a0a\
               12016b1a02657122017670037804";
    assert_reads(Codec::Json, json.as_bytes(), u32::MAX, &all(b"[ 1 ]"));
    assert_reads(Codec::Protobuf, &bytes(hex), u32::MAX, &all(b"\x00\xff"));
}

#[test]
fn publish() {
    assert_both(
        "{\"id\":3,\"publish\":{\"channel\":\"news\",\"data\":{\"text\":\"hi\"}}}",
        "1908033a150a046e657773120d7b2274657874223a226869227d",
        3,
        Method::Publish { channel: "news".into(), data: Some(b"{\"text\":\"hi\"}") },
    );
    let data: Vec<u8> = (0..200).collect();
    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let method = Method::Publish { channel: "news".into(), data: Some(&data) };
    assert_reads(Codec::Protobuf, &bytes(&format!("d60108033ad1010a046e65777312c801{hex}")), 3, &method);
}

#[test]
fn methods_of_a_channel() {
    let channel = || "news".into();
    let both = |name: &str, hex: &str, id: u32, method: Method<'_>| {
        assert_both(&format!("{{\"id\":{id},\"{name}\":{{\"channel\":\"news\"}}}}"), hex, id, method);
    };
    both("unsubscribe", "0a080432060a046e657773", 4, Method::Unsubscribe { channel: channel() });
    both("presence", "0a080542060a046e657773", 5, Method::Presence { channel: channel() });
    both("presence_stats", "0a08064a060a046e657773", 6, Method::PresenceStats { channel: channel() });
}

#[test]
fn history() {
    assert_both(
        "{\"id\":7,\"history\":{\"channel\":\"news\",\"limit\":-1,\"since\":{\"offset\":3,\"epoch\":\"x\"},\"reverse\":true}}",
        "1e0807521a0a046e65777338ffffffffffffffffff01420508031201784801",
        7,
        Method::History(History {
            channel: "news".into(),
            limit: -1,
            since: Some(Position { offset: 3, epoch: "x".into() }),
            reverse: true,
        }),
    );
    // From the beginning of any stream is something else than from nowhere.
    assert_both(
        "{\"id\":7,\"history\":{\"channel\":\"news\",\"limit\":10,\"since\":{}}}",
        "0e0807520a0a046e657773380a4200",
        7,
        Method::History(History {
            channel: "news".into(),
            limit: 10,
            since: Some(Position::default()),
            reverse: false,
        }),
    );
}

#[test]
fn the_other_methods() {
    assert_both("{\"id\":8,\"ping\":{}}", "0408085a00", 8, Method::Ping);
    assert_both("{\"send\":{\"data\":1}}", "0562030a0131", 0, Method::Send { data: Some(b"1") });
    assert_both(
        "{\"id\":9,\"rpc\":{\"method\":\"m\",\"data\":[]}}",
        "0b08096a070a025b5d12016d",
        9,
        Method::Rpc { method: "m".into(), data: Some(b"[]") },
    );
    assert_both(
        "{\"id\":10,\"refresh\":{\"token\":\"t\"}}",
        "07080a72030a0174",
        10,
        Method::Refresh { token: "t".into() },
    );
    assert_both(
        "{\"id\":11,\"sub_refresh\":{\"channel\":\"news\",\"token\":\"t\"}}",
        "0d080b7a090a046e657773120174",
        11,
        Method::SubRefresh { channel: "news".into(), token: "t".into() },
    );
    assert_both("{}", "00", 0, Method::Pong);
}

#[test]
fn without_an_id_it_is_a_pong_whatever_else_it_holds() {
    for json in
        ["{\"id\":0}", "{\"connect\":{}}", "{\"id\":null,\"publish\":{}}", "{\"nonsense\":7}", "{\"send\":null}"]
    {
        assert_reads(Codec::Json, json.as_bytes(), 0, &Method::Pong);
    }
    for hex in ["0800", "2200", "0800 3a00", "f80107"] {
        assert_reads(Codec::Protobuf, &framed(hex), 0, &Method::Pong);
    }
}

#[test]
fn of_several_methods_the_first_in_the_order_of_the_protocol_counts() {
    let unsubscribe = || Method::Unsubscribe { channel: "".into() };
    assert_both_framed(
        "{\"sub_refresh\":{},\"id\":1,\"rpc\":{},\"unsubscribe\":{}}",
        "7a00 0801 6a00 3200",
        1,
        unsubscribe(),
    );
    // With `send` among them there may be no id.
    assert_both_framed("{\"unsubscribe\":{},\"send\":{}}", "3200 6200", 0, unsubscribe());
}

#[test]
fn null_and_empty_are_absent() {
    assert_both_framed(
        "{\"id\":3,\"connect\":null,\"publish\":{\"channel\":null,\"data\":null}}",
        "0803 3a04 0a00 1200",
        3,
        Method::Publish { channel: "".into(), data: None },
    );
    assert_both_framed(
        "{\"id\":1,\"connect\":{\"subs\":{\"c\":null},\"headers\":{\"h\":null}}}",
        "0801 220a 1a03 0a0163 3203 0a0168",
        1,
        Method::Connect(Connect {
            subs: vec![ServerSub { channel: "c".into(), ..ServerSub::default() }],
            headers: vec![("h".into(), "".into())],
            ..Connect::default()
        }),
    );
    // In JSON an empty string is a value.
    let method = Method::Publish { channel: "c".into(), data: Some(b"\"\"") };
    assert_reads(Codec::Json, b"{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":\"\"}}", 3, &method);
}

#[test]
fn what_comes_twice_counts_the_last_time_and_messages_are_merged() {
    assert_both_framed(
        "{\"id\":9,\"publish\":{\"channel\":\"a\",\"data\":1},\"id\":3,\"publish\":{\"channel\":\"b\",\"channel\":\"c\"}}",
        "0809 3a06 0a0161 120131 0803 3a06 0a0162 0a0163",
        3,
        Method::Publish { channel: "c".into(), data: Some(b"1") },
    );
    assert_both_framed(
        "{\"id\":7,\"history\":{\"since\":{\"offset\":3},\"since\":{\"epoch\":\"x\"}}}",
        "0807 5209 4202 0803 4203 120178",
        7,
        Method::History(History { since: Some(Position { offset: 3, epoch: "x".into() }), ..History::default() }),
    );
}

/// The encoding has it so: numbers are cut to the field's size, and a boolean is any number but zero.
#[test]
fn protobuf_numbers_that_do_not_fit_are_cut() {
    let presence = Method::Presence { channel: "".into() };
    assert_reads(Codec::Protobuf, &framed("08 838080808001 42 00"), 3, &presence);
    let history = Method::History(History { limit: 2, reverse: true, ..History::default() });
    assert_reads(Codec::Protobuf, &framed("0803 52 12 38 82808080808001 48 808080808080808001"), 3, &history);
}

#[test]
fn the_first_frame_of_the_javascript_client() {
    let json = "{\"connect\":{\"name\":\"js\",\"flag\":1,\"dict\":\"\"},\"id\":1}\n\
                {\"subscribe\":{\"channel\":\"news\",\"flag\":1},\"id\":2}\n{}\n";
    let [connect, subscribe] = ["0801 2206 22026a73 3801", "0802 2a08 0a046e657773 7001"].map(framed);
    let protobuf = [connect, subscribe, framed("")].concat();
    for (codec, message) in [(Codec::Json, json.as_bytes()), (Codec::Protobuf, &protobuf[..])] {
        let mut commands = Commands::of(codec, message);
        assert_eq!((commands.from_last(), commands.rest()), (message, message));
        let connect = Connect { name: "js".into(), ..Connect::default() };
        assert_eq!(commands.next(), Some(Ok(Command { id: 1, method: Method::Connect(connect) })));
        assert_eq!(commands.from_last(), message);

        let behind_connect = commands.rest();
        let subscribe = Subscribe { channel: "news".into(), ..Subscribe::default() };
        let subscribe = Command { id: 2, method: Method::Subscribe(subscribe) };
        assert_eq!(commands.next(), Some(Ok(subscribe.clone())));
        assert_eq!(commands.from_last(), behind_connect, "the subscribe command can be put back");

        let pong = Command { id: 0, method: Method::Pong };
        let later: Vec<_> = Commands::of(codec, commands.from_last()).collect::<Result<_, _>>().unwrap();
        assert_eq!(later, [subscribe, pong.clone()]);
        assert_eq!(Commands::of(codec, commands.rest()).next(), Some(Ok(pong.clone())));
        assert_eq!(commands.next(), Some(Ok(pong)));
        assert!(commands.rest().is_empty() && !commands.from_last().is_empty());
        assert_eq!(commands.next(), None);
    }
}

#[test]
fn texts_are_borrowed_where_they_stand_in_the_message() {
    use std::borrow::Cow;
    let message = b"{\"id\":10,\"refresh\":{\"token\":\"abc\"}}";
    let protobuf = framed("080a 72 05 0a 03 616263");
    for (codec, message) in [(Codec::Json, &message[..]), (Codec::Protobuf, &protobuf[..])] {
        let Some(Ok(Command { method: Method::Refresh { token }, .. })) = Commands::of(codec, message).next() else {
            panic!("not a refresh");
        };
        assert!(matches!(token, Cow::Borrowed("abc")));
        assert!(message.as_ptr_range().contains(&token.as_ptr()));
    }
}
