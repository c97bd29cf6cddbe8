//! The access log in other people's forms, and clients that try to write in it.

use super::*;

fn gateway(upstream: &Upstream, format: &str) -> Gateway {
    let endpoint = format!(
        r#"{{"endpoint": "/a/{{id}}", "backend": [{{"host": ["http://{}"], "url_pattern": "/"}}]}}"#,
        upstream.address
    );
    let root = format!(r#", "extra_config": {{"annulus": {{"access_log": {format}}}}}"#);
    Gateway::start(&config(&endpoint, &root))
}

#[test]
fn a_pattern_is_filled_and_nobody_breaks_out_of_it() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let format = r#"{"format": "[$client $peer $host $endpoint] \"$method $path $protocol\" $status $bytes \"${header:User-Agent}\" ${header:x-none}$$"}"#;
    let log = gateway(&upstream, format);
    let agent = "me\" 200 \"\\ \u{fc} 127.0.0.1 - - x";
    log.ask(&format!("GET /a/7?token=secret HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {agent}\r\n"), b"");
    let expected = concat!(
        r#"[127.0.0.1 127.0.0.1 shop.example /a/{id}] "GET /a/7 HTTP/1.1" 200 2 "me\" 200 \"\\ \xc3\xbc 127.0.0.1 - - x" -$"#,
        "\n"
    );
    assert!(log.logged(expected), "{}", log.log.lock().unwrap());
    // Before it could be read, nothing is known of a request.
    let mut stream = TcpStream::connect(log.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nbad header\r\n\r\n").unwrap();
    let _closed = stream.read_to_end(&mut Vec::new());
    assert!(log.logged("[127.0.0.1 127.0.0.1 - -] \"- - -\" 400 - \"-\" -$\n"), "{}", log.log.lock().unwrap());
    assert!(!log.log.lock().unwrap().contains("secret"));
}

#[test]
fn apaches_forms_are_apaches() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    for (name, ending) in [
        ("common", "+0000] \"GET /a/7 HTTP/1.1\" 200 2\n"),
        ("combined", "+0000] \"GET /a/7 HTTP/1.1\" 200 2 \"http://a/\" \"me\"\n"),
    ] {
        let log = gateway(&upstream, &format!("\"{name}\""));
        log.ask("GET /a/7 HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nReferer: http://a/\r\n", b"");
        assert!(log.logged(ending), "{}", log.log.lock().unwrap());
        assert!(log.log.lock().unwrap().contains("127.0.0.1 - - ["));
    }
}
