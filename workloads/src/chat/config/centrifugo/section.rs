//! A section of a Centrifugo file: a path, and the keys that may stand under it.

use super::super::keys::{Applied, Dialect, Key, Set};
use super::draft::Draft;
use crate::gateway::config::tree::Value;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its name under the section's path.
    pub name: &'static str,
    /// As it would be written; with `|` between if several mean the same.
    pub default: &'static str,
    /// What it takes.
    pub kind: String,
    /// What it becomes, as a key of ours.
    pub ours: &'static str,
    /// Whether it is offered.
    pub offer: Offer,
    /// Whether a variable of the environment is split at its spaces for it.
    pub is_texts: bool,
    /// Whether a variable of the environment is JSON for it.
    pub is_json: bool,
}

/// Whether a key is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It works.
    Yes,
    /// It has no effect here, for this reason.
    Inert(&'static str),
    /// It asks for what is not offered.
    No,
}

/// A key whose value decides whether a section means anything: its path, and the values with which it does.
pub type When = (&'static str, &'static [&'static str]);

/// A path with `[]` for the number of a list's entry, and what may stand under it.
pub trait Section: Sync {
    /// The path; empty for the file itself.
    fn prefix(&self) -> &'static str;
    /// What may stand under it, in order.
    fn facts(&self) -> Vec<Fact>;
    /// Whether it means anything; `None`: always.
    fn when(&self) -> Option<When>;
    /// Sets one of its keys, by its number in `facts`; `index` is that of the list's entry.
    ///
    /// # Errors
    /// What was expected.
    fn apply(&self, draft: &mut Draft, index: usize, key: usize, value: &Value) -> Result<Applied, String>;
}

/// A section whose keys go to a part of the draft.
pub struct Lens<T: 'static> {
    /// Its path.
    pub prefix: &'static str,
    /// What may stand under it.
    pub keys: &'static [Key<T>],
    /// Where it goes; of a list, the entry by its number.
    pub of: fn(&mut Draft, usize) -> &mut T,
    /// Whether it means anything.
    pub when: Option<When>,
}

impl<T> Section for Lens<T> {
    fn prefix(&self) -> &'static str {
        self.prefix
    }

    fn facts(&self) -> Vec<Fact> {
        let fact = |key: &Key<T>| Fact {
            name: key.name,
            default: key.default,
            kind: key.set.kind(),
            ours: key.says,
            offer: match key.set {
                Set::Not(_) => Offer::No,
                Set::Inert(_, why) => Offer::Inert(why),
                _ => Offer::Yes,
            },
            is_texts: key.set.is_texts(),
            is_json: key.set.is_json(),
        };
        self.keys.iter().map(fact).collect()
    }

    fn when(&self) -> Option<When> {
        self.when
    }

    fn apply(&self, draft: &mut Draft, index: usize, key: usize, value: &Value) -> Result<Applied, String> {
        let key = &self.keys[key];
        key.set.apply((self.of)(draft, index), value, key.default, Dialect::Centrifugo)
    }
}
