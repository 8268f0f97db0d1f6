//! Named conversations over HTTP, on a real store in a folder of the test's own.

use std::sync::Arc;

use store::{Store, StoreConfig};
use tempfile::TempDir;

use super::*;

/// A rig that keeps KV on disk; the folder goes with it.
async fn keeping() -> (Rig, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { free_space_floor: 0, ..StoreConfig::new(folder.path().to_owned(), 64 << 20) };
    let store = Arc::new(Store::open(config).unwrap());
    let rig = Rig::with("an answer of some length", |_, engine| engine.store = store);
    rig.ready().await;
    (rig, folder)
}

async fn ask_as(rig: &Rig, agent: &str, content: &str) {
    let body = serde_json::json!({
        "messages": [{"role": "user", "content": content}],
        "session_id": agent,
    });
    assert_eq!(rig.post("/v1/chat/completions", &body.to_string()).await.status, OK);
}

async fn ids(rig: &Rig) -> Vec<String> {
    let list = rig.get("/v1/agents").await;
    assert_eq!(list.status, OK, "{}", list.text);
    assert_eq!(list.json()["object"], "list");
    let data = list.json()["data"].as_array().unwrap().clone();
    data.iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
}

fn request(method: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "localhost:8642").body(Body::empty()).unwrap()
}

/// Hold that the status page draws so many blocks as pinned, once the engine has published what it did.
async fn check_pinned_blocks(rig: &Rig, want: usize) {
    rig.engine.watch_stats().wait_for(|stats| stats.pool.pinned == want).await.unwrap();
    let status = rig.get("/admin/status").await.json();
    assert_eq!(status["pool"]["blocks"]["pinned"], want, "{status}");
}

/// Long enough to fill blocks.
const LONG: &str = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen";

