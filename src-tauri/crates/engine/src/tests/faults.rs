//! A worker that breaks costs an error, never a hang, and never the process.

use scheduler::SeqId;

use super::rig::*;
use crate::testing::{Outcome as StepOutcome, Script, ScriptedModel, Steering};
use crate::{After, EngineConfig, Failure, FailureKind, NotReadyReason, Readiness, Refusal, State};

async fn held() -> Rig {
    Rig::with(ScriptedModel::default(), Steering::holding_steps(), EngineConfig::default()).await
}

#[tokio::test]
async fn after_a_panic_or_an_error_clients_get_a_fault_and_the_worker_comes_back() {
    for fault in [StepOutcome::Panic, StepOutcome::Error, StepOutcome::OutOfMemory] {
        let rig = held().await;
        let streams = [rig.ask(greedy(prompt(1, 10), 9)), rig.ask(greedy(prompt(2, 11), 9))];
        rig.steering.let_run();
        rig.steering.held_step();
        let newcomer = rig.ask(greedy(prompt(3, 10), 9));
        rig.steering.release(fault);
        rig.steering.free_steps();
        for (stream, id) in streams.into_iter().zip(["r-10", "r-11"]) {
            assert_eq!(outcome(stream).await.end, Err(Refusal::Fault { id: id.to_owned() }), "{fault:?}");
        }
        // It had not begun: it is refused or, if it came after the new worker, answered.
        let end = outcome(newcomer).await.end;
        assert!(matches!(end, Ok(_) | Err(Refusal::Unavailable { .. })), "{end:?}");
        rig.reach("ready").await;
        assert_eq!((rig.steering.n_loads(), rig.handle.stats().totals.worker_failures), (2, 1));
        let answer = rig.answer(greedy(prompt(1, 10), 9)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt(1, 10), 9));
        assert_eq!(answer.usage.n_reused, 0, "the old pool is void");
        rig.close().await;
    }
}

#[tokio::test]
async fn after_three_failures_in_a_row_the_engine_stays_failed_until_it_is_told_to_load() {
    let rig = held().await;
    for n in 1..=3 {
        let stream = rig.ask(greedy(prompt(1, 10), 9));
        rig.steering.held_step();
        rig.steering.release(StepOutcome::Panic);
        assert!(matches!(outcome(stream).await.end, Err(Refusal::Fault { .. })));
        rig.see(|stats| stats.totals.worker_failures == n).await;
        if n < 3 {
            rig.reach("ready").await;
        }
    }
    let state = rig.reach("failed").await;
    assert_eq!(state, State::Failed(Failure::new(FailureKind::Worker, "the script says so")));
    assert!(matches!(
        rig.handle.try_permit(),
        Err(Refusal::Unavailable { reason: NotReadyReason::EngineFailed, retry_after: None })
    ));
    assert!(rig.handle.drain(After::Park, HOUR).await.is_err());
    rig.handle.load().await.unwrap();
    rig.reach("ready").await;
    rig.steering.free_steps();
    rig.answer(greedy(prompt(1, 10), 9)).await.end.unwrap();
    rig.close().await;
}

#[tokio::test]
async fn a_row_that_is_not_finite_ends_alone_and_nobody_reuses_what_it_left() {
    let rig = held().await;
    let streams = [1, 2, 3].map(|salt| rig.ask(greedy(prompt(salt, 40), 9)));
    while rig.steering.held_step().rows.iter().filter(|row| row.len() == 1).count() < 3 {
        rig.steering.let_run();
    }
    let second_row = rig.steering.held_step().rows.iter().position(|row| row.seq == SeqId(2)).unwrap();
    rig.steering.release(StepOutcome::NotFinite(second_row));
    rig.steering.free_steps();
    let [first, second, third] = streams;
    assert_eq!(outcome(second).await.end, Err(Refusal::Fault { id: "r-40".to_owned() }));
    assert_eq!(outcome(first).await.tokens, Script::Hash.answer(&prompt(1, 40), 9));
    assert_eq!(outcome(third).await.tokens, Script::Hash.answer(&prompt(3, 40), 9));
    assert_eq!((rig.handle.state().name(), rig.steering.n_loads()), ("ready", 1));

    let again = rig.answer(greedy(prompt(2, 40), 9)).await;
    assert_eq!((again.usage.n_reused, again.tokens), (0, Script::Hash.answer(&prompt(2, 40), 9)));
    assert_eq!(rig.answer(greedy(prompt(1, 40), 9)).await.usage.n_reused, 39);
    rig.close().await;
}

