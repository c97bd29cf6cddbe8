//! The effective configuration as a KrakenD v3 document: every default in its place, the same bytes for the same
//! gateway. Read again it makes the same gateway, but for secrets, which are not in it.

use std::time::Duration;

use super::duration;
use super::model::{
    AccessFormat, Backend, BotDetector, ClientKey, ClientTls, Compat, Compression, Cors, Discovery, Encoding, Endpoint,
    Exporter, Filter, Flatmap, FlatmapKey, Forward, Gateway, HedgeAfter, KeyPair, KeySource, LoadBalancing, MergeOrder,
    Output, OutputEncoding, Priority, Protocol, Rate, RateLimitStore, Retry, RouterRateLimit, Static, StaticStrategy,
    Telemetry, Tls, TlsVersion, Validator, WebSocket,
};
use super::tree::quote;

/// A document in the making.
enum Doc {
    /// As it stands.
    Raw(String),
    Text(String),
    List(Vec<Doc>),
    Map(Vec<(String, Doc)>),
}

/// A JSON document of everything that a gateway does. Values of query parameters that look like secrets are left out.
pub fn print_effective(gateway: &Gateway) -> String {
    let mut out = String::new();
    write(&root(gateway), 0, &mut out);
    out.push('\n');
    out
}

fn write(doc: &Doc, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match doc {
        Doc::Raw(text) => out.push_str(text),
        Doc::Text(text) => quote(text, out),
        Doc::List(entries) if entries.iter().all(|entry| matches!(entry, Doc::Raw(_) | Doc::Text(_))) => {
            out.push('[');
            for (index, entry) in entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(entry, depth, out);
            }
            out.push(']');
        }
        Doc::List(entries) => {
            out.push('[');
            for (index, entry) in entries.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                line(depth + 1, out);
                write(entry, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Doc::Map(members) if members.is_empty() => out.push_str("{}"),
        Doc::Map(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                line(depth + 1, out);
                quote(name, out);
                out.push_str(": ");
                write(value, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
    }
}

/// An object in the making.
#[derive(Default)]
struct Map(Vec<(String, Doc)>);

impl Map {
    fn set(&mut self, name: &str, doc: Doc) -> &mut Map {
        self.0.push((name.to_owned(), doc));
        self
    }

    fn text(&mut self, name: &str, text: impl Into<String>) -> &mut Map {
        self.set(name, Doc::Text(text.into()))
    }

    fn raw(&mut self, name: &str, value: impl ToString) -> &mut Map {
        self.set(name, Doc::Raw(value.to_string()))
    }

    fn time(&mut self, name: &str, duration: Duration) -> &mut Map {
        self.text(name, duration::format(duration))
    }

    /// No limit is zero, as in KrakenD.
    fn limit(&mut self, name: &str, duration: Option<Duration>) -> &mut Map {
        self.time(name, duration.unwrap_or_default())
    }

    fn texts(&mut self, name: &str, texts: impl IntoIterator<Item = String>) -> &mut Map {
        self.set(name, Doc::List(texts.into_iter().map(Doc::Text).collect()))
    }

    fn some(&mut self, name: &str, doc: Option<Doc>) -> &mut Map {
        if let Some(doc) = doc {
            self.set(name, doc);
        }
        self
    }

    fn doc(&mut self) -> Doc {
        Doc::Map(std::mem::take(&mut self.0))
    }

    /// Nothing if nothing was put in.
    fn filled(&mut self) -> Option<Doc> {
        (!self.0.is_empty()).then(|| self.doc())
    }
}

fn paths<'a>(paths: impl IntoIterator<Item = &'a std::path::PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| path.display().to_string()).collect()
}

fn root(gateway: &Gateway) -> Doc {
    let (pool, server) = (&gateway.pool, &gateway.server);
    let mut map = Map::default();
    map.raw("version", 3).text("name", &gateway.name);
    map.text("listen_ip", gateway.listen.ip.to_string()).raw("port", gateway.listen.port);
    map.texts("host", gateway.hosts.iter().map(ToString::to_string)).time("timeout", gateway.timeout);
    map.some("tls", gateway.tls.as_ref().map(tls)).set("client_tls", client_tls(&gateway.client_tls));
    map.raw("use_h2c", gateway.use_h2c);
    map.raw("max_idle_connections_per_host", pool.max_idle_connections_per_host);
    map.limit("idle_connection_timeout", pool.idle_connection_timeout);
    map.limit("dialer_timeout", pool.dialer_timeout);
    map.limit("response_header_timeout", pool.response_header_timeout);
    map.raw("disable_keep_alives", pool.disable_keep_alives);
    map.limit("read_timeout", server.read_timeout).limit("read_header_timeout", server.read_header_timeout);
    map.limit("write_timeout", server.write_timeout).limit("idle_timeout", server.idle_timeout);
    map.raw("max_header_bytes", server.max_header_bytes);
    map.limit("max_shutdown_wait_time", server.max_shutdown_wait);
    map.time("dns_cache_ttl", gateway.dns_cache_ttl);
    map.raw("debug_endpoint", gateway.debug_endpoint).raw("echo_endpoint", gateway.echo_endpoint);
    map.raw("sequential_start", gateway.sequential_start).raw("disable_compression", gateway.disable_compression);
    let mut extra = Map::default();
    extra.set("router", router(gateway)).some("security/cors", gateway.cors.as_ref().map(cors));
    extra.some("security/bot-detector", gateway.bot_detector.as_ref().map(bot_detector));
    extra.some("telemetry/opentelemetry", gateway.telemetry.as_deref().map(telemetry));
    let mut ours = Map::default();
    ours.text("compat", if gateway.compat == Compat::KrakenD { "krakend" } else { "annulus" });
    if !gateway.name_servers.is_empty() {
        ours.texts("name_servers", gateway.name_servers.iter().map(ToString::to_string));
    }
    match &gateway.access_format {
        AccessFormat::Text => ours.text("access_log", "text"),
        AccessFormat::Json => ours.text("access_log", "json"),
        AccessFormat::Pattern(pattern) if pattern.source.contains('$') => {
            ours.set("access_log", Map::default().text("format", &pattern.source).doc())
        }
        AccessFormat::Pattern(pattern) => ours.text("access_log", &pattern.source),
    };
    ours.raw("tunnels_max", gateway.tunnels_max);
    ours.some("memory_bytes_max", gateway.memory_bytes_max.map(|bytes| Doc::Raw(bytes.to_string())));
    ours.some("compression", gateway.compression.as_ref().map(compression));
    ours.some("rate_limit", gateway.rate_limit_store.as_ref().map(rate_limit_store));
    extra.set("annulus", ours.doc());
    map.set("extra_config", extra.doc());
    map.set("endpoints", Doc::List(gateway.endpoints.iter().map(endpoint).collect()));
    map.doc()
}

fn compression(compression: &Compression) -> Doc {
    let mut map = Map::default();
    map.texts("encodings", compression.codings.iter().map(|coding| coding.name().to_owned()));
    map.raw("min_bytes", compression.bytes_min).doc()
}

fn rate_limit_store(store: &RateLimitStore) -> Doc {
    let mut map = Map::default();
    map.text("redis", store.redis.without_login()).text("prefix", store.prefix.clone());
    map.time("timeout", store.timeout).raw("gateways", store.gateways).doc()
}

fn router(gateway: &Gateway) -> Doc {
    let router = &gateway.router;
    let mut map = Map::default();
    match &router.health_path {
        Some(path) => map.text("health_path", path),
        None => map.raw("disable_health", true),
    };
    map.texts("trusted_proxies", router.trusted_proxies.iter().map(ToString::to_string));
    map.texts("remote_ip_headers", router.remote_ip_headers.clone());
    map.raw("return_error_msg", router.return_error_msg).raw("disable_access_log", router.disable_access_log);
    map.texts("logger_skip_paths", router.logger_skip_paths.clone());
    map.raw("hide_version_header", router.hide_version_header).raw("auto_options", router.auto_options);
    map.raw("disable_handle_method_not_allowed", router.disable_method_not_allowed);
    map.raw("disable_redirect_trailing_slash", router.disable_redirect_trailing_slash);
    map.raw("disable_gzip", router.disable_gzip);
    map.doc()
}

fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls12 => "TLS12",
        TlsVersion::Tls13 => "TLS13",
    }
}

