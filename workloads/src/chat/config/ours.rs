//! Our dialect: `[chat]` of `annulus.toml` and the tables in it. Whoever may come in may do everything, as far as the
//! machine's own users go; `annulus chat` without any file is a chat to develop against.
//!
//! A key is a line of a table: its name, its default, what it means, and where it goes.

pub mod channels;
pub mod chat;
pub mod events;
pub mod hooks;
pub mod limits;
pub mod storage;

use toml::de::DeValue;

use super::keys::{Key, Set, read_member};
use super::model::Config;
use super::secret::{Pem, Secret};
use crate::config::Value as Toml;
use crate::gateway::config::tree::{Member, Node, Place, Value};

/// A second in milliseconds, as all that follow.
pub const SECOND: u64 = 1000;
/// An hour.
pub const HOUR: u64 = 3600 * SECOND;
/// A day.
pub const DAY: u64 = 24 * HOUR;
/// The longest that anything is kept.
pub const YEAR: u64 = 365 * DAY;
/// The most of a count that only memory limits.
pub const MANY: u64 = 1_000_000_000;
/// The largest size that is believed to be meant, in bytes.
pub const TIB: u64 = 1 << 40;

impl Config {
    /// Sets a key of `[chat]`.
    ///
    /// # Errors
    /// Half a sentence: what was expected; for a key of a table within, that key first.
    pub fn set(&mut self, key: &str, value: &Toml<'_>) -> Result<(), String> {
        let member = Member { name: key.to_owned(), at: Place::START, value: node(value.get_ref()) };
        // The caller names the key itself.
        let named = format!("{key}: ");
        read_member(chat::CHAT, self, &member)
            .map_err(|says| says.strip_prefix(&named).map(str::to_owned).unwrap_or(says))
    }
}

/// A line of a table.
pub const fn key<T>(name: &'static str, default: &'static str, says: &'static str, set: Set<T>) -> Key<T> {
    Key { name, default, says, set }
}

/// TOML as the tree that both dialects are read from. It has no places here: the caller knows the key's.
fn node(value: &DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Number(number.to_string()),
            Err(_) => Value::Number(number.as_str().to_owned()),
        },
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Array(values) => Value::Array(values.iter().map(|value| node(value.get_ref())).collect()),
        DeValue::Table(table) => {
            let member = |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &Toml<'_>)| Member {
                name: name.get_ref().to_string(),
                at: Place::START,
                value: node(value.get_ref()),
            };
            Value::Object(table.iter().map(member).collect())
        }
    };
    Node { value, at: Place::START }
}

/// `"*"` alone is every origin, which no single pattern is: also `null`, and those with slashes.
pub fn origins(patterns: Vec<String>) -> Vec<String> {
    let any = ["*".to_owned(), "*://*".to_owned()];
    if patterns.contains(&any[0]) { any.to_vec() } else { patterns }
}

/// What is not empty.
pub fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A secret that is not empty.
pub fn secret(text: String) -> Option<Secret> {
    some(text).map(Secret::new)
}

/// PEM that is not empty.
pub fn pem(text: String) -> Option<Pem> {
    some(text).map(Pem::new)
}

/// Names of headers as they are compared.
pub fn lower_case(names: Vec<String>) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}
