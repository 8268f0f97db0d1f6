//! What a web page, a stranger and a careless client cannot do.

use serde_json::json;

use crate::harness::answer::chat;
use crate::harness::{SMOLLM2, Samovar, Setup};

#[test]
fn a_page_of_another_origin_gets_403() {
    let server = Samovar::ready();
    let origin = [("Origin", "https://evil.example")];
    for path in ["/v1/models", "/admin/status", "/metrics"] {
        assert_eq!(server.get_with(path, &origin).status, 403, "{path}");
    }
    let refused = server.post_with("/v1/chat/completions", &origin, &chat("Hello", 4));
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(server.post_with("/admin/stop", &origin, &json!({})).status, 403);
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn a_forged_host_gets_403() {
    let server = Samovar::ready();
    for host in ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil.example"] {
        let refused = server.get_with("/v1/models", &[("Host", host)]);
        assert_eq!(refused.status, 403, "{host}: {}", refused.body);
    }
    let port = server.address.port();
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}")] {
        assert_eq!(server.get_with("/v1/models", &[("Host", &host)]).status, 200, "{host}");
    }
}

#[test]
fn names_and_origins_that_are_configured_are_let_in() {
    let server = Setup::new(SMOLLM2)
        .with("--allow-host", "samovar.test")
        .with("--allow-origin", "https://chat.example")
        .ready();
    assert_eq!(server.get_with("/v1/models", &[("Host", "samovar.test")]).status, 200);
    let allowed = server.get_with("/v1/models", &[("Origin", "https://chat.example")]);
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(server.get_with("/v1/models", &[("Origin", "https://other.example")]).status, 403);
}

#[test]
fn a_body_that_is_not_declared_as_json_is_refused() {
    let server = Samovar::ready();
    let headers = [("Content-Type", "text/plain")];
    let refused = server.post_with("/v1/chat/completions", &headers, &chat("Hello", 4));
    assert_eq!(refused.status, 415, "{}", refused.body);
}

#[test]
fn a_key_is_asked_for_once_it_is_set_and_health_needs_none() {
    let setup = Setup::new(SMOLLM2);
    let key_file = setup.data().join("key");
    std::fs::write(&key_file, "sk-test-0123456789\n").unwrap();
    private(&key_file);
    let server = setup.with("--api-key-file", &key_file.display().to_string()).start();
    server.wait_until_ready();

    let refused = server.get("/v1/models");
    assert_eq!(refused.status, 401, "{}", refused.body);
    assert!(refused.header("x-request-id").is_some());
    assert_eq!(server.get_with("/v1/models", &[("Authorization", "Bearer wrong")]).status, 401);
    for header in [("Authorization", "Bearer sk-test-0123456789"), ("x-api-key", "sk-test-0123456789")] {
        assert_eq!(server.get_with("/v1/models", &[header]).status, 200, "{}", header.0);
    }
    for path in ["/health/live", "/health/startup", "/health/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
}

#[cfg(unix)]
fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn every_answer_carries_a_request_id_and_echoes_the_clients() {
    let server = Samovar::ready();
    for path in ["/v1/models", "/nowhere", "/health/live"] {
        let id = server.get(path).header("x-request-id").map(str::to_owned);
        assert!(id.is_some_and(|id| !id.is_empty()), "{path}");
    }
    let echoed = server.get_with("/v1/models", &[("x-request-id", "my-id-7")]);
    assert_eq!(echoed.header("x-request-id"), Some("my-id-7"));
}
