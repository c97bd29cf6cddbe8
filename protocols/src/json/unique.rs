//! Members by name: the first keeps its place, the last its value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::members::Name;

/// Up to here a walk over the members is faster than an index. The index is a tree, whose cost no choice of names spoils.
const WALK_MAX: usize = 48;

/// The members, no two of them of the same name.
pub(super) struct Unique<'a, V> {
    members: Vec<(Name<'a>, V)>,
    /// Empty up to [`WALK_MAX`] members.
    index: BTreeMap<Cow<'a, [u8]>, usize>,
}

impl<V> Default for Unique<'_, V> {
    fn default() -> Self {
        Unique { members: Vec::new(), index: BTreeMap::new() }
    }
}

impl<'a, V> Unique<'a, V> {
    pub(super) fn insert(&mut self, name: Name<'a>, value: V) {
        match self.find(name) {
            Some(place) => self.members[place].1 = value,
            None => self.push(name, value),
        }
    }

    /// The value of that name, `missing` if there is none yet.
    pub(super) fn get_or_insert(&mut self, name: Name<'a>, missing: V) -> &mut V {
        let place = self.find(name).unwrap_or_else(|| {
            self.push(name, missing);
            self.members.len() - 1
        });
        &mut self.members[place].1
    }

    /// The value at a place, in the order of [`Unique::iter`].
    pub(super) fn at(&mut self, place: usize) -> Option<&mut V> {
        self.members.get_mut(place).map(|(_, value)| value)
    }

    fn find(&self, name: Name<'a>) -> Option<usize> {
        if self.members.len() <= WALK_MAX {
            self.members.iter().position(|(known, _)| *known == name)
        } else {
            self.index.get(&name.bytes()).copied()
        }
    }

    fn push(&mut self, name: Name<'a>, value: V) {
        self.members.push((name, value));
        self.index();
    }

    /// Indexes what is not yet.
    fn index(&mut self) {
        if self.members.len() > WALK_MAX {
            let names = self.members.iter().enumerate().skip(self.index.len());
            self.index.extend(names.map(|(place, (name, _))| (name.bytes(), place)));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name<'a>, V)> {
        self.members.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Name<'a>, &mut V)> {
        self.members.iter_mut().map(|(name, value)| (*name, value))
    }

    /// Keeps what is to stay; places change.
    pub(super) fn retain(&mut self, stays: impl Fn(&V) -> bool) {
        let before = self.members.len();
        self.members.retain(|(_, value)| stays(value));
        if self.members.len() < before {
            self.index.clear();
            self.index();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_an_index_the_last_counts() {
        let names: Vec<_> = (0..3 * WALK_MAX).map(|number| format!("\"{}\"", number % (2 * WALK_MAX))).collect();
        let mut unique = Unique::default();
        names.iter().enumerate().for_each(|(order, name)| unique.insert(Name::literal(name.as_bytes()), order));
        let values: Vec<_> = unique.iter().map(|(_, order)| *order).collect();
        assert_eq!(values, (2 * WALK_MAX..3 * WALK_MAX).chain(WALK_MAX..2 * WALK_MAX).collect::<Vec<_>>());
        unique.retain(|order| order % 2 == 0);
        for (order, name) in names.iter().enumerate().skip(WALK_MAX).step_by(2) {
            assert_eq!(*unique.get_or_insert(Name::literal(name.as_bytes()), 0), order);
        }
        assert_eq!(unique.iter().count(), WALK_MAX, "nothing was missing");
        assert_eq!(*unique.get_or_insert(Name::literal(b"\"1\""), 7), 7);
        assert_eq!(unique.at(WALK_MAX), Some(&mut 7));
    }
}