fn key_pairs(pairs: &[KeyPair], certificate: &str) -> Doc {
    let pair = |pair: &KeyPair| {
        let mut map = Map::default();
        map.text(certificate, pair.certificate.display().to_string());
        map.text("private_key", pair.private_key.display().to_string()).doc()
    };
    Doc::List(pairs.iter().map(pair).collect())
}

fn tls(tls: &Tls) -> Doc {
    let mut map = Map::default();
    map.set("keys", key_pairs(&tls.keys, "public_key"));
    map.text("min_version", version(tls.min_version)).text("max_version", version(tls.max_version));
    map.raw("enable_mtls", !tls.client_ca_certs.is_empty()).texts("ca_certs", paths(&tls.client_ca_certs));
    map.raw("disable_system_ca_pool", !tls.system_ca_pool).doc()
}

fn client_tls(tls: &ClientTls) -> Doc {
    let mut map = Map::default();
    map.raw("allow_insecure_connections", tls.allow_insecure_connections).texts("ca_certs", paths(&tls.ca_certs));
    map.raw("disable_system_ca_pool", !tls.system_ca_pool);
    map.text("min_version", version(tls.min_version)).text("max_version", version(tls.max_version));
    if !tls.client_certs.is_empty() {
        map.set("client_certs", key_pairs(&tls.client_certs, "certificate"));
    }
    map.doc()
}

