"""A small WebDriver client for the app's own web view."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from samovar import HANG_GUARD, App, Setup, eventually, needs

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

# The driver starts the program it drives, and says neither its id nor how it ended.
WRAPPER = """#!/bin/sh
"$SAMOVAR_UNDER_TEST" >"$SAMOVAR_DATA_DIR/stdout" 2>"$SAMOVAR_DATA_DIR/stderr" &
echo $! >"$SAMOVAR_DATA_DIR/pid"
wait $!
echo $? >"$SAMOVAR_DATA_DIR/exit"
"""


class Page:
    """A page of the web view, with a driver at it."""

    session = None

    def drive(self, environment: dict) -> subprocess.Popen:
        """Start a driver, which ends with whoever is given its process."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.driver_port = free.getsockname()[1]
        process = subprocess.Popen([needs("WebKitWebDriver"), f"--port={self.driver_port}"], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("the driver answers", self._answers)
        return process

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/status"))
        except OSError:
            return False

    def new_session(self, binary: str, arguments: list[str]) -> str:
        options = {"webkitgtk:browserOptions": {"binary": binary, "args": arguments}}
        body = {"capabilities": {"alwaysMatch": options, "firstMatch": [{}]}}
        return "/session/" + self._ask("POST", "/session", body)["sessionId"]

    def _ask(self, method: str, path: str, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.driver_port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=HANG_GUARD) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None

    def find(self, what: str, using: str = "css selector") -> str:
        def look():
            found = self._ask("POST", self.session + "/elements", {"using": using, "value": what})
            return found[0][ELEMENT] if found else None

        return eventually(f"the page has {what}", look)

    def type(self, css: str, text: str) -> None:
        self._ask("POST", f"{self.session}/element/{self.find(css)}/value", {"text": text})

    def click(self, css: str) -> None:
        self._ask("POST", f"{self.session}/element/{self.find(css)}/click", {})

    def press(self, name: str) -> None:
        """Click the button of that name."""
        button = self.find(f"//button[normalize-space()='{name}' or @aria-label='{name}']", "xpath")
        self._ask("POST", f"{self.session}/element/{button}/click", {})

    def choose(self, item: str) -> None:
        """An item of the page's menu, whose key stands behind its name."""
        self.press("Menu")
        button = self.find(f"//button[@role='menuitem'][starts-with(normalize-space(), '{item}')]", "xpath")
        self._ask("POST", f"{self.session}/element/{button}/click", {})

    def text_of(self, css: str) -> str:
        """Of the first that is there; empty when none is."""
        return self.run(f"return document.querySelector({css!r})?.innerText ?? ''")

    def run(self, script: str):
        return self._ask("POST", self.session + "/execute/sync", {"script": script, "args": []})

    def run_async(self, script: str):
        """A script that calls its last argument when it is done."""
        return self._ask("POST", self.session + "/execute/async", {"script": script, "args": []})

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def wait_for_text(self, part: str) -> str:
        try:
            return eventually(f"the page says {part}", lambda: part in (text := self.text()) and text)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says:\n{self.text()}") from None


class DrivenApp(Page, App):
    """The app with a driver at its window. The window must open for the session to begin."""

    def __init__(self, setup: Setup, **settings):
        super().__init__(setup, **settings)
        self.environment.update(TAURI_WEBVIEW_AUTOMATION="true", SAMOVAR_UNDER_TEST=str(setup.binary))

    def __enter__(self):
        wrapper = self.data / "start.sh"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o700)
        # What an earlier start in the same folder has said is not this one's.
        for said in ("pid", "exit", "stdout", "stderr"):
            (self.data / said).unlink(missing_ok=True)
        self.process = self.drive(self.environment)
        return self

    def begin(self, open_window=None) -> None:
        """Start the app, have its window opened if it does not open by itself, and take hold of that."""
        with ThreadPoolExecutor(1) as driver:
            session = driver.submit(self.new_session, str(self.data / "start.sh"), [])
            if open_window:
                open_window()
            self.session = session.result()

    @property
    def pid(self) -> int:
        return int(eventually("the app has a process", lambda: self._said("pid")))

    def _said(self, name: str) -> str:
        path = self.data / name
        return path.read_text().strip() if path.exists() else ""

    def wait_for_exit(self) -> int:
        return int(eventually("the app ends", lambda: self._said("exit")))

    def __exit__(self, kind, *rest):
        if not self._said("exit") and self._said("pid"):
            subprocess.run(["kill", "-KILL", self._said("pid")], check=False)
        super().__exit__(kind, *rest)

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)


class Browser(Page):
    """WebKit's own small browser, with tabs."""

    def __init__(self, address: str):
        self.address = address

    def __enter__(self):
        self.process = self.drive(dict(os.environ))
        try:
            self.session = self.new_session(str(mini_browser()), ["--automation"])
            self._ask("POST", self.session + "/url", {"url": self.address})
            self.tabs = [self._ask("GET", self.session + "/window")]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.session:
                self._ask("DELETE", self.session)
        finally:
            self.process.kill()
            self.process.wait()

    def open_tab(self) -> None:
        """One more, and go there."""
        self.tabs.append(self._ask("POST", self.session + "/window/new", {"type": "tab"})["handle"])
        self.go_to(len(self.tabs) - 1)
        self._ask("POST", self.session + "/url", {"url": self.address})

    def go_to(self, tab: int) -> None:
        self._ask("POST", self.session + "/window", {"handle": self.tabs[tab]})


def mini_browser() -> Path:
    found = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"))
    assert found, "WebKit's MiniBrowser is missing: it comes with libwebkit2gtk-4.1-0"
    return found[0]
