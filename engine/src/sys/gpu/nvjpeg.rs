//! nvJPEG, opened by name: the hardware decoder in batches, the hybrid one for single images, and encoders.
//!
//! The promise: no function is called that the library did not show at the start; handles live as long as whoever holds
//! them; what is read and written lies where [`desk`](super::desk) says. States belong to one thread, the handle to all
//! (nvJPEG documentation, "Thread Safety").

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::sys::CUstream;
use libloading::Library;

use super::Error;
use super::cuda::{Device, Memory, Pinned, Stream};
use super::kernels::Plane;

type Status = c_int;
type Opaque = *mut c_void;

/// The library's names, the newest first.
const NAMES: [&str; 2] = ["libnvjpeg.so.13", "libnvjpeg.so.12"];

const BAD_JPEG: Status = 3;
const NOT_SUPPORTED: Status = 4;
const INCOMPLETE: Status = 10;
/// Images that the idle states of a desk's hardware decoder are set up for. With seven engines a subsampling takes 28.
const PLACES_MAX: usize = 96;
const BACKEND_DEFAULT: c_int = 0;
const BACKEND_HYBRID: c_int = 1;
const BACKEND_HARDWARE: c_int = 3;
const OUTPUT_YUV: c_int = 1;
const INPUT_RGB_PACKED: c_int = 5;
const BASELINE: c_int = 0xC0;
const CSS_GRAY: c_int = 6;

/// Where a picture's planes lie on the device (`nvjpegImage_t`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Image {
    channel: [*mut u8; 4],
    pitch: [usize; 4],
}

impl Image {
    /// Planes of an arena.
    pub fn of(arena: &Memory, planes: &[Plane]) -> Result<Image, Error> {
        let mut image = Image { channel: [null_mut(); 4], pitch: [0; 4] };
        for (at, plane) in planes.iter().enumerate().take(4) {
            plane.check(arena.len())?;
            image.channel[at] = arena.at(plane.offset) as *mut u8;
            image.pitch[at] = plane.pitch as usize;
        }
        Ok(image)
    }
}

