//! Forms beside JSON: what backends' XML and feeds become, and what JSON becomes for clients that want something else.
//!
//! Everything between is JSON: shapes, merges and changes know nothing of this.

mod from_rss;
mod from_xml;
mod negotiation;
mod to_xml;
mod to_yaml;

pub use from_rss::from_rss;
pub use from_xml::from_xml;
pub use negotiation::negotiated;
pub use to_xml::to_xml;
pub use to_yaml::to_yaml;

/// What the forms are called in `Content-Type` (RFC 7303, RFC 9512).
pub const XML: &str = "application/xml; charset=utf-8";
/// See [`XML`].
pub const YAML: &str = "application/yaml; charset=utf-8";
