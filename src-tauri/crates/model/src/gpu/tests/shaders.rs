//! The text of `shaders.metal`, compiled as C++ and run thread by thread: the same bits as the CPU's form.
//!
//! There is no compiler for Metal outside macOS. The language is C++ with address spaces and attributes, so with a
//! header that makes those mean nothing, what the programs compute can be held anywhere.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use candle_core::Tensor;
use scheduler::{KvLayout, StateLayout};

use super::*;
use crate::gpu::kv_pool::KvPool;
use crate::gpu::ops::{hadamard, rotate};
use crate::gpu::part::{KvFormat, Part};
use crate::gpu::shaders::Shaders;
use crate::gpu::tiles::{NO_SLOT, Tile};
use crate::plan::rope_plan::RopePairs;

const HEADER: &str = r"
#include <cstdint>
#include <cstring>
#define kernel
#define device
#define constant const
#define half _Float16
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
static_assert(sizeof(ulong) == 8);
struct uint3 { uint x, y, z; };
namespace metal {
template <typename To, typename From> To as_type(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
inline float fabs(float x) { return __builtin_fabsf(x); }
inline float rint(float x) { return __builtin_rintf(x); }
inline float min(float a, float b) { return b < a ? b : a; }
inline float max(float a, float b) { return a < b ? b : a; }
inline uint min(uint a, uint b) { return b < a ? b : a; }
}
";

/// Reads a program's number, its grid and four operands, each with its length in front; writes the last one back.
const MAIN: &str = r#"
#include <cstdio>
#include <vector>
#include "shaders.metal"
static std::vector<unsigned char> operand() {
    uint n = 0;
    if (fread(&n, 4, 1, stdin) != 1) return {};
    std::vector<unsigned char> bytes(n);
    bytes.resize(fread(bytes.data(), 1, n, stdin));
    return bytes;
}
int main() {
    uint head[4];
    if (fread(head, 4, 4, stdin) != 4) return 1;
    auto params = operand(), first = operand(), second = operand(), out = operand();
    auto &part = *(const Part *)params.data();
    auto &rotation = *(const Rotation *)params.data();
    auto floats = (const float *)first.data();
    auto slots = (const uint *)second.data();
    auto to = (float *)out.data();
    for (uint z = 0; z < head[3]; z++) for (uint y = 0; y < head[2]; y++) for (uint x = 0; x < head[1]; x++) {
        uint3 at = {x, y, z};
        switch (head[0]) {
            case 0: store_f16(part, floats, slots, out.data(), at); break;
            case 1: gather_f16(part, first.data(), slots, to, at); break;
            case 2: store_q8(part, floats, slots, out.data(), at); break;
            case 3: gather_q8(part, first.data(), slots, to, at); break;
            case 4: rotate_pairs(rotation, floats, (const float *)second.data(), to, at); break;
            case 5: hadamard(*(const Spread *)params.data(), floats, to, at); break;
            default: return 1;
        }
    }
    return fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 1;
}
"#;

/// The compiled programs.
struct Programs {
    _folder: tempfile::TempDir,
    exe: PathBuf,
}

impl Programs {
    fn compile() -> Programs {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("metal_stdlib"), HEADER).unwrap();
        std::fs::write(path("shaders.metal"), include_str!("../shaders.metal")).unwrap();
        std::fs::write(path("main.cpp"), MAIN).unwrap();
        let exe = path("programs");
        let mut compiler = Command::new("c++");
        // A product and a sum stay two roundings, as in the CPU's form.
        compiler.args(["-std=c++17", "-O1", "-w", "-fsigned-char", "-ffp-contract=off", "-I"]);
        compiler.arg(folder.path()).arg(path("main.cpp")).arg("-o").arg(&exe);
        let output = compiler.output().expect("a C++ compiler (Debian: build-essential)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Programs { _folder: folder, exe }
    }

    /// What the program that spreads makes of vectors of `dim` values.
    fn spread(&self, vectors: &[u8], dim: usize) -> Vec<u8> {
        let run = 1 << dim.trailing_zeros();
        let params = [dim as u32, run as u32, (1.0 / (run as f32).sqrt()).to_bits()];
        let params: Vec<u8> = params.iter().flat_map(|x| x.to_le_bytes()).collect();
        let out = vec![0; vectors.len()];
        self.run(5, [dim / run, vectors.len() / 4 / dim, 1], [&params, vectors, &[], &out])
    }

