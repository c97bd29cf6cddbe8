//! The OpenAPI documents for users, `workloads/docs/openapi-*.json`: what they describe, and whether an answer is as described.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

use std::path::Path;

use serde_json::{Value, json};

/// A document.
pub struct Described(Value);

/// Something that can be asked.
pub struct Operation {
    pub method: String,
    /// With `{names}`.
    pub path: String,
    /// The body that the document has for an example, if it has one.
    pub example: Option<Value>,
    responses: Value,
}

impl Described {
    pub fn read(name: &str) -> Described {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        Described(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    /// In the document's order.
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters");
            operations.extend(methods.map(|(method, operation)| Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                example: operation["requestBody"]["content"]["application/json"].get("example").cloned(),
                responses: operation["responses"].clone(),
            }));
        }
        assert!(operations.len() > 10, "the document is not what it was");
        operations
    }

    /// Fails unless a status is described, and the JSON of its answer as well.
    pub fn check(&self, operation: &Operation, status: u16, body: &[u8]) {
        let what = format!("{} {} answered {status}", operation.method, operation.path);
        assert_ne!(status, 405, "{what}");
        let described = operation.responses.get(status.to_string());
        let mut described = described.unwrap_or_else(|| panic!("{what}, which is not described"));
        if let Some(reference) = described.get("$ref") {
            described = self.0.pointer(reference.as_str().unwrap().trim_start_matches('#')).unwrap();
        }
        let Some(content) = described["content"].as_object() else { return };
        let Some((_, media)) = content.iter().find(|(kind, _)| kind.ends_with("json")) else { return };
        let answer: Value = serde_json::from_slice(body)
            .unwrap_or_else(|error| panic!("{what} without JSON: {error}: {}", String::from_utf8_lossy(body)));
        // References within the schema are to the document's own schemas.
        let mut schema = media["schema"].clone();
        schema["components"] = json!({"schemas": self.0["components"]["schemas"]});
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> =
            validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(wrong.is_empty(), "{what}, and not as described: {wrong:?} in {answer}");
    }
}
