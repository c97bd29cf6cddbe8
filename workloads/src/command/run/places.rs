//! The addresses that services listen on, and their sockets opened early: for a process that is about to become somebody who could
//! not, or to end another one that works.

use std::net::{SocketAddr, TcpListener};

use annulus_engine::{Address, ListeningSocket, SocketOptions};

use crate::args::Command;
use crate::config::Config;
use crate::gateway::config::Gateway;

/// An address that shards listen on.
pub(super) struct Place {
    pub(super) address: Address,
    /// Each shard has a socket of its own there.
    shared: bool,
}

impl Place {
    fn at(address: SocketAddr, shared: bool) -> Place {
        Place { address: Address::Ip(address), shared }
    }

    /// Whether one of these is for it, as the engine looks for it: by the address that was asked for, or by where it is bound.
    pub(super) fn is_among(&self, sockets: &[ListeningSocket]) -> bool {
        let address = self.address.to_string();
        let is_bound_here = |socket: &ListeningSocket| {
            let bound = socket.socket.try_clone().and_then(|socket| TcpListener::from(socket).local_addr());
            bound.is_ok_and(|bound| bound.to_string() == address)
        };
        sockets.iter().any(|socket| socket.name == address || is_bound_here(socket))
    }

    /// Opens its sockets before the shards do.
    pub(super) fn open(&self, shards: usize) -> Result<Vec<ListeningSocket>, String> {
        let cannot = |error: std::io::Error| annulus_engine::error::explain_listen(&self.address, &error);
        let options = SocketOptions::default();
        if !self.shared || shards == 1 {
            return Ok(vec![ListeningSocket::open(&self.address, &options).map_err(cannot)?]);
        }
        // Whether somebody else has the port is only seen by one that shares it with nobody.
        drop(ListeningSocket::open(&self.address, &options).map_err(cannot)?);
        let options = SocketOptions { reuse_port: true, ..options };
        (0..shards).map(|_| ListeningSocket::open(&self.address, &options).map_err(cannot)).collect()
    }
}

/// Where it is listened.
pub(super) fn places(config: &Config, command: Command, gateway: Option<&Gateway>) -> Vec<Place> {
    let mut places = Vec::new();
    if command.has_chat() {
        places.push(Place::at(config.chat.listen, config.chat.listen.port() != 0));
    }
    if command.has_image() {
        places.push(Place::at(config.image.listen, false));
    }
    if let Some(gateway) = gateway {
        places.push(Place::at(SocketAddr::new(gateway.listen.ip, gateway.listen.port), false));
    }
    places.extend(console_at(config, command).map(|listen| Place::at(listen, false)));
    places
}

/// Where the console listens, if there is one.
pub(super) fn console_at(config: &Config, command: Command) -> Option<SocketAddr> {
    config.console.clone().or_default(command == Command::Run)?.listen
}
