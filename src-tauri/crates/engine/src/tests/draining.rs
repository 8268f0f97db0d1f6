//! A drain in every corner: what runs finishes or is told why not, and nothing hangs.

use std::sync::Arc;
use std::time::Duration;

use super::rig::*;
use crate::testing::{MemoryStore, Script, ScriptedModel, Steering};
use crate::{After, EngineConfig, FinishReason, NotReadyReason, Refusal};

async fn held() -> Rig {
    let config = EngineConfig { prefill_chunk: 16, max_batch: 2, ..EngineConfig::default() };
    Rig::with(ScriptedModel::default(), Steering::holding_steps(), config).await
}

/// Begin to drain, and wait until that shows.
async fn begin(rig: &Rig, then: After, timeout: Duration) {
    rig.handle.begin_drain(then, timeout);
    if !rig.steering.steps().is_empty() {
        rig.steering.let_run();
    }
    rig.reach("draining").await;
}

#[tokio::test]
async fn what_decodes_finishes_and_what_is_queued_is_refused_at_once() {
    let rig = held().await;
    let running = [rig.ask(greedy(prompt(1, 10), 6)), rig.ask(greedy(prompt(2, 10), 6))];
    rig.steering.let_run();
    rig.steering.held_step();
    let queued = rig.ask(greedy(prompt(3, 10), 6));
    begin(&rig, After::Park, HOUR).await;
    let refused = outcome(queued).await;
    assert!(matches!(
        refused.end,
        Err(Refusal::Unavailable { reason: NotReadyReason::ShuttingDown, retry_after: Some(_) })
    ));
    let late = rig.handle.try_permit();
    assert!(matches!(late, Err(Refusal::Unavailable { reason: NotReadyReason::ShuttingDown, .. })));
    rig.see(|stats| stats.drain.is_some_and(|drain| drain.n_active == 2)).await;

    rig.steering.free_steps();
    for (stream, salt) in running.into_iter().zip([1, 2]) {
        let answer = outcome(stream).await;
        assert_eq!(
            (answer.tokens, answer.end),
            (Script::Hash.answer(&prompt(salt, 10), 6), Ok(FinishReason::Length))
        );
    }
    rig.reach("parked").await;
    let report = rig.handle.stats().last_drain.unwrap();
    assert_eq!((report.n_drained, report.n_interrupted, report.n_refused), (2, 0, 1));
    rig.close().await;
}

#[tokio::test]
async fn a_prompt_being_computed_is_computed_to_its_end_and_answered() {
    let rig = held().await;
    let stream = rig.ask(greedy(prompt(1, 200), 4));
    rig.steering.let_run();
    rig.steering.held_step();
    begin(&rig, After::Exit, HOUR).await;
    rig.steering.free_steps();
    assert_eq!(outcome(stream).await.tokens, Script::Hash.answer(&prompt(1, 200), 4));
    rig.reach("stopped").await;
    rig.engine.join();
}

#[tokio::test]
async fn at_the_deadline_every_stream_gets_a_terminal_event_and_the_report_counts_it() {
    let rig = held().await;
    let decoding = rig.ask(greedy(prompt(1, 10), 1000));
    rig.steering.let_run();
    rig.steering.held_step();
    let prefilling = rig.ask(greedy(prompt(2, 1000), 5));
    rig.steering.let_run();
    rig.steering.held_step();
    begin(&rig, After::Exit, HOUR).await;
    rig.steering.held_step();
    rig.pass(HOUR + Duration::from_secs(1));
    rig.steering.let_run();
    for stream in [decoding, prefilling] {
        let answer = outcome(stream).await;
        assert!(matches!(answer.end, Err(Refusal::Interrupted { .. })), "{answer:?}");
    }
    rig.reach("stopped").await;
    let stats = rig.handle.stats();
    let report = stats.last_drain.unwrap();
    assert_eq!((report.n_drained, report.n_interrupted, report.n_refused), (0, 2, 0));
    assert!(report.took >= HOUR);
    assert_eq!(
        (stats.totals.drains, stats.totals.drain_timeouts, stats.totals.interrupted_sequences),
        (1, 1, 2)
    );
    rig.engine.join();
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_a_drain() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let stuck = rig.ask(greedy(prompt(1, 10), 500));
    rig.see(|stats| stats.totals.generated_tokens > 0).await;
    let report = rig.engine.drain(HOUR).await.unwrap();
    assert_eq!((report.n_drained, report.n_interrupted), (1, 0));
    rig.engine.join();
    assert_eq!(outcome(stuck).await.tokens.len(), 500);
}