#[tokio::test]
async fn a_model_that_computes_no_numbers_is_not_ready_and_says_why_until_it_is_loaded_anew() {
    for window in [None, Some(40)] {
        let model = ScriptedModel { script: Script::NotFinite, window, ..ScriptedModel::default() };
        let rig = Rig::with(model, Steering::free(), EngineConfig::default()).await;
        for n in 1..=2 {
            let end = rig.answer(greedy(prompt(1, 10), 9)).await.end;
            assert_eq!(end, Err(Refusal::Fault { id: "r-10".to_owned() }));
            let State::Failed(Failure { kind: FailureKind::Worker, text: cause }) = rig.handle.state() else {
                panic!("whoever is told of the fault finds the engine failed: {:?}", rig.handle.state());
            };
            assert!(cause.contains("not finite"), "{cause}");
            let now = std::time::Instant::now();
            match crate::readiness(&rig.handle.state(), &rig.handle.stats(), now) {
                Readiness::NotReady(not_ready) => {
                    assert_eq!(not_ready.reason(), NotReadyReason::EngineFailed);
                }
                ready => panic!("{ready:?}"),
            }
            assert!(matches!(
                rig.handle.try_permit(),
                Err(Refusal::Unavailable { reason: NotReadyReason::EngineFailed, .. })
            ));
            assert_eq!(rig.steering.n_loads(), n, "no other copy of the same file would do better");
            rig.handle.load().await.unwrap();
            rig.reach("ready").await;
        }
        rig.close().await;
    }
}

#[tokio::test]
async fn a_request_alone_in_its_step_whose_row_is_not_finite_is_its_own_fault() {
    let rig = held().await;
    let stream = rig.ask(greedy(prompt(2, 40), 9));
    while rig.steering.held_step().rows[0].len() > 1 {
        rig.steering.let_run();
    }
    rig.steering.release(StepOutcome::NotFinite(0));
    rig.steering.free_steps();
    assert_eq!(outcome(stream).await.end, Err(Refusal::Fault { id: "r-40".to_owned() }));
    assert_eq!((rig.handle.state().name(), rig.steering.n_loads()), ("ready", 1));
    let again = rig.answer(greedy(prompt(2, 40), 9)).await;
    assert_eq!((again.usage.n_reused, again.tokens), (0, Script::Hash.answer(&prompt(2, 40), 9)));
    rig.close().await;
}

