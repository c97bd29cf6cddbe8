//! Calls of the server's HTTP API. Each is a task that asks channels' owners, or every shard, and waits for their answers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use annulus_engine::compute::{self, ticket};
use annulus_engine::{ConnId, Shard};
use annulus_protocols::centrifuge::{Disconnect, ErrorCode};

use super::work::Works;
use super::{INBOX, Service};
use crate::chat::api::request::{End, History, Message, Refresh, SANCTIONS_TOLD, Sanctioning, Subscribe, Whom};
use crate::chat::api::{self, Close, Fault, Outcome, Request, reply};
use crate::chat::evidence::Present;
use crate::chat::fleet::{Census, Figures, Question, Survey};
use crate::chat::hub::{USER_BYTES_MAX, count, key_of, owner};
use crate::chat::letters::{Answer, Ask, Asker, CallTicket, Granted, Letter, Order, Publish, Reply, Target};
use crate::chat::node::Node;
use crate::chat::sanctions::{FOREVER, Sanction};
use crate::chat::session::ClientId;
use crate::chat::stream::{Content, Stored, epoch_text};

/// Clients of one presence answer, per shard. Beyond, the first ones are told.
const PRESENCE_MAX: usize = 100_000;
/// Commands of a batch, or channels of a broadcast, that are under way at once. The others follow: each answer looks at all
/// that are waited for.
const AT_ONCE_MAX: usize = 1024;

/// The release, as callers are told it.
pub(super) const VERSION: &str = concat!("annulus ", env!("CARGO_PKG_VERSION"));

/// What is answered to a call.
#[derive(Debug)]
pub struct HttpReply {
    pub(in crate::chat) status: u16,
    /// What is wrong with the request; otherwise there is a body.
    pub(in crate::chat) problem: Option<String>,
    pub(in crate::chat) body: Vec<u8>,
}

/// What an answer is made of; JSON is written from it later.
enum Told {
    Done,
    Published(u64, String),
    Broadcast(Vec<Result<(u64, String), ErrorCode>>),
    Presence(Vec<Present>),
    Stats(u64, u64),
    History(Vec<Stored>, u64, String),
    Channels(Vec<(Arc<str>, u64)>),
    Sanctions(Vec<Sanction>, usize),
    /// Of each node: what it is called, and what it says of itself.
    Info(Vec<(String, Figures)>),
    /// What is known, and the nodes that have not said theirs.
    Partial(Box<Told>, Vec<String>),
}

impl Told {
    /// The same without what those nodes would say.
    fn without(self, missing: Vec<String>) -> Told {
        if missing.is_empty() { self } else { Told::Partial(Box::new(self), missing) }
    }
}

impl Service {
    /// Begins a call.
    pub(super) fn call(&mut self, conn: ConnId, method: String, body: Vec<u8>, by_status: bool) {
        let caller =
            Rc::new(Caller { shard: self.sockets.shard.clone(), node: self.node.clone(), works: self.works.clone() });
        drop(self.sockets.shard.spawn(async move {
            let reply = caller.reply(&method, &body, by_status).await;
            let told = caller.shard.post(caller.shard.index(), INBOX, Letter::Replied { conn, reply });
            debug_assert!(told.is_ok(), "a letter to oneself always fits");
        }));
    }
}

/// Who carries calls out.
struct Caller {
    shard: Shard,
    node: Arc<Node>,
    works: Rc<Works>,
}

impl Caller {
    async fn reply(&self, method: &str, body: &[u8], by_status: bool) -> HttpReply {
        let mut out = Vec::new();
        let request = match api::read(method, body) {
            Ok(request) => request,
            Err(Fault::Refused(error)) if by_status => {
                api::write_bare_error(&mut out, &error);
                return HttpReply { status: api::transport_status(&error), problem: None, body: out };
            }
            Err(Fault::Refused(error)) => {
                api::write_response(&mut out, &Err(error));
                return HttpReply { status: 200, problem: None, body: out };
            }
            Err(fault) => {
                return HttpReply { status: fault.status(), problem: Some(fault.to_string()), body: out };
            }
        };
        if let Request::Batch { commands, parallel } = request {
            let replies = self.batch(&commands, parallel).await;
            api::write_batch(&mut out, replies.iter().map(Vec::as_slice));
            return HttpReply { status: 200, problem: None, body: out };
        }
        match self.carry_out(&request).await {
            Err(error) if by_status => {
                api::write_bare_error(&mut out, &error);
                HttpReply { status: api::transport_status(&error), problem: None, body: out }
            }
            outcome => {
                self.write(&mut out, "result", &outcome);
                HttpReply { status: 200, problem: None, body: out }
            }
        }
    }

