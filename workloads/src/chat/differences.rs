//! Publications as their differences from the one before, for those who ask for them.
//!
//! ```text
//!   published        told to who was there    told to who came just now
//!   {"home":0,...}   {"home":0,...}
//!   {"home":1,...}   3 bytes differ           {"home":1,...}
//!   {"home":2,...}   3 bytes differ           3 bytes differ
//! ```
//!
//! A difference is good for nobody but who has what it differs from. So it is told only if that is the publication before,
//! with nothing lost between: the owner compares numbers, and a member is told the first one whole. What waits for slow
//! members is whole as well.

use std::borrow::Cow;
use std::sync::Arc;

use annulus_protocols::centrifuge::delta;
use annulus_protocols::json::write_base64;

use super::stream::{Content, Epoch};

/// What a channel's owner keeps for those who get differences.
#[derive(Debug, Default)]
pub struct Differences {
    /// A bit for each dialect that they speak.
    pub dialects: u8,
    last: Option<Last>,
}

/// What was told last.
#[derive(Debug)]
struct Last {
    epoch: Epoch,
    offset: u64,
    content: Arc<Content>,
}

impl Differences {
    /// The next publication is told: its difference from the last one, if whoever gets that has the last one. `keeps` says
    /// whether the channel numbers what it publishes.
    pub fn follow(&mut self, epoch: Epoch, offset: u64, content: &Arc<Content>, keeps: bool) -> Option<Vec<u8>> {
        let next = Last { epoch, offset, content: content.clone() };
        let last = self.last.replace(next).filter(|last| last.epoch == epoch)?;
        let is_the_one_before = match (last.offset, offset) {
            // Without numbers, slow members are told the latest one in any case, or are not there any more.
            (0, 0) => !keeps,
            // What has no number in a channel with a history is not told again to who was slow.
            (0, _) | (_, 0) => false,
            (before, offset) => before + 1 == offset,
        };
        let texts = !content.binary && !last.content.binary && !last.content.is_removed();
        (is_the_one_before && texts).then(|| delta(&last.content.data, &content.data)).flatten()
    }

    /// A publication is taken back: who was slow will not be told it.
    pub fn forget(&mut self, offset: u64) {
        self.last.take_if(|last| last.offset == offset);
    }
}

/// A publication's data as who gets differences is told it whole, in the JSON codec: a text that is JSON.
pub fn as_text(content: &Content) -> Cow<'_, str> {
    match content.binary {
        // JSON is a text in any case.
        false => String::from_utf8_lossy(&content.data),
        true => {
            let mut json = Vec::new();
            write_base64(&mut json, &content.data);
            Cow::Owned(String::from_utf8_lossy(&json).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = *b"abcd";

    fn content(score: u32) -> Arc<Content> {
        let data = format!("{{\"match\":\"somebody against somebody else\",\"score\":{score}}}").into_bytes();
        Arc::new(Content { data: data.into(), binary: false, author: None, tags: Vec::new() })
    }

    #[test]
    fn what_follows_is_told_as_a_difference() {
        let mut differences = Differences::default();
        assert_eq!(differences.follow(EPOCH, 1, &content(1), true), None, "from nothing");
        let difference = differences.follow(EPOCH, 2, &content(2), true).expect("it is shorter");
        assert!(difference.len() < 30, "{}", String::from_utf8_lossy(&difference));
    }

    #[test]
    fn nothing_is_told_as_a_difference_from_what_somebody_may_not_have() {
        let after = |(epoch, offset): (Epoch, u64), keeps| {
            let mut differences = Differences::default();
            differences.follow(epoch, offset, &content(1), keeps);
            differences
        };
        let differs = |mut differences: Differences, offset, keeps| {
            differences.follow(EPOCH, offset, &content(2), keeps).is_some()
        };
        assert!(differs(after((EPOCH, 7), true), 8, true));
        assert!(!differs(after((EPOCH, 7), true), 9, true), "one is missing");
        assert!(!differs(after((*b"efgh", 7), true), 8, true), "of another life");
        assert!(!differs(after((EPOCH, 0), true), 1, true), "of what had no number");
        assert!(!differs(after((EPOCH, 7), true), 0, true));
        assert!(!differs(after((EPOCH, 0), true), 0, true));
        assert!(differs(after((EPOCH, 0), false), 0, false), "nothing has a number");
        let mut removed = after((EPOCH, 7), true);
        removed.forget(7);
        assert!(!differs(removed, 8, true));
        let mut other_removed = after((EPOCH, 7), true);
        other_removed.forget(6);
        assert!(differs(other_removed, 8, true));
    }

    #[test]
    fn what_is_no_json_is_told_in_base_64() {
        let binary = Content { data: Box::from(&b"\x00\xff"[..]), binary: true, author: None, tags: Vec::new() };
        assert_eq!(as_text(&binary), "\"AP8=\"");
        assert_eq!(as_text(&content(1)).as_bytes(), &*content(1).data);
    }
}
