//! Our kernels: the tables that they read, checked against the arena that they work in.
//!
//! The promise: a launch touches only bytes of its arena, because every offset and size of its table was checked here,
//! and the kernels make addresses of nothing else. Each `repr(C)` struct is the twin of one in `image.cu`.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUmodule};

use super::Error;
use super::cuda::{Device, Stream, failed};

/// What `image.cu` was compiled to, for every card from Turing on; the driver finishes it for the card that is there.
const PTX: &str = include_str!("image.ptx");
/// Offsets and pitches are multiples of this: vector loads need 16, copies and the codecs like more.
pub(super) const ALIGNMENT: u64 = 256;
/// The kernel's limit of taps on each side.
const REACH_MAX: u32 = 21;
/// The largest sigma of [`Sharpen`], in pixels: beyond, its reach would be too long.
pub const SIGMA_MAX: f32 = 10.0;
/// Entries of a table: the grid's second axis.
pub(super) const ENTRIES_MAX: usize = 65_535;
/// Samples of a side, so that all arithmetic here stays far from overflow.
pub(super) const SIDE_MAX: u32 = 65_535;

/// Samples of one kind, one byte each, in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    pub(super) offset: u64,
    pub(super) pitch: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Plane {
    /// Samples of a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.pitch) * u64::from(self.height)
    }

    pub(super) fn check(&self, arena_len: u64) -> Result<(), Error> {
        let is_inside = self.offset.is_multiple_of(ALIGNMENT)
            && u64::from(self.pitch).is_multiple_of(ALIGNMENT)
            && self.width <= self.pitch
            && (1..=SIDE_MAX).contains(&self.width)
            && (1..=SIDE_MAX).contains(&self.height)
            && self.offset.checked_add(self.bytes()).is_some_and(|end| end <= arena_len);
        if is_inside { Ok(()) } else { Err(Error::Unsupported("a plane that is not of this arena".to_owned())) }
    }
}

/// A plane resampled by Lanczos3: what lies within a box of one, in another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resample {
    /// The source.
    pub from: Plane,
    /// The box's left edge, in samples of the source and their fractions.
    pub left: f64,
    /// Its upper edge.
    pub top: f64,
    /// Its width, above 0.
    pub width: f64,
    /// Its height, above 0.
    pub height: f64,
    /// The result.
    pub to: Plane,
}

/// Scratch of a [`Resample`], in bytes of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scratch {
    pub middle: u64,
    pub weights_x: u64,
    pub weights_y: u64,
}

impl Resample {
    /// Samples that one result is made of, at most, along and down.
    fn taps(&self) -> (u32, u32) {
        let taps = |len: f64, to: u32| (6.0 * (len / f64::from(to)).max(1.0)).ceil() as u32 + 2;
        (taps(self.width, self.to.width), taps(self.height, self.to.height))
    }

    /// The first column of the source that is needed, and how many; both multiples of 4, so that a thread takes four.
    fn columns(&self) -> (u32, u32) {
        let reach = 3.0 * (self.width / f64::from(self.to.width)).max(1.0) + 1.0;
        let first = (self.left - reach).floor().max(0.0) as u32 / 4 * 4;
        let end = ((self.left + self.width + reach).ceil() as u32).min(self.from.width);
        (first, (end.saturating_sub(first)).next_multiple_of(4).max(4))
    }

    /// Bytes of the three parts of its scratch.
    pub(super) fn scratch_bytes(&self) -> [u64; 3] {
        let floats = |count: u64| (count * 4).next_multiple_of(ALIGNMENT);
        let ((taps_x, taps_y), (_, columns)) = (self.taps(), self.columns());
        [
            floats(u64::from(columns) * u64::from(self.to.height)),
            floats(u64::from(taps_x) * u64::from(self.to.width)),
            floats(u64::from(taps_y) * u64::from(self.to.height)),
        ]
    }

    pub(super) fn check(&self, arena_len: u64) -> Result<(), Error> {
        self.from.check(arena_len)?;
        self.to.check(arena_len)?;
        // The last colour sample of an odd side stands for one pixel and for one that is not there: a box may stand over by
        // one step. The kernel leaves out what is not there.
        let inside = |start: f64, len: f64, from: u32, to: u32| {
            let (side, over) = (f64::from(from), len / f64::from(to) + 1e-6);
            len > 0.0 && start >= -over && start < side && start + len > 0.0 && start + len <= side + over
        };
        let is_inside = inside(self.left, self.width, self.from.width, self.to.width)
            && inside(self.top, self.height, self.from.height, self.to.height);
        if is_inside { Ok(()) } else { Err(Error::Unsupported("a box that is not inside its plane".to_owned())) }
    }

