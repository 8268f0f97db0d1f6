//! The tray icon and its menu: follows the engine, and applies what `tray_view.rs` says.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::State;
use engine::readiness::HEARTBEAT_LIMIT;
use tauri::image::Image;
use tauri::menu::{Menu, MenuItem, PredefinedMenuItem};
use tauri::tray::{TrayIcon, TrayIconBuilder};
use tauri::{AppHandle, Wry, include_image};
use tokio::sync::watch;
use tokio::time::sleep;

use super::first_run::FirstRun;
use super::host::{Host, Serving, Stage};
use super::motion::Motion;
use super::placement::{Area, is_on_a_screen};
use super::screens::{ICON, icon_area, screen_of};
use super::tray_view::{Icon, Item, Steam, Surroundings, TrayView, problem_view, view};
use super::window;

/// Shortest time between two changes of what is shown.
const PAUSE: Duration = Duration::from_millis(250);

/// The icon and what it shows now.
pub(crate) struct Tray {
    app: AppHandle,
    icon: TrayIcon,
    shown: Option<TrayView>,
    /// The menu's lines that have a text, in the view's order; none for a separator.
    lines: Vec<Option<MenuItem<Wry>>>,
}

impl Tray {
    /// An icon without a menu, on the main thread. On Linux its picture passes through a file in `folder`; instances
    /// must not share one.
    pub(crate) fn new(app: &AppHandle, folder: &Path) -> tauri::Result<Tray> {
        let icon = TrayIconBuilder::with_id(ICON)
            .temp_dir_path(folder)
            .icon(picture(Icon::Starting(0)))
            .icon_as_template(true)
            .show_menu_on_left_click(true)
            .build(app)?;
        Ok(Tray { app: app.clone(), icon, shown: None, lines: Vec::new() })
    }

    /// Show `view`. What could not be shown is tried again with the next view.
    fn show(&mut self, view: TrayView) {
        if self.shown.as_ref() != Some(&view)
            && let Err(error) = self.apply(view)
        {
            tracing::error!(%error, "the tray could not be changed");
        }
    }

    /// Change what differs only: a menu that is open stays open while its words change.
    fn apply(&mut self, view: TrayView) -> tauri::Result<()> {
        let shown = self.shown.take();
        if shown.as_ref().is_none_or(|shown| shown.icon != view.icon) {
            // In one go: apart, macOS shows the new picture for a moment in its own colours.
            self.icon.set_icon_with_as_template(Some(picture(view.icon)), true)?;
        }
        if shown.as_ref().is_none_or(|shown| shown.tooltip != view.tooltip) {
            self.icon.set_tooltip(Some(&view.tooltip))?;
        }
        match shown {
            Some(shown) if has_same_shape(&shown.items, &view.items) => {
                let changed = shown.items.iter().zip(&view.items).zip(&self.lines);
                for ((_, new), line) in changed.filter(|((old, new), _)| old != new) {
                    if let (Item::Text(text), Some(line)) = (new, line) {
                        line.set_text(plain(text))?;
                    }
                }
            }
            _ => self.build_menu(&view.items)?,
        }
        self.shown = Some(view);
        Ok(())
    }

    fn build_menu(&mut self, items: &[Item]) -> tauri::Result<()> {
        let menu = Menu::new(&self.app)?;
        self.lines.clear();
        for item in items {
            let line = match item {
                Item::Text(text) => Some(MenuItem::new(&self.app, plain(text), false, None::<&str>)?),
                Item::Action(action, label) => {
                    Some(MenuItem::with_id(&self.app, action.name(), label, true, action.key())?)
                }
                Item::Separator => None,
            };
            match &line {
                Some(line) => menu.append(line)?,
                None => menu.append(&PredefinedMenuItem::separator(&self.app)?)?,
            }
            self.lines.push(line);
        }
        self.icon.set_menu(Some(menu))
    }
}

/// A single `&` would underline the letter after it.
fn plain(text: &str) -> String {
    text.replace('&', "&&")
}

/// Whether one menu can become the other by changing words.
fn has_same_shape(old: &[Item], new: &[Item]) -> bool {
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(old, new)| old == new || matches!((old, new), (Item::Text(_), Item::Text(_))))
}

/// Whether the system shows the icon nowhere, where it says where icons are.
pub(crate) fn is_hidden(app: &AppHandle) -> bool {
    // Only a Mac tells, and puts an icon that has no room, or that the user has taken out, beside every screen.
    if !cfg!(target_os = "macos") {
        return false;
    }
    let Ok(monitors) = app.available_monitors() else { return false };
    let screens: Vec<Area> = monitors.iter().map(screen_of).collect();
    let scale = monitors.first().map_or(1.0, tauri::Monitor::scale_factor);
    !screens.is_empty() && !is_on_a_screen(icon_area(app, scale), &screens)
}

