//! Keys with names, as clients and their owner meet them.

use super::*;
use crate::config::ApiKey;

/// A rig with a folder for keys, and the owner's own key.
async fn rig() -> (tempfile::TempDir, Rig) {
    let folder = tempfile::tempdir().unwrap();
    let key_file = Some(folder.path().join("keys.json"));
    let rig = Rig::with(" tea", |config, _| {
        config.key_file = key_file;
        config.own_key = Some(ApiKey::new("own").unwrap());
    });
    rig.ready().await;
    (folder, rig)
}

fn with_key(mut request: Request<Body>, key: &str) -> Request<Body> {
    request.headers_mut().insert("x-api-key", key.parse().unwrap());
    request
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "localhost:8642").body(Body::empty()).unwrap()
}

fn delete(path: &str) -> Request<Body> {
    Request::delete(path).header("host", "localhost:8642").body(Body::empty()).unwrap()
}

impl Rig {
    /// A key that the owner makes.
    async fn key(&self, body: &str) -> String {
        let made = self.send(with_key(post("/admin/keys", body), "own")).await;
        assert_eq!((made.status, made.header("cache-control")), (OK, "no-store"), "{}", made.text);
        made.json()["key"].as_str().unwrap().to_owned()
    }
}

const MESSAGE: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

/// A call that generates, of each API.
fn calls() -> [(&'static str, String); 5] {
    [
        ("/v1/chat/completions", chat("")),
        ("/v1/responses", r#"{"input":"hi"}"#.to_owned()),
        ("/v1/messages", format!(r#"{{"max_tokens":4,{MESSAGE}}}"#)),
        ("/api/chat", format!(r#"{{"stream":false,{MESSAGE}}}"#)),
        ("/api/generate", r#"{"stream":false,"prompt":"hi"}"#.to_owned()),
    ]
}

#[tokio::test]
async fn a_key_is_told_once_opens_what_it_is_for_and_nothing_when_it_was_revoked() {
    let (_folder, rig) = rig().await;
    assert_eq!(rig.get("/admin/keys").await.json()["required"], false);
    let key = rig.key(r#"{"name":"laptop"}"#).await;
    for (path, body) in calls() {
        assert_eq!(rig.post(path, &body).await.status, 401, "{path}");
        assert_eq!(rig.send(with_key(post(path, &body), &key)).await.status, OK, "{path}");
    }
    for path in ["/v1/models", "/api/tags", "/v1/agents", "/metrics", "/openapi.json"] {
        assert_eq!(rig.get(path).await.status, 401, "{path}");
        assert_eq!(rig.send(with_key(get(path), &key)).await.status, OK, "{path}");
    }
    assert_eq!(rig.get("/health/ready").await.status, OK);
    let listed = rig.send(with_key(get("/admin/keys"), "own")).await;
    assert!(!listed.text.contains(&key["sk-".len()..]), "a key is told once: {}", listed.text);
    let entry = &listed.json()["keys"][0];
    assert_eq!((&entry["name"], &entry["scopes"]), (&"laptop".into(), &serde_json::json!(["generate"])));
    let revoked = rig.send(with_key(delete("/admin/keys/laptop"), "own")).await;
    assert_eq!(revoked.json()["deleted"], true);
    assert_eq!(rig.send(with_key(get("/v1/models"), &key)).await.status, OK, "nobody needs one again");
    rig.key(r#"{"name":"phone"}"#).await;
    assert_eq!(rig.send(with_key(get("/v1/models"), &key)).await.status, 401);
    let again = rig.send(with_key(delete("/admin/keys/laptop"), "own")).await;
    assert_eq!(again.error(), (404, "key_not_found".into(), "id".into()));
}

#[tokio::test]
async fn what_is_admins_needs_a_key_for_that_and_says_so_in_the_shape_of_the_api() {
    let (_folder, rig) = rig().await;
    let generate = rig.key(r#"{"name":"g"}"#).await;
    let admin = rig.key(r#"{"name":"a","scopes":["admin"]}"#).await;
    for path in ["/admin/status", "/admin/keys", "/admin/requests", "/admin/history"] {
        let refused = rig.send(with_key(get(path), &generate)).await;
        assert_eq!(refused.error(), (403, "key_not_allowed".into(), "-".into()), "{path}");
        assert!(refused.text.contains("'g'") && refused.text.contains("'admin'"), "{}", refused.text);
        assert_eq!(rig.send(with_key(get(path), &admin)).await.status, OK, "{path}");
    }
    assert_eq!(rig.send(with_key(post("/admin/stop", ""), &generate)).await.status, 403);
    assert_eq!(rig.engine.state(), State::Ready);
    for (path, body) in calls() {
        let refused = rig.send(with_key(post(path, &body), &admin)).await;
        assert_eq!(refused.status, 403, "{path}");
        let error = &refused.json()["error"];
        match path {
            _ if path.starts_with("/api/") => assert!(error.is_string(), "{path}: {error}"),
            _ => assert_eq!(error["type"], "permission_error", "{path}: {error}"),
        }
    }
}

#[tokio::test]
async fn words_around_what_has_changed_in_a_prompt_are_shown_to_who_may_administer_alone() {
    let (_folder, rig) = rig().await;
    let generate = rig.key(r#"{"name":"g"}"#).await;
    let admin = rig.key(r#"{"name":"a","scopes":["admin"]}"#).await;
    let mut id = String::new();
    for place in ["Vladivostok", "Ouagadougou"] {
        let body =
            serde_json::json!({"messages": [{"role": "user", "content": format!("The way to {place}?")}]});
        let answer = rig.send(with_key(post("/v1/chat/completions", &body.to_string()), &generate)).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        assert!(!format!("{answer:?}").contains("gadougou"), "{answer:?}");
        answer.header("x-request-id").clone_into(&mut id);
    }
    let one = format!("/admin/requests/{id}");
    for path in [&*one, "/admin/requests"] {
        for key in [&*admin, "own"] {
            let shown = rig.send(with_key(get(path), key)).await;
            assert!(shown.text.contains("Ouagadougou?"), "{path}: {}", shown.text);
            assert!(
                !shown.text.contains("Vladivostok"),
                "what was there before is nobody's to read: {}",
                shown.text
            );
        }
        assert_eq!(rig.get(path).await.status, 401, "{path}");
    }
    for path in [&*one, "/admin/requests", "/admin/events", "/v1/agents", "/v1/models", "/metrics"] {
        let shown = rig.send(with_key(get(path), &generate)).await;
        assert!(!shown.text.contains("gadougou"), "{path}: {}", shown.text);
    }
}

#[tokio::test]
async fn a_key_that_is_used_too_often_is_told_when_to_come_again_by_every_api() {
    for (path, body) in calls() {
        let (_folder, rig) = rig().await;
        let slow = rig.key(r#"{"name":"slow","requests_per_minute":1}"#).await;
        let free = rig.key(r#"{"name":"free"}"#).await;
        assert_eq!(rig.send(with_key(post(path, &body), &slow)).await.status, OK, "{path}");
        let refused = rig.send(with_key(post(path, &body), &slow)).await;
        assert_eq!(refused.status, 429, "{path}");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&seconds), "{path}: {seconds}");
        let error = &refused.json()["error"];
        match path {
            _ if path.starts_with("/api/") => assert!(error.is_string(), "{path}: {error}"),
            _ => assert_eq!(error["type"], "rate_limit_error", "{path}: {error}"),
        }
        assert_eq!(rig.send(with_key(post(path, &body), &free)).await.status, OK, "{path}");
    }
}

#[tokio::test]
async fn the_first_key_made_by_whoever_comes_is_one_to_come_back_with() {
    let (_folder, rig) = rig().await;
    let shut_out = rig.post("/admin/keys", r#"{"name":"a"}"#).await;
    assert_eq!(shut_out.error(), (400, "invalid_value".into(), "scopes".into()));
    let made = rig.post("/admin/keys", r#"{"name":"a","scopes":["generate","admin"]}"#).await.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(rig.post("/admin/keys", r#"{"name":"b"}"#).await.status, 401);
    assert_eq!(rig.send(with_key(post("/admin/keys", r#"{"name":"b"}"#), key)).await.status, OK);
}

#[tokio::test]
async fn a_key_that_cannot_be_is_refused_at_its_field() {
    let (_folder, rig) = rig().await;
    rig.key(r#"{"name":"taken"}"#).await;
    for (body, code, param) in [
        ("{}", "missing_required_parameter", "name"),
        (r#"{"name":"a b"}"#, "invalid_value", "name"),
        (r#"{"name":"taken"}"#, "invalid_value", "name"),
        (r#"{"name":"a","scopes":["all"]}"#, "invalid_value", "scopes"),
        (r#"{"name":"a","scopes":[]}"#, "invalid_value", "scopes"),
        (r#"{"name":"a","requests_per_minute":0}"#, "invalid_value", "requests_per_minute"),
        (r#"{"name":"a","key":"sk-mine"}"#, "unknown_parameter", "key"),
    ] {
        let refused = rig.send(with_key(post("/admin/keys", body), "own")).await;
        assert_eq!(refused.error(), (400, code.into(), param.into()), "{body}");
    }
}

#[tokio::test]
async fn a_server_without_a_folder_keeps_no_keys_and_the_single_key_works_as_ever() {
    let rig = Rig::with("a", |config, _| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
    rig.ready().await;
    let refused = rig.send(with_key(post("/admin/keys", r#"{"name":"a"}"#), "sk-1")).await;
    assert_eq!(refused.error().0, 409);
    assert_eq!(rig.send(with_key(get("/admin/status"), "sk-1")).await.status, OK);
    assert_eq!(rig.get("/v1/models").await.status, 401);
}

#[tokio::test]
async fn pages_of_strangers_are_let_in_by_keys_alone_also_after_the_last_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("keys.json");
    let file = crate::keys::key_file::KeyFile::new(key_file.clone());
    let new = crate::keys::key_file::NewKey {
        name: "a".into(),
        scopes: [crate::keys::scope::Scope::Generate].into(),
        requests_per_minute: None,
    };
    let (_, key) = file.add(new).unwrap();
    let rig = Rig::with("a", |config, _| {
        config.key_file = Some(key_file);
        config.allowed_origins = vec!["null".into()];
    });
    rig.ready().await;
    let from_a_file = |key: &str| {
        let mut request = with_key(get("/v1/models"), key);
        request.headers_mut().insert("origin", "null".parse().unwrap());
        request
    };
    assert_eq!(rig.send(from_a_file(&key)).await.status, OK);
    assert_eq!(rig.send(from_a_file("sk-wrong")).await.status, 401);
    file.remove("a").unwrap();
    let refused = rig.send(from_a_file(&key)).await;
    assert_eq!(refused.error().0, 403, "no key is wanted, so no stranger is let in");
    assert!(refused.text.contains("allow_origin") && refused.text.contains("with a key"), "{}", refused.text);
    assert_eq!(rig.get("/v1/models").await.status, OK);
}
