//! Who asks: API keys and the tenants that they belong to.

use std::collections::HashMap;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::job::Tenant;
use super::quotas::{Quota, Quotas};
use crate::serve::visitor::is_foreign;
use crate::serve::{Problem, Request};

/// The tenant of everybody where no key is configured.
pub const OPEN_TENANT: &str = "open";

/// Shortest key: what is shorter can be guessed.
pub const KEY_BYTES_MIN: usize = 16;

/// Who asks, and what it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose jobs it sees.
    pub tenant: Tenant,
    /// Whether it sees the console, and dead letters of all tenants.
    pub is_admin: bool,
}

/// All keys. They are kept as hashes: looking one up tells by time nothing of the others.
#[derive(Clone, Debug)]
pub struct Keys {
    callers: HashMap<[u8; 32], Caller>,
    /// Whether anybody may come from anywhere, by whatever name.
    insecure: bool,
    /// What each tenant may take.
    pub(super) quotas: Arc<Quotas>,
}

impl Keys {
    /// Tenants and their keys, and the key of those who run the service.
    pub fn new(tenants: &[(String, String)], admin: Option<&str>, insecure: bool, quotas: &[(String, Quota)]) -> Keys {
        let mut callers = HashMap::new();
        for (name, key) in tenants {
            callers.insert(hash(key), Caller { tenant: Tenant::named(name), is_admin: false });
        }
        if let Some(key) = admin {
            callers.insert(hash(key), Caller { tenant: Tenant::named("admin"), is_admin: true });
        }
        let names = tenants.iter().map(|(name, _)| &name[..]);
        let open = callers.is_empty().then_some(OPEN_TENANT);
        Keys { callers, insecure, quotas: Arc::new(Quotas::new(names.chain(open), quotas)) }
    }

    /// Whether nobody needs a key.
    pub fn is_open(&self) -> bool {
        self.callers.is_empty()
    }

    /// Who asks. Counts as one request of that tenant.
    ///
    /// # Errors
    /// 401 without a known key; 403 where no key is needed, but the request comes from some other site's page; 429 where there
    /// are more requests of the tenant than it may send.
    pub fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        let caller = self.known(request)?;
        self.quotas.request(&caller.tenant)?;
        Ok(caller)
    }

    fn known(&self, request: &Request) -> Result<Caller, Problem> {
        if self.is_open() {
            return match is_foreign(|name| request.field(name), self.insecure) {
                true => Err(Problem::new(
                    403,
                    "This server takes requests without a key only from its own page and from programs on this \
                     machine. Configure a key ([image] tenants) to call it from elsewhere.",
                )),
                false => Ok(Caller { tenant: Tenant::named(OPEN_TENANT), is_admin: true }),
            };
        }
        let shown = request.bearer().or_else(|| request.field("x-api-key"));
        shown.and_then(|key| self.callers.get(&hash(key))).cloned().ok_or_else(|| {
            Problem::new(401, "Show an API key of this server in `Authorization: Bearer KEY`.")
                .with("www-authenticate", "Bearer")
        })
    }
}

fn hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let tenants = [("a".to_owned(), "k".repeat(16)), ("b".to_owned(), "l".repeat(16))];
        let keys = Keys::new(&tenants, Some("an admin's long key"), false, &[]);
        assert!(!keys.is_open() && Keys::new(&[], None, false, &[]).is_open());
        let of = |key: &str| keys.callers.get(&hash(key)).map(|caller| (caller.tenant.0.to_string(), caller.is_admin));
        assert_eq!(of(&"k".repeat(16)), Some(("a".into(), false)));
        assert_eq!(of(&"l".repeat(16)), Some(("b".into(), false)));
        assert_eq!(of("an admin's long key"), Some(("admin".into(), true)));
        assert_eq!(of(""), None);
    }
}
