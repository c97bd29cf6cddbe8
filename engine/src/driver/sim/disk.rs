//! A simulated file system: what was written is readable at once, and durable only once it was synced.
//!
//! A power cut keeps what is durable and, of the rest, some: writes to a file survive each on their own, cut at
//! sectors; changes of names survive in order, up to some point. A failed sync forgets what it should have made
//! durable, as Linux does: syncing again succeeds without having written it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Random;
use crate::driver::{Batch, Errno};

const SECTOR: usize = 512;

/// A path, as bytes.
pub(super) type Path = Vec<u8>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
}

/// What an open descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    File(usize),
    Directory(Path),
}

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// Not yet synced.
enum Change {
    Write(usize, Vec<u8>),
    Truncate,
}

enum NameChange {
    Put(Path, Node),
    Remove(Path),
    Rename(Path, Path),
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<Path, Node>,
    durable: BTreeMap<Path, Node>,
    pending: Vec<NameChange>,
}

fn write_at(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    data.resize(data.len().max(offset + bytes.len()), 0);
    data[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(at) => &path[..at],
        None => b".",
    }
}

fn apply(names: &mut BTreeMap<Path, Node>, change: &NameChange) {
    match change {
        NameChange::Put(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

impl NameChange {
    fn directory(&self) -> &[u8] {
        match self {
            NameChange::Put(path, _) | NameChange::Remove(path) | NameChange::Rename(_, path) => parent(path),
        }
    }
}

impl Disk {
    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path == b"/" || path == b"." || self.names.get(path) == Some(&Node::Directory)
    }

    pub(super) fn open(&mut self, path: &[u8], flags: i32) -> Result<Opened, Errno> {
        if self.is_directory(path) {
            return match flags & libc::O_ACCMODE == libc::O_RDONLY {
                true => Ok(Opened::Directory(path.to_vec())),
                false => Err(Errno(libc::EISDIR)),
            };
        }
        if flags & libc::O_DIRECTORY != 0 {
            return Err(Errno(if self.names.contains_key(path) { libc::ENOTDIR } else { libc::ENOENT }));
        }
        if !self.is_directory(parent(path)) {
            return Err(Errno(libc::ENOENT));
        }
        match self.names.get(path) {
            Some(_) if flags & libc::O_EXCL != 0 => Err(Errno(libc::EEXIST)),
            Some(Node::File(inode)) => {
                let inode = *inode;
                if flags & libc::O_TRUNC != 0 {
                    self.inodes[inode].data.clear();
                    self.inodes[inode].pending.push(Change::Truncate);
                }
                Ok(Opened::File(inode))
            }
            _ if flags & libc::O_CREAT == 0 => Err(Errno(libc::ENOENT)),
            _ => {
                self.inodes.push(Inode::default());
                let inode = self.inodes.len() - 1;
                self.change(NameChange::Put(path.to_vec(), Node::File(inode)));
                Ok(Opened::File(inode))
            }
        }
    }

    /// Appends up to `want` bytes to `memory`; how many.
    pub(super) fn read(&self, inode: usize, memory: &mut Vec<u8>, want: usize, offset: u64) -> usize {
        let data = &self.inodes[inode].data;
        let start = (offset as usize).min(data.len());
        let end = (start + want).min(data.len());
        memory.extend_from_slice(&data[start..end]);
        end - start
    }

    /// Writes the first `most` bytes of the batch.
    pub(super) fn write(&mut self, inode: usize, batch: &Batch, most: usize, offset: u64) {
        let mut bytes = Vec::with_capacity(batch.len().min(most));
        for frame in batch.frames() {
            bytes.extend_from_slice(&frame[..frame.len().min(most - bytes.len())]);
        }
        let inode = &mut self.inodes[inode];
        write_at(&mut inode.data, offset as usize, &bytes);
        inode.pending.push(Change::Write(offset as usize, bytes));
    }

    pub(super) fn sync(&mut self, opened: &Opened) {
        match opened {
            Opened::File(inode) => {
                let Inode { durable, pending, .. } = &mut self.inodes[*inode];
                for change in pending.drain(..) {
                    match change {
                        Change::Write(offset, bytes) => write_at(durable, offset, &bytes),
                        Change::Truncate => durable.clear(),
                    }
                }
            }
            Opened::Directory(path) => {
                let durable = &mut self.durable;
                self.pending.retain(|change| {
                    let here = change.directory() == path;
                    if here {
                        apply(durable, change);
                    }
                    !here
                });
            }
        }
    }

    /// A sync that failed.
    pub(super) fn forget(&mut self, opened: &Opened) {
        if let Opened::File(inode) = opened {
            self.inodes[*inode].pending.clear();
        }
    }

    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        if !self.names.contains_key(from) || !self.is_directory(parent(to)) {
            return Err(Errno(libc::ENOENT));
        }
        self.change(NameChange::Rename(from.to_vec(), to.to_vec()));
        Ok(())
    }

    pub(super) fn link(&mut self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let Some(node @ Node::File(_)) = self.names.get(from).copied() else { return Err(Errno(libc::ENOENT)) };
        if !self.is_directory(parent(to)) {
            return Err(Errno(libc::ENOENT));
        }
        if self.names.contains_key(to) {
            return Err(Errno(libc::EEXIST));
        }
        self.change(NameChange::Put(to.to_vec(), node));
        Ok(())
    }

    /// Bytes of an open file.
    pub(super) fn len(&self, inode: usize) -> usize {
        self.inodes[inode].data.len()
    }

    pub(super) fn unlink(&mut self, path: &[u8]) -> Result<(), Errno> {
        match self.names.get(path) {
            None => Err(Errno(libc::ENOENT)),
            Some(Node::Directory) => Err(Errno(libc::EISDIR)),
            Some(Node::File(_)) => {
                self.change(NameChange::Remove(path.to_vec()));
                Ok(())
            }
        }
    }

    pub(super) fn make_directory(&mut self, path: &[u8]) -> Result<(), Errno> {
        let missing = !self.is_directory(parent(path));
        match self.names.entry(path.to_vec()) {
            _ if missing => Err(Errno(libc::ENOENT)),
            Entry::Occupied(_) => Err(Errno(libc::EEXIST)),
            Entry::Vacant(_) => {
                self.change(NameChange::Put(path.to_vec(), Node::Directory));
                Ok(())
            }
        }
    }

    /// All files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.names.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_slice(), self.inodes[*inode].data.as_slice())),
            Node::Directory => None,
        })
    }

    /// Puts a file there, with the directories that it is in. All of it is durable.
    pub(super) fn put(&mut self, path: Path, bytes: Vec<u8>) {
        let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let directories: Vec<Path> = ends.map(|end| path[..end].to_vec()).collect();
        self.inodes.push(Inode { data: bytes.clone(), durable: bytes, pending: Vec::new() });
        let file = (path, Node::File(self.inodes.len() - 1));
        for (path, node) in directories.into_iter().map(|path| (path, Node::Directory)).chain([file]) {
            self.durable.insert(path.clone(), node);
            self.names.insert(path, node);
        }
    }

    /// The bytes of a file, if it is there.
    pub(super) fn content(&self, path: &[u8]) -> Option<&[u8]> {
        match self.names.get(path)? {
            Node::File(inode) => Some(&self.inodes[*inode].data),
            Node::Directory => None,
        }
    }

    /// The power goes and comes back.
    pub(super) fn power_cut(&mut self, random: &mut Random) {
        let survive = random.below(self.pending.len() + 1);
        self.pending.drain(..).take(survive).for_each(|change| apply(&mut self.durable, &change));
        self.names = self.durable.clone();
        for inode in &mut self.inodes {
            for change in std::mem::take(&mut inode.pending) {
                match change {
                    _ if random.hit(500) => {}
                    Change::Truncate => inode.durable.clear(),
                    Change::Write(offset, bytes) => {
                        // A crash tears a write at a sector's border of the disk, not of the write.
                        let first = SECTOR - offset % SECTOR;
                        let cut = first + SECTOR * random.below(bytes.len() / SECTOR + 2);
                        write_at(&mut inode.durable, offset, &bytes[..cut.min(bytes.len())]);
                    }
                }
            }
            inode.data = inode.durable.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    const CREATE: i32 = libc::O_RDWR | libc::O_CREAT;

    fn inode(opened: &Opened) -> usize {
        match opened {
            Opened::File(inode) => *inode,
            Opened::Directory(_) => panic!("not a file"),
        }
    }

    fn write(disk: &mut Disk, file: &Opened, text: &[u8], offset: u64) {
        disk.write(inode(file), &Batch::One(Frame::owned(text.to_vec())), text.len(), offset);
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..50 {
            let mut disk = Disk::default();
            let file = disk.open(b"/log", CREATE).unwrap();
            write(&mut disk, &file, b"safe", 0);
            disk.sync(&file);
            disk.sync(&Opened::Directory(b"/".to_vec()));
            write(&mut disk, &file, b"maybe", 4);
            disk.power_cut(&mut Random::new(seed));
            match disk.content(b"/log").expect("its directory was synced") {
                b"safe" => lost += 1,
                b"safemaybe" => kept += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(kept > 0 && lost > 0);
    }

    #[test]
    fn a_failed_sync_forgets_what_it_should_have_kept() {
        let mut disk = Disk::default();
        let file = disk.open(b"/log", CREATE).unwrap();
        disk.sync(&Opened::Directory(b"/".to_vec()));
        write(&mut disk, &file, b"gone", 0);
        disk.forget(&file);
        disk.sync(&file);
        assert_eq!(disk.content(b"/log"), Some(&b"gone"[..]));
        disk.power_cut(&mut Random::new(1));
        assert_eq!(disk.content(b"/log"), Some(&b""[..]));
    }

    #[test]
    fn names_follow_the_rules_of_the_system_calls() {
        let mut disk = Disk::default();
        assert_eq!(disk.open(b"/a", libc::O_RDONLY), Err(Errno(libc::ENOENT)));
        assert_eq!(disk.open(b"/d/a", CREATE), Err(Errno(libc::ENOENT)));
        disk.make_directory(b"/d").unwrap();
        assert_eq!(disk.make_directory(b"/d"), Err(Errno(libc::EEXIST)));
        let file = disk.open(b"/d/a", CREATE).unwrap();
        write(&mut disk, &file, b"text", 0);
        assert_eq!(disk.open(b"/d/a", CREATE | libc::O_EXCL), Err(Errno(libc::EEXIST)));
        assert_eq!(disk.open(b"/d/a", libc::O_RDONLY | libc::O_DIRECTORY), Err(Errno(libc::ENOTDIR)));
        disk.rename(b"/d/a", b"/b").unwrap();
        assert_eq!(disk.content(b"/b"), Some(&b"text"[..]));
        assert_eq!(disk.rename(b"/d/a", b"/b"), Err(Errno(libc::ENOENT)));
        assert_eq!(disk.unlink(b"/d"), Err(Errno(libc::EISDIR)));
        disk.link(b"/b", b"/d/c").unwrap();
        assert_eq!(disk.link(b"/b", b"/d/c"), Err(Errno(libc::EEXIST)));
        assert_eq!(disk.link(b"/no", b"/d/e"), Err(Errno(libc::ENOENT)));
        disk.unlink(b"/b").unwrap();
        assert_eq!(disk.content(b"/b"), None);
        assert_eq!(disk.content(b"/d/c"), Some(&b"text"[..]));
        let mut memory = Vec::new();
        assert_eq!(disk.read(inode(&file), &mut memory, 3, 1), 3);
        assert_eq!(memory, b"ext");
    }
}
