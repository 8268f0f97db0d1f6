//! Whoever has been told how a request ended finds it in the numbers, without a wait.

use super::rig::*;
use crate::testing::{Outcome as StepOutcome, Script, ScriptedModel, Steering};
use crate::{After, EngineConfig, Refusal, Request};

/// Often enough that an answer which is ahead of its numbers is seen to be.
const N_TIMES: u64 = 200;

/// Ask again and again; each time the end is in the numbers already.
async fn check(model: ScriptedModel, request: impl Fn() -> Request) {
    let rig = Rig::new(model).await;
    let (mut n_generated, mut n_reused) = (0, 0);
    for n in 1..=N_TIMES {
        let usage = rig.answer(request()).await.usage;
        let stats = rig.handle.stats();
        n_generated += usage.n_generated as u64;
        n_reused += usage.n_reused as u64;
        let totals = &stats.totals;
        assert_eq!((totals.requests, totals.generated_tokens), (n, n_generated));
        assert_eq!(totals.reused_tokens, n_reused);
        assert_eq!((stats.n_running, stats.n_waiting, stats.pool.held), (0, 0, 0));
        assert!(stats.active.is_empty());
    }
    rig.close().await;
}

fn says(text: &str) -> ScriptedModel {
    ScriptedModel { script: Script::Says(text.to_owned()), ..ScriptedModel::default() }
}

#[tokio::test]
async fn an_answer_that_has_ended_is_counted_however_it_ended() {
    check(ScriptedModel::default(), || greedy(prompt(1, 20), 3)).await;
    check(ScriptedModel::default(), || greedy(prompt(2, 40), 1)).await;
    check(ScriptedModel::default(), || greedy(prompt(3, 40), 0)).await;
    check(says(" ok"), || greedy(prompt(1, 20), 100)).await;
    check(says(" well then"), || Request { stop: vec!["then".into()], ..greedy(prompt(1, 20), 100) }).await;
    check(ScriptedModel { n_blocks: 8, ..ScriptedModel::default() }, || greedy(prompt(1, 500), 3)).await;
}

#[tokio::test]
async fn a_broken_or_interrupted_one_is_counted_too() {
    for n in 1..=20 {
        let steering = Steering::holding_steps();
        let rig = Rig::with(ScriptedModel::default(), steering.clone(), EngineConfig::default()).await;
        let stream = rig.ask(greedy(prompt(1, 20), 9));
        steering.let_run();
        steering.held_step();
        let end = match n % 4 {
            0 => StepOutcome::NotFinite(0),
            1 => StepOutcome::Error,
            2 => StepOutcome::Panic,
            _ => {
                rig.handle.begin_drain(After::Park, std::time::Duration::ZERO);
                StepOutcome::Run
            }
        };
        steering.release(end);
        // A model that gave nothing is asked whether it is sound.
        steering.free_steps();
        let outcome = outcome(stream).await;
        assert!(
            matches!(outcome.end, Err(Refusal::Fault { .. } | Refusal::Interrupted { .. })),
            "{outcome:?}"
        );
        let stats = rig.handle.stats();
        assert_eq!((stats.n_running, stats.n_waiting), (0, 0), "{end:?}");
        assert_eq!(stats.totals.generated_tokens, outcome.usage.n_generated as u64, "{end:?}");
        let n_failures = u64::from(matches!(end, StepOutcome::Error | StepOutcome::Panic));
        assert_eq!(stats.totals.worker_failures, n_failures, "{end:?}");
        rig.close().await;
    }
}

#[tokio::test]
async fn who_ends_before_a_long_step_is_told_before_it() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), EngineConfig::default()).await;
    let running = rig.ask(greedy(prompt(1, 20), 3));
    steering.held_step();
    let too_long = rig.ask(greedy(prompt(2, 5_000), 3));
    steering.let_run();
    // The next step is held, and has not begun to end.
    steering.held_step();
    assert!(matches!(outcome(too_long).await.end, Err(Refusal::TooLong { n_tokens: 5_000, .. })));
    assert_eq!(rig.handle.stats().totals.requests, 2);
    steering.free_steps();
    outcome(running).await.end.unwrap();
    rig.close().await;
}
