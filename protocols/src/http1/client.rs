//! The connecting end of one connection: answers in, one request at a time.
//!
//! More bytes than an answer announced are a fault, not the beginning of the next answer: such a connection must never
//! carry another request.

use super::body::{BodyDecoder, BodyPart};
use super::reader::HeadReader;
use super::response::parse_response;
use super::scan::Start;
use super::server::Trailers;
use super::{BodyFraming, Fault, Limits, ResponseHead};
use crate::Input;

/// One HTTP/1 connection, client role.
#[derive(Debug)]
pub struct Client {
    state: State,
}

#[derive(Debug)]
enum State {
    /// No request is out.
    Idle,
    Head {
        reader: HeadReader,
        bodiless: bool,
        interim: u8,
    },
    Body {
        decoder: BodyDecoder,
        persists: bool,
    },
    /// The last answer is complete or broken, or the connection was handed to another protocol.
    Closed,
}

/// One thing that arrived.
#[derive(Debug)]
#[must_use]
pub enum ClientEvent<'a> {
    /// The input is used up; feed more.
    NeedMore,
    /// An interim answer (1xx but 101); the final one follows.
    Interim(ResponseHead<'a>),
    /// The answer begins. [`ClientEvent::End`] follows in any case; after a 101 the bytes behind that belong to the new
    /// protocol and stay in the input.
    Head(ResponseHead<'a>),
    /// The next part of the body, decoded.
    Body(&'a [u8]),
    /// The trailer fields of a chunked body that has some.
    Trailers(Trailers),
    /// The answer is complete.
    End,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A fresh connection without a request.
    pub const fn new() -> Self {
        Self { state: State::Idle }
    }

    /// Whether a request can be sent.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether the connection is used up.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// A request was written; its answer is expected next. Returns whether that was allowed: one request at a time, on
    /// an idle connection.
    #[must_use]
    pub fn on_request(&mut self, method: &str) -> bool {
        let idle = self.is_idle();
        if idle {
            let reader = HeadReader::new(Start::Status);
            self.state = State::Head { reader, bodiless: method == "HEAD", interim: 0 };
        }
        idle
    }

    /// The next event from `input`. [`ClientEvent::NeedMore`] means that the input is used up.
    ///
    /// # Errors
    ///
    /// What the server did wrong. The connection is then used up.
    pub fn next_event<'a>(
        &mut self,
        limits: &Limits,
        now: u64,
        input: &mut Input<'a>,
    ) -> Result<ClientEvent<'a>, Fault> {
        let outcome = match &mut self.state {
            State::Idle if input.is_empty() => Ok(ClientEvent::NeedMore),
            State::Idle => Err(Fault::Unsolicited),
            State::Head { .. } => self.next_head(limits, now, input),
            State::Body { decoder, persists } => {
                let (part, persists) = (decoder.next_part(limits, input), *persists);
                part.map(|part| self.on_part(part, persists))
            }
            State::Closed => {
                input.take_rest();
                Ok(ClientEvent::NeedMore)
            }
        };
        if outcome.is_err() {
            self.state = State::Closed;
        }
        outcome
    }

    /// The server has ended the connection. Returns whether that completes an answer whose body lasts until then.
    ///
    /// # Errors
    ///
    /// [`Fault::Truncated`] when an answer was expected or under way.
    pub fn on_end_of_stream(&mut self) -> Result<bool, Fault> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Idle | State::Closed => Ok(false),
            State::Body { decoder: BodyDecoder::UntilClose { .. }, .. } => Ok(true),
            State::Head { .. } | State::Body { .. } => Err(Fault::Truncated),
        }
    }

    fn next_head<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<ClientEvent<'a>, Fault> {
        let State::Head { reader, bodiless, interim } = &mut self.state else { return Ok(ClientEvent::NeedMore) };
        let Some(bytes) = reader.next_head(limits, now, input)? else { return Ok(ClientEvent::NeedMore) };
        let head = parse_response(bytes, *bodiless, limits)?;
        if matches!(head.status(), 100 | 102..=199) {
            *interim += 1;
            return if *interim > limits.interim_max {
                Err(Fault::TooManyInterim)
            } else {
                Ok(ClientEvent::Interim(head))
            };
        }
        // A 101 ends HTTP on this connection.
        let persists = head.persists() && head.status() != 101;
        let decoder = BodyDecoder::new(if head.status() == 101 { BodyFraming::None } else { head.framing() });
        self.state = State::Body { decoder, persists };
        Ok(ClientEvent::Head(head))
    }

    fn on_part<'a>(&mut self, part: BodyPart<'a>, persists: bool) -> ClientEvent<'a> {
        match part {
            BodyPart::NeedMore => ClientEvent::NeedMore,
            BodyPart::Data(data) => ClientEvent::Body(data),
            BodyPart::Trailers(lines) if lines.len() > 2 => ClientEvent::Trailers(Trailers::from_checked(lines)),
            BodyPart::Trailers(_) | BodyPart::End => {
                self.state = if persists { State::Idle } else { State::Closed };
                ClientEvent::End
            }
        }
    }
}
