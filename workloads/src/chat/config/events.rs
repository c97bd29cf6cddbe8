//! What the backend is told of, and where.

use super::secret::Secret;
use crate::chat::events::Kind;
use crate::outbound::Reach;

/// Events of one request, at most.
pub const BATCH_MAX: u64 = 1000;
/// Events that may be let wait, at most.
pub const WAITING_MAX: u64 = 10_000_000;

/// Where events go, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// An `http://` or `https://` URL.
    pub endpoint: String,
    /// What requests are signed with; it is needed.
    pub secret: Option<Secret>,
    /// Which are told of.
    pub kinds: Vec<Kind>,
    /// Names of namespaces whose channels are told of, the default one's being empty; `None`: all.
    pub namespaces: Option<Vec<String>>,
    /// Events of one request, at most.
    pub batch_max: usize,
    /// How long more are waited for, in milliseconds.
    pub batch_wait_ms: u64,
    /// How long an answer may take, in milliseconds. Beyond: the batch is told again.
    pub timeout_ms: u64,
    /// How long a batch is told again, in milliseconds. Beyond: it is a dead letter.
    pub give_up_after_ms: u64,
    /// Events of this node that wait. Beyond: newer ones are dropped.
    pub waiting_max: usize,
    /// Where the endpoint may be.
    pub reach: Reach,
    /// Headers that are always sent, their names in lower case; what they say is often a secret.
    pub static_headers: Vec<(String, Secret)>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            endpoint: String::new(),
            secret: None,
            kinds: Kind::ALL.to_vec(),
            namespaces: None,
            batch_max: 100,
            batch_wait_ms: 100,
            timeout_ms: 5000,
            give_up_after_ms: 600_000,
            waiting_max: 100_000,
            reach: Reach::default(),
            static_headers: Vec::new(),
        }
    }
}

impl Events {
    /// Whether something of a connection is told of, or, in a namespace of that name, of a channel.
    pub fn tells(&self, kind: Kind, namespace: Option<&str>) -> bool {
        let is_meant = |name: &str| self.namespaces.as_ref().is_none_or(|all| all.iter().any(|known| known == name));
        self.kinds.contains(&kind) && namespace.is_none_or(is_meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_is_chosen_by_kind_and_namespace() {
        let all = Events::default();
        assert!(
            all.tells(Kind::Connected, None) && all.tells(Kind::Joined, Some("")) && all.tells(Kind::Left, Some("a"))
        );
        let some = Events { kinds: vec![Kind::Joined, Kind::Connected], namespaces: Some(vec!["a".to_owned()]), ..all };
        assert!(some.tells(Kind::Joined, Some("a")) && some.tells(Kind::Connected, None));
        assert!(!some.tells(Kind::Joined, Some("")) && !some.tells(Kind::Left, Some("a")));
        assert!(!some.tells(Kind::Disconnected, None));
    }
}
