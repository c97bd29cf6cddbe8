//! `annulus check` and `--print-config` on files as people write them.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outside::{clients, not_run};
use serde_json::{Value, json};

/// A file of the test's, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("annulus-command-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_file(&self.0);
    }
}

/// Whether it went well, what it printed, and what it complained of.
fn annulus(arguments: &[&str], file: &Path) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(arguments).arg(file).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_problem_has_its_place() {
    let yaml = "version: 3\nport: 99999\ntimeout: 3 seconds\nendpoints:\n  - endpoint: /a/{id}\n    methd: GET\n    backend:\n      - url_pattern: /b/{nope}\n        host: [\"http://x\"]\n        encoding: jsn\n  - endpoint: /c\n    backend: []\n";
    let json = "{\n  \"version\": 3,\n  \"prot\": 1,\n  \"endpoints\": [\n    {\"endpoint\": \"/a\", \"backend\": [{\"url_pattern\": \"/x\"}]}\n  ]\n}";
    let toml = "version = 3\nprot = 1\n[[endpoints]]\nendpoint = \"/a\"\n[[endpoints.backend]]\nurl_pattern = \"/x\"\nhost = \"http://x\"\n";
    for (name, text, places) in [
        ("bad.yaml", yaml, &[(2, 7), (3, 10), (6, 5), (8, 22), (10, 19), (12, 14)][..]),
        ("bad.json", json, &[(3, 3), (5, 36)]),
        ("bad.toml", toml, &[(2, 1), (7, 8)]),
        ("cut.json", "{\"version\": 3,\n \"port\": 80,\n \"port\": 81, \"x\" }", &[(3, 2), (3, 18)]),
        ("version.json", "{\n\n \"version\": 2}", &[(3, 13)]),
        ("empty.json", "", &[(1, 1)]),
    ] {
        let file = Scratch::new(name, text);
        let (well, told, summary) = annulus(&["check"], &file.0);
        let lines: Vec<&str> = told.lines().filter(|line| !line.contains("note: ")).collect();
        assert!(!well && lines.len() == places.len(), "{name}: {told}");
        for (line, (row, column)) in lines.iter().zip(places) {
            assert!(line.starts_with(&format!("{}:{row}:{column}: ", file.0.display())), "{row}:{column}: {line}");
        }
        let plural = if places.len() == 1 { "" } else { "s" };
        assert!(summary.trim().ends_with(&format!("has {} problem{plural}", places.len())), "{summary}");
        // The gateway itself says the same and does not start.
        let (well, _, refusal) = annulus(&["gateway", "--config"], &file.0);
        assert!(!well && refusal.contains(&format!(":{}:{}: ", places[0].0, places[0].1)), "{refusal}");
    }
}

#[test]
fn the_printed_configuration_is_the_same_configuration() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let least = Scratch::new("least.json", r#"{"version": 3}"#);
    let files = ["examples/shop.json", "tests/gateway/shop.json", "tests/gateway/shop.yaml", "tests/gateway/shop.toml"];
    for file in files.map(|name| root.join(name)).iter().chain([&least.0]) {
        let print = ["gateway", "--allow-unsupported", "--print-config", "--config"];
        let (well, printed, complaint) = annulus(&print, file);
        assert!(well, "{}: {complaint}", file.display());
        let copy = Scratch::new("printed.json", &printed);
        let (well, again, complaint) = annulus(&print, &copy.0);
        assert!(well && again == printed, "{}: {complaint}{again}", file.display());
        let (well, told, complaint) = annulus(&["check", "--allow-unsupported"], &copy.0);
        assert!(well && told.contains("no problems"), "{}: {told}{complaint}", file.display());
    }
}

#[test]
fn a_certificate_that_is_not_here_is_no_problem_of_the_file_and_is_told() {
    let text = r#"{"version": 3, "tls": {"keys": [{"public_key": "/no/such.pem", "private_key": "/no/such.key"}]}, "client_tls": {"client_certs": []}}"#;
    let file = Scratch::new("tls.json", text);
    let (well, told, _) = annulus(&["check"], &file.0);
    assert!(well && told.contains("/no/such.key") && told.contains("no problems"), "{told}");
    let (well, _, refusal) = annulus(&["gateway", "--config"], &file.0);
    assert!(!well && refusal.contains("/no/such.key"), "{refusal}");
}

#[test]
fn what_is_offered_is_an_openapi_document() {
    let text = r#"{"version": 3, "name": "shop", "port": 8080, "host": ["http://x"], "extra_config": {"annulus": {"compat": "annulus"}},
      "endpoints": [
        {"endpoint": "/product/{id}", "input_query_strings": ["page"], "input_headers": ["X-Lang", "Authorization"],
         "backend": [{"url_pattern": "/p/{id}"}]},
        {"endpoint": "/product/{number}", "method": "PUT", "backend": [{"url_pattern": "/p/{number}", "method": "PUT"}],
         "extra_config": {"validation/json-schema": {"type": "object", "required": ["name"]},
           "auth/validator": {"alg": "RS256", "jwk_url": "https://id.example/jwks"},
           "qos/ratelimit/router": {"client_max_rate": 5, "strategy": "ip"}}},
        {"endpoint": "/list", "output_encoding": "json-collection",
         "backend": [{"url_pattern": "/l", "is_collection": true}]},
        {"endpoint": "/files/*", "output_encoding": "no-op", "input_query_strings": ["*"], "backend": [{"url_pattern": "/f"}]}]}"#;
    let file = Scratch::new("openapi.json", text);
    let (well, document, complaint) = annulus(&["gateway", "--print-openapi", "--config"], &file.0);
    assert!(well, "{complaint}");
    let document: Value = serde_json::from_str(&document).unwrap();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/files/{wildcard}", "/list", "/product/{id}"]);
    let product = &document["paths"]["/product/{id}"];
    let named: Vec<_> =
        product["get"]["parameters"].as_array().unwrap().iter().map(|it| (&it["name"], &it["in"])).collect();
    assert_eq!(
        named,
        [(&json!("id"), &json!("path")), (&json!("page"), &json!("query")), (&json!("x-lang"), &json!("header"))]
    );
    let put = &product["put"];
    assert_eq!(put["parameters"][0]["name"], "id", "a path has one name for each of its parameters");
    assert_eq!(put["requestBody"]["content"]["application/json"]["schema"]["required"], json!(["name"]));
    assert_eq!(put["security"], json!([{"bearer": []}, {"cookie_access_token": []}]));
    let statuses: Vec<&String> = put["responses"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["200", "400", "401", "403", "429", "502", "503", "504"]);
    let list = &document["paths"]["/list"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(list["type"], "array");
    assert_eq!(document["paths"]["/files/{wildcard}"]["get"]["description"], "Passes on query parameters of any name.");

    let python = clients().join(".venv/bin/python");
    if !clients().join(".venv/.ready").exists() {
        return not_run("openapi-spec-validator (PyPI)", "make setup-test could not install the Python packages");
    }
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop.json");
    let (well, shop, complaint) = annulus(&["gateway", "--print-openapi", "--config"], &shop);
    assert!(well, "{complaint}");
    for text in [document.to_string(), shop] {
        let mut validator = Command::new(&python);
        let mut validator =
            validator.args(["-m", "openapi_spec_validator", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        validator.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(validator.wait().unwrap().success(), "{text}");
    }
}
