//! `/v1/agents`: the named conversations, where their KV is, and what may be done with it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::{AgentInfo, KeptKv, OfModels};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use crate::app::App;
use crate::calls::agent_name::is_agent_name;
use crate::calls::fault::Fault;
use crate::dialects::openai::fault::ErrorBody;
use crate::name_lists::tiers;

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

/// A named agent: its conversations with all models, and the sum of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Agent {
    object: &'static str,
    id: String,
    #[serde(flatten)]
    sum: Kept,
    /// Its conversation with each model, those with loaded models first.
    models: Vec<AgentOfModel>,
}

/// What an agent has of one model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentOfModel {
    /// The model's id, where it was loaded since the start.
    model: Option<String>,
    /// What tells it from others, whatever they are called; 64 hexadecimal digits.
    fingerprint: String,
    loaded: bool,
    #[serde(flatten)]
    kept: Kept,
}

/// Where KV is, and how much.
#[derive(Debug, Serialize, ToSchema)]
struct Kept {
    /// `resident`: all of it is in a pool; `stored`: at least a part is on disk only.
    #[schema(schema_with = tiers)]
    tier: &'static str,
    /// Whether what is on disk is never given up for space.
    pinned: bool,
    tokens: usize,
    /// Leading tokens that a restart of the process would find again.
    saved_tokens: usize,
    /// Leading tokens that are in a pool.
    resident_tokens: usize,
    /// Leading tokens that stay in a pool because they are pinned; at most half of a pool is.
    pinned_tokens: usize,
    /// Bytes on disk, those that it shares with other agents too.
    stored_bytes: u64,
    /// Requests that run or wait.
    requests: usize,
    /// In seconds since 1970.
    last_used: u64,
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
            sum: agent.sum.into(),
            models: agent.models.into_iter().map(AgentOfModel::from).collect(),
        }
    }
}

impl From<engine::AgentOfModel> for AgentOfModel {
    fn from(of: engine::AgentOfModel) -> AgentOfModel {
        AgentOfModel {
            model: of.model,
            fingerprint: hex(&of.fingerprint),
            loaded: of.is_loaded,
            kept: of.kept.into(),
        }
    }
}

