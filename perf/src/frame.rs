//! One level of a stack, in eight bytes: which module, and where in its file.
//!
//! Addresses are translated as soon as a sample comes, because a mapping may be gone later; names are looked up at the
//! end, because most frames are seen often.
//!
//! ```text
//! 63        48 47                                   0
//! ┌───────────┬─────────────────────────────────────┐
//! │  module   │  offset in the file                 │
//! │  0xffff   │  low bits of a kernel address       │
//! │  0xfffe   │  number of a mark                   │
//! └───────────┴─────────────────────────────────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;

const OFFSET_BITS: u32 = 48;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const KERNEL: u64 = 0xffff;
const MARK: u64 = 0xfffe;
/// Modules at most; what is mapped beyond is unknown.
pub const MODULES_MAX: usize = 0xfff0;

/// One level of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame(u64);

/// What is no address, and stands at the outer end of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The stack goes on beyond what was copied of it.
    Truncated,
    /// The callers could not be found: unwind tables are missing or wrong.
    Incomplete,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the kernel, at an address.
    Kernel(u64),
    /// In a module, at an offset of its file.
    Module(u16, u64),
    /// Nowhere.
    Mark(Mark),
}

impl Frame {
    /// A frame in the kernel.
    pub fn kernel(address: u64) -> Frame {
        Frame(KERNEL << OFFSET_BITS | address & OFFSET_MASK)
    }

    /// A frame in a module.
    pub fn module(module: u16, offset: u64) -> Frame {
        Frame(u64::from(module) << OFFSET_BITS | offset & OFFSET_MASK)
    }

    /// A mark.
    pub fn mark(mark: Mark) -> Frame {
        Frame(MARK << OFFSET_BITS | mark as u64)
    }

    /// Where it is.
    pub fn place(self) -> Place {
        let offset = self.0 & OFFSET_MASK;
        match self.0 >> OFFSET_BITS {
            // Kernel addresses are in the upper half: their high bits are ones.
            KERNEL => Place::Kernel(offset | !OFFSET_MASK),
            MARK if offset == Mark::Truncated as u64 => Place::Mark(Mark::Truncated),
            MARK => Place::Mark(Mark::Incomplete),
            module => Place::Module(module as u16, offset),
        }
    }
}

/// Stacks, each kept once and known by its number.
#[derive(Debug, Default)]
pub struct Stacks {
    numbers: HashMap<Arc<[Frame]>, u32>,
    stacks: Vec<Arc<[Frame]>>,
    frames: usize,
}

impl Stacks {
    /// The number of a stack, innermost frame first.
    pub fn number(&mut self, stack: &[Frame]) -> u32 {
        if let Some(&number) = self.numbers.get(stack) {
            return number;
        }
        let number = u32::try_from(self.stacks.len()).expect("memory ends before four thousand million stacks");
        let stack: Arc<[Frame]> = stack.into();
        self.frames += stack.len();
        self.numbers.insert(stack.clone(), number);
        self.stacks.push(stack);
        number
    }

    /// A stack by its number.
    ///
    /// # Panics
    /// If the number is not one of these stacks'.
    pub fn get(&self, number: u32) -> &Arc<[Frame]> {
        &self.stacks[number as usize]
    }

    /// Frames in all stacks, which is what their memory goes by.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Distinct stacks.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_keeps_its_place() {
        assert_eq!(Frame::kernel(0xffff_ffff_8100_0010).place(), Place::Kernel(0xffff_ffff_8100_0010));
        assert_eq!(Frame::module(7, 0x1234).place(), Place::Module(7, 0x1234));
        assert_eq!(Frame::mark(Mark::Truncated).place(), Place::Mark(Mark::Truncated));
        assert_eq!(Frame::mark(Mark::Incomplete).place(), Place::Mark(Mark::Incomplete));
    }

    #[test]
    fn equal_stacks_have_one_number() {
        let mut stacks = Stacks::default();
        let (a, b) = ([Frame::module(1, 2)], [Frame::module(1, 2), Frame::module(1, 3)]);
        assert_eq!((stacks.number(&a), stacks.number(&b), stacks.number(&a)), (0, 1, 0));
        assert_eq!((stacks.len(), stacks.frames(), &stacks.get(1)[..]), (2, 3, &b[..]));
    }
}
