//! A worker that breaks costs an error, never a hang, and never the process.

use scheduler::SeqId;

use super::house::*;
use crate::testing::{Outcome as StepOutcome, Script, ScriptedModel, Steering};
use crate::{After, EngineConfig, FailureCause, NotReadyReason, Readiness, Refusal, State};

async fn held() -> House {
    House::with(ScriptedModel::default(), Steering::holding_steps(), EngineConfig::default()).await
}

#[tokio::test]
async fn after_a_panic_or_an_error_clients_get_a_fault_and_the_worker_comes_back() {
    for fault in [StepOutcome::Panic, StepOutcome::Error, StepOutcome::OutOfMemory] {
        let house = held().await;
        let streams = [house.ask(greedy(prompt(1, 10), 9)), house.ask(greedy(prompt(2, 11), 9))];
        house.steering.let_run();
        house.steering.held_step();
        let newcomer = house.ask(greedy(prompt(3, 10), 9));
        house.steering.release(fault);
        house.steering.free_steps();
        for (stream, id) in streams.into_iter().zip(["r-10", "r-11"]) {
            assert_eq!(outcome(stream).await.end, Err(Refusal::Fault { id: id.to_owned() }), "{fault:?}");
        }
        // It had not begun: it is refused or, if it came after the new worker, answered.
        let end = outcome(newcomer).await.end;
        assert!(matches!(end, Ok(_) | Err(Refusal::Unavailable { .. })), "{end:?}");
        house.reach("ready").await;
        assert_eq!((house.steering.n_loads(), house.handle.stats().totals.worker_failures), (2, 1));
        let answer = house.answer(greedy(prompt(1, 10), 9)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt(1, 10), 9));
        assert_eq!(answer.usage.n_reused, 0, "the old pool is void");
        house.close().await;
    }
}

#[tokio::test]
async fn after_three_failures_in_a_row_the_engine_stays_failed_until_it_is_told_to_load() {
    let house = held().await;
    for n in 1..=3 {
        let stream = house.ask(greedy(prompt(1, 10), 9));
        house.steering.held_step();
        house.steering.release(StepOutcome::Panic);
        assert!(matches!(outcome(stream).await.end, Err(Refusal::Fault { .. })));
        house.see(|stats| stats.totals.worker_failures == n).await;
        if n < 3 {
            house.reach("ready").await;
        }
    }
    let state = house.reach("failed").await;
    assert_eq!(state, State::Failed { cause: FailureCause::Worker("the script says so".to_owned()) });
    assert!(matches!(
        house.handle.try_permit(),
        Err(Refusal::Unavailable { reason: NotReadyReason::EngineFailed, retry_after: None })
    ));
    assert!(house.handle.drain(After::Park, HOUR).await.is_err());
    house.handle.load().await.unwrap();
    house.reach("ready").await;
    house.steering.free_steps();
    house.answer(greedy(prompt(1, 10), 9)).await.end.unwrap();
    house.close().await;
}

#[tokio::test]
async fn a_row_that_is_not_finite_ends_alone_and_nobody_reuses_what_it_left() {
    let house = held().await;
    let streams = [1, 2, 3].map(|salt| house.ask(greedy(prompt(salt, 40), 9)));
    while house.steering.held_step().rows.iter().filter(|row| row.tokens.len() == 1).count() < 3 {
        house.steering.let_run();
    }
    let second_row = house.steering.held_step().rows.iter().position(|row| row.seq == SeqId(2)).unwrap();
    house.steering.release(StepOutcome::NotFinite(second_row));
    house.steering.free_steps();
    let [first, second, third] = streams;
    assert_eq!(outcome(second).await.end, Err(Refusal::Fault { id: "r-40".to_owned() }));
    assert_eq!(outcome(first).await.tokens, Script::Hash.answer(&prompt(1, 40), 9));
    assert_eq!(outcome(third).await.tokens, Script::Hash.answer(&prompt(3, 40), 9));
    assert_eq!((house.handle.state().name(), house.steering.n_loads()), ("ready", 1));

    let again = house.answer(greedy(prompt(2, 40), 9)).await;
    assert_eq!((again.usage.n_reused, again.tokens), (0, Script::Hash.answer(&prompt(2, 40), 9)));
    assert_eq!(house.answer(greedy(prompt(1, 40), 9)).await.usage.n_reused, 39);
    house.close().await;
}

#[tokio::test]
async fn a_model_that_computes_no_numbers_is_not_ready_and_says_why_until_it_is_loaded_anew() {
    for window in [None, Some(40)] {
        let model = ScriptedModel { script: Script::NotFinite, window, ..ScriptedModel::default() };
        let house = House::with(model, Steering::free(), EngineConfig::default()).await;
        for n in 1..=2 {
            let end = house.answer(greedy(prompt(1, 10), 9)).await.end;
            assert_eq!(end, Err(Refusal::Fault { id: "r-10".to_owned() }));
            let State::Failed { cause: FailureCause::Worker(cause) } = house.handle.state() else {
                panic!("whoever is told of the fault finds the engine failed: {:?}", house.handle.state());
            };
            assert!(cause.contains("not finite"), "{cause}");
            let now = std::time::Instant::now();
            match crate::readiness(&house.handle.state(), &house.handle.stats(), now) {
                Readiness::NotReady(not_ready) => assert_eq!(not_ready.reason(), "engine_failed"),
                ready => panic!("{ready:?}"),
            }
            assert!(matches!(
                house.handle.try_permit(),
                Err(Refusal::Unavailable { reason: NotReadyReason::EngineFailed, .. })
            ));
            assert_eq!(house.steering.n_loads(), n, "no other copy of the same file would do better");
            house.handle.load().await.unwrap();
            house.reach("ready").await;
        }
        house.close().await;
    }
}

