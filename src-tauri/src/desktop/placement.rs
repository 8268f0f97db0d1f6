//! Where the window opens: at the tray icon where the system tells where that is, else in the top right corner.

/// A rectangle in pixels of the screen, from the top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// Distance from the edges.
const MARGIN: f64 = 8.0;

/// The window's top left corner: within `work_area`, for a window of `width` × `height`.
///
/// A menu-bar icon lies in a strip at the top of the screen; one that seems to lie elsewhere is not believed.
pub(crate) fn place(icon: Option<Area>, work_area: Area, width: f64, height: f64) -> (f64, f64) {
    let rightmost = work_area.x + (work_area.width - width - MARGIN).max(0.0);
    let lowest = work_area.y + (work_area.height - height - MARGIN).max(0.0);
    let is_plausible = |icon: &Area| {
        icon.width > 0.0
            && icon.x >= work_area.x
            && icon.x + icon.width <= work_area.x + work_area.width
            && icon.y <= work_area.y + MARGIN
            && icon.y + icon.height >= work_area.y - 64.0
    };
    let x = match icon.filter(is_plausible) {
        Some(icon) => icon.x + icon.width / 2.0 - width / 2.0,
        None => rightmost,
    };
    (x.clamp(work_area.x, rightmost), (work_area.y + MARGIN).min(lowest))
}

/// Whether an icon can be seen on one of the screens: it has a size, and most of it lies on one.
pub(crate) fn is_on_a_screen(icon: Option<Area>, screens: &[Area]) -> bool {
    let Some(icon) = icon.filter(|icon| icon.width > 0.0 && icon.height > 0.0) else { return false };
    let (x, y) = (icon.x + icon.width / 2.0, icon.y + icon.height / 2.0);
    screens.iter().any(|screen| {
        (screen.x..screen.x + screen.width).contains(&x) && (screen.y..screen.y + screen.height).contains(&y)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_icon_is_seen_where_most_of_it_lies_on_a_screen() {
        let screens = [
            Area { x: 0.0, y: 0.0, width: 1440.0, height: 900.0 },
            Area { x: 1440.0, y: -200.0, width: 1280.0, height: 800.0 },
        ];
        let icon = |x, y, width| Some(Area { x, y, width, height: 24.0 });
        let rows = [
            ("in the menu bar", icon(700.0, 0.0, 24.0), true),
            ("in the second screen's", icon(2000.0, -200.0, 24.0), true),
            ("at the very edge", icon(1430.0, 0.0, 18.0), true),
            ("nobody knows where", None, false),
            ("without a size", icon(700.0, 0.0, 0.0), false),
            ("left of every screen", icon(-5000.0, 0.0, 24.0), false),
            ("above the bar", icon(700.0, -24.0, 24.0), false),
            ("right of every screen", icon(2730.0, 0.0, 24.0), false),
        ];
        for (what, icon, want) in rows {
            assert_eq!(is_on_a_screen(icon, &screens), want, "{what}");
        }
        assert!(!is_on_a_screen(icon(0.0, 0.0, 24.0), &[]), "no screen at all");
    }

    #[test]
    fn the_window_lies_under_its_icon_or_in_the_top_right_corner_and_always_on_the_screen() {
        let screen = Area { x: 0.0, y: 25.0, width: 1440.0, height: 875.0 };
        let second = Area { x: 1440.0, y: 0.0, width: 1280.0, height: 770.0 };
        let tiny = Area { x: 0.0, y: 0.0, width: 320.0, height: 400.0 };
        let icon = |x, y| Some(Area { x, y, width: 24.0, height: 24.0 });
        let rows = [
            ("no icon", None, screen, (1032.0, 33.0)),
            ("in the middle", icon(700.0, 0.0), screen, (512.0, 33.0)),
            ("near the edge", icon(1400.0, 0.0), screen, (1032.0, 33.0)),
            ("far left", icon(4.0, 0.0), screen, (0.0, 33.0)),
            ("at the bottom, which no menu bar is", icon(700.0, 860.0), screen, (1032.0, 33.0)),
            ("on another screen", icon(700.0, 0.0), second, (2312.0, 8.0)),
            ("a screen that is too small", None, tiny, (0.0, 0.0)),
        ];
        for (what, icon, work_area, want) in rows {
            assert_eq!(place(icon, work_area, 400.0, 600.0), want, "{what}");
        }
    }
}
