//! Which device computes, and what happens where the one that was chosen refuses.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;

use engine::FailureKind;
use kernels::isa::Isa;
use model::{LoadOptions, PoolSize, Precision};
use scheduler::{BlockId, BlockTable, Row, RowInput, RowState, SeqId, Step, StepOutput, Wanted};

use super::*;

#[test]
fn the_gpu_computes_where_it_can_and_a_forced_one_that_cannot_is_refused() {
    use Device::{Auto, Metal};
    use KvDtype::{F16, Q4, Q8};
    let because = |kind, text: &str| Ok(Choice::Cpu { because: Some(GpuRefusal::new(kind, text)) });
    let refused = |because: &str| Err(format!("device: {because}"));
    let broken = || Err("lost".to_owned());
    let (format, unusable) = (GpuRefusalKind::KvFormat, GpuRefusalKind::Unusable);
    type Found = Result<Option<u8>, String>;
    type Want = Result<Choice<u8>, String>;
    let table: [(Device, KvDtype, Found, Want); 8] = [
        (Auto, F16, Ok(Some(1)), Ok(Choice::Gpu(1))),
        (Metal, Q8, Ok(Some(1)), Ok(Choice::Gpu(1))),
        (Auto, F16, Ok(None), Ok(Choice::Cpu { because: None })),
        (Metal, F16, Ok(None), refused("this machine or this build has no Metal")),
        (Auto, Q4, Ok(Some(1)), because(format, "KV as q4 is for the CPU only")),
        (Metal, Q4, Ok(Some(1)), refused("KV as q4 is for the CPU only")),
        (Auto, F16, broken(), because(unusable, "the GPU cannot be used: lost")),
        (Metal, F16, broken(), refused("the GPU cannot be used: lost")),
    ];
    for (wanted, kv_dtype, found, want) in table {
        let what = format!("{wanted:?} {kv_dtype:?} {found:?}");
        assert_eq!(decide(wanted, kv_dtype, found, |_| None), want, "{what}");
    }
    let lacks = |wanted| decide(wanted, F16, Ok(Some(1)), |_| Some(lacking("no experts")));
    assert_eq!(lacks(Auto), because(GpuRefusalKind::Model, "the GPU cannot run this model: no experts"));
    assert_eq!(lacks(Metal), refused("the GPU cannot run this model: no experts"));
}

#[test]
fn the_cpu_is_used_when_asked_for() {
    assert!(matches!(choose(Device::Cpu, KvDtype::F16, |_| None), Ok(Choice::Cpu { because: None })));
}

/// A tiny model, loaded on the CPU in earnest; what comes of it on the GPU is given.
#[derive(Default)]
struct Tiny {
    on_gpu: RefCell<Option<Result<GpuLoad, Failure>>>,
    learnt: RefCell<Vec<Verdict>>,
}

impl Loads<u8> for Tiny {
    fn by_gpu(&self, _: u8) -> Result<GpuLoad, Failure> {
        self.on_gpu.take().expect("it is loaded once")
    }

    fn by_cpu(&self) -> Result<Box<dyn ModelRunner>, Failure> {
        assert!(self.on_gpu.borrow().is_none(), "the GPU comes first where it was chosen");
        Ok(by_cpu())
    }

    fn learnt(&self, verdict: &Verdict) {
        self.learnt.borrow_mut().push(verdict.clone());
    }

    fn refused(&self, refusal: &GpuRefusal) -> Failure {
        Failure::new(FailureKind::NoRoom, refusal.text.clone())
    }
}

fn by_cpu() -> Box<dyn ModelRunner> {
    let options = LoadOptions {
        n_threads: 1,
        isa: Isa::detect(),
        block_tokens: 16,
        kv_dtype: KvDtype::F16,
        pool: PoolSize::Blocks(4),
        ready_bytes: 0,
        precision: Precision::Fast,
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/crates/model/tests/families/llama.gguf");
    model::load(&path, &options, &mut |_| ControlFlow::Continue(())).expect("a sound model")
}

/// The logits of a short prompt.
fn logits(mut runner: Box<dyn ModelRunner>) -> Vec<f32> {
    let tables = vec![BlockTable { first_block: 0, blocks: vec![BlockId(0)] }; runner.layout().groups.len()];
    let input = RowInput::Tokens(vec![1, 2, 3]);
    let row =
        Row { seq: SeqId(1), input, start: 0, tables, state: RowState::default(), wanted: Wanted::AllLogits };
    let mut out = StepOutput::default();
    runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).expect("it runs");
    out.logits.values
}

fn tried(wanted: Device, on_gpu: GpuLoad) -> (Result<Served, Failure>, Vec<Verdict>) {
    let tiny = Tiny { on_gpu: RefCell::new(Some(Ok(on_gpu))), ..Tiny::default() };
    (serve(wanted, Choice::Gpu(1), &tiny), tiny.learnt.take())
}

fn fault(kind: GpuFaultKind) -> GpuLoad {
    GpuLoad::Refused(GpuFault { kind, text: "layer 3: off by 0.5".to_owned() })
}

#[test]
fn where_the_gpu_refuses_the_cpu_serves_what_it_serves_alone_and_says_why() {
    let alone = logits(by_cpu());
    for (kind, want, is_learnt) in [
        (GpuFaultKind::Wrong, GpuRefusalKind::Wrong, true),
        (GpuFaultKind::Broke, GpuRefusalKind::Broke, true),
        (GpuFaultKind::NoRoom, GpuRefusalKind::NoRoom, false),
    ] {
        let (served, learnt) = tried(Device::Auto, fault(kind));
        let Served { runner, by } = served.expect("the CPU serves");
        assert_eq!(logits(runner), alone);
        let refusal = by.gpu_refusal.expect("a reason");
        assert_eq!((by.backend, refusal.kind), (Backend::Cpu, want));
        assert!(refusal.text.ends_with(": layer 3: off by 0.5"), "{refusal}");
        assert_eq!(learnt, if is_learnt { vec![Verdict::Failed(refusal)] } else { vec![] });

        let (served, again) = tried(Device::Metal, fault(kind));
        assert!(served.err().expect("nothing else serves").text.ends_with("layer 3: off by 0.5"));
        assert_eq!(again, learnt);
    }
}

#[test]
fn a_gpu_that_serves_is_named_and_what_it_proved_is_learnt() {
    for (proof, want) in [
        (Some(GpuProof { n_layers: 2, n_compared: 2, worst: 0.001 }), vec![Verdict::Passed]),
        // It was known before.
        (None, vec![]),
    ] {
        let (served, learnt) = tried(Device::Auto, GpuLoad::Serves { runner: by_cpu(), proof });
        assert_eq!(served.expect("it serves").by, ServedBy { backend: Backend::Metal, gpu_refusal: None });
        assert_eq!(learnt, want);
    }
}

#[test]
fn a_choice_of_the_cpu_is_kept_with_its_reason() {
    for because in [None, Some(lacking("no experts"))] {
        let served = serve(Device::Auto, Choice::Cpu { because: because.clone() }, &Tiny::default());
        assert_eq!(served.expect("it serves").by, ServedBy { backend: Backend::Cpu, gpu_refusal: because });
    }
}

#[test]
fn a_file_that_cannot_be_read_for_the_gpu_is_not_tried_on_the_cpu() {
    let failure = Failure::new(FailureKind::Damaged, "cut short");
    let tiny = Tiny { on_gpu: RefCell::new(Some(Err(failure.clone()))), ..Tiny::default() };
    assert_eq!(serve(Device::Auto, Choice::Gpu(1), &tiny).err(), Some(failure));
}
