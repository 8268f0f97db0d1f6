//! The one place that maps kinds of errors to status codes and to the bodies of the API.

use std::fmt::Display;
use std::time::Duration;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine::{IllegalTransition, PromptError, Refusal};
use serde_json::{Value, json};
use text::{ConstraintError, TextError};

/// An answer that is an error, in OpenAI's shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    /// The status, where there is still a head to put it in.
    pub(crate) status: StatusCode,
    /// `error.type`
    pub(crate) kind: &'static str,
    /// `error.code`
    pub(crate) code: Option<&'static str>,
    /// `error.param`: where in the request the fault is.
    pub(crate) param: Option<String>,
    /// `error.message`
    pub(crate) message: String,
    /// When it may be worth asking again.
    pub(crate) retry_after: Option<Duration>,
}

const INVALID: &str = "invalid_request_error";

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError { status, kind, code: Some(code), param: None, message: message.into(), retry_after: None }
    }

    fn at(mut self, param: impl Into<String>) -> ApiError {
        self.param = Some(param.into());
        self
    }

    fn retry(mut self, after: Option<Duration>) -> ApiError {
        self.retry_after = after;
        self
    }

    /// A value that cannot be.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", message).at(param)
    }

    /// A field that must be there and is not.
    pub(crate) fn missing(param: impl Into<String>) -> ApiError {
        let param = param.into();
        let message = format!("missing required parameter: '{param}'");
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "missing_required_parameter", message).at(param)
    }

    /// Something that the API has and this server does not, yet or on purpose.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "unsupported_parameter", message).at(param)
    }

    /// A field that the API does not have.
    pub(crate) fn unknown(param: impl Into<String>) -> ApiError {
        let param = param.into();
        let message = format!("unknown parameter: '{param}'");
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "unknown_parameter", message).at(param)
    }

    /// A body that is not what its content type says.
    pub(crate) fn bad_json(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "invalid_json", message)
    }

    /// A head that makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "bad_request", message)
    }

    /// A body that stopped short or broke off.
    pub(crate) fn body_timeout() -> ApiError {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            INVALID,
            "request_timeout",
            "the body did not arrive in time",
        )
    }

    /// All seats are taken by requests in flight.
    pub(crate) fn no_seat() -> ApiError {
        let message = "too many requests are in flight; try again shortly";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "too_many_requests_in_flight", message)
            .retry(Some(Duration::from_secs(1)))
    }

    /// A body that has stopped while others want the room that it has.
    pub(crate) fn body_too_slow() -> ApiError {
        let message = "the body came too slowly while others waited for room";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, INVALID, "request_timeout", message)
    }

    /// More bodies at a time than there is memory for.
    pub(crate) fn no_room_for_body() -> ApiError {
        let message = "too many large requests arrive at the same time; try again shortly";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "too_many_bodies", message)
            .retry(Some(Duration::from_secs(1)))
    }

    /// More than one request may bring.
    pub(crate) fn body_too_large(limit: usize) -> ApiError {
        let message = format!("the body is larger than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "request_too_large", message)
    }

    /// A target longer than any of ours.
    pub(crate) fn target_too_long(limit: usize) -> ApiError {
        let message = format!("the request's target is longer than {limit} bytes");
        ApiError::new(StatusCode::URI_TOO_LONG, INVALID, "uri_too_long", message)
    }

    /// Too many or too long header fields.
    pub(crate) fn headers_too_large(message: String) -> ApiError {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        ApiError::new(status, INVALID, "headers_too_large", message)
    }

    /// A body of another content type than JSON.
    pub(crate) fn not_json() -> ApiError {
        let message = "a body must come with content-type: application/json";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_media_type", message)
    }

    /// A body that is compressed, or coded otherwise for its way.
    pub(crate) fn encoded(field: &str, plain: &str) -> ApiError {
        let message = format!("a body is taken as it is: send it without {field}, or with {field}: {plain}");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_content_encoding", message)
    }

    /// A Host or Origin that is not on the list.
    pub(crate) fn forbidden(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", code, message)
    }

    /// No key or a wrong one.
    pub(crate) fn unauthorized() -> ApiError {
        let message = "no valid API key: send it as `authorization: Bearer …` or as `x-api-key`";
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// No such path.
    pub(crate) fn no_route(method: &str, path: &str) -> ApiError {
        let message = format!("unknown request URL: {method} {}", shorten(path));
        ApiError::new(StatusCode::NOT_FOUND, INVALID, "unknown_url", message)
    }

    /// The path exists, for other methods.
    pub(crate) fn wrong_method(method: &str, path: &str) -> ApiError {
        let message = format!("method {} is not allowed for {}", shorten(method), shorten(path));
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed", message)
    }

    /// A model that is not the loaded one.
    pub(crate) fn unknown_model(name: &str) -> ApiError {
        let message = format!("the model '{}' does not exist; see /v1/models", shorten(name));
        ApiError::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message).at("model")
    }

    /// A request that is not among those that are remembered.
    pub(crate) fn unknown_request(id: &str) -> ApiError {
        let message = format!("nothing is known of the request '{}'", shorten(id));
        ApiError::new(StatusCode::NOT_FOUND, INVALID, "request_not_found", message)
    }

    /// An agent that nobody has named yet, or that was forgotten.
    pub(crate) fn unknown_agent(name: &str) -> ApiError {
        let message = format!("there is no agent '{}'; see /v1/agents", shorten(name));
        ApiError::new(StatusCode::NOT_FOUND, INVALID, "agent_not_found", message).at("id")
    }

    /// A model's chat template failed. That is neither the client's fault nor heals with a retry, hence no 500, which
    /// clients retry.
    pub(crate) fn chat_template_failed(model: &str, fault: &str, always: bool) -> ApiError {
        const CODE: &str = "chat_template_failed";
        let model = shorten(model);
        if always {
            let message = format!(
                "the chat template in the file of the model '{model}' does not work, not even for one plain message: \
                 {fault}; use /v1/completions, or another file of this model"
            );
            return ApiError::new(StatusCode::BAD_REQUEST, INVALID, CODE, message);
        }
        let message = format!("the chat template of the model '{model}' failed with these messages: {fault}");
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, CODE, message).at("messages")
    }

    /// Something of ours broke; the log knows more under `id`.
    pub(crate) fn fault(id: &str) -> ApiError {
        let message = format!("internal error; the log has the details under {id}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    /// A prompt of `n_tokens`, or of so many at least, that the context does not hold.
    fn too_long(n_tokens: impl Display, limit: usize) -> ApiError {
        // Agents look for these words to know that they must compact their history.
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your prompt resulted in \
             {n_tokens} tokens. Please reduce the length of the prompt."
        );
        ApiError::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message)
    }

    /// The same fault, said of another part of the request: `TooLong` of a chat is about its messages.
    pub(crate) fn with_param(self, param: &str) -> ApiError {
        self.at(param)
    }

    /// The body: `{"error": {"message", "type", "param", "code"}}`. As a frame of a stream it makes the
    /// official clients raise an error.
    pub(crate) fn body(&self) -> Value {
        json!({
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        })
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        const SERVER: &str = "server_error";
        const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        match refusal {
            Refusal::Invalid { param, message } => ApiError::invalid(param, message),
            Refusal::TooLong { n_tokens, limit } => ApiError::too_long(n_tokens, limit),
            Refusal::PoolExhausted { needed, free, total } => {
                let message = format!(
                    "the server's memory is taken by other requests: this one needs {needed} blocks, \
                     {free} of {total} are free; try again later"
                );
                ApiError::new(BUSY, SERVER, "pool_exhausted", message).retry(Some(Duration::from_secs(5)))
            }
            Refusal::Busy { n_waiting } => {
                let message = format!("too many requests: {n_waiting} are waiting already; try again later");
                ApiError::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_error",
                    "rate_limit_exceeded",
                    message,
                )
                .retry(Some(Duration::from_secs(2)))
            }
            Refusal::Unavailable { state, retry_after } => {
                let (code, message) = unavailable(state);
                ApiError::new(BUSY, SERVER, code, message).retry(retry_after)
            }
            Refusal::Interrupted { why } => {
                ApiError::new(BUSY, SERVER, "interrupted", format!("the answer was interrupted: {why}"))
                    .retry(Some(Duration::from_secs(5)))
            }
            Refusal::Fault { id } => ApiError::fault(&id),
        }
    }
}

