//! Traces and metrics for a collector: what it is told, that nothing waits for it, and that the protocol's own reader reads it.

use serde_json::Value;

use super::outside::{clients, not_run};
use super::*;

/// A collector that answers with this status, and what it was sent for `/v1/traces` or `/v1/metrics`.
struct Collector(Upstream);

impl Collector {
    fn start(status: &'static str) -> Collector {
        Collector(Upstream::start(move |_| {
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")
        }))
    }

    fn requests(&self, of: &str) -> Vec<Value> {
        let heads = self.0.asked();
        let posts = heads.iter().filter(|head| head.starts_with(&format!("POST {of} HTTP/1.1\r\n")));
        posts.map(|post| serde_json::from_str(post.rsplit_once("\r\n\n").unwrap().1).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Value> {
        let requests = self.requests("/v1/traces");
        let spans = |request: &Value| request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        requests.iter().flat_map(spans).collect()
    }
}

fn shop(backend: &Upstream, collector: &Upstream, more: &str, exporter: &str) -> Gateway {
    let telemetry = format!(
        r#"{{"service_name": "shop"{more}, "exporters": {{"otlp": [{{"name": "here", "host": "127.0.0.1", "port": {}, "use_http": true{exporter}}}]}}}}"#,
        collector.address.port()
    );
    let host = backend.address;
    let endpoint = format!(
        r#"{{"endpoint": "/a/{{id}}", "backend": [{{"host": ["http://{host}"], "url_pattern": "/b/{{id}}"}}, {{"host": ["http://{host}"], "url_pattern": "/c", "group": "c"}}]}}"#
    );
    let root = format!(
        r#", "extra_config": {{"annulus": {{"compat": "annulus"}}, "router": {{"trusted_proxies": ["127.0.0.0/8"]}}, "telemetry/opentelemetry": {telemetry}}}"#
    );
    Gateway::start(&config(&endpoint, &root))
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == name);
    found.map_or(&Value::Null, |attribute| &attribute["value"])
}

/// The field of what a backend was asked.
fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[test]
fn a_request_is_a_trace_of_its_calls() {
    let backend = Upstream::start(|head| match head.starts_with("GET /c") {
        true => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => Upstream::json("{}"),
    });
    let collector = Collector::start("200 OK");
    let mut gateway = shop(&backend, &collector.0, r#", "deploy_env": "test", "skip_paths": ["/__health"]"#, "");
    let ask = |flags: &str| {
        let head = format!("GET /a/7 HTTP/1.1\r\nHost: shop.example\r\nTraceparent: 00-{TRACE}-{PARENT}-{flags}\r\n");
        assert_eq!(gateway.ask(&head, b"").status, 200);
    };
    // Whom the proxy does not trace is not traced.
    ask("00");
    assert!(backend.asked().iter().all(|head| field(head, "traceparent").ends_with("-00")));
    ask("01");
    assert_eq!(gateway.get("/__health").status, 200);
    // What has not been sent at the end is sent then.
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{spans:#?}");
    assert!(spans.iter().all(|span| span["traceId"] == TRACE));
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let (request, good, bad) = (named("GET /a/{id}"), named("GET /b/{id}"), named("GET /c"));
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&PARENT.into(), &2.into()));
    assert_eq!(attribute(request, "http.route")["stringValue"], "/a/{id}");
    assert_eq!(attribute(request, "url.path")["stringValue"], "/a/7");
    assert_eq!(attribute(request, "http.response.status_code")["intValue"], "200");
    assert!(request["status"].is_null());
    for call in [good, bad] {
        assert_eq!((&call["parentSpanId"], &call["kind"]), (&request["spanId"], &3.into()));
        let at = |key: &str| call[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(at("startTimeUnixNano") < at("endTimeUnixNano"));
        // The backend's own spans are parts of the call's.
        let carried = format!("00-{TRACE}-{}-01", call["spanId"].as_str().unwrap());
        assert!(backend.asked().iter().any(|head| field(head, "traceparent") == carried), "{carried}");
    }
    assert_eq!(
        (&bad["status"]["code"], attribute(bad, "error.type")["stringValue"].as_str()),
        (&2.into(), Some("503"))
    );
    let resource = &collector.requests("/v1/traces")[0]["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name")["stringValue"], "shop");
    assert_eq!(attribute(resource, "deployment.environment.name")["stringValue"], "test");
}

#[test]
fn metrics_go_out_and_the_protocols_own_reader_reads_everything() {
    let backend = Upstream::start(|_| Upstream::json("{}"));
    let collector = Collector::start("200 OK");
    let gateway = shop(&backend, &collector.0, r#", "metric_reporting_period": 1"#, "");
    assert_eq!(gateway.get("/a/1").status, 200);
    let until = Instant::now() + Duration::from_secs(60);
    let named = |request: &Value, name: &str| {
        let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["name"] == name).cloned()
    };
    let latency = |request: &Value| named(request, "annulus_gateway_backend_seconds");
    let has_latency =
        |request: &Value| latency(request).is_some_and(|it| it["histogram"]["dataPoints"][0]["count"] == "1");
    while !collector.requests("/v1/metrics").iter().any(has_latency) || collector.spans().len() < 3 {
        assert!(Instant::now() < until, "{:#?}", collector.0.asked());
        std::thread::sleep(Duration::from_millis(100));
    }
    let answers = named(&collector.requests("/v1/metrics").pop().unwrap(), "annulus_gateway_answers_total").unwrap();
    assert_eq!(answers["sum"]["isMonotonic"], true);
    gateway.stop();

    let python = clients().join(".venv/bin/python");
    if !clients().join(".venv/.ready").exists() {
        return not_run("opentelemetry-proto (PyPI)", "make setup-test could not install the Python packages");
    }
    for (kind, of) in [("trace", "/v1/traces"), ("metrics", "/v1/metrics")] {
        for request in collector.requests(of) {
            let mut reader = Command::new(&python);
            reader.arg(clients().join("otlp.py")).arg(kind);
            let mut reader = reader.stdin(std::process::Stdio::piped()).spawn().unwrap();
            reader.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
            assert!(reader.wait().unwrap().success(), "{request:#}");
        }
    }
}

#[test]
fn nobody_waits_for_a_collector_and_what_it_does_not_take_is_counted() {
    let backend = Upstream::start(|_| Upstream::json("{}"));
    for (status, says) in [("400 Bad Request", "answered with status 400"), ("503 Busy", "answered with status 503")] {
        let collector = Collector::start(status);
        let gateway = shop(&backend, &collector.0, "", r#", "disable_metrics": true"#);
        (0..5).for_each(|_| assert_eq!(gateway.get("/a/1").status, 200));
        assert!(gateway.logged(says), "{}", gateway.log.lock().unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        while !gateway.get("/metrics").body.contains("annulus_gateway_spans_dropped_total{shard=\"0\"} 1") {
            assert!(Instant::now() < until, "{}", gateway.get("/metrics").body);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(collector.requests("/v1/metrics").is_empty());
        gateway.stop();
    }
    // Nothing is traced where no share is.
    let collector = Collector::start("200 OK");
    let gateway = shop(&backend, &collector.0, r#", "trace_sample_rate": 0"#, "");
    assert_eq!(gateway.get("/a/1").status, 200);
    gateway.stop();
    assert!(collector.spans().is_empty());
}
