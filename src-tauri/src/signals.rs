//! What signals mean: those that ask for an end drain, those that nobody here waits for do nothing.
#![allow(unsafe_code)]

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that ask for an end, which all mean the same. A hang-up comes from a closed terminal or an ended SSH
/// session.
const QUITS: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP];

/// Signals that would end the process and that nobody here waits for: a stray `kill -USR1`, a timer that was set
/// before `exec`, a write beyond `ulimit -f`, which then is an error of that write.
const UNHEARD: &[libc::c_int] = &[
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGPIPE,
    libc::SIGIO,
    libc::SIGXFSZ,
    #[cfg(target_os = "linux")]
    libc::SIGPWR,
    #[cfg(target_os = "linux")]
    libc::SIGSTKFLT,
];

/// The signals that end a server; where they are received, no other ends it unasked.
pub(crate) struct QuitSignals(Vec<Signal>);

impl QuitSignals {
    /// Receive them from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn new() -> io::Result<QuitSignals> {
        // A hang-up that was ignored when the process started stays so: that is what `nohup` asks for.
        let wanted = QUITS.into_iter().filter(|number| *number != libc::SIGHUP || !is_ignored(*number));
        let quits = wanted.map(|number| signal(SignalKind::from_raw(number))).collect::<io::Result<_>>()?;
        for number in unheard().filter(|number| !is_ignored(*number)) {
            // Once there is a handler it stays, without a receiver too. Ignoring instead would be inherited by the
            // programs that are started from here.
            let _ = signal(SignalKind::from_raw(number))?;
        }
        Ok(QuitSignals(quits))
    }

    /// Wait for one. Dropping the future loses none.
    pub(crate) async fn recv(&mut self) {
        poll_fn(|cx| {
            if self.0.iter_mut().any(|quit| quit.poll_recv(cx).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// [`UNHEARD`] and, on Linux, the real-time signals but the web view's.
fn unheard() -> impl Iterator<Item = libc::c_int> {
    #[cfg(target_os = "linux")]
    let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(|number| *number != web_views_signal());
    #[cfg(not(target_os = "linux"))]
    let real_time = std::iter::empty();
    UNHEARD.iter().copied().chain(real_time)
}

/// Whether a signal is ignored now.
fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: all zeroes is a value of this plain C structure, and it is the place that the call fills; without a
    // new action the call changes nothing.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// What the web view's JavaScript stops its threads with.
#[cfg(target_os = "linux")]
fn web_views_signal() -> libc::c_int {
    libc::SIGRTMAX() - 1
}

/// Keep the web view's hands off SIGUSR1, which it takes otherwise, and which would then crash the app when anybody
/// else sends it. Call it before there are other threads.
#[cfg(all(feature = "desktop", target_os = "linux"))]
pub(crate) fn move_the_web_views() {
    // SAFETY: there are no other threads yet that could read the environment.
    unsafe { std::env::set_var("JSC_SIGNAL_FOR_GC", web_views_signal().to_string()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signal_is_both_a_quit_and_unheard() {
        assert!(unheard().all(|number| !QUITS.contains(&number)));
    }
}
