//! Every reply and push in both codecs, byte for byte: the JSON that clients read, and the Protobuf as the official Python
//! package (centrifuge-python 0.7.0, `client_pb2`, deterministic) encodes the same values.

use annulus_protocols::centrifuge::*;

const INFO: ClientInfo<'static> =
    ClientInfo { user: "42", client: "c1", conn_info: Some(b"{\"name\":\"Ann\"}"), chan_info: Some(b"[7]") };
const INFO_JSON: &str = "{\"user\":\"42\",\"client\":\"c1\",\"conn_info\":{\"name\":\"Ann\"},\"chan_info\":[7]}";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_writes(write: impl Fn(Codec, &mut Vec<u8>), json: &str, protobuf: &str) {
    let mut out = Vec::new();
    write(Codec::Json, &mut out);
    assert_eq!(String::from_utf8(out).as_deref(), Ok(json));
    let mut out = Vec::new();
    write(Codec::Protobuf, &mut out);
    assert_eq!(hex(&out), protobuf);
}

fn tags() -> [(std::borrow::Cow<'static, str>, std::borrow::Cow<'static, str>); 1] {
    [("k".into(), "v".into())]
}

/// A result with everything in it.
fn full<'a>(tags: &'a [(std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)]) -> SubscribeResult<'a> {
    let first = Publication {
        data: Payload::Json(b"{\"a\":1}"),
        offset: 6,
        info: Some(INFO),
        time_ms: 1_700_000_000_123,
        ..Publication::default()
    };
    let second = Publication { data: Payload::Binary(b"\x00\xff"), offset: 7, tags, ..Publication::default() };
    SubscribeResult {
        expires: true,
        ttl: 600,
        recoverable: true,
        positioned: true,
        epoch: "ep",
        offset: 5,
        publications: vec![first, second],
        recovered: true,
        was_recovering: true,
        data: Some(Payload::Json(b"{\"d\":2}")),
        delta: false,
    }
}

fn full_json() -> String {
    format!(
        "{{\"expires\":true,\"ttl\":600,\"recoverable\":true,\"epoch\":\"ep\",\"publications\":[\
         {{\"data\":{{\"a\":1}},\"info\":{INFO_JSON},\"offset\":6,\"time\":1700000000123}},\
         {{\"data\":\"AP8=\",\"offset\":7,\"tags\":{{\"k\":\"v\"}}}}],\"recovered\":true,\"offset\":5,\"positioned\":true,\
         \"data\":{{\"d\":2}},\"was_recovering\":true}}"
    )
}

const FULL_HEX: &str = "080110d8041801320265703a3122077b2261223a317d2a1d0a023432120263311a0e7b226e616d65223a22416e6e227d22035b\
                        375d300648fbd095ffbc313a0e220200ff30073a060a016b1201764001480550015a077b2264223a327d6001";

#[test]
fn errors() {
    assert_writes(
        |codec, out| write_error(codec, out, 4, &ErrorCode::INTERNAL),
        "{\"id\":4,\"error\":{\"code\":100,\"message\":\"internal server error\",\"temporary\":true}}",
        "1f0804121b08641215696e7465726e616c20736572766572206572726f721801",
    );
    let custom = ErrorCode::custom(400, "no é".to_owned(), false).unwrap();
    assert_writes(
        |codec, out| write_error(codec, out, 4, &custom),
        "{\"id\":4,\"error\":{\"code\":400,\"message\":\"no é\"}}",
        "0e0804120a08900312056e6f20c3a9",
    );
}

#[test]
fn connect() {
    let result = ConnectResult {
        client: "abc",
        version: "annulus 0.1.0",
        ping_seconds: 25,
        pong: true,
        ..ConnectResult::default()
    };
    assert_writes(
        |codec, out| write_connect(codec, out, 1, &result),
        "{\"id\":1,\"connect\":{\"client\":\"abc\",\"version\":\"annulus 0.1.0\",\"ping\":25,\"pong\":true}}",
        "1c08012a180a03616263120d616e6e756c757320302e312e3038194001",
    );
    let tags = tags();
    let subs = [("news", full(&tags)), ("quiet", SubscribeResult::default())];
    let result = ConnectResult {
        expires: true,
        ttl: 3600,
        data: Some(Payload::Json(b"{}")),
        subs: &subs,
        session: "s1",
        node: "n1",
        time_ms: 1_700_000_000_123,
        ..result
    };
    assert_writes(
        |codec, out| write_connect(codec, out, 1, &result),
        &format!(
            "{{\"id\":1,\"connect\":{{\"client\":\"abc\",\"version\":\"annulus 0.1.0\",\"expires\":true,\"ttl\":3600,\
             \"data\":{{}},\"subs\":{{\"news\":{},\"quiet\":{{}}}},\"ping\":25,\"pong\":true,\"session\":\"s1\",\
             \"node\":\"n1\",\"time\":1700000000123}}}}",
            full_json()
        ),
        &format!(
            "a90108012aa4010a03616263120d616e6e756c757320302e312e30180120901c2a027b7d32670a046e657773125f{FULL_HEX}\
             32090a0571756965741200381940014a02733152026e3158fbd095ffbc31"
        ),
    );
}

