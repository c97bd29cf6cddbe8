//! CUDA's driver: a device's primary context, streams, and memory on both sides.
//!
//! The promise: handles are used only while they live, and memory is freed only after the device has let go of it
//! (`cuMemFree` and `cuMemFreeHost` wait for that). What is enqueued on a stream is the business of
//! [`desk`](super::desk), which waits before its memory goes.

use std::ffi::{CStr, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use cudarc::driver::sys::{
    self, CUcontext, CUctx_flags_enum, CUdevice, CUdevice_attribute, CUdeviceptr, CUresult, CUstream,
};
use cudarc::driver::{DriverError, result};

use super::Error;

/// A device with its primary context, which nvJPEG shares.
#[derive(Debug)]
pub struct Device {
    device: CUdevice,
    context: CUcontext,
    facts: Facts,
}

// SAFETY: a context may be used by any thread, and several at once (CUDA Driver API, "Context Management"); nothing here
// changes after `open`.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name, as the driver tells it.
    pub name: String,
    /// Bytes of its memory, used or not.
    pub memory_bytes: u64,
    /// Its compute capability.
    pub capability: (i32, i32),
    /// The CUDA version that the driver speaks: 13000 is 13.0.
    pub driver: i32,
}

impl Device {
    /// Opens the device of this number.
    ///
    /// # Errors
    /// [`Error::Absent`] where there is no driver or no such device, [`Error::Failed`] for everything else.
    pub fn open(ordinal: usize) -> Result<Arc<Device>, Error> {
        // SAFETY: looks a library up by name. The driver's own initialisers run, as in every CUDA program.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Absent("no GPU: the driver's library libcuda.so.1 is not installed".to_owned()));
        }
        result::init().map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_NO_DEVICE => Error::Absent("no GPU: the driver sees no device".to_owned()),
            _ => Error::Absent(format!("no GPU: the driver does not start: {}", describe(error))),
        })?;
        let count = result::device::get_count().map_err(|error| failed("cuDeviceGetCount", error))?;
        let number = i32::try_from(ordinal)
            .ok()
            .filter(|&number| number < count)
            .ok_or_else(|| Error::Absent(format!("no GPU {ordinal}: the driver sees {count}, counted from 0")))?;
        let device = result::device::get(number).map_err(|error| failed("cuDeviceGet", error))?;
        let facts = facts(device)?;
        sleep_while_waiting(device);
        // SAFETY: `device` is one that the driver has just given.
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(|error| failed("cuDevicePrimaryCtxRetain", error))?;
        let device = Device { device, context, facts };
        device.enter()?;
        Ok(Arc::new(device))
    }

    /// What it is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Makes its context the calling thread's.
    pub(super) fn enter(&self) -> Result<(), Error> {
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| failed("cuCtxSetCurrent", error))
    }

    /// A fire drill, for measuring what follows: makes its context useless, as a kernel that strays does, until the process
    /// ends. What the device said.
    pub fn fault(&self) -> Error {
        const PTX: &CStr = c".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry fault() { trap; ret; }\n";
        let launched = || {
            self.enter()?;
            // SAFETY: PTX of ours, which ends with a zero.
            let module = unsafe { result::module::load_data(PTX.as_ptr().cast()) };
            let module = module.map_err(|error| failed("cuModuleLoadData", error))?;
            // SAFETY: the module has just been loaded.
            let function = unsafe { result::module::get_function(module, c"fault".to_owned()) };
            let function = function.map_err(|error| failed("cuModuleGetFunction", error))?;
            // SAFETY: the kernel takes nothing and touches nothing.
            let launched = unsafe { result::launch_kernel(function, (1, 1, 1), (1, 1, 1), 0, null_mut(), &mut []) };
            launched.and_then(|()| result::ctx::synchronize()).map_err(|error| failed("a kernel that traps", error))
        };
        launched().err().unwrap_or_else(|| Error::Failed("a kernel that traps was not noticed".to_owned()))
    }

    /// Bytes of its memory that nobody uses now.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn free_bytes(&self) -> Result<u64, Error> {
        self.enter()?;
        let (free, _) = result::mem_get_info().map_err(|error| failed("cuMemGetInfo", error))?;
        Ok(free as u64)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: retained once by `open`; everything made in the context holds the `Arc` and is gone. A failure leaves
        // the context to the end of the process.
        let _until_the_process_ends = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Asks that whoever waits for the device sleeps. Otherwise it spins, and each desk takes a core from the other lane. Where
/// the context is up already it stays as it is: that costs cores, and nothing else.
fn sleep_while_waiting(device: CUdevice) {
    let flags = CUctx_flags_enum::CU_CTX_SCHED_BLOCKING_SYNC as u32;
    // SAFETY: plain numbers; `device` is one that the driver gave.
    let _as_it_is = unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, flags) };
}

