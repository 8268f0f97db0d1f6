//! Time of a layer of experts in the shapes of models that people run, beside what its bytes and its multiplications
//! would take: `cargo run --release -p kernels --example experts_bench -- [threads] [isa] [model] [tokens]`.
//!
//! Router, choice, experts and sum are included, each token's experts are random. Each figure is the median of several
//! runs over some layers, so that no weights stay in a cache.
#![allow(clippy::print_stdout, reason = "its purpose")]

use std::time::Instant;

use kernels::activations::{Activations, Form, Gate, RmsNorm, Rounding};
use kernels::experts::{self, ExpertBuffers, ExpertMatrix, Experts, Inner, Router, Routes, Scoring};
use kernels::ggml::GgmlType::{self, F32, Q4_0, Q4K, Q6K};
use kernels::isa::Isa;
use kernels::matmul::{Epilogue, matmul};
use kernels::threads::Threads;
use kernels::weights::Weights;

struct Model {
    name: &'static str,
    n_layers: usize,
    n_experts: usize,
    n_used: usize,
    n_embd: usize,
    n_ff: usize,
    /// Types of gate and up, and of down.
    types: [GgmlType; 2],
}

const MODELS: [Model; 3] = [
    Model {
        name: "qwen3-30b-a3b",
        n_layers: 4,
        n_experts: 128,
        n_used: 8,
        n_embd: 2048,
        n_ff: 768,
        types: [Q4K, Q4K],
    },
    Model {
        name: "qwen3-30b-a3b-q6",
        n_layers: 4,
        n_experts: 128,
        n_used: 8,
        n_embd: 2048,
        n_ff: 768,
        types: [Q4K, Q6K],
    },
    Model {
        name: "gpt-oss-20b",
        n_layers: 3,
        n_experts: 32,
        n_used: 4,
        n_embd: 2880,
        n_ff: 2880,
        types: [Q4_0, Q4_0],
    },
];

struct Layer {
    router: Weights,
    gate: Vec<Weights>,
    up: Vec<Weights>,
    down: Vec<Weights>,
}

impl Layer {
    fn random(threads: &Threads, model: &Model, seed: &mut u64) -> Layer {
        let mut pack = |ty: GgmlType, n_out: usize, n_in: usize| {
            let mut raw = Vec::with_capacity(ty.bytes_of(n_out * n_in).expect("whole blocks") + 8);
            while raw.len() < raw.capacity() - 8 {
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                let word = if ty == F32 {
                    // Two numbers about 0.
                    let value = |bits: u64| ((bits & 0xffff) as f32 / 32768.0 - 1.0).to_le_bytes();
                    let (low, high) = (value(*seed), value(*seed >> 32));
                    [low, high].concat()
                } else {
                    (*seed & 0x1f1f_1f1f_1f1f_1f1f).to_le_bytes().to_vec()
                };
                raw.extend_from_slice(&word);
            }
            raw.truncate(ty.bytes_of(n_out * n_in).expect("whole blocks"));
            Weights::pack(threads, ty, &raw, n_out, n_in).expect("a valid shape")
        };
        let Model { n_experts, n_embd, n_ff, types, .. } = *model;
        Layer {
            router: pack(F32, n_experts, n_embd),
            gate: (0..n_experts).map(|_| pack(types[0], n_ff, n_embd)).collect(),
            up: (0..n_experts).map(|_| pack(types[0], n_ff, n_embd)).collect(),
            down: (0..n_experts).map(|_| pack(types[1], n_embd, n_ff)).collect(),
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let n_threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa =
        args.next().map_or(Ok(Isa::detect()), |name| Isa::from_name(&name)).expect("an instruction set");
    let only = args.next();
    let n_tokens: Option<usize> = args.next().and_then(|n| n.parse().ok());
    let threads = Threads::new(n_threads);
    for model in MODELS.iter().filter(|model| only.as_deref().is_none_or(|only| only == model.name)) {
        let mut seed = 0x1234_5678_9abc_def1;
        let layers: Vec<Layer> =
            (0..model.n_layers).map(|_| Layer::random(&threads, model, &mut seed)).collect();
        for n in n_tokens.map_or(vec![1, 2, 8, 128, 512], |n| vec![n]) {
            measure(&threads, isa, model, &layers, n);
        }
    }
}

fn measure(threads: &Threads, isa: Isa, model: &Model, layers: &[Layer], n_tokens: usize) {
    let Model { n_experts, n_used, n_embd, .. } = *model;
    let router = Router {
        n_experts,
        n_used,
        scoring: Scoring::Softmax,
        groups: None,
        is_normalised: true,
        scale: 1.0,
    };
    let norm = vec![1.0; n_embd];
    let (mut acts, mut routes) = (Activations::default(), Routes::default());
    let mut buffers = ExpertBuffers::new(Rounding::default());
    let (mut logits, mut out) = (vec![0.0; n_tokens * n_experts], vec![0.0; n_tokens * n_embd]);
    let n_runs = if n_tokens > 16 { 5 } else { 60 };
    let mut times = Vec::new();
    let mut bytes = 0;
    for run in 0..=n_runs {
        let mut seed = run as u64 * 77 + 5;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let x: Vec<f32> = (0..n_tokens * n_embd).map(|_| noise()).collect();
        let start = Instant::now();
        for layer in layers {
            acts.rms_norm_quantize(threads, isa, Form::Both, &x, RmsNorm { weight: &norm, eps: 1e-6 });
            matmul(threads, isa, &layer.router, &acts, &mut logits, Epilogue::Store);
            routes.choose(threads, isa, &router, &logits, None);
            let matrix = |weights| ExpertMatrix { weights, scale: None, bias: None };
            let inner =
                Inner::Gated { gate: matrix(&layer.gate), up: matrix(&layer.up), function: Gate::Silu };
            let view = Experts { inner, down: matrix(&layer.down) };
            experts::run(threads, isa, &view, &acts, &routes, &mut buffers, &mut out);
        }
        if run > 0 {
            times.push(start.elapsed().as_secs_f64() / layers.len() as f64);
        }
        let mut used = routes.experts().to_vec();
        used.sort_unstable();
        used.dedup();
        let last = layers.last().expect("there are layers");
        let of = |e: usize| last.gate[e].bytes() + last.up[e].bytes() + last.down[e].bytes();
        bytes = used.iter().map(|e| of(*e as usize)).sum::<usize>() + last.router.bytes();
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let products = n_tokens * (n_used * 3 * model.n_ff + n_experts) * n_embd;
    println!(
        "{} {} {} threads, {n_tokens} tokens: {:.3} ms a layer (best {:.3}), {:.1} GB/s, {:.0} G products/s",
        model.name,
        isa.name(),
        threads.n(),
        1e3 * median,
        1e3 * times[0],
        bytes as f64 / median / 1e9,
        products as f64 / median / 1e9
    );
}
