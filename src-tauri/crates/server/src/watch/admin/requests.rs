//! `GET /admin/requests`: what became of the last requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, State};
use engine::{CheckpointUse, Difference, PromptPlace, RequestRecord};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::openai::fault::ErrorBody;
use crate::name_lists::{difference_reasons, outcomes};

/// The last requests that have ended, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedRequests {
    requests: Vec<EndedRequest>,
}

/// What became of a request. No text of prompt or answer is in it, but for a few words around what
/// has changed since the request before it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedRequest {
    id: String,
    agent: Option<String>,
    /// The id of the trace that it was part of, of a `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// In seconds since 1970.
    ended_at: f64,
    /// Why the answer ended, or the kind of the refusal.
    #[schema(schema_with = outcomes)]
    outcome: &'static str,
    prompt_tokens: usize,
    /// Of a request for vectors, how many texts it had; the tokens of all are its prompt's.
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<usize>,
    prefilled_tokens: usize,
    /// Prompt tokens that were in the pool.
    reused_tokens: usize,
    /// Of those, the ones that came back from disk for this request.
    restored_tokens: usize,
    /// Of those, ids that the model had generated, taken instead of what their text would be.
    spliced_tokens: usize,
    /// At which checkpoint it began; absent where the model has no recurrent layers, and where it never began.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<EndedCheckpoint>,
    /// Blocks that the disk could not supply, by reason.
    restore_misses: BTreeMap<&'static str, u32>,
    /// Position of the first token that was not reused.
    first_difference: Option<usize>,
    /// What stands there, and why.
    difference: Option<EndedDifference>,
    /// What was done to the request that its answer does not show.
    remarks: Vec<String>,
    generated_tokens: usize,
    /// How often its blocks were taken from it while it ran.
    preempted: usize,
    queued_s: f64,
    time_to_first_token_s: Option<f64>,
    decoding_s: f64,
}

/// What checkpoints, the kept states of recurrent layers, came to for a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedCheckpoint {
    /// Tokens of the prompt before the checkpoint at which it began; 0 where it began at the start.
    tokens: usize,
    /// Tokens behind it that were in the pool too and were read again: what a checkpoint at the exact place would have
    /// saved.
    missed_tokens: usize,
    /// Places at which a checkpoint of its own was to be kept and there was no room for it.
    skipped: usize,
}

impl From<CheckpointUse> for EndedCheckpoint {
    fn from(CheckpointUse { n_tokens, n_without_state, n_skipped }: CheckpointUse) -> EndedCheckpoint {
        EndedCheckpoint { tokens: n_tokens, missed_tokens: n_without_state, skipped: n_skipped }
    }
}

/// The first token of a prompt that was not reused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedDifference {
    /// `new`: nothing that begins like it was seen lately. `goes_on`: all before it is as it was, and this is what
    /// follows. `changed`: something else was there before. `not_kept`: it was the same, and its memory is gone.
    /// `no_checkpoint`: it was the same and is in memory, but for the state that recurrent layers had there.
    #[schema(schema_with = difference_reasons)]
    why: &'static str,
    /// `system`, `tools` or `message`; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
    /// Which message, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<usize>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// Tokens that would have been reused too, had the prompt gone on as what was there before.
    missed_tokens: usize,
    /// Where something has changed, a few words before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    before: String,
    /// And a few words from there on.
    #[serde(skip_serializing_if = "String::is_empty")]
    after: String,
}

impl From<&Difference> for EndedDifference {
    fn from(difference: &Difference) -> EndedDifference {
        let Difference { why, place, n_missed, before, after } = difference;
        let (message, role) = match place {
            Some(PromptPlace::Message { idx, role }) => (Some(*idx), Some(role.clone())),
            Some(PromptPlace::System | PromptPlace::Tools) | None => (None, None),
        };
        EndedDifference {
            why: why.name(),
            place: place.as_ref().map(|place| match place {
                PromptPlace::System => "system",
                PromptPlace::Tools => "tools",
                PromptPlace::Message { .. } => "message",
            }),
            message,
            role,
            missed_tokens: *n_missed,
            before: before.clone(),
            after: after.clone(),
        }
    }
}

impl From<&RequestRecord> for EndedRequest {
    fn from(record: &RequestRecord) -> EndedRequest {
        EndedRequest {
            id: record.id.to_string(),
            agent: record.agent.clone(),
            trace_id: record.trace.map(|trace| trace.to_string()),
            ended_at: record.ended_at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            outcome: record.outcome.name(),
            prompt_tokens: record.n_prompt,
            texts: record.n_texts,
            prefilled_tokens: record.n_prefilled,
            reused_tokens: record.n_reused,
            restored_tokens: record.n_restored,
            spliced_tokens: record.n_spliced,
            checkpoint: record.checkpoint.map(EndedCheckpoint::from),
            restore_misses: record.restore_misses.clone(),
            first_difference: record.first_difference,
            difference: record.difference.as_ref().map(EndedDifference::from),
            remarks: record.remarks.clone(),
            generated_tokens: record.n_generated,
            preempted: record.n_preempted,
            queued_s: record.queued.as_secs_f64(),
            time_to_first_token_s: record.time_to_first_token.map(|time| time.as_secs_f64()),
            decoding_s: record.decoding.as_secs_f64(),
        }
    }
}

/// The last requests, the newest first.
#[utoipa::path(get, path = "/admin/requests", tag = "Admin", responses((status = 200, body = EndedRequests)))]
pub(crate) async fn requests(State(app): State<Arc<App>>) -> Json<EndedRequests> {
    Json(EndedRequests { requests: app.engine.records().iter().rev().map(EndedRequest::from).collect() })
}

/// One of them.
#[utoipa::path(
    get,
    path = "/admin/requests/{id}",
    tag = "Admin",
    params(("id" = String, Path, description = "Its `x-request-id`")),
    responses(
        (status = 200, body = EndedRequest),
        (status = 404, description = "Nothing is known of it", body = ErrorBody)
    )
)]
pub(crate) async fn request(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<EndedRequest>, Fault> {
    let record = app.engine.record(&id).ok_or_else(|| Fault::unknown_request(&id))?;
    Ok(Json(EndedRequest::from(&record)))
}
