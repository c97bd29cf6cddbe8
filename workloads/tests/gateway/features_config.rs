//! What is said of health checks, compression, concurrent calls and shadows: read, printed, and read again.

use super::*;

/// The file's gateway, and the same after it was printed and read again.
fn read(text: &str) -> Gateway {
    let (gateway, _) = json(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let printed = print_effective(&gateway);
    let (again, _) = json(&printed).unwrap_or_else(|problems| panic!("{printed}: {problems:#?}"));
    assert_eq!(print_effective(&again), printed);
    gateway
}

#[test]
fn health_checks_have_defaults_that_fit_together() {
    let health = |members: &str| {
        let backend = format!(", \"extra_config\": {{\"annulus\": {{\"health\": {{\"path\": \"/h?x=1\"{members}}}}}}}");
        read(&with("", "", &backend)).endpoints.remove(0).backends.remove(0).health.unwrap()
    };
    let check = HealthCheck {
        path: "/h?x=1".to_owned(),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        unhealthy_after: 3,
        healthy_after: 2,
    };
    assert_eq!(health(""), Health { check: check.clone(), panic_below: 0.0 });
    let short = HealthCheck { interval: Duration::from_millis(500), timeout: Duration::from_millis(500), ..check };
    assert_eq!(health(", \"interval\": \"500ms\""), Health { check: short.clone(), panic_below: 0.0 });
    let all = HealthCheck { timeout: Duration::from_millis(100), unhealthy_after: 1, healthy_after: 5, ..short };
    let members = ", \"interval\": \"500ms\", \"timeout\": \"100ms\", \"unhealthy_after\": 1, \"healthy_after\": 5, \
                   \"panic_below\": \"50%\"";
    assert_eq!(health(members), Health { check: all, panic_below: 0.5 });
}

#[test]
fn compression_is_off_unless_it_is_asked_for() {
    let compression = |root: &str| read(&with(root, "", "")).compression;
    let annulus = |text: &str| format!(", \"extra_config\": {{\"annulus\": {{\"compression\": {text}}}}}");
    assert_eq!(compression(""), None);
    let both = Compression { codings: vec![Coding::Brotli, Coding::Gzip], bytes_min: 1024 };
    assert_eq!(compression(&annulus("{}")), Some(both));
    let own = Compression { codings: vec![Coding::Gzip], bytes_min: 0 };
    assert_eq!(compression(&annulus("{\"encodings\": [\"gzip\"], \"min_bytes\": 0}")), Some(own));
    assert_eq!(compression(&format!("{}, \"disable_compression\": true", annulus("{}"))), None);
    for (text, says) in [
        ("{\"encodings\": []}", "compression.encodings: expected an encoding at least"),
        ("{\"encodings\": [\"gzip\", \"gzip\"]}", "compression.encodings[1]: this is in the list already"),
        ("{\"encodings\": [\"deflate\"]}", "compression.encodings[0]: expected one of \"br\", \"gzip\""),
        ("{\"min_bytes\": -1}", "compression.min_bytes: expected a whole number from 0"),
        ("{\"level\": 9}", "compression.level: there is no key \"level\""),
    ] {
        let problems = problems_in_json_and_yaml(&with(&annulus(text), "", ""));
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says), "{text}: {problems:#?}");
    }
}

#[test]
fn concurrent_calls_say_where_they_have_no_effect() {
    let notes = |endpoint: &str, backend: &str| {
        let (gateway, notes) = json(&with("", endpoint, backend)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(gateway.endpoints[0].concurrent_calls, 3);
        said(&notes)
    };
    let three = ", \"concurrent_calls\": 3";
    assert_eq!(notes(three, ""), Vec::<String>::new());
    let no_op = notes(&format!("{three}, \"output_encoding\": \"no-op\""), "");
    assert!(no_op.len() == 1 && no_op[0].contains("endpoints[0]: concurrent_calls has no effect"), "{no_op:#?}");
    let put = notes(three, ", \"method\": \"PUT\"");
    assert!(
        put.len() == 1 && put[0].contains("endpoints[0].backend[0]: concurrent_calls has no effect here: PUT is"),
        "{put:#?}"
    );
    let hedge = notes(three, ", \"extra_config\": {\"annulus\": {\"hedge\": {\"after\": \"p95\"}}}");
    assert!(hedge.len() == 1 && hedge[0].contains("hedge has no effect beside concurrent_calls"), "{hedge:#?}");
    let text = with("", three, "");
    assert_eq!(read(&text).endpoints[0].concurrent_calls, 3);
}

#[test]
fn shadows_have_no_number_and_their_endpoints_time() {
    let file = |shadow: &str, pattern: &str, second: &str| {
        format!(
            "{{\"version\": 3, \"host\": [\"http://h\"], \"listen_ip\": \"::1\", \"endpoints\": [{{\"endpoint\": \"/a\", \
             \"timeout\": \"3s\", \"extra_config\": {{\"proxy\": {{\"sequential\": true}}}}, \"backend\": [{{\"url_pattern\": \
             \"{pattern}\", \"extra_config\": {{\"proxy\": {{\"shadow\": true{shadow}}}}}}}, {{\"url_pattern\": \"/one\"}}, \
             {{\"url_pattern\": \"/{second}\"}}]}}]}}"
        )
    };
    let endpoint = read(&file("", "/s", "{resp0_x}")).endpoints.remove(0);
    assert_eq!(endpoint.backends[0].shadow, Some(Duration::from_secs(3)));
    assert_eq!(endpoint.answering().count(), 2);
    let first = Piece::Response { backend: 0, path: vec!["x".to_owned()] };
    assert_eq!(endpoint.backends[2].url_pattern.path[1], first);
    let longer = read(&file(", \"shadow_timeout\": \"10s\"", "/s", "two")).endpoints.remove(0);
    assert_eq!(longer.backends[0].shadow, Some(Duration::from_secs(10)));
    for (text, says) in [
        (
            file("", "/{resp0_x}", "two"),
            "backend[0].url_pattern: {resp0_x} is from another backend's answer, and a shadow is",
        ),
        (file("", "/s", "{resp1_x}"), "must be from an earlier answer: this is backend 1, so resp0 to resp0"),
    ] {
        let problems = problems_in_json_and_yaml(&text);
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says), "{problems:#?}");
    }
    let noted = |backend: &str| {
        let (_, notes) = json(&with("", "", backend)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        said(&notes).concat()
    };
    assert!(
        noted(", \"extra_config\": {\"proxy\": {\"shadow_timeout\": \"1s\"}}").contains("this backend is no shadow")
    );
}
