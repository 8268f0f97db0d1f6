//! What the handles show of the engine's life.

use super::rig::*;
use crate::testing::{ScriptedModel, Steering};
use crate::{EngineConfig, NotReadyReason, Outcome, Readiness, Refusal, readiness};

#[tokio::test]
async fn a_request_before_the_model_is_there_is_told_that_it_loads() {
    let steering = Steering::free();
    steering.hold_loads();
    let rig = Rig::start(ScriptedModel::default(), steering.clone(), EngineConfig::default());
    steering.held_load();
    rig.reach("loading").await;
    let refusal = rig.handle.try_permit().unwrap_err();
    assert!(matches!(
        refusal,
        Refusal::Unavailable { reason: NotReadyReason::ModelLoading, retry_after: Some(_) }
    ));
    steering.release_load(Ok(()));
    rig.reach("ready").await;
    let ready = readiness(&rig.handle.state(), &rig.handle.stats(), rig.clock.now());
    assert_eq!(ready, Readiness::Ready { pool_utilization: 0.0 });
    rig.close().await;
}

#[tokio::test]
async fn a_step_that_hangs_is_reported_and_not_killed() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), EngineConfig::default()).await;
    let stream = rig.ask(greedy(prompt(1, 20), 3));
    steering.held_step();
    let stats = rig.handle.stats();
    assert_eq!((stats.n_running, stats.pool.held), (1, 2));
    let judge = |secs| {
        let later = rig.clock.now() + std::time::Duration::from_secs(secs);
        matches!(readiness(&rig.handle.state(), &rig.handle.stats(), later), Readiness::Ready { .. })
    };
    assert!(judge(20) && !judge(31));
    steering.free_steps();
    outcome(stream).await.end.unwrap();
    rig.see(|stats| stats.step_started.is_none()).await;
    rig.close().await;
}

#[tokio::test]
async fn an_idle_engine_gives_signs_of_life() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let first = rig.handle.stats().heartbeat;
    rig.see(|stats| stats.heartbeat > first).await;
    rig.close().await;
}

#[tokio::test]
async fn only_the_last_two_hundred_requests_are_remembered() {
    let rig = Rig::new(ScriptedModel::default()).await;
    for i in 0..205 {
        rig.answer(greedy(prompt(i, 3 + i as usize % 100), 1)).await;
    }
    let records = rig.handle.records();
    assert_eq!(records.len(), crate::N_RECORDS);
    assert_eq!(records[0].n_prompt, 3 + 5);
    assert!(records.iter().all(|record| record.outcome == Outcome::Length));
    rig.close().await;
}

#[tokio::test]
async fn requests_of_one_agent_run_one_after_the_other() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let request = |n| crate::Request { agent: Some("a{\"b\":1}".to_owned()), ..greedy(prompt(1, n), 10) };
    let streams = [rig.ask(request(30)), rig.ask(request(40))];
    for stream in streams {
        outcome(stream).await.end.unwrap();
    }
    let records = rig.handle.records();
    assert_eq!(records.iter().map(|r| r.n_prompt).collect::<Vec<_>>(), [30, 40]);
    assert!(rig.steering.steps().iter().all(|step| step.rows.len() == 1));
    rig.close().await;
}
