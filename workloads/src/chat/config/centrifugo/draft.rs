//! What a Centrifugo file says, before its parts are put together: an address comes in two halves there, and whether a
//! hook is used is said elsewhere than where it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::channels::{DataFormat, Namespace};
use super::super::hooks::{self, Hook, RpcNamespace};
use super::super::model::{Broker, Compression, Config, PersonalChannel, Tls, Tokens};
use super::super::secret::{Pem, Secret};
use crate::percent;

/// What all keys together say.
pub struct Draft {
    /// What is where it belongs already.
    pub config: Config,
    /// `http_server.address`.
    pub address: IpAddr,
    /// `http_server.port`.
    pub port: u16,
    /// `http_server.tls`.
    pub tls: TlsDraft,
    /// `websocket.compression`.
    pub compresses: bool,
    /// `websocket.compression_min_size`.
    pub compression: Compression,
    /// `health`.
    pub health: Door,
    /// `prometheus`.
    pub metrics: Door,
    /// `client.subscription_token.enabled`.
    pub has_subscription_tokens: bool,
    /// The rest of `client.subscription_token`.
    pub subscription_tokens: Tokens,
    /// `client.subscribe_to_user_personal_channel.enabled`.
    pub has_personal_channel: bool,
    /// The rest of it.
    pub personal_channel: PersonalChannel,
    /// `client.proxy.connect` and `.refresh`.
    pub connect: Switched,
    /// See `connect`.
    pub refresh: Switched,
    /// `channel.proxy`.
    pub subscribe: Hook,
    /// See `subscribe`.
    pub publish: Hook,
    /// See `subscribe`.
    pub sub_refresh: Hook,
    /// `channel.publication_data_format`.
    pub data_format: DataFormat,
    /// `channel.without_namespace`.
    pub default: NamespaceDraft,
    /// `channel.namespaces`.
    pub namespaces: Vec<NamespaceDraft>,
    /// `rpc.proxy`.
    pub rpc: Hook,
    /// `rpc.without_namespace`.
    pub rpc_default: RpcDraft,
    /// `rpc.namespaces`.
    pub rpc_namespaces: Vec<RpcDraft>,
    /// `proxies`.
    pub proxies: Vec<NamedHook>,
    /// `engine`.
    pub engine: EngineDraft,
    /// Where what is not offered goes.
    pub nothing: (),
}

/// `engine`, as far as it is Redis.
pub struct EngineDraft {
    /// `type` is `redis`.
    pub is_redis: bool,
    /// `redis.address`.
    pub addresses: Vec<String>,
    /// `redis.cluster_address`.
    pub cluster: Vec<String>,
    /// `redis.prefix`.
    pub prefix: String,
    /// `redis.user`.
    pub user: String,
    /// `redis.password`.
    pub password: String,
    /// `redis.db`.
    pub database: u64,
}

impl Default for EngineDraft {
    fn default() -> EngineDraft {
        let (user, password) = (String::new(), String::new());
        let addresses = vec!["redis://127.0.0.1:6379".to_owned()];
        let prefix = "centrifugo".to_owned();
        EngineDraft { is_redis: false, addresses, cluster: Vec::new(), prefix, user, password, database: 0 }
    }
}

impl EngineDraft {
    /// The broker, if there is one.
    ///
    /// # Errors
    /// A key under `engine.redis`, and what is wrong with it.
    fn finish(self) -> Result<Option<Broker>, (String, String)> {
        if !self.is_redis {
            return Ok(None);
        }
        let url = match (self.addresses.as_slice(), self.cluster.is_empty()) {
            (_, false) => {
                let hosts: Vec<&str> = self.cluster.iter().map(|address| without_scheme(address)).collect();
                format!("redis+cluster://{}{}", self.login(), hosts.join(","))
            }
            ([address], true) => self.with_login(address),
            _ => {
                let says = "several Redis servers side by side are not offered: use a cluster (cluster_address)";
                return Err(("engine.redis.address".to_owned(), says.to_owned()));
            }
        };
        Ok(Some(Broker { redis: Secret::new(url), prefix: self.prefix }))
    }

    /// An address as a URL: what it says itself goes before what other keys say.
    fn with_login(&self, address: &str) -> String {
        let scheme = if address.starts_with("rediss://") { "rediss" } else { "redis" };
        let rest = without_scheme(address);
        let login = if rest.contains('@') { String::new() } else { self.login() };
        let database = match self.database {
            0 => String::new(),
            _ if rest.contains('/') => String::new(),
            number => format!("/{number}"),
        };
        format!("{scheme}://{login}{rest}{database}")
    }

    fn login(&self) -> String {
        match (self.user.is_empty(), self.password.is_empty()) {
            (true, true) => String::new(),
            _ => format!("{}:{}@", percent::encode(&self.user), percent::encode(&self.password)),
        }
    }
}