macro_rules! symbols {
    ($($name:ident = $symbol:literal ($($argument:ty),*);)*) => {
        /// The functions that are used, with the signatures of `nvjpeg.h`.
        struct Symbols { $($name: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl Symbols {
            fn find(library: &Library) -> Result<Symbols, Error> {
                Ok(Symbols { $($name: {
                    // SAFETY: the signature is the one that the library's header has for this name, in all versions.
                    let symbol = unsafe { library.get($symbol.as_bytes()) };
                    *symbol.map_err(|error| Error::Absent(format!("nvJPEG has no {}: {error}", $symbol)))?
                },)* })
            }
        }
    };
}

symbols! {
    property = "nvjpegGetProperty"(c_int, *mut c_int);
    create = "nvjpegCreateEx"(c_int, Opaque, Opaque, c_uint, *mut Opaque);
    destroy = "nvjpegDestroy"(Opaque);
    hardware = "nvjpegGetHardwareDecoderInfo"(Opaque, *mut c_uint, *mut c_uint);
    state_create = "nvjpegJpegStateCreate"(Opaque, *mut Opaque);
    state_destroy = "nvjpegJpegStateDestroy"(Opaque);
    stream_create = "nvjpegJpegStreamCreate"(Opaque, *mut Opaque);
    stream_destroy = "nvjpegJpegStreamDestroy"(Opaque);
    stream_parse = "nvjpegJpegStreamParse"(Opaque, *const u8, usize, c_int, c_int, Opaque);
    stream_parse_header = "nvjpegJpegStreamParseHeader"(Opaque, *const u8, usize, Opaque);
    stream_encoding = "nvjpegJpegStreamGetJpegEncoding"(Opaque, *mut c_int);
    stream_components = "nvjpegJpegStreamGetComponentsNum"(Opaque, *mut c_uint);
    stream_size = "nvjpegJpegStreamGetFrameDimensions"(Opaque, *mut c_uint, *mut c_uint);
    stream_component_size = "nvjpegJpegStreamGetComponentDimensions"(Opaque, c_uint, *mut c_uint, *mut c_uint);
    stream_subsampling = "nvjpegJpegStreamGetChromaSubsampling"(Opaque, *mut c_int);
    batched_supported = "nvjpegDecodeBatchedSupported"(Opaque, Opaque, *mut c_int);
    batched_initialize = "nvjpegDecodeBatchedInitialize"(Opaque, Opaque, c_int, c_int, c_int);
    batched_decode = "nvjpegDecodeBatched"(Opaque, Opaque, *const *const u8, *const usize, *mut Image, CUstream);
    decoder_create = "nvjpegDecoderCreate"(Opaque, c_int, *mut Opaque);
    decoder_destroy = "nvjpegDecoderDestroy"(Opaque);
    decoder_supported = "nvjpegDecoderJpegSupported"(Opaque, Opaque, Opaque, *mut c_int);
    decoder_state_create = "nvjpegDecoderStateCreate"(Opaque, Opaque, *mut Opaque);
    pinned_create = "nvjpegBufferPinnedCreate"(Opaque, Opaque, *mut Opaque);
    pinned_destroy = "nvjpegBufferPinnedDestroy"(Opaque);
    device_create = "nvjpegBufferDeviceCreate"(Opaque, Opaque, *mut Opaque);
    device_destroy = "nvjpegBufferDeviceDestroy"(Opaque);
    attach_pinned = "nvjpegStateAttachPinnedBuffer"(Opaque, Opaque);
    attach_device = "nvjpegStateAttachDeviceBuffer"(Opaque, Opaque);
    params_create = "nvjpegDecodeParamsCreate"(Opaque, *mut Opaque);
    params_destroy = "nvjpegDecodeParamsDestroy"(Opaque);
    params_format = "nvjpegDecodeParamsSetOutputFormat"(Opaque, c_int);
    decode = "nvjpegDecodeJpeg"(Opaque, Opaque, Opaque, Opaque, *mut Image, Opaque, CUstream);
    encoder_create = "nvjpegEncoderStateCreate"(Opaque, *mut Opaque, CUstream);
    encoder_destroy = "nvjpegEncoderStateDestroy"(Opaque);
    encoder_params_create = "nvjpegEncoderParamsCreate"(Opaque, *mut Opaque, CUstream);
    encoder_params_destroy = "nvjpegEncoderParamsDestroy"(Opaque);
    encoder_quality = "nvjpegEncoderParamsSetQuality"(Opaque, c_int, CUstream);
    encoder_optimized = "nvjpegEncoderParamsSetOptimizedHuffman"(Opaque, c_int, CUstream);
    encoder_subsampling = "nvjpegEncoderParamsSetSamplingFactors"(Opaque, c_int, CUstream);
    encode_planes = "nvjpegEncodeYUV"(Opaque, Opaque, Opaque, *const Image, c_int, c_int, c_int, CUstream);
    encode_pixels = "nvjpegEncodeImage"(Opaque, Opaque, Opaque, *const Image, c_int, c_int, c_int, CUstream);
    encode_retrieve = "nvjpegEncodeRetrieveBitstream"(Opaque, Opaque, *mut u8, *mut usize, CUstream);
}

/// What a status means for whoever asked.
fn told(call: &str, status: Status) -> Result<(), Error> {
    const NAMES: [&str; 11] = [
        "done",
        "not initialised",
        "an invalid parameter",
        "a broken JPEG",
        "a JPEG that is not supported",
        "no memory",
        "execution failed",
        "another architecture",
        "an internal error",
        "not implemented here",
        "an incomplete JPEG",
    ];
    let name = usize::try_from(status).ok().and_then(|at| NAMES.get(at)).unwrap_or(&"an unknown status");
    let words = || format!("nvJPEG: {call}: {name} ({status})");
    match status {
        0 => Ok(()),
        BAD_JPEG | NOT_SUPPORTED | INCOMPLETE => Err(Error::Unsupported(words())),
        _ => Err(Error::Failed(words())),
    }
}

/// How colour is stored: nvJPEG's numbers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsampling {
    /// 4:4:4.
    Whole,
    /// 4:2:2: half along.
    Along,
    /// 4:2:0: half along and down.
    Both,
    /// 4:4:0: half down.
    Down,
    /// 4:1:1: a quarter along.
    QuarterAlong,
    /// No colour.
    Gray,
}

impl Subsampling {
    fn of(number: c_int) -> Option<Subsampling> {
        Some(match number {
            0 => Subsampling::Whole,
            1 => Subsampling::Along,
            2 => Subsampling::Both,
            3 => Subsampling::Down,
            4 => Subsampling::QuarterAlong,
            CSS_GRAY => Subsampling::Gray,
            _ => return None,
        })
    }

    fn number(self) -> c_int {
        match self {
            Subsampling::Whole => 0,
            Subsampling::Along => 1,
            Subsampling::Both => 2,
            Subsampling::Down => 3,
            Subsampling::QuarterAlong => 4,
            Subsampling::Gray => CSS_GRAY,
        }
    }

    /// Pixels per colour sample, along and down.
    pub fn pixels(self) -> (u32, u32) {
        match self {
            Subsampling::Whole | Subsampling::Gray => (1, 1),
            Subsampling::Along => (2, 1),
            Subsampling::Both => (2, 2),
            Subsampling::Down => (1, 2),
            Subsampling::QuarterAlong => (4, 1),
        }
    }

    /// Planes: one without colour, else three.
    pub fn planes(self) -> usize {
        if self == Subsampling::Gray { 1 } else { 3 }
    }
}

/// How well a picture is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// 1 to 100.
    pub steps: u8,
    /// Whether it gets Huffman tables of its own: smaller, and slower to make.
    pub optimized: bool,
}

