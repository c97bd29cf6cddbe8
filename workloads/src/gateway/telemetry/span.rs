//! Spans: what took how long within a trace, by the names of OpenTelemetry's semantic conventions for HTTP.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::Shard;

use super::Telemetry;
use crate::gateway::identity::Context;

/// Which side of a call a span tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// We were called.
    Server,
    /// We called.
    Client,
}

/// An ended span.
#[derive(Debug)]
pub struct Span {
    /// The trace, as 32 digits.
    pub trace: String,
    /// Its own id.
    pub id: u64,
    /// The id of the span that it is a part of; 0 for none.
    pub parent: u64,
    /// What it is called.
    pub name: String,
    /// Which side of a call it tells of.
    pub kind: Kind,
    /// Since 1970.
    pub began: Duration,
    /// How long it lasted.
    pub took: Duration,
    /// What is known of it.
    pub texts: Vec<(&'static str, String)>,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// Why it failed, if it did.
    pub failure: Option<Failed>,
}

/// Why something failed.
#[derive(Debug)]
pub struct Failed {
    /// One of a few: a status, or a phase of the call.
    pub kind: String,
    /// In words.
    pub words: String,
}

/// The span of a request that is being answered.
pub struct RequestSpan<'a> {
    telemetry: &'a Telemetry,
    shard: &'a Shard,
    context: &'a Context,
    began: Duration,
}

impl<'a> RequestSpan<'a> {
    pub(super) fn new(telemetry: &'a Telemetry, shard: &'a Shard, context: &'a Context) -> RequestSpan<'a> {
        RequestSpan { telemetry, shard, context, began: shard.precise_now() }
    }

    /// A call to a host begins.
    pub fn call(&'a self, name: String) -> CallSpan<'a> {
        CallSpan {
            request: self,
            id: self.telemetry.next_id(),
            began: self.shard.precise_now(),
            name,
            texts: RefCell::default(),
            status: Cell::new(None),
            failure: RefCell::default(),
        }
    }

    /// It ends with this answer.
    pub fn end(self, name: String, texts: Vec<(&'static str, String)>, status: u16) {
        // The client's mistakes are no failures of the server's.
        let failure = (status >= 500).then(|| Failed { kind: status.to_string(), words: String::new() });
        let (began, took) = self.lasted(self.began);
        let Context { trace, span: id, parent, .. } = self.context;
        self.telemetry.gather(Span {
            trace: trace.clone(),
            id: *id,
            parent: *parent,
            name,
            kind: Kind::Server,
            began,
            took,
            texts,
            status: Some(status),
            failure,
        });
    }

    /// When something began, since 1970, that ends now, and how long it lasted.
    fn lasted(&self, began: Duration) -> (Duration, Duration) {
        let took = self.shard.precise_now().saturating_sub(began);
        let ended = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (ended.saturating_sub(took), took)
    }
}

/// The span of a call to a host. It ends when it is dropped; one that was neither answered nor failed was given up.
pub struct CallSpan<'a> {
    request: &'a RequestSpan<'a>,
    id: u64,
    began: Duration,
    name: String,
    texts: RefCell<Vec<(&'static str, String)>>,
    status: Cell<Option<u16>>,
    failure: RefCell<Option<Failed>>,
}

impl CallSpan<'_> {
    /// The trace context for the host: its own spans are parts of this one.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-01", self.request.context.trace, self.id)
    }

    /// Something is known of it.
    pub fn note(&self, name: &'static str, text: String) {
        self.texts.borrow_mut().push((name, text));
    }

    /// The host answered.
    pub fn answered(&self, status: u16) {
        self.status.set(Some(status));
        if status >= 400 {
            self.failed(&status.to_string(), String::new());
        }
    }

    /// It failed, for a reason of this kind.
    pub fn failed(&self, kind: &str, words: String) {
        *self.failure.borrow_mut() = Some(Failed { kind: kind.to_owned(), words });
    }
}

impl Drop for CallSpan<'_> {
    fn drop(&mut self) {
        let RequestSpan { telemetry, context, .. } = self.request;
        let (began, took) = self.request.lasted(self.began);
        let status = self.status.get();
        let given_up = || status.is_none().then(|| Failed { kind: "given_up".to_owned(), words: String::new() });
        telemetry.gather(Span {
            trace: context.trace.clone(),
            id: self.id,
            parent: context.span,
            name: std::mem::take(&mut self.name),
            kind: Kind::Client,
            began,
            took,
            texts: self.texts.take(),
            status,
            failure: self.failure.take().or_else(given_up),
        });
    }
}
