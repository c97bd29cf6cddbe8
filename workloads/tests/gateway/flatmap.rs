//! `flatmap_filter`, at a backend and at an endpoint.

use super::*;

#[test]
fn values_are_moved_appended_and_deleted_across_levels() {
    let upstream = Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/cart" => {
            Upstream::json(r#"{"data": {"lines": [{"sku": "a", "price": {"net": 1.50}}, {"sku": "b"}], "v": 1}}"#)
        }
        "/user" => Upstream::json(r#"{"name": "Ann", "secret": {"pin": 7}, "likes": ["c"]}"#),
        _ => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let host = upstream.address;
    let cart = format!(
        r#"{{"host": ["http://{host}"], "url_pattern": "/cart", "target": "data", "group": "cart", "deny": ["v"], "extra_config": {{"proxy": {{"flatmap_filter": [
            {{"type": "move", "args": ["lines.*.price.net", "lines.*.net"]}}, {{"type": "del", "args": ["lines.*.price"]}}]}}}}}}"#
    );
    let user = format!(r#"{{"host": ["http://{host}"], "url_pattern": "/user"}}"#);
    let broken = format!(r#"{{"host": ["http://{host}"], "url_pattern": "/broken"}}"#);
    let endpoint = |path: &str, backends: &[&str]| {
        format!(
            r#"{{"endpoint": "{path}", "backend": [{}], "extra_config": {{"proxy": {{
                "static": {{"strategy": "always", "data": {{"secret": "static data comes after"}}}},
                "flatmap_filter": [{{"type": "append", "args": ["cart.lines.*.sku", "likes"]}}, {{"type": "del", "args": ["secret", "cart.v"]}}]}}}}}}"#,
            backends.join(",")
        )
    };
    let gateway = Gateway::start(&config(
        &[endpoint("/whole", &[&cart, &user]), endpoint("/part", &[&user, &broken])].join(","),
        OURS,
    ));
    let answer = gateway.get("/whole");
    let expected =
        r#"{"cart":{"lines":[{"net":1.50},{}]},"name":"Ann","likes":["c","a","b"],"secret":"static data comes after"}"#;
    assert_eq!((answer.status, &answer.body[..]), (200, expected));
    assert!(answer.has("x-krakend-completed: true"));
    let answer = gateway.get("/part");
    assert_eq!(answer.body, r#"{"name":"Ann","likes":["c"],"secret":"static data comes after"}"#);
    assert!(answer.has("x-krakend-completed: false"));
    gateway.stop();
}
