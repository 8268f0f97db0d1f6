//! Whether pictures may move: what the user has told the system.

use tokio::sync::watch;

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    Moving,
    Still,
}

/// What the user wants now, and whenever that changes. Called on the main thread.
pub(crate) fn follow() -> watch::Receiver<Motion> {
    let (told, heard) = watch::channel(Motion::Moving);
    listen(move |motion| {
        told.send_replace(motion);
    });
    heard
}

#[cfg(target_os = "linux")]
fn listen(tell: impl Fn(Motion) + 'static) {
    use gtk::prelude::GtkSettingsExt;

    let tell = move |settings: &gtk::Settings| {
        tell(if settings.is_gtk_enable_animations() { Motion::Moving } else { Motion::Still });
    };
    if let Some(settings) = gtk::Settings::default() {
        tell(&settings);
        settings.connect_gtk_enable_animations_notify(tell);
    }
}

#[cfg(target_os = "macos")]
use super::macos::listen_for_motion as listen;
