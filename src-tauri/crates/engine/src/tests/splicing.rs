//! The next turn of a conversation computes what is new and nothing of the model's own last answer.

use scheduler::TokenId;
use text::{Chat, ChatMessage};

use super::rig::*;
use crate::testing::{Script, ScriptedModel, Steering, chatml_text, trimming_text};
use crate::{EngineConfig, PromptNotes, Request, Sampling};

/// A conversation with a scripted model.
struct Conversation {
    rig: Rig,
    chat: Chat,
}

/// One turn of it.
struct Turn {
    prompt: Vec<TokenId>,
    answer: Outcome,
}

impl Conversation {
    async fn new(model: ScriptedModel) -> Conversation {
        let chat = Chat { add_generation_prompt: true, ..Chat::default() };
        Conversation { rig: Rig::new(model).await, chat }
    }

    /// Ask, and put the answer's text into the conversation as a client does.
    async fn turn(&mut self, question: &str, with: impl FnOnce(Request) -> Request) -> Turn {
        self.chat.messages.push(ChatMessage::new("user", question));
        let card = self.rig.handle.card().unwrap();
        let prompt = self.rig.handle.encode_chat(&card, &self.chat, &|| false).unwrap();
        let request = Request { notes: prompt.notes, ..greedy(prompt.tokens.clone(), 100) };
        let answer = self.rig.answer(with(request)).await;
        self.chat.messages.push(ChatMessage::new("assistant", answer.text.clone()));
        Turn { prompt: prompt.tokens, answer }
    }
}

/// Two turns; the second must be taken up where the first ended. `cut`: generated tokens that cannot be reused,
/// for they were cut, trimmed, or sampled last and never computed.
async fn check(model: ScriptedModel, cut: usize, with: impl Fn(Request) -> Request) {
    let text = (model.text)();
    let mut conversation = Conversation::new(model).await;
    let first = conversation.turn("Tell me about the other thing.", &with).await;
    let shown = &first.answer.tokens[..first.answer.tokens.len() - cut];
    let retold = text.encode_plain(&first.answer.text);
    assert!(!retold.starts_with(shown), "the text tokenises as it was generated, so this shows nothing");

    let second = conversation.turn("Go on.", &with).await;
    let earlier = [&first.prompt[..], shown].concat();
    assert!(second.prompt.starts_with(&earlier), "{:?} {:?}", first.answer, second.prompt);
    assert_eq!(second.answer.usage.n_reused, earlier.len(), "{:?}", second.answer.usage);
    let record = conversation.rig.handle.records().pop().unwrap();
    assert!((shown.len()..=shown.len() + cut).contains(&record.n_spliced), "{record:?}");
    assert_eq!(record.n_prefilled, second.prompt.len() - earlier.len());
    conversation.rig.close().await;
}

fn says(text: &str) -> ScriptedModel {
    ScriptedModel { script: Script::Says(text.to_owned()), ..letters() }
}

/// A model whose answers are letters.
fn letters() -> ScriptedModel {
    ScriptedModel { text: chatml_text, ..ScriptedModel::default() }
}

fn stopping(request: Request) -> Request {
    Request { stop: vec!["END".to_owned()], ..request }
}

#[tokio::test]
async fn the_next_turn_computes_only_what_is_new_though_the_answer_tokenises_otherwise() {
    for window in [None, Some(40)] {
        check(ScriptedModel { window, ..says("then the moth and the other thing") }, 0, |r| r).await;
    }
}

#[tokio::test]
async fn the_same_holds_when_the_answer_was_sampled() {
    let sampled = |request: Request| Request {
        sampling: Sampling {
            temperature: 1.0,
            seed: Some(7),
            // A vocabulary of bytes has one word that is spelt in two ways.
            logit_bias: vec![(116, 4.0), (104, 4.0)],
            ..Sampling::default()
        },
        ..request
    };
    // It ends by its length, so that its last token was never computed.
    check(letters(), 1, sampled).await;
}

#[tokio::test]
async fn the_same_holds_when_a_stop_string_cut_the_answer() {
    // The three tokens of the stop string are generated and not shown.
    check(says("the moth END and more"), 3, stopping).await;
}

#[tokio::test]
async fn the_same_holds_when_the_template_trims_the_answer() {
    check(ScriptedModel { text: trimming_text, ..says("the moth. \n") }, 2, |r| r).await;
    // Cut by a stop string, and then trimmed.
    check(ScriptedModel { text: trimming_text, ..says("the moth.\nEND") }, 4, stopping).await;
}

