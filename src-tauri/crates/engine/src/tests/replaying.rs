//! What a model wrote (thoughts, text, calls) is found again by what it says, in whatever words a client sends it back.

use std::sync::Arc;

use serde_json::{Value, json};
use store::BlockStore;
use text::{
    AnswerPart, AnswerReading, Begins, Chat, ChatMessage, PartDigest, PartValue, TextModel, TokenId, Tool,
    ToolCall,
};

use super::rig::*;
use crate::testing::{MemoryStore, START, Script, ScriptedModel, Steering, text_with_template};
use crate::{DifferenceReason, EngineConfig, PromptPlace, Request, RequestRecord};

/// A template in the manner of ChatML that shows its tools, and all of an answer: thoughts, text, and calls as Hermes
/// writes them.
fn with_tools() -> TextModel {
    text_with_template(
        "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|start|>{{ m.role }}\n\
         {% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\
         {% for c in m.tool_calls %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": \
         {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

fn tools() -> Vec<Tool> {
    vec![Tool { name: "look".into(), parameters: Some(json!({"type": "object"})), ..Tool::default() }]
}

/// A generator: linear congruential, which is enough for choices in tests.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn words(&mut self) -> String {
        let all = [
            "the moth",
            " with  those",
            "\n\nthen",
            " é",
            "<tool_call>",
            " {\"a\": 1}",
            " 1.0",
            "</thin",
            "th",
        ];
        (0..1 + self.below(4)).map(|_| self.of(&all)).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => json!(self.words()),
            1 => json!(self.below(1000)),
            2 => json!(self.below(1000) as f64 / 8.0),
            3 => json!(true),
            4 => Value::Null,
            5 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                Value::Object((0..self.below(3)).map(|i| (format!("th{i}"), self.value(depth - 1))).collect())
            }
        }
    }

    /// An answer as a model may write it.
    fn answer(&mut self) -> String {
        let mut answer = String::new();
        if self.below(2) == 0 {
            answer += &format!("<think>\n{}\n</think>\n\n", self.words());
        }
        let n_calls = self.below(3);
        if n_calls == 0 || self.below(2) == 0 {
            answer += &self.words();
        }
        for _ in 0..n_calls {
            let arguments: serde_json::Map<String, Value> =
                (0..self.below(4)).map(|i| (format!("with{i}"), self.value(2))).collect();
            let arguments = Value::Object(arguments);
            let arguments = if self.below(2) == 0 {
                arguments.to_string()
            } else {
                serde_json::to_string_pretty(&arguments).unwrap()
            };
            let space = self.of(&["\n", "\n\n", "", " "]);
            answer += &format!(
                "{space}<tool_call>\n{{\"name\":\"look\", \"arguments\":  {arguments}}}\n</tool_call>"
            );
        }
        answer + self.of(&["", "\n", " \n\n"])
    }

    /// The same values in other words; now and then other values.
    fn rewritten(&mut self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut members: Vec<(String, Value)> =
                    members.iter().map(|(key, value)| (key.clone(), self.rewritten(value))).collect();
                if self.below(2) == 0 {
                    members.reverse();
                }
                Value::Object(members.into_iter().collect())
            }
            Value::Array(values) => values.iter().map(|value| self.rewritten(value)).collect(),
            Value::Number(_) if self.below(20) == 0 => json!(self.below(1000)),
            Value::Number(number) => json!(number.as_f64().unwrap()),
            Value::Null if self.below(20) == 0 => json!(false),
            other => other.clone(),
        }
    }
}

/// How answers of the model are read.
fn reading(text: &TextModel) -> AnswerReading {
    let form = Arc::clone(text.answer_form().unwrap());
    AnswerReading { form, tools: tools().into(), begins: Begins::Text }
}

/// An answer as a client has it.
fn message(text: &TextModel, answer: &str) -> ChatMessage {
    let mut message = ChatMessage::new("assistant", "");
    for part in reading(text).parts(answer).parts {
        match part.value {
            PartValue::Text(text) => message.content += &text,
            PartValue::Thoughts(text) => message.thinking = Some(text),
            PartValue::Call { name, arguments } => {
                let id = format!("call_{}", message.tool_calls.len());
                message.tool_calls.push(ToolCall { id, name, arguments });
            }
        }
    }
    message
}