#[tokio::test]
async fn a_request_alone_in_its_step_whose_row_is_not_finite_is_its_own_fault() {
    let house = held().await;
    let stream = house.ask(greedy(prompt(2, 40), 9));
    while house.steering.held_step().rows[0].tokens.len() > 1 {
        house.steering.let_run();
    }
    house.steering.release(StepOutcome::NotFinite(0));
    house.steering.free_steps();
    assert_eq!(outcome(stream).await.end, Err(Refusal::Fault { id: "r-40".to_owned() }));
    assert_eq!((house.handle.state().name(), house.steering.n_loads()), ("ready", 1));
    let again = house.answer(greedy(prompt(2, 40), 9)).await;
    assert_eq!((again.usage.n_reused, again.tokens), (0, Script::Hash.answer(&prompt(2, 40), 9)));
    house.close().await;
}

#[tokio::test]
async fn a_model_that_computes_no_numbers_ends_everybody_who_runs_or_waits() {
    let model = ScriptedModel { script: Script::NotFinite, ..ScriptedModel::default() };
    let house = House::with(model, Steering::holding_steps(), EngineConfig::default()).await;
    let streams = [1, 2, 3, 4, 5].map(|salt| house.ask(greedy(prompt(salt, 40), 9)));
    house.steering.free_steps();
    for stream in streams {
        let end = outcome(stream).await.end;
        assert!(matches!(end, Err(Refusal::Fault { .. } | Refusal::Unavailable { .. })), "{end:?}");
    }
    assert_eq!(house.handle.state().name(), "failed");
    house.close().await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why_and_is_tried_again_on_demand() {
    let steering = Steering::free();
    steering.hold_loads();
    let house = House::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.release_load(Err("model.gguf: truncated".to_owned()));
    let state = house.reach("failed").await;
    assert_eq!(state, State::Failed { cause: FailureCause::Load("model.gguf: truncated".to_owned()) });
    assert!(!house.handle.stats().started);
    assert!(house.handle.card().is_none());

    house.handle.load().await.unwrap();
    assert_eq!(house.handle.state().name(), "loading");
    assert_eq!(house.handle.load().await.unwrap_err().to_string(), "cannot load while loading");
    steering.held_load();
    house.see(|stats| stats.load.fraction() == 0.5).await;
    steering.release_load(Ok(()));
    house.reach("ready").await;
    assert_eq!(house.handle.card().unwrap().name, "scripted");
    house.close().await;
}

#[tokio::test]
async fn an_exit_from_failed_works_at_once() {
    let steering = Steering::free();
    steering.release_load(Err("no".to_owned()));
    let house = House::start(ScriptedModel::default(), steering, EngineConfig::default());
    house.reach("failed").await;
    house.close().await;
}

#[tokio::test]
async fn a_worker_that_dies_during_a_drain_ends_it_with_what_was_lost_in_the_report() {
    for then in [After::Exit, After::Park] {
        let house = held().await;
        let stream = house.ask(greedy(prompt(1, 10), 9));
        house.steering.held_step();
        house.handle.begin_drain(then, HOUR);
        house.steering.let_run();
        house.reach("draining").await;
        house.steering.held_step();
        house.steering.release(StepOutcome::Panic);
        assert!(matches!(outcome(stream).await.end, Err(Refusal::Fault { .. })));
        house.see(|stats| stats.last_drain.is_some_and(|report| report.n_interrupted == 1)).await;
        if then == After::Exit {
            house.reach("stopped").await;
            house.engine.join();
        } else {
            house.reach("parked").await;
            house.steering.free_steps();
            let _ = house.handle.resume().await;
            house.reach("ready").await;
            house.answer(greedy(prompt(1, 10), 9)).await.end.unwrap();
            house.close().await;
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
    let house = House::start(ScriptedModel::default(), Steering::free(), config);
    appears("load.held");
    assert_eq!(house.handle.state().name(), "loading");
    std::fs::remove_file(file("load.hold")).unwrap();
    house.reach("ready").await;

    let stream = house.ask(greedy(prompt(1, 10), 3));
    appears("step.held");
    // While a step is held, the engine still answers.
    house.handle.drain(After::Park, std::time::Duration::ZERO).await.unwrap();
    assert!(matches!(outcome(stream).await.end, Err(Refusal::Unavailable { .. })));
    house.handle.resume().await.unwrap();
    std::fs::remove_file(file("step.hold")).unwrap();
    house.answer(greedy(prompt(1, 10), 3)).await.end.unwrap();

    for fault in ["step.panic", "step.error"] {
        std::fs::write(file(fault), "").unwrap();
        assert!(matches!(house.answer(greedy(prompt(1, 10), 3)).await.end, Err(Refusal::Fault { .. })));
        house.reach("ready").await;
        assert!(!file(fault).exists());
    }
    std::fs::write(file("flush.hold"), "").unwrap();
    house.handle.begin_drain(After::Exit, HOUR);
    appears("flush.held");
    assert_eq!(house.handle.state().name(), "draining");
    std::fs::remove_file(file("flush.hold")).unwrap();
    house.reach("stopped").await;
    house.engine.join();
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none(), "every mark is cleared");
    std::fs::remove_dir(&folder).unwrap();
}
