//! Every family's tiny model on a device against llama.cpp.

use scheduler::{Step, StepOutput, Wanted};

use super::sequence::{Blocks, Random, Sequence};
use super::*;
use crate::families::plan_of;
use crate::gpu::able::refusal;

/// How far a logit may be off, as a share of the largest of its position: sums in another order, and keys and values in
/// half precision.
const WITHIN: f32 = 2e-3;

/// How far the worst logit of all positions is off, in steps of `pieces` tokens in turn.
fn worst(tiny: &tiny::Tiny, pieces: &[usize]) -> f32 {
    let gguf = Gguf::open(&tiny.model).unwrap();
    let (device, options) = (Device::Cpu, GpuOptions { block_tokens: 16, ..options(40) });
    let pack = Unpacked::in_floats(DevicePack { device: &device });
    let mut runner = packed_on_device(&gguf, &options, &pack);
    runner.in_chunks_of(24);
    let layout = runner.layout().clone();
    let mut blocks = Blocks::shuffled(runner.n_blocks(), &mut Random(1));
    let mut sequence = Sequence::new(1, &tiny.tokens, &layout);
    let mut out = StepOutput::default();
    let mut worst: f32 = 0.0;
    for n in pieces.iter().cycle() {
        let (start, n) = (sequence.n_done, (*n).min(sequence.n_left()));
        let row = sequence.next_row(n, &layout, &mut blocks, Wanted::AllLogits);
        runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).unwrap();
        for i in 0..out.logits.n_rows() {
            let distance = tiny.distance(start + i, out.logits.row(i));
            worst = if distance.is_nan() { f32::INFINITY } else { worst.max(distance) };
        }
        sequence.close_windows(&layout, &mut blocks);
        if sequence.n_left() == 0 {
            break;
        }
    }
    worst
}

#[test]
fn layers_with_a_state_and_gated_attention_are_the_cpus() {
    for architecture in ["qwen35", "qwen35moe", "qwen3next"] {
        let gguf = Gguf::open(&tiny::folder().join(format!("{architecture}.gguf"))).unwrap();
        let mut plan = plan_of(&gguf).unwrap();
        assert_eq!(refusal(&plan, &gguf).unwrap(), "recurrent layers: on the CPU only");
        plan.layers.retain(|layer| layer.softmax().is_some());
        assert_eq!(refusal(&plan, &gguf).unwrap(), "gated attention: on the CPU only");
    }
}

#[test]
fn every_family_has_llama_cpps_logits_on_a_device() {
    for tiny in tiny::all() {
        let gguf = Gguf::open(&tiny.model).unwrap();
        if let Some(reason) = refusal(&plan_of(&gguf).unwrap(), &gguf) {
            let refused = load::runner(&gguf, &options(40), &Device::Cpu, &mut |_| ControlFlow::Continue(()));
            let Err(Cause::Setup(cause)) = refused else { panic!("{} runs, though {reason}", tiny.name) };
            assert_eq!(cause, reason, "{}", tiny.name);
            continue;
        }
        for pieces in [&[64][..], &[1, 9, 20]] {
            let worst = worst(&tiny, pieces);
            println!("{}, pieces of {pieces:?}: the worst is off by {worst:.1e}", tiny.name);
            assert!(worst <= WITHIN, "{}, pieces of {pieces:?}: off by {worst}", tiny.name);
        }
    }
}
