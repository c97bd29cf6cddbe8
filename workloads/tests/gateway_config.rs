//! The gateway's configuration from files: what is read, in three syntaxes, and what is said of what cannot be.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus::gateway::config::model::*;
use annulus::gateway::config::{
    LoadOptions, Note, Problem, Syntax, compat_differences, load, load_text, print_effective,
};

#[path = "gateway/features_config.rs"]
mod features_config;
#[path = "gateway/guards_config.rs"]
mod guards_config;
#[path = "gateway/passing_config.rs"]
mod passing_config;
#[path = "gateway/telemetry_config.rs"]
mod telemetry_config;

const STRICT: LoadOptions = LoadOptions { allow_unsupported: false };
const LENIENT: LoadOptions = LoadOptions { allow_unsupported: true };

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway").join(name)
}

fn problems(result: Result<(Gateway, Vec<Note>), Vec<Problem>>) -> Vec<String> {
    result.map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
}

/// A JSON text's problems, which are those of the same text as YAML, at the same places.
fn problems_in_json_and_yaml(text: &str) -> Vec<String> {
    let in_json = problems(load_text("a.json", Syntax::Json, text, &STRICT));
    let in_yaml = problems(load_text("a.json", Syntax::Yaml, text, &STRICT));
    assert_eq!(in_json, in_yaml, "{text}");
    in_json
}

