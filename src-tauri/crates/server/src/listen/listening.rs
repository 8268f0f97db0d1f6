//! The server's life: bound before anything else starts, serving until the engine has stopped.
//!
//! So clients see "loading" and "draining" instead of refused connections.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use engine::{EngineHandle, State};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::config::{ConfigError, ServerConfig};
use crate::edge::gate::Gate;
use crate::edge::guard::{Guard, is_loopback};
use crate::edge::seats::Seats;
use crate::keys::key_file::KeyFile;
use crate::listen::connection::{serve_connection, until};
use crate::listen::port_holder::port_holder;
use crate::router::router;

/// How long connections may take to end once the engine has stopped.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Free ports that are tried until both loopbacks have one.
const N_TRIES: usize = 16;

/// Where a server begins.
#[derive(Debug)]
pub struct Server;

/// A server that listens and does not answer yet. Clients that connect now are answered once it serves.
#[derive(Debug)]
pub struct ListeningServer {
    /// One for each address that the host's name stands for.
    listeners: Vec<TcpListener>,
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
    pub async fn bind(config: ServerConfig) -> Result<ListeningServer, BindError> {
        let since = Instant::now();
        config.limits.check()?;
        let addresses = resolve(&config).await?;
        // Asked here, so that a file that cannot be used ends the start: later on nobody would be let in.
        let named = config.key_file.clone().map_or(Ok(Vec::new()), |path| KeyFile::new(path).list());
        let named = named.map_err(|error| ConfigError::KeyFile(error.to_string()))?;
        if config.api_key.is_none()
            && named.is_empty()
            && let Some(open) = addresses.iter().find(|address| !is_loopback(address.ip()))
        {
            return Err(ConfigError::OpenToTheNetwork(open.ip().to_string()).into());
        }
        let listeners = listen(&config.host, &addresses).await?;
        let address =
            listeners[0].local_addr().map_err(|source| BindError::Io { address: addresses[0], source })?;
        // The lists are checked now, so that a bad entry ends the start and not the first request.
        Guard::new(&config, address)?;
        Ok(ListeningServer { listeners, address, config, since })
    }
}

impl ListeningServer {
    /// Where it listens: the port that was picked, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answer requests until the engine has stopped; what is still connected then has half a second to end.
    ///
    /// The listener closes last: as long as the engine drains, new clients are told so.
    pub async fn serve(self, engine: EngineHandle) {
        let ListeningServer { listeners, address, config, since } = self;
        let stopped = stopped(&engine);
        let app = match App::new(config, address, engine, since) {
            Ok(app) => Arc::new(app),
            // `bind` has built the same guard from the same configuration.
            Err(error) => return tracing::error!(%error, "the server's configuration went bad"),
        };
        let router = router(Arc::clone(&app));
        tokio::select! {
            () = serve(listeners, &app.gate, &router, stopped) => {}
            () = app.history.keep(&app.engine) => {}
        }
    }
}

/// The addresses of the configured host; never empty.
async fn resolve(config: &ServerConfig) -> Result<Vec<SocketAddr>, BindError> {
    if is_localhost(&config.host) {
        // Not every resolver knows both of its addresses.
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), config.port)]);
    }
    let host = config.host.trim_start_matches('[').trim_end_matches(']');
    let failed = |source| BindError::Host { host: config.host.clone(), source };
    let addresses: Vec<SocketAddr> = lookup_host((host, config.port)).await.map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// Listen on the first address that the system gives; of `localhost` on both loopbacks, since nobody knows which of them
