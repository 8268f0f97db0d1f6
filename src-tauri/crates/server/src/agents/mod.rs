//! `/v1/agents`: the named conversations, where their KV is, and what may be done with it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::AgentInfo;
use serde_json::{Value, json};

use crate::calls::agent_name::is_agent_name;
use crate::calls::fault::ApiError;
use crate::edge::body::{discard, must_be_empty};
use crate::router::App;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agents", get(list))
        .route("/v1/agents/{id}", get(show).delete(forget))
        .route("/v1/agents/{id}/pin", post(pin))
        .route("/v1/agents/{id}/unpin", post(unpin))
        .route("/v1/agents/{id}/evict", post(evict))
}

/// An id as the path has it; nothing is done before it has been looked at.
type Id = Result<Path<String>, PathRejection>;
type Answer = Result<Json<Value>, ApiError>;

/// All agents, the one used last first.
async fn list(State(app): State<Arc<App>>) -> Answer {
    let agents = app.engine.agents().await?;
    let data: Vec<Value> = agents.iter().map(describe).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

async fn show(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.agent(&name).await?, &name)
}

/// Never give its blocks on disk up for space.
async fn pin(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.pin_agent(&name).await?, &name)
}

async fn unpin(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.unpin_agent(&name).await?, &name)
}

/// Leave its KV on disk only.
async fn evict(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    known(app.engine.evict_agent(&name).await?, &name)
}

/// Forget the conversation; what is its alone is erased.
async fn forget(State(app): State<Arc<App>>, id: Id, request: Request) -> Answer {
    let name = begin(&app, id, request).await?;
    let Some(agent) = app.engine.forget_agent(&name).await? else {
        return Err(ApiError::unknown_agent(&name));
    };
    Ok(Json(json!({"object": "agent.deleted", "id": agent.name, "deleted": true})))
}

fn known(agent: Option<AgentInfo>, name: &str) -> Answer {
    agent.as_ref().map(|agent| Json(describe(agent))).ok_or_else(|| ApiError::unknown_agent(name))
}

/// The id, once it is known to be one and the body to have nothing in it that would be ignored.
async fn begin(app: &App, id: Id, request: Request) -> Result<String, ApiError> {
    match id {
        Ok(Path(name)) if is_agent_name(&name) => {
            must_be_empty(request.into_body(), &app.config.limits, &app.body_budget).await?;
            Ok(name)
        }
        _ => {
            discard(request.into_body(), &app.config.limits).await;
            Err(ApiError::invalid(
                "id",
                "an agent's id has 1 to 256 letters, digits, dots, underscores or hyphens",
            ))
        }
    }
}

fn describe(agent: &AgentInfo) -> Value {
    json!({
        "object": "agent",
        "id": agent.name,
        "tier": agent.tier.name(),
        "pinned": agent.is_pinned,
        "tokens": agent.n_tokens,
        "saved_tokens": agent.saved_tokens,
        "resident_tokens": agent.resident_tokens,
        "requests": agent.n_requests,
        "last_used": agent.last_used.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        "of_loaded_model": agent.is_of_loaded_model,
    })
}
