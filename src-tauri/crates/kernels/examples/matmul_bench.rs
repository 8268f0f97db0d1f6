//! Tokens per second that the linear layers of a model allow, in the shapes of the starter models and of a
//! llama of 1B parameters: `cargo run --release -p kernels --example matmul_bench -- [threads] [isa] [model] [rows] [type]`.
//! With a type, as `IQ4_XS` or `each`, all matrices are of it; `each` runs one type after the other.
//!
//! Norms and gates on the way are included, attention and rope are not: it is a ceiling. Each figure is the best
//! and the median of several runs; decode includes the head, prefill does not.
#![allow(clippy::print_stdout, reason = "its purpose")]

use std::time::Instant;

use kernels::activations::{Activations, Form, GateUp, RmsNorm};
use kernels::ggml::GgmlType::{self, Q4_1, Q4K, Q5_0, Q6K, Q8_0};
use kernels::isa::Isa;
use kernels::matmul::{Epilogue, Product, matmul, matmul_each};
use kernels::threads::Threads;
use kernels::weights::Weights;

struct Model {
    name: &'static str,
    n_layers: usize,
    hidden: usize,
    ffn: usize,
    vocab: usize,
    /// Rows of q, k and v.
    qkv: [usize; 3],
    /// Types of q, k, v, o, gate, up, down and of the head.
    types: [GgmlType; 8],
}

const MODELS: [Model; 3] = [
    Model {
        name: "smollm2",
        n_layers: 30,
        hidden: 576,
        ffn: 1536,
        vocab: 49152,
        qkv: [576, 192, 192],
        types: [Q4_1, Q4_1, Q4_1, Q4_1, Q4_1, Q4_1, Q4_1, Q8_0],
    },
    Model {
        name: "gemma",
        n_layers: 18,
        hidden: 640,
        ffn: 2048,
        vocab: 262_144,
        qkv: [1024, 256, 256],
        types: [Q5_0, Q5_0, Q8_0, Q4K, Q5_0, Q5_0, Q6K, Q8_0],
    },
    Model {
        name: "llama1b",
        n_layers: 16,
        hidden: 2048,
        ffn: 8192,
        vocab: 128_256,
        qkv: [2048, 512, 512],
        types: [Q4K, Q4K, Q6K, Q4K, Q4K, Q4K, Q6K, Q6K],
    },
];

struct Layer {
    qkv: [Weights; 3],
    o: Weights,
    gate: Weights,
    up: Weights,
    down: Weights,
}

