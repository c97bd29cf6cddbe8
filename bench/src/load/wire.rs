//! The bytes of one connection: a nonblocking socket, with TLS or without, and what the socket did not take yet.

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Connections per source address on this machine: well below the ports of one.
const PER_SOURCE: usize = 8_000;
/// Addresses of this machine that serve as sources.
const SOURCES: usize = 250;
/// TLS keeps so many bytes that the socket did not take.
const TLS_BUFFER_BYTES: usize = 1 << 20;

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes; `drained` when there is nothing behind them.
    Bytes {
        /// How many.
        count: usize,
        /// Whether another read would only say that there is nothing.
        drained: bool,
    },
    /// Nothing, for now.
    Nothing,
    /// The end. A `clean` one was announced, where that is usual.
    End {
        /// Whether nobody can have cut something off.
        clean: bool,
    },
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum Broken {
    /// The socket says so.
    Socket(io::Error),
    /// TLS says so.
    Tls(rustls::Error),
}

/// See the module's description.
pub struct Wire {
    /// The socket, to be registered.
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    unsent: Vec<u8>,
    connected: bool,
    /// Bytes received since last asked.
    pub received: u64,
    /// Bytes sent since last asked.
    pub sent: u64,
}

impl Wire {
    /// Begins to connect. `index` chooses the source address on this machine.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn connect(
        address: SocketAddr,
        index: usize,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
    ) -> io::Result<Wire> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv4() && address.ip().is_loopback() && index >= PER_SOURCE {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (index / PER_SOURCE % SOURCES) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let tls = match tls {
            None => None,
            Some((config, name)) => {
                let mut tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
                Some(Box::new(tls))
            }
        };
        let socket = TcpStream::from_std(socket.into());
        Ok(Wire { socket, tls, unsent: Vec::new(), connected: false, received: 0, sent: 0 })
    }

    /// Whether bytes of ours can go out: connected, and past the handshake. Moves on with both.
    ///
    /// # Errors
    /// Neither will ever be.
    pub fn advance(&mut self) -> Result<bool, Broken> {
        if !self.connected {
            if let Some(error) = self.socket.take_error().map_err(Broken::Socket)? {
                return Err(Broken::Socket(error));
            }
            match self.socket.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
                Err(error) => return Err(Broken::Socket(error)),
            }
        }
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.is_handshaking() {
            let mut moved = false;
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(count) => {
                        self.sent += count as u64;
                        moved = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Broken::Socket(error)),
                }
            }
            if tls.wants_read() {
                match tls.read_tls(&mut self.socket) {
                    Ok(0) => return Err(Broken::Socket(ErrorKind::UnexpectedEof.into())),
                    Ok(count) => {
                        self.received += count as u64;
                        moved = true;
                        if let Err(error) = tls.process_new_packets() {
                            // What says why to the server; whether it arrives changes nothing for us.
                            let _told = tls.write_tls(&mut self.socket);
                            return Err(Broken::Tls(error));
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(Broken::Socket(error)),
                }
            }
            if !moved {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The protocol that both agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|tls| tls.alpn_protocol())
    }

    /// Takes all of `bytes`; what the socket does not take now goes out with [`Wire::flush`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.tls.is_some() || !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return self.flush();
        }
        match self.socket.write(bytes) {
            Ok(count) => {
                self.sent += count as u64;
                self.unsent.extend_from_slice(&bytes[count..]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(bytes);
                Ok(())
            }
            Err(error) => Err(Broken::Socket(error)),
        }
    }

    /// Whether it is encrypted.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the socket has taken everything.
    pub fn is_drained(&self) -> bool {
        self.unsent.is_empty() && self.tls.as_ref().is_none_or(|tls| !tls.wants_write())
    }

    /// Bytes taken and not sent.
    pub fn backlog(&self) -> usize {
        self.unsent.len()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> Result<(), Broken> {
        loop {
            let Some(tls) = &mut self.tls else { return self.flush_plain() };
            if !self.unsent.is_empty() {
                let taken = tls.writer().write(&self.unsent).map_err(Broken::Socket)?;
                self.unsent.drain(..taken);
            }
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(count) => self.sent += count as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(Broken::Socket(error)),
                }
            }
            if self.unsent.is_empty() {
                return Ok(());
            }
        }
    }

    fn flush_plain(&mut self) -> Result<(), Broken> {
        let mut at = 0;
        while at < self.unsent.len() {
            match self.socket.write(&self.unsent[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(Broken::Socket(error)),
            }
        }
        self.sent += at as u64;
        self.unsent.drain(..at);
        Ok(())
    }

    /// Reads once.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<Received, Broken> {
        if self.tls.is_some() {
            return self.recv_tls(buffer);
        }
        match self.socket.read(buffer) {
            Ok(0) => Ok(Received::End { clean: true }),
            Ok(count) => {
                self.received += count as u64;
                Ok(Received::Bytes { count, drained: count < buffer.len() })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(Broken::Socket(error)),
        }
    }

    fn recv_tls(&mut self, buffer: &mut [u8]) -> Result<Received, Broken> {
        let Some(tls) = &mut self.tls else { return Ok(Received::Nothing) };
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(Received::End { clean: true }),
                Ok(count) => return Ok(Received::Bytes { count, drained: false }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Received::End { clean: false }),
                Err(error) => return Err(Broken::Socket(error)),
            }
            match tls.read_tls(&mut self.socket) {
                // The reader says whether it was announced.
                Ok(count) => self.received += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Nothing),
                Err(error) => return Err(Broken::Socket(error)),
            }
            tls.process_new_packets().map_err(Broken::Tls)?;
        }
    }
}
