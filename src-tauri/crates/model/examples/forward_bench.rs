//! Measures the forward pass alone, without requests, sampling or text.
//!
//! ```text
//! forward_bench --model MODEL.gguf [--threads 2] [--tokens 48] [--isa NAME] [--precision fast|full] [CASE..]
//! ```
//!
//! Cases: `prefill:N` (tokens a second for a prompt of N, the median of several if it is short), `decode@N`
//! (tokens a second after N tokens; also gives `prefill:N`), `streams:N` (aggregate tokens a second of N
//! sequences that decode together after 64 tokens each).
//! Prints one JSON object a case.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use kernels::isa::Isa;
use model::{LoadOptions, PoolSize, Precision, load};
use scheduler::{
    BlockId, BlockTable, KvDtype, ModelRunner, Row, RowInput, RowState, RunError, SeqId, Step, StepOutput,
    Wanted,
};

const ALL: [&str; 9] = [
    "prefill:128",
    "prefill:512",
    "prefill:2048",
    "decode@0",
    "decode@1024",
    "decode@4096",
    "streams:2",
    "streams:4",
    "streams:8",
];

/// Tokens of a prompt that go into one step.
const STEP_TOKENS: usize = 512;

/// Tokens in front of each stream.
const STREAM_CONTEXT: usize = 64;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args = Args::parse(std::env::args().skip(1))?;
    let cases: Vec<Case> = args.cases.iter().map(|case| Case::parse(case)).collect::<Result<_, _>>()?;
    let n_tokens = cases.iter().map(|case| case.n_tokens(args.n_tokens)).max().unwrap_or(0);
    let options = LoadOptions {
        n_threads: args.n_threads,
        isa: args.isa,
        block_tokens: 32,
        kv_dtype: KvDtype::F16,
        // Enough for any model: blocks that are never written cost nothing.
        pool: PoolSize::Blocks((n_tokens / 32 + 16) * 64),
        ready_bytes: 0,
        precision: args.precision,
    };
    let start = Instant::now();
    let runner = load(&args.model, &options, &mut |_| ControlFlow::Continue(()))?;
    println!(
        "loaded in {:.2} s, {}, {} threads",
        start.elapsed().as_secs_f64(),
        args.isa.name(),
        args.n_threads
    );
    let mut bench = Bench {
        runner,
        out: StepOutput::default(),
        stream_blocks: (STREAM_CONTEXT + args.n_tokens) / 32 + 1,
    };
    bench.prefill(0, 16)?;
    for case in cases {
        let rates = bench.measure(&case, args.n_tokens)?;
        let fields: Vec<String> = rates.iter().map(|(name, rate)| format!("\"{name}\": {rate:.2}")).collect();
        println!("{{{}}}", fields.join(", "));
    }
    Ok(())
}

struct Args {
    model: PathBuf,
    n_threads: usize,
    n_tokens: usize,
    isa: Isa,
    precision: Precision,
    cases: Vec<String>,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, Failure> {
        let (mut model, mut cases) = (None, Vec::new());
        let (mut n_threads, mut n_tokens, mut isa, mut precision) = (2, 48, Isa::detect(), Precision::Fast);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--model" => model = Some(PathBuf::from(value()?)),
                "--threads" => n_threads = value()?.parse()?,
                "--tokens" => n_tokens = value()?.parse::<usize>()?.max(1),
                "--precision" => {
                    let name = value()?;
                    let known = [Precision::Fast, Precision::Full].into_iter().find(|p| p.name() == name);
                    precision = known.ok_or("--precision is fast or full")?;
                }
                "--isa" => isa = Isa::from_name(&value()?)?,
                _ if arg.starts_with('-') => return Err(format!("unknown option {arg}").into()),
                _ => cases.push(arg),
            }
        }
        if cases.is_empty() {
            cases = ALL.map(str::to_owned).to_vec();
        }
        Ok(Args { model: model.ok_or("--model is needed")?, n_threads, n_tokens, isa, precision, cases })
    }
}

enum Case {
    Prefill(usize),
    Decode(usize),
    Streams(usize),
}

impl Case {
    fn parse(text: &str) -> Result<Case, Failure> {
        let (kind, n) = text.split_once([':', '@']).ok_or(format!("unknown case {text}"))?;
        let n = n.parse()?;
        match kind {
            "prefill" if n > 0 => Ok(Case::Prefill(n)),
            "decode" => Ok(Case::Decode(n)),
            "streams" if n > 0 => Ok(Case::Streams(n)),
            _ => Err(format!("unknown case {text}").into()),
        }
    }

