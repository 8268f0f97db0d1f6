"""What surrounds the app: a window manager, a tray host, windows on the screen, and the tray's menu over D-Bus."""

import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

from samovar import eventually, needs

DRAWINGS = Path(__file__).resolve().parents[2] / "icons/tray"
WATCHER = ["org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"]


@contextmanager
def running(*command: str):
    """A companion process, ended by its id."""
    needs(command[0])
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def window_manager():
    with running("openbox"):
        eventually("a window manager", lambda: "_NET_SUPPORTING_WM_CHECK(WINDOW)" in run("xprop", "-root", "_NET_SUPPORTING_WM_CHECK"))
        yield


@contextmanager
def tray_host():
    with running("xfce4-panel", "--disable-wm-check"):
        eventually("a tray host", lambda: "true" in property_of(*WATCHER, WATCHER[0], "IsStatusNotifierHostRegistered"))
        yield


def run(*command: str) -> str:
    """What a program says; empty when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def call(bus: str, path: str, method: str, *arguments: str) -> str:
    return run("gdbus", "call", "--session", "--dest", bus, "--object-path", path, "--method", method, *arguments)


def property_of(bus: str, path: str, interface: str, name: str) -> str:
    return call(bus, path, "org.freedesktop.DBus.Properties.Get", interface, name)


class Tray:
    """The tray's menu of one process, as a tray host sees it."""

    ITEM = "org.kde.StatusNotifierItem"

    def __init__(self, pid: int):
        self.bus, self.path = eventually("the tray icon", lambda: self._find(pid))
        menu = property_of(self.bus, self.path, self.ITEM, "Menu")
        self.menu = re.search(r"'(/[^']*)'", menu).group(1)

    @staticmethod
    def _find(pid: int):
        items = property_of(*WATCHER, WATCHER[0], "RegisteredStatusNotifierItems")
        for bus, path in re.findall(r"'(:[\d.]+)(/[^']+)'", items):
            owner = call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.GetConnectionUnixProcessID", bus)
            if re.search(rf"\b{pid}\b", owner):
                return bus, path
        return None

    def lines(self) -> dict[str, str]:
        """Label to id, in the menu's order; a label may be said or chosen."""
        layout = call(self.bus, self.menu, "com.canonical.dbusmenu.GetLayout", "0", "--", "-1", "['label', 'enabled']")
        found = {}
        for item, properties in re.findall(r"\((\d+), (?:@a\{sv\} )?\{([^{}]*)\}", layout):
            label = re.search(r"'label': <(?:'([^']*)'|\"([^\"]*)\")>", properties)
            if label:
                # An underscore would underline the next letter, so a real one is doubled.
                found[(label.group(1) or label.group(2) or "").replace("__", "_")] = item
        return found

    def line(self, part: str) -> str:
        """The first line with `part` in it, or nothing."""
        return next((label for label in self.lines() if part in label), "")

    def wait_for(self, part: str) -> str:
        try:
            return eventually(f"the tray says {part}", lambda: self.line(part))
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {list(self.lines())}") from None

    def wait_for_icon(self, *names: str) -> None:
        """Until the icon has the shape of one of the drawings in `icons/tray`; its colour is the panel's business."""
        shapes = {shape(DRAWINGS / f"{name}.png") for name in names}
        eventually(f"the icon is {' or '.join(names)}", lambda: self._icon() in shapes)

    def _icon(self) -> str:
        found = re.search(r"'(/[^']*)'", property_of(self.bus, self.path, self.ITEM, "IconName"))
        return shape(Path(found.group(1))) if found else ""

    def choose(self, label: str) -> None:
        """Click, again if the menu was made anew between looking and clicking: the call fails then."""
        self.wait_for(label)

        def click():
            item = self.lines().get(label)
            return item and call(self.bus, self.menu, "com.canonical.dbusmenu.Event", item, "clicked", "<int32 0>", "0")

        eventually(f"{label} is chosen", click)


def shape(picture: Path) -> str:
    """What is the same for pictures of one shape; empty for a file that is being replaced."""
    return run("convert", str(picture), "-alpha", "extract", "-format", "%#", "info:")


def windows_of(pid: int) -> list[str]:
    """The app's windows that can be seen."""
    return run("xdotool", "search", "--onlyvisible", "--pid", str(pid), "--name", "^Samovar$").split()


def wait_for_window(pid: int) -> str:
    return eventually("the window is there", lambda: windows_of(pid))[0]


def distance_to_the_corner(window: str) -> tuple[int, int]:
    """How far a window, with its frame, is from the right edge of where windows may be, and how far from the upper one."""
    left, top, width, _ = map(int, re.findall(r"\d+", run("xprop", "-root", "_NET_WORKAREA"))[:4])
    frame_left, frame_right, frame_top, _ = map(int, re.findall(r"\d+", run("xprop", "-id", window, "_NET_FRAME_EXTENTS")))
    x, y, inner = (measure(window, what) for what in ("Absolute upper-left X", "Absolute upper-left Y", "Width"))
    return left + width - (x + inner + frame_right), y - frame_top - top


def width_of(window: str) -> int:
    return measure(window, "Width")


def measure(window: str, what: str) -> int:
    return int(re.search(rf"{what}: +(-?\d+)", run("xwininfo", "-id", window)).group(1))


def wait_for_no_window(pid: int) -> None:
    eventually("the window is gone", lambda: not windows_of(pid))


def close(window: str) -> None:
    """The window manager's own key for closing; xdotool has no word for it that older versions know."""
    press(window, "alt+F4")


def resize(window: str, width: int, height: int) -> None:
    run("xdotool", "windowsize", window, str(width), str(height))


def press(window: str, key: str) -> None:
    run("xdotool", "windowactivate", "--sync", window)
    run("xdotool", "key", "--clearmodifiers", key)


def click(window: str, x: float, y: float) -> None:
    """With the mouse, at a point of the window."""
    run("xdotool", "mousemove", "--sync", "--window", window, str(round(x)), str(round(y)), "click", "1")


def write(window: str, text: str) -> None:
    run("xdotool", "windowactivate", "--sync", window)
    run("xdotool", "type", "--clearmodifiers", text)


def text_in(window: str) -> str:
    """What the field that has the focus says."""
    # An empty field copies nothing, so what is on the clipboard must be ours to know.
    subprocess.run(["xclip", "-selection", "clipboard"], input=b"", check=True)
    press(window, "ctrl+a")
    press(window, "ctrl+c")
    return clipboard()


def clipboard() -> str:
    return run("xclip", "-o", "-selection", "clipboard")


def n_colours(window: str) -> int:
    """How many colours a window has: an empty one has next to none."""
    return int(run("import", "-window", window, "-format", "%k", "info:-") or 0)
