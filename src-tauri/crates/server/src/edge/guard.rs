//! Who may talk to the server: bounds on heads, the Host and Origin lists, the API key.
//!
//! Everything is decided from the head alone, before a byte of the body is read. The lists are what keeps web
//! pages out: a page under another name that resolves to this machine (DNS rebinding) shows itself by its Host,
//! a page of another site by its Origin.

use std::net::SocketAddr;

use axum::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, ORIGIN,
    TRANSFER_ENCODING,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};

use crate::calls::fault::{ApiError, shorten};
use crate::config::{ApiKey, ConfigError, HttpLimits, ServerConfig};
use crate::page;

/// Names that mean this machine and that no web page can have.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Origins of the app's own window.
const APP_ORIGINS: [&str; 2] = ["tauri://localhost", "http://tauri.localhost"];

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Fields that decide who may do what: one that comes twice could mean either.
const AT_MOST_ONCE: [HeaderName; 6] =
    [ORIGIN, AUTHORIZATION, CONTENT_TYPE, X_API_KEY, SEC_FETCH_SITE, SEC_FETCH_MODE];

/// The lists, the key and the bounds.
#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<Authority>,
    origins: Vec<AllowedOrigin>,
    key: Option<ApiKey>,
    limits: HttpLimits,
}

/// A name and, where it was written, a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    /// Lower case, without a trailing dot; an IPv6 address in brackets.
    name: String,
    port: Option<u16>,
}

impl Guard {
    /// The guard of a server that listens on `address`.
    ///
    /// A host that is configured as an address of its own is on the list; listening on every address adds none.
    ///
    /// # Errors
    /// An entry of a list has not its form.
    pub(crate) fn new(config: &ServerConfig, address: SocketAddr) -> Result<Guard, ConfigError> {
        let mut hosts: Vec<Authority> =
            LOOPBACK_NAMES.iter().map(|name| Authority { name: (*name).to_owned(), port: None }).collect();
        if !address.ip().is_unspecified() {
            hosts.extend(
                Authority::parse(&SocketAddr::new(address.ip(), 0).to_string()).map(Authority::any_port),
            );
            hosts.extend(Authority::parse(&config.host).map(Authority::any_port));
        }
        for entry in &config.allowed_hosts {
            hosts.push(Authority::parse(entry).ok_or_else(|| ConfigError::AllowedHost(entry.clone()))?);
        }

        let own = APP_ORIGINS.iter().map(|origin| (*origin).to_owned());
        let own = own.chain(LOOPBACK_NAMES.iter().map(|name| format!("http://{name}:{}", address.port())));
        let mut origins: Vec<AllowedOrigin> = own.map(AllowedOrigin::One).collect();
        for entry in &config.allowed_origins {
            let origin =
                AllowedOrigin::parse(entry).ok_or_else(|| ConfigError::AllowedOrigin(entry.clone()))?;
            if origin.means_many_pages() && config.api_key.is_none() {
                return Err(ConfigError::OriginNeedsKey(entry.clone()));
            }
            origins.push(origin);
        }
        Ok(Guard { hosts, origins, key: config.api_key.clone(), limits: config.limits })
    }

