//! Agents are kept, and what a disk refuses is not lost as long as the pool has it.

use std::sync::Arc;

use store::{BlockKey, BlockStore, ChainHash, GroupId, OfModels, Pin, Trouble};

use super::rig::*;
use crate::testing::{MemoryStore, Script, ScriptedModel, Steering};
use crate::{EngineConfig, Request, Tier};

async fn over(store: &Arc<MemoryStore>) -> Rig {
    let config = EngineConfig { store: Arc::clone(store) as Arc<dyn BlockStore>, ..EngineConfig::default() };
    Rig::with(ScriptedModel::default(), Steering::free(), config).await
}

fn of(agent: &str, prompt: Vec<u32>) -> Request {
    Request { agent: Some(agent.to_owned()), ..greedy(prompt, 10) }
}

#[tokio::test]
async fn an_agents_manifest_has_its_exact_tokens_and_which_of_them_were_generated() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let answer = rig.answer(of("a", prompt(1, 40))).await;
    let mut all = prompt(1, 40);
    all.extend(&answer.tokens);
    let manifest = store.agent("a").pop().unwrap();
    // The last token sampled was never computed.
    assert_eq!(manifest.tokens, all[..49]);
    assert_eq!((manifest.blocks.len(), manifest.tail.is_some()), (3, true));
    let generated: Vec<_> = manifest.generated.iter().map(|span| (span.start, span.n_tokens)).collect();
    assert_eq!(generated, [(40, 9)]);
    // Its addresses are those of the blocks on disk.
    rig.handle.drain(crate::After::Park, HOUR).await.unwrap();
    let stored: Vec<_> = store.records().into_iter().map(|record| record.key.hash).collect();
    assert!(manifest.blocks.iter().chain(&manifest.tail).all(|hash| stored.contains(hash)));
    rig.close().await;
}

#[tokio::test]
async fn agents_are_listed_shown_pinned_evicted_and_forgotten() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    rig.answer(greedy(prompt(9, 40), 10)).await;
    rig.answer(of("a", prompt(1, 40))).await;
    rig.answer(of("b", prompt(2, 40))).await;
    let mut names: Vec<_> = rig.handle.agents().await.unwrap().into_iter().map(|a| a.name).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);

    let info = rig.handle.agent("a").await.unwrap().unwrap();
    assert_eq!(
        (info.sum.n_tokens, info.sum.tier, info.sum.resident_tokens, info.sum.n_requests),
        (49, Tier::Resident, 49, 0)
    );
    assert!(info.models[0].is_loaded && !info.sum.is_pinned);
    assert_eq!(rig.handle.agent("nobody").await.unwrap(), None);

    assert!(rig.handle.pin_agent("a", OfModels::All).await.unwrap().unwrap().sum.is_pinned);
    // A later turn keeps the pin.
    rig.answer(of("a", prompt(1, 44))).await;
    assert_eq!(store.agent("a")[0].pin, Pin::Pinned);
    assert!(!rig.handle.unpin_agent("a", OfModels::All).await.unwrap().unwrap().sum.is_pinned);

    let evicted = rig.handle.evict_agent("a", OfModels::All).await.unwrap().unwrap();
    assert_eq!((evicted.sum.tier, evicted.sum.resident_tokens), (Tier::Stored, 0));
    let back = rig.answer(of("a", prompt(1, 44))).await;
    assert!(back.usage.n_reused >= 32, "{:?}", back.usage);

    assert!(rig.handle.forget_agent("a", OfModels::All).await.unwrap());
    assert!(!rig.handle.forget_agent("a", OfModels::All).await.unwrap());
    let cold = rig.answer(greedy(prompt(1, 44), 10)).await;
    assert_eq!(cold.usage.n_reused, 0, "a deleted agent's blocks are still in the pool");
    for agent in rig.handle.agents().await.unwrap() {
        assert!(rig.handle.forget_agent(&agent.name, OfModels::All).await.unwrap());
    }
    assert_eq!(rig.handle.agents().await.unwrap(), []);
    rig.close().await;
}

#[tokio::test]
async fn an_agent_that_is_deleted_while_it_runs_does_not_come_back_with_its_end() {
    let store = Arc::new(MemoryStore::default());
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    let rig = Rig::with(ScriptedModel::default(), Steering::holding_steps(), config).await;
    let stream = rig.ask(of("a", prompt(1, 40)));
    rig.steering.let_run();
    rig.steering.held_step();
    let forgetting = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.forget_agent("a", OfModels::All).await }
    });
    // It asks before the step goes on.
    tokio::task::yield_now().await;
    rig.steering.let_run();
    assert!(forgetting.await.unwrap().unwrap());
    rig.steering.free_steps();
    outcome(stream).await.end.unwrap();
    assert_eq!(rig.handle.agents().await.unwrap(), []);
    assert!(store.agent("a").is_empty());
    rig.close().await;
}