/// What the head of a JPEG says, as nvJPEG reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub width: u32,
    pub height: u32,
    pub subsampling: Subsampling,
    /// Samples and rows of each plane.
    pub planes: [(u32, u32); 3],
    /// Whether the hardware decoder takes it.
    pub hardware: bool,
}

/// Engines of the hardware decoder, and cores of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Engines.
    pub engines: u32,
    /// Cores that each has.
    pub cores: u32,
}

/// The library and a handle of it.
pub struct Nvjpeg {
    symbols: Symbols,
    handle: Opaque,
    hardware: Option<Hardware>,
    version: (i32, i32, i32),
    device: Arc<Device>,
    /// Closed last: its code must stay while a handle lives.
    _library: Library,
}

// SAFETY: the handle may be used by several threads at once; the states that may not are in types that stay on theirs.
unsafe impl Send for Nvjpeg {}
// SAFETY: as above.
unsafe impl Sync for Nvjpeg {}

impl std::fmt::Debug for Nvjpeg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvjpeg")
            .field("version", &self.version)
            .field("hardware", &self.hardware)
            .finish_non_exhaustive()
    }
}

impl Nvjpeg {
    /// Opens the library, at `path` or by its names, on a device.
    ///
    /// # Errors
    /// [`Error::Absent`] where it is not installed, [`Error::Failed`] where it does not start.
    pub fn open(device: &Arc<Device>, path: Option<&Path>) -> Result<Arc<Nvjpeg>, Error> {
        device.enter()?;
        let library = library(path)?;
        let symbols = Symbols::find(&library)?;
        let mut handle = null_mut();
        // SAFETY: `handle` is ours to write; without allocators nvJPEG uses CUDA's.
        let status = unsafe { (symbols.create)(BACKEND_HARDWARE, null_mut(), null_mut(), 0, &mut handle) };
        let has_hardware = status == 0;
        if !has_hardware {
            // SAFETY: as above.
            let status = unsafe { (symbols.create)(BACKEND_DEFAULT, null_mut(), null_mut(), 0, &mut handle) };
            told("nvjpegCreateEx", status)?;
        }
        let mut nvjpeg =
            Nvjpeg { symbols, handle, hardware: None, version: (0, 0, 0), device: device.clone(), _library: library };
        nvjpeg.version = (nvjpeg.property(0)?, nvjpeg.property(1)?, nvjpeg.property(2)?);
        if has_hardware {
            nvjpeg.hardware = nvjpeg.ask_hardware()?;
        }
        Ok(Arc::new(nvjpeg))
    }

    /// The hardware decoder, where the device has one that the driver lets us use.
    pub fn hardware(&self) -> Option<Hardware> {
        self.hardware
    }

    /// The library's version.
    pub fn version(&self) -> (i32, i32, i32) {
        self.version
    }

    fn property(&self, which: c_int) -> Result<i32, Error> {
        let mut value = 0;
        // SAFETY: `value` is ours to write.
        told("nvjpegGetProperty", unsafe { (self.symbols.property)(which, &mut value) })?;
        Ok(value)
    }

