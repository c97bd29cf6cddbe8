//! The object store on one machine: a directory.
//!
//! ```text
//!   data/objects/3/f0/3f0c…e1.jpeg      by the first digits of the key; all folders are made once, at the first start
//!   data/temporary/9a…4c                on its way in: written, fdatasync'ed, then linked to its name
//!   data/trash/3f0c…e1.jpeg             on its way out
//! ```
//!
//! A name appears by `link(2)`, which is atomic and replaces nothing, so a name always has all of its bytes; then the
//! folder is synced, so that it keeps it. Objects are opened beneath the directory, never through a link.
//!
//! A sweep must not take an object that is just wanted again. So whoever finds an object there makes it young: an upload
//! renames its own copy over it, an output is touched. And the sweep moves an old object to the trash first, looks at its
//! age again, and puts it back when it has become young.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use annulus_engine::Shard;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::shelf::DirectoryShelf;
use super::{BEGINNING, Each, Key, Meta, Objects, Put, Shelf, StoreError, Suffix, Swept, Wanted};
use crate::durable::make_directory;
use crate::hex;
use crate::image::job::random;

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;
/// Keys that a sweep asks about at once.
const ASK_MAX: usize = 256;
/// Digits of a key that name its outer folder, and its inner one: 4096 folders in all.
const OUTER: usize = 1;
const INNER: usize = 2;

/// Where everything is, for threads and shards alike.
#[derive(Clone, Debug)]
pub(super) struct Places {
    root: PathBuf,
}

impl Places {
    pub(super) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    fn temporaries(&self) -> PathBuf {
        self.root.join("temporary")
    }

    fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// The object's path beneath [`Places::objects`].
    pub(super) fn beneath(key: &Key) -> PathBuf {
        let name = key.to_string();
        Path::new(&name[..OUTER]).join(&name[OUTER..OUTER + INNER]).join(&name)
    }

    pub(super) fn object(&self, key: &Key) -> PathBuf {
        self.objects().join(Places::beneath(key))
    }

    /// A path for what has no name yet.
    pub(super) fn temporary(&self) -> Result<PathBuf, StoreError> {
        let mut name = [0; 16];
        random(&mut name).map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(self.temporaries().join(hex::encode(&name)))
    }
}

/// The folder that a path lies in; every path here has one.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// See the module's description.
pub struct Directory {
    places: Places,
    objects: OwnedFd,
}

impl Directory {
    /// Opens or makes the store in `root`.
    ///
    /// # Errors
    /// [`StoreError`] with a sentence, when the directory cannot be made or used.
    pub fn open(root: &Path) -> Result<Directory, StoreError> {
        let places = Places { root: root.to_owned() };
        let fault = |error: io::Error| StoreError::of(&error, "preparing the store in", &root.display());
        prepare(&places).map_err(fault)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let objects = rustix::fs::open(places.objects(), flags, Mode::empty()).map_err(|error| fault(error.into()))?;
        Ok(Directory { places, objects })
    }

