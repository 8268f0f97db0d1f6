//! What the server is told once, at its start, and which of it cannot be.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::SamplingChoices;

use crate::calls::render_workers::RenderWorkers;
use crate::calls::signing_key::SigningKey;

/// Address, guard and bounds of a server. `Default` is a loopback server on port 8642 without a key.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// Names allowed in the Host header besides the loopback ones: `name` (any port) or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Origins allowed besides the app's own, `scheme://host[:port]`; with a key also `null`, `file://` and `scheme://*`.
    pub allowed_origins: Vec<String>,
    /// The one key that opens everything; absent = nobody is asked for it.
    pub api_key: Option<ApiKey>,
    /// The file of named keys, which need not be there: as soon as there are keys in it, one is wanted.
    pub key_file: Option<PathBuf>,
    /// What the owner's own programs show, such as the app's window: it opens everything where a key is wanted.
    pub own_key: Option<ApiKey>,
    /// Bounds on what a client may send.
    pub limits: HttpLimits,
    /// How long a drain lasts that `/admin/drain` or `/admin/stop` begins without saying.
    pub drain_timeout: Duration,
    /// The program's version, for `/admin/status` and the metrics.
    pub version: String,
    /// Names in a request's `model` that mean the default model besides its own, as patterns in which `*` stands for any
    /// text.
    pub model_patterns: Vec<String>,
    /// What renders chats.
    pub render_workers: Arc<RenderWorkers>,
    /// How tokens are chosen where a request does not say; where this does not say either, the model's file does.
    pub sampling: SamplingChoices,
    /// What thinking is signed with that is given out, so that it is known when it comes back. A server that is to know
    /// it after a restart is given the same key again.
    pub signing_key: SigningKey,
    /// Asked at every look at the metrics: bytes that the process has allocated, where the system says that.
    pub allocated_bytes: fn() -> Option<u64>,
}

/// Bounds on what a client may send; each has an answer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a body; more is a 413.
    pub body_bytes: usize,
    /// Bytes of all bodies in memory together. A body waits for its share, and one whose client stops sending gives way
    /// meanwhile with a 408.
    pub all_bodies_bytes: usize,
    /// How long a body may take; longer is a 408.
    pub body_timeout: Duration,
    /// Header fields of a request; more is a 431.
    pub headers: usize,
    /// Bytes of all header fields; more is a 431.
    pub header_bytes: usize,
    /// Bytes of a request's target; more is a 414.
    pub target_bytes: usize,
    /// How long a head may take, and how long a connection may be idle between two, while there is room; then it is
    /// closed.
    pub header_timeout: Duration,
    /// Requests in flight at a time; more get 503, but health is always answered. Of connections there are a few more,
    /// and the one that has been idle longest gives way to a new one.
    pub connections: usize,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            body_bytes: 16 << 20,
            all_bodies_bytes: 256 << 20,
            body_timeout: Duration::from_secs(60),
            headers: 100,
            header_bytes: 32 << 10,
            target_bytes: 8 << 10,
            header_timeout: Duration::from_secs(30),
            connections: 512,
        }
    }
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            host: "127.0.0.1".to_owned(),
            port: 8642,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            api_key: None,
            key_file: None,
            own_key: None,
            limits: HttpLimits::default(),
            drain_timeout: Duration::from_secs(30),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model_patterns: Vec::new(),
            render_workers: Arc::new(RenderWorkers::in_this_process()),
            sampling: SamplingChoices::default(),
            signing_key: SigningKey::random(),
            allocated_bytes: || None,
        }
    }
}

/// A setting that cannot be; the message names it and says what could.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An entry of `allowed_hosts`.
    #[error("allowed host `{0}` is neither `name` nor `name:port`")]
    AllowedHost(String),
    /// An entry of `allowed_origins`.
    #[error("allowed origin `{0}` is neither `scheme://host[:port]`, `scheme://*`, `file://` nor `null`")]
    AllowedOrigin(String),
    /// An entry of `allowed_origins` that strangers' pages can have.
    #[error(
        "allowed origin `{0}` means pages of anybody, so it needs a key: `samovar keys add`, or set api_key_file"
    )]
    OriginNeedsKey(String),
    /// An API key.
    #[error("an API key must have 1 to 512 visible ASCII characters and no spaces")]
    ApiKey,
    /// An address that others can reach, without a key.
    #[error(
        "listening on {0} would let the network in: add a key first (`samovar keys add`), or listen on 127.0.0.1"
    )]
    OpenToTheNetwork(String),
    /// A file of keys that cannot be used.
    #[error("{0}")]
    KeyFile(String),
    /// A bound that nothing could pass.
    #[error("the limit `{0}` must be above 0")]
    ZeroLimit(&'static str),
}

/// An API key, kept as a digest only, so that neither logs nor a core dump show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(blake3::Hash);

impl ApiKey {
    /// Take a key as the user wrote it.
    ///
    /// # Errors
    /// It is empty, too long, or has characters that do not fit a header.
    pub fn new(key: &str) -> Result<ApiKey, ConfigError> {
        let fits = !key.is_empty() && key.len() <= 512 && key.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(ApiKey(blake3::hash(key.as_bytes()))) } else { Err(ConfigError::ApiKey) }
    }

    /// Whether this key has that digest. They are compared in constant time.
    pub(crate) fn has_digest(&self, digest: &blake3::Hash) -> bool {
        // `blake3::Hash` documents its equality as constant-time.
        self.0 == *digest
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl HttpLimits {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("body_bytes", self.body_bytes),
            ("all_bodies_bytes", self.all_bodies_bytes),
            ("headers", self.headers),
            ("header_bytes", self.header_bytes),
            ("target_bytes", self.target_bytes),
            ("connections", self.connections),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(ConfigError::ZeroLimit(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_matches_itself_only_and_is_never_shown() {
        let key = ApiKey::new("sk-local-1").unwrap();
        let matches = |candidate: &str| key.has_digest(&blake3::hash(candidate.as_bytes()));
        assert!(matches("sk-local-1"));
        for other in ["sk-local-", "sk-local-11", "", "SK-LOCAL-1"] {
            assert!(!matches(other), "{other}");
        }
        assert!(!format!("{key:?}").contains("sk-local"));
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_refused() {
        for key in ["", "two words", "tab\t", "ü", &"x".repeat(513)] {
            assert_eq!(ApiKey::new(key), Err(ConfigError::ApiKey), "{key:?}");
        }
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_name() {
        let limits = HttpLimits { headers: 0, ..HttpLimits::default() };
        assert_eq!(limits.check(), Err(ConfigError::ZeroLimit("headers")));
        assert_eq!(HttpLimits::default().check(), Ok(()));
    }
}
