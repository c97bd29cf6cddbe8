//! A job: one tenant's wish for the outputs of one image, and the document that tells how far it is.
//!
//! ```text
//!   uploaded ─► queued ─► leased ─► done
//!                 ▲          ├────► failed      the image's fault, or its time was over: never tried again
//!                 └─ backoff ┼────► dead        tried too often: waits for a person
//!                            └────► cancelled   also from queued
//! ```
//!
//! What is really done is a [work](super::work), which several jobs may share; a job knows nothing of the others.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::{Fault, Kind};
use super::format::Format;
use super::pipeline::Timings;
use super::store::Key;
use crate::hex;

/// A job's name: 128 random bits, so that nobody guesses another's. As text, 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub [u8; 16]);

/// The system gave no random bytes; without them no name is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gave no random bytes (getrandom failed)")
    }
}

impl std::error::Error for NoRandomness {}

/// Fills `bytes` from the system's generator.
///
/// # Errors
/// [`NoRandomness`].
pub fn random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SystemRandom::new().fill(bytes).map_err(|_unspecified| NoRandomness)
}

impl JobId {
    /// A new name.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<JobId, NoRandomness> {
        let mut id = [0; 16];
        random(&mut id)?;
        Ok(JobId(id))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

/// The text is no job's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job's id is 32 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for JobId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<JobId, NotAnId> {
        let mut id = [0; 16];
        hex::decode_into(text, &mut id).ok_or(NotAnId)?;
        Ok(JobId(id))
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whose a job is: the name that the configuration gives the owner of an API key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub Arc<str>);

impl Tenant {
    /// The tenant of this name.
    pub fn named(name: &str) -> Tenant {
        Tenant(name.into())
    }
}

/// Who goes first. Bulk has a share of its own, so that it never starves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// It has time.
    Bulk,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The original is stored; no work was asked for yet.
    Uploaded,
    /// It waits for its turn, or for its next attempt.
    Queued,
    /// It is being worked on.
    Leased,
    /// All outputs are there.
    Done,
    /// It can never succeed.
    Failed,
    /// It failed too often, and waits for a person to try again.
    Dead,
    /// It was cancelled.
    Cancelled,
}

impl State {
    /// Whether nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Dead | State::Cancelled)
    }
}

/// A finished output, as a job's document and a work's manifest tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOutput {
    /// The recipe's name.
    pub name: String,
    /// Where it is stored; the last part of its address.
    pub key: Key,
    /// What it is encoded as.
    pub format: Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes.
    pub bytes: u64,
    /// Its ThumbHash in base64, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbhash: Option<String>,
    /// Its BlurHash, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<String>,
}

/// Where the time of a job went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTimings {
    /// From the answer 202 to the last attempt's start.
    pub queued_ms: u64,
    /// Decoding.
    pub decode_ms: u64,
    /// Resampling and adjusting.
    pub transform_ms: u64,
    /// Encoding.
    pub encode_ms: u64,
    /// Making the outputs durable.
    pub store_ms: u64,
    /// The whole last attempt.
    pub attempt_ms: u64,
}

impl JobTimings {
    /// What the pipeline told.
    pub fn of_pipeline(timings: Timings) -> JobTimings {
        let ms = |duration: std::time::Duration| duration.as_millis() as u64;
        JobTimings {
            decode_ms: ms(timings.decode),
            transform_ms: ms(timings.transform),
            encode_ms: ms(timings.encode),
            ..JobTimings::default()
        }
    }
}

