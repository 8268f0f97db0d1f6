//! The one window: made when it is opened, gone when it is closed, and with it the web view's processes.
//!
//! A hidden web view would cost hundreds of megabytes. Its files are the server's, one copy in the binary.

use tauri::webview::NewWindowResponse;
use tauri::{AppHandle, Manager, WebviewUrl, WebviewWindow};

use super::host::Host;
use super::links;
use super::placement::place;
use super::screens::{icon_area, work_area_of};

/// Its name, which the capabilities name too.
const LABEL: &str = "main";
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 600.0;

/// Ctrl-Q where no menu bar has it.
#[cfg(not(target_os = "macos"))]
const KEYS: &str = "addEventListener('keydown', (event) => {
  if (event.ctrlKey && !event.altKey && !event.shiftKey && event.key === 'q') {
    event.preventDefault();
    window.__TAURI__.core.invoke('quit');
  }
});";
#[cfg(target_os = "macos")]
const KEYS: &str = "";

/// Show the window, from any thread.
pub(crate) fn open(app: &AppHandle) {
    let in_loop = app.clone();
    let opened = app.run_on_main_thread(move || {
        if let Err(error) = open_here(&in_loop) {
            tracing::error!(%error, "the window could not be opened");
        }
    });
    if let Err(error) = opened {
        tracing::error!(%error, "the window could not be opened");
    }
}

/// Lead an open window from the problem to the page.
pub(crate) fn show_page(app: &AppHandle) {
    if let Some(window) = app.get_webview_window(LABEL)
        && let Err(error) = window.eval("location.replace('/index.html')")
    {
        tracing::warn!(%error, "the window still shows the problem");
    }
}

fn open_here(app: &AppHandle) -> tauri::Result<()> {
    let window = match app.get_webview_window(LABEL) {
        Some(window) => window,
        None => make(app)?,
    };
    window.unminimize()?;
    window.show()?;
    window.set_focus()
}

fn make(app: &AppHandle) -> tauri::Result<WebviewWindow> {
    let host = Host::of(app);
    let page = if host.problem().is_some() { "problem.html" } else { "index.html" };
    let mut builder = WebviewWindow::builder(app, LABEL, WebviewUrl::App(page.into()))
        .title("Samovar")
        .inner_size(WIDTH, HEIGHT)
        .min_inner_size(320.0, 400.0)
        .data_directory(host.settings().folders.data.join("window"))
        .initialization_script(KEYS)
        // The page says what becomes of what is dropped on it.
        .disable_drag_drop_handler()
        .on_navigation(links::is_ours)
        .on_new_window(|url, _| {
            links::open_outside(&url);
            NewWindowResponse::Deny
        });
    if let Some(monitor) = app.primary_monitor()? {
        let icon = icon_area(app, monitor.scale_factor());
        let (x, y) = place(icon, work_area_of(&monitor), WIDTH, HEIGHT);
        builder = builder.position(x, y);
    }
    builder.build()
}
