//! Names of functions for frames: from symbol tables, debug information, the kernel's list, and what a compiler at run
//! time left behind.
//!
//! Debug information takes a hundred megabytes where names take one, and what a program has freed mostly stays with it.
//! So a long-lived program has a [`Helper`] read it: another process, which ends.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source as From};
use blazesym::symbolize::{Input, Sym, Symbolized, Symbolizer};

use crate::frame::{Frame, Mark, Place};
use crate::module::{Module, Source};

/// A list of functions that a compiler left behind is read up to this size.
const PERF_MAP_BYTES_MAX: u64 = 64 << 20;
/// What is known of a frame in the kernel, where its names may not be seen.
const KERNEL_UNKNOWN: &str = "[kernel]";
/// What a helper is asked for: names out of a file, or of the kernel.
const FILE_WORD: &str = "file";
const KERNEL_WORD: &str = "kernel";
/// How a frame in the kernel ends, so that tools colour it.
pub const KERNEL_SUFFIX: &str = "_[k]";

/// The functions at one frame, outermost first: more than one where functions were inlined.
pub type Functions = Arc<[String]>;

/// Another process that looks up names, so that its memory does not become ours: this very program, started for each module
/// with the words by which it finds [`help`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    words: Vec<OsString>,
}

impl Helper {
    /// With these words before its own.
    pub fn new(words: impl IntoIterator<Item = OsString>) -> Helper {
        Helper { words: words.into_iter().collect() }
    }

    /// Names for places, in their order. None if anything goes wrong.
    fn ask<const N: usize>(&self, what: [OsString; N], places: &[u64]) -> Option<Vec<Vec<String>>> {
        let mut command = Command::new("/proc/self/exe");
        command.args(&self.words).args(what).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let request: String = places.iter().map(|place| format!("{place:x}\n")).collect();
        // It reads everything before it writes, so neither waits for the other. Dropped, the pipe says that this is all.
        let sent = child.stdin.take()?.write_all(request.as_bytes());
        let output = child.wait_with_output().ok()?;
        (sent.is_ok() && output.status.success()).then_some(())?;
        let text = String::from_utf8(output.stdout).ok()?;
        let names: Vec<Vec<String>> = text.lines().map(read_line).collect();
        (names.len() == places.len()).then_some(names)
    }
}

/// The helper's side: reads places from standard input, and writes a line of names for each. Whether it could.
pub fn help(words: &[String]) -> bool {
    let Ok(request) = std::io::read_to_string(std::io::stdin()) else { return false };
    let places: Option<Vec<u64>> = request.lines().map(|line| u64::from_str_radix(line, 16).ok()).collect();
    let names = match (places, words) {
        (Some(places), [what]) if what == KERNEL_WORD => of_running_kernel(&places),
        (Some(places), [what, path]) if what == FILE_WORD => of_file(Path::new(path), &places),
        _ => None,
    };
    let Some(names) = names else { return false };
    let text: String = names.iter().map(|functions| functions.join("\t") + "\n").collect();
    std::io::stdout().write_all(text.as_bytes()).is_ok()
}

fn read_line(line: &str) -> Vec<String> {
    line.split('\t').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Names for frames.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<Frame, Functions>,
    /// Frames of modules that have no name for them.
    unnamed: HashMap<Frame, u16>,
}