fn said(notes: &[Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

fn json(text: &str) -> Result<(Gateway, Vec<Note>), Vec<Problem>> {
    load_text("a.json", Syntax::Json, text, &STRICT)
}

/// The same gateway, as if everything stood in one place.
fn without_places(mut gateway: Gateway) -> Gateway {
    let nowhere = Location { file: "".into(), line: 0, column: 0 };
    for endpoint in &mut gateway.endpoints {
        endpoint.location = nowhere.clone();
        for backend in &mut endpoint.backends {
            backend.location = nowhere.clone();
        }
    }
    gateway
}

/// A file with one endpoint, whose keys and backend's keys are given.
fn with(root: &str, endpoint: &str, backend: &str) -> String {
    format!(
        "{{\"version\": 3, \"host\": [\"http://h\"], \"listen_ip\": \"::1\"{root},\n\"endpoints\": \
         [{{\"endpoint\": \"/a/{{id}}\"{endpoint},\n\"backend\": [{{\"url_pattern\": \"/b/{{id}}\"{backend}}}]}}]}}"
    )
}

#[test]
fn the_shop_is_read_alike_in_three_syntaxes() {
    let read = |name: &str| {
        let (gateway, notes) = load(&sample(name), &STRICT).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(said(&notes), Vec::<String>::new(), "{name}");
        without_places(gateway)
    };
    let shop = read("shop.json");
    assert_eq!(shop, read("shop.yaml"));
    assert_eq!(shop, read("shop.toml"));
}

#[test]
fn the_shop_is_what_its_file_says() {
    let (shop, _) = load(&sample("shop.json"), &STRICT).unwrap();
    assert_eq!((&*shop.name, shop.listen.ip, shop.listen.port), ("shop", [0, 0, 0, 0].into(), 8081));
    assert_eq!(
        shop.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["http://catalog:8000", "http://catalog-2:8000"]
    );
    assert_eq!((shop.compat, shop.memory_bytes_max), (Compat::Annulus, Some(512 << 20)));
    assert_eq!(shop.name_servers, ["10.0.0.2:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    let store = shop.rate_limit_store.as_ref().unwrap();
    assert_eq!((&*store.prefix, store.timeout, store.gateways), ("shop:", Duration::from_millis(20), 3));
    assert_eq!(store.redis.shown(), "redis://limits.shop:6380/1");
    assert!(!shop.endpoints[0].rate_limit_is_global);
    assert_eq!((shop.server.idle_timeout, shop.server.read_header_timeout), (None, Some(Duration::from_secs(3))));
    assert_eq!(shop.router.health_path.as_deref(), Some("/alive"));
    assert!(shop.router.trusted_proxies[0].contains("10.2.3.4".parse().unwrap()));
    assert_eq!(shop.tls.as_ref().unwrap().client_ca_certs, [PathBuf::from("clients.pem")]);

    let product = &shop.endpoints[0];
    assert_eq!(product.path, [Segment::Literal("products".to_owned()), Segment::Parameter("id".to_owned())]);
    assert_eq!((product.timeout, product.cache_ttl), (Duration::from_secs(1), Duration::from_secs(300)));
    assert_eq!(product.input_headers, Forward::Only(vec!["authorization".to_owned(), "x-tenant".to_owned()]));
    assert_eq!(product.input_query_strings, Forward::Only(vec!["page".to_owned(), "Sort".to_owned()]));
    assert_eq!((product.merge_order, product.output), (MergeOrder::Arrival, Output::Canonical));
    assert_eq!(product.priority, Priority::Critical);
    let data = product.static_data.as_ref().unwrap();
    assert_eq!((data.strategy, &*data.data[1].name), (StaticStrategy::Incomplete, "@hint"));
    assert_eq!(data.data[1].json, "[1.5,true,{\"a\":\"<b>\"}]");
    let limit = product.rate_limit.as_ref().unwrap();
    assert_eq!(limit.all, Some(Rate { tokens: 100.0, every: Duration::from_secs(10), capacity: 200 }));
    let client = limit.client.as_ref().unwrap();
    assert_eq!(client.rate, Rate { tokens: 0.5, every: Duration::from_secs(10), capacity: 1 });
    assert_eq!(client.key, ClientKey::Header("x-tenant".to_owned()));

    let catalog = &product.backends[0];
    assert_eq!((catalog.hosts.len(), catalog.timeout, catalog.required), (2, Duration::from_millis(800), true));
    assert_eq!(catalog.url_pattern.path, [Piece::Literal("/products/".to_owned()), Piece::Parameter(0)]);
    assert_eq!(catalog.mapping[1], ("_id".to_owned(), "id".to_owned()));
    assert_eq!(catalog.circuit_breaker.as_ref().unwrap().interval, Duration::from_secs(60));
    let retry = catalog.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.budget, &retry.on.statuses), (2, 0.2, &vec![503, 504]));
    assert!(retry.on.connect && retry.on.refused && !retry.on.reset && !retry.on.timeout);
    let price = &product.backends[1];
    assert_eq!((price.hosts[0].scheme, price.hosts[0].port), (Scheme::Https, 443));
    assert_eq!(price.input_query_strings, Forward::Only(vec!["page".to_owned()]));
    assert_eq!(
        price.filter,
        Filter::Allow(vec![vec!["amount".to_owned()], vec!["currency".to_owned(), "code".to_owned()]])
    );
    let reviews = &product.backends[2];
    assert_eq!((reviews.sd, reviews.hosts[0].scheme), (Discovery::Dns, Scheme::Https));

    let orders = &shop.endpoints[1];
    assert!(orders.sequential && orders.input_headers == Forward::All);
    assert_eq!(orders.backends[0].method, Method::Get);
    assert_eq!(orders.backends[1].method, Method::Post);
    assert_eq!(
        orders.backends[1].url_pattern.path[3],
        Piece::Response { backend: 0, path: vec!["address".to_owned(), "country".to_owned()] }
    );
    assert_eq!(orders.parameters().collect::<Vec<_>>(), ["user", "wildcard"]);
    assert_eq!(orders.backends[1].url_pattern.path[5], Piece::Parameter(1));
    assert_eq!(shop.endpoints[2].backends[0].max_response_bytes, None);
    assert_eq!(shop.endpoints[2].backends[0].hosts[0].base_path, "/base");
    assert!(shop.endpoints[3].path.is_empty());
    assert_eq!(shop.endpoints[4].path.len(), 2);
    assert_eq!(product.location.to_string(), format!("{}:55:5", sample("shop.json").display()));
}

#[test]
fn defaults_are_krakends() {
    let (gateway, notes) = json("{\"version\": 3}").unwrap();
    assert_eq!((gateway.listen.port, gateway.timeout), (8080, Duration::from_secs(2)));
    assert_eq!((gateway.compat, gateway.router.health_path.as_deref()), (Compat::KrakenD, Some("/__health")));
    assert_eq!(gateway.pool.max_idle_connections_per_host, 250);
    assert_eq!((gateway.server.max_header_bytes, gateway.dns_cache_ttl), (1_000_000, Duration::from_secs(30)));
    assert!(said(&notes)[0].contains("listens on 127.0.0.1 only"), "{notes:?}");

    let (gateway, _) = json(&with("", "", "")).unwrap();
    let endpoint = &gateway.endpoints[0];
    assert_eq!((endpoint.method, endpoint.timeout), (Method::Get, Duration::from_secs(2)));
    assert_eq!((endpoint.merge_order, endpoint.output), (MergeOrder::Arrival, Output::Canonical));
    assert_eq!(endpoint.input_headers, Forward::Only(vec![]));
    let backend = &endpoint.backends[0];
    assert_eq!((backend.timeout, backend.required, backend.encoding), (endpoint.timeout, false, Encoding::Json));
    assert_eq!((backend.lb, backend.protocol), (LoadBalancing::RoundRobin, Protocol::Auto));
    assert_eq!(backend.max_response_bytes, Some(16 << 20));

    let (gateway, _) = json(&with(", \"extra_config\": {\"annulus\": {\"compat\": \"annulus\"}}", "", "")).unwrap();
    assert_eq!(gateway.endpoints[0].merge_order, MergeOrder::Declared);
    assert_eq!(gateway.endpoints[0].output, Output::Fast);
}

#[test]
fn comments_are_passed_over_everywhere() {
    let comment = ", \"@a\": 1, \"$b\": [], \"_c\": {\"x\": 1}, \"#d\": null";
    let extra = format!(", \"extra_config\": {{\"proxy\": {{\"sequential\": false{comment}}}{comment}}}{comment}");
    let backend = format!(", \"extra_config\": {{\"qos/ratelimit/proxy\": {{\"max_rate\": 1{comment}}}}}{comment}");
    let (_, notes) = json(&with(comment, &extra, &backend)).unwrap();
    assert_eq!(said(&notes), Vec::<String>::new());
}

#[test]
fn mistakes_are_said_with_place_key_and_remedy() {
    let secs = ": expected a duration such as \"300ms\", \"1.5s\" or \"1h30m\", found ";
    for (text, says) in [
        ("[]", "a.json:1:1: expected an object, found an empty list".to_owned()),
        ("{}", "a.json:1:1: the key \"version\" is missing".to_owned()),
        ("{\"version\": 2}", "a.json:1:13: version: expected version 3, found the number 2. That is the format".to_owned()),
        ("{\"version\": \"3\"}", "a.json:1:13: version: expected version 3, found the text \"3\". Leave out".to_owned()),
        ("{\"version\": 3, \"prot\": 1}", "a.json:1:16: prot: there is no key \"prot\": did you mean \"port\"?".to_owned()),
        ("{\"version\": 3, \"port\": 70000}", "a.json:1:24: port: expected a whole number from 0 to 65535, found the number".to_owned()),
        ("{\"version\": 3, \"timeout\": 3}", format!("a.json:1:27: timeout{secs}the number 3. A bare number has no unit here: 3 seconds are \"3s\"")),
        ("{\"version\": 3, \"timeout\": \"3 s\"}", format!("a.json:1:27: timeout{secs}\"3 s\": \" s\" is no unit")),
        ("{\"version\": 3, \"timeout\": \"3\"}", format!("a.json:1:27: timeout{secs}\"3\": the unit is missing")),
        ("{\"version\": 3, \"timeout\": []}", format!("a.json:1:27: timeout{secs}an empty list")),
        ("{\"version\": 3, \"listen_ip\": \"x\"}", "a.json:1:29: listen_ip: expected an address".to_owned()),
        (
            "{\"version\": 3, \"extra_config\": {\"annulus\": {\"name_servers\": [\"ns.shop\"]}}}",
            "a.json:1:62: extra_config.annulus.name_servers[0]: expected an address such as \"10.0.0.2\" or \"127.0.0.1:5353\", found the text \"ns.shop\"".to_owned(),
        ),
        (
            "{\"version\": 3, \"extra_config\": {\"annulus\": {\"name_servers\": [\"::1\", \"::2\", \"::3\", \"::4\"]}}}",
            "a.json:1:61: extra_config.annulus.name_servers: 4 name servers: at most 3 are asked".to_owned(),
        ),
        (
            "{\"version\": 3, \"extra_config\": {\"annulus\": {\"rate_limit\": {\"redis\": \"http://a\"}}}}",
            "a.json:1:69: extra_config.annulus.rate_limit.redis: a Redis URL begins with redis://".to_owned(),
        ),
        (
            "{\"version\": 3, \"extra_config\": {\"annulus\": {\"rate_limit\": {}}}}",
            "a.json:1:59: extra_config.annulus.rate_limit: the key \"redis\" is missing".to_owned(),
        ),
        ("{\"version\": 3, \"host\": \"http://a\"}", "a.json:1:24: host: expected a list of hosts".to_owned()),
        ("{\"version\": 3, \"host\": [\"http://a\", \"b:x\"]}", "a.json:1:37: host[1]: \"b:x\" is not a host: \"x\" is not a port".to_owned()),
        ("{\"version\": 3, \"use_h2c\": \"yes\"}", "a.json:1:27: use_h2c: expected true or false, found the text \"yes\"".to_owned()),
        ("{\"version\": 3, \"tls\": {}}", "a.json:1:23: tls: the key \"keys\" is missing".to_owned()),
        ("{\"version\": 3, \"tls\": {\"keys\": [{\"public_key\": \"a\"}]}}", "a.json:1:33: tls.keys[0]: the key \"private_key\" is missing".to_owned()),
        ("{\"version\": 3, \"tls\": {\"public_key\": \"a\", \"private_key\": \"b\", \"enable_mtls\": true}}", "a.json:1:23: tls: enable_mtls needs ca_certs".to_owned()),
        ("{\"version\": 3, \"client_tls\": {\"max_version\": \"TLS12\"}}", "a.json:1:46: client_tls.max_version: this is older than min_version".to_owned()),
        ("{\"version\": 3, \"extra_config\": {\"router\": {\"trusted_proxies\": [\"10.0.0.0/33\"]}}}", "a.json:1:64: extra_config.router.trusted_proxies[0]: \"10.0.0.0/33\" is not a network".to_owned()),
        ("{\"version\": 3, \"extra_config\": {\"annulus\": {\"compat\": \"kraken\"}}}", "a.json:1:55: extra_config.annulus.compat: expected one of \"krakend\", \"annulus\", found the text \"kraken\": did you mean \"krakend\"?".to_owned()),
        ("{\"version\": 3, \"endpoints\": [1]}", "a.json:1:30: endpoints[0]: expected an object, found the number 1".to_owned()),
        ("{\"version\": 3, \"endpoints\": [{\"endpoint\": \"/a\", \"backend\": []}]}", "a.json:1:60: endpoints[0].backend: expected a backend at least".to_owned()),
        ("{\"version\": 3, \"endpoints\": [{\"endpoint\": \"/a\", \"backend\": [{\"url_pattern\": \"/\"}]}]}", "a.json:1:61: endpoints[0].backend[0]: the key \"host\" is missing, and the root has none".to_owned()),
    ] {
        let problems = problems_in_json_and_yaml(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].starts_with(&says), "{text}:\n{}\n{says}", problems[0]);
    }
}

#[test]
fn mistakes_in_endpoints_are_said_too() {
    for (endpoint, says) in [
        (
            ", \"methdo\": \"GET\"",
            "a.json:2:39: endpoints[0].methdo: there is no key \"methdo\": did you mean \"method\"?",
        ),
        (
            ", \"method\": \"get\"",
            "a.json:2:49: endpoints[0].method: expected one of \"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\", found the text \"get\": did you mean \"GET\"?",
        ),
        (", \"output_encoding\": \"jsn\"", "did you mean \"json\"?"),
        (", \"concurrent_calls\": 6", "endpoints[0].concurrent_calls: expected a whole number from 1 to 5"),
        (", \"input_headers\": [\"a b\"]", "endpoints[0].input_headers[0]: \"a b\" is not a header's name"),
        (", \"input_query_strings\": [1]", "endpoints[0].input_query_strings[0]: expected a text, found the number 1"),
        (
            ", \"extra_config\": {\"proxy\": {\"static\": {\"strategy\": \"always\"}}}",
            "endpoints[0].extra_config.proxy.static: the key \"data\" is missing",
        ),
        (
            ", \"extra_config\": {\"proxy\": {\"flatmap_filter\": [{\"type\": \"move\", \"args\": [\"a\"]}]}}",
            "flatmap_filter[0].args: expected two paths, found 1",
        ),
        (
            ", \"extra_config\": {\"proxy\": {\"flatmap_filter\": [{\"type\": \"move\", \"args\": [\"a\", \"b.*\"]}]}}",
            "the second path has more wildcards",
        ),
        (
            ", \"extra_config\": {\"proxy\": {\"flatmap_filter\": [{\"type\": \"del\", \"args\": [\"a..b\"]}]}}",
            "args[0]: expected names between dots",
        ),
        (
            ", \"extra_config\": {\"proxy\": {\"flatmap_filter\": [{\"type\": \"del\", \"args\": []}]}}",
            "expected one path at least",
        ),
        (
            ", \"extra_config\": {\"qos/ratelimit/router\": {}}",
            "endpoints[0].extra_config[\"qos/ratelimit/router\"]: expected max_rate or client_max_rate",
        ),
        (
            ", \"extra_config\": {\"qos/ratelimit/router\": {\"client_max_rate\": 1, \"strategy\": \"param\", \"key\": \"x\"}}",
            "the endpoint's path has no {x}",
        ),
        (
            ", \"extra_config\": {\"qos/ratelimit/router\": {\"client_max_rate\": 1, \"strategy\": \"header\"}}",
            "this strategy needs a key",
        ),
        (
            ", \"extra_config\": {\"qos/circuit-breaker\": {}}",
            "endpoints[0].extra_config[\"qos/circuit-breaker\"]: qos/circuit-breaker belongs to a backend, not here",
        ),
        (
            ", \"extra_config\": {\"annulus\": {\"priority\": \"high\"}}",
            "extra_config.annulus.priority: expected one of \"critical\"",
        ),
    ] {
        let problems = problems_in_json_and_yaml(&with("", endpoint, ""));
        assert_eq!(problems.len(), 1, "{endpoint}: {problems:#?}");
        assert!(problems[0].contains(says), "{endpoint}:\n{}\n{says}", problems[0]);
    }
}

#[test]
fn mistakes_in_backends_are_said_too() {
    for (backend, says) in [
        (
            ", \"hosts\": []",
            "a.json:3:40: endpoints[0].backend[0].hosts: there is no key \"hosts\": did you mean \"host\"?",
        ),
        (
            ", \"host\": [\"http://a/b\"]",
            "endpoints[0].backend[0].host[0]: \"http://a/b\" is not a host: the path \"/b\" belongs into url_pattern",
        ),
        (", \"sd\": \"etcd\"", "backend[0].sd: expected one of \"static\", \"dns\", \"dns-shared\""),
        (", \"sd\": \"dns\", \"host\": [\"a:81\"]", "the port 81 is told by SRV records"),
        (
            ", \"encoding\": \"no-op\"",
            "backend[0].encoding: GET /a/{id}: encoding: no-op (a raw answer in an endpoint whose output_encoding is not no-op) is not offered",
        ),
        (", \"timeout\": \"1s\"", "backend[0].timeout: KrakenD has no timeout for a backend"),
        (", \"target\": \"a.\"", "backend[0].target: expected names between dots"),
        (", \"allow\": [\"a\", \"\"]", "backend[0].allow[1]: expected a text, found the text \"\""),
        (", \"mapping\": {\"a\": 1}", "backend[0].mapping.a: expected a member's new name, found the number 1"),
        (
            ", \"extra_config\": {\"qos/circuit-breaker\": {\"interval\": \"60s\", \"timeout\": 1, \"max_errors\": 1}}",
            "[\"qos/circuit-breaker\"].interval: expected a whole number from 1 to 86400, found the text \"60s\"",
        ),
        (", \"extra_config\": {\"qos/ratelimit/proxy\": {\"capacity\": 1}}", "expected max_rate, above zero"),
        (", \"extra_config\": {\"qos/ratelimit/proxy\": {\"max_rate\": -1, \"capacity\": 1}}", "found the number -1"),
        (", \"extra_config\": {\"backend/http\": {\"return_error_details\": true}}", "found true"),
        (
            ", \"extra_config\": {\"annulus\": {\"retry\": {\"attempts\": 11}}}",
            "retry.attempts: expected a whole number from 1 to 10",
        ),
        (", \"extra_config\": {\"annulus\": {\"retry\": {\"on\": [\"4xx\"]}}}", "retry.on[0]: expected \"connect\""),
        (", \"extra_config\": {\"annulus\": {\"retry\": {\"budget\": 2}}}", "retry.budget: expected a share"),
        (
            ", \"extra_config\": {\"annulus\": {\"optional\": true, \"required\": true}}",
            "annulus.required: optional is true as well",
        ),
        (
            ", \"extra_config\": {\"annulus\": {\"protocol\": \"h2\"}}",
            "annulus.protocol: http://h: h2 is HTTP/2 over TLS",
        ),
        (", \"extra_config\": {\"annulus\": {\"max_response_bytes\": 0}}", "expected a whole number from 1"),
        (", \"extra_config\": {\"annulus\": {\"timeout\": \"0s\"}}", "expected a duration above zero"),
        (
            ", \"extra_config\": {\"annulus\": {\"outlier\": {\"ejection_time\": \"1m\", \"ejection_time_max\": \"1s\"}}}",
            "shorter than ejection_time",
        ),
        (", \"extra_config\": {\"annulus\": {\"lb\": \"random\"}}", "annulus.lb: expected one of"),
        (", \"extra_config\": {\"annulus\": {\"hedge\": {\"after\": \"p40\"}}}", "annulus.hedge.after"),
        (", \"extra_config\": {\"annulus\": {\"health\": {}}}", "annulus.health: the key \"path\" is missing"),
        (
            ", \"extra_config\": {\"annulus\": {\"health\": {\"path\": \"/a b\"}}}",
            "health.path: expected a path that starts with a slash and is percent-encoded",
        ),
        (
            ", \"extra_config\": {\"annulus\": {\"health\": {\"path\": \"/\", \"interval\": \"50ms\"}}}",
            "health.interval: a host is asked every 100ms at most",
        ),
        (
            ", \"extra_config\": {\"annulus\": {\"health\": {\"path\": \"/\", \"interval\": \"1s\", \"timeout\": \"2s\"}}}",
            "health.timeout: this is longer than the interval",
        ),
        (
            ", \"extra_config\": {\"annulus\": {\"health\": {\"path\": \"/\", \"unhealthy_after\": 0}}}",
            "health.unhealthy_after: expected a whole number from 1 to 100",
        ),
        (
            ", \"extra_config\": {\"annulus\": {\"health\": {\"path\": \"/\", \"panic_below\": 2}}}",
            "health.panic_below: expected a share",
        ),
        (", \"extra_config\": {\"proxy\": {\"shadow\": true}}", "endpoints[0]: all backends are shadows"),
        (
            ", \"extra_config\": {\"proxy\": {\"shadow_timeout\": \"6m\"}}",
            "proxy.shadow_timeout: a shadow has five minutes",
        ),
        (", \"host\": [\"ws://a\"]", "ws:// and wss:// are for backends of endpoints with the namespace websocket"),
    ] {
        let problems = problems_in_json_and_yaml(&with("", "", backend));
        assert_eq!(problems.len(), 1, "{backend}: {problems:#?}");
        assert!(problems[0].contains(says), "{backend}:\n{}\n{says}", problems[0]);
    }
}

#[test]
fn mistakes_in_toml_have_their_places() {
    for (text, says) in [
        (
            "version = 3\nport = \"80\"\n",
            "a.toml:2:8: port: expected a whole number from 0 to 65535, found the text \"80\"",
        ),
        ("version = 3\n[tsl]\n", "a.toml:2:2: tsl: there is no key \"tsl\": did you mean \"tls\"?"),
        ("version = 3\ntimeout = 1979-05-27\n", "a.toml:2:11: timeout: expected a duration"),
        ("version = 3\n[extra_config.\"telemetry/loging\"]\n", "did you mean \"telemetry/logging\"?"),
        (
            "version = 3\n[extra_config.router]\ntrusted_proxies = [\n  \"::1\",\n  \"x\",\n]\n",
            "a.toml:5:3: extra_config.router.trusted_proxies[1]: \"x\" is not a network",
        ),
        (
            "version = 3\nhost = [\"h\"]\n[[endpoints]]\nendpoint = \"/a\"\n  [[endpoints.backend]]\n  url_pattern = \"/{b}\"\n",
            "a.toml:6:17: endpoints[0].backend[0].url_pattern: the endpoint's path has no {b}",
        ),
        ("version = 2\n", "a.toml:1:11: version: expected version 3, found the number 2"),
        (
            "version = 3\nendpoints = { a = 1 }\n",
            "a.toml:2:13: endpoints: expected a list of endpoints, found an object",
        ),
    ] {
        let problems = problems(load_text("a.toml", Syntax::Toml, text, &STRICT));
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says), "{text}:\n{}\n{says}", problems[0]);
    }
}

