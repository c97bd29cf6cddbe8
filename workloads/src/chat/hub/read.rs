//! History and presence.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_engine::trace::Trace;
use annulus_protocols::centrifuge::{
    ClientInfo, Codec, ErrorCode, History, HistoryResult, write_history, write_presence, write_presence_stats,
};

use super::frames::as_publication;
use super::{Clients, Hub, Ports, Step, Turn};
use crate::chat::api::Pattern;
use crate::chat::evidence::{Page, Present};
use crate::chat::letters::{Answer, Ask, Asker, Work};
use crate::chat::past::{self, Partial};
use crate::chat::rules;
use crate::chat::sanctions::Kind;
use crate::chat::session::{Client, Waits};
use crate::chat::stream::Stored;

/// Clients who are looked up for an answer to presence cost as much as a command, each so many of them.
const PRESENT_OF_COMMAND: usize = 16;

/// Writes a page of history.
pub(super) fn write_page(codec: Codec, out: &mut Vec<u8>, id: u32, page: &[Stored], top: u64, epoch: &str) {
    let publications = page.iter().map(as_publication).collect();
    write_history(codec, out, id, &HistoryResult { publications, offset: top, epoch });
}

impl Hub {
    pub(super) fn history(&mut self, turn: &mut Turn<'_, impl Ports>, history: &History<'_>) -> Step {
        if let Some(banned) = self.forbidden(turn.now, Kind::Ban, turn.client, &history.channel) {
            return turn.refuse(banned);
        }
        let namespace = match self.namespace_for(turn.client, &history.channel) {
            Ok(namespace) => namespace,
            Err(error) => return turn.refuse(error),
        };
        if !namespace.has_history() {
            return turn.refuse(ErrorCode::NOT_AVAILABLE);
        }
        if !rules::may_read_history(namespace, &self.asking(turn.client, &history.channel)) {
            return turn.refuse(ErrorCode::PERMISSION_DENIED);
        }
        if history.reverse && history.since.as_ref().is_some_and(|since| since.offset == 0) {
            return turn.refuse(ErrorCode::BAD_REQUEST);
        }
        let most = self.common.config.client.history_max;
        let limit = usize::try_from(history.limit).map_or(most, |limit| limit.min(most));
        let since = history.since.as_ref().map(|since| (since.offset, since.epoch.to_string()));
        let ask = Ask::History { limit, since, reverse: history.reverse };
        let asker = Asker::Client { shard: self.shard, conn: turn.conn, id: turn.id, trace: Trace::NONE };
        self.ask(turn.ports, turn.now, asker, &history.channel, ask);
        Step::Asked
    }

    /// The owner's side: a page of history.
    pub(super) fn page(
        &mut self,
        now: u64,
        channel: &str,
        limit: usize,
        since: Option<(u64, String)>,
        reverse: bool,
    ) -> Answer {
        let common = self.common.clone();
        let Some((_, namespace)) = common.namespace(channel) else {
            return Answer::Refused(ErrorCode::UNKNOWN_CHANNEL);
        };
        let (slot, epoch) = (self.channels.open(channel), self.draw_epoch());
        let stream = self.channels.stream(slot, || epoch);
        stream.expire(now, namespace.history_ttl_ms);
        let (top, epoch) = (stream.settled(), stream.epoch().to_owned());
        let answer = match since {
            Some((_, wanted)) if !wanted.is_empty() && wanted != epoch => {
                Answer::Refused(ErrorCode::UNRECOVERABLE_POSITION)
            }
            since => {
                let since = since.map(|since| since.0);
                let page = stream.page(since, reverse, limit);
                let span = match namespace.history_from_database {
                    true => past::lacking(since, reverse, limit, stream.oldest(), page.len()),
                    false => None,
                };
                match span {
                    None => Answer::Page { page, top, epoch },
                    Some(span) => {
                        Answer::Partial(Box::new(Partial { recent: page, span, limit, top, epoch, elsewhere: None }))
                    }
                }
            }
        };
        self.release(slot, now);
        answer
    }

