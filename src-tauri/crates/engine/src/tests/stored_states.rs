//! States of recurrent layers on disk: the newest of each conversation and no others.

use std::sync::Arc;
use std::time::Duration;

use store::{BlockKey, BlockRecord, BlockStore, ChainHash, GroupId, OfModels, SaveReason, Trouble};

use super::chats::*;
use super::rig::*;
use crate::testing::{MemoryStore, ScriptedModel, Steering};
use crate::{After, EngineConfig, Request};

fn is_state(record: &BlockRecord) -> bool {
    record.key.group.is_state()
}

#[tokio::test]
async fn agents_with_one_system_prompt_read_it_once_and_have_its_state_written_once() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chats: Vec<Chat> = (0..3).map(|n| Chat::new(&format!("agent-{n}"), 1)).collect();
    for (n, chat) in chats.iter_mut().enumerate() {
        let record = chat.turn(&rig, prompt(20 + n as u32, 30)).await;
        assert_eq!(record.n_reused, if n == 0 { 0 } else { 32 }, "agent {n}");
    }
    drain(&rig).await;
    let saved = store.saved();
    assert_eq!(states(saved.iter().copied()).len(), 1 + 2 * 3);
    assert_eq!(saved.iter().filter(|key| key.group.is_state()).count(), N_PIECES * (1 + 2 * 3));
    // Their later turns bury what is their own and leave what they share.
    for chat in &mut chats {
        chat.turn(&rig, prompt(50, 30)).await;
    }
    drain(&rig).await;
    assert_eq!(stored(&store).len(), 1 + 2 * 3);
    let mut other = Chat::new("other", 1);
    rig.close().await;
    let rig = over(&store).await;
    assert_eq!(other.turn(&rig, prompt(60, 30)).await.n_restored, 32);
    rig.close().await;
}

#[tokio::test]
async fn after_a_restart_a_turn_goes_on_from_where_the_one_before_it_would_have() {
    for dropping in [false, true] {
        let store = Arc::new(MemoryStore::default());
        let mut chat = Chat::new("a", 1);
        if dropping {
            chat = chat.dropping();
        }
        for turn in 0..6 {
            let rig = over(&store).await;
            for part in 0..2 {
                let n_turns = chat.turns.len();
                let record = chat.turn(&rig, prompt(20 + 2 * turn + part, 25)).await;
                let want = match n_turns {
                    0 => 0,
                    _ if dropping => chat.return_point(n_turns),
                    _ => chat.answer_end(n_turns),
                };
                assert_eq!(record.n_reused, want, "turn {n_turns}, thoughts dropped: {dropping}");
                let is_restored = part == 0 && n_turns > 0;
                assert_eq!(record.n_restored, if is_restored { want } else { 0 }, "turn {n_turns}");
            }
            rig.close().await;
        }
        // Of twelve turns and six processes the newest two states are there, and the system's.
        let rig = over(&store).await;
        chat.turn(&rig, prompt(99, 25)).await;
        drain(&rig).await;
        assert_eq!(stored(&store).len(), 3, "thoughts dropped: {dropping}");
        rig.close().await;
    }
}

#[tokio::test]
async fn a_state_of_which_one_piece_is_damaged_is_a_miss_with_a_reason_and_the_one_before_it_serves() {
    for piece in 0..N_PIECES {
        let store = Arc::new(MemoryStore::default());
        let rig = over(&store).await;
        let mut chat = Chat::new("a", 1);
        chat.turn(&rig, prompt(20, 40)).await;
        rig.close().await;
        let hash = store.agent("a").pop().unwrap().tail.unwrap();
        store.corrupt(BlockKey { hash, group: GroupId::state(piece) });
        let rig = over(&store).await;
        let record = chat.turn(&rig, prompt(21, 40)).await;
        assert_eq!((record.n_reused, record.n_restored), (chat.return_point(1), chat.return_point(1)));
        assert_eq!(record.restore_misses.get("corrupt"), Some(&1), "{:?}", record.restore_misses);
        rig.close().await;
    }
}

