//! Logs: human lines on the terminal, JSON in a file that changes every day.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::{EnvFilter, dynamic_filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Days of log files that are kept.
const N_FILES: usize = 7;

/// Running logs; dropping them writes out what is still queued.
pub(crate) struct Logs {
    _file: WorkerGuard,
    terminal_is_open: Arc<AtomicBool>,
}

impl Logs {
    /// Show log lines on stderr from now on.
    ///
    /// Not from the start: why a program could not start is its command's one line, and not the log's as well.
    pub(crate) fn open_terminal(&self) {
        self.terminal_is_open.store(true, Ordering::Relaxed);
    }
}

/// Start logging into a file of `folder`.
///
/// Where stderr is no terminal only warnings will go there: what matters then is what went wrong, and the file has
/// the rest.
///
/// # Errors
/// The logs folder cannot be made or written; the line names it.
pub(crate) fn start(folder: &Path, filter: &str) -> Result<Logs, String> {
    // The appender makes the folder too, but complains first, to stderr.
    std::fs::create_dir_all(folder).map_err(|error| format!("logs folder {}: {error}", folder.display()))?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("samovar")
        .filename_suffix("log.json")
        .max_log_files(N_FILES)
        .build(folder)
        .map_err(|error| format!("logs folder {}: {error}", folder.display()))?;
    let (writer, guard) = tracing_appender::non_blocking(appender);
    let file = fmt::layer().json().with_writer(writer).with_filter(parse(filter));
    let is_terminal = std::io::stderr().is_terminal();
    let terminal_is_open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&terminal_is_open);
    let human = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .with_target(false)
        .with_filter(dynamic_filter_fn(move |_, _| is_open.load(Ordering::Relaxed)))
        .with_filter(if is_terminal { parse(filter) } else { parse("warn") });
    Registry::default()
        .with(file)
        .with(human)
        .try_init()
        .map_err(|error| format!("logging could not start: {error}"))?;
    Ok(Logs { _file: guard, terminal_is_open })
}

/// The settings have parsed the same text once already.
fn parse(filter: &str) -> EnvFilter {
    EnvFilter::builder().parse_lossy(filter)
}
