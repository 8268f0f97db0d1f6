//! What OpenAI's API says when there is no answer: status, type, code, and the part of the request that it is about.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::fault::{Fault, FaultKind};
use crate::dialects::dialect::WrittenFault;
use crate::dialects::sse::json;
use crate::name_lists::fault_codes;

/// The body of a fault. As a frame of a stream it makes the official clients raise an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorFields,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorFields {
    /// What is wrong, for people.
    message: String,
    /// Whose matter it is.
    #[schema(value_type = String)]
    r#type: ErrorType,
    /// Where in the request it is.
    param: Option<String>,
    /// What is wrong, for programs.
    #[schema(schema_with = fault_codes)]
    code: &'static str,
    /// Of a prompt that is too long: its tokens, as far as they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<usize>,
    /// Of a prompt that is too long: the tokens that the context holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
}

/// The types of errors that official clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum ErrorType {
    #[serde(rename = "invalid_request_error")]
    InvalidRequest,
    #[serde(rename = "authentication_error")]
    Authentication,
    #[serde(rename = "permission_error")]
    Permission,
    #[serde(rename = "rate_limit_error")]
    RateLimit,
    #[serde(rename = "conflict_error")]
    Conflict,
    #[serde(rename = "server_error")]
    Server,
}

impl ErrorBody {
    pub(crate) fn new(fault: &Fault) -> ErrorBody {
        ErrorBody {
            error: ErrorFields {
                message: message(fault),
                r#type: verdict(fault.kind).1,
                param: fault.place.clone(),
                code: fault.kind.name(),
                prompt_tokens: fault.lengths.map(|lengths| lengths.prompt_tokens),
                context_length: fault.lengths.map(|lengths| lengths.context_length),
            },
        }
    }
}

/// What is wrong, and with what: most clients show their users the message alone.
fn message(fault: &Fault) -> String {
    let Some(place) = &fault.place else { return fault.message.clone() };
    let said = match fault.kind {
        FaultKind::InvalidValue => "Invalid",
        FaultKind::UnsupportedParameter => "Unsupported",
        _ => return fault.message.clone(),
    };
    if fault.message.contains(&format!("'{place}'")) {
        return fault.message.clone();
    }
    format!("{said} '{place}': {}", fault.message)
}

/// A fault as a response.
pub(crate) fn write(fault: &Fault) -> WrittenFault {
    WrittenFault { status: status(fault.kind), body: json(&ErrorBody::new(fault)) }
}

/// The status of a kind of faults.
pub(crate) fn status(kind: FaultKind) -> StatusCode {
    verdict(kind).0
}