/// What the steam's pictures alternate by.
struct Steaming {
    since: Instant,
    motion: watch::Receiver<Motion>,
}

/// Keep the tray true until the app ends.
pub(crate) async fn follow(app: AppHandle, host: Arc<Host>, mut tray: Tray, motion: watch::Receiver<Motion>) {
    let steam = Steaming { since: Instant::now(), motion };
    let first_run = FirstRun::of(&host.settings().folders.data);
    let mut stage = host.watch();
    loop {
        let stage_now = stage.borrow_and_update().clone();
        match stage_now {
            Stage::Refused(problem) => {
                tray.show(problem_view(&problem.line, problem.is_port));
                // Nobody looks at a tray icon all day: what stops serving says so in a window.
                window::open(&app);
                if stage.changed().await.is_err() {
                    return;
                }
            }
            Stage::Serving(serving) => {
                tokio::select! {
                    () = follow_engine(&app, &serving, &first_run, &steam, &mut tray) => return,
                    changed = stage.changed() => if changed.is_err() { return },
                }
            }
            Stage::Ended => return,
        }
    }
}

/// Keep the tray true until the engine has ended.
async fn follow_engine(
    app: &AppHandle,
    serving: &Serving,
    first_run: &FirstRun,
    steam: &Steaming,
    tray: &mut Tray,
) {
    let (mut state, mut stats) = (serving.engine.watch_state(), serving.engine.watch_stats());
    let mut has_failed = false;
    let mut has_answered = first_run.is_over();
    loop {
        let state_now = state.borrow_and_update().clone();
        let stats_now = stats.borrow_and_update().clone();
        let card = serving.engine.card();
        let refusal = card.as_ref().and_then(|card| card.served_by.gpu_refusal.as_ref());
        let around = Surroundings {
            model: card.as_ref().map(|card| card.name.clone()).or_else(|| serving.model.clone()),
            gpu_refusal: refusal.map(|refusal| refusal.kind),
            address: serving.address.to_string(),
            since: steam.since,
            motion: *steam.motion.borrow(),
            now: Instant::now(),
        };
        if !has_answered && stats_now.totals.generated_tokens > 0 {
            has_answered = true;
            first_run.end();
        }
        tray.show(view(&state_now, &stats_now, &around));
        let failed_before = std::mem::replace(&mut has_failed, matches!(state_now, State::Failed(_)));
        if has_failed && !failed_before {
            window::open(app);
        }
        sleep(PAUSE).await;
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = stats.changed() => if changed.is_err() { return },
            // The heartbeat comes more often than this; an engine that gives none must show as stalled.
            () = sleep(HEARTBEAT_LIMIT) => {}
        }
    }
}

/// The drawing of `icons/tray.svg` for an icon.
fn picture(icon: Icon) -> Image<'static> {
    let template = match icon {
        Icon::Starting(0) => include_image!("icons/tray/starting-0.png"),
        Icon::Starting(1) => include_image!("icons/tray/starting-1.png"),
        Icon::Starting(2) => include_image!("icons/tray/starting-2.png"),
        Icon::Starting(3) => include_image!("icons/tray/starting-3.png"),
        Icon::Starting(_) => include_image!("icons/tray/starting-4.png"),
        Icon::Ready => include_image!("icons/tray/ready.png"),
        Icon::Busy(Steam::First) => include_image!("icons/tray/busy-1.png"),
        Icon::Busy(Steam::Second) => include_image!("icons/tray/busy-2.png"),
        Icon::NearFull => include_image!("icons/tray/near-full.png"),
        Icon::Draining => include_image!("icons/tray/draining.png"),
        Icon::Failed => include_image!("icons/tray/failed.png"),
    };
    inked(template)
}

/// macOS takes the shape alone and inks it itself.
#[cfg(target_os = "macos")]
fn inked(template: Image<'static>) -> Image<'static> {
    template
}

/// Other panels show an image as it is, and may be dark or light: the app icon's copper is seen on both.
#[cfg(not(target_os = "macos"))]
fn inked(template: Image<'static>) -> Image<'static> {
    const COPPER: [u8; 3] = [0xc8, 0x7a, 0x3f];
    let pixels = template.rgba().chunks_exact(4);
    let rgba = pixels.flat_map(|pixel| [COPPER[0], COPPER[1], COPPER[2], pixel[3]]).collect();
    Image::new_owned(rgba, template.width(), template.height())
}
