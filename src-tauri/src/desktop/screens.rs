//! Where the system says that the icon and the screens are, as areas.

use tauri::tray::TrayIcon;
use tauri::{AppHandle, LogicalPosition, LogicalSize, Monitor, Position, Rect, Size};

use super::placement::Area;

/// The icon's name among the app's.
pub(crate) const ICON: &str = "samovar";

/// Where the icon is, where the system tells that; `scale` is the screen's.
pub(crate) fn icon_area(app: &AppHandle, scale: f64) -> Option<Area> {
    let rect = app.tray_by_id(ICON).and_then(|icon: TrayIcon| icon.rect().ok().flatten());
    rect.map(|rect| logical(rect, scale))
}

/// A whole screen.
pub(crate) fn screen_of(monitor: &Monitor) -> Area {
    let scale = monitor.scale_factor();
    area(monitor.position().to_logical(scale), monitor.size().to_logical(scale))
}

/// What the system's own bars leave of a screen.
pub(crate) fn work_area_of(monitor: &Monitor) -> Area {
    let (scale, work_area) = (monitor.scale_factor(), monitor.work_area());
    area(work_area.position.to_logical(scale), work_area.size.to_logical(scale))
}

fn area(position: LogicalPosition<f64>, size: LogicalSize<f64>) -> Area {
    Area { x: position.x, y: position.y, width: size.width, height: size.height }
}

fn logical(rect: Rect, scale: f64) -> Area {
    let position = match rect.position {
        Position::Physical(position) => position.to_logical(scale),
        Position::Logical(position) => position,
    };
    let size = match rect.size {
        Size::Physical(size) => size.to_logical(scale),
        Size::Logical(size) => size,
    };
    area(position, size)
}
