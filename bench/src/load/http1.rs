//! One HTTP/1.1 connection: one request at a time, kept alive.

use super::answer::AnswerReader;
use super::flight::{Flight, Verdict, reason};
use super::request::Requests;
use super::wire::{Broken, Wire};

/// See the module's description.
#[derive(Default)]
pub struct Http1 {
    flight: Option<Flight>,
    reader: AnswerReader,
    /// Whether it has carried an answer.
    carried: bool,
    /// The server will close, or what it sent is not to be trusted.
    done: bool,
}

impl Http1 {
    /// Requests that may be sent now.
    pub fn room(&self) -> usize {
        usize::from(self.flight.is_none() && !self.done)
    }

    /// Whether it should be replaced.
    pub fn is_done(&self) -> bool {
        self.done && self.flight.is_none()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection is broken; the flight is still under way.
    pub fn send(&mut self, wire: &mut Wire, requests: &Requests, flight: Flight) -> Result<(), Broken> {
        let request = &requests.all[flight.request as usize];
        self.reader.expect(request.is_bodiless());
        self.flight = Some(flight);
        wire.send(&request.encoded)
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// What is wrong with them: the connection is of no more use.
    pub fn recv(&mut self, bytes: &[u8], verdicts: &mut Vec<(Flight, Verdict)>) -> Result<(), &'static str> {
        if self.flight.is_none() {
            return Err("an answer that nobody asked for");
        }
        let (taken, answer) = self.reader.recv(bytes)?;
        let Some(answer) = answer else { return Ok(()) };
        let Some(flight) = self.flight.take() else { return Ok(()) };
        self.carried = true;
        self.done |= answer.closes;
        if taken < bytes.len() {
            // Whose bytes are these? Nobody's: no second request was sent.
            verdicts.push((flight, Verdict::Failed("more bytes than announced")));
            return Err("more bytes than announced");
        }
        verdicts.push((flight, Verdict::Answered(answer.status)));
        Ok(())
    }

    /// The connection is gone, and this is what becomes of what it carried. `end` says that it ended regularly, and
    /// whether cleanly.
    pub fn on_gone(
        &mut self,
        end: Option<bool>,
        why: &'static str,
        requests: &Requests,
        verdicts: &mut Vec<(Flight, Verdict)>,
    ) {
        let Some(flight) = self.flight.take() else { return };
        let why = match end.map(|clean| self.reader.on_end(clean)) {
            Some(Ok(answer)) => return verdicts.push((flight, Verdict::Answered(answer.status))),
            Some(Err(why)) => why,
            None => why,
        };
        // The server closed a connection that it had kept alive, at the moment when we wrote. It has not seen the
        // request, which goes out again as every client sends it.
        let unseen = self.carried && !self.reader.has_begun() && matches!(why, reason::CLOSED_BEFORE | reason::RESET);
        let again = unseen && !flight.resent && requests.all[flight.request as usize].is_idempotent;
        verdicts.push((flight, if again { Verdict::Unseen(why) } else { Verdict::Failed(why) }));
    }

    /// Whether this request is still under way.
    pub fn carries(&self, serial: u64) -> bool {
        self.flight.is_some_and(|flight| flight.serial == serial)
    }
}