/// Code and words for a state that admits nothing.
fn unavailable(state: &str) -> (&'static str, &'static str) {
    match state {
        "unloaded" => ("no_model", "no model is loaded"),
        "loading" => ("model_loading", "the model is being loaded; try again shortly"),
        "parked" => ("parked", "the server is parked and takes no requests until it is resumed"),
        "failed" => ("engine_failed", "the engine has failed; /health/ready has the cause"),
        _ => ("shutting_down", "the server finishes its running requests and takes no new ones"),
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> ApiError {
        match error {
            PromptError::Text(error) => error.into(),
            PromptError::TooLong { at_least, limit } => {
                ApiError::too_long(format_args!("at least {at_least}"), limit)
            }
            // Nobody reads it.
            PromptError::Abandoned => ApiError::bad_request("the client went away"),
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> ApiError {
        let message = error.to_string();
        match error {
            TextError::NoChatTemplate => {
                let message = format!("{message}: use /v1/completions, or load a model made for chat");
                ApiError::new(StatusCode::BAD_REQUEST, INVALID, "no_chat_template", message).at("messages")
            }
            TextError::Refused(_) => ApiError::invalid("messages", message),
            TextError::Template(fault) => ApiError::chat_template_failed("loaded", &fault, false),
            TextError::Vocabulary(_) | TextError::Unsupported(_) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
            }
        }
    }
}

impl From<ConstraintError> for ApiError {
    fn from(error: ConstraintError) -> ApiError {
        match &error {
            ConstraintError::Schema(fault) => {
                let param = format!("response_format.json_schema.schema{}", fault.pointer);
                ApiError::invalid(param, error.to_string())
            }
            ConstraintError::Stuck(_) => ApiError::invalid("response_format", error.to_string()),
        }
    }
}

impl From<IllegalTransition> for ApiError {
    fn from(error: IllegalTransition) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "conflict_error", "illegal_transition", error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Read by the access log.
        response.extensions_mut().insert(self.code.unwrap_or(self.kind));
        response
    }
}

/// Rounded up, and at least one.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
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
    use text::SchemaFault;

    use super::*;

    /// One line a kind: status, type, code, param, Retry-After.
    fn line(error: impl Into<ApiError>) -> String {
        let error: ApiError = error.into();
        let retry = error.clone().into_response().headers().get(RETRY_AFTER).cloned();
        format!(
            "{} {} {} {} {}",
            error.status.as_u16(),
            error.kind,
            error.code.unwrap_or("-"),
            error.param.as_deref().unwrap_or("-"),
            retry.as_ref().map_or("-", |value| value.to_str().unwrap()),
        )
    }

    #[test]
    fn every_kind_of_refusal_has_its_status_type_code_and_retry() {
        let unavailable = |state, seconds: Option<f64>| Refusal::Unavailable {
            state,
            retry_after: seconds.map(Duration::from_secs_f64),
        };
        let table = [
            line(Refusal::Invalid { param: "prompt", message: "m".into() }),
            line(Refusal::TooLong { n_tokens: 9000, limit: 8192 }),
            line(PromptError::TooLong { at_least: 8193, limit: 8192 }),
            line(PromptError::Abandoned),
            line(PromptError::Text(TextError::NoChatTemplate)),
            line(ApiError::unknown_model("gpt-4o")),
            line(ApiError::unknown_agent("nobody")),
            line(Refusal::PoolExhausted { needed: 9, free: 1, total: 10 }),
            line(Refusal::Busy { n_waiting: 7 }),
            line(unavailable("unloaded", None)),
            line(unavailable("loading", Some(2.0))),
            line(unavailable("draining", Some(12.2))),
            line(unavailable("draining", Some(0.0))),
            line(unavailable("parked", Some(30.0))),
            line(unavailable("failed", None)),
            line(unavailable("stopped", None)),
            line(Refusal::Interrupted { why: "the drain's deadline passed" }),
            line(Refusal::Fault { id: "req_1".into() }),
            line(TextError::NoChatTemplate),
            line(TextError::Refused("roles must alternate".into())),
            line(TextError::Template("x".into())),
            line(ConstraintError::Schema(SchemaFault { pointer: "#/items".into(), message: "m".into() })),
            line(IllegalTransition { what: "resume", state: "ready" }),
        ];
        let want = "\
400 invalid_request_error invalid_value prompt -
400 invalid_request_error context_length_exceeded - -
400 invalid_request_error context_length_exceeded - -
400 invalid_request_error bad_request - -
400 invalid_request_error no_chat_template messages -
404 invalid_request_error model_not_found model -
404 invalid_request_error agent_not_found id -
503 server_error pool_exhausted - 5
429 rate_limit_error rate_limit_exceeded - 2
503 server_error no_model - -
503 server_error model_loading - 2
503 server_error shutting_down - 13
503 server_error shutting_down - 1
503 server_error parked - 30
503 server_error engine_failed - -
503 server_error shutting_down - -
503 server_error interrupted - 5
500 server_error internal_error - -
400 invalid_request_error no_chat_template messages -
400 invalid_request_error invalid_value messages -
400 invalid_request_error chat_template_failed messages -
400 invalid_request_error invalid_value response_format.json_schema.schema#/items -
409 conflict_error illegal_transition - -";
        assert_eq!(table.join("\n"), want);
    }

    #[test]
    fn a_body_has_the_four_fields_that_official_clients_read() {
        let body = ApiError::invalid("temperature", "must be 0 to 2").body();
        assert_eq!(
            body.to_string(),
            r#"{"error":{"message":"must be 0 to 2","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#
        );
    }

    #[test]
    fn a_fault_says_an_id_and_nothing_of_its_cause() {
        let error = ApiError::from(Refusal::Fault { id: "req_7".into() });
        assert_eq!(error.message, "internal error; the log has the details under req_7");
    }

    #[test]
    fn memory_pressure_is_never_reported_as_a_context_that_is_too_long() {
        let error = ApiError::from(Refusal::PoolExhausted { needed: 9, free: 1, total: 10 });
        assert!(!error.message.contains("context") && error.code != Some("context_length_exceeded"));
    }
}
