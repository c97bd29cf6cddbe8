//! Documents, whole: of other servers, key sets mostly, and for them.

use std::cell::Cell;
use std::time::Duration;

use super::{AGENT, Endpoint, Outbound};
use crate::gateway::fetching::{Call, Failure, FieldList, Phase};

/// Asks for a document. Redirects are not followed: a URL of keys says where the keys are.
///
/// # Errors
/// A sentence that names the URL: it is none, or there was no answer of status 200 with at most `bytes_max` bytes
/// within `timeout`.
pub async fn get(outbound: &Outbound, url: &str, bytes_max: usize, timeout: Duration) -> Result<Vec<u8>, String> {
    let endpoint = Endpoint::read(url)?;
    match ask(outbound, &endpoint, "GET", &[("accept", b"application/json")], None, bytes_max, timeout).await? {
        (200, document) => Ok(document?),
        (status, _) => Err(format!("{endpoint} answered with status {status}")),
    }
}

/// Sends a document, with fields besides; the status that answers it. Redirects are not followed.
///
/// # Errors
/// A sentence that names the endpoint: there was no answer within `timeout`. One with more than `bytes_max` bytes is one.
pub async fn post_json(
    outbound: &Outbound,
    endpoint: &Endpoint,
    fields: &[(&str, &[u8])],
    document: &[u8],
    bytes_max: usize,
    timeout: Duration,
) -> Result<u16, String> {
    let mut own = Vec::from([("content-type", &b"application/json"[..])]);
    own.extend_from_slice(fields);
    let (status, _answer) = ask(outbound, endpoint, "POST", &own, Some(document), bytes_max, timeout).await?;
    Ok(status)
}

/// The status of an answer, and its body, if that could be had.
type Answered = (u16, Result<Vec<u8>, String>);

async fn ask(
    outbound: &Outbound,
    endpoint: &Endpoint,
    method: &str,
    own: &[(&str, &[u8])],
    body: Option<&[u8]>,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Answered, String> {
    let mut fields = FieldList::new();
    own.iter().for_each(|(name, value)| fields.push(name, value));
    if fields.get("user-agent").is_none() {
        fields.push("user-agent", AGENT);
    }
    let (target, authority, progress) = (&endpoint.target[..], &endpoint.authority[..], Cell::new(Phase::Admission));
    let call = Call { method, target, authority, fields: &fields, body, inflow: None, progress: &progress };
    outbound.sweep();
    let upstream = outbound.upstream(endpoint);
    let named = |failure: Failure| format!("{endpoint}: {} ({})", failure.cause, failure.phase.name());
    let answered = async {
        let answer = upstream.call(&call).await.map_err(named)?;
        Ok((answer.status, answer.collect(bytes_max).await.map_err(named)))
    };
    match outbound.shard().timeout(timeout, Box::pin(answered)).await {
        Ok(answered) => answered,
        Err(_elapsed) => Err(format!("{endpoint}: no answer within {timeout:?} ({})", progress.get().name())),
    }
}
