//! The root of a file: the service as a whole.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint;
use super::extra::Namespaces;
use super::model::{
    AccessFormat, ClientTls, Compat, Gateway, Host, KeyPair, Listen, Network, OutputEncoding, Pool, Router, Server,
    Tls, TlsVersion,
};
use super::ours;
use super::read::{Field, Object};
use super::report::Report;
use super::support::Levels;
use super::tree::{Node, Value};
use super::{address, check, guard, telemetry};

/// Unless the file says otherwise; KrakenD's own is none, which lets a client hold a connection by not speaking.
const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Unless the file says otherwise; KrakenD's own is none.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Unless the file says otherwise; KrakenD's own is none.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(90);
/// Unless the file says otherwise; KrakenD's own is none.
const DIALER_TIMEOUT: Duration = Duration::from_secs(5);
/// Where every file says nothing, as in KrakenD.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What endpoints inherit.
pub struct Inherited {
    /// The upstreams of backends that name none.
    pub hosts: Vec<Host>,
    /// The deadline.
    pub timeout: Duration,
    /// How long clients may keep answers.
    pub cache_ttl: Duration,
    /// The form of answers.
    pub output_encoding: Option<endpoint::Encoded>,
    /// Merge order and output.
    pub ours: ours::Defaults,
}

/// Reads a whole file. What it returns is only of use if the report then has no problem.
pub fn gateway(node: &Node, report: &mut Report) -> Gateway {
    let mut gateway = defaults();
    let Some(mut object) = Field::root(node).object(report) else { return gateway };
    if !is_version_3(&mut object, report) {
        return gateway;
    }
    if let Some(name) = object.take("name").and_then(|field| field.string("a name", report)) {
        gateway.name = name.to_owned();
    }
    gateway.listen = listen(&mut object, report);
    gateway.tls = object.take("tls").and_then(|field| tls(&field, report));
    if let Some(field) = object.take("client_tls") {
        gateway.client_tls = client_tls(&field, report);
    }
    flags(&mut object, &mut gateway, report);
    pool_and_server(&mut object, &mut gateway, report);
    pass_over(&mut object, report);
    let namespaces = Namespaces::take(&mut object, Levels::ROOT, report);
    let router = namespaces.object("router", report).and_then(|object| router(object, &mut gateway.router, report));
    gateway.cors = namespaces.object("security/cors", report).map(|object| guard::cors(object, report));
    let bots = namespaces.object("security/bot-detector", report);
    gateway.telemetry = telemetry::root(&namespaces, &gateway.name, report).map(Arc::new);
    gateway.bot_detector = bots.map(|object| guard::bot_detector(object, report));
    if let Some(object) = namespaces.object("auth/validator", report) {
        guard::validators(object, report);
    }
    let ours = ours::root(namespaces.object("annulus", report), &mut gateway, report);
    if gateway.disable_compression || gateway.router.disable_gzip {
        gateway.compression = None;
    }
    let mut unsupported = namespaces.unsupported.or(router);
    for (key, name) in [("disable_rest", "disable_rest"), ("async_agent", "async_agent"), ("plugin", "plugin")] {
        let field = object.take(key).filter(|field| !matches!(field.node.value, Value::Bool(false)));
        let reason = field.and_then(|field| ours::feature(name, &field, report));
        unsupported = unsupported.or(reason);
    }
    let inherited = inherited(&mut object, ours, report);
    gateway.hosts.clone_from(&inherited.hosts);
    gateway.timeout = inherited.timeout;
    if let Some(field) = object.take("endpoints") {
        let endpoints = field.list("a list of endpoints", report).unwrap_or_default();
        gateway.endpoints = endpoints.iter().filter_map(|field| endpoint::read(field, &inherited, report)).collect();
    }
    report.about(None);
    object.finish(report);
    check::endpoints(&gateway, report);
    for endpoint in &mut gateway.endpoints {
        endpoint.unsupported = endpoint.unsupported.take().or_else(|| unsupported.clone());
    }
    gateway
}

