//! The CPU's form of a model, one layer at a time.

use std::ops::{ControlFlow, Range};

use kernels::ggml::GgmlType;
use kernels::kv::KvArena;
use kernels::threads::Threads;
use scheduler::{KvLayout, ModelRunner, RunError};

use super::distance::{self, Worst};
use super::doubt::Doubt;
use super::prompt::{Prompt, ProofStep};
use super::recorded::Recorded;
use crate::cpu::backend::Cpu;
use crate::cpu::place::Place;
use crate::cpu::weights::CpuPack;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::gpu::verdict::GpuFault;
use crate::options::{GpuProofOptions, Precision};
use crate::plan::convert::Convert;
use crate::plan::model_plan::{LayerPlan, ModelPlan};
use crate::plan::tensor_list::{TensorList, TensorPlace};
use crate::plan::weights::{Ending, LayerWeights};
use crate::run::backend::{Backend, Head, pieces_of};
use crate::run::batch::Batch;
use crate::run::layer::Layer;
use crate::run::load::Packer;
use crate::run::pool::Pool;
use crate::run::runner::Runner;

/// Rows of the output head that are compared: so many runs of so many, spread over the vocabulary, its last rows among
/// them.
const HEAD_RUNS: usize = 8;
const RUN_ROWS: usize = 256;

/// What layers have in common whose operations are the same: a plan, and the types of their tensors.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    plan: LayerPlan,
    types: Vec<GgmlType>,
}

/// The CPU on a model's file.
pub(super) struct Reference<'a> {
    gguf: &'a Gguf,
    list: &'a TensorList,
    plan: ModelPlan,
    layout: KvLayout,
    prompt: &'a Prompt,
    cpu: Cpu,
}

impl<'a> Reference<'a> {
    /// For the model that `runner` has, with a pool for the prompt alone.
    pub(super) fn new<D: Backend>(
        gguf: &'a Gguf,
        list: &'a TensorList,
        runner: &Runner<D>,
        prompt: &'a Prompt,
        options: &GpuProofOptions,
    ) -> Result<Reference<'a>, Cause>
    where
        Runner<D>: ModelRunner,
    {
        let (plan, layout) = (runner.plan().clone(), runner.layout().clone());
        let arena = KvArena::new(prompt.n_blocks, layout.block_bytes)
            .map_err(|error| Cause::Setup(error.to_string()))?;
        let GpuProofOptions { n_threads, isa } = *options;
        let places = Place::in_pool(&plan, &layout);
        // A device rounds nothing either.
        let rounding = Precision::Full.rounding();
        let cpu = Cpu::new(&plan, (arena, places), Threads::new(n_threads), isa, rounding);
        Ok(Reference { gguf, list, plan, layout, prompt, cpu })
    }

    /// What kind each layer is of.
    pub(super) fn kinds(&self) -> Result<Vec<Kind>, Cause> {
        let kind = |(plan, layer): (&LayerPlan, &LayerWeights<TensorPlace, TensorPlace>)| {
            let mut types = TypesOf { gguf: self.gguf, types: Vec::new() };
            layer.convert(&mut types)?;
            Ok(Kind { plan: *plan, types: types.types })
        };
        self.plan.layers.iter().zip(&self.list.weights.layers).map(kind).collect()
    }

    /// Compare what the device took for the prompt's embeddings.
    pub(super) fn embeddings(&self, recorded: &Recorded, worst: &mut Worst) -> Result<(), Doubt> {
        let place = &self.list.weights.embeddings;
        let n_embd = self.plan.n_embd;
        let tensor = self.gguf.tensor_of(&place.name, &place.shape).map_err(Doubt::Other)?;
        let first_row = place.part.as_ref().map_or(0, |part| part.start);
        for (ProofStep { step, .. }, streams) in self.prompt.steps.iter().zip(&recorded.streams) {
            let tokens = step.rows.iter().flat_map(|row| row.tokens().iter().copied());
            for (token, got) in tokens.zip(streams[0].chunks_exact(n_embd)) {
                let start = (first_row + token as usize) * n_embd;
                let mut want = self.gguf.floats_of(tensor, start..start + n_embd).map_err(Doubt::Other)?;
                want.iter_mut().for_each(|x| *x *= self.plan.embedding_scale);
                worst.see_rows("embeddings", (got, &want), n_embd)?;
            }
        }
        Ok(())
    }

