//! Has a device prove itself on a model before it serves, and takes nothing over from one that fails.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use scheduler::ModelRunner;

use super::load::Report;
use super::proof::doubt::Doubt;
use super::proof::recorded::Provable;
use super::proof::{Time, limit_of, prove};
use super::verdict::{GpuFault, GpuProof};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::options::GpuProofOptions;
use crate::run::runner::Runner;

/// A model on a device, and how the device has proved itself if it was asked to.
pub(super) type Trusted<D> = (Runner<D>, Option<GpuProof>);

/// Have `set_up` put the model of `gguf` on a device, and the device prove itself where `proof` says how. `clock` tells
/// the time since anything.
///
/// Where the device is at fault, or has no room, what `set_up` made is gone before this returns: there is room for the
/// model on the CPU.
pub(super) fn trusted<D: Provable>(
    set_up: impl FnOnce(Report<'_>) -> Result<Runner<D>, Cause>,
    gguf: &Gguf,
    proof: Option<&GpuProofOptions>,
    clock: &dyn Fn() -> Duration,
    progress: Report<'_>,
) -> Result<Result<Trusted<D>, GpuFault>, Cause>
where
    Runner<D>: ModelRunner,
{
    match proved(set_up, gguf, proof, clock, progress) {
        Ok(trusted) => Ok(Ok(trusted)),
        Err(Doubt::Gpu(fault)) => Ok(Err(fault)),
        Err(Doubt::Other(Cause::Setup(text))) => Ok(Err(GpuFault::no_room(text))),
        Err(Doubt::Other(cause)) => Err(cause),
    }
}

fn proved<D: Provable>(
    set_up: impl FnOnce(Report<'_>) -> Result<Runner<D>, Cause>,
    gguf: &Gguf,
    proof: Option<&GpuProofOptions>,
    clock: &dyn Fn() -> Duration,
    progress: Report<'_>,
) -> Result<Trusted<D>, Doubt>
where
    Runner<D>: ModelRunner,
{
    let began = clock();
    let mut runner = unharmed(|| set_up(&mut *progress))?.map_err(Doubt::Other)?;
    let Some(options) = proof else { return Ok((runner, None)) };
    let loaded = clock();
    let (limit, elapsed) = (limit_of(loaded.saturating_sub(began)), || clock().saturating_sub(loaded));
    let time = Time { limit, elapsed: &elapsed };
    match unharmed(|| prove(&mut runner, gguf, options, &time, progress)).and_then(|proved| proved) {
        Ok(proof) => Ok((runner, Some(proof))),
        Err(doubt) => {
            // A device that broke may break again when it is let go; that is known by now.
            let _ = unharmed(|| drop(runner));
            Err(doubt)
        }
    }
}

/// Do `work`; a panic in it is the device's.
fn unharmed<T>(work: impl FnOnce() -> T) -> Result<T, Doubt> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        Doubt::Gpu(GpuFault::broke(format!("what drives it panicked: {}", said_by(panic.as_ref()))))
    })
}

fn said_by(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
