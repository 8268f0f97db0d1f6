//! `/v1/agents`: the named conversations, where their KV is, and what may be done with it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::AgentInfo;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::app::App;
use crate::calls::agent_name::is_agent_name;
use crate::calls::fault::Fault;
use crate::dialects::openai::fault::ErrorBody;
use crate::words::tiers;

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(list, show, forget, pin, unpin, evict))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agents", get(list))
        .route("/v1/agents/{id}", get(show).delete(forget))
        .route("/v1/agents/{id}/pin", post(pin))
        .route("/v1/agents/{id}/unpin", post(unpin))
        .route("/v1/agents/{id}/evict", post(evict))
}

/// The agents, the one used last first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentList {
    object: &'static str,
    data: Vec<Agent>,
}

/// A named conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Agent {
    object: &'static str,
    id: String,
    /// `resident`: all of it is in the pool; `stored`: at least a part is on disk only.
    #[schema(schema_with = tiers)]
    tier: &'static str,
    /// Whether what it has on disk is never given up for space.
    pinned: bool,
    tokens: usize,
    /// Leading tokens that a restart of the process would find again.
    saved_tokens: usize,
    /// Leading tokens that are in the pool.
    resident_tokens: usize,
    /// Requests that run or wait.
    requests: usize,
    /// In seconds since 1970.
    last_used: u64,
    /// Whether this is about the loaded model; otherwise about the one that it was last used with.
    of_loaded_model: bool,
}

/// An agent that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ForgottenAgent {
    object: &'static str,
    id: String,
    deleted: bool,
}

impl From<AgentInfo> for Agent {
    fn from(agent: AgentInfo) -> Agent {
        Agent {
            object: "agent",
            id: agent.name,
            tier: agent.tier.name(),
            pinned: agent.is_pinned,
            tokens: agent.n_tokens,
            saved_tokens: agent.saved_tokens,
            resident_tokens: agent.resident_tokens,
            requests: agent.n_requests,
            last_used: agent.last_used.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            of_loaded_model: agent.is_of_loaded_model,
        }
    }
}

/// An id as the path has it; nothing is done before it has been looked at.
type Id = Result<Path<String>, PathRejection>;
type Answer = Result<Json<Agent>, Fault>;

/// All agents, the one used last first.
#[utoipa::path(
    get,
    path = "/v1/agents",
    tag = "Agents",
    responses((status = 200, body = AgentList), (status = 409, description = "The engine has ended", body = ErrorBody))
)]
async fn list(State(app): State<Arc<App>>) -> Result<Json<AgentList>, Fault> {
    let agents = app.engine.agents().await?;
    Ok(Json(AgentList { object: "list", data: agents.into_iter().map(Agent::from).collect() }))
}

/// One of them.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}",
    tag = "Agents",
    params(("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`")),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody)
    )
)]
async fn show(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.agent(&name).await?, &name)
}

/// Never give its blocks on disk up for space.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/pin",
    tag = "Agents",
    params(("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`")),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn pin(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.pin_agent(&name).await?, &name)
}

/// Give its blocks on disk up for space again.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/unpin",
    tag = "Agents",
    params(("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`")),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn unpin(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.unpin_agent(&name).await?, &name)
}

/// Leave its KV on disk only.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/evict",
    tag = "Agents",
    params(("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`")),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn evict(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.evict_agent(&name).await?, &name)
}

/// Forget the conversation; what is its alone is erased.
#[utoipa::path(
    delete,
    path = "/v1/agents/{id}",
    tag = "Agents",
    params(("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`")),
    responses(
        (status = 200, body = ForgottenAgent),
        (status = 404, description = "No such agent", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn forget(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request,
) -> Result<Json<ForgottenAgent>, Fault> {
    let name = begin(&app, id, request).await?;
    if !app.engine.forget_agent(&name).await? {
        return Err(Fault::unknown_agent(&name));
    }
    Ok(Json(ForgottenAgent { object: "agent.deleted", id: name, deleted: true }))
}

fn known(agent: Option<AgentInfo>, name: &str) -> Answer {
    agent.map(|agent| Json(agent.into())).ok_or_else(|| Fault::unknown_agent(name))
}

/// The id, once it is known to be one and the body to have nothing in it that would be ignored.
async fn begin(app: &App, id: Id, request: Request) -> Result<String, Fault> {
    match id {
        Ok(Path(name)) if is_agent_name(&name) => {
            app.gate.must_be_empty(request.into_body()).await?;
            Ok(name)
        }
        _ => {
            app.gate.discard(request.into_body()).await;
            Err(Fault::invalid(
                "id",
                "an agent's id has 1 to 256 letters, digits, dots, underscores or hyphens",
            ))
        }
    }
}
