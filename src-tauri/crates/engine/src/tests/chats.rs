//! Chats with a scripted model that has recurrent layers, as clients and templates write them.

use std::collections::BTreeSet;
use std::sync::Arc;

use scheduler::{StatePoints, TokenId};
use store::{BlockKey, BlockStore, ChainHash};

use super::rig::*;
use crate::testing::{MemoryStore, Script, ScriptedModel, Steering};
use crate::{After, EngineConfig, PromptNotes, Request, RequestRecord};

/// Tokens of a block of the scripted models.
pub(super) const BLOCK: usize = 16;
/// Pieces of a state of [`ScriptedModel::recurrent`].
pub(super) const N_PIECES: usize = 3;
/// What a template writes to have an answer generated.
pub(super) const OPENING: [TokenId; 3] = [58, 59, 58];
/// Tokens of each answer; the first ones are thoughts.
pub(super) const N_ANSWER: usize = 20;
pub(super) const N_THOUGHTS: usize = 12;

/// What a template does with earlier answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoughts {
    Kept,
    Dropped,
}

/// A chat as a client has it.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    pub(super) agent: Option<String>,
    pub(super) thoughts: Thoughts,
    pub(super) system: Vec<TokenId>,
    /// What the user said, and the answer.
    pub(super) turns: Vec<(Vec<TokenId>, Vec<TokenId>)>,
}

impl Chat {
    pub(super) fn new(agent: &str, system: u32) -> Chat {
        Chat {
            agent: Some(agent.to_owned()),
            thoughts: Thoughts::Kept,
            system: prompt(system, 40),
            turns: Vec::new(),
        }
    }

    pub(super) fn dropping(self) -> Chat {
        Chat { thoughts: Thoughts::Dropped, ..self }
    }

    /// The prompt of a new turn, with where later ones come back to.
    pub(super) fn request(&self, says: &[TokenId]) -> Request {
        let mut tokens = self.system.clone();
        let mut spliced = Vec::new();
        for (user, answer) in &self.turns {
            tokens.extend(user.iter().chain(&OPENING));
            let kept = &answer[if self.thoughts == Thoughts::Dropped { N_THOUGHTS } else { 0 }..];
            spliced.push(tokens.len()..tokens.len() + kept.len());
            tokens.extend(kept);
        }
        tokens.extend(says);
        let end = tokens.len();
        tokens.extend(OPENING);
        let state_points = StatePoints {
            system_end: Some(self.system.len()),
            return_point: Some(tokens.len()),
            generation_start: Some(end),
        };
        let notes = PromptNotes { message_ends: vec![end], state_points, spliced, ..PromptNotes::default() };
        Request { notes, agent: self.agent.clone(), ..greedy(tokens, N_ANSWER) }
    }

    /// A turn, whose answer must be the right one.
    pub(super) async fn turn(&mut self, rig: &Rig, says: Vec<TokenId>) -> RequestRecord {
        let request = self.request(&says);
        let tokens = request.prompt.tokens().to_vec();
        let answer = rig.answer(request).await;
        answer.end.unwrap();
        assert_eq!(answer.tokens, Script::Hash.answer(&tokens, N_ANSWER), "after {} tokens", tokens.len());
        self.turns.push((says, answer.tokens));
        rig.handle.last_record().unwrap()
    }

    /// Tokens of the system's message and the first so many turns, as they stand in a later prompt.
    pub(super) fn n_tokens(&self, n_turns: usize) -> usize {
        let n_kept = if self.thoughts == Thoughts::Dropped { N_ANSWER - N_THOUGHTS } else { N_ANSWER };
        let turns = self.turns[..n_turns].iter();
        self.system.len() + turns.map(|(user, _)| user.len() + OPENING.len() + n_kept).sum::<usize>()
    }

    /// The point to which the turn after the first so many goes back.
    pub(super) fn return_point(&self, n_turns: usize) -> usize {
        // What has an answer generated stands before every answer.
        let at = self.n_tokens(n_turns - 1) + self.turns[n_turns - 1].0.len() + OPENING.len();
        at - at % BLOCK
    }

    /// The end of the answer of the turn after that.
    pub(super) fn answer_end(&self, n_turns: usize) -> usize {
        let at = self.n_tokens(n_turns - 1) + self.turns[n_turns - 1].0.len();
        // The last token sampled was never computed.
        at + OPENING.len() + N_ANSWER - 1
    }
}

pub(super) fn keeping(store: &Arc<MemoryStore>) -> EngineConfig {
    EngineConfig { store: Arc::clone(store) as Arc<dyn BlockStore>, ..EngineConfig::default() }
}

pub(super) async fn over(store: &Arc<MemoryStore>) -> Rig {
    Rig::with(ScriptedModel::recurrent(), Steering::free(), keeping(store)).await
}

/// The engine has looked at everything that it was told before.
pub(super) async fn settled(rig: &Rig) {
    for _ in 0..3 {
        rig.handle.load().await.unwrap_err();
    }
}

/// Have everything written that is due, and go on.
pub(super) async fn drain(rig: &Rig) {
    rig.handle.drain(After::Park, HOUR).await.unwrap();
    rig.handle.resume().await.unwrap();
    settled(rig).await;
}

pub(super) fn states(keys: impl IntoIterator<Item = BlockKey>) -> BTreeSet<ChainHash> {
    keys.into_iter().filter(|key| key.group.is_state()).map(|key| key.hash).collect()
}

/// States of which something was ever written.
pub(super) fn written(store: &MemoryStore) -> BTreeSet<ChainHash> {
    states(store.saved())
}

/// States that can be restored whole.
pub(super) fn stored(store: &MemoryStore) -> BTreeSet<ChainHash> {
    let keys: Vec<BlockKey> = store.records().into_iter().map(|record| record.key).collect();
    let all = states(keys.iter().copied());
    let n_pieces =
        |hash: &ChainHash| keys.iter().filter(|key| key.group.is_state() && key.hash == *hash).count();
    all.into_iter().filter(|hash| n_pieces(hash) == N_PIECES).collect()
}