    async fn batch(&self, commands: &[Result<Request<'_>, ErrorCode>], parallel: bool) -> Vec<Vec<u8>> {
        if parallel {
            return all(commands.iter().map(|command| self.reply_in_batch(command))).await;
        }
        let mut replies = Vec::new();
        for command in commands {
            replies.push(self.reply_in_batch(command).await);
        }
        replies
    }

    async fn reply_in_batch(&self, command: &Result<Request<'_>, ErrorCode>) -> Vec<u8> {
        let mut out = Vec::new();
        match command {
            Ok(request) => self.write(&mut out, request.method(), &self.carry_out(request).await),
            Err(error) => self.write(&mut out, "result", &Err(error.clone())),
        }
        out
    }

    /// Carries one request out.
    fn carry_out<'r>(
        &'r self,
        request: &'r Request<'r>,
    ) -> Pin<Box<dyn Future<Output = Result<Told, ErrorCode>> + 'r>> {
        Box::pin(async move {
            match request {
                Request::Publish { channel, message } => {
                    let (offset, epoch) = self.publish(channel, message).await?;
                    Ok(Told::Published(offset, epoch))
                }
                Request::Broadcast { channels, message } => {
                    let publishing = channels.iter().map(|channel| self.publish(channel, message));
                    Ok(Told::Broadcast(all(publishing).await))
                }
                Request::Subscribe(subscribe) => self.subscribe(subscribe).await,
                Request::Unsubscribe { channel, whom } => self.unsubscribe(channel, whom).await,
                Request::Disconnect { whom, close, whitelist } => self.disconnect(whom, close, whitelist).await,
                Request::Refresh(refresh) => self.refresh(refresh).await,
                Request::Presence { channel } => {
                    let (present, missing) = self.present(channel, PRESENCE_MAX).await?;
                    Ok(Told::Presence(present).without(missing))
                }
                Request::PresenceStats { channel } => {
                    let (present, missing) = self.present(channel, 0).await?;
                    let (clients, users) = count(&present);
                    Ok(Told::Stats(clients as u64, users as u64).without(missing))
                }
                Request::History(history) => self.history(history).await,
                Request::HistoryRemove { channel } => match self.ask(channel, Ask::Clear).await? {
                    Answer::Refused(error) => Err(error),
                    Answer::Cleared(Some((upto, epoch))) => {
                        let is_kept = self.check_channel(channel)?.history_from_database;
                        if let Some(past) = self.works.past.as_ref().filter(|_| is_kept) {
                            past.clear(&channel.as_ref().into(), epoch_text(&epoch), upto).await?;
                        }
                        Ok(Told::Done)
                    }
                    _ => Ok(Told::Done),
                },
                Request::PublicationRemove { channel, offset, epoch } => {
                    let ask = Ask::Remove { offset: *offset, epoch: epoch.to_string() };
                    match self.ask(channel, ask).await? {
                        Answer::Refused(error) => Err(error),
                        Answer::Removed(Some(epoch)) => {
                            let is_kept = self.check_channel(channel)?.history_from_database;
                            if let Some(past) = self.works.past.as_ref().filter(|_| is_kept) {
                                past.remove(&channel.as_ref().into(), epoch_text(&epoch), *offset).await?;
                            }
                            Ok(Told::Done)
                        }
                        _ => Ok(Told::Done),
                    }
                }
                Request::Sanction(sanctioning) => self.sanction(sanctioning).await,
                Request::Sanctions { user, limit } => self.sanctions(user, *limit).await,
                Request::Channels { pattern } => self.channels(pattern).await,
                Request::Info => Ok(self.info().await),
                // They are read so that none is in another.
                Request::Batch { .. } => Err(ErrorCode::BAD_REQUEST),
            }
        })
    }

    fn check_channel(&self, channel: &str) -> Result<&crate::chat::config::Namespace, ErrorCode> {
        let config = &self.node.common.config;
        let fits = (1..=config.client.channel_bytes_max).contains(&channel.len());
        if !fits || !config.is_channel_name(channel) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        config.channels.namespace(channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)
    }

    /// Asks a channel's owner.
    async fn ask(&self, channel: &str, ask: Ask) -> Result<Answer, ErrorCode> {
        self.check_channel(channel)?;
        let (ticket, reply) = ticket();
        let asker = Asker::Call(CallTicket(ticket));
        let letter = Letter::Ask { asker, shard: self.shard.index(), channel: channel.into(), ask };
        let owner = owner(channel, self.shard.count());
        self.shard.post(owner, INBOX, letter).map_err(|_| ErrorCode::TOO_MANY_REQUESTS)?;
        reply.await.ok_or(ErrorCode::INTERNAL)
    }

    async fn publish(&self, channel: &str, message: &Message<'_>) -> Result<(u64, String), ErrorCode> {
        self.check_channel(channel)?;
        let data = &message.data;
        let key = match message.idempotency_key.is_empty() {
            true => None,
            false => Some(key_of(channel, "", message.idempotency_key.as_bytes(), &data.bytes)),
        };
        let owned = |text: &str| std::borrow::Cow::Owned(text.to_owned());
        let tags = message.tags.iter().map(|(name, value)| (owned(name), owned(value))).collect();
        let content = Content { data: data.bytes.as_ref().into(), binary: data.kind.is_none(), author: None, tags };
        let publish = Publish { content: Arc::new(content), key, skip_history: message.skip_history };
        match self.ask(channel, Ask::Publish(publish)).await? {
            Answer::Published { offset, epoch } => Ok((offset, epoch)),
            Answer::NotPublished(error) => Err(error),
            _ => Err(ErrorCode::INTERNAL),
        }
    }

    /// Gives every shard of every node an order. Where a node has not confirmed it, it is told which: the order may be given
    /// again, and does nothing where it was carried out.
    async fn order(&self, order: Order) -> Result<(), ErrorCode> {
        let order = Arc::new(order);
        for done in self.ask_all(|reply| Letter::Order { order: order.clone(), reply }).await? {
            let _concerned = done?;
        }
        let missing = match self.works.fleet() {
            Some(fleet) => fleet.order(&order).await,
            None => Vec::new(),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("internal server error: not confirmed by {}", missing.join(", "));
        Err(ErrorCode { message: message.into(), ..ErrorCode::INTERNAL })
    }

    /// What all nodes say of themselves.
    async fn info(&self) -> Told {
        let own = (self.node.common.config.uid.clone(), super::figures(&self.shard, &self.node));
        let census = match self.works.fleet() {
            Some(fleet) => fleet.census().await,
            None => Census::default(),
        };
        let others = census.nodes.into_iter().map(|(id, figures)| (id.to_string(), figures));
        Told::Info(std::iter::once(own).chain(others).collect()).without(census.missing)
    }

    /// Asks every shard.
    async fn ask_all<T: Send + 'static>(&self, letter: impl Fn(Reply<T>) -> Letter) -> Result<Vec<T>, ErrorCode> {
        let mut replies = Vec::new();
        for shard in 0..self.shard.count() {
            let (ticket, reply): (compute::Ticket<T>, compute::Reply<T>) = ticket();
            self.shard.post(shard, INBOX, letter(Reply(ticket))).map_err(|_| ErrorCode::TOO_MANY_REQUESTS)?;
            replies.push(reply);
        }
        let mut answers = Vec::new();
        for reply in replies {
            answers.push(reply.await.ok_or(ErrorCode::INTERNAL)?);
        }
        Ok(answers)
    }

    async fn subscribe(&self, subscribe: &Subscribe<'_>) -> Result<Told, ErrorCode> {
        self.check_channel(&subscribe.channel)?;
        let Some(target) = target(&subscribe.whom) else { return Ok(Told::Done) };
        let subscription = Granted {
            channel: subscribe.channel.to_string(),
            expires_at: u64::try_from(subscribe.expire_at).unwrap_or(0),
            info: subscribe.info.as_ref().filter(|info| info.kind.is_some()).map(|info| info.bytes.to_vec()),
            data: subscribe.data.as_ref().map(|data| data.bytes.to_vec()),
            overrides: subscribe.overrides,
        };
        let since = subscribe.recover_since.as_ref().map(|since| (since.offset, since.epoch.to_string()));
        self.order(Order::Subscribe { target, subscription, since }).await?;
        Ok(Told::Done)
    }

    async fn unsubscribe(&self, channel: &str, whom: &Whom<'_>) -> Result<Told, ErrorCode> {
        if !channel.is_empty() {
            self.check_channel(channel)?;
        }
        let Some(target) = target(whom) else { return Ok(Told::Done) };
        let why = annulus_protocols::centrifuge::Unsubscribed::SERVER;
        let (code, reason) = (why.code, why.reason.to_string());
        self.order(Order::Unsubscribe { target, channel: channel.to_owned(), code, reason }).await?;
        Ok(Told::Done)
    }

    async fn disconnect(
        &self,
        whom: &Whom<'_>,
        close: &Close<'_>,
        whitelist: &[std::borrow::Cow<'_, str>],
    ) -> Result<Told, ErrorCode> {
        let Some(mut target) = target(whom) else { return Ok(Told::Done) };
        target.except = whitelist.iter().filter_map(|client| ClientId::parse(client)).collect();
        self.order(Order::Disconnect { target, disconnect: Disconnect::from(close.clone()), before: None }).await?;
        Ok(Told::Done)
    }

    async fn refresh(&self, refresh: &Refresh<'_>) -> Result<Told, ErrorCode> {
        let Some(target) = target(&refresh.whom) else { return Ok(Told::Done) };
        let info = refresh.info.as_ref().filter(|info| info.kind.is_some()).map(|info| info.bytes.to_vec());
        let expires_at = u64::try_from(refresh.expire_at).unwrap_or(0);
        self.order(Order::Refresh { target, expired: refresh.expired, expires_at, info }).await?;
        Ok(Told::Done)
    }

    async fn sanction(&self, sanctioning: &Sanctioning<'_>) -> Result<Told, ErrorCode> {
        let Sanctioning { kind, lifts, user, channel, end, .. } = sanctioning;
        if !channel.is_empty() {
            self.check_channel(channel)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let until = match end {
            _ if *lifts => 0,
            End::Never => FOREVER,
            End::At(at) => *at,
            End::After(seconds) => now.saturating_add(*seconds),
        };
        let has_ended = !lifts && until <= now;
        if has_ended || user.len() > USER_BYTES_MAX {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let (user, channel) = (user.as_ref().into(), channel.as_ref().into());
        self.order(Order::Sanction(Sanction { kind: *kind, user, channel, until })).await?;
        Ok(Told::Done)
    }

    /// What is forbidden to users, as this node knows it: every shard has all of it.
    async fn sanctions(&self, user: &str, limit: usize) -> Result<Told, ErrorCode> {
        let most = if limit == 0 { SANCTIONS_TOLD } else { limit.min(SANCTIONS_TOLD) };
        let (ticket, reply) = ticket();
        let letter = Letter::Sanctions { user: user.to_owned(), most, reply: Reply(ticket) };
        self.shard.post(self.shard.index(), INBOX, letter).map_err(|_| ErrorCode::TOO_MANY_REQUESTS)?;
        let (named, total) = reply.await.ok_or(ErrorCode::INTERNAL)?;
        Ok(Told::Sanctions(named, total))
    }

    async fn present(&self, channel: &str, most: usize) -> Result<(Vec<Present>, Vec<String>), ErrorCode> {
        if !self.check_channel(channel)?.presence {
            return Err(ErrorCode::NOT_AVAILABLE);
        }
        self.works.presence(&channel.into(), most).await.ok_or(ErrorCode::TOO_MANY_REQUESTS)
    }

    async fn history(&self, history: &History<'_>) -> Result<Told, ErrorCode> {
        if !self.check_channel(&history.channel)?.has_history() {
            return Err(ErrorCode::NOT_AVAILABLE);
        }
        let since = history.since.as_ref().map(|since| (since.offset, since.epoch.to_string()));
        if history.reverse && since.as_ref().is_some_and(|since| since.0 == 0) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let limit = usize::try_from(history.limit).unwrap_or(usize::MAX);
        match self.ask(&history.channel, Ask::History { limit, since, reverse: history.reverse }).await? {
            Answer::Page { page, top, epoch } => Ok(Told::History(page, top, epoch)),
            Answer::Partial(partial) => {
                let past = self.works.past.as_ref().ok_or(ErrorCode::INTERNAL)?;
                let page = past.complete(&history.channel.as_ref().into(), *partial).await?;
                Ok(Told::History(page.publications, page.top, page.epoch))
            }
            Answer::Refused(error) => Err(error),
            _ => Err(ErrorCode::INTERNAL),
        }
    }

    async fn channels(&self, pattern: &str) -> Result<Told, ErrorCode> {
        let of_shards = self.ask_all(|reply| Letter::Channels { pattern: pattern.to_owned(), reply }).await?;
        let survey = match self.works.fleet() {
            Some(fleet) => fleet.ask(Question::Channels { pattern: pattern.to_owned() }).await,
            None => Survey::default(),
        };
        let own = of_shards.into_iter().flatten().map(|(name, count)| (name, count as u64));
        let others = survey.found.into_iter().flat_map(|found| found.channels);
        let mut all = std::collections::BTreeMap::new();
        for (name, count) in own.chain(others) {
            let sum: &mut u64 = all.entry(name).or_insert(0);
            *sum = sum.saturating_add(count);
        }
        Ok(Told::Channels(all.into_iter().collect()).without(survey.missing))
    }

    /// Writes what came of a request.
    fn write(&self, out: &mut Vec<u8>, name: &str, outcome: &Result<Told, ErrorCode>) {
        let outcome: Outcome<'_> = outcome.as_ref().map(answer_of).map_err(Clone::clone);
        reply::write_reply(out, name, &outcome);
    }
}

/// What is told, as it is written.
fn answer_of(told: &Told) -> reply::Answer<'_> {
    match told {
        Told::Done => reply::Answer::Done,
        Told::Published(offset, epoch) => reply::Answer::Published(published(*offset, epoch)),
        Told::Broadcast(all) => {
            let told = all.iter().map(|each| match each {
                Ok((offset, epoch)) => Ok(published(*offset, epoch)),
                Err(error) => Err(error.clone()),
            });
            reply::Answer::Broadcast(told.collect())
        }
        Told::Presence(present) => reply::Answer::Presence(present.iter().map(as_present).collect()),
        Told::Stats(clients, users) => reply::Answer::PresenceStats { clients: *clients, users: *users },
        Told::History(page, top, epoch) => {
            let publications = page.iter().map(as_kept).collect();
            reply::Answer::History(reply::HistoryPage { publications, epoch, offset: *top })
        }
        Told::Channels(all) => reply::Answer::Channels(all.iter().map(|(name, count)| (&**name, *count)).collect()),
        Told::Sanctions(named, total) => reply::Answer::Sanctions { named: named.iter().collect(), total: *total },
        Told::Info(nodes) => reply::Answer::Info(nodes.iter().map(|(uid, figures)| as_node(uid, figures)).collect()),
        Told::Partial(known, missing) => reply::Answer::Partial { known: Box::new(answer_of(known)), missing },
    }
}

fn as_node<'a>(uid: &'a str, figures: &'a Figures) -> reply::NodeInfo<'a> {
    reply::NodeInfo {
        uid,
        name: &figures.name,
        version: &figures.release,
        clients: figures.clients,
        users: figures.users,
        subscriptions: figures.subscriptions,
        channels: figures.channels,
        uptime: figures.uptime,
    }
}

fn published(offset: u64, epoch: &str) -> reply::Published<'_> {
    reply::Published { offset, epoch }
}