fn forward(forward: &Forward) -> Vec<String> {
    match forward {
        Forward::All => vec!["*".to_owned()],
        Forward::Only(names) => names.clone(),
    }
}

/// At a backend an empty list would be the endpoint's own; nothing at all is one empty name.
fn narrowed(own: &Forward, endpoints: &Forward) -> Vec<String> {
    match own {
        Forward::Only(names) if names.is_empty() && own != endpoints => vec![String::new()],
        own => forward(own),
    }
}

fn endpoint(endpoint: &Endpoint) -> Doc {
    let mut map = Map::default();
    map.text("endpoint", &endpoint.pattern).text("method", endpoint.method.as_str());
    map.some("@unsupported", endpoint.unsupported.clone().map(Doc::Text));
    map.time("timeout", endpoint.timeout).time("cache_ttl", endpoint.cache_ttl);
    // Said with a WebSocket, it means that other requests are passed on, too.
    if endpoint.websocket.as_ref().is_none_or(|each| each.serves_others) {
        map.text("output_encoding", output_encoding(endpoint.output_encoding));
    }
    map.texts("input_headers", forward(&endpoint.input_headers));
    map.texts("input_query_strings", forward(&endpoint.input_query_strings));
    map.raw("concurrent_calls", endpoint.concurrent_calls);
    let mut extra = Map::default();
    let mut proxy = Map::default();
    if endpoint.sequential {
        proxy.raw("sequential", true);
    }
    proxy.some("static", endpoint.static_data.as_ref().map(static_data));
    proxy.some("flatmap_filter", flatmap(&endpoint.flatmap));
    extra.some("proxy", proxy.filled());
    extra.some("qos/ratelimit/router", endpoint.rate_limit.as_ref().map(|limit| router_rate_limit(limit, endpoint)));
    extra.some("auth/validator", endpoint.validator.as_ref().map(validator));
    extra.some("security/bot-detector", endpoint.bot_detector.as_ref().map(bot_detector));
    extra.some("validation/json-schema", endpoint.body_schema.clone().map(Doc::Raw));
    extra.some("websocket", endpoint.websocket.as_ref().map(websocket));
    let mut ours = Map::default();
    if let Some(most) = endpoint.websocket.as_ref().map(|each| each.tunnels_max).filter(|most| *most < usize::MAX) {
        ours.raw("tunnels_max", most);
    }
    ours.text(
        "priority",
        match endpoint.priority {
            Priority::Critical => "critical",
            Priority::Normal => "normal",
            Priority::Sheddable => "sheddable",
        },
    );
    if endpoint.rate_limit.is_some() {
        ours.text("rate_limit", if endpoint.rate_limit_is_global { "global" } else { "local" });
    }
    ours.text(
        "merge_order",
        match endpoint.merge_order {
            MergeOrder::Declared => "declared",
            MergeOrder::Arrival => "arrival",
        },
    );
    ours.text(
        "output",
        match endpoint.output {
            Output::Fast => "fast",
            Output::Canonical => "canonical",
        },
    );
    extra.set("annulus", ours.doc());
    map.set("extra_config", extra.doc());
    map.set("backend", Doc::List(endpoint.backends.iter().map(|each| backend(each, endpoint)).collect()));
    map.doc()
}

