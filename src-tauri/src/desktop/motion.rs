//! Whether pictures may move: what the user has told the system.

use tokio::sync::watch;

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    Moving,
    Still,
}

/// Is told what the user wants.
pub(crate) type Hearer = Box<dyn Fn(Motion) + Send>;

/// What the user wants now, and whenever that changes; `listen` asks the system. Called on the main thread.
pub(crate) fn follow(listen: impl FnOnce(Hearer)) -> watch::Receiver<Motion> {
    let (told, heard) = watch::channel(Motion::Moving);
    listen(Box::new(move |motion| {
        told.send_replace(motion);
    }));
    heard
}

/// Ask GTK.
#[cfg(target_os = "linux")]
pub(crate) fn listen_for_motion(tell: Hearer) {
    use gtk::prelude::GtkSettingsExt;

    let tell = move |settings: &gtk::Settings| {
        tell(if settings.is_gtk_enable_animations() { Motion::Moving } else { Motion::Still });
    };
    if let Some(settings) = gtk::Settings::default() {
        tell(&settings);
        settings.connect_gtk_enable_animations_notify(tell);
    }
}