    fn beneath(&self, key: &Key) -> Result<File, StoreError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match openat2(&self.objects, Places::beneath(key), flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(File::from(fd)),
            Err(rustix::io::Errno::NOENT) => Err(StoreError::Missing(*key)),
            Err(error) => Err(StoreError::of(&error.into(), "opening", key)),
        }
    }

    /// Gives what was written its name, or makes young what has it.
    fn name(&self, temporary: &Path, len: u64, key: &Key) -> io::Result<Put> {
        let path = self.places.object(key);
        loop {
            match fs::hard_link(temporary, &path) {
                Ok(()) => return Ok(Put::Created(len)),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
            }
            match touch(&path) {
                Ok(Some(len)) => return Ok(Put::Existed(len)),
                // A sweep took it meanwhile: the name is free.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&self, temporary: &Path, from: &mut dyn Read, key: &Key) -> io::Result<Put> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut len = 0;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    file.write_all(&buffer[..read])?;
                    len += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        file.sync_data()?;
        let put = self.name(temporary, len, key)?;
        // Also where it existed: whoever made it may not have come to this line yet.
        sync_folder(folder(&self.places.object(key)))?;
        Ok(put)
    }
}

/// Makes an object young; `None` when it is no longer at its path afterwards, else its length.
fn touch(path: &Path) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    file.set_modified(SystemTime::now())?;
    let here = file.metadata()?;
    let there = fs::symlink_metadata(path)?;
    Ok((here.ino() == there.ino()).then_some(here.len()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes all folders, once and durably, so that nobody has to make or sync any later.
fn prepare(places: &Places) -> io::Result<()> {
    let layout = places.root.join("layout");
    match fs::read_to_string(&layout) {
        Ok(text) if text == "1\n" => return Ok(()),
        Ok(text) => {
            let text = text.trim();
            return Err(io::Error::other(format!(
                "its layout is {text:?}, this annulus knows 1; it was made by a newer one"
            )));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    make_directory(&places.root)?;
    make(&places.temporaries())?;
    make(&places.trash())?;
    make(&places.objects())?;
    for outer in 0..1 << (4 * OUTER) {
        let outer = places.objects().join(format!("{outer:0OUTER$x}"));
        make(&outer)?;
        for inner in 0..1 << (4 * INNER) {
            make(&outer.join(format!("{inner:0INNER$x}")))?;
        }
        sync_folder(&outer)?;
    }
    sync_folder(&places.objects())?;
    let mut file = File::create(&layout)?;
    file.write_all(b"1\n")?;
    file.sync_all()?;
    sync_folder(&places.root)
}

/// Only for our own user: originals are private.
fn make(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

impl Objects for Directory {
    fn put(&self, key: &Key, from: &mut dyn Read) -> Result<Put, StoreError> {
        let temporary = self.places.temporary()?;
        let put = self.write(&temporary, from, key);
        // What is left when this fails is swept later.
        let _removed = fs::remove_file(&temporary);
        put.map_err(|error| StoreError::of(&error, "storing", key))
    }

    fn open(&self, key: &Key) -> Result<(File, u64), StoreError> {
        let file = self.beneath(key)?;
        let len = file.metadata().map_err(|error| StoreError::of(&error, "opening", key))?.len();
        Ok((file, len))
    }

    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let (file, len) = self.open(key)?;
        let (start, end) = (range.start.min(len), range.end.min(len));
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        file.read_exact_at(&mut bytes, start).map_err(|error| StoreError::of(&error, "reading", key))?;
        Ok(bytes)
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StoreError> {
        let file = match self.beneath(key) {
            Err(StoreError::Missing(_)) => return Ok(None),
            opened => opened?,
        };
        meta(&file.metadata().map_err(|error| StoreError::of(&error, "looking at", key))?)
            .map(Some)
            .map_err(|error| StoreError::of(&error, "looking at", key))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match fs::remove_file(self.places.object(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::of(&error, "removing", key)),
            _ => Ok(()),
        }
    }

    fn list(&self, each: Each<'_>) -> Result<(), StoreError> {
        let mut ended = None;
        let listed = walk(&self.places, &mut |key, meta| {
            each(key, meta).map_err(|error| io::Error::other(ended.insert(error).to_string()))
        });
        match (ended, listed) {
            (Some(error), _) => Err(error),
            (None, listed) => {
                listed.map_err(|error| StoreError::of(&error, "listing", &self.places.objects().display()))
            }
        }
    }

    fn list_of(&self, beginning: &[u8; BEGINNING], each: Each<'_>) -> Result<(), StoreError> {
        let fault = |error: io::Error| StoreError::of(&error, "listing", &self.places.objects().display());
        let mut name = [0; 32];
        name[..BEGINNING].copy_from_slice(beginning);
        let path = self.places.object(&Key { name, suffix: Suffix::Original });
        for entry in fs::read_dir(folder(&path)).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let Some(key) = key_of(&entry).filter(|key| key.name.starts_with(beginning)) else { continue };
            let Some(metadata) = if_there(entry.metadata()).map_err(fault)? else { continue };
            each(key, meta(&metadata).map_err(fault)?)?;
        }
        Ok(())
    }

    fn sweep(&self, age: Duration, wanted: Wanted<'_>) -> Result<Swept, StoreError> {
        let mut sweep = Sweep { places: &self.places, age, swept: Swept::default() };
        let done = sweep.run(wanted);
        done.map_err(|error| StoreError::of(&error, "sweeping", &self.places.root.display()))?;
        Ok(sweep.swept)
    }

    fn free_bytes(&self) -> Option<u64> {
        let room = rustix::fs::fstatvfs(&self.objects).ok()?;
        Some(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn on_shard(&self, shard: &Shard) -> Rc<dyn Shelf> {
        Rc::new(DirectoryShelf::new(shard.clone(), self.places.clone()))
    }
}

fn meta(metadata: &fs::Metadata) -> io::Result<Meta> {
    Ok(Meta { len: metadata.len(), modified: metadata.modified()? })
}

/// What is gone by the time it is looked at is no error: others work here too.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key that a file is named by; foreign files have none, and are left alone.
fn key_of(entry: &DirEntry) -> Option<Key> {
    entry.file_name().to_str()?.parse().ok()
}

fn walk(places: &Places, each: &mut dyn FnMut(Key, Meta) -> io::Result<()>) -> io::Result<()> {
    for outer in fs::read_dir(places.objects())? {
        for inner in fs::read_dir(outer?.path())? {
            for entry in fs::read_dir(inner?.path())? {
                let entry = entry?;
                let (Some(key), Some(metadata)) = (key_of(&entry), if_there(entry.metadata())?) else { continue };
                each(key, meta(&metadata)?)?;
            }
        }
    }
    Ok(())
}

struct Sweep<'a> {
    places: &'a Places,
    age: Duration,
    swept: Swept,
}

impl Sweep<'_> {
    fn run(&mut self, wanted: Wanted<'_>) -> io::Result<()> {
        self.empty_trash()?;
        self.sweep_temporaries()?;
        let mut old = Vec::with_capacity(ASK_MAX);
        walk(self.places, &mut |key, meta| {
            if self.is_old(meta.modified) {
                old.push(key);
            }
            if old.len() == ASK_MAX {
                self.remove_unwanted(&mut old, &mut *wanted)?;
            }
            Ok(())
        })?;
        self.remove_unwanted(&mut old, wanted)
    }

    /// A moment in the future is a clock that was set back: not old.
    fn is_old(&self, modified: SystemTime) -> bool {
        modified.elapsed().is_ok_and(|age| age > self.age)
    }

    /// A sweep that ended half way left objects here of which nobody knows whether they were wanted: they go back.
    fn empty_trash(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.places.trash())? {
            let entry = entry?;
            if let Some(key) = key_of(&entry) {
                self.put_back(&entry.path(), &key)?;
            }
        }
        Ok(())
    }

    fn sweep_temporaries(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(self.places.temporaries())? {
            let entry = entry?;
            let Some(metadata) = if_there(entry.metadata())? else { continue };
            if self.is_old(metadata.modified()?) && if_there(fs::remove_file(entry.path()))?.is_some() {
                self.swept.temporaries += 1;
                self.swept.bytes += metadata.len();
            }
        }
        Ok(())
    }

    fn remove_unwanted(&mut self, old: &mut Vec<Key>, wanted: Wanted<'_>) -> io::Result<()> {
        let answers = wanted(old).map_err(io::Error::other)?;
        for (key, wanted) in old.drain(..).zip(answers) {
            if !wanted {
                self.remove(&key)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> io::Result<()> {
        let trash = self.places.trash().join(key.to_string());
        if if_there(fs::rename(self.places.object(key), &trash))?.is_none() {
            return Ok(());
        }
        let metadata = fs::metadata(&trash)?;
        if !self.is_old(metadata.modified()?) {
            return self.put_back(&trash, key);
        }
        fs::remove_file(&trash)?;
        self.swept.orphans += 1;
        self.swept.bytes += metadata.len();
        Ok(())
    }

    fn put_back(&self, trash: &Path, key: &Key) -> io::Result<()> {
        let path = self.places.object(key);
        match fs::hard_link(trash, &path) {
            // Another of that name came meanwhile, and is as good.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
        sync_folder(folder(&path))?;
        fs::remove_file(trash)
    }
}