#[tokio::test]
async fn a_state_of_another_model_is_never_used() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 40)).await;
    rig.close().await;
    store.damage(|record| {
        if is_state(record) {
            record.fingerprint = [8; 32];
        }
    });
    let rig = over(&store).await;
    let record = chat.turn(&rig, prompt(21, 40)).await;
    assert_eq!(record.n_reused, 0);
    assert!(record.restore_misses.contains_key("foreign"), "{:?}", record.restore_misses);
    rig.close().await;
}

#[tokio::test]
async fn what_a_later_turn_replaces_is_never_written_and_a_drain_writes_the_newest_two() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chats = [Chat::new("a", 1).dropping(), Chat::new("b", 2)];
    for turn in 0..5 {
        for chat in &mut chats {
            chat.turn(&rig, prompt(20 + turn, 30)).await;
        }
    }
    settled(&rig).await;
    assert_eq!(written(&store).len(), 0, "nobody has rested");
    drain(&rig).await;
    assert_eq!(written(&store).len(), 2 * 3, "the system's, the return point and the answer's end of each");
    let n_pieces = N_PIECES as u16;
    let is_marked = |record: &BlockRecord| record.reason == SaveReason::Checkpoint { n_pieces };
    assert!(store.records().iter().all(|record| is_marked(record) == is_state(record)));
    assert_eq!(store.buried(), []);
    // A drain without anything new writes nothing.
    let n_saved = store.saved().len();
    drain(&rig).await;
    assert_eq!(store.saved().len(), n_saved);
    rig.close().await;
}

#[tokio::test]
async fn states_are_written_when_their_conversation_has_rested_for_five_seconds() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    rig.pass(Duration::from_secs(4));
    settled(&rig).await;
    assert_eq!(written(&store).len(), 0);
    // Another turn begins the rest anew.
    chat.turn(&rig, prompt(21, 30)).await;
    rig.pass(Duration::from_secs(4));
    settled(&rig).await;
    assert_eq!(written(&store).len(), 0);
    rig.pass(Duration::from_secs(1));
    // What the thread is asked may come before its turn.
    for _ in 0..10_000 {
        settled(&rig).await;
        if written(&store).len() == 3 {
            break;
        }
    }
    assert_eq!((written(&store).len(), stored(&store).len()), (3, 3));
    rig.see(|stats| stats.pool.held == 0).await;
    rig.close().await;
}

#[tokio::test]
async fn states_are_written_before_they_have_rested_when_somebody_needs_their_memory() {
    let store = Arc::new(MemoryStore::default());
    let model = ScriptedModel { n_blocks: 64, ..ScriptedModel::recurrent() };
    let rig = Rig::with(model, Steering::free(), keeping(&store)).await;
    let mut chats: Vec<Chat> = (0..10).map(|n| Chat::new(&format!("agent-{n}"), n)).collect();
    for (n, chat) in chats.iter_mut().enumerate() {
        chat.turn(&rig, prompt(50 + n as u32, 60)).await;
    }
    settled(&rig).await;
    assert!(!stored(&store).is_empty());
    drain(&rig).await;
    assert_eq!(written(&store).len(), 10 * 3);
    for (n, chat) in chats.iter_mut().enumerate() {
        let record = chat.turn(&rig, prompt(70 + n as u32, 10)).await;
        assert_eq!(record.n_reused, chat.answer_end(1), "agent {n}");
    }
    rig.close().await;
}

#[tokio::test]
async fn older_states_are_buried_once_the_newer_ones_are_durable_and_not_before() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    drain(&rig).await;
    let first = stored(&store);
    chat.turn(&rig, prompt(21, 30)).await;
    settled(&rig).await;
    assert_eq!((store.buried(), stored(&store)), (Vec::new(), first.clone()));
    drain(&rig).await;
    let second = stored(&store);
    let buried = states(store.buried());
    assert_eq!((second.len(), buried.len()), (3, 2));
    assert!(buried.is_subset(&first) && buried.is_disjoint(&second));
    assert_eq!(store.buried().len(), 2 * N_PIECES);
    rig.close().await;
}

