//! The device runner on tiny models: every kind of layer, block transfers, refusals.

use kernels::ggml::{GgmlType, dequantize};
use scheduler::{
    BlockCopy, BlockId, BlockTable, KvLayout, Row, RowInput, RowState, RunError, SeqId, Step, StepOutput,
    Wanted,
};

use super::*;
use crate::testing::gguf_writer::GgufWriter;

const N_BLOCKS: usize = 64;

/// A row of one sequence, its blocks of the groups laid one after the other.
fn row(layout: &KvLayout, tokens: &[u32], start: usize) -> Row {
    let n_groups = layout.groups.len();
    let n_blocks = (start + tokens.len()).div_ceil(layout.block_tokens);
    let table = |group: usize| BlockTable {
        first_block: 0,
        blocks: (0..n_blocks).map(|b| BlockId((b * n_groups + group) as u32)).collect(),
    };
    let tables = (0..n_groups).map(table).collect();
    Row {
        seq: SeqId(1),
        input: RowInput::Tokens(tokens.to_vec()),
        start,
        tables,
        state: RowState::default(),
        wanted: Wanted::AllLogits,
    }
}

fn logits(runner: &mut dyn ModelRunner, row: Row) -> Vec<f32> {
    let mut out = StepOutput::default();
    runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).unwrap();
    out.logits.values
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 3 + 1) % 40).collect()
}

/// Holds that both decoders compute the same of `file`, in chunks of any size.
fn check(file: &GgufWriter) {
    let gguf = file.open();
    for kv_dtype in [KvDtype::F16, KvDtype::Q8] {
        let options = GpuOptions { kv_dtype, block_tokens: 16, ..options(N_BLOCKS) };
        let want = {
            let mut runner = by_kernels(&gguf, &options);
            let row = row(runner.layout(), &tokens(90), 0);
            logits(&mut *runner, row)
        };
        for chunk_tokens in [512, 37] {
            let mut runner = on_device(&gguf, &options);
            runner.in_chunks_of(chunk_tokens);
            let row = row(runner.layout(), &tokens(90), 0);
            let distance = distance(&logits(&mut runner, row), &want);
            // A key may round to the neighbouring integer or half.
            let bound = if kv_dtype == KvDtype::Q8 { 5e-3 } else { 1e-3 };
            assert!(distance < bound, "{kv_dtype:?} in chunks of {chunk_tokens}: off by {distance}");
        }
    }
}

#[test]
fn a_llama_computes_on_a_device_what_it_computes_by_kernels() {
    let llama = || GgufWriter::tiny("llama");
    check(&llama());
    check(&llama().tensor("output.weight", &[64, 40]));
    check(&llama().u32("llama.attention.sliding_window", 20));
    check(&llama().u32("llama.rope.dimension_count", 16));
    check(&llama().f32("llama.rope.scaling.factor", 4.0));
    check(&llama().f32("llama.attention.scale", 0.5).f32("llama.attn_logit_softcapping", 0.3));
    check(&llama().f32("llama.final_logit_softcapping", 5.0));
    check(&llama().tensor("rope_freqs.weight", &[16]));
}

#[test]
fn a_gemma3_computes_on_a_device_what_it_computes_by_kernels() {
    let gemma = || GgufWriter::tiny("gemma3").u32("gemma3.attention.sliding_window", 24);
    check(&gemma().u32("gemma3.attention.sliding_window_pattern", 2).f32("gemma3.rope.freq_base", 1e6));
    check(&gemma().f32("gemma3.final_logit_softcapping", 5.0).f32("gemma3.attn_logit_softcapping", 2.0));
    check(&GgufWriter::tiny("gemma3"));
}

#[test]
fn blocks_leave_the_pool_and_come_back_elsewhere_bit_for_bit() {
    for kv_dtype in [KvDtype::F16, KvDtype::Q8] {
        let mut runner = on_device(
            &GgufWriter::tiny("llama").open(),
            &GpuOptions { kv_dtype, block_tokens: 16, ..options(8) },
        );
        let all = tokens(20);
        let first = row(runner.layout(), &all[..19], 0);
        logits(&mut runner, first);
        let last = row(runner.layout(), &all[19..], 19);
        let want = logits(&mut runner, last.clone());

        let mut bytes = vec![0; runner.layout().block_bytes];
        let mut moved = last.clone();
        for (i, to) in [(0, 5), (1, 7)] {
            runner.export_block(BlockId(i), &mut bytes).unwrap();
            runner.import_block(BlockId(to), &bytes).unwrap();
            let mut again = vec![1; bytes.len()];
            runner.export_block(BlockId(to), &mut again).unwrap();
            assert_eq!(again, bytes);
            moved.tables[0].blocks[i as usize] = BlockId(to);
        }
        assert_eq!(logits(&mut runner, moved.clone()), want);

        // The same through copies of the step, which come before its rows.
        let mut out = StepOutput::default();
        let copies =
            [(0, 2), (1, 3), (1, 1)].map(|(from, to)| BlockCopy { from: BlockId(from), to: BlockId(to) });
        moved.tables[0].blocks = vec![BlockId(2), BlockId(3)];
        runner.run(&Step { copies: copies.to_vec(), rows: vec![moved] }, &mut out).unwrap();
        assert_eq!(out.logits.values, want);
    }
}