    /// That the head stays within the bounds.
    ///
    /// # Errors
    /// 414 or 431.
    pub(crate) fn check_size(&self, head: &Parts) -> Result<(), ApiError> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.limits.target_bytes {
            return Err(ApiError::target_too_long(self.limits.target_bytes));
        }
        if head.headers.len() > self.limits.headers {
            let message = format!("more than {} header fields", self.limits.headers);
            return Err(ApiError::headers_too_large(message));
        }
        let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > self.limits.header_bytes {
            let message = format!("more than {} bytes of header fields", self.limits.header_bytes);
            return Err(ApiError::headers_too_large(message));
        }
        Ok(())
    }

    /// That no field comes twice that decides something.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn check_once(&self, head: &Parts) -> Result<(), ApiError> {
        match AT_MOST_ONCE.iter().find(|name| head.headers.get_all(*name).iter().nth(1).is_some()) {
            Some(name) => Err(ApiError::bad_request(format!("a request has at most one {name} header"))),
            None => Ok(()),
        }
    }

    /// That the request was meant for us by name.
    ///
    /// # Errors
    /// 400 without exactly one Host, 403 for a name that is not on the list.
    pub(crate) fn check_host(&self, head: &Parts) -> Result<(), ApiError> {
        let mut sent = head.headers.get_all(HOST).iter();
        let (Some(host), None) = (sent.next(), sent.next()) else {
            return Err(ApiError::bad_request("a request needs exactly one Host header"));
        };
        // A target in absolute form overrides the header, so both must be ours.
        let in_target = head.uri.authority().map(axum::http::uri::Authority::as_str);
        for name in host.to_str().ok().into_iter().chain(in_target) {
            if !Authority::parse(name).is_some_and(|sent| self.hosts.iter().any(|ours| ours.admits(&sent))) {
                let message = format!(
                    "host '{}' is not on the list of allowed hosts; the setting allow_host (--allow-host) adds to it",
                    shorten(name)
                );
                return Err(ApiError::forbidden("host_not_allowed", message));
            }
        }
        match host.to_str() {
            Ok(_) => Ok(()),
            Err(_) => Err(ApiError::forbidden("host_not_allowed", "the Host header is not text")),
        }
    }

    /// The origin to answer to, if the request has one and it is on the list. Call after [`Guard::check_once`] and
    /// [`Guard::check_host`].
    ///
    /// # Errors
    /// 403 for a page of another site.
    pub(crate) fn check_origin(&self, head: &Parts) -> Result<Option<HeaderValue>, ApiError> {
        let Some(origin) = head.headers.get(ORIGIN) else {
            return if comes_from_another_site(head) {
                let message = "pages of other sites may not load this, unless the setting allow_origin \
                               (--allow-origin) names theirs";
                Err(ApiError::forbidden("origin_not_allowed", message))
            } else {
                Ok(None)
            };
        };
        let text = origin.to_str().unwrap_or("null");
        let listed = self.origins.iter().any(|ours| ours.admits(text));
        // A page that this server sent, reached through a port forward or a proxy under an allowed name.
        let same = head.headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| {
            text.split_once("://")
                .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest == host)
        });
        if listed || same {
            return Ok(Some(origin.clone()));
        }
        let message = format!(
            "origin '{}' is not on the list of allowed origins; the setting allow_origin (--allow-origin) adds to it",
            shorten(text)
        );
        Err(ApiError::forbidden("origin_not_allowed", message))
    }

    /// That the client knows the key, if there is one, and the path needs it.
    ///
    /// # Errors
    /// 401.
    pub(crate) fn check_key(&self, head: &Parts) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        if is_open(head.uri.path()) {
            return Ok(());
        }
        let bearer = head.headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        let x_api_key = head.headers.get(X_API_KEY).map(HeaderValue::as_bytes);
        // Both are always compared, so that the time does not tell which was right.
        let by_bearer = bearer.is_some_and(|token| key.matches(token));
        let by_header = x_api_key.is_some_and(|token| key.matches(token));
        if by_bearer | by_header { Ok(()) } else { Err(ApiError::unauthorized()) }
    }

    /// That a body comes as it is, not compressed.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn check_encoding(&self, head: &Parts) -> Result<(), ApiError> {
        for (name, plain) in [(CONTENT_ENCODING, "identity"), (TRANSFER_ENCODING, "chunked")] {
            let values = head.headers.get_all(&name);
            if values.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(plain.as_bytes())) {
                return Err(ApiError::encoded(name.as_str(), plain));
            }
        }
        Ok(())
    }

    /// That a body says it is JSON. Together with the Origin list this keeps "simple" cross-site requests out:
    /// a form or a script without CORS cannot set this content type. A POST with neither content nor content
    /// type passes (`curl -X POST …/admin/drain`): browsers put an Origin on every cross-site POST.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn check_content_type(&self, head: &Parts) -> Result<(), ApiError> {
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        match head.headers.get(CONTENT_TYPE) {
            Some(value) if is_json(value) => Ok(()),
            None if !has_body(&head.headers) => Ok(()),
            _ => Err(ApiError::not_json()),
        }
    }
}

impl Authority {
    /// `name`, `name:port`, `[v6]` or `[v6]:port`.
    fn parse(text: &str) -> Option<Authority> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => {
                // `parse` would take a sign.
                let digits = port.bytes().all(|b| b.is_ascii_digit());
                (name, Some(port.parse().ok().filter(|_| digits)?))
            }
            _ => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let fits = match name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        fits.then_some(Authority { name, port })
    }

    fn any_port(self) -> Authority {
        Authority { port: None, ..self }
    }

    /// An entry without a port admits every port: forwarded ports are common, and a page cannot forge a name.
    fn admits(&self, sent: &Authority) -> bool {
        self.name == sent.name && (self.port.is_none() || self.port == sent.port)
    }
}

/// An entry of the list of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedOrigin {
    /// As browsers write it.
    One(String),
    /// What pages have that no other site can be told from: files, and frames in a sandbox.
    Nameless(&'static str),
    /// All of a scheme, such as an editor's own.
    Scheme(String),
}

impl AllowedOrigin {
    /// `scheme://host[:port]`, `null`, `file://` or `scheme://*`.
    fn parse(text: &str) -> Option<AllowedOrigin> {
        let text = text.to_ascii_lowercase();
        if let Some(nameless) = ["null", "file://"].into_iter().find(|nameless| *nameless == text) {
            return Some(AllowedOrigin::Nameless(nameless));
        }
        let (scheme, rest) = text.split_once("://")?;
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        match rest {
            _ if !scheme_fits => None,
            "*" => Some(AllowedOrigin::Scheme(format!("{scheme}://"))),
            _ => Authority::parse(rest).map(|_| AllowedOrigin::One(text.clone())),
        }
    }