#[tokio::test]
async fn a_second_drain_moves_the_deadline_nearer_and_to_exit_and_both_are_told() {
    let rig = held().await;
    let stream = rig.ask(greedy(prompt(1, 10), 1000));
    rig.steering.let_run();
    rig.steering.held_step();
    let handle = rig.handle.clone();
    let first = tokio::spawn(async move { handle.drain(After::Park, HOUR).await });
    // The first drain is in the inbox before the second one is.
    tokio::task::yield_now().await;
    rig.steering.let_run();
    rig.reach("draining").await;
    rig.steering.held_step();
    let handle = rig.handle.clone();
    let second = tokio::spawn(async move { handle.drain(After::Exit, Duration::ZERO).await });
    tokio::task::yield_now().await;
    rig.steering.let_run();
    assert!(matches!(outcome(stream).await.end, Err(Refusal::Interrupted { .. })));
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!(first, second);
    assert_eq!((first.n_interrupted, rig.handle.stats().totals.drains), (1, 1));
    rig.reach("stopped").await;
    rig.engine.join();
}

#[tokio::test]
async fn a_later_second_deadline_and_a_park_after_an_exit_change_nothing() {
    let rig = held().await;
    let stream = rig.ask(greedy(prompt(1, 10), 3));
    rig.steering.held_step();
    begin(&rig, After::Exit, Duration::from_secs(60)).await;
    let before = rig.handle.state();
    rig.handle.begin_drain(After::Park, HOUR);
    rig.steering.let_run();
    rig.steering.held_step();
    assert_eq!(rig.handle.state(), before);
    rig.steering.free_steps();
    outcome(stream).await.end.unwrap();
    rig.reach("stopped").await;
    rig.engine.join();
}

#[tokio::test]
async fn resume_cancels_a_drain_and_what_ran_goes_on() {
    let rig = held().await;
    let stream = rig.ask(greedy(prompt(1, 10), 8));
    rig.steering.let_run();
    rig.steering.held_step();
    let handle = rig.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(After::Exit, HOUR).await });
    tokio::task::yield_now().await;
    rig.steering.let_run();
    rig.reach("draining").await;
    let handle = rig.handle.clone();
    let resume = tokio::spawn(async move { handle.resume().await });
    tokio::task::yield_now().await;
    rig.steering.let_run();
    resume.await.unwrap().unwrap();
    assert_eq!(drain.await.unwrap().unwrap_err().to_string(), "cannot finish draining while ready");
    rig.steering.free_steps();
    assert_eq!(outcome(stream).await.tokens, Script::Hash.answer(&prompt(1, 10), 8));
    rig.answer(greedy(prompt(2, 10), 3)).await.end.unwrap();
    assert_eq!(rig.handle.resume().await.unwrap_err().to_string(), "cannot resume while ready");
    rig.close().await;
}

#[tokio::test]
async fn a_parked_engine_admits_nothing_until_it_is_resumed_and_still_has_its_cache() {
    let rig = Rig::new(ScriptedModel::default()).await;
    rig.answer(greedy(prompt(1, 100), 3)).await;
    rig.handle.drain(After::Park, HOUR).await.unwrap();
    assert_eq!(rig.handle.state().name(), "parked");
    assert!(matches!(
        rig.handle.try_permit(),
        Err(Refusal::Unavailable { reason: NotReadyReason::Parked, .. })
    ));
    // Parking what is parked is done already.
    assert_eq!(rig.handle.drain(After::Park, HOUR).await.unwrap(), crate::DrainReport::default());
    rig.handle.resume().await.unwrap();
    assert_eq!(rig.answer(greedy(prompt(1, 100), 3)).await.usage.n_reused, 99);
    rig.close().await;
}

