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

    /// The next number: unique enough to tell requests apart, no secret.
    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(1);
        self.state.set(state);
        mixed(state)
    }

    /// The fields that backends get, and the trace that they tell of. A share of `sampled` requests is traced; where a trusted
    /// proxy has decided on that, it is as it says.
    pub fn of(&self, request: &Request, trusted: bool, sampled: Option<f64>) -> (FieldList, Context) {
        let mut fields = FieldList::new();
        let given = request.fields.text("x-request-id").filter(|id| trusted && is_request_id(id));
        match given {
            Some(id) => fields.push("x-request-id", id.as_bytes()),
            None => fields.push("x-request-id", format!("{:016x}{:016x}", self.next(), self.next()).as_bytes()),
        }
        let parent = request.fields.text("traceparent").and_then(Traceparent::parse);
        let trace = match &parent {
            Some(parent) => parent.trace.to_owned(),
            None => format!("{:016x}{:016x}", self.next(), self.next()),
        };
        let given = parent.as_ref().map_or(0, |parent| parent.flags);
        let is_sampled = match sampled {
            Some(_) if trusted && parent.is_some() => given & FLAG_SAMPLED != 0,
            Some(share) => (self.next() as f64) < share * u64::MAX as f64,
            None => false,
        };
        // Whoever is asked to trace by the client decides for itself; who traces here says so.
        let flags = if sampled.is_some() { u8::from(is_sampled) } else { given };
        let span = self.next();
        fields.push("traceparent", format!("00-{trace}-{span:016x}-{flags:02x}").as_bytes());
        let state = request.fields.get("tracestate").filter(|state| state.len() <= TRACESTATE_BYTES_MAX);
        if let (Some(_), Some(state)) = (&parent, state) {
            fields.push("tracestate", state);
        }
        (fields, Context { trace, span, parent: parent.map_or(0, |parent| parent.span), is_sampled })
    }
}

/// A number that looks like any other (the last step of SplitMix64 with its increment), never 0: a span's id of 0 is invalid.
pub fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31).max(1)
}

fn is_request_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(&byte);
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(allowed)
}

/// The sampled flag (W3C Trace Context section 3.2.2.5).
const FLAG_SAMPLED: u8 = 1;

/// Where a request stands in its trace.
pub struct Context {
    /// The trace, as 32 digits.
    pub trace: String,
    /// The span of our answering it.
    pub span: u64,
    /// The client's span; 0 where it began no trace.
    pub parent: u64,
    /// Whether it is recorded.
    pub is_sampled: bool,
}

/// A `traceparent` (W3C Trace Context section 3.2).
struct Traceparent<'a> {
    trace: &'a str,
    span: u64,
    flags: u8,
}

impl<'a> Traceparent<'a> {
    fn parse(text: &'a str) -> Option<Traceparent<'a>> {
        let mut parts = text.trim().split('-');
        let hex = |part: Option<&'a str>, len: usize| {
            part.filter(|part| part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        };
        let version = hex(parts.next(), 2)?;
        let trace = hex(parts.next(), 32)?;
        let span = u64::from_str_radix(hex(parts.next(), 16)?, 16).ok()?;
        let flags = u8::from_str_radix(hex(parts.next(), 2)?, 16).ok()?;
        let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        // Later versions may append; version 00 has exactly four parts.
        let surplus = version == "00" && parts.next().is_some();
        (version != "ff" && !zero(trace) && span != 0 && !surplus).then_some(Traceparent { trace, span, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_taken_apart_or_refused() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = Traceparent::parse(good).unwrap();
        assert_eq!(parsed.trace, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((parsed.span, parsed.flags), (0xb7ad_6b71_6920_3331, 1));
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