    /// What program `number` makes of `out`.
    fn run(&self, number: u32, grid: [usize; 3], operands: [&[u8]; 4]) -> Vec<u8> {
        let mut input = number.to_le_bytes().to_vec();
        grid.iter().for_each(|n| input.extend((*n as u32).to_le_bytes()));
        for operand in operands {
            input.extend((operand.len() as u32).to_le_bytes());
            input.extend(operand);
        }
        let mut child = Command::new(&self.exe).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The program reads everything before it writes.
        stdin.write_all(&input).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The parameters of a part as the programs read them.
fn params(part: &Part, n_seen: usize) -> Vec<u8> {
    let wide = [part.offset, part.block_bytes].into_iter().flat_map(|x| (x as u64).to_le_bytes());
    let narrow = [part.block_tokens, part.n_kv_heads, part.dim, n_seen];
    wide.chain(narrow.into_iter().flat_map(|x| (x as u32).to_le_bytes())).collect()
}

fn pool_bytes(pool: &KvPool, n_blocks: usize, block_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; n_blocks * block_bytes];
    for (i, block) in bytes.chunks_exact_mut(block_bytes).enumerate() {
        pool.read(i, 0, block).unwrap();
    }
    bytes
}

#[test]
fn pool_programs_equal_the_cpu_form_bit_for_bit() {
    const N_BLOCKS: usize = 3;
    let programs = Programs::compile();
    let mut dice = Dice(11);
    for (format, n_kv_heads, dim) in [
        (KvFormat::F16, 1, 64),
        (KvFormat::F16, 3, 40),
        (KvFormat::Q8, 1, 64),
        (KvFormat::Q8, 2, 40),
        (KvFormat::Q8, 3, 20),
    ] {
        let block_tokens = 16;
        let (offset, block_bytes) = (192, 192 + 2 * block_tokens * n_kv_heads * dim + 64);
        let part = Part { format, offset, block_bytes, block_tokens, n_kv_heads, dim };
        let slots: Vec<u32> = vec![5, 40, 17, 31, 0, 47];
        let n_values = slots.len() * n_kv_heads * dim;
        let mut vectors: Vec<f32> =
            (0..n_values).map(|_| dice.value() * 10f32.powi(dice.below(9) as i32 - 4)).collect();
        // Out of range, not finite, too small for half precision; and a group of zeros.
        vectors[3..8].copy_from_slice(&[1e30, -70_000.0, f32::INFINITY, 1e-9, -0.0]);
        vectors[dim * n_kv_heads] = f32::NAN;
        let zeros = n_values - dim;
        vectors[zeros..].fill(0.0);

        let pool = pool(&part, N_BLOCKS);
        let before = pool_bytes(&pool, N_BLOCKS, block_bytes);
        let device = Device::Cpu;
        let slot_ids = Tensor::from_slice(&slots, slots.len(), &device).unwrap();
        pool.store(&part, &Tensor::from_slice(&vectors, n_values, &device).unwrap(), &slot_ids).unwrap();
        let stored = pool_bytes(&pool, N_BLOCKS, block_bytes);
        assert_ne!(stored, before);

        let (number, width) = match format {
            KvFormat::F16 => (0, dim),
            KvFormat::Q8 => (2, dim.div_ceil(32)),
        };
        let slot_bytes: Vec<u8> = slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let mut vector_bytes = le_bytes(&vectors);
        if format == KvFormat::Q8 {
            vector_bytes = programs.spread(&vector_bytes, dim);
        }
        let operands = [&params(&part, 1)[..], &vector_bytes, &slot_bytes, &before];
        let got = programs.run(number, [width, slots.len(), n_kv_heads], operands);
        assert!(got == stored, "store {part:?}");

        // Two rows of three, one of which is padded.
        let seen: Vec<u32> = vec![40, 5, 17, 47, 31, NO_SLOT];
        let tile = tile(&seen, 2, 3);
        let want = pool.gather(&part, &tile).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let seen_bytes: Vec<u8> = seen.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let out = vec![0xff; want.len() * 4];
        let operands = [&params(&part, 3)[..], &stored, &seen_bytes, &out];
        let mut got = programs.run(number + 1, [dim, 6, n_kv_heads], operands);
        if format == KvFormat::Q8 {
            got = programs.spread(&got, dim);
        }
        let canonical = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
        let got = got.as_chunks().0.iter().map(|bytes| canonical(f32::from_le_bytes(*bytes)));
        assert!(got.eq(want.iter().map(|x| canonical(*x))), "gather {part:?}");
        assert!(want.iter().any(|x| x.is_nan()) && want.iter().filter(|x| **x == 0.0).count() >= dim);
    }
}

#[test]
fn the_program_that_rotates_equals_the_cpu_form_bit_for_bit() {
    let programs = Programs::compile();
    let mut dice = Dice(12);
    let shaders = Shaders::new(&Device::Cpu).unwrap();
    for (pairs, n_heads, dim, n_pairs) in [
        (RopePairs::Interleaved, 3, 64, 32),
        (RopePairs::SplitHalf, 2, 64, 32),
        (RopePairs::Interleaved, 1, 20, 6),
        (RopePairs::SplitHalf, 3, 20, 6),
    ] {
        let n_tokens = 5;
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| dice.value()).collect() };
        let (x, table) = (values(n_tokens * n_heads * dim), values(n_tokens * 2 * n_pairs));
        let tensor = Tensor::from_slice(&x, (n_tokens, n_heads, dim), &Device::Cpu).unwrap();
        let angles = Tensor::from_slice(&table, (n_tokens, 2, n_pairs), &Device::Cpu).unwrap();
        let want = rotate(&shaders, pairs, &tensor, &angles).unwrap();
        let want = want.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let is_interleaved = usize::from(pairs == RopePairs::Interleaved);
        let params = [n_heads, dim, n_pairs, is_interleaved].map(|n| (n as u32).to_le_bytes()).concat();
        let out = vec![0; x.len() * 4];
        let operands = [&params[..], &le_bytes(&x), &le_bytes(&table), &out];
        let got = programs.run(4, [dim, n_tokens, n_heads], operands);
        assert!(got == le_bytes(&want), "{pairs:?} of {dim}");
        assert!(x != want);
    }
}