    pub(super) fn entry(&self, scratch: Scratch) -> ResampleEntry {
        let ((taps_x, taps_y), (first, columns)) = (self.taps(), self.columns());
        ResampleEntry {
            left: self.left,
            top: self.top,
            width: self.width,
            height: self.height,
            from: self.from.offset,
            middle: scratch.middle,
            to: self.to.offset,
            weights_x: scratch.weights_x,
            weights_y: scratch.weights_y,
            from_pitch: self.from.pitch,
            from_width: self.from.width,
            from_height: self.from.height,
            middle_pitch: columns,
            first,
            columns,
            to_pitch: self.to.pitch,
            to_width: self.to.width,
            to_height: self.to.height,
            taps_x,
            taps_y,
        }
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ResampleEntry {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    from: u64,
    middle: u64,
    to: u64,
    weights_x: u64,
    weights_y: u64,
    from_pitch: u32,
    from_width: u32,
    from_height: u32,
    middle_pitch: u32,
    first: u32,
    columns: u32,
    to_pitch: u32,
    to_width: u32,
    to_height: u32,
    taps_x: u32,
    taps_y: u32,
}

/// An unsharp mask on luma, with the curve of the processor's lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharpen {
    /// The source.
    pub from: Plane,
    /// The result: another plane of the same size.
    pub to: Plane,
    /// The Gaussian's, in samples: above 0, held to [`SIGMA_MAX`].
    pub sigma: f32,
}

impl Sharpen {
    pub(super) fn entry(&self, arena_len: u64) -> Result<SharpenEntry, Error> {
        self.from.check(arena_len)?;
        self.to.check(arena_len)?;
        if (self.from.width, self.from.height) != (self.to.width, self.to.height)
            || self.sigma.is_nan()
            || self.sigma <= 0.0
        {
            return Err(Error::Unsupported("a mask between planes of two sizes, or without a width".to_owned()));
        }
        let sigma = self.sigma.min(SIGMA_MAX);
        // As libvips: taps below a tenth of the middle one are left out.
        let tap = |x: u32| (-((x * x) as f32) / (2.0 * sigma * sigma)).exp();
        let reach = (1..=REACH_MAX).take_while(|&x| tap(x) >= 0.1).count() as u32;
        let (width, height) = (self.to.width, self.to.height);
        let (from_pitch, to_pitch) = (self.from.pitch, self.to.pitch);
        Ok(SharpenEntry {
            from: self.from.offset,
            to: self.to.offset,
            from_pitch,
            to_pitch,
            width,
            height,
            sigma,
            reach,
        })
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct SharpenEntry {
    from: u64,
    to: u64,
    from_pitch: u32,
    to_pitch: u32,
    width: u32,
    height: u32,
    sigma: f32,
    reach: u32,
}

/// A plane turned or mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The source.
    pub from: Plane,
    /// The result: of the same size, sides swapped where the turn swaps them.
    pub to: Plane,
    /// Whether width and height change places: a mirroring at the main diagonal, done first.
    pub swaps: bool,
    /// Whether the result is then mirrored left to right.
    pub flips_x: bool,
    /// Whether it is then mirrored top to bottom.
    pub flips_y: bool,
}

impl Turn {
    pub(super) fn entry(&self, arena_len: u64) -> Result<TurnEntry, Error> {
        self.from.check(arena_len)?;
        self.to.check(arena_len)?;
        let (width, height) = (self.to.width, self.to.height);
        let expected = if self.swaps { (height, width) } else { (width, height) };
        if (self.from.width, self.from.height) != expected {
            return Err(Error::Unsupported("a turn between planes that do not fit".to_owned()));
        }
        // The results' coordinates, mirrored back: start and step of each.
        let axis = |flips: bool, len: u32| if flips { (len as i32 - 1, -1) } else { (0, 1) };
        let ((x, step_x), (y, step_y)) = (axis(self.flips_x, width), axis(self.flips_y, height));
        let ((x0, xx, xy), (y0, yx, yy)) =
            if self.swaps { ((y, 0, step_y), (x, step_x, 0)) } else { ((x, step_x, 0), (y, 0, step_y)) };
        let (from_pitch, to_pitch) = (self.from.pitch, self.to.pitch);
        Ok(TurnEntry {
            from: self.from.offset,
            to: self.to.offset,
            from_pitch,
            to_pitch,
            width,
            height,
            x0,
            xx,
            xy,
            y0,
            yx,
            yy,
        })
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct TurnEntry {
    from: u64,
    to: u64,
    from_pitch: u32,
    to_pitch: u32,
    width: u32,
    height: u32,
    x0: i32,
    xx: i32,
    xy: i32,
    y0: i32,
    yx: i32,
    yy: i32,
}

/// Three planes of the same size made packed red, green and blue, and those brought to other colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colour {
    /// Luma, blue and red difference: full-range BT.601.
    pub from: [Plane; 3],
    /// The result: three samples to a pixel, so three times as wide.
    pub to: Plane,
    /// What red, green and blue are made of: shares of red, green and blue, and a constant.
    pub matrix: [[f32; 4]; 3],
}

impl Colour {
    pub(super) fn entry(&self, arena_len: u64) -> Result<ColourEntry, Error> {
        let [luma, blue, red] = self.from;
        for plane in [luma, blue, red, self.to] {
            plane.check(arena_len)?;
        }
        let shape = |plane: Plane| (plane.pitch, plane.width, plane.height);
        if shape(luma) != shape(blue)
            || shape(luma) != shape(red)
            || (self.to.width, self.to.height) != (luma.width * 3, luma.height)
        {
            return Err(Error::Unsupported("colours of planes that do not fit".to_owned()));
        }
        let mut matrix = [0.0; 12];
        matrix.iter_mut().zip(self.matrix.iter().flatten()).for_each(|(to, from)| *to = *from);
        Ok(ColourEntry {
            luma: luma.offset,
            blue: blue.offset,
            red: red.offset,
            to: self.to.offset,
            pitch: luma.pitch,
            to_pitch: self.to.pitch,
            width: luma.width,
            height: luma.height,
            matrix,
        })
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ColourEntry {
    luma: u64,
    blue: u64,
    red: u64,
    to: u64,
    pitch: u32,
    to_pitch: u32,
    width: u32,
    height: u32,
    matrix: [f32; 12],
}

/// Blocks of an entry.
fn tiles(width: u32, height: u32, tile: (u32, u32)) -> u32 {
    width.div_ceil(tile.0) * height.div_ceil(tile.1)
}

/// A table's entry: how its bytes look, and how large a grid it needs.
pub(super) trait Entry: Copy {}
impl Entry for ResampleEntry {}
impl Entry for SharpenEntry {}
impl Entry for TurnEntry {}
impl Entry for ColourEntry {}

/// The bytes of a table, as the device reads them. None of the structs has padding (see the test).
pub(super) fn bytes<T: Entry>(table: &[T]) -> &[u8] {
    // SAFETY: plain numbers without padding, so every byte is initialised; the borrow keeps them.
    unsafe { std::slice::from_raw_parts(table.as_ptr().cast(), size_of_val(table)) }
}

/// The kernels, loaded into a device's context.
#[derive(Debug)]
pub(super) struct Kernels {
    module: CUmodule,
    weights: CUfunction,
    columns: CUfunction,
    rows: CUfunction,
    sharpen: CUfunction,
    turn: CUfunction,
    colour: CUfunction,
    _device: Arc<Device>,
}

/// Where a launch works: the arena's address, and the table's, both on the device.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub arena: CUdeviceptr,
    pub table: CUdeviceptr,
}

impl Kernels {
    pub fn load(device: &Arc<Device>) -> Result<Kernels, Error> {
        device.enter()?;
        let text = std::ffi::CString::new(PTX.trim_end_matches('\0'))
            .map_err(|_| Error::Failed("the kernels hold a zero byte".to_owned()))?;
        // SAFETY: `text` ends with a zero byte, as the call wants it, and lives across it.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
        let module = module.map_err(|error| failed("cuModuleLoadData", error))?;
        let function = |name: &str| {
            let name = std::ffi::CString::new(name).map_err(|_| Error::Failed("a kernel's name".to_owned()))?;
            // SAFETY: the module was just loaded.
            let function = unsafe { result::module::get_function(module, name) };
            function.map_err(|error| failed("cuModuleGetFunction", error))
        };
        Ok(Kernels {
            module,
            weights: function("weights")?,
            columns: function("columns")?,
            rows: function("rows")?,
            sharpen: function("sharpen")?,
            turn: function("turn")?,
            colour: function("colour")?,
            _device: device.clone(),
        })
    }

