//! An agent is one name with a conversation for each model, and what of it is pinned stays in the pools.

use std::sync::Arc;

use store::{BlockStore, OfModels, Pin};

use super::rig::*;
use crate::testing::{MemoryStore, ScriptedLoader, ScriptedModel, Steering};
use crate::{AgentInfo, EngineConfig, ModelState, Request, Tier};

const OTHER: &str = "other";
const DEFAULT_MODEL: OfModels = OfModels::One([7; 32]);
const OTHER_MODEL: OfModels = OfModels::One([9; 32]);

fn keeping(store: &Arc<MemoryStore>) -> EngineConfig {
    EngineConfig { store: Arc::clone(store) as Arc<dyn BlockStore>, ..EngineConfig::default() }
}

/// Two models over one store, both ready.
async fn two(store: &Arc<MemoryStore>) -> Rig {
    let other = ScriptedModel { name: OTHER, fingerprint: [9; 32], ..ScriptedModel::default() };
    let loader = ScriptedLoader::new(ScriptedModel::default(), Steering::free());
    let rig = Rig::of(loader.and(OTHER, other, Steering::free()), Steering::free(), keeping(store));
    rig.reach("ready").await;
    load_other(&rig).await;
    rig
}

async fn load_other(rig: &Rig) {
    rig.handle.load_model(OTHER.into()).await.unwrap();
    let is_ready = |of: &crate::ModelStats| &*of.name.0 == OTHER && of.state == ModelState::Ready;
    rig.see(|stats| stats.models.iter().any(is_ready)).await;
}

/// One pool of `n_blocks` blocks of 16 tokens, over a store.
async fn small(n_blocks: usize) -> (Rig, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    let model = ScriptedModel { n_blocks, ..ScriptedModel::default() };
    (Rig::with(model, Steering::free(), keeping(&store)).await, store)
}

/// A turn of an agent after `n` tokens that no other `salt` begins with; ten more are generated, nine computed.
async fn turn(rig: &Rig, model: &str, agent: &str, salt: u32, n: usize) {
    let named = Request { agent: Some(agent.to_owned()), ..greedy(prompt(salt, n), 10) };
    let model = if model.is_empty() { named.model.clone() } else { model.into() };
    rig.answer(Request { model, ..named }).await.end.unwrap();
}

async fn show(rig: &Rig, agent: &str) -> AgentInfo {
    rig.handle.agent(agent).await.unwrap().unwrap()
}

/// Others' prompts, as many as the pool has room for; the first letters are those of salts 1 and 2.
async fn press(rig: &Rig, n_blocks: usize) {
    for salt in 3..3 + n_blocks as u32 / 4 {
        rig.answer(greedy(prompt(salt, 60), 4)).await.end.unwrap();
    }
}

#[tokio::test]
async fn an_agent_of_two_models_is_one_line_with_the_sum_of_both() {
    let store = Arc::new(MemoryStore::default());
    let rig = two(&store).await;
    turn(&rig, "", "a", 1, 40).await;
    turn(&rig, OTHER, "a", 1, 100).await;
    turn(&rig, "", "b", 2, 20).await;
    let listed = rig.handle.agents().await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let a = listed.into_iter().find(|agent| agent.name == "a").unwrap();
    assert_eq!(a, show(&rig, "a").await);
    assert_eq!((a.sum.n_tokens, a.sum.saved_tokens, a.sum.resident_tokens), (49 + 109, 49 + 109, 49 + 109));
    assert_eq!((a.sum.tier, a.sum.is_pinned, a.sum.n_requests), (Tier::Resident, false, 0));
    let mut parts: Vec<_> = a.models.iter().map(|of| (of.model.as_deref(), of.kept.n_tokens)).collect();
    parts.sort_unstable();
    assert_eq!(parts, [(Some(OTHER), 109), (Some("scripted"), 49)]);
    assert_eq!(a.sum.stored_bytes, a.models.iter().map(|of| of.kept.stored_bytes).sum::<u64>());
    assert!(a.models.iter().all(|of| of.kept.stored_bytes > 0));
    rig.close().await;
}

