"""What the official clients' scripts have in common: waiting for the server, running checks, and parking it."""

import contextlib
import json
import time
import urllib.error
import urllib.request


def ask(base_url: str, path: str, method: str = "GET") -> dict:
    """A request of this script's own, to routes that no official client has."""
    body = b"{}" if method == "POST" else None
    headers = {"content-type": "application/json"} if body else {}
    request = urllib.request.Request(base_url.rstrip("/") + path, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=180) as response:
        return json.load(response)


def wait_until_started(base_url: str) -> str:
    """Waits for the model, and returns its id."""
    deadline = time.monotonic() + 180
    while True:
        try:
            ask(base_url, "/health/ready")
            return ask(base_url, "/v1/models")["data"][0]["id"]
        except (urllib.error.URLError, IndexError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def parked(base_url: str):
    """The server takes nothing within."""
    ask(base_url, "/admin/drain", "POST")
    try:
        yield
    finally:
        ask(base_url, "/admin/resume", "POST")


class raises:
    """That what is within raises an error of a class, which is kept."""

    def __init__(self, wanted: type[Exception]):
        self.wanted = wanted
        self.error = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert kind is not None, f"no {self.wanted.__name__} was raised"
        self.error = error
        return issubclass(kind, self.wanted)


def run(client, model: str, checks: list) -> int:
    """Runs every check, each of which says its own; the exit code."""
    failed = 0
    for check in checks:
        try:
            check(client, model)
            print(f"ok      {check.__name__}")
        except Exception as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {error!r}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0