fn without_scheme(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

/// TLS as Centrifugo has it.
#[derive(Default)]
pub struct TlsDraft {
    /// Whether it is on.
    pub enabled: bool,
    /// The certificate.
    pub cert: Option<Pem>,
    /// Its key.
    pub key: Option<Pem>,
}

/// A path that may be closed.
pub struct Door {
    /// Whether it is open.
    pub enabled: bool,
    /// Where it is.
    pub path: String,
}

/// A hook with a switch.
#[derive(Default)]
pub struct Switched {
    /// Whether it is used.
    pub enabled: bool,
    /// The hook.
    pub hook: Hook,
}

/// A hook with a name.
#[derive(Default)]
pub struct NamedHook {
    /// What namespaces call it.
    pub name: String,
    /// The hook.
    pub hook: Hook,
}

/// A hook that a namespace may use.
#[derive(Clone)]
pub struct Chosen {
    /// Whether it does.
    pub enabled: bool,
    /// Its name.
    pub name: String,
}

impl Default for Chosen {
    fn default() -> Chosen {
        Chosen { enabled: false, name: hooks::OWN.to_owned() }
    }
}

impl Chosen {
    fn finish(self) -> Option<String> {
        self.enabled.then_some(self.name)
    }
}

/// A namespace and its hooks.
pub struct NamespaceDraft {
    /// What is where it belongs already.
    pub namespace: Namespace,
    /// `subscribe_proxy_*`.
    pub subscribe: Chosen,
    /// `publish_proxy_*`.
    pub publish: Chosen,
    /// `sub_refresh_proxy_*`.
    pub sub_refresh: Chosen,
}

impl Default for NamespaceDraft {
    fn default() -> NamespaceDraft {
        NamespaceDraft {
            namespace: Namespace::closed(""),
            subscribe: Chosen::default(),
            publish: Chosen::default(),
            sub_refresh: Chosen::default(),
        }
    }
}

/// A namespace of RPC methods.
#[derive(Default)]
pub struct RpcDraft {
    /// What stands before the boundary.
    pub name: String,
    /// `proxy_*`.
    pub proxy: Chosen,
}

impl Default for Draft {
    fn default() -> Draft {
        let config = Config::centrifugo();
        let door = |path: &str| Door { enabled: false, path: path.to_owned() };
        Draft {
            address: config.listen.ip(),
            port: config.listen.port(),
            config,
            tls: TlsDraft::default(),
            compresses: false,
            compression: Compression { min_bytes: 0 },
            health: door("/health"),
            metrics: door("/metrics"),
            has_subscription_tokens: false,
            subscription_tokens: Tokens::default(),
            has_personal_channel: false,
            personal_channel: PersonalChannel::default(),
            connect: Switched::default(),
            refresh: Switched::default(),
            subscribe: Hook::default(),
            publish: Hook::default(),
            sub_refresh: Hook::default(),
            data_format: DataFormat::Any,
            default: NamespaceDraft::default(),
            namespaces: Vec::new(),
            rpc: Hook::default(),
            rpc_default: RpcDraft::default(),
            rpc_namespaces: Vec::new(),
            proxies: Vec::new(),
            engine: EngineDraft::default(),
            nothing: (),
        }
    }
}

impl Draft {
    /// Puts the parts together; what is wrong is said with its key.
    pub fn finish(self) -> (Config, Vec<(String, String)>) {
        let mut wrong = Vec::new();
        let mut config = self.config;
        // Centrifugo has no budget for all clients: ours must not be less than what it gives to one.
        config.outbound_bytes_max = config.outbound_bytes_max.max(config.outbox_bytes_max);
        config.listen = SocketAddr::new(self.address, self.port);
        config.tls = match (self.tls.enabled, self.tls.cert, self.tls.key) {
            (true, Some(cert), Some(key)) => Some(Tls { cert, key }),
            (true, ..) => {
                let says = "TLS is on, and needs cert_pem and key_pem".to_owned();
                wrong.push(("http_server.tls.enabled".to_owned(), says));
                None
            }
            (false, ..) => None,
        };
        match self.engine.finish() {
            Ok(broker) => config.broker = broker,
            Err(problem) => wrong.push(problem),
        }
        config.compression = self.compresses.then_some(self.compression);
        config.paths.health = self.health.enabled.then_some(self.health.path);
        config.paths.metrics = self.metrics.enabled.then_some(self.metrics.path);
        config.subscription_tokens = self.has_subscription_tokens.then_some(self.subscription_tokens);
        config.client.personal_channel = self.has_personal_channel.then_some(self.personal_channel);
        config.channels.default = self.default.finish(self.data_format);
        config.channels.namespaces =
            self.namespaces.into_iter().map(|namespace| namespace.finish(self.data_format)).collect();

        let hooks = &mut config.hooks;
        let configured = |hook: Hook| (!hook.endpoint.is_empty()).then_some(hook);
        hooks.connect = self.connect.enabled.then_some(self.connect.hook);
        hooks.refresh = self.refresh.enabled.then_some(self.refresh.hook);
        hooks.subscribe = configured(self.subscribe);
        hooks.publish = configured(self.publish);
        hooks.sub_refresh = configured(self.sub_refresh);
        hooks.named = self.proxies.into_iter().map(|named| (named.name, named.hook)).collect();
        hooks.rpc = configured(self.rpc);
        hooks.rpc_hook = self.rpc_default.proxy.finish();
        hooks.rpc_namespaces = self.rpc_namespaces.into_iter().map(RpcDraft::finish).collect();
        if hooks.rpc_hook.as_deref() == Some(hooks::OWN) && hooks.rpc.is_none() {
            let says = "rpc.without_namespace uses it: an endpoint is needed".to_owned();
            wrong.push(("rpc.proxy.endpoint".to_owned(), says));
        }
        (config, wrong)
    }
}

impl NamespaceDraft {
    fn finish(self, data_format: DataFormat) -> Namespace {
        let mut namespace = self.namespace;
        if namespace.publication_data_format == DataFormat::Any {
            namespace.publication_data_format = data_format;
        }
        namespace.subscribe_hook = self.subscribe.finish();
        namespace.publish_hook = self.publish.finish();
        namespace.sub_refresh_hook = self.sub_refresh.finish();
        namespace
    }
}

impl RpcDraft {
    fn finish(self) -> RpcNamespace {
        RpcNamespace { name: self.name, hook: self.proxy.finish() }
    }
}

/// The address of `http_server.address`: empty is every one.
pub fn address(text: &str) -> Option<IpAddr> {
    match text {
        "" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        _ => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}
