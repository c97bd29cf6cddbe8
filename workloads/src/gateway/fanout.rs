//! Asking all backends at once, or one after the other, within the endpoint's time.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::backend::{Asking, Ready, Refusal};
use super::config::model::Endpoint;
use super::message::{Failure, Phase};
use super::part::Part;

/// The share of an endpoint's time after which parallel backends are no longer waited for: what is here is merged and
/// sent in the rest.
const MERGE_SHARE: f64 = 0.85;

/// Until when an endpoint's sub-requests are waited for.
pub fn deadline(endpoint: &Endpoint, began: Duration, backends: usize) -> Duration {
    let share = if backends > 1 && !endpoint.sequential { MERGE_SHARE } else { 1.0 };
    began + endpoint.timeout.mul_f64(share)
}

/// What became of one backend.
pub struct Outcome {
    /// Its part, or why there is none. `None` where it was not asked because one before it had failed.
    pub result: Option<Result<Part, Refusal>>,
    /// How long it took, or was waited for.
    pub elapsed: Duration,
    /// Its place in the order of arrival.
    pub arrived: usize,
}

impl Outcome {
    /// Why there is no part.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.result.as_ref().and_then(|result| result.as_ref().err())
    }
}

/// Asks all at once. Ends early when one fails without which there is no answer; the others are given up then.
pub async fn parallel(asking: &Asking<'_>, backends: &[Rc<Ready>]) -> Vec<Outcome> {
    type Sub<'a> = Pin<Box<dyn Future<Output = Result<Part, Refusal>> + 'a>>;
    let shard = asking.shard;
    let deadline = asking.deadline;
    let began = shard.now();
    let mut waiting: Vec<Option<Sub<'_>>> =
        backends.iter().map(|backend| Some(Box::pin(backend.ask(asking, &[])) as Sub<'_>)).collect();
    let mut outcomes: Vec<Outcome> =
        backends.iter().map(|_| Outcome { result: None, elapsed: Duration::ZERO, arrived: usize::MAX }).collect();
    let mut arrived = 0;
    let all = std::future::poll_fn(|cx| {
        let mut given_up = false;
        for (index, slot) in waiting.iter_mut().enumerate() {
            let Some(sub) = slot else { continue };
            let Poll::Ready(result) = sub.as_mut().poll(cx) else { continue };
            given_up |= result.is_err() && backends[index].backend.required;
            outcomes[index] = Outcome { result: Some(result), elapsed: shard.now() - began, arrived };
            arrived += 1;
            *slot = None;
        }
        if given_up || arrived == backends.len() { Poll::Ready(()) } else { Poll::Pending }
    });
    let left = deadline.saturating_sub(began);
    let in_time = shard.timeout(left, all).await.is_ok();
    drop(waiting);
    for outcome in &mut outcomes {
        if outcome.result.is_none() && !in_time {
            outcome.result = Some(Err(Failure::timeout(Phase::Request).into()));
            outcome.elapsed = shard.now() - began;
        }
    }
    outcomes
}

/// Asks one after the other; each may use the answers before it. Ends with the first failure.
pub async fn sequential(asking: &Asking<'_>, backends: &[Rc<Ready>]) -> Vec<Outcome> {
    let shard = asking.shard;
    let deadline = asking.deadline;
    let mut parts: Vec<Option<Part>> = Vec::new();
    let mut rest: Vec<Outcome> = Vec::new();
    for (index, backend) in backends.iter().enumerate() {
        let began = shard.now();
        let left = deadline.saturating_sub(began);
        let asked = shard.timeout(left, backend.ask(asking, &parts)).await;
        let result = asked.unwrap_or_else(|_elapsed| Err(Failure::timeout(Phase::Request).into()));
        let elapsed = shard.now() - began;
        match result {
            Ok(part) => {
                parts.push(Some(part));
                rest.push(Outcome { result: None, elapsed, arrived: index });
            }
            Err(refusal) => {
                rest.push(Outcome { result: Some(Err(refusal)), elapsed, arrived: index });
                break;
            }
        }
    }
    for (outcome, part) in rest.iter_mut().zip(parts) {
        outcome.result = part.map(Ok);
    }
    let arrived = rest.len();
    rest.extend((arrived..backends.len()).map(|index| Outcome {
        result: None,
        elapsed: Duration::ZERO,
        arrived: index,
    }));
    rest
}
