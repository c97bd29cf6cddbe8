//! Answers that are compressed for clients that take them so.

use super::*;

/// A JSON text of so many bytes or some more.
fn text(bytes: usize) -> String {
    let items: Vec<String> = (0..bytes / 16).map(|number| format!("\"item {number:08}\"")).collect();
    format!("{{\"items\":[{}]}}", items.join(","))
}

fn shop(root: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|head| {
        let length: usize = head.split(' ').nth(1).unwrap().trim_start_matches('/').parse().unwrap();
        Upstream::json(&text(length))
    });
    let endpoint = |path: &str, bytes: usize, more: &str| {
        format!(
            r#"{{"endpoint": "{path}"{more}, "timeout": "20s", "backend": [{{"host": ["http://{}"], "url_pattern": "/{bytes}"}}]}}"#,
            upstream.address
        )
    };
    let endpoints = [
        endpoint("/small", 100, ""),
        endpoint("/middle", 8_000, ""),
        endpoint("/large", 300_000, ""),
        endpoint("/raw", 8_000, r#", "output_encoding": "no-op""#),
    ];
    let gateway = Gateway::start(&config(&endpoints.join(","), root));
    (upstream, gateway)
}

const COMPRESSING: &str = r#", "extra_config": {"annulus": {"compat": "annulus", "compression": {}}}"#;

/// What an answer's head says of its coding and of what it varies with, and its body without the coding.
struct Seen {
    coding: Option<String>,
    varies: bool,
    text: String,
}

fn ask(gateway: &Gateway, path: &str, accepted: &str) -> Seen {
    let field = if accepted.is_empty() { String::new() } else { format!("Accept-Encoding: {accepted}\r\n") };
    let bytes = gateway.ask_until_served(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}"), b"");
    let (head, body) = Answer::divide(&bytes);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let coding = head.lines().find_map(|line| line.strip_prefix("content-encoding: ").map(str::to_owned));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    assert!(path == "/raw" || length == Some(&body.len().to_string()), "{head}");
    let body = match coding.as_deref() {
        None => body,
        Some("gzip") => {
            let mut out = vec![0; 1 << 20];
            let (text, code) = zlib_rs::decompress_slice(&mut out, &body, zlib_rs::InflateConfig { window_bits: 31 });
            assert!(code == zlib_rs::ReturnCode::Ok);
            text.to_vec()
        }
        Some("br") => {
            let mut out = Vec::new();
            brotli::BrotliDecompress(&mut &body[..], &mut out).unwrap();
            out
        }
        Some(other) => panic!("{other}"),
    };
    let varies = head.lines().any(|line| line == "vary: accept-encoding");
    Seen { coding, varies, text: String::from_utf8(body).unwrap() }
}

/// Asks until the answer comes in a coding: nobody is compressed for by a gateway that has too much to do.
fn in_coding(gateway: &Gateway, path: &str, accepted: &str, coding: &str) -> Seen {
    let mut last = None;
    eventually(&format!("{path} comes as {coding} for {accepted}"), || {
        let seen = ask(gateway, path, accepted);
        let is_so = seen.coding.as_deref() == Some(coding);
        last = Some(seen);
        is_so
    });
    last.unwrap()
}

#[test]
fn clients_get_what_they_take() {
    let (_upstream, gateway) = shop(COMPRESSING);
    for path in ["/middle", "/large"] {
        let plain = ask(&gateway, path, "");
        assert!(plain.coding.is_none() && plain.varies);
        for (accepted, coding) in [("gzip", "gzip"), ("gzip, deflate, br", "br"), ("br;q=0.5, gzip;q=0.6", "gzip")] {
            let seen = in_coding(&gateway, path, accepted, coding);
            assert!(seen.varies && seen.text == plain.text, "{path} {accepted}");
        }
        for accepted in ["identity", "gzip;q=0, br;q=0", "zstd", "gzip;q=0.5, identity"] {
            let seen = ask(&gateway, path, accepted);
            assert!(seen.coding.is_none() && seen.varies && seen.text == plain.text, "{path} {accepted}");
        }
    }
    let small = ask(&gateway, "/small", "gzip");
    assert!(small.coding.is_none() && !small.varies);
    let raw = ask(&gateway, "/raw", "gzip");
    assert!(raw.coding.is_none() && !raw.varies && raw.text == text(8_000), "what is passed on stays as it is");
    let metrics = gateway.get("/metrics").body;
    for coding in ["br", "gzip"] {
        let name = format!("annulus_gateway_compressed_total{{shard=\"0\",coding=\"{coding}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        assert!(count.parse::<u64>().unwrap() >= 2, "{count}");
    }
    gateway.stop();
}

#[test]
fn nothing_is_compressed_unless_the_file_says_so() {
    let off = COMPRESSING.replacen('{', r#"{"router": {"disable_gzip": true}, "#, 1);
    for root in [OURS.to_owned(), off, format!(r#", "disable_compression": true{COMPRESSING}"#)] {
        let (_upstream, gateway) = shop(&root);
        let seen = ask(&gateway, "/middle", "gzip, br");
        assert!(seen.coding.is_none() && !seen.varies, "{root}");
        gateway.stop();
    }
}
