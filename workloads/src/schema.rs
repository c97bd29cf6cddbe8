//! What a JSON text must look like, by a JSON Schema: publications of a chat's namespace, bodies for a gateway's endpoint.

use std::path::Path;

/// Bytes of a schema's file. Beyond: it is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A schema, compiled once and shared by all threads.
pub struct Schema {
    validator: jsonschema::Validator,
}

impl Schema {
    /// Reads and compiles a schema. References to elsewhere are refused: nothing is fetched.
    ///
    /// # Errors
    /// A sentence: the file, and what is wrong with it.
    pub fn read(path: &Path) -> Result<Schema, String> {
        let named = |what: String| format!("schema {}: {what}", path.display());
        let length = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(named(format!("it has {length} bytes, of at most {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
        Schema::compile(&text).map_err(named)
    }

    /// Compiles a schema.
    ///
    /// # Errors
    /// A sentence: what is wrong with it.
    pub fn compile(text: &[u8]) -> Result<Schema, String> {
        let schema = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let validator = jsonschema::validator_for(&schema).map_err(|error| format!("it is no JSON Schema: {error}"))?;
        Ok(Schema { validator })
    }

    /// Whether a JSON text fits.
    ///
    /// # Errors
    /// What does not fit, where.
    pub fn check(&self, data: &[u8]) -> Result<(), String> {
        let value = serde_json::from_slice(data).map_err(|error| error.to_string())?;
        self.validator.validate(&value).map_err(|error| format!("{}: {error}", error.instance_path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_fit_or_do_not() {
        let text = br#"{"type":"object","required":["text"],"properties":{"text":{"type":"string","maxLength":3}}}"#;
        let schema = Schema::compile(text).unwrap();
        assert_eq!(schema.check(br#"{"text":"abc","more":1}"#), Ok(()));
        assert!(schema.check(br#"{"text":"abcd"}"#).unwrap_err().starts_with("/text: "));
        assert!(schema.check(br#"{}"#).is_err() && schema.check(b"1").is_err() && schema.check(b"{").is_err());
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(Schema::compile(b"{").err().unwrap().contains("not JSON"));
        assert!(Schema::compile(br#"{"type":"house"}"#).err().unwrap().contains("no JSON Schema"));
        assert!(Schema::compile(br#"{"$ref":"http://127.0.0.1:1/a.json"}"#).is_err(), "nothing is fetched");
    }
}
