//! What takes longer than a turn: tokens on the compute threads, backends, other shards. Each is a task, and its result
//! comes back as a letter to the hub.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::compute::ticket;
use annulus_engine::{ConnId, Shard};
use annulus_protocols::centrifuge::ErrorCode;

use super::INBOX;
use super::past::Past;
use crate::chat::config::Secret;
use crate::chat::config::hooks::{Hook as HookConfig, OWN};
use crate::chat::events::Sender;
use crate::chat::evidence::{Checked, Found, Present};
use crate::chat::fleet::{Fleet, Question};
use crate::chat::hooks::{self, Headers, Hook, HookError, Kind, Unfit};
use crate::chat::hub::Verifiers;
use crate::chat::letters::{self, Letter, Work};
use crate::chat::node::Node;
use crate::chat::tokens::{TokenError, Verifier};
use crate::gateway::dns;
use crate::gateway::fetching::FieldList;
use crate::jose::Fetcher;
use crate::outbound::{Endpoint, Outbound};

/// How long a name's addresses are believed at most.
const NAME_TTL_MAX: Duration = Duration::from_secs(30);
/// Clients that are counted in a channel of all nodes, at most.
const COUNTED_MAX: usize = 4_000_000;
/// Tasks of one shard at the same time. Beyond, what needs one is told to come again.
const TASKS_MAX: usize = 16_384;

/// One of the two verifiers.
#[derive(Clone, Copy)]
enum Which {
    Connection,
    Subscription,
}

impl Which {
    const ALL: [Which; 2] = [Which::Connection, Which::Subscription];

    fn of(self, verifiers: &Verifiers) -> &Verifier {
        match self {
            Which::Connection => &verifiers.connection,
            Which::Subscription => &verifiers.subscription,
        }
    }
}

/// See the module's description.
pub struct Works {
    shard: Shard,
    node: Arc<Node>,
    /// By what they are asked, and their names.
    hooks: HashMap<(&'static str, String), Rc<Hook>>,
    /// What is older than memory, where a namespace reads that.
    pub(super) past: Option<Past>,
    tasks: Cell<usize>,
    /// Tells the backend what happened, if it wants to know.
    pub(super) events: Option<Rc<Sender>>,
    /// The other nodes, if there can be any.
    fleet: Option<Fleet>,
    keys: Rc<Fetcher>,
}

/// A task, counted out also when it ends by a panic.
struct Running(Rc<Works>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
    }
}

impl Works {
    pub(super) fn new(shard: &Shard, node: &Arc<Node>) -> Result<Rc<Works>, String> {
        let resolver = dns::system_resolver(shard, &[], NAME_TTL_MAX);
        let outbound = Outbound::new(shard, resolver.clone(), &node.client_tls);
        let mut hooks = HashMap::new();
        for (kind, name, config) in node.common.config.hooks.all() {
            let hook = Hook::new(&outbound, settings(kind, name, config, shard.count())?)?;
            hooks.insert((kind.name(), name.to_owned()), Rc::new(hook));
        }
        let (tasks, keys) = (Cell::new(0), Fetcher::new(shard, &outbound, "chat"));
        let past = Past::new(shard, node)?;
        let config = &node.common.config;
        let events = match config.events.as_ref().map(|events| (events, &events.secret)) {
            Some((events, Some(secret))) => {
                let outbound = Outbound::within(shard, resolver, &node.client_tls, events.reach.clone());
                Some(Sender::start(&outbound, events, secret, (config.uid.clone(), node.name()))?)
            }
            // Without a secret the start is refused.
            Some((_, None)) | None => None,
        };
        let fleet = node.common.config.broker.as_ref().map(|_| Fleet::new(shard));
        Ok(Rc::new(Works { shard: shard.clone(), node: node.clone(), hooks, past, tasks, events, fleet, keys }))
    }

    /// Begins a piece of work for a connection.
    pub(super) fn begin(this: &Rc<Works>, conn: ConnId, work: Work) {
        if this.tasks.get() >= TASKS_MAX {
            return this.tell(conn, refusal(work));
        }
        this.tasks.set(this.tasks.get() + 1);
        let running = Running(this.clone());
        drop(this.shard.spawn(async move {
            let found = running.0.find(work).await;
            running.0.tell(conn, found);
        }));
    }

    fn tell(&self, conn: ConnId, found: Found) {
        let letter = Letter::Found { conn, found: Box::new(found) };
        let sent = self.shard.post(self.shard.index(), INBOX, letter);
        debug_assert!(sent.is_ok(), "a letter to oneself always fits");
    }

    /// A backend's answer could not be read.
    pub(super) fn unfit(&self, (kind, name): (Kind, &str), unfit: &Unfit) {
        if let Some(hook) = self.hooks.get(&(kind.name(), name.to_owned())) {
            hook.on_unfit(unfit);
        }
    }