#[test]
fn subscribe() {
    assert_writes(
        |codec, out| write_subscribe(codec, out, 2, &SubscribeResult::default()),
        "{\"id\":2,\"subscribe\":{}}",
        "0408023200",
    );
    let tags = tags();
    assert_writes(
        |codec, out| write_subscribe(codec, out, 2, &full(&tags)),
        &format!("{{\"id\":2,\"subscribe\":{}}}", full_json()),
        &format!("630802325f{FULL_HEX}"),
    );
}

#[test]
fn results_without_content() {
    assert_writes(|codec, out| write_unsubscribe_result(codec, out, 3), "{\"id\":3,\"unsubscribe\":{}}", "0408033a00");
    assert_writes(|codec, out| write_publish_result(codec, out, 3), "{\"id\":3,\"publish\":{}}", "0408034200");
}

#[test]
fn presence() {
    let nameless = ClientInfo { client: "c2", ..ClientInfo::default() };
    assert_writes(
        |codec, out| write_presence(codec, out, 5, [INFO, nameless].into_iter()),
        &format!(
            "{{\"id\":5,\"presence\":{{\"presence\":{{\"c1\":{INFO_JSON},\"c2\":{{\"user\":\"\",\"client\":\"c2\"}}}}}}}}"
        ),
        "3508054a310a230a026331121d0a023432120263311a0e7b226e616d65223a22416e6e227d22035b375d0a0a0a026332120412026332",
    );
    assert_writes(
        |codec, out| write_presence(codec, out, 5, std::iter::empty()),
        "{\"id\":5,\"presence\":{\"presence\":{}}}",
        "0408054a00",
    );
    assert_writes(
        |codec, out| write_presence_stats(codec, out, 6, 2, 1),
        "{\"id\":6,\"presence_stats\":{\"num_clients\":2,\"num_users\":1}}",
        "080806520408021001",
    );
    assert_writes(
        |codec, out| write_presence_stats(codec, out, 6, 0, 0),
        "{\"id\":6,\"presence_stats\":{\"num_clients\":0,\"num_users\":0}}",
        "0408065200",
    );
}

#[test]
fn history() {
    let publication = |data, offset| Publication { data: Payload::Json(data), offset, ..Publication::default() };
    let publications = vec![publication(b"1", 8), publication(b"2", 9)];
    let result = HistoryResult { publications, offset: 9, epoch: "ep" };
    assert_writes(
        |codec, out| write_history(codec, out, 7, &result),
        "{\"id\":7,\"history\":{\"publications\":[{\"data\":1,\"offset\":8},{\"data\":2,\"offset\":9}],\"epoch\":\"ep\",\
         \"offset\":9}}",
        "1808075a140a0522013130080a052201323009120265701809",
    );
    assert_writes(
        |codec, out| write_history(codec, out, 7, &HistoryResult::default()),
        "{\"id\":7,\"history\":{\"publications\":[],\"epoch\":\"\",\"offset\":0}}",
        "0408075a00",
    );
}

#[test]
fn rpc_and_refreshes() {
    assert_writes(
        |codec, out| write_rpc(codec, out, 8, Some(Payload::Json(b"{\"x\":1}"))),
        "{\"id\":8,\"rpc\":{\"data\":{\"x\":1}}}",
        "0d08086a090a077b2278223a317d",
    );
    assert_writes(|codec, out| write_rpc(codec, out, 8, None), "{\"id\":8,\"rpc\":{}}", "0408086a00");
    let refresh = RefreshResult { client: "abc", version: "annulus 0.1.0", expires: true, ttl: 600 };
    assert_writes(
        |codec, out| write_refresh(codec, out, 9, &refresh),
        "{\"id\":9,\"refresh\":{\"client\":\"abc\",\"version\":\"annulus 0.1.0\",\"expires\":true,\"ttl\":600}}",
        "1d080972190a03616263120d616e6e756c757320302e312e30180120d804",
    );
    assert_writes(
        |codec, out| write_sub_refresh(codec, out, 10, &SubRefreshResult { expires: true, ttl: 600 }),
        "{\"id\":10,\"sub_refresh\":{\"expires\":true,\"ttl\":600}}",
        "09080a7a05080110d804",
    );
}