/// A gateway without endpoints, as a file with nothing but its version makes it.
fn defaults() -> Gateway {
    Gateway {
        name: String::new(),
        listen: Listen { ip: Ipv4Addr::LOCALHOST.into(), port: 8080 },
        hosts: Vec::new(),
        timeout: TIMEOUT,
        endpoints: Vec::new(),
        tls: None,
        client_tls: ClientTls {
            allow_insecure_connections: false,
            ca_certs: Vec::new(),
            system_ca_pool: true,
            min_version: TlsVersion::Tls13,
            max_version: TlsVersion::Tls13,
            client_certs: Vec::new(),
        },
        use_h2c: false,
        pool: Pool {
            max_idle_connections_per_host: 250,
            idle_connection_timeout: Some(IDLE_CONNECTION_TIMEOUT),
            dialer_timeout: Some(DIALER_TIMEOUT),
            response_header_timeout: None,
            disable_keep_alives: false,
        },
        server: Server {
            read_timeout: None,
            read_header_timeout: Some(READ_HEADER_TIMEOUT),
            write_timeout: None,
            idle_timeout: Some(IDLE_TIMEOUT),
            max_header_bytes: 1_000_000,
            max_shutdown_wait: None,
        },
        dns_cache_ttl: Duration::from_secs(30),
        name_servers: Vec::new(),
        debug_endpoint: false,
        echo_endpoint: false,
        sequential_start: false,
        disable_compression: false,
        router: Router {
            health_path: Some("/__health".to_owned()),
            trusted_proxies: Vec::new(),
            remote_ip_headers: vec!["x-forwarded-for".to_owned(), "x-real-ip".to_owned()],
            return_error_msg: false,
            disable_access_log: false,
            logger_skip_paths: Vec::new(),
            hide_version_header: false,
            auto_options: false,
            disable_method_not_allowed: false,
            disable_redirect_trailing_slash: false,
            disable_gzip: false,
        },
        compat: Compat::KrakenD,
        memory_bytes_max: None,
        tunnels_max: ours::TUNNELS_MAX,
        access_format: AccessFormat::Text,
        rate_limit_store: None,
        compression: None,
        cors: None,
        bot_detector: None,
        telemetry: None,
    }
}

/// A file of another version has other keys: one sentence says so, instead of one for each of them.
fn is_version_3(object: &mut Object<'_>, report: &mut Report) -> bool {
    let Some(field) = object.take("version") else {
        report.problem(
            object.at(),
            "",
            "the key \"version\" is missing: a KrakenD configuration starts with version 3",
        );
        return false;
    };
    let why = match &field.node.value {
        Value::Number(number) if number == "3" => return true,
        Value::Number(number) if number == "1" || number == "2" => {
            ". That is the format of KrakenD before 2.0: migrate the file first"
        }
        Value::String(text) if text == "3" => ". Leave out the quotes",
        _ => "",
    };
    field.problem(format!("expected version 3, found {}{why}", field.node.value.describe()), report);
    false
}

fn listen(object: &mut Object<'_>, report: &mut Report) -> Listen {
    let port = object.take("port").and_then(|field| field.whole(0, 65535, report)).unwrap_or(8080) as u16;
    let Some(field) = object.take("listen_ip") else {
        let says = "listens on 127.0.0.1 only, where KrakenD would listen on every interface: set listen_ip to \
                    \"0.0.0.0\" for that";
        report.note(object.at(), "listen_ip", says);
        return Listen { ip: Ipv4Addr::LOCALHOST.into(), port };
    };
    let what = "an address such as \"0.0.0.0\" or \"::\"";
    let ip: Option<IpAddr> = match field.string(what, report).map(str::parse) {
        Some(Ok(ip)) => Some(ip),
        Some(Err(_)) => {
            field.expected(what, report);
            None
        }
        None => None,
    };
    Listen { ip: ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), port }
}

fn flags(object: &mut Object<'_>, gateway: &mut Gateway, report: &mut Report) {
    for (name, flag) in [
        ("use_h2c", &mut gateway.use_h2c),
        ("debug_endpoint", &mut gateway.debug_endpoint),
        ("echo_endpoint", &mut gateway.echo_endpoint),
        ("sequential_start", &mut gateway.sequential_start),
        ("disable_compression", &mut gateway.disable_compression),
        ("disable_keep_alives", &mut gateway.pool.disable_keep_alives),
    ] {
        take_flag(object, name, flag, report);
    }
}

