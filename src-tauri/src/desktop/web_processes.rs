//! The web view's process that outlives its window, and its end.
//!
//! WebKitGTK ends a page's own process with its view. The process that speaks HTTP for it belongs to the web context,
//! which Tauri keeps for as long as the app runs (<https://github.com/tauri-apps/tauri/issues/14626>), so it would stay
//! and hold tens of megabytes for a window that nobody sees. WebKit starts it anew with the next view, as after a crash.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tauri::{AppHandle, Manager};

/// Its name as the kernel cuts it.
const NAME: &str = "WebKitNetworkPr";

/// What a page said last is in its local storage's file within half a second, and nothing else of it is kept.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// How many windows have been closed; only the last one's waiter acts, for its writes are the youngest.
static N_CLOSED: AtomicU64 = AtomicU64::new(0);

/// End what the closed window has left, unless another one is opened meanwhile.
pub(crate) fn end_soon(app: &AppHandle) {
    let app = app.clone();
    let n_closed = N_CLOSED.fetch_add(1, Ordering::Relaxed) + 1;
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(LAST_WRITES).await;
        let in_loop = app.clone();
        // On the main thread no window is opened between the look and the end.
        let asked = app.run_on_main_thread(move || {
            if in_loop.webview_windows().is_empty()
                && N_CLOSED.load(Ordering::Relaxed) == n_closed
                && let Err(error) = end_left_over()
            {
                tracing::warn!(%error, "a process of the closed window is left over");
            }
        });
        if let Err(error) = asked {
            tracing::debug!(%error, "the app ended before its window's process");
        }
    });
}

fn end_left_over() -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let Some(pid) =
            entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        if !is_left_over(pid) {
            continue;
        }
        // The descriptor is the process's, whoever has its id a moment later; so look again.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        if is_left_over(pid) {
            pidfd_send_signal(&process, Signal::TERM)?;
        }
    }
    Ok(())
}

fn is_left_over(pid: Pid) -> bool {
    let parent = std::process::id();
    // A process that has ended meanwhile has no such file.
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .is_ok_and(|stat| name_and_parent(&stat) == Some((NAME, parent)))
}

/// A process's name and its parent's id, from its `stat` file: `pid (name) state ppid …`.
fn name_and_parent(stat: &str) -> Option<(&str, u32)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    Some((name, rest.split(' ').nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_its_name_and_its_parent() {
        let rows = [
            ("512 (WebKitNetworkPr) S 77 512 77 0 -1", Some((NAME, 77))),
            ("513 (a ) b (c) R 1 1 1", Some(("a ) b (c", 1))),
            ("514 (x) S", None),
            ("", None),
        ];
        for (stat, want) in rows {
            assert_eq!(name_and_parent(stat), want, "{stat:?}");
        }
    }

    #[test]
    fn this_very_process_is_not_left_over() {
        assert!(!is_left_over(rustix::process::getpid()));
    }
}
