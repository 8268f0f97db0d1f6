//! Logs: human lines on the terminal, JSON in a file that changes every day and that only its owner reads.
//!
//! They are no condition for serving: where there can be no file, everything goes to stderr. And nobody who logs
//! waits: a terminal, a pipe or a disk that takes nothing costs log lines, and those are counted.

mod line_queue;

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use line_queue::LineQueue;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::{EnvFilter, dynamic_filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Days of log files that are kept.
const N_FILES: usize = 7;

const PREFIX: &str = "samovar";
const SUFFIX: &str = "log.json";
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const SECONDS_A_DAY: u64 = 86_400;

/// Bytes of lines that wait for the terminal, and for the file.
const QUEUE_BYTES: usize = 1 << 20;

/// How long the last lines may take to be written out.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Running logs; dropping them writes out what is still queued, within a second for each place.
pub(crate) struct Logs {
    file: Option<LineQueue>,
    terminal: LineQueue,
    /// Why there is no file.
    trouble: Option<String>,
    terminal_is_open: Arc<AtomicBool>,
}

impl Logs {
    /// Show log lines on stderr from now on.
    ///
    /// Not from the start: why a program could not start is its command's one line, and not the log's as well.
    pub(crate) fn open_terminal(&self) {
        self.terminal_is_open.store(true, Ordering::Relaxed);
    }

    /// Where there is no file, say so, and show everything on stderr from now on.
    pub(crate) fn tell_trouble(&self) {
        if let Some(trouble) = &self.trouble {
            self.open_terminal();
            tracing::warn!("there is no log file, and everything is said here: {trouble}");
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.flush(LAST_LINES);
        }
        self.terminal.flush(LAST_LINES);
    }
}

/// Start logging into a file of `folder`.
///
/// Where stderr is no terminal only warnings will go there, as long as there is a file: what matters then is what went
/// wrong, and the file has the rest.
///
/// # Errors
/// Something logs already.
pub(crate) fn start(folder: &Path, filter: &str) -> Result<Logs, String> {
    let no_thread = |error| format!("logging could not start: {error}");
    let (file, trouble) = match open(folder) {
        Ok(appender) => {
            let lost = |n_lines| tracing::warn!(n_lines, "log lines were lost: the log file took none");
            (Some(LineQueue::new(QUEUE_BYTES, appender, lost).map_err(no_thread)?), None)
        }
        Err(error) => (None, Some(format!("logs folder {}: {error}", folder.display()))),
    };
    let lost = |n_lines| tracing::warn!(n_lines, "log lines were lost: nobody read them from stderr");
    let terminal = LineQueue::new(QUEUE_BYTES, io::stderr(), lost).map_err(no_thread)?;

    let is_terminal = io::stderr().is_terminal();
    let terminal_is_open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&terminal_is_open);
    let says_all = is_terminal || trouble.is_some();
    let json = file.clone().map(|file| {
        fmt::layer().json().with_writer(file).log_internal_errors(false).with_filter(parse(filter))
    });
    let human = fmt::layer()
        .with_writer(terminal.clone())
        .log_internal_errors(false)
        .with_ansi(is_terminal)
        .with_target(false)
        .with_filter(dynamic_filter_fn(move |_, _| is_open.load(Ordering::Relaxed)))
        .with_filter(if says_all { parse(filter) } else { parse("warn") });
    Registry::default()
        .with(json)
        .with(human)
        .try_init()
        .map_err(|error| format!("logging could not start: {error}"))?;
    // The default hook writes to stderr from the thread that panics, and would wait there.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(
            place = panic.location().map(tracing::field::display),
            "{}",
            panic.payload_as_str().unwrap_or("panic")
        );
    }));
    Ok(Logs { file, terminal, trouble, terminal_is_open })
}

/// Today's file in `folder`, and tomorrow's.
fn open(folder: &Path) -> io::Result<PrivateFiles> {
    // The appender makes the folder too, but complains first, to stderr.
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(PREFIX)
        .filename_suffix(SUFFIX)
        .max_log_files(N_FILES)
        .build(folder)
        .map_err(io::Error::other)?;
    let files = PrivateFiles { appender, folder: folder.to_owned(), day: None };
    files.make_private();
    Ok(files)
}

/// Log files that only their owner may read. What makes them asks the system for no mode, so they get theirs when the
/// first line is in them; until then the folder's keeps others out.
struct PrivateFiles<W = RollingFileAppender> {
    appender: W,
    folder: PathBuf,
    /// The day of the last line, in days since 1970.
    day: Option<u64>,
}

impl<W> PrivateFiles<W> {
    fn make_private(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_ours = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
            let is_open = |data: fs::Metadata| data.is_file() && data.permissions().mode() & 0o077 != 0;
            if is_ours && entry.metadata().is_ok_and(is_open) {
                // Whoever owns it otherwise decides otherwise.
                let _ = fs::set_permissions(entry.path(), Permissions::from_mode(FILE_MODE));
            }
        }
    }
}

impl<W: Write> Write for PrivateFiles<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Before: a day that begins meanwhile is noticed with the next line.
        let today =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECONDS_A_DAY);
        let n = self.appender.write(bytes)?;
        if self.day.replace(today) != Some(today) {
            self.make_private();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.appender.flush()
    }
}

/// The settings have parsed the same text once already.
fn parse(filter: &str) -> EnvFilter {
    EnvFilter::builder().parse_lossy(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// Makes a file as the appender does when a day begins.
    struct Rotating(PathBuf);

    impl Write for Rotating {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            fs::write(&self.0, bytes)?;
            fs::set_permissions(&self.0, Permissions::from_mode(0o644))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_files_and_their_folder_are_their_owners_alone_old_ones_too() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state/logs");
        fs::create_dir_all(&folder).unwrap();
        let old = folder.join("samovar.2020-01-01.log.json");
        let other = folder.join("notes");
        for path in [&old, &other] {
            fs::write(path, "{}").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let mut files = open(&folder).unwrap();
        files.write_all(b"{}\n").unwrap();
        let mut n_files = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), if path == other { 0o644 } else { 0o600 }, "{}", path.display());
            n_files += 1;
        }
        assert_eq!((n_files, mode(&folder)), (3, 0o700));
    }

    #[test]
    fn a_file_that_a_new_day_begins_is_private_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samovar.2030-01-02.log.json");
        let yesterday = Some(1);
        let (appender, folder) = (Rotating(path.clone()), folder.path().to_owned());
        let mut files = PrivateFiles { appender, folder, day: yesterday };
        files.write_all(b"{}\n").unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_and_no_panic() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        for folder in
            [file.join("logs"), file.clone(), PathBuf::from("/proc/logs"), PathBuf::from("/dev/null/logs")]
        {
            assert!(open(&folder).is_err(), "{}", folder.display());
        }
    }
}
