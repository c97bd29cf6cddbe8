//! What is asked of a store: objects in whole and in part, copies, listings. Names here are names in the bucket.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rusty_s3::Method;

use super::client::{Ask, Client};
use super::trouble::Trouble;
use super::xml::Node;
use crate::gateway::fetching::{Answer, FieldList};
use crate::image::store::{Meta, StoreError};

/// Keys of a page of a listing; S3's own most.
const PAGE_KEYS: &str = "1000";

/// What became of a put that replaces nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is there now.
    Created,
    /// Something was there.
    Existed,
}

/// A page of a listing.
pub(super) struct Page {
    pub(super) found: Vec<Found>,
    /// What to ask the next page with.
    pub(super) next: Option<String>,
    /// What the store's clock said: ages are told by it, not by ours.
    pub(super) now: SystemTime,
}

/// An object, or an upload that never ended.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) meta: Meta,
    /// Of an upload.
    pub(super) upload: Option<String>,
}

impl Client {
    /// Stores an object in one call; with `once` only where there is none.
    pub(super) async fn put(&self, name: &str, bytes: &[u8], kind: &str, once: bool) -> Result<Placed, StoreError> {
        let conditional = [("content-type", kind), ("if-none-match", "*")];
        let fields = if once { &conditional[..] } else { &conditional[..1] };
        let ask = Ask { fields, body: Some(bytes), ..Ask::new(Method::Put, name) };
        match self.ask(&ask).await {
            Ok(_) => Ok(Placed::Created),
            Err(trouble) if trouble.is_precondition() => Ok(Placed::Existed),
            Err(trouble) => Err(self.told(&trouble, "storing", name)),
        }
    }

    /// What is known of an object.
    pub(super) async fn head(&self, name: &str) -> Result<Option<Meta>, StoreError> {
        match self.ask(&Ask::new(Method::Head, name)).await {
            Ok(heard) => match (number(&heard.fields, "content-length"), date(&heard.fields, "last-modified")) {
                (Some(len), Some(modified)) => Ok(Some(Meta { len, modified })),
                _ => Err(self.told(&not_understood("a length and a date"), "looking at", name)),
            },
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.told(&trouble, "looking at", name)),
        }
    }

    /// Begins to read an object from `start`, up to `end` where that is given. `None`: nothing is there that far.
    ///
    /// # Errors
    /// The trouble, and whether waiting was asked for; one attempt only.
    pub(super) async fn read_from(
        &self,
        name: &str,
        start: u64,
        end: Option<u64>,
    ) -> Result<Option<Answer>, (Trouble, Option<Duration>)> {
        let range = end.map_or_else(|| format!("bytes={start}-"), |end| format!("bytes={start}-{}", end.max(1) - 1));
        let ranged = [("range", &range[..])];
        let fields = if start == 0 && end.is_none() { &[][..] } else { &ranged[..] };
        match self.begin(&Ask { fields, ..Ask::new(Method::Get, name) }).await {
            Ok(answer) if fields.is_empty() || answer.status == 206 && begins_at(&answer.fields, start) => {
                Ok(Some(answer))
            }
            // Whoever does not know ranges would have us take the beginning for the middle.
            Ok(answer) => Err((
                Trouble::Refused {
                    status: answer.status,
                    code: "NotImplemented".to_owned(),
                    message: "it answered with something else where a range was asked for".to_owned(),
                },
                None,
            )),
            Err((Trouble::Refused { status: 416, .. }, _)) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Removes an object; one that is not there is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<(), StoreError> {
        match self.ask(&Ask::new(Method::Delete, name)).await {
            Ok(_) => Ok(()),
            Err(trouble) if trouble.is_missing() => Ok(()),
            Err(trouble) => Err(self.told(&trouble, "removing", name)),
        }
    }

    /// Copies an object within the bucket; onto itself, it becomes young. `false`: there is none.
    pub(super) async fn copy(&self, from: &str, to: &str, kind: &str) -> Result<bool, StoreError> {
        let source = self.site.source(from);
        // S3 refuses a copy onto itself that changes nothing: all of what belongs to it is said anew.
        let fields =
            [("content-type", kind), ("x-amz-copy-source", &source[..]), ("x-amz-metadata-directive", "REPLACE")];
        let ask = Ask { fields: &fields, ..Ask::new(Method::Put, to) };
        let answered = match self.ask(&ask).await {
            // A copy that takes long is answered with 200 before it is known how it ends.
            Ok(heard) => ended_well(heard.text(), "CopyObjectResult"),
            Err(trouble) => Err(trouble),
        };
        match answered {
            Ok(_) => Ok(true),
            Err(trouble) if trouble.is_missing() => Ok(false),
            Err(trouble) => Err(self.told(&trouble, "copying", from)),
        }
    }

    /// A page of the objects whose names begin with this.
    pub(super) async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        let mut query = vec![("list-type", "2"), ("max-keys", PAGE_KEYS), ("prefix", prefix)];
        if let Some(after) = after {
            query.insert(0, ("continuation-token", after));
        }
        let heard = self.ask(&Ask { query: &query, ..Ask::new(Method::Get, "") }).await;
        let told = |trouble: Trouble| self.told(&trouble, "listing", prefix);
        let heard = heard.map_err(told)?;
        let list = Node::parse(heard.text()).filter(|node| node.name == "ListBucketResult");
        let list = list.ok_or_else(|| told(not_understood("a listing")))?;
        let found = list.all("Contents").filter_map(|node| found(node, "Key", "LastModified", None)).collect();
        let next = list.text("NextContinuationToken").filter(|_| list.text("IsTruncated") == Some("true"));
        Ok(Page { found, next: next.map(str::to_owned), now: now(&heard.fields) })
    }

    /// A page of the multipart uploads that were begun and never ended; the next one is asked with the last's name and
    /// id. `None`: the store does not tell.
    pub(super) async fn list_uploads(
        &self,
        prefix: &str,
        after: Option<(&str, &str)>,
    ) -> Result<Option<Page>, StoreError> {
        let mut query = Vec::new();
        if let Some((name, _)) = after {
            query.push(("key-marker", name));
        }
        query.push(("prefix", prefix));
        if let Some((_, id)) = after {
            query.push(("upload-id-marker", id));
        }
        query.push(("uploads", ""));
        let heard = match self.ask(&Ask { query: &query, ..Ask::new(Method::Get, "") }).await {
            Ok(heard) => heard,
            Err(trouble) if trouble.is_unknown() => return Ok(None),
            Err(trouble) => return Err(self.told(&trouble, "listing uploads of", prefix)),
        };
        // Some servers do not know the question, and answer another.
        let list = Node::parse(heard.text()).filter(|node| node.name == "ListMultipartUploadsResult");
        let Some(list) = list else { return Ok(None) };
        let found = list.all("Upload").filter_map(|node| found(node, "Key", "Initiated", Some("UploadId"))).collect();
        let next = (list.text("IsTruncated") == Some("true")).then(String::new);
        Ok(Some(Page { found, next, now: now(&heard.fields) }))
    }
}