#[tokio::test]
async fn an_agent_that_is_put_to_disk_leaves_memory_with_its_states_and_comes_back() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    chat.turn(&rig, prompt(21, 30)).await;
    let evicted = rig.handle.evict_agent("a", OfModels::All).await.unwrap().unwrap();
    assert_eq!((evicted.sum.resident_tokens, evicted.sum.saved_tokens), (0, chat.answer_end(2)));
    rig.see(|stats| stats.pool.checkpoints == 0 && stats.pool.held == 0).await;
    let record = chat.turn(&rig, prompt(22, 30)).await;
    assert_eq!((record.n_reused, record.n_restored), (chat.answer_end(2), chat.answer_end(2)));
    rig.close().await;
}

#[tokio::test]
async fn saved_tokens_end_at_the_last_state_that_is_whole_on_disk() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    let saved = async || rig.handle.agent("a").await.unwrap().unwrap().sum.saved_tokens;
    assert_eq!(saved().await, 0, "its blocks are there, and no state");
    drain(&rig).await;
    assert_eq!(saved().await, chat.answer_end(1));
    let manifest = store.agent("a").pop().unwrap();
    let give_up = |hash: ChainHash| {
        let is_its = |record: &BlockRecord| is_state(record) && record.key.hash == hash;
        let piece = store.records().into_iter().filter(is_its).nth(1).unwrap();
        store.give_up_block(&piece.key);
    };
    give_up(manifest.tail.unwrap());
    assert_eq!(saved().await, chat.return_point(1));
    give_up(manifest.blocks[chat.return_point(1) / BLOCK - 1]);
    assert_eq!(saved().await, 32, "the system's");
    rig.close().await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_up_nobody_and_has_the_newest_states_when_it_does_again() {
    let store = Arc::new(MemoryStore::default());
    let model = ScriptedModel { n_blocks: 64, ..ScriptedModel::recurrent() };
    let rig = Rig::with(model, Steering::free(), keeping(&store)).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    store.set_trouble(Some(Trouble::DiskFull));
    for turn in 0..4 {
        chat.turn(&rig, prompt(21 + turn, 30)).await;
        Chat::new(&format!("other-{turn}"), 2 + turn).turn(&rig, prompt(60, 60)).await;
    }
    rig.pass(Duration::from_secs(6));
    rig.see(|stats| stats.store.trouble == Some(Trouble::DiskFull) && stats.pool.held == 0).await;
    assert_eq!(written(&store).len(), 0);
    store.set_trouble(None);
    rig.see(|stats| stats.store.trouble.is_none()).await;
    drain(&rig).await;
    let record = chat.turn(&rig, prompt(40, 30)).await;
    drain(&rig).await;
    assert!(stored(&store).len() >= 3, "{record:?}");
    rig.close().await;
    let rig = over(&store).await;
    let n_turns = chat.turns.len();
    let record = chat.turn(&rig, prompt(41, 30)).await;
    assert_eq!(record.n_restored, chat.answer_end(n_turns));
    rig.close().await;
}

#[tokio::test]
async fn a_state_that_trouble_interrupts_on_its_way_is_written_whole_afterwards() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    settled(&rig).await;
    // The queue takes nothing, then the disk does not.
    store.set_full(true);
    rig.pass(Duration::from_secs(6));
    settled(&rig).await;
    store.set_trouble(Some(Trouble::Io));
    store.set_full(false);
    rig.see(|stats| stats.store.trouble.is_some() && stats.pool.held == 0).await;
    assert_eq!(stored(&store).len(), 0);
    store.set_trouble(None);
    rig.see(|stats| stats.store.trouble.is_none()).await;
    drain(&rig).await;
    assert_eq!(stored(&store).len(), 3);
    rig.close().await;
}

#[tokio::test]
async fn states_whose_files_are_lost_are_written_again() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    drain(&rig).await;
    let before = stored(&store);
    store.lose(|key| key.group.is_state() && key.group.idx() == 2);
    drain(&rig).await;
    assert_eq!(stored(&store), before);
    rig.close().await;
}

#[tokio::test]
async fn a_deleted_agent_leaves_no_state_on_disk_or_in_memory() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    drain(&rig).await;
    chat.turn(&rig, prompt(21, 30)).await;
    assert!(rig.handle.forget_agent("a", OfModels::All).await.unwrap());
    drain(&rig).await;
    assert_eq!(store.records(), []);
    rig.see(|stats| stats.pool.checkpoints == 0 && stats.pool.held == 0).await;
    rig.close().await;
}

