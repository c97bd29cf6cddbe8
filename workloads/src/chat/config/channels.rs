//! Channels, their namespaces, and what a channel's name says about it.
//!
//! ```text
//!   $news:sport#42,43       $      private: only with a token
//!   |\__/ \___/ \___/       news   the namespace, up to the first boundary
//!   |  |    |     |         sport  the rest, ours to choose
//!   |  |    |     users     42,43  only these users
//! ```

use std::path::PathBuf;

use super::model::{Config, Rate};

/// How long epochs and offsets are kept if nothing is said: 30 days.
const HISTORY_META_TTL_MS: u64 = 720 * 3_600_000;

/// How channels' names are read, and what there is for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// For channels without a namespace.
    pub default: Namespace,
    /// By name, no name twice.
    pub namespaces: Vec<Namespace>,
    /// Whether a name with a boundary needs a namespace even where none is configured.
    pub strict: bool,
    /// What a private channel starts with: only with a subscription token. Empty: there are none.
    pub private_prefix: String,
    /// What ends a namespace. Empty: there are none.
    pub namespace_boundary: String,
    /// What the users of a user-limited channel come after. Empty: there are none.
    pub user_boundary: String,
    /// What parts those users. Empty: there is one.
    pub user_separator: String,
    /// How long a channel's epoch and top offset are kept after its last publication, in milliseconds.
    pub history_meta_ttl_ms: u64,
}

impl Default for Channels {
    fn default() -> Channels {
        Channels::with(Namespace::default())
    }
}

impl Channels {
    /// Centrifugo's: without a namespace, nothing is allowed.
    pub fn centrifugo() -> Channels {
        Channels { strict: true, ..Channels::with(Namespace::closed("")) }
    }

    fn with(default: Namespace) -> Channels {
        Channels {
            default,
            namespaces: Vec::new(),
            strict: false,
            private_prefix: "$".to_owned(),
            namespace_boundary: ":".to_owned(),
            user_boundary: "#".to_owned(),
            user_separator: ",".to_owned(),
            history_meta_ttl_ms: HISTORY_META_TTL_MS,
        }
    }

    /// What there is for a channel; `None`: its namespace is not known, error 102.
    pub fn namespace(&self, channel: &str) -> Option<&Namespace> {
        match self.namespace_name(channel) {
            "" => Some(&self.default),
            name => self.namespaces.iter().find(|namespace| namespace.name == name),
        }
    }

    /// The part of a channel's name before the first boundary, without the private prefix; empty if it has none.
    pub fn namespace_name<'c>(&self, channel: &'c str) -> &'c str {
        if self.namespace_boundary.is_empty() || self.namespaces.is_empty() && !self.strict {
            return "";
        }
        let channel = channel.strip_prefix(self.private_prefix.as_str()).unwrap_or(channel);
        channel.split_once(self.namespace_boundary.as_str()).map_or("", |(name, _)| name)
    }

    /// Whether a subscription needs a token whatever the namespace says.
    pub fn is_private(&self, channel: &str) -> bool {
        !self.private_prefix.is_empty() && channel.starts_with(self.private_prefix.as_str())
    }

    /// Whether a channel names the users who may subscribe.
    pub fn is_user_limited(&self, channel: &str) -> bool {
        !self.user_boundary.is_empty() && channel.contains(self.user_boundary.as_str())
    }

    /// Whether a user is among those that a channel names; of a channel that names none, everybody is.
    pub fn is_user_allowed(&self, channel: &str, user: &str) -> bool {
        if !self.is_user_limited(channel) {
            return true;
        }
        let users = channel.rsplit_once(self.user_boundary.as_str()).map_or("", |(_, users)| users);
        match self.user_separator.is_empty() {
            true => users == user,
            false => users.split(self.user_separator.as_str()).any(|allowed| allowed == user),
        }
    }

    /// The personal channel of a user in a namespace; the empty one is none.
    pub fn personal(&self, namespace: &str, user: &str) -> String {
        match namespace {
            "" => format!("{}{user}", self.user_boundary),
            _ => format!("{namespace}{}{}{user}", self.namespace_boundary, self.user_boundary),
        }
    }

    /// Whether any namespace reads its history from the database.
    pub fn reads_database(&self) -> bool {
        self.all().any(|namespace| namespace.history_from_database)
    }

    /// The default namespace and all others.
    pub fn all(&self) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.default).chain(&self.namespaces)
    }
}

