//! A decoded field block: names and values in order, in one piece of memory.

use std::fmt;

/// Fields as they came. Names are in lower case where the block was accepted.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    /// Where each name ends and each value ends.
    ends: Vec<(u32, u32)>,
    /// Fields in front that are not shown.
    hidden: usize,
}

/// Room for usual fields, so that they are put together without growing.
const USUAL_BYTES: usize = 512;
const USUAL_COUNT: usize = 16;

impl Fields {
    pub(super) fn with_room() -> Fields {
        Fields { bytes: Vec::with_capacity(USUAL_BYTES), ends: Vec::with_capacity(USUAL_COUNT), hidden: 0 }
    }

    /// Leaves the first `count` fields out from now on: pseudo fields, once they were read.
    pub(super) fn hide(&mut self, count: usize) {
        self.hidden = count.min(self.ends.len());
    }

    /// Appends a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len() as u32));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len() - self.hidden
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (self.hidden..self.ends.len()).map(|index| self.at(index))
    }

    /// The first value of a name, given in lower case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    fn at(&self, index: usize) -> (&[u8], &[u8]) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1) as usize;
        let (name_end, value_end) = self.ends[index];
        (&self.bytes[start..name_end as usize], &self.bytes[name_end as usize..value_end as usize])
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

/// Shows the names only: values may hold credentials.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}
