//! What keeps web pages, strangers and floods out, and that every refusal has its id and shape.

use super::*;
use crate::config::{ApiKey, HttpLimits};

/// A request with these headers and no others.
fn bare(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

const HOST: (&str, &str) = ("host", "localhost:8642");
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn strangers_are_refused_with_an_id_and_in_the_shape_of_the_api() {
    let rig = Rig::with("a", |config, _| {
        config.limits = HttpLimits { body_bytes: 1000, ..HttpLimits::default() };
    });
    rig.ready().await;
    let path = "/v1/chat/completions";
    let huge: &str = Box::leak(chat(&format!(r#","user":"{}""#, "x".repeat(1000))).into_boxed_str());
    let long_target = format!("/{}", "x".repeat(9000));
    let long_header = "x".repeat(40_000);
    for (what, request, status, code) in [
        ("no host", bare("GET", "/v1/models", &[], ""), 400, "bad_request"),
        ("forged host", bare("GET", "/v1/models", &[("host", "evil.example")], ""), 403, "host_not_allowed"),
        (
            "rebound name with our port",
            bare("GET", "/v1/models", &[("host", "evil.example:8642")], ""),
            403,
            "host_not_allowed",
        ),
        (
            "health with a forged host",
            bare("GET", "/health", &[("host", "evil.example")], ""),
            403,
            "host_not_allowed",
        ),
        (
            "page of another site",
            bare("POST", path, &[HOST, JSON, ("origin", "https://evil.example")], "{}"),
            403,
            "origin_not_allowed",
        ),
        (
            "page of another local app",
            bare("GET", "/admin/status", &[HOST, ("origin", "http://localhost:3000")], ""),
            403,
            "origin_not_allowed",
        ),
        (
            "sandboxed page",
            bare("POST", "/admin/stop", &[HOST, ("origin", "null")], ""),
            403,
            "origin_not_allowed",
        ),
        (
            "foreign preflight",
            bare(
                "OPTIONS",
                path,
                &[HOST, ("origin", "https://evil.example"), ("access-control-request-method", "POST")],
                "",
            ),
            403,
            "origin_not_allowed",
        ),
        (
            "image of another site",
            bare(
                "GET",
                "/admin/events",
                &[HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
                "",
            ),
            403,
            "origin_not_allowed",
        ),
        (
            "no content type",
            bare("POST", path, &[HOST, ("content-length", "2")], "{}"),
            415,
            "unsupported_media_type",
        ),
        (
            "a form",
            bare("POST", "/admin/stop", &[HOST, ("content-type", "application/x-www-form-urlencoded")], ""),
            415,
            "unsupported_media_type",
        ),
        ("huge body", bare("POST", path, &[HOST, JSON], huge), 413, "request_too_large"),
        ("long target", bare("GET", &long_target, &[HOST], ""), 414, "uri_too_long"),
        ("long header", bare("GET", "/", &[HOST, ("x", &long_header)], ""), 431, "headers_too_large"),
        (
            "many headers",
            bare("GET", "/", &[&[HOST][..], &[("x", "y"); 100]].concat(), ""),
            431,
            "headers_too_large",
        ),
        ("unknown path", bare("GET", "/v1/nothing", &[HOST], ""), 404, "unknown_url"),
        ("later path", bare("POST", "/v1/images/generations", &[HOST, JSON], "{}"), 404, "unknown_url"),
        ("wrong method", bare("GET", path, &[HOST], ""), 405, "method_not_allowed"),
        ("odd method", bare("BREW", "/health", &[HOST], ""), 405, "method_not_allowed"),
    ] {
        let answer = rig.send(request).await;
        let (got_status, got_code, _) = answer.error();
        assert_eq!((got_status, got_code.as_str()), (status, code), "{what}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{what}");
    }
    assert_eq!(rig.engine.state(), State::Ready, "none of them stopped the server");
    assert_eq!(rig.engine.stats().totals.requests, 0);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let rig = Rig::saying("a").await;
    assert_eq!(rig.get("/v1/completions").await.header("allow"), "POST");
}

#[tokio::test]
async fn the_app_s_own_window_may_ask_and_read() {
    let rig = Rig::with("a", |config, _| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
    rig.ready().await;
    for origin in ["tauri://localhost", "http://tauri.localhost", "http://127.0.0.1:8642"] {
        let asks = [
            HOST,
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-session-id"),
        ];
        let preflight = rig.send(bare("OPTIONS", "/v1/chat/completions", &asks, "")).await;
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-allow-origin"), origin);
        assert_eq!(
            preflight.header("access-control-allow-headers"),
            "authorization,content-type,x-session-id"
        );
        assert!(preflight.header("access-control-allow-methods").contains("POST"));

        let answer = rig.send(bare("GET", "/v1/models", &[HOST, ("origin", origin)], "")).await;
        assert_eq!(answer.error().0, 401);
        assert_eq!(answer.header("access-control-allow-origin"), origin, "it must be able to read the 401");
        assert!(answer.header("access-control-expose-headers").contains("x-request-id"));
        assert!(answer.header("vary").contains("origin"));
    }
}

#[tokio::test]
async fn a_key_opens_everything_and_without_it_only_health_answers() {
    let rig = Rig::with("a", |config, _| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
    rig.ready().await;
    for path in ["/v1/models", "/metrics", "/admin/status", "/admin/events", "/nowhere"] {
        let answer = rig.get(path).await;
        assert_eq!(answer.error(), (401, "invalid_api_key".into(), "-".into()), "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    for path in ["/health", "/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(rig.get(path).await.status, OK, "{path}");
    }
    for key in [("authorization", "Bearer sk-1"), ("x-api-key", "sk-1")] {
        assert_eq!(rig.send(bare("GET", "/v1/models", &[HOST, key], "")).await.status, OK);
    }
    let wrong = rig.send(bare("GET", "/v1/models", &[HOST, ("x-api-key", "sk-2")], "")).await;
    assert_eq!(wrong.error().0, 401);
    assert!(!wrong.text.contains("sk-2"), "a key is never echoed");
}

#[tokio::test]
async fn an_id_is_echoed_when_well_formed_and_made_up_when_not() {
    let rig = Rig::saying("a").await;
    let echo = |sent: &'static str| rig.send(bare("GET", "/health", &[HOST, ("x-request-id", sent)], ""));
    assert_eq!(echo("my-id.7").await.header("x-request-id"), "my-id.7");
    assert!(echo("no spaces, please").await.header("x-request-id").starts_with("req_"));
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    let id = answer.header("x-request-id").to_owned();
    assert_eq!(rig.get("/admin/requests").await.json()["requests"][0]["id"], id.as_str());
}

#[tokio::test]
async fn the_page_is_sent_to_browsers_without_a_key_and_bound_to_this_server() {
    let rig = Rig::with("a", |config, _| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
    rig.ready().await;
    let page = rig.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (OK, "text/html; charset=utf-8"));
    assert!(page.text.contains("<title>Samovar</title>"), "{}", page.text);
    assert_eq!(page.header("cache-control"), "no-cache");
    let policy = page.header("content-security-policy");
    for rule in ["default-src 'none';", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    let forged = rig.send(bare("GET", "/", &[("host", "evil.example")], "")).await;
    assert_eq!(forged.error().0, 403);
}

#[tokio::test]
async fn no_path_leads_out_of_the_page() {
    let rig = Rig::saying("a").await;
    for path in ["/../Cargo.toml", "/assets/../index.html", "/assets/", "/%2e%2e/Cargo.toml", "/index.html"] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn routes_are_found_without_v1_and_with_slashes_too_many() {
    let rig = Rig::saying(" tea").await;
    for path in ["/models", "/v1/models/", "//v1//models", "/models//", "/v1/models?x=1"] {
        assert_eq!(rig.get(path).await.json()["object"], "list", "{path}");
    }
    for path in ["/chat/completions", "/v1/chat/completions/", "//chat//completions/"] {
        assert_eq!(rig.post(path, &chat("")).await.status, OK, "{path}");
    }
    for path in ["/health/", "//health//live"] {
        assert_eq!(rig.get(path).await.status, OK, "{path}");
    }
    assert_eq!(rig.get("/nothing/").await.error().0, 404);
    assert!(rig.get("/metrics/").await.text.contains("route=\"/v1/chat/completions\""));
}

#[tokio::test]
async fn a_name_that_fits_a_pattern_means_the_loaded_model() {
    let rig = Rig::with(" tea", |config, _| config.model_patterns = vec!["gpt-4*".into(), "claude-*".into()]);
    rig.ready().await;
    for (name, status) in
        [("gpt-4o", 200), ("claude-sonnet", 200), ("gpt-4", 200), ("gpt-3.5", 404), ("GPT-4", 404)]
    {
        assert_eq!(
            rig.post("/v1/chat/completions", &chat(&format!(r#","model":"{name}""#))).await.status,
            status
        );
        assert_eq!(rig.get(&format!("/v1/models/{name}")).await.status, status, "{name}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_triggers_nothing_through_any_api() {
    let rig = Rig::saying("a").await;
    let message = r#""messages":[{"role":"user","content":"hi"}]"#;
    let chat: &str = Box::leak(format!(r#"{{"max_tokens":4,{message}}}"#).into_boxed_str());
    let ollama: &str = Box::leak(format!("{{{message}}}").into_boxed_str());
    for (path, body) in [
        ("/v1/chat/completions", ollama),
        ("/v1/completions", r#"{"prompt":"hi"}"#),
        ("/v1/responses", r#"{"input":"hi"}"#),
        ("/v1/messages", chat),
        ("/v1/messages/count_tokens", ollama),
        ("/api/chat", ollama),
        ("/api/generate", r#"{"prompt":"hi"}"#),
        ("/api/show", r#"{"model":"scripted"}"#),
    ] {
        // What pages can send: with and without CORS, as a form, from a sandbox, under a name that leads here.
        let plain = ("content-type", "text/plain");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let evil = ("origin", "https://evil.example");
        for headers in [
            &[HOST, JSON, evil][..],
            &[HOST, plain, evil],
            &[HOST, form, ("origin", "null")],
            &[HOST, plain, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            &[HOST, JSON, ("sec-fetch-site", "same-site")],
            &[("host", "evil.example:8642"), plain],
        ] {
            let answer = rig.send(bare("POST", path, headers, body)).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path} {headers:?}");
        }
        let preflight = [HOST, evil, ("access-control-request-method", "POST")];
        assert_eq!(rig.send(bare("OPTIONS", path, &preflight, "")).await.status, 403, "{path}");
        assert_eq!(rig.send(bare("POST", path, &[HOST, JSON], body)).await.status, OK, "{path}");
    }
    for path in ["/api/tags", "/api/ps", "/v1/responses/resp_1", "/v1/models"] {
        let loaded = [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        assert_eq!(rig.send(bare("GET", path, &loaded, "")).await.status, 403, "{path}");
    }
    assert_eq!(rig.engine.records().len(), 6, "those that asked themselves");
}
