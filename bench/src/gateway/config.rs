//! The configuration that our gateway is measured with: KrakenD's vocabulary, one endpoint per fan-out.
//!
//! ```text
//!   GET  /fanout/{n}  services 0 .. n      grouped: every answer holds every service's own time
//!   GET  /far/{n}     services 10 .. 10+n  the same, apart from the others
//!   GET  /merge/{n}   services 0 .. n      merged at the root, canonical output
//!   POST /post/{n}    services 0 .. n      the first by POST
//!   GET  /small       service 0            1 KB
//!   GET  /large       service 10           1 MB
//!   GET  /kept/1k     service 0            1 KB that may be kept, and is
//!   GET  /kept/100k   service 0            100 KB likewise
//!   GET  /packed      service 0            10 KB, compressed for who takes that
//!   GET  /once        service 0            asked once
//!   GET  /hedged      service 0            asked again where it is slow, for one question in twenty
//!   GET  /hostile     one that attacks     where there is one
//! ```

use crate::process::Driver;
use crate::upstreams::port_of;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The widest endpoint.
pub const FAN_OUT_MAX: usize = 10;
/// The first service of `/far/`.
pub const FAR: usize = 10;
/// Idle HTTP/1.1 connections kept, as many as the peers keep.
const IDLE_MAX: u32 = 1024;

/// Bytes of the answer of `/small`.
pub const SMALL_BYTES: usize = 1 << 10;
/// And of `/large`.
pub const LARGE_BYTES: usize = 1 << 20;

/// What the gateway speaks to the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/1.1, kept alive.
    Http1,
}

impl Upstream {
    /// Its name in the configuration and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Upstream::H2c => "h2c",
            Upstream::Http1 => "http1",
        }
    }
}

/// How the measured configuration differs from case to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The services' protocol.
    pub upstream: Upstream,
    /// Time-out of a backend, in milliseconds.
    pub backend_ms: u64,
    /// Whether the gateway gets as many cores as the owner's case allows, instead of one.
    pub all_cores: bool,
    /// Whether backends have circuit breakers.
    pub breakers: bool,
    /// Whether what is not a POST may be tried again.
    pub retries: bool,
    /// Whether every service is asked at its own port. Otherwise all are one origin and share its connections.
    pub apart: bool,
    /// Whether clients without TLS may speak HTTP/2.
    pub h2c_clients: bool,
    /// Whether clients that take it get gzip.
    pub compresses: bool,
    /// Bytes that answers may take; the gateway's own choice when none.
    pub memory_bytes: Option<u64>,
    /// A service that attacks the gateway.
    pub hostile: Option<SocketAddr>,
    /// The kernel interface, which is no part of the configuration's file.
    pub driver: Driver,
}

/// Writes it, for services at `shop` and a gateway at `listen`.
pub fn write(listen: SocketAddr, shop: SocketAddr, choices: &Choices) -> String {
    let mut endpoints = Vec::new();
    for count in 1..=FAN_OUT_MAX {
        endpoints.push(endpoint(&format!("/fanout/{count}"), "GET", backends(shop, 0, count, choices, true)));
        endpoints.push(endpoint(&format!("/far/{count}"), "GET", backends(shop, FAR, count, choices, true)));
        let mut merge = endpoint(&format!("/merge/{count}"), "GET", backends(shop, 0, count, choices, false));
        merge["extra_config"] = json!({ "annulus": { "output": "canonical" } });
        endpoints.push(merge);
        let mut post = endpoint(&format!("/post/{count}"), "POST", backends(shop, 0, count, choices, true));
        post["input_headers"] = json!(["X-Bench-Mark", "Content-Type"]);
        post["backend"][0]["method"] = json!("POST");
        endpoints.push(post);
    }
    for (path, service, bytes) in [("/small", 0, SMALL_BYTES), ("/large", FAR, LARGE_BYTES)] {
        let mut sized = endpoint(path, "GET", backends(shop, service, 1, choices, true));
        sized["backend"][0]["url_pattern"] = json!(format!("/s/{service}?bytes={bytes}"));
        endpoints.push(sized);
    }
    for (path, bytes) in [("/kept/1k", 1 << 10), ("/kept/100k", 100 << 10)] {
        let mut kept = endpoint(path, "GET", backends(shop, 0, 1, choices, false));
        kept["backend"][0]["url_pattern"] = json!(format!("/s/0?bytes={bytes}&fresh_s=3600"));
        kept["backend"][0]["extra_config"]["qos/http-cache"] = json!({});
        endpoints.push(kept);
    }
    let mut packed = endpoint("/packed", "GET", backends(shop, 0, 1, choices, false));
    packed["backend"][0]["url_pattern"] = json!("/s/0?bytes=10240");
    endpoints.push(packed);
    let single = Choices { retries: false, ..*choices };
    endpoints.push(endpoint("/once", "GET", backends(shop, 0, 1, &single, true)));
    let mut hedged = endpoint("/hedged", "GET", backends(shop, 0, 1, &single, true));
    hedged["backend"][0]["extra_config"]["annulus"]["hedge"] = json!({ "after": "p95", "budget": 0.05 });
    endpoints.push(hedged);
    if let Some(address) = choices.hostile {
        // It attacks by frames, whatever the services speak.
        let choices = Choices { upstream: Upstream::H2c, retries: false, apart: false, ..*choices };
        endpoints.push(endpoint("/hostile", "GET", backends(address, 0, 1, &choices, true)));
    }
    let mut ours = json!({ "compat": "annulus", "output": "fast" });
    if choices.compresses {
        ours["compression"] = json!({ "encodings": ["gzip"] });
    }
    if let Some(bytes) = choices.memory_bytes {
        ours["memory_bytes_max"] = json!(bytes);
    }
    let root = json!({
        "version": 3,
        "name": "bench",
        "port": listen.port(),
        "listen_ip": listen.ip().to_string(),
        "timeout": format!("{}ms", choices.backend_ms + 500),
        "max_idle_connections_per_host": IDLE_MAX,
        "use_h2c": choices.h2c_clients,
        "extra_config": { "annulus": ours },
        "endpoints": endpoints,
    });
    format!("{root:#}\n")
}

