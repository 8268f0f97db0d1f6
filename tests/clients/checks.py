"""What the clients' scripts have in common: the servers, a chat and a tool to try, refusals that end, and running checks.

A script is started as `SCRIPT.py STARTER SCRIPTED ENCODER`, the addresses of three servers: of a small chat model, of
the model of scripted_model.py, and of an encoder. run.py does that.
"""

import contextlib
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

# No answer takes that long, on a busy machine and in a debug build either: what does is a hang.
HANG_S = 180
# What is said in the scripts, those for Node among them.
WORDS = json.loads(Path(__file__).with_name("words.json").read_text())
# A model as small as the starter model needs to be told what it is, or it answers in a French of its own.
SYSTEM, QUESTION = WORDS["system"], WORDS["question"]
CAPITAL = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
# What the scripted model answers with a story that has no end.
LONG = WORDS["long"]
# The tool of every script, which the scripted model calls; it then says what it was told.
TOOL, TOOL_SAYS, SCRIPTED_TOLD = WORDS["tool"], WORDS["tool_says"], WORDS["scripted_told"]
WEATHER_QUESTION = WORDS["weather_question"]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def address(place: int) -> str:
    return sys.argv[place].rstrip("/")


def ask(base_url: str, path: str, method: str = "GET", body: dict | None = None) -> dict:
    """A request of this script's own, to routes that no client has."""
    data = json.dumps(body or {}).encode() if method == "POST" else None
    headers = {"content-type": "application/json"} if data else {}
    request = urllib.request.Request(base_url.rstrip("/") + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=HANG_S) as response:
        return json.load(response)


def until(what: str, happened):
    """What `happened` returns, as soon as that is true."""
    deadline = time.monotonic() + HANG_S
    while not (result := happened()):
        assert time.monotonic() < deadline, f"it never came that {what}"
        time.sleep(0.02)
    return result


def wait_until_started(base_url: str) -> str:
    """Waits for the model, and returns its id."""

    def id_of_ready():
        try:
            ask(base_url, "/health/ready")
            return ask(base_url, "/v1/models")["data"][0]["id"]
        except (urllib.error.HTTPError, IndexError):
            return None

    return until("the model is ready", id_of_ready)


def scripted(client_of) -> tuple:
    """A client of the model that plays a part, and its id."""
    base_url = address(2)
    return client_of(base_url), wait_until_started(base_url)


def n_refused(base_url: str, statuses: tuple[str, ...]) -> float:
    """How many POSTs were answered with one of these."""
    with urllib.request.urlopen(base_url + "/metrics", timeout=HANG_S) as response:
        lines = response.read().decode().splitlines()
    of_posts = [line for line in lines if line.startswith('samovar_http_requests_total{method="POST"')]
    wanted = [f'status="{status}"' for status in statuses]
    return sum(float(line.rsplit(" ", 1)[1]) for line in of_posts if any(status in line for status in wanted))


def open_long_answer(base_url: str):
    """An answer that goes on until its response is closed."""
    messages = [{"role": "user", "content": LONG}]
    # Until the context is full: agents take long to begin, on a busy machine.
    body = {"messages": messages, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(
        base_url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    response = urllib.request.urlopen(request, timeout=HANG_S)
    response.readline()
    return response


def is_idle(base_url: str) -> bool:
    status = ask(base_url, "/admin/status")
    return status["running"] == status["waiting"] == 0 and not status["active"]


def is_writing(base_url: str) -> bool:
    return any(request["generated_tokens"] for request in ask(base_url, "/admin/status")["active"])


@contextlib.contextmanager
def _until_refused(base_url: str, statuses: tuple[str, ...], relieve):
    """Relieves the server as soon as one more request was refused, and it must be one."""
    before = n_refused(base_url, statuses)
    leave = threading.Event()

    def watch():
        while not leave.is_set() and n_refused(base_url, statuses) == before:
            time.sleep(0.02)
        relieve()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        leave.set()
        thread.join()
        until("the server is idle", lambda: is_idle(base_url))
    assert n_refused(base_url, statuses) > before, "nothing was refused"


@contextlib.contextmanager
def draining_until_refused(base_url: str, timeout_s: int = 2):
    """The server drains, and takes requests again as soon as it has refused one (503, and 529 in Anthropic's API).

    What is left of `timeout_s` is what clients are told to wait; once it is over the server is parked, and that is longer.
    """
    answer = open_long_answer(base_url)

    def relieve():
        answer.close()
        ask(base_url, "/admin/resume", "POST")

    ask(base_url, "/admin/drain?wait=false", "POST", {"timeout_s": timeout_s})
    with _until_refused(base_url, ("503", "529"), relieve):
        yield


@contextlib.contextmanager
def full_until_refused(base_url: str):
    """The server has as many requests as it takes, until it has refused one (429, and 529 in Anthropic's API)."""
    answers = []
    try:
        while True:
            answers.append(open_long_answer(base_url))
    except urllib.error.HTTPError as error:
        assert error.code == 429, error
    with _until_refused(base_url, ("429", "529"), lambda: [answer.close() for answer in answers]):
        yield


@contextlib.contextmanager
def cancelled(base_url: str):
    """An answer that is left within must have been cancelled, and the server be idle."""
    count = lambda: ask(base_url, "/admin/status")["totals"]["cancelled"]
    before = count()
    yield
    until("the server is idle", lambda: is_idle(base_url))
    assert count() > before, "the answer went on to its end"


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


def main(client_of, checks: list, place: int = 1) -> None:
    """Runs every check with a client of the server that is named at `place`, and the model's id; exits with 1 if one
    failed. Each says its own."""
    base_url = address(place)
    model = wait_until_started(base_url)
    client = client_of(base_url)
    failed = 0
    for check in checks:
        began = time.monotonic()
        try:
            check(client, model)
            print(f"ok      {check.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {error!r}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
