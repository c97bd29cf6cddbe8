//! The directory as the tasks of one shard see it: every step goes through the shard's own kernel interface.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use annulus_engine::{Directory, File, Frame, OpenOptions, Shard};

use super::directory::{Places, folder};
use super::{Key, Meta, Object, Pending, Put, Shelf, StoreError, Upload};

/// See the module's description.
pub(super) struct DirectoryShelf {
    shard: Shard,
    places: Places,
    /// Opened with the first object.
    objects: RefCell<Option<Rc<Directory>>>,
}

impl DirectoryShelf {
    pub(super) fn new(shard: Shard, places: Places) -> DirectoryShelf {
        DirectoryShelf { shard, places, objects: RefCell::default() }
    }

    async fn objects(&self) -> io::Result<Rc<Directory>> {
        if let Some(directory) = &*self.objects.borrow() {
            return Ok(directory.clone());
        }
        // Two tasks may both come here: the later one's replaces the earlier one's, which is as good.
        let directory = Rc::new(self.shard.open_directory(self.places.objects()).await?);
        self.objects.replace(Some(directory.clone()));
        Ok(directory)
    }
}

impl Shelf for DirectoryShelf {
    fn create(&self) -> Pending<'_, Box<dyn Upload>> {
        Box::pin(async {
            let path = self.places.temporary()?;
            let options = OpenOptions { write: true, create_new: true, ..OpenOptions::default() };
            let opened = self.shard.open(&path, options).await;
            let file = opened.map_err(|error| StoreError::of(&error, "making", &path.display()))?;
            let (shard, places) = (self.shard.clone(), self.places.clone());
            let temporary = Temporary { shard, path, removed: false };
            Ok(Box::new(Incoming { places, file, len: 0, temporary }) as Box<dyn Upload>)
        })
    }

    fn open(&self, key: &Key) -> Pending<'_, Box<dyn Object>> {
        let key = *key;
        Box::pin(async move {
            let fault = |error: io::Error| match error.kind() {
                ErrorKind::NotFound => StoreError::Missing(key),
                _ => StoreError::of(&error, "opening", &key),
            };
            let objects = self.objects().await.map_err(fault)?;
            let file = objects.open(Places::beneath(&key), OpenOptions::default()).await.map_err(fault)?;
            let meta = file.meta().map_err(fault)?;
            let meta = Meta { len: meta.len, modified: UNIX_EPOCH + meta.modified };
            Ok(Box::new(Outgoing { file, key, meta }) as Box<dyn Object>)
        })
    }
}

/// A file without its final name; removed when it is dropped, whatever became of it.
struct Temporary {
    shard: Shard,
    path: PathBuf,
    removed: bool,
}

impl Temporary {
    async fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        self.shard.remove(&self.path).await
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.removed {
            let (shard, path) = (self.shard.clone(), self.path.clone());
            // What cannot be removed now is swept later.
            drop(self.shard.spawn(async move { drop(shard.remove(&path).await) }));
        }
    }
}

struct Incoming {
    places: Places,
    file: File,
    len: u64,
    temporary: Temporary,
}

impl Incoming {
    async fn name(&self, key: &Key) -> io::Result<Put> {
        self.file.sync_data().await?;
        let (shard, path) = (&self.temporary.shard, self.places.object(key));
        let put = match shard.link(&self.temporary.path, &path).await {
            // The same content is there already. Ours takes its place, so that it is young, and no sweep takes it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                shard.rename(&self.temporary.path, &path).await?;
                Put::Existed(self.len)
            }
            linked => {
                linked?;
                Put::Created(self.len)
            }
        };
        shard.sync_directory(folder(&path)).await?;
        Ok(put)
    }
}

impl Upload for Incoming {
    fn write(&mut self, bytes: Frame) -> Pending<'_, ()> {
        Box::pin(async move {
            let (offset, len) = (self.len, bytes.len() as u64);
            let written = self.file.write_at(bytes, offset).await;
            written.map_err(|error| StoreError::of(&error, "writing", &"an upload"))?;
            self.len += len;
            Ok(())
        })
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn publish(self: Box<Self>, key: Key) -> Pending<'static, Put> {
        Box::pin(async move {
            let put = self.name(&key).await.map_err(|error| StoreError::of(&error, "storing", &key))?;
            match (put, self.temporary) {
                // Renamed: nothing is left to be removed.
                (Put::Existed(_), mut temporary) => temporary.removed = true,
                // It has its name; the second one goes in its own time.
                (Put::Created(_), temporary) => drop(temporary),
            }
            Ok(put)
        })
    }

    fn abandon(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move {
            let removed = self.temporary.remove().await;
            removed.map_err(|error| StoreError::of(&error, "removing", &"an upload"))
        })
    }
}

struct Outgoing {
    file: File,
    key: Key,
    meta: Meta,
}

impl Object for Outgoing {
    fn meta(&self) -> Meta {
        self.meta
    }

    fn read_at(&self, memory: Vec<u8>, want: usize, offset: u64) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let read = self.file.read_at(memory, want, offset).await;
            read.map_err(|error| StoreError::of(&error, "reading", &self.key))
        })
    }
}
