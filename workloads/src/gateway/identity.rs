//! What identifies a request across services: a request id, and the W3C trace context.
//!
//! A trace that a client began is carried on with a span of our own. A request id is taken over from trusted proxies
//! only; anybody else could make two requests look like one.

use std::cell::Cell;

use super::message::FieldList;
use super::request::Request;

/// Longest request id that is taken over, in bytes. A longer one is replaced.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Longest `tracestate` that is passed on, in bytes (W3C Trace Context section 3.3.1.5). A longer one is dropped.
const TRACESTATE_BYTES_MAX: usize = 512;

/// Makes ids; one per shard.
pub struct Identities {
    state: Cell<u64>,
}

impl Identities {
    /// Seeded by the kernel, apart for every shard.
    pub fn new(shard: usize) -> Identities {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_usize(shard);
        Identities { state: Cell::new(hasher.finish()) }
    }

    /// The next number (SplitMix64): unique enough to tell requests apart, no secret.
    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // A span id of zero is invalid.
        (mixed ^ mixed >> 31).max(1)
    }

    /// The fields that backends get.
    pub fn of(&self, request: &Request, trusted: bool) -> FieldList {
        let mut fields = FieldList::new();
        let given = request.fields.text("x-request-id").filter(|id| trusted && is_request_id(id));
        match given {
            Some(id) => fields.push("x-request-id", id.as_bytes()),
            None => fields.push("x-request-id", format!("{:016x}{:016x}", self.next(), self.next()).as_bytes()),
        }
        let parent = request.fields.text("traceparent").and_then(Traceparent::parse);
        let (trace, flags) = match &parent {
            Some(parent) => (parent.trace.to_owned(), parent.flags),
            None => (format!("{:016x}{:016x}", self.next(), self.next()), "00"),
        };
        fields.push("traceparent", format!("00-{trace}-{:016x}-{flags}", self.next()).as_bytes());
        let state = request.fields.get("tracestate").filter(|state| state.len() <= TRACESTATE_BYTES_MAX);
        if let (Some(_), Some(state)) = (parent, state) {
            fields.push("tracestate", state);
        }
        fields
    }
}

fn is_request_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(&byte);
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(allowed)
}

/// A `traceparent` (W3C Trace Context section 3.2).
struct Traceparent<'a> {
    trace: &'a str,
    flags: &'a str,
}

impl<'a> Traceparent<'a> {
    fn parse(text: &'a str) -> Option<Traceparent<'a>> {
        let mut parts = text.trim().split('-');
        let hex = |part: Option<&'a str>, len: usize| {
            part.filter(|part| part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        };
        let version = hex(parts.next(), 2)?;
        let trace = hex(parts.next(), 32)?;
        let span = hex(parts.next(), 16)?;
        let flags = hex(parts.next(), 2)?;
        let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        // Later versions may append; version 00 has exactly four parts.
        let surplus = version == "00" && parts.next().is_some();
        (version != "ff" && !zero(trace) && !zero(span) && !surplus).then_some(Traceparent { trace, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_taken_apart_or_refused() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = Traceparent::parse(good).unwrap();
        assert_eq!((parsed.trace, parsed.flags), ("0af7651916cd43dd8448eb211c80319c", "01"));
        assert!(Traceparent::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later").is_some());
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(Traceparent::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn ids_differ_and_are_taken_over_only_in_good_form() {
        let identities = Identities::new(0);
        assert_ne!(identities.next(), identities.next());
        assert!(is_request_id("01J-abc_9") && !is_request_id("") && !is_request_id("a b") && !is_request_id("a\nb"));
        assert!(!is_request_id(&"a".repeat(200)));
    }
}
