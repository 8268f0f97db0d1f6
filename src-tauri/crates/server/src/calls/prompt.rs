//! From what a client sends to tokens that a model can take.

use std::sync::Arc;

use engine::{ChatFacts, CheckedPrompt, EncodedPrompt, EngineHandle, ModelCard, PromptError, PromptNotes};
use text::{AnswerReading, Chat, RenderedText, TextError};

use super::call::{Names, Prompt};
use super::fault::Fault;
use super::folding::{folded, is_dropped};
use super::reading::Reading;
use super::render_workers::RenderWorkers;
use super::tools::Parallel;
use super::volatile_lines::VolatileLines;

/// A prompt that a model can take, and what is known of it.
pub(crate) struct Encoded {
    pub(crate) prompt: CheckedPrompt,
    pub(crate) notes: PromptNotes,
    /// How the answer is to be read; none where all of it is text.
    pub(crate) reading: Option<Reading>,
}

/// Who makes tokens of a prompt.
#[derive(Clone)]
pub(crate) struct Encoders {
    pub(crate) engine: EngineHandle,
    pub(crate) render_workers: Arc<RenderWorkers>,
    pub(crate) volatile_lines: Arc<VolatileLines>,
}

impl Encoders {
    /// Render, tokenise and check a prompt. Takes as long as the prompt is long, and ends early once `is_abandoned`.
    ///
    /// # Errors
    /// It is too long, there is no template or it fails or refuses the chat, a token is not in the vocabulary, or
    /// nothing is left. The fault is about the prompt, by the name that the API has for it.
    pub(crate) fn encode(
        &self,
        prompt: Prompt,
        names: Names,
        card: &ModelCard,
        is_abandoned: &(dyn Fn() -> bool + Sync),
    ) -> Result<Encoded, Fault> {
        let mut reading = None;
        let mut remarks = Vec::new();
        let failed = |error| of_prompt(error, names, card);
        check_length(&prompt, card).map_err(failed)?;
        let encoded = match prompt {
            Prompt::Chat(mut chat) => {
                self.volatile_lines.settle(&mut chat, &card.fingerprint, &mut remarks);
                let messages = ChatFacts::outline(&chat.messages);
                let rendered = self.render(&chat, card, is_abandoned, &mut remarks);
                let tools = chat.tools;
                drop(chat.messages);
                let rendered = rendered.map_err(|error| of_text(error, names, card))?;
                let has_tools_in_words = rendered.has_tools_in_words();
                if has_tools_in_words {
                    remarks
                        .push("the model's template shows no tools: they were described in words".to_owned());
                }
                let rendered = card.text.rendered_chat(&rendered);
                if let Some(fault) = &rendered.points().fault {
                    remarks.push(format!(
                        "how far the next turn comes back to this prompt is not known: {fault}"
                    ));
                }
                let has_tools = !tools.is_empty();
                let read_as = card.text.answer_reading(&rendered, tools.into(), has_tools_in_words);
                reading = read_as.as_ref().and_then(reading_of);
                if has_tools && reading.as_ref().is_some_and(|reading| !reading.form.is_known()) {
                    remarks.push(
                        "how the model writes calls is not known: they are read in the common form".into(),
                    );
                }
                let facts = ChatFacts { reading: read_as, messages, has_tools_in_words };
                self.engine.encode_rendered(card, &rendered, facts, is_abandoned)
            }
            Prompt::Text(text) => self.engine.encode_raw(card, &text, is_abandoned),
            Prompt::Each(_) => return Err(Fault::invalid(names.prompt, "one prompt is wanted here")),
            Prompt::Tokens(tokens) => Ok(EncodedPrompt { tokens, notes: PromptNotes::default() }),
        };
        let EncodedPrompt { tokens, mut notes } = encoded.map_err(failed)?;
        notes.remarks = remarks;
        let prompt = CheckedPrompt::new(tokens, card.text.n_vocab());
        let prompt = prompt.map_err(|fault| Fault::invalid(names.prompt, fault.to_string()))?;
        Ok(Encoded { prompt, notes, reading })
    }

    /// Render a chat as it is, or in the form that strict templates take where this one refuses it or leaves out what a
    /// system message in the middle says.
    fn render(
        &self,
        chat: &Chat,
        card: &ModelCard,
        is_abandoned: &(dyn Fn() -> bool + Sync),
        remarks: &mut Vec<String>,
    ) -> Result<RenderedText, TextError> {
        let rendered = self.render_workers.render(&card.text, chat, card.asked(), is_abandoned);
        let is_too_strict = match &rendered {
            Ok(rendered) => is_dropped(chat, || rendered.plain()),
            Err(TextError::Refused(_)) => true,
            Err(_) => false,
        };
        let Some(folded) = folded(chat).filter(|_| is_too_strict) else { return rendered };
        let again = self.render_workers.render(&card.text, &folded, card.asked(), is_abandoned);
        if again.is_ok() {
            remarks.push(
                "the template takes one system message and alternating turns: the chat was put so".into(),
            );
            return again;
        }
        // What it says of the chat as it was sent.
        rendered
    }
}

/// How an answer is to be read that may be more than text.
fn reading_of(read_as: &AnswerReading) -> Option<Reading> {
    let AnswerReading { form, tools, begins } = read_as;
    (!tools.is_empty() || form.thinks()).then(|| Reading {
        form: Arc::clone(form),
        begins: *begins,
        tools: tools.to_vec(),
        parallel: Parallel::Any,
    })
}

/// That it may fit the effective context, judged by its length alone: what cannot fit is neither rendered nor
/// tokenised. A chat's length is that of its contents as they were sent, whatever its template leaves of them.
fn check_length(prompt: &Prompt, card: &ModelCard) -> Result<(), PromptError> {
    match prompt {
        // Without a template it is not the length that is in the way.
        Prompt::Chat(_) if !card.text.has_chat_template() => Ok(()),
        Prompt::Chat(chat) => card.check_length(chat.messages.iter().map(|message| message.content.as_str())),
        Prompt::Text(text) => card.check_length([text.as_str()]),
        Prompt::Tokens(tokens) => card.check_tokens(tokens),
        Prompt::Each(prompts) => prompts.iter().try_for_each(|prompt| check_length(prompt, card)),
    }
}

fn of_prompt(error: PromptError, names: Names, card: &ModelCard) -> Fault {
    match error {
        PromptError::Text(error) => of_text(error, names, card),
        PromptError::TooLong { at_least, limit } => {
            Fault::too_long_at_least(at_least, limit).at(names.prompt)
        }
        // Nobody reads it.
        PromptError::Abandoned => Fault::bad_request("the client went away"),
    }
}

/// Why a chat cannot be shown to the model, with the model whose fault it may be.
fn of_text(error: TextError, names: Names, card: &ModelCard) -> Fault {
    let message = error.to_string();
    match error {
        TextError::NoChatTemplate => Fault::no_chat_template(&message).at(names.prompt),
        TextError::Refused(_) => Fault::invalid(names.prompt, message),
        TextError::Template(fault) if card.template_fault.is_some() => {
            Fault::chat_template_broken(&card.name, &fault)
        }
        TextError::Template(fault) => Fault::chat_template_failed(&card.name, &fault).at(names.prompt),
        TextError::Vocabulary(_) | TextError::Unsupported(_) => Fault::broken_model(message),
    }
}
