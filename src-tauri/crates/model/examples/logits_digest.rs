//! Prints digests of all logits that a model has over its reference texts: what must not move when code does.
//!
//! ```text
//! logits_digest MODEL.gguf TEXTS.vec [--threads 2] [--isa NAME] [--kv-dtype f16|q8|q4] [--precision fast|full]
//! ```
//!
//! One line a way of cutting the texts into steps: whole, and in pieces of many sizes beside each other.
//! On the CPU both lines have the same digest, or the numerics rule is broken.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/common/sequence.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests use the rest")]
mod sequence;
#[path = "../tests/common/vectors.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests use the rest")]
mod vectors;

use std::ops::ControlFlow;
use std::path::PathBuf;

use kernels::isa::Isa;
use model::{LoadOptions, PoolSize, Precision, load};
use scheduler::{KvDtype, ModelRunner, Step, StepOutput, Wanted};
use sequence::{Blocks, Random, Sequence};

/// Sizes of the pieces, taken in turn by each sequence from another one on.
const PIECES: [usize; 12] = [1, 64, 7, 128, 1, 1, 33, 200, 16, 97, 3, 31];

/// Texts that are computed beside each other.
const SIDE_BY_SIDE: usize = 3;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args = Args::parse(std::env::args().skip(1))?;
    let options = LoadOptions {
        n_threads: args.n_threads,
        isa: args.isa,
        block_tokens: 32,
        kv_dtype: args.kv_dtype,
        pool: PoolSize::Blocks(2048),
        ready_bytes: 0,
        precision: args.precision,
    };
    let mut runner = load(&args.model, &options, &mut |_| ControlFlow::Continue(()))?;
    let texts: Vec<Vec<u32>> = vectors::references(&args.texts).into_iter().map(|text| text.tokens).collect();
    let n_tokens: usize = texts.iter().map(Vec::len).sum();
    for (how, hashes) in [("whole ", whole(&mut *runner, &texts)?), ("pieces", pieces(&mut *runner, &texts)?)]
    {
        let mut all = blake3::Hasher::new();
        hashes.iter().flatten().for_each(|hash| {
            all.update(hash.as_bytes());
        });
        println!(
            "{} {} {} {how} {} texts {n_tokens} tokens {}",
            args.model.file_name().unwrap_or_default().to_string_lossy(),
            args.kv_dtype.name(),
            args.precision.name(),
            texts.len(),
            all.finalize()
        );
    }
    Ok(())
}

/// The hash of each position's logits, text by text, each text in one step.
fn whole(runner: &mut dyn ModelRunner, texts: &[Vec<u32>]) -> Result<Vec<Vec<blake3::Hash>>, Failure> {
    let layout = runner.layout().clone();
    let mut out = StepOutput::default();
    let mut all = Vec::new();
    for text in texts {
        let mut blocks = Blocks::in_order(runner.n_blocks());
        let row =
            Sequence::new(1, text, &layout).next_row(text.len(), &layout, &mut blocks, Wanted::AllLogits);
        runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out)?;
        all.push((0..text.len()).map(|i| hash(out.logits.row(i))).collect());
    }
    Ok(all)
}

/// As `whole`, several texts at a time in pieces, in blocks anywhere in the pool.
fn pieces(runner: &mut dyn ModelRunner, texts: &[Vec<u32>]) -> Result<Vec<Vec<blake3::Hash>>, Failure> {
    let layout = runner.layout().clone();
    let mut out = StepOutput::default();
    let mut all = Vec::new();
    for texts in texts.chunks(SIDE_BY_SIDE) {
        let mut blocks = Blocks::shuffled(runner.n_blocks(), &mut Random(5));
        let mut sequences: Vec<Sequence> =
            (0..).zip(texts).map(|(id, text)| Sequence::new(id, text, &layout)).collect();
        let mut hashes: Vec<Vec<blake3::Hash>> = vec![Vec::new(); texts.len()];
        for turn in 0.. {
            let mut step = Step::default();
            for (i, sequence) in sequences.iter_mut().enumerate().filter(|(_, s)| s.n_left() > 0) {
                let n = PIECES[(turn + 5 * i) % PIECES.len()].min(sequence.n_left());
                step.rows.push(sequence.next_row(n, &layout, &mut blocks, Wanted::AllLogits));
            }
            if step.rows.is_empty() {
                break;
            }
            runner.run(&step, &mut out)?;
            for (i, &(row, _)) in out.logits.origin.iter().enumerate() {
                hashes[step.rows[row].seq.0 as usize].push(hash(out.logits.row(i)));
            }
            sequences.iter_mut().for_each(|sequence| sequence.close_windows(&layout, &mut blocks));
        }
        all.extend(hashes);
    }
    Ok(all)
}

fn hash(logits: &[f32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for piece in logits.chunks(1024) {
        let bytes: Vec<u8> = piece.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hasher.finalize()
}

struct Args {
    model: PathBuf,
    /// A file in `tests/reference/`.
    texts: String,
    n_threads: usize,
    isa: Isa,
    kv_dtype: KvDtype,
    precision: Precision,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, Failure> {
        let mut files = Vec::new();
        let (mut n_threads, mut isa) = (2, Isa::detect());
        let (mut kv_dtype, mut precision) = (KvDtype::F16, Precision::Fast);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--threads" => n_threads = value()?.parse()?,
                "--isa" => isa = Isa::from_name(&value()?)?,
                "--kv-dtype" => {
                    let name = value()?;
                    let known =
                        [KvDtype::F16, KvDtype::Q8, KvDtype::Q4].into_iter().find(|d| d.name() == name);
                    kv_dtype = known.ok_or("--kv-dtype is f16, q8 or q4")?;
                }
                "--precision" => {
                    let name = value()?;
                    let known = [Precision::Fast, Precision::Full].into_iter().find(|p| p.name() == name);
                    precision = known.ok_or("--precision is fast or full")?;
                }
                _ if arg.starts_with('-') => return Err(format!("unknown option {arg}").into()),
                _ => files.push(arg),
            }
        }
        match files.as_slice() {
            [model, texts] => {
                let (model, texts) = (PathBuf::from(model), texts.clone());
                Ok(Args { model, texts, n_threads, isa, kv_dtype, precision })
            }
            _ => Err("MODEL.gguf and TEXTS.vec are needed".into()),
        }
    }
}
