//! The work beneath jobs: what is made of one content by one list of recipes, whoever asked for it and how often.
//!
//! ```text
//!   job (tenant A) ──┐
//!   job (tenant A) ──┼──► work = HMAC(salt, content, recipes, version) ──► outputs, created once
//!   job (tenant B) ──┘                                                └──► manifest, published last
//! ```
//!
//! All names follow from the content, so a work that runs twice finds its outputs there and changes nothing. They are
//! made with the installation's secret salt, so nobody can compute the name of what another tenant has.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::header::Header;
use super::job::{JobOutput, JobTimings, Priority, Tenant};
use super::lanes;
use super::pipeline::Cost;
use super::recipe::Recipe;
use super::store::{BEGINNING, Key, Suffix};

/// Part of every work's name. Raised when the pipeline makes other pixels of the same recipes, so that nobody is given
/// outputs of an older one.
pub const PIPELINE_VERSION: u32 = 1;

/// SHA-256 of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// The installation's secret that all names are made with. Kept by the queue; the same for all machines of one queue.
#[derive(Clone)]
pub struct Salt(hmac::Key);

impl Salt {
    /// Of 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Salt {
        Salt(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The parts are told apart by their lengths, so that no two lists of parts run into the same bytes.
    fn name(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [purpose.as_bytes()].iter().chain(parts) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut name = [0; 32];
        name.copy_from_slice(context.sign().as_ref());
        name
    }

    /// Where the original of this content is stored. The same content uploaded twice is stored once.
    pub fn original(&self, content: &ContentHash) -> Key {
        Key { name: self.name("original", &[&content.0]), suffix: Suffix::Original }
    }

    /// Where the output of an original is stored that is made when somebody asks for it.
    pub fn variant(&self, original: &Key, recipe: &Recipe) -> Key {
        let (text, version) = (canonical(std::slice::from_ref(recipe)), PIPELINE_VERSION.to_le_bytes());
        let mut name = self.name("variant", &[&original.name, text.as_bytes(), &version]);
        name[..BEGINNING].copy_from_slice(&self.variants_of(original));
        Key { name, suffix: Suffix::Variant }
    }

    /// What the names of an original's variants begin with, so that all of them are found when it goes.
    pub fn variants_of(&self, original: &Key) -> [u8; BEGINNING] {
        let name = self.name("variants", &[&original.name]);
        std::array::from_fn(|at| name[at])
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(secret)")
    }
}

/// A work's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkKey(pub [u8; 32]);

impl WorkKey {
    /// Of a content and what is made of it.
    pub fn of(salt: &Salt, content: &ContentHash, recipes: &[Recipe]) -> WorkKey {
        let version = PIPELINE_VERSION.to_le_bytes();
        WorkKey(salt.name("work", &[&content.0, canonical(recipes).as_bytes(), &version]))
    }

    /// Where the output of this name is stored.
    pub fn output(&self, salt: &Salt, name: &str, suffix: Suffix) -> Key {
        Key { name: salt.name("output", &[&self.0, name.as_bytes()]), suffix }
    }

    /// Where the manifest is stored: when it is there, everything is.
    pub fn manifest(&self, salt: &Salt) -> Key {
        Key { name: salt.name("manifest", &[&self.0]), suffix: Suffix::Manifest }
    }
}

/// Recipes as text, the same for the same recipes: fields in the order of their declaration, numbers at their shortest.
pub fn canonical(recipes: &[Recipe]) -> String {
    serde_json::to_string(recipes).expect("recipes are plain data with text keys")
}

/// What a work is: enough to do it, and to know what it will take.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Its name.
    pub key: WorkKey,
    /// Where the original is.
    pub original: Key,
    /// The original's length in bytes.
    pub len: u64,
    /// What its head said.
    pub header: Header,
    /// The outputs wanted.
    pub recipes: Arc<[Recipe]>,
    /// What it will take, predicted from the header.
    pub cost: Cost,
}

/// A job to be entered: the work, and whose wish it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Whose.
    pub tenant: Tenant,
    /// What.
    pub work: Work,
    /// Who goes first.
    pub priority: Priority,
    /// What the client called the outputs; shown in the document.
    pub asked: String,
    /// The client's own name for this request, so that asking again changes nothing.
    pub idempotency: Option<Idempotency>,
}