#[test]
fn everything_is_said_at_once_in_the_files_order() {
    for (name, syntax, text, expected) in [
        (
            "a.json",
            Syntax::Json,
            "{\n  \"version\": 3,\n  \"prot\": 1,\n  \"timeout\": 5,\n  \"endpoints\": [\n    {\"endpoint\": \"a\", \"backend\": \
             [{\"host\": [\"h\"]}]}\n  ]\n}",
            [(3, 3), (4, 14), (6, 18), (6, 35)],
        ),
        (
            "a.yaml",
            Syntax::Yaml,
            "version: 3\nprot: 1\ntimeout: 5\nendpoints:\n  - endpoint: a\n    backend:\n      - host: [h]\n",
            [(2, 1), (3, 10), (5, 15), (7, 9)],
        ),
        (
            "a.toml",
            Syntax::Toml,
            "version = 3\nprot = 1\ntimeout = 5\n[[endpoints]]\nendpoint = \"a\"\n[[endpoints.backend]]\nhost = [\"h\"]\n",
            [(2, 1), (3, 11), (5, 12), (6, 1)],
        ),
    ] {
        let problems = problems(load_text(name, syntax, text, &STRICT));
        let says = [
            "prot: there is no key \"prot\": did you mean \"port\"?",
            "timeout: expected a duration",
            "endpoints[0].endpoint: expected a path that starts with a slash, found \"a\"",
            "endpoints[0].backend[0]: the key \"url_pattern\" is missing",
        ];
        assert_eq!(problems.len(), says.len(), "{name}: {problems:#?}");
        for ((problem, says), (line, column)) in problems.iter().zip(says).zip(expected) {
            assert!(
                problem.starts_with(&format!("{name}:{line}:{column}: {says}")),
                "{problem}\n{line}:{column} {says}"
            );
        }
    }
}

