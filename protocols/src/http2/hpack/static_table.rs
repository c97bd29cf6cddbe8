//! The static table of RFC 7541 appendix A, and a look-up by name without a heap.

/// Number of static entries; dynamic indexes begin after it.
pub(super) const STATIC_LEN: usize = 61;

/// Entry 1 is at place 0.
#[rustfmt::skip]
static ENTRIES: [(&str, &str); STATIC_LEN] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

const SLOTS: usize = 128;

/// First index of each name, at the place that [`slot`] gives or the next free ones after it; 0 is free.
static BY_NAME: [u8; SLOTS] = place_names();

const fn place_names() -> [u8; SLOTS] {
    let mut slots = [0; SLOTS];
    let mut index = 1;
    while index <= STATIC_LEN {
        let name = ENTRIES[index - 1].0.as_bytes();
        // Equal names are neighbours; only the first is placed.
        if index == 1 || !equal(name, ENTRIES[index - 2].0.as_bytes()) {
            let mut at = slot(name);
            while slots[at] != 0 {
                at = (at + 1) % SLOTS;
            }
            slots[at] = index as u8;
        }
        index += 1;
    }
    slots
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

/// Where to look for a name, which must not be empty. Length, ends and middle tell the names apart well.
const fn slot(name: &[u8]) -> usize {
    let len = name.len();
    (len * 29 + name[0] as usize * 3 + name[len / 2] as usize * 11 + name[len - 1] as usize * 37) % SLOTS
}

/// The static entry of that index.
pub(super) fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = ENTRIES.get(index.wrapping_sub(1))?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// What the static table knows of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Name and value, at this index.
    Field(usize),
    /// The name, first at this index.
    Name(usize),
    /// Nothing.
    Nothing,
}

/// Looks for a field.
#[inline]
pub(super) fn find(name: &[u8], value: &[u8]) -> Found {
    if name.is_empty() {
        return Found::Nothing;
    }
    let mut at = slot(name);
    loop {
        let index = usize::from(BY_NAME[at]);
        if index == 0 {
            return Found::Nothing;
        }
        if ENTRIES[index - 1].0.as_bytes() == name {
            return find_value(index, name, value);
        }
        at = (at + 1) % SLOTS;
    }
}

fn find_value(first: usize, name: &[u8], value: &[u8]) -> Found {
    let same_name = ENTRIES[first - 1..].iter().take_while(|entry| entry.0.as_bytes() == name);
    for (offset, entry) in same_name.enumerate() {
        if entry.1.as_bytes() == value {
            return Found::Field(first + offset);
        }
    }
    Found::Name(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for index in 1..=STATIC_LEN {
            let (name, value) = get(index).unwrap();
            assert_eq!(find(name, value), Found::Field(index));
            assert!(matches!(find(name, b"?"), Found::Name(first) if get(first).unwrap().0 == name && first <= index));
        }
        assert_eq!((get(0), get(62)), (None, None));
        assert_eq!(find(b"x-unknown", b""), Found::Nothing);
        assert_eq!(find(b"", b""), Found::Nothing);
    }
}