fn facts(device: CUdevice) -> Result<Facts, Error> {
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    // SAFETY: `device` is one that the driver gave.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    let attribute = |which| attribute(which).map_err(|error| failed("cuDeviceGetAttribute", error));
    // SAFETY: as above.
    let memory = unsafe { result::device::total_mem(device) };
    let mut driver = 0;
    // SAFETY: `driver` is ours to write.
    let asked = unsafe { sys::cuDriverGetVersion(&mut driver) };
    asked.result().map_err(|error| failed("cuDriverGetVersion", error))?;
    Ok(Facts {
        name: result::device::get_name(device).map_err(|error| failed("cuDeviceGetName", error))?,
        memory_bytes: memory.map_err(|error| failed("cuDeviceTotalMem", error))? as u64,
        capability: (attribute(MAJOR)?, attribute(MINOR)?),
        driver,
    })
}

/// An order of work: what is enqueued on a stream is done one after the other.
#[derive(Debug)]
pub(super) struct Stream {
    pub raw: CUstream,
    device: Arc<Device>,
}

impl Stream {
    pub fn new(device: &Arc<Device>) -> Result<Stream, Error> {
        device.enter()?;
        let raw = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Stream { raw: raw.map_err(|error| failed("cuStreamCreate", error))?, device: device.clone() })
    }

    /// Whose it is.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Waits until all of it is done. A fault of the device shows here at the latest.
    pub fn wait(&self) -> Result<(), Error> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.raw) }.map_err(|error| failed("cuStreamSynchronize", error))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by `new` and not used after this. What fails ends with the process.
        let _until_the_process_ends = unsafe { result::stream::destroy(self.raw) };
    }
}

/// Bytes on the device, with unspecified content.
#[derive(Debug)]
pub(super) struct Memory {
    base: CUdeviceptr,
    len: u64,
    _device: Arc<Device>,
}

impl Memory {
    pub fn new(device: &Arc<Device>, len: u64) -> Result<Memory, Error> {
        device.enter()?;
        // SAFETY: a fresh allocation touches nothing of ours.
        let base = unsafe { result::malloc_sync(len as usize) };
        let base = base.map_err(|error| failed(&format!("cuMemAlloc of {len} bytes"), error))?;
        Ok(Memory { base, len, _device: device.clone() })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The device's address of byte `offset`.
    pub fn at(&self, offset: u64) -> CUdeviceptr {
        assert!(offset <= self.len, "offset outside the device's memory");
        self.base + offset
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, not used after this, and the call waits for work that still uses it. What fails
        // ends with the process.
        let _until_the_process_ends = unsafe { result::free_sync(self.base) };
    }
}

/// Host memory that the device reads and writes without the processor. Cached as all memory: write-combined memory, which
/// cudarc's own kind of this is, is read a hundred times slower.
#[derive(Debug)]
pub(super) struct Pinned {
    base: NonNull<u8>,
    len: usize,
    _device: Arc<Device>,
}

impl Pinned {
    pub fn new(device: &Arc<Device>, len: usize) -> Result<Pinned, Error> {
        device.enter()?;
        // SAFETY: a fresh allocation touches nothing of ours.
        let base = unsafe { result::malloc_host(len, 0) };
        let base = base.map_err(|error| failed(&format!("cuMemHostAlloc of {len} bytes"), error))?;
        let base =
            NonNull::new(base.cast::<u8>()).ok_or_else(|| Error::Failed("cuMemHostAlloc gave no memory".to_owned()))?;
        // SAFETY: `len` fresh bytes of ours; from here on they are initialised.
        unsafe { base.as_ptr().write_bytes(0, len) };
        Ok(Pinned { base, len, _device: device.clone() })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "offset outside the pinned memory");
        // SAFETY: within the allocation, as just asserted.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Bytes that the device does not write now: the caller has waited.
    pub fn slice(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "range outside the pinned memory");
        // SAFETY: inside the allocation and initialised by `new`; nobody writes it, as the caller says.
        unsafe { std::slice::from_raw_parts(self.at(offset), len) }
    }

    /// Copies bytes to where the device does not read now: the caller has waited, or has not used this part yet.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "range outside the pinned memory");
        // SAFETY: inside the allocation; `bytes` is a borrow of something else, because this is borrowed mutably.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), bytes.len()) };
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, not used after this, and the call waits for work that still uses it. What fails
        // ends with the process.
        let _until_the_process_ends = unsafe { result::free_host(self.base.as_ptr().cast::<c_void>()) };
    }
}

/// A call that went wrong. Too little memory is told apart by the lane's own reserve, so every one of these is a fault.
pub(super) fn failed(call: &str, error: DriverError) -> Error {
    Error::Failed(format!("{call}: {}", describe(error)))
}

fn describe(error: DriverError) -> String {
    match error.error_string() {
        Ok(words) => format!("{} ({})", words.to_string_lossy(), error.0 as i32),
        Err(_) => format!("error {}", error.0 as i32),
    }
}