impl From<KeptKv> for Kept {
    fn from(kept: KeptKv) -> Kept {
        Kept {
            tier: kept.tier.name(),
            pinned: kept.is_pinned,
            tokens: kept.n_tokens,
            saved_tokens: kept.saved_tokens,
            resident_tokens: kept.resident_tokens,
            pinned_tokens: kept.pinned_tokens,
            stored_bytes: kept.stored_bytes,
            requests: kept.n_requests,
            last_used: seconds(kept.last_used),
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hex(fingerprint: &[u8; 32]) -> String {
    fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which of an agent's conversations are meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Those with all models where there is none.
    model: Option<String>,
}

/// A query as the path has it.
type Which = Result<Query<Wanted>, QueryRejection>;
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
    params(
        ("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("model" = Option<String>, Query, description = "Only its conversation with the model of this name or fingerprint")
    ),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent, or nothing of it with that model", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody)
    )
)]
async fn show(State(app): State<Arc<App>>, id: Id, which: Which, request: Request) -> Answer {
    let (name, of) = begin(&app, id, which, request).await?;
    known(app.engine.agent(&name).await?, &name, of)
}

/// Never give its blocks on disk up for space.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/pin",
    tag = "Agents",
    params(
        ("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("model" = Option<String>, Query, description = "Only its conversation with the model of this name or fingerprint")
    ),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent, or nothing of it with that model", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn pin(State(app): State<Arc<App>>, id: Id, which: Which, request: Request) -> Answer {
    let (name, of) = begin(&app, id, which, request).await?;
    known(app.engine.pin_agent(&name, of).await?, &name, of)
}

/// Give its blocks on disk up for space again.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/unpin",
    tag = "Agents",
    params(
        ("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("model" = Option<String>, Query, description = "Only its conversation with the model of this name or fingerprint")
    ),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent, or nothing of it with that model", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn unpin(State(app): State<Arc<App>>, id: Id, which: Which, request: Request) -> Answer {
    let (name, of) = begin(&app, id, which, request).await?;
    known(app.engine.unpin_agent(&name, of).await?, &name, of)
}

/// Leave its KV on disk only.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/evict",
    tag = "Agents",
    params(
        ("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("model" = Option<String>, Query, description = "Only its conversation with the model of this name or fingerprint")
    ),
    responses(
        (status = 200, body = Agent),
        (status = 404, description = "No such agent, or nothing of it with that model", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn evict(State(app): State<Arc<App>>, id: Id, which: Which, request: Request) -> Answer {
    let (name, of) = begin(&app, id, which, request).await?;
    known(app.engine.evict_agent(&name, of).await?, &name, of)
}

/// Forget the conversation; what is its alone is erased.
#[utoipa::path(
    delete,
    path = "/v1/agents/{id}",
    tag = "Agents",
    params(
        ("id" = String, Path, description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("model" = Option<String>, Query, description = "Only its conversation with the model of this name or fingerprint")
    ),
    responses(
        (status = 200, body = ForgottenAgent),
        (status = 404, description = "No such agent, or nothing of it with that model", body = ErrorBody),
        (status = 409, description = "The engine has ended", body = ErrorBody)
    )
)]
async fn forget(
    State(app): State<Arc<App>>,
    id: Id,
    which: Which,
    request: Request,
) -> Result<Json<ForgottenAgent>, Fault> {
    let (name, of) = begin(&app, id, which, request).await?;
    if !app.engine.forget_agent(&name, of).await? {
        return Err(Fault::unknown_agent(&name));
    }
    Ok(Json(ForgottenAgent { object: "agent.deleted", id: name, deleted: true }))
}

/// The agent, with what is meant of it.
fn known(agent: Option<AgentInfo>, name: &str, of: OfModels) -> Answer {
    let agent = agent.and_then(|agent| agent.only(of));
    agent.map(|agent| Json(agent.into())).ok_or_else(|| Fault::unknown_agent(name))
}

/// The id, once it is known to be one and the body to have nothing in it that would be ignored, and which of the
/// agent's conversations are meant.
async fn begin(app: &App, id: Id, which: Which, request: Request) -> Result<(String, OfModels), Fault> {
    let (Ok(Path(name)), Ok(Query(wanted))) = (&id, &which) else {
        app.gate.discard(request.into_body()).await;
        return Err(if id.is_err() { bad_id() } else { bad_query() });
    };
    if !is_agent_name(name) {
        app.gate.discard(request.into_body()).await;
        return Err(bad_id());
    }
    let (head, body) = request.into_parts();
    app.gate.must_be_empty(&head.headers, body).await?;
    let of = match &wanted.model {
        None => OfModels::All,
        Some(model) => of_model(app, name, model).await?,
    };
    Ok((name.clone(), of))
}

fn bad_id() -> Fault {
    Fault::invalid("id", "an agent's id has 1 to 256 letters, digits, dots, underscores or hyphens")
}

fn bad_query() -> Fault {
    Fault::invalid("model", "the query may be ?model= with a model's name or fingerprint")
}

/// The model that `name` means among those that an agent was used with: the id of one that was loaded, another name
/// of one that is, or a fingerprint.
async fn of_model(app: &App, agent: &str, name: &str) -> Result<OfModels, Fault> {
    let info = app.engine.agent(agent).await?.ok_or_else(|| Fault::unknown_agent(agent))?;
    let loaded = app.preparer.find(name);
    let is_named = |of: &&engine::AgentOfModel| {
        of.model.as_deref() == Some(name) || hex(&of.fingerprint) == name.to_ascii_lowercase()
    };
    let found = info.models.iter().find(is_named).map(|of| of.fingerprint);
    let also = loaded.map(|(_, card)| card.fingerprint);
    let also = also.filter(|known| info.models.iter().any(|of| of.fingerprint == *known));
    found.or(also).map(OfModels::One).ok_or_else(|| Fault::unknown_model(name))
}
