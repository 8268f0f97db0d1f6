//! The server as a client sees it: the router in process, in front of a scripted engine, and real connections.

mod admin;
mod agents;
mod answers;
mod anthropic;
mod checkpoints;
mod choices;
mod compressed;
mod connections;
mod conversations;
mod counting;
mod deltas;
mod descriptions;
mod dialects;
mod embeddings;
mod formats;
mod guarding;
mod keeping;
mod keys;
mod models;
mod old_data;
mod ollama;
mod parameters;
mod replay;
mod responses;
mod sampling;
mod streams;
mod tools;
mod transcripts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use engine::testing::{Script, ScriptedLoader, ScriptedModel, Steering};
use engine::{BatchEngine, EngineConfig, EngineHandle, ModelLoader, SamplingChoices, State};
use serde_json::Value;
use tower::ServiceExt;

use self::descriptions::check_described;
use crate::app::App;
use crate::config::ServerConfig;
use crate::router::router;

/// A router in front of a scripted engine.
struct Rig {
    steering: Steering,
    engine: EngineHandle,
    app: Arc<App>,
    router: Router,
    _owner: BatchEngine,
}

/// A response, read to its end.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Rig {
    /// A rig whose model says `text`, ready to answer.
    async fn saying(text: &str) -> Rig {
        let rig = Rig::with(text, |_, _| {});
        rig.ready().await;
        rig
    }

    /// A rig whose model says `text`, with other settings; its model may be loading still.
    fn with(text: &str, change: impl FnOnce(&mut ServerConfig, &mut EngineConfig)) -> Rig {
        let model = ScriptedModel { script: Script::Says(text.to_owned()), ..ScriptedModel::default() };
        let steering = Steering::free();
        Rig::around(steering.clone(), Arc::new(ScriptedLoader::new(model, steering)), change)
    }

    /// A rig around a loader.
    fn around(
        steering: Steering,
        loader: Arc<dyn ModelLoader>,
        change: impl FnOnce(&mut ServerConfig, &mut EngineConfig),
    ) -> Rig {
        let mut config = ServerConfig {
            // Greedy, or the script would only be likely.
            sampling: SamplingChoices { temperature: Some(0.0), ..SamplingChoices::default() },
            ..ServerConfig::default()
        };
        let mut engine_config = EngineConfig::default();
        change(&mut config, &mut engine_config);
        let owner = BatchEngine::start(engine_config, loader);
        let address: SocketAddr = "127.0.0.1:8642".parse().unwrap();
        let app = Arc::new(App::new(config, address, owner.handle(), Instant::now()).unwrap());
        let router = router(Arc::clone(&app));
        Rig { steering, engine: owner.handle(), app, router, _owner: owner }
    }

    /// Wait until the model is loaded.
    async fn ready(&self) {
        self.reaches("ready").await;
    }

    /// Wait until the engine is in a state.
    async fn reaches(&self, state: &str) {
        let mut watch = self.engine.watch_state();
        let now = watch.wait_for(|now| now.name() == state || matches!(now, State::Failed(_))).await.unwrap();
        assert_eq!(now.name(), state, "{now:?}");
    }

    /// Send a request. Whatever the answer, the API's description must know its status.
    async fn call(&self, request: Request<Body>) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        check_described(&method, &path, response.status());
        response
    }

    /// Send a request and read the answer to its end.
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.call(request).await;
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", "localhost:8642").body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(post(path, body)).await
    }
}

/// A POST as a well-behaved client sends it.
fn post(path: &str, body: &str) -> Request<Body> {
    let request =
        Request::post(path).header("host", "localhost:8642").header("content-type", "application/json");
    request.header("content-length", body.len()).body(Body::from(body.to_owned())).unwrap()
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status, code and param of an error; it must have the API's shape and an id.
    fn error(&self) -> (u16, String, String) {
        assert!(!self.header("x-request-id").is_empty(), "no request id: {self:?}");
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{self:?}");
        let text = |field: &str| error[field].as_str().unwrap_or("-").to_owned();
        (self.status, text("code"), text("param"))
    }

    /// The text with everything that differs from run to run written as `…`.
    fn stable(&self) -> String {
        let mut text = self.text.clone();
        for (start, is_part) in
            [("cmpl-", char::is_alphanumeric as fn(char) -> bool), ("\"created\":", char::is_alphanumeric)]
        {
            text = text
                .split(start)
                .enumerate()
                .map(|(i, piece)| {
                    if i == 0 {
                        piece.to_owned()
                    } else {
                        format!("…{}", piece.trim_start_matches(is_part))
                    }
                })
                .collect::<Vec<_>>()
                .join(start);
        }
        text
    }
}

/// A body for `/v1/chat/completions`: one user's "hi" and `more` fields.
fn chat(more: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

/// Run what blocks, such as waiting for a held step.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Let every task that can run do so. On a runtime of one thread, a call that waits for the engine has then sent its
/// command: nothing on its way needs a timer or another thread.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

const OK: u16 = StatusCode::OK.as_u16();
