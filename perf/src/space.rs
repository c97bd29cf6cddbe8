//! Address spaces: what is mapped where in each process, and stacks unwound by it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use framehop::{CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Unwinder};
use framehop::{UnwindRegsNative, UnwinderNative};

use crate::events::{Mapped, Registers, Sample};
use crate::frame::{Frame, Mark};
use crate::module::{Module, Modules, Source};
use crate::target;

/// Frames of one stack at most, kernel and program together; the outer ones beyond are cut off and marked so.
pub const FRAMES_MAX: usize = 512;
/// Addresses are read from the stack in words.
const WORD_BYTES: usize = 8;

type Tables = UnwinderNative<Arc<[u8]>, MayAllocateDuringUnwind>;

/// One process's mappings.
#[derive(Clone, Default)]
struct Space {
    mappings: BTreeMap<u64, Mapping>,
    unwinder: Tables,
}

#[derive(Clone, Copy)]
struct Mapping {
    end: u64,
    /// What has to be added to an address, wrapping, to have the offset in the module.
    shift: u64,
    module: u16,
}

impl Space {
    fn add(&mut self, mapped: &Mapped, number: u16, module: &Module) {
        self.remove(mapped.start, mapped.end);
        // Code without a file has no offsets: its addresses stand for themselves.
        let shift = match module.source {
            Source::Memory(_) => 0,
            _ => mapped.offset.wrapping_sub(mapped.start),
        };
        self.mappings.insert(mapped.start, Mapping { end: mapped.end, shift, module: number });
        let Some(bias) = module.bias(mapped) else { return };
        let tables = module.tables.clone();
        let (eh_frame_svma, eh_frame) = tables.eh_frame.unzip();
        let (eh_frame_hdr_svma, eh_frame_hdr) = tables.eh_frame_hdr.unzip();
        let sections = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: tables.text,
            got_svma: tables.got,
            eh_frame_svma,
            eh_frame,
            eh_frame_hdr_svma,
            eh_frame_hdr,
            debug_frame: tables.debug_frame.map(|(_, bytes)| bytes),
            ..Default::default()
        };
        let range = mapped.start..mapped.end;
        self.unwinder.add_module(framehop::Module::new(module.name.clone(), range, bias, sections));
    }

    /// Forgets what was mapped in a range: the new mapping took its place.
    fn remove(&mut self, start: u64, end: u64) {
        let overlap = |(&first, mapping): (&u64, &Mapping)| (first < end && mapping.end > start).then_some(first);
        let before = self.mappings.range(..start).next_back().and_then(overlap);
        let within: Vec<u64> = self.mappings.range(start..end).map(|(&first, _)| first).collect();
        for first in before.into_iter().chain(within) {
            self.mappings.remove(&first);
            self.unwinder.remove_module(first);
        }
    }

    fn frame(&self, address: u64) -> Option<Frame> {
        let (_, mapping) = self.mappings.range(..=address).next_back()?;
        (address < mapping.end).then(|| Frame::module(mapping.module, address.wrapping_add(mapping.shift)))
    }
}

/// All processes' mappings.
pub struct Spaces {
    modules: Modules,
    spaces: HashMap<i32, Space>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

impl Default for Spaces {
    fn default() -> Spaces {
        Spaces { modules: Modules::default(), spaces: HashMap::new(), cache: CacheNative::new() }
    }
}

impl Spaces {
    /// Reads what is mapped in a process now. One that is gone has nothing.
    pub fn read(&mut self, pid: i32) {
        let mut space = Space::default();
        for mapped in target::maps(pid).unwrap_or_default() {
            if let Some(number) = self.modules.number(pid, &mapped) {
                space.add(&mapped, number, self.modules.get(number));
            }
        }
        self.spaces.insert(pid, space);
    }

    /// Something was mapped.
    pub fn add(&mut self, pid: i32, mapped: &Mapped) {
        if let Some(number) = self.modules.number(pid, mapped) {
            self.spaces.entry(pid).or_default().add(mapped, number, self.modules.get(number));
        }
    }

    /// A process was begun as a copy of another.
    pub fn copy(&mut self, parent: i32, child: i32) {
        if let Some(space) = self.spaces.get(&parent).cloned() {
            self.spaces.insert(child, space);
        }
    }

    /// A process loaded another program.
    pub fn clear(&mut self, pid: i32) {
        self.spaces.insert(pid, Space::default());
    }