fn endpoint(path: &str, method: &str, backends: Vec<Value>) -> Value {
    json!({ "endpoint": path, "method": method, "backend": backends })
}

fn backends(shop: SocketAddr, first: usize, count: usize, choices: &Choices, grouped: bool) -> Vec<Value> {
    let backend = |service: usize| {
        let mut ours = json!({
            "protocol": choices.upstream.name(),
            "timeout": format!("{}ms", choices.backend_ms),
        });
        if choices.retries {
            ours["retry"] = json!({ "attempts": 2 });
        }
        let mut extra = json!({ "annulus": ours });
        if choices.breakers {
            extra["qos/circuit-breaker"] =
                json!({ "interval": 1, "timeout": 2, "max_errors": 5, "log_status_change": true });
        }
        let mut backend = json!({
            "host": [format!("http://{}", if choices.apart { apart(shop, service) } else { shop })],
            "url_pattern": format!("/s/{service}"),
            "method": "GET",
            "extra_config": extra,
        });
        if grouped {
            backend["group"] = json!(format!("s{service}"));
        }
        backend
    };
    (first..first + count).map(backend).collect()
}

/// A service's own address.
fn apart(shop: SocketAddr, service: usize) -> SocketAddr {
    SocketAddr::new(shop.ip(), port_of(shop.port(), service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_endpoint_for_every_fan_out() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let choices = Choices {
            upstream: Upstream::Http1,
            backend_ms: 500,
            all_cores: false,
            breakers: true,
            apart: true,
            retries: true,
            h2c_clients: true,
            compresses: true,
            memory_bytes: Some(32 << 20),
            hostile: Some(address(9000)),
            driver: Driver::Auto,
        };
        let text = write(address(8080), address(9100), &choices);
        let root: Value = serde_json::from_str(&text).unwrap();
        let endpoints = root["endpoints"].as_array().unwrap();
        let named = |name: &str| endpoints.iter().find(|endpoint| endpoint["endpoint"] == name).unwrap();
        assert_eq!(endpoints.len(), 4 * FAN_OUT_MAX + 8);
        assert_eq!(named("/fanout/6")["backend"].as_array().unwrap().len(), 6);
        assert_eq!(named("/far/2")["backend"][1]["url_pattern"], "/s/11");
        assert_eq!(named("/far/2")["backend"][1]["group"], "s11");
        assert_eq!(named("/far/2")["backend"][1]["host"][0], "http://127.0.0.1:9112");
        assert!(named("/merge/2")["backend"][0].get("group").is_none());
        assert_eq!(named("/post/2")["backend"][0]["method"], "POST");
        assert_eq!(named("/fanout/1")["backend"][0]["extra_config"]["annulus"]["protocol"], "http1");
        assert_eq!(named("/large")["backend"][0]["url_pattern"], "/s/10?bytes=1048576");
        let hostile = &named("/hostile")["backend"][0];
        assert_eq!(hostile["host"][0], "http://127.0.0.1:9000");
        assert_eq!(hostile["extra_config"]["annulus"], json!({ "protocol": "h2c", "timeout": "500ms" }));
        assert_eq!(root["use_h2c"], true);
        assert_eq!(root["extra_config"]["annulus"]["compression"]["encodings"][0], "gzip");
        assert_eq!(root["extra_config"]["annulus"]["memory_bytes_max"], 32 << 20);
    }
}
