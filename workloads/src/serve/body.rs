//! The receiving side of a connection, and a request's body on it.
//!
//! Nothing is read ahead: a piece is received when it is asked for, so the sender is held back by the engine's receive
//! queue. Every future here can be dropped: what had arrived stays with the connection.

use std::rc::Rc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::trace::Trace;
use annulus_protocols::http1::{self, Event, RequestHead, Server, write_continue};

use super::Settings;
use super::problem::Problem;
use super::rest::Rest;
use super::wire::{Either, Wire, either};

/// Why there will be no more of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The sender is gone. Nobody hears the answer.
    Gone,
    /// It is not a body, or too long.
    Fault(http1::Fault),
    /// It paused too long, or was too slow all along.
    Slow,
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Problem {
        match broken {
            Broken::Gone => Problem::new(400, "The connection ended inside the request. Send it again."),
            Broken::Fault(http1::Fault::BodyTooLarge) => {
                Problem::new(413, "The body is larger than this server takes. Send a smaller one.")
            }
            Broken::Fault(fault) => Problem::new(fault.status(), format!("The request cannot be read: {fault}.")),
            Broken::Slow => Problem::new(408, "The body came too slowly. Send it again over a better connection."),
        }
    }
}

/// What is received on a connection.
pub(super) struct Incoming {
    pub(super) shard: Shard,
    pub(super) settings: Rc<Settings>,
    pub(super) wire: Wire,
    pub(super) machine: Server,
    /// Of the request at hand.
    pub(super) trace: Trace,
    rest: Rest,
}

/// Why no head came.
pub(super) enum NoHead {
    /// The connection is at its end, or idle for too long: nothing is said.
    Over,
    /// What came is none.
    Fault(http1::Fault),
    /// It took too long.
    Slow,
}

impl Incoming {
    pub(super) fn new(shard: Shard, settings: Rc<Settings>, wire: Wire) -> Incoming {
        Incoming { shard, settings, wire, machine: Server::new(), trace: Trace::NONE, rest: Rest::empty() }
    }

    fn now_ms(&self) -> u64 {
        self.shard.now().as_millis() as u64
    }

    /// The machine's next event from what is here.
    fn next_event(&mut self) -> Result<Event<'_>, http1::Fault> {
        let now = self.now_ms();
        self.rest.read(|input| self.machine.next_event(&self.settings.http, now, input))
    }

    /// Before something is waited for: requests that came early wait, too.
    pub(super) fn hold(&mut self) {
        self.rest.hold();
    }

    /// The next request's head.
    pub(super) async fn next_head(&mut self) -> Result<RequestHead<'static>, NoHead> {
        loop {
            match self.next_event() {
                Err(fault) => return Err(NoHead::Fault(fault)),
                Ok(Event::Head(head)) => return Ok(head.into_owned()),
                Ok(Event::NeedMore) => {}
                Ok(Event::Body(_) | Event::Trailers(_) | Event::End) => continue,
            }
            if self.machine.is_closed() {
                return Err(NoHead::Over);
            }
            self.receive_head().await?;
        }
    }

    async fn receive_head(&mut self) -> Result<(), NoHead> {
        let shard = self.shard.clone();
        let idle = self.machine.is_idle();
        let patience = match self.machine.head_started() {
            Some(started) => {
                Duration::from_millis(started + self.settings.http.head_ms_max).saturating_sub(shard.now())
            }
            None => self.settings.idle_max,
        };
        self.rest.hold();
        let receiving = shard.timeout(patience, self.wire.recv());
        // An idle connection does not keep the service from stopping; a request that is on its way is answered.
        let last_call = async {
            shard.draining().await;
            shard.sleep(LAST_CALL).await;
        };
        let received = match idle {
            true => match either(receiving, last_call).await {
                Either::First(received) => received,
                Either::Second(()) => return Err(NoHead::Over),
            },
            false => receiving.await,
        };
        match received {
            Ok(Ok(Some(chunk))) => {
                if idle {
                    self.trace = shard.take_trace();
                }
                self.rest = Rest::of(chunk);
                Ok(())
            }
            Err(_elapsed) if !idle => Err(NoHead::Slow),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(NoHead::Over),
        }
    }

    /// Waits until the client is gone. What it sends meanwhile is kept.
    pub(super) async fn left(&mut self) {
        self.rest.hold();
        // Someone who sends the next requests early is not waited for, so that what is kept stays one chunk.
        if !self.rest.is_empty() {
            return std::future::pending().await;
        }
        if let Ok(Some(more)) = self.wire.recv().await {
            self.rest = Rest::of(more);
            self.rest.hold();
            std::future::pending().await
        }
    }

    /// Passes over what is here of a body that nobody pulled. Whether that was all of it.
    pub(super) fn pass_over(&mut self) -> bool {
        loop {
            match self.next_event() {
                Ok(Event::End) => return true,
                Ok(Event::NeedMore) | Err(_) => return false,
                Ok(Event::Head(_) | Event::Body(_) | Event::Trailers(_)) => {}
            }
        }
    }

    /// Reads on after the last answer, so that no reset destroys it on its way to a client that still sends.
    pub(super) async fn linger(mut self) {
        let until = self.shard.now() + LINGER_MAX;
        while self.shard.now() < until {
            match self.shard.timeout(LINGER_PAUSE_MAX, self.wire.recv()).await {
                Ok(Ok(Some(_passed_over))) => {}
                _ => return,
            }
        }
    }
}

