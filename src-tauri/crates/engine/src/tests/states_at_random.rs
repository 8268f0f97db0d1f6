//! Whatever is done to agents of a model with recurrent layers, in whatever order: their answers are right.

use std::sync::Arc;
use std::time::Duration;

use store::{OfModels, Trouble};

use super::chats::*;
use super::rig::*;
use crate::testing::{MemoryStore, Script, ScriptedModel, Steering};

/// A small generator of numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

#[tokio::test]
async fn many_agents_in_a_small_pool_get_the_right_answers_whatever_is_done_to_them() {
    for seed in 1..=6 {
        let mut dice = Dice(seed);
        let store = Arc::new(MemoryStore::default());
        let window = (seed % 2 == 0).then_some(40);
        let is_on_device = seed % 3 == 0;
        let model = || ScriptedModel { n_blocks: 72, window, is_on_device, ..ScriptedModel::recurrent() };
        let mut rig = Rig::with(model(), Steering::free(), keeping(&store)).await;
        let mut chats: Vec<Chat> = (0..5)
            .map(|n| {
                let chat = Chat::new(&format!("agent-{n}"), n / 2);
                if n % 2 == 0 { chat.dropping() } else { chat }
            })
            .collect();
        let mut is_in_trouble = false;
        for round in 0..120 {
            let n = dice.throw(chats.len());
            let name = chats[n].agent.clone().unwrap();
            match dice.throw(16) {
                0 => drop(rig.handle.evict_agent(&name, OfModels::All).await.unwrap()),
                1 => {
                    rig.handle.forget_agent(&name, OfModels::All).await.unwrap();
                    chats[n].turns.clear();
                }
                2 => drop(rig.handle.pin_agent(&name, OfModels::All).await.unwrap()),
                3 => drop(rig.handle.unpin_agent(&name, OfModels::All).await.unwrap()),
                4 => {
                    is_in_trouble = !is_in_trouble;
                    store.set_trouble(is_in_trouble.then_some(Trouble::Io));
                }
                5 => rig.pass(Duration::from_secs(6)),
                6 => {
                    let n_left = dice.throw(chats[n].turns.len() + 1);
                    chats[n].turns.truncate(n_left);
                }
                7 => {
                    let piece = dice.throw(N_PIECES);
                    store.lose(|key| key.group.is_state() && key.group.idx() == piece);
                }
                8 => {
                    rig.close().await;
                    rig = Rig::with(model(), Steering::free(), keeping(&store)).await;
                }
                _ => {
                    let together: Vec<usize> = (0..chats.len()).filter(|_| dice.throw(2) == 0).collect();
                    let says = |n: usize| prompt(100 + round * 7 + n as u32, 5 + (round as usize + n) % 30);
                    let asked: Vec<_> = together
                        .iter()
                        .map(|&n| {
                            if chats[n].turns.len() > 5 {
                                chats[n].turns.clear();
                            }
                            let request = chats[n].request(&says(n));
                            let want = Script::Hash.answer(request.prompt.tokens(), N_ANSWER);
                            (n, want, rig.ask(request))
                        })
                        .collect();
                    for (n, want, stream) in asked {
                        let answer = outcome(stream).await;
                        answer.end.unwrap();
                        assert_eq!(answer.tokens, want, "seed {seed}, round {round}, agent {n}");
                        chats[n].turns.push((says(n), answer.tokens));
                    }
                }
            }
        }
        store.set_trouble(None);
        rig.close().await;
    }
}
