//! Asking an upstream for a WebSocket: a connection of its own over HTTP/1.1, whatever is spoken with this upstream
//! otherwise, since only there an upgrade exists. It is never used again.

use std::rc::Rc;

use annulus_protocols::websocket::handshake::accept_key;

use super::dial::Spoken;
use super::{Answer, Body, Flight, Protocol, Upstream, count, http1};
use crate::gateway::message::{Call, Failure, FieldList, Phase};
use crate::serve::wire::Wire;

/// What an upstream says to it.
pub enum Switch {
    /// It agrees.
    Agreed {
        /// The fields of its 101, without those of the connection.
        fields: FieldList,
        /// The connection, which is a WebSocket from now on.
        wire: Wire,
        /// What it sent right behind.
        early: Vec<u8>,
    },
    /// It answers something else.
    Refused(Answer),
}

impl Upstream {
    /// Makes a call that asks for a WebSocket, with everything in its fields but what concerns the connection.
    ///
    /// # Errors
    /// Where and why it failed; among it an agreement that is none.
    pub async fn switch(self: &Rc<Self>, call: &Call<'_>, key: &[u8]) -> Result<Switch, Failure> {
        let flight = Flight::begin(self);
        let origin = super::Origin { protocol: Protocol::Http1, ..self.origin.clone() };
        let dialed = self.dialer.dial(&origin, &|phase| call.progress.set(phase)).await;
        count(if dialed.is_ok() { &self.counts.connects } else { &self.counts.connect_failures });
        let (wire, spoken) = dialed?;
        if spoken != Spoken::Http1 {
            return Err(Failure::protocol(
                Phase::Connect,
                "it does not offer HTTP/1.1 (ALPN), which a WebSocket needs",
            ));
        }
        let mut fields = call.fields.clone();
        fields.push("connection", b"Upgrade");
        fields.push("upgrade", b"websocket");
        let call = Call { fields: &fields, ..*call };
        let (status, mut fields, body) = http1::Conn::new(wire, self.shard.now()).call(self, &call).await?;
        if status != 101 {
            return Ok(Switch::Refused(Answer { status, fields, deadline: None, body, _flight: flight }));
        }
        let is_websocket = fields.text("upgrade").is_some_and(|name| name.eq_ignore_ascii_case("websocket"));
        if !is_websocket || fields.get("sec-websocket-accept") != Some(&accept_key(key)) {
            let what = "it switched to something else than the WebSocket that was asked for";
            return Err(Failure::protocol(Phase::Request, what));
        }
        fields.remove_all(|name| name == "upgrade");
        let Body::Http1(body) = body else { return Err(Failure::protocol(Phase::Request, "it is no HTTP/1.1")) };
        let Some((wire, early)) = body.into_wire() else {
            return Err(Failure::protocol(Phase::Request, "it ended with its agreement"));
        };
        Ok(Switch::Agreed { fields, wire, early })
    }
}
