//! How a device earns the trust to serve a model: what it makes of a short known prompt is compared with the CPU's
//! kernels, layer by layer.
//!
//! ```text
//! device   runs the prompt's steps as it would run anybody's; the stream between its layers is put down
//! CPU      layer by layer: the layer's CPU form is made of the file, run on the device's own input, and dropped
//!          embeddings and output head: some of their rows likewise
//! ```
//!
//! So an error of one layer does not hide in the next, and the peak of memory grows by one layer.
//! One layer of each kind is always compared, the others for as long as there is time.

mod distance;
pub(super) mod doubt;
mod prompt;
pub(super) mod recorded;
mod reference;

use std::ops::ControlFlow;
use std::time::Duration;

use scheduler::{KvDtype, ModelRunner};

use super::verdict::{GpuFault, GpuProof};
use crate::error::Cause;
use crate::families;
use crate::file::gguf::Gguf;
use crate::options::{GpuProofOptions, LoadProgress};
use crate::run::runner::Runner;
use distance::Worst;
use doubt::Doubt;
use prompt::Prompt;
use recorded::{Provable, record};
use reference::Reference;

/// What a proof may take beside a load of any length.
const LEAST_TIME: Duration = Duration::from_secs(5);

/// How long a proof may take.
pub(super) struct Time<'a> {
    pub(super) limit: Duration,
    /// Time since the proof began.
    pub(super) elapsed: &'a dyn Fn() -> Duration,
}

/// What a proof may take beside a load that took `loading`.
pub(super) fn limit_of(loading: Duration) -> Duration {
    LEAST_TIME.max(loading / 20)
}

/// How far a value may be off: as a share of itself or of its row's root mean square, whichever is greater, in what a
/// layer adds to the stream and in logits.
///
/// Sums run in another order, kernels for many rows take weights in half precision, and a key or value may be stored as
/// the neighbouring half or, in q8, integer. With weights in half precision on candle's CPU device that comes to 0.005 in
/// the tiny models of all families that GPUs run (q8: 0.02), 0.009 in SmolLM2 (0.04) and 0.024 in Gemma 3 (0.12); the
/// bounds are twice that and a little. An attention off by a tenth is off by 0.35 in a tiny model, other rotations by
/// more than 1.
pub(super) fn bound_of(kv_dtype: KvDtype) -> f32 {
    match kv_dtype {
        KvDtype::F16 => 0.05,
        KvDtype::Q8 | KvDtype::Q4 => 0.3,
    }
}

/// Hold that the device of `runner` computes what the CPU computes.
pub(super) fn prove<D: Provable>(
    runner: &mut Runner<D>,
    gguf: &Gguf,
    options: &GpuProofOptions,
    time: &Time<'_>,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<GpuProof, Doubt>
where
    Runner<D>: ModelRunner,
{
    let (_, list) = families::read(gguf).map_err(Doubt::Other)?;
    let prompt = Prompt::new(runner.cache_spec(), runner.layout(), runner.n_blocks());
    if prompt.steps.is_empty() {
        return Err(Doubt::Gpu(GpuFault::wrong("its pool has no room for it to prove itself")));
    }
    let recorded = record(runner, &prompt).map_err(|error| Doubt::Gpu(GpuFault::broke(error.to_string())))?;
    recorded.check_finite()?;
    let bound = bound_of(runner.layout().kv_dtype);
    let mut worst = Worst::within(bound);
    let mut reference = Reference::new(gguf, &list, runner, &prompt, options).map_err(Doubt::Other)?;
    reference.embeddings(&recorded, &mut worst)?;
    reference.output(&recorded, &mut worst)?;
    let kinds = reference.kinds().map_err(Doubt::Other)?;
    let Order { layers, n_due } = order_of(&kinds);
    let mut n_compared = 0;
    for &layer_idx in &layers {
        if n_compared >= n_due && (time.elapsed)() >= time.limit {
            break;
        }
        let total = LoadProgress { bytes_done: gguf.file_bytes(), bytes_total: gguf.file_bytes() };
        if progress(total).is_break() {
            return Err(Doubt::Other(Cause::Cancelled));
        }
        reference.layer(layer_idx, &recorded, &mut worst)?;
        n_compared += 1;
    }
    Ok(GpuProof { n_layers: layers.len(), n_compared, worst: worst.share() })
}

/// In which order layers are compared.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    layers: Vec<usize>,
    /// How many of them are compared however long it takes.
    n_due: usize,
}

/// The first layer of each kind, then the others spread over the model, so that wherever time ends all parts of it had
/// their share.
fn order_of<K: PartialEq>(kinds: &[K]) -> Order {
    let is_first = |idx: &usize| !kinds[..*idx].contains(&kinds[*idx]);
    let (mut layers, mut others): (Vec<usize>, Vec<usize>) = (0..kinds.len()).partition(is_first);
    let n_due = layers.len();
    // Halves before quarters: the index with its bits in reverse.
    others.sort_by_key(|idx| idx.reverse_bits());
    layers.extend(others);
    Order { layers, n_due }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_of_each_kind_comes_first_and_the_others_are_spread() {
        let order = order_of(&["a", "a", "b", "a", "a", "a", "b", "a"]);
        assert_eq!(order, Order { layers: vec![0, 2, 4, 6, 1, 5, 3, 7], n_due: 2 });
        assert_eq!(order_of::<u8>(&[]), Order { layers: vec![], n_due: 0 });
    }

    #[test]
    fn a_proof_takes_a_twentieth_of_a_long_load_and_five_seconds_beside_a_short_one() {
        for (loading, limit) in [(0, 5), (100, 5), (200, 10)] {
            assert_eq!(limit_of(Duration::from_secs(loading)), Duration::from_secs(limit));
        }
    }
}
