//! Programs and libraries as files: where they can be read, and the tables in them by which stacks are unwound.
//!
//! A file is opened when it is first seen mapped, and kept open: after the process is gone, or the file deleted, it can
//! still be read. Whether it is the file that was mapped is told by its inode.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::elf::PF_X;
use object::{CompressionFormat, Object, ObjectSection, ObjectSegment, ObjectSymbol, ReadCache, ReadRef, SegmentFlags};

use crate::events::Mapped;
use crate::frame::MODULES_MAX;
use crate::target;

/// The vDSO's size at most: it is two pages today.
const VDSO_BYTES_MAX: u64 = 1 << 20;

/// A part of a file that is mapped executable as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    offset: u64,
    bytes: u64,
    address: u64,
}

/// The bytes of a section, and the addresses that they stand for in the file.
pub type Section = (Range<u64>, Arc<[u8]>);

/// What unwinding needs of a file.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// `.eh_frame`: a rule for every instruction.
    pub eh_frame: Option<Section>,
    /// `.eh_frame_hdr`: its index.
    pub eh_frame_hdr: Option<Section>,
    /// `.debug_frame`: the same rules where only debuggers are meant to find them.
    pub debug_frame: Option<Section>,
    /// Where the code is.
    pub text: Option<Range<u64>>,
    /// Where the global offset table is.
    pub got: Option<Range<u64>>,
}

/// What is behind a mapping.
#[derive(Debug)]
pub enum Source {
    /// A file, open.
    File(PathBuf, File),
    /// A file that can no longer be read.
    Missing,
    /// The kernel's code in every process, with the functions that it exports.
    Vdso(Vec<(Range<u64>, String)>),
    /// Memory without a file: code that the process itself made.
    Memory(i32),
}

/// A program, a library, or a piece of memory with code.
#[derive(Debug)]
pub struct Module {
    /// The file's name without its folder, or a name in brackets.
    pub name: String,
    /// Where it can be read.
    pub source: Source,
    /// Whether it has a full symbol table.
    pub has_symbols: bool,
    /// Its parts.
    pub segments: Vec<Segment>,
    /// By what it is unwound.
    pub tables: Tables,
}

impl Module {
    /// What has to be added to an address in the file to have the address of a mapping that begins at this offset.
    pub fn bias(&self, mapped: &Mapped) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            let page = target::page_bytes();
            let (first, end) = (segment.offset / page * page, segment.offset + segment.bytes);
            (first..end).contains(&mapped.offset)
        })?;
        let address = segment.address.wrapping_sub(segment.offset).wrapping_add(mapped.offset);
        Some(mapped.start.wrapping_sub(address))
    }

    /// The address in the file of what is at an offset of it.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let holds = |segment: &&Segment| (segment.offset..segment.offset + segment.bytes).contains(&offset);
        let segment = self.segments.iter().find(holds)?;
        Some(segment.address.wrapping_sub(segment.offset).wrapping_add(offset))
    }

    /// The offset in the file of what is at an address of it.
    pub fn offset(&self, address: u64) -> Option<u64> {
        let holds = |segment: &&Segment| (segment.address..segment.address + segment.bytes).contains(&address);
        let segment = self.segments.iter().find(holds)?;
        Some(address - segment.address + segment.offset)
    }

    fn of_file(name: String, path: PathBuf, file: File) -> Module {
        let cache = ReadCache::new(&file);
        let (segments, tables, has_symbols) = read(&cache).unwrap_or_default();
        Module { name, source: Source::File(path, file), has_symbols, segments, tables }
    }

    fn vdso() -> Module {
        let image = vdso_image().unwrap_or_default();
        let (segments, tables, _) = read(&image[..]).unwrap_or_default();
        let mut functions = Vec::new();
        if let Ok(file) = object::File::parse(&image[..]) {
            for symbol in file.dynamic_symbols().filter(|symbol| symbol.size() > 0) {
                let name = symbol.name().unwrap_or_default().to_owned();
                functions.push((symbol.address()..symbol.address() + symbol.size(), name));
            }
        }
        Module { name: "[vdso]".into(), source: Source::Vdso(functions), has_symbols: true, segments, tables }
    }

    fn nameless(name: String, source: Source) -> Module {
        Module { name, source, has_symbols: false, segments: Vec::new(), tables: Tables::default() }
    }
}

/// All modules that were seen, each once, by number.
#[derive(Debug, Default)]
pub struct Modules {
    numbers: HashMap<(u64, PathBuf, i32), u16>,
    modules: Vec<Arc<Module>>,
}

impl Modules {
    /// The number of what is mapped there in a process; none when there are too many.
    pub fn number(&mut self, pid: i32, mapped: &Mapped) -> Option<u16> {
        let is_memory = is_memory(&mapped.path);
        // Memory belongs to one process; a file is the same in all.
        let key = (mapped.inode, if is_memory { PathBuf::new() } else { mapped.path.clone() }, is_memory as i32 * pid);
        if let Some(&number) = self.numbers.get(&key) {
            return Some(number);
        }
        if self.modules.len() == MODULES_MAX {
            return None;
        }
        let number = self.modules.len() as u16;
        self.modules.push(Arc::new(open(pid, mapped, is_memory)));
        self.numbers.insert(key, number);
        Some(number)
    }

