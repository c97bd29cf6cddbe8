//! The GPU, for the lane that makes pixels on it: open a [`Device`] and [`Nvjpeg`], and work at a [`Desk`].
//!
//! Knows planes and JPEGs and nothing of jobs. Its users run it in a process of its own, because after a fault of the
//! device only the end of its process is sure to heal it, and because what a device makes of a stranger's bytes is beyond
//! our promises. A machine without a GPU learns that from the error of [`Device::open`].

pub use crate::sys::gpu::Error;
pub use crate::sys::gpu::cuda::{Device, Facts};
pub use crate::sys::gpu::desk::{Decoded, Desk, Picture, Samples};
pub use crate::sys::gpu::kernels::{Colour, Plane, Resample, SIGMA_MAX, Sharpen, Turn};
pub use crate::sys::gpu::nvjpeg::{Hardware, Nvjpeg, Quality, Subsampling};
pub use crate::sys::memory::Shared;
