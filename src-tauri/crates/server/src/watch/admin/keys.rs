//! `/admin/keys`: the keys that have names. What clients must show is told once, to the one who makes it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use engine::RequestId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::calls::fault::Fault;
use crate::calls::prepare::off_the_runtime;
use crate::dialects::fields::Fields;
use crate::dialects::openai::fault::ErrorBody;
use crate::edge::access_log::of_head;
use crate::keys::key_check::Caller;
use crate::keys::key_file::{KeyFile, KeyFileError, MAX_A_MINUTE, NamedKey, NewKey};
use crate::keys::scope::Scope;
use crate::name_lists::scopes;

/// The keys that have names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    /// Whether a key must be shown now.
    required: bool,
    keys: Vec<KeyView>,
}

/// A key, without what clients must show.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    name: String,
    /// What it opens.
    #[schema(schema_with = scopes_of_key)]
    scopes: Vec<&'static str>,
    /// How many requests it may make a minute, or null.
    requests_per_minute: Option<u32>,
    /// In seconds since 1970.
    created_at: u64,
}

/// A key that has just been made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeKey {
    #[serde(flatten)]
    view: KeyView,
    /// What clients must show. It is kept nowhere: this is the only time that it is told.
    key: String,
}

/// A key that opens nothing any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevokedKey {
    name: String,
    deleted: bool,
}

/// What a key is to be.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: the body is taken apart field by field")]
pub(crate) struct NewKeyRequest {
    /// 1 to 64 letters, digits, dots, underscores or hyphens.
    #[schema(example = "laptop")]
    name: String,
    /// What it opens; to generate, if nothing is said.
    #[schema(required = false, example = json!(["generate"]))]
    scopes: Option<Vec<String>>,
    /// How many requests it may make a minute; any number, if nothing is said.
    #[schema(required = false, minimum = 1, maximum = 1000000, example = 60)]
    requests_per_minute: Option<u32>,
}

fn scopes_of_key() -> utoipa::openapi::schema::Array {
    utoipa::openapi::schema::ArrayBuilder::new().items(scopes()).build()
}

impl From<&NamedKey> for KeyView {
    fn from(key: &NamedKey) -> KeyView {
        KeyView {
            name: key.name.clone(),
            scopes: key.scopes.iter().map(Scope::name).collect(),
            requests_per_minute: key.requests_per_minute.map(NonZeroU32::get),
            created_at: key.created_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

/// The keys, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/admin/keys",
    tag = "Admin",
    responses(
        (status = 200, body = KeyList),
        (status = 409, description = "This server keeps no keys", body = ErrorBody),
        (status = 500, description = "Their file cannot be read", body = ErrorBody)
    )
)]
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Json<KeyList>, Fault> {
    let (head, _) = request.into_parts();
    let (id, _) = of_head(&head);
    let file = file(&app)?;
    let keys = with_file(&id, move || file.list()).await?;
    let required = app.gate.guard.keys().is_wanted();
    Ok(Json(KeyList { required, keys: keys.iter().map(KeyView::from).collect() }))
}

/// Make a key. As soon as there is one, clients must show one.
#[utoipa::path(
    post,
    path = "/admin/keys",
    tag = "Admin",
    request_body = NewKeyRequest,
    responses(
        (status = 200, body = MadeKey),
        (status = 409, description = "This server keeps no keys", body = ErrorBody),
        (status = 500, description = "Their file cannot be written", body = ErrorBody)
    )
)]
pub(crate) async fn add(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    let (id, _) = of_head(&head);
    let body = app.gate.read(&head.headers, body).await?;
    let new = parse(&body.bytes)?;
    // Whoever comes without a key now could not come back to take it away.
    let is_anybody = head.extensions.get() == Some(&Caller::Anybody);
    if is_anybody && !new.scopes.contains(&Scope::Admin) {
        let message = "the first key must be one for 'admin' too: from then on one is wanted here";
        return Err(Fault::invalid("scopes", message));
    }
    let file = file(&app)?;
    let (key, secret) = with_file(&id, move || file.add(new)).await?;
    tracing::info!(request_id = %id, key = key.name, "key added");
    let made = MadeKey { view: KeyView::from(&key), key: secret };
    Ok(([(CACHE_CONTROL, "no-store")], Json(made)).into_response())
}

/// Take a key away, at once.
#[utoipa::path(
    delete,
    path = "/admin/keys/{id}",
    tag = "Admin",
    params(("id" = String, Path, description = "The key's name")),
    responses(
        (status = 200, body = RevokedKey),
        (status = 404, description = "There is no such key", body = ErrorBody),
        (status = 409, description = "This server keeps no keys", body = ErrorBody),
        (status = 500, description = "Their file cannot be written", body = ErrorBody)
    )
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<RevokedKey>, Fault> {
    let (head, body) = request.into_parts();
    let (id, _) = of_head(&head);
    app.gate.must_be_empty(&head.headers, body).await?;
    let Path(name) = name.map_err(|_| Fault::unknown_key("of bytes that are no text"))?;
    let file = file(&app)?;
    let of_file = name.clone();
    with_file(&id, move || file.remove(&of_file)).await?;
    tracing::info!(request_id = %id, key = name, "key removed");
    Ok(Json(RevokedKey { name, deleted: true }))
}

fn parse(body: &[u8]) -> Result<NewKey, Fault> {
    let mut fields = Fields::of_body(body)?;
    let name: String = fields.need("name")?;
    let scopes: Option<Vec<String>> = fields.take("scopes")?;
    let limit = fields.take_whole_within("requests_per_minute", 1..=MAX_A_MINUTE as usize)?;
    fields.finish()?;
    let scopes = match scopes {
        None => BTreeSet::from([Scope::Generate]),
        Some(names) => names
            .iter()
            .map(|name| {
                let message = format!("must be of {}", Scope::NAMES.join(", "));
                Scope::named(name).ok_or_else(|| Fault::invalid("scopes", message))
            })
            .collect::<Result<BTreeSet<Scope>, Fault>>()?,
    };
    let requests_per_minute = limit.and_then(|limit| u32::try_from(limit).ok()).and_then(NonZeroU32::new);
    Ok(NewKey { name, scopes, requests_per_minute })
}

fn file(app: &App) -> Result<KeyFile, Fault> {
    app.gate.guard.keys().file().cloned().ok_or_else(Fault::keeps_no_keys)
}

/// Do something with the file where nobody else waits for the disk.
async fn with_file<T: Send + 'static>(
    id: &RequestId,
    work: impl FnOnce() -> Result<T, KeyFileError> + Send + 'static,
) -> Result<T, Fault> {
    let of_error = {
        let id = id.clone();
        move |error: KeyFileError| match &error {
            KeyFileError::Unusable { .. } => Fault::internal(&id, error.to_string()),
            KeyFileError::NoSuchKey(name) => Fault::unknown_key(name),
            KeyFileError::BadName | KeyFileError::NameTaken(_) => Fault::invalid("name", error.to_string()),
            KeyFileError::NoScope => Fault::invalid("scopes", error.to_string()),
            KeyFileError::BadLimit => Fault::invalid("requests_per_minute", error.to_string()),
            KeyFileError::TooMany => Fault::invalid("name", error.to_string()),
        }
    };
    off_the_runtime(id, move || work().map_err(of_error)).await
}