    /// Whether pages of strangers can have it, so that only a key tells who is who.
    fn means_many_pages(&self) -> bool {
        !matches!(self, AllowedOrigin::One(_))
    }

    fn admits(&self, sent: &str) -> bool {
        match self {
            AllowedOrigin::One(ours) => ours == sent,
            AllowedOrigin::Nameless(ours) => *ours == sent,
            AllowedOrigin::Scheme(ours) => {
                sent.strip_prefix(ours.as_str()).is_some_and(|rest| !rest.is_empty())
            }
        }
    }
}

/// Whether a browser says that a page of another site loads this as an image, a script or the like, or sends a form.
/// Following a link (`navigate` with GET) is fine. A site that this server has not heard of is another.
fn comes_from_another_site(head: &Parts) -> bool {
    let is = |name: HeaderName, values: &[&str]| {
        head.headers
            .get(name)
            .map(|value| values.iter().any(|text| value.as_bytes().eq_ignore_ascii_case(text.as_bytes())))
    };
    let is_another = is(SEC_FETCH_SITE, &["same-origin", "none"]) == Some(false);
    let follows_a_link =
        matches!(head.method, Method::GET | Method::HEAD) && is(SEC_FETCH_MODE, &["navigate"]) == Some(true);
    is_another && !follows_a_link
}

/// Paths that need no key.
fn is_open(path: &str) -> bool {
    page::has(path) || is_health(path)
}

/// Paths that need no key and leave no log line.
pub(crate) fn is_health(path: &str) -> bool {
    path == "/health" || path.starts_with("/health/")
}

/// Whether the head announces content.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// `application/json`, with or without parameters.
fn is_json(value: &HeaderValue) -> bool {
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

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
            config.allowed_hosts = vec!["box.lan".into(), "proxy.lan:8443".into(), "[fd00::7]".into()];
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
        assert_eq!(guard.check_host(&head("/", &[])).unwrap_err().status, 400);
        let two = head("/", &[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(guard.check_host(&two).unwrap_err().status, 400);
        let absolute = head("http://evil.example/", &[("host", "localhost")]);
        assert_eq!(guard.check_host(&absolute).unwrap_err().status, 403);
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
            assert_eq!(origin(bad, "127.0.0.1:8642").unwrap_err().status, 403, "{bad}");
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
        for name in [
            "origin",
            "Origin",
            "authorization",
            "x-api-key",
            "content-type",
            "sec-fetch-site",
            "sec-fetch-mode",
        ] {
            let error = guard.check_once(&head("/", &[(name, "a"), (name, "b")])).unwrap_err();
            assert_eq!(error.status, 400);
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
        let passes = |origin: &str| {
            guard.check_origin(&head("/", &[("host", "localhost"), ("origin", origin)])).is_ok()
        };
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
    fn a_compressed_body_is_refused_by_the_name_of_its_field() {
        let guard = guard(|_| {});
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("content-encoding", "zstd"),
            ("content-encoding", "br, gzip"),
            ("Content-Encoding", "identity, gzip"),
            ("content-encoding", ""),
            ("transfer-encoding", "gzip, chunked"),
        ] {
            let error = guard.check_encoding(&head("/", &[(name, value)])).unwrap_err();
            assert_eq!(error.status, 415, "{value}");
            assert!(error.message.contains(&name.to_lowercase()), "{}", error.message);
        }
        for (name, value) in
            [("content-encoding", "Identity"), ("transfer-encoding", "chunked"), ("accept-encoding", "gzip")]
        {
            assert!(guard.check_encoding(&head("/", &[(name, value)])).is_ok(), "{name}: {value}");
        }
    }

    #[test]
    fn a_key_works_as_bearer_and_as_x_api_key_and_health_needs_none() {
        let guard = guard(|config| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
        let check = |target: &str, headers: &[(&str, &str)]| guard.check_key(&head(target, headers)).is_ok();
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
        for simple in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonp",
            "",
        ] {
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
        let status = |target: &str, headers: &[(&str, &str)]| {
            guard.check_size(&head(target, headers)).map_err(|e| e.status.as_u16())
        };
        assert_eq!(status("/", &[("a", "1"), ("b", "2"), ("c", "3")]), Ok(()));
        assert_eq!(status("/", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]), Err(431));
        assert_eq!(status("/", &[("a", &"x".repeat(40))]), Err(431));
        assert_eq!(status("/0123456789", &[]), Err(414));
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
        for origin in ["*", "*://*", "box.lan", "https://box.lan/", "https://", "https://*.lan", "file://x/y"]
        {
            let config = ServerConfig { allowed_origins: vec![origin.into()], ..ServerConfig::default() };
            let error = Guard::new(&config, "127.0.0.1:1".parse().unwrap()).unwrap_err();
            assert_eq!(error, ConfigError::AllowedOrigin(origin.into()));
        }
    }
}
