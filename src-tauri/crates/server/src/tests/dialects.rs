//! A dialect of the tests' own: what another API has to bring, and that whatever refuses a request speaks it.

use axum::extract::State as Shared;
use axum::routing::post;
use serde_json::json;

use super::*;
use crate::calls::answer::{Answer as WholeAnswer, End, Head, Part, PromptTokens};
use crate::calls::call::{Call, Names, Prompt, RequestedSampling};
use crate::calls::fault::Fault;
use crate::calls::thinking::Thinking;
use crate::calls::tools::Tools;
use crate::config::{ApiKey, HttpLimits};
use crate::dialects::dialect::{Asked, Delivery, Dialect, Writer, WrittenFault};
use crate::edge::edge::behind_the_edge;
use crate::generate::handler::generate;

/// Errors as a word, all of one status.
static WORDS: Dialect = Dialect {
    id_header: Some("x-word-id"),
    fault: |fault, _| WrittenFault {
        status: StatusCode::IM_A_TEAPOT,
        body: json!(format!("{} at {}", fault.kind.name(), fault.place.as_deref().unwrap_or("-")))
            .to_string(),
    },
};

const NAMES: Names = Names {
    prompt: "say",
    format: "as",
    schema: "as",
    tools: "with",
    tool_choice: "which",
    logit_bias: "bias",
};

/// A body `{"say": …, "lines": …}`: answered in lines of JSON, or as one object.
fn parse(body: &[u8]) -> Result<Asked, Fault> {
    let body: Value = serde_json::from_slice(body).map_err(|_| Fault::bad_json("no JSON"))?;
    let call = Call {
        model: None,
        prompt: Prompt::Text(body["say"].as_str().ok_or_else(|| Fault::missing("say"))?.to_owned()),
        sampling: RequestedSampling::default(),
        max_tokens: Some(3),
        stop: Vec::new(),
        ignore_end_of_turn: false,
        format: None,
        tools: Tools::default(),
        thinking: Thinking::default(),
        remarks: Vec::new(),
        top_logprobs: None,
        agent: None,
        names: NAMES,
    };
    let delivery = if body["lines"] == true { Delivery::Streamed } else { Delivery::Whole };
    Ok(Asked { call, delivery, writer: Box::new(Lines) })
}

/// Lines of JSON.
struct Lines;

fn line(out: &mut String, value: &Value) {
    out.push_str(&format!("{value}\n"));
}

impl Writer for Lines {
    fn media_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn open(&mut self, head: &Head, prompt: PromptTokens, out: &mut String) {
        line(out, &json!({"model": head.model, "of": prompt.n_prompt}));
    }

    fn part(&mut self, _: &Head, part: &Part, out: &mut String) {
        if let Part::Text(text) = part {
            line(out, &json!({"said": text.text}));
        }
    }

    fn end(&mut self, _: &Head, end: &End, out: &mut String) {
        line(out, &json!({"done": format!("{:?}", end.finish), "n": end.usage.n_generated}));
    }

    fn break_off(&mut self, _: &Head, fault: &Fault, out: &mut String) {
        line(out, &json!({"error": fault.message}));
    }

    fn prefill(&mut self, _: &Head, done: usize, total: usize, out: &mut String) {
        line(out, &json!({"read": done, "of": total}));
    }

    fn alive(&mut self, _: &Head, out: &mut String) {
        line(out, &json!({}));
    }

    fn whole(&mut self, _: &Head, answer: WholeAnswer) -> String {
        let texts = answer.parts.into_iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.text),
            Part::Thinking(_) | Part::ToolCall(_) => None,
        });
        let said: Vec<_> = texts.collect();
        json!({"said": said}).to_string()
    }
}

async fn say(Shared(app): Shared<Arc<App>>, request: axum::extract::Request) -> Result<Response, Fault> {
    generate(&app, request, parse).await
}

/// A rig, and a router of one route that speaks the tests' dialect.
async fn speaking(change: impl FnOnce(&mut ServerConfig)) -> (Rig, Router) {
    let rig = Rig::with("yes indeed", |config, _| change(config));
    rig.ready().await;
    let routes = behind_the_edge(Router::new().route("/say", post(say)), &rig.app.gate, |_| &WORDS);
    let router = routes.with_state(Arc::clone(&rig.app));
    (rig, router)
}

async fn ask(router: &Router, request: Request<Body>) -> (u16, String, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let media_type = head.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    (head.status.as_u16(), media_type, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn an_api_of_lines_or_objects_is_a_parser_and_a_writer() {
    let (_rig, router) = speaking(|_| {}).await;
    let (status, media_type, text) = ask(&router, post_to("/say", r#"{"say":"hi","lines":true}"#)).await;
    assert_eq!((status, media_type.as_str()), (OK, "application/x-ndjson"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({"model": "scripted", "of": 2}));
    let said: String = lines.iter().filter_map(|line| line["said"].as_str()).collect();
    assert_eq!(said, "yes");
    assert_eq!(lines.last(), Some(&json!({"done": "Length", "n": 3})));

    let (status, media_type, text) = ask(&router, post_to("/say", r#"{"say":"hi"}"#)).await;
    assert_eq!((status, media_type.as_str()), (OK, "application/json"));
    assert_eq!(text, r#"{"said":["yes"]}"#);
}

fn post_to(path: &str, body: &str) -> Request<Body> {
    super::post(path, body)
}

#[tokio::test]
async fn whatever_refuses_a_request_speaks_the_dialect_of_its_route() {
    let (_rig, router) = speaking(|config| {
        config.api_key = Some(ApiKey::new("sk-1").unwrap());
        config.limits = HttpLimits { body_bytes: 1000, ..HttpLimits::default() };
    })
    .await;
    let with = |name: &str, value: &str, body: &str| {
        let mut request = post_to("/say", body);
        request.headers_mut().insert("authorization", "Bearer sk-1".parse().unwrap());
        let name: axum::http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let long = "x".repeat(2000);
    let mut deleted = with("accept", "*/*", "");
    *deleted.method_mut() = axum::http::Method::DELETE;
    for (request, want) in [
        (post_to("/say", "{}"), "invalid_api_key at -"),
        (with("host", "evil.example", "{}"), "host_not_allowed at -"),
        (with("origin", "https://evil.example", "{}"), "origin_not_allowed at -"),
        (with("content-type", "text/plain", "{}"), "unsupported_media_type at -"),
        (with("content-encoding", "br", "{}"), "unsupported_content_encoding at -"),
        (with("content-encoding", "gzip", "{}"), "bad_request at -"),
        (with("accept", "*/*", &long), "request_too_large at -"),
        (with("accept", "*/*", "{"), "invalid_json at -"),
        (with("accept", "*/*", "{}"), "missing_required_parameter at say"),
        (with("accept", "*/*", r#"{"say":""}"#), "invalid_value at say"),
        (with("x-session-id", "..", "{}"), "invalid_value at X-Session-ID"),
        (deleted, "method_not_allowed at -"),
    ] {
        let (status, media_type, text) = ask(&router, request).await;
        let want = format!("\"{want}\"");
        assert_eq!((status, media_type.as_str(), text.as_str()), (418, "application/json", want.as_str()));
    }
}