#[test]
fn the_same_key_twice_is_an_error_in_three_syntaxes() {
    for (name, syntax, text, says) in [
        (
            "a.json",
            Syntax::Json,
            "{\"version\": 3,\n \"port\": 1,\n \"port\": 2}",
            "a.json:3:2: the key \"port\" is here twice: line 2",
        ),
        (
            "a.yaml",
            Syntax::Yaml,
            "version: 3\nport: 1\nport: 2\n",
            "a.yaml:3:1: the key \"port\" is here twice: line 2",
        ),
        ("a.toml", Syntax::Toml, "version = 3\nport = 1\nport = 2\n", "a.toml:3:1: duplicate key"),
    ] {
        let problems = problems(load_text(name, syntax, text, &STRICT));
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with(says), "{problems:#?}");
    }
}

#[test]
fn templates_are_named() {
    for (name, syntax, text, place, marker) in [
        ("a.json", Syntax::Json, "{\"version\": 3,\n \"port\": {{ .port }}\n}", "a.json:2:10: ", "{{ .port }}"),
        (
            "a.json",
            Syntax::Json,
            "{\"version\": 3,\n \"endpoints\": [{{ include \"e.tmpl\" }}]\n}",
            "a.json:2:16: ",
            "{{ include",
        ),
        ("a.json", Syntax::Json, "{\"version\": 3, \"name\": \"{{ .name }}\"}", "a.json:1:24: ", "{{ .name }}"),
        ("a.yaml", Syntax::Yaml, "version: 3\nport: {{ .port }}\n", "a.yaml:2:7: ", "{{ .port }}"),
        ("a.toml", Syntax::Toml, "version = 3\nport = {{ .port }}\n", "a.toml:2:8: ", "{{ .port }}"),
    ] {
        let problems = problems(load_text(name, syntax, text, &STRICT));
        let found = problems.iter().find(|problem| problem.contains("flexible configuration"));
        let found = found.unwrap_or_else(|| panic!("{text}: {problems:#?}"));
        assert!(found.starts_with(place) && found.contains("Render the file first"), "{text}: {found}");
        assert!(found.contains(&marker.replace('"', "\\\"")), "{text}: {found}");
    }
    // Where templates belong to what we do not interpret, they are nobody's mistake.
    let backend = ", \"extra_config\": {\"modifier/request-body-generator\": {\"template\": \"{{ .req_body }}\"}}";
    let problems = problems(json(&with("", "", backend)));
    assert!(problems.len() == 1 && problems[0].contains("request bodies from templates"), "{problems:#?}");
}