#[tokio::test]
async fn an_answer_that_the_client_changed_is_reused_up_to_the_change() {
    let mut conversation = Conversation::new(says("the moth and the lamp")).await;
    let first = conversation.turn("hi", |r| r).await;
    conversation.chat.messages[1].content = "the moth and the flame".to_owned();
    let second = conversation.turn("and?", |r| r).await;
    let kept = first.prompt.len() + "the moth and the ".len();
    assert!(second.prompt.starts_with(&[&first.prompt[..], &first.answer.tokens[..17]].concat()));
    assert_eq!(second.answer.usage.n_reused, kept);
    conversation.rig.close().await;
}

#[tokio::test]
async fn what_is_spliced_spells_what_was_sent_whoever_sends_it() {
    let mut conversation = Conversation::new(says("the moth")).await;
    conversation.turn("hi", |r| Request { agent: Some("one".to_owned()), ..r }).await;
    let second = conversation.turn("and?", |r| Request { agent: Some("two".to_owned()), ..r }).await;
    let text = chatml_text();
    let spelt: Vec<u8> = second.prompt.iter().flat_map(|&t| text.token_bytes(t)).copied().collect();
    let mut chat = conversation.chat.clone();
    chat.messages.pop();
    let rendered = text.render_chat(&chat).unwrap();
    // Control tokens have no bytes.
    assert_eq!(String::from_utf8(spelt).unwrap(), rendered.replace("<|end|>", "").replace("<|start|>", ""));
    conversation.rig.close().await;
}

#[tokio::test]
async fn a_sliding_window_is_taken_up_where_a_message_ended() {
    let reused = async |with_notes: bool| {
        // A prompt takes 34 blocks of the whole and as many of the window, most of which give way to others.
        let model = ScriptedModel { window: Some(40), n_blocks: 52, ..letters() };
        let rig = Rig::with(model, Steering::free(), EngineConfig::default()).await;
        let system = "be brief ".repeat(30);
        let ask = |question: &str| {
            let messages = vec![ChatMessage::new("system", &*system), ChatMessage::new("user", question)];
            let chat = Chat { messages, add_generation_prompt: true, ..Chat::default() };
            let prompt = rig.handle.encode_chat(&rig.handle.card().unwrap(), &chat, &|| false).unwrap();
            let notes = if with_notes { prompt.notes } else { PromptNotes::default() };
            rig.answer(Request { notes, ..greedy(prompt.tokens, 4) })
        };
        ask(&"one question ".repeat(20)).await;
        let other = ask(&"quite another ".repeat(20)).await;
        rig.close().await;
        (other.usage.n_reused, system.len())
    };
    let ((with, n_system), (without, _)) = (reused(true).await, reused(false).await);
    assert!(with >= n_system, "{with} of a system prompt of {n_system}");
    assert!(without < n_system, "{without}: the kept window makes no difference");
}

#[tokio::test]
async fn a_raw_prompt_that_goes_on_with_an_answer_computes_only_what_is_new() {
    let rig = Rig::new(says("then the moth and the other thing")).await;
    let card = rig.handle.card().unwrap();
    let ask = async |text: &str| {
        let prompt = rig.handle.encode_raw(&card, text, &|| false).unwrap();
        let request = Request { notes: prompt.notes, ..greedy(prompt.tokens.clone(), 100) };
        (prompt.tokens, rig.answer(request).await)
    };
    let (prompt, first) = ask("<|start|>Once there was a moth, ").await;
    let retold = card.text.encode_plain(&first.text);
    assert_ne!(retold, first.tokens, "the text tokenises as it was generated, so this shows nothing");

    let (next, second) = ask(&format!("<|start|>Once there was a moth, {} and so on", first.text)).await;
    let earlier = [&prompt[..], &first.tokens].concat();
    assert!(next.starts_with(&earlier), "{earlier:?} {next:?}");
    assert_eq!(second.usage.n_reused, earlier.len());
    assert_eq!(rig.handle.last_record().unwrap().n_spliced, first.tokens.len());

    // Where something else follows, the text is cut as if nothing had been answered.
    let other = "<|start|>Once there was a moth, then the other moth and the thing";
    assert_eq!(ask(other).await.0, card.text.encode_raw(other));
    rig.close().await;
}
