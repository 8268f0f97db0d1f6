//! What the operations need of the device besides tensors: our own programs for the GPU, compiled when a model is
//! loaded. On the CPU there is nothing to compile.

#[cfg(all(feature = "metal", target_os = "macos"))]
use std::sync::Arc;

use candle_core::{Device, Result};

#[cfg(all(feature = "metal", target_os = "macos"))]
use super::metal::Programs;

/// Our programs on a device.
#[derive(Clone)]
pub(super) struct Shaders {
    fused: bool,
    #[cfg(all(feature = "metal", target_os = "macos"))]
    programs: Option<Arc<Programs>>,
}

impl Shaders {
    pub(super) fn new(device: &Device) -> Result<Shaders> {
        #[cfg(all(feature = "metal", target_os = "macos"))]
        if let Device::Metal(device) = device {
            return Ok(Shaders { fused: true, programs: Some(Arc::new(Programs::new(device)?)) });
        }
        let fused = device.is_metal();
        Ok(Shaders {
            fused,
            #[cfg(all(feature = "metal", target_os = "macos"))]
            programs: None,
        })
    }

    /// The CPU with attention cut as for Metal's fused kernels.
    #[cfg(test)]
    pub(super) fn like_metal() -> Shaders {
        let mut shaders = Shaders::new(&Device::Cpu).expect("nothing to compile");
        shaders.fused = true;
        shaders
    }

    pub(super) fn fused(&self) -> bool {
        self.fused
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    pub(super) fn metal(&self) -> Result<&Programs> {
        self.programs
            .as_deref()
            .ok_or_else(|| candle_core::Error::Msg("programs of another device".to_owned()))
    }
}

/// Does `work` and releases what the system's libraries have put up for release meanwhile.
///
/// The engine's thread has no run loop that would do so: command buffers and encoders of every step would stay.
#[cfg(all(feature = "metal", target_os = "macos"))]
pub(crate) fn releasing<T>(work: impl FnOnce() -> T) -> T {
    objc2::rc::autoreleasepool(|_| work())
}

/// Does `work`; here nothing is left to be released.
#[cfg(not(all(feature = "metal", target_os = "macos")))]
pub(crate) fn releasing<T>(work: impl FnOnce() -> T) -> T {
    work()
}
