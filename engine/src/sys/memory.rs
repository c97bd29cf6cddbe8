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