#[test]
fn what_is_not_offered_is_refused_or_answers_501() {
    for (root, endpoint, backend, says, answers) in [
        (
            "",
            ", \"extra_config\": {\"modifier/lua-proxy\": {}}",
            "",
            "GET /a/{id}: modifier/lua-proxy (Lua scripts) is not offered",
            false,
        ),
        (
            "",
            "",
            ", \"extra_config\": {\"backend/lambda\": {}}, \"host\": [\"arn:x:/y\"]",
            "GET /a/{id}: backend/lambda (AWS Lambda",
            false,
        ),
        (
            "",
            ", \"extra_config\": {\"validation/cel\": []}",
            "",
            "validation/cel (CEL expressions) is not offered",
            false,
        ),
        (
            ", \"extra_config\": {\"auth/revoker\": {\"N\": 1000}}",
            "",
            "",
            "auth/revoker (revocation of tokens) is not offered",
            false,
        ),
        (
            ", \"extra_config\": {\"securty/cors\": {}}",
            "",
            "",
            "nobody knows the namespace \"securty/cors\": did you mean \"security/cors\"?",
            false,
        ),
        ("", ", \"extra_config\": {\"my/own\": {}}", "", "nobody knows the namespace \"my/own\"", false),
        (
            "",
            ", \"extra_config\": {\"github.com/devopsfaith/krakend-x\": {}}",
            "",
            "a name from before KrakenD 2.0",
            false,
        ),
        (
            ", \"extra_config\": {\"qos/ratelimit/service\": {\"max_rate\": 1}}",
            "",
            "",
            "qos/ratelimit/service (a rate limit for all endpoints) is not offered",
            false,
        ),
        (", \"disable_rest\": true", "", "", "disable_rest (placeholders within segments) is not offered", false),
        (
            ", \"extra_config\": {\"telemetry/logging\": {\"level\": \"DEBUG\"}}",
            "",
            "",
            "telemetry/logging (log format and level) is not offered yet",
            true,
        ),
        (
            ", \"extra_config\": {\"auth/api-keys\": {\"keys\": []}}",
            "",
            "",
            "auth/api-keys (API keys) is not offered",
            true,
        ),
        (
            "",
            ", \"extra_config\": {\"auth/api-keys\": {}}",
            "",
            "GET /a/{id}: auth/api-keys (API keys) is not offered",
            false,
        ),
        (
            ", \"extra_config\": {\"router\": {\"max_payload\": 10}}",
            "",
            "",
            "router.max_payload (a limit for request bodies)",
            false,
        ),
        (", \"extra_config\": {\"router\": {\"error_body\": {}}}", "", "", "router.error_body (bodies of 404", true),
        (", \"extra_config\": {\"telemetry/influx\": {}}", "", "", "telemetry/influx", true),
        ("", "", ", \"encoding\": \"yaml\"", "encoding: yaml (YAML from backends) is not offered", false),
    ] {
        let text = with(root, endpoint, backend);
        let problems = problems(json(&text));
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says) && problems[0].contains("--allow-unsupported"), "{text}: {problems:#?}");
        let (gateway, notes) = load_text("a.json", Syntax::Json, &text, &LENIENT).unwrap_or_else(|e| panic!("{e:#?}"));
        assert_eq!(notes.len(), 1, "{text}: {notes:#?}");
        assert!(notes[0].says.contains(says), "{text}: {notes:#?}");
        let reason = gateway.endpoints[0].unsupported.as_deref();
        assert_eq!(reason.is_none(), answers, "{text}: {reason:?}");
        assert_eq!(notes[0].says.contains("501"), !answers, "{text}: {notes:#?}");
    }
}

