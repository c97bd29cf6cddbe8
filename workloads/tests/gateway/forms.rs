//! XML from backends, and other forms than JSON for clients.

use super::*;

const DOCUMENT: &str =
    "<?xml version=\"1.0\"?><shop id=\"7\"><item>a</item><item>b &amp; c</item><owner><name>Ann</name></owner></shop>";

fn xml(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn upstream() -> Upstream {
    Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/json" => Upstream::json(r#"{"id":1,"list":[true,"x"]}"#),
        "/feed" => {
            xml("<rss version=\"2.0\"><channel><title>News</title><item><title>One</title></item></channel></rss>")
        }
        "/broken" => xml("<a><b></a>"),
        "/bomb" => xml("<!DOCTYPE a [<!ENTITY b \"xxxxxxxxxx\">]><a>&b;&b;</a>"),
        "/deep" => xml(&format!("{}{}", "<a>".repeat(100), "</a>".repeat(100))),
        "/large" => xml(&format!("<list>{}</list>", "<item>0123456789</item>".repeat(10_000))),
        _ => xml(DOCUMENT),
    })
}

fn endpoint(upstream: &Upstream, path: &str, more: &str, backends: &[&str]) -> String {
    let backends: Vec<String> =
        backends.iter().map(|backend| format!(r#"{{"host": ["http://{}"], {backend}}}"#, upstream.address)).collect();
    format!(r#"{{"endpoint": "{path}"{more}, "timeout": "20s", "backend": [{}]}}"#, backends.join(","))
}

#[test]
fn xml_is_shaped_and_merged_like_json() {
    let upstream = upstream();
    let gateway = Gateway::start(&config(
        &[
            endpoint(&upstream, "/plain", "", &[r#""url_pattern": "/xml", "encoding": "xml""#]),
            endpoint(
                &upstream,
                "/shaped",
                "",
                &[
                    r#""url_pattern": "/xml", "encoding": "xml", "target": "shop", "deny": ["-id"], "mapping": {"item": "items"}"#,
                    r#""url_pattern": "/json", "group": "json""#,
                ],
            ),
            endpoint(&upstream, "/list", "", &[r#""url_pattern": "/xml", "encoding": "xml", "is_collection": true"#]),
            endpoint(&upstream, "/large", "", &[r#""url_pattern": "/large", "encoding": "xml", "target": "list""#]),
            endpoint(
                &upstream,
                "/small",
                "",
                &[r#""url_pattern": "/large", "encoding": "xml", "extra_config": {"annulus": {"max_response_bytes": 1000}}"#],
            ),
            endpoint(&upstream, "/broken", "", &[r#""url_pattern": "/broken", "encoding": "xml""#]),
            endpoint(&upstream, "/bomb", "", &[r#""url_pattern": "/bomb", "encoding": "xml""#]),
            endpoint(&upstream, "/deep", "", &[r#""url_pattern": "/deep", "encoding": "xml""#]),
        ]
        .join(","),
        OURS,
    ));
    let whole = r#"{"shop":{"-id":"7","item":["a","b & c"],"owner":{"name":"Ann"}}}"#;
    assert_eq!(gateway.get_until_served("/plain").body, whole);
    let shaped = r#"{"items":["a","b & c"],"owner":{"name":"Ann"},"json":{"id":1,"list":[true,"x"]}}"#;
    assert_eq!(gateway.get_until_served("/shaped").body, shaped);
    assert_eq!(gateway.get_until_served("/list").body, format!("{{\"collection\":{whole}}}"));
    // By the compute threads, which may have no time.
    eventually("a large one is read", || {
        gateway.get_until_served("/large").body.matches("0123456789").count() == 10_000
    });
    for (path, says) in [
        ("/small", "larger than 1000 bytes"),
        ("/broken", "XML: "),
        ("/bomb", "refers to something that it declares itself"),
        ("/deep", "levels deep"),
    ] {
        let answer = gateway.get_until_served(path);
        assert!(answer.status == 502 && answer.body.contains(says), "{path}: {answer:?}");
    }
    gateway.stop();
}

#[test]
fn clients_get_the_form_that_the_endpoint_or_they_want() {
    let upstream = upstream();
    let one = [r#""url_pattern": "/json""#];
    let encoded =
        |path: &str, encoding: &str| endpoint(&upstream, path, &format!(r#", "output_encoding": "{encoding}""#), &one);
    let gateway = Gateway::start(&config(
        &[encoded("/xml", "xml"), encoded("/yaml", "yaml"), encoded("/any", "negotiate")].join(","),
        OURS,
    ));
    let json = r#"{"id":1,"list":[true,"x"]}"#;
    let xml = "<doc><id>1</id><list>true</list><list>x</list></doc>";
    let yaml = "id: 1\nlist:\n  - true\n  - x\n";
    let ask = |path: &str, accept: &str| {
        let field = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
        Answer::parse(&gateway.ask_until_served(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}"), b""))
    };
    for (path, accept, kind, body) in [
        ("/xml", "application/json", "application/xml; charset=utf-8", xml),
        ("/yaml", "", "application/yaml; charset=utf-8", yaml),
        ("/any", "", "application/json", json),
        ("/any", "application/xml", "application/xml; charset=utf-8", xml),
        ("/any", "text/plain", "application/yaml; charset=utf-8", yaml),
        ("/any", "application/xml;q=0.1, application/json", "application/json", json),
    ] {
        let answer = ask(path, accept);
        assert_eq!((answer.status, &answer.body[..]), (200, body), "{path} {accept}");
        assert!(answer.has(&format!("content-type: {kind}")), "{answer:?}");
        assert_eq!(answer.has("vary: accept"), path == "/any", "{answer:?}");
    }
    gateway.stop();
}

#[test]
fn feeds_are_shaped_and_merged_like_json() {
    let upstream = upstream();
    let gateway = Gateway::start(&config(
        &[
            endpoint(
                &upstream,
                "/news",
                "",
                &[
                    r#""url_pattern": "/feed", "encoding": "rss", "allow": ["title", "items"], "group": "news", "is_collection": true"#,
                    r#""url_pattern": "/json""#,
                ],
            ),
            endpoint(&upstream, "/none", "", &[r#""url_pattern": "/xml", "encoding": "rss""#]),
        ]
        .join(","),
        "",
    ));
    let answer = gateway.get_until_served("/news");
    assert_eq!(answer.body, r#"{"id":1,"list":[true,"x"],"news":{"items":[{"title":"One"}],"title":"News"}}"#);
    assert_eq!(gateway.get_until_served("/none").status, 500);
}
