//! Who may talk to the server: bounds on heads, the Host and Origin lists, the keys.
//!
//! Everything is decided from the head alone, before a byte of the body is read. The lists are what keeps web
//! pages out: a page under another name that resolves to this machine (DNS rebinding) shows itself by its Host,
//! a page of another site by its Origin.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};

use super::allowed::{AllowedOrigin, HostName};
use super::coding::Coding;
use crate::calls::fault::{Fault, shorten};
use crate::config::{ConfigError, HttpLimits, ServerConfig};
use crate::keys::key_check::{Caller, KeyCheck};
use crate::keys::scope::Scope;
use crate::page_files;

/// Names that mean this machine and that no web page can have.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Origins of the app's own window.
const APP_ORIGINS: [&str; 2] = ["tauri://localhost", "http://tauri.localhost"];

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Where the paths of Ollama's API begin, whose bodies are JSON whatever they say that they are.
const ANY_CONTENT_TYPE: &str = "/api/";

/// Fields that decide who may do what: one that comes twice could mean either.
const AT_MOST_ONCE: [HeaderName; 6] =
    [ORIGIN, AUTHORIZATION, CONTENT_TYPE, X_API_KEY, SEC_FETCH_SITE, SEC_FETCH_MODE];

/// The lists, the keys and the bounds.
#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<HostName>,
    origins: Vec<AllowedOrigin>,
    keys: KeyCheck,
    limits: HttpLimits,
}

impl Guard {
    /// The guard of a server that listens on `address`.
    ///
    /// A host that is configured as an address of its own is on the list; listening on every address adds none.
    ///
    /// # Errors
    /// An entry of a list has not its form.
    pub(crate) fn new(config: &ServerConfig, address: SocketAddr) -> Result<Guard, ConfigError> {
        let mut hosts: Vec<HostName> =
            LOOPBACK_NAMES.iter().map(|name| HostName { name: (*name).to_owned(), port: None }).collect();
        if !address.ip().is_unspecified() {
            hosts.extend(
                HostName::parse(&SocketAddr::new(address.ip(), 0).to_string()).map(HostName::any_port),
            );
            hosts.extend(HostName::parse(&config.host).map(HostName::any_port));
        }
        for entry in &config.allowed_hosts {
            hosts.push(HostName::parse(entry).ok_or_else(|| ConfigError::AllowedHost(entry.clone()))?);
        }

        let keys = KeyCheck::new(config, !is_loopback(address.ip()));
        let own = APP_ORIGINS.iter().map(|origin| (*origin).to_owned());
        let own = own.chain(LOOPBACK_NAMES.iter().map(|name| format!("http://{name}:{}", address.port())));
        let mut origins: Vec<AllowedOrigin> = own.map(AllowedOrigin::One).collect();
        for entry in &config.allowed_origins {
            let origin =
                AllowedOrigin::parse(entry).ok_or_else(|| ConfigError::AllowedOrigin(entry.clone()))?;
            if origin.means_many_pages() && !keys.has_keys() {
                return Err(ConfigError::OriginNeedsKey(entry.clone()));
            }
            origins.push(origin);
        }
        Ok(Guard { hosts, origins, keys, limits: config.limits })
    }

