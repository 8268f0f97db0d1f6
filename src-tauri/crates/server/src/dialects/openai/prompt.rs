//! From what a client sends to tokens: the chat template and the vocabulary, off the async threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{EncodedPrompt, EngineHandle, ModelCard, PromptNotes, RequestId};
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use text::{Chat, Constraint, OutputFormat, TextError, TokenId};
use tokio::task::spawn_blocking;

use crate::calls::fault::ApiError;
use crate::calls::prompt_seats::PromptSeat;
use crate::calls::render_workers::RenderWorkers;
use crate::edge::body_budget::Share;
use crate::router::App;

/// A prompt as a client gives it.
#[derive(Debug)]
pub(crate) enum Prompt {
    /// Messages for the chat template.
    Chat(Chat),
    /// Text, taken as it is.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<TokenId>),
}

impl Prompt {
    /// The field that a complaint about it names.
    pub(crate) fn param(&self) -> &'static str {
        match self {
            Prompt::Chat(_) => "messages",
            Prompt::Text(_) | Prompt::Tokens(_) => "prompt",
        }
    }

    /// That it may fit the effective context, judged by its length alone: what cannot fit is neither rendered nor
    /// tokenised. A chat's length is that of its contents as they were sent, whatever its template leaves of them.
    ///
    /// # Errors
    /// It is too long.
    fn check_length(&self, card: &ModelCard) -> Result<(), ApiError> {
        match self {
            // Without a template it is not the length that is in the way.
            Prompt::Chat(_) if !card.text.has_chat_template() => Ok(()),
            Prompt::Chat(chat) => {
                Ok(card.check_length(chat.messages.iter().map(|message| message.content.as_str()))?)
            }
            Prompt::Text(text) => Ok(card.check_length([text.as_str()])?),
            Prompt::Tokens(tokens) => Ok(card.check_tokens(tokens)?),
        }
    }

    /// # Errors
    /// It is too long, there is no template or it fails or refuses the chat, a token is not in the vocabulary, or
    /// nothing is left.
    fn into_tokens(
        self,
        card: &ModelCard,
        preparers: &Preparers,
        is_abandoned: &(dyn Fn() -> bool + Sync),
    ) -> Result<(Vec<TokenId>, PromptNotes), ApiError> {
        let Preparers { engine, render_workers } = preparers;
        let param = self.param();
        let about = |error: ApiError| if error.param.is_none() { error.with_param(param) } else { error };
        self.check_length(card).map_err(about)?;
        let encoded = match self {
            Prompt::Chat(chat) => {
                let rendered = render_workers.render(&card.text, &chat, is_abandoned);
                drop(chat);
                let rendered = card.text.rendered_chat(&rendered.map_err(|error| of_template(card, error))?);
                engine.encode_rendered(card, &rendered, is_abandoned)
            }
            Prompt::Text(text) => engine.encode_raw(card, &text, is_abandoned),
            Prompt::Tokens(tokens) => {
                let n_vocab = card.text.n_vocab();
                if let Some(token) = tokens.iter().find(|token| **token as usize >= n_vocab) {
                    let message = format!("token {token} is not in the vocabulary of {n_vocab}");
                    return Err(ApiError::invalid(param, message));
                }
                Ok(EncodedPrompt { tokens, notes: PromptNotes::default() })
            }
        };
        let EncodedPrompt { tokens, notes } = encoded.map_err(|error| about(error.into()))?;
        if tokens.is_empty() {
            Err(ApiError::invalid(param, "the prompt is empty"))
        } else {
            Ok((tokens, notes))
        }
    }
}

/// Who makes tokens of a prompt.
struct Preparers {
    engine: EngineHandle,
    render_workers: Arc<RenderWorkers>,
}

/// A template's failure, with the model whose it is.
fn of_template(card: &ModelCard, error: TextError) -> ApiError {
    match error {
        TextError::Template(fault) => {
            tracing::warn!(model = card.name, fault, "the chat template failed");
            ApiError::chat_template_failed(&card.name, &fault, card.template_fault.is_some())
        }
        other => other.into(),
    }
}

