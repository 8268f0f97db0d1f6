//! Prints what keys and values in fewer bits cost a model that has no vocabulary: the perplexity of texts that it
//! wrote itself, with each form of keys and values.
//!
//! ```text
//! kv_perplexity MODEL.gguf [--texts 16] [--tokens 256] [--threads 2]
//! ```
//!
//! The texts are sampled at temperature 1 with the keys and values in 16 bits, so the perplexity with those is what
//! the model's own uncertainty makes it, and every other form's is above it by what that form changes.
//! Activations are rounded to nothing less than 32 bits: rounding to 8 would be the larger noise.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use kernels::isa::Isa;
use kernels::ops::log_sum_exp;
use kernels::threads::Threads;
use model::{LoadOptions, PoolSize, Precision, load};
use scheduler::{
    BlockId, BlockTable, KvDtype, ModelRunner, Row, RowInput, RowState, SeqId, Step, StepOutput, Wanted,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (mut model, mut n_texts, mut n_tokens, mut n_threads) = (None, 16, 256, 2);
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().ok_or(format!("{arg} needs a number"))?.parse::<usize>().map_err(Failure::from);
        match arg.as_str() {
            "--texts" => n_texts = number()?.max(1),
            "--tokens" => n_tokens = number()?.max(2),
            "--threads" => n_threads = number()?,
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}").into()),
            _ => model = Some(PathBuf::from(arg)),
        }
    }
    let model = model.ok_or("a model is needed")?;
    let mut texts: Option<Vec<Vec<u32>>> = None;
    let mut of_f16 = None;
    for dtype in [KvDtype::F16, KvDtype::Q8, KvDtype::Q4] {
        let options = LoadOptions {
            n_threads,
            isa: Isa::detect(),
            block_tokens: 32,
            kv_dtype: dtype,
            // Enough for any number of layer groups: blocks that are never written cost nothing.
            pool: PoolSize::Blocks(n_texts * (n_tokens / 32 + 1) * 64),
            ready_bytes: 0,
            precision: Precision::Full,
        };
        let mut reader = Reader {
            runner: load(&model, &options, &mut |_| ControlFlow::Continue(()))?,
            threads: Threads::new(n_threads),
            out: StepOutput::default(),
            n_blocks: n_tokens / 32 + 1,
        };
        let texts = match &texts {
            Some(texts) => texts,
            None => texts.insert(reader.write(n_texts, n_tokens)?),
        };
        let perplexity = reader.perplexity(texts)?;
        let above = 100.0 * (perplexity / *of_f16.get_or_insert(perplexity) - 1.0);
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        println!("{name} {:<4} perplexity {perplexity:.4} {above:+.3} %", dtype.name());
    }
    Ok(())
}

struct Reader {
    runner: Box<dyn ModelRunner>,
    threads: Threads,
    out: StepOutput,
    /// Blocks of a text, in each layer group.
    n_blocks: usize,
}

impl Reader {
    /// `n_texts` texts of the model's own of `n_tokens` tokens, each from another first one.
    fn write(&mut self, n_texts: usize, n_tokens: usize) -> Result<Vec<Vec<u32>>, Failure> {
        let n_vocab = self.runner.cache_spec().n_vocab;
        let mut random = Random(1);
        let mut texts: Vec<Vec<u32>> =
            (0..n_texts).map(|text| vec![(text * 7919 % n_vocab) as u32]).collect();
        for at in 0..n_tokens - 1 {
            let row = |seq: usize| self.row(seq, at, &texts[seq][at..], Wanted::LastLogits);
            let rows = (0..n_texts).map(row).collect();
            self.runner.run(&Step { copies: vec![], rows }, &mut self.out)?;
            for (seq, text) in texts.iter_mut().enumerate() {
                text.push(sample(self.out.logits.row(seq), &mut random));
            }
        }
        Ok(texts)
    }

    /// Of all tokens but the first of each text.
    fn perplexity(&mut self, texts: &[Vec<u32>]) -> Result<f64, Failure> {
        let (mut negative_log, mut n) = (0.0, 0);
        for (seq, text) in texts.iter().enumerate() {
            for start in (0..text.len()).step_by(128) {
                let tokens = &text[start..text.len().min(start + 128)];
                let rows = vec![self.row(seq, start, tokens, Wanted::AllLogits)];
                self.runner.run(&Step { copies: vec![], rows }, &mut self.out)?;
                let logits = &self.out.logits;
                let sums = log_sum_exp(&self.threads, Isa::detect(), &logits.values, logits.n_vocab);
                for (i, (sum, next)) in sums.iter().zip(&text[start + 1..]).enumerate() {
                    negative_log += sum - f64::from(logits.row(i)[*next as usize]);
                    n += 1;
                }
            }
        }
        Ok((negative_log / f64::from(n)).exp())
    }

    fn row(&self, seq: usize, start: usize, tokens: &[u32], wanted: Wanted) -> Row {
        let n_groups = self.runner.layout().groups.len();
        let table = |group: usize| {
            let first = (seq * n_groups + group) * self.n_blocks;
            BlockTable {
                first_block: 0,
                blocks: (first..first + self.n_blocks).map(|b| BlockId(b as u32)).collect(),
            }
        };
        Row {
            seq: SeqId(seq as u64),
            input: RowInput::Tokens(tokens.to_vec()),
            start,
            tables: (0..n_groups).map(table).collect(),
            state: RowState::default(),
            wanted,
        }
    }
}

/// Numbers from 0 to 1, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A token as likely as its logit says.
fn sample(logits: &[f32], random: &mut Random) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: &f32| f64::from(logit - largest).exp();
    let mut left = random.next() * logits.iter().map(weight).sum::<f64>();
    for (token, logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return token as u32;
        }
    }
    logits.len() as u32 - 1
}
