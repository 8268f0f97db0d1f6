//! What is counted and written down of requests: by route, and as part of a trace.

use std::collections::BTreeSet;

use super::descriptions::served_paths;
use super::*;

/// The labels `route` of all counted responses.
async fn counted_routes(rig: &Rig) -> BTreeSet<String> {
    let page = rig.get("/metrics").await.text;
    let of_line = |line: &str| Some(line.split_once("route=\"")?.1.split_once('"')?.0.to_owned());
    page.lines().filter(|line| line.starts_with("samovar_http_requests_total{")).filter_map(of_line).collect()
}

#[tokio::test]
async fn responses_are_counted_by_the_templates_of_their_routes_and_never_by_what_clients_write() {
    let rig = Rig::saying(" tea").await;
    let templates = served_paths(&rig);
    for template in &templates {
        for id in ["a", "b", "%22%0A"] {
            let path = template.replace("{id}", id);
            // Some of these answers have no end, and nobody reads them.
            let get = Request::get(&path).header("host", "localhost:8642").body(Body::empty());
            drop(rig.call(get.unwrap()).await);
            drop(rig.call(post(&path, r#"{"nothing":1}"#)).await);
        }
    }
    for path in ["/nowhere", "/v1/nowhere/a", "/api/nowhere", "/v1/models/a/b/c", "/\"}1"] {
        if let Ok(request) = Request::get(path).header("host", "localhost:8642").body(Body::empty()) {
            rig.send(request).await;
        }
    }
    let counted = counted_routes(&rig).await;
    let templates: BTreeSet<String> =
        templates.into_iter().map(|path| path.replace("/models/{", "/models/{*")).collect();
    let allowed: BTreeSet<String> = templates.iter().cloned().chain(["unmatched".to_owned()]).collect();
    assert!(counted.is_subset(&allowed), "{:?}", counted.difference(&allowed));
    let not_counted: Vec<_> = allowed.difference(&counted).collect();
    assert!(not_counted.is_empty(), "{not_counted:?}");
}

#[tokio::test]
async fn refusals_are_counted_by_route_and_status_too() {
    let rig = Rig::saying(" tea").await;
    rig.post("/v1/messages", "{").await;
    rig.post("/api/chat", "{").await;
    rig.get("/v1/responses/resp_1").await;
    let page = rig.get("/metrics").await.text;
    for line in [
        r#"{method="POST",route="/v1/messages",status="400"} 1"#,
        r#"{method="POST",route="/api/chat",status="400"} 1"#,
        r#"{method="GET",route="/v1/responses/{id}",status="404"} 1"#,
    ] {
        assert!(page.contains(line), "{line} of {page}");
    }
}

#[tokio::test]
async fn the_record_of_a_request_names_its_trace_and_a_broken_one_is_passed_over() {
    let rig = Rig::saying(" tea").await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let broken = format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase());
    for (sent, want) in [
        (Some(format!("00-{trace}-b7ad6b7169203331-01")), Value::from(trace)),
        (Some(broken), Value::Null),
        (None, Value::Null),
    ] {
        for (path, body) in [
            ("/v1/chat/completions", chat("")),
            ("/v1/messages", r#"{"max_tokens":4,"messages":[{"role":"user","content":"hi"}]}"#.to_owned()),
            ("/v1/responses", r#"{"input":"hi"}"#.to_owned()),
            ("/api/generate", r#"{"prompt":"hi"}"#.to_owned()),
        ] {
            let mut request = post(path, &body);
            if let Some(sent) = &sent {
                request.headers_mut().insert("traceparent", sent.parse().unwrap());
            }
            let answer = rig.send(request).await;
            assert_eq!(answer.status, OK, "{path}");
            let id = answer.header("x-request-id").to_owned();
            let record = rig.get(&format!("/admin/requests/{id}")).await.json();
            assert_eq!(record["trace_id"], want, "{path} {sent:?}");
        }
    }
}