#[test]
fn the_program_that_spreads_equals_the_cpu_form_bit_for_bit() {
    let programs = Programs::compile();
    let mut dice = Dice(13);
    let shaders = Shaders::new(&Device::Cpu).unwrap();
    for dim in [256, 64, 40, 20, 5] {
        let x: Vec<f32> = (0..7 * dim).map(|_| dice.value()).collect();
        let want = hadamard(&shaders, &Tensor::from_slice(&x, (7, dim), &Device::Cpu).unwrap()).unwrap();
        let want = want.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(programs.spread(&le_bytes(&x), dim) == le_bytes(&want), "{dim} values");
        assert!(x != want || dim % 2 == 1);
    }
}

/// A pool of whatever bytes that `part` lies in.
fn pool(part: &Part, n_blocks: usize) -> KvPool {
    let layout = KvLayout {
        block_tokens: part.block_tokens,
        kv_dtype: KvDtype::F16,
        block_bytes: part.block_bytes,
        groups: vec![],
        slots: vec![],
        state: StateLayout::default(),
    };
    let pool = KvPool::new(&Device::Cpu, Shaders::new(&Device::Cpu).unwrap(), n_blocks, &layout).unwrap();
    for block in 0..n_blocks {
        pool.write(block, 0, &vec![0xaa; part.block_bytes]).unwrap();
    }
    pool
}

fn tile(slots: &[u32], n_rows: usize, n_seen: usize) -> Tile {
    Tile {
        tokens: 0..n_rows,
        n_rows,
        n_queries: 1,
        n_seen,
        row_seen: vec![n_seen; n_rows],
        slots: Tensor::from_slice(slots, slots.len(), &Device::Cpu).unwrap(),
        is_causal: true,
        mask: None,
    }
}
