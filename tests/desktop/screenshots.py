"""Pictures of the real window in every state, light and dark."""

import subprocess
from pathlib import Path

import screen
from samovar import Answer, Setup, eventually
from screen import Tray
from webdriver import DrivenApp

THEMES = {"light": "Adwaita", "dark": "Adwaita:dark"}
QUESTION = "What is a samovar? Answer in one short paragraph.\ue007"


def loading(app: DrivenApp) -> None:
    app.wait_until_held("load_half")
    app.wait_for_text("Loading")


def ready(app: DrivenApp) -> None:
    ask(app, "What is the capital of France?\ue007")


def busy(app: DrivenApp) -> None:
    """Three long answers beside the window's own."""
    answers = [Answer(app, f"Tell me a long story about {what}.", 4000) for what in ("tea", "the sea", "a bee")]
    for answer in answers:
        answer.wait_until_it_writes()
    app.wait_until_ready()
    app.type("textarea", QUESTION)
    eventually("the pool fills", lambda: app.status()["pool"]["utilization"] > 60)
    hold(app)


def draining(app: DrivenApp) -> None:
    app.wait_until_ready()
    app.type("textarea", QUESTION)
    answer = Answer(app, "Tell me a long story about tea.", 4000)
    answer.wait_until_it_writes()
    hold(app)
    Tray(app.pid).choose("Quit Samovar")
    Tray(app.pid).wait_for("Finishing")
    app.wait_for_text("Quit Now")


def failed(app: DrivenApp) -> None:
    app.wait_for_text("Retry")


STATES = {
    "loading": (loading, {"held_at": "load_half"}),
    "ready": (ready, {}),
    "busy": (busy, {"kv_pool": "48MiB"}),
    "draining": (draining, {"drain_timeout": 30}),
    "failed": (failed, {"model": "/nonexistent/model.gguf"}),
}


def ask(app: DrivenApp, words: str) -> None:
    app.wait_until_ready()
    app.type("textarea", words)
    app.wait_for_text("tok/s")


def hold(app: DrivenApp) -> None:
    app.hold("step")
    app.wait_until_held("step")


def take(setup: Setup, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with screen.window_manager(), screen.tray_host():
        for state, (scene, settings) in STATES.items():
            for theme, name in THEMES.items():
                with DrivenApp(setup, theme=name, **settings) as app:
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
    subprocess.run(["import", "-window", window, "-strip", "-colors", "128", f"png8:{path}"], check=True)
