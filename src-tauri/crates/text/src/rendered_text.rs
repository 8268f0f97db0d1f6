//! What a renderer gives: a text, and the places in it that matter.

use serde::{Deserialize, Serialize};

use crate::chat_points::ChatPoints;
use crate::landmarks::Landmarks;

/// A chat as its template writes it. Offsets are bytes of the text with its marks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedText {
    /// The text, in which the client's control-token texts carry `mark`.
    pub(crate) text: String,
    /// The mark, if there is one.
    pub(crate) mark: Option<char>,
    /// Where answers start and messages end, in the text without marks… of landmarks only.
    pub(crate) landmarks: Landmarks,
    /// What the template writes before an answer, where the chat has answers.
    pub(crate) opening: Option<String>,
    /// Where later prompts come back to it, where that was asked for.
    pub(crate) points: Option<ChatPoints>,
    /// Whether the chat's tools are described in words, because the template shows none.
    pub(crate) has_tools_in_words: bool,
}

impl RenderedText {
    /// Whether the chat's tools are described in words, because the template shows none: the model is asked for calls
    /// in the form that [`AnswerForm::in_words`](crate::AnswerForm::in_words) has.
    pub fn has_tools_in_words(&self) -> bool {
        self.has_tools_in_words
    }

    /// The text as the template writes it, without marks.
    pub fn plain(&self) -> String {
        self.mark.map_or_else(|| self.text.clone(), |mark| self.text.replace(mark, ""))
    }
}
