//! The runner on tiny models: against the formulas, on steps that make no sense, on files that cannot run.

use std::ops::ControlFlow;
use std::path::Path;

use kernels::isa::Isa;
use scheduler::{
    BlockCopy, BlockId, BlockTable, KvDtype, ModelRunner, Row, RowInput, RowState, RunError, SeqId, Step,
    StepOutput, Wanted,
};

use super::backend::Cpu;
use super::load::{self, load};
use crate::error::LoadError;
use crate::file::gguf::Gguf;
use crate::options::{LoadOptions, LoadProgress, PoolSize, Precision};
use crate::run::runner::Runner;
use crate::testing::gguf_writer::GgufWriter;
use crate::testing::oracle;

fn options() -> LoadOptions {
    LoadOptions {
        n_threads: 2,
        isa: Isa::detect(),
        block_tokens: 16,
        kv_dtype: KvDtype::F16,
        pool: PoolSize::Blocks(64),
        ready_bytes: 0,
        precision: Precision::Fast,
    }
}

fn runner(file: &GgufWriter) -> Runner<Cpu> {
    load::runner(&file.open(), &options(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn refusal(file: &GgufWriter, options: &LoadOptions) -> String {
    let error = load(file.file().path(), options, &mut |_| ControlFlow::Continue(())).err();
    let message = error.expect("a refusal").to_string();
    assert!(!message.contains('\n') && message.starts_with("model /"), "{message}");
    message
}

/// A row of one sequence, its blocks of the groups laid one after the other.
fn row(runner: &Runner<Cpu>, tokens: &[u32], start: usize) -> Row {
    let n_groups = runner.layout().groups.len();
    let n_blocks = (start + tokens.len()).div_ceil(runner.layout().block_tokens);
    let table = |group: usize| BlockTable {
        first_block: 0,
        blocks: (0..n_blocks).map(|b| BlockId((b * n_groups + group) as u32)).collect(),
    };
    Row {
        seq: SeqId(1),
        input: RowInput::Tokens(tokens.to_vec()),
        start,
        tables: (0..n_groups).map(table).collect(),
        state: RowState::default(),
        wanted: Wanted::AllLogits,
    }
}

fn step(row: Row) -> Step {
    Step { copies: vec![], rows: vec![row] }
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 3 + 1) % 40).collect()
}

/// Holds that the decoder computes what the oracle computes, up to the pool's half precision.
fn check(file: &GgufWriter) {
    let tokens = tokens(90);
    let want = oracle::logits(&file.open(), &tokens);
    let mut runner = runner(file);
    // Several chunks, one of them cut short.
    runner.in_chunks_of(37);
    let mut got = StepOutput::default();
    runner.run(&step(row(&runner, &tokens, 0)), &mut got).unwrap();
    assert_eq!(got.logits.values.len(), want.len());
    let scale = want.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let worst = got.logits.values.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(scale > 0.05 && worst < 1e-2 * scale, "off by {worst} of {scale}");
}

#[test]
fn a_llama_computes_what_the_formulas_do() {
    let llama = || GgufWriter::tiny("llama");
    check(&llama());
    check(&llama().tensor("output.weight", &[64, 40]));
    check(&llama().u32("llama.attention.sliding_window", 20));
    check(&llama().u32("llama.rope.dimension_count", 16));
    check(&llama().f32("llama.rope.scaling.factor", 4.0));
    check(&llama().f32("llama.attention.scale", 0.5).f32("llama.attn_logit_softcapping", 0.3));
    check(&llama().f32("llama.final_logit_softcapping", 5.0));
    check(&llama().tensor("rope_freqs.weight", &[16]));
    check(
        &llama()
            .tensor("blk.0.attn_q.bias", &[64])
            .tensor("blk.1.attn_v.bias", &[32])
            .tensor("blk.1.attn_output.bias", &[64]),
    );
}

#[test]
fn values_may_have_another_width_than_keys() {
    let mut file = GgufWriter::tiny("llama").u32("llama.attention.value_length", 48);
    for layer in 0..2 {
        file = file.tensor(&format!("blk.{layer}.attn_v.weight"), &[64, 48]);
        file = file.tensor(&format!("blk.{layer}.attn_output.weight"), &[96, 64]);
    }
    check(&file);
}

#[test]
fn a_gemma3_computes_what_the_formulas_do() {
    let gemma = || GgufWriter::tiny("gemma3").u32("gemma3.attention.sliding_window", 24);
    check(&gemma());
    check(&gemma().u32("gemma3.attention.sliding_window_pattern", 2).f32("gemma3.rope.freq_base", 1e6));
    check(&gemma().f32("gemma3.final_logit_softcapping", 5.0).f32("gemma3.attn_logit_softcapping", 2.0));
    check(&GgufWriter::tiny("gemma3"));
}

/// A matrix in blocks of 64 values that take 36 bytes.
fn in_nvfp4(file: GgufWriter, name: &str, [n_in, n_out]: [u64; 2]) -> GgufWriter {
    let mut bytes: Vec<u8> = (0..n_in * n_out / 64 * 36).map(|i| (i * i * 31 + i * 7) as u8).collect();
    // Scales about a tenth.
    bytes.chunks_mut(36).for_each(|block| block[..4].copy_from_slice(&[0x1c, 0x1e, 0x1d, 0x1f]));
    file.tensor_of(name, &[n_in, n_out], 40, bytes)
}

#[test]
fn a_matrix_in_nvfp4_counts_with_the_scale_that_its_file_keeps_beside_it() {
    let file = in_nvfp4(GgufWriter::tiny("llama"), "blk.0.attn_v.weight", [64, 32]);
    let file = in_nvfp4(file, "token_embd.weight", [64, 40]);
    check(&file);
    let scale = |scale: f32| scale.to_le_bytes().to_vec();
    let scaled = file.tensor_of("blk.0.attn_v.scale", &[1], 0, scale(-3.0));
    let scaled = scaled.tensor_of("token_embd.scale", &[1], 0, scale(0.5));
    check(&scaled.clone().tensor_of("blk.0.attn_v.input_scale", &[1], 0, scale(7.0)));
    let more = scaled.tensor_of("blk.0.attn_v.scale", &[2], 0, [scale(1.0), scale(2.0)].concat());
    assert!(refusal(&more, &options()).contains("`blk.0.attn_v.scale` has shape [2] where [1] is needed"));
    let stray = GgufWriter::tiny("llama").tensor_of("blk.0.attn_v.scale", &[1], 0, scale(2.0));
    assert!(refusal(&stray, &options()).contains("`blk.0.attn_v.scale` has no place"));
}

#[test]
fn only_wanted_logits_are_computed_and_say_where_they_come_from() {
    let mut runner = runner(&GgufWriter::tiny("llama"));
    let mut rows = Vec::new();
    for (i, wanted) in [Wanted::LastLogits, Wanted::Nothing, Wanted::AllLogits].into_iter().enumerate() {
        let blocks = vec![BlockId(i as u32)];
        let tables = vec![BlockTable { first_block: 0, blocks }];
        rows.push(Row {
            seq: SeqId(i as u64),
            input: RowInput::Tokens(tokens(3)),
            start: 0,
            tables,
            state: RowState::default(),
            wanted,
        });
    }
    let mut out = StepOutput::default();
    runner.run(&Step { copies: vec![], rows }, &mut out).unwrap();
    assert_eq!(out.logits.origin, [(0, 2), (2, 0), (2, 1), (2, 2)]);
    assert_eq!((out.logits.n_vocab, out.logits.values.len()), (40, 160));
    assert_eq!(out.logits.row(0), out.logits.row(3));
    assert_ne!(out.logits.row(1), out.logits.row(2));
}

#[test]
fn a_hidden_vector_is_what_the_head_makes_logits_of() {
    let gguf = GgufWriter::tiny("llama").open();
    let bytes = gguf.data(gguf.tensor("token_embd.weight").unwrap()).unwrap();
    let head: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut runner = runner(&GgufWriter::tiny("llama"));
    runner.in_chunks_of(5);
    // Two sequences of the same tokens, of which one asks for the other thing; and one that asks for nothing.
    let wanted = [Wanted::LastHidden, Wanted::LastLogits, Wanted::Nothing, Wanted::LastHidden];
    let lengths = [9, 9, 4, 6];
    let row = |(i, (wanted, n)): (usize, (Wanted, usize))| {
        let tables = vec![BlockTable { first_block: 0, blocks: vec![BlockId(i as u32)] }];
        Row {
            seq: SeqId(i as u64),
            input: RowInput::Tokens(tokens(n)),
            start: 0,
            tables,
            state: RowState::default(),
            wanted,
        }
    };
    let rows = wanted.into_iter().zip(lengths).enumerate().map(row).collect();
    let mut out = StepOutput::default();
    runner.run(&Step { copies: vec![], rows }, &mut out).unwrap();
    assert_eq!((out.hidden.width, &out.hidden.origin[..]), (64, &[0, 3][..]));
    assert_eq!(out.hidden.values.len(), 2 * 64);
    assert_eq!(out.logits.origin, [(1, 8)]);
    let (hidden, logits) = (&out.hidden.values[..64], out.logits.row(0));
    let product = |row: &[f32]| row.iter().zip(hidden).map(|(a, b)| a * b).sum::<f32>();
    for (want, row) in logits.iter().zip(head.chunks(64)) {
        assert!((product(row) - want).abs() < 1e-4, "{} is not {want}", product(row));
    }
    assert_ne!(hidden, &out.hidden.values[64..]);
}

#[test]
fn copies_come_before_rows() {
    let mut runner = runner(&GgufWriter::tiny("llama"));
    let (mut out, mut want) = (StepOutput::default(), StepOutput::default());
    let all = tokens(12);
    runner.run(&step(row(&runner, &all[..11], 0)), &mut out).unwrap();
    runner.run(&step(row(&runner, &all[11..], 11)), &mut want).unwrap();
    let mut copied = step(row(&runner, &all[11..], 11));
    copied.copies.push(BlockCopy { from: BlockId(0), to: BlockId(9) });
    copied.rows[0].tables[0].blocks = vec![BlockId(9)];
    runner.run(&copied, &mut out).unwrap();
    assert_eq!(out.logits.values, want.logits.values);
}

#[test]
fn a_step_that_makes_no_sense_is_an_error_that_says_why() {
    let gemma = GgufWriter::tiny("gemma3")
        .u32("gemma3.attention.sliding_window", 24)
        .u32("gemma3.attention.sliding_window_pattern", 2);
    let mut runner = runner(&gemma);
    let mut check = |change: &dyn Fn(&mut Step), want: &str| {
        let mut bad = step(row(&runner, &tokens(4), 60));
        change(&mut bad);
        let error = runner.run(&bad, &mut StepOutput::default()).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} does not say {want:?}");
    };
    check(&|step| step.rows[0].input = RowInput::Tokens(vec![]), "has no tokens");
    check(&|step| step.rows[0].input = RowInput::Tokens(vec![1, 40]), "token 40 of 40");
    check(&|step| step.rows[0].start = 253, "4 tokens from 253, context 256");
    check(&|step| step.rows[0].start = usize::MAX, "context 256");
    check(&|step| step.rows.push(step.rows[0].clone()), "sequence 1 occurs twice");
    check(&|step| step.rows[0].tables.truncate(1), "1 block tables for 2 layer groups");
    check(
        &|step| step.rows[0].tables[0].blocks.truncate(3),
        "needs blocks 0..=3 in group 0, its table holds 0..3",
    );
    check(&|step| step.rows[0].tables[0].first_block = 1, "needs blocks 0..=3 in group 0");
    check(&|step| step.rows[0].tables[1].first_block = 3, "needs blocks 2..=3 in group 1");
    check(&|step| step.rows[0].tables[1].blocks[0] = BlockId(64), "block 64 of 64");
    check(&|step| step.copies.push(BlockCopy { from: BlockId(0), to: BlockId(99) }), "block 99 of 64");
    let mut bytes = vec![0; runner.layout().block_bytes];
    assert_eq!(
        runner.export_block(BlockId(64), &mut bytes),
        Err(RunError::NoSuchBlock { block: 64, n_blocks: 64 })
    );
    let want = bytes.len();
    assert_eq!(
        runner.import_block(BlockId(0), &bytes[1..]),
        Err(RunError::BlockSize { got: want - 1, want })
    );
}