    fn ask_hardware(&self) -> Result<Option<Hardware>, Error> {
        let (mut engines, mut cores) = (0, 0);
        // SAFETY: both are ours to write.
        let status = unsafe { (self.symbols.hardware)(self.handle, &mut engines, &mut cores) };
        told("nvjpegGetHardwareDecoderInfo", status)?;
        Ok((engines > 0).then_some(Hardware { engines, cores }))
    }

    /// A thing of the library's, made by a call that takes the handle.
    fn make(
        self: &Arc<Self>,
        call: &str,
        make: impl FnOnce(&Symbols, Opaque, *mut Opaque) -> Status,
        destroy: unsafe extern "C" fn(Opaque) -> Status,
    ) -> Result<Thing, Error> {
        self.device.enter()?;
        let mut raw = null_mut();
        told(call, make(&self.symbols, self.handle, &mut raw))?;
        Ok(Thing { raw, destroy, nvjpeg: self.clone() })
    }
}

impl Drop for Nvjpeg {
    fn drop(&mut self) {
        // SAFETY: created by `open`; everything made with it holds the `Arc` and is gone. What fails ends with the process.
        let _until_the_process_ends = unsafe { (self.symbols.destroy)(self.handle) };
    }
}

fn library(path: Option<&Path>) -> Result<Library, Error> {
    let names: Vec<&Path> = path.map_or_else(|| NAMES.iter().map(Path::new).collect(), |path| vec![path]);
    let mut last = String::new();
    for name in names {
        // SAFETY: runs the initialisers of a library that the operator installed, or named.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => last = error.to_string(),
        }
    }
    Err(Error::Absent(format!("nvJPEG is not installed (libnvjpeg.so.13 or .12): {last}")))
}

/// A state, a buffer, parameters: destroyed by a function that takes it alone.
struct Thing {
    raw: Opaque,
    destroy: unsafe extern "C" fn(Opaque) -> Status,
    nvjpeg: Arc<Nvjpeg>,
}

impl Drop for Thing {
    fn drop(&mut self) {
        // SAFETY: made by `Nvjpeg::make` with its counterpart, and not used after this; whoever enqueued work with it has
        // waited (see `desk`). What fails ends with the process.
        let _until_the_process_ends = unsafe { (self.destroy)(self.raw) };
    }
}

/// Reads heads.
pub(super) struct Parser {
    stream: Thing,
}

impl Parser {
    pub fn new(nvjpeg: &Arc<Nvjpeg>) -> Result<Parser, Error> {
        // SAFETY: gives a handle that lives, and a place of ours.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.stream_create)(handle, raw) };
        let stream = nvjpeg.make("nvjpegJpegStreamCreate", make, nvjpeg.symbols.stream_destroy)?;
        Ok(Parser { stream })
    }

    /// Reads a head.
    pub fn head(&mut self, input: &[u8]) -> Result<Parsed, Error> {
        let nvjpeg = self.stream.nvjpeg.clone();
        let (symbols, handle, stream) = (&nvjpeg.symbols, nvjpeg.handle, self.stream.raw);
        // SAFETY: `input` is readable for its length; nothing of it is kept that is used after its end, because the next
        // call parses anew.
        let status = unsafe { (symbols.stream_parse_header)(handle, input.as_ptr(), input.len(), stream) };
        told("nvjpegJpegStreamParseHeader", status)?;
        let (mut width, mut height, mut count, mut subsampling, mut encoding) = (0, 0, 0, -1, 0);
        // SAFETY: a parsed stream, and places of ours.
        told("size", unsafe { (symbols.stream_size)(stream, &mut width, &mut height) })?;
        // SAFETY: as above.
        told("components", unsafe { (symbols.stream_components)(stream, &mut count) })?;
        // SAFETY: as above.
        told("subsampling", unsafe { (symbols.stream_subsampling)(stream, &mut subsampling) })?;
        // SAFETY: as above.
        told("encoding", unsafe { (symbols.stream_encoding)(stream, &mut encoding) })?;
        let unsupported = |what: &str| Err(Error::Unsupported(format!("nvJPEG: {what}")));
        let Some(subsampling) = Subsampling::of(subsampling) else { return unsupported("an unusual subsampling") };
        if count as usize != subsampling.planes() {
            return unsupported("an unusual number of components");
        }
        let mut planes = [(0, 0); 3];
        for (component, (width, height)) in planes.iter_mut().enumerate().take(count as usize) {
            // SAFETY: as above; the component is one that the stream has.
            let status = unsafe { (symbols.stream_component_size)(stream, component as c_uint, width, height) };
            told("component", status)?;
        }
        let mut refused = 1;
        if nvjpeg.hardware.is_some() && encoding == BASELINE {
            // SAFETY: as above.
            let status = unsafe { (symbols.batched_supported)(handle, stream, &mut refused) };
            told("nvjpegDecodeBatchedSupported", status)?;
        }
        Ok(Parsed { width, height, subsampling, planes, hardware: refused == 0 })
    }
}

