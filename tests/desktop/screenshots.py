"""Pictures of the real window in every state, light and dark."""

import subprocess
from pathlib import Path

import screen
from samovar import Answer, Setup, eventually
from screen import Tray
from webdriver import DrivenApp

THEMES = {"light": "Adwaita", "dark": "Adwaita:dark"}


def loading(app: DrivenApp) -> None:
    app.wait_until_held("load_half")
    app.wait_for_text("Loading")


def ready(app: DrivenApp) -> None:
    # What the starter model answers rightly with temperature 0, at which the app runs here.
    app.wait_until_ready()
    for n, words in enumerate(("List the seven days of the week.", "List the months of the year."), 1):
        app.type("textarea", f"{words}\ue007")
        eventually("it is answered", lambda: app.text().count("tok/s") == n and "Ready" in app.text_of(".state"))


def busy(app: DrivenApp) -> None:
    """Three long answers beside the window's own, and what they take."""
    ready(app)
    for agent in ("research", "notes", "mail"):
        Answer(app, f"Write a long story about {agent}.", 4000, agent).wait_until_it_writes()
    app.click(".strip")
    eventually("the pool fills", lambda: app.status()["pool"]["utilization"] > 60)
    hold(app)
    # The next look at the server has the numbers of the held step.
    app.wait_for_text("Up for")


def draining(app: DrivenApp) -> None:
    app.wait_until_ready()
    app.type("textarea", "Write a story about a cat that likes tea.\ue007")
    answer = Answer(app, "Tell me a long story about tea.", 4000)
    answer.wait_until_it_writes()
    eventually("some of it is there", lambda: len(app.text_of(".text")) > 300)
    hold(app)
    Tray(app.pid).choose("Quit Samovar")
    Tray(app.pid).wait_for("Finishing")
    app.wait_for_text("Quit Now")


def failed(app: DrivenApp) -> None:
    app.wait_for_text("Retry")


# Each with what the app is started with.
STATES = {
    "loading": (loading, {"held_at": "load_half"}),
    "ready": (ready, {}),
    "busy": (busy, {"kv_pool": "256MiB"}),
    "draining": (draining, {"drain_timeout": 30}),
    "failed": (failed, {"model": "/nonexistent/model.gguf"}),
}


def hold(app: DrivenApp) -> None:
    app.hold("step")
    app.wait_until_held("step")


def take(setup: Setup, folder: Path, names: list[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with screen.window_manager(), screen.tray_host():
        for state, (scene, settings) in STATES.items():
            if names and state not in names:
                continue
            for theme, name in THEMES.items():
                with DrivenApp(setup, theme=name, scale=2, **settings) as app:
                    app.begin(lambda: Tray(app.pid).choose("Open Chat"))
                    app.wait_until_listening()
                    scene(app)
                    picture(app, folder / f"{state}-{theme}.png")
                    app.quit()
                print(f"desktop: {state}, {theme}", flush=True)
    return 0


def picture(app: DrivenApp, path: Path) -> None:
    # Two frames, so that what was said last is drawn.
    app.run_async("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(1)))")
    window = screen.wait_for_window(app.pid)
    subprocess.run(["import", "-window", window, "-strip", "-define", "png:compression-level=9", f"png24:{path}"], check=True)