#[tokio::test]
async fn what_an_agent_has_of_a_model_that_has_left_is_listed_with_all_that_is_saved() {
    let store = Arc::new(MemoryStore::default());
    let rig = two(&store).await;
    turn(&rig, "", "a", 1, 40).await;
    turn(&rig, OTHER, "a", 1, 100).await;
    rig.handle.leave_model(OTHER.into(), HOUR).await.unwrap();
    let a = show(&rig, "a").await;
    let [here, gone] = &a.models[..] else { panic!("{a:?}") };
    assert_eq!((here.is_loaded, gone.is_loaded, gone.model.as_deref()), (true, false, Some(OTHER)));
    assert_eq!((gone.kept.n_tokens, gone.kept.saved_tokens, gone.kept.resident_tokens), (109, 109, 0));
    assert_eq!((a.sum.saved_tokens, a.sum.resident_tokens, a.sum.tier), (49 + 109, 49, Tier::Stored));
    // Of what has a gap, only what stands before it counts, as where the layout is known.
    let manifest = store.agent("a").into_iter().find(|of| of.fingerprint == [9; 32]).unwrap();
    let gap = store.records().into_iter().find(|record| record.key.hash == manifest.blocks[2]).unwrap();
    store.give_up_block(&gap.key);
    assert_eq!(show(&rig, "a").await.models[1].kept.saved_tokens, 32);
    load_other(&rig).await;
    assert_eq!(show(&rig, "a").await.sum.saved_tokens, 49 + 32);
    rig.close().await;
}

#[tokio::test]
async fn what_is_done_to_an_agent_is_done_to_all_of_it_or_to_the_model_that_is_named() {
    let store = Arc::new(MemoryStore::default());
    let rig = two(&store).await;
    turn(&rig, "", "a", 1, 40).await;
    turn(&rig, OTHER, "a", 1, 100).await;
    let pins = |agent: &AgentInfo| {
        let mut pins: Vec<_> = agent.models.iter().map(|of| (of.fingerprint[0], of.kept.is_pinned)).collect();
        pins.sort_unstable();
        (agent.sum.is_pinned, pins)
    };
    let pinned = rig.handle.pin_agent("a", OTHER_MODEL).await.unwrap().unwrap();
    assert_eq!(pins(&pinned), (false, vec![(7, false), (9, true)]));
    assert_eq!(pinned.sum.pinned_tokens, 109, "the other model's pool alone has pins");
    let pinned = rig.handle.pin_agent("a", OfModels::All).await.unwrap().unwrap();
    assert_eq!(pins(&pinned), (true, vec![(7, true), (9, true)]));
    let unpinned = rig.handle.unpin_agent("a", DEFAULT_MODEL).await.unwrap().unwrap();
    assert_eq!(pins(&unpinned), (false, vec![(7, false), (9, true)]));

    let evicted = rig.handle.evict_agent("a", DEFAULT_MODEL).await.unwrap().unwrap();
    assert_eq!(evicted.sum.resident_tokens, 109);
    let evicted = rig.handle.evict_agent("a", OfModels::All).await.unwrap().unwrap();
    assert_eq!((evicted.sum.resident_tokens, evicted.sum.saved_tokens), (0, 49 + 109));

    assert!(rig.handle.forget_agent("a", OTHER_MODEL).await.unwrap());
    assert!(!rig.handle.forget_agent("a", OTHER_MODEL).await.unwrap());
    let left = show(&rig, "a").await;
    assert_eq!((left.models.len(), left.sum.n_tokens, left.sum.saved_tokens), (1, 49, 49));
    turn(&rig, OTHER, "a", 1, 100).await;
    assert!(rig.handle.forget_agent("a", OfModels::All).await.unwrap());
    assert_eq!(rig.handle.agents().await.unwrap(), []);
    assert_eq!(store.records(), []);
    rig.close().await;
}