/// Bytes whose scales are small positive numbers; the speed does not depend on the rest.
fn random_raw(len: usize, seed: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        bytes.extend_from_slice(&(*seed & 0x1f1f_1f1f_1f1f_1f1f).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

struct Bench<'a> {
    name: String,
    threads: &'a Threads,
    isa: Isa,
    model: &'a Model,
    layers: Vec<Layer>,
    head: Weights,
}

/// The memory of one step.
struct Buffers {
    acts: Activations,
    hidden: Vec<f32>,
    qkv: [Vec<f32>; 3],
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    logits: Vec<f32>,
    norm: Vec<f32>,
}

impl<'a> Bench<'a> {
    /// A model of noise, in its own types or all in `ty`.
    fn of(threads: &'a Threads, isa: Isa, model: &'a Model, ty: Option<GgmlType>) -> Bench<'a> {
        let mut seed = 0x1234_5678_9abc_def1;
        let mut packing = 0.0;
        let mut pack = |of: usize, n_out: usize, n_in: usize| {
            let ty = ty.unwrap_or(model.types[of]);
            let ty = if n_in.is_multiple_of(ty.block_elems()) { ty } else { Q5_0 };
            let raw = random_raw(ty.bytes_of(n_out * n_in).expect("whole blocks"), &mut seed);
            let start = Instant::now();
            let weights = Weights::pack(threads, ty, &raw, n_out, n_in).expect("a valid shape");
            packing += start.elapsed().as_secs_f64();
            weights
        };
        let (hidden, ffn, [q, k, v]) = (model.hidden, model.ffn, model.qkv);
        let layers: Vec<Layer> = (0..model.n_layers)
            .map(|_| Layer {
                qkv: [pack(0, q, hidden), pack(1, k, hidden), pack(2, v, hidden)],
                o: pack(3, hidden, q),
                gate: pack(4, ffn, hidden),
                up: pack(5, ffn, hidden),
                down: pack(6, hidden, ffn),
            })
            .collect();
        let head = pack(7, model.vocab, hidden);
        let name = ty.map_or(model.name.to_owned(), |ty| format!("{} in {}", model.name, ty.name()));
        println!("{name}: packed in {packing:.2} s");
        Bench { name, threads, isa, model, layers, head }
    }

    /// Bytes of the matrices of a step.
    fn weight_bytes(&self, with_head: bool) -> usize {
        let of_layer = |l: &Layer| -> usize {
            let [q, k, v] = &l.qkv;
            [q, k, v, &l.o, &l.gate, &l.up, &l.down].into_iter().map(Weights::bytes).sum()
        };
        self.layers.iter().map(of_layer).sum::<usize>() + if with_head { self.head.bytes() } else { 0 }
    }

    fn step(&self, b: &mut Buffers, with_head: bool) {
        let (threads, isa) = (self.threads, self.isa);
        let norm = RmsNorm { weight: &b.norm, eps: 1e-5 };
        for layer in &self.layers {
            let form = Form::of(&layer.qkv);
            b.acts.rms_norm_quantize(threads, isa, form, &b.hidden, norm);
            let [q, k, v] = &mut b.qkv;
            let product = |weights, out| Product { weights, out, epilogue: Epilogue::Store };
            let [wq, wk, wv] = &layer.qkv;
            matmul_each(threads, isa, &b.acts, &mut [product(wq, q), product(wk, k), product(wv, v)]);
            b.acts.quantize(threads, isa, Form::of([&layer.o]), &b.attended, layer.o.n_in());
            matmul(threads, isa, &layer.o, &b.acts, &mut b.hidden, Epilogue::Store);
            b.acts.rms_norm_quantize(threads, isa, Form::of([&layer.gate]), &b.hidden, norm);
            let (gate, up) = (&mut b.gate, &mut b.up);
            matmul_each(threads, isa, &b.acts, &mut [product(&layer.gate, gate), product(&layer.up, up)]);
            let gate_up = GateUp { gate: &b.gate, up: &b.up };
            let form = Form::of([&layer.down]);
            b.acts.silu_mul_quantize(threads, isa, form, gate_up, self.model.ffn);
            matmul(threads, isa, &layer.down, &b.acts, &mut b.hidden, Epilogue::Store);
        }
        if with_head {
            b.acts.rms_norm_quantize(threads, isa, Form::of([&self.head]), &b.hidden, norm);
            matmul(threads, isa, &self.head, &b.acts, &mut b.logits, Epilogue::Store);
        }
    }

    fn measure(&self, n_rows: usize, with_head: bool) {
        let m = self.model;
        let x = |n: usize| (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
        let mut buffers = Buffers {
            acts: Activations::default(),
            hidden: x(n_rows * m.hidden),
            qkv: m.qkv.map(|n| vec![0.0; n_rows * n]),
            attended: x(n_rows * m.qkv[0]),
            gate: vec![0.0; n_rows * m.ffn],
            up: vec![0.0; n_rows * m.ffn],
            logits: vec![0.0; if with_head { n_rows * m.vocab } else { 0 }],
            norm: vec![1.0; m.hidden],
        };
        let n_runs = if n_rows > 16 { 7 } else { 40 };
        self.step(&mut buffers, with_head);
        let cpu_before = on_cpu_seconds();
        let mut times: Vec<f64> = (0..n_runs)
            .map(|_| {
                let start = Instant::now();
                self.step(&mut buffers, with_head);
                start.elapsed().as_secs_f64()
            })
            .collect();
        let cpu = (on_cpu_seconds() - cpu_before) / n_runs as f64;
        times.sort_by(f64::total_cmp);
        let rate = |time: f64| n_rows as f64 / time;
        println!(
            "{} {} {} threads, {n_rows} rows{}: {:.1} tokens/s best, {:.1} median, {:.1} by the caller's time on the CPU, {:.1} GB/s",
            self.name,
            self.isa.name(),
            self.threads.n(),
            if with_head { " with head" } else { "" },
            rate(times[0]),
            rate(times[n_runs / 2]),
            rate(cpu),
            self.weight_bytes(with_head) as f64 / times[0] / 1e9
        );
    }
}

/// Time that the calling thread has spent on a CPU: what counts with one thread on a busy machine. NaN where
/// the system does not say.
fn on_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let n_threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa =
        args.next().map_or(Ok(Isa::detect()), |name| Isa::from_name(&name)).expect("an instruction set");
    let only = args.next().filter(|only| only != "all");
    let n_rows: Option<usize> = args.next().and_then(|n| n.parse().ok());
    let types = match args.next().as_deref() {
        None => vec![None],
        Some("each") => GgmlType::ALL.map(Some).into(),
        Some(name) => vec![Some(GgmlType::from_name(name).expect("a type"))],
    };
    let threads = Threads::new(n_threads);
    for model in MODELS.iter().filter(|model| only.as_deref().is_none_or(|only| only == model.name)) {
        for ty in &types {
            let bench = Bench::of(&threads, isa, model, *ty);
            for n in n_rows.map_or(vec![512, 1, 2, 4, 8, 16], |n| vec![n]) {
                bench.measure(n, n <= 16);
            }
        }
    }
}
