//! Who is admitted, who waits, and who is told what.

use std::time::Duration;

use super::rig::*;
use crate::testing::{N_VOCAB, Script, ScriptedModel, Steering, tiny_text};
use crate::{CheckedPrompt, EngineConfig, Outcome, Refusal, Request, SamplingChoices, ServedBy};

const SMALL: ScriptedModel = ScriptedModel {
    name: "scripted",
    fingerprint: [7; 32],
    weights_bytes: 100,
    is_on_device: false,
    embeds: None,
    script: Script::Hash,
    n_blocks: 8,
    max_context: 2048,
    window: None,
    state: None,
    lends: true,
    text: tiny_text,
    sampling: SamplingChoices::NONE,
    served_by: ServedBy::CPU,
};

#[tokio::test]
async fn without_a_place_a_request_is_told_that_the_engine_is_busy() {
    let steering = Steering::holding_steps();
    let config = EngineConfig { max_requests: 2, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), config).await;
    let streams = [rig.ask(greedy(prompt(1, 20), 3)), rig.ask(greedy(prompt(2, 20), 3))];
    steering.held_step();
    assert!(matches!(rig.handle.try_permit(), Err(Refusal::Busy { .. })));
    steering.free_steps();
    for stream in streams {
        outcome(stream).await.end.unwrap();
    }
    // Whoever has seen the end of an answer finds its place free.
    rig.handle.try_permit().unwrap();
    rig.close().await;
}

#[tokio::test]
async fn a_prompt_that_can_never_fit_is_too_long_and_says_for_what() {
    let rig = Rig::new(SMALL).await;
    let answer = rig.answer(greedy(prompt(1, 500), 3)).await;
    let Err(Refusal::TooLong { n_tokens: 500, limit }) = answer.end else { panic!("{answer:?}") };
    assert!((100..=128).contains(&limit), "{limit}");
    rig.answer(greedy(prompt(1, limit - 1), 5)).await.end.unwrap();
    rig.close().await;
}

#[tokio::test]
async fn a_prompt_that_was_made_for_a_larger_vocabulary_never_reaches_the_model() {
    let rig = Rig::new(SMALL).await;
    // No token of it is beyond this vocabulary, but that is chance: it was made for a model that has left since.
    let prompt_of = |n_vocab| Request {
        prompt: CheckedPrompt::new(prompt(1, 5), n_vocab).unwrap(),
        ..greedy(prompt(1, 5), 3)
    };
    let refused = rig.answer(prompt_of(N_VOCAB + 1)).await;
    assert!(matches!(refused.end, Err(Refusal::Invalid { param: "prompt", .. })), "{refused:?}");
    assert_eq!((refused.usage.n_prompt, rig.handle.stats().totals.steps), (5, 0));
    assert_eq!(rig.answer(prompt_of(N_VOCAB)).await.tokens, Script::Hash.answer(&prompt(1, 5), 3));
    rig.close().await;
}

#[tokio::test]
async fn a_request_that_finds_no_room_waits_and_runs_when_there_is_room() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(SMALL, steering.clone(), EngineConfig::default()).await;
    let first = rig.ask(greedy(prompt(1, 90), 3));
    steering.held_step();
    let second = rig.ask(greedy(prompt(2, 90), 3));
    steering.let_run();
    steering.held_step();
    assert_eq!(rig.handle.stats().n_waiting, 1);
    steering.free_steps();
    outcome(first).await.end.unwrap();
    assert_eq!(outcome(second).await.tokens, Script::Hash.answer(&prompt(2, 90), 3));
    rig.close().await;
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_told_how_much_room_it_lacks() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(SMALL, steering.clone(), EngineConfig::default()).await;
    let first = rig.ask(greedy(prompt(1, 90), 9));
    steering.held_step();
    let second = rig.ask(greedy(prompt(2, 90), 3));
    steering.let_run();
    steering.held_step();
    rig.pass(HOUR + Duration::from_secs(1));
    steering.free_steps();
    let end = outcome(second).await.end;
    let Err(Refusal::PoolExhausted { needed, free, total: 8 }) = end else { panic!("{end:?}") };
    assert!(needed >= 6 && free < needed, "{needed} {free}");
    // The one that runs is not touched by that, however long it takes.
    assert_eq!(outcome(first).await.tokens, Script::Hash.answer(&prompt(1, 90), 9));
    assert_eq!(rig.handle.records()[0].outcome, Outcome::PoolExhausted);
    rig.close().await;
}

#[tokio::test]
async fn a_request_that_waits_too_long_for_a_row_is_told_that_the_engine_is_busy() {
    let steering = Steering::holding_steps();
    let config = EngineConfig { max_batch: 1, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), config).await;
    let first = rig.ask(greedy(prompt(1, 20), 5));
    steering.held_step();
    let second = rig.ask(greedy(prompt(2, 20), 5));
    steering.let_run();
    steering.held_step();
    rig.pass(HOUR + Duration::from_secs(1));
    steering.free_steps();
    assert!(matches!(outcome(second).await.end, Err(Refusal::Busy { .. })));
    outcome(first).await.end.unwrap();
    rig.close().await;
}

#[tokio::test]
async fn sequences_that_outgrow_the_pool_are_preempted_and_come_back_with_the_same_answer() {
    let model = ScriptedModel { n_blocks: 12, ..ScriptedModel::default() };
    // No answer goes on before all are asked for: they meet in the pool, however slowly they come.
    let steering = Steering::holding_steps();
    let rig = Rig::with(model, steering.clone(), EngineConfig::default()).await;
    let streams: Vec<_> = (0..4).map(|i| rig.ask(greedy(prompt(i, 20), 120))).collect();
    steering.free_steps();
    for (i, stream) in streams.into_iter().enumerate() {
        let answer = outcome(stream).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt(i as u32, 20), 120), "{i}");
    }
    let stats = rig.handle.stats();
    assert!(stats.totals.preemptions > 0, "the pool was big enough for all");
    assert!(rig.handle.records().iter().any(|record| record.n_preempted > 0));
    rig.close().await;
}

#[tokio::test]
async fn one_hundred_and_fifty_requests_at_once_are_all_answered() {
    let rig =
        Rig::with(SMALL, Steering::free(), EngineConfig { max_requests: 100, ..EngineConfig::default() })
            .await;
    let mut streams = Vec::new();
    let mut n_busy = 0;
    for i in 0..150 {
        match rig.handle.try_permit() {
            Ok(permit) => {
                let request = greedy(prompt(i, 20), 10);
                streams.push(rig.handle.submit(permit, request, rig.clock.now()));
            }
            Err(refusal) => {
                assert!(matches!(refusal, Refusal::Busy { .. }));
                n_busy += 1;
            }
        }
    }
    let n_taken = streams.len();
    for stream in streams {
        outcome(stream).await.end.unwrap();
    }
    assert!(n_taken >= 100 && n_taken + n_busy == 150);
    rig.see(|s| s.pool.held == 0 && s.n_running == 0).await;
    rig.close().await;
}