fn found(node: &Node, name: &str, date: &str, upload: Option<&str>) -> Option<Found> {
    let modified = moment(node.text(date)?.parse().ok()?);
    let len = node.text("Size").and_then(|size| size.parse().ok()).unwrap_or(0);
    let upload = match upload {
        Some(upload) => Some(node.text(upload)?.to_owned()),
        None => None,
    };
    Some(Found { name: node.text(name)?.to_owned(), meta: Meta { len, modified }, upload })
}

/// What the document of a call that was answered with 200 really says.
pub(super) fn ended_well(text: &str, expected: &str) -> Result<Node, Trouble> {
    match Node::parse(text) {
        Some(node) if node.name == expected => Ok(node),
        // Of the kind that a 500 would have been: it may go well the next time, and is asked for again by whoever asked.
        Some(node) if node.name == "Error" => Err(Trouble::of_answer(500, text.as_bytes())),
        _ => Err(not_understood(expected)),
    }
}

pub(super) fn not_understood(expected: &str) -> Trouble {
    Trouble::Unheard(format!("its answer holds no {expected}"))
}

/// Whether an answer's range (RFC 9110 section 14.4) begins there.
fn begins_at(fields: &FieldList, start: u64) -> bool {
    let range = fields.get("content-range").and_then(|range| std::str::from_utf8(range).ok());
    let range = range.and_then(|range| range.trim().strip_prefix("bytes "));
    range.and_then(|range| range.split_once('-')).is_some_and(|(first, _)| first.trim().parse() == Ok(start))
}

fn number(fields: &FieldList, name: &str) -> Option<u64> {
    fields.text(name)?.trim().parse().ok()
}

/// A field's date (RFC 9110 section 5.6.7), whose zone has an obsolete name that RFC 2822's parser knows. Its weekday is taken
/// for granted.
fn date(fields: &FieldList, name: &str) -> Option<SystemTime> {
    rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(fields.get(name)?).ok().map(moment)
}

fn now(fields: &FieldList) -> SystemTime {
    date(fields, "date").unwrap_or_else(SystemTime::now)
}

fn moment(timestamp: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(timestamp.as_millisecond().max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_both_kinds_are_read() {
        let mut fields = FieldList::new();
        fields.push("last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT");
        let moment = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(date(&fields, "last-modified"), Some(moment));
        assert_eq!(date(&fields, "date"), None);
        let node =
            "<Contents><Key>a</Key><LastModified>1994-11-06T08:49:37.500Z</LastModified><Size>7</Size></Contents>";
        let found = found(&Node::parse(node).unwrap(), "Key", "LastModified", None).unwrap();
        assert_eq!((found.meta.len, found.meta.modified), (7, moment + Duration::from_millis(500)));
    }

    #[test]
    fn a_success_that_is_none_is_told() {
        let error = "<Error><Code>InternalError</Code></Error>";
        assert!(ended_well(error, "CopyObjectResult").unwrap_err().is_passing());
        assert!(ended_well("<CopyObjectResult/>", "CopyObjectResult").is_ok());
        assert!(ended_well("", "CopyObjectResult").is_err());
    }
}