#[test]
fn the_rest_of_a_file_works_beside_what_is_not_offered() {
    let text = "version: 3\nlisten_ip: ::1\nhost: [h]\nendpoints:\n  - endpoint: /lua\n    extra_config:\n      \
                modifier/lua-proxy: {}\n    backend:\n      - url_pattern: /\n  - endpoint: /fine\n    backend:\n      \
                - url_pattern: /\n";
    let (gateway, notes) = load_text("a.yaml", Syntax::Yaml, text, &LENIENT).unwrap();
    let note = "a.yaml:7:27: endpoints[0].extra_config[\"modifier/lua-proxy\"]: GET /lua: modifier/lua-proxy (Lua scripts) \
                is not offered: this endpoint answers 501";
    assert_eq!(said(&notes), [note]);
    assert_eq!(gateway.endpoints[0].unsupported.as_deref(), Some("modifier/lua-proxy (Lua scripts) is not offered"));
    assert_eq!(gateway.endpoints[1].unsupported, None);
}

#[test]
fn endpoints_do_not_collide() {
    let file = |endpoints: &str| {
        format!("{{\"version\": 3, \"host\": [\"h\"], \"listen_ip\": \"::1\",\n\"endpoints\": [{endpoints}]}}")
    };
    let backend = "\"backend\": [{\"url_pattern\": \"/\"}]";
    for (endpoints, says) in [
        (
            format!("{{\"endpoint\": \"/a/{{x}}\", {backend}}},\n{{\"endpoint\": \"/a/{{y}}\", {backend}}}"),
            "a.json:3:1: endpoints[1]: GET /a/{y} is GET /a/{x} once more, which is in line 2",
        ),
        (
            format!("{{\"endpoint\": \"a\", {backend}}},\n{{\"endpoint\": \"/\", {backend}}}"),
            "a.json:2:28: endpoints[0].endpoint: expected a path that starts with a slash",
        ),
        (format!("{{\"endpoint\": \"/__health\", {backend}}}"), "endpoints[0]: /__health is the gateway's own"),
        (format!("{{\"endpoint\": \"/__debug/x\", {backend}}}"), "endpoints[0]: /__debug is the gateway's own"),
        (
            "{\"endpoint\": \"/n\", \"output_encoding\": \"no-op\", \"backend\": [{\"url_pattern\": \"/\"}, \
             {\"url_pattern\": \"/\"}]}"
                .to_owned(),
            "a no-op endpoint passes one backend's answer on as it comes, and this has 2",
        ),
    ] {
        let problems = problems(json(&file(&endpoints)));
        assert_eq!(problems.len(), 1, "{endpoints}: {problems:#?}");
        assert!(problems[0].contains(says), "{endpoints}: {problems:#?}");
    }
    let apart = format!(
        "{{\"endpoint\": \"/a/{{x}}\", {backend}}}, {{\"endpoint\": \"/a/b\", {backend}}}, {{\"endpoint\": \"/a/*\", \
         {backend}}}, {{\"endpoint\": \"/a/b\", \"method\": \"POST\", {backend}}}, {{\"endpoint\": \"/__healthy\", {backend}}}"
    );
    assert_eq!(json(&file(&apart)).unwrap().0.endpoints.len(), 5);
}

