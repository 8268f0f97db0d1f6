//! The server without a window: signals drain it, and its exit code says how that went.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use engine::{After, EngineHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, Ending, Prepared};
use crate::cli::{CLEAN, INTERRUPTED, fail, say};
use crate::logs::{self, Logs};
use crate::settings::Settings;

/// `samovar serve`.
pub(crate) async fn serve(settings: Settings) -> ExitCode {
    // Registered first: a signal at any later moment is a drain, not a kill.
    let signals = match QuitSignals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals cannot be received: {error}")),
    };
    let logs = match logs::start(&settings.folders.logs, &settings.log) {
        Ok(logs) => logs,
        Err(line) => return fail(&line),
    };
    logs.tell_trouble();
    let prepared = match Prepared::new(&settings).await {
        Ok(prepared) => prepared,
        Err(line) => return fail(&line),
    };
    say(&format!("listening on http://{}", prepared.address()));
    let app = prepared.start();
    run(app, signals, &logs).await
}

/// Until the end: a failed first load, or a drain that somebody asked for.
async fn run(app: App, signals: QuitSignals, logs: &Logs) -> ExitCode {
    let drain_timeout = app.drain_timeout;
    let draining = tokio::spawn(drain_on(signals, app.handle(), drain_timeout));
    let loaded = app.loaded().await;
    match &loaded {
        Ok(()) => {
            logs.open_terminal();
            tell_ready(&app.handle());
        }
        Err(_) => app.handle().begin_drain(After::Exit, Duration::ZERO),
    }
    let ending = app.ended().await;
    draining.abort();
    match (loaded, ending) {
        (Err(line), _) => fail(&line),
        (Ok(()), Ending::Clean) => ExitCode::from(CLEAN),
        (Ok(()), Ending::Interrupted) => ExitCode::from(INTERRUPTED),
    }
}

/// The line that somebody at the terminal waits for.
fn tell_ready(engine: &EngineHandle) {
    if let Some(card) = engine.card() {
        tracing::info!(model = card.name, context = card.effective_context, "ready");
    }
}

/// The first signal begins to drain, every further one moves the deadline to now.
pub(crate) async fn drain_on(mut signals: QuitSignals, engine: EngineHandle, timeout: Duration) {
    signals.recv().await;
    engine.begin_drain(After::Exit, timeout);
    loop {
        signals.recv().await;
        engine.begin_drain(After::Exit, Duration::ZERO);
    }
}

/// SIGTERM and SIGINT, which mean the same.
pub(crate) struct QuitSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl QuitSignals {
    /// Receive them from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn new() -> io::Result<QuitSignals> {
        Ok(QuitSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Wait for one. Dropping the future loses none.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