#[test]
fn publications() {
    let tags = tags();
    let publication = Publication {
        data: Payload::Json(b"{\"text\":\"hi\"}"),
        offset: 300,
        info: Some(INFO),
        tags: &tags,
        time_ms: 1_700_000_000_123,
        ..Publication::default()
    };
    assert_writes(
        |codec, out| write_publication(codec, out, "news", &publication),
        &format!(
            "{{\"push\":{{\"channel\":\"news\",\"pub\":{{\"data\":{{\"text\":\"hi\"}},\"info\":{INFO_JSON},\"offset\":300,\
             \"tags\":{{\"k\":\"v\"}},\"time\":1700000000123}}}}}}"
        ),
        "4a224812046e6577732240220d7b2274657874223a226869227d2a1d0a023432120263311a0e7b226e616d65223a22416e6e227d22035b375d\
         30ac023a060a016b12017648fbd095ffbc31",
    );
    let difference =
        Publication { data: Payload::Quoted("3\n3@0,1~;"), offset: 2, delta: true, ..Publication::default() };
    assert_writes(
        |codec, out| write_publication(codec, out, "news", &difference),
        "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":\"3\\n3@0,1~;\",\"offset\":2,\"delta\":true}}}",
        "19221712046e657773220f2209330a3340302c317e3b30024001",
    );
    // Lengths of two bytes.
    let data = format!("\"{}\"", "x".repeat(300));
    let publication = Publication { data: Payload::of(data.as_bytes()), ..Publication::default() };
    assert_writes(
        |codec, out| write_publication(codec, out, "news", &publication),
        &format!("{{\"push\":{{\"channel\":\"news\",\"pub\":{{\"data\":{data}}}}}}}"),
        &format!("bd0222ba0212046e65777322b10222ae02{}", hex(data.as_bytes())),
    );
}

#[test]
fn who_comes_and_goes() {
    assert_writes(
        |codec, out| write_join(codec, out, "news", &INFO),
        &format!("{{\"push\":{{\"channel\":\"news\",\"join\":{{\"info\":{INFO_JSON}}}}}}}"),
        "29222712046e6577732a1f0a1d0a023432120263311a0e7b226e616d65223a22416e6e227d22035b375d",
    );
    let info = ClientInfo { user: "42", client: "c1", ..ClientInfo::default() };
    assert_writes(
        |codec, out| write_leave(codec, out, "news", &info),
        "{\"push\":{\"channel\":\"news\",\"leave\":{\"info\":{\"user\":\"42\",\"client\":\"c1\"}}}}",
        "14221212046e657773320a0a080a02343212026331",
    );
}

#[test]
fn pushes_of_the_server() {
    assert_writes(
        |codec, out| write_unsubscribe_push(codec, out, "news", &Unsubscribed::INSUFFICIENT_STATE),
        "{\"push\":{\"channel\":\"news\",\"unsubscribe\":{\"code\":2500,\"reason\":\"insufficient state\"}}}",
        "21221f12046e6577733a1710c4131a12696e73756666696369656e74207374617465",
    );
    let result = SubscribeResult {
        recoverable: true,
        positioned: true,
        epoch: "ep",
        offset: 5,
        data: Some(Payload::Json(b"{\"d\":2}")),
        ..SubscribeResult::default()
    };
    assert_writes(
        |codec, out| write_subscribe_push(codec, out, "news", &result),
        "{\"push\":{\"channel\":\"news\",\"subscribe\":{\"recoverable\":true,\"epoch\":\"ep\",\"offset\":5,\
         \"positioned\":true,\"data\":{\"d\":2}}}}",
        "1d221b12046e6577734a13080122026570280530013a077b2264223a327d",
    );
    assert_writes(
        |codec, out| write_message_push(codec, out, Payload::Json(b"\"to you\"")),
        "{\"push\":{\"message\":{\"data\":\"to you\"}}}",
        "0e220c420a0a0822746f20796f7522",
    );
    assert_writes(
        |codec, out| write_disconnect_push(codec, out, &Disconnect::SHUTDOWN),
        "{\"push\":{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\"}}}",
        "11220f5a0d08b917120873687574646f776e",
    );
    assert_writes(write_ping, "{}", "00");
}

#[test]
fn replies_one_after_the_other_are_one_message() {
    let write = |codec, out: &mut Vec<u8>| {
        write_publish_result(codec, out, 3);
        write_ping(codec, out);
        write_unsubscribe_result(codec, out, 4);
    };
    assert_writes(write, "{\"id\":3,\"publish\":{}}\n{}\n{\"id\":4,\"unsubscribe\":{}}", "0408034200000408043a00");
}

#[test]
fn nobody_can_begin_a_line_in_the_message_of_another() {
    let publication = Publication {
        data: Payload::Json(b"{\r\n\"a\":\n1}"),
        info: Some(ClientInfo { user: "a\nb", client: "\u{1}", conn_info: Some(b"[\n]"), chan_info: Some(b"\r1") }),
        ..Publication::default()
    };
    let mut out = Vec::new();
    write_publication(Codec::Json, &mut out, "c\"\n{}", &publication);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"push\":{\"channel\":\"c\\\"\\n{}\",\"pub\":{\"data\":{\"a\":1},\"info\":{\"user\":\"a\\nb\",\
         \"client\":\"\\u0001\",\"conn_info\":[],\"chan_info\":1}}}}"
    );
}

#[test]
fn a_payload_is_json_if_it_looks_like_it() {
    for json in ["{}", "\"\"", "null", " [1] "] {
        assert_eq!(Payload::of(json.as_bytes()), Payload::Json(json.as_bytes()));
    }
    for binary in [&b"{"[..], b"\xff", b"\"\xff\"", b"{}{}", b""] {
        assert_eq!(Payload::of(binary), Payload::Binary(binary));
    }
}