fn take_flag(object: &mut Object<'_>, name: &'static str, flag: &mut bool, report: &mut Report) {
    if let Some(value) = object.take(name).and_then(|field| field.boolean(report)) {
        *flag = value;
    }
}

fn pool_and_server(object: &mut Object<'_>, gateway: &mut Gateway, report: &mut Report) {
    let (pool, server) = (&mut gateway.pool, &mut gateway.server);
    if let Some(most) = object.take("max_idle_connections_per_host").and_then(|field| field.whole(0, 1 << 20, report)) {
        pool.max_idle_connections_per_host = most as u32;
    }
    if let Some(bytes) = object.take("max_header_bytes").and_then(|field| field.whole(1024, 64 << 20, report)) {
        server.max_header_bytes = bytes as u32;
    }
    for (name, timeout) in [
        ("idle_connection_timeout", &mut pool.idle_connection_timeout),
        ("dialer_timeout", &mut pool.dialer_timeout),
        ("response_header_timeout", &mut pool.response_header_timeout),
        ("read_timeout", &mut server.read_timeout),
        ("read_header_timeout", &mut server.read_header_timeout),
        ("write_timeout", &mut server.write_timeout),
        ("idle_timeout", &mut server.idle_timeout),
        ("max_shutdown_wait_time", &mut server.max_shutdown_wait),
    ] {
        if let Some(duration) = object.take(name).and_then(|field| field.duration(report)) {
            *timeout = (!duration.is_zero()).then_some(duration);
        }
    }
    if let Some(ttl) = object.take("dns_cache_ttl").and_then(|field| field.duration(report)) {
        gateway.dns_cache_ttl = ttl;
    }
}

fn pass_over(object: &mut Object<'_>, report: &mut Report) {
    object.pass_over(
        &[
            ("dialer_fallback_delay", "both families of addresses are tried by our own schedule"),
            ("dialer_keep_alive", "idle connections are watched by HTTP/2 pings and idle_connection_timeout"),
            ("expect_continue_timeout", "requests to backends never wait for 100 Continue"),
            ("max_idle_connections", "max_idle_connections_per_host is what limits them"),
        ],
        report,
    );
}

fn inherited(object: &mut Object<'_>, ours: ours::Defaults, report: &mut Report) -> Inherited {
    let hosts = object.take("host").map_or(Vec::new(), |field| hosts(&field, false, report));
    let timeout = object.take("timeout").and_then(|field| field.duration(report));
    let cache_ttl = object.take("cache_ttl").and_then(|field| field.duration(report));
    let output_encoding = object.take("output_encoding").and_then(|field| endpoint::output_encoding(&field, report));
    Inherited {
        hosts,
        // Zero is as good as not said, as in KrakenD.
        timeout: timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT),
        cache_ttl: cache_ttl.unwrap_or_default(),
        output_encoding,
        ours,
    }
}

/// A list of upstreams.
pub fn hosts(field: &Field<'_>, raw: bool, report: &mut Report) -> Vec<Host> {
    let texts = field.strings("a list of hosts such as [\"http://users:8080\"]", report).unwrap_or_default();
    let mut hosts = Vec::new();
    for (field, text) in texts {
        match address::host(text, raw) {
            Ok(host) => hosts.push(host),
            Err(error) => field.problem(format!("{text:?} is not a host: {error}"), report),
        }
    }
    hosts
}