#[tokio::test]
async fn what_one_model_computes_after_its_conversation_was_deleted_takes_nothing_of_another_model_with_it() {
    let store = Arc::new(MemoryStore::default());
    let steering = Steering::free();
    let other =
        ScriptedModel { name: OTHER, fingerprint: [9; 32], is_on_device: true, ..ScriptedModel::default() };
    let loader = ScriptedLoader::new(ScriptedModel::default(), Steering::free());
    let rig = Rig::of(loader.and(OTHER, other, steering.clone()), Steering::free(), keeping(&store));
    rig.reach("ready").await;
    load_other(&rig).await;
    turn(&rig, "", "a", 1, 40).await;
    turn(&rig, OTHER, "a", 1, 40).await;
    steering.hold_steps();
    let named = Request { agent: Some("a".to_owned()), model: OTHER.into(), ..greedy(prompt(1, 100), 10) };
    let running = rig.ask(named);
    steering.held_step();
    assert!(rig.handle.forget_agent("a", OTHER_MODEL).await.unwrap());
    steering.free_steps();
    outcome(running).await.end.unwrap();
    let left = show(&rig, "a").await;
    assert_eq!((left.models.len(), left.models[0].fingerprint, left.sum.n_tokens), (1, [7; 32], 49));
    rig.close().await;
}

#[tokio::test]
async fn an_agent_that_is_pinned_stays_so_with_a_model_that_is_new_to_it() {
    let store = Arc::new(MemoryStore::default());
    let rig = two(&store).await;
    turn(&rig, "", "a", 1, 40).await;
    rig.handle.pin_agent("a", OfModels::All).await.unwrap();
    turn(&rig, OTHER, "a", 1, 100).await;
    assert!(store.agent("a").iter().all(|of| of.pin == Pin::Pinned));
    rig.handle.unpin_agent("a", DEFAULT_MODEL).await.unwrap();
    turn(&rig, "", "a", 1, 40).await;
    assert!(!show(&rig, "a").await.sum.is_pinned, "what was said of one model holds");
    rig.close().await;
}

#[tokio::test]
async fn pinned_blocks_outlive_what_takes_the_memory_of_others_until_they_are_unpinned() {
    let (rig, _store) = small(32).await;
    turn(&rig, "", "kept", 1, 100).await;
    turn(&rig, "", "goes", 2, 100).await;
    let pinned = rig.handle.pin_agent("kept", OfModels::All).await.unwrap().unwrap();
    assert_eq!((pinned.sum.pinned_tokens, pinned.sum.resident_tokens), (109, 109));
    press(&rig, 32).await;
    assert_eq!(
        (show(&rig, "kept").await.sum.resident_tokens, show(&rig, "goes").await.sum.resident_tokens),
        (109, 0)
    );
    rig.see(|stats| stats.pool.pinned == 7).await;
    let warm = Request { agent: Some("kept".to_owned()), ..greedy(prompt(1, 100), 10) };
    assert!(rig.answer(warm).await.usage.n_reused >= 99);
    assert_eq!(rig.handle.last_record().unwrap().n_restored, 0);

    let unpinned = rig.handle.unpin_agent("kept", OfModels::All).await.unwrap().unwrap();
    assert_eq!((unpinned.sum.pinned_tokens, unpinned.sum.resident_tokens), (0, 109));
    rig.see(|stats| stats.pool.pinned == 0).await;
    press(&rig, 32).await;
    assert_eq!(show(&rig, "kept").await.sum.resident_tokens, 0);
    rig.close().await;
}

