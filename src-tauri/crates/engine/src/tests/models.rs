//! Several models in one engine: each answers as if it were alone, and what becomes of one is no matter of the
//! others.

use std::sync::Arc;
use std::time::Duration;

use store::OfModels;

use super::rig::*;
use crate::testing::{MemoryStore, Outcome as StepOutcome, Script, ScriptedLoader, ScriptedModel, Steering};
use crate::{
    After, EngineConfig, FailureKind, ModelName, ModelState, NotReadyReason, Refusal, Request, State,
};

const OTHER: &str = "other";

fn other_model() -> ScriptedModel {
    ScriptedModel { name: OTHER, fingerprint: [9; 32], ..ScriptedModel::default() }
}

/// An engine with the default model and, once it is loaded, another one under `steering`.
async fn two(steering: &Steering, config: EngineConfig) -> Rig {
    two_of(ScriptedModel::default(), other_model(), steering, config).await
}

async fn two_of(
    default: ScriptedModel,
    other: ScriptedModel,
    steering: &Steering,
    config: EngineConfig,
) -> Rig {
    let loader = ScriptedLoader::new(default, Steering::free()).and(OTHER, other, steering.clone());
    let rig = Rig::of(loader, Steering::free(), config);
    rig.reach("ready").await;
    rig.handle.load_model(OTHER.into()).await.unwrap();
    rig.see(|stats| state_in(stats, OTHER) == "ready").await;
    rig
}

fn state_in(stats: &crate::Stats, model: &str) -> &'static str {
    let found = stats.models.iter().find(|stats| &*stats.name.0 == model);
    found.map_or(ModelState::Absent.name(), |stats| stats.state.name())
}

fn to(model: &str, request: Request) -> Request {
    Request { model: model.into(), ..request }
}

#[tokio::test]
async fn two_models_under_load_answer_as_each_does_alone() {
    let rig = two(&Steering::free(), EngineConfig { prefill_chunk: 16, ..EngineConfig::default() }).await;
    let mut streams = Vec::new();
    for salt in 0..12 {
        let request = greedy(prompt(salt, 20 + 13 * salt as usize), 30);
        streams.push((salt, rig.ask(to(if salt % 2 == 0 { "default" } else { OTHER }, request))));
    }
    for (salt, stream) in streams {
        let want = Script::Hash.answer(&prompt(salt, 20 + 13 * salt as usize), 30);
        assert_eq!(outcome(stream).await.tokens, want, "{salt}");
    }
    // The same prompt is known to the one that has read it and to no other.
    assert_eq!(rig.answer(to("default", greedy(prompt(0, 20), 3))).await.usage.n_reused, 19);
    assert_eq!(rig.answer(to(OTHER, greedy(prompt(0, 20), 3))).await.usage.n_reused, 0);
    rig.close().await;
}

#[tokio::test]
async fn a_request_to_a_model_that_is_not_here_is_refused() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let refusal = rig.handle.try_permit_for(&"nobody".into()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { reason: NotReadyReason::NoModel, .. }));
    // Also when the fast path is passed by.
    let permit = rig.handle.try_permit().unwrap();
    let stream = rig.handle.submit(permit, to("nobody", greedy(prompt(1, 9), 3)), rig.clock.now());
    assert!(matches!(outcome(stream).await.end, Err(Refusal::Unavailable { .. })));
    rig.close().await;
}