fn tls(field: &Field<'_>, report: &mut Report) -> Option<Tls> {
    let mut object = field.object(report)?;
    let mut disabled = false;
    take_flag(&mut object, "disabled", &mut disabled, report);
    let listed = object.take("keys");
    let mut keys = listed.as_ref().map_or(Vec::new(), |field| key_pairs(field, "public_key", report));
    if let Some(field) =
        listed.as_ref().filter(|field| matches!(&field.node.value, Value::Array(list) if list.is_empty()))
    {
        field.problem("expected a certificate and its key at least, found an empty list", report);
    }
    // Before KrakenD 2.7 there was one pair, without a list.
    let (public, private) = (path(&mut object, "public_key", report), path(&mut object, "private_key", report));
    match (public, private) {
        (Some(certificate), Some(private_key)) => keys.push(KeyPair { certificate, private_key }),
        (None, None) => {}
        _ => report.problem(object.at(), object.key(), "public_key and private_key belong together: one is missing"),
    }
    if keys.is_empty() && listed.is_none() && !disabled {
        report.problem(object.at(), object.key(), "the key \"keys\" is missing: certificates and their keys");
    }
    let client_ca_certs = paths(&mut object, "ca_certs", report);
    let (mut enable_mtls, mut no_system) = (false, false);
    take_flag(&mut object, "enable_mtls", &mut enable_mtls, report);
    take_flag(&mut object, "disable_system_ca_pool", &mut no_system, report);
    if enable_mtls && client_ca_certs.is_empty() {
        let says = "enable_mtls needs ca_certs: whose certificates clients must show. Any public authority's would \
                    let anybody in who has a domain";
        report.problem(object.at(), object.key(), says);
    }
    let (min_version, max_version) = tls_versions(&mut object, report);
    pass_over_tls(&mut object, report);
    object.finish(report);
    let client_ca_certs = if enable_mtls { client_ca_certs } else { Vec::new() };
    (!disabled).then_some(Tls { keys, min_version, max_version, client_ca_certs, system_ca_pool: !no_system })
}

fn client_tls(field: &Field<'_>, report: &mut Report) -> ClientTls {
    let mut tls = defaults().client_tls;
    let Some(mut object) = field.object(report) else { return tls };
    let insecure = object.take("allow_insecure_connections");
    tls.allow_insecure_connections = insecure.as_ref().and_then(|field| field.boolean(report)).unwrap_or(false);
    if let Some(field) = insecure.filter(|_| tls.allow_insecure_connections) {
        field.note("certificates of upstreams are not verified: whoever is in between can read and change all", report);
    }
    tls.ca_certs = paths(&mut object, "ca_certs", report);
    let mut no_system = false;
    take_flag(&mut object, "disable_system_ca_pool", &mut no_system, report);
    tls.system_ca_pool = !no_system;
    (tls.min_version, tls.max_version) = tls_versions(&mut object, report);
    if let Some(field) = object.take("client_certs") {
        tls.client_certs = key_pairs(&field, "certificate", report);
    }
    pass_over_tls(&mut object, report);
    object.finish(report);
    tls
}

fn pass_over_tls(object: &mut Object<'_>, report: &mut Report) {
    let why = "the TLS library offers only strong ones, in its own order";
    object
        .pass_over(&[("cipher_suites", why), ("curve_preferences", why), ("prefer_server_cipher_suites", why)], report);
}

fn tls_versions(object: &mut Object<'_>, report: &mut Report) -> (TlsVersion, TlsVersion) {
    let words = [("SSL3.0", None), ("TLS10", None), ("TLS11", None)];
    let spoken = [("TLS12", Some(TlsVersion::Tls12)), ("TLS13", Some(TlsVersion::Tls13))];
    let words = [&words[..], &spoken[..]].concat();
    let least = match object.take("min_version") {
        None => TlsVersion::Tls13,
        Some(field) => match field.one_of(&words, report) {
            Some(None) => {
                field.note("versions before TLS 1.2 are broken and not spoken: the oldest is TLS 1.2", report);
                TlsVersion::Tls12
            }
            Some(Some(version)) => version,
            None => TlsVersion::Tls13,
        },
    };
    let Some(field) = object.take("max_version") else { return (least, TlsVersion::Tls13) };
    let most = match field.one_of(&words, report) {
        Some(None) => {
            field.problem("versions before TLS 1.2 are broken and not spoken", report);
            None
        }
        version => version.flatten(),
    };
    if most.is_some_and(|most| most < least) {
        field.problem("this is older than min_version, which is TLS13 unless it is set", report);
    }
    (least, most.unwrap_or(TlsVersion::Tls13))
}

