"""Sends a whole server in front of a scripted engine what its own description allows, and what it does not.

    python tests/api/run.py --server path/to/scripted_server [--cases 5000] [--seed N]

Needs the packages of tests/api/requirements.txt. Every answer is held to checks.py, to the statuses and types that
are described, and after all of it the server must be there, idle and ready. Then the same, shorter, while the model
is loading and while the server has all that it takes: who is sent away is told when to come back. Left out are the
routes that end the server or never end themselves. Exits with 0 only when at least `--cases` were sent, every call
that generates was answered and sent away, and nothing was found.
"""

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKS = ["says_when_to_come_back", "is_as_described", "status_code_conformance", "content_type_conformance"]
# They stop the engine; events go on as long as somebody listens.
LEFT_OUT = "^/admin/(stop|drain|events)$"
# Calls of every dialect. Each must have been answered in the end, or what was sent was not worth much.
GENERATES = [
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate",
]  # fmt: skip
EMBEDS = ["/v1/embeddings", "/api/embed"]
NOT_NOW = {"429", "503", "529"}
# Per operation and round: what is sent besides is as much as the description gives.
EXAMPLES, FEW_EXAMPLES = 60, 10
# Never what is measured: only so that a hang ends.
HANG_S = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="the example scripted_server of the package server")
    parser.add_argument("--cases", type=int, default=5000, help="how many are sent at least")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="makes a run again")
    arguments = parser.parse_args()
    passed = [answers_all(arguments), turns_away(arguments, "loading"), turns_away(arguments, "busy")]
    return 0 if all(passed) else 1


def answers_all(arguments: argparse.Namespace) -> bool:
    """Whether so many cases find nothing, and leave a server that is idle."""
    with started(arguments.server) as (server, address):
        n_sent, seed = 0, arguments.seed
        while n_sent < arguments.cases:
            n_cases, is_clean = sent(address, seed, EXAMPLES, ["--exclude-path-regex", LEFT_OUT])
            n_sent += n_cases
            print(f"seed {seed}: {n_cases} cases, {n_sent} in all", flush=True)
            if not is_clean or n_cases == 0:
                return False
            seed += 1
        answered = {path: statuses.get("200", 0) for path, statuses in told(address).items()}
        unanswered = [path for path in GENERATES + EMBEDS if not answered.get(path)]
        print("answered:", ", ".join(f"{path} {answered.get(path, 0)}" for path in GENERATES + EMBEDS))
        return not unanswered and server.poll() is None and is_idle(address)


def turns_away(arguments: argparse.Namespace, mode: str) -> bool:
    """Whether a server that can do nothing now says so to every call, as it is described, and goes on."""
    with started(arguments.server, mode) as (server, address), contextlib.ExitStack() as first:
        if mode == "busy":
            until_ready(address)
            # The one call that it takes; its answer never comes.
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"content-type": "application/json"})
            first.enter_context(urllib.request.urlopen(request, timeout=HANG_S))
        n_cases, is_clean = sent(address, arguments.seed, FEW_EXAMPLES, ["--include-path-regex", f"^({'|'.join(GENERATES)})$"])
        statuses = told(address)
        sent_away = {path: sum(n for status, n in of.items() if status in NOT_NOW) for path, of in statuses.items()}
        never = [path for path in GENERATES if not sent_away.get(path)]
        print(f"{mode}: {n_cases} cases; sent away:", ", ".join(f"{path} {sent_away.get(path, 0)}" for path in GENERATES))
        return is_clean and not never and server.poll() is None


def told(address: str) -> dict[str, dict[str, int]]:
    """How many responses of each status each route had, as the metrics count them."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    counts: dict[str, dict[str, int]] = {}
    for line in lines:
        if found := re.fullmatch(r'samovar_http_requests_total{method="POST",route="(.*)",status="(.*)"} (\d+)', line):
            route, status, n = found.groups()
            counts.setdefault(route, {})[status] = int(n)
    return counts


@contextlib.contextmanager
def started(binary: str, *mode: str):
    """The server and its address; it ends with its standard input, whatever becomes of us."""
    server = subprocess.Popen([binary, *mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield server, server.stdout.readline().strip().removeprefix("listening on ")
    finally:
        server.stdin.close()
        server.wait(HANG_S)


def sent(address: str, seed: int, n_examples: int, which: list[str]) -> tuple[int, bool]:
    """How many cases a round sent, and whether nothing was found."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
        command += ["--phases", "coverage,fuzzing", "--max-examples", str(n_examples), "--seed", str(seed)]
        command += ["--checks", ",".join(CHECKS), *which]
        command += ["--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
        command += ["--report", "json", "--report-json-path", str(report)]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "checks", "PYTHONPATH": str(HERE)}
        run = subprocess.run(command, cwd=folder, env=environment, timeout=HANG_S, capture_output=True, text=True)
        if run.returncode != 0:
            print(run.stdout, run.stderr, sep="\n")
        return json.loads(report.read_text())["test_cases"]["generated"], run.returncode == 0


def until_ready(address: str) -> None:
    """Wait for the model."""
    for _ in range(HANG_S * 20):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{address}/health/ready") as response:
            if response.status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the model does not become ready")


def is_idle(address: str) -> bool:
    """Whether nothing is left of what was sent, once what was given up has ended: that takes a step."""
    for _ in range(100):
        with urllib.request.urlopen(f"{address}/admin/status", timeout=60) as response:
            status = json.load(response)
        blocks = status["pool"]["blocks"]
        if status["ready"] and not status["active"] and blocks["held"] == 0:
            print("the server is ready and idle")
            return True
        time.sleep(0.1)
    print(f"the server is not idle: {json.dumps(status)}")
    return False


if __name__ == "__main__":
    sys.exit(main())
