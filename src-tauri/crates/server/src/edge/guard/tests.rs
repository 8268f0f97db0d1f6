//! Who is let in, by head.

use axum::http::Request;

use super::*;
use crate::config::ApiKey;
use crate::dialects::openai;

fn status(fault: &Fault) -> u16 {
    openai::fault::status(fault.kind).as_u16()
}

fn guard(change: impl FnOnce(&mut ServerConfig)) -> Guard {
    let mut config = ServerConfig::default();
    change(&mut config);
    Guard::new(&config, "127.0.0.1:8642".parse().unwrap()).unwrap()
}

fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method("POST").uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn admits_host(guard: &Guard, host: &str) -> bool {
    guard.check_host(&head("/", &[("host", host)])).is_ok()
}

#[test]
fn loopback_names_and_configured_ones_are_hosts_of_ours_and_no_others() {
    let guard = guard(|config| {
        config.allowed_hosts =
            ["box.lan", "host.docker.internal", "proxy.lan:8443", "[fd00::7]"].map(str::to_owned).into();
    });
    for host in [
        "localhost",
        "localhost:8642",
        "LOCALHOST:8642",
        "localhost.:8642",
        "127.0.0.1",
        "127.0.0.1:8642",
        "[::1]:8642",
        "[::1]",
        "localhost:9000",
        "box.lan",
        "box.lan:1",
        "host.docker.internal:8642",
        "Host.Docker.Internal",
        "proxy.lan:8443",
        "[fd00::7]:8642",
    ] {
        assert!(admits_host(&guard, host), "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:8642",
        "0.0.0.0:8642",
        "127.0.0.2",
        "proxy.lan",
        "proxy.lan:1",
        "docker.internal",
        "host.docker.internal.evil.example",
        "localhost:",
        "localhost:99999",
        "localhost:+80",
        "",
        "user@localhost",
        "localhost/x",
        "localhost, evil.example",
        "[::1",
        "::1",
        "[::2]",
        "2130706433",
    ] {
        assert!(!admits_host(&guard, host), "{host}");
    }
}

#[test]
fn listening_on_every_address_adds_no_host_and_listening_on_one_adds_that() {
    let everywhere = ServerConfig { host: "0.0.0.0".into(), ..ServerConfig::default() };
    let guard = Guard::new(&everywhere, "0.0.0.0:8642".parse().unwrap()).unwrap();
    assert!(!admits_host(&guard, "0.0.0.0:8642") && !admits_host(&guard, "192.168.1.5:8642"));
    let one = ServerConfig { host: "192.168.1.5".into(), ..ServerConfig::default() };
    let guard = Guard::new(&one, "192.168.1.5:8642".parse().unwrap()).unwrap();
    assert!(admits_host(&guard, "192.168.1.5:8642") && !admits_host(&guard, "192.168.1.6:8642"));
}

#[test]
fn one_host_is_needed_and_a_target_in_absolute_form_must_be_ours_too() {
    let guard = guard(|_| {});
    assert_eq!(status(&guard.check_host(&head("/", &[])).unwrap_err()), 400);
    let two = head("/", &[("host", "localhost"), ("host", "evil.example")]);
    assert_eq!(status(&guard.check_host(&two).unwrap_err()), 400);
    let absolute = head("http://evil.example/", &[("host", "localhost")]);
    assert_eq!(status(&guard.check_host(&absolute).unwrap_err()), 403);
    assert!(guard.check_host(&head("http://localhost:8642/", &[("host", "localhost")])).is_ok());
}

#[test]
fn own_and_configured_origins_pass_and_pages_of_other_sites_do_not() {
    let guard = guard(|config| config.allowed_origins = vec!["https://Chat.example".into()]);
    let origin =
        |origin: &str, host: &str| guard.check_origin(&head("/", &[("host", host), ("origin", origin)]));
    for (good, host) in [
        ("tauri://localhost", "127.0.0.1:8642"),
        ("http://tauri.localhost", "127.0.0.1:8642"),
        ("http://localhost:8642", "127.0.0.1:8642"),
        ("http://127.0.0.1:8642", "localhost:8642"),
        ("https://chat.example", "localhost:8642"),
        ("http://localhost:9000", "localhost:9000"),
    ] {
        assert_eq!(origin(good, host).unwrap().unwrap(), good);
    }
    for bad in [
        "https://evil.example",
        "null",
        "",
        "http://localhost:3000",
        "http://localhost",
        "https://localhost:8642",
        "http://127.0.0.1:8642.evil.example",
        "https://chat.example.evil.example",
        "file://",
        "tauri://evil",
    ] {
        assert_eq!(status(&origin(bad, "127.0.0.1:8642").unwrap_err()), 403, "{bad}");
    }
    assert_eq!(guard.check_origin(&head("/", &[("host", "localhost")])), Ok(None));
}

#[test]
fn pages_of_other_sites_cannot_embed_what_they_cannot_read_but_links_work() {
    let guard = guard(|_| {});
    let load = |method: &str, site: &str, mode: &str| {
        let mut head = head("/", &[("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
        head.method = method.parse().unwrap();
        guard.check_origin(&head).is_ok()
    };
    for (method, site, mode, passes) in [
        ("GET", "cross-site", "no-cors", false),
        ("GET", "same-site", "no-cors", false),
        ("GET", "Cross-Site", "no-cors", false),
        ("GET", "a-new-word", "no-cors", false),
        ("GET", "", "no-cors", false),
        ("GET", "cross-site", "navigate", true),
        ("HEAD", "cross-site", "Navigate", true),
        ("POST", "cross-site", "navigate", false),
        ("DELETE", "same-site", "navigate", false),
        ("OPTIONS", "cross-site", "navigate", false),
        ("POST", "same-origin", "cors", true),
        ("POST", "none", "navigate", true),
        ("GET", "same-origin", "no-cors", true),
    ] {
        assert_eq!(load(method, site, mode), passes, "{method} {site} {mode}");
    }
    let bare = head("/", &[("sec-fetch-site", "cross-site")]);
    assert!(guard.check_origin(&bare).is_err());
}

#[test]
fn what_decides_something_comes_once() {
    let guard = guard(|_| {});
    for name in
        ["origin", "Origin", "authorization", "x-api-key", "content-type", "sec-fetch-site", "sec-fetch-mode"]
    {
        let error = guard.check_once(&head("/", &[(name, "a"), (name, "b")])).unwrap_err();
        assert_eq!(status(&error), 400);
        assert!(error.message.contains(&name.to_lowercase()), "{}", error.message);
        assert!(guard.check_once(&head("/", &[(name, "a"), (name, "a")])).is_err(), "{name}");
        assert!(guard.check_once(&head("/", &[(name, "a"), ("accept", "b"), ("accept", "c")])).is_ok());
    }
}

#[test]
fn a_refusal_names_the_setting_that_would_allow_it() {
    let guard = guard(|_| {});
    let host = guard.check_host(&head("/", &[("host", "box.lan")])).unwrap_err();
    assert!(host.message.contains("box.lan") && host.message.contains("allow_host"), "{}", host.message);
    for headers in [
        &[("host", "localhost"), ("origin", "https://a.example")][..],
        &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
    ] {
        let origin = guard.check_origin(&head("/", headers)).unwrap_err();
        assert!(origin.message.contains("allow_origin"), "{}", origin.message);
    }
}

#[test]
fn pages_without_a_name_and_whole_schemes_can_be_allowed_with_a_key_only() {
    let entries = ["null", "file://", "vscode-webview://*", "NULL", "chrome-extension://*"];
    for entry in entries {
        let config = ServerConfig { allowed_origins: vec![entry.into()], ..ServerConfig::default() };
        let error = Guard::new(&config, "127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert_eq!(error, ConfigError::OriginNeedsKey(entry.into()));
        assert!(error.to_string().contains("key"), "{error}");
    }
    let guard = guard(|config| {
        config.api_key = Some(ApiKey::new("sk-1").unwrap());
        config.allowed_origins = entries.iter().map(|entry| (*entry).to_owned()).collect();
    });
    let passes =
        |origin: &str| guard.check_origin(&head("/", &[("host", "localhost"), ("origin", origin)])).is_ok();
    for origin in ["null", "file://", "vscode-webview://abc-1", "chrome-extension://abcdef"] {
        assert!(passes(origin), "{origin}");
    }
    for origin in [
        "https://a.example",
        "vscode-webview://",
        "vscode-webviewx://a",
        "file:///etc",
        "nullx",
        "moz-extension://a",
    ] {
        assert!(!passes(origin), "{origin}");
    }
}

#[test]
fn a_body_compressed_otherwise_than_is_understood_is_refused_by_the_name_of_its_field() {
    let guard = guard(|_| {});
    for (name, value) in [
        ("content-encoding", "br"),
        ("content-encoding", "deflate"),
        ("content-encoding", "gzip, zstd"),
        ("Content-Encoding", "identity, gzip"),
        ("content-encoding", ""),
        ("transfer-encoding", "gzip, chunked"),
    ] {
        let error = guard.check_encoding(&head("/", &[(name, value)])).unwrap_err();
        assert_eq!(status(&error), 415, "{value}");
        for named in [&*name.to_lowercase(), "gzip", "zstd"] {
            assert!(error.message.contains(named), "{}", error.message);
        }
    }
    for (name, value) in [
        ("content-encoding", "Identity"),
        ("content-encoding", "gzip"),
        ("content-encoding", "ZSTD"),
        ("transfer-encoding", "chunked"),
        ("accept-encoding", "br"),
    ] {
        assert!(guard.check_encoding(&head("/", &[(name, value)])).is_ok(), "{name}: {value}");
    }
}

#[test]
fn a_key_works_as_bearer_and_as_x_api_key_and_health_needs_none() {
    let guard = guard(|config| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
    let check = |target: &str, headers: &[(&str, &str)]| {
        guard.check_key(&head(target, headers), Instant::now()).is_ok()
    };
    assert!(check("/v1/models", &[("authorization", "Bearer sk-1")]));
    assert!(check("/v1/models", &[("authorization", "bearer  sk-1")]));
    assert!(check("/v1/models", &[("x-api-key", "sk-1")]));
    assert!(check("/health", &[]) && check("/health/ready", &[]) && check("/", &[]));
    for headers in [
        &[][..],
        &[("authorization", "Bearer sk-2")],
        &[("authorization", "Basic sk-1")],
        &[("authorization", "sk-1")],
        &[("authorization", "Bearer")],
        &[("x-api-key", "")],
    ] {
        assert!(!check("/v1/models", headers), "{headers:?}");
    }
    assert!(!check("/healthy", &[]) && !check("/metrics", &[]) && !check("/admin/stop", &[]));
    assert!(!check("/v1/models?key=sk-1", &[]), "a key in a URL is no key");
}

#[test]
fn content_must_be_json_and_no_content_needs_no_type() {
    let guard = guard(|_| {});
    let check = |headers: &[(&str, &str)]| guard.check_content_type(&head("/", headers)).is_ok();
    assert!(check(&[]) && check(&[("content-length", "0")]));
    assert!(check(&[("content-length", "2"), ("content-type", "application/json")]));
    assert!(check(&[("content-length", "2"), ("content-type", "Application/JSON; charset=utf-8")]));
    assert!(!check(&[("content-length", "2")]) && !check(&[("transfer-encoding", "chunked")]));
    for simple in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""]
    {
        assert!(!check(&[("content-length", "2"), ("content-type", simple)]), "{simple}");
        assert!(!check(&[("content-length", "0"), ("content-type", simple)]), "{simple}");
    }
}

#[test]
fn a_head_beyond_the_bounds_is_refused() {
    let guard = guard(|config| {
        config.limits =
            HttpLimits { headers: 3, header_bytes: 40, target_bytes: 10, ..HttpLimits::default() };
    });
    let check = |target: &str, headers: &[(&str, &str)]| {
        guard.check_size(&head(target, headers)).map_err(|fault| status(&fault))
    };
    assert_eq!(check("/", &[("a", "1"), ("b", "2"), ("c", "3")]), Ok(()));
    assert_eq!(check("/", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]), Err(431));
    assert_eq!(check("/", &[("a", &"x".repeat(40))]), Err(431));
    assert_eq!(check("/0123456789", &[]), Err(414));
}

#[test]
fn entries_of_the_lists_that_have_not_their_form_are_refused_by_name() {
    let new = |change: fn(&mut ServerConfig)| {
        let mut config = ServerConfig::default();
        change(&mut config);
        Guard::new(&config, "127.0.0.1:1".parse().unwrap()).unwrap_err()
    };
    let host = new(|config| config.allowed_hosts = vec!["http://box".into()]);
    assert_eq!(host, ConfigError::AllowedHost("http://box".into()));
    for origin in ["*", "*://*", "box.lan", "https://box.lan/", "https://", "https://*.lan", "file://x/y"] {
        let config = ServerConfig { allowed_origins: vec![origin.into()], ..ServerConfig::default() };
        let error = Guard::new(&config, "127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert_eq!(error, ConfigError::AllowedOrigin(origin.into()));
    }
}