/// What there is for the channels of a namespace.
///
/// Of each right there are three kinds: for clients with a user's name, for clients subscribed to the channel, and for
/// clients without a name. A client without a name needs the last one whatever the first says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// What stands before the boundary; empty for the default one.
    pub name: String,
    /// Whether it is known who is there.
    pub presence: bool,
    /// Clients of one page of presence. More: the reply has only the first, and the counts.
    pub presence_page: usize,
    /// Whether clients may be told who comes and goes.
    pub join_leave: bool,
    /// Whether they are told without asking.
    pub force_push_join_leave: bool,
    /// Publications kept per channel; 0: none, and no recovery.
    pub history_size: usize,
    /// How long they are kept, in milliseconds.
    pub history_ttl_ms: u64,
    /// How long a channel's epoch and top offset are kept; `None`: as [`Channels::history_meta_ttl_ms`].
    pub history_meta_ttl_ms: Option<u64>,
    /// Whether what is older than that is read from the database.
    pub history_from_database: bool,
    /// Whether a client may ask to be told of lost publications.
    pub allow_positioning: bool,
    /// Whether it is told without asking.
    pub force_positioning: bool,
    /// Whether a client may ask to recover.
    pub allow_recovery: bool,
    /// Whether it recovers without asking.
    pub force_recovery: bool,
    /// Whether a client may ask for publications as their differences from the ones before.
    pub allow_deltas: bool,
    /// Whether it may ask for those with certain tags only.
    pub allow_tags_filter: bool,
    /// What recovery brings.
    pub recovery_mode: RecoveryMode,
    /// Whether clients with a user's name may subscribe without a token.
    pub allow_subscribe_for_client: bool,
    /// Whether clients without one may.
    pub allow_subscribe_for_anonymous: bool,
    /// Whether clients with a user's name may publish.
    pub allow_publish_for_client: bool,
    /// Whether subscribers may.
    pub allow_publish_for_subscriber: bool,
    /// Whether clients without a user's name may.
    pub allow_publish_for_anonymous: bool,
    /// Whether clients with a user's name may ask who is there.
    pub allow_presence_for_client: bool,
    /// Whether subscribers may.
    pub allow_presence_for_subscriber: bool,
    /// Whether clients without a user's name may.
    pub allow_presence_for_anonymous: bool,
    /// Whether clients with a user's name may read history.
    pub allow_history_for_client: bool,
    /// Whether subscribers may.
    pub allow_history_for_subscriber: bool,
    /// Whether clients without a user's name may.
    pub allow_history_for_anonymous: bool,
    /// Whether channels may name their users.
    pub allow_user_limited_channels: bool,
    /// What publications must be.
    pub publication_data_format: DataFormat,
    /// The name of the hook that is asked about subscribing; `None`: nobody is.
    pub subscribe_hook: Option<String>,
    /// The name of the hook that is asked about publishing.
    pub publish_hook: Option<String>,
    /// The name of the hook that is asked when a subscription's time is over.
    pub sub_refresh_hook: Option<String>,
    /// When a publish reply leaves; `None`: see [`Namespace::ack`].
    pub ack: Option<Ack>,
    /// Where in a client's publication its idempotency key is: the names of members with dots between; `None`: nowhere.
    pub idempotency_field: Option<String>,
    /// How long a key is remembered, in milliseconds.
    pub idempotency_window_ms: u64,
    /// The JSON Schema that publications must satisfy; else error 107.
    pub schema: Option<PathBuf>,
    /// Whether publications are encrypted in the log and in the database.
    pub encrypt: bool,
    /// What becomes of clients that read too slowly, where there is no history that they can fall back on.
    pub slow: Slow,
    /// Subscriptions to all of its channels together, on this node; 0: any number.
    pub subscriptions_max: u64,
    /// Channels of it that somebody is subscribed to, on this node; 0: any number.
    pub channels_max: u64,
    /// Publications of all clients to its channels together, on this node.
    pub publications: Rate,
}

impl Default for Namespace {
    /// Ours: whoever has come in may do everything but stay without a name.
    fn default() -> Namespace {
        Namespace {
            presence: true,
            join_leave: true,
            history_size: 100,
            history_ttl_ms: 300_000,
            allow_positioning: true,
            allow_recovery: true,
            allow_deltas: true,
            allow_tags_filter: true,
            allow_subscribe_for_client: true,
            allow_publish_for_client: true,
            allow_presence_for_client: true,
            allow_history_for_client: true,
            allow_user_limited_channels: true,
            ..Namespace::closed("")
        }
    }
}

impl Namespace {
    /// Centrifugo's: nothing is kept and nothing is allowed.
    pub fn closed(name: &str) -> Namespace {
        Namespace {
            name: name.to_owned(),
            presence: false,
            presence_page: 1000,
            join_leave: false,
            force_push_join_leave: false,
            history_size: 0,
            history_ttl_ms: 0,
            history_meta_ttl_ms: None,
            history_from_database: false,
            allow_positioning: false,
            force_positioning: false,
            allow_recovery: false,
            force_recovery: false,
            allow_deltas: false,
            allow_tags_filter: false,
            recovery_mode: RecoveryMode::Stream,
            allow_subscribe_for_client: false,
            allow_subscribe_for_anonymous: false,
            allow_publish_for_client: false,
            allow_publish_for_subscriber: false,
            allow_publish_for_anonymous: false,
            allow_presence_for_client: false,
            allow_presence_for_subscriber: false,
            allow_presence_for_anonymous: false,
            allow_history_for_client: false,
            allow_history_for_subscriber: false,
            allow_history_for_anonymous: false,
            allow_user_limited_channels: false,
            publication_data_format: DataFormat::Any,
            subscribe_hook: None,
            publish_hook: None,
            sub_refresh_hook: None,
            ack: None,
            idempotency_field: None,
            idempotency_window_ms: 300_000,
            schema: None,
            encrypt: false,
            slow: Slow::Disconnect,
            subscriptions_max: 0,
            channels_max: 0,
            publications: Rate::OFF,
        }
    }