    /// A module by its number.
    ///
    /// # Panics
    /// If the number is not one of these modules'.
    pub fn get(&self, number: u16) -> &Module {
        &self.modules[usize::from(number)]
    }

    /// All of them, by their numbers.
    pub fn all(&self) -> &[Arc<Module>] {
        &self.modules
    }
}

fn is_memory(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.is_empty() || text.starts_with("//anon") || (text.starts_with('[') && text != "[vdso]")
}

fn open(pid: i32, mapped: &Mapped, is_memory: bool) -> Module {
    if is_memory {
        return Module::nameless("[anonymous code]".into(), Source::Memory(pid));
    }
    if mapped.path == Path::new("[vdso]") {
        return Module::vdso();
    }
    let shown = mapped.path.to_string_lossy().replace(" (deleted)", "");
    let plain = PathBuf::from(&shown);
    let name = plain.file_name().map_or(shown.clone(), |name| name.to_string_lossy().into_owned());
    // As the process sees it, as we see it, as the kernel holds it. The last needs a capability, and a living process.
    let candidates = [
        PathBuf::from(format!("/proc/{pid}/root{shown}")),
        plain.clone(),
        PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", mapped.start, mapped.end)),
        PathBuf::from(format!("/proc/{pid}/exe")),
    ];
    for candidate in candidates {
        let Ok(file) = File::open(&candidate) else { continue };
        if file.metadata().is_ok_and(|metadata| metadata.ino() == mapped.inode && metadata.is_file()) {
            return Module::of_file(name, plain, file);
        }
    }
    Module::nameless(name, Source::Missing)
}

/// Parts, unwind tables, and whether there is a symbol table. None for what is no ELF file.
fn read<'data, R: ReadRef<'data>>(data: R) -> Option<(Vec<Segment>, Tables, bool)> {
    let file = object::File::parse(data).ok()?;
    // Others may begin or end on the same pages of the file, at other addresses.
    let executable = file.segments().filter(|segment| match segment.flags() {
        SegmentFlags::Elf { p_flags, .. } => p_flags.contains(PF_X),
        _ => false,
    });
    let segments = executable.map(|segment| {
        let (offset, bytes) = segment.file_range();
        Segment { offset, bytes, address: segment.address() }
    });
    let segments = segments.collect();
    let range = |name: &str| {
        let section = file.section_by_name(name)?;
        Some(section.address()..section.address().checked_add(section.size())?)
    };
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        let is_plain = section.compressed_file_range().is_ok_and(|range| range.format == CompressionFormat::None);
        let bytes = section.data().ok().filter(|bytes| is_plain && !bytes.is_empty())?;
        Some((range(name)?, Arc::from(bytes)))
    };
    let mut tables = Tables {
        eh_frame: section(".eh_frame"),
        eh_frame_hdr: section(".eh_frame_hdr"),
        text: range(".text"),
        got: range(".got"),
        debug_frame: None,
    };
    if tables.eh_frame.is_none() {
        tables.debug_frame = section(".debug_frame");
    }
    let has_symbols = file.section_by_name(".symtab").is_some() || file.section_by_name(".debug_info").is_some();
    Some((segments, tables, has_symbols))
}

/// The vDSO is the same in every 64-bit process: our own is read.
fn vdso_image() -> Option<Vec<u8>> {
    let own = i32::try_from(std::process::id()).ok()?;
    let maps = target::maps(own).ok()?;
    let vdso = maps.iter().find(|mapped| mapped.path == Path::new("[vdso]"))?;
    let bytes = (vdso.end - vdso.start).min(VDSO_BYTES_MAX);
    let mut image = vec![0; usize::try_from(bytes).ok()?];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut image, vdso.start).ok()?;
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        std::process::id() as i32
    }

    #[test]
    fn our_own_program_has_tables_and_symbols_and_is_known_once() {
        let mut modules = Modules::default();
        let program = std::env::current_exe().unwrap();
        let maps = target::maps(own()).unwrap();
        let mapped = maps.iter().find(|mapped| mapped.path == program).unwrap();
        let number = modules.number(own(), mapped).unwrap();
        assert_eq!(modules.number(own(), mapped), Some(number));
        let module = modules.get(number);
        assert!(module.tables.eh_frame.is_some() && module.tables.text.is_some() && module.has_symbols);
        assert!(module.bias(mapped).is_some_and(|bias| bias <= mapped.start), "{module:?}");
    }

    #[test]
    fn another_file_of_the_same_name_is_not_taken_for_the_mapped_one() {
        let mut modules = Modules::default();
        let program = std::env::current_exe().unwrap();
        let mapped = Mapped { start: 0x1000, end: 0x2000, offset: 0, inode: 1, path: program };
        let number = modules.number(i32::MAX, &mapped).unwrap();
        assert!(matches!(modules.get(number).source, Source::Missing));
    }

    #[test]
    fn the_vdso_is_read_from_memory() {
        let Source::Vdso(functions) = Module::vdso().source else { panic!("another source") };
        assert!(functions.iter().any(|(_, name)| name.contains("gettime")), "{functions:?}");
    }
}
