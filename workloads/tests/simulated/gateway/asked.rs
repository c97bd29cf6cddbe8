//! What clients of a run ask for, and which answers are right.

use super::Lab;
use super::services::{NONSENSE, UNASKED};

/// What is asked for. Orders are posted.
const PATHS: [&str; 8] = ["one", "both", "again", "order", "raw", "kept", "streams", "stream-order"];
/// The first id of what may be kept.
const KEPT: u64 = 1_000_000;
/// Statuses that the gateway gives of its own or passes on.
const STATUSES: [u16; 8] = [200, 408, 413, 429, 500, 502, 503, 504];

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// No two requests have the same, unless what they ask for may be kept.
    pub id: u64,
    /// What the endpoint is called.
    pub path: &'static str,
    /// The body of an order.
    pub body: Option<Vec<u8>>,
}

impl Asked {
    /// Anything, under this id.
    pub fn anything(lab: &Lab, id: u64) -> Asked {
        let path = PATHS[lab.below(PATHS.len())];
        let body = path.ends_with("order").then(|| vec![b'x'; lab.below(2000)]);
        // What may be kept is asked for by several.
        Asked { id: if path == "kept" { KEPT + id % 4 } else { id }, path, body }
    }

    pub fn method(&self) -> &'static str {
        if self.body.is_some() { "POST" } else { "GET" }
    }

    pub fn target(&self) -> String {
        format!("/{}/{}", self.path, self.id)
    }

    /// Whether an answer that has begun may break off: it is passed on as it comes.
    pub fn may_break(&self, status: u16) -> bool {
        self.path == "raw" && status == 200
    }

    /// Whether a whole answer is to this request, and to no other. What a service of HTTP/1.1 says unasked, and what arrives
    /// only after the connection was used again, is an answer as far as anybody can tell: see [`UNASKED`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn is_answered_by(&self, status: u16, body: &[u8]) -> Result<(), String> {
        let Asked { id, path, .. } = self;
        if !STATUSES.contains(&status) {
            return Err(format!("request {id} to {path} was answered with {status}"));
        }
        let text = String::from_utf8_lossy(body);
        // What is passed on is not looked into.
        if status != 200 || *path == "raw" && text == NONSENSE {
            return Ok(());
        }
        let ids: Vec<&str> = text.split("\"id\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let wanted = id.to_string();
        // One of two services may be missing; what is there is whole.
        if ids.is_empty() || ids.iter().any(|found| *found != wanted && *found != UNASKED) {
            return Err(format!("request {id} to {path} was answered with ids {ids:?}: {text}"));
        }
        match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("request {id} to {path}: {error}: {text}")),
        }
    }
}
