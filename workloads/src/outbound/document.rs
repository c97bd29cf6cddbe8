//! Documents of other servers, whole: key sets, mostly.

use std::cell::Cell;
use std::time::Duration;

use super::{AGENT, Endpoint, Outbound};
use crate::gateway::fetching::{Call, FieldList, Phase};

/// Asks for a document. Redirects are not followed: a URL of keys says where the keys are.
///
/// # Errors
/// A sentence that names the URL: it is none, or there was no answer of status 200 with at most `bytes_max` bytes
/// within `timeout`.
pub async fn get(outbound: &Outbound, url: &str, bytes_max: usize, timeout: Duration) -> Result<Vec<u8>, String> {
    let endpoint = Endpoint::read(url)?;
    let mut fields = FieldList::new();
    fields.push("accept", b"application/json");
    fields.push("user-agent", AGENT);
    let (target, authority, progress) = (&endpoint.target[..], &endpoint.authority[..], Cell::new(Phase::Admission));
    let call = Call { method: "GET", target, authority, fields: &fields, body: None, progress: &progress };
    outbound.sweep();
    let upstream = outbound.upstream(&endpoint);
    let document = async {
        let answer = upstream.call(&call).await?;
        match answer.status {
            200 => answer.collect(bytes_max).await.map(Ok),
            status => Ok(Err(status)),
        }
    };
    match outbound.shard().timeout(timeout, Box::pin(document)).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(status))) => Err(format!("{endpoint} answered with status {status}")),
        Ok(Err(failure)) => Err(format!("{endpoint}: {} ({})", failure.cause, failure.phase.name())),
        Err(_elapsed) => Err(format!("{endpoint}: no answer within {timeout:?} ({})", progress.get().name())),
    }
}