fn websocket(websocket: &WebSocket) -> Doc {
    let mut map = Map::default();
    map.raw("enable_direct_communication", true).texts("subprotocols", websocket.subprotocols.iter().cloned());
    map.time("timeout", websocket.idle).doc()
}

fn validator(validator: &Validator) -> Doc {
    let mut map = Map::default();
    map.text("alg", validator.algorithm.name());
    match &validator.keys {
        KeySource::Url(url) => {
            map.text("jwk_url", url).raw("cache_duration", validator.keys_fresh.as_secs());
            if !url.to_ascii_lowercase().starts_with("https") {
                map.raw("disable_jwk_security", true);
            }
        }
        KeySource::File(path) => _ = map.text("jwk_local_path", path.display().to_string()),
    }
    map.texts("audience", validator.audience.iter().cloned()).some("issuer", validator.issuer.clone().map(Doc::Text));
    if let Some(roles) = &validator.roles {
        map.texts("roles", roles.wanted.iter().cloned()).text("roles_key", roles.claim.join("."));
        map.raw("roles_key_is_nested", roles.claim.len() > 1);
    }
    if let Some(scopes) = &validator.scopes {
        map.texts("scopes", scopes.wanted.iter().cloned()).text("scopes_key", scopes.claim.join("."));
        map.text("scopes_matcher", if scopes.all { "all" } else { "any" });
    }
    let pair = |(claim, header): &(Vec<String>, String)| {
        Doc::List(vec![Doc::Text(claim.join(".")), Doc::Text(header.clone())])
    };
    map.set("propagate_claims", Doc::List(validator.propagated.iter().map(pair).collect()));
    map.raw("propagate_claims_preserve_array", validator.keeps_lists);
    map.text("auth_header_name", &validator.header).text("cookie_key", &validator.cookie);
    map.time("leeway", validator.leeway).raw("operation_debug", validator.tells).doc()
}

fn cors(cors: &Cors) -> Doc {
    let mut map = Map::default();
    map.texts("allow_origins", cors.origins.iter().cloned()).texts("allow_methods", cors.methods.iter().cloned());
    map.texts("allow_headers", cors.headers.iter().cloned()).texts("expose_headers", cors.exposed.iter().cloned());
    map.raw("allow_credentials", cors.credentials).time("max_age", cors.max_age);
    map.raw("allow_private_network", cors.private_network).raw("options_success_status", cors.preflight_status).doc()
}

