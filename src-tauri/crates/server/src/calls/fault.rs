//! Why a call gets no answer, whatever API it came by.

use std::fmt::Display;
use std::time::Duration;

use engine::{IllegalTransition, NotReadyReason, Refusal, RequestId};

/// A fault: its kind, and words for those who hear of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Where in the request it is, by the name that the API has for it.
    pub(crate) place: Option<String>,
    /// What the caller is told.
    pub(crate) message: String,
    /// What the log is told besides, and the caller is not.
    pub(crate) for_log: Option<String>,
    /// When it may be worth asking again.
    pub(crate) retry_after: Option<Duration>,
    /// Of a prompt that is too long.
    pub(crate) lengths: Option<Lengths>,
}

/// How long a prompt is, and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Tokens of the prompt, as far as they were counted.
    pub(crate) prompt_tokens: usize,
    /// Tokens that the context holds.
    pub(crate) context_length: usize,
}

/// Declares the kinds, the list of them and their names in one place.
macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident => $name:expr,)+) => {
        /// What a caller can do about it. An API maps each kind to its own status and words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum FaultKind {
            $($(#[$doc])+ $kind,)+
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$kind,)+];

            /// Its name in the log, and the code of those APIs that have one.
            pub fn name(self) -> &'static str {
                match self {
                    $(FaultKind::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A value that cannot be.
    InvalidValue => "invalid_value",
    /// A field that must be there and is not.
    MissingParameter => "missing_required_parameter",
    /// Something that the API has and this server does not, yet or on purpose.
    UnsupportedParameter => "unsupported_parameter",
    /// A conversation that the server is to keep, where it cannot: clients then send it whole, by themselves.
    NoThreads => "thread_unsupported_request",
    /// A field that the API does not have.
    UnknownParameter => "unknown_parameter",
    /// A body that is not what its content type says.
    InvalidJson => "invalid_json",
    /// A head that makes no sense.
    BadRequest => "bad_request",
    /// A body that stopped short or broke off.
    BodyTimeout => "request_timeout",
    /// More than one request may bring.
    BodyTooLarge => "request_too_large",
    /// More bodies at a time than there is memory for.
    TooManyBodies => "too_many_bodies",
    /// All seats are taken by requests in flight.
    TooManyInFlight => "too_many_requests_in_flight",
    /// A target longer than any of ours.
    TargetTooLong => "uri_too_long",
    /// Too many or too long header fields.
    HeadersTooLarge => "headers_too_large",
    /// A body of another content type than JSON.
    NotJson => "unsupported_media_type",
    /// A body that is compressed, or coded for its way, otherwise than is understood.
    Encoded => "unsupported_content_encoding",
    /// A Host that is not on the list.
    HostNotAllowed => "host_not_allowed",
    /// An Origin that is not on the list.
    OriginNotAllowed => "origin_not_allowed",
    /// No key or a wrong one.
    InvalidKey => "invalid_api_key",
    /// A key that is for something else.
    KeyNotAllowed => "key_not_allowed",
    /// A key that was used more often than it may be.
    KeyLimit => "key_rate_limit_exceeded",
    /// A name that no key has.
    UnknownKey => "key_not_found",
    /// No such path.
    UnknownUrl => "unknown_url",
    /// The path exists, for other methods.
    WrongMethod => "method_not_allowed",
    /// A model that is not the loaded one.
    UnknownModel => "model_not_found",
    /// A model that is for something else.
    WrongPurpose => "model_not_suitable",
    /// A request that is not among those that are remembered.
    UnknownRequest => "request_not_found",
    /// A response that is not among those that are kept.
    UnknownResponse => "response_not_found",
    /// The same, where a call would go on with it.
    UnknownPreviousResponse => "previous_response_not_found",
    /// An agent that nobody has named yet, or that was forgotten.
    UnknownAgent => "agent_not_found",
    /// The model's chat template does not work.
    ChatTemplateFailed => "chat_template_failed",
    /// The model has no chat template.
    NoChatTemplate => "no_chat_template",
    /// The prompt does not fit the context.
    TooLong => "context_length_exceeded",
    /// The memory for KV is taken by others.
    PoolExhausted => "pool_exhausted",
    /// Too many requests wait already.
    Busy => "rate_limit_exceeded",
    /// No model is loaded.
    NoModel => NotReadyReason::NoModel.name(),
    /// The model is being loaded.
    ModelLoading => NotReadyReason::ModelLoading.name(),
    /// The server drains, or has ended.
    ShuttingDown => NotReadyReason::ShuttingDown.name(),
    /// The server was drained and waits to be resumed.
    Parked => NotReadyReason::Parked.name(),
    /// The engine has failed.
    EngineFailed => NotReadyReason::EngineFailed.name(),
    /// The answer was begun and cannot be finished.
    Interrupted => "interrupted",
    /// Something of ours broke.
    Internal => "internal_error",
    /// What an admin call asks for cannot be done now.
    IllegalTransition => "illegal_transition",
}

impl Fault {
    fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, place: None, message: message.into(), for_log: None, retry_after: None, lengths: None }
    }

    /// The same, said of this part of the request.
    pub(crate) fn at(mut self, place: impl Into<String>) -> Fault {
        self.place = Some(place.into());
        self
    }

    fn retry(mut self, after: Option<Duration>) -> Fault {
        self.retry_after = after;
        self
    }

    /// Tell the log what only it is told.
    pub(crate) fn log(&self, id: &RequestId) {
        match (&self.for_log, self.kind) {
            (None, _) => {}
            (Some(words), FaultKind::Internal) => tracing::error!(request_id = %id, "{words}"),
            (Some(words), kind) => tracing::warn!(request_id = %id, error = kind.name(), "{words}"),
        }
    }

    /// A value that cannot be.
    pub(crate) fn invalid(place: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::InvalidValue, message).at(place)
    }

    /// A field that must be there and is not.
    pub(crate) fn missing(place: impl Into<String>) -> Fault {
        let place = place.into();
        Fault::new(FaultKind::MissingParameter, format!("missing required parameter: '{place}'")).at(place)
    }

    /// Something that the API has and this server does not, yet or on purpose.
    pub(crate) fn unsupported(place: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::UnsupportedParameter, message).at(place)
    }

    /// A conversation that the server is to keep, where it cannot.
    pub(crate) fn no_threads(place: impl Into<String>) -> Fault {
        Fault::new(FaultKind::NoThreads, "threads are not kept: send the conversation whole").at(place)
    }

    /// A field that the API does not have.
    pub(crate) fn unknown(place: impl Into<String>) -> Fault {
        let place = place.into();
        Fault::new(FaultKind::UnknownParameter, format!("unknown parameter: '{place}'")).at(place)
    }

    /// A body that is not what its content type says.
    pub(crate) fn bad_json(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::InvalidJson, message)
    }

    /// A head that makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::BadRequest, message)
    }

    /// A body that stopped short or broke off.
    pub(crate) fn body_timeout() -> Fault {
        Fault::new(FaultKind::BodyTimeout, "the body did not arrive in time")
    }

    /// A body that has stopped while others want the room that it has.
    pub(crate) fn body_too_slow() -> Fault {
        Fault::new(FaultKind::BodyTimeout, "the body came too slowly while others waited for room")
    }

    /// All seats are taken by requests in flight.
    pub(crate) fn no_seat() -> Fault {
        let message = "too many requests are in flight; try again shortly";
        Fault::new(FaultKind::TooManyInFlight, message).retry(Some(Duration::from_secs(1)))
    }

    /// More bodies at a time than there is memory for.
    pub(crate) fn no_room_for_body() -> Fault {
        let message = "too many large requests arrive at the same time; try again shortly";
        Fault::new(FaultKind::TooManyBodies, message).retry(Some(Duration::from_secs(1)))
    }

    /// More than one request may bring.
    pub(crate) fn body_too_large(limit: usize) -> Fault {
        Fault::new(FaultKind::BodyTooLarge, format!("the body is larger than {limit} bytes"))
    }

    /// A target longer than any of ours.
    pub(crate) fn target_too_long(limit: usize) -> Fault {
        Fault::new(FaultKind::TargetTooLong, format!("the request's target is longer than {limit} bytes"))
    }

    /// Too many or too long header fields.
    pub(crate) fn headers_too_large(message: String) -> Fault {
        Fault::new(FaultKind::HeadersTooLarge, message)
    }

    /// A body of another content type than JSON.
    pub(crate) fn not_json() -> Fault {
        Fault::new(FaultKind::NotJson, "a body must come with content-type: application/json")
    }

    /// More than one request may bring, once its compression is undone.
    pub(crate) fn unpacked_too_large(limit: usize) -> Fault {
        let message = format!("the body is larger than {limit} bytes when its compression is undone");
        Fault::new(FaultKind::BodyTooLarge, message)
    }

    /// A body that is compressed in a way that nobody here undoes.
    pub(crate) fn unknown_coding(name: &str) -> Fault {
        let message = format!(
            "content-encoding '{}' is not understood: send the body as it is, or as gzip or as zstd",
            shorten(name)
        );
        Fault::new(FaultKind::Encoded, message)
    }

    /// A message that is coded for its way otherwise than in chunks.
    pub(crate) fn unknown_transfer_coding() -> Fault {
        let message = "transfer-encoding may be chunked and nothing else; a compressed body is announced by \
                       content-encoding: gzip or zstd";
        Fault::new(FaultKind::Encoded, message)
    }

    /// A Host that is not on the list.
    pub(crate) fn host_not_allowed(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::HostNotAllowed, message)
    }

    /// An Origin that is not on the list.
    pub(crate) fn origin_not_allowed(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::OriginNotAllowed, message)
    }

    /// No key or a wrong one.
    pub(crate) fn unauthorized() -> Fault {
        let message = "no valid API key: send it as `authorization: Bearer …` or as `x-api-key`";
        Fault::new(FaultKind::InvalidKey, message)
    }

    /// A key that is for something else.
    pub(crate) fn key_not_allowed(name: &str, scope: &str) -> Fault {
        let message =
            format!("the key '{}' is not for this: it would have to be one for '{scope}'", shorten(name));
        Fault::new(FaultKind::KeyNotAllowed, message)
    }

    /// A key that was used more often than it may be.
    pub(crate) fn key_limit(name: &str, a_minute: u32, wait: Duration) -> Fault {
        let message = format!("the key '{}' may make {a_minute} requests a minute, and has", shorten(name));
        Fault::new(FaultKind::KeyLimit, message).retry(Some(wait))
    }

    /// A name that no key has.
    pub(crate) fn unknown_key(name: &str) -> Fault {
        Fault::new(FaultKind::UnknownKey, format!("there is no key '{}'; see /admin/keys", shorten(name)))
            .at("id")
    }

    /// A server without a folder in which keys could be kept.
    pub(crate) fn keeps_no_keys() -> Fault {
        Fault::new(FaultKind::IllegalTransition, "this server has no folder to keep keys in")
    }

    /// No such path.
    pub(crate) fn no_route(method: &str, path: &str) -> Fault {
        Fault::new(FaultKind::UnknownUrl, format!("unknown request URL: {method} {}", shorten(path)))
    }

    /// The path exists, for other methods.
    pub(crate) fn wrong_method(method: &str, path: &str) -> Fault {
        let message = format!("method {} is not allowed for {}", shorten(method), shorten(path));
        Fault::new(FaultKind::WrongMethod, message)
    }

    /// A model that is not the loaded one.
    pub(crate) fn unknown_model(name: &str) -> Fault {
        let message = format!("the model '{}' does not exist; see /v1/models", shorten(name));
        Fault::new(FaultKind::UnknownModel, message).at("model")
    }

    /// A request that is not among those that are remembered.
    pub(crate) fn unknown_request(id: &str) -> Fault {
        let message = format!("nothing is known of the request '{}'", shorten(id));
        Fault::new(FaultKind::UnknownRequest, message)
    }

    /// A response that is not among those that are kept.
    pub(crate) fn unknown_response(id: &str) -> Fault {
        let message = format!("there is no response '{}'; the last ones are kept, in memory", shorten(id));
        Fault::new(FaultKind::UnknownResponse, message).at("id")
    }

    /// The same, where a call would go on with it.
    pub(crate) fn unknown_previous_response(id: &str) -> Fault {
        let message = format!(
            "there is no response '{}' to go on with; the last ones are kept, in memory: send the conversation whole",
            shorten(id)
        );
        Fault::new(FaultKind::UnknownPreviousResponse, message).at("previous_response_id")
    }

    /// An agent that nobody has named yet, or that was forgotten.
    pub(crate) fn unknown_agent(name: &str) -> Fault {
        let message = format!("there is no agent '{}'; see /v1/agents", shorten(name));
        Fault::new(FaultKind::UnknownAgent, message).at("id")
    }

    /// The model has no chat template; `message` says so.
    pub(crate) fn no_chat_template(message: &str) -> Fault {
        let message = format!("{message}: use /v1/completions, or load a model made for chat");
        Fault::new(FaultKind::NoChatTemplate, message)
    }

    /// A model's chat template failed on these messages. That is neither the client's fault nor heals with a retry.
    pub(crate) fn chat_template_failed(model: &str, fault: &str) -> Fault {
        let model = shorten(model);
        let message = format!("the chat template of the model '{model}' failed with these messages: {fault}");
        Fault::new(FaultKind::ChatTemplateFailed, message).log_as(template_words(&model, fault))
    }

    /// A model's chat template fails on every chat.
    pub(crate) fn chat_template_broken(model: &str, fault: &str) -> Fault {
        let model = shorten(model);
        let message = format!(
            "the chat template in the file of the model '{model}' does not work, not even for one plain message: \
             {fault}; use /v1/completions, or another file of this model"
        );
        Fault::new(FaultKind::ChatTemplateFailed, message).log_as(template_words(&model, fault))
    }

    /// Something of ours broke; the log knows more under `id`.
    pub(crate) fn internal(id: impl Display, for_log: impl Into<String>) -> Fault {
        let message = format!("internal error; the log has the details under {id}");
        Fault::new(FaultKind::Internal, message).log_as(for_log)
    }

    /// The model's file cannot be used like this, which it should have said when it was loaded.
    pub(crate) fn broken_model(message: String) -> Fault {
        Fault::new(FaultKind::Internal, message)
    }

    fn log_as(mut self, words: impl Into<String>) -> Fault {
        self.for_log = Some(words.into());
        self
    }

    /// A prompt of `n_tokens` that the context does not hold.
    pub(crate) fn too_long(n_tokens: usize, limit: usize) -> Fault {
        Fault::beyond_context(n_tokens, n_tokens, limit)
    }

    /// A prompt of so many tokens at least, which the context does not hold.
    pub(crate) fn too_long_at_least(at_least: usize, limit: usize) -> Fault {
        Fault::beyond_context(at_least, format_args!("at least {at_least}"), limit)
    }

    /// A text of `n_tokens` that a model cannot read as one; `cut` is what to send to have it cut.
    pub(crate) fn text_too_long(n_tokens: usize, limit: usize, cut: &str) -> Fault {
        Fault::beyond_text(n_tokens, n_tokens, limit, cut)
    }

    /// The same of one of so many tokens at least.
    pub(crate) fn text_too_long_at_least(at_least: usize, limit: usize, cut: &str) -> Fault {
        Fault::beyond_text(at_least, format_args!("at least {at_least}"), limit, cut)
    }

    fn beyond_text(prompt_tokens: usize, n_tokens: impl Display, limit: usize, cut: &str) -> Fault {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your input has {n_tokens} tokens. Please \
             reduce its length, or send {cut} to have its end left out."
        );
        let lengths = Lengths { prompt_tokens, context_length: limit };
        Fault { lengths: Some(lengths), ..Fault::new(FaultKind::TooLong, message) }
    }

    fn beyond_context(prompt_tokens: usize, n_tokens: impl Display, limit: usize) -> Fault {
        // Agents look for these words to know that they must compact their history.
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your prompt resulted in \
             {n_tokens} tokens. Please reduce the length of the prompt."
        );
        let lengths = Lengths { prompt_tokens, context_length: limit };
        Fault { lengths: Some(lengths), ..Fault::new(FaultKind::TooLong, message) }
    }

    /// Nothing is taken now.
    fn unavailable(reason: NotReadyReason, retry_after: Option<Duration>) -> Fault {
        let (kind, message) = match reason {
            NotReadyReason::NoModel => (FaultKind::NoModel, "no model is loaded"),
            NotReadyReason::ModelLoading => {
                (FaultKind::ModelLoading, "the model is being loaded; try again shortly")
            }
            NotReadyReason::Parked => {
                (FaultKind::Parked, "the server is parked and takes no requests until it is resumed")
            }
            NotReadyReason::EngineFailed | NotReadyReason::EngineStalled => {
                (FaultKind::EngineFailed, "the engine has failed; /health/ready has the cause")
            }
            NotReadyReason::ShuttingDown | NotReadyReason::PoolNearExhaustion => {
                (FaultKind::ShuttingDown, "the server finishes its running requests and takes no new ones")
            }
        };
        Fault::new(kind, message).retry(retry_after)
    }
}

