//! TLS on a [`Stream`], by rustls' unbuffered interface: rustls turns bytes into bytes, the connection moves them.
//!
//! ```text
//!   stream ─► incoming (records) ─► rustls, in place ─► plain bytes ─► recv
//!   stream ◄─ one frame per send ◄─ rustls ◄─────────── bytes ◄─────── send
//! ```
//!
//! A session costs tens of KiB of user memory; where that matters for masses of connections, terminate TLS in
//! front. Server and client, ALPN by the configuration, TLS 1.2 and 1.3.

use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, Error, ServerConfig};

use crate::frame::Frame;
use crate::stream::Stream;
use crate::trace::{Kind, Trace};

/// Re-exported so that configurations come from the version that is used here.
pub use rustls;

/// Bytes of records that may wait incomplete: the largest record (2^14 + 2048 and its header) several times over.
/// Beyond, the connection is broken off.
const INCOMING_BYTES_MAX: usize = 256 * 1024;
/// What a record adds to its payload, generously: header, nonce, type and tag, per 16 KiB.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Room for a close_notify alert in any protocol version.
const ALERT_BYTES: usize = 64;

enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// One TLS connection. Dropping it closes the transport without a farewell; see [`TlsStream::finish`].
pub struct TlsStream {
    stream: Stream,
    session: Session,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
    peer_closed: bool,
}

/// How far the records at hand led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// More records are needed before anything can be sent.
    Blocked,
    /// Bytes can be sent; for receiving, more records are needed.
    Traffic,
    /// Nothing more can be sent or received.
    Closed,
}

/// What to do once bytes can be sent.
#[derive(Clone, Copy)]
enum Task<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    CloseNotify,
}

impl TlsStream {
    /// Takes the server's part of the handshake.
    ///
    /// # Errors
    /// `InvalidData` when the client breaks the protocol or nothing can be agreed on; why the transport broke. Wrap it
    /// in [`crate::Shard::timeout`]: a client may stay silent.
    pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<TlsStream> {
        let session = UnbufferedServerConnection::new(config).map_err(invalid)?;
        TlsStream::new(stream, Session::Server(Box::new(session))).handshake().await
    }

    /// Takes the client's part of the handshake with the server of that name.
    ///
    /// # Errors
    /// As [`TlsStream::accept`]; among them a certificate that does not prove the name.
    pub async fn connect(
        stream: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<TlsStream> {
        let session = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        TlsStream::new(stream, Session::Client(Box::new(session))).handshake().await
    }

    fn new(stream: Stream, session: Session) -> TlsStream {
        let (incoming, plain, outgoing) = (Vec::new(), Vec::new(), Vec::new());
        TlsStream { stream, session, incoming, plain, outgoing, peer_closed: false }
    }

    async fn handshake(mut self) -> io::Result<TlsStream> {
        while self.advance(Task::Nothing).await? == Progress::Blocked {
            self.feed().await?;
        }
        Ok(self)
    }

    /// Drives rustls as far as the records at hand go and sends what it wrote. An error is told by the end of the stream: see `drive`.
    async fn advance(&mut self, task: Task<'_>) -> io::Result<Progress> {
        let progress = match &mut self.session {
            Session::Server(session) => {
                drive(&mut **session, &mut self.incoming, &mut self.plain, &mut self.outgoing, task)
            }
            Session::Client(session) => {
                drive(&mut **session, &mut self.incoming, &mut self.plain, &mut self.outgoing, task)
            }
        };
        // Known before anything is awaited: whoever drops this future calls again, and rustls says it only once.
        self.peer_closed |= matches!(progress, Ok((_, true)));
        if !self.outgoing.is_empty() {
            let frame = Frame::owned(std::mem::take(&mut self.outgoing));
            self.stream.send(&frame).await?;
        }
        progress.map(|(progress, _)| progress).map_err(invalid)
    }

    /// Receives more records.
    async fn feed(&mut self) -> io::Result<()> {
        if self.incoming.len() > INCOMING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "TLS records do not end"));
        }
        match self.stream.recv().await? {
            Some(chunk) => {
                self.incoming.extend_from_slice(&chunk);
                Ok(())
            }
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed without close_notify")),
        }
    }

    /// The next bytes in order; `None` when the peer has ended its stream properly.
    ///
    /// # Errors
    /// `UnexpectedEof` when the transport ended without the TLS farewell: the stream may have been cut short.
    /// `InvalidData` when the peer broke the protocol; why the transport broke.
    pub async fn recv(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let progress = self.advance(Task::Nothing).await?;
            if !self.plain.is_empty() {
                return Ok(Some(std::mem::take(&mut self.plain)));
            }
            if self.peer_closed || progress == Progress::Closed {
                return Ok(None);
            }
            self.feed().await?;
        }
    }

    /// Sends `bytes`, waiting for room as [`Stream::send`] does.
    ///
    /// # Errors
    /// `NotConnected` after [`TlsStream::finish`]; why the transport broke.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.advance(Task::Encrypt(bytes)).await? {
            Progress::Traffic => Ok(()),
            Progress::Blocked | Progress::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says farewell (close_notify) and ends our half. Receiving goes on.
    ///
    /// # Errors
    /// Why the transport broke.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.advance(Task::CloseNotify).await?;
        self.stream.finish().await
    }

    /// Waits until everything queued has been handed to the kernel.
    ///
    /// # Errors
    /// Why the transport broke.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }

    /// As [`Stream::poll_room`], in bytes of records.
    ///
    /// # Errors
    /// Why the transport broke.
    pub fn poll_room(&mut self, cx: &mut std::task::Context<'_>, below: usize) -> std::task::Poll<io::Result<()>> {
        self.stream.poll_room(cx, below)
    }

    /// As [`Stream::trace`].
    pub fn trace(&self, trace: Trace, kind: &'static Kind) {
        self.stream.trace(trace, kind);
    }

    /// Closes at once; what is queued is dropped, and nothing is said.
    pub fn abort(self) {
        self.stream.abort();
    }

    /// The protocol agreed on by ALPN (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.session {
            Session::Server(session) => session.alpn_protocol(),
            Session::Client(session) => session.alpn_protocol(),
        }
    }
}