#[test]
fn progress_counts_the_bytes_of_tensors_and_can_stop_the_load() {
    let file = GgufWriter::tiny("gemma3").file();
    let mut seen: Vec<LoadProgress> = Vec::new();
    let each = &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    };
    load(file.path(), &options(), each).unwrap();
    let total: u64 = Gguf::open(file.path()).unwrap().tensors().iter().map(|t| t.range.len() as u64).sum();
    assert!(seen.is_sorted_by(|a, b| a.bytes_done < b.bytes_done && b.bytes_total == total));
    assert_eq!(seen.last().unwrap().bytes_done, total);
    let stopped = load(file.path(), &options(), &mut |_| ControlFlow::Break(())).err().unwrap();
    assert!(matches!(stopped, LoadError::Cancelled { .. }));
}

#[test]
fn progress_ends_with_all_that_is_read_in_every_family() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
    let mut n_loaded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut last = LoadProgress { bytes_done: 0, bytes_total: 0 };
        let each = &mut |progress| {
            last = progress;
            ControlFlow::Continue(())
        };
        if load(&path, &options(), each).is_ok() {
            assert_eq!(last.bytes_done, last.bytes_total, "{}", path.display());
            n_loaded += 1;
        }
    }
    assert!(n_loaded > 3);
}

