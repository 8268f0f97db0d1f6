//! Why what was there of an earlier request could not be used for one that should go on with it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::calls::answer::{MissReason, Missed, PromptTokens};
use crate::calls::fault::Fault;
use crate::dialects::fields::Fields;

/// Where it is noted which model answered, by the ids of the messages.
pub(crate) trait Diary: Send + Sync {
    /// The fingerprint of the model that wrote a message.
    fn model_of(&self, message_id: &str) -> Option<[u8; 32]>;

    /// Note one for as long as there is room.
    fn note(&self, message_id: String, model: [u8; 32]);
}

/// What a request asks for that asks for a diagnosis.
pub(crate) struct Diagnosis {
    previous_message_id: Option<String>,
    diary: Arc<dyn Diary>,
}

/// What a message says of it; absent where nothing was asked or nothing missed.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Diagnostics {
    cache_miss_reason: CacheMissReason,
}

/// Why what was there could not be used.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum CacheMissReason {
    ModelChanged { cache_missed_input_tokens: usize },
    ToolsChanged { cache_missed_input_tokens: usize },
    SystemChanged { cache_missed_input_tokens: usize },
    MessagesChanged { cache_missed_input_tokens: usize },
    PreviousMessageNotFound,
    Unavailable,
}

impl Diagnosis {
    /// That of a request whose body asks for one.
    ///
    /// # Errors
    /// The field has not the API's form.
    pub(crate) fn take(fields: &mut Fields<'_>, diary: Arc<dyn Diary>) -> Result<Option<Diagnosis>, Fault> {
        let Some(asked) = fields.take::<&RawValue>("diagnostics")? else { return Ok(None) };
        let mut asked = Fields::of_value("diagnostics", asked)?;
        let previous_message_id = asked.take::<String>("previous_message_id")?;
        asked.finish()?;
        Ok(Some(Diagnosis { previous_message_id, diary }))
    }

    /// What the message `id` says of it, which the model with this fingerprint writes after `prompt`; that is noted.
    pub(crate) fn tell(&self, id: &str, model: &[u8; 32], prompt: PromptTokens) -> Option<Diagnostics> {
        let before = self.previous_message_id.as_ref().map(|id| self.diary.model_of(id));
        self.diary.note(id.to_owned(), *model);
        let cache_miss_reason = match before? {
            None => CacheMissReason::PreviousMessageNotFound,
            Some(before) if before != *model => CacheMissReason::ModelChanged {
                cache_missed_input_tokens: prompt.n_prompt.saturating_sub(prompt.n_reused),
            },
            Some(_) => prompt.missed?.into(),
        };
        Some(Diagnostics { cache_miss_reason })
    }
}

impl From<Missed> for CacheMissReason {
    fn from(missed: Missed) -> CacheMissReason {
        let Missed { why, n_tokens: cache_missed_input_tokens } = missed;
        match why {
            MissReason::Tools => CacheMissReason::ToolsChanged { cache_missed_input_tokens },
            MissReason::System => CacheMissReason::SystemChanged { cache_missed_input_tokens },
            MissReason::Messages => CacheMissReason::MessagesChanged { cache_missed_input_tokens },
            MissReason::Unknown => CacheMissReason::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Noted(Mutex<HashMap<String, [u8; 32]>>);

    impl Diary for Noted {
        fn model_of(&self, message_id: &str) -> Option<[u8; 32]> {
            self.0.lock().unwrap().get(message_id).copied()
        }

        fn note(&self, message_id: String, model: [u8; 32]) {
            self.0.lock().unwrap().insert(message_id, model);
        }
    }

    #[test]
    fn what_is_told_is_what_was_missed_after_a_message_of_the_same_model() {
        let diary: Arc<dyn Diary> = Arc::new(Noted::default());
        let tell = |previous: Option<&str>, id: &str, model: u8, missed: Option<MissReason>| {
            let previous_message_id = previous.map(str::to_owned);
            let missed = missed.map(|why| Missed { why, n_tokens: 7 });
            let prompt = PromptTokens { n_prompt: 90, n_reused: 40, missed };
            let diagnosis = Diagnosis { previous_message_id, diary: Arc::clone(&diary) };
            let told = diagnosis.tell(id, &[model; 32], prompt);
            told.map_or_else(String::new, |told| serde_json::to_string(&told.cache_miss_reason).unwrap())
        };
        let with_tokens =
            |kind: &str, n: usize| format!(r#"{{"type":"{kind}","cache_missed_input_tokens":{n}}}"#);
        assert_eq!(tell(None, "a", 1, Some(MissReason::Tools)), "");
        assert_eq!(tell(Some("a"), "b", 1, None), "");
        assert_eq!(tell(Some("a"), "c", 1, Some(MissReason::Tools)), with_tokens("tools_changed", 7));
        assert_eq!(tell(Some("c"), "d", 1, Some(MissReason::System)), with_tokens("system_changed", 7));
        assert_eq!(tell(Some("d"), "e", 1, Some(MissReason::Messages)), with_tokens("messages_changed", 7));
        assert_eq!(tell(Some("d"), "f", 1, Some(MissReason::Unknown)), r#"{"type":"unavailable"}"#);
        assert_eq!(tell(Some("d"), "g", 2, None), with_tokens("model_changed", 50));
        assert_eq!(tell(Some("z"), "h", 2, None), r#"{"type":"previous_message_not_found"}"#);
    }
}
