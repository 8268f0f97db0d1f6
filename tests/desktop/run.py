#!/usr/bin/env python3
"""Black box: the real desktop app under a real X server, with a session bus, a window manager and a tray host.

    run.py --bin target/debug/samovar --model MODEL.gguf [NAME…]          the tests, or those whose name has NAME in it
    run.py --bin … --model … --screenshots FOLDER [STATE…]                pictures of the window instead

It starts an X server and a bus of its own, so it neither needs nor touches the screen of whoever runs it, and it leaves
no process and no file behind, also when it is stopped.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import session

HERE = Path(__file__).resolve().parent
INSIDE = "--inside"
# A window of twice as many pixels fits too.
SCREEN = "1600x1400"


def outside(arguments: list[str]) -> int:
    """Run again inside a display and a session that nobody else has."""
    with session.folder() as folder, session.display(folder, SCREEN) as display:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMOVAR_")}
        for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            environment[name] = str(folder / name.lower())
            os.mkdir(environment[name], 0o700)
        for name in ("WAYLAND_DISPLAY", "GTK_THEME"):
            environment.pop(name, None)
        # Software rendering that WebKit can take pictures of; no accessibility bus.
        environment.update(GDK_BACKEND="x11", NO_AT_BRIDGE="1", WEBKIT_SKIA_ENABLE_CPU_RENDERING="1", LC_ALL="C.UTF-8")
        panel = Path(environment["XDG_CONFIG_HOME"], "xfce4/xfconf/xfce-perchannel-xml")
        panel.mkdir(parents=True)
        (panel / "xfce4-panel.xml").write_bytes((HERE / "xfce4-panel.xml").read_bytes())
        command = ["dbus-run-session", "--", sys.executable, __file__, INSIDE, str(folder), *arguments]
        return subprocess.run(command, env=environment | display).returncode


def inside(folder: Path, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--screenshots", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    # Here and not above: what they import needs nothing, but only an inside has a display.
    import scenes
    import screenshots
    from samovar import Setup

    setup = Setup(options.bin.resolve(), options.model.resolve(), folder)
    if options.screenshots:
        return screenshots.take(setup, options.screenshots, options.names)
    return scenes.run(setup, options.names)


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        sys.exit(inside(Path(sys.argv[2]), sys.argv[3:]))
    sys.exit(outside(sys.argv[1:]))