#[test]
fn only_the_logits_that_are_wanted_are_computed() {
    let mut runner = on_device(&GgufWriter::tiny("llama").open(), &options(8));
    runner.in_chunks_of(4);
    let mut rows = Vec::new();
    for (i, wanted) in [Wanted::LastLogits, Wanted::Nothing, Wanted::AllLogits].into_iter().enumerate() {
        let tables = vec![BlockTable { first_block: 0, blocks: vec![BlockId(i as u32)] }];
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
    assert!(distance(out.logits.row(0), out.logits.row(3)) < 1e-6);
    assert_ne!(out.logits.row(1), out.logits.row(2));
}

#[test]
fn a_hidden_vector_on_a_device_is_what_the_kernels_have() {
    let gguf = GgufWriter::tiny("llama").open();
    let hidden = |runner: &mut dyn ModelRunner| {
        let row = Row { wanted: Wanted::LastHidden, ..row(runner.layout(), &tokens(9), 0) };
        let mut out = StepOutput::default();
        runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).unwrap();
        assert!(out.hidden.origin == [0] && out.logits.values.is_empty());
        out.hidden.values
    };
    let want = hidden(&mut *by_kernels(&gguf, &options(8)));
    assert_eq!(want.len(), 64);
    assert!(distance(&hidden(&mut on_device(&gguf, &options(8))), &want) < 1e-3);
}

#[test]
fn a_faulty_row_leaves_the_others_alone() {
    let mut runner = on_device(&GgufWriter::tiny("llama").open(), &options(8));
    let decode = |seq: u64, start: usize| {
        let tables = vec![BlockTable { first_block: 0, blocks: vec![BlockId(seq as u32)] }];
        Row {
            seq: SeqId(seq),
            input: RowInput::Tokens(vec![7]),
            start,
            tables,
            state: RowState::default(),
            wanted: Wanted::LastLogits,
        }
    };
    // Two sequences of the same tokens; the second one's block holds NaN at a position that it sees.
    let mut bytes = vec![0; runner.layout().block_bytes];
    let run = |runner: &mut Runner<GpuBackend>| {
        let mut out = StepOutput::default();
        runner.run(&Step { copies: vec![], rows: vec![decode(0, 3), decode(1, 4)] }, &mut out).unwrap();
        out.logits
    };
    let sound = run(&mut runner);
    runner.export_block(BlockId(1), &mut bytes).unwrap();
    bytes[..4].fill(0xff);
    runner.import_block(BlockId(1), &bytes).unwrap();
    let faulty = run(&mut runner);
    assert_eq!(faulty.row(0), sound.row(0));
    assert!(faulty.row(1).iter().all(|x| x.is_nan()));
}

#[test]
fn a_matrix_of_a_type_that_a_device_does_not_know_is_refused_before_any_is_read() {
    let mut n_known = 0;
    for id in 0..64 {
        let Some(ty) = GgmlType::from_gguf_id(id) else { continue };
        // Below 128 in all of its bytes: numbers and scales of any type are finite.
        let bytes: Vec<u8> =
            (0..ty.bytes_of(256 * 40).unwrap()).map(|i| (i * i * 31 + i * 7) as u8 & 0x3f).collect();
        let mut values = vec![0.0; 256 * 40];
        dequantize(ty, &bytes, &mut values);
        let gguf = GgufWriter::new().tensor_of("m.weight", &[256, 40], id, bytes).open();
        let pack = DevicePack { device: &Device::Cpu };
        let tensor = gguf.tensor("m.weight").unwrap();
        let bytes = 0..tensor.range.len();
        match pack.matrix(&gguf, &StoredMatrix { tensor, n_out: 40, n_in: 256, bytes }, &mut |_| Ok(())) {
            Ok(matrix) => {
                n_known += 1;
                let ids = Tensor::new(&[39_u32, 0, 7], &Device::Cpu).unwrap();
                let rows = matrix.in_floats().unwrap().rows(&ids).unwrap();
                let want = [39, 0, 7].map(|id: usize| values[256 * id..][..256].to_vec());
                assert_eq!(rows.to_vec2::<f32>().unwrap(), want, "{}", ty.name());
            }
            Err(error) => assert!(format!("{error:?}").contains(&format!("weights in {}", ty.name()))),
        }
    }
    assert_eq!(n_known, 13);
    let tiny =
        GgufWriter::tiny("llama").tensor_of("blk.1.ffn_up.weight", &[64, 96], 20, vec![0; 96 * 36]).open();
    let mut n_read = 0;
    let runner = load::runner(&tiny, &options(8), &Device::Cpu, &mut |_| {
        n_read += 1;
        ControlFlow::Continue(())
    });
    let refused = format!("{:?}", runner.err().unwrap());
    assert!(
        refused.contains("`blk.1.ffn_up.weight`: a GPU does not multiply with weights in IQ4_NL"),
        "{refused}"
    );
    assert_eq!(n_read, 0);
}

#[test]
fn what_a_device_cannot_do_is_refused() {
    let refused = |options: GpuOptions| {
        let gguf = GgufWriter::tiny("llama").open();
        let runner = load::runner(&gguf, &options, &Device::Cpu, &mut |_| ControlFlow::Continue(()));
        format!("{:?}", runner.err().unwrap())
    };
    let q4 = refused(GpuOptions { kv_dtype: KvDtype::Q4, ..options(8) });
    assert!(q4.contains("q4 keys and values run on the CPU only"), "{q4}");
    let none = refused(GpuOptions { pool: PoolSize::Bytes(10), ..options(8) });
    assert!(none.contains("a KV pool of Bytes(10)"), "{none}");
    let huge = refused(options(u32::MAX as usize / 32 + 1));
    assert!(huge.contains("more slots than can be numbered"), "{huge}");
    let mut runner = on_device(&GgufWriter::tiny("llama").open(), &options(8));
    let wrong = runner.export_block(BlockId(8), &mut []);
    assert_eq!(wrong, Err(RunError::NoSuchBlock { block: 8, n_blocks: 8 }));
    assert!(matches!(runner.import_block(BlockId(0), &[1]), Err(RunError::BlockSize { got: 1, .. })));
}