    /// The older part of a page has come, and the client waits for it.
    pub(super) fn on_page(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        id: u32,
        page: Result<Page, ErrorCode>,
    ) {
        let (codec, mut out) = (client.dialect.codec(), Vec::new());
        match page {
            Ok(Page { publications, top, epoch }) => write_page(codec, &mut out, id, &publications, top, &epoch),
            Err(error) => self.write_refusal(codec, &mut out, id, &error),
        }
        ports.send(conn, client.dialect, &out);
        if client.held.as_ref().is_some_and(|held| held.waits == Waits::Owner) {
            self.go_on(ports, now, conn, client);
        }
    }

    pub(super) fn presence(&mut self, turn: &mut Turn<'_, impl Ports>, channel: &str, stats: bool) -> Step {
        if let Some(banned) = self.forbidden(turn.now, Kind::Ban, turn.client, channel) {
            return turn.refuse(banned);
        }
        let namespace = match self.namespace_for(turn.client, channel) {
            Ok(namespace) => namespace,
            Err(error) => return turn.refuse(error),
        };
        if !namespace.presence {
            return turn.refuse(ErrorCode::NOT_AVAILABLE);
        }
        if !rules::may_see_presence(namespace, &self.asking(turn.client, channel)) {
            return turn.refuse(ErrorCode::PERMISSION_DENIED);
        }
        let most = if stats { 0 } else { namespace.presence_page };
        let (codec, id) = (turn.codec(), turn.id);
        let present = match turn.evidence.presence.take() {
            None => return turn.work(Work::Presence { channel: channel.into(), most }),
            Some(None) => return turn.refuse(ErrorCode::TOO_MANY_REQUESTS),
            Some(Some(present)) => present,
        };
        self.charge(turn, present.len() / PRESENT_OF_COMMAND);
        match stats {
            true => {
                let (clients, users) = count(&present);
                write_presence_stats(codec, turn.out, id, clients, users);
            }
            false => {
                write_presence(codec, turn.out, id, present.iter().take(most).map(as_info));
            }
        }
        Step::Replied
    }

    /// Who of this shard is in a channel: `most` of them by name, or, with 0, users as hashes for counting.
    pub(super) fn who(&mut self, clients: &mut impl Clients, channel: &str, most: usize) -> Vec<Present> {
        let Some(slot) = self.channels.find(channel) else { return Vec::new() };
        let members = self.channels.peek(slot).everybody();
        if most == 0 {
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            let users = members.filter_map(|conn| Some(self.users.name(clients.client(conn)?.user)));
            let present = |user: &str| Present { user: hasher.hash_one(user).to_string().into(), ..Present::default() };
            return users.map(present).collect();
        }
        let members: Vec<_> = members.take(most).collect();
        let author = |conn| Some(self.author(clients.client(conn)?, Some(slot)));
        let authors = members.into_iter().filter_map(author);
        let present = authors.map(|author| Present {
            client: author.client.as_str().to_owned(),
            user: author.user,
            conn_info: author.conn_info,
            chan_info: author.chan_info,
        });
        present.collect()
    }

    /// Channels with members here whose names match, and how many they have.
    pub(super) fn list(&self, pattern: &str) -> Vec<(Arc<str>, usize)> {
        let pattern = Pattern::read(pattern);
        let matches = |name: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(name));
        let matching = self.channels.iter().filter(|channel| channel.count() > 0 && matches(&channel.name));
        matching.map(|channel| (channel.name.clone(), channel.count())).collect()
    }
}

/// Clients and different users.
pub fn count(present: &[Present]) -> (usize, usize) {
    let users: HashSet<&str> = present.iter().map(|present| &*present.user).collect();
    (present.len(), users.len())
}

fn as_info(present: &Present) -> ClientInfo<'_> {
    ClientInfo {
        user: &present.user,
        client: &present.client,
        conn_info: present.conn_info.as_deref(),
        chan_info: present.chan_info.as_deref(),
    }
}
