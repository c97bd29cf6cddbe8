//! What is asked of clients before their requests are served: tokens, origins, programs, and bodies that fit a schema.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature))
}

/// An identity provider: a key, and an endpoint with the set that holds it.
struct Provider {
    key: Ed25519KeyPair,
    endpoint: Upstream,
    is_down: Arc<AtomicBool>,
    fetched: Arc<AtomicUsize>,
}

impl Provider {
    fn start() -> Provider {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = base64url(key.public_key().as_ref());
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"one","use":"sig","x":"{x}"}}]}}"#);
        let (is_down, fetched): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (down, count) = (is_down.clone(), fetched.clone());
        let endpoint = Upstream::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            match down.load(Ordering::SeqCst) {
                true => "HTTP/1.1 500 Gone\r\nContent-Length: 0\r\n\r\n".to_owned(),
                false => Upstream::json(&set),
            }
        });
        Provider { key, endpoint, is_down, fetched }
    }

    fn token(&self, claims: &str) -> String {
        self.token_named("one", claims)
    }

    fn token_named(&self, kid: &str, claims: &str) -> String {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
        signed(&header, claims, |message| self.key.sign(message).as_ref().to_vec())
    }

    fn validator(&self, more: &str) -> String {
        let url = format!("http://{}/jwks.json", self.endpoint.address);
        format!(r#""auth/validator": {{"alg": "EdDSA", "jwk_url": "{url}", "disable_jwk_security": true{more}}}"#)
    }
}

fn guarded(backend: &Upstream, method: &str, pattern: &str, extra: &str, more: &str) -> String {
    format!(
        r#"{{"endpoint": "/a", "method": "{method}", "extra_config": {{{extra}}}{more}, "backend":
            [{{"host": ["http://{}"], "url_pattern": "{pattern}"}}]}}"#,
        backend.address
    )
}

fn asked(gateway: &Gateway, fields: &str) -> Answer {
    gateway.ask(&format!("GET /a HTTP/1.1\r\nHost: shop.example\r\n{fields}"), b"")
}

fn bearer(gateway: &Gateway, token: &str) -> Answer {
    asked(gateway, &format!("Authorization: Bearer {token}\r\n"))
}

