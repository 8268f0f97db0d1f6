//! Whether anybody shows tray icons here.

/// On Linux a desktop may have no tray; whoever shows one says so on the session bus.
#[cfg(target_os = "linux")]
pub(crate) fn is_there() -> bool {
    let ask = || {
        let bus = zbus::blocking::Connection::session()?;
        // Asked once, so nothing is to be kept up to date, which zbus would complain about where nobody answers.
        let watcher = zbus::blocking::proxy::Builder::<zbus::blocking::Proxy<'_>>::new(&bus)
            .destination("org.kde.StatusNotifierWatcher")?
            .path("/StatusNotifierWatcher")?
            .interface("org.kde.StatusNotifierWatcher")?
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()?;
        watcher.get_property::<bool>("IsStatusNotifierHostRegistered")
    };
    ask().unwrap_or_else(|error: zbus::Error| {
        tracing::debug!(%error, "nobody on the session bus knows of trays");
        false
    })
}

/// Elsewhere there always is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_there() -> bool {
    true
}
