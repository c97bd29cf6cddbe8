//! The bucket as the tasks of one shard see it.
//!
//! ```text
//!   write ─► memory (a part) ─┬─ all of it fits ─► publish: one conditional PUT to its name
//!                             └─ full ─► multipart upload to temporary/… ─► publish: complete, copy to its name, remove
//! ```
//!
//! An object's name is known when all of it is here, and S3 cannot rename: so what does not fit into one part gets its
//! name by a copy inside the store. Names of uploads follow from their content, so whoever else copies to it copies the same.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use annulus_engine::Frame;

use super::calls::Placed;
use super::client::Client;
use super::parts::Parts;
use super::reading::Outgoing;
use super::{Ways, kind_of};
use crate::image::store::{Direct, Key, Object, Pending, Put, Shelf, StoreError, Upload};

/// What is older than this is made young when it is found to be wanted again. Far below the least age of what a sweep takes.
const YOUNG: Duration = Duration::from_secs(600);
/// How long an upload waits for its turn to be held in memory, and how often it looks.
const TURN_MAX: Duration = Duration::from_secs(10);
const TURN_LOOK: Duration = Duration::from_millis(20);

/// See the module's description.
pub(super) struct S3Shelf {
    pub(super) client: Rc<Client>,
    ways: Ways,
    /// Uploads that are held in memory.
    held: Rc<Cell<usize>>,
}

impl S3Shelf {
    pub(super) fn new(client: Rc<Client>, ways: Ways) -> S3Shelf {
        S3Shelf { client, ways, held: Rc::default() }
    }

    /// A place among those whose bytes are held, once there is one.
    async fn turn(&self) -> Result<Turn, StoreError> {
        let (shard, most) = (&self.client.shard, self.client.site.settings.uploads_max);
        let until = shard.now() + TURN_MAX;
        while self.held.get() >= most {
            if shard.now() >= until {
                return Err(StoreError::Io(format!(
                    "{most} uploads are on their way to the store already, and none ended within {} s. Fix: see why the \
                     store is slow, or raise image.s3.uploads_max: each holds up to image.s3.part_bytes of memory",
                    TURN_MAX.as_secs()
                )));
            }
            shard.sleep(TURN_LOOK).await;
        }
        self.held.set(self.held.get() + 1);
        Ok(Turn(self.held.clone()))
    }
}

struct Turn(Rc<Cell<usize>>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Shelf for S3Shelf {
    fn create(&self) -> Pending<'_, Box<dyn Upload>> {
        Box::pin(async {
            let turn = self.turn().await?;
            let (client, ways) = (self.client.clone(), self.ways);
            let incoming = Incoming { client, ways, pending: Vec::new(), len: 0, parts: None, _turn: turn };
            Ok(Box::new(incoming) as Box<dyn Upload>)
        })
    }

    fn open(&self, key: &Key) -> Pending<'_, Box<dyn Object>> {
        let key = *key;
        Box::pin(async move {
            let name = self.client.site.object(&key);
            let meta = self.client.head(&name).await?.ok_or(StoreError::Missing(key))?;
            Ok(Box::new(Outgoing::new(self.client.clone(), name, key, meta)) as Box<dyn Object>)
        })
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }
}

struct Incoming {
    client: Rc<Client>,
    ways: Ways,
    /// What came and was not uploaded yet.
    pending: Vec<u8>,
    len: u64,
    /// The upload in parts and its temporary name, once one part was full.
    parts: Option<(Parts, String)>,
    _turn: Turn,
}

impl Incoming {
    async fn push(&mut self) -> Result<(), StoreError> {
        if self.parts.is_none() {
            let name = self.client.site.nameless("temporary")?;
            let parts = Parts::begin(&self.client, name.clone(), kind_of(None)).await?;
            self.parts = Some((parts, name));
        }
        if let Some((parts, _)) = &mut self.parts {
            parts.push(&self.pending).await?;
        }
        self.pending.clear();
        Ok(())
    }

    async fn name(mut self, key: Key) -> Result<Put, StoreError> {
        let (client, len) = (self.client.clone(), self.len);
        if self.parts.is_none() {
            return place(&client, self.ways, &key, &self.pending).await;
        }
        if !self.pending.is_empty() {
            self.push().await?;
        }
        let Some((parts, temporary)) = self.parts.take() else { return Ok(Put::Created(len)) };
        // Nobody else has this name: there is no condition.
        let _created = parts.complete(false).await?;
        rename(&client, temporary, &key, len).await
    }
}

impl Upload for Incoming {
    fn write(&mut self, bytes: Frame) -> Pending<'_, ()> {
        Box::pin(async move {
            let part_bytes = self.client.site.settings.part_bytes as usize;
            self.len += bytes.len() as u64;
            let mut rest = &bytes[..];
            while self.pending.len() + rest.len() > part_bytes {
                let (now, later) = rest.split_at(part_bytes - self.pending.len());
                self.pending.extend_from_slice(now);
                self.push().await?;
                rest = later;
            }
            self.pending.extend_from_slice(rest);
            Ok(())
        })
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn publish(self: Box<Self>, key: Key) -> Pending<'static, Put> {
        Box::pin(self.name(key))
    }

    fn abandon(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move {
            match self.parts {
                Some((parts, _)) => parts.abort().await,
                None => Ok(()),
            }
        })
    }
}

/// Gives what lies there its name, if nothing has it, and removes it there.
async fn rename(client: &Rc<Client>, from: String, key: &Key, len: u64) -> Result<Put, StoreError> {
    let put = match wanted_again(client, key).await? {
        Some(len) => Put::Existed(len),
        None => {
            let (to, kind) = (client.site.object(key), kind_of(Some(key.suffix)));
            if !client.copy(&from, &to, kind).await? {
                return Err(StoreError::Io(format!("{from} went before it was given its name {to}")));
            }
            Put::Created(len)
        }
    };
    let (shard, client) = (client.shard.clone(), client.clone());
    // What cannot be removed now is swept later.
    drop(shard.spawn(async move { drop(client.remove(&from).await) }));
    Ok(put)
}

/// Gives these bytes their name, if nothing has it.
pub(super) async fn place(client: &Client, ways: Ways, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
    let (name, kind) = (client.site.object(key), kind_of(Some(key.suffix)));
    loop {
        if !ways.creates_once
            && let Some(len) = wanted_again(client, key).await?
        {
            return Ok(Put::Existed(len));
        }
        if client.put(&name, bytes, kind, ways.creates_once).await? == Placed::Created {
            return Ok(Put::Created(bytes.len() as u64));
        }
        // A sweep may have taken it meanwhile: then the name is free.
        if let Some(len) = wanted_again(client, key).await? {
            return Ok(Put::Existed(len));
        }
    }
}

/// Makes an object young, that no sweep takes it, if it is there. Its length.
pub(super) async fn wanted_again(client: &Client, key: &Key) -> Result<Option<u64>, StoreError> {
    let name = client.site.object(key);
    let Some(meta) = client.head(&name).await? else { return Ok(None) };
    // A moment in the future is a clock that is ahead: young.
    let is_young = SystemTime::now().duration_since(meta.modified).map_or(true, |age| age < YOUNG);
    if is_young || client.copy(&name, &name, kind_of(Some(key.suffix))).await? {
        return Ok(Some(meta.len));
    }
    Ok(None)
}