    /// Tokens that are in the pool at the end.
    fn n_tokens(&self, n_decoded: usize) -> usize {
        match self {
            Case::Prefill(n) => *n,
            Case::Decode(n) => n + n_decoded,
            Case::Streams(n) => n * (STREAM_CONTEXT + n_decoded + 32),
        }
    }
}

/// How often a prompt of `n` tokens is computed: a short one is over before a noisy moment is.
fn repeats(n: usize) -> usize {
    if n > 1024 { 1 } else { (2048 / n).clamp(4, 8) }
}

struct Bench {
    runner: Box<dyn ModelRunner>,
    out: StepOutput,
    /// The distance of two streams' blocks, in tables' entries.
    stream_blocks: usize,
}

impl Bench {
    fn measure(&mut self, case: &Case, n_decoded: usize) -> Result<Vec<(String, f64)>, RunError> {
        match *case {
            Case::Prefill(n) => {
                let mut rates =
                    (0..repeats(n)).map(|_| self.prefill(0, n)).collect::<Result<Vec<f64>, _>>()?;
                // The first one of several meets memory that was never touched.
                if rates.len() > 1 {
                    rates.remove(0);
                }
                rates.sort_by(f64::total_cmp);
                Ok(vec![(format!("prefill:{n}"), rates[rates.len() / 2])])
            }
            Case::Decode(n) => {
                let mut rates = Vec::new();
                if n > 0 {
                    rates.push((format!("prefill:{n}"), self.prefill(0, n)?));
                }
                let start = Instant::now();
                for i in 0..n_decoded {
                    self.run(vec![self.row(0, n + i, 1, Wanted::LastLogits)])?;
                }
                rates.push((format!("decode@{n}"), n_decoded as f64 / start.elapsed().as_secs_f64()));
                Ok(rates)
            }
            Case::Streams(n) => {
                for seq in 0..n {
                    self.prefill(seq, STREAM_CONTEXT)?;
                }
                let start = Instant::now();
                for i in 0..n_decoded {
                    let row = |seq| self.row(seq, STREAM_CONTEXT + i, 1, Wanted::LastLogits);
                    self.run((0..n).map(row).collect())?;
                }
                Ok(vec![(format!("streams:{n}"), (n * n_decoded) as f64 / start.elapsed().as_secs_f64())])
            }
        }
    }

    /// Compute a prompt of `n` tokens; its tokens a second.
    fn prefill(&mut self, seq: usize, n: usize) -> Result<f64, RunError> {
        let start = Instant::now();
        for at in (0..n).step_by(STEP_TOKENS) {
            let n_tokens = STEP_TOKENS.min(n - at);
            let wanted = if at + n_tokens == n { Wanted::LastLogits } else { Wanted::Nothing };
            self.run(vec![self.row(seq, at, n_tokens, wanted)])?;
        }
        Ok(n as f64 / start.elapsed().as_secs_f64())
    }

    fn run(&mut self, rows: Vec<Row>) -> Result<(), RunError> {
        self.runner.run(&Step { copies: vec![], rows }, &mut self.out)
    }

    /// A piece of sequence `seq`, whose blocks lie apart from those of the others.
    fn row(&self, seq: usize, start: usize, n_tokens: usize, wanted: Wanted) -> Row {
        let layout = self.runner.layout();
        let (n_groups, n_vocab) = (layout.groups.len(), self.runner.cache_spec().n_vocab);
        let n_blocks = (start + n_tokens).div_ceil(layout.block_tokens);
        let block =
            |group: usize, b: usize| BlockId(((seq * self.stream_blocks + b) * n_groups + group) as u32);
        let table =
            |group| BlockTable { first_block: 0, blocks: (0..n_blocks).map(|b| block(group, b)).collect() };
        // Each state has the last blocks of the pool that are not another's.
        let (n_pieces, n_all) = (layout.state.n_pieces, self.runner.n_blocks());
        let state = (0..n_pieces).map(|piece| BlockId((n_all - 1 - seq * n_pieces - piece) as u32));
        // Each sequence has tokens of its own, so that those of a mixture choose experts of their own.
        let token = |at: usize| {
            let i = at + seq;
            ((i * 7919 + 13) % n_vocab.saturating_sub(200).max(1) + 100) as u32 % n_vocab as u32
        };
        Row {
            seq: SeqId(seq as u64),
            input: RowInput::Tokens((start..start + n_tokens).map(token).collect()),
            start,
            tables: (0..n_groups).map(table).collect(),
            state: RowState { blocks: state.collect(), saves: vec![] },
            wanted,
        }
    }
}
