//! `samovar render-chats`: the process that renders chats for a server, and may fail at it.
//!
//! It limits itself before it reads anything: a template that asks for more ends this process, and the server says
//! so to the one client whose chat it was.

use std::io::{self, BufReader};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use text::{RENDER_STACK_BYTES, WorkerIs, serve_renderings};

use crate::memory::resident_bytes;

/// What servers call this program with.
pub(crate) const ARGUMENT: &str = "render-chats";
/// Memory that one chat may take here.
const MAX_RESIDENT_BYTES: u64 = 256 << 20;
/// Addresses that may be asked for beyond those there are at the start; threads reserve more than they use.
const MAX_MORE_ADDRESS_BYTES: u64 = 768 << 20;
/// A server that waited for this long has killed the process; this is for one that has died.
const MAX_BUSY: Duration = Duration::from_secs(60);
/// How often memory is looked at while something is rendered.
const LOOK: Duration = Duration::from_millis(5);

/// Answer requests on standard input until it is closed.
pub(crate) fn run() -> ExitCode {
    limit(Resource::Core, 0);
    limit(Resource::As, address_bytes().saturating_add(MAX_MORE_ADDRESS_BYTES));
    let (tell, told) = channel();
    let serving = thread::Builder::new().stack_size(RENDER_STACK_BYTES).spawn(move || {
        let mut input = BufReader::new(io::stdin());
        serve_renderings(&mut input, &mut io::stdout(), |is| {
            // The watch never ends before this.
            let _ = tell.send(is);
        })
    });
    let Ok(serving) = serving else { return ExitCode::FAILURE };
    watch(&told);
    match serving.join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// A limit that the system does not take is left: the server's deadline holds all the same.
fn limit(resource: Resource, most: u64) {
    let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Ends the process when a chat takes too much; returns when there is nothing more to do.
fn watch(told: &Receiver<WorkerIs>) {
    while let Ok(is) = told.recv() {
        let since = Instant::now();
        let mut is = is;
        while is == WorkerIs::Busy {
            match told.recv_timeout(LOOK) {
                Ok(now) => is = now,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if resident_bytes() > MAX_RESIDENT_BYTES || since.elapsed() > MAX_BUSY {
                        std::process::exit(1);
                    }
                }
            }
        }
    }
}

/// Addresses in use now; where the system does not tell, none.
fn address_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let n_pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    n_pages.saturating_mul(rustix::param::page_size() as u64)
}
