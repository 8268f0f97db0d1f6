//! The menu-bar app: the same server in the same process, with a tray icon and a window.
//!
//! `host.rs` owns what is served, `tray_view.rs` says what the tray shows, `quit.rs` what quitting means; the rest
//! carries that out. Nothing here decides for the engine: it asks it, like every client.
//!
//! One tokio runtime, which Tauri is given too; the listener is bound before Tauri starts. Without the feature the
//! binary links nothing of a desktop.

mod action;
mod commands;
mod first_run;
mod host;
mod identity;
mod links;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
mod menu_bar;
mod motion;
mod page;
mod placement;
mod quit;
mod screens;
#[cfg_attr(
    not(any(test, target_os = "macos")),
    expect(dead_code, reason = "only AppKit waits for answers; the flow is tested everywhere")
)]
mod termination;
mod tray;
mod tray_host;
mod tray_view;
#[cfg(target_os = "linux")]
mod web_processes;
mod window;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use tauri::WindowEvent;
use tauri::{AppHandle, RunEvent};
use tokio::runtime::Runtime;

use crate::cli::exit_codes::FAILED;
use crate::cli::printing::fail_soon;
use crate::settings::{Settings, has_display};
use crate::signals::QuitSignals;
use crate::{api_key, logs};
use action::Action;
use first_run::FirstRun;
use host::Host;
#[cfg(target_os = "macos")]
use macos::listen_for_motion;
#[cfg(target_os = "linux")]
use motion::listen_for_motion;
use quit::Asker;

/// How long the system waits for us at its own end, whatever still runs.
const LAST_DRAIN: Duration = Duration::from_secs(5);

/// Run until somebody quits. The main thread becomes the window system's; everything else is on `runtime`.
pub(crate) fn run(runtime: &Runtime, settings: Settings) -> ExitCode {
    if !has_display() {
        return fail_soon(&"there is no display here; start the server with `samovar serve`");
    }
    let _entered = runtime.enter();
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
    let key = match settings.api_key_file.as_deref().map(api_key::read).transpose() {
        Ok(key) => key,
        Err(line) => return fail_soon(&line),
    };
    logs.open_terminal();
    #[cfg(target_os = "linux")]
    if gtk::init().is_err() {
        return fail_soon(&"the display does not open; start the server with `samovar serve`");
    }
    tauri::async_runtime::set(runtime.handle().clone());
    // The listener is bound before anything of the window system starts.
    let (host, prepared) = runtime.block_on(Host::new(Arc::new(settings), key));
    let app = match build(&host) {
        Ok(app) => app,
        Err(error) => return fail_soon(&format!("the desktop app could not start: {error}")),
    };
    // Whoever comes this far is the only instance: another one has shown its window and ended this process.
    if let Some(prepared) = prepared {
        host.start(app.handle(), prepared);
    }
    let handle = app.handle().clone();
    runtime.spawn(quit_on(signals, handle, Arc::clone(&host)));
    let code = app.run_return(move |app, event| on_event(app, &host, event));
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
}

fn build(host: &Arc<Host>) -> tauri::Result<tauri::App> {
    let mut context: tauri::Context = tauri::generate_context!(assets = page::Page);
    let config = context.config_mut();
    config.identifier = identity::of(&config.identifier, &host.settings().folders.data);
    if let Some(policy) = &mut config.app.security.csp {
        *policy = page::policy(&policy.to_string(), host.settings().address.ip());
    }
    let in_setup = Arc::clone(host);
    let builder = tauri::Builder::default();
    #[cfg(target_os = "macos")]
    let builder = builder.menu(menu_bar::menu);
    builder
        // First: it ends a second instance before that has done anything.
        .plugin(tauri_plugin_single_instance::init(|app, _arguments, _folder| window::open(app)))
        .manage(Arc::clone(host))
        .invoke_handler(commands::handler())
        .on_menu_event(|app, event| {
            if let Some(action) = Action::named(event.id().as_ref()) {
                commands::perform(app, action);
            }
        })
        .setup(move |app| {
            set_up(app.handle(), &in_setup)?;
            Ok(())
        })
        .build(context)
}

/// How long the system is given to lay the icon out before it is looked for.
const ICON_IS_LAID_OUT: Duration = Duration::from_secs(2);

/// The first turn of the event loop: the tray, and the window where only that can be seen or nobody knows of the tray.
fn set_up(app: &AppHandle, host: &Arc<Host>) -> tauri::Result<()> {
    #[cfg(target_os = "macos")]
    {
        app.set_activation_policy(tauri::ActivationPolicy::Accessory)?;
        macos::install(host);
    }
    let tray = tray::Tray::new(app, &host.settings().folders.data.join("tray"))?;
    tauri::async_runtime::spawn(tray::follow(
        app.clone(),
        Arc::clone(host),
        tray,
        motion::follow(listen_for_motion),
    ));
    if !tray_host::is_there() {
        tracing::info!("no tray host: the window opens instead");
        window::open(app);
    } else if !FirstRun::of(&host.settings().folders.data).is_over() {
        tracing::info!("no model has answered here yet: the window opens by itself");
        window::open(app);
    } else {
        tauri::async_runtime::spawn(open_without_an_icon(app.clone()));
    }
    Ok(())
}

/// Open the window where the system has hidden the icon.
async fn open_without_an_icon(app: AppHandle) {
    tokio::time::sleep(ICON_IS_LAID_OUT).await;
    if tray::is_hidden(&app) {
        tracing::info!("the icon is on no screen: the window opens instead");
        window::open(&app);
    }
}

fn on_event(app: &AppHandle, host: &Arc<Host>, event: RunEvent) {
    match event {
        // The last window was closed: the server goes on.
        RunEvent::ExitRequested { code: None, api, .. } => api.prevent_exit(),
        RunEvent::ExitRequested { api, .. } if !host.has_ended() => {
            api.prevent_exit();
            host.quit(app, Asker::User);
        }
        // Reached without a drain where the system ends us by itself.
        RunEvent::Exit if !host.has_ended() => host.drain_blocking(LAST_DRAIN),
        #[cfg(target_os = "linux")]
        RunEvent::WindowEvent { event: WindowEvent::Destroyed, .. } => web_processes::end_soon(app),
        #[cfg(target_os = "macos")]
        RunEvent::Reopen { .. } => window::open(app),
        _ => {}
    }
}

/// The first signal is a quit, every further one moves the deadline to now.
async fn quit_on(mut signals: QuitSignals, app: AppHandle, host: Arc<Host>) {
    loop {
        signals.recv().await;
        host.quit(&app, Asker::User);
    }
}