fn template_words(model: &str, fault: &str) -> String {
    format!("the chat template of the model '{model}' failed: {fault}")
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Invalid { param, message } => Fault::invalid(param, message),
            Refusal::TooLong { n_tokens, limit } => Fault::too_long(n_tokens, limit),
            Refusal::WrongPurpose { message } => Fault::new(FaultKind::WrongPurpose, message).at("model"),
            Refusal::PoolExhausted { needed, free, total } => {
                let message = format!(
                    "the server's memory is taken by other requests: this one needs {needed} blocks, \
                     {free} of {total} are free; try again later"
                );
                Fault::new(FaultKind::PoolExhausted, message).retry(Some(Duration::from_secs(5)))
            }
            Refusal::Busy { n_waiting } => {
                let message =
                    format!("too many requests at a time, {n_waiting} of them waiting; try again later");
                Fault::new(FaultKind::Busy, message).retry(Some(Duration::from_secs(2)))
            }
            Refusal::Unavailable { reason, retry_after } => Fault::unavailable(reason, retry_after),
            Refusal::Interrupted { why } => {
                let message = format!("the answer was interrupted: {why}");
                Fault::new(FaultKind::Interrupted, message).retry(Some(Duration::from_secs(5)))
            }
            // The engine has told the log.
            Refusal::Fault { id } => Fault { for_log: None, ..Fault::internal(id, "") },
        }
    }
}

impl From<IllegalTransition> for Fault {
    fn from(error: IllegalTransition) -> Fault {
        Fault::new(FaultKind::IllegalTransition, error.to_string())
    }
}

/// What a client sent, short enough to be shown back to it.
pub(crate) fn shorten(text: &str) -> String {
    const MAX: usize = 80;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for (i, kind) in FaultKind::ALL.iter().enumerate() {
            assert_eq!(
                FaultKind::ALL.iter().position(|other| other.name() == kind.name()),
                Some(i),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_fault_of_ours_says_an_id_and_nothing_of_its_cause() {
        let fault = Fault::from(Refusal::Fault { id: "req_7".into() });
        assert_eq!(fault.message, "internal error; the log has the details under req_7");
        let fault = Fault::internal("req_8", "the cellar is wet");
        assert_eq!(fault.message, "internal error; the log has the details under req_8");
        assert_eq!(fault.for_log.as_deref(), Some("the cellar is wet"));
    }

    #[test]
    fn memory_pressure_is_never_reported_as_a_context_that_is_too_long() {
        let fault = Fault::from(Refusal::PoolExhausted { needed: 9, free: 1, total: 10 });
        assert!(!fault.message.contains("context") && fault.kind == FaultKind::PoolExhausted);
    }
}