impl Names {
    /// Looks up names for all frames that have none here yet. `modules` are those that the frames are in, by number.
    /// Without a helper, or if it fails, this process does it itself.
    pub fn look_up(&mut self, modules: &[Arc<Module>], frames: impl Iterator<Item = Frame>, helper: Option<&Helper>) {
        let mut by_module: BTreeMap<u16, Vec<(Frame, u64)>> = BTreeMap::new();
        let mut kernel = Vec::new();
        for frame in frames {
            if self.names.contains_key(&frame) {
                continue;
            }
            match frame.place() {
                Place::Kernel(address) => kernel.push((frame, address)),
                Place::Module(module, offset) => by_module.entry(module).or_default().push((frame, offset)),
                Place::Mark(Mark::Truncated) => self.keep(frame, vec!["[truncated]".into()]),
                Place::Mark(Mark::Incomplete) => self.keep(frame, vec!["[incomplete]".into()]),
            }
            // Taken once, however often it comes; the right names follow below.
            self.names.entry(frame).or_insert_with(|| Arc::from([]));
        }
        for (number, frames) in by_module {
            let module = &modules[usize::from(number)];
            let offsets: Vec<u64> = frames.iter().map(|&(_, offset)| offset).collect();
            let found = of_module(module, &offsets, helper);
            for ((frame, _), functions) in frames.into_iter().zip(found) {
                if functions.is_empty() {
                    self.unnamed.insert(frame, number);
                }
                let unknown =
                    || if module.name.starts_with('[') { module.name.clone() } else { format!("[{}]", module.name) };
                self.keep(frame, if functions.is_empty() { vec![unknown()] } else { functions });
            }
        }
        let addresses: Vec<u64> = kernel.iter().map(|&(_, address)| address).collect();
        for ((frame, _), mut functions) in kernel.into_iter().zip(of_kernel(&addresses, helper)) {
            if functions.is_empty() {
                functions.push(KERNEL_UNKNOWN.into());
            }
            self.keep(frame, functions.into_iter().map(|name| name + KERNEL_SUFFIX).collect());
        }
    }

    fn keep(&mut self, frame: Frame, functions: Vec<String>) {
        self.names.insert(frame, functions.into());
    }

    /// The functions at a frame, outermost first. Empty if it was not looked up.
    pub fn of(&self, frame: Frame) -> &[String] {
        self.names.get(&frame).map_or(&[], |functions| functions)
    }

    /// The functions of a stack, outermost first. Neighbours that are all the same unknown of a module count as one.
    pub fn functions<'a>(&'a self, stack: &'a [Frame]) -> impl Iterator<Item = &'a str> {
        let mut unknown = None;
        stack.iter().rev().flat_map(move |&frame| {
            let before = std::mem::replace(&mut unknown, self.unnamed(frame));
            let is_again = before.is_some() && before == unknown;
            let functions = if is_again { &[] } else { self.of(frame) };
            functions.iter().map(String::as_str)
        })
    }

    /// The module that has no name for a frame.
    pub fn unnamed(&self, frame: Frame) -> Option<u16> {
        self.unnamed.get(&frame).copied()
    }

    /// Frames that have names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no frame has.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Names for offsets in a module; an empty list for each that has none.
fn of_module(module: &Module, offsets: &[u64], helper: Option<&Helper>) -> Vec<Vec<String>> {
    let none = || vec![Vec::new(); offsets.len()];
    match &module.source {
        Source::Missing => none(),
        Source::File(path, file) => {
            // Under its own name, separate debug files beside it are found; by its descriptor, it is found in any case.
            let inode = |path: &PathBuf| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
            let open = file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
            let held = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
            let path = if open.is_some() && inode(path) == open { path.clone() } else { held };
            let asked = helper.and_then(|helper| helper.ask([FILE_WORD.into(), path.clone().into()], offsets));
            asked.or_else(|| of_file(&path, offsets)).unwrap_or_else(none)
        }
        Source::Vdso(functions) => {
            let address = |offset: u64| module.address(offset);
            offsets
                .iter()
                .map(|&offset| address(offset).and_then(|at| within(functions, at)).into_iter().collect())
                .collect()
        }
        Source::Memory(pid) => match perf_map(*pid) {
            Some(functions) => offsets.iter().map(|&at| within(&functions, at).into_iter().collect()).collect(),
            None => none(),
        },
    }
}

fn of_kernel(addresses: &[u64], helper: Option<&Helper>) -> Vec<Vec<String>> {
    let none = || vec![Vec::new(); addresses.len()];
    if addresses.is_empty() || !kernel_names_are_shown() {
        return none();
    }
    let asked = helper.and_then(|helper| helper.ask([KERNEL_WORD.into()], addresses));
    asked.or_else(|| of_running_kernel(addresses)).unwrap_or_else(none)
}

fn of_running_kernel(addresses: &[u64]) -> Option<Vec<Vec<String>>> {
    // Without looking for the kernel's debug information: its size is a gigabyte, and what it adds is inlined functions.
    let kernel = Kernel { vmlinux: MaybeDefault::None, debug_syms: false, ..Kernel::default() };
    of_source(&kernel.into(), Input::AbsAddr(addresses))
}

/// Whether the kernel's list of functions has their addresses: to those who may not see them it shows zeros.
pub fn kernel_names_are_shown() -> bool {
    let first = fs::File::open("/proc/kallsyms").and_then(|file| {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(file), &mut line).map(|_| line)
    });
    first.is_ok_and(|line| line.split(' ').next().is_some_and(|address| address.bytes().any(|digit| digit != b'0')))
}