/// A state of the hardware decoder, and what it is set up for. The first use takes an H200 150 ms, and images with another
/// subsampling 12 ms for each place: as long as decoding them, while all desks wait. Other sizes cost next to nothing.
struct Batch {
    subsampling: Subsampling,
    size: usize,
    state: Thing,
}

/// The hardware decoder. Images of one subsampling are decoded together, with a state that has done so many of them before,
/// if there is one.
pub(super) struct Batched {
    nvjpeg: Arc<Nvjpeg>,
    /// The last used first.
    idle: VecDeque<Batch>,
    busy: Vec<Batch>,
}

impl Batched {
    pub fn new(nvjpeg: &Arc<Nvjpeg>) -> Batched {
        Batched { nvjpeg: nvjpeg.clone(), idle: VecDeque::new(), busy: Vec::new() }
    }

    /// Enqueues images of one subsampling. An image's place in the list says which of the engines does it. The inputs, and
    /// the memory that `images` names, must stay until the stream was waited for, and nothing may be enqueued on that
    /// memory: on Hopper the decoder does not heed the stream's order. Then [`settle`](Batched::settle) makes the states
    /// ready for others.
    pub fn decode(
        &mut self,
        stream: &Stream,
        subsampling: Subsampling,
        inputs: &[&[u8]],
        images: &mut [Image],
    ) -> Result<(), Error> {
        assert_eq!(inputs.len(), images.len());
        let batch = self.batch(subsampling, inputs.len())?;
        let (symbols, handle, state) = (&self.nvjpeg.symbols, self.nvjpeg.handle, batch.state.raw);
        self.busy.push(batch);
        let starts: Vec<*const u8> = inputs.iter().map(|input| input.as_ptr()).collect();
        let lens: Vec<usize> = inputs.iter().map(|input| input.len()).collect();
        // SAFETY: as many entries in each list as the state is initialised for; the caller keeps inputs and images.
        let status = unsafe {
            (symbols.batched_decode)(handle, state, starts.as_ptr(), lens.as_ptr(), images.as_mut_ptr(), stream.raw)
        };
        told("nvjpegDecodeBatched", status)
    }

    /// All streams that anything was enqueued on were waited for.
    pub fn settle(&mut self) {
        self.busy.drain(..).for_each(|batch| self.idle.push_front(batch));
        let mut places = 0;
        self.idle.retain(|batch| {
            places += batch.size;
            places <= PLACES_MAX
        });
    }

    fn batch(&mut self, subsampling: Subsampling, size: usize) -> Result<Batch, Error> {
        let known = self.idle.iter().position(|batch| (batch.subsampling, batch.size) == (subsampling, size));
        if let Some(batch) = known.and_then(|at| self.idle.remove(at)) {
            return Ok(batch);
        }
        // SAFETY: gives a handle that lives, and a place of ours.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.state_create)(handle, raw) };
        let state = self.nvjpeg.make("nvjpegJpegStateCreate", make, self.nvjpeg.symbols.state_destroy)?;
        let count = c_int::try_from(size).map_err(|_| Error::Unsupported("a huge batch".to_owned()))?;
        let (symbols, handle) = (&self.nvjpeg.symbols, self.nvjpeg.handle);
        // SAFETY: plain numbers, and a state that nothing is enqueued with.
        let status = unsafe { (symbols.batched_initialize)(handle, state.raw, count, 1, OUTPUT_YUV) };
        told("nvjpegDecodeBatchedInitialize", status)?;
        Ok(Batch { subsampling, size, state })
    }
}

/// Decodes one image at a time: entropy on the processor, the rest on the device. Takes what the hardware does not.
pub(super) struct Hybrid {
    // First, because all others are attached to it.
    state: Thing,
    decoder: Thing,
    jpeg: Thing,
    params: Thing,
    _pinned: Thing,
    _device: Thing,
}

