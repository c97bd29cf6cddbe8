//! What is asked of a client before its request is served: its program, its origin, its token, and the shape of its body.
//!
//! ```text
//!   request ─► cors.rs: a preflight's answer ─► bots.rs: 403 ─► tokens.rs: 401, 403, 503 ─► limits ─► bodies.rs: 400 ─► backends
//! ```

mod bodies;
mod bots;
mod cors;
mod tokens;

use std::sync::Arc;

pub use bodies::Bodies;
pub use bots::Bots;
pub use cors::Origins;
pub use tokens::{Claims, Tokens};

use super::config::model::Gateway;
use super::problem;
use super::request::Reply;

/// What is answered where nobody has the time to look.
pub fn busy() -> Reply {
    problem::problem(503, "the gateway has too much to do").with("retry-after", "1")
}

/// All of a configuration's, shared by all shards.
pub struct Guards {
    /// For all requests.
    pub bots: Option<Arc<Bots>>,
    /// For all requests.
    pub origins: Option<Arc<Origins>>,
    /// For each endpoint, in their order.
    pub endpoints: Vec<Guarded>,
}

/// An endpoint's.
#[derive(Clone)]
pub struct Guarded {
    /// Which programs are refused.
    pub bots: Option<Arc<Bots>>,
    /// Which token is wanted.
    pub tokens: Option<Arc<Tokens>>,
    /// What bodies must look like.
    pub bodies: Option<Bodies>,
}

impl Guards {
    /// Of a configuration. Key sets that are fetched are gone on with where the one before had them.
    ///
    /// # Errors
    /// A sentence: a file of keys cannot be used, patterns are too many.
    pub fn new(gateway: &Gateway, before: Option<&Guards>) -> Result<Guards, String> {
        let before: Vec<Arc<Tokens>> = before.iter().flat_map(|before| before.tokens()).cloned().collect();
        let mut known: Vec<Arc<Tokens>> = Vec::new();
        let bots = |detector: &Option<_>| detector.as_ref().map(Bots::new).transpose().map(|bots| bots.map(Arc::new));
        let mut endpoints = Vec::new();
        for endpoint in &gateway.endpoints {
            let tokens =
                endpoint.validator.as_ref().map(|rule| Tokens::load(rule, &known, &before)).transpose()?.map(Arc::new);
            known.extend(tokens.clone());
            let bodies = endpoint.body_schema.as_deref().map(Bodies::new).transpose()?;
            endpoints.push(Guarded { bots: bots(&endpoint.bot_detector)?, tokens, bodies });
        }
        let origins = gateway.cors.as_ref().map(|cors| Arc::new(Origins::new(cors)));
        Ok(Guards { bots: bots(&gateway.bot_detector)?, origins, endpoints })
    }

    /// All validators.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Tokens>> {
        self.endpoints.iter().filter_map(|guarded| guarded.tokens.as_ref())
    }
}