    /// That the head stays within the bounds.
    ///
    /// # Errors
    /// 414 or 431.
    pub(crate) fn check_size(&self, head: &Parts) -> Result<(), Fault> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.limits.target_bytes {
            return Err(Fault::target_too_long(self.limits.target_bytes));
        }
        if head.headers.len() > self.limits.headers {
            let message = format!("more than {} header fields", self.limits.headers);
            return Err(Fault::headers_too_large(message));
        }
        let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > self.limits.header_bytes {
            let message = format!("more than {} bytes of header fields", self.limits.header_bytes);
            return Err(Fault::headers_too_large(message));
        }
        Ok(())
    }

    /// That no field comes twice that decides something.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn check_once(&self, head: &Parts) -> Result<(), Fault> {
        match AT_MOST_ONCE.iter().find(|name| head.headers.get_all(*name).iter().nth(1).is_some()) {
            Some(name) => Err(Fault::bad_request(format!("a request has at most one {name} header"))),
            None => Ok(()),
        }
    }

    /// That the request was meant for us by name.
    ///
    /// # Errors
    /// 400 without exactly one Host, 403 for a name that is not on the list.
    pub(crate) fn check_host(&self, head: &Parts) -> Result<(), Fault> {
        let mut sent = head.headers.get_all(HOST).iter();
        let (Some(host), None) = (sent.next(), sent.next()) else {
            return Err(Fault::bad_request("a request needs exactly one Host header"));
        };
        // A target in absolute form overrides the header, so both must be ours.
        let in_target = head.uri.authority().map(axum::http::uri::Authority::as_str);
        for name in host.to_str().ok().into_iter().chain(in_target) {
            if !HostName::parse(name).is_some_and(|sent| self.hosts.iter().any(|ours| ours.admits(&sent))) {
                let message = format!(
                    "host '{}' is not on the list of allowed hosts; the setting allow_host (--allow-host) adds to it",
                    shorten(name)
                );
                return Err(Fault::host_not_allowed(message));
            }
        }
        match host.to_str() {
            Ok(_) => Ok(()),
            Err(_) => Err(Fault::host_not_allowed("the Host header is not text")),
        }
    }

    /// The origin to answer to, if the request has one and it is on the list. Call after [`Guard::check_once`] and
    /// [`Guard::check_host`].
    ///
    /// # Errors
    /// 403 for a page of another site.
    pub(crate) fn check_origin(&self, head: &Parts) -> Result<Option<HeaderValue>, Fault> {
        let Some(origin) = head.headers.get(ORIGIN) else {
            return if comes_from_another_site(head) {
                let message = "pages of other sites may not load this, unless the setting allow_origin \
                               (--allow-origin) names theirs";
                Err(Fault::origin_not_allowed(message))
            } else {
                Ok(None)
            };
        };
        let text = origin.to_str().unwrap_or("null");
        let listed = self.origins.iter().find(|ours| ours.admits(text));
        // Keys may have been taken away since the list was written.
        let lacks_key = listed.is_some_and(|ours| ours.means_many_pages() && !self.keys.is_wanted());
        // A page that this server sent, reached through a port forward or a proxy under an allowed name.
        let same = head.headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| {
            text.split_once("://")
                .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest == host)
        });
        if listed.is_some() && !lacks_key || same {
            return Ok(Some(origin.clone()));
        }
        let why = match lacks_key {
            true => {
                "may be a page of anybody: allow_origin lets it in with a key only, and no key is asked for now"
            }
            false => {
                "is not on the list of allowed origins; the setting allow_origin (--allow-origin) adds to it"
            }
        };
        let message = format!("origin '{}' {why}", shorten(text));
        Err(Fault::origin_not_allowed(message))
    }

    /// Who asks, by the key that is shown, where one is wanted for the path.
    ///
    /// # Errors
    /// 401, 403 with a key for something else, 429 with one that was used too often.
    pub(crate) fn check_key(&self, head: &Parts, now: Instant) -> Result<Caller, Fault> {
        let path = head.uri.path();
        if is_open(path) {
            return Ok(Caller::Anybody);
        }
        self.keys.check([bearer(&head.headers), x_api_key(&head.headers)], Scope::of_path(path), now)
    }

    /// The keys that open this server.
    pub(crate) fn keys(&self) -> &KeyCheck {
        &self.keys
    }

    /// That a body is compressed in a way that is understood, if it is.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn check_encoding(&self, head: &Parts) -> Result<(), Fault> {
        let mut transfer = head.headers.get_all(TRANSFER_ENCODING).iter();
        if transfer.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Fault::unknown_transfer_coding());
        }
        Coding::of(&head.headers).map(drop)
    }

    /// That a body says it is JSON. Together with the Origin list this keeps "simple" cross-site requests out:
    /// a form or a script without CORS cannot set this content type. A POST with neither content nor content
    /// type passes (`curl -X POST …/admin/drain`): browsers put an Origin on every cross-site POST.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn check_content_type(&self, head: &Parts) -> Result<(), Fault> {
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        match head.headers.get(CONTENT_TYPE) {
            Some(value) if is_json(value) => Ok(()),
            None if !has_body(&head.headers) => Ok(()),
            // Clients of this API say anything or nothing. A browser says who sends its requests.
            _ if head.uri.path().starts_with(ANY_CONTENT_TYPE) && !comes_from_a_browser(&head.headers) => {
                Ok(())
            }
            _ => Err(Fault::not_json()),
        }
    }
}

/// The key that a request shows, whether or not one is wanted.
pub(crate) fn key_of(headers: &HeaderMap) -> Option<&[u8]> {
    bearer(headers).or_else(|| x_api_key(headers))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn x_api_key(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(X_API_KEY).map(HeaderValue::as_bytes)
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

/// Whether only programs of this machine reach an address.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Paths that need no key.
fn is_open(path: &str) -> bool {
    page_files::has(path) || is_health(path)
}

/// Paths that need no key and leave no log line.
pub(crate) fn is_health(path: &str) -> bool {
    path == "/health" || path.starts_with("/health/")
}

/// Whether a browser sends this, of whatever page.
fn comes_from_a_browser(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == ORIGIN || name.as_str().starts_with("sec-fetch-"))
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
mod tests;
