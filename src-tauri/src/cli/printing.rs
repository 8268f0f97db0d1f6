//! What the commands print: their results on stdout, one line on stderr when they fail, and nothing that a terminal
//! would obey.
//!
//! Text of models, servers and files may hold anything. Names and messages are always printed in visible characters;
//! an answer only where a terminal shows it, since a program that reads it wants the bytes.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::exit_codes::{CLEAN, FAILED};

/// How long a process that ends waits for somebody to read why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Print lines on stdout; `code`, or [`FAILED`] where they could not be written.
///
/// A reader that went away is no error: `samovar config | head` ends quietly.
pub(crate) fn say(lines: &dyn Display, code: u8) -> ExitCode {
    match write(&mut io::stdout().lock(), &format!("{}\n", visible(&lines.to_string()))) {
        Ok(()) => ExitCode::from(code),
        Err(error) => fail(&format!("stdout: {error}")),
    }
}

/// The one line on stderr that says why a command failed.
pub(crate) fn fail(error: &dyn Display) -> ExitCode {
    // Where stderr takes nothing either, the exit code has to do.
    let _ = write(&mut io::stderr().lock(), &failure(error));
    ExitCode::from(FAILED)
}

/// As [`fail`], for a process that must end even when nobody reads its stderr.
pub(crate) fn fail_soon(error: &dyn Display) -> ExitCode {
    let line = failure(error);
    patiently(move || {
        let _ = write(&mut io::stderr().lock(), &line);
    });
    ExitCode::from(FAILED)
}

/// A server's first line, which says where it listens. It does not wait for ever for somebody to read it.
///
/// # Errors
/// It cannot be written; one line.
pub(crate) fn announce(address: impl Display) -> Result<(), String> {
    let line = format!("listening on http://{address}\n");
    match patiently(move || write(&mut io::stdout().lock(), &line)) {
        Some(Err(error)) => Err(format!("stdout: {error}")),
        // What nobody reads now is written when somebody does.
        Some(Ok(())) | None => Ok(()),
    }
}

/// A line on stderr that is written over, for the user who waits.
pub(crate) fn progress(text: &dyn Display) {
    let _ = write(&mut io::stderr().lock(), &text.to_string());
}

/// Text in which nothing but line ends and tabs moves a terminal's cursor, changes its state or the order of what it
/// shows: everything else is written as `\u{1b}`.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && c != '\t' && (c.is_control() || reorders(c)) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A name or a message within one line: as [`visible`], without line ends and tabs.
pub(crate) fn one_line(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

/// An answer on stdout, as it comes.
pub(crate) struct AnswerPrinter {
    is_terminal: bool,
    ends_with_newline: bool,
}

impl AnswerPrinter {
    /// For this process's stdout.
    pub(crate) fn new() -> AnswerPrinter {
        AnswerPrinter { is_terminal: io::stdout().is_terminal(), ends_with_newline: true }
    }

    /// Print a piece at once; whether somebody still reads. A reader that reads nothing holds up this future and no
    /// thread that has more to do.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn print(&mut self, piece: &str) -> io::Result<bool> {
        if piece.is_empty() {
            return Ok(true);
        }
        self.ends_with_newline = piece.ends_with('\n');
        let text = if self.is_terminal { shown(piece) } else { piece.to_owned() };
        let writing = spawn_blocking(move || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        match writing.await.map_err(io::Error::other)? {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Leave the cursor at the start of a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        if self.ends_with_newline { Ok(()) } else { self.print("\n").await.map(|_| ()) }
    }
}

/// A piece of an answer for a terminal. A carriage return is dropped: models that write `\r\n` mean a line end.
fn shown(piece: &str) -> String {
    visible(&piece.replace('\r', ""))
}

fn failure(error: &dyn Display) -> String {
    format!("samovar: {}\n", one_line(&error.to_string().replace('\r', " ")))
}

/// Characters that make a terminal show text in another order than it has.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// What `work` gives, if it gives it soon. It goes on otherwise, and ends with the process.
fn patiently<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, doing) = channel();
    std::thread::Builder::new().name("last words".to_owned()).spawn(move || done.send(work())).ok()?;
    doing.recv_timeout(LAST_WORD).ok()
}

/// Help and version go to stdout, mistakes to stderr, each with its exit code.
pub(crate) fn explain(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(FAILED);
    let written = error.print().and_then(|()| io::stdout().flush());
    match written {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe && code == CLEAN => {
            fail(&format!("stdout: {cause}"))
        }
        _ => ExitCode::from(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed_and_text_of_every_script_is() {
        for (text, want) in [
            ("plain\n\ttext", "plain\n\ttext"),
            ("\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            ("\x1b[2J", r"\u{1b}[2J"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("\u{90}q\u{9c}", r"\u{90}q\u{9c}"),
            ("a\x08b\x7f\0", r"a\u{8}b\u{7f}\u{0}"),
            ("over\rwritten", r"over\u{d}written"),
            ("\u{202e}txt.exe", r"\u{202e}txt.exe"),
            ("\u{2066}a\u{2069}", r"\u{2066}a\u{2069}"),
            ("Grüße 茶 שלום 🫖 e\u{301}", "Grüße 茶 שלום 🫖 e\u{301}"),
        ] {
            assert_eq!(visible(text), want);
        }
        assert_eq!(one_line("two\nlines\tand\x1b[0m"), r"two lines and\u{1b}[0m");
        assert_eq!(shown("line\r\n"), "line\n");
        assert_eq!(failure(&"a\r\nb\x1bc"), "samovar: a  b\\u{1b}c\n");
    }
}
