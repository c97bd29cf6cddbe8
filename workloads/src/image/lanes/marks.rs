//! Files of watermarks on their way to the workers, which have no way to any file.
//!
//! ```text
//!   configuration ─► read once at the start, header looked at ─► sealed memory file ─► a descriptor in every worker's Setup
//!                    digest: in recipes that ask for it            └─ decoded there, behind the walls, before its first task
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::child::{memory_file, seal};
use crate::image::fault::Fault;
use crate::image::header::{self, Header, Limits, Progress};
use crate::image::pipeline::Watch;
use crate::image::pipeline::watermark::{Mark, Marks};

/// Watermarks of a service. More are refused at the start.
pub const MARKS_MAX: usize = 16;
/// Bytes of a watermark's file. Larger ones are refused at the start.
pub const BYTES_MAX: u64 = 8 << 20;
/// Pixels of all watermarks together, which every worker holds in four bytes each. More are refused at the start.
pub const PIXELS_MAX: u64 = 8 << 20;
/// Bytes of the digest that recipes carry, as twice as many letters.
const DIGEST_BYTES: usize = 16;

const _: () = assert!(MARKS_MAX <= super::wire::OUTPUTS_MAX);

/// What a worker is told of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkHead {
    /// What recipes call it.
    pub name: String,
    /// What tells it from another file of that name.
    pub digest: String,
    /// Bytes.
    pub len: u64,
    /// What its head says.
    pub header: Header,
}

impl MarkHead {
    /// The bytes of its file.
    ///
    /// # Errors
    /// As reading.
    pub fn read(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// A sentence.
    pub fn decode(&self, bytes: &[u8]) -> Result<Mark, String> {
        let mark = Mark::decode(&self.name, &self.digest, bytes, &self.header, &Unhurried);
        mark.map_err(|fault| format!("the watermark \"{}\" cannot be used: {}", self.name, fault.detail))
    }
}

/// Files of watermarks, held in memory.
#[derive(Debug, Default)]
pub struct MarkFiles(Vec<(MarkHead, File)>);

impl MarkFiles {
    /// Reads them, by name and path.
    ///
    /// # Errors
    /// A sentence: which one cannot be read, or is no image.
    pub fn read(paths: &[(String, PathBuf)]) -> Result<MarkFiles, String> {
        let one = |(name, path): &(String, PathBuf)| {
            read(name, path).map_err(|why| format!("the watermark \"{name}\", {}: {why}", path.display()))
        };
        let marks = MarkFiles(paths.iter().map(one).collect::<Result<_, _>>()?);
        let pixels: u64 = marks.heads().map(|head| head.header.pixels()).sum();
        if pixels > PIXELS_MAX {
            return Err(format!("{pixels} pixels in all watermarks; at most {PIXELS_MAX} are held. Make them smaller"));
        }
        Ok(marks)
    }

    /// What is told of them.
    pub fn heads(&self) -> impl Iterator<Item = &MarkHead> {
        self.0.iter().map(|(head, _)| head)
    }

    /// Their descriptors, in the same order.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|(_, file)| file.as_fd()).collect()
    }

    /// Decodes all in this process, for those who have no others.
    ///
    /// # Errors
    /// A sentence.
    pub fn decode(&self) -> Result<Marks, String> {
        let one = |(head, file): &(MarkHead, File)| {
            let bytes = head.read(file).map_err(|error| format!("the watermark \"{}\": {error}", head.name))?;
            head.decode(&bytes)
        };
        Ok(Marks::new(self.0.iter().map(one).collect::<Result<_, String>>()?))
    }
}

fn read(name: &str, path: &Path) -> Result<(MarkHead, File), String> {
    let io = |error: io::Error| format!("{error}. Name a PNG, WebP, AVIF or GIF that this user may read");
    let len = std::fs::metadata(path).map_err(io)?.len();
    if len > BYTES_MAX {
        return Err(format!("it has {len} bytes; at most {BYTES_MAX} are read"));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let header = match header::read(&bytes, Some(bytes.len() as u64), &Limits::DEFAULT).map_err(|fault| fault.detail)? {
        Progress::Header(header) => header,
        Progress::NeedMore { .. } => return Err("it ends within its header".to_owned()),
    };
    let digest = crate::hex::encode(&digest(&SHA256, &bytes).as_ref()[..DIGEST_BYTES]);
    let file = memory_file().and_then(|file| {
        file.write_all_at(&bytes, 0)?;
        seal(&file)?;
        Ok(file)
    });
    let file = file.map_err(|error| format!("a memory file: {error}"))?;
    Ok((MarkHead { name: name.to_owned(), digest, len: bytes.len() as u64, header }, file))
}

/// Ends nothing: a watermark is small.
struct Unhurried;

impl Watch for Unhurried {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}
