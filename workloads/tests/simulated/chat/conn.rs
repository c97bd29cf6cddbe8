//! A client's side of a WebSocket, from its request on: lines of commands out, lines of replies and pushes in.

use annulus_engine::driver::sim::Peer;
use annulus_protocols::Input;
use annulus_protocols::http1::{self, ClientEvent};
use annulus_protocols::websocket::handshake::{check_accept, write_request};
use annulus_protocols::websocket::{
    CloseCode, Event, Limits, MessageKind, Role, WebSocket, write_fragment, write_message, write_ping, write_pong,
};

use super::Lab;

/// What came.
pub enum Heard {
    /// A reply or a push.
    Line(Vec<u8>),
    /// The server has closed, with this code.
    Closed(u16),
    /// The server did not open the WebSocket.
    Refused(u16),
}

enum Stage {
    Opening(http1::Client, [u8; 16]),
    Open(WebSocket),
    Refused,
}

/// See the module's description.
pub struct Conn {
    pub peer: Peer,
    stage: Stage,
    inbox: Vec<u8>,
    unsent: Vec<u8>,
    /// What is said before the WebSocket is open.
    early: Vec<String>,
}

fn mask(lab: &Lab) -> Option<[u8; 4]> {
    Some((lab.below(1 << 32) as u32).to_be_bytes())
}

impl Conn {
    pub fn new(lab: &Lab, peer: Peer) -> Conn {
        let (mut machine, mut unsent) = (http1::Client::new(), Vec::new());
        let nonce = std::array::from_fn(|_| lab.below(256) as u8);
        write_request(&mut unsent, "/connection/websocket", "10.0.0.1", nonce, &[], &[]);
        assert!(machine.on_request("GET"));
        Conn { peer, stage: Stage::Opening(machine, nonce), inbox: Vec::new(), unsent, early: Vec::new() }
    }

    /// Says something, in one frame or in fragments with a ping between them.
    pub fn say(&mut self, lab: &Lab, text: String) {
        match &self.stage {
            Stage::Opening(..) => self.early.push(text),
            Stage::Open(_) if lab.hit(100) => {
                let (first, last) = text.as_bytes().split_at(lab.below(text.len() + 1));
                write_fragment(&mut self.unsent, MessageKind::Text, true, false, first, mask(lab));
                write_ping(&mut self.unsent, b"", mask(lab));
                write_fragment(&mut self.unsent, MessageKind::Text, false, true, last, mask(lab));
            }
            Stage::Open(_) => write_message(&mut self.unsent, MessageKind::Text, text.as_bytes(), mask(lab)),
            Stage::Refused => {}
        }
    }

    /// Sends bytes that are nothing.
    pub fn babble(&mut self, lab: &Lab) {
        self.unsent.extend((0..1 + lab.below(200)).map(|_| lab.below(256) as u8));
    }

    /// Says goodbye.
    pub fn close(&mut self, lab: &Lab) {
        if let Stage::Open(websocket) = &mut self.stage {
            websocket.write_close(&mut self.unsent, Some(CloseCode::NORMAL), "", mask(lab));
        }
    }

    pub fn flush(&mut self, most: usize) {
        let len = self.unsent.len().min(most);
        let written = self.peer.write(&self.unsent[..len]);
        self.unsent.drain(..written);
    }

    /// What has arrived of up to `most` bytes.
    pub fn hear(&mut self, lab: &Lab, most: usize) -> Vec<Heard> {
        self.peer.read(most, &mut self.inbox);
        let mut heard = Vec::new();
        let mut bytes = std::mem::take(&mut self.inbox);
        let mut input = Input::new(&mut bytes);
        if let Stage::Opening(machine, nonce) = &mut self.stage {
            match machine.next_event(&http1::Limits::default(), lab.now_ms(), &mut input) {
                Ok(ClientEvent::Head(head)) if head.status() == 101 => {
                    if let Err(why) = check_accept(&head, *nonce, &[]) {
                        lab.world.fail(format!("the WebSocket is not opened as it should be: {why}"));
                    }
                    self.stage = Stage::Open(WebSocket::new(Role::Client));
                    std::mem::take(&mut self.early).into_iter().for_each(|text| self.say(lab, text));
                }
                Ok(ClientEvent::Head(head)) => {
                    heard.push(Heard::Refused(head.status()));
                    self.stage = Stage::Refused;
                }
                Ok(ClientEvent::NeedMore) => {}
                Ok(_) => lab.world.fail("something else than a head begins the answer"),
                Err(fault) => lab.world.fail(format!("an answer that is none: {fault:?}")),
            }
        }
        if let Stage::Open(websocket) = &mut self.stage {
            take_messages(lab, websocket, &mut input, &mut self.unsent, &mut heard);
        }
        self.inbox = input.rest().to_vec();
        heard
    }

    /// Whether the server's last byte has been read, or will never come.
    pub fn is_gone(&self) -> bool {
        self.peer.is_reset() || self.peer.is_ended() && self.peer.unread() == 0
    }

    /// Bytes that are not written yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }
}

fn take_messages(
    lab: &Lab,
    websocket: &mut WebSocket,
    input: &mut Input<'_>,
    unsent: &mut Vec<u8>,
    heard: &mut Vec<Heard>,
) {
    let limits = Limits::with_message_bytes_max(16 << 20);
    loop {
        match websocket.next_event(&limits, lab.now_ms(), input) {
            Ok(Event::NeedMore) => return,
            Ok(Event::Message(message)) => {
                let lines = message.payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                heard.extend(lines.map(|line| Heard::Line(line.to_vec())));
            }
            Ok(Event::Ping(payload)) => write_pong(unsent, &payload, mask(lab)),
            Ok(Event::Pong(_)) => {}
            Ok(Event::Close(close)) => {
                heard.push(Heard::Closed(close.code.map_or(1005, CloseCode::get)));
                websocket.write_close(unsent, close.code, "", mask(lab));
            }
            Err(fault) => return lab.world.fail(format!("the chat breaks WebSocket: {fault:?}")),
        }
    }
}
