//! The dynamic table, RFC 7541 sections 2.3.2 and 4: a log of octets with a queue of ranges over it.
//!
//! ```text
//!  bytes:    [ evicted ... | oldest entry | ... | newest entry ]      appended at the end, compacted when half is dead
//!  entries:                  front                 back               index 62 is the back
//! ```
//!
//! Memory: at most twice the table's size of octets, and twenty bytes for each entry; the size bounds both, because an
//! entry counts for at least 32. Nothing before the first insertion, and what no longer counts is given back when the
//! size shrinks.

use std::collections::VecDeque;

/// What an entry counts for beside its octets (section 4.1).
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    /// Size of all entries as section 4.1 counts it.
    size: usize,
    size_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name_len: u32,
    value_len: u32,
    name_hash: u32,
    field_hash: u32,
}

impl Entry {
    fn size(&self) -> usize {
        (self.name_len + self.value_len) as usize + ENTRY_OVERHEAD_BYTES
    }

    fn name<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.start as usize..][..self.name_len as usize]
    }

    fn value<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[(self.start + self.name_len) as usize..][..self.value_len as usize]
    }
}

/// The hashes of one field, computed once for look-up and insertion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    name: u32,
    field: u32,
}

impl Hashes {
    #[inline]
    pub(super) fn of(name: &[u8], value: &[u8]) -> Self {
        let name = mix(0, name);
        Self { name: (name >> 32) as u32, field: (mix(name, value) >> 32) as u32 }
    }
}

/// Eight bytes at a time. Equal hashes cost a comparison of at most 128 entries, so nobody gains from finding them.
#[inline]
fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let step = |state: u64, word: u64| (state.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, tail) = bytes.as_chunks::<8>();
    let mut state = step(seed, bytes.len() as u64);
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    step(state, u64::from_le_bytes(last))
}

