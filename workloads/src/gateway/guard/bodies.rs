//! Bodies of requests that must fit a JSON Schema.

use std::sync::Arc;

use annulus_engine::Shard;

use super::busy;
use crate::gateway::problem;
use crate::gateway::request::Reply;
use crate::schema::Schema;

/// Bytes that are checked in a shard's turn; longer bodies are checked where there is time.
const INLINE_BYTES_MAX: usize = 4 << 10;
/// Bytes of what is said of a body that does not fit.
const DETAIL_BYTES_MAX: usize = 300;

/// A `validation/json-schema`, ready to be asked.
#[derive(Clone)]
pub struct Bodies(Arc<Schema>);

impl Bodies {
    /// Of a schema as JSON.
    ///
    /// # Errors
    /// A sentence: it is none.
    pub fn new(schema: &str) -> Result<Bodies, String> {
        Schema::compile(schema.as_bytes()).map(|schema| Bodies(Arc::new(schema)))
    }

    /// Whether a body fits.
    ///
    /// # Errors
    /// The refusal.
    pub async fn check(&self, shard: &Shard, body: &[u8]) -> Result<(), Reply> {
        let checked = match body.len() {
            0..=INLINE_BYTES_MAX => self.0.check(body),
            _ => {
                let (schema, body) = (self.0.clone(), body.to_vec());
                let job = shard.compute(move || schema.check(&body)).map_err(|_| busy())?;
                job.await.map_err(|_| busy())?
            }
        };
        checked.map_err(|mut why| {
            let end = (0..=DETAIL_BYTES_MAX.min(why.len())).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
            why.truncate(end);
            problem::problem(400, &format!("the body does not fit this endpoint's schema: {why}"))
        })
    }
}
