//! The object store of a fleet: a bucket in an S3-compatible store.
//!
//! ```text
//!   prefix/objects/3f0c…e1.jpeg     what has a name: created once, whole, never changed
//!   prefix/temporary/9a…4c          on its way in, in parts
//!   prefix/incoming/77…01           put there by clients themselves, at a presigned address
//!   prefix/probe/…                  what this store was asked at the start, whether it keeps conditions
//!
//!   settings  where, and by whose leave      calls, parts   what is asked      shelf, reading   as shards see it
//!   client    signs, calls, calls again      trouble, xml   what is answered   sweep            what is left over
//! ```
//!
//! Every node of a fleet uses the same bucket, and nothing in it belongs to one of them. An object is created by a
//! conditional put (`If-None-Match: *`), so that of two writers one creates it and the other finds it; where a store does not
//! keep that condition, which is tried at the start, it is looked for first, and the start says what that is worth.
//!
//! A sweep must not take an object that is just wanted again. So whoever finds an old object there makes it young, by a copy
//! onto itself, and the sweep looks at an object's age once more right before it removes it. Between that look and the
//! removal some milliseconds remain, in which an object that nobody wanted for a day may become wanted and go; a bucket
//! with versions keeps it even then.

mod calls;
mod client;
mod direct;
mod parts;
mod reading;
mod settings;
mod shelf;
mod sweep;
#[cfg(test)]
mod tests;
mod trouble;
mod xml;

use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use rustix::fs::{MemfdFlags, memfd_create};

pub use settings::{Hidden, S3Settings, Style};

use self::calls::Placed;
use self::client::{Client, Site};
use self::parts::Parts;
use self::shelf::{S3Shelf, place, wanted_again};
use super::{BEGINNING, Each, Key, Meta, Objects, Put, Shelf, StoreError, Suffix, Swept, Wanted};
use crate::hex;
use crate::image::courier::{Courier, NotTaken};

/// What was found out about this store.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// Whether it keeps `If-None-Match: *`.
    creates_once: bool,
}

/// The media type that an object is stored with. Originals and manifests are nobody's to show.
fn kind_of(suffix: Option<Suffix>) -> &'static str {
    match suffix.and_then(Suffix::format) {
        Some(format) => format.media_type(),
        None => "application/octet-stream",
    }
}

/// See the module's description.
pub struct S3 {
    site: Arc<Site>,
    ways: Ways,
    courier: Courier<Client>,
}

impl S3 {
    /// Connects to the store, and finds out whether it can be used and what it keeps to. Says what an operator must know.
    ///
    /// # Errors
    /// [`StoreError`] with a sentence: it cannot be reached, the key is not let in, the bucket is not there.
    pub fn open(settings: S3Settings) -> Result<S3, StoreError> {
        let site = Arc::new(Site::new(settings).map_err(StoreError::Io)?);
        let inside = site.clone();
        let courier = Courier::start(move |shard| Client::new(shard, &inside)).map_err(StoreError::Io)?;
        let ways = Ways { creates_once: true };
        let mut store = S3 { site, ways, courier };
        store.ways = store.ask(|client| async move { probe(&client).await })?;
        Ok(store)
    }

    fn each_key(&self, beginning: &str, each: Each<'_>) -> Result<(), StoreError> {
        sweep::each_page(self, beginning, &mut |page| {
            for found in page.found {
                // What is no key is somebody else's.
                if let Some(key) = found.name.rsplit('/').next().and_then(|name| name.parse().ok()) {
                    each(key, found.meta)?;
                }
            }
            Ok(())
        })
    }

    /// Whether it creates an object only where there is none, when asked to.
    pub fn creates_once(&self) -> bool {
        self.ways.creates_once
    }

    /// Where it is and what it keeps to, for the log.
    pub fn told(&self) -> Vec<String> {
        let mut lines = vec![format!("objects in {}", self.site.place(&self.site.settings.prefix))];
        if !self.ways.creates_once {
            lines.push(
                "THE STORE DOES NOT KEEP If-None-Match: *, so an object is looked for before it is put. Two nodes that \
                 store the same output at the same moment may both do so; the later one stays, which is as good, because \
                 names follow from content and recipe. Fix, if you want it exact: a store that keeps conditional writes."
                    .to_owned(),
            );
        }
        lines
    }

    fn ask<R: Send + 'static, F: Future<Output = Result<R, StoreError>> + 'static>(
        &self,
        errand: impl FnOnce(Rc<Client>) -> F + Send + 'static,
    ) -> Result<R, StoreError> {
        let gone = || StoreError::Io("the store's thread has ended".to_owned());
        let reply = self.courier.ask(errand).map_err(|not_taken| match not_taken {
            NotTaken::Busy => StoreError::Io("too many calls of the store wait. Fix: see why it is slow".to_owned()),
            NotTaken::Gone => gone(),
        })?;
        reply.wait().unwrap_or_else(|| Err(gone()))
    }

