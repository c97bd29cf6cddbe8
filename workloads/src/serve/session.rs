//! A client's connection: requests one after the other, each answered before the next is read.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::Shard;
use annulus_engine::trace::Stage;
use annulus_protocols::http1::{BodyLength, Exchange, write_response_head};

use super::body::{Body, Broken, Incoming, NoHead};
use super::date::http_date;
use super::problem::Problem;
use super::reply::{Reply, ReplyBody};
use super::request::Request;
use super::wire::{Either, Wire, either};
use super::{Service, Settings};

/// Why a connection ends.
enum Ended {
    /// Everything was said, and the client may still be sending.
    Said,
    /// The peer is gone, or the transport broke: nothing can be said.
    Gone,
}

struct Session<S> {
    service: Rc<S>,
    incoming: Incoming,
    peer: IpAddr,
    out: Vec<u8>,
}

/// Serves a connection until it ends.
pub(super) async fn serve<S: Service>(shard: Shard, service: Rc<S>, settings: Rc<Settings>, wire: Wire, peer: IpAddr) {
    let incoming = Incoming::new(shard, settings, wire);
    let mut session = Session { service, incoming, peer, out: Vec::new() };
    loop {
        match session.exchange().await {
            Ok(()) => {}
            Err(Ended::Said) => return session.incoming.linger().await,
            Err(Ended::Gone) => return,
        }
    }
}

impl<S: Service> Session<S> {
    /// One request and its answer.
    async fn exchange(&mut self) -> Result<(), Ended> {
        let head = match self.incoming.next_head().await {
            Ok(head) => head,
            Err(NoHead::Over) => return Err(Ended::Gone),
            Err(NoHead::Fault(fault)) => return self.refuse(Broken::Fault(fault).into()).await,
            Err(NoHead::Slow) => {
                return self
                    .refuse(Problem::new(408, "The request's head took too long to arrive. Send it again."))
                    .await;
            }
        };
        let exchange = head.exchange();
        let request = Request::new(head, self.peer, self.incoming.shard.now());
        let (shard, mut trace) = (self.incoming.shard.clone(), std::mem::take(&mut self.incoming.trace));
        trace.mark(Stage::Parse);
        let mut body = Body::new(&mut self.incoming, exchange.expects_continue());
        // On the heap, so that the connection's task stays small between requests.
        let reply = shard.follow(&mut trace, Box::pin(self.service.answer(&request, &mut body))).await;
        let (broken, ended, expected) = (body.is_broken(), body.is_ended(), body.is_expected());
        if broken == Some(Broken::Gone) {
            return Err(Ended::Gone);
        }
        // A client that was not asked for its body may send it or not: nobody knows where the next request begins.
        let persists = broken.is_none() && !expected && (ended || self.incoming.pass_over());
        let persists = persists && !self.incoming.shard.is_draining();
        let exchange = if persists { exchange } else { exchange.closing() };
        // One that goes on for ever is no answer whose time means anything.
        let is_endless = matches!(reply.body, ReplyBody::Streamed { len: None, .. });
        let sent = self.send(&exchange, reply).await;
        if !is_endless {
            trace.mark(Stage::Work);
            self.incoming.wire.trace(trace, S::TRACED);
        }
        sent
    }

    /// Answers what could not be read, and ends.
    async fn refuse(&mut self, problem: Problem) -> Result<(), Ended> {
        self.service.on_refused(problem.status);
        self.send(&Exchange::REFUSED, problem.into()).await
    }

    async fn send(&mut self, exchange: &Exchange, reply: Reply) -> Result<(), Ended> {
        self.incoming.hold();
        let must_close = match reply.body {
            ReplyBody::Empty => self.send_whole(exchange, &reply, b"").await?,
            ReplyBody::Fixed(bytes) => self.send_whole(exchange, &reply, bytes).await?,
            ReplyBody::Bytes(ref bytes) => self.send_whole(exchange, &reply, bytes).await?,
            ReplyBody::Streamed { .. } => self.send_pieces(exchange, reply).await?,
        };
        match must_close {
            true => self.finish().await,
            false => Ok(()),
        }
    }