#[test]
fn a_token_lets_its_bearer_in_and_says_who_that_is() {
    let (provider, backend) = (Provider::start(), Upstream::start(|_| Upstream::json(r#"{"ok":true}"#)));
    let validator = provider.validator(
        r#", "issuer": "https://id.example", "audience": ["shop"], "roles_key": "realm.roles", "roles_key_is_nested": true,
            "roles": ["buyer", "clerk"], "propagate_claims": [["sub", "X-User"], ["realm.roles", "X-Roles"], ["no", "X-No"]]"#,
    );
    let endpoint =
        guarded(&backend, "GET", "/b/{JWT.sub}", &validator, r#", "input_headers": ["X-User", "X-Roles", "X-No"]"#);
    let gateway = Gateway::start_on(&config(&endpoint, OURS), "2", "auto");
    let claims = |exp: u64, more: &str| {
        format!(
            r#"{{"iss":"https://id.example","aud":["shop","other"],"sub":"a/b","exp":{exp},"realm":{{"roles":["buyer","x"]}}{more}}}"#
        )
    };
    let good = provider.token(&claims(now() + 60, ""));
    for _ in 0..8 {
        let fields = format!("Authorization: bearer {good}\r\nX-User: root\r\nX-No: root\r\n");
        let answer = asked(&gateway, &fields);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(asked(&gateway, &format!("Cookie: a=1; access_token={good}; b=2\r\n")).status, 200);
    let heads = backend.asked();
    assert_eq!(heads.len(), 9);
    for head in heads {
        let head = head.to_lowercase();
        // What a claim says cannot lead a path anywhere, and what a client says of itself does not count.
        assert!(head.starts_with("get /b/a%2fb http/1.1"), "{head}");
        assert!(
            head.contains("x-user: a/b\r\n") && head.contains("x-roles: buyer,x\r\n") && !head.contains("root"),
            "{head}"
        );
        assert!(!head.contains("authorization"), "{head}");
    }
    assert_eq!(provider.fetched.load(Ordering::SeqCst), 1, "the set is fetched once for all shards");

    let none = asked(&gateway, "");
    assert!(none.status == 401 && none.has("www-authenticate: bearer"), "{none:?}");
    let mut forged = good.clone().into_bytes();
    let middle = good.find('.').unwrap() + 5;
    forged[middle] ^= 1;
    let stranger = Provider::start();
    for (token, says) in [
        (String::from_utf8(forged).unwrap(), "its signature is wrong"),
        (stranger.token(&claims(now() + 60, "")), "its signature is wrong"),
        (provider.token(&claims(now() - 60, "")), "has expired"),
        (provider.token(&claims(now() + 60, "").replace("\"shop\",", "")), "its aud is not ours"),
        (provider.token(&claims(now() + 60, "").replace("id.example", "other.example")), "its iss is not ours"),
        (provider.token(&claims(now() + 60, r#","sub":"twice""#)), "a claim twice"),
        (signed(r#"{"alg":"none"}"#, &claims(now() + 60, ""), |_| Vec::new()), "alg"),
        ("rubbish".to_owned(), "three parts"),
    ] {
        let answer = bearer(&gateway, &token);
        assert!(answer.status == 401 && answer.body.contains(says), "{says}: {answer:?}");
        assert!(answer.has("www-authenticate: bearer error=\"invalid_token\""), "{answer:?}");
        assert!(!answer.body.contains("a/b"), "{answer:?}");
    }
    let outsider = provider.token(&claims(now() + 60, "").replace("\"buyer\",", ""));
    let answer = bearer(&gateway, &outsider);
    assert!(answer.status == 403 && answer.body.contains("roles"), "{answer:?}");
    assert_eq!(backend.asked().len(), 9, "nobody else came through");
    let climbs = provider.token(&claims(now() + 60, "").replace("a/b", ".."));
    assert_eq!(bearer(&gateway, &climbs).status, 502);
    assert_eq!(backend.asked().len(), 9, "nor out of its place in the path");
    // A new edition goes on with the keys that are known.
    provider.is_down.store(true, Ordering::SeqCst);
    gateway.write(&config(&endpoint.replace("\"clerk\"", "\"x\""), OURS));
    gateway.signal("HUP");
    let until = Instant::now() + Duration::from_secs(20);
    while bearer(&gateway, &outsider).status != 200 {
        assert!(Instant::now() < until, "the new edition does not come into force");
        std::thread::sleep(Duration::from_millis(50));
    }
    gateway.stop();
}

#[test]
fn keys_that_cannot_be_had_are_no_fault_of_the_client() {
    let (provider, backend) = (Provider::start(), Upstream::start(|_| Upstream::json("{}")));
    provider.is_down.store(true, Ordering::SeqCst);
    let gateway = Gateway::start(&config(&guarded(&backend, "GET", "/b", &provider.validator(""), ""), OURS));
    let token = provider.token(r#"{"sub":"a"}"#);
    let answer = bearer(&gateway, &token);
    assert!(answer.status == 503 && answer.head.contains("retry-after: "), "{answer:?}");
    assert!(gateway.logged("the key set cannot be fetched"));
    // It is back: the set is fetched again ten seconds after the failure.
    provider.is_down.store(false, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(30);
    while bearer(&gateway, &token).status != 200 {
        assert!(Instant::now() < until, "the set is not fetched again");
        std::thread::sleep(Duration::from_millis(200));
    }
    // However many keys tokens name, the set is fetched for one of them at most.
    let before = provider.fetched.load(Ordering::SeqCst);
    for number in 0..20 {
        let answer = bearer(&gateway, &provider.token_named(&format!("made-up-{number}"), "{}"));
        assert!(matches!(answer.status, 401 | 503), "{answer:?}");
    }
    assert!(provider.fetched.load(Ordering::SeqCst) <= before + 1);
    gateway.stop();
}

/// A file, removed with the test.
pub struct Written(pub PathBuf);

impl Written {
    pub fn new(name: &str, text: &str) -> Written {
        let path = std::env::temp_dir().join(format!("annulus-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Written(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.0);
    }
}

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// A key set with one secret.
pub fn secrets() -> String {
    format!(r#"{{"keys":[{{"kty":"oct","kid":"s1","k":"{}"}}]}}"#, base64url(SECRET))
}

fn by_secret(alg: &str, kid: &str, claims: &str) -> String {
    signed(&format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#), claims, |message| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message).as_ref().to_vec()
    })
}

pub fn signed_by_secret(claims: &str) -> String {
    by_secret("HS256", "s1", claims)
}

#[test]
fn a_list_that_is_empty_leaves_no_room_for_the_clients_own() {
    let file = Written::new("lists.json", &secrets());
    let backend = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let validator = format!(
        r#""auth/validator": {{"alg": "HS256", "jwk_local_path": "{}", "propagate_claims": [["roles", "X-Roles"]],
            "propagate_claims_preserve_array": true}}"#,
        file.0.display()
    );
    let endpoint = guarded(&backend, "GET", "/b", &validator, r#", "input_headers": ["X-Roles"]"#);
    let gateway = Gateway::start(&config(&endpoint, OURS));
    for claims in [r#"{"roles":[]}"#, "{}", r#"{"roles":["a","b"]}"#] {
        let token = signed_by_secret(claims);
        let answer = asked(&gateway, &format!("Authorization: Bearer {token}\r\nX-Roles: admin\r\n"));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let heads = backend.asked().join("\n").to_lowercase();
    assert!(
        !heads.contains("admin") && heads.contains("x-roles: a\r\n") && heads.contains("x-roles: b\r\n"),
        "{heads}"
    );
    gateway.stop();
}

#[test]
fn secrets_of_a_file_verify_and_scopes_are_asked_for() {
    let file = Written::new("secrets.json", &secrets());
    let backend = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let validator = format!(
        r#""auth/validator": {{"alg": "HS256", "jwk_local_path": "{}", "auth_header_name": "X-Token", "scopes_key": "scope",
            "scopes": ["read", "write"], "scopes_matcher": "all"}}"#,
        file.0.display()
    );
    let gateway = Gateway::start(&config(&guarded(&backend, "GET", "/b", &validator, ""), OURS));
    let status = |token: &str| asked(&gateway, &format!("X-Token: {token}\r\n")).status;
    assert_eq!(status(&by_secret("HS256", "s1", r#"{"scope":"write other read"}"#)), 200);
    assert_eq!(status(&by_secret("HS256", "s1", r#"{"scope":["read","write"]}"#)), 200);
    assert_eq!(status(&by_secret("HS256", "s1", r#"{"scope":"read"}"#)), 403);
    assert_eq!(status(&by_secret("HS256", "s1", "{}")), 403);
    assert_eq!(status(&by_secret("HS512", "s1", r#"{"scope":"read write"}"#)), 401);
    assert_eq!(status(&by_secret("HS256", "s2", r#"{"scope":"read write"}"#)), 401);
    gateway.stop();
}

#[test]
fn pages_of_origins_that_are_named_may_ask() {
    let backend = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let root = r#", "extra_config": {"annulus": {"compat": "annulus"}, "security/cors": {"allow_origins":
        ["https://shop.example", "https://*.shop.example"], "allow_methods": ["GET", "POST"], "allow_headers": ["X-Cart"],
        "expose_headers": ["X-Total"], "allow_credentials": true, "max_age": "10m"}}"#;
    let open = Upstream::start(|_| {
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let passed = format!(
        r#"{{"endpoint": "/open", "output_encoding": "no-op", "backend": [{{"host": ["http://{}"], "url_pattern": "/"}}]}}"#,
        open.address
    );
    let both = [guarded(&backend, "GET", "/b", "", ""), passed].join(",");
    let gateway = Gateway::start(&config(&both, root));
    let preflight = |origin: &str, method: &str, headers: &str| {
        gateway.ask(
            &format!(
                "OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
                 Access-Control-Request-Headers: {headers}\r\n"
            ),
            b"",
        )
    };
    for origin in ["https://shop.example", "https://m.shop.example"] {
        let answer = preflight(origin, "POST", "x-cart");
        assert_eq!(answer.status, 204, "{answer:?}");
        for field in [
            &format!("access-control-allow-origin: {origin}")[..],
            "access-control-allow-methods: get, post",
            "access-control-allow-headers: x-cart",
            "access-control-allow-credentials: true",
            "access-control-max-age: 600",
            "vary: origin, access-control-request-method, access-control-request-headers",
        ] {
            assert!(answer.has(field), "{field}: {answer:?}");
        }
    }
    for (origin, method, headers) in [
        ("https://evil.example", "POST", "x-cart"),
        ("https://shop.example.evil.example", "POST", "x-cart"),
        ("null", "POST", "x-cart"),
        ("https://shop.example", "DELETE", "x-cart"),
        ("https://shop.example", "POST", "x-cart, x-other"),
    ] {
        let answer = preflight(origin, method, headers);
        assert!(answer.status == 204 && !answer.head.contains("access-control-allow"), "{origin} {method}: {answer:?}");
    }
    assert!(backend.asked().is_empty(), "a preflight reaches nobody");
    let answer = asked(&gateway, "Origin: https://shop.example\r\n");
    for field in [
        "access-control-allow-origin: https://shop.example",
        "access-control-expose-headers: x-total",
        "access-control-allow-credentials: true",
        "vary: origin",
    ] {
        assert!(answer.status == 200 && answer.has(field), "{field}: {answer:?}");
    }
    // Refusals can be read by the page, too; other origins get the answer without the word that lets them read it.
    let lost = gateway.ask("GET /nowhere HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.example\r\n", b"");
    assert!(lost.status == 404 && lost.has("access-control-allow-origin: https://shop.example"), "{lost:?}");
    // A backend's own word lets nobody in.
    let open = gateway.ask("GET /open HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n", b"");
    assert!(open.status == 200 && !open.head.contains("access-control-allow"), "{open:?}");
    let other = asked(&gateway, "Origin: https://evil.example\r\n");
    assert!(other.status == 200 && !other.head.contains("access-control") && other.has("vary: origin"), "{other:?}");
    gateway.stop();
}

#[test]
fn programs_that_are_named_are_refused() {
    let backend = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let root = r#", "extra_config": {"security/bot-detector": {"allow": ["GoodBot/1.0"], "deny": ["Mirror"],
        "patterns": ["(?i)bot\\b", "^curl/7"], "empty_user_agent_is_bot": true}}"#;
    let gateway = Gateway::start(&config(&guarded(&backend, "GET", "/b", "", ""), root));
    for (fields, status) in [
        ("", 403),
        ("User-Agent: Mozilla/5.0\r\n", 200),
        ("User-Agent: BadBot/2\r\n", 403),
        ("User-Agent: GoodBot/1.0\r\n", 200),
        ("User-Agent: Mirror\r\n", 403),
        ("User-Agent: Mirror 2\r\n", 200),
        ("User-Agent: curl/7.88\r\n", 403),
        ("User-Agent: curl/8.0\r\n", 200),
    ] {
        assert_eq!(asked(&gateway, fields).status, status, "{fields}");
    }
    assert_eq!(gateway.get("/__health").status, 200, "whoever looks after the gateway is let in");
    let metrics = gateway.ask("GET /metrics HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/5.0\r\n", b"").body;
    assert!(metrics.contains("annulus_gateway_denied_total{shard=\"0\"} 4\n"), "{metrics}");
    gateway.stop();
}

#[test]
fn a_body_that_does_not_fit_its_schema_reaches_nobody() {
    let backend = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let schema = r#""validation/json-schema": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"},
        "note": {"type": "string"}}}"#;
    let gateway = Gateway::start(&config(&guarded(&backend, "POST", "/b", schema, ""), OURS));
    let post = |body: &str| {
        let head = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n", body.len());
        gateway.ask(&head, body.as_bytes())
    };
    assert_eq!(post(r#"{"sku": "a"}"#).status, 200);
    let long = format!(r#"{{"sku": "a", "note": "{}"}}"#, "x".repeat(100_000));
    assert_eq!(post(&long).status, 200);
    for (body, says) in
        [("", "EOF"), ("{", "EOF"), ("{}", "sku"), (r#"{"sku": 1}"#, "/sku"), (&long.replace("\"a\"", "7")[..], "/sku")]
    {
        let answer = post(body);
        assert!(answer.status == 400 && answer.body.contains(says) && answer.body.len() < 600, "{says}: {answer:?}");
    }
    assert_eq!(backend.asked().len(), 2);
    gateway.stop();
}