#[tokio::test]
async fn a_model_leaves_when_its_last_answer_is_complete_and_comes_back_warm_while_the_other_goes_on() {
    let store = Arc::new(MemoryStore::default());
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    let steering = Steering::holding_steps();
    let rig = two(&steering, config).await;
    let running = rig.ask(to(OTHER, greedy(prompt(1, 40), 4)));
    steering.let_run();
    steering.held_step();
    let handle = rig.handle.clone();
    let leaving = tokio::spawn(async move { handle.leave_model(OTHER.into(), HOUR).await });
    tokio::task::yield_now().await;
    steering.let_run();
    rig.see(|stats| state_in(stats, OTHER) == "leaving").await;
    steering.held_step();
    let refused = rig.handle.try_permit_for(&OTHER.into()).unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused:?}");
    assert_eq!(rig.handle.state().name(), "ready", "the default model is not concerned");

    steering.free_steps();
    assert_eq!(outcome(running).await.tokens, Script::Hash.answer(&prompt(1, 40), 4));
    let report = leaving.await.unwrap().unwrap();
    assert_eq!((report.n_drained, report.n_interrupted), (1, 0));
    assert!(rig.handle.card_of(&OTHER.into()).is_none());
    let answer = rig.answer(greedy(prompt(1, 40), 4)).await;
    assert_eq!((answer.usage.n_reused, answer.end.is_ok()), (0, true));

    rig.handle.load_model(OTHER.into()).await.unwrap();
    rig.see(|stats| state_in(stats, OTHER) == "ready").await;
    let again = rig.answer(to(OTHER, greedy(prompt(1, 40), 4))).await;
    assert!(again.usage.n_reused >= 32, "what it knew came back from the store: {again:?}");
    assert_eq!(again.tokens, Script::Hash.answer(&prompt(1, 40), 4));
    rig.close().await;
}

#[tokio::test]
async fn at_its_deadline_a_leaving_model_ends_what_still_runs_and_nothing_of_the_other() {
    let rig = two(&Steering::free(), EngineConfig::default()).await;
    let doomed = rig.ask(to(OTHER, greedy(prompt(1, 10), 2000)));
    let lives = rig.ask(greedy(prompt(2, 10), 1500));
    rig.see(|stats| stats.n_running == 2).await;
    let report = rig.handle.leave_model(OTHER.into(), Duration::ZERO).await.unwrap();
    assert_eq!((report.n_drained, report.n_interrupted), (0, 1));
    assert!(matches!(outcome(doomed).await.end, Err(Refusal::Interrupted { .. })));
    assert_eq!(outcome(lives).await.tokens, Script::Hash.answer(&prompt(2, 10), 1500));
    rig.close().await;
}