/// The two roles' sessions, which differ in type only.
trait Records {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }
}

/// Works records off until more are needed or `task` is done; the second value tells that the peer said farewell.
fn drive<S: Records>(
    session: &mut S,
    incoming: &mut Vec<u8>,
    plain: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    task: Task<'_>,
) -> Result<(Progress, bool), Error> {
    let mut peer_closed = false;
    loop {
        let UnbufferedStatus { mut discard, state, .. } = session.process(incoming);
        let progress = match state {
            // No further call: after an error rustls may look for records in bytes that are gone. So the peer gets the end
            // of the stream instead of an alert.
            Err(error) => return Err(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                None
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(outgoing, 0, |room| match data.encode(room) {
                    Err(EncodeError::InsufficientSize(size)) => Err(Some(size)),
                    encoded => encoded.map_err(|_| None),
                })?;
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // Queued in `outgoing`, which leaves before anything that is written later.
                data.done();
                None
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                write(traffic, outgoing, task)?;
                Some(Progress::Traffic)
            }
            Ok(ConnectionState::PeerClosed) => {
                peer_closed = true;
                None
            }
            Ok(ConnectionState::BlockedHandshake) => Some(Progress::Blocked),
            Ok(ConnectionState::Closed) => Some(Progress::Closed),
            // Early data is not enabled, and rustls has no other states.
            Ok(_) => Some(Progress::Closed),
        };
        incoming.drain(..discard);
        if let Some(progress) = progress {
            return Ok((progress, peer_closed));
        }
    }
}

fn write<D>(mut traffic: WriteTraffic<'_, D>, outgoing: &mut Vec<u8>, task: Task<'_>) -> Result<(), Error> {
    let sized = |result| match result {
        Err(EncryptError::InsufficientSize(size)) => Err(Some(size)),
        Err(EncryptError::EncryptExhausted) => Err(None),
        Ok(len) => Ok(len),
    };
    match task {
        Task::Nothing => Ok(()),
        Task::Encrypt(bytes) => {
            let room = bytes.len() + (bytes.len() / 8192 + 2) * RECORD_OVERHEAD_BYTES;
            append(outgoing, room, |room| sized(traffic.encrypt(bytes, room)))
        }
        Task::CloseNotify => append(outgoing, ALERT_BYTES, |room| sized(traffic.queue_close_notify(room))),
    }
}

/// Lets `encode` write behind `outgoing`'s end, with `room` bytes at first and as many as it asks for then.
fn append(
    outgoing: &mut Vec<u8>,
    mut room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Error> {
    let start = outgoing.len();
    loop {
        outgoing.resize(start + room, 0);
        match encode(&mut outgoing[start..]) {
            Ok(len) => {
                outgoing.truncate(start + len);
                return Ok(());
            }
            Err(Some(size)) if size.required_size > room => room = size.required_size,
            Err(_) => {
                outgoing.truncate(start);
                return Err(Error::EncryptError);
            }
        }
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
