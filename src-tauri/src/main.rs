//! Samovar: a local LLM server that keeps every agent's context warm.
//!
//! Arguments lead to the desktop app, the headless server or a command that talks to a server; nothing else is
//! decided here. Read `app.rs` next.

#[cfg(any(test, feature = "desktop"))]
#[macro_use]
mod window_commands;

mod about;
mod allocator;
mod api_key;
mod app;
mod bench;
mod cli;
mod description;
#[cfg(feature = "desktop")]
mod desktop;
/// What quitting means is the same everywhere, and is tested in builds without the desktop app too.
#[cfg(all(test, not(feature = "desktop")))]
mod desktop {
    mod quit;
    mod termination;
}
mod device;
mod gguf_loader;
mod gpu_trust;
mod headless;
mod kv_store;
#[cfg(feature = "desktop")]
mod late_loader;
mod logs;
mod memory;
mod model_digest;
mod model_file;
mod open_files;
mod opened_model;
mod own_key;
mod recommended_sampling;
mod render_chats;
mod settings;
mod signals;
mod signing_key;
mod small_file;
mod text_metadata;
#[cfg(any(test, feature = "desktop"))]
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cli::printing::{explain, fail};
use cli::{Arguments, Command};
#[cfg(feature = "desktop")]
use settings::flags::Flags;
use tokio::runtime::Runtime;

/// How long blocking work may hold the process up after everything has ended: a read of standard input, for
/// example, cannot be cancelled.
const LAST_WAIT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    allocator::set_up();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    // It has limits of its own, which the runtime's threads would count towards.
    if let Some(Command::RenderChats) = arguments.command {
        return render_chats::run();
    }
    open_files::raise_limit();
    #[cfg(all(feature = "desktop", target_os = "linux"))]
    if arguments.command.is_none() {
        signals::move_the_web_views();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not start: {error}")),
    };
    let code = match arguments.command {
        Some(command) => runtime.block_on(run(command)),
        None => without_command(&runtime),
    };
    runtime.shutdown_timeout(LAST_WAIT);
    code
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::RenderChats => render_chats::run(),
        Command::Serve(flags) => match cli::settings(flags.0) {
            Ok(settings) => headless::serve(settings).await,
            Err(code) => code,
        },
        Command::Run(arguments) => cli::run::run(arguments).await,
        Command::Status(flags) => {
            cli::with_client(flags, async |client| cli::status::status(&client).await).await
        }
        Command::Drain(arguments) => cli::drain::drain(arguments).await,
        Command::Resume(flags) => {
            cli::with_client(flags, async |client| cli::drain::resume(&client).await).await
        }
        Command::Stop(arguments) => cli::drain::stop(arguments).await,
        Command::Agents(arguments) => cli::agents::agents(arguments.command).await,
        Command::Keys(arguments) => cli::keys::keys(arguments.command),
        Command::Models(arguments) => cli::models::models(arguments.command),
        Command::Bench(arguments) => bench::bench(arguments).await,
        Command::BenchStore(arguments) => bench::bench_store(arguments).await,
        Command::Config(flags) => match cli::settings(flags.0) {
            Ok(settings) => cli::config::config(&settings),
            Err(code) => code,
        },
    }
}

/// Without a command the desktop app starts. What it is told comes from the environment and the settings file.
#[cfg(feature = "desktop")]
fn without_command(runtime: &Runtime) -> ExitCode {
    match cli::settings(Flags::default()) {
        Ok(settings) => desktop::run(runtime, settings),
        Err(code) => code,
    }
}

/// This build has no desktop app.
#[cfg(not(feature = "desktop"))]
fn without_command(_runtime: &Runtime) -> ExitCode {
    fail(&"this build has no desktop app; start the server with `samovar serve` (see --help)");
    ExitCode::from(cli::exit_codes::USAGE)
}