fn key_pairs(field: &Field<'_>, certificate: &'static str, report: &mut Report) -> Vec<KeyPair> {
    let mut pairs = Vec::new();
    let entries = field.list("a list of certificates and their keys", report).unwrap_or_default();
    for entry in entries {
        let Some(mut object) = entry.object(report) else { continue };
        let chain = object.need(certificate, report).and_then(|field| field.text("a file's path", report));
        let key = object.need("private_key", report).and_then(|field| field.text("a file's path", report));
        object.finish(report);
        if let (Some(chain), Some(key)) = (chain, key) {
            pairs.push(KeyPair { certificate: chain.into(), private_key: key.into() });
        }
    }
    pairs
}

fn path(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<PathBuf> {
    object.take(name).and_then(|field| field.text("a file's path", report)).map(PathBuf::from)
}

fn paths(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<PathBuf> {
    let texts = object.take(name).and_then(|field| field.strings("a list of files' paths", report));
    texts.unwrap_or_default().into_iter().map(|(_, text)| text.into()).collect()
}

/// Returns why there can be no answer but 501, if the file asks for something that is not offered.
fn router(mut object: Object<'_>, router: &mut Router, report: &mut Report) -> Option<String> {
    if let Some(field) = object.take("health_path")
        && let Some(path) = field.text("a path such as \"/__health\"", report)
    {
        match path.starts_with('/') && !path.contains(['?', '#', '{', '*', ' ']) {
            true => router.health_path = Some(path.to_owned()),
            false => field.expected("a path such as \"/__health\"", report),
        }
    }
    let mut disable_health = false;
    for (name, flag) in [
        ("disable_health", &mut disable_health),
        ("return_error_msg", &mut router.return_error_msg),
        ("disable_access_log", &mut router.disable_access_log),
        ("hide_version_header", &mut router.hide_version_header),
        ("auto_options", &mut router.auto_options),
        ("disable_handle_method_not_allowed", &mut router.disable_method_not_allowed),
        ("disable_redirect_trailing_slash", &mut router.disable_redirect_trailing_slash),
        ("disable_gzip", &mut router.disable_gzip),
    ] {
        take_flag(&mut object, name, flag, report);
    }
    if disable_health {
        router.health_path = None;
    }
    if let Some(field) = object.take("trusted_proxies") {
        router.trusted_proxies = networks(&field, report);
    }
    let what = "a list of headers";
    if let Some(names) = object.take("remote_ip_headers").and_then(|field| field.strings(what, report)) {
        router.remote_ip_headers = names.iter().map(|(_, name)| name.to_lowercase()).collect();
    }
    for name in ["logger_skip_paths", "logging_skip_paths"] {
        let paths = object.take(name).and_then(|field| field.strings("a list of paths", report));
        router.logger_skip_paths.extend(paths.unwrap_or_default().iter().map(|(_, path)| (*path).to_owned()));
    }
    let mut unsupported = None;
    for (key, name) in [
        ("error_body", "router.error_body"),
        ("max_payload", "router.max_payload"),
        ("decompress_gzip", "router.decompress_gzip"),
    ] {
        let off = |value: &Value| matches!(value, Value::Number(number) if number == "0");
        if let Some(field) = object.take(key).filter(|field| !off(&field.node.value)) {
            let reason = ours::feature(name, &field, report);
            unsupported = unsupported.or(reason);
        }
    }
    object.pass_over(
        &[
            ("app_engine", "there is no such platform header to trust"),
            ("disable_path_decoding", "parameters go to backends as they were sent"),
            ("disable_redirect_fixed_path", "paths are never guessed: another case is another path"),
            ("forwarded_by_client_ip", "it follows from trusted_proxies"),
            ("max_multipart_memory", "bodies are passed on in pieces"),
            ("remove_extra_slash", "an extra slash is another path"),
        ],
        report,
    );
    object.finish(report);
    unsupported
}

fn networks(field: &Field<'_>, report: &mut Report) -> Vec<Network> {
    let what = "a list of networks such as [\"10.0.0.0/8\"]";
    let mut networks = Vec::new();
    for (field, text) in field.strings(what, report).unwrap_or_default() {
        match address::network(text) {
            Ok(network) => networks.push(network),
            Err(error) => field.problem(format!("{text:?} is not a network: {error}"), report),
        }
    }
    networks
}

/// For endpoints that say nothing, where the root says nothing.
pub const OUTPUT_ENCODING: OutputEncoding = OutputEncoding::Json;
