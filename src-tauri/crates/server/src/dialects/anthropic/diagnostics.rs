//! Why what was there of an earlier request could not be used for one that should go on with it.

use std::sync::Arc;

use blake3::Hash;
use serde::Serialize;
use serde_json::value::RawValue;
use text::ChatMessage;
use utoipa::ToSchema;

use crate::calls::answer::PromptTokens;
use crate::calls::fault::Fault;
use crate::calls::tools::Tools;
use crate::dialects::fields::Fields;

/// What of a request its prompt was made from, as digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prints {
    model: Hash,
    tools: Hash,
    system: Hash,
    n_messages: usize,
    /// Of all messages after the system's.
    messages: Hash,
}

/// Where the prints of requests are noted, and found again by the ids of the messages that answered them.
pub(crate) trait Diary: Send + Sync {
    fn find(&self, message_id: &str) -> Option<Prints>;

    /// Note them for as long as there is room.
    fn note(&self, message_id: String, prints: Prints);
}

/// What a request that asks for a diagnosis is to be told, and what is noted of it.
pub(crate) struct Diagnosis {
    pub(crate) finding: Option<Finding>,
    pub(crate) prints: Prints,
    pub(crate) diary: Arc<dyn Diary>,
}

/// The first thing in which two requests differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Model,
    Tools,
    System,
    Messages,
    /// Nothing is known of the earlier one.
    NotFound,
}

/// What a message says of it; absent where nothing was asked or nothing differs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Diagnostics {
    cache_miss_reason: CacheMissReason,
}

/// Why what was there could not be used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum CacheMissReason {
    ModelChanged { cache_missed_input_tokens: usize },
    ToolsChanged { cache_missed_input_tokens: usize },
    SystemChanged { cache_missed_input_tokens: usize },
    MessagesChanged { cache_missed_input_tokens: usize },
    PreviousMessageNotFound,
}

impl Prints {
    /// Those of a request with these messages.
    pub(crate) fn new(model: Option<&str>, tools: &Tools, messages: &[ChatMessage]) -> Prints {
        let of_tools = tools.offered.iter().map(|offered| format!("{:?}\n", offered.tool));
        let (system, rest) = match messages.split_first() {
            Some((first, rest)) if first.role == "system" => (first.content.as_str(), rest),
            _ => ("", messages),
        };
        Prints {
            model: blake3::hash(model.unwrap_or_default().as_bytes()),
            tools: blake3::hash(of_tools.collect::<String>().as_bytes()),
            system: blake3::hash(system.as_bytes()),
            n_messages: rest.len(),
            messages: of_messages(rest),
        }
    }

    /// In what a later request of these `messages` differs first, in the order in which a prompt is put together; nothing
    /// where it goes on.
    fn compare(&self, later: &Prints, messages: &[ChatMessage]) -> Option<Finding> {
        if self.model != later.model {
            return Some(Finding::Model);
        }
        if self.tools != later.tools {
            return Some(Finding::Tools);
        }
        if self.system != later.system {
            return Some(Finding::System);
        }
        let n_before = messages.len() - later.n_messages;
        let same = messages[n_before..].get(..self.n_messages);
        (same.map(of_messages) != Some(self.messages)).then_some(Finding::Messages)
    }
}

fn of_messages(messages: &[ChatMessage]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for message in messages {
        hasher.update(format!("{message:?}\n").as_bytes());
    }
    hasher.finalize()
}

impl Diagnosis {
    /// That of a request for this model, with these tools and messages, where its body asks for one.
    ///
    /// # Errors
    /// The field has not the API's form.
    pub(crate) fn take(
        fields: &mut Fields<'_>,
        diary: Arc<dyn Diary>,
        (model, tools, messages): (Option<&str>, &Tools, &[ChatMessage]),
    ) -> Result<Option<Diagnosis>, Fault> {
        let Some(asked) = fields.take::<&RawValue>("diagnostics")? else { return Ok(None) };
        let mut asked = Fields::of_value("diagnostics", asked)?;
        let previous = asked.take::<String>("previous_message_id")?;
        asked.finish()?;
        let prints = Prints::new(model, tools, messages);
        let finding = previous.and_then(|id| match diary.find(&id) {
            Some(before) => before.compare(&prints, messages),
            None => Some(Finding::NotFound),
        });
        Ok(Some(Diagnosis { finding, prints, diary }))
    }

    /// What the message `id` says of it, whose prompt is known now; its request's prints are noted with that.
    pub(crate) fn tell(&self, id: &str, prompt: PromptTokens) -> Option<Diagnostics> {
        self.diary.note(id.to_owned(), self.prints);
        let cache_missed_input_tokens = prompt.n_prompt.saturating_sub(prompt.n_reused);
        let cache_miss_reason = match self.finding? {
            Finding::Model => CacheMissReason::ModelChanged { cache_missed_input_tokens },
            Finding::Tools => CacheMissReason::ToolsChanged { cache_missed_input_tokens },
            Finding::System => CacheMissReason::SystemChanged { cache_missed_input_tokens },
            Finding::Messages => CacheMissReason::MessagesChanged { cache_missed_input_tokens },
            Finding::NotFound => CacheMissReason::PreviousMessageNotFound,
        };
        Some(Diagnostics { cache_miss_reason })
    }
}

#[cfg(test)]
mod tests {
    use text::Tool;

    use super::*;
    use crate::calls::tools::OfferedTool;

    fn made(model: &str, tools: &[&str], messages: &[(&str, &str)]) -> (Prints, Vec<ChatMessage>) {
        let offered = |name: &&str| OfferedTool {
            tool: Tool { name: (*name).to_owned(), ..Tool::default() },
            place: String::new(),
        };
        let tools = Tools { offered: tools.iter().map(offered).collect(), ..Tools::default() };
        let messages: Vec<ChatMessage> =
            messages.iter().map(|(role, content)| ChatMessage::new(*role, *content)).collect();
        (Prints::new(Some(model), &tools, &messages), messages)
    }

    #[test]
    fn the_first_thing_that_differs_is_found_and_going_on_is_no_difference() {
        let chat = [("system", "s"), ("user", "a")];
        let (before, _) = made("m", &["t"], &chat);
        for ((later, messages), want) in [
            (made("m", &["t"], &chat), None),
            (made("m", &["t"], &[("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")]), None),
            (made("n", &[], &[]), Some(Finding::Model)),
            (made("m", &["t", "u"], &[("user", "x")]), Some(Finding::Tools)),
            (made("m", &["t"], &[("system", "z"), ("user", "a")]), Some(Finding::System)),
            (made("m", &["t"], &[("user", "a")]), Some(Finding::System)),
            (made("m", &["t"], &[("system", "s"), ("user", "A")]), Some(Finding::Messages)),
            (made("m", &["t"], &[("system", "s")]), Some(Finding::Messages)),
        ] {
            assert_eq!(before.compare(&later, &messages), want, "{messages:?}");
        }
    }
}
