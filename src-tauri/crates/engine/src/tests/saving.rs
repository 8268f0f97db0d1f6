//! Blocks on their way to the store.

use std::sync::Arc;

use store::SaveReason;

use super::rig::*;
use crate::testing::{MemoryStore, ScriptedModel, Steering};
use crate::{After, EngineConfig};

async fn with_store(model: ScriptedModel) -> (Rig, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    (Rig::with(model, Steering::free(), config).await, store)
}

#[tokio::test]
async fn every_block_is_saved_once_it_is_full_and_the_tail_when_the_answer_ends() {
    for window in [None, Some(32)] {
        let (rig, store) = with_store(ScriptedModel { window, ..ScriptedModel::default() }).await;
        let answer = rig.answer(greedy(prompt(1, 40), 10)).await;
        rig.handle.drain(After::Park, HOUR).await.unwrap();
        let mut all = prompt(1, 40);
        all.extend(&answer.tokens);
        let of_window = window.map(|_| store::GroupId::window(1));
        for group in [store::GroupId::full(0)].into_iter().chain(of_window) {
            let mut records: Vec<_> = store.records().into_iter().filter(|r| r.key.group == group).collect();
            // Follow the chain from the block that no record is the parent of.
            let keys: Vec<_> = records.iter().map(|r| r.key.hash).collect();
            let first = records.iter().position(|r| !keys.contains(&r.parent)).unwrap();
            let mut chain = vec![records.swap_remove(first)];
            while let Some(at) = records.iter().position(|r| r.parent == chain[chain.len() - 1].key.hash) {
                chain.push(records.swap_remove(at));
            }
            assert!(records.is_empty(), "{records:?}");
            let saved: Vec<u32> = chain.iter().flat_map(|r| r.tokens.clone()).collect();
            // The last token sampled was never computed.
            assert_eq!(saved, all[..49], "{group:?}, window {window:?}");
            let reasons: Vec<_> = chain.iter().map(|r| r.reason).collect();
            assert_eq!(
                reasons,
                [SaveReason::BlockFull, SaveReason::BlockFull, SaveReason::BlockFull, SaveReason::Tail]
            );
            for (i, record) in chain.iter().enumerate() {
                assert_eq!(record.fingerprint, [7; 32]);
                // The bytes are the pool's: the fake pool has a token's id and position in every slot.
                assert_eq!(record.bytes[..2], (record.tokens[0] as u16).to_le_bytes());
                assert_eq!(record.bytes[4..8], (16 * i as u32).to_le_bytes());
            }
        }
        rig.close().await;
    }
}

#[tokio::test]
async fn what_a_deadline_interrupts_is_saved_as_well() {
    let store = Arc::new(MemoryStore::default());
    let steering = Steering::holding_steps();
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), config).await;
    let stream = rig.ask(greedy(prompt(1, 40), 1000));
    steering.let_run();
    steering.held_step();
    rig.handle.begin_drain(After::Exit, std::time::Duration::ZERO);
    steering.free_steps();
    assert!(outcome(stream).await.end.is_err());
    rig.reach("stopped").await;
    rig.engine.join();
    let records = store.records();
    assert!(records.iter().any(|r| r.reason == SaveReason::Drain && r.tokens.len() < 16), "{records:?}");
    assert_eq!(store.n_flushes(), 1);
}

#[tokio::test]
async fn the_store_ends_with_the_engine_thread_whoever_still_has_a_handle() {
    let (rig, store) = with_store(ScriptedModel::default()).await;
    rig.answer(greedy(prompt(1, 100), 10)).await.end.unwrap();
    let handle = rig.handle.clone();
    rig.engine.drain(HOUR).await.unwrap();
    assert!(handle.stats_with_store().store.is_on);
    rig.engine.join();
    assert_eq!(Arc::strong_count(&store), 1, "else it would be closed while the process ends");
}

#[tokio::test]
async fn a_store_without_room_holds_up_nobody_and_gets_everything_later() {
    let (rig, store) = with_store(ScriptedModel::default()).await;
    store.set_full(true);
    rig.answer(greedy(prompt(1, 100), 10)).await.end.unwrap();
    rig.answer(greedy(prompt(2, 100), 10)).await.end.unwrap();
    assert!(store.records().is_empty());
    rig.see(|stats| stats.pool.held >= 12).await;
    store.set_full(false);
    rig.see(|stats| stats.pool.held == 0).await;
    assert_eq!(store.records().len(), 14);
    rig.close().await;
}