/// What a prompt says: its messages, an answer's by the values of its parts, any other's byte for byte.
fn meaning(text: &TextModel, prompt: &[TokenId]) -> Vec<Result<Vec<PartDigest>, String>> {
    let written = String::from_utf8(text.raw_text(prompt)).unwrap();
    let messages = written.split("<|start|>");
    messages
        .map(|message| match message.strip_prefix("assistant\n") {
            Some(answer) => {
                let answer = answer.split("<|end|>").next().unwrap();
                Ok(reading(text).parts(answer).parts.iter().map(AnswerPart::digest).collect())
            }
            None => Err(message.to_owned()),
        })
        .collect()
}

fn model(text: fn() -> TextModel, answers: &[String]) -> ScriptedModel {
    let opening = [vec![START], text().encode_plain("assistant\n")].concat();
    // Byte by byte: the vocabulary would write `th` as one token.
    let answers = answers.iter().map(|answer| answer.bytes().map(TokenId::from).collect()).collect();
    let script = Script::Plays { opening, answers };
    ScriptedModel { script, text, n_blocks: 1024, max_context: 16_000, ..ScriptedModel::default() }
}

/// A conversation, and what is asked in it.
struct Conversation {
    rig: Rig,
    chat: Chat,
}

impl Conversation {
    async fn new(model: ScriptedModel, config: EngineConfig) -> Conversation {
        let chat = Chat { add_generation_prompt: true, tools: tools(), ..Chat::default() };
        Conversation { rig: Rig::with(model, Steering::free(), config).await, chat }
    }

    /// Asks, and gives the prompt, the answer and the request's record.
    async fn ask(&self, agent: Option<&str>) -> (Vec<TokenId>, Outcome, RequestRecord) {
        let card = self.rig.handle.card().unwrap();
        let prompt = self.rig.handle.encode_chat(&card, &self.chat, &|| false).unwrap();
        let request = greedy(prompt.tokens.clone(), 3000);
        let agent = agent.map(str::to_owned);
        let answer = self.rig.answer(Request { notes: prompt.notes, agent, ..request }).await;
        (prompt.tokens, answer, self.rig.handle.last_record().unwrap())
    }
}

#[tokio::test]
async fn whatever_a_client_makes_of_answers_a_prompt_says_what_it_sent() {
    let mut n_spliced = 0;
    for seed in 0..25 {
        let mut choices = Choices(seed * 7919 + 1);
        let answers: Vec<String> = (0..6).map(|_| choices.answer()).collect();
        let mut talk = Conversation::new(model(with_tools, &answers), EngineConfig::default()).await;
        let text = with_tools();
        for n in 0..answers.len() {
            talk.chat.messages.push(ChatMessage::new("user", format!("and the {n}th? {}", choices.words())));
            let (prompt, answer, record) = talk.ask(None).await;
            let plain = text.encode_chat(&talk.chat).unwrap();
            assert_eq!(meaning(&text, &prompt), meaning(&text, &plain), "seed {seed}: {:?}", talk.chat);
            n_spliced += record.n_spliced;
            let mut said = message(&text, &answer.text);
            for call in &mut said.tool_calls {
                let arguments = serde_json::from_str(&call.arguments).unwrap();
                call.arguments = choices.rewritten(&arguments).to_string();
            }
            match choices.below(12) {
                0 => said.content.push('!'),
                1 => said.thinking = None,
                2 => said.tool_calls.reverse(),
                // Words of another answer, which stand at another place then.
                3 if n > 0 => said = message(&text, &answers[n - 1]),
                _ => {}
            }
            talk.chat.messages.push(said);
        }
        talk.rig.close().await;
    }
    assert!(n_spliced > 8_000, "{n_spliced}: this shows nothing");
}