    /// Whether publications are kept, so that clients can recover.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && self.history_ttl_ms > 0
    }

    /// When a publish reply leaves: as chosen; else, where there is history, when the broker has it, or, without one, when
    /// the log has it on stable storage.
    pub fn ack(&self, config: &Config) -> Ack {
        self.ack.unwrap_or(match (self.has_history(), &config.broker, &config.log.directory) {
            (true, Some(_), _) => Ack::Redis,
            (true, None, Some(_)) => Ack::Wal,
            _ => Ack::Mem,
        })
    }

    /// Whether the broker numbers and keeps its publications.
    pub fn is_shared(&self, config: &Config) -> bool {
        self.has_history() && config.broker.is_some()
    }
}

/// When a publish reply leaves, and so what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    /// When the publication has its offset. Lost with the process.
    Mem,
    /// When the log has written it. Survives the process, not the machine's power.
    Page,
    /// When the log's batch is on stable storage.
    Wal,
    /// When the broker's Redis has taken it, and the log knows where. As durable as that Redis is.
    Redis,
    /// When the database has committed it.
    Db,
}

/// What recovery brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Everything that was missed.
    #[default]
    Stream,
    /// The newest publication only.
    Cache,
}

/// What a client's publications must be; else error 107.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFormat {
    /// Anything but nothing.
    #[default]
    Any,
    /// Valid JSON, from Protobuf clients too.
    Json,
    /// A JSON object.
    JsonObject,
    /// Any bytes, also none.
    Binary,
}

/// What becomes of clients that read too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// Disconnect 3008.
    #[default]
    Disconnect,
    /// What has waited longest is left out.
    DropOldest,
    /// Of each channel only the newest waits.
    KeepLatest,
}

#[cfg(test)]
mod tests {
    use super::super::model::{Broker, Log};
    use super::*;

    #[test]
    fn a_name_tells_its_namespace() {
        let mut channels = Channels::default();
        channels.namespaces.push(Namespace::closed("news"));
        for (channel, name) in [
            ("news", Some("")),
            ("news:sport", Some("news")),
            ("$news:sport", Some("news")),
            ("news:a:b", Some("news")),
            (":a", Some("")),
            ("$:a", Some("")),
            ("$$news:a", None),
            ("other:a", None),
            ("", Some("")),
        ] {
            assert_eq!(channels.namespace(channel).map(|namespace| namespace.name.as_str()), name, "{channel}");
        }
        channels.namespace_boundary.clear();
        assert_eq!(channels.namespace("other:a"), Some(&channels.default));
        channels.private_prefix.clear();
        assert!(!channels.is_private("$a"));
    }

    #[test]
    fn a_name_tells_its_users() {
        let mut channels = Channels::default();
        assert!(channels.is_private("$a") && !channels.is_private("a$"));
        for (channel, user, allowed) in [
            ("a", "1", true),
            ("a#1", "1", true),
            ("a#1,2", "2", true),
            ("a#1,2", "1,2", false),
            ("a#1#2", "1", false),
            ("a#1#2", "2", true),
            ("a#", "", true),
            ("a#1", "", false),
        ] {
            assert_eq!(channels.is_user_allowed(channel, user), allowed, "{channel} {user}");
        }
        channels.user_separator.clear();
        assert!(channels.is_user_allowed("a#1,2", "1,2"));
        assert_eq!((channels.personal("", "7"), channels.personal("p", "7")), ("#7".into(), "p:#7".into()));
        channels.user_boundary.clear();
        assert!(channels.is_user_allowed("a#1", "2") && !channels.is_user_limited("a#1"));
    }

    #[test]
    fn the_promise_follows_from_history_and_log() {
        let log = Log { directory: Some("log".into()), ..Log::default() };
        let (none, some) = (Config::default(), Config { log, ..Config::default() });
        let fleet = Config { broker: Some(Broker::default()), ..some.clone() };
        let open = Namespace::default();
        assert_eq!((open.ack(&none), open.ack(&some)), (Ack::Mem, Ack::Wal));
        assert_eq!(Namespace::closed("").ack(&some), Ack::Mem);
        assert_eq!((open.ack(&fleet), Namespace::closed("").ack(&fleet)), (Ack::Redis, Ack::Mem));
        assert!(open.is_shared(&fleet) && !open.is_shared(&some) && !Namespace::closed("").is_shared(&fleet));
        assert_eq!(Namespace { ack: Some(Ack::Db), ..open }.ack(&some), Ack::Db);
    }
}
