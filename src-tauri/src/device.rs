//! Which device computes: the GPU or the CPU.

use model::Gpu;
use scheduler::KvDtype;

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
        /// Why not the GPU, for the log.
        because: Option<String>,
    },
}

/// Decide for this machine, and a model of which `refusal` says what GPUs lack for it, if they do.
///
/// # Errors
/// The GPU was asked for and cannot be had; one line for the user.
pub(crate) fn choose(
    wanted: Device,
    kv_dtype: KvDtype,
    refusal: impl FnOnce() -> Option<String>,
) -> Result<Choice<Gpu>, String> {
    match wanted {
        Device::Cpu => Ok(Choice::Cpu { because: None }),
        Device::Auto | Device::Metal => decide(wanted, kv_dtype, Gpu::find(), refusal),
    }
}

/// Decide by what was found.
fn decide<G>(
    wanted: Device,
    kv_dtype: KvDtype,
    found: Result<Option<G>, String>,
    refusal: impl FnOnce() -> Option<String>,
) -> Result<Choice<G>, String> {
    let because = match found {
        Ok(Some(gpu)) if Gpu::takes(kv_dtype) => match refusal() {
            None => return Ok(Choice::Gpu(gpu)),
            Some(refusal) => format!("the GPU cannot run this model: {refusal}"),
        },
        Ok(Some(_)) => format!("KV as {} is for the CPU only", kv_dtype.name()),
        Ok(None) if wanted == Device::Auto => return Ok(Choice::Cpu { because: None }),
        Ok(None) => NO_GPU.to_owned(),
        Err(cause) => format!("the GPU cannot be used: {cause}"),
    };
    match wanted {
        Device::Metal => Err(format!("device: {because}")),
        Device::Auto | Device::Cpu => Ok(Choice::Cpu { because: Some(because) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_computes_where_it_can_and_a_forced_one_that_cannot_is_refused() {
        use Device::{Auto, Metal};
        use KvDtype::{F16, Q4, Q8};
        let cpu =
            |because: &str| Ok(Choice::Cpu { because: (!because.is_empty()).then(|| because.to_owned()) });
        let refused = |because: &str| Err(format!("device: {because}"));
        let broken = || Err("lost".to_owned());
        type Found = Result<Option<u8>, String>;
        type Want = Result<Choice<u8>, String>;
        let table: [(Device, KvDtype, Found, Want); 8] = [
            (Auto, F16, Ok(Some(1)), Ok(Choice::Gpu(1))),
            (Metal, Q8, Ok(Some(1)), Ok(Choice::Gpu(1))),
            (Auto, F16, Ok(None), cpu("")),
            (Metal, F16, Ok(None), refused("this machine or this build has no Metal")),
            (Auto, Q4, Ok(Some(1)), cpu("KV as q4 is for the CPU only")),
            (Metal, Q4, Ok(Some(1)), refused("KV as q4 is for the CPU only")),
            (Auto, F16, broken(), cpu("the GPU cannot be used: lost")),
            (Metal, F16, broken(), refused("the GPU cannot be used: lost")),
        ];
        for (wanted, kv_dtype, found, want) in table {
            let what = format!("{wanted:?} {kv_dtype:?} {found:?}");
            assert_eq!(decide(wanted, kv_dtype, found, || None), want, "{what}");
        }
        let lacks = |wanted| decide(wanted, F16, Ok(Some(1)), || Some("no experts".to_owned()));
        assert_eq!(lacks(Auto), cpu("the GPU cannot run this model: no experts"));
        assert_eq!(lacks(Metal), refused("the GPU cannot run this model: no experts"));
    }

    #[test]
    fn the_cpu_is_used_when_asked_for() {
        assert!(matches!(choose(Device::Cpu, KvDtype::F16, || None), Ok(Choice::Cpu { because: None })));
    }
}
