//! The namespace `websocket`: a WebSocket of a client that is passed on to a backend of its own.
//!
//! KrakenD's other way, one connection to the backend for all clients with messages in envelopes, is not offered; what only
//! that has, is refused, and what is up to the two ends here is passed over in words.

use std::time::Duration;

use super::endpoint::input_headers;
use super::model::{Endpoint, Forward, Method, OutputEncoding, WebSocket};
use super::read::{Field, Object};
use super::report::Report;
use super::support::Effect;

/// How long nothing may move, as KrakenD has it.
const IDLE: Duration = Duration::from_secs(300);
/// WebSockets of one endpoint, unless the file says otherwise: the gateway's own number is what counts then.
const TUNNELS_MAX: usize = usize::MAX;

/// Reads it. `field` is where it stands, and `encoding` the endpoint's own `output_encoding`, if it has one. A reason is
/// returned if there can be no answer but 501.
pub fn read(field: &Field<'_>, has_own_encoding: bool, endpoint: &mut Endpoint, report: &mut Report) -> Option<String> {
    let mut object = field.object(report)?;
    let mut unsupported = None;
    if !object.flag("enable_direct_communication", report) {
        let why = "one connection to the backend for all clients is not offered, only one for each: set \
                   enable_direct_communication to true";
        unsupported = report.refuse(field.at(), &field.key, why.to_owned(), Effect::Answers);
    }
    for name in ["connect_event", "disconnect_event"] {
        if let Some(event) = object.take(name)
            && event.boolean(report) == Some(true)
        {
            let why = format!("{name} is not offered: what the backend gets is what its client says, and its end");
            unsupported = unsupported.or(report.refuse(event.at(), &event.key, why, Effect::Answers));
        }
    }
    narrow(&mut object, endpoint, report);
    let subprotocols = object.take("subprotocols");
    let subprotocols = subprotocols.and_then(|field| field.strings("a list of subprotocols", report));
    let timeout = object.take("timeout").and_then(|field| field.duration_above_zero(report));
    let frames = "messages are passed on as they are, and what they may be is for the backend to say";
    let buffers = "64 KiB wait for an end that does not read, whatever the file says";
    let pings = "pings and pongs are passed on as they are: let one of the ends send them";
    let retries = "a WebSocket whose backend is gone ends, and its client makes another";
    object.pass_over(
        &[
            ("max_message_size", frames),
            ("message_buffer_size", buffers),
            ("read_buffer_size", buffers),
            ("write_buffer_size", buffers),
            ("ping_period", pings),
            ("pong_wait", pings),
            ("write_wait", "an end that does not read is waited for until timeout is over"),
            ("max_retries", retries),
            ("backoff_strategy", retries),
            ("return_error_details", "the backend's refusal is passed on as it is"),
            ("disable_otel_metrics", "they are metrics of the gateway like all others"),
        ],
        report,
    );
    object.finish(report);
    if endpoint.method != Method::Get {
        field.problem("a WebSocket begins with GET: the endpoint must have no other method", report);
    }
    let serves_others = has_own_encoding && endpoint.output_encoding == OutputEncoding::NoOp;
    if has_own_encoding && !serves_others {
        field.note("the endpoint's output_encoding has no effect: a WebSocket is passed on as it is", report);
    }
    endpoint.output_encoding = OutputEncoding::NoOp;
    endpoint.websocket = Some(WebSocket {
        subprotocols: subprotocols.unwrap_or_default().into_iter().map(|(_, name)| name.to_owned()).collect(),
        idle: timeout.unwrap_or(IDLE),
        serves_others,
        tunnels_max: TUNNELS_MAX,
    });
    unsupported
}

/// `input_headers` of the namespace: of those that the endpoint lets through.
fn narrow(object: &mut Object<'_>, endpoint: &mut Endpoint, report: &mut Report) {
    let (at, key) = (object.at(), object.key_of("input_headers"));
    let Some(own) = input_headers(object, report) else { return };
    if let (Forward::Only(own), Forward::Only(parents)) = (&own, &endpoint.input_headers) {
        for name in own.iter().filter(|name| !parents.contains(name)) {
            report.problem(at, &key, format!("the endpoint's input_headers must have {name:?} too, as in KrakenD"));
        }
    }
    if own != Forward::All {
        endpoint.input_headers = own;
    }
}
