//! Times attention and the small operations in the shapes of SmolLM2 135M and Gemma 3 270M.
//!
//! `cargo run --release -p kernels --example attention_bench -- [n_threads] [isa]`

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use kernels::attention::{Ahead, AttentionParams, AttentionRow, attention};
use kernels::isa::Isa;
use kernels::kv::{KeyInput, KvArena, KvFormat, KvLayer, store_kv};
use kernels::ops::{self, HeadPrep, Rope, RopePairs, RopeTable};
use kernels::threads::Threads;
use std::error::Error;
use std::time::{Duration, Instant};

/// A model's attention: one group of layers in a block, as the pool has them.
struct Shape {
    name: &'static str,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: usize,
    dim: usize,
    window: Option<usize>,
}

const SMOLLM2: Shape =
    Shape { name: "SmolLM2 135M", n_layers: 30, n_heads: 9, n_kv_heads: 3, dim: 64, window: None };
const GEMMA: Shape =
    Shape { name: "Gemma 3 270M", n_layers: 18, n_heads: 4, n_kv_heads: 1, dim: 256, window: Some(512) };

const BLOCK_TOKENS: usize = 32;

fn layers(shape: &Shape, dtype: KvFormat) -> Vec<KvLayer> {
    let part = |bytes: usize| (shape.n_kv_heads * BLOCK_TOKENS * bytes).next_multiple_of(64);
    let (k, v) = (part(dtype.key_bytes(shape.dim)), part(dtype.value_bytes(shape.dim)));
    (0..shape.n_layers)
        .map(|i| KvLayer {
            n_kv_heads: shape.n_kv_heads,
            k_dim: shape.dim,
            v_dim: shape.dim,
            block_tokens: BLOCK_TOKENS,
            block_bytes: (k + v) * shape.n_layers,
            k_offset: (k + v) * i,
            v_offset: Some((k + v) * i + k),
            dtype,
        })
        .collect()
}

fn noise(n: usize) -> Vec<f32> {
    let mut state = 88_172_645_463_325_252u64;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Best and median of some runs.
fn time(n: usize, mut f: impl FnMut()) -> (Duration, Duration) {
    f();
    let mut times: Vec<Duration> = (0..n)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed()
        })
        .collect();
    times.sort();
    (times[0], times[n / 2])
}

