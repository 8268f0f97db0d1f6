//! The API's description against what is served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use axum::http::Method;
use axum::http::header::ACCESS_CONTROL_REQUEST_METHOD;

use super::*;
use crate::calls::fault::Fault;
use crate::calls::signing_key::SigningKey;
use crate::dialects::anthropic::messages_call;
use crate::dialects::ollama::models::parse_show;
use crate::dialects::ollama::{chat_call, embed_call, generate_call};
use crate::dialects::openai::{chat, completions, embeddings};
use crate::dialects::responses::responses_call;
use crate::kept::diary::RequestDiary;
use crate::kept::kept_responses::{OwnShelf, Owner};
use crate::openapi::{describe, rooms};
use crate::router::{canonical_path, routes};

/// The description as clients get it.
static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(describe()).unwrap());

/// The described operations: path and method in lower case.
fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
    let paths = DESCRIPTION["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    all.collect()
}

/// Whether `path` is one of those that the template stands for.
fn fits(template: &str, path: &str) -> bool {
    // Names of models have slashes in them.
    if template == "/v1/models/{id}" {
        return path.starts_with("/v1/models/");
    }
    let fits_segment = |(wanted, got): (&str, &str)| wanted == got || wanted == "{id}";
    template.split('/').count() == path.split('/').count()
        && template.split('/').zip(path.split('/')).all(fits_segment)
}

/// That a response to `method path` may have `status`, as far as the path leads anywhere.
pub(super) fn check_described(method: &Method, path: &str, status: StatusCode) {
    let path = canonical_path(path).unwrap_or_else(|| path.to_owned());
    // What is served besides, with the same words and no body.
    let wanted = if *method == Method::HEAD { Method::GET } else { method.clone() };
    let wanted = wanted.as_str().to_ascii_lowercase();
    let mut of_path = operations().into_iter().filter(|(template, _, _)| fits(template, &path)).peekable();
    let leads_somewhere = of_path.peek().is_some();
    match of_path.find(|(_, method, _)| *method == wanted) {
        Some((_, _, operation)) => {
            let known = operation["responses"].as_object().unwrap();
            assert!(known.contains_key(status.as_str()), "{method} {path} answers {status}: not described");
        }
        None => {
            // Nothing is served here: only the edge answers.
            let refusals: &[u16] = if leads_somewhere {
                &[204, 400, 401, 403, 405, 413, 414, 415, 431, 503, 529]
            } else {
                &[204, 400, 401, 403, 404, 413, 414, 415, 431, 503]
            };
            assert!(refusals.contains(&status.as_u16()), "{method} {path} answers {status}: not described");
        }
    }
}

/// The paths of all routes, as the router itself shows them.
pub(super) fn served_paths(rig: &Rig) -> BTreeSet<String> {
    let shown = format!("{:?}", routes(&rig.app));
    let paths: BTreeSet<String> = shown
        .split("RouteId(")
        .filter_map(|piece| piece.split_once("): \"")?.1.split_once('"'))
        .map(|(path, _)| path.replace("{*", "{"))
        // Where the router leads what leads nowhere.
        .filter(|path| !path.contains("__private"))
        .collect();
    assert!(paths.len() > 20, "the router shows its paths otherwise now: {shown}");
    paths
}

#[tokio::test]
async fn every_served_path_is_described_and_every_described_one_is_served() {
    let rig = Rig::saying("a").await;
    let described: BTreeSet<String> = operations().iter().map(|(path, _, _)| (*path).to_owned()).collect();
    assert_eq!(served_paths(&rig), described);
}