/// Whose clients are meant; `None`: nobody's, because no client of ours has such an id.
fn target(whom: &Whom<'_>) -> Option<Target> {
    let client = match whom.client.is_empty() {
        true => None,
        false => Some(ClientId::parse(&whom.client)?),
    };
    Some(Target { user: whom.user.to_string(), client, session: whom.session.to_string(), except: Vec::new() })
}

fn as_present(present: &Present) -> reply::Present<'_> {
    reply::Present {
        client: &present.client,
        user: &present.user,
        conn_info: present.conn_info.as_deref().unwrap_or_default(),
        chan_info: present.chan_info.as_deref().unwrap_or_default(),
    }
}

fn as_kept(stored: &Stored) -> reply::Kept<'_> {
    let info = stored.content.author.as_ref().map(|author| reply::Present {
        client: author.client.as_str(),
        user: &author.user,
        conn_info: author.conn_info.as_deref().unwrap_or_default(),
        chan_info: author.chan_info.as_deref().unwrap_or_default(),
    });
    let tags = stored.content.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
    reply::Kept { data: &stored.content.data, binary: stored.content.binary, info, offset: stored.offset, tags }
}

/// What each of them gives, in their order. Waits for [`AT_ONCE_MAX`] at once.
async fn all<F: Future>(mut futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut ended = Vec::new();
    loop {
        let some = all_of(futures.by_ref().take(AT_ONCE_MAX)).await;
        if some.is_empty() {
            return ended;
        }
        ended.extend(some);
    }
}

async fn all_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut ended: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, ended) in waiting.iter_mut().zip(&mut ended).filter(|(_, ended)| ended.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                *ended = Some(output);
            }
        }
        if ended.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended.into_iter().flatten().collect()
}