/// A client's `Idempotency-Key`, and a fingerprint of the request it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key; at most [`Idempotency::KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// Whatever must be the same when the key comes again: a hash over content, options and priority.
    pub request: [u8; 32],
}

impl Idempotency {
    /// Longest key in bytes; a longer one is refused with 400.
    pub const KEY_BYTES_MAX: usize = 255;

    /// The fingerprint of an order's parts.
    pub fn fingerprint(content: &ContentHash, recipes: &[Recipe], priority: Priority) -> [u8; 32] {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&content.0);
        context.update(&[priority as u8]);
        context.update(canonical(recipes).as_bytes());
        let mut request = [0; 32];
        request.copy_from_slice(context.finish().as_ref());
        request
    }
}

/// What a finished work has made; published once all outputs are durable, and the last thing that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`PIPELINE_VERSION`] of the pipeline that made them.
    pub version: u32,
    /// `cpu` or `gpu`.
    pub lane: String,
    /// Why that one; empty where there was no choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lane_reason: String,
    /// In the recipes' order.
    pub outputs: Vec<JobOutput>,
    /// Where the time went.
    pub timings: JobTimings,
}

/// The output's place and facts, once `made` is stored as `key` with `bytes` bytes.
pub fn stored(made: &lanes::Made, key: Key, bytes: u64) -> JobOutput {
    JobOutput {
        name: made.name.clone(),
        key,
        format: made.format,
        width: made.width,
        height: made.height,
        bytes,
        thumbhash: made.placeholders.thumbhash.as_ref().map(|bytes| STANDARD.encode(bytes)),
        blurhash: made.placeholders.blurhash.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::image::recipe::Components;

    #[test]
    fn names_follow_from_content_recipes_and_salt() {
        let (salt, other_salt) = (Salt::new(&[1; 32]), Salt::new(&[2; 32]));
        let (content, other_content) = (ContentHash([3; 32]), ContentHash([4; 32]));
        let (small, large) = (Recipe::named("small"), Recipe::named("large"));
        let key = WorkKey::of(&salt, &content, from_ref(&small));
        assert_eq!(key, WorkKey::of(&salt, &content, from_ref(&small)));
        let others = [
            WorkKey::of(&other_salt, &content, from_ref(&small)),
            WorkKey::of(&salt, &other_content, from_ref(&small)),
            WorkKey::of(&salt, &content, from_ref(&large)),
            WorkKey::of(&salt, &content, &[small, large]),
        ];
        assert!(others.iter().all(|other| *other != key));
        let names = [key.output(&salt, "small", Suffix::Manifest).name, key.manifest(&salt).name, key.0];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
    }

    #[test]
    fn a_recipe_without_placeholders_is_written_as_before_there_were_any() {
        let plain = Recipe::named("a");
        let text = r#"{"name":"a","auto_rotate":true,"crop":null,"resize":null,"gravity":"Center","quarter_turns":0,"flip":[false,false],"blur":0.0,"sharpen":0.0,"grayscale":false,"brightness":0,"contrast":1.0,"saturation":1.0,"padding":[0,0,0,0],"background":null,"format":null,"quality":null,"metadata":"keep_copyright","linear":false}"#;
        assert_eq!(canonical(from_ref(&plain)), format!("[{text}]"));
        assert_eq!(serde_json::from_str::<Recipe>(text).unwrap(), plain);
        let asks = Recipe { thumbhash: true, blurhash: Some(Components::DEFAULT), ..plain };
        let text = serde_json::to_string(&asks).unwrap();
        assert!(text.ends_with(r#","linear":false,"thumbhash":true,"blurhash":[4,3]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), asks);
    }

    #[test]
    fn components_are_counted_wherever_they_come_from() {
        for (across, down) in [(0, 3), (3, 0), (10, 3), (3, 10), (255, 255)] {
            assert_eq!(Components::new(across, down), None);
            let read = serde_json::from_str::<Components>(&format!("[{across},{down}]"));
            assert!(read.unwrap_err().to_string().contains("1 to 9"), "{across} {down}");
        }
        assert_eq!(serde_json::from_str::<Components>("[9,1]").unwrap(), Components::new(9, 1).unwrap());
    }

    #[test]
    fn the_salt_is_not_printed() {
        assert_eq!(format!("{:?}", Salt::new(&[1; 32])), "Salt(secret)");
    }
}
