//! What a device makes of the prompt that it proves itself on.

use scheduler::{BlockId, ModelRunner, RunError, StepOutput};

use super::distance::finite;
use super::doubt::Doubt;
use super::prompt::{Prompt, ProofStep};
use crate::run::backend::Backend;
use crate::run::decoder::Witness;
use crate::run::runner::Runner;

/// A device whose stream can be looked at.
pub(in crate::gpu) trait Provable: Backend {
    /// The values of `x`, `[n_tokens, n_embd]`.
    fn values(&mut self, x: &Self::Stream) -> Result<Vec<f32>, RunError>;
}

/// What the device made of the prompt.
pub(super) struct Recorded {
    /// For each step the stream in front of each layer and behind the last, `[n_tokens, n_embd]`.
    pub(super) streams: Vec<Vec<Vec<f32>>>,
    pub(super) outputs: Vec<StepOutput>,
}

impl Recorded {
    /// Hold that all of the stream are numbers, in layers too that are not compared.
    ///
    /// # Errors
    /// In front of which layer, or behind which, they are not.
    pub(super) fn check_finite(&self) -> Result<(), Doubt> {
        for streams in &self.streams {
            for (idx, stream) in streams.iter().enumerate() {
                let place = idx.checked_sub(1).map(|layer_idx| format!("layer {layer_idx}"));
                finite(place.as_deref().unwrap_or("embeddings"), stream)?;
            }
        }
        Ok(())
    }

    /// What came to the output head in a step.
    pub(super) fn last_stream(&self, step_idx: usize) -> &Vec<f32> {
        let streams = &self.streams[step_idx];
        &streams[streams.len() - 1]
    }
}

/// Have the device run the prompt.
pub(super) fn record<D: Provable>(runner: &mut Runner<D>, prompt: &Prompt) -> Result<Recorded, RunError>
where
    Runner<D>: ModelRunner,
{
    let n_streams = runner.plan().layers.len() + 1;
    let mut bytes = vec![0; runner.layout().block_bytes];
    for idx in 0..prompt.n_blocks {
        runner.import_block(BlockId(idx as u32), &bytes)?;
    }
    let mut recorded = Recorded { streams: Vec::new(), outputs: Vec::new() };
    for ProofStep { moves, step } in &prompt.steps {
        for at in moves {
            runner.export_block(at.from, &mut bytes)?;
            runner.import_block(at.to, &bytes)?;
        }
        let (mut streams, mut out) = (Streams(vec![Vec::new(); n_streams]), StepOutput::default());
        runner.run_watched(step, &mut out, &mut streams)?;
        recorded.streams.push(streams.0);
        recorded.outputs.push(out);
    }
    Ok(recorded)
}

/// The stream in front of each layer and behind the last; of a step in several passes, one behind the other.
struct Streams(Vec<Vec<f32>>);

impl<D: Provable> Witness<D> for Streams {
    fn stream(&mut self, backend: &mut D, layer_idx: usize, x: &D::Stream) -> Result<(), RunError> {
        self.0[layer_idx].extend(backend.values(x)?);
        Ok(())
    }
}
