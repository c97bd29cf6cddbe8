//! A connection and what it speaks, once that is known.

use super::flight::{Flight, Verdict, reason};
use super::http1::Http1;
use super::http2::Http2;
use super::request::Requests;
use super::websocket::{Messages, WebSocket};
use super::wire::{Broken, Wire};
use std::io::ErrorKind;

/// What is spoken.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN under TLS, else by prior knowledge.
    Http2,
    /// WebSockets, with these messages.
    WebSocket(Messages),
}

impl Protocol {
    /// What TLS offers.
    pub fn alpn(&self) -> &'static [&'static str] {
        match self {
            Protocol::Auto => &["h2", "http/1.1"],
            Protocol::Http1 | Protocol::WebSocket(_) => &["http/1.1"],
            Protocol::Http2 => &["h2"],
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Auto | Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
            Protocol::WebSocket(_) => "WebSocket",
        }
    }
}

/// What a connection speaks.
pub enum Talk {
    /// HTTP/1.1.
    Http1(Http1),
    /// HTTP/2.
    Http2(Box<Http2>),
    /// WebSocket.
    WebSocket(Box<WebSocket>),
}

/// A connection of a worker's.
pub struct Conn {
    /// Its bytes.
    pub wire: Wire,
    /// What it speaks; none until it is connected and its handshake is done.
    pub talk: Option<Talk>,
    /// When it began to connect.
    pub born: u64,
    /// Whether a request was ever given to it.
    pub used: bool,
    /// Whether something waits to be written that the wire does not know of.
    pub dirty: bool,
    /// Whether it stands among those that have room.
    pub listed: bool,
}

impl Conn {
    /// Requests that may be given to it now. `in_turn` says that a WebSocket waits for each answer.
    pub fn room(&self, in_turn: bool) -> usize {
        match &self.talk {
            None => 0,
            Some(Talk::Http1(talk)) => talk.room(),
            Some(Talk::Http2(talk)) => talk.room(),
            Some(Talk::WebSocket(talk)) if in_turn && talk.busy() > 0 => 0,
            Some(Talk::WebSocket(talk)) => talk.room(&self.wire),
        }
    }

    /// Whether requests can ever be given to it.
    pub fn is_ready(&self) -> bool {
        match &self.talk {
            None => false,
            Some(Talk::WebSocket(talk)) => talk.is_open(),
            Some(_) => true,
        }
    }

    /// Whether it should be replaced.
    pub fn is_done(&self) -> bool {
        match &self.talk {
            None => false,
            Some(Talk::Http1(talk)) => talk.is_done(),
            Some(Talk::Http2(talk)) => talk.is_done(),
            Some(Talk::WebSocket(talk)) => talk.is_done(),
        }
    }

    /// Gives it a request.
    ///
    /// # Errors
    /// It is broken; the request is under way on it.
    pub fn send(
        &mut self,
        requests: &Requests,
        flight: Flight,
        now: u64,
        verdicts: &mut Vec<(Flight, Verdict)>,
    ) -> Result<(), Broken> {
        self.used = true;
        match &mut self.talk {
            None => {
                verdicts.push((flight, Verdict::Failed(reason::CANNOT_CONNECT)));
                Ok(())
            }
            Some(Talk::Http1(talk)) => talk.send(&mut self.wire, requests, flight),
            Some(Talk::Http2(talk)) => {
                talk.send(requests, flight, now, verdicts);
                self.dirty = true;
                Ok(())
            }
            Some(Talk::WebSocket(talk)) => {
                talk.send(flight);
                self.dirty = true;
                Ok(())
            }
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// It is broken.
    pub fn flush(&mut self, verdicts: &mut Vec<(Flight, Verdict)>) -> Result<(), Broken> {
        self.dirty = false;
        match &mut self.talk {
            Some(Talk::Http2(talk)) => talk.flush(&mut self.wire)?,
            Some(Talk::WebSocket(talk)) => talk.flush(&mut self.wire)?,
            Some(Talk::Http1(_)) | None => {}
        }
        if self.wire.backlog() > 0 || self.wire.is_secure() {
            self.wire.flush()?;
        }
        if let Some(Talk::WebSocket(talk)) = &mut self.talk {
            talk.on_flushed(&self.wire, verdicts);
        }
        Ok(())
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn recv(
        &mut self,
        bytes: &mut [u8],
        requests: &Requests,
        now: u64,
        verdicts: &mut Vec<(Flight, Verdict)>,
        oddities: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        match &mut self.talk {
            None => Ok(()),
            Some(Talk::Http1(talk)) => talk.recv(bytes, verdicts),
            Some(Talk::Http2(talk)) => talk.recv(bytes, requests, now, verdicts),
            Some(Talk::WebSocket(talk)) => talk.recv(bytes, now, verdicts, oddities),
        }
    }

    /// It is gone: what becomes of what it carried. `end` says whether it ended regularly, and then whether cleanly.
    pub fn on_gone(
        &mut self,
        end: Option<bool>,
        why: &'static str,
        requests: &Requests,
        verdicts: &mut Vec<(Flight, Verdict)>,
    ) {
        match &mut self.talk {
            None => {}
            Some(Talk::Http1(talk)) => talk.on_gone(end, why, requests, verdicts),
            Some(Talk::Http2(talk)) => talk.on_gone(why, verdicts),
            Some(Talk::WebSocket(talk)) => talk.on_gone(why, verdicts),
        }
    }

    /// Whether a request is still under way on it.
    pub fn carries(&self, serial: u64) -> bool {
        match &self.talk {
            None => false,
            Some(Talk::Http1(talk)) => talk.carries(serial),
            Some(Talk::Http2(talk)) => talk.carries(serial),
            Some(Talk::WebSocket(talk)) => talk.carries(serial),
        }
    }

    /// Gives a request up where that leaves the connection usable; none where it does not.
    pub fn expire(&mut self, serial: u64) -> Option<(Flight, Verdict)> {
        match &mut self.talk {
            None | Some(Talk::Http1(_)) => None,
            Some(Talk::Http2(talk)) => talk.expire(serial).map(|flight| (flight, Verdict::Failed(reason::TIMEOUT))),
            Some(Talk::WebSocket(talk)) => talk.expire(serial).map(|flight| (flight, Verdict::Failed(reason::LOST))),
        }
    }
}

/// The reason of a failure in a few words.
pub fn reason_of(broken: &Broken) -> &'static str {
    match broken {
        Broken::Tls(_) => reason::TLS,
        Broken::Socket(error) => match error.kind() {
            ErrorKind::ConnectionRefused => reason::REFUSED,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => reason::RESET,
            ErrorKind::UnexpectedEof => reason::CLOSED_BEFORE,
            ErrorKind::TimedOut => reason::CONNECT_TIMEOUT,
            _ => reason::CANNOT_CONNECT,
        },
    }
}
