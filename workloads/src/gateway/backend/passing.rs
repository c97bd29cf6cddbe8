//! What a backend is asked for somebody who passes its answer on: answers as they come, gRPC calls, WebSockets.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::Shard;

use super::{Asked, Asking, Ready, Refusal, is_served};
use crate::gateway::grpc;
use crate::gateway::inflow::Inflow;
use crate::gateway::message::{Call, Cause, FOREVER, Failure, FieldList, Phase};
use crate::gateway::request::Request;
use crate::gateway::targets::Target;
use crate::gateway::upstream::{Answer, Switch};
use crate::serve::wire::{Either, either};

impl Ready {
    /// Asks, and gives the answer as it comes: for endpoints that pass it on.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn pass(&self, asking: &Asking<'_>) -> Result<Answer, Refusal> {
        let target = self.target(asking, &[])?;
        let deadline = asking.deadline.min(asking.shard.now() + self.backend.timeout);
        let mut asked = self.admit(asking, deadline)?;
        let left = asked.deadline.saturating_sub(asking.shard.now());
        let span = self.span(asking);
        let outcome = match asking.shard.timeout(left, pin!(self.send(asking, &target, &asked, span.as_ref()))).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Failure::timeout(asked.progress.get())),
        };
        // 101 would hand the client's connection over to a protocol that nobody here has asked for.
        let outcome = outcome.and_then(|answer| match answer.status {
            101 => Err(Failure { phase: Phase::Body, cause: Cause::Status(101), unprocessed: false }),
            _ => Ok(answer),
        });
        asked.settle(match &outcome {
            Ok(answer) => Some(answer.status < 500),
            Err(failure) => is_served(failure),
        });
        Ok(outcome?)
    }

    /// Makes a gRPC call, and gives the answer as it comes. `timeout` is the client's, from its request's beginning to the
    /// call's end; the endpoint's and the backend's own are for what the backend does alone: from all that it was told to
    /// the beginning of its answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn pass_call(
        &self,
        asking: &Asking<'_>,
        inflow: &Rc<Inflow>,
        timeout: Option<Duration>,
    ) -> Result<Answer, Refusal> {
        let (shard, request) = (asking.shard, asking.request);
        let target = self.target(asking, &[])?;
        let until = timeout.map(|timeout| request.began + timeout);
        let left = until.map(|until| until.saturating_sub(shard.now()));
        // A call that was given up says nothing about its backend: clients choose how long they wait.
        let mut asked = self.admit(asking, Duration::MAX)?;
        let mut fields = self.fields(asking).into_owned();
        fields.remove_all(|name| name == "grpc-timeout");
        for name in grpc::PROTOCOL_FIELDS {
            if let (None, Some(value)) = (fields.get(name), request.fields.get(name)) {
                fields.push(name, value);
            }
        }
        fields.push("te", b"trailers");
        if let Some(left) = left {
            fields.push("grpc-timeout", grpc::write_timeout(left).as_bytes());
        }
        let span = self.span(asking);
        if let Some(span) = &span {
            fields.remove_all(|name| name == "traceparent");
            fields.push("traceparent", span.traceparent().as_bytes());
        }
        let own = asking.endpoint.timeout.min(self.backend.timeout);
        let late = async {
            shard.sleep(own).await;
            if asked.progress.get() < Phase::Request {
                return;
            }
            inflow.ended().await;
            shard.sleep(own).await;
        };
        let calling = self.send_to_host(shard, &target, &fields, (None, Some(inflow)), &asked, span.as_ref());
        let ended = shard.timeout(left.unwrap_or(FOREVER), either(pin!(calling), late)).await;
        let (outcome, served) = match ended {
            Ok(Either::First(Ok(mut answer))) => {
                let served = grpc::standing(answer.status, &answer.fields) < 500;
                answer.deadline = until;
                (Ok(answer), Some(served))
            }
            Ok(Either::First(Err(failure))) => {
                let served = is_served(&failure);
                (Err(failure), served)
            }
            Ok(Either::Second(())) => (Err(Failure::timeout(asked.progress.get())), Some(false)),
            Err(_elapsed) => (Err(Failure::timeout(asked.progress.get())), None),
        };
        if let Some(span) = &span {
            match &outcome {
                Ok(answer) => span.answered(answer.status),
                Err(failure) => span.failed(failure.phase.name(), failure.cause.to_string()),
            }
        }
        asked.settle(served);
        Ok(outcome?)
    }

    /// Asks for a WebSocket.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn switch(&self, asking: &Asking<'_>, subprotocols: &[String]) -> Result<Switch, Refusal> {
        let target = self.target(asking, &[])?;
        let deadline = asking.deadline.min(asking.shard.now() + self.backend.timeout);
        let mut asked = self.admit(asking, deadline)?;
        let mut fields = self.fields(asking).into_owned();
        fields.remove_all(|name| name.starts_with("sec-websocket-"));
        handshake_fields(asking.request, subprotocols, &mut fields);
        let left = asked.deadline.saturating_sub(asking.shard.now());
        let switching = self.switch_at_host(asking.shard, &target, &fields, &asked);
        let outcome = match asking.shard.timeout(left, pin!(switching)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Failure::timeout(asked.progress.get())),
        };
        asked.settle(match &outcome {
            Ok(Switch::Agreed { .. }) => Some(true),
            Ok(Switch::Refused(answer)) => Some(answer.status < 500),
            Err(failure) => is_served(failure),
        });
        Ok(outcome?)
    }

    async fn switch_at_host(
        &self,
        shard: &Shard,
        target: &str,
        fields: &FieldList,
        asked: &Asked<'_>,
    ) -> Result<Switch, Failure> {
        let counted = self.choose(shard, asked).await?;
        let Target { host, authority, upstream, .. } = &counted.member.what;
        let target = format!("{}{target}", host.base_path);
        let key = fields.get("sec-websocket-key").unwrap_or_default();
        let call = Call {
            method: "GET",
            target: &target,
            authority,
            fields,
            body: None,
            inflow: None,
            progress: &asked.progress,
        };
        let answered = upstream.switch(&call, key).await;
        counted.settle(match &answered {
            Ok(Switch::Agreed { .. }) => Ok(101),
            Ok(Switch::Refused(answer)) => Ok(answer.status),
            Err(failure) => Err(failure),
        });
        answered
    }
}

/// What of a client's handshake the backend sees: all, but of the subprotocols only those that may be spoken; all if none
/// are named.
fn handshake_fields(request: &Request, subprotocols: &[String], fields: &mut FieldList) {
    let mut offered = Vec::new();
    for (name, value) in request.fields.iter() {
        match name {
            "sec-websocket-protocol" if !subprotocols.is_empty() => {
                let names = std::str::from_utf8(value).unwrap_or_default().split(',').map(str::trim);
                offered.extend(names.filter(|name| subprotocols.iter().any(|allowed| allowed == name)));
            }
            "sec-websocket-key" | "sec-websocket-version" | "sec-websocket-extensions" | "sec-websocket-protocol" => {
                fields.push(name, value);
            }
            _ => {}
        }
    }
    if !offered.is_empty() {
        fields.push("sec-websocket-protocol", offered.join(", ").as_bytes());
    }
}
