//! Where originals and outputs are kept: one trait for threads, which may block, and one for shards, which may not.
//!
//! Every object is created once, whole, and never changed: whoever finds a key finds all of its bytes, durable. On one
//! machine that is a directory, in a fleet a bucket of an S3-compatible store; both pass the same tests.

mod directory;
mod key;
pub mod s3;
mod shelf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use annulus_engine::{Frame, Shard};

pub use directory::Directory;
pub use key::{BEGINNING, Key, NotAKey, Suffix};
pub use s3::{S3, S3Settings};

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no object of this key.
    Missing(Key),
    /// There is no room; nothing that was stored before is lost.
    Full(String),
    /// Reading or writing failed, in a sentence.
    Io(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Missing(key) => write!(f, "there is no object {key}"),
            StoreError::Full(detail) | StoreError::Io(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for StoreError {}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// It is stored, this many bytes, durably.
    Created(u64),
    /// An object of that key was there already, this many bytes; it was left as it is.
    Existed(u64),
}

impl Put {
    /// Bytes of the object that is there now.
    pub fn bytes(self) -> u64 {
        match self {
            Put::Created(bytes) | Put::Existed(bytes) => bytes,
        }
    }
}

/// What is known of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub len: u64,
    /// When it was created, or found to be wanted again.
    pub modified: SystemTime,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leftovers of uploads and of writes that never ended.
    pub temporaries: u64,
    /// Objects that nothing refers to.
    pub orphans: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Tells which of these keys something refers to. A sweep asks it in batches; an error leaves everything in place.
pub type Wanted<'a> = &'a mut dyn FnMut(&[Key]) -> Result<Vec<bool>, String>;

/// Hears of an object. Its error ends the listing.
pub type Each<'a> = &'a mut dyn FnMut(Key, Meta) -> Result<(), StoreError>;

/// The store as threads see it. Calls block.
pub trait Objects: Send + Sync {
    /// Reads `from` to its end into a new object; what is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the object can be found then.
    fn put(&self, key: &Key, from: &mut dyn Read) -> Result<Put, StoreError>;

    /// Opens an object for reading from its start: the file itself, or a copy in memory. Its length comes along.
    ///
    /// # Errors
    /// [`StoreError`].
    fn open(&self, key: &Key) -> Result<(File, u64), StoreError>;

    /// Reads a range of an object, cut to its length.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// What is known of an object; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn head(&self, key: &Key) -> Result<Option<Meta>, StoreError>;

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Calls `each` for every object, in no particular order, until it fails.
    ///
    /// # Errors
    /// [`StoreError`]: the store's, or that of `each`.
    fn list(&self, each: Each<'_>) -> Result<(), StoreError>;

    /// Calls `each` for every object whose name begins so, in no particular order, until it fails.
    ///
    /// # Errors
    /// [`StoreError`]: the store's, or that of `each`.
    fn list_of(&self, beginning: &[u8; BEGINNING], each: Each<'_>) -> Result<(), StoreError>;

    /// Removes temporary files and unwanted objects older than `age`. Safe while uploads and works go on: an object that
    /// is uploaded again while it is swept stays.
    ///
    /// # Errors
    /// [`StoreError`]; what was removed until then stays removed.
    fn sweep(&self, age: Duration, wanted: Wanted<'_>) -> Result<Swept, StoreError>;

    /// Bytes that can still be stored, where that is known.
    fn free_bytes(&self) -> Option<u64>;

    /// The store as tasks of this shard see it.
    fn on_shard(&self, shard: &Shard) -> Rc<dyn Shelf>;
}

/// What a task of a shard waits for.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + 'a>>;

/// The store as the tasks of one shard see it. Nothing here blocks the shard.
pub trait Shelf {
    /// Begins an object whose key will be known when all of it is there.
    fn create(&self) -> Pending<'_, Box<dyn Upload>>;

    /// Opens an object for reading.
    fn open(&self, key: &Key) -> Pending<'_, Box<dyn Object>>;

    /// The store as clients may reach it themselves; `None` where they cannot.
    fn direct(&self) -> Option<&dyn Direct> {
        None
    }
}

/// A store that clients reach themselves, by addresses that let them do one thing for a while.
pub trait Direct {
    /// An address to put an original at.
    ///
    /// # Errors
    /// [`StoreError`].
    fn invite(&self) -> Result<Invitation, StoreError>;

    /// Opens what was put there by the name of its invitation; `None`: nothing was, or that is no such name.
    fn collect(&self, invited: &str) -> Pending<'_, Option<Box<dyn Object>>>;

    /// Removes what was put there.
    fn discard(&self, invited: &str) -> Pending<'_, ()>;

    /// An address to get an output from, which is answered with these fields.
    fn link(&self, key: &Key, media_type: &str, disposition: &str) -> String;
}

/// Leave to put an original into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// What to name afterwards: 128 bits that nobody can guess, as 32 hexadecimal digits.
    pub name: String,
    /// Where to put it, with `PUT`.
    pub url: String,
    /// How long.
    pub holds: Duration,
}

/// An object on its way in. Dropped unpublished, it leaves nothing but what the sweep removes.
pub trait Upload {
    /// Appends bytes.
    fn write(&mut self, bytes: Frame) -> Pending<'_, ()>;

    /// Bytes so far.
    fn len(&self) -> u64;

    /// Whether nothing came yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes it durable and gives it its name. An object of that key stays, and counts as newly wanted.
    fn publish(self: Box<Self>, key: Key) -> Pending<'static, Put>;

    /// Gives it up and removes what was written.
    fn abandon(self: Box<Self>) -> Pending<'static, ()>;
}

/// An object that is being read.
pub trait Object {
    /// What is known of it.
    fn meta(&self) -> Meta;

    /// What will be read from now on, in order: a store that is far away fetches so much at once. Reading else is allowed.
    fn announce(&self, _range: Range<u64>) {}

    /// Reads up to `want` bytes at `offset`, appended to `memory`, which comes back; fewer only at the object's end.
    fn read_at(&self, memory: Vec<u8>, want: usize, offset: u64) -> Pending<'_, Vec<u8>>;
}

impl StoreError {
    /// What the system said when this was done to that.
    pub(crate) fn of(error: &io::Error, doing: &str, what: &dyn fmt::Display) -> StoreError {
        // EFBIG is a limit on file sizes (RLIMIT_FSIZE), EDQUOT a quota: room that is not ours, all the same.
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full(format!("{doing} {what}: no room: {error}. Free space, or point data_dir elsewhere."))
            }
            _ => StoreError::Io(format!("{doing} {what}: {error}")),
        }
    }
}