#[tokio::test]
async fn a_model_that_fails_or_panics_is_built_anew_and_the_others_streams_go_on() {
    for fault in [StepOutcome::Panic, StepOutcome::Error, StepOutcome::OutOfMemory] {
        let steering = Steering::holding_steps();
        let rig = two(&steering, EngineConfig::default()).await;
        let lost = rig.ask(to(OTHER, greedy(prompt(1, 10), 9)));
        let lives = rig.ask(greedy(prompt(2, 10), 900));
        steering.held_step();
        steering.release(fault);
        steering.free_steps();
        assert!(matches!(outcome(lost).await.end, Err(Refusal::Fault { .. })), "{fault:?}");
        assert_eq!(outcome(lives).await.tokens, Script::Hash.answer(&prompt(2, 10), 900), "{fault:?}");
        rig.see(|stats| state_in(stats, OTHER) == "ready" && steering.n_loads() == 2).await;
        let again = rig.answer(to(OTHER, greedy(prompt(1, 10), 9))).await;
        assert_eq!(again.tokens, Script::Hash.answer(&prompt(1, 10), 9));
        assert_eq!(rig.handle.state().name(), "ready");
        rig.close().await;
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_its_own_cause_and_takes_nothing_from_the_others() {
    let steering = Steering::free();
    steering.release_load(Err("other.gguf: truncated".to_owned()));
    let loader = ScriptedLoader::new(ScriptedModel::default(), Steering::free()).and(
        OTHER,
        other_model(),
        steering.clone(),
    );
    let rig = Rig::of(loader, Steering::free(), EngineConfig::default());
    rig.reach("ready").await;
    rig.handle.load_model(OTHER.into()).await.unwrap();
    rig.see(|stats| state_in(stats, OTHER) == "failed").await;
    let stats = rig.handle.stats();
    let ModelState::Failed(failure) = &stats.models[1].state else { panic!("{:?}", stats.models) };
    assert_eq!((failure.kind, failure.text.as_str()), (FailureKind::Damaged, "other.gguf: truncated"));
    rig.answer(greedy(prompt(1, 10), 3)).await.end.unwrap();
    rig.handle.load_model(OTHER.into()).await.unwrap();
    rig.see(|stats| state_in(stats, OTHER) == "ready").await;
    rig.close().await;
}

#[tokio::test]
async fn a_device_at_work_does_not_hold_up_a_model_on_another_one() {
    let steering = Steering::holding_steps();
    let on_device = ScriptedModel { is_on_device: true, ..other_model() };
    let rig = two_of(ScriptedModel::default(), on_device, &steering, EngineConfig::default()).await;
    let slow = rig.ask(to(OTHER, greedy(prompt(1, 40), 5)));
    steering.held_step();
    // The device computes, and whole answers come from the other model.
    for salt in 2..6 {
        let answer = rig.answer(greedy(prompt(salt, 30), 20)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt(salt, 30), 20));
    }
    assert_eq!(steering.steps().len(), 1);
    steering.free_steps();
    assert_eq!(outcome(slow).await.tokens, Script::Hash.answer(&prompt(1, 40), 5));
    rig.close().await;
}

#[tokio::test]
async fn what_comes_while_a_device_computes_is_done_when_its_step_is_over() {
    let store = Arc::new(MemoryStore::default());
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    let steering = Steering::free();
    let on_device = ScriptedModel { is_on_device: true, ..other_model() };
    let rig = two_of(ScriptedModel::default(), on_device, &steering, config).await;
    let named =
        |agent: &str, n| Request { agent: Some(agent.to_owned()), ..to(OTHER, greedy(prompt(3, n), 4)) };
    rig.answer(named("old", 40)).await.end.unwrap();
    steering.hold_steps();
    let running = rig.ask(named("new", 200));
    steering.held_step();
    assert_eq!(rig.handle.agent("old").await.unwrap().unwrap().sum.resident_tokens, 43);
    rig.handle.evict_agent("old", OfModels::All).await.unwrap().unwrap();
    assert!(rig.handle.forget_agent("old", OfModels::All).await.unwrap());
    let cancelled = rig.ask(named("gone", 60));
    drop(cancelled);
    steering.free_steps();
    assert_eq!(outcome(running).await.tokens, Script::Hash.answer(&prompt(3, 200), 4));
    rig.see(|stats| stats.n_running + stats.n_waiting == 0).await;
    assert!(rig.handle.agent("old").await.unwrap().is_none());
    rig.close().await;
}

#[tokio::test]
async fn a_device_that_hangs_fails_its_model_alone_and_holds_up_no_end() {
    let steering = Steering::holding_steps();
    let on_device = ScriptedModel { is_on_device: true, ..other_model() };
    let rig = two_of(ScriptedModel::default(), on_device, &steering, EngineConfig::default()).await;
    let lost = rig.ask(to(OTHER, greedy(prompt(1, 40), 5)));
    steering.held_step();
    rig.pass(Duration::from_secs(29));
    rig.answer(greedy(prompt(2, 30), 3)).await.end.unwrap();
    assert_eq!(state_in(&rig.handle.stats(), OTHER), "ready", "it has a second left");
    rig.pass(Duration::from_secs(2));
    assert!(matches!(outcome(lost).await.end, Err(Refusal::Fault { .. })));
    rig.see(|stats| state_in(stats, OTHER) == "ready" && steering.n_loads() == 2).await;
    rig.answer(greedy(prompt(2, 30), 3)).await.end.unwrap();
    rig.close().await;
    // Its thread is let go, so that the test's own end does not wait for it.
    steering.free_steps();
}

#[tokio::test]
async fn a_drain_waits_for_the_answers_of_every_model() {
    let steering = Steering::holding_steps();
    let rig = two(&steering, EngineConfig::default()).await;
    let slow = rig.ask(to(OTHER, greedy(prompt(1, 10), 5)));
    steering.held_step();
    let quick = rig.ask(greedy(prompt(2, 10), 5));
    let handle = rig.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(After::Exit, HOUR).await });
    tokio::task::yield_now().await;
    steering.let_run();
    rig.reach("draining").await;
    steering.free_steps();
    assert_eq!(outcome(slow).await.tokens, Script::Hash.answer(&prompt(1, 10), 5));
    let quick = outcome(quick).await.end;
    assert!(
        matches!(quick, Ok(_) | Err(Refusal::Unavailable { reason: NotReadyReason::ShuttingDown, .. })),
        "{quick:?}"
    );
    let report = drain.await.unwrap().unwrap();
    assert_eq!((report.n_drained + report.n_refused, report.n_interrupted), (2, 0));
    rig.reach("stopped").await;
    rig.engine.join();
}