/// a client takes.
async fn listen(host: &str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    if !is_localhost(host) {
        return Ok(vec![listen_on_first(addresses).await?]);
    }
    let port = addresses[0].port();
    let on = |ip: IpAddr, port| async move { listen_on_first(&[SocketAddr::new(ip, port)]).await };
    // A free port of one loopback may be taken on the other.
    for _ in 0..N_TRIES {
        let first = match on(Ipv4Addr::LOCALHOST.into(), port).await {
            Err(BindError::Io { .. }) => return Ok(vec![on(Ipv6Addr::LOCALHOST.into(), port).await?]),
            first => first?,
        };
        let picked = first.local_addr().map_or(port, |address| address.port());
        match on(Ipv6Addr::LOCALHOST.into(), picked).await {
            Ok(second) => return Ok(vec![first, second]),
            Err(BindError::PortInUse { .. }) if port == 0 => {}
            Err(error @ BindError::PortInUse { .. }) => return Err(error),
            // This machine has no IPv6.
            Err(_) => return Ok(vec![first]),
        }
    }
    Err(BindError::PortInUse { port, holder: None })
}

/// The name that stands for both loopbacks.
fn is_localhost(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

/// Listen on the first address that the system gives.
async fn listen_on_first(addresses: &[SocketAddr]) -> Result<TcpListener, BindError> {
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

/// Accept until `stopped`, then let go of the listeners and give the connections [`LAST_WORDS`].
async fn serve(
    listeners: Vec<TcpListener>,
    gate: &Arc<Gate>,
    router: &Router,
    mut stopped: watch::Receiver<bool>,
) {
    let most_files = getrlimit(Resource::Nofile).current.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let seats = Seats::new(gate.limits.connections, most_files);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = until(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listeners) => accepted,
        };
        match accepted {
            Ok(stream) => {
                let (gate, router, stopped) = (Arc::clone(gate), router.clone(), stopped.clone());
                connections.spawn(serve_connection(stream, gate, router, seats.admit(), stopped));
            }
            Err(error) => {
                // Of a client that gave up, or no file descriptor left: neither ends the server.
                tracing::warn!(%error, "a connection was not accepted");
                let has_no_file = matches!(
                    error.raw_os_error().map(Errno::from_raw_os_error),
                    Some(Errno::MFILE | Errno::NFILE)
                );
                if has_no_file {
                    seats.give_way();
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listeners);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_WORDS, all_ended).await.is_err() {
        tracing::info!(n_connections = connections.len(), "connections were cut at the end");
    }
}

/// The next connection to any of the listeners.
async fn accept(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        let next = listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        next.map_or(Poll::Pending, |accepted| Poll::Ready(accepted.map(|(stream, _)| stream)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    async fn bind(change: impl FnOnce(&mut ServerConfig)) -> Result<ListeningServer, BindError> {
        let mut config = ServerConfig { port: 0, ..ServerConfig::default() };
        change(&mut config);
        Server::bind(config).await
    }

    #[tokio::test]
    async fn port_0_picks_a_free_port() {
        let listening = bind(|_| {}).await.unwrap();
        assert!(listening.address().port() > 0 && listening.address().ip().is_loopback());
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
    async fn localhost_is_both_loopbacks_at_one_port() {
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        for host in ["localhost", "LocalHost", "localhost."] {
            let listening = bind(|config| config.host = host.into()).await.unwrap();
            let port = listening.address().port();
            assert_eq!(listening.address(), SocketAddr::from(([127, 0, 0, 1], port)), "{host}");
            assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
            assert_eq!(TcpStream::connect(("::1", port)).await.is_ok(), has_ipv6, "{host}");
        }
        let one = bind(|config| config.host = "127.0.0.1".into()).await.unwrap();
        assert_eq!(one.listeners.len(), 1);
    }

    #[tokio::test]
    async fn a_port_that_somebody_holds_on_either_loopback_is_in_use() {
        for taken in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(holder) = std::net::TcpListener::bind(taken) else { continue };
            let port = holder.local_addr().unwrap().port();
            let error =
                bind(|config| (config.host, config.port) = ("localhost".into(), port)).await.unwrap_err();
            assert!(matches!(error, BindError::PortInUse { .. }), "{taken}: {error}");
        }
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