#[tokio::test]
async fn every_served_method_is_described_and_every_described_one_is_served() {
    let rig = Rig::saying("a").await;
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, method, _) in operations() {
        methods.entry(path).or_default().insert(method);
    }
    for (path, described) in methods {
        for method in ["get", "post", "put", "patch", "delete", "options"] {
            let request = Request::builder().method(method.to_uppercase().as_str());
            let request = request.uri(path.replace("{id}", "nobody")).header("host", "localhost:8642");
            let response = rig.call(request.body(Body::empty()).unwrap()).await;
            let status = response.status();
            let is_served = match status {
                StatusCode::METHOD_NOT_ALLOWED => false,
                StatusCode::NOT_FOUND => {
                    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
                    !String::from_utf8_lossy(&body).contains("unknown_url")
                }
                _ => true,
            };
            assert_eq!(is_served, described.contains(method), "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn the_description_is_served_and_all_that_it_refers_to_is_there() {
    let rig = Rig::saying("a").await;
    let served = rig.get("/openapi.json").await;
    assert_eq!(served.json(), *DESCRIPTION);
    let names: BTreeSet<&str> = served
        .text
        .split("\"$ref\":\"#/components/schemas/")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0))
        .collect();
    assert!(names.contains("ErrorBody"), "{names:?}");
    let schemas = DESCRIPTION["components"]["schemas"].as_object().unwrap();
    for name in names {
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_on_every_path() {
    let rig = Rig::saying("a").await;
    for (path, _, _) in operations() {
        let request = Request::options(path.replace("{id}", "a")).header("host", "localhost:8642");
        let request = request.header("origin", "tauri://localhost");
        let request = request.header(ACCESS_CONTROL_REQUEST_METHOD, "POST").body(Body::empty()).unwrap();
        assert_eq!(rig.send(request).await.status, 204, "{path}");
    }
}

/// A value of a schema by its examples.
fn example_of(schema: &Value) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return example_of(&DESCRIPTION["components"]["schemas"][name]);
    }
    let may_be = |name: &str| schema["type"].as_array().is_some_and(|types| types.contains(&name.into()));
    if schema["type"] == "array" || may_be("array") {
        return Value::Array(vec![example_of(&schema["items"])]);
    }
    // What may be absent is an alternative to null.
    let mut forms = schema["oneOf"].as_array().into_iter().flatten();
    if let Some(form) = forms.find(|form| form.get("$ref").is_some()) {
        return example_of(form);
    }
    let mut object = serde_json::Map::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        object.extend(example_of(part).as_object().unwrap().clone());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        object.insert(name.clone(), example_of(property));
    }
    assert!(!object.is_empty(), "no example: {schema}");
    Value::Object(object)
}

/// Takes a body apart and forgets it.
type Taken = Box<dyn Fn(&[u8]) -> Result<(), Fault>>;

/// The parsers of all calls by the names of their bodies, and how many fields each describes at least.
fn parsers() -> [(&'static str, Taken, usize); 11] {
    let key = SigningKey::random();
    [
        ("ChatRequest", Box::new(|body| chat::parse(body).map(drop)), 25),
        ("CompletionRequest", Box::new(|body| completions::parse(body).map(drop)), 18),
        ("EmbeddingRequest", Box::new(|body| embeddings::parse(body).map(drop)), 7),
        (
            "MessagesRequest",
            Box::new(move |body| {
                messages_call::parse(body, key, Arc::new(RequestDiary::default())).map(drop)
            }),
            14,
        ),
        ("CountTokensRequest", Box::new(move |body| messages_call::parse_count(body, key).map(drop)), 7),
        (
            "ResponsesRequest",
            Box::new(move |body| {
                let shelf = OwnShelf { owner: Owner::of(None), kept: Arc::default() };
                responses_call::parse(body, key, Arc::new(shelf)).map(drop)
            }),
            17,
        ),
        ("OllamaChatRequest", Box::new(|body| chat_call::parse(body).map(drop)), 10),
        ("OllamaGenerateRequest", Box::new(|body| generate_call::parse(body).map(drop)), 11),
        ("OllamaEmbedRequest", Box::new(|body| embed_call::parse(body).map(drop)), 5),
        ("OllamaEmbeddingsRequest", Box::new(|body| embed_call::parse_older(body).map(drop)), 2),
        ("OllamaShowRequest", Box::new(|body| parse_show(body).map(drop)), 1),
    ]
}

#[test]
fn every_parameter_that_is_described_is_taken() {
    for (name, parse, n_at_least) in parsers() {
        let example = example_of(&DESCRIPTION["components"]["schemas"][name]);
        assert!(example.as_object().unwrap().len() >= n_at_least, "{name}: {example:?}");
        let body = serde_json::to_vec(&example).unwrap();
        if let Err(fault) = parse(&body) {
            panic!("{name}: {fault:?} of {}", String::from_utf8_lossy(&body));
        }
    }
}

#[test]
fn a_body_that_is_cut_or_changed_anywhere_is_taken_or_refused() {
    for (name, parse, _) in parsers() {
        let example = example_of(&DESCRIPTION["components"]["schemas"][name]);
        let body = serde_json::to_vec(&example).unwrap();
        for at in 0..body.len() {
            assert!(parse(&body[..at]).is_err(), "{name} cut at {at}");
            for byte in [b'"', b'{', b'}', b'[', b'9', b'-', b'\\', b',', 0xff] {
                let mut changed = body.clone();
                changed[at] = byte;
                // Whichever: it comes back.
                let _ = parse(&changed);
            }
        }
    }
}

#[test]
fn no_two_shapes_have_the_same_name() {
    let mut shapes: BTreeMap<String, Value> = BTreeMap::new();
    for room in rooms() {
        for (name, shape) in room.components.unwrap_or_default().schemas {
            let shape = serde_json::to_value(shape).unwrap();
            let before = shapes.entry(name.clone()).or_insert_with(|| shape.clone());
            assert_eq!(*before, shape, "'{name}' is two shapes");
        }
    }
}
