//! What our gateway is told when it stands beside peers: their one interface, in KrakenD's vocabulary.
//!
//! ```text
//!   GET /fanout/N?bytes=B  ──►  GET /s/0?bytes=B .. /s/N-1?bytes=B  ──►  {"s0": .., "s1": .., ..}      N = 1..10
//! ```

use serde_json::{Value, json};
use std::net::SocketAddr;

/// The widest fan-out.
const FANOUT_MAX: usize = 10;
/// What every gateway waits for an upstream.
const TIMEOUT: &str = "2s";

/// What a gateway speaks to its upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// HTTP/1.1, kept alive.
    Http1,
    /// HTTP/2 by prior knowledge.
    H2c,
}

impl Upstream {
    /// Its name in configurations and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Upstream::Http1 => "http1",
            Upstream::H2c => "h2c",
        }
    }
}

/// The configuration file.
pub fn configuration(listen: SocketAddr, upstream: SocketAddr, protocol: Upstream) -> String {
    let backend = |service: usize| {
        json!({
            "host": [format!("http://{upstream}")],
            "url_pattern": format!("/s/{service}"),
            "group": format!("s{service}"),
            "extra_config": { "annulus": { "protocol": protocol.name() } },
        })
    };
    let endpoint = |count: usize| {
        json!({
            "endpoint": format!("/fanout/{count}"),
            "output_encoding": "json",
            "input_query_strings": ["bytes"],
            "backend": (0..count).map(backend).collect::<Vec<Value>>(),
        })
    };
    let root = json!({
        "version": 3,
        "name": "bench",
        "port": listen.port(),
        "listen_ip": listen.ip().to_string(),
        "timeout": TIMEOUT,
        "extra_config": { "annulus": { "compat": "annulus" } },
        "endpoints": (1..=FANOUT_MAX).map(endpoint).collect::<Vec<Value>>(),
    });
    format!("{root:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_endpoint_for_every_fan_out() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let root: Value = serde_json::from_str(&configuration(address(8080), address(9100), Upstream::H2c)).unwrap();
        let endpoints = root["endpoints"].as_array().unwrap();
        assert_eq!(endpoints.len(), FANOUT_MAX);
        let widest = endpoints.last().unwrap();
        assert_eq!(widest["endpoint"], "/fanout/10");
        let backends = widest["backend"].as_array().unwrap();
        assert_eq!(backends.len(), 10);
        assert_eq!(backends[9]["url_pattern"], "/s/9");
        assert_eq!(backends[9]["group"], "s9");
        assert_eq!(backends[9]["host"][0], "http://127.0.0.1:9100");
        assert_eq!(backends[9]["extra_config"]["annulus"]["protocol"], "h2c");
    }
}
