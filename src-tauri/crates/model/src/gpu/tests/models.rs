//! Both real models: the same steps on a device and by the kernels, batched, in chunks, and through windows that
//! close behind a sequence.

use scheduler::{AttentionSpan, KvLayout, Step, StepOutput, Wanted};

use super::sequence::{Blocks, Random, Sequence};
use super::vectors::{GEMMA3, SMOLLM2, model_path, references};
use super::*;
use crate::gpu::shaders::Shaders;
use crate::gpu::weights::DevicePack;

const N_BLOCKS: usize = 700;

// How far a logit may be off, as a share of the largest of its row.

/// Sums in another order, activations that the kernels round to 16 bits, and keys and values in f16 that then fall on
/// the other side: SmolLM2 is off by 0.0005, Gemma 3 by 0.0011.
const WITHIN: f32 = 2e-3;

/// The same with keys and values in 8 bits, of which one may be the neighbouring integer: SmolLM2 is off by 0.008.
const WITHIN_Q8: f32 = 1.6e-2;

/// Weights in the file's form, for which candle's CPU form rounds activations to 8 bits, as no GPU does: SmolLM2 is
/// off by 0.044, Gemma 3 by 0.11.
const ROUNDED: f32 = 0.2;

/// A model, texts for it, and how KV is stored.
struct Case {
    file: &'static str,
    vectors: &'static str,
    lengths: &'static [usize],
    kv_dtype: KvDtype,
}

impl Case {
    fn options(&self) -> GpuOptions {
        GpuOptions { kv_dtype: self.kv_dtype, ..options(N_BLOCKS) }
    }

    /// Its sequences side by side, each in pieces of random sizes and in blocks anywhere in the pool.
    fn steps(&self, layout: &KvLayout) -> Vec<Step> {
        let references = references(self.vectors);
        let text = |name: &str| references.iter().find(|text| text.name == name).unwrap();
        let mut random = Random(7);
        let mut blocks = Blocks::shuffled(N_BLOCKS, &mut random);
        let names = ["long_code", "long_table", "long_story"];
        let sequence =
            |(id, (&n, name)): (u64, (&usize, &str))| Sequence::new(id, &text(name).tokens[..n], layout);
        let mut sequences: Vec<Sequence> = (0..).zip(self.lengths.iter().zip(names)).map(sequence).collect();
        let sizes = [0, 1, 1, 2, 3, 16, 31, 33, 64, 97, 128, 130, 170];
        let mut steps = Vec::new();
        while sequences.iter().any(|sequence| sequence.n_left() > 0) {
            let mut step = Step::default();
            for sequence in &mut sequences {
                let n = sizes[random.below(sizes.len())].min(sequence.n_left());
                let wanted = if n <= 3 { Wanted::AllLogits } else { Wanted::LastLogits };
                if n > 0 {
                    step.rows.push(sequence.next_row(n, layout, &mut blocks, wanted));
                }
            }
            // Not before: the step still reads what it gives back.
            sequences.iter_mut().for_each(|sequence| sequence.close_windows(layout, &mut blocks));
            if !step.rows.is_empty() {
                steps.push(step);
            }
        }
        let has_windows = layout.groups.iter().any(|group| group.span != AttentionSpan::Full);
        let has_closed = sequences[0].tables.iter().any(|table| table.first_block > 0);
        assert_eq!(has_closed, has_windows, "a window of the first sequence closes");
        steps
    }

    /// The decoder under test: with `weights` in the file's form or as floats, its attention cut `like_metal` or not.
    fn device(&self, gguf: &Gguf, weights: Weights, shaders: Shaders) -> Runner<GpuBackend> {
        let (options, device) = (self.options(), Device::Cpu);
        let pack = DevicePack { device: &device };
        let mut runner = match weights {
            Weights::InFloats => packed_on_device(gguf, &options, &Unpacked::in_floats(pack)),
            Weights::AsInTheFile => packed_on_device(gguf, &options, &pack),
        };
        runner.backend().with_shaders(shaders);
        // Several in most steps.
        runner.in_chunks_of(100);
        runner
    }
}

#[derive(Debug, Clone, Copy)]
enum Weights {
    InFloats,
    AsInTheFile,
}

/// The logits of every step, row by row.
fn run(runner: &mut dyn ModelRunner, steps: &[Step]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    for step in steps {
        let mut out = StepOutput::default();
        runner.run(step, &mut out).unwrap();
        rows.extend((0..out.logits.n_rows()).map(|row| out.logits.row(row).to_vec()));
    }
    rows
}

/// Holds that no logit is off by more than `bound` of the largest of its row.
fn check(case: &Case, variants: &[(Weights, Shaders, f32)]) {
    let gguf = Gguf::open(&model_path(case.file)).unwrap();
    let mut kernels = by_kernels(&gguf, &case.options());
    let steps = case.steps(kernels.layout());
    let want = run(&mut *kernels, &steps);
    for (weights, shaders, bound) in variants {
        let mut device = case.device(&gguf, *weights, shaders.clone());
        assert_eq!(device.layout(), kernels.layout());
        let got = run(&mut device, &steps);
        let distances: Vec<f32> = got.iter().zip(&want).map(|(got, want)| distance(got, want)).collect();
        assert_eq!(distances.len(), want.len());
        let worst = distances.iter().copied().fold(0.0, f32::max);
        println!(
            "{}, {weights:?}, {:?}, fused {}: {} rows of {} steps, the worst off by {worst:.1e}",
            case.file,
            case.kv_dtype,
            shaders.fused(),
            want.len(),
            steps.len()
        );
        assert!(distances.iter().all(|distance| distance <= bound), "off by {worst}");
    }
}

#[test]
fn smollm2_computes_on_a_device_what_it_computes_by_kernels() {
    let case =
        Case { file: SMOLLM2, vectors: "smollm2.vec", lengths: &[300, 233, 90], kv_dtype: KvDtype::F16 };
    let plain = Shaders::new(&Device::Cpu).unwrap();
    check(
        &case,
        &[
            (Weights::InFloats, plain.clone(), WITHIN),
            (Weights::InFloats, Shaders::like_metal(), WITHIN),
            (Weights::AsInTheFile, plain.clone(), ROUNDED),
        ],
    );
    check(&Case { kv_dtype: KvDtype::Q8, ..case }, &[(Weights::InFloats, plain, WITHIN_Q8)]);
}

#[test]
fn gemma3_computes_on_a_device_what_it_computes_by_kernels() {
    let case = Case { file: GEMMA3, vectors: "gemma3.vec", lengths: &[700, 260, 80], kv_dtype: KvDtype::F16 };
    let plain = Shaders::new(&Device::Cpu).unwrap();
    check(
        &case,
        &[
            (Weights::InFloats, plain.clone(), WITHIN),
            (Weights::InFloats, Shaders::like_metal(), WITHIN),
            (Weights::AsInTheFile, plain, ROUNDED),
        ],
    );
}
