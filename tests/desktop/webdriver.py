"""A small WebDriver client for the app's own web view."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from samovar import HANG_GUARD, App, Setup, eventually, needs

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

# The driver starts the program it drives, and says neither its id nor how it ended.
WRAPPER = """#!/bin/sh
"$SAMOVAR_UNDER_TEST" >"$SAMOVAR_DATA_DIR/stdout" 2>"$SAMOVAR_DATA_DIR/stderr" &
echo $! >"$SAMOVAR_DATA_DIR/pid"
wait $!
echo $? >"$SAMOVAR_DATA_DIR/exit"
"""


class DrivenApp(App):
    """The app with a driver at its window. The window must open for the session to begin."""

    def __init__(self, setup: Setup, **settings):
        super().__init__(setup, **settings)
        self.environment.update(TAURI_WEBVIEW_AUTOMATION="true", SAMOVAR_UNDER_TEST=str(setup.binary))
        self.session = None

    def __enter__(self):
        wrapper = self.data / "start.sh"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o700)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.driver_port = free.getsockname()[1]
        self.process = subprocess.Popen([needs("WebKitWebDriver"), f"--port={self.driver_port}"], env=self.environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("the driver answers", self._answers)
        return self

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/status"))
        except OSError:
            return False

    def begin(self, open_window=None) -> None:
        """Start the app, have its window opened if it does not open by itself, and take hold of that."""
        with ThreadPoolExecutor(1) as driver:
            session = driver.submit(self._begin)
            if open_window:
                open_window()
            self.session = "/session/" + session.result()["sessionId"]

    def _begin(self):
        options = {"webkitgtk:browserOptions": {"binary": str(self.data / "start.sh"), "args": []}}
        body = {"capabilities": {"alwaysMatch": options, "firstMatch": [{}]}}
        return self._ask("POST", "/session", body)

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

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def text_of(self, css: str) -> str:
        """Of the first that is there; empty when none is."""
        return self.run(f"return document.querySelector({css!r})?.innerText ?? ''")

    def run(self, script: str):
        return self._ask("POST", self.session + "/execute/sync", {"script": script, "args": []})

    def run_async(self, script: str):
        """A script that calls its last argument when it is done."""
        return self._ask("POST", self.session + "/execute/async", {"script": script, "args": []})

    def quit(self) -> None:
        """End whatever still runs."""
        for point in ("load_half", "step"):
            if (self.folder / f"{point}.hold").exists():
                self.release(point)
        self.request("POST", "/admin/stop", {"timeout_s": 0})
        self.wait_for_exit()

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def wait_for_text(self, part: str) -> str:
        try:
            return eventually(f"the page says {part}", lambda: part in (text := self.text()) and text)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says:\n{self.text()}") from None
