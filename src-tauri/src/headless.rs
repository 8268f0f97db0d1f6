//! The server without a window: signals drain it, and its exit code says how that went.

use std::process::ExitCode;
use std::time::Duration;

use engine::{After, EngineHandle};

use crate::app::{App, Ending, Prepared};
use crate::cli::exit_codes::{CLEAN, INTERRUPTED};
use crate::cli::printing::{announce, fail_soon};
use crate::logs::{self, Logs};
use crate::settings::Settings;
use crate::signals::QuitSignals;

/// `samovar serve`.
pub(crate) async fn serve(settings: Settings) -> ExitCode {
    // Registered first: a signal at any later moment is a drain, not a kill.
    let signals = match QuitSignals::new() {
        Ok(signals) => signals,
        Err(error) => return fail_soon(&format!("signals cannot be received: {error}")),
    };
    let logs = match logs::start(&settings.folders.logs, &settings.log) {
        Ok(logs) => logs,
        Err(line) => return fail_soon(&line),
    };
    logs.tell_trouble();
    let prepared = match Prepared::new(&settings).await {
        Ok(prepared) => prepared,
        Err(line) => return fail_soon(&line),
    };
    if let Err(line) = announce(prepared.address()) {
        return fail_soon(&line);
    }
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
        (Err(line), _) => fail_soon(&line),
        (Ok(()), Ending::Clean) => ExitCode::from(CLEAN),
        (Ok(()), Ending::Interrupted) => ExitCode::from(INTERRUPTED),
    }
}

/// The line that somebody at the terminal waits for.
fn tell_ready(engine: &EngineHandle) {
    if let Some(card) = engine.card() {
        tracing::info!(model = card.name, context = card.effective_context, "ready");
        if let Some(fault) = &card.template_fault {
            tracing::warn!(
                model = card.name,
                fault,
                "the file's chat template does not work: chats are refused"
            );
        }
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