impl Hybrid {
    pub fn new(nvjpeg: &Arc<Nvjpeg>) -> Result<Hybrid, Error> {
        let of = &nvjpeg.symbols;
        let make = |symbols: &Symbols, handle: Opaque, raw: *mut Opaque| {
            // SAFETY: gives a handle that lives, and a place of ours.
            unsafe { (symbols.decoder_create)(handle, BACKEND_HYBRID, raw) }
        };
        let decoder = nvjpeg.make("nvjpegDecoderCreate", make, of.decoder_destroy)?;
        let make = |symbols: &Symbols, handle: Opaque, raw: *mut Opaque| {
            // SAFETY: as above; the decoder lives.
            unsafe { (symbols.decoder_state_create)(handle, decoder.raw, raw) }
        };
        let state = nvjpeg.make("nvjpegDecoderStateCreate", make, of.state_destroy)?;
        // SAFETY: as above; without an allocator nvJPEG uses CUDA's.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.pinned_create)(handle, null_mut(), raw) };
        let pinned = nvjpeg.make("nvjpegBufferPinnedCreate", make, of.pinned_destroy)?;
        // SAFETY: as above.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.device_create)(handle, null_mut(), raw) };
        let device = nvjpeg.make("nvjpegBufferDeviceCreate", make, of.device_destroy)?;
        // SAFETY: both live as long as the state that they are attached to.
        told("nvjpegStateAttachPinnedBuffer", unsafe { (of.attach_pinned)(state.raw, pinned.raw) })?;
        // SAFETY: as above.
        told("nvjpegStateAttachDeviceBuffer", unsafe { (of.attach_device)(state.raw, device.raw) })?;
        // SAFETY: gives a handle that lives, and a place of ours.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.stream_create)(handle, raw) };
        let jpeg = nvjpeg.make("nvjpegJpegStreamCreate", make, of.stream_destroy)?;
        // SAFETY: as above.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.params_create)(handle, raw) };
        let params = nvjpeg.make("nvjpegDecodeParamsCreate", make, of.params_destroy)?;
        // SAFETY: the parameters live.
        told("nvjpegDecodeParamsSetOutputFormat", unsafe { (of.params_format)(params.raw, OUTPUT_YUV) })?;
        Ok(Hybrid { decoder, state, jpeg, params, _pinned: pinned, _device: device })
    }

    /// Enqueues one image, of which `image` is as large as its head said. Wait before the next: they share the state.
    pub fn decode(&mut self, stream: &Stream, input: &[u8], image: &mut Image) -> Result<(), Error> {
        let nvjpeg = &self.state.nvjpeg;
        let (symbols, handle) = (&nvjpeg.symbols, nvjpeg.handle);
        // SAFETY: `input` is readable for its length, and the caller keeps it until the stream was waited for.
        let status = unsafe { (symbols.stream_parse)(handle, input.as_ptr(), input.len(), 0, 0, self.jpeg.raw) };
        told("nvjpegJpegStreamParse", status)?;
        let mut refused = 1;
        // SAFETY: all live; `refused` is ours to write.
        let status =
            unsafe { (symbols.decoder_supported)(self.decoder.raw, self.jpeg.raw, self.params.raw, &mut refused) };
        told("nvjpegDecoderJpegSupported", status)?;
        if refused != 0 {
            return Err(Error::Unsupported("nvJPEG: no decoder of the GPU takes this JPEG".to_owned()));
        }
        // SAFETY: all live; the memory that `image` names is as large as the head said, and the caller keeps it.
        let status = unsafe {
            (symbols.decode)(
                handle,
                self.decoder.raw,
                self.state.raw,
                self.jpeg.raw,
                image,
                self.params.raw,
                stream.raw,
            )
        };
        told("nvjpegDecodeJpeg", status)
    }
}

/// An encoder: one picture at a time, until its bytes are fetched.
pub(super) struct Encoder {
    state: Thing,
    params: Thing,
}

impl Encoder {
    pub fn new(nvjpeg: &Arc<Nvjpeg>, stream: &Stream) -> Result<Encoder, Error> {
        let of = &nvjpeg.symbols;
        // SAFETY: gives a handle and a stream that live, and a place of ours.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.encoder_create)(handle, raw, stream.raw) };
        let state = nvjpeg.make("nvjpegEncoderStateCreate", make, of.encoder_destroy)?;
        // SAFETY: as above.
        let make = |symbols: &Symbols, handle, raw| unsafe { (symbols.encoder_params_create)(handle, raw, stream.raw) };
        let params = nvjpeg.make("nvjpegEncoderParamsCreate", make, of.encoder_params_destroy)?;
        Ok(Encoder { state, params })
    }