    /// Enqueues a resampling. The table lies at `place`, is made by [`Resample::entry`] of checked values, and stays
    /// until the stream was waited for.
    pub fn resample(&self, stream: &Stream, place: Place, table: &[ResampleEntry]) -> Result<(), Error> {
        let most = |blocks: &dyn Fn(&ResampleEntry) -> u32| table.iter().map(blocks).max().unwrap_or(0);
        let weights = most(&|entry| (entry.to_width + entry.to_height).div_ceil(128));
        let columns = most(&|entry| tiles(entry.columns, entry.to_height, (256, 4)));
        let rows = most(&|entry| tiles(entry.to_width, entry.to_height, (32, 8)));
        self.launch("weights", self.weights, stream, place, (weights, table.len()), (128, 1))?;
        self.launch("columns", self.columns, stream, place, (columns, table.len()), (64, 4))?;
        self.launch("rows", self.rows, stream, place, (rows, table.len()), (32, 8))
    }

    /// Enqueues sharpening; as [`Kernels::resample`].
    pub fn sharpen(&self, stream: &Stream, place: Place, table: &[SharpenEntry]) -> Result<(), Error> {
        let blocks = table.iter().map(|entry| tiles(entry.width, entry.height, (32, 8))).max().unwrap_or(0);
        self.launch("sharpen", self.sharpen, stream, place, (blocks, table.len()), (32, 8))
    }

