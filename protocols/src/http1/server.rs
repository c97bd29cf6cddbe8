//! The accepting end of one connection: requests in, one after the other.
//!
//! The machine does not wait for answers: a caller that answers in order stops draining after [`Event::End`] until the
//! answer is written, and keeps what is left of the input.

use super::body::{BodyDecoder, BodyPart};
use super::head::parse_request;
use super::reader::HeadReader;
use super::scan::Start;
use super::{Fault, Fields, Limits, RequestHead};
use crate::Input;

/// One HTTP/1 connection, server role. It owns heap memory only while a head or trailer section is partial, or a
/// chunked body is under way.
#[derive(Debug)]
pub struct Server {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between requests, or inside a head of which only the beginning is here.
    Head(HeadReader),
    Body {
        decoder: BodyDecoder,
        persists: bool,
    },
    /// Nothing more is read: a fault, or the last request of the connection.
    Closed,
}

/// Between two requests.
const BETWEEN: State = State::Head(HeadReader::new(Start::Request));

const _: () = assert!(size_of::<Server>() <= 48, "an idle connection must stay small");

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// One thing that arrived.
#[derive(Debug)]
#[must_use]
pub enum Event<'a> {
    /// The input is used up; feed more.
    NeedMore,
    /// A request begins. Its body, if it has one, follows in [`Event::Body`]; [`Event::End`] follows in any case.
    Head(RequestHead<'a>),
    /// The next part of the body, decoded.
    Body(&'a [u8]),
    /// The trailer fields of a chunked body that has some.
    Trailers(Trailers),
    /// The request is complete.
    End,
}

/// Checked trailer fields.
#[derive(Debug)]
pub struct Trailers(Vec<u8>);

impl Trailers {
    pub(super) fn from_checked(lines: Vec<u8>) -> Self {
        Self(lines)
    }

    /// The fields.
    pub fn fields(&self) -> Fields<'_> {
        Fields::from_checked(&self.0)
    }
}

impl Server {
    /// A fresh connection.
    pub const fn new() -> Self {
        Self { state: BETWEEN }
    }

    /// Whether the connection is between two requests with nothing of the next one here: the time for an idle timeout.
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, State::Head(reader) if reader.started().is_none())
    }

    /// Whether nothing more will be read: after a fault, or after a request that does not persist.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When the head under way began, in the caller's milliseconds.
    pub fn head_started(&self) -> Option<u64> {
        match &self.state {
            State::Head(reader) => reader.started(),
            _ => None,
        }
    }

    /// Whether the head under way takes longer than allowed: answer 408 and close.
    pub fn is_overdue(&self, limits: &Limits, now: u64) -> bool {
        self.head_started().is_some_and(|started| now.saturating_sub(started) > limits.head_ms_max)
    }

    /// The next event from `input`. [`Event::NeedMore`] means that the input is used up.
    ///
    /// After a head that asks for an upgrade and has no body, the bytes behind it belong to the new protocol once the
    /// upgrade is granted: leave them in the input.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. The machine then discards all further input; answer with [`Fault::status`] and close.
    pub fn next_event<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        let outcome = match &mut self.state {
            State::Head(_) => self.next_head(limits, now, input),
            State::Body { decoder, persists } => {
                let (part, persists) = (decoder.next_part(limits, input), *persists);
                part.map(|part| self.on_part(part, persists))
            }
            State::Closed => {
                input.take_rest();
                Ok(Event::NeedMore)
            }
        };
        if outcome.is_err() {
            self.state = State::Closed;
        }
        outcome
    }

    fn on_part<'a>(&mut self, part: BodyPart<'a>, persists: bool) -> Event<'a> {
        match part {
            BodyPart::NeedMore => Event::NeedMore,
            BodyPart::Data(data) => Event::Body(data),
            // The empty line alone: nothing to report but the end.
            BodyPart::Trailers(lines) if lines.len() > 2 => Event::Trailers(Trailers::from_checked(lines)),
            BodyPart::Trailers(_) | BodyPart::End => {
                self.state = if persists { BETWEEN } else { State::Closed };
                Event::End
            }
        }
    }

    fn next_head<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        let State::Head(reader) = &mut self.state else { return Ok(Event::NeedMore) };
        let Some(bytes) = reader.next_head(limits, now, input)? else { return Ok(Event::NeedMore) };
        let head = parse_request(bytes, limits)?;
        self.state = State::Body { decoder: BodyDecoder::new(head.framing()), persists: head.exchange().persists() };
        Ok(Event::Head(head))
    }
}
