//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough for every connection of a server, the store and the model. Shells give 256 on macOS and 1,024 on Linux, and
/// let a process raise that itself.
const ENOUGH: u64 = 4_096;

/// Raise the limit to [`ENOUGH`], or as near as the system lets.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = ENOUGH.min(maximum.unwrap_or(ENOUGH));
    if current.is_some_and(|current| current < wanted) {
        // With fewer the server takes fewer connections.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}
