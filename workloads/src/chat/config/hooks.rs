//! What the backend is asked about, and where it is.

use super::secret::Secret;

/// The name of an event's own hook, where a namespace could choose another.
pub const OWN: &str = "default";

/// What the backend is asked about. An event without a hook is decided here alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Who a client is: `connect` without a token goes there.
    pub connect: Option<Hook>,
    /// Whether a connection may go on when its time is over.
    pub refresh: Option<Hook>,
    /// Whether a client may subscribe, in namespaces with `subscribe_hook`.
    pub subscribe: Option<Hook>,
    /// Whether a client may publish, in namespaces with `publish_hook`.
    pub publish: Option<Hook>,
    /// Whether a subscription may go on when its time is over, in namespaces with `sub_refresh_hook`.
    pub sub_refresh: Option<Hook>,
    /// Calls of methods.
    pub rpc: Option<Hook>,
    /// The name of the hook for methods without a namespace; `None`: they are not available.
    pub rpc_hook: Option<String>,
    /// What parts a method's namespace from its name; empty: there are no namespaces.
    pub rpc_boundary: String,
    /// Namespaces of methods.
    pub rpc_namespaces: Vec<RpcNamespace>,
    /// Hooks by name, for namespaces that choose others than the events' own.
    pub named: Vec<(String, Hook)>,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            connect: None,
            refresh: None,
            subscribe: None,
            publish: None,
            sub_refresh: None,
            rpc: None,
            rpc_hook: Some(OWN.to_owned()),
            rpc_boundary: ":".to_owned(),
            rpc_namespaces: Vec::new(),
            named: Vec::new(),
        }
    }
}

/// An event of channels that a namespace may have a hook for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client subscribes.
    Subscribe,
    /// A client publishes.
    Publish,
    /// A subscription's time is over.
    SubRefresh,
}

/// Methods that start with a name and the boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcNamespace {
    /// What stands before the boundary.
    pub name: String,
    /// The name of their hook, [`OWN`] for `rpc`; `None`: they are not available, error 104.
    pub hook: Option<String>,
}

/// A backend's endpoint: `POST` of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// An `http://` or `https://` URL.
    pub endpoint: String,
    /// How long an answer may take, in milliseconds. Beyond: error 100.
    pub timeout_ms: u64,
    /// Requests at the same time from this node; more wait.
    pub concurrency_max: usize,
    /// Requests that wait. Beyond: error 111, temporary.
    pub waiting_max: usize,
    /// Failures in a row after which nothing is asked for a while: error 100 at once. 0: off.
    pub breaker_failures: u32,
    /// How long that is, in milliseconds; then one request tries.
    pub breaker_ms: u64,
    /// Headers of the client's request that are sent along, in lower case.
    pub http_headers: Vec<String>,
    /// Headers that are always sent; what they say is often a secret.
    pub static_headers: Vec<(String, Secret)>,
    /// Whether the connection's `meta` is sent along.
    pub include_connection_meta: bool,
    /// Whether payloads are sent in base64, so that they need not be JSON.
    pub binary_encoding: bool,
}

impl Default for Hook {
    fn default() -> Hook {
        Hook {
            endpoint: String::new(),
            timeout_ms: 1000,
            concurrency_max: 64,
            waiting_max: 1024,
            breaker_failures: 10,
            breaker_ms: 1000,
            http_headers: Vec::new(),
            static_headers: Vec::new(),
            include_connection_meta: false,
            binary_encoding: false,
        }
    }
}

impl Hooks {
    /// The hook that a namespace chose for an event by its name.
    pub fn of(&self, event: Event, name: &str) -> Option<&Hook> {
        match (name, event) {
            (OWN, Event::Subscribe) => self.subscribe.as_ref(),
            (OWN, Event::Publish) => self.publish.as_ref(),
            (OWN, Event::SubRefresh) => self.sub_refresh.as_ref(),
            _ => self.by_name(name),
        }
    }

    /// The hook for a method; `None`: there is none, or the method's namespace is not known: error 104.
    pub fn of_method(&self, method: &str) -> Option<&Hook> {
        let namespace = match self.rpc_boundary.is_empty() {
            true => "",
            false => method.split_once(self.rpc_boundary.as_str()).map_or("", |(namespace, _)| namespace),
        };
        let chosen = match namespace {
            "" => &self.rpc_hook,
            _ => &self.rpc_namespaces.iter().find(|known| known.name == namespace)?.hook,
        };
        match chosen.as_deref()? {
            OWN => self.rpc.as_ref(),
            name => self.by_name(name),
        }
    }

    fn by_name(&self, name: &str) -> Option<&Hook> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, hook)| hook)
    }
}