#[test]
fn what_is_hardly_meant_is_noted() {
    for (root, endpoint, backend, says) in [
        ("", ", \"extra_config\": {\"proxy\": {\"sequential\": true}}", "", "endpoints[0]: sequential has no effect"),
        ("", "", ", \"allow\": [\"a\"], \"deny\": [\"b\"]", "backend[0].deny: allow is set as well"),
        ("", "", ", \"is_collection\": true, \"target\": \"data\"", "a target other than \"collection\" finds nothing"),
        ("", "", ", \"extra_config\": {\"annulus\": {\"timeout\": \"3s\"}}", "longer than the endpoint's timeout"),
        ("", ", \"output_encoding\": \"no-op\"", ", \"group\": \"x\"", "a no-op answer is passed on as it comes"),
        ("", ", \"output_encoding\": \"no-op\"", ", \"encoding\": \"json\"", "encoding: has no effect"),
        ("", ", \"input_headers\": [\"*\", \"a\"]", "", "\"*\" passes everything on"),
        ("", ", \"input_headers\": [\"Connection\"]", "", "never passed on"),
        ("", "", ", \"input_headers\": [\"X-A\"]", "\"x-a\" does not reach this backend"),
        ("", ", \"extra_config\": {\"qos/ratelimit/router\": {\"client_max_rate\": 1}}", "", "told apart by ip"),
        (
            "",
            "",
            ", \"extra_config\": {\"backend/http\": {\"return_error_details\": \"x\", \"return_error_code\": true}}",
            "return_error_code is ignored",
        ),
        (", \"dialer_keep_alive\": \"1s\"", "", "", "dialer_keep_alive has no effect here"),
        (", \"client_tls\": {\"allow_insecure_connections\": true}", "", "", "not verified"),
        (", \"tls\": {\"disabled\": true, \"min_version\": \"TLS10\"}", "", "", "the oldest is TLS 1.2"),
        (
            "",
            ", \"extra_config\": {\"documentation/openapi\": {\"summary\": \"{{ x }}\"}}",
            "",
            "documentation/openapi has no effect here",
        ),
        ("", "", ", \"encoding\": \"fast-json\"", "another name for json"),
        (
            "",
            "",
            ", \"mapping\": {\"a\": \"b\"}, \"extra_config\": {\"proxy\": {\"flatmap_filter\": [{\"type\": \"del\", \"args\": [\"a\"]}]}}",
            "allow, deny and mapping are ignored",
        ),
    ] {
        let (_, notes) = json(&with(root, endpoint, backend)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(notes.len(), 1, "{root}{endpoint}{backend}: {notes:#?}");
        assert!(notes[0].to_string().contains(says), "{root}{endpoint}{backend}: {notes:#?}");
    }
}

#[test]
fn the_effective_configuration_makes_the_same_gateway() {
    for name in ["shop.json", "shop.yaml", "shop.toml"] {
        let (shop, _) = load(&sample(name), &STRICT).unwrap();
        let printed = print_effective(&shop);
        assert!(printed.contains("api_key=REDACTED") && !printed.contains("hunter2"), "{printed}");
        let (again, notes) = json(&printed).unwrap_or_else(|problems| panic!("{printed}\n{problems:#?}"));
        assert_eq!(said(&notes), Vec::<String>::new());
        assert_eq!(print_effective(&again), printed);
        let mut shop = without_places(shop);
        let mut again = without_places(again);
        for gateway in [&mut shop, &mut again] {
            gateway.endpoints[0].backends[0].url_pattern.source.clear();
            gateway.endpoints[0].backends[0].url_pattern.query.clear();
            // What is printed is all said.
            for endpoint in &mut gateway.endpoints {
                (endpoint.merge_order_is_set, endpoint.output_is_set) = (true, true);
            }
        }
        assert_eq!(shop, again, "{name}");
    }
}

#[test]
fn the_switch_is_explained() {
    let two = ", \"backend\": [{\"url_pattern\": \"/\"}, {\"url_pattern\": \"/\"}]";
    let file = |root: &str, endpoint: &str| {
        format!(
            "{{\"version\": 3, \"host\": [\"h\"], \"listen_ip\": \"::1\"{root}, \"endpoints\": [{{\"endpoint\": \
             \"/a\"{two}{endpoint}}}]}}"
        )
    };
    let (gateway, _) = json(&file("", "")).unwrap();
    assert_eq!(
        compat_differences(&gateway),
        [
            "GET /a: when no backend succeeds, 502 or 504 with a problem document instead of 500",
            "GET /a: when two backends answer the same member, the later backend in the file wins instead of the later to answer",
            "GET /a: members stay in the backends' order and form instead of being sorted and escaped",
        ]
    );
    let (gateway, _) = json(&file(", \"extra_config\": {\"annulus\": {\"compat\": \"annulus\"}}", "")).unwrap();
    assert_eq!(
        compat_differences(&gateway)[0],
        "GET /a: when no backend succeeds, 500 instead of 502 or 504 with a problem document"
    );
    assert_eq!(compat_differences(&gateway).len(), 3);
    let set = ", \"extra_config\": {\"annulus\": {\"merge_order\": \"declared\", \"output\": \"canonical\"}}";
    assert_eq!(compat_differences(&json(&file("", set)).unwrap().0).len(), 1);
}

#[test]
fn a_large_file_on_one_line_has_its_places() {
    let endpoint = |index| format!("{{\"endpoint\":\"/a/{index}\",\"backend\":[{{\"url_pattern\":\"/b\"}}]}}");
    let endpoints: Vec<String> = (0..20_000).map(endpoint).collect();
    let text = format!("{{\"version\":3,\"host\":[\"h\"],\"endpoints\":[{}],\"x\":0}}", endpoints.join(","));
    let problems = problems(json(&text));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with(&format!("a.json:1:{}: x: ", text.len() - 5)), "{problems:?}");
}

#[test]
fn files_that_cannot_be_read_are_said() {
    let folder = std::env::temp_dir().join(format!("annulus-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("latin1.json");
    std::fs::write(&file, b"{\"version\": 3,\n \"name\": \"caf\xe9\"}").unwrap();
    assert_eq!(
        problems(load(&file, &STRICT)),
        [format!("{}:2:14: the file is not UTF-8 from here on", file.display())]
    );
    let none = problems(load(&folder.join("none.json"), &STRICT));
    assert!(none[0].contains("none.json:1:1: cannot read the file: "), "{none:?}");
    let unnamed = folder.join("configuration");
    std::fs::write(&unnamed, "version = 3\n").unwrap();
    assert_eq!(load(&unnamed, &STRICT).unwrap().0.listen.port, 8080);
    std::fs::remove_dir_all(&folder).unwrap();
}
