//! What is to be known of a store of objects: whether it lets us write, list and remove, and whether it keeps conditions.

use super::Finding;
use crate::image::store::{S3, S3Settings};

/// Tries all of that, as the service does at its start.
pub(super) fn look(settings: S3Settings) -> Vec<Finding> {
    match S3::open(settings) {
        Err(error) => vec![Finding::no(error.to_string(), "")],
        Ok(store) => {
            let lets = Finding::yes("lets us write, list and remove");
            let once = match store.creates_once() {
                true => Finding::yes("creates an object once (If-None-Match: *)"),
                false => Finding::note(
                    "does not keep If-None-Match: *, so two nodes that make the same output in the same moment may both store it",
                    "nothing, unless that matters: the later one stays, and is as good",
                ),
            };
            vec![lets, once]
        }
    }
}