    /// Uploads what is larger than a part, of which `first` is the first.
    fn put_parts(&self, key: &Key, first: Vec<u8>, from: &mut dyn Read) -> Result<Put, StoreError> {
        let (name, kind, part_bytes) = (self.site.object(key), kind_of(Some(key.suffix)), first.len());
        // Taken back and forth: the thread reads the next part, then the shard uploads it.
        let mut parts = self.ask(move |client| async move { Parcel::begin(&client, name, kind).await })?;
        let (mut len, mut part) = (0, first);
        while !part.is_empty() {
            len += part.len() as u64;
            parts = self.ask(move |client| async move { parts.push(&client, part).await })?;
            part = match read_part(from, part_bytes) {
                Ok(part) => part,
                Err(error) => {
                    let abandoned = self.ask(move |client| async move { parts.abort(&client).await });
                    let also = abandoned.err().map(|error| format!("; and {error}")).unwrap_or_default();
                    return Err(StoreError::Io(format!("storing {key}: {error}{also}")));
                }
            };
        }
        let (key, ways) = (*key, self.ways);
        self.ask(move |client| async move {
            if !ways.creates_once
                && let Some(len) = wanted_again(&client, &key).await?
            {
                parts.abort(&client).await?;
                return Ok(Put::Existed(len));
            }
            if parts.complete(&client, ways.creates_once).await? == Placed::Created {
                return Ok(Put::Created(len));
            }
            let found = wanted_again(&client, &key).await?;
            found.map(Put::Existed).ok_or_else(|| StoreError::Io(format!("storing {key}: it went as it was found")))
        })
    }
}

/// An upload in parts while it is with a thread, which owns no connections. Dropped there, the sweep finds it.
struct Parcel {
    name: String,
    id: String,
    tags: Vec<String>,
}

impl Parcel {
    async fn begin(client: &Rc<Client>, name: String, kind: &str) -> Result<Parcel, StoreError> {
        Parts::begin(client, name, kind).await.map(Parts::into_parcel)
    }

    async fn push(self, client: &Rc<Client>, part: Vec<u8>) -> Result<Parcel, StoreError> {
        let mut parts = Parts::of_parcel(client, self);
        parts.push(&part).await?;
        Ok(parts.into_parcel())
    }

    async fn complete(self, client: &Rc<Client>, once: bool) -> Result<Placed, StoreError> {
        Parts::of_parcel(client, self).complete(once).await
    }

    async fn abort(self, client: &Rc<Client>) -> Result<(), StoreError> {
        Parts::of_parcel(client, self).abort().await
    }
}

impl Objects for S3 {
    fn put(&self, key: &Key, from: &mut dyn Read) -> Result<Put, StoreError> {
        let part_bytes = self.site.settings.part_bytes as usize;
        let first = read_part(from, part_bytes).map_err(|error| StoreError::Io(format!("storing {key}: {error}")))?;
        if first.len() == part_bytes {
            return self.put_parts(key, first, from);
        }
        let (key, ways) = (*key, self.ways);
        self.ask(move |client| async move { place(&client, ways, &key, &first).await })
    }

    fn open(&self, key: &Key) -> Result<(File, u64), StoreError> {
        let key = *key;
        let fault = |error: std::io::Error| StoreError::of(&error, "copying to memory", &key);
        let memory =
            File::from(memfd_create("annulus-object", MemfdFlags::CLOEXEC).map_err(|error| fault(error.into()))?);
        let to = memory.try_clone().map_err(fault)?;
        let len = self.ask(move |client| async move { reading::whole(&client, &key, &to).await })?;
        // Opened anew for reading alone: a worker is given nothing that it could write to.
        let file = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).map_err(fault)?;
        Ok((file, len))
    }

    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let key = *key;
        self.ask(move |client| async move { reading::range(&client, &key, range).await })
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StoreError> {
        let name = self.site.object(key);
        self.ask(move |client| async move { client.head(&name).await })
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let name = self.site.object(key);
        self.ask(move |client| async move { client.remove(&name).await })
    }

    fn list(&self, each: Each<'_>) -> Result<(), StoreError> {
        self.each_key("objects/", each)
    }

    fn list_of(&self, beginning: &[u8; BEGINNING], each: Each<'_>) -> Result<(), StoreError> {
        self.each_key(&format!("objects/{}", hex::encode(beginning)), each)
    }

    fn sweep(&self, age: Duration, wanted: Wanted<'_>) -> Result<Swept, StoreError> {
        sweep::sweep(self, age, wanted)
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn on_shard(&self, shard: &Shard) -> Rc<dyn Shelf> {
        match Client::new(shard, &self.site) {
            Ok(client) => Rc::new(S3Shelf::new(client, self.ways)),
            Err(sentence) => Rc::new(NoShelf(sentence)),
        }
    }
}

/// A shard that cannot use the store, though the first one could: its certificates went away meanwhile.
struct NoShelf(String);

impl Shelf for NoShelf {
    fn create(&self) -> super::Pending<'_, Box<dyn super::Upload>> {
        Box::pin(async { Err(StoreError::Io(self.0.clone())) })
    }

    fn open(&self, _key: &Key) -> super::Pending<'_, Box<dyn super::Object>> {
        Box::pin(async { Err(StoreError::Io(self.0.clone())) })
    }
}

/// Reads until there is a whole part or the end.
fn read_part(from: &mut dyn Read, part_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::new();
    let mut limited = Read::take(from, part_bytes as u64);
    loop {
        match limited.read_to_end(&mut part) {
            Ok(_) => return Ok(part),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes, writes again on a condition, lists and removes: all that this key must be let do, and whether conditions hold.
async fn probe(client: &Client) -> Result<Ways, StoreError> {
    let name = client.site.nameless("probe")?;
    let kind = "text/plain";
    let first = client.put(&name, b"annulus asks whether this is created once", kind, true).await;
    let creates_once = match first {
        Ok(Placed::Created) => client.put(&name, b"and not twice", kind, true).await? == Placed::Existed,
        // Nobody has this name: an answer of a store that reads the condition as another one.
        Ok(Placed::Existed) => false,
        Err(error) => {
            // One that refuses the field takes the object without it; one that refuses the key does not.
            if client.put(&name, b"annulus asks whether this can be written", kind, false).await.is_err() {
                return Err(error);
            }
            false
        }
    };
    let _page = client.list(&format!("{}probe/", client.site.settings.prefix), None).await?;
    client.remove(&name).await?;
    Ok(Ways { creates_once })
}
