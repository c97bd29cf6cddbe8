//! One question to one server: over UDP, and over TCP when the answer does not fit.
//!
//! Each question has a socket of its own on a port of the kernel's choice, and an id of its own: who wants to answer in
//! the server's place must guess both, and after [`FORGERIES_MAX`] wrong guesses the question is withdrawn.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use annulus_engine::{Address, Shard, SocketOptions};

use super::codec::{self, Fault, Kind, Reply, UDP_BYTES_MAX};
use super::name::Name;

/// Datagrams that do not answer the question, at most, before it is withdrawn.
pub const FORGERIES_MAX: usize = 64;
/// Some servers send more than they were told to.
const DATAGRAM_BYTES_MAX: usize = 4096;

const _: () = assert!(UDP_BYTES_MAX <= DATAGRAM_BYTES_MAX);

/// Why a server gave no answer.
#[derive(Debug)]
pub(super) enum Miss {
    /// It said nothing in time.
    TimedOut,
    /// It could not be reached.
    Io(io::Error),
    /// What it said makes no sense.
    Fault(Fault),
}

/// What is asked, and how.
pub(super) struct Question<'a> {
    pub name: &'a Name,
    pub kind: Kind,
    pub timeout: Duration,
    pub tcp: bool,
}

impl Question<'_> {
    /// Asks `server`.
    pub(super) async fn ask(&self, shard: &Shard, server: SocketAddr, random: &dyn Fn() -> u64) -> Result<Reply, Miss> {
        let reply = self.ask_with(shard, server, random, true).await?;
        match reply {
            // A server from before 1999 does not know EDNS (RFC 6891 section 7).
            Reply::Failed(codec::FORMAT_ERROR | codec::NOT_IMPLEMENTED) => {
                self.ask_with(shard, server, random, false).await
            }
            reply => Ok(reply),
        }
    }

    async fn ask_with(
        &self,
        shard: &Shard,
        server: SocketAddr,
        random: &dyn Fn() -> u64,
        edns: bool,
    ) -> Result<Reply, Miss> {
        if !self.tcp {
            let asked = self.over_udp(shard, server, random() as u16, edns);
            match shard.timeout(self.timeout, asked).await.map_err(|_elapsed| Miss::TimedOut)?? {
                Reply::Truncated => {}
                reply => return Ok(reply),
            }
        }
        let asked = self.over_tcp(shard, server, random() as u16, edns);
        shard.timeout(self.timeout, asked).await.map_err(|_elapsed| Miss::TimedOut)?
    }

    async fn over_udp(&self, shard: &Shard, server: SocketAddr, id: u16, edns: bool) -> Result<Reply, Miss> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut socket = shard.bind_datagrams((any, 0).into())?;
        let mut message = Vec::with_capacity(64);
        codec::write_question(&mut message, id, self.name, self.kind, edns);
        socket.send_to(&message, server).await?;
        for _ in 0..FORGERIES_MAX {
            let (answer, sender) = socket.recv_from(DATAGRAM_BYTES_MAX).await?;
            if sender != server {
                continue;
            }
            match codec::read_reply(&answer, id, self.name, self.kind) {
                Err(Fault::NotOurs) => {}
                read => return Ok(read?),
            }
        }
        Err(Miss::Fault(Fault::NotOurs))
    }

    /// RFC 1035 section 4.2.2: each message behind its length.
    async fn over_tcp(&self, shard: &Shard, server: SocketAddr, id: u16, edns: bool) -> Result<Reply, Miss> {
        let mut stream = shard.connect(&Address::Ip(server), &SocketOptions::default()).await?;
        let mut message = vec![0, 0];
        codec::write_question(&mut message, id, self.name, self.kind, edns);
        let len = (message.len() - 2) as u16;
        message[..2].copy_from_slice(&len.to_be_bytes());
        stream.send_copy(&[&message]).await?;
        let mut received = Vec::new();
        loop {
            if let Some((len, rest)) = received.split_first_chunk::<2>()
                && let Some(answer) = rest.get(..u16::from_be_bytes(*len) as usize)
            {
                return match codec::read_reply(answer, id, self.name, self.kind)? {
                    Reply::Truncated => Err(Miss::Fault(Fault::Malformed)),
                    reply => Ok(reply),
                };
            }
            match stream.recv().await? {
                Some(chunk) => received.extend_from_slice(&chunk),
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
    }
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Miss {
        Miss::Io(error)
    }
}

impl From<Fault> for Miss {
    fn from(fault: Fault) -> Miss {
        Miss::Fault(fault)
    }
}