#[tokio::test]
async fn a_model_that_computes_no_numbers_ends_everybody_who_runs_or_waits() {
    let model = ScriptedModel { script: Script::NotFinite, ..ScriptedModel::default() };
    let rig = Rig::with(model, Steering::holding_steps(), EngineConfig::default()).await;
    let streams = [1, 2, 3, 4, 5].map(|salt| rig.ask(greedy(prompt(salt, 40), 9)));
    rig.steering.free_steps();
    for stream in streams {
        let end = outcome(stream).await.end;
        assert!(matches!(end, Err(Refusal::Fault { .. } | Refusal::Unavailable { .. })), "{end:?}");
    }
    assert_eq!(rig.handle.state().name(), "failed");
    rig.close().await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why_and_is_tried_again_on_demand() {
    let steering = Steering::free();
    steering.hold_loads();
    let rig = Rig::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.release_load(Err("model.gguf: truncated".to_owned()));
    let state = rig.reach("failed").await;
    assert_eq!(state, State::Failed(Failure::new(FailureKind::Damaged, "model.gguf: truncated")));
    assert!(!rig.handle.stats().started);
    assert!(rig.handle.card().is_none());

    rig.handle.load().await.unwrap();
    assert_eq!(rig.handle.state().name(), "loading");
    assert_eq!(rig.handle.load().await.unwrap_err().to_string(), "cannot load while loading");
    steering.held_load();
    rig.see(|stats| stats.load.fraction() == 0.5).await;
    steering.release_load(Ok(()));
    rig.reach("ready").await;
    assert_eq!(rig.handle.card().unwrap().name, "scripted");
    rig.close().await;
}

#[tokio::test]
async fn an_exit_from_failed_works_at_once() {
    let steering = Steering::free();
    steering.release_load(Err("no".to_owned()));
    let rig = Rig::start(ScriptedModel::default(), steering, EngineConfig::default());
    rig.reach("failed").await;
    rig.close().await;
}

#[tokio::test]
async fn a_worker_that_dies_during_a_drain_ends_it_with_what_was_lost_in_the_report() {
    for then in [After::Exit, After::Park] {
        let rig = held().await;
        let stream = rig.ask(greedy(prompt(1, 10), 9));
        rig.steering.held_step();
        rig.handle.begin_drain(then, HOUR);
        rig.steering.let_run();
        rig.reach("draining").await;
        rig.steering.held_step();
        rig.steering.release(StepOutcome::Panic);
        assert!(matches!(outcome(stream).await.end, Err(Refusal::Fault { .. })));
        rig.see(|stats| stats.last_drain.is_some_and(|report| report.n_interrupted == 1)).await;
        if then == After::Exit {
            rig.reach("stopped").await;
            rig.engine.join();
        } else {
            rig.reach("parked").await;
            rig.steering.free_steps();
            let _ = rig.handle.resume().await;
            rig.reach("ready").await;
            rig.answer(greedy(prompt(1, 10), 9)).await.end.unwrap();
            rig.close().await;
        }
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn hold_points_and_fault_switches_hold_and_fail_where_they_say() {
    let folder = std::env::temp_dir().join(format!("samovar-holds-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    let appears = |name: &str| {
        while !file(name).exists() {
            std::thread::yield_now();
        }
    };
    std::fs::write(file("load.hold"), "").unwrap();
    std::fs::write(file("step.hold"), "").unwrap();
    let config =
        EngineConfig { holds: crate::HoldPoints::in_folder(folder.clone()), ..EngineConfig::default() };
    let rig = Rig::start(ScriptedModel::default(), Steering::free(), config);
    appears("load.held");
    assert_eq!(rig.handle.state().name(), "loading");
    std::fs::remove_file(file("load.hold")).unwrap();
    rig.reach("ready").await;

    let stream = rig.ask(greedy(prompt(1, 10), 3));
    appears("step.held");
    // While a step is held, the engine still answers.
    rig.handle.drain(After::Park, std::time::Duration::ZERO).await.unwrap();
    assert!(matches!(outcome(stream).await.end, Err(Refusal::Unavailable { .. })));
    rig.handle.resume().await.unwrap();
    std::fs::remove_file(file("step.hold")).unwrap();
    rig.answer(greedy(prompt(1, 10), 3)).await.end.unwrap();

    for fault in ["step.panic", "step.error"] {
        std::fs::write(file(fault), "").unwrap();
        assert!(matches!(rig.answer(greedy(prompt(1, 10), 3)).await.end, Err(Refusal::Fault { .. })));
        rig.reach("ready").await;
        assert!(!file(fault).exists());
    }
    std::fs::write(file("flush.hold"), "").unwrap();
    rig.handle.begin_drain(After::Exit, HOUR);
    appears("flush.held");
    assert_eq!(rig.handle.state().name(), "draining");
    std::fs::remove_file(file("flush.hold")).unwrap();
    rig.reach("stopped").await;
    rig.engine.join();
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none(), "every mark is cleared");
    std::fs::remove_dir(&folder).unwrap();
}
