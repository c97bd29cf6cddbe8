//! UDP sockets: one datagram at a time, as DNS needs them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::driver::{Fd, Memory, Op};
use crate::once::Once;
use crate::shard::{Core, Shard};

/// A bound UDP socket.
pub struct Datagrams {
    core: Rc<Core>,
    fd: Fd,
    local: SocketAddr,
    /// The receive in flight, kept across dropped futures so that no datagram is lost with them.
    receiving: Option<Once>,
}

impl Shard {
    /// Binds a UDP socket; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`.
    pub fn bind_datagrams(&self, local: SocketAddr) -> io::Result<Datagrams> {
        let (fd, local) = self.core.driver.borrow_mut().datagram(local)?;
        Ok(Datagrams { core: self.core.clone(), fd, local, receiving: None })
    }
}

impl Datagrams {
    /// Where it is bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// As `sendto(2)`.
    pub async fn send_to(&self, payload: &[u8], peer: SocketAddr) -> io::Result<()> {
        self.core.once(Op::SendTo { socket: self.fd, memory: payload.to_vec(), peer }).await.0?;
        Ok(())
    }

    /// The next datagram and its sender; longer ones are cut to `most` bytes. Dropping the future loses nothing,
    /// but the next call then still has the first one's `most`.
    ///
    /// # Errors
    /// As `recvfrom(2)`: with UDP also what became of datagrams sent earlier, such as `ECONNREFUSED`.
    pub async fn recv_from(&mut self, most: usize) -> io::Result<(Vec<u8>, SocketAddr)> {
        let (core, socket) = (&self.core, self.fd);
        let once = self
            .receiving
            .get_or_insert_with(|| core.once(Op::ReceiveFrom { socket, memory: Vec::with_capacity(most) }));
        let outcome = std::future::poll_fn(|cx| std::future::Future::poll(std::pin::Pin::new(&mut *once), cx)).await;
        self.receiving = None;
        match outcome {
            (Ok(_), Memory::Datagram(payload, peer)) => Ok((payload, peer)),
            (Err(errno), _) => Err(errno.into()),
            (Ok(_), _) => Err(io::Error::other("a datagram without a sender")),
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        // The receive becomes an orphan, and the descriptor closes when that has ended.
        if let Some(receiving) = self.receiving.take() {
            self.core.driver.borrow_mut().cancel(self.fd);
            drop(receiving);
        }
        self.core.close_when_idle(self.fd);
    }
}