#[tokio::test]
async fn an_exit_while_loading_waits_for_nothing() {
    let steering = Steering::free();
    steering.hold_loads();
    let rig = Rig::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.held_load();
    let report = rig.engine.drain(HOUR).await.unwrap();
    assert_eq!(report.n_drained, 0);
    assert_eq!(rig.handle.state().name(), "stopped");
    rig.engine.join();
    steering.release_load(Ok(()));
}

#[tokio::test]
async fn a_park_while_loading_keeps_the_model_that_comes_in() {
    let steering = Steering::free();
    steering.hold_loads();
    let rig = Rig::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.held_load();
    rig.handle.drain(After::Park, HOUR).await.unwrap();
    steering.release_load(Ok(()));
    rig.see(|stats| stats.started).await;
    assert_eq!(rig.handle.state().name(), "parked");
    rig.handle.resume().await.unwrap();
    rig.answer(greedy(prompt(1, 10), 3)).await.end.unwrap();
    rig.close().await;
}

#[tokio::test]
async fn a_drain_cancelled_while_loading_goes_on_loading() {
    let steering = Steering::free();
    steering.hold_loads();
    let rig = Rig::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.held_load();
    rig.handle.drain(After::Park, HOUR).await.unwrap();
    rig.handle.resume().await.unwrap();
    assert_eq!(rig.handle.state().name(), "loading");
    steering.release_load(Ok(()));
    rig.reach("ready").await;
    rig.close().await;
}

#[tokio::test]
async fn the_store_is_flushed_before_a_drain_is_over_and_a_resume_does_not_wait_for_it() {
    let store = Arc::new(MemoryStore::default());
    store.hold_flushes();
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), Steering::free(), config).await;
    rig.answer(greedy(prompt(1, 40), 3)).await;
    rig.handle.begin_drain(After::Park, HOUR);
    store.held_flush();
    assert_eq!(rig.handle.state().name(), "draining");
    rig.handle.resume().await.unwrap();
    rig.answer(greedy(prompt(2, 40), 3)).await.end.unwrap();
    // The flush of the cancelled drain ends only now, and means nothing to the next one.
    let handle = rig.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(After::Exit, HOUR).await });
    tokio::task::yield_now().await;
    rig.reach("draining").await;
    store.end_one_flush();
    // Two commands that are answered in order: the engine has had a whole turn with the old flush's end.
    for _ in 0..2 {
        rig.handle.load().await.unwrap_err();
    }
    assert_eq!(rig.handle.state().name(), "draining");
    store.end_flush();
    drain.await.unwrap().unwrap();
    assert_eq!(store.n_flushes(), 2);
    rig.engine.join();
}

#[tokio::test]
async fn an_engine_that_is_dropped_ends_its_streams_and_its_thread() {
    let rig = held().await;
    let stream = rig.ask(greedy(prompt(1, 10), 1000));
    rig.steering.held_step();
    let Rig { engine, handle, steering, .. } = rig;
    drop(engine);
    steering.free_steps();
    assert!(matches!(outcome(stream).await.end, Err(Refusal::Interrupted { .. })));
    handle.watch_state().wait_for(|state| state.name() == "stopped").await.unwrap();
    assert_eq!(handle.load().await.unwrap_err().to_string(), "cannot load while stopped");
    assert_eq!(handle.stats().last_drain.map(|report| report.n_interrupted), Some(1));
}

#[tokio::test]
async fn the_runner_is_gone_when_the_engine_says_that_it_has_stopped() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let (handle, (tell, told)) = (rig.handle.clone(), std::sync::mpsc::channel());
    rig.steering.when_dropped(move || tell.send(handle.state().name()).unwrap());
    rig.handle.begin_drain(After::Exit, HOUR);
    rig.reach("stopped").await;
    assert_eq!(told.try_recv(), Ok("draining"));
    rig.engine.join();
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_any_more_is_broken_off() {
    let steering = Steering::free();
    steering.hold_loads();
    let rig = Rig::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.held_load();
    rig.close().await;
    steering.release_load(Ok(()));
    steering.broken_off_load();
}