    async fn send_whole(&mut self, exchange: &Exchange, reply: &Reply, bytes: &[u8]) -> Result<bool, Ended> {
        let length = match reply.body {
            ReplyBody::Empty if matches!(reply.status, 204 | 304) => BodyLength::None,
            _ => BodyLength::Known(bytes.len() as u64),
        };
        let mut writer = write_head(&mut self.out, exchange, reply.status, &reply.fields, length);
        writer.write_data(&mut self.out, bytes);
        let must_close = writer.write_end(&mut self.out);
        self.flush().await?;
        Ok(must_close)
    }

    /// Sends pieces as they come, while the client is there.
    async fn send_pieces(&mut self, exchange: &Exchange, reply: Reply) -> Result<bool, Ended> {
        let ReplyBody::Streamed { len, mut pieces } = reply.body else { return Ok(!exchange.persists()) };
        let length = len.map_or(BodyLength::Unknown, BodyLength::Known);
        let mut writer = write_head(&mut self.out, exchange, reply.status, &reply.fields, length);
        if !writer.wants_data() {
            self.flush().await?;
            return Ok(!exchange.persists());
        }
        let mut left = len;
        // The head of what takes its time is not held back.
        if len.is_none() {
            self.flush().await?;
        }
        loop {
            let next = match either(pieces.next(), self.incoming.left()).await {
                Either::First(next) => next,
                Either::Second(()) => return Err(Ended::Gone),
            };
            // A body that breaks off must not look complete: the connection breaks off with it.
            let Some(mut piece) = next.map_err(|_| Ended::Gone)? else { break };
            match &mut left {
                // The framing is a length: what the writer would append is the piece as it is.
                Some(left) => {
                    piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= piece.len() as u64;
                    let sending = self.incoming.wire.send_with_body(&mut self.out, piece);
                    in_time(&self.incoming.shard, self.incoming.settings.take_pause_max, sending).await?;
                }
                None => {
                    writer.write_data(&mut self.out, &piece);
                    self.flush().await?;
                }
            }
        }
        match left {
            Some(0) => Ok(!exchange.persists()),
            Some(_) => Err(Ended::Gone),
            None => {
                let must_close = writer.write_end(&mut self.out);
                self.flush().await?;
                Ok(must_close)
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sending = self.incoming.wire.send(&mut self.out);
        in_time(&self.incoming.shard, self.incoming.settings.take_pause_max, sending).await
    }

    async fn finish(&mut self) -> Result<(), Ended> {
        let finishing = self.incoming.wire.finish();
        in_time(&self.incoming.shard, self.incoming.settings.take_pause_max, finishing).await?;
        Err(Ended::Said)
    }
}

/// Who takes nothing for too long is as good as gone.
async fn in_time(
    shard: &Shard,
    limit: Duration,
    sending: impl Future<Output = std::io::Result<()>>,
) -> Result<(), Ended> {
    match shard.timeout(limit, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Ended::Gone),
    }
}

fn write_head(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    status: u16,
    fields: &[(&'static str, String)],
    length: BodyLength,
) -> annulus_protocols::http1::BodyWriter {
    let now = now_text();
    let mut all = vec![("date", &now[..])];
    all.extend(fields.iter().map(|(name, value)| (*name, &value[..])));
    write_response_head(out, exchange, status, &all, length)
}

thread_local! {
    /// The second that was written last, and its text.
    static NOW: RefCell<(u64, Rc<str>)> = RefCell::new((0, "".into()));
}

/// The date of an answer (RFC 9110 section 6.6.1), made once per second.
fn now_text() -> Rc<str> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    NOW.with_borrow_mut(|(last, text)| {
        if *last != second || text.is_empty() {
            (*last, *text) = (second, http_date(second).into());
        }
        text.clone()
    })
}
