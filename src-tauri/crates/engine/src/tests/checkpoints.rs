//! States of recurrent layers: every turn goes on from the nearest one that is kept, and is told what another would have
//! saved.

use super::chats::*;
use super::rig::*;
use crate::testing::{Script, ScriptedModel, Steering};
use crate::{CheckpointUse, DifferenceReason, EngineConfig, Request};

#[tokio::test]
async fn every_turn_goes_on_from_the_end_of_the_answer_before_it() {
    let rig = Rig::new(ScriptedModel::recurrent()).await;
    let mut chat = Chat::new("a", 1);
    for turn in 0..12 {
        let record = chat.turn(&rig, prompt(20 + turn, 10 + turn as usize)).await;
        let want = if turn == 0 { 0 } else { chat.answer_end(turn as usize) };
        let use_of = CheckpointUse { n_tokens: want, n_without_state: 0, n_skipped: 0 };
        assert_eq!((record.n_reused, record.checkpoint), (want, Some(use_of)), "turn {turn}");
    }
    rig.close().await;
}

#[tokio::test]
async fn where_thoughts_are_dropped_every_turn_goes_back_to_the_point_before_the_answer() {
    let rig = Rig::new(ScriptedModel::recurrent()).await;
    let mut chat = Chat::new("a", 1).dropping();
    for turn in 0..12 {
        let record = chat.turn(&rig, prompt(20 + turn, 10 + turn as usize)).await;
        let want = if turn == 0 { 0 } else { chat.return_point(turn as usize) };
        assert_eq!(record.n_reused, want, "turn {turn}");
        assert_eq!(record.checkpoint.unwrap().n_without_state, 0, "turn {turn}");
    }
    rig.close().await;
}

#[tokio::test]
async fn an_edited_turn_goes_back_to_the_state_before_it_and_is_told_what_that_cost() {
    let rig = Rig::new(ScriptedModel::recurrent()).await;
    let mut chat = Chat::new("a", 1);
    for turn in 0..4 {
        chat.turn(&rig, prompt(20 + turn, 80)).await;
    }
    // Another question in place of the last one.
    let mut edited = chat.clone();
    edited.turns.pop();
    let record = edited.turn(&rig, prompt(90, 80)).await;
    assert_eq!(record.n_reused, chat.answer_end(3));
    assert_eq!(record.difference.unwrap().why, DifferenceReason::Changed);
    // A word changed within what was said last: nothing was kept there.
    let mut reworded = chat.clone();
    let (mut says, _) = reworded.turns.pop().unwrap();
    says[60] += 1;
    let record = reworded.turn(&rig, says).await;
    let n_there = chat.n_tokens(3) + 60;
    let use_of = record.checkpoint.unwrap();
    assert_eq!(use_of.n_tokens, chat.answer_end(3));
    assert_eq!(use_of.n_tokens + use_of.n_without_state, n_there - n_there % BLOCK);
    assert!(use_of.n_without_state > BLOCK);
    let difference = record.difference.unwrap();
    assert_eq!(
        (difference.why, difference.n_missed),
        (DifferenceReason::NoCheckpoint, use_of.n_without_state)
    );
    rig.close().await;
}

#[tokio::test]
async fn a_sequence_that_gives_way_goes_on_with_the_right_state() {
    let model = ScriptedModel { n_blocks: 40, ..ScriptedModel::recurrent() };
    let rig = Rig::with(model, Steering::holding_steps(), EngineConfig::default()).await;
    let ask = |n: u32| Request {
        max_tokens: Some(150),
        ..Chat::new(&n.to_string(), n).request(&prompt(20 + n, 20))
    };
    let streams: Vec<_> = (0..4).map(|n| rig.ask(ask(n))).collect();
    rig.steering.held_step();
    rig.steering.free_steps();
    for (n, stream) in (0..4).zip(streams) {
        let want = Script::Hash.answer(ask(n).prompt.tokens(), 150);
        assert_eq!(outcome(stream).await.tokens, want, "sequence {n}");
    }
    assert!(rig.handle.stats().totals.preemptions > 0);
    rig.close().await;
}

#[tokio::test]
async fn places_for_which_there_is_no_room_are_told() {
    let model = ScriptedModel { n_blocks: 16, ..ScriptedModel::recurrent() };
    let rig = Rig::new(model).await;
    let record = Chat::new("a", 1).turn(&rig, prompt(20, 60)).await;
    let n_skipped = record.checkpoint.unwrap().n_skipped;
    assert!(n_skipped > 0, "{record:?}");
    rig.see(|stats| stats.totals.checkpoints_skipped == n_skipped as u64).await;
    rig.close().await;
}