fn telemetry(telemetry: &Telemetry) -> Doc {
    let exporter = |exporter: &Exporter| {
        let mut map = Map::default();
        map.text("name", &exporter.name).text("host", exporter.endpoint.to_string()).raw("use_http", true);
        map.raw("disable_traces", !exporter.traces).raw("disable_metrics", !exporter.metrics);
        map.raw("custom_reporting_period", exporter.metric_period.as_secs()).doc()
    };
    let exporters = Doc::List(telemetry.exporters.iter().map(exporter).collect());
    let mut map = Map::default();
    map.text("service_name", &telemetry.service_name);
    map.some("service_version", telemetry.service_version.clone().map(Doc::Text));
    map.some("deploy_env", telemetry.deploy_env.clone().map(Doc::Text));
    map.raw("trace_sample_rate", telemetry.trace_sample_rate).texts("skip_paths", telemetry.skip_paths.clone());
    let exporters = Map::default().set("otlp", exporters).doc();
    map.set("exporters", exporters).doc()
}

fn bot_detector(bots: &BotDetector) -> Doc {
    let mut map = Map::default();
    map.texts("allow", bots.allow.iter().cloned()).texts("deny", bots.deny.iter().cloned());
    map.texts("patterns", bots.patterns.iter().cloned()).raw("empty_user_agent_is_bot", bots.denies_empty).doc()
}

fn output_encoding(encoding: OutputEncoding) -> &'static str {
    match encoding {
        OutputEncoding::Json => "json",
        OutputEncoding::JsonCollection => "json-collection",
        OutputEncoding::String => "string",
        OutputEncoding::NoOp => "no-op",
        OutputEncoding::Negotiate => "negotiate",
        OutputEncoding::Xml => "xml",
        OutputEncoding::Yaml => "yaml",
    }
}

fn static_data(data: &Static) -> Doc {
    let mut map = Map::default();
    map.text(
        "strategy",
        match data.strategy {
            StaticStrategy::Always => "always",
            StaticStrategy::Success => "success",
            StaticStrategy::Complete => "complete",
            StaticStrategy::Errored => "errored",
            StaticStrategy::Incomplete => "incomplete",
        },
    );
    let members = data.data.iter().map(|member| (member.name.clone(), Doc::Raw(member.json.clone())));
    map.set("data", Doc::Map(members.collect())).doc()
}

fn flatmap(operations: &[Flatmap]) -> Option<Doc> {
    let path = |path: &Vec<FlatmapKey>| {
        let names: Vec<&str> = path
            .iter()
            .map(|key| match key {
                FlatmapKey::Name(name) => name,
                FlatmapKey::Any => "*",
            })
            .collect();
        names.join(".")
    };
    let operation = |operation: &Flatmap| {
        let (name, arguments) = match operation {
            Flatmap::Move { from, to } => ("move", vec![path(from), path(to)]),
            Flatmap::Append { from, to } => ("append", vec![path(from), path(to)]),
            Flatmap::Delete(paths) => ("del", paths.iter().map(path).collect()),
        };
        Map::default().text("type", name).texts("args", arguments).doc()
    };
    (!operations.is_empty()).then(|| Doc::List(operations.iter().map(operation).collect()))
}

fn router_rate_limit(limit: &RouterRateLimit, endpoint: &Endpoint) -> Doc {
    let mut map = Map::default();
    let every = limit.all.or(limit.client.as_ref().map(|client| client.rate)).map(|rate| rate.every);
    map.some("every", every.map(|every| Doc::Text(duration::format(every))));
    if let Some(all) = &limit.all {
        map.raw("max_rate", all.tokens).raw("capacity", all.capacity);
    }
    if let Some(client) = &limit.client {
        map.raw("client_max_rate", client.rate.tokens).raw("client_capacity", client.rate.capacity);
        let (strategy, key) = match &client.key {
            ClientKey::Ip => ("ip", None),
            ClientKey::IpFromHeader(header) => ("ip", Some(header.clone())),
            ClientKey::Header(header) => ("header", Some(header.clone())),
            ClientKey::Parameter(index) => ("param", endpoint.parameters().nth(*index).map(str::to_owned)),
        };
        map.text("strategy", strategy).some("key", key.map(Doc::Text));
    }
    map.doc()
}