#[test]
fn a_tensor_that_takes_long_is_not_one_step_and_can_be_broken_off_within() {
    // 100 MB of embeddings, which a hole of the file is.
    let file = GgufWriter::tiny("llama").without("token_embd.weight");
    let n_rows = 400_000;
    let file = file.tensor_of("token_embd.weight", &[64, n_rows], 0, Vec::new()).file();
    let embeddings = 4 * 64 * n_rows;
    file.as_file().set_len(file.as_file().metadata().unwrap().len() + embeddings).unwrap();
    let mut steps = vec![0];
    let each = &mut |progress: LoadProgress| {
        steps.push(progress.bytes_done);
        ControlFlow::Continue(())
    };
    load(file.path(), &options(), each).unwrap();
    let largest = steps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(largest < embeddings && largest < 72 << 20, "{largest} of {embeddings}");
    let mut n_steps = 0;
    let stopped = load(file.path(), &options(), &mut |_| {
        n_steps += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped.err().unwrap(), LoadError::Cancelled { .. }));
    assert_eq!(n_steps, 1);
}

#[test]
fn a_model_that_cannot_run_is_refused_in_one_line_that_names_file_and_cause() {
    let check = |file: &GgufWriter, change: &dyn Fn(&mut LoadOptions), want: &str| {
        let mut options = options();
        change(&mut options);
        let message = refusal(file, &options);
        assert!(message.contains(want), "{message:?} does not say {want:?}");
    };
    let llama = || GgufWriter::tiny("llama");
    let same = |_: &mut LoadOptions| {};
    check(&llama().str("general.architecture", "mamba"), &same, "not supported: architecture \"mamba\"");
    check(&llama().without("blk.1.ffn_up.weight"), &same, "tensor `blk.1.ffn_up.weight` is missing");
    check(
        &llama().tensor("blk.1.ffn_up.weight", &[96, 64]),
        &same,
        "has shape [96, 64] where [64, 96] is needed",
    );
    check(
        &llama().tensor("blk.0.attn_q_norm.weight", &[32]),
        &same,
        "tensor `blk.0.attn_q_norm.weight` has no place in a llama",
    );
    check(&llama().tensor("output.weight", &[64, 41]), &same, "`output.weight` has shape [64, 41]");
    check(
        &GgufWriter::tiny("gemma3").without("blk.0.attn_q_norm.weight"),
        &same,
        "attn_q_norm.weight` is missing",
    );
    check(&llama(), &|options| options.n_threads = 0, "cannot be set up: 0 threads");
    check(&llama(), &|options| options.block_tokens = 24, "a block of 24 tokens");
    check(&llama(), &|options| options.pool = PoolSize::Bytes(100), "a KV pool of Bytes(100) for blocks of");
    check(
        &llama(),
        &|options| options.pool = PoolSize::Blocks(1 << 40),
        "a KV pool of Blocks(1099511627776)",
    );
}

#[test]
fn a_file_that_is_none_or_cut_off_is_refused() {
    let none = load(Path::new("/nonexistent/m.gguf"), &options(), &mut |_| ControlFlow::Continue(()));
    assert!(
        none.err().unwrap().to_string().starts_with("cannot read model /nonexistent/m.gguf: No such file")
    );
    let folder = load(Path::new("/"), &options(), &mut |_| ControlFlow::Continue(()));
    assert!(folder.err().unwrap().to_string().starts_with("cannot read model /: "));
    let bytes = GgufWriter::tiny("llama").bytes();
    let file = tempfile::NamedTempFile::new().unwrap();
    for n in [0, 3, 100, 3000, bytes.len() - 1] {
        std::fs::write(file.path(), &bytes[..n]).unwrap();
        let error = load(file.path(), &options(), &mut |_| ControlFlow::Continue(())).err();
        let message = error.expect("a refusal").to_string();
        assert!(message.contains(file.path().to_str().unwrap()) && !message.contains('\n'), "{message}");
    }
}