#[tokio::test]
async fn a_turn_computes_only_what_is_new_though_its_calls_come_back_in_other_words() {
    let answer = "<think>\nThe path, then.\n</think>\n\nI look\n\n<tool_call>\n{\"name\": \"look\", \"arguments\": \
                  {\"path\":\"the/é\",  \"with\": [1,2.50, {\"b\":null,\"a\":\"\\u0074h\"}]}}\n</tool_call>\n";
    let mut talk = Conversation::new(model(with_tools, &[answer.to_owned()]), EngineConfig::default()).await;
    talk.chat.messages.push(ChatMessage::new("user", "What is there?"));
    let (first, answered, _) = talk.ask(None).await;
    assert_eq!(answered.text, answer);
    let mut said = message(&with_tools(), answer);
    assert_eq!(said.content, "I look");
    said.tool_calls[0].arguments =
        r#"{ "with": [1.0, 25e-1, {"a": "th", "b": null}], "path": "the/\u00e9" }"#.into();
    talk.chat.messages.push(said);
    talk.chat.messages.push(ChatMessage {
        tool_call_id: Some("call_0".into()),
        ..ChatMessage::new("tool", "the other thing")
    });
    let (second, answered, record) = talk.ask(None).await;
    let earlier: Vec<TokenId> = first.iter().copied().chain(answer.bytes().map(TokenId::from)).collect();
    assert!(second.starts_with(&earlier));
    assert_eq!(answered.usage.n_reused, earlier.len());
    assert_eq!(record.n_spliced, answer.len());
    let difference = record.difference.unwrap();
    assert_eq!(difference.why, DifferenceReason::GoesOn);
    assert_eq!(difference.place, Some(PromptPlace::Message { idx: 2, role: "tool".into() }));
    talk.rig.close().await;
}

#[tokio::test]
async fn a_call_comes_back_as_it_was_written_after_a_restart_too() {
    let answer = "I look\n\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"path\":\"the\", \"a\":1}}\n</tool_call>";
    let store = Arc::new(MemoryStore::default());
    let config =
        || EngineConfig { store: Arc::clone(&store) as Arc<dyn BlockStore>, ..EngineConfig::default() };
    let mut talk = Conversation::new(model(with_tools, &[answer.to_owned()]), config()).await;
    talk.chat.messages.push(ChatMessage::new("user", "What is there? ".repeat(20)));
    let (first, _, _) = talk.ask(Some("scout")).await;
    talk.rig.close().await;

    let mut again = Conversation::new(model(with_tools, &[answer.to_owned()]), config()).await;
    again.chat = talk.chat;
    let mut said = message(&with_tools(), answer);
    said.tool_calls[0].arguments = r#"{"a": 1.0, "path": "the"}"#.into();
    again.chat.messages.push(said);
    again.chat.messages.push(ChatMessage::new("tool", "nothing"));
    let (second, answered, record) = again.ask(Some("scout")).await;
    let earlier: Vec<TokenId> = first.iter().copied().chain(answer.bytes().map(TokenId::from)).collect();
    assert!(second.starts_with(&earlier), "{record:?}");
    assert_eq!(record.n_spliced, answer.len());
    assert!(answered.usage.n_reused >= earlier.len() - 16, "{:?}", answered.usage);
    again.rig.close().await;
}

#[tokio::test]
async fn where_a_prompt_differs_from_what_was_said_before_a_restart_is_known() {
    let store = Arc::new(MemoryStore::default());
    let config =
        || EngineConfig { store: Arc::clone(&store) as Arc<dyn BlockStore>, ..EngineConfig::default() };
    let mut talk = Conversation::new(model(with_tools, &["so".to_owned()]), config()).await;
    talk.chat.messages.push(ChatMessage::new("user", "What is there? ".repeat(20) + "Say it in a word."));
    let (first, _, record) = talk.ask(Some("scout")).await;
    assert_eq!(record.difference.map(|difference| difference.why), Some(DifferenceReason::New));
    talk.rig.close().await;

    let mut again = Conversation::new(model(with_tools, &["so".to_owned()]), config()).await;
    again.chat = talk.chat;
    again.chat.messages[0].content = "What is there? ".repeat(20) + "Say it in a song.";
    let (_, answered, record) = again.ask(Some("scout")).await;
    assert!(answered.usage.n_reused > first.len() / 2, "{:?}", answered.usage);
    let difference = record.difference.unwrap();
    assert_eq!(difference.why, DifferenceReason::Changed, "{difference:?}");
    assert_eq!(difference.place, Some(PromptPlace::Message { idx: 0, role: "user".into() }));
    assert!(
        difference.before.ends_with("it in a ") && difference.after.starts_with("song"),
        "{difference:?}"
    );
    assert!(difference.n_missed > 0 && difference.n_missed < first.len() / 2, "{difference:?}");
    again.rig.close().await;
}
