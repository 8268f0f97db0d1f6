//! A client that goes away frees its place, in every phase.

use super::rig::*;
use crate::testing::{Script, ScriptedModel, Steering};
use crate::{EngineConfig, Event, Request};

/// Nothing is held, nothing runs or waits, every place is free, and the engine still answers.
async fn is_clean(rig: Rig, n_cancelled: u64) {
    rig.see(|s| {
        s.n_running == 0 && s.n_waiting == 0 && s.pool.held == 0 && s.totals.cancelled == n_cancelled
    })
    .await;
    let permits: Vec<_> =
        (0..EngineConfig::default().max_requests).map(|_| rig.handle.try_permit().unwrap()).collect();
    drop(permits);
    rig.answer(greedy(prompt(77, 30), 5)).await.end.unwrap();
    rig.close().await;
}

#[tokio::test]
async fn cancelled_while_decoding_it_ends_within_one_step() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), EngineConfig::default()).await;
    let stream = rig.ask(greedy(prompt(1, 20), 1000));
    let other = rig.ask(greedy(prompt(2, 20), 6));
    for _ in 0..3 {
        steering.let_run();
    }
    assert_eq!(steering.held_step().rows.len(), 2);
    drop(stream);
    steering.let_run();
    assert_eq!(steering.held_step().rows.len(), 1);
    steering.free_steps();
    outcome(other).await.end.unwrap();
    is_clean(rig, 1).await;
}

#[tokio::test]
async fn cancelled_while_its_prompt_is_computed_it_ends_though_it_never_said_anything() {
    let steering = Steering::holding_steps();
    let config = EngineConfig { prefill_chunk: 16, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), config).await;
    let stream = rig.ask(greedy(prompt(1, 500), 10));
    steering.let_run();
    steering.held_step();
    drop(stream);
    steering.free_steps();
    rig.see(|s| s.totals.cancelled == 1).await;
    assert!(steering.steps().len() <= 3, "it went on for {} steps", steering.steps().len());
    let again = rig.answer(greedy(prompt(1, 500), 1)).await;
    assert!(again.usage.n_reused >= 16, "what was computed stays as cache");
    is_clean(rig, 1).await;
}

#[tokio::test]
async fn a_retry_of_a_prompt_that_is_being_read_joins_it_and_nothing_is_read_twice() {
    for (agent, gives_up) in [(None, true), (Some("a"), true), (None, false)] {
        let steering = Steering::holding_steps();
        let config = EngineConfig { prefill_chunk: 16, ..EngineConfig::default() };
        let rig = Rig::with(ScriptedModel::default(), steering.clone(), config).await;
        let ask = || Request { agent: agent.map(str::to_owned), ..greedy(prompt(1, 500), 5) };
        let first = rig.ask(ask());
        for _ in 0..4 {
            steering.let_run();
        }
        steering.held_step();
        // The client has given up, and asks again before anybody has noticed; or somebody else asks the same.
        let second = rig.ask(ask());
        let first = (!gives_up).then_some(first);
        steering.free_steps();
        let want = Script::Hash.answer(&prompt(1, 500), 5);
        assert_eq!(outcome(second).await.tokens, want);
        if let Some(first) = first {
            assert_eq!(outcome(first).await.tokens, want);
        }
        let steps = steering.steps();
        let read =
            steps.iter().flat_map(|step| &step.rows).map(|row| row.end().min(500) - row.start.min(500));
        let n_read: usize = read.sum();
        // The last token is read for its logits by both, and what a block had of the first one's end.
        assert!(n_read <= 500 + 16, "{n_read} of 500, {agent:?}");
        let record = rig.handle.last_record().unwrap();
        assert!(gives_up || record.n_reused >= 496, "{record:?}");
        rig.close().await;
    }
}

#[tokio::test]
async fn cancelled_while_it_waits_for_room_it_leaves_the_queue() {
    let steering = Steering::holding_steps();
    let config = EngineConfig { max_batch: 1, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), config).await;
    let first = rig.ask(greedy(prompt(1, 20), 3));
    steering.held_step();
    let mut queued = rig.ask(greedy(prompt(2, 20), 3));
    steering.let_run();
    rig.see(|s| s.n_waiting == 1).await;
    queued = {
        drop(queued);
        rig.ask(greedy(prompt(3, 20), 3))
    };
    steering.free_steps();
    outcome(first).await.end.unwrap();
    outcome(queued).await.end.unwrap();
    assert!(steering.steps().iter().all(|step| step.rows.iter().all(|row| row.tokens() != prompt(2, 20))));
    is_clean(rig, 1).await;
}

#[tokio::test]
async fn cancelled_between_submission_and_its_first_step_it_is_never_computed() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), EngineConfig::default()).await;
    let first = rig.ask(greedy(prompt(1, 20), 2));
    steering.held_step();
    drop(rig.ask(greedy(prompt(2, 20), 3)));
    steering.free_steps();
    outcome(first).await.end.unwrap();
    assert!(steering.steps().iter().all(|step| step.rows.len() == 1));
    is_clean(rig, 1).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let mut lazy = rig.ask(greedy(prompt(1, 20), 200));
    assert!(matches!(lazy.recv().await, Some(Event::Admitted { .. })));
    for i in 0..4 {
        rig.answer(greedy(prompt(2 + i, 20), 100)).await.end.unwrap();
    }
    assert_eq!(outcome(lazy).await.tokens.len(), 200);
    is_clean(rig, 0).await;
}