impl Table {
    /// Owns no memory until something is inserted.
    pub(super) fn new(size_max: usize) -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, size_max }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Name and value of the entry that is `offset` places from the newest one.
    #[inline]
    pub(super) fn get(&self, offset: usize) -> Option<(&[u8], &[u8])> {
        let place = self.entries.len().checked_sub(offset)?.checked_sub(1)?;
        let entry = self.entries.get(place)?;
        Some((entry.name(&self.bytes), entry.value(&self.bytes)))
    }

    /// Sets the maximum size, evicts what no longer fits (section 4.3), and gives back what is not needed any more.
    pub(super) fn resize(&mut self, size_max: usize) {
        let shrinks = size_max < self.size_max;
        self.size_max = size_max;
        self.evict(size_max);
        if shrinks {
            self.compact();
            self.bytes.shrink_to_fit();
            self.entries.shrink_to_fit();
        }
    }

    /// Inserts a field (section 4.4): one that is larger than the table empties it.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.insert_hashed(name, value, Hashes { name: 0, field: 0 });
    }

    /// Inserts a field whose name is that of the entry at `offset`, which must exist.
    pub(super) fn insert_named(&mut self, offset: usize, value: &[u8]) {
        let place = self.entries.len() - 1 - offset;
        let name_len = self.entries[place].name_len as usize;
        if !self.make_room(name_len + value.len()) {
            return;
        }
        // Copied before anything is evicted: the entry itself may be (section 4.4).
        let name = self.entries[place].start as usize;
        let start = self.bytes.len();
        self.bytes.extend_from_within(name..name + name_len);
        self.bytes.extend_from_slice(value);
        self.push(start, name_len, value.len(), Hashes { name: 0, field: 0 });
    }

    /// Inserts a field that [`Table::find`] is to find.
    pub(super) fn insert_hashed(&mut self, name: &[u8], value: &[u8], hashes: Hashes) {
        if !self.make_room(name.len() + value.len()) {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.push(start, name.len(), value.len(), hashes);
    }

    /// Makes room for an entry's octets. False if the entry is larger than the table, which is empty then (section 4.4).
    fn make_room(&mut self, octets: usize) -> bool {
        if octets + ENTRY_OVERHEAD_BYTES > self.size_max {
            self.evict(0);
            self.bytes.clear();
            return false;
        }
        let (needed, most) = (self.bytes.len() + octets, 2 * self.size_max);
        if needed > most {
            self.compact();
        } else if needed > self.bytes.capacity() {
            // Twice as much, but never beyond what can be used.
            self.bytes.reserve_exact((2 * needed).min(most) - self.bytes.len());
        }
        true
    }

    fn push(&mut self, start: usize, name_len: usize, value_len: usize, hashes: Hashes) {
        let entry = Entry {
            start: start as u32,
            name_len: name_len as u32,
            value_len: value_len as u32,
            name_hash: hashes.name,
            field_hash: hashes.field,
        };
        self.evict(self.size_max - entry.size());
        self.size += entry.size();
        self.entries.push_back(entry);
    }

    fn evict(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// Moves the living octets to the front.
    fn compact(&mut self) {
        let dead = self.entries.front().map_or(self.bytes.len() as u32, |oldest| oldest.start);
        self.bytes.drain(..dead as usize);
        for entry in &mut self.entries {
            entry.start -= dead;
        }
    }

    /// Where the newest equal field is, or else the newest entry of that name: offsets from the newest entry.
    pub(super) fn find(&self, name: &[u8], value: &[u8], hashes: Hashes) -> (Option<usize>, Option<usize>) {
        let mut same_name = None;
        for (offset, entry) in self.entries.iter().rev().enumerate() {
            if entry.name_hash != hashes.name || entry.name(&self.bytes) != name {
                continue;
            }
            if entry.field_hash == hashes.field && entry.value(&self.bytes) == value {
                return (Some(offset), Some(offset));
            }
            same_name = same_name.or(Some(offset));
        }
        (None, same_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicts_the_oldest_and_survives_compaction() {
        let mut table = Table::new(200);
        for round in 0..1000u32 {
            let value = format!("{round:0>20}");
            table.insert(b"name", value.as_bytes());
            assert_eq!(table.get(0), Some((&b"name"[..], value.as_bytes())));
            // Three entries of 56 bytes fit into 200.
            assert_eq!(table.get(2).is_some(), round >= 2);
            assert_eq!(table.get(3), None);
            assert!(table.bytes.len() <= 400);
        }
        table.resize(60);
        assert!(table.get(0).is_some() && table.get(1).is_none());
        table.insert(b"n", &[b'v'; 100]);
        assert_eq!((table.get(0), table.size), (None, 0));
    }

    #[test]
    fn memory_stays_within_its_bound_and_is_given_back() {
        let mut table = Table::new(4096);
        assert_eq!(table.heap_bytes(), 0);
        let mut state = 1u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = vec![b'v'; (state >> 20) as usize % if state & 1 == 0 { 20 } else { 4200 }];
            match table.get(0) {
                Some(_) if state & 2 == 0 => table.insert_named(0, &value),
                _ => table.insert(b"", &value),
            }
            assert!(table.size <= 4096 && table.bytes.capacity() <= 8192 && table.entries.capacity() <= 128);
        }
        table.resize(0);
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn a_name_survives_the_eviction_of_its_own_entry() {
        let mut table = Table::new(50);
        table.insert(b"some-name", b"123");
        table.insert_named(0, b"456");
        assert_eq!(table.get(0), Some((&b"some-name"[..], &b"456"[..])));
        assert_eq!(table.get(1), None);
    }

    #[test]
    fn finds_the_newest() {
        let mut table = Table::new(4096);
        for (name, value) in [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")] {
            table.insert_hashed(name, value, Hashes::of(name, value));
        }
        let find = |name: &[u8], value: &[u8]| table.find(name, value, Hashes::of(name, value));
        assert_eq!(find(b"a", b"1"), (Some(2), Some(2)));
        assert_eq!(find(b"a", b"9"), (None, Some(0)));
        assert_eq!(find(b"c", b"1"), (None, None));
    }
}