#[tokio::test]
async fn where_half_the_pool_is_pinned_the_rest_of_an_agent_is_kept_on_disk_and_others_still_run() {
    let (rig, store) = small(32).await;
    turn(&rig, "", "long", 1, 400).await;
    let pinned = rig.handle.pin_agent("long", OfModels::All).await.unwrap().unwrap();
    assert_eq!(
        (pinned.sum.is_pinned, pinned.sum.pinned_tokens, pinned.sum.resident_tokens),
        (true, 256, 409)
    );
    assert_eq!(store.agent("long")[0].pin, Pin::Pinned);
    // Another one finds no room for its pins in memory; on disk it is pinned all the same.
    turn(&rig, "", "late", 2, 60).await;
    let late = rig.handle.pin_agent("late", OfModels::All).await.unwrap().unwrap();
    assert_eq!((late.sum.is_pinned, late.sum.pinned_tokens), (true, 0));
    press(&rig, 32).await;
    let long = show(&rig, "long").await;
    assert_eq!((long.sum.resident_tokens, long.sum.saved_tokens), (256, 409));
    // It goes on with what is left of the pool.
    let back = Request { agent: Some("long".to_owned()), ..greedy(prompt(1, 400), 10) };
    assert!(rig.answer(back).await.usage.n_reused >= 384);
    rig.see(|stats| stats.pool.pinned == 16).await;
    rig.close().await;
}

#[tokio::test]
async fn pins_follow_a_conversation_and_what_two_agents_share_goes_with_the_second() {
    let (rig, _store) = small(64).await;
    turn(&rig, "", "one", 1, 100).await;
    turn(&rig, "", "two", 1, 100).await;
    for agent in ["one", "two"] {
        rig.handle.pin_agent(agent, OfModels::All).await.unwrap();
    }
    turn(&rig, "", "one", 1, 160).await;
    let one = show(&rig, "one").await;
    assert_eq!((one.sum.pinned_tokens, one.sum.n_tokens), (169, 169), "the next turn is pinned too");
    rig.handle.unpin_agent("one", OfModels::All).await.unwrap();
    assert_eq!(show(&rig, "two").await.sum.pinned_tokens, 109);
    let evicted = rig.handle.evict_agent("two", OfModels::All).await.unwrap().unwrap();
    assert_eq!((evicted.sum.pinned_tokens, evicted.sum.is_pinned), (0, true), "memory is what was asked for");
    turn(&rig, "", "two", 1, 100).await;
    assert_eq!(show(&rig, "two").await.sum.pinned_tokens, 109);
    assert!(rig.handle.forget_agent("two", OfModels::All).await.unwrap());
    rig.see(|stats| stats.pool.pinned == 0).await;
    rig.close().await;
}

#[tokio::test]
async fn an_agent_that_was_pinned_is_pinned_again_when_it_comes_back_from_disk() {
    let (rig, store) = small(32).await;
    turn(&rig, "", "a", 1, 100).await;
    rig.handle.pin_agent("a", OfModels::All).await.unwrap();
    rig.close().await;
    let model = ScriptedModel { n_blocks: 32, ..ScriptedModel::default() };
    let rig = Rig::with(model, Steering::free(), keeping(&store)).await;
    assert_eq!((show(&rig, "a").await.sum.is_pinned, show(&rig, "a").await.sum.pinned_tokens), (true, 0));
    turn(&rig, "", "a", 1, 100).await;
    assert_eq!(show(&rig, "a").await.sum.pinned_tokens, 109);
    press(&rig, 32).await;
    assert_eq!(show(&rig, "a").await.sum.resident_tokens, 109);
    rig.close().await;
}

#[tokio::test]
async fn a_prompt_of_any_length_asks_the_store_a_few_times_and_not_for_every_block() {
    let store = Arc::new(MemoryStore::default());
    let model = ScriptedModel { window: Some(64), ..ScriptedModel::default() };
    let rig = Rig::with(model, Steering::free(), keeping(&store)).await;
    turn(&rig, "", "a", 1, 1000).await;
    rig.handle.evict_agent("a", OfModels::All).await.unwrap();
    let n_before = store.n_questions();
    let back = Request { agent: Some("a".to_owned()), ..greedy(prompt(1, 1000), 1) };
    rig.answer(back).await.end.unwrap();
    assert!(rig.handle.last_record().unwrap().n_restored > 900);
    let n_questions = store.n_questions() - n_before;
    assert!(n_questions < 20, "{n_questions} questions for a prompt of 63 blocks");
    rig.close().await;
}
