//! What a backend is asked: path, query, fields and body, of a request and of what came before it.

use std::borrow::Cow;

use super::{Asking, Ready};
use crate::gateway::config::model::{self, Forward, Piece};
use crate::gateway::message::{Cause, Failure, FieldList, Phase};
use crate::gateway::part::Part;
use crate::gateway::request::Request;
use crate::percent::{encode_into, encode_path_into};

/// What a backend is asked, by itself.
pub struct Question {
    pub(super) target: String,
    pub(super) fields: FieldList,
    pub(super) body: Option<Vec<u8>>,
}

impl Ready {
    /// What of a request's body goes on.
    pub fn body_of<'a>(&self, request: &'a Request) -> Option<&'a [u8]> {
        (!self.backend.method.is_safe()).then_some(&request.body[..])
    }

    /// A question that outlives its request.
    ///
    /// # Errors
    /// What its path is made of is not there, or leads elsewhere.
    pub fn question(&self, asking: &Asking<'_>) -> Result<Question, Failure> {
        Ok(Question {
            target: self.target(asking, &[])?,
            fields: self.fields(asking).into_owned(),
            body: self.body_of(asking.request).map(<[u8]>::to_vec),
        })
    }

    /// Path and query. What comes from a client or an upstream is percent-encoded: it can add no segment and no
    /// parameter.
    pub(super) fn target(&self, asking: &Asking<'_>, earlier: &[Option<Part>]) -> Result<String, Failure> {
        let template = &self.backend.url_pattern;
        let mut target = String::with_capacity(template.source.len() + 32);
        self.fill(&mut target, &template.path, asking, earlier)?;
        let is_literal = template.path.iter().all(|piece| matches!(piece, Piece::Literal(_)));
        if !is_literal && target.split('/').any(|segment| matches!(segment, "." | "..")) {
            let cause = Cause::Malformed("what its path is made of leads somewhere else".to_owned());
            return Err(Failure { phase: Phase::Admission, cause, unprocessed: true });
        }
        let mut separator = '?';
        if !template.query.is_empty() {
            target.push(separator);
            separator = '&';
            self.fill(&mut target, &template.query, asking, earlier)?;
        }
        let allowed = |name: &str| {
            asking.endpoint.input_query_strings.allows(name) && self.backend.input_query_strings.allows(name)
        };
        let mut pairs: Vec<_> = asking.request.query_pairs().filter(|(name, _)| allowed(name)).collect();
        pairs.sort_by_key(|(name, _)| *name);
        for (name, value) in pairs {
            // As the client sent them: characters that end a query cannot be in a checked target.
            target.push(separator);
            target.push_str(name);
            target.push('=');
            target.push_str(value);
            separator = '&';
        }
        Ok(target)
    }

    fn fill(
        &self,
        target: &mut String,
        pieces: &[Piece],
        asking: &Asking<'_>,
        earlier: &[Option<Part>],
    ) -> Result<(), Failure> {
        for piece in pieces {
            match piece {
                Piece::Literal(text) => target.push_str(text),
                Piece::Parameter(index) => {
                    let wildcard = matches!(asking.endpoint.path.last(), Some(model::Segment::Wildcard(_)));
                    let value = asking.params.get(*index).map_or("", String::as_str);
                    match wildcard && index + 1 == asking.params.len() {
                        true => encode_path_into(target, value),
                        false => encode_into(target, value),
                    }
                }
                Piece::Response { backend, path } => {
                    let part = earlier.get(*backend).and_then(Option::as_ref);
                    let value = part.and_then(|part| part.scalar(path));
                    let missing = || Failure {
                        phase: Phase::Admission,
                        cause: Cause::Malformed(format!("answer {backend} has no scalar at {}", path.join("."))),
                        unprocessed: true,
                    };
                    encode_into(target, &value.ok_or_else(missing)?);
                }
                Piece::Claim(path) => {
                    let value = asking.claims.and_then(|claims| claims.text(path));
                    let missing = || Failure {
                        phase: Phase::Admission,
                        cause: Cause::Malformed(format!("the token has no claim {}", path.join("."))),
                        unprocessed: true,
                    };
                    encode_into(target, &value.ok_or_else(missing)?);
                }
            }
        }
        Ok(())
    }

    /// The fields that go on: our own, and those of the client's that both lists allow.
    pub(super) fn fields<'a>(&self, asking: &Asking<'a>) -> Cow<'a, FieldList> {
        let (own, request) = (asking.own_fields, asking.request);
        let nothing = |forward: &Forward| matches!(forward, Forward::Only(names) if names.is_empty());
        if nothing(&asking.endpoint.input_headers) || nothing(&self.backend.input_headers) {
            return Cow::Borrowed(own);
        }
        let mut fields = own.clone();
        // What is merged has to be read here, and compressed bodies are not.
        let is_merged = asking.endpoint.output_encoding != model::OutputEncoding::NoOp;
        let claimed = asking.claims.map(|claims| &claims.fields);
        let goes_on =
            |name: &str| asking.endpoint.input_headers.allows(name) && self.backend.input_headers.allows(name);
        for (name, value) in request.fields.iter() {
            let is_own = matches!(name, "host" | "content-length")
                || (is_merged && name == "accept-encoding")
                || own.get(name).is_some()
                || claimed.is_some_and(|claimed| claimed.get(name).is_some());
            if !is_own && goes_on(name) {
                fields.push(name, value);
            }
        }
        for (name, value) in claimed.iter().flat_map(|claimed| claimed.iter()) {
            if own.get(name).is_none() && goes_on(name) {
                fields.push(name, value);
            }
        }
        Cow::Owned(fields)
    }
}