fn backend(backend: &Backend, endpoint: &Endpoint) -> Doc {
    let mut map = Map::default();
    map.texts(
        "host",
        backend.hosts.iter().map(|host| match backend.sd {
            Discovery::Static => host.to_string(),
            // The scheme is in sd_scheme, and a port would be refused.
            Discovery::Dns | Discovery::DnsShared => host.name.clone(),
        }),
    );
    map.text("url_pattern", redacted(&backend.url_pattern.source)).text("method", backend.method.as_str());
    map.text(
        "encoding",
        match backend.encoding {
            Encoding::Json => "json",
            Encoding::SafeJson => "safejson",
            Encoding::String => "string",
            Encoding::NoOp => "no-op",
            Encoding::Xml => "xml",
            Encoding::Rss => "rss",
        },
    );
    map.raw("is_collection", backend.is_collection);
    map.text("target", backend.target.join(".")).text("group", backend.group.clone().unwrap_or_default());
    let joined = |paths: &[Vec<String>]| paths.iter().map(|path| path.join(".")).collect::<Vec<_>>();
    match &backend.filter {
        Filter::Everything => {}
        Filter::Allow(paths) => drop(map.texts("allow", joined(paths))),
        Filter::Deny(paths) => drop(map.texts("deny", joined(paths))),
    }
    if !backend.mapping.is_empty() {
        let pairs = backend.mapping.iter().map(|(from, to)| (from.clone(), Doc::Text(to.clone())));
        map.set("mapping", Doc::Map(pairs.collect()));
    }
    map.texts("input_headers", narrowed(&backend.input_headers, &endpoint.input_headers));
    map.texts("input_query_strings", narrowed(&backend.input_query_strings, &endpoint.input_query_strings));
    map.text(
        "sd",
        match backend.sd {
            Discovery::Static => "static",
            Discovery::Dns => "dns",
            Discovery::DnsShared => "dns-shared",
        },
    );
    map.text("sd_scheme", backend.sd_scheme.as_str()).raw("disable_host_sanitize", backend.disable_host_sanitize);
    map.set("extra_config", extra(backend, endpoint));
    map.doc()
}

fn extra(backend: &Backend, endpoint: &Endpoint) -> Doc {
    let mut map = Map::default();
    let mut proxy = Map::default();
    if let Some(within) = backend.shadow {
        proxy.raw("shadow", true).time("shadow_timeout", within);
    }
    proxy.some("flatmap_filter", flatmap(&backend.flatmap));
    map.some("proxy", proxy.filled());
    map.some(
        "qos/circuit-breaker",
        backend.circuit_breaker.as_ref().map(|breaker| {
            let mut map = Map::default();
            map.text("name", &breaker.name).raw("interval", breaker.interval.as_secs());
            map.raw("timeout", breaker.timeout.as_secs()).raw("max_errors", breaker.max_errors);
            map.raw("log_status_change", breaker.log_status_change).doc()
        }),
    );
    map.some(
        "qos/ratelimit/proxy",
        backend.rate_limit.as_ref().map(|rate: &Rate| {
            let mut map = Map::default();
            map.raw("max_rate", rate.tokens).raw("capacity", rate.capacity).time("every", rate.every).doc()
        }),
    );
    map.some(
        "qos/http-cache",
        backend.cache.as_ref().map(|cache| {
            let mut map = Map::default();
            map.some("max_items", cache.max_items.map(|most| Doc::Raw(most.to_string())));
            map.some("max_size", cache.max_size.map(|most| Doc::Raw(most.to_string()))).doc()
        }),
    );
    let details = backend.return_error_details.clone();
    map.some(
        "backend/http",
        match (details, backend.return_error_code) {
            (Some(name), _) => Some(Map::default().text("return_error_details", name).doc()),
            (None, true) => Some(Map::default().raw("return_error_code", true).doc()),
            (None, false) => None,
        },
    );
    map.set("annulus", ours(backend, endpoint)).doc()
}

