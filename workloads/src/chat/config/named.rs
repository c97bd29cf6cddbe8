//! Hooks as a running chat keeps them: by what they are asked, and by the name that a namespace chose.

use super::hooks::{Hook, Hooks, OWN};
use crate::chat::hooks::Kind;

/// Questions that a namespace may have put to a hook of its own choice.
const CHOSEN: [Kind; 4] = [Kind::Subscribe, Kind::Publish, Kind::SubRefresh, Kind::Rpc];

impl Hooks {
    /// All hooks that are configured: what they are asked, and their names.
    pub fn all(&self) -> impl Iterator<Item = (Kind, &str, &Hook)> {
        let events = [
            (Kind::Connect, &self.connect),
            (Kind::Refresh, &self.refresh),
            (Kind::Subscribe, &self.subscribe),
            (Kind::Publish, &self.publish),
            (Kind::SubRefresh, &self.sub_refresh),
            (Kind::Rpc, &self.rpc),
        ];
        let own = events.into_iter().filter_map(|(kind, hook)| Some((kind, OWN, hook.as_ref()?)));
        let named = |kind: Kind| self.named.iter().map(move |(name, hook)| (kind, name.as_str(), hook));
        own.chain(CHOSEN.into_iter().flat_map(named))
    }

    /// The hook of that name.
    pub fn named(&self, kind: Kind, name: &str) -> Option<&Hook> {
        self.all().find(|(of, known, _)| *of == kind && *known == name).map(|(_, _, hook)| hook)
    }

    /// The name of the hook for a method; `None`: there is none.
    pub fn name_of_method<'h>(&'h self, method: &str) -> Option<&'h str> {
        let hook = self.of_method(method)?;
        self.all().find(|(_, _, known)| std::ptr::eq(*known, hook)).map(|(_, name, _)| name)
    }
}