fn of_source(source: &From<'_>, input: Input<&[u64]>) -> Option<Vec<Vec<String>>> {
    let symbolizer = Symbolizer::builder().enable_code_info(true).enable_inlined_fns(true).build();
    let found = symbolizer.symbolize(source, input).ok()?;
    Some(found.into_iter().map(|symbolized| functions(&symbolized)).collect())
}

/// Names out of a file. A function's own name is taken from the symbol table where there is one, because it has the path
/// there; functions that were inlined into it are known to the debug information only.
fn of_file(path: &Path, offsets: &[u64]) -> Option<Vec<Vec<String>>> {
    let mut elf = Elf::new(path);
    let full = of_source(&elf.clone().into(), Input::FileOffset(offsets));
    elf.debug_syms = false;
    let (Some(mut full), Some(plain)) = (full, of_source(&elf.into(), Input::FileOffset(offsets))) else { return None };
    for (functions, mut plain) in full.iter_mut().zip(plain) {
        match (functions.first_mut(), plain.pop()) {
            (Some(outer), Some(name)) => *outer = name,
            (None, Some(name)) => functions.push(name),
            (_, None) => {}
        }
    }
    Some(full)
}

fn functions(symbolized: &Symbolized<'_>) -> Vec<String> {
    let Symbolized::Sym(Sym { name, inlined, .. }) = symbolized else { return Vec::new() };
    let inner = inlined.iter().map(|function| function.name.to_string());
    std::iter::once(name.to_string()).chain(inner).collect()
}

fn within(functions: &[(Range<u64>, String)], at: u64) -> Option<String> {
    functions.iter().find(|(range, _)| range.contains(&at)).map(|(_, name)| name.clone())
}

/// The functions that a compiler at run time, such as Node's with `--perf-basic-prof`, says it made.
fn perf_map(pid: i32) -> Option<Vec<(Range<u64>, String)>> {
    let path = format!("/tmp/perf-{pid}.map");
    (fs::metadata(&path).ok()?.len() <= PERF_MAP_BYTES_MAX).then_some(())?;
    Some(String::from_utf8_lossy(&fs::read(&path).ok()?).lines().filter_map(perf_map_line).collect())
}

fn perf_map_line(line: &str) -> Option<(Range<u64>, String)> {
    let mut words = line.splitn(3, ' ');
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let bytes = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((start..start.checked_add(bytes)?, words.next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Modules;
    use crate::target;

    #[test]
    fn a_function_of_ours_has_its_name() {
        let own = std::process::id() as i32;
        let mut modules = Modules::default();
        let program = std::env::current_exe().unwrap();
        let maps = target::maps(own).unwrap();
        let mapped = maps.iter().find(|mapped| mapped.path == program).unwrap();
        let number = modules.number(own, mapped).unwrap();
        let address = target::maps as fn(i32) -> _ as *const () as u64;
        let frame = Frame::module(number, address - mapped.start + mapped.offset);
        let nowhere = Frame::module(number, 1 << 40);
        let mut names = Names::default();
        let mark = Frame::mark(Mark::Truncated);
        names.look_up(modules.all(), [frame, frame, nowhere, mark].into_iter(), None);
        assert_eq!(names.functions(&[frame, nowhere, nowhere, mark]).count(), 3, "two unknowns are shown as one");
        assert!(names.of(frame)[0].contains("annulus_perf::target::maps"), "{:?}", names.of(frame));
        assert_eq!(names.of(mark), ["[truncated]"]);
        assert_eq!((names.unnamed(frame), names.unnamed(nowhere)), (None, Some(number)));
        assert!(names.of(nowhere)[0].starts_with('['), "{:?}", names.of(nowhere));
    }

    #[test]
    fn lists_of_compilers_are_read() {
        assert_eq!(perf_map_line("10 f LazyCompile:~a b.js:1"), Some((0x10..0x1f, "LazyCompile:~a b.js:1".into())));
        assert_eq!(perf_map_line("x"), None);
        assert_eq!(perf_map_line("ffffffffffffffff 2 a"), None);
    }
}
