//! From a chat to the text that its model's template writes, with the places in it that matter.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::answer_form::call_form::Calls;
use crate::answer_form::plain_calls_of;
use crate::chat_points::{Asked, ChatPoints};
use crate::chat_template::ChatTemplate;
use crate::defusing::StructuralTexts;
use crate::landmarks::{ASSISTANT, Landmarks, generation_prompt};
use crate::lowering::{Customs, has_more_than_text, in_fields_of_templates, in_words};
use crate::rendered_text::RenderedText;
use crate::special::SpecialTokens;
use crate::template::{Rendering, Template};
use crate::{Chat, TextError};

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatRenderer {
    template: Template,
    structural_texts: StructuralTexts,
    /// Structural texts first; a number below `n_structural` is one of them.
    special: SpecialTokens,
    n_structural: u32,
    /// How its model writes calls.
    calls: Calls<String>,
    /// What the template does with tools; found out when the first chat has some.
    customs: OnceLock<Customs>,
}

impl ChatRenderer {
    /// Compiles the template. What it may take of stack and memory is bounded by the process alone.
    ///
    /// # Errors
    /// It does not compile, or goes beyond the bounds on its source.
    pub fn new(template: &ChatTemplate) -> Result<ChatRenderer, TextError> {
        let texts = [template.structural.as_slice(), &template.user_defined].concat();
        let n_texts = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let n_structural = u32::try_from(template.structural.len()).unwrap_or(u32::MAX);
        Ok(ChatRenderer {
            template: Template::new(template)?,
            structural_texts: StructuralTexts::new(template.structural.clone())?,
            special: SpecialTokens::new(&texts, (0..n_texts).collect())?,
            n_structural,
            calls: plain_calls_of(&template.source, |token| texts.iter().any(|text| text == token)),
            customs: OnceLock::new(),
        })
    }

    /// Renders the chat at a time, `now`, and finds where its answers start and its messages end.
    ///
    /// # Errors
    /// The template refuses the messages, fails, or goes over its limits.
    pub fn render(&self, chat: &Chat, now: SystemTime) -> Result<RenderedText, TextError> {
        self.render_asked(chat, now, Asked::Text)
    }

    /// The same, with what else is `asked` for.
    ///
    /// # Errors
    /// As [`ChatRenderer::render`].
    pub fn render_asked(
        &self,
        chat: &Chat,
        now: SystemTime,
        asked: Asked,
    ) -> Result<RenderedText, TextError> {
        if !has_more_than_text(chat) {
            return self.render_text(chat, now, asked);
        }
        let customs = *self.customs.get_or_init(|| {
            let render = |chat: &Chat| Some(self.template.render(chat, None, now).ok()?.text);
            Customs::find(self.template.source(), render)
        });
        let has_tools_in_words = !chat.tools.is_empty() && !customs.shows_tools;
        let rendered = |has_system| {
            let chat = match customs.is_enough_for(chat) {
                true => Cow::Borrowed(chat),
                false => Cow::Owned(in_words(chat, customs, &self.calls, has_system)),
            };
            self.render_text(&in_fields_of_templates(&chat, customs), now, asked)
        };
        let rendered = match rendered(true) {
            // It may be the system's message that it refuses.
            Err(TextError::Refused(_)) if has_tools_in_words => rendered(false),
            rendered => rendered,
        };
        Ok(RenderedText { has_tools_in_words, ..rendered? })
    }

    fn render_text(&self, chat: &Chat, now: SystemTime, asked: Asked) -> Result<RenderedText, TextError> {
        let (chat, rendering) = self.render_marked(chat, now)?;
        let has_answers = chat.messages.iter().any(|message| message.role == ASSISTANT);
        let opening = has_answers
            .then(|| generation_prompt(&self.template, &self.special, &chat, &rendering))
            .flatten();
        let landmarks = Landmarks::find(&self.template, &chat, &rendering, opening.as_deref());
        let points = match asked {
            Asked::Text => None,
            Asked::TextAndPoints => Some(ChatPoints::find(&self.template, &chat, &rendering)),
        };
        let Rendering { text, mark, .. } = rendering;
        Ok(RenderedText { text, mark, landmarks, opening, points, has_tools_in_words: false })
    }

    /// Renders with the client's special tokens marked wherever that makes a difference; and the chat as it was rendered.
    fn render_marked<'a>(
        &self,
        chat: &'a Chat,
        now: SystemTime,
    ) -> Result<(Cow<'a, Chat>, Rendering), TextError> {
        let plain = self.template.render(chat, None, now)?;
        let Some((marked_chat, mark)) = self.structural_texts.mark(chat, self.template.source())? else {
            return Ok((Cow::Borrowed(chat), plain));
        };
        let marked = self.template.render(&marked_chat, Some(mark), now)?;
        // A mark can change what a template's own comparisons see. Where the client's text left no structure
        // behind anyway (a template that cuts reasoning out, say), the unmarked text is both safe and exact.
        let structure = |text: &str| -> Vec<u32> {
            let found = self.special.spans(text).map(|(_, number)| number);
            found.filter(|number| *number < self.n_structural).collect()
        };
        if structure(&plain.text) == structure(&marked.text) {
            return Ok((Cow::Borrowed(chat), plain));
        }
        Ok((Cow::Owned(marked_chat), marked))
    }
}