fn ours(backend: &Backend, endpoint: &Endpoint) -> Doc {
    let mut map = Map::default();
    map.time("timeout", backend.timeout.min(endpoint.timeout)).raw("required", backend.required);
    map.text(
        "lb",
        match backend.lb {
            LoadBalancing::RoundRobin => "round_robin",
            LoadBalancing::LeastRequest => "least_request",
            LoadBalancing::P2cEwma => "p2c_ewma",
        },
    );
    map.text(
        "protocol",
        match backend.protocol {
            Protocol::Auto => "auto",
            Protocol::Http1 => "http1",
            Protocol::H2 => "h2",
            Protocol::H2c => "h2c",
        },
    );
    map.some("max_response_bytes", backend.max_response_bytes.map(|bytes| Doc::Raw(bytes.to_string())));
    map.some("retry", backend.retry.as_ref().map(retry));
    map.some(
        "hedge",
        backend.hedge.as_ref().map(|hedge| {
            let after = match hedge.after {
                HedgeAfter::Percentile(percentile) => format!("p{percentile}"),
                HedgeAfter::Fixed(delay) => duration::format(delay),
            };
            Map::default().text("after", after).raw("budget", hedge.budget).doc()
        }),
    );
    map.some(
        "outlier",
        backend.outlier.as_ref().map(|outlier| {
            let mut map = Map::default();
            map.raw("consecutive_errors", outlier.consecutive_errors).time("ejection_time", outlier.ejection_time);
            map.time("ejection_time_max", outlier.ejection_time_max).raw("ejected_max", outlier.ejected_max).doc()
        }),
    );
    map.some(
        "health",
        backend.health.as_ref().map(|health| {
            let check = &health.check;
            let mut map = Map::default();
            map.text("path", &check.path).time("interval", check.interval).time("timeout", check.timeout);
            map.raw("unhealthy_after", check.unhealthy_after).raw("healthy_after", check.healthy_after);
            map.raw("panic_below", health.panic_below).doc()
        }),
    );
    map.doc()
}

fn retry(retry: &Retry) -> Doc {
    let on = &retry.on;
    let words = [(on.connect, "connect"), (on.refused, "refused"), (on.reset, "reset"), (on.timeout, "timeout")];
    let words = words.iter().filter(|(is, _)| *is).map(|(_, word)| Doc::Text((*word).to_owned()));
    let statuses = on.statuses.iter().map(|status| Doc::Raw(status.to_string()));
    let mut map = Map::default();
    map.raw("attempts", retry.attempts).set("on", Doc::List(words.chain(statuses).collect()));
    map.raw("budget", retry.budget).doc()
}

/// A pattern without the values of query parameters whose names sound like secrets. Placeholders stay: they hold none.
fn redacted(pattern: &str) -> String {
    let Some((path, query)) = pattern.split_once('?') else { return pattern.to_owned() };
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if sounds_secret(name) && !value.starts_with('{') && !value.is_empty() => {
            format!("{name}=REDACTED")
        }
        _ => parameter.to_owned(),
    };
    let parameters: Vec<String> = query.split('&').map(parameter).collect();
    format!("{path}?{}", parameters.join("&"))
}

fn sounds_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = ["key", "token", "secret", "password", "passwd", "pwd", "auth", "signature", "credential"];
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word)) || name == "sig"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        for (pattern, expected) in [
            ("/a?api_key=abc&x=1", "/a?api_key=REDACTED&x=1"),
            ("/a?ACCESS-TOKEN=abc", "/a?ACCESS-TOKEN=REDACTED"),
            ("/a?token={token}", "/a?token={token}"),
            ("/a?key=", "/a?key="),
            ("/token=abc", "/token=abc"),
            ("/a?page=2", "/a?page=2"),
        ] {
            assert_eq!(redacted(pattern), expected);
        }
    }
}
