//! A slash too many or too few at a path's end.

use super::*;

#[test]
fn clients_are_sent_to_the_endpoint_s_own_path() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let host = upstream.address;
    let endpoint = |method: &str, path: &str| {
        format!(
            r#"{{"endpoint": "{path}", "method": "{method}", "backend": [{{"host": ["http://{host}"], "url_pattern": "/x"}}]}}"#
        )
    };
    let endpoints = [endpoint("GET", "/a"), endpoint("POST", "/b/"), endpoint("GET", "/c/{x}")].join(",");
    let gateway = Gateway::start(&config(&endpoints, OURS));
    let ask = |line: &str| gateway.ask(&format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"), b"");
    for (line, status, location) in [
        ("GET /a/?x=%2F&y", 301, "location: /a?x=%2f&y"),
        ("HEAD /a/", 301, "location: /a"),
        ("POST /b", 307, "location: /b/"),
        ("GET /c/1/", 301, "location: /c/1"),
    ] {
        let answer = ask(line);
        assert_eq!((answer.status, answer.has(location)), (status, true), "{line}: {answer:?}");
    }
    assert_eq!([ask("GET //a/").status, ask("GET /d/").status, ask("PUT /a").status], [404, 404, 405]);
    assert!(upstream.asked().is_empty());
    gateway.stop();
    let strict = r#", "extra_config": {"router": {"disable_redirect_trailing_slash": true}}"#;
    let gateway = Gateway::start(&config(&endpoints, strict));
    assert_eq!([gateway.get("/a/").status, gateway.get("/a").status], [404, 200]);
    gateway.stop();
}