#[tokio::test]
async fn saved_tokens_are_those_that_a_restart_finds_in_every_layer_group() {
    let store = Arc::new(MemoryStore::default());
    let model = ScriptedModel { window: Some(32), ..ScriptedModel::default() };
    let config = EngineConfig { store: Arc::clone(&store) as _, ..EngineConfig::default() };
    let rig = Rig::with(model, Steering::free(), config).await;
    rig.answer(of("a", prompt(1, 100))).await;
    rig.handle.drain(crate::After::Park, HOUR).await.unwrap();
    let saved = async || rig.handle.agent("a").await.unwrap().unwrap().sum.saved_tokens;
    assert_eq!(saved().await, 109);
    let manifest = store.agent("a").pop().unwrap();
    let group_of = |group: GroupId, hash: ChainHash| BlockKey { hash, group };
    let window = GroupId::window(1);
    // Without a tail, all whole blocks; without a window's block, what lies before it.
    store.give_up_block(&group_of(window, manifest.tail.unwrap()));
    assert_eq!(saved().await, 96);
    store.give_up_block(&group_of(window, manifest.blocks[5]));
    assert_eq!(saved().await, 80);
    // What no window looks into any more is not needed in its group, and always in the others.
    store.give_up_block(&group_of(window, manifest.blocks[0]));
    assert_eq!(saved().await, 80);
    store.give_up_block(&group_of(GroupId::full(0), manifest.blocks[2]));
    assert_eq!(saved().await, 0, "the windows before block 2 look into block 0");
    rig.close().await;
}

#[tokio::test]
async fn what_a_disk_refused_is_saved_when_it_takes_bytes_again() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    store.set_trouble(Some(Trouble::DiskFull));
    rig.answer(greedy(prompt(1, 100), 10)).await.end.unwrap();
    rig.see(|stats| stats.store.trouble == Some(Trouble::DiskFull) && stats.pool.held == 0).await;
    assert!(store.records().is_empty());
    store.set_trouble(None);
    rig.see(|stats| stats.store.trouble.is_none()).await;
    rig.handle.drain(crate::After::Park, HOUR).await.unwrap();
    assert_eq!(store.records().len(), 7);
    rig.close().await;
}

#[tokio::test]
async fn what_was_not_worth_writing_is_saved_once_an_agent_goes_on_with_it() {
    let store = Arc::new(MemoryStore::default());
    store.spare_anonymous();
    let rig = over(&store).await;
    rig.answer(greedy(prompt(1, 40), 10)).await.end.unwrap();
    rig.see(|stats| stats.pool.held == 0).await;
    assert!(store.records().is_empty());
    let mut next = prompt(1, 40);
    next.extend(Script::Hash.answer(&prompt(1, 40), 10));
    next.extend(prompt(3, 10));
    let named = rig.answer(of("a", next)).await;
    assert!(named.usage.n_reused >= 48, "{:?}", named.usage);
    rig.handle.drain(crate::After::Park, HOUR).await.unwrap();
    let stored: Vec<_> = store.records().into_iter().map(|record| record.key.hash).collect();
    let manifest = store.agent("a").pop().unwrap();
    assert!(manifest.blocks.iter().chain(&manifest.tail).all(|hash| stored.contains(hash)), "a gap on disk");
    rig.close().await;
}

#[tokio::test]
async fn what_the_store_gave_up_is_saved_again_when_it_is_used() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    rig.answer(of("a", prompt(1, 40))).await.end.unwrap();
    store.give_up();
    rig.answer(of("a", prompt(1, 40))).await.end.unwrap();
    rig.handle.drain(crate::After::Park, HOUR).await.unwrap();
    let stored: Vec<_> = store.records().into_iter().map(|record| record.key.hash).collect();
    let manifest = store.agent("a").pop().unwrap();
    assert!(manifest.blocks.iter().all(|hash| stored.contains(hash)), "a gap on disk");
    rig.close().await;
}

#[tokio::test]
async fn a_prompt_that_was_not_there_is_a_miss_in_its_record() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    rig.answer(greedy(prompt(1, 100), 10)).await.end.unwrap();
    rig.answer(greedy(prompt(1, 100), 10)).await.end.unwrap();
    let misses: Vec<_> = rig.handle.records().into_iter().map(|record| record.restore_misses).collect();
    assert_eq!(misses[0].get("absent"), Some(&1));
    assert!(misses[1].is_empty(), "{misses:?}");
    rig.close().await;
}