    /// Compare what the device made of its last stream: hidden vectors, and some logits of each row.
    pub(super) fn output(&mut self, recorded: &Recorded, worst: &mut Worst) -> Result<(), Doubt> {
        let (n_embd, n_vocab) = (self.plan.n_embd, self.plan.n_vocab);
        let weights = &self.list.weights;
        let Ending::Logits(ending) = &weights.ending else {
            return Err(Doubt::Gpu(GpuFault::wrong("a model without logits is not compared")));
        };
        let place = ending.matrix.as_ref().unwrap_or(&weights.embeddings);
        let first_row = place.part.as_ref().map_or(0, |part| part.start);
        let norm = self.pack(|by| by.vector(&ending.norm)).map_err(Doubt::Other)?;
        for rows in runs(n_vocab) {
            let part = Some(first_row + rows.start..first_row + rows.end);
            let place = TensorPlace { part, ..place.clone() };
            let matrix = self.pack(|by| by.matrix(&place)).map_err(Doubt::Other)?;
            let (scale, softcap) = (self.plan.logit_scale, self.plan.logit_softcap);
            let head = Head { norm: &norm, matrix: &matrix, scale, softcap };
            for (idx, out) in recorded.outputs.iter().enumerate() {
                let (x, wanted) = (recorded.last_stream(idx), self.batch(idx).logits_wanted);
                if wanted.is_empty() {
                    continue;
                }
                let mut want = vec![0.0; wanted.len() * rows.len()];
                self.cpu.logits(x, &wanted, &head, &mut want).map_err(on_cpu)?;
                let got = out.logits.values.chunks_exact(n_vocab).flat_map(|logits| &logits[rows.clone()]);
                let got: Vec<f32> = got.copied().collect();
                worst.see_rows("output head", (&got, &want), rows.len())?;
            }
        }
        for (idx, out) in recorded.outputs.iter().enumerate() {
            distance::finite("output head", &out.logits.values)?;
            let (x, wanted) = (recorded.last_stream(idx), self.batch(idx).hidden_wanted);
            let mut want = vec![0.0; wanted.len() * n_embd];
            self.cpu.hidden(x, &wanted, &norm, &mut want).map_err(on_cpu)?;
            worst.see_rows("output norm", (&out.hidden.values, &want), n_embd)?;
        }
        Ok(())
    }

    /// Compare what the device made of one layer.
    pub(super) fn layer(
        &mut self,
        layer_idx: usize,
        recorded: &Recorded,
        worst: &mut Worst,
    ) -> Result<(), Doubt> {
        let n_embd = self.plan.n_embd;
        let stored = &self.list.weights.layers[layer_idx];
        let weights = self.pack(|by| stored.convert(by)).map_err(Doubt::Other)?;
        for (ProofStep { moves, step }, streams) in self.prompt.steps.iter().zip(&recorded.streams) {
            let mut x = streams[layer_idx].clone();
            let batch = Batch::new(step, &self.layout, Cpu::CHUNK_TOKENS);
            for copy in moves.iter().chain(&step.copies) {
                self.cpu.copy_block(copy.from.idx(), copy.to.idx()).map_err(on_cpu)?;
            }
            let prepared = batch.chunks.iter().map(|chunk| self.cpu.prepare(chunk));
            let prepared = prepared.collect::<Result<Vec<_>, _>>().map_err(on_cpu)?;
            let pieces = pieces_of(&batch.chunks, &prepared);
            // Vectors of tokens for each layer are of no model that a device runs; where one had some, they would be
            // missed here.
            let plan = &self.plan.layers[layer_idx];
            let layer = Layer { idx: layer_idx, plan, weights: &weights, per_layer: None };
            layer.run(&mut self.cpu, &mut x, &pieces).map_err(on_cpu)?;
            let (input, got) = (&streams[layer_idx], &streams[layer_idx + 1]);
            worst.see_added(&format!("layer {layer_idx}"), input, (got, &x), n_embd)?;
            self.cpu.end_pass(x, prepared).map_err(on_cpu)?;
        }
        Ok(())
    }

    fn batch(&self, step_idx: usize) -> Batch<'a> {
        Batch::new(&self.prompt.steps[step_idx].step, &self.layout, Cpu::CHUNK_TOKENS)
    }

    /// Something of the file in the CPU's form.
    fn pack<T>(
        &self,
        make: impl FnOnce(&mut Packer<'_, CpuPack<'_>>) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let pack = CpuPack { threads: &self.cpu.threads };
        make(&mut Packer::new(self.gguf, &pack, 0, &mut |_| ControlFlow::Continue(())))
    }
}

/// Runs of rows of a head of `n_vocab`; all of them where there are few.
fn runs(n_vocab: usize) -> Vec<Range<usize>> {
    if n_vocab <= HEAD_RUNS * RUN_ROWS {
        return std::iter::once(0..n_vocab).collect();
    }
    let last = n_vocab - RUN_ROWS;
    (0..HEAD_RUNS).map(|run| last * run / (HEAD_RUNS - 1)).map(|start| start..start + RUN_ROWS).collect()
}

/// The types of the tensors that it is led through.
struct TypesOf<'a> {
    gguf: &'a Gguf,
    types: Vec<GgmlType>,
}

impl Convert<TensorPlace, TensorPlace> for TypesOf<'_> {
    type Matrix = ();
    type Vector = ();
    type Error = Cause;

    fn matrix(&mut self, place: &TensorPlace) -> Result<(), Cause> {
        self.types.push(self.gguf.tensor_of(&place.name, &place.shape)?.ty);
        Ok(())
    }

    fn vector(&mut self, place: &TensorPlace) -> Result<(), Cause> {
        self.matrix(place)
    }
}

/// The CPU failed, not the device.
fn on_cpu(error: RunError) -> Doubt {
    Doubt::Other(Cause::Setup(format!("the CPU failed beside it: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_head_is_compared_whole_and_of_a_large_one_first_and_last_rows_too() {
        assert_eq!(runs(2048), Vec::from_iter(std::iter::once(0..2048)));
        let runs = runs(262_144);
        assert_eq!((runs.len(), runs[0].clone(), runs[7].clone()), (8, 0..256, 261_888..262_144));
        assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}
