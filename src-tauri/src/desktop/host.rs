//! What this process hosts: the server and its engine, or the reason why there is none yet.
//!
//! A port that somebody holds is never taken by force or left silently: window and menu say who it is and offer
//! another try or a free port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{After, EngineHandle, State};
use server::BindError;
use tauri::{AppHandle, Manager};
use tokio::sync::watch;

use super::quit::{Asker, Quit, decide};
use crate::app::{CannotStart, Ending, Prepared};
use crate::cli::exit_codes::{CLEAN, INTERRUPTED};
use crate::cli::printing::announce;
use crate::settings::Settings;

/// The one thing that commands, tray and window share.
pub(crate) struct Host {
    settings: Arc<Settings>,
    /// The one key of the settings.
    key: Option<String>,
    stage: watch::Sender<Stage>,
}

/// Where the process is in its life.
#[derive(Clone)]
pub(crate) enum Stage {
    /// The server cannot listen.
    Refused(Problem),
    /// It listens; the engine's own state says the rest.
    Serving(Serving),
    /// Drained; only the process is left.
    Ended,
}

/// Why the server cannot listen.
#[derive(Clone)]
pub(crate) struct Problem {
    /// One line for the user.
    pub(crate) line: String,
    /// Whether another port would help.
    pub(crate) is_port: bool,
}

/// A server that listens.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) engine: EngineHandle,
    pub(crate) address: SocketAddr,
    /// The model that was asked for, until the engine knows better.
    pub(crate) model: Option<String>,
    /// What the window shows to the server.
    pub(crate) own_key: String,
    drain_timeout: Duration,
}

/// A port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The one that is set.
    AsSet,
    /// Any that is free.
    Free,
}

impl Host {
    /// Listen, if that can be; start nothing yet.
    pub(crate) async fn new(settings: Arc<Settings>, key: Option<String>) -> (Arc<Host>, Option<Prepared>) {
        // Replaced below; nobody has seen it.
        let (stage, _) = watch::channel(Stage::Ended);
        let host = Host { settings, key, stage };
        let prepared = host.prepare(Port::AsSet).await;
        (Arc::new(host), prepared)
    }

    /// The one that the app manages.
    pub(crate) fn of(app: &AppHandle) -> Arc<Host> {
        Arc::clone(app.state::<Arc<Host>>().inner())
    }

    /// The settings it was started with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the process is in its life, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// What serves, if anything does.
    pub(crate) fn serving(&self) -> Option<Serving> {
        match &*self.stage.borrow() {
            Stage::Serving(serving) => Some(serving.clone()),
            Stage::Refused(_) | Stage::Ended => None,
        }
    }

    /// Why nothing serves, if nothing can.
    pub(crate) fn problem(&self) -> Option<Problem> {
        match &*self.stage.borrow() {
            Stage::Refused(problem) => Some(problem.clone()),
            Stage::Serving(_) | Stage::Ended => None,
        }
    }

    /// Whether everything has been drained.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Ended)
    }

    /// Start the engine behind a server that listens.
    pub(crate) fn start(self: &Arc<Host>, app: &AppHandle, prepared: Prepared) {
        if let Err(line) = announce(prepared.address()) {
            tracing::warn!(line, "nobody is told on stdout where the server listens");
        }
        let address = reachable(prepared.address());
        let (model, own_key) = (prepared.model_name.clone(), prepared.own_key.clone());
        let running = prepared.start();
        let (engine, drain_timeout) = (running.handle(), running.drain_timeout);
        self.stage.send_replace(Stage::Serving(Serving { engine, address, model, own_key, drain_timeout }));
        let (host, app) = (Arc::clone(self), app.clone());
        tauri::async_runtime::spawn(async move {
            let ending = running.ended().await;
            host.stage.send_replace(Stage::Ended);
            app.exit(i32::from(match ending {
                Ending::Clean => CLEAN,
                Ending::Interrupted => INTERRUPTED,
            }));
        });
    }

    /// Try to listen again, where nothing is served; whether that is over.
    pub(crate) async fn retry(self: &Arc<Host>, app: &AppHandle, port: Port) -> bool {
        if self.problem().is_none() {
            return false;
        }
        let Some(prepared) = self.prepare(port).await else { return false };
        self.start(app, prepared);
        true
    }

    /// End: what runs finishes first, a second time it is given no more time.
    pub(crate) fn quit(&self, app: &AppHandle, asker: Asker) {
        let stage = self.stage.borrow().clone();
        match stage {
            Stage::Serving(serving) => {
                let quit =
                    decide(asker, &serving.engine.state(), &serving.engine.stats(), serving.drain_timeout);
                tracing::info!(?asker, ?quit, "quitting");
                let timeout = match quit {
                    // Nothing runs, so it takes no time; what comes in just now may still finish.
                    Quit::Now => serving.drain_timeout,
                    Quit::CancelAndDrain(timeout) | Quit::Later(timeout) => timeout,
                };
                serving.engine.begin_drain(After::Exit, timeout);
            }
            Stage::Refused(_) => {
                self.stage.send_replace(Stage::Ended);
                app.exit(i32::from(CLEAN));
            }
            Stage::Ended => {}
        }
    }

    /// Drain and end, whatever asked for it.
    #[cfg(target_os = "macos")]
    pub(crate) fn begin_drain(&self, timeout: Duration) {
        if let Some(serving) = self.serving() {
            serving.engine.begin_drain(After::Exit, timeout);
        }
    }

    /// End what still runs.
    pub(crate) fn quit_now(&self, app: &AppHandle) {
        match self.serving() {
            Some(serving) => serving.engine.begin_drain(After::Exit, Duration::ZERO),
            None => self.quit(app, Asker::User),
        }
    }

    /// End what a pause under way still waits for.
    pub(crate) fn pause_now(&self) {
        if let Some(serving) = self.serving() {
            serving.engine.begin_drain(After::Park, Duration::ZERO);
        }
    }

    /// Drain on a thread that nothing else will have again, at most `limit` and what the store needs.
    pub(crate) fn drain_blocking(&self, limit: Duration) {
        let Some(serving) = self.serving() else { return };
        serving.engine.begin_drain(After::Exit, limit);
        let mut state = serving.engine.watch_state();
        tauri::async_runtime::block_on(async {
            // An error means that the engine's thread has ended, which comes to the same.
            let _ = state.wait_for(|state| *state == State::Stopped).await;
        });
    }

    async fn prepare(&self, port: Port) -> Option<Prepared> {
        let port = match port {
            Port::AsSet => self.settings.address.port(),
            Port::Free => 0,
        };
        match Prepared::for_desktop(&self.settings, port, self.key.clone()).await {
            Ok(prepared) => Some(prepared),
            Err(cause) => {
                tracing::warn!(%cause, "nothing is served");
                let problem = Problem {
                    line: sentence(&cause),
                    is_port: matches!(cause, CannotStart::Bind(BindError::PortInUse { .. })),
                };
                self.stage.send_replace(Stage::Refused(problem));
                None
            }
        }
    }
}

/// What the user reads in menu and window.
fn sentence(cause: &CannotStart) -> String {
    match cause {
        CannotStart::Bind(BindError::PortInUse { port, holder }) => {
            format!("Port {port} is in use by {}", holder.as_deref().unwrap_or("another program"))
        }
        other => other.to_string(),
    }
}

/// An address that a client on this machine can connect to.
fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([0, 0, 0, 0, 0, 0, 0, 1], v6.port()).into(),
        other => other,
    }
}
