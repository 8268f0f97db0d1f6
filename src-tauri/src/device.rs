//! Which device computes: the GPU or the CPU.

use engine::{Backend, Failure, GpuRefusal, GpuRefusalKind, ServedBy};
use model::{Gpu, GpuFault, GpuFaultKind, GpuLoad, GpuProof};
use scheduler::{KvDtype, ModelRunner};

use crate::gpu_trust::Verdict;
use crate::settings::values::Device;

/// Why no GPU computes where there is none.
pub(crate) const NO_GPU: &str = "this machine or this build has no Metal";

/// What a model runs on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<G> {
    /// The GPU.
    Gpu(G),
    /// The CPU; with a reason where a GPU was to be expected.
    Cpu {
        /// Why not the GPU.
        because: Option<GpuRefusal>,
    },
}

/// A loaded model, and who serves it.
pub(crate) struct Served {
    pub(crate) runner: Box<dyn ModelRunner>,
    pub(crate) by: ServedBy,
}

/// Decide for this machine, and a model of which `refusal` says why the GPU does not run it, if so.
///
/// # Errors
/// The GPU was asked for and cannot be had; one line for the user.
pub(crate) fn choose(
    wanted: Device,
    kv_dtype: KvDtype,
    refusal: impl FnOnce(&Gpu) -> Option<GpuRefusal>,
) -> Result<Choice<Gpu>, String> {
    match wanted {
        Device::Cpu => Ok(Choice::Cpu { because: None }),
        Device::Auto | Device::Metal => decide(wanted, kv_dtype, Gpu::find(), refusal),
    }
}

/// What a GPU lacks for a model.
pub(crate) fn lacking(what: &str) -> GpuRefusal {
    GpuRefusal::new(GpuRefusalKind::Model, format!("the GPU cannot run this model: {what}"))
}

/// What a GPU's fault is to users.
pub(crate) fn refusal_of(fault: &GpuFault) -> GpuRefusal {
    let (kind, what) = match fault.kind {
        GpuFaultKind::NoRoom => (GpuRefusalKind::NoRoom, "the model cannot be put on the GPU"),
        GpuFaultKind::Wrong => (GpuRefusalKind::Wrong, "the GPU does not compute what the CPU computes"),
        GpuFaultKind::Broke => (GpuRefusalKind::Broke, "the GPU failed while it proved itself"),
    };
    GpuRefusal::new(kind, format!("{what}: {}", fault.text))
}

/// Decide by what was found.
fn decide<G>(
    wanted: Device,
    kv_dtype: KvDtype,
    found: Result<Option<G>, String>,
    refusal: impl FnOnce(&G) -> Option<GpuRefusal>,
) -> Result<Choice<G>, String> {
    let because = match found {
        Ok(Some(gpu)) if Gpu::takes(kv_dtype) => match refusal(&gpu) {
            None => return Ok(Choice::Gpu(gpu)),
            Some(refusal) => refusal,
        },
        Ok(Some(_)) => {
            let text = format!("KV as {} is for the CPU only", kv_dtype.name());
            GpuRefusal::new(GpuRefusalKind::KvFormat, text)
        }
        Ok(None) if wanted == Device::Auto => return Ok(Choice::Cpu { because: None }),
        Ok(None) => return Err(format!("device: {NO_GPU}")),
        Err(cause) => GpuRefusal::new(GpuRefusalKind::Unusable, format!("the GPU cannot be used: {cause}")),
    };
    match wanted {
        Device::Metal => Err(format!("device: {because}")),
        Device::Auto | Device::Cpu => Ok(Choice::Cpu { because: Some(because) }),
    }
}

/// How a model is loaded.
pub(crate) trait Loads<G> {
    /// Onto the GPU.
    fn by_gpu(&self, gpu: G) -> Result<GpuLoad, Failure>;

    /// For the CPU.
    fn by_cpu(&self) -> Result<Box<dyn ModelRunner>, Failure>;

    /// The GPU has proved itself, or failed to.
    fn learnt(&self, verdict: &Verdict);

    /// The failure of a model that the GPU alone was to serve.
    fn refused(&self, refusal: &GpuRefusal) -> Failure;
}

/// Load a model as was chosen: on the CPU where the GPU refuses it, unless nothing but the GPU is `wanted`.
///
/// # Errors
/// As the loads have; the GPU that was asked for refuses it.
pub(crate) fn serve<G>(wanted: Device, choice: Choice<G>, load: &impl Loads<G>) -> Result<Served, Failure> {
    let gpu_refusal = match choice {
        Choice::Cpu { because } => because,
        Choice::Gpu(gpu) => match load.by_gpu(gpu)? {
            GpuLoad::Serves { runner, proof } => {
                if let Some(GpuProof { worst, n_compared, n_layers }) = proof {
                    tracing::info!(worst, n_compared, n_layers, "the GPU computes what the CPU computes");
                    load.learnt(&Verdict::Passed);
                }
                let by = ServedBy { backend: Backend::Metal, gpu_refusal: None };
                return Ok(Served { runner, by });
            }
            GpuLoad::Refused(fault) => {
                let refusal = refusal_of(&fault);
                if fault.kind != GpuFaultKind::NoRoom {
                    load.learnt(&Verdict::Failed(refusal.clone()));
                }
                Some(refusal)
            }
        },
    };
    if let Some(refusal) = &gpu_refusal {
        if wanted == Device::Metal {
            return Err(load.refused(refusal));
        }
        tracing::warn!(kind = refusal.kind.name(), "the CPU computes: {refusal}");
    }
    let runner = load.by_cpu()?;
    Ok(Served { runner, by: ServedBy { backend: Backend::Cpu, gpu_refusal } })
}

#[cfg(test)]
mod tests;
