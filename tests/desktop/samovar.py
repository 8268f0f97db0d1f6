"""The app under test: a process of its own with a data folder of its own, asked over HTTP."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Nothing that these tests wait for takes this long unless it hangs. Never what a test measures.
HANG_GUARD = 180.0


def eventually(what, probe):
    """Look until `probe` finds something true; `what` is said when it never does."""
    start = time.monotonic()
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() - start > HANG_GUARD:
            raise AssertionError(f"never happened: {what}")
        threading.Event().wait(0.02)


@dataclass
class Setup:
    """What every start shares."""

    binary: Path
    model: Path
    folder: Path
    n_started: int = 0

    def data_folder(self) -> Path:
        self.n_started += 1
        data = self.folder / f"data-{self.n_started}"
        (data / "holds").mkdir(parents=True)
        # Not the first run, in which the window opens by itself.
        (data / "answered").touch()
        return data

    def environment(self, data: Path, **settings) -> dict:
        """Settings in lower case, as in `port=0`; None leaves a default alone."""
        values = {"data_dir": data, "port": 0, "model": self.model, "kv_pool": "256MiB", "drain_timeout": 600, "temperature": 0,
                  "hold_dir": data / "holds", **settings}
        named = {f"SAMOVAR_{name.upper()}": str(value) for name, value in values.items() if value is not None}
        return {**os.environ, **named}


class Holds:
    """The hold points of a debug build."""

    def __init__(self, data: Path):
        self.folder = data / "holds"

    def hold(self, point: str) -> None:
        (self.folder / f"{point}.hold").touch()

    def wait_until_held(self, point: str) -> None:
        eventually(f"held at {point}", (self.folder / f"{point}.held").exists)

    def release(self, point: str) -> None:
        (self.folder / f"{point}.hold").unlink()


class App(Holds):
    """A running app. Leaving its `with` block ends it, also when the test has failed."""

    def __init__(self, setup: Setup, data: Path | None = None, held_at: str | None = None, theme: str | None = None,
                 path: Path | None = None, scale: int = 1, **settings):
        self.setup = setup
        self.data = data or setup.data_folder()
        super().__init__(self.data)
        if held_at:
            self.hold(held_at)
        self.environment = setup.environment(self.data, **settings)
        if path:
            self.environment["PATH"] = f"{path}:{os.environ['PATH']}"
        if scale != 1:
            self.environment["GDK_SCALE"] = str(scale)
        if theme:
            self.environment["GTK_THEME"] = theme
        self.port = None

    def __enter__(self):
        self.stdout = open(self.data / "stdout", "wb")
        self.stderr = open(self.data / "stderr", "wb")
        self.process = subprocess.Popen([self.setup.binary], env=self.environment, stdin=subprocess.DEVNULL,
                                        stdout=self.stdout, stderr=self.stderr)
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if kind is not None:
            for said in self.data.glob("std*"):
                print(f"--- the app's {said.name} ---\n{said.read_text(errors='replace')}---")
            for log in sorted((self.data / "logs").glob("*.json")):
                print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:]))

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_listening(self) -> int:
        def line():
            assert self.process.poll() is None, f"the app ended with {self.process.returncode}"
            said = self.data / "stdout"
            lines = said.read_text().splitlines() if said.exists() else []
            return lines[-1] if lines else None

        said = eventually("it says where it listens", line)
        self.port = int(said.rsplit(":", 1)[1])
        return self.port

    def wait_until_ready(self) -> None:
        self.port or self.wait_until_listening()
        eventually("ready", lambda: self.get("/health/ready")[0] == 200)

    def get(self, path: str):
        return self.request("GET", path)

    def request(self, method: str, path: str, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_GUARD)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    def status(self) -> dict:
        return self.get("/admin/status")[1]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait_for_exit(self) -> int:
        return self.process.wait(HANG_GUARD)

    def quit(self) -> None:
        """End whatever still runs."""
        for point in ("load_half", "step"):
            if (self.folder / f"{point}.hold").exists():
                self.release(point)
        self.request("POST", "/admin/stop", {"timeout_s": 0})
        self.wait_for_exit()


class Answer:
    """An answer that streams in the background."""

    def __init__(self, app: App, words: str = "Tell me about tea.", max_tokens: int = 60, agent: str | None = None):
        self.events: list[str] = []
        self.has_ended = threading.Event()
        body = {"messages": [{"role": "user", "content": words}], "stream": True, "max_tokens": max_tokens,
                "temperature": 0, "logit_bias": {}, **({"session_id": agent} if agent else {})}
        self.thread = threading.Thread(target=self._read, args=(app.port, body), daemon=True)
        self.thread.start()

    def _read(self, port: int, body: dict) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_GUARD)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            for line in connection.getresponse():
                line = line.decode().strip()
                if line.startswith(("data: ", "event: ", "{")):
                    self.events.append(line)
        except (OSError, http.client.HTTPException) as error:
            self.events.append(f"broken: {error}")
        finally:
            self.has_ended.set()

    def wait_until_it_writes(self) -> None:
        eventually("the answer has begun", lambda: any('"content":"' in event for event in self.events))

    def wait(self) -> list[str]:
        assert self.has_ended.wait(HANG_GUARD), f"the answer never ended: {self.events[-3:]}"
        return self.events

    def is_complete(self) -> bool:
        return self.wait()[-1] == "data: [DONE]" and any('"finish_reason":"' in event for event in self.events)


def children_of(pid: int) -> dict[int, str]:
    """Every process below `pid`, by id, with its name."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
            parents[int(entry.name)], names[int(entry.name)] = int(rest[1]), name
    below, found = {pid}, {}
    while True:
        more = {child for child, parent in parents.items() if parent in below and child not in below}
        if not more:
            return found
        below |= more
        found.update({child: names[child] for child in more})


def memory_mb(pid: int, line: str) -> float:
    """A line of what the kernel says about a process's memory, in MB: all that is resident, or what no file has."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith(f"{line}:")) / 1000


def needs(program: str) -> str:
    path = shutil.which(program)
    assert path, f"{program} is missing: run src-tauri/dev/setup.sh test"
    return path
