//! TLS on both sides of the gateway: what curl gets, new certificates while requests are under way, and upstreams that
//! are believed, or not.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use gateway_rig::{Answer, Gateway, OURS, Upstream, config};
use outside::certificates::{Authority, Certified};
use outside::{clients, has};

const GROUP: &str = "TLS of the gateway";

/// An upstream with TLS, ended with the test.
struct Secure {
    process: Child,
    _input: ChildStdin,
    port: u16,
}

impl Secure {
    fn start(certified: &Certified, clients_authority: Option<&Authority>, spoken: &str) -> Secure {
        let mut process = Command::new("node")
            .arg("upstream.mjs")
            .args([&certified.key, &certified.chain])
            .arg(clients_authority.map_or("-".into(), Authority::certificate))
            .arg(spoken)
            .current_dir(clients())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let _input = process.stdin.take().unwrap();
        Secure { process, _input, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The root's keys for TLS towards clients.
fn served(pairs: &[&Certified]) -> String {
    let pair = |one: &&Certified| format!(r#"{{"public_key": {:?}, "private_key": {:?}}}"#, one.chain, one.key);
    format!(r#", "tls": {{"keys": [{}]}}{OURS}"#, pairs.iter().map(pair).collect::<Vec<_>>().join(","))
}

/// What curl gets, and what it says of the connection.
fn curl(gateway: &Gateway, authority: &Authority, host: &str, arguments: &[&str]) -> (bool, String) {
    let port = gateway.address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*"])
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1"), "--cacert"])
        .arg(authority.certificate())
        .args(["--write-out", " version=%{http_version} verified=%{ssl_verify_result} connects=%{num_connects}\n"])
        .args(arguments)
        .arg(format!("https://{host}:{port}/v"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn plain_endpoint(upstream: &Upstream) -> String {
    format!(r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "/v"}}]}}"#, upstream.address)
}

#[test]
fn clients_agree_on_a_protocol_and_see_the_certificate_of_the_name_they_asked_for() {
    let Some(authority) = Authority::new(GROUP).filter(|_| has("curl", GROUP)) else { return };
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok": 1}"#));
    let (first, second) = (authority.issue("shop.example"), authority.issue("api.example"));
    let gateway = Gateway::start_on(&config(&plain_endpoint(&upstream), &served(&[&first, &second])), "2", "auto");
    for host in ["shop.example", "api.example"] {
        for (argument, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--tlsv1.3", "2")] {
            let (well, text) = curl(&gateway, &authority, host, &[argument]);
            assert!(well && text.contains(&format!("version={version} verified=0")), "{host} {argument}: {text}");
            assert!(text.contains(r#"{"ok": 1}"#), "{text}");
        }
    }
    // Whoever asks for another name, or for none, sees the first one.
    let (well, text) = curl(&gateway, &authority, "other.example", &[]);
    assert!(!well && text.contains("no alternative certificate subject name matches"), "{text}");
    let probe = Command::new("openssl")
        .args(["s_client", "-noservername", "-connect", &gateway.address.to_string(), "-CAfile"])
        .arg(authority.certificate())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&probe.stdout).into_owned();
    assert!(text.contains("CN = shop.example") && text.contains("Verify return code: 0"), "{text}");
    // KrakenD's least version is 1.3.
    let (well, text) = curl(&gateway, &authority, "shop.example", &["--tls-max", "1.2"]);
    assert!(!well, "{text}");
    // Who speaks no TLS gets no answer and disturbs nobody.
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /v HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _end = std::io::Read::read_to_end(&mut stream, &mut said);
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    assert!(curl(&gateway, &authority, "shop.example", &[]).0);
    gateway.stop();
}

#[test]
fn clients_show_a_certificate_where_that_is_asked_for() {
    let Some(authority) = Authority::new(GROUP).filter(|_| has("curl", GROUP)) else { return };
    let Some(stranger) = Authority::new(GROUP) else { return };
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok": 1}"#));
    let (server, ann, eve) = (authority.issue("shop.example"), authority.issue("ann"), stranger.issue("eve"));
    let asking = format!(
        r#""enable_mtls": true, "disable_system_ca_pool": true, "ca_certs": [{:?}], "keys""#,
        authority.certificate()
    );
    let text = config(&plain_endpoint(&upstream), &served(&[&server]).replace(r#""keys""#, &asking));
    let gateway = Gateway::start(&text);
    let with = |one: &Certified| {
        let (chain, key) = (one.chain.to_str().unwrap(), one.key.to_str().unwrap());
        curl(&gateway, &authority, "shop.example", &["--cert", chain, "--key", key])
    };
    assert!(with(&ann).0, "{:?}", with(&ann));
    assert!(!with(&eve).0 && !curl(&gateway, &authority, "shop.example", &[]).0);
    gateway.stop();
}

#[test]
fn new_certificates_are_used_without_dropping_a_connection() {
    let Some(authority) = Authority::new(GROUP).filter(|_| has("curl", GROUP)) else { return };
    let Some(later) = Authority::new(GROUP) else { return };
    let upstream = Upstream::start(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Upstream::json(r#"{"ok": 1}"#)
    });
    let files = authority.issue("shop.example");
    let gateway = Gateway::start_on(&config(&plain_endpoint(&upstream), &served(&[&files])), "2", "auto");
    let url = format!("https://shop.example:{}/v", gateway.address.port());
    std::thread::scope(|scope| {
        // One connection, over and over, while the certificate changes twice.
        let kept = scope.spawn(|| {
            let many = vec![&url[..]; 24].join("\nurl = ");
            let (well, text) = curl(&gateway, &authority, "shop.example", &["--config", &write(&many)]);
            assert!(well, "{text}");
            text
        });
        std::thread::sleep(std::time::Duration::from_millis(800));
        later.issue("shop.example").replace(&files);
        // The files that the configuration names are watched too.
        assert!(gateway.logged("is in force"));
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(curl(&gateway, &later, "shop.example", &[]).0, "the new certificate is shown");
        // Something that is no certificate changes nothing and is told.
        std::fs::write(&files.chain, "no certificate").unwrap();
        gateway.signal("HUP");
        assert!(gateway.logged("stays as it is"));
        assert!(gateway.logged("shop.example.pem"), "the message names the file");
        assert!(curl(&gateway, &later, "shop.example", &[]).0);
        // SIGHUP does it at once.
        let again = authority.issue("again.example");
        again.replace(&files);
        gateway.signal("HUP");
        let seen = (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            curl(&gateway, &authority, "again.example", &[]).0
        });
        assert!(seen);
        let text = kept.join().unwrap();
        assert_eq!(text.matches(r#"{"ok": 1}"#).count(), 25, "{text}");
        assert_eq!(text.matches("connects=0").count(), 24, "one connection for all: {text}");
    });
    gateway.stop();
}

fn write(urls: &str) -> String {
    let file = std::env::temp_dir().join(format!("annulus-curl-{}", std::process::id()));
    std::fs::write(&file, format!("url = {urls}\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

fn secure_config(host: &str, protocol: &str, client_tls: &str) -> String {
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["https://{host}"], "url_pattern": "/v", "extra_config": {{"annulus": {{"protocol": "{protocol}"}}}}}}]}}"#
    );
    config(&endpoint, &format!(r#", "client_tls": {{{client_tls}}}{OURS}"#))
}

fn ask(text: &str) -> Answer {
    let gateway = Gateway::start(text);
    let answer = gateway.get("/v");
    gateway.stop();
    answer
}

#[test]
fn upstreams_prove_their_name_and_the_protocol_is_agreed_on() {
    let Some(authority) = Authority::new(GROUP).filter(|_| has("node", GROUP)) else { return };
    let localhost = authority.issue("localhost");
    let believed = format!(r#""disable_system_ca_pool": true, "ca_certs": [{:?}]"#, authority.certificate());
    let (h2, http1) = (Secure::start(&localhost, None, "h2"), Secure::start(&localhost, None, "http1"));
    for (port, protocol, version) in [
        (h2.port, "auto", "2.0"),
        (h2.port, "h2", "2.0"),
        (h2.port, "http1", "1.1"),
        (http1.port, "auto", "1.1"),
        (http1.port, "http1", "1.1"),
    ] {
        let answer = ask(&secure_config(&format!("localhost:{port}"), protocol, &believed));
        let expected = format!(r#"{{"version":"{version}","name":"localhost","client":"none"}}"#);
        assert_eq!((answer.status, answer.body), (200, expected), "{protocol}");
    }
    // Twenty at once share a connection that ALPN made HTTP/2.
    let gateway = Gateway::start(&secure_config(&format!("localhost:{}", h2.port), "auto", &believed));
    assert_eq!(gateway.get("/v").status, 200);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| gateway.get("/v").status)).collect();
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), 200));
    });
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let stats = gateway.get("/__stats").body;
    assert!(stats.contains(r#""connects":1,"#) && stats.contains(r#""http2":1,"#), "{stats}");
    gateway.stop();
}

#[test]
fn an_upstream_that_proves_nothing_is_not_asked_and_the_reason_is_told() {
    let Some(authority) = Authority::new(GROUP).filter(|_| has("node", GROUP)) else { return };
    let Some(stranger) = Authority::new(GROUP) else { return };
    let believed = format!(r#""disable_system_ca_pool": true, "ca_certs": [{:?}]"#, authority.certificate());
    let other_name = Secure::start(&authority.issue("other.example"), None, "h2");
    let unknown = Secure::start(&stranger.issue("localhost"), None, "h2");
    let old = Secure::start(&authority.issue("localhost"), None, "http1");
    // Takes connections and says nothing: the time runs out in the handshake.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    for (port, protocol, reason) in [
        (other_name.port, "auto", "not valid for name"),
        (unknown.port, "auto", "UnknownIssuer"),
        (old.port, "h2", "NoApplicationProtocol"),
        (silent, "auto", "took too long"),
        (silent, "h2", "took too long"),
    ] {
        let answer = ask(&secure_config(&format!("localhost:{port}"), protocol, &believed));
        assert_eq!(answer.status, if port == silent { 504 } else { 502 }, "{answer:?}");
        let named = answer.body.contains(r#""backend":"/v","phase":"connect""#) && answer.body.contains("elapsed_ms");
        assert!(named, "{answer:?}");
        assert!(answer.body.contains(reason), "{reason}: {answer:?}");
    }
    // Unless nothing is to be proved.
    let trusting = r#""allow_insecure_connections": true"#;
    assert_eq!(ask(&secure_config(&format!("localhost:{}", unknown.port), "auto", trusting)).status, 200);
}

#[test]
fn the_gateway_shows_its_own_certificate_to_upstreams_that_ask() {
    let Some(authority) = Authority::new(GROUP).filter(|_| has("node", GROUP)) else { return };
    let (localhost, own) = (authority.issue("localhost"), authority.issue("gateway"));
    let believed = format!(r#""disable_system_ca_pool": true, "ca_certs": [{:?}]"#, authority.certificate());
    let shown =
        format!(r#"{believed}, "client_certs": [{{"certificate": {:?}, "private_key": {:?}}}]"#, own.chain, own.key);
    for spoken in ["h2", "http1"] {
        let asking = Secure::start(&localhost, Some(&authority), spoken);
        let host = format!("localhost:{}", asking.port);
        let answer = ask(&secure_config(&host, "auto", &shown));
        assert!(answer.status == 200 && answer.body.contains(r#""client":"gateway""#), "{spoken}: {answer:?}");
        let answer = ask(&secure_config(&host, "auto", &believed));
        assert!(answer.status == 502 && answer.body.contains("ertificate"), "{spoken}: {answer:?}");
    }
}