    /// What the frames are in.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// A sample's stack, innermost frame first, into `stack`. A mark at its outer end says what is missing there.
    pub fn unwind(&mut self, pid: i32, sample: &Sample, stack: &mut Vec<Frame>) {
        stack.clear();
        if !self.spaces.contains_key(&pid) {
            self.read(pid);
        }
        for (at, &address) in sample.kernel.iter().take(FRAMES_MAX).enumerate() {
            stack.push(Frame::kernel(if at == 0 { address } else { address - 1 }));
        }
        let space = self.spaces.get(&pid).expect("it was read above");
        let mark = match sample.registers {
            Some(registers) => by_tables(space, &mut self.cache, registers, sample, stack),
            None => by_frame_pointers(space, &sample.user, stack),
        };
        stack.extend(mark.map(Frame::mark));
    }
}

/// As the kernel found them.
fn by_frame_pointers(space: &Space, addresses: &[u64], stack: &mut Vec<Frame>) -> Option<Mark> {
    for (at, &address) in addresses.iter().enumerate() {
        if stack.len() >= FRAMES_MAX {
            return Some(Mark::Truncated);
        }
        let inside = if at == 0 { address } else { address.wrapping_sub(1) };
        // What was in the frame register of code that has none.
        let Some(frame) = space.frame(inside) else { return Some(Mark::Incomplete) };
        stack.push(frame);
    }
    None
}

/// By the unwind tables of what is mapped, on the copy of the stack.
fn by_tables(
    space: &Space,
    cache: &mut CacheNative<MayAllocateDuringUnwind>,
    registers: Registers,
    sample: &Sample,
    stack: &mut Vec<Frame>,
) -> Option<Mark> {
    let bytes = &sample.stack;
    let mut beyond = false;
    let mut read = |address: u64| {
        let at = address.checked_sub(registers.sp).and_then(|at| usize::try_from(at).ok()).ok_or(())?;
        let word = at.checked_add(WORD_BYTES).and_then(|end| bytes.get(at..end));
        beyond |= word.is_none() && at + WORD_BYTES > bytes.len();
        Ok(u64::from_le_bytes(word.ok_or(())?.try_into().map_err(|_| ())?))
    };
    let mut frames = space.unwinder.iter_frames(registers.ip, unwind_registers(registers), cache, &mut read);
    let mark = loop {
        let address = match frames.next() {
            Ok(Some(address)) => address,
            Ok(None) => break None,
            Err(_) => break Some(Mark::Incomplete),
        };
        if stack.len() >= FRAMES_MAX {
            break Some(Mark::Truncated);
        }
        match space.frame(FrameAddress::address_for_lookup(address)) {
            Some(frame) => stack.push(frame),
            None => break Some(Mark::Incomplete),
        }
    };
    match mark {
        Some(_) if beyond && sample.is_cut_off => Some(Mark::Truncated),
        mark => mark,
    }
}

#[cfg(target_arch = "x86_64")]
fn unwind_registers(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.ip, registers.sp, registers.fp)
}

#[cfg(target_arch = "aarch64")]
fn unwind_registers(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.lr, registers.sp, registers.fp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(start: u64, end: u64, inode: u64) -> Mapped {
        Mapped { start, end, offset: 0x100, inode, path: format!("/nowhere/{inode}").into() }
    }

    #[test]
    fn an_address_is_found_in_what_was_mapped_last() {
        let mut spaces = Spaces::default();
        spaces.add(1, &mapped(0x1000, 0x3000, 7));
        spaces.add(1, &mapped(0x2000, 0x4000, 8));
        let space = &spaces.spaces[&1];
        assert_eq!(space.frame(0x1800), None, "the first one was replaced");
        assert_eq!(space.frame(0x2010), Some(Frame::module(1, 0x110)));
        assert_eq!(space.frame(0x4000), None);
        spaces.copy(1, 2);
        spaces.clear(1);
        assert_eq!(spaces.spaces[&1].frame(0x2010), None);
        assert_eq!(spaces.spaces[&2].frame(0x2010), Some(Frame::module(1, 0x110)));
    }

    #[test]
    fn addresses_that_are_nowhere_are_marked_and_not_shown() {
        let mut spaces = Spaces::default();
        spaces.add(1, &mapped(0x1000, 0x3000, 7));
        let sample = Sample { kernel: vec![1 << 63], user: vec![0x1000, 0x1011, 0x9000], ..Sample::default() };
        let mut stack = Vec::new();
        spaces.unwind(1, &sample, &mut stack);
        let frames = [Frame::module(0, 0x100), Frame::module(0, 0x110), Frame::mark(Mark::Incomplete)];
        assert_eq!(stack[1..], frames);
    }

    #[test]
    fn a_stack_without_end_is_cut_off() {
        let mut spaces = Spaces::default();
        spaces.add(1, &mapped(0x1000, 0x3000, 7));
        let mut stack = Vec::new();
        spaces.unwind(1, &Sample { user: vec![0x1500; 2 * FRAMES_MAX], ..Sample::default() }, &mut stack);
        assert_eq!((stack.len(), stack.last()), (FRAMES_MAX + 1, Some(&Frame::mark(Mark::Truncated))));
    }
}
