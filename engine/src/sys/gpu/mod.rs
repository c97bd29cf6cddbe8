//! The GPU: CUDA's driver, nvJPEG and our own kernels.
//!
//! The promise: whatever safe code asks, no kernel, copy or codec call touches memory that is not its desk's own, and
//! host memory that the device reads or writes stays where it is until the device is done with it. What a *device* makes
//! of a stranger's bytes is beyond any promise of ours; that is why all of this runs in a process of its own.
//!
//! ```text
//!   desk (one stream, one thread) ── decode ─► planes in its arena ── kernels ─► smaller planes ── encode ─► bytes
//!     │ cuda     context, stream, memory
//!     │ nvjpeg   hardware decoder (batches), hybrid decoder (one by one), encoders
//!     └ kernels  image.cu, as image.ptx, and the tables that it reads
//! ```

pub mod cuda;
pub mod desk;
pub mod kernels;
pub mod nvjpeg;

use std::fmt;

/// Why the GPU did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no driver, device or library here.
    Absent(String),
    /// Not this image, or not this much at once: nothing is broken, another lane can do it.
    Unsupported(String),
    /// Anything else. The context may be of no use any more, and only the end of its process is sure to heal that.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Absent(what) | Error::Unsupported(what) | Error::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