fn verdict(kind: FaultKind) -> (StatusCode, ErrorType) {
    use ErrorType as Type;
    let invalid = |status| (status, Type::InvalidRequest);
    let server = |status| (status, Type::Server);
    match kind {
        FaultKind::InvalidValue
        | FaultKind::MissingParameter
        | FaultKind::UnsupportedParameter
        | FaultKind::NoThreads
        | FaultKind::UnknownParameter
        | FaultKind::InvalidJson
        | FaultKind::BadRequest
        | FaultKind::WrongPurpose
        | FaultKind::NoChatTemplate
        | FaultKind::TooLong
        | FaultKind::UnknownPreviousResponse
        // No 500, which clients retry: it is neither theirs nor does it heal.
        | FaultKind::ChatTemplateFailed => invalid(StatusCode::BAD_REQUEST),
        FaultKind::BodyTimeout => invalid(StatusCode::REQUEST_TIMEOUT),
        FaultKind::BodyTooLarge => invalid(StatusCode::PAYLOAD_TOO_LARGE),
        FaultKind::TargetTooLong => invalid(StatusCode::URI_TOO_LONG),
        FaultKind::HeadersTooLarge => invalid(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        FaultKind::NotJson | FaultKind::Encoded => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        FaultKind::UnknownUrl
        | FaultKind::UnknownModel
        | FaultKind::UnknownRequest
        | FaultKind::UnknownResponse
        | FaultKind::UnknownKey
        | FaultKind::UnknownAgent => invalid(StatusCode::NOT_FOUND),
        FaultKind::WrongMethod => invalid(StatusCode::METHOD_NOT_ALLOWED),
        FaultKind::HostNotAllowed | FaultKind::OriginNotAllowed | FaultKind::KeyNotAllowed => {
            (StatusCode::FORBIDDEN, Type::Permission)
        }
        FaultKind::InvalidKey => (StatusCode::UNAUTHORIZED, Type::Authentication),
        FaultKind::Busy | FaultKind::KeyLimit => (StatusCode::TOO_MANY_REQUESTS, Type::RateLimit),
        FaultKind::IllegalTransition => (StatusCode::CONFLICT, Type::Conflict),
        FaultKind::TooManyBodies
        | FaultKind::TooManyInFlight
        | FaultKind::PoolExhausted
        | FaultKind::NoModel
        | FaultKind::ModelLoading
        | FaultKind::ShuttingDown
        | FaultKind::Parked
        | FaultKind::EngineFailed
        | FaultKind::Interrupted => server(StatusCode::SERVICE_UNAVAILABLE),
        FaultKind::Internal => server(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::{IllegalTransition, NotReadyReason, Refusal};

    use super::*;

    /// One line a kind: status, type, code, param, and when to ask again.
    fn line(fault: impl Into<Fault>) -> String {
        let fault: Fault = fault.into();
        let WrittenFault { status, body } = write(&fault);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = |field: &str| body["error"][field].as_str().unwrap_or("-").to_owned();
        let retry = fault.retry_after.map_or("-".to_owned(), |after| format!("{}", after.as_secs_f64()));
        format!("{} {} {} {} {retry}", status.as_u16(), text("type"), text("code"), text("param"))
    }

    #[test]
    fn every_kind_of_refusal_has_its_status_type_code_and_retry() {
        let unavailable = |reason, seconds: Option<f64>| Refusal::Unavailable {
            reason,
            retry_after: seconds.map(Duration::from_secs_f64),
        };
        let table = [
            line(Refusal::Invalid { param: "prompt", message: "m".into() }),
            line(Refusal::TooLong { n_tokens: 9000, limit: 8192 }),
            line(Fault::unknown_model("gpt-4o")),
            line(Refusal::WrongPurpose { message: "m".into() }),
            line(Fault::unknown_agent("nobody")),
            line(Refusal::PoolExhausted { needed: 9, free: 1, total: 10 }),
            line(Refusal::Busy { n_waiting: 7 }),
            line(unavailable(NotReadyReason::NoModel, None)),
            line(unavailable(NotReadyReason::ModelLoading, Some(2.0))),
            line(unavailable(NotReadyReason::ShuttingDown, Some(12.2))),
            line(unavailable(NotReadyReason::Parked, Some(30.0))),
            line(unavailable(NotReadyReason::EngineFailed, None)),
            line(Refusal::Interrupted { why: "the drain's deadline passed" }),
            line(Refusal::Fault { id: "req_1".into() }),
            line(Fault::no_chat_template("m").at("messages")),
            line(Fault::chat_template_failed("m", "x").at("messages")),
            line(Fault::chat_template_broken("m", "x")),
            line(IllegalTransition { what: "resume", state: "ready" }),
        ];
        let want = "\
400 invalid_request_error invalid_value prompt -
400 invalid_request_error context_length_exceeded - -
404 invalid_request_error model_not_found model -
400 invalid_request_error model_not_suitable model -
404 invalid_request_error agent_not_found id -
503 server_error pool_exhausted - 5
429 rate_limit_error rate_limit_exceeded - 2
503 server_error no_model - -
503 server_error model_loading - 2
503 server_error shutting_down - 12.2
503 server_error parked - 30
503 server_error engine_failed - -
503 server_error interrupted - 5
500 server_error internal_error - -
400 invalid_request_error no_chat_template messages -
400 invalid_request_error chat_template_failed messages -
400 invalid_request_error chat_template_failed - -
409 conflict_error illegal_transition - -";
        assert_eq!(table.join("\n"), want);
    }

    #[test]
    fn a_message_says_what_it_is_about_once() {
        let message = |fault: &Fault| ErrorBody::new(fault).error.message;
        assert_eq!(
            message(&Fault::invalid("n", "17 is not within 1 to 16")),
            "Invalid 'n': 17 is not within 1 to 16"
        );
        let image = Fault::unsupported("input[0].type", "an image is not supported");
        assert_eq!(message(&image), "Unsupported 'input[0].type': an image is not supported");
        for fault in [
            Fault::unsupported("audio", "'audio' is not supported"),
            Fault::missing("messages"),
            Fault::unknown_model("m"),
            Fault::too_long(9, 8).at("messages"),
        ] {
            assert_eq!(message(&fault), fault.message);
        }
    }

    #[test]
    fn a_body_has_the_four_fields_that_official_clients_read() {
        let body = write(&Fault::invalid("temperature", "must be 0 to 2")).body;
        assert_eq!(
            body,
            r#"{"error":{"message":"Invalid 'temperature': must be 0 to 2","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#
        );
    }

    #[test]
    fn every_kind_has_a_status_that_says_that_there_is_no_answer() {
        for kind in FaultKind::ALL {
            assert!(status(*kind).is_client_error() || status(*kind).is_server_error(), "{kind:?}");
        }
    }
}
