//! What is said of WebSockets and of the access log: read, printed, and read again.

use super::*;

/// The file's gateway, and the same after it was printed and read again.
fn read(text: &str) -> Gateway {
    let (gateway, _) = json(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let printed = print_effective(&gateway);
    let (again, _) = json(&printed).unwrap_or_else(|problems| panic!("{printed}: {problems:#?}"));
    assert_eq!(print_effective(&again), printed);
    gateway
}

fn websocket(members: &str) -> String {
    format!(", \"extra_config\": {{\"websocket\": {{\"enable_direct_communication\": true{members}}}}}")
}

#[test]
fn websockets_are_passed_on_as_they_are() {
    let endpoint = |endpoint: &str, backend: &str| read(&with("", endpoint, backend)).endpoints.remove(0);
    let plain = endpoint(&websocket(""), ", \"host\": [\"wss://chat:5000\"]");
    assert_eq!(plain.output_encoding, OutputEncoding::NoOp);
    assert_eq!(plain.backends[0].hosts[0].to_string(), "https://chat:5000");
    let websocket_of = plain.websocket.unwrap();
    assert_eq!((websocket_of.idle, websocket_of.serves_others), (Duration::from_secs(300), false));
    let all = ", \"input_headers\": [\"Cookie\", \"Origin\"], \"output_encoding\": \"no-op\", \"extra_config\": {\
               \"annulus\": {\"tunnels_max\": 7}, \"websocket\": {\"enable_direct_communication\": true, \
               \"timeout\": \"1m\", \"subprotocols\": [\"a\", \"b\"], \"input_headers\": [\"cookie\"], \
               \"connect_event\": false}}";
    let own = endpoint(all, "");
    assert_eq!(own.input_headers, Forward::Only(vec!["cookie".to_owned()]));
    let websocket_of = own.websocket.unwrap();
    assert_eq!(websocket_of.subprotocols, ["a", "b"]);
    assert_eq!((websocket_of.idle, websocket_of.tunnels_max), (Duration::from_secs(60), 7));
    assert!(websocket_of.serves_others);
    assert_eq!(read(&with(", \"extra_config\": {\"annulus\": {\"tunnels_max\": 5}}", "", "")).tunnels_max, 5);
}

#[test]
fn what_is_not_offered_of_websockets_is_said() {
    for (endpoint, says) in [
        (", \"extra_config\": {\"websocket\": {}}".to_owned(), "set enable_direct_communication to true"),
        (websocket(", \"connect_event\": true"), "connect_event is not offered"),
        (websocket(", \"disconnect_event\": true"), "disconnect_event is not offered"),
        (websocket(", \"direct_communication\": true"), "there is no key \"direct_communication\""),
        (websocket(", \"timeout\": \"0s\""), "expected a duration above zero"),
        (websocket(", \"input_headers\": [\"Origin\"]"), "the endpoint's input_headers must have \"origin\" too"),
        (format!("{}, \"method\": \"POST\"", websocket("")), "a WebSocket begins with GET"),
    ] {
        let problems = problems_in_json_and_yaml(&with("", &endpoint, ""));
        assert_eq!(problems.len(), 1, "{endpoint}: {problems:#?}");
        assert!(problems[0].contains(says), "{endpoint}: {problems:#?}");
    }
    let notes = |endpoint: &str| said(&json(&with("", endpoint, "")).unwrap().1);
    for key in ["max_message_size", "read_buffer_size", "max_retries"] {
        let said = notes(&websocket(&format!(", \"{key}\": 1")));
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].contains(&format!("{key} has no effect here: ")), "{said:#?}");
    }
    let said = notes(", \"extra_config\": {\"annulus\": {\"tunnels_max\": 7}}");
    assert!(said.concat().contains("this endpoint has no websocket"), "{said:#?}");
}

#[test]
fn an_access_log_may_be_a_pattern() {
    let format = |value: &str| read(&with(&annulus(value), "", "")).access_format;
    assert_eq!(format("\"json\""), AccessFormat::Json);
    for name in ["common", "combined"] {
        let AccessFormat::Pattern(pattern) = format(&format!("\"{name}\"")) else { panic!("{name} is a pattern") };
        assert_eq!(pattern.source, name);
    }
    let AccessFormat::Pattern(pattern) = format("{\"format\": \"$status ${header:X-Y}\"}") else { panic!("a pattern") };
    assert_eq!(pattern.source, "$status ${header:X-Y}");
    assert_eq!(pattern.pieces[0], AccessPiece::Variable(AccessVariable::Status));
    for (value, says) in [
        ("\"comon\"", "did you mean \"common\"?"),
        ("\"$client\"", "expected one of \"text\""),
        ("{}", "the key \"format\" is missing"),
        ("{\"format\": \"\"}", "expected a pattern such as"),
        ("{\"format\": \"$clint\"}", "access_log.format: there is no variable $clint: did you mean $client?"),
        ("{\"format\": \"${header:cookie}\"}", "cookie lets in whoever has it"),
        ("{\"format\": \"x\"}", "there is no variable in it"),
    ] {
        let problems = problems_in_json_and_yaml(&with(&annulus(value), "", ""));
        assert_eq!(problems.len(), 1, "{value}: {problems:#?}");
        assert!(problems[0].contains(says), "{value}: {problems:#?}");
    }
}

fn annulus(access_log: &str) -> String {
    format!(", \"extra_config\": {{\"annulus\": {{\"access_log\": {access_log}}}}}")
}

#[test]
fn feeds_are_an_encoding() {
    let encoding = read(&with("", "", ", \"encoding\": \"rss\"")).endpoints.remove(0).backends.remove(0).encoding;
    assert_eq!(encoding, Encoding::Rss);
}