/// A busy client's next request may be on its way when the service stops.
const LAST_CALL: Duration = Duration::from_millis(100);
/// How long a refused client may go on sending.
const LINGER_MAX: Duration = Duration::from_secs(30);
/// And how long it may pause at that.
const LINGER_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A request's body, pulled piece by piece.
pub struct Body<'a> {
    incoming: &'a mut Incoming,
    state: State,
    began: Duration,
    /// Bytes that were handed out.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The client waits to be asked for it.
    Expected,
    Open,
    Ended,
    Broken(Broken),
}

impl<'a> Body<'a> {
    pub(super) fn new(incoming: &'a mut Incoming, expected: bool) -> Body<'a> {
        let began = incoming.shard.now();
        let state = if expected { State::Expected } else { State::Open };
        Body { incoming, state, began, bytes: 0 }
    }

    /// The next bytes; `None` at the end. They may be changed where they lie.
    ///
    /// # Errors
    /// Why there will be none. Asking again tells the same.
    pub async fn next(&mut self) -> Result<Option<&mut [u8]>, Broken> {
        loop {
            match self.state {
                State::Broken(broken) => return Err(broken),
                State::Ended => return Ok(None),
                State::Expected | State::Open => {}
            }
            let len = match self.incoming.next_event() {
                Err(fault) => {
                    self.state = State::Broken(Broken::Fault(fault));
                    continue;
                }
                Ok(Event::Body(bytes)) => {
                    let len = bytes.len();
                    // It came unasked.
                    self.state = State::Open;
                    len
                }
                Ok(Event::End) => {
                    self.state = State::Ended;
                    continue;
                }
                Ok(Event::NeedMore) => {
                    self.receive().await;
                    continue;
                }
                Ok(Event::Trailers(_) | Event::Head(_)) => continue,
            };
            self.bytes += len as u64;
            // Data lies where it was taken last; the borrow of the event cannot leave the loop.
            return Ok(Some(self.incoming.rest.last_taken(len)));
        }
    }

    /// All of it, up to so many bytes.
    ///
    /// # Errors
    /// A problem: it is longer, or broken.
    pub async fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, Problem> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > bytes_max {
                return Err(Problem::new(413, format!("The body is longer than {bytes_max} bytes.")));
            }
            whole.extend_from_slice(piece);
        }
        Ok(whole)
    }

    /// Waits until the client is gone; for ever while the body is not at its end. For those who answer late.
    pub async fn left(&mut self) {
        if self.is_ended() {
            return self.incoming.left().await;
        }
        std::future::pending().await
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    pub(super) fn is_broken(&self) -> Option<Broken> {
        match self.state {
            State::Broken(broken) => Some(broken),
            _ => None,
        }
    }

    /// Whether the client still waits to be asked for the body.
    pub(super) fn is_expected(&self) -> bool {
        self.state == State::Expected
    }

    async fn receive(&mut self) {
        if self.state == State::Expected {
            self.state = State::Open;
            let mut out = Vec::new();
            write_continue(&mut out);
            if self.incoming.wire.send(&mut out).await.is_err() {
                self.state = State::Broken(Broken::Gone);
                return;
            }
        }
        let shard = self.incoming.shard.clone();
        let patience = self.patience(shard.now());
        self.incoming.rest.hold();
        match shard.timeout(patience, self.incoming.wire.recv()).await {
            Ok(Ok(Some(chunk))) => self.incoming.rest = Rest::of(chunk),
            Ok(Ok(None) | Err(_)) => self.state = State::Broken(Broken::Gone),
            Err(_elapsed) => self.state = State::Broken(Broken::Slow),
        }
    }

    /// How long the next bytes may take: a pause's length, but no longer than the average allows.
    fn patience(&self, now: Duration) -> Duration {
        let settings = &self.incoming.settings;
        let paid = Duration::from_millis(self.bytes * 1000 / settings.body_bytes_per_second_min.max(1));
        let due = self.began + settings.body_grace.max(paid);
        settings.body_pause_max.min(due.saturating_sub(now))
    }
}