#[tokio::test]
async fn two_clients_without_a_name_leave_nothing_that_one_could_find_of_the_other() {
    let (rig, _folder) = keeping().await;
    for content in [LONG, "something else altogether, of the same length"] {
        let body = serde_json::json!({"messages": [{"role": "user", "content": content}]});
        assert_eq!(rig.post("/v1/chat/completions", &body.to_string()).await.status, OK);
    }
    assert_eq!(ids(&rig).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_first_of_the_four_names_of_a_request_is_the_agents() {
    let (rig, _folder) = keeping().await;
    let fields = [
        r#","session_id":"from-session""#,
        r#","prompt_cache_key":"from-key""#,
        r#","metadata":{"user_id":"from-metadata"}"#,
    ];
    for (n_given, want) in [(3, "from-session"), (2, "from-key"), (1, "from-metadata")] {
        let body = chat(&fields[3 - n_given..].concat());
        assert_eq!(rig.post("/v1/chat/completions", &body).await.status, OK);
        assert!(ids(&rig).await.contains(&want.to_owned()), "{want}");
        assert_eq!(ids(&rig).await.len(), 4 - n_given);
    }
    let mut request = post("/v1/chat/completions", &chat(&fields.concat()));
    request.headers_mut().insert("x-session-id", "from-header".parse().unwrap());
    assert_eq!(rig.send(request).await.status, OK);
    assert_eq!(ids(&rig).await.len(), 4);
    assert!(ids(&rig).await.contains(&"from-header".to_owned()));
}

#[tokio::test]
async fn an_agent_is_shown_pinned_unpinned_and_evicted_to_disk() {
    let (rig, _folder) = keeping().await;
    ask_as(&rig, "research", LONG).await;
    let shown = rig.get("/v1/agents/research").await.json();
    assert_eq!((&shown["object"], &shown["id"]), (&"agent".into(), &"research".into()));
    assert_eq!((&shown["tier"], &shown["pinned"]), (&"resident".into(), &false.into()));
    let n_tokens = shown["tokens"].as_u64().unwrap();
    assert!(n_tokens > 64, "{shown}");
    assert!(shown["saved_tokens"].as_u64().unwrap() <= n_tokens);

    check_pinned_blocks(&rig, 0).await;
    let pinned = rig.post("/v1/agents/research/pin", "").await.json();
    assert_eq!((&pinned["pinned"], &pinned["pinned_tokens"]), (&true.into(), &n_tokens.into()));
    // Of 16 tokens each.
    check_pinned_blocks(&rig, n_tokens.div_ceil(16) as usize).await;
    assert_eq!(rig.get("/v1/agents/research").await.json()["pinned"], true);
    let unpinned = rig.post("/v1/agents/research/unpin", "{}").await.json();
    assert_eq!((&unpinned["pinned"], &unpinned["pinned_tokens"]), (&false.into(), &0.into()));
    check_pinned_blocks(&rig, 0).await;

    let evicted = rig.post("/v1/agents/research/evict", "").await;
    assert_eq!(evicted.status, OK, "{}", evicted.text);
    let evicted = evicted.json();
    assert_eq!((&evicted["tier"], &evicted["resident_tokens"]), (&"stored".into(), &0.into()));
    assert_eq!(evicted["saved_tokens"], n_tokens, "what is only on disk is synced");

    ask_as(&rig, "research", LONG).await;
    let last = rig.get("/admin/requests").await.json()["requests"][0].clone();
    assert!(last["restored_tokens"].as_u64().unwrap() > 0, "{last}");
    assert_eq!(rig.get("/v1/agents/research").await.json()["tier"], "resident");
}

#[tokio::test]
async fn a_deleted_agent_is_gone_and_its_neighbour_is_not() {
    let (rig, _folder) = keeping().await;
    ask_as(&rig, "one", LONG).await;
    ask_as(&rig, "two", LONG).await;
    let deleted = rig.send(request("DELETE", "/v1/agents/one")).await;
    assert_eq!(deleted.text, r#"{"object":"agent.deleted","id":"one","deleted":true}"#);
    assert_eq!(ids(&rig).await, ["two"]);
    assert_eq!(rig.get("/v1/agents/one").await.error(), (404, "agent_not_found".into(), "id".into()));
    ask_as(&rig, "two", LONG).await;
    let last = rig.get("/admin/requests").await.json()["requests"][0].clone();
    assert!(last["reused_tokens"].as_u64().unwrap() > 32, "the neighbour lost what it shares: {last}");
}

#[tokio::test]
async fn ids_of_another_form_are_refused_before_any_work_and_unknown_ones_not_found() {
    let (rig, _folder) = keeping().await;
    let long = "x".repeat(257);
    for bad in ["..", ".", "a%2Fb", "a%20b", "%00", "%ff", "%C3%BC", &long] {
        for (method, verb) in
            [("GET", ""), ("DELETE", ""), ("POST", "/pin"), ("POST", "/unpin"), ("POST", "/evict")]
        {
            let answer = rig.send(request(method, &format!("/v1/agents/{bad}{verb}"))).await;
            assert_eq!(answer.error(), (400, "invalid_value".into(), "id".into()), "{method} {bad}{verb}");
        }
    }
    for (method, verb) in
        [("GET", ""), ("DELETE", ""), ("POST", "/pin"), ("POST", "/unpin"), ("POST", "/evict")]
    {
        let answer = rig.send(request(method, &format!("/v1/agents/nobody{verb}"))).await;
        assert_eq!(answer.error(), (404, "agent_not_found".into(), "id".into()), "{method} {verb}");
    }
    assert_eq!(rig.send(request("PUT", "/v1/agents/a")).await.error().0, 405);
    assert_eq!(rig.post("/v1/agents/a/pin", r#"{"for":"ever"}"#).await.error().1, "unknown_parameter");
}

#[tokio::test]
async fn an_agent_of_two_models_is_one_agent_and_a_query_means_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { free_space_floor: 0, ..StoreConfig::new(folder.path().to_owned(), 64 << 20) };
    let store = Arc::new(Store::open(config).unwrap());
    let over = |name: &'static str, fingerprint: [u8; 32]| {
        let script = Script::Says("an answer of some length".to_owned());
        let model = ScriptedModel { name, fingerprint, script, ..ScriptedModel::default() };
        let (steering, store) = (Steering::free(), Arc::clone(&store));
        let loader = Arc::new(ScriptedLoader::new(model, steering.clone()));
        Rig::around(steering, loader, move |_, engine| engine.store = store)
    };
    let first = over("first", [1; 32]);
    first.ready().await;
    ask_as(&first, "research", LONG).await;
    let second = over("second", [2; 32]);
    second.ready().await;
    ask_as(&second, "research", &LONG[..40]).await;

    let list = second.get("/v1/agents").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    let (all, models) = (&list["data"][0], &list["data"][0]["models"]);
    let of = |n: usize, key: &str| models[n][key].clone();
    assert_eq!((of(0, "model"), of(0, "loaded")), ("second".into(), true.into()), "{all}");
    assert_eq!((of(1, "model"), of(1, "loaded")), (Value::Null, false.into()), "{all}");
    assert_eq!(of(1, "fingerprint"), "01".repeat(32));
    for key in ["tokens", "resident_tokens", "requests"] {
        let sum = of(0, key).as_u64().unwrap() + of(1, key).as_u64().unwrap();
        assert_eq!(all[key], sum, "{key}: {all}");
    }
    assert_eq!(all["tier"], "stored", "what is of the first model is on disk");

    let (one, other) = (format!("?model={}", "01".repeat(32)), "?model=second");
    let pinned = second.post(&format!("/v1/agents/research/pin{one}"), "").await.json();
    assert_eq!((&pinned["pinned"], &pinned["tokens"]), (&true.into(), &of(1, "tokens")), "{pinned}");
    assert_eq!(second.get("/v1/agents/research").await.json()["pinned"], false);
    let shown = second.get(&format!("/v1/agents/research{other}")).await.json();
    assert_eq!(
        (&shown["pinned"], &shown["models"][0]["model"]),
        (&false.into(), &"second".into()),
        "{shown}"
    );
    // Another name of the loaded model.
    assert_eq!(second.get("/v1/agents/research?model=second.gguf").await.json(), shown);

    let deleted = second.send(request("DELETE", &format!("/v1/agents/research{other}"))).await;
    assert_eq!(deleted.status, OK, "{}", deleted.text);
    let left = second.get("/v1/agents/research").await.json();
    assert_eq!((&left["tokens"], &left["pinned"]), (&of(1, "tokens"), &true.into()), "{left}");
    let gone = second.get(&format!("/v1/agents/research{other}")).await;
    assert_eq!(gone.error(), (404, "model_not_found".into(), "model".into()));
    let odd = second.get("/v1/agents/research?modell=second").await;
    assert_eq!(odd.error(), (400, "invalid_value".into(), "model".into()));
    assert_eq!(second.send(request("DELETE", "/v1/agents/research")).await.status, OK);
    assert_eq!(ids(&second).await, Vec::<String>::new());
}