    /// Enqueues turns; as [`Kernels::resample`].
    pub fn turn(&self, stream: &Stream, place: Place, table: &[TurnEntry]) -> Result<(), Error> {
        let blocks = table.iter().map(|entry| tiles(entry.width, entry.height, (32, 8))).max().unwrap_or(0);
        self.launch("turn", self.turn, stream, place, (blocks, table.len()), (32, 8))
    }

    /// Enqueues colours; as [`Kernels::resample`].
    pub fn colour(&self, stream: &Stream, place: Place, table: &[ColourEntry]) -> Result<(), Error> {
        let blocks = table.iter().map(|entry| tiles(entry.width, entry.height, (32, 8))).max().unwrap_or(0);
        self.launch("colour", self.colour, stream, place, (blocks, table.len()), (32, 8))
    }

    fn launch(
        &self,
        name: &str,
        function: CUfunction,
        stream: &Stream,
        place: Place,
        (blocks, entries): (u32, usize),
        block: (u32, u32),
    ) -> Result<(), Error> {
        if blocks == 0 || entries == 0 {
            return Ok(());
        }
        assert!(entries <= ENTRIES_MAX, "a table of {entries} entries");
        let Place { mut arena, mut table } = place;
        let arguments = &mut [(&raw mut arena).cast::<c_void>(), (&raw mut table).cast::<c_void>()];
        let grid = (blocks, entries as u32, 1);
        // SAFETY: the kernel takes two addresses, which are copied during the call. The entries were checked against the
        // arena, and the caller keeps arena and table until the stream was waited for.
        let launched =
            unsafe { result::launch_kernel(function, grid, (block.0, block.1, 1), 0, stream.raw, arguments) };
        launched.map_err(|error| failed(&format!("kernel {name}"), error))
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`; whoever launched has waited (see `desk`). What fails ends with the process.
        let _until_the_process_ends = unsafe { result::module::unload(self.module) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(offset: u64, width: u32, height: u32) -> Plane {
        Plane { offset, pitch: width.next_multiple_of(256), width, height }
    }

    #[test]
    fn tables_look_as_the_kernels_read_them() {
        assert_eq!(size_of::<ResampleEntry>(), 4 * 8 + 5 * 8 + 11 * 4 + 4, "the device pads to a multiple of 8, too");
        assert_eq!(size_of::<SharpenEntry>(), 2 * 8 + 6 * 4);
        assert_eq!(size_of::<TurnEntry>(), 2 * 8 + 10 * 4);
        assert_eq!(size_of::<ColourEntry>(), 4 * 8 + 16 * 4);
    }

    #[test]
    fn the_kernels_run_on_drivers_and_cards_that_are_deployed() {
        assert!(PTX.contains(".version 8.4") && PTX.contains(".target sm_75"));
        for name in ["weights", "columns", "rows", "sharpen", "turn", "colour"] {
            assert!(PTX.contains(&format!(".visible .entry {name}(")), "{name}");
        }
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let (from, to) = (plane(0, 600, 400), plane(768 * 400, 60, 40));
        let arena = 768 * 400 + 256 * 40;
        let whole = Resample { from, left: 0.0, top: 0.0, width: 600.0, height: 400.0, to };
        whole.check(arena).unwrap();
        let wrong = [
            (whole, arena - 1),
            (Resample { left: 10.1, ..whole }, arena),
            (Resample { top: -10.1, ..whole }, arena),
            (Resample { left: 600.0, width: 1.0, ..whole }, arena),
            (Resample { width: 0.0, ..whole }, arena),
            (Resample { height: f64::NAN, ..whole }, arena),
            (Resample { from: Plane { offset: u64::MAX - 255, ..from }, ..whole }, arena),
            (Resample { to: Plane { width: 257, ..to }, ..whole }, arena),
            (Resample { to: Plane { offset: to.offset + 1, ..to }, ..whole }, arena + 256),
        ];
        for (resample, arena) in wrong {
            resample.check(arena).unwrap_err();
        }
        Sharpen { from: to, to, sigma: 1.0 }.entry(arena).unwrap();
        Sharpen { from, to, sigma: 1.0 }.entry(arena).unwrap_err();
        Sharpen { from: to, to, sigma: 0.0 }.entry(arena).unwrap_err();
        Turn { from: to, to, swaps: true, flips_x: false, flips_y: false }.entry(arena).unwrap_err();
        Colour { from: [to, to, to], to, matrix: [[0.0; 4]; 3] }.entry(arena).unwrap_err();
    }

    #[test]
    fn columns_that_are_needed_cover_what_the_filter_touches() {
        for (left, width, to) in [
            (0.0, 600.0, 60),
            (13.7, 100.1, 33),
            (590.5, 9.5, 1),
            (300.0, 20.0, 41),
            (599.0, 1.0, 7),
            (-2.0, 602.0, 301),
        ] {
            let to = plane(0, to, 10);
            let resample = Resample { from: plane(0, 600, 400), left, top: 0.0, width, height: 400.0, to };
            let (first, columns) = resample.columns();
            let step = width / f64::from(to.width);
            let begin = |at: u32| (left + (f64::from(at) + 0.5) * step - 3.0 * step.max(1.0)).floor().clamp(0.0, 599.0);
            let end = |at: u32| (left + (f64::from(at) + 0.5) * step + 3.0 * step.max(1.0)).ceil().clamp(1.0, 600.0);
            assert!(f64::from(first) <= begin(0), "{left} {width}");
            assert!(f64::from(first + columns) >= end(to.width - 1), "{left} {width}");
            assert!(u64::from(first + columns) <= u64::from(resample.from.pitch));
            let (taps, _) = resample.taps();
            assert!((0..to.width).all(|at| end(at) - begin(at) <= f64::from(taps)), "{left} {width}");
        }
    }

    #[test]
    fn every_turn_reads_every_sample_once() {
        let upright = plane(0, 5, 3);
        for swaps in [false, true] {
            let to = if swaps { plane(256 * 3, 3, 5) } else { plane(256 * 3, 5, 3) };
            for (flips_x, flips_y) in [(false, false), (true, false), (false, true), (true, true)] {
                let entry = Turn { from: upright, to, swaps, flips_x, flips_y }.entry(256 * 8).unwrap();
                let mut seen = std::collections::BTreeSet::new();
                for y in 0..entry.height as i32 {
                    for x in 0..entry.width as i32 {
                        let at = (entry.x0 + entry.xx * x + entry.xy * y, entry.y0 + entry.yx * x + entry.yy * y);
                        assert!((0..5).contains(&at.0) && (0..3).contains(&at.1), "{at:?}");
                        assert!(seen.insert(at));
                    }
                }
                assert_eq!(seen.len(), 15);
            }
        }
    }
}