/// A budget of so many bytes.
fn with_memory(bytes: u64) -> EngineConfig {
    EngineConfig { memory_limit: Arc::new(move || Some(bytes)), ..EngineConfig::default() }
}

/// What a scripted model takes besides its weights.
const POOL_BYTES: u64 = 256 * 16 * 8;

#[tokio::test]
async fn where_two_do_not_fit_the_idle_one_leaves_before_the_other_comes_in() {
    let big = |model: ScriptedModel| ScriptedModel { weights_bytes: 10 * POOL_BYTES, ..model };
    let loader = ScriptedLoader::new(big(ScriptedModel::default()), Steering::free()).and(
        OTHER,
        big(other_model()),
        Steering::free(),
    );
    let rig = Rig::of(loader, Steering::free(), with_memory(15 * POOL_BYTES));
    rig.reach("ready").await;
    rig.answer(greedy(prompt(1, 10), 3)).await.end.unwrap();
    rig.handle.load_model(OTHER.into()).await.unwrap();
    rig.see(|stats| state_in(stats, OTHER) == "ready").await;
    assert_eq!(state_in(&rig.handle.stats(), "default"), "absent");
    assert_eq!(rig.handle.state().name(), "unloaded");
    rig.answer(to(OTHER, greedy(prompt(1, 10), 3))).await.end.unwrap();
    rig.handle.load().await.unwrap();
    rig.reach("ready").await;
    rig.answer(greedy(prompt(1, 10), 3)).await.end.unwrap();
    assert_eq!(state_in(&rig.handle.stats(), OTHER), "absent");
    rig.close().await;
}

#[tokio::test]
async fn a_model_at_work_is_not_sent_away_and_the_other_is_told_how_much_is_missing() {
    let big = |model: ScriptedModel| ScriptedModel { weights_bytes: 10 * POOL_BYTES, ..model };
    let held = Steering::holding_steps();
    let loader = ScriptedLoader::new(big(ScriptedModel::default()), held.clone()).and(
        OTHER,
        big(other_model()),
        Steering::free(),
    );
    let rig = Rig::of(loader, held.clone(), with_memory(15 * POOL_BYTES));
    rig.reach("ready").await;
    let running = rig.ask(greedy(prompt(1, 10), 2000));
    held.held_step();
    let handle = rig.handle.clone();
    let loading = tokio::spawn(async move { handle.load_model(ModelName::from(OTHER)).await });
    let mut stats = rig.handle.watch_stats();
    let refused = tokio::spawn(async move {
        stats.wait_for(|stats| state_in(stats, OTHER) == "failed").await.unwrap().models.clone()
    });
    // One step after the other, so that the first model is at work all the time.
    while !refused.is_finished() {
        held.let_run();
        tokio::task::yield_now().await;
    }
    loading.await.unwrap().unwrap();
    let models = refused.await.unwrap();
    let ModelState::Failed(failure) = &models[1].state else { panic!("{models:?}") };
    assert_eq!(failure.kind, FailureKind::NoRoom);
    assert!(failure.text.contains("bytes of memory"), "{}", failure.text);
    held.free_steps();
    outcome(running).await.end.unwrap();
    rig.close().await;
}

#[tokio::test]
async fn a_model_that_memory_cannot_hold_is_refused_before_it_is_read_with_both_numbers() {
    let big = ScriptedModel { weights_bytes: 10 * POOL_BYTES, ..ScriptedModel::default() };
    let steering = Steering::free();
    let loader = ScriptedLoader::new(big, steering.clone());
    let rig = Rig::of(loader, steering.clone(), with_memory(11 * POOL_BYTES - 1));
    rig.reach("failed").await;
    assert_eq!(steering.n_loads(), 0);
    let State::Failed(failure) = rig.handle.state() else { panic!("{:?}", rig.handle.state()) };
    assert_eq!(failure.kind, FailureKind::NoRoom);
    let (needed, available) = (11 * POOL_BYTES, 11 * POOL_BYTES - 1);
    let want = format!("needs {needed} bytes of memory and {available} can be had");
    assert!(failure.text.ends_with(&want), "{}", failure.text);
    rig.close().await;
}
