//! The server's life: bound before anything else starts, serving until the engine has stopped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use engine::{EngineHandle, State};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::{ConfigError, HttpLimits, ServerConfig};
use crate::guard::Guard;
use crate::port_holder::port_holder;
use crate::router::{App, router};

/// How long connections may take to end once the engine has stopped.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where a server begins.
#[derive(Debug)]
pub struct Server;

/// A server that listens and does not answer yet. Clients that connect now are answered once it serves.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
    since: Instant,
}

/// Why a server cannot listen; one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host's name leads nowhere.
    #[error("cannot listen on `{host}`: {source}")]
    Host {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("port {port} is in use{}; choose another with --port, or 0 for a free one", holder.as_ref().map_or(String::new(), |holder| format!(" by {holder}")))]
    PortInUse {
        /// The port.
        port: u16,
        /// Program and process id, where the system tells.
        holder: Option<String>,
    },
    /// The system refuses.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Server {
    /// Check the configuration and listen.
    ///
    /// # Errors
    /// A setting that cannot be, a port in use (with who holds it, where that can be found out), or the system's
    /// own reason.
    pub async fn bind(config: ServerConfig) -> Result<Bound, BindError> {
        let since = Instant::now();
        config.limits.check()?;
        let addresses = resolve(&config).await?;
        if config.api_key.is_none()
            && let Some(open) = addresses.iter().find(|address| !is_loopback(address.ip()))
        {
            return Err(ConfigError::OpenToTheNetwork(open.ip().to_string()).into());
        }
        let listener = listen(&addresses).await?;
        let address =
            listener.local_addr().map_err(|source| BindError::Io { address: addresses[0], source })?;
        // The lists are checked now, so that a bad entry ends the start and not the first request.
        Guard::new(&config, address)?;
        Ok(Bound { listener, address, config, since })
    }
}

impl Bound {
    /// Where it listens: the port that was picked, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answer requests until the engine has stopped; what is still connected then has half a second to end.
    ///
    /// The listener closes last: as long as the engine drains, new clients are told so.
    pub async fn serve(self, engine: EngineHandle) {
        let Bound { listener, address, config, since } = self;
        let limits = config.limits;
        let stopped = stopped(&engine);
        let app = match App::new(config, address, engine, since) {
            Ok(app) => Arc::new(app),
            // `bind` has built the same guard from the same configuration.
            Err(error) => return tracing::error!(%error, "the server's configuration went bad"),
        };
        let router = router(Arc::clone(&app));
        tokio::select! {
            () = serve(listener, &router, limits, stopped) => {}
            () = app.history.keep(&app.engine) => {}
        }
    }
}

/// The addresses of the configured host; never empty.
async fn resolve(config: &ServerConfig) -> Result<Vec<SocketAddr>, BindError> {
    let host = config.host.trim_start_matches('[').trim_end_matches(']');
    let failed = |source| BindError::Host { host: config.host.clone(), source };
    let addresses: Vec<SocketAddr> = lookup_host((host, config.port)).await.map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// Listen on the first address that the system gives.
async fn listen(addresses: &[SocketAddr]) -> Result<TcpListener, BindError> {
    let mut first_error = None;
    for &address in addresses {
        let source = match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(source) => source,
        };
        if source.kind() == io::ErrorKind::AddrInUse {
            // Going on with the name's next address would move us silently.
            let holder = port_holder(address.port()).map(|holder| holder.to_string());
            return Err(BindError::PortInUse { port: address.port(), holder });
        }
        first_error.get_or_insert(BindError::Io { address, source });
    }
    Err(first_error.expect("there is at least one address, and each either listened or failed"))
}

/// Loopback also when written as IPv6.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Turns true once the engine has stopped, or its thread is gone.
fn stopped(engine: &EngineHandle) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let mut state = engine.watch_state();
    tokio::spawn(async move {
        // An error means that the engine's thread has ended, which comes to the same.
        let _ = state.wait_for(|state| *state == State::Stopped).await;
        let _ = sender.send(true);
    });
    receiver
}

/// Wait until it turns true.
async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error means that the engine is gone, which comes to the same. The guard that `wait_for` returns is a lock
    // and must not live on.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Accept until `stopped`, then let go of the listener and give the connections [`LAST_WORDS`].
async fn serve(
    listener: TcpListener,
    router: &Router,
    limits: HttpLimits,
    mut stopped: watch::Receiver<bool>,
) {
    let seats = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed; a connection beyond the bound waits in the system's queue.
            let seat = Arc::clone(&seats).acquire_owned().await.ok();
            (listener.accept().await, seat)
        };
        let (stream, seat) = tokio::select! {
            () = until(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
            (accepted, seat) = accepted => match accepted {
                Ok((stream, _)) => (stream, seat),
                Err(error) => {
                    // Of a client that gave up, or no file descriptor left: neither ends the server.
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let connection = serve_connection(stream, router.clone(), limits, stopped.clone());
        connections.spawn(async move {
            connection.await;
            drop(seat);
        });
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_WORDS, all_ended).await.is_err() {
        tracing::info!(n_connections = connections.len(), "connections were cut at the end");
    }
}

/// One client's connection, to its end.
async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: HttpLimits,
    mut stopped: watch::Receiver<bool>,
) {
    // Without this a token's frame waits for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        // The outer bounds: hyper answers what exceeds them with a bare 431 and closes. The guard's own bounds
        // lie within them and are answered in the API's shape.
        .max_headers(limits.headers.saturating_add(64))
        .max_buf_size((2 * (limits.header_bytes + limits.target_bytes)).max(64 << 10))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    async fn bind(change: impl FnOnce(&mut ServerConfig)) -> Result<Bound, BindError> {
        let mut config = ServerConfig { port: 0, ..ServerConfig::default() };
        change(&mut config);
        Server::bind(config).await
    }

    #[tokio::test]
    async fn port_0_picks_a_free_port() {
        let bound = bind(|_| {}).await.unwrap();
        assert!(bound.address().port() > 0 && bound.address().ip().is_loopback());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_holder() {
        let first = bind(|_| {}).await.unwrap();
        let port = first.address().port();
        let error = bind(|config| config.port = port).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {port} is in use")), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        }
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_needs_a_key() {
        for host in ["0.0.0.0", "::", "[::]"] {
            let error = bind(|config| config.host = host.into()).await.unwrap_err();
            assert!(matches!(error, BindError::Config(ConfigError::OpenToTheNetwork(_))), "{host}: {error}");
        }
        let with_key = bind(|config| {
            config.host = "0.0.0.0".into();
            config.api_key = Some(ApiKey::new("sk-1").unwrap());
        });
        assert!(with_key.await.is_ok());
        assert!(bind(|config| config.host = "localhost".into()).await.is_ok());
    }

    #[tokio::test]
    async fn a_host_that_leads_nowhere_is_named() {
        // Longer than a name can be, so that no resolver is asked.
        let name = "x".repeat(300);
        let error = bind(|config| config.host = name.clone()).await.unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
    }

    #[tokio::test]
    async fn a_bad_list_entry_ends_the_start() {
        let error = bind(|config| config.allowed_origins = vec!["*".into()]).await.unwrap_err();
        assert!(matches!(error, BindError::Config(ConfigError::AllowedOrigin(_))));
    }
}