    /// Enqueues a picture of planes (or with `packed` of red, green and blue) whose memory stays until the stream was
    /// waited for. `subsampling` is what the planes have, and what is written.
    pub fn encode(
        &mut self,
        stream: &Stream,
        image: &Image,
        (width, height): (u32, u32),
        subsampling: Subsampling,
        packed: bool,
        quality: Quality,
    ) -> Result<(), Error> {
        let nvjpeg = &self.state.nvjpeg;
        let (of, handle, state, params) = (&nvjpeg.symbols, nvjpeg.handle, self.state.raw, self.params.raw);
        let side = |side: u32| c_int::try_from(side).map_err(|_| Error::Unsupported("a huge picture".to_owned()));
        let (width, height, css) = (side(width)?, side(height)?, subsampling.number());
        // SAFETY: parameters and stream live.
        told("quality", unsafe { (of.encoder_quality)(params, c_int::from(quality.steps), stream.raw) })?;
        // SAFETY: as above.
        told("optimized Huffman", unsafe {
            (of.encoder_optimized)(params, c_int::from(quality.optimized), stream.raw)
        })?;
        // SAFETY: as above.
        told("sampling factors", unsafe { (of.encoder_subsampling)(params, css, stream.raw) })?;
        let status = if packed {
            // SAFETY: all live; the caller keeps what `image` names, which is as large as the sizes say.
            unsafe { (of.encode_pixels)(handle, state, params, image, INPUT_RGB_PACKED, width, height, stream.raw) }
        } else {
            // SAFETY: as above.
            unsafe { (of.encode_planes)(handle, state, params, image, css, width, height, stream.raw) }
        };
        told("nvjpegEncode", status)
    }

    /// Bytes of the picture that was encoded; waits for them.
    pub fn len(&mut self, stream: &Stream) -> Result<usize, Error> {
        let mut len = 0;
        self.retrieve(stream, null_mut(), &mut len)?;
        Ok(len)
    }

    /// Enqueues the copy of the `len` bytes that [`Encoder::len`] told to an offset of `to`. Wait before they are read.
    pub fn fetch(&mut self, stream: &Stream, to: &Pinned, offset: usize, len: usize) -> Result<(), Error> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= to.len()), "range outside the pinned memory");
        let mut told = len;
        self.retrieve(stream, to.at(offset), &mut told)?;
        if told == len { Ok(()) } else { Err(Error::Failed(format!("nvJPEG told {len} bytes and gave {told}"))) }
    }

    fn retrieve(&mut self, stream: &Stream, to: *mut u8, len: &mut usize) -> Result<(), Error> {
        let nvjpeg = &self.state.nvjpeg;
        // SAFETY: all live; `to` is null, which asks for the length, or has room for `len` bytes, as `fetch` says.
        let status = unsafe { (nvjpeg.symbols.encode_retrieve)(nvjpeg.handle, self.state.raw, to, len, stream.raw) };
        told("nvjpegEncodeRetrieveBitstream", status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_a_picture_is_told_from_what_is_about_the_device() {
        assert_eq!(told("x", 0), Ok(()));
        for status in [BAD_JPEG, NOT_SUPPORTED, INCOMPLETE] {
            assert!(matches!(told("x", status), Err(Error::Unsupported(_))), "{status}");
        }
        for status in [1, 2, 5, 6, 7, 8, 9, 11, -1] {
            assert!(matches!(told("x", status), Err(Error::Failed(_))), "{status}");
        }
    }

    #[test]
    fn subsampling_keeps_its_number() {
        for number in 0..=7 {
            assert!(Subsampling::of(number).is_none_or(|found| found.number() == number));
        }
        assert_eq!(Subsampling::of(2), Some(Subsampling::Both));
        assert_eq!(Subsampling::of(-1), None);
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let missing = library(Some(Path::new("/nowhere/libnvjpeg.so.13"))).unwrap_err();
        assert!(matches!(&missing, Error::Absent(words) if words.contains("nvJPEG is not installed")), "{missing}");
    }
}