#[tokio::test]
async fn a_pinned_agents_newest_states_stay_in_memory_with_its_blocks() {
    let store = Arc::new(MemoryStore::default());
    let model = ScriptedModel { n_blocks: 64, ..ScriptedModel::recurrent() };
    let rig = Rig::with(model, Steering::free(), keeping(&store)).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    rig.handle.pin_agent("a", OfModels::All).await.unwrap();
    for turn in 0..8 {
        Chat::new(&format!("other-{turn}"), 2 + turn).turn(&rig, prompt(60, 100)).await;
    }
    let pinned = rig.handle.agent("a").await.unwrap().unwrap().sum;
    assert_eq!((pinned.resident_tokens, pinned.pinned_tokens), (chat.answer_end(1), chat.answer_end(1)));
    let record = chat.turn(&rig, prompt(21, 30)).await;
    assert_eq!((record.n_reused, record.n_restored), (chat.answer_end(1), 0));
    rig.close().await;
}

#[tokio::test]
async fn at_a_drains_deadline_what_runs_leaves_nothing_but_what_it_came_by() {
    let store = Arc::new(MemoryStore::default());
    let config = EngineConfig { prefill_chunk: BLOCK, ..keeping(&store) };
    let rig = Rig::with(ScriptedModel::recurrent(), Steering::free(), config).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    drain(&rig).await;
    let before = written(&store).len();
    rig.steering.hold_steps();
    let stream = rig.ask(Request { max_tokens: Some(1000), ..chat.request(&prompt(21, 30)) });
    for _ in 0..6 {
        rig.steering.let_run();
    }
    rig.steering.held_step();
    rig.handle.begin_drain(After::Park, HOUR);
    rig.steering.let_run();
    rig.reach("draining").await;
    rig.pass(HOUR + Duration::from_secs(1));
    rig.steering.free_steps();
    assert!(outcome(stream).await.end.is_err());
    rig.reach("parked").await;
    assert_eq!(written(&store).len(), before + 1, "the return point, and no end of an answer");
    rig.close().await;
}

#[tokio::test]
async fn helpers_of_an_agent_with_another_system_do_not_take_its_states_from_disk() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let mut chat = Chat::new("a", 1);
    chat.turn(&rig, prompt(20, 30)).await;
    Chat::new("a", 2).turn(&rig, prompt(21, 30)).await;
    chat.turn(&rig, prompt(22, 30)).await;
    Chat::new("a", 2).turn(&rig, prompt(23, 30)).await;
    drain(&rig).await;
    assert_eq!(stored(&store).len(), 2 * 3);
    rig.close().await;
    let rig = over(&store).await;
    assert_eq!(chat.turn(&rig, prompt(24, 30)).await.n_restored, chat.answer_end(2));
    rig.close().await;
}

#[tokio::test]
async fn chats_without_a_name_that_begin_alike_keep_their_own_states() {
    let store = Arc::new(MemoryStore::default());
    let rig = over(&store).await;
    let unnamed = || Chat { agent: None, ..Chat::new("", 1) }.dropping();
    let mut chats = [unnamed(), unnamed()];
    for turn in 0..3 {
        for (n, chat) in chats.iter_mut().enumerate() {
            let salt = if turn == 0 { 20 } else { 30 + 10 * turn + n as u32 };
            chat.turn(&rig, prompt(salt, 30)).await;
        }
    }
    drain(&rig).await;
    rig.close().await;
    let rig = over(&store).await;
    for (n, chat) in chats.iter_mut().enumerate() {
        let record = chat.turn(&rig, prompt(90 + n as u32, 30)).await;
        assert_eq!(record.n_restored, chat.return_point(3), "chat {n}");
    }
    rig.close().await;
}

#[tokio::test]
async fn what_is_not_worth_writing_has_no_state_on_disk() {
    let store = Arc::new(MemoryStore::default());
    store.spare_anonymous();
    let rig = over(&store).await;
    let mut chat = Chat { agent: None, ..Chat::new("", 1) };
    chat.turn(&rig, prompt(20, 30)).await;
    let record = chat.turn(&rig, prompt(21, 30)).await;
    assert_eq!(record.n_reused, chat.answer_end(1), "it is cache all the same");
    drain(&rig).await;
    assert_eq!(store.records(), []);
    rig.close().await;
}
