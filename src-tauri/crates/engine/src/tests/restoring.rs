//! Stored blocks come back as they were, or not at all.

use std::sync::Arc;

use store::BlockStore;

use super::rig::*;
use crate::testing::{MemoryStore, Script, ScriptedModel, Steering};
use crate::{After, EngineConfig, Refusal, Request};

/// A fresh engine, as after a restart of the process, over what another one stored.
async fn restarted(store: &Arc<MemoryStore>, window: Option<usize>) -> Rig {
    restarted_as(store, ScriptedModel { window, ..ScriptedModel::default() }).await
}

async fn restarted_as(store: &Arc<MemoryStore>, model: ScriptedModel) -> Rig {
    let config = EngineConfig { store: Arc::clone(store) as Arc<dyn BlockStore>, ..EngineConfig::default() };
    Rig::with(model, Steering::free(), config).await
}

/// A store with a conversation of 100 tokens and an answer of 10 in it.
async fn filled(window: Option<usize>) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    let rig = restarted(&store, window).await;
    rig.answer(greedy(prompt(1, 100), 10)).await.end.unwrap();
    rig.close().await;
    store
}

#[tokio::test]
async fn after_a_restart_a_conversation_comes_back_from_the_store_with_the_same_answer() {
    for (window, lends) in [(None, true), (Some(40), true), (None, false), (Some(40), false)] {
        let store = filled(window).await;
        let model = ScriptedModel { window, lends, ..ScriptedModel::default() };
        let rig = restarted_as(&store, model).await;
        let mut conversation = prompt(1, 100);
        conversation.extend(Script::Hash.answer(&prompt(1, 100), 10));
        conversation.extend(prompt(5, 20));
        let answer = rig.answer(greedy(conversation.clone(), 10)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&conversation, 10));
        assert!(answer.usage.n_reused >= 96, "{:?}", answer.usage);
        let record = &rig.handle.records()[0];
        assert!(record.n_restored >= 96, "{record:?}");
        assert!(rig.handle.stats().totals.restored_blocks >= 6);
        rig.close().await;
    }
}

#[tokio::test]
async fn after_a_restart_a_turn_is_taken_up_where_it_leaves_what_its_agent_had_in_the_middle_of_a_block() {
    let mut edited = prompt(1, 90);
    edited.extend(prompt(7, 3));
    // Block 6 holds tokens 96 to 108, block 5 tokens 80 to 95.
    for (turn, n_reused) in [(prompt(1, 100), 99), (edited, 90), (prompt(1, 97), 96)] {
        for window in [None, Some(40)] {
            let store = Arc::new(MemoryStore::default());
            let ask = |turn: &[u32]| Request { agent: Some("a".to_owned()), ..greedy(turn.to_vec(), 10) };
            let rig = restarted(&store, window).await;
            rig.answer(ask(&prompt(1, 100))).await.end.unwrap();
            rig.close().await;
            let rig = restarted(&store, window).await;
            let answer = rig.answer(ask(&turn)).await;
            assert_eq!(answer.tokens, Script::Hash.answer(&turn, 10));
            assert_eq!(answer.usage.n_reused, n_reused, "{} tokens, window {window:?}", turn.len());
            rig.close().await;
        }
    }
}

#[tokio::test]
async fn a_damaged_or_foreign_record_costs_time_and_never_the_answer() {
    type Damage = fn(&mut store::BlockRecord);
    let damages: [(Damage, &str); 3] = [
        (|record| record.tokens[0] ^= 1, "corrupt"),
        (|record| record.fingerprint = [8; 32], "foreign"),
        (|record| record.bytes = record.bytes[..5].to_vec().into(), "corrupt"),
    ];
    for (damage, reason) in damages {
        let store = filled(None).await;
        store.damage(damage);
        let rig = restarted(&store, None).await;
        let answer = rig.answer(greedy(prompt(1, 100), 10)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt(1, 100), 10));
        assert_eq!(answer.usage.n_reused, 0);
        assert!(rig.handle.stats().totals.restore_misses[reason] > 0);
        rig.close().await;
    }
}

#[tokio::test]
async fn the_others_go_on_while_one_waits_for_the_store() {
    let store = filled(None).await;
    let rig = restarted(&store, None).await;
    store.hold_restores();
    let waits = rig.ask(greedy(prompt(1, 100), 10));
    store.held_restore();
    assert_eq!(rig.answer(greedy(prompt(2, 50), 30)).await.tokens, Script::Hash.answer(&prompt(2, 50), 30));
    store.end_restores();
    let answer = outcome(waits).await;
    assert_eq!(answer.tokens, Script::Hash.answer(&prompt(1, 100), 10));
    assert!(answer.usage.n_reused >= 96);
    rig.close().await;
}

#[tokio::test]
async fn a_client_that_goes_while_its_blocks_are_read_leaves_nothing_behind() {
    for lends in [true, false] {
        let store = filled(None).await;
        // Room for one of them and a half.
        let model = ScriptedModel { n_blocks: 14, lends, ..ScriptedModel::default() };
        let rig = restarted_as(&store, model).await;
        store.hold_restores();
        let gone = rig.ask(greedy(prompt(1, 100), 10));
        store.held_restore();
        drop(gone);
        rig.see(|stats| stats.totals.cancelled == 1).await;
        // Another one computes meanwhile, and must not get the memory that the late bytes are meant for.
        rig.steering.hold_steps();
        let other = rig.ask(greedy(prompt(2, 90), 20));
        while rig.steering.held_step().rows[0].len() > 1 {
            rig.steering.let_run();
        }
        rig.steering.let_run();
        rig.steering.held_step();
        assert!(rig.handle.stats().pool.held >= 6 + 6, "the lent blocks and the other's");
        store.end_restores();
        rig.steering.free_steps();
        assert_eq!(outcome(other).await.tokens, Script::Hash.answer(&prompt(2, 90), 20));
        // All of it is free again: one that needs nearly the whole pool gets it.
        rig.see(|stats| stats.pool.held == 0).await;
        let answer = rig.answer(greedy(prompt(3, 200), 10)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt(3, 200), 10));
        rig.close().await;
    }
}

#[tokio::test]
async fn a_drain_during_a_restore_refuses_what_has_not_begun_and_does_not_wait_for_the_disk() {
    let store = filled(None).await;
    let rig = restarted(&store, None).await;
    store.hold_restores();
    let waits = rig.ask(greedy(prompt(1, 100), 10));
    store.held_restore();
    let report = rig.handle.drain(After::Park, HOUR).await.unwrap();
    assert_eq!((report.n_drained, report.n_interrupted, report.n_refused), (0, 0, 1));
    assert!(matches!(outcome(waits).await.end, Err(Refusal::Unavailable { .. })));
    store.end_restores();
    rig.handle.resume().await.unwrap();
    let answer = rig.answer(greedy(prompt(1, 100), 10)).await;
    assert_eq!(answer.tokens, Script::Hash.answer(&prompt(1, 100), 10));
    rig.close().await;
}