/// A problem document (RFC 9457) inside a job's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank#` and the kind (RFC 9457 section 3.1.1).
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The status that a synchronous request would have been answered with.
    pub status: u16,
    /// What happened, to what, and what to do.
    pub detail: String,
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Problem {
        let (kind, title, status) = match fault.kind {
            Kind::BadImage => ("bad-image", "The image is broken", 422),
            Kind::Unsupported => ("unsupported-image", "The format is not supported", 415),
            Kind::TooLarge => ("image-too-large", "The image is beyond a limit", 413),
            Kind::BadRequest => ("bad-request", "This cannot be done to this image", 422),
            Kind::Stopped => ("stopped", "It was stopped", 504),
            Kind::Memory => ("out-of-memory", "It needed more memory than it was given", 503),
            Kind::Crashed => ("worker-crashed", "Its worker ended without an answer", 500),
            Kind::Io => ("storage", "Reading or writing failed", 503),
        };
        Problem { kind: format!("about:blank#{kind}"), title: title.to_owned(), status, detail: fault.detail.clone() }
    }
}

/// What the image is, as its head said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// By magic bytes.
    pub format: Format,
    /// Stored pixels.
    pub width: u32,
    /// Stored pixels.
    pub height: u32,
    /// Bytes.
    pub bytes: u64,
    /// Where it is stored: what variants are asked of. It is never delivered as it is.
    pub key: Key,
}

/// Everything that a tenant may know of a job. Moments are milliseconds since 1970 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Its name.
    pub id: JobId,
    /// How far it is.
    pub state: State,
    /// Rises with every change, never falls: two documents of the same revision are the same.
    pub revision: u64,
    /// Who goes first.
    pub priority: Priority,
    /// What the client called the outputs: a preset's name, or the options.
    pub asked: String,
    /// What the image is.
    pub source: Source,
    /// Attempts so far, one under way included.
    pub attempts: u32,
    /// How many there can be.
    pub attempts_max: u32,
    /// From 0 to 1.
    pub progress: f32,
    /// Once an attempt has begun: `cpu` or `gpu`, or `both` until one of them has done it, and where none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Why that lane, where there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane_reason: Option<String>,
    /// Whether the queue was long when it came.
    pub delayed: bool,
    /// The guess, when it came, of how long it would wait for its turn.
    pub predicted_wait_ms: u64,
    /// When it was accepted.
    pub created_ms: u64,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When its state became final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// When the next attempt may begin, after one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<u64>,
    /// The finished outputs, in the order of the recipes; empty until all are there.
    pub outputs: Vec<JobOutput>,
    /// Where the time went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<JobTimings>,
    /// Why it failed, or why the last attempt did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_and_read_back() {
        let (one, other) = (JobId::random().unwrap(), JobId::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_eq!(one.to_string().len(), 32);
        for bad in ["", "0", &"g".repeat(32), &"A".repeat(32), &"0".repeat(31), &"0".repeat(33)] {
            assert_eq!(bad.parse::<JobId>(), Err(NotAnId), "{bad}");
        }
    }

    #[test]
    fn an_output_without_placeholders_is_told_as_before_there_were_any() {
        let key = format!("{}.jpeg", "a5".repeat(32));
        let text = format!(r#"{{"name":"small","key":"{key}","format":"jpeg","width":3,"height":2,"bytes":700}}"#);
        let output: JobOutput = serde_json::from_str(&text).unwrap();
        assert_eq!((&output.thumbhash, &output.blurhash), (&None, &None));
        assert_eq!(serde_json::to_string(&output).unwrap(), text);
        let told = JobOutput { thumbhash: Some("3wcK".to_owned()), blurhash: Some("00HB}M".to_owned()), ..output };
        let text = serde_json::to_string(&told).unwrap();
        assert!(text.ends_with(r#","bytes":700,"thumbhash":"3wcK","blurhash":"00HB}M"}"#), "{text}");
        assert_eq!(serde_json::from_str::<JobOutput>(&text).unwrap(), told);
    }

    #[test]
    fn every_fault_is_a_problem_with_a_status() {
        let problem = Problem::from(&Fault::new(Kind::TooLarge, "300 megapixels, 256 allowed"));
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            r#"{"type":"about:blank#image-too-large","title":"The image is beyond a limit","status":413,"detail":"300 megapixels, 256 allowed"}"#
        );
    }
}
