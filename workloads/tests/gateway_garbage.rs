//! Garbage from both sides: requests that two servers could read differently, and upstreams that break HTTP or JSON. The
//! former are refused and nothing behind them is looked at; the latter cost their own part of the answer and nothing else.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gateway_rig::{Gateway, OURS, Upstream, config};

/// Sends bytes as they are and gives all that comes until the gateway closes.
fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    // What was not read makes the end a reset; what came before it counts.
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => said.extend_from_slice(&piece[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the gateway did not close after {:?}: {error}", String::from_utf8_lossy(bytes)),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn requests_with_two_meanings_are_refused_and_nothing_behind_them_is_read() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let host = upstream.address;
    let endpoint = |path: &str, method: &str| {
        format!(
            r#"{{"endpoint": "{path}", "method": "{method}", "backend": [{{"host": ["http://{host}"], "url_pattern": "{path}", "method": "{method}"}}]}}"#
        )
    };
    let endpoints = [endpoint("/a", "POST"), endpoint("/get", "GET"), endpoint("/smuggled", "GET")].join(",");
    let gateway = Gateway::start(&config(&endpoints, OURS));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = |fields: &str, body: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{smuggled}");
    let get = |fields: &str| format!("GET /get HTTP/1.1\r\nHost: a\r\n{fields}\r\n{smuggled}");
    let refused = [
        ("CL and TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nX")),
        ("TE and CL", post("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "0\r\n\r\nX")),
        ("two lengths", post("Content-Length: 1\r\nContent-Length: 2\r\n", "x")),
        ("a list of lengths", post("Content-Length: 1, 1\r\n", "x")),
        ("a sign", post("Content-Length: +1\r\n", "x")),
        ("a negative length", post("Content-Length: -1\r\n", "x")),
        ("a hexadecimal length", post("Content-Length: 0x1\r\n", "x")),
        ("a length with a space", post("Content-Length: 1 1\r\n", "x")),
        ("an empty length", post("Content-Length:\r\n", "x")),
        ("a length beyond all numbers", post("Content-Length: 99999999999999999999999\r\n", "x")),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("quoted chunked", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        ("a tab before chunked's colon", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n")),
        ("a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")),
        (
            "TE over HTTP/1.0",
            format!("POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("a bad chunk size", post("Transfer-Encoding: chunked\r\n", "zz\r\n")),
        ("a chunk size with a sign", post("Transfer-Encoding: chunked\r\n", "+1\r\nx\r\n0\r\n\r\n")),
        ("a chunk size with 0x", post("Transfer-Encoding: chunked\r\n", "0x1\r\nx\r\n0\r\n\r\n")),
        (
            "a chunk size beyond all numbers",
            post("Transfer-Encoding: chunked\r\n", "10000000000000001\r\nx\r\n0\r\n\r\n"),
        ),
        ("a chunk that is longer than it says", post("Transfer-Encoding: chunked\r\n", "1\r\nxy\r\n0\r\n\r\n")),
        ("a chunk that ends with LF", post("Transfer-Encoding: chunked\r\n", "1\nx\n0\n\n")),
        ("a bare LF", "GET /get HTTP/1.1\nHost: a\n\nGET /smuggled HTTP/1.1\nHost: a\n\n".to_owned()),
        ("a bare CR in a value", get("X: a\rb\r\n")),
        ("a NUL in a value", get("X: a\0b\r\n")),
        ("a space before the colon", get("X : a\r\n")),
        ("an empty name", get(": a\r\n")),
        ("a name with a space", get("X Y: a\r\n")),
        ("a folded line", get("X: a\r\n b\r\n")),
        ("a space before the first field", format!("GET /get HTTP/1.1\r\n Host: a\r\n\r\n{smuggled}")),
        ("no host", format!("GET /get HTTP/1.1\r\n\r\n{smuggled}")),
        ("two hosts", get("Host: b\r\n")),
        ("a target for another host", format!("GET http://b/get HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}")),
        ("a host with a path", format!("GET /get HTTP/1.1\r\nHost: a/b\r\n\r\n{smuggled}")),
        ("a host with a space", format!("GET /get HTTP/1.1\r\nHost: a b\r\n\r\n{smuggled}")),
        ("two spaces", format!("GET  /get HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}")),
        ("a tab for a space", format!("GET\t/get HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}")),
        ("a control character in the target", format!("GET /get\x01 HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}")),
        ("a fragment", format!("GET /get#x HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}")),
        ("HTTP/1.2 in small letters", format!("GET /get http/1.1\r\nHost: a\r\n\r\n{smuggled}")),
        ("HTTP/2 by word alone", format!("GET /get HTTP/2.0\r\nHost: a\r\n\r\n{smuggled}")),
        ("two trailers' ends", post("Transfer-Encoding: chunked\r\n", "0\r\nX : y\r\n\r\n")),
    ];
    for (what, request) in &refused {
        let said = raw(&gateway, request.as_bytes());
        let status = said.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "405" | "413" | "501" | "505"), "{what}: {said:?}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{what}: {said:?}");
        assert!(said.contains("application/problem+json"), "{what}: {said:?}");
        // Whoever hears of it can look it up: one line in the log for each.
        let line = format!(" {status} ");
        assert!(gateway.logged(&line), "{what}");
    }
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    // The counterexamples: what is unusual and means one thing.
    let fine = [
        post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"),
        post("Transfer-Encoding: Chunked\r\n", "1;a=b\r\nx\r\n0\r\nT: t\r\n\r\n"),
        format!("\r\nGET /get HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}"),
        format!("GET http://a/get HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}"),
    ];
    for request in fine {
        let last = request.replace("GET /smuggled HTTP/1.1\r\n", "GET /smuggled HTTP/1.1\r\nConnection: close\r\n");
        let said = raw(&gateway, last.as_bytes());
        let refused_lengths = request.contains("Content-Length: 1\r\nContent-Length: 1");
        let expected = if refused_lengths {
            [0, 2].contains(&said.matches("HTTP/1.1 200").count())
        } else {
            said.matches("HTTP/1.1 200").count() == 2
        };
        assert!(expected, "{request:?}: {said:?}");
    }
    // Bytes that are no HTTP at all.
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0; 64], &[0xff; 64], b"SSH-2.0-x\r\n\r\n"] {
        let said = raw(&gateway, &[garbage, b"\r\n\r\n"].concat());
        assert!(said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.1 505 "), "{garbage:?}: {said:?}");
    }
    assert_eq!(gateway.get("/get").status, 200);
    gateway.stop();
}

#[test]
fn a_backend_that_breaks_json_or_http_fails_with_a_reason_and_the_rest_is_intact() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let text = |body: &str| Upstream::json(body);
    let head = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    let cases: Vec<(&str, String, &str)> = vec![
        ("empty", text(""), "malformed: JSON"),
        ("cut", text(r#"{"a": "#), "malformed: JSON"),
        ("trailing", text(r#"{"a": 1} x"#), "malformed: JSON"),
        ("second value", text(r#"{"a": 1}{"b": 2}"#), "malformed: JSON"),
        ("breaking out", text(r#"{"a": 1}, "admin": true, "x": {"#), "malformed: JSON"),
        ("comma", text(r#"{"a": 1,}"#), "malformed: JSON"),
        ("bare word", text(r#"{a: 1}"#), "malformed: JSON"),
        ("nan", text(r#"{"a": NaN}"#), "malformed: JSON"),
        ("number", text(r#"{"a": 01}"#), "malformed: JSON"),
        ("control", text("{\"a\": \"\u{1}\"}"), "malformed: JSON"),
        ("surrogate", text(r#"{"a": "\ud800"}"#), "malformed: JSON"),
        ("mark", text("\u{feff}{\"a\": 1}"), "malformed: JSON"),
        ("deep", text(&format!(r#"{{"a": {deep}}}"#)), "malformed: JSON"),
        ("array", text("[1]"), "expected an object"),
        ("large", text(&format!(r#"{{"a": "{}"}}"#, "x".repeat(3000))), "larger than 2000 bytes"),
        (
            "large unsaid",
            head("Transfer-Encoding: chunked\r\n", &format!("bb9\r\n{}\r\n0\r\n\r\n", "x".repeat(3001))),
            "larger than 2000 bytes",
        ),
        ("short", head("Content-Length: 50\r\nConnection: close\r\n", "{}"), "connection"),
        ("two lengths", head("Content-Length: 2\r\nContent-Length: 3\r\n", "{} "), "broke the protocol"),
        (
            "length and chunks",
            head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
            "broke the protocol",
        ),
        ("hexadecimal", head("Content-Length: 0x2\r\n", "{}"), "broke the protocol"),
        ("gzip coding", head("Transfer-Encoding: gzip\r\n", "{}"), "broke the protocol"),
        ("bad chunk", head("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n"), "broke the protocol"),
        ("folded", head("X: a\r\n b\r\nContent-Length: 2\r\n", "{}"), "broke the protocol"),
        ("bare lf", "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}".to_owned(), "broke the protocol"),
        ("no http", "HELLO\r\n\r\n".to_owned(), "broke the protocol"),
        ("status", "HTTP/1.1 2x0 OK\r\n\r\n".to_owned(), "broke the protocol"),
        ("endless head", head(&"X: y\r\n".repeat(30_000), "{}"), "broke the protocol"),
        (
            "switching",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
            "answered with status 101",
        ),
    ];
    let answers: Vec<String> = cases.iter().map(|(_, answer, _)| answer.clone()).collect();
    let upstream = Upstream::start(move |head| {
        let path = head.split(' ').nth(1).unwrap();
        match path.strip_prefix("/bad/") {
            Some(number) => answers[number.parse::<usize>().unwrap()].clone(),
            None => Upstream::json(r#"{"good": {"x": [1, 2]}}"#),
        }
    });
    let host = upstream.address;
    let small = r#""max_response_bytes": 2000"#;
    let endpoint = |path: &str, number: usize, required: &str| {
        format!(
            r#"{{"endpoint": "/{path}/{number}", "backend": [
                {{"host": ["http://{host}"], "url_pattern": "/good"}},
                {{"host": ["http://{host}"], "url_pattern": "/bad/{number}", "group": "g", "extra_config": {{"annulus": {{{small}{required}}}}}}}]}}"#
        )
    };
    let endpoints: Vec<String> = (0..cases.len())
        .flat_map(|number| [endpoint("part", number, ""), endpoint("all", number, r#", "optional": false"#)])
        .collect();
    let gateway = Gateway::start(&config(&endpoints.join(","), OURS));
    for (number, (what, _, reason)) in cases.iter().enumerate() {
        let answer = gateway.get(&format!("/part/{number}"));
        assert_eq!((answer.status, &answer.body[..]), (200, r#"{"good": {"x": [1, 2]}}"#), "{what}");
        assert!(answer.has("x-krakend-completed: false"), "{what}: {answer:?}");
        let answer = gateway.get(&format!("/all/{number}"));
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        assert!(answer.body.contains(reason), "{what}: {answer:?}");
        assert!(
            answer.body.contains(&format!(r#""backend":"/bad/{number}""#)) && answer.body.contains("elapsed_ms"),
            "{what}: {answer:?}"
        );
        serde_free_json(&answer.body);
    }
    gateway.stop();
}

/// Whether a text is one JSON value: by the gateway's own checker.
fn serde_free_json(text: &str) {
    annulus_protocols::json::validate(text.as_bytes()).unwrap();
}

#[test]
fn invalid_utf8_and_names_that_come_twice_do_not_get_through() {
    use std::io::BufRead;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let (mut stream, mut line, mut path) = (stream, String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                if path.is_empty() {
                    path = line.split(' ').nth(1).unwrap().to_owned();
                }
                line.clear();
            }
            let body: &[u8] = match &path[..] {
                "/utf8" => b"{\"a\": \"\xff\"}",
                "/overlong" => b"{\"a\": \"\xc0\xaf\"}",
                _ => b"{\"id\": 1, \"a\": 2, \"id\": 3}",
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _gone = stream.write_all(&[head.as_bytes(), body].concat());
        }
    });
    let endpoint = |path: &str| {
        format!(
            r#"{{"endpoint": "{path}", "backend": [{{"host": ["http://{host}"], "url_pattern": "{path}", "deny": ["a"]}}]}}"#
        )
    };
    let gateway = Gateway::start(&config(&["/utf8", "/overlong", "/twice"].map(endpoint).join(","), OURS));
    for path in ["/utf8", "/overlong"] {
        let answer = gateway.get(path);
        assert!(answer.status == 502 && answer.body.contains("malformed: JSON"), "{path}: {answer:?}");
    }
    // Of a name that comes twice, one is kept: whoever reads the answer cannot read it differently than we filtered it.
    let answer = gateway.get("/twice");
    assert_eq!((answer.status, answer.body.matches("\"id\"").count()), (200, 1), "{answer:?}");
    gateway.stop();
}

#[test]
fn compressed_answers_are_not_asked_for_and_not_unfolded() {
    // A megabyte of zeros in a kilobyte, for a client that would take it.
    let bomb = |head: &str| match head.contains("/bomb") {
        true => format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1003\r\n\r\n\x1f{}",
            "\0".repeat(1002)
        ),
        false => Upstream::json("{\"a\": 1}"),
    };
    let upstream = Upstream::start(bomb);
    let host = upstream.address;
    let backend =
        |path: &str| format!(r#"{{"host": ["http://{host}"], "url_pattern": "{path}", "input_headers": ["*"]}}"#);
    let endpoint = |path: &str, backends: &[&str]| {
        let backends: Vec<String> = backends.iter().map(|path| backend(path)).collect();
        format!(r#"{{"endpoint": "{path}", "input_headers": ["*"], "backend": [{}]}}"#, backends.join(","))
    };
    let endpoints = [endpoint("/alone", &["/bomb"]), endpoint("/beside", &["/bomb", "/good"])].join(",");
    let gateway = Gateway::start(&config(&endpoints, OURS));
    let ask = |path: &str| {
        gateway.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nX-Mine: 1\r\n"), b"")
    };
    let answer = ask("/alone");
    let reason = "compressed (gzip), which was not asked for";
    assert!(answer.status == 502 && answer.body.contains(reason), "{answer:?}");
    let answer = ask("/beside");
    assert_eq!((answer.status, &answer.body[..]), (200, "{\"a\": 1}"));
    assert!(answer.has("x-krakend-completed: false"));
    let asked = upstream.asked();
    assert!(asked.iter().all(|head| head.contains("x-mine: 1") && !head.to_lowercase().contains("accept-encoding")));
    gateway.stop();
}

#[test]
fn an_answer_that_is_none_is_not_passed_on() {
    let upstream =
        Upstream::start(|head| match head.contains("/switch") {
            true => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nHTTP/1.1 200 OK"
                .to_owned(),
            false => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                .to_owned(),
        });
    let host = upstream.address;
    let endpoint = |path: &str| {
        format!(
            r#"{{"endpoint": "{path}", "output_encoding": "no-op", "backend": [{{"host": ["http://{host}"], "url_pattern": "{path}", "encoding": "no-op"}}]}}"#
        )
    };
    let gateway = Gateway::start(&config(&["/switch", "/hints"].map(endpoint).join(","), OURS));
    let answer = gateway.get("/switch");
    assert!(answer.status == 502 && answer.body.contains("status 101"), "{answer:?}");
    let answer = gateway.get("/hints");
    assert_eq!((answer.status, &answer.body[..]), (200, "ok"));
    gateway.stop();
}

#[test]
fn an_answer_longer_than_it_says_ends_its_connection() {
    let upstream = Upstream::start(|head| match head.contains("/long") {
        true => Upstream::json(r#"{"a": 1}"#) + "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"poison\":1}",
        false => Upstream::json(r#"{"b": 1}"#),
    });
    let host = upstream.address;
    let endpoint = |path: &str| {
        format!(r#"{{"endpoint": "{path}", "backend": [{{"host": ["http://{host}"], "url_pattern": "{path}"}}]}}"#)
    };
    let gateway = Gateway::start(&config(&["/long", "/next"].map(endpoint).join(","), OURS));
    for _ in 0..20 {
        let answer = gateway.get("/long");
        assert!(!answer.body.contains("poison"), "{answer:?}");
        let answer = gateway.get("/next");
        assert_eq!((answer.status, &answer.body[..]), (200, r#"{"b": 1}"#));
    }
    gateway.stop();
}

#[test]
fn every_limit_has_its_answer() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let endpoint = format!(
        r#"{{"endpoint": "/a", "method": "POST", "backend": [{{"host": ["http://{}"], "url_pattern": "/a", "method": "POST"}}]}}"#,
        upstream.address
    );
    let root = format!(
        r#", "use_h2c": true, "max_header_bytes": 2000, "read_header_timeout": "400ms", "read_timeout": "600ms", "idle_timeout": "500ms"{OURS}"#
    );
    let gateway = Gateway::start(&config(&endpoint, &root));
    let status = |bytes: &[u8]| raw(&gateway, bytes).split(' ').nth(1).unwrap_or("none").to_owned();
    let large = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(3000));
    assert_eq!(status(large.as_bytes()), "431");
    assert_eq!(status(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8388609\r\n\r\n"), "413");
    let began = std::time::Instant::now();
    assert_eq!(status(b"POST /a HTTP/1.1\r\nHost: a\r\n"), "408", "a head that does not end");
    assert_eq!(status(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"), "408", "a body that does not");
    assert_eq!(status(b""), "none", "an idle connection is closed without a word");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // One that comes a byte at a time has no more time than one that does not come.
    let mut slow = TcpStream::connect(gateway.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    slow.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").unwrap();
    let (began, mut said) = (std::time::Instant::now(), [0; 12]);
    while slow.read(&mut said).is_err() {
        assert!(began.elapsed() < Duration::from_secs(8), "a body in small pieces is waited for");
        let _refused_already = slow.write_all(b"a");
    }
    assert_eq!(&said, b"HTTP/1.1 408");
    // The same over HTTP/2, where the client hears of it while it still sends.
    if outside::has("node", "limits of requests over HTTP/2") {
        let output = std::process::Command::new("node")
            .args(["upload.mjs", &format!("http://{}/a", gateway.address), "9437184"])
            .current_dir(outside::clients())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("too large") && text.trim_end().ends_with(" 413 0"), "{text}");
    }
    assert!(upstream.asked().is_empty());
    // What is waited for is asked for.
    let said = raw(
        &gateway,
        b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    );
    assert!(said.starts_with("HTTP/1.1 100 ") && said.contains("HTTP/1.1 200 "), "{said}");
    assert_eq!(status(b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 2\r\n\r\nhi"), "417");
    gateway.stop();
}
