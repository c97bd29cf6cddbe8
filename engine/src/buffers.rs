//! The shard's receive buffers: one mapping cut into equal pieces, and the leases that hand them out.
//!
//! ```text
//!   free (last in, first out: the warm ones) ──publish──► kernel ──completion──► Lease ──drop──► free
//! ```
//!
//! Invariant: `free + published + leased == count`. A buffer is in exactly one of the three places, so whoever
//! has it has it alone. The kernel's ring hands buffers out first in, first out, so how many are *published*
//! decides how much cache they cost; that is the driver's to choose.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::sys::memory::Mapping;

/// Bytes in one receive buffer. A frame of a few KiB fits; a page is what the kernel charges anyway.
pub const BUFFER_BYTES: usize = 4096;

/// Most buffers a pool may have: the kernel's buffer rings number them with 15 bits.
pub const BUFFERS_MAX: usize = 32768;

/// Equal buffers of [`BUFFER_BYTES`], owned by one shard.
#[derive(Debug)]
pub struct BufferPool {
    memory: Mapping,
    count: usize,
    free: RefCell<Vec<u16>>,
    published: Cell<usize>,
    /// Bytes copied out because buffers were scarce.
    copied: Cell<u64>,
}

impl BufferPool {
    /// Maps `count` buffers. Untouched ones cost address space only.
    ///
    /// # Errors
    /// `mmap(2)`'s.
    ///
    /// # Panics
    /// When `count` is 0 or over [`BUFFERS_MAX`].
    pub fn new(count: usize) -> std::io::Result<Rc<BufferPool>> {
        assert!((1..=BUFFERS_MAX).contains(&count), "a pool has 1 to {BUFFERS_MAX} buffers");
        let memory = Mapping::anonymous(count * BUFFER_BYTES)?;
        let free = RefCell::new((0..count as u16).rev().collect());
        Ok(Rc::new(BufferPool { memory, count, free, published: Cell::new(0), copied: Cell::new(0) }))
    }

    /// Buffers in all.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Buffers at rest, the most recently used on top.
    pub fn free(&self) -> usize {
        self.free.borrow().len()
    }

    /// Buffers that the kernel may fill.
    pub fn published(&self) -> usize {
        self.published.get()
    }

    /// Buffers whose bytes someone is reading.
    pub fn leased(&self) -> usize {
        self.count - self.free() - self.published()
    }

    /// Bytes copied out of leases by [`Lease::into_held`] so far.
    pub fn bytes_copied(&self) -> u64 {
        self.copied.get()
    }

    /// Takes a free buffer out for filling here and now, as the drivers do that copy the bytes themselves.
    pub fn take(self: &Rc<Self>) -> Option<Lease> {
        let id = self.free.borrow_mut().pop()?;
        Some(Lease { pool: self.clone(), id, start: 0, len: BUFFER_BYTES as u16 })
    }

    /// Moves a free buffer to the kernel; its number and address.
    pub(crate) fn publish(&self) -> Option<(u16, *mut u8)> {
        let id = self.free.borrow_mut().pop()?;
        self.published.set(self.published.get() + 1);
        Some((id, self.memory.at(id as usize * BUFFER_BYTES)))
    }

    /// The kernel filled `len` bytes of buffer `id` and let go of it.
    pub(crate) fn filled(self: &Rc<Self>, id: u16, len: usize) -> Lease {
        debug_assert!((id as usize) < self.count && len <= BUFFER_BYTES);
        self.published.set(self.published.get() - 1);
        Lease { pool: self.clone(), id, start: 0, len: len.min(BUFFER_BYTES) as u16 }
    }

    /// Tells the kernel that the pages of all free buffers may go; they come back as zeros when next touched.
    pub(crate) fn release_free_pages(&self) {
        for &id in self.free.borrow().iter() {
            self.memory.discard(id as usize * BUFFER_BYTES, BUFFER_BYTES);
        }
    }
}

/// Received bytes, in place. Dropping it gives the buffer back to the pool.
pub struct Lease {
    pool: Rc<BufferPool>,
    id: u16,
    start: u16,
    len: u16,
}

impl Lease {
    /// Forgets the first `bytes`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.len as usize, "advance past the end of a lease");
        self.start += bytes as u16;
        self.len -= bytes as u16;
    }

    /// For whoever wants to hold the bytes for as long as a peer pleases: the lease itself while at least a quarter
    /// of the pool is at hand, else a copy. So peers that do not read cannot take all buffers away from the others.
    ///
    /// # Errors
    /// The copy.
    pub fn into_held(self) -> Result<Lease, Vec<u8>> {
        let pool = &self.pool;
        let at_hand = pool.free() + pool.published();
        if at_hand > 0 && at_hand * 4 >= pool.count() {
            return Ok(self);
        }
        pool.copied.set(pool.copied.get() + self.len() as u64);
        Err(self.to_vec())
    }

    /// Keeps only the first `bytes`.
    pub fn truncate(&mut self, bytes: usize) {
        self.len = self.len.min(bytes.min(BUFFER_BYTES) as u16);
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pool.memory.slice(self.id as usize * BUFFER_BYTES + self.start as usize, self.len as usize)
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pool.memory.slice_mut(self.id as usize * BUFFER_BYTES + self.start as usize, self.len as usize)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        {
            // A reader that kept a pointer past the lease finds this instead of plausible bytes.
            self.len = BUFFER_BYTES as u16 - self.start;
            self.fill(0xDB);
        }
        self.pool.free.borrow_mut().push(self.id);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease(#{}, {} bytes)", self.id, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_in_exactly_one_place() {
        let pool = BufferPool::new(4).unwrap();
        let (id, _) = pool.publish().unwrap();
        let lease = pool.take().unwrap();
        assert_eq!((pool.free(), pool.published(), pool.leased()), (2, 1, 1));
        let filled = pool.filled(id, 10);
        assert_eq!((pool.free(), pool.published(), pool.leased()), (2, 0, 2));
        assert_eq!(filled.len(), 10);
        drop((lease, filled));
        assert_eq!((pool.free(), pool.published(), pool.leased()), (4, 0, 0));
    }

    #[test]
    fn the_last_buffer_returned_is_the_next_one_used() {
        let pool = BufferPool::new(4).unwrap();
        let mut lease = pool.take().unwrap();
        lease[0] = 7;
        let id = lease.id;
        drop(lease);
        assert_eq!(pool.take().unwrap().id, id);
    }

    #[test]
    fn the_last_buffers_are_copied_instead_of_held() {
        let pool = BufferPool::new(4).unwrap();
        let held: Vec<_> = (0..3).map(|_| pool.take().unwrap().into_held().unwrap()).collect();
        let mut last = pool.take().unwrap();
        last.truncate(3);
        last.copy_from_slice(b"abc");
        assert_eq!(last.into_held().unwrap_err(), b"abc");
        assert_eq!((pool.free(), pool.leased(), pool.bytes_copied()), (1, 3, 3));
        drop(held);
    }

    #[test]
    fn advance_and_truncate_narrow_the_view() {
        let pool = BufferPool::new(1).unwrap();
        let mut lease = pool.take().unwrap();
        lease[..4].copy_from_slice(b"abcd");
        lease.truncate(4);
        lease.advance(1);
        assert_eq!(&lease[..], b"bcd");
        lease.truncate(2);
        assert_eq!(&lease[..], b"bc");
        assert!(pool.take().is_none());
    }
}