fn print(what: &str, (best, median): (Duration, Duration), note: &str) {
    println!(
        "{what:<58} best {:>9.3} ms  median {:>9.3} ms  {note}",
        best.as_secs_f64() * 1e3,
        median.as_secs_f64() * 1e3
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let threads = Threads::new(args.next().map_or(Ok(2), |n| n.parse())?);
    let isa = args.next().map_or(Ok(Isa::detect()), |name| Isa::from_name(&name))?;
    let long = args.next().is_none();
    println!("{} threads, {}", threads.n(), isa.name());
    for shape in [SMOLLM2, GEMMA] {
        for dtype in [KvFormat::F16, KvFormat::Q8, KvFormat::Q4] {
            run(&threads, isa, &shape, dtype, long)?;
        }
    }
    small_operations(&threads, isa);
    Ok(())
}

fn run(
    threads: &Threads,
    isa: Isa,
    shape: &Shape,
    dtype: KvFormat,
    long: bool,
) -> Result<(), Box<dyn Error>> {
    let layers = layers(shape, dtype);
    let (max_len, n_seqs) = (4096, 8);
    let per_seq = max_len / BLOCK_TOKENS;
    let mut arena = KvArena::new(per_seq * n_seqs, layers[0].block_bytes)?;
    // Neighbouring tokens in blocks far apart, as in a pool that has been in use.
    let tables: Vec<Vec<u32>> = (0..n_seqs)
        .map(|s| (0..per_seq).map(|b| ((b * 5 % per_seq) * n_seqs + s) as u32).collect())
        .collect();
    let row = |s: usize, start: usize, n_tokens: usize| AttentionRow {
        blocks: &tables[s],
        first_block: 0,
        start,
        n_tokens,
    };
    let (q, k, v) = (
        noise(max_len * shape.n_heads * shape.dim),
        noise(max_len * shape.n_kv_heads * shape.dim),
        noise(max_len * shape.n_kv_heads * shape.dim),
    );
    let mut out = vec![0.0; q.len()];
    let params = AttentionParams {
        n_heads: shape.n_heads,
        scale: 1.0 / (shape.dim as f32).sqrt(),
        window: shape.window,
        ahead: Ahead::Hidden,
        softcap: None,
        sinks: None,
    };
    let name = format!("{} {dtype:?}", shape.name);
    let (q_width, kv_width) = (shape.n_heads * shape.dim, shape.n_kv_heads * shape.dim);

    let rope = Rope::new(RopePairs::Halves, shape.dim, 1e4, 1.0, None);
    let mut table = RopeTable::new();
    table.fill(threads, &rope, &(0..512).collect::<Vec<_>>());
    let t = time(5, || {
        for layer in &layers {
            let prep = HeadPrep { norm: None, rope: Some(&table) };
            let keys = KeyInput { k: &k[..512 * kv_width], prep };
            store_kv(threads, isa, &mut arena, layer, &[row(0, 0, 512)], keys, &v[..512 * kv_width]);
        }
    });
    print(&format!("{name}: rope and store 512 tokens, all layers"), t, "");
    for s in 0..n_seqs {
        for layer in &layers {
            store_kv(threads, isa, &mut arena, layer, &[row(s, 0, max_len)], &k[..], &v);
        }
    }
    let prefill = if long { &[512usize, 4096][..] } else { &[512] };
    for &n in prefill {
        let t = time(if n > 512 { 3 } else { 9 }, || {
            for layer in &layers {
                // In chunks of a step.
                for start in (0..n).step_by(512) {
                    let values = start * q_width..(start + 512) * q_width;
                    attention(
                        threads,
                        isa,
                        &arena,
                        layer,
                        &params,
                        &[row(0, start, 512)],
                        &q[values.clone()],
                        &mut out[values],
                    );
                }
            }
        });
        let pairs: usize = (1..=n).map(|i| params.window.map_or(i, |w| i.min(w))).sum();
        let flops = 4.0 * (pairs * shape.n_heads * shape.dim * shape.n_layers) as f64;
        print(
            &format!("{name}: prefill {n}, all layers"),
            t,
            &format!("{:.0} GFLOP/s", flops / t.1.as_secs_f64() / 1e9),
        );
    }
    for (n_rows, context) in [(1, 256), (1, 1024), (1, 4096), (8, 256), (8, 1024)] {
        let rows: Vec<_> = (0..n_rows).map(|s| row(s, context - 1, 1)).collect();
        let t = time(15, || {
            for layer in &layers {
                let n = n_rows * q_width;
                attention(threads, isa, &arena, layer, &params, &rows, &q[..n], &mut out[..n]);
            }
        });
        let seen = params.window.map_or(context, |w| context.min(w));
        let token_bytes = dtype.key_bytes(shape.dim) + dtype.value_bytes(shape.dim);
        let bytes = n_rows * seen * shape.n_kv_heads * token_bytes * shape.n_layers;
        let note = format!("{:.1} GB/s", bytes as f64 / t.1.as_secs_f64() / 1e9);
        print(&format!("{name}: decode {n_rows} at {context}, all layers"), t, &note);
    }
    Ok(())
}

fn small_operations(threads: &Threads, isa: Isa) {
    let (n_tokens, n_layers) = (512, 30);
    let (mut gate, up) = (noise(n_tokens * 1536), noise(n_tokens * 1536));
    let (mut x, y, weight) = (noise(n_tokens * 576), noise(n_tokens * 576), noise(576));
    let mut out = vec![0.0; x.len()];
    let t = time(9, || (0..n_layers).for_each(|_| ops::silu_mul(threads, isa, &mut gate, &up)));
    print("silu × up, 512 × 1536, 30 layers", t, "");
    let t = time(9, || (0..n_layers).for_each(|_| ops::gelu_tanh_mul(threads, isa, &mut gate, &up)));
    print("gelu × up, 512 × 1536, 30 layers", t, "");
    let t = time(9, || {
        (0..2 * n_layers).for_each(|_| {
            ops::add_rms_norm(threads, isa, &mut x, &y, &weight, 1e-5, &mut out);
        });
    });
    print("2 × (add + norm), 512 × 576, 30 layers", t, "");
    let rope = Rope::new(RopePairs::Interleaved, 64, 1e4, 1.0, None);
    let (mut table, positions) = (RopeTable::new(), (0..n_tokens).collect::<Vec<_>>());
    let t = time(9, || table.fill(threads, &rope, &positions));
    print("rope table, 512 tokens of 32 pairs", t, "");
    let mut q = noise(n_tokens * 9 * 64);
    let prep = HeadPrep { norm: None, rope: Some(&table) };
    let t = time(9, || (0..n_layers).for_each(|_| ops::prepare_heads(threads, isa, &prep, 9, 64, &mut q)));
    print("rope of queries, 512 × 9 × 64, 30 layers", t, "");
}
