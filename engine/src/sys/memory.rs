//! Memory obtained from the kernel page by page, shared between us and it by turns.
//!
//! The promise: a [`Mapping`] lives as long as anyone can reach it, never moves, and its bytes are always
//! initialised (the kernel zeroes fresh pages), so a slice of it is always valid to read.

use std::io;
use std::ptr::NonNull;

/// An anonymous private mapping.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` zeroed bytes, aligned to a page.
    pub fn anonymous(len: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { base, len })
    }

    /// The address of byte `offset`.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "offset outside the mapping");
        // SAFETY: `offset` is within the mapping, as just asserted.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Bytes that nobody writes meanwhile: the caller holds the only right to this range (see `buffers.rs`).
    pub fn slice(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset + len <= self.len, "range outside the mapping");
        // SAFETY: inside the mapping and initialised; a lease is the only holder of its range, and the kernel
        // lets go of a buffer before its lease is made.
        unsafe { std::slice::from_raw_parts(self.at(offset), len) }
    }

    /// As [`Mapping::slice`], for writing. The caller's `&mut Lease` is what makes it unique.
    #[allow(clippy::mut_from_ref)]
    pub fn slice_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset + len <= self.len, "range outside the mapping");
        // SAFETY: as in `slice`; the `&mut` of the one lease excludes every other reader and writer.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), len) }
    }

    /// Lets the kernel take these pages back; they read as zeros afterwards.
    pub fn discard(&self, offset: usize, len: usize) {
        assert!(offset + len <= self.len, "range outside the mapping");
        // SAFETY: the range is ours and free, so nobody reads or writes it; a failure changes nothing.
        unsafe { libc::madvise(self.at(offset).cast(), len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are the mapping's own, and nothing can reach it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A file's memory that another process of ours sees too, by turns: a message says whose turn it is.
#[derive(Debug)]
pub struct Shared {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory at a fixed address, only read here.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps the first `len` bytes of a memory file for reading. It must be sealed against shrinking: a mapped byte that is
    /// cut off is a fatal fault.
    ///
    /// # Errors
    /// As `mmap(2)`; `InvalidInput` for a file that is shorter, or could become so.
    pub fn map(file: &std::fs::File, len: usize) -> io::Result<Shared> {
        use std::os::fd::AsRawFd;
        // SAFETY: asks about a descriptor that `file` keeps open.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 || file.metadata()?.len() < len as u64 || len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a memory file sealed against shrinking"));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing of ours.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Shared { base, len })
    }

    /// Bytes that the other side does not write now: it is our turn. `None` outside the mapping.
    pub fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset` is within the mapping, as just checked.
        let start = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: inside the mapping, which the seal keeps whole; the other process is ours and writes in its turn.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are the mapping's own, and nothing can reach it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