/// The JSON of a list of token ids as these, in just the memory that they need.
pub(crate) fn token_ids(json: &str) -> Option<Vec<TokenId>> {
    struct Ids {
        n_at_most: usize,
    }
    impl<'de> DeserializeSeed<'de> for Ids {
        type Value = Vec<TokenId>;

        fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    impl<'de> Visitor<'de> for Ids {
        type Value = Vec<TokenId>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of token ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut ids = Vec::new();
            while let Some(id) = seq.next_element()? {
                if ids.is_empty() {
                    // A list that grew would have twice what it needs, and at times thrice.
                    ids.reserve_exact(self.n_at_most);
                }
                ids.push(id);
            }
            Ok(ids)
        }
    }
    let n_at_most = json.bytes().filter(|byte| *byte == b',').count() + 1;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let ids = Ids { n_at_most }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(ids)
}

/// What a request holds until its prompt is tokens: its seat, and its body's share of the memory for all bodies.
pub(crate) type Held = (Option<PromptSeat>, Share);

/// The client's end of the wait: dropped with the handler when the connection is gone.
#[derive(Debug, Default)]
struct Client {
    is_gone: Arc<AtomicBool>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

/// What the engine needs of a prompt and the wanted answer.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) notes: PromptNotes,
    /// What holds the answer to its format.
    pub(crate) constraint: Option<Constraint>,
}

/// Render and tokenise, and build what holds the answer to its format. That ends early when the caller is dropped.
///
/// # Errors
/// As [`Prompt::into_tokens`]; the schema cannot be used; a fault when tokenizer or grammar panics.
pub(crate) async fn prepare(
    app: &App,
    card: &Arc<ModelCard>,
    prompt: Prompt,
    format: Option<OutputFormat>,
    held: Held,
    id: &RequestId,
) -> Result<Prepared, ApiError> {
    let preparers =
        Preparers { engine: app.engine.clone(), render_workers: Arc::clone(&app.config.render_workers) };
    let model = Arc::clone(card);
    let tokenised = while_awaited(id, move |is_abandoned| {
        let _held = held;
        prompt.into_tokens(&model, &preparers, is_abandoned)
    });
    let constraint = async {
        match format {
            Some(format) => app.constraining.build(card, format, id).await.map(Some),
            None => Ok(None),
        }
    };
    let ((tokens, notes), constraint) = tokio::try_join!(tokenised, constraint)?;
    Ok(Prepared { tokens, notes, constraint })
}

/// As [`off_the_runtime`], for work that can ask whether its caller has been dropped, and end.
async fn while_awaited<T: Send + 'static>(
    id: &RequestId,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let client = Client::default();
    let is_gone = Arc::clone(&client.is_gone);
    off_the_runtime(id, move || work(&|| is_gone.load(Ordering::Relaxed))).await
}

/// Do work that takes as long as a request is long where it holds up nobody else.
///
/// # Errors
/// Its own; a fault when it panics.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    id: &RequestId,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(request_id = %id, %error, "preparing a prompt failed");
        Err(ApiError::fault(&id.0))
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_whose_client_is_gone_can_tell_and_work_that_is_awaited_goes_on() {
        let id = RequestId("r".into());
        let asked = while_awaited(&id, |is_abandoned| Ok(is_abandoned())).await;
        assert_eq!(asked, Ok(false));

        let (begun, has_begun) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let waiting = tokio::spawn(async move {
            while_awaited(&id, move |is_abandoned| {
                let _ = begun.send(());
                while !is_abandoned() {
                    std::thread::yield_now();
                }
                let _ = ended.send(());
                Err::<(), _>(ApiError::bad_request("gone"))
            })
            .await
        });
        has_begun.await.unwrap();
        waiting.abort();
        has_ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_off_the_runtime_is_a_fault_and_nothing_more() {
        let id = RequestId("r".into());
        let fault = off_the_runtime::<()>(&id, || panic!("of a template")).await.unwrap_err();
        assert_eq!(fault.status, 500);
    }

    #[test]
    fn a_list_of_ids_takes_the_memory_of_its_ids() {
        assert_eq!(token_ids(" [1, 2,\n3 ] "), Some(vec![1, 2, 3]));
        assert_eq!(token_ids("[]"), Some(vec![]));
        let many = format!("[{}7]", "5,".repeat(100_000));
        let ids = token_ids(&many).unwrap();
        assert_eq!((ids.len(), ids.capacity()), (100_001, 100_001));
        for no_list in [
            "7",
            "[1,]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[\"a\"]",
            "[[1]]",
            "[null]",
            "{}",
            "[1] 2",
            "[1",
            "",
        ] {
            assert_eq!(token_ids(no_list), None, "{no_list}");
        }
    }
}
