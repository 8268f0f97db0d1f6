//! What speaks against a model on a device.

use crate::error::Cause;
use crate::gpu::verdict::GpuFault;

/// What speaks against a model on a device.
#[derive(Debug)]
pub(in crate::gpu) enum Doubt {
    /// The device is at fault.
    Gpu(GpuFault),
    /// The proof could not be made: the file cannot be read, there is no memory, or nobody waits for it any more.
    Other(Cause),
}
