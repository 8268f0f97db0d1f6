//! A device proves itself: every family that one serves passes, and a wrong operation is found in its layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scheduler::{BlockId, BlockTable, Row, RowInput, RowState, RunError, SeqId, Step, StepOutput, Wanted};

use super::meddled::{Meddle, Meddled, Operation};
use super::*;
use crate::families::plan_of;
use crate::file::gguf::Gguf;
use crate::gpu::able::refusal;
use crate::gpu::kv_pool::KvPool;
use crate::gpu::part::KvFormat;
use crate::gpu::proof::doubt::Doubt;
use crate::gpu::proof::recorded::Provable;
use crate::gpu::proof::{Time, bound_of, prove};
use crate::gpu::shaders::Shaders;
use crate::gpu::trust::trusted;
use crate::gpu::verdict::{GpuFault, GpuFaultKind, GpuProof};
use crate::options::{GpuProofOptions, LoadProgress};
use crate::plan::model_plan::ModelPlan;
use crate::plan::rope_plan::RopePairs;
use crate::testing::gguf_writer::GgufWriter;

fn go_on(_: LoadProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn proof_options() -> GpuProofOptions {
    GpuProofOptions { n_threads: 2, isa: Isa::detect() }
}

/// A proof that has all the time there is.
fn proved<D: Provable>(runner: &mut Runner<D>, gguf: &Gguf) -> Result<GpuProof, Doubt>
where
    Runner<D>: ModelRunner,
{
    let time = Time { limit: Duration::MAX, elapsed: &|| Duration::ZERO };
    prove(runner, gguf, &proof_options(), &time, &mut go_on)
}

/// Every model that a device serves, the real ones among them.
fn served() -> impl Iterator<Item = Gguf> {
    let tiny = tiny::all().into_iter().map(|tiny| tiny.model);
    let real = [vectors::SMOLLM2, vectors::GEMMA3].map(vectors::model_path);
    let models = tiny.chain(real).map(|path| Gguf::open(&path).expect("a sound model"));
    models.filter(|gguf| refusal(&plan_of(gguf).expect("a family"), gguf).is_none())
}

#[test]
fn every_family_that_a_device_serves_passes_its_proof() {
    let mut n_models = 0;
    for gguf in served() {
        n_models += 1;
        for kv_dtype in [KvDtype::F16, KvDtype::Q8] {
            let (options, device) = (GpuOptions { kv_dtype, ..options(400) }, Device::Cpu);
            let halves = Unpacked::in_halves(DevicePack { device: &device });
            let mut runner = packed_on_device(&gguf, &options, &halves);
            let proof = proved(&mut runner, &gguf);
            println!("{}, {kv_dtype:?}: {proof:?}", gguf.path().display());
            let proof = proof.expect("it computes what the CPU computes");
            assert_eq!(proof.n_compared, proof.n_layers);
            // There is as much room to the bound again.
            assert!(proof.worst <= bound_of(kv_dtype) / 2.0, "{}", proof.worst);
        }
    }
    assert!(n_models > 12, "{n_models}");
}

/// A model of two layers whose vocabulary is wider than what of the head is compared.
fn tiny_file() -> GgufWriter {
    GgufWriter::tiny("llama").tensor("token_embd.weight", &[64, 3000])
}

fn meddled(gguf: &Gguf, meddle: Meddle) -> Runner<Meddled> {
    let set_up =
        load::set_up(gguf, &options(64), &Device::Cpu, &DevicePack { device: &Device::Cpu }, &mut go_on);
    Meddled::runner(set_up.map_err(drop).expect("a sound model"), &Arc::default(), meddle)
}

fn sound() -> Meddle {
    Box::new(|_, _, of| Ok(of))
}

fn fault(of: Result<GpuProof, Doubt>) -> GpuFault {
    match of {
        Err(Doubt::Gpu(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// Holds that `meddle` makes the proof fail at `place`.
fn check(place: &str, meddle: Meddle) {
    let gguf = tiny_file().open();
    let fault = fault(proved(&mut meddled(&gguf, meddle), &gguf));
    assert_eq!(fault.kind, GpuFaultKind::Wrong, "{fault}");
    assert!(fault.text.starts_with(&format!("{place}: ")), "{place}: {fault}");
}

/// Meddles with one operation, in one layer.
fn at(
    operation: Operation,
    layer_idx: usize,
    mut meddle: impl FnMut(Tensor) -> candle_core::Result<Tensor> + Send + 'static,
) -> Meddle {
    Box::new(move |done, layer, of| match done == operation && layer == layer_idx {
        true => meddle(of).map_err(|error| RunError::Device(one_line(&error))),
        false => Ok(of),
    })
}

/// `of` with the value in `column` of each row made another.
fn with_column(of: &Tensor, column: usize, make: impl Fn(f32) -> f32) -> candle_core::Result<Tensor> {
    let (n_rows, width) = of.dims2()?;
    let mut values: Vec<f32> = of.flatten_all()?.to_vec1()?;
    values.iter_mut().skip(column).step_by(width).for_each(|x| *x = make(*x));
    Tensor::from_vec(values, (n_rows, width), of.device())
}

#[test]
fn a_sound_device_passes_whatever_stands_between() {
    let gguf = tiny_file().open();
    let proof = proved(&mut meddled(&gguf, sound()), &gguf).expect("it is sound");
    assert_eq!((proof.n_layers, proof.n_compared), (2, 2));
}

#[test]
fn a_wrong_operation_is_found_in_its_layer() {
    use Operation::{Attention, Embed, Gated, Join, Logits};
    check("layer 1", at(Attention, 1, |of| of * 1.1));
    check("layer 0", at(Gated, 0, |of| of * 1.1));
    // A column that a kernel left out, and one that is no number.
    check("layer 1", at(Join, 1, |of| with_column(&of, 63, |_| 0.0)));
    check("layer 1", at(Join, 1, |of| with_column(&of, 5, |_| f32::NAN)));
    check("layer 0", at(Join, 0, |of| with_column(&of, 5, |x| x * f32::INFINITY)));
    check("embeddings", at(Embed, 0, |of| of.roll(1, 0)));
    // Everything before the head is computed in the last layer.
    check("output head", at(Logits, 1, |of| with_column(&of, 2999, |x| x + 1.0)));
    check("output head", at(Logits, 1, |of| with_column(&of, 1000, |_| f32::NAN)));
    // Later tokens only: a decode, and no prompt.
    check("layer 1", at(Attention, 1, |of| if of.dim(0)? < 6 { of * 0.5 } else { Ok(of) }));
}

#[test]
fn another_plan_than_the_files_is_found() {
    let gguf = tiny_file().open();
    let (plan, _) = crate::families::read(&gguf).expect("a sound model");
    let wrong_backend = |change: fn(&mut ModelPlan)| {
        let mut wrong = plan.clone();
        change(&mut wrong);
        let pack = DevicePack { device: &Device::Cpu };
        let set_up = load::set_up(&gguf, &options(64), &Device::Cpu, &pack, &mut go_on);
        let mut set_up = set_up.map_err(drop).expect("a sound model");
        let shaders = Shaders::new(&Device::Cpu).expect("nothing to compile");
        let pool = KvPool::new(&Device::Cpu, shaders.clone(), 64, &set_up.layout).expect("room");
        set_up.backend = GpuBackend::new(&wrong, &set_up.layout, KvFormat::F16, pool, shaders, Device::Cpu);
        fault(proved(&mut Meddled::runner(set_up, &Arc::default(), sound()), &gguf))
    };
    for fault in [
        wrong_backend(|plan| plan.ropes[0].pairs = RopePairs::SplitHalf),
        wrong_backend(|plan| plan.ropes[0].base *= 2.0),
        wrong_backend(|plan| plan.branch_scale = 0.9),
        wrong_backend(|plan| plan.norm_eps = 0.1),
    ] {
        assert_eq!(fault.kind, GpuFaultKind::Wrong);
        assert!(fault.text.starts_with("layer 0: off by "), "{fault}");
    }
}

#[test]
fn blocks_that_do_not_arrive_are_found() {
    let gguf = tiny_file().open();
    let with = |change: fn(&mut Meddled)| {
        let mut runner = meddled(&gguf, sound());
        change(runner.backend());
        fault(proved(&mut runner, &gguf))
    };
    for fault in [with(|device| device.writes = false), with(|device| device.copies = false)] {
        assert!(fault.text.starts_with("layer 0: off by "), "{fault}");
    }
}

#[test]
fn an_error_and_a_panic_of_the_device_are_faults_and_not_the_processs_end() {
    let gguf = tiny_file().open();
    let trusted_with = |meddle: Meddle| {
        let load = |_: load::Report<'_>| Ok(meddled(&gguf, meddle));
        trusted(load, &gguf, Some(&proof_options()), &|| Duration::ZERO, &mut go_on).map(|ok| ok.map(drop))
    };
    let refused = |meddle| trusted_with(meddle).expect("no other cause").expect_err("a fault");
    let lost = refused(at(Operation::Attention, 1, |_| candle_core::bail!("device lost")));
    assert_eq!((lost.kind, lost.text.as_str()), (GpuFaultKind::Broke, "device: device lost"));
    let panicked = refused(Box::new(|_, _, _| panic!("a kernel is missing")));
    assert_eq!(panicked.kind, GpuFaultKind::Broke);
    assert_eq!(panicked.text, "what drives it panicked: a kernel is missing");
    assert!(trusted_with(sound()).is_ok_and(|trusted| trusted.is_ok()));

    let load = |cause: fn() -> Cause| {
        let load = |_: load::Report<'_>| -> Result<Runner<Meddled>, Cause> { Err(cause()) };
        trusted(load, &gguf, Some(&proof_options()), &|| Duration::ZERO, &mut go_on).map(|ok| ok.map(drop))
    };
    let no_room = load(|| Cause::Setup("no memory".to_owned())).expect("the CPU may have some");
    assert_eq!(no_room.expect_err("a fault").kind, GpuFaultKind::NoRoom);
    assert!(matches!(load(|| Cause::Malformed("cut".to_owned())), Err(Cause::Malformed(_))));
    let panicked = load(|| panic!("no queue")).expect("a fault").expect_err("a fault");
    assert_eq!(panicked.kind, GpuFaultKind::Broke);
}

/// The logits of a short prompt.
fn logits(runner: &mut dyn ModelRunner) -> Vec<u32> {
    let tables = vec![BlockTable { first_block: 0, blocks: vec![BlockId(0)] }];
    let input = RowInput::Tokens((0..20).collect());
    let row =
        Row { seq: SeqId(1), input, start: 0, tables, state: RowState::default(), wanted: Wanted::AllLogits };
    let mut out = StepOutput::default();
    runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).expect("it runs");
    out.logits.values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_device_that_fails_is_let_go_and_the_cpu_serves_the_bits_that_it_serves_alone() {
    let gguf = tiny_file().open();
    let alone = logits(&mut *by_kernels(&gguf, &options(64)));
    for meddle in [
        at(Operation::Gated, 1, |of| of * 2.0),
        at(Operation::Gated, 1, |_| panic!("lost")),
        at(Operation::Gated, 1, |_| candle_core::bail!("lost")),
    ] {
        let alive = Arc::new(());
        let pack = DevicePack { device: &Device::Cpu };
        let load = |progress: load::Report<'_>| {
            let set_up = load::set_up(&gguf, &options(64), &Device::Cpu, &pack, progress)?;
            Ok(Meddled::runner(set_up, &alive, meddle))
        };
        let refused = trusted(load, &gguf, Some(&proof_options()), &|| Duration::ZERO, &mut go_on);
        assert!(refused.expect("a fault").is_err());
        assert_eq!(Arc::strong_count(&alive), 1, "nothing is left on the device");
        assert_eq!(logits(&mut *by_kernels(&gguf, &options(64))), alone);
    }
}

#[test]
fn without_time_one_layer_of_each_kind_is_compared_and_with_some_as_many_as_it_takes() {
    let gguf = Gguf::open(&tiny::folder().join("gemma3.gguf")).expect("a sound model");
    let n_compared = |limit: u64| {
        let options = GpuOptions { block_tokens: 16, ..options(64) };
        let mut runner =
            packed_on_device(&gguf, &options, &Unpacked::in_floats(DevicePack { device: &Device::Cpu }));
        let now = AtomicU64::new(0);
        // Each look at the clock takes a second.
        let elapsed = || Duration::from_secs(now.fetch_add(1, Ordering::Relaxed));
        let time = Time { limit: Duration::from_secs(limit), elapsed: &elapsed };
        let proof = prove(&mut runner, &gguf, &proof_options(), &time, &mut go_on);
        let GpuProof { n_layers, n_compared, .. } = proof.expect("it is sound");
        (n_layers, n_compared)
    };
    let (n_layers, least) = n_compared(0);
    assert!(least >= 2 && least < n_layers, "windows and full attention: {least} of {n_layers}");
    assert_eq!(n_compared(1), (n_layers, least + 1));
    assert_eq!(n_compared(1000), (n_layers, n_layers));
}

#[test]
fn a_proof_that_nobody_waits_for_ends() {
    let gguf = tiny_file().open();
    let load = |_: load::Report<'_>| Ok(meddled(&gguf, sound()));
    let mut n_reports = 0;
    let given_up = trusted(load, &gguf, Some(&proof_options()), &|| Duration::ZERO, &mut |progress| {
        n_reports += 1;
        assert_eq!(progress.bytes_done, progress.bytes_total);
        ControlFlow::Break(())
    });
    assert!(matches!(given_up, Err(Cause::Cancelled)));
    assert_eq!(n_reports, 1);
}

#[test]
fn a_device_that_is_trusted_proves_nothing() {
    let gguf = tiny_file().open();
    let load = |_: load::Report<'_>| Ok(meddled(&gguf, at(Operation::Gated, 1, |of| of * 2.0)));
    let trusted = trusted(load, &gguf, None, &|| Duration::ZERO, &mut go_on);
    assert!(matches!(trusted, Ok(Ok((_, None)))));
}
