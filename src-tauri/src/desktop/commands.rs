//! What menu and window can ask for. The menu's choices and the window's commands end in the same few functions.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use arboard::Clipboard;
use serde_json::{Value, json};
use tauri::ipc::Invoke;
use tauri::{AppHandle, State, WebviewWindow};

use super::action::Action;
use super::host::{Host, Port};
use super::quit::Asker;
use super::window;

type Shared<'a> = State<'a, Arc<Host>>;

/// How small and how large the page may be shown.
const ZOOM: RangeInclusive<f64> = 0.5..=3.0;

/// Do what was chosen, from any thread.
pub(crate) fn perform(app: &AppHandle, action: Action) {
    let host = Host::of(app);
    let handle = app.clone();
    match action {
        Action::OpenChat => window::open(app),
        Action::CopyAddress => told("the address could not be copied", copy_address(&host)),
        Action::OpenLogs => told("the logs could not be opened", show_logs(&host)),
        Action::Quit => host.quit(app, Asker::User),
        Action::QuitNow => host.quit_now(app),
        Action::PauseNow => host.pause_now(),
        Action::RetryLoad => {
            tauri::async_runtime::spawn(async move { told("no load", load(&host).await) });
        }
        Action::Resume => {
            tauri::async_runtime::spawn(async move { told("no resume", resume(&host).await) });
        }
        Action::RetryPort => {
            tauri::async_runtime::spawn(async move { retry(&handle, &host, Port::AsSet).await });
        }
        Action::OtherPort => {
            tauri::async_runtime::spawn(async move { retry(&handle, &host, Port::Free).await });
        }
    }
}

/// A menu cannot show why a choice failed; what came of it shows in the state.
fn told(what: &str, result: Result<(), String>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}

/// Try to listen again; a window that shows why nothing is served is led to the page then.
async fn retry(app: &AppHandle, host: &Arc<Host>, port: Port) {
    if host.retry(app, port).await {
        window::show_page(app);
    }
}

async fn load(host: &Host) -> Result<(), String> {
    let serving = host.serving().ok_or("nothing is served")?;
    serving.engine.load().await.map_err(text)
}

async fn resume(host: &Host) -> Result<(), String> {
    let serving = host.serving().ok_or("nothing is served")?;
    serving.engine.resume().await.map_err(text)
}

fn show_logs(host: &Host) -> Result<(), String> {
    open::that_detached(&host.settings().folders.logs).map_err(text)
}

fn copy_address(host: &Host) -> Result<(), String> {
    /// Guards the clipboard, which on Linux holds the text only as long as it lives; held for one copy.
    static CLIPBOARD: Mutex<Option<Clipboard>> = Mutex::new(None);
    let serving = host.serving().ok_or("nothing is served")?;
    let mut clipboard = CLIPBOARD.lock().unwrap_or_else(PoisonError::into_inner);
    if clipboard.is_none() {
        *clipboard = Some(Clipboard::new().map_err(text)?);
    }
    match &mut *clipboard {
        Some(clipboard) => clipboard.set_text(url_of(&serving.address)).map_err(text),
        None => Ok(()),
    }
}

fn url_of(address: &std::net::SocketAddr) -> String {
    format!("http://{address}")
}

fn text(error: impl Display) -> String {
    error.to_string()
}

macro_rules! handler_of {
    ([$($page:ident),+] [$($problem:ident),+]) => {
        tauri::generate_handler![$($page,)+ $($problem),+]
    };
}

/// Answers every command of the window.
pub(crate) fn handler() -> impl Fn(Invoke) -> bool + Send + Sync + 'static {
    window_commands!(handler_of)
}

/// Where the server is, and the key it wants to be shown.
#[tauri::command]
async fn api_base(host: Shared<'_>) -> Result<Value, String> {
    let serving = host.serving().ok_or("nothing is served")?;
    Ok(json!({"url": url_of(&serving.address), "token": serving.own_key}))
}

/// Finish what runs, then end.
#[tauri::command]
async fn quit(app: AppHandle, host: Shared<'_>) -> Result<(), String> {
    host.quit(&app, Asker::User);
    Ok(())
}

/// End what runs, then end.
#[tauri::command]
async fn quit_now(app: AppHandle, host: Shared<'_>) -> Result<(), String> {
    host.quit_now(&app);
    Ok(())
}

/// Admit again, while draining or parked.
#[tauri::command]
async fn cancel_quit(host: Shared<'_>) -> Result<(), String> {
    resume(&host).await
}

/// Load the model again after a failure.
#[tauri::command]
async fn retry_load(host: Shared<'_>) -> Result<(), String> {
    load(&host).await
}

/// Show the folder with the log files.
#[tauri::command]
async fn open_logs(host: Shared<'_>) -> Result<(), String> {
    show_logs(&host)
}

/// Show the page `scale` times as large.
#[tauri::command]
async fn zoom(window: WebviewWindow, scale: f64) -> Result<(), String> {
    if !ZOOM.contains(&scale) {
        return Err(format!("a zoom is between {} and {}", ZOOM.start(), ZOOM.end()));
    }
    window.set_zoom(scale).map_err(text)
}

/// Why nothing is served, or null.
#[tauri::command]
async fn port_problem(host: Shared<'_>) -> Result<Value, String> {
    Ok(host
        .problem()
        .map_or(Value::Null, |problem| json!({"line": problem.line, "is_port": problem.is_port})))
}

/// Try to listen again.
#[tauri::command]
async fn retry_port(app: AppHandle, host: Shared<'_>) -> Result<(), String> {
    retry(&app, &host, Port::AsSet).await;
    Ok(())
}

/// Listen on a free port.
#[tauri::command]
async fn other_port(app: AppHandle, host: Shared<'_>) -> Result<(), String> {
    retry(&app, &host, Port::Free).await;
    Ok(())
}