    async fn find(&self, work: Work) -> Found {
        match work {
            Work::ConnectionToken(verifiers, token) => {
                Found::Connection(self.verify(&verifiers, Which::Connection, token, Verifier::verify_connection).await)
            }
            Work::SubscriptionToken(verifiers, token) => Found::Subscription(
                self.verify(&verifiers, Which::Subscription, token, Verifier::verify_subscription).await,
            ),
            Work::Hook { purpose, hook, body, sent, emulated } => {
                let answer = match self.hooks.get(&(hook.0.name(), hook.1)) {
                    Some(hook) => hook.call(body, &Headers { sent: &list(&sent), emulated: &list(&emulated) }).await,
                    None => Err(HookError::Resting),
                };
                Found::Hook(purpose, answer)
            }
            Work::Presence { channel, most } => {
                // The protocol has no word for what is missing: clients are told what is known.
                Found::Presence(self.presence(&channel, most).await.map(|(present, _missing)| present))
            }
            Work::Past { id, channel, partial } => {
                let page = match &self.past {
                    Some(past) => past.complete(&channel, *partial).await,
                    None => Err(ErrorCode::INTERNAL),
                };
                Found::Page(id, page)
            }
            Work::Check { namespace, data } => Found::Checked(self.check(namespace, data).await),
        }
    }

    /// Verifies a token, with its key fetched first if need be.
    async fn verify<C: Send + 'static>(
        &self,
        verifiers: &Arc<Verifiers>,
        which: Which,
        token: String,
        verify: fn(&Verifier, &str, u64) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let (owned, signatures) = (verifiers.clone(), &which.of(verifiers).signatures);
        let verify = move |token: &str, now| verify(which.of(&owned), token, now);
        self.keys.verified(signatures, self.jwks_url(which), &token, verify).await
    }

    fn jwks_url(&self, which: Which) -> Option<&str> {
        self.node.jwks_url(matches!(which, Which::Subscription))
    }

    /// Fetches the key sets that have become old.
    pub(super) fn refresh_keys(this: &Rc<Works>, verifiers: &Arc<Verifiers>) {
        for which in Which::ALL {
            let signatures = which.of(verifiers).signatures.clone();
            if this.keys.is_due(&signatures) {
                this.keys.begin(&signatures, this.jwks_url(which));
            }
        }
    }

    /// The other nodes, if there can be any.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// Asks every shard of every node who is in a channel, and which nodes have not said; `None`: one of ours could not be
    /// asked.
    pub(super) async fn presence(&self, channel: &Arc<str>, most: usize) -> Option<(Vec<Present>, Vec<String>)> {
        let mut replies = Vec::new();
        for shard in 0..self.shard.count() {
            let (ticket, reply) = ticket();
            let letter = Letter::Who { channel: channel.clone(), most, reply: letters::Reply(ticket) };
            self.shard.post(shard, INBOX, letter).ok()?;
            replies.push(reply);
        }
        let mut present = Vec::new();
        for reply in replies {
            present.extend(reply.await?);
        }
        let Some(fleet) = &self.fleet else { return Some((present, Vec::new())) };
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let survey = fleet.ask(Question::Presence { channel: channel.to_string(), most }).await;
        for found in survey.found {
            present.extend(found.present);
            for (user, clients) in found.counted {
                let user: Arc<str> = user.to_string().into();
                let room = COUNTED_MAX.saturating_sub(present.len());
                let clients = usize::try_from(clients).map_or(room, |clients| clients.min(room));
                present.extend((0..clients).map(|_| Present { user: user.clone(), ..Present::default() }));
            }
        }
        Some((present, survey.missing))
    }

    async fn check(&self, namespace: usize, data: Vec<u8>) -> Checked {
        let node = self.node.clone();
        let check = move || node.common.schemas[namespace].as_ref().map_or(Ok(()), |schema| schema.check(&data));
        match self.shard.compute(check) {
            Ok(job) => job.await.map_or(Checked::Busy, Checked::of),
            Err(_) => Checked::Busy,
        }
    }
}

/// What is told where there are too many tasks already.
fn refusal(work: Work) -> Found {
    match work {
        Work::ConnectionToken(..) => Found::Connection(Err(TokenError::KeysUnavailable)),
        Work::SubscriptionToken(..) => Found::Subscription(Err(TokenError::KeysUnavailable)),
        Work::Hook { purpose, .. } => Found::Hook(purpose, Err(HookError::Busy)),
        Work::Presence { .. } => Found::Presence(None),
        Work::Past { id, .. } => Found::Page(id, Err(ErrorCode::TOO_MANY_REQUESTS)),
        Work::Check { .. } => Found::Checked(Checked::Busy),
    }
}

/// A hook's settings for one shard of so many.
fn settings(kind: Kind, name: &str, config: &HookConfig, shards: usize) -> Result<hooks::Settings, String> {
    let shown = if name == OWN { kind.name() } else { name };
    let endpoint = Endpoint::read(&config.endpoint).map_err(|error| format!("chat: hook {shown}: {error}"))?;
    let revealed = |(name, value): &(String, Secret)| (name.clone(), value.reveal().to_owned());
    Ok(hooks::Settings {
        timeout: Duration::from_millis(config.timeout_ms),
        http_headers: config.http_headers.clone(),
        emulated_headers: config.http_headers.clone(),
        static_headers: config.static_headers.iter().map(revealed).collect(),
        concurrency_max: config.concurrency_max.div_ceil(shards),
        queue_max: config.waiting_max.div_ceil(shards),
        failures_max: match config.breaker_failures {
            0 => u32::MAX,
            // The last of so many in a row is the last that is asked; the breaker counts those it lets pass.
            failures => failures - 1,
        },
        rest: Duration::from_millis(config.breaker_ms),
        ..hooks::Settings::new(kind, shown, endpoint)
    })
}

fn list(fields: &[(String, String)]) -> FieldList {
    let mut list = FieldList::new();
    for (name, value) in fields {
        list.push(name, value.as_bytes());
    }
    list
}
