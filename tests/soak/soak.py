"""A mixed load with disconnects, drains and resumes against the real server, for as long as asked.

Every request that is sent is accounted for: a whole answer, an explicit refusal, an explicit interruption, or a
disconnect of our own. Memory stays within the KV pool, the weights and a stated rest. At the end blocks and permits must
be back, what is allocated must stay over rounds of requests that are always the same, and a signal must let the last answer
finish. What is measured is measured by work, so a slow machine takes longer and comes to the same result.
Only the Python standard library is needed. It reads memory from /proc, so it runs on Linux.
"""

import argparse
import collections
import http.client
import itertools
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from server import HANG_S, Server  # noqa: E402 (found beside this folder, not in a package)

N_CLIENTS = 10
MAX_REQUESTS = 12
# What a server may keep in memory beside the KV pool and the weights: 64 MB of blocks on their way to the disk, which
# is that queue's bound, and 96 MB of vocabulary and template, buffers of the forward pass and of sampling, what
# answers are remembered by, threads, and the allocator's slack.
REST_MB = 160
# Requests of a round; every round sends the same ones. After the first round the prefix index, what answers are
# remembered by, the answers' beginnings, the metrics' series and the store have all that they will ever have of them; a
# round brings more records of requests than the 200 that are kept, and by the end of the load before the agents, the
# buffers of the forward pass and those for blocks on their way to the disk are what they stay. What is left to grow is
# what no bound holds. Time adds only the history of five minutes, some 20 KB in all.
N_ROUND = 400
# The server says what it has allocated, which the rounds before them have brought to rest. Between two of these rounds it
# differs by what threads put by for themselves, up to some hundred kilobytes and both up and down; so it is judged by the
# slope over several. As long as it is too steep there are more rounds, of which the last ones count, up to a number that
# a leak never comes to an end of.
N_JUDGED = 6
MAX_ROUNDS = 16
LEAK_KB = 0.3
SYSTEM = "You are a careful assistant who answers in short sentences. " * 12
WORDS = "river copper lantern orchard signal harbour ribbon winter engine meadow thunder paper".split()


# What a load must have had. On a slow machine it lasts until it has, without drains towards its end.
NEEDED = ("whole answer", "whole stream", "left during the answer")


class Accounts:
    def __init__(self) -> None:
        # Guards all below between the clients' threads.
        self.lock = threading.Lock()
        self.n_sent = 0
        self.drains: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def sent(self) -> None:
        with self.lock:
            self.n_sent += 1

    def note(self, outcome: str) -> None:
        with self.lock:
            self.outcomes[outcome] += 1

    def complain(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)

    def has_all(self) -> bool:
        with self.lock:
            return all(self.outcomes[what] > 0 for what in NEEDED)

    def drained(self, how: str) -> None:
        with self.lock:
            self.drains[how] += 1

    def fail(self, what: str) -> None:
        """A request did not end as it may: that is its outcome."""
        self.note("wrong")
        self.complain(what)


def sentence(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def body_for(rng: random.Random, kind: str, history: list[dict]) -> tuple[str, dict]:
    if kind == "completion":
        return "/v1/completions", {"prompt": sentence(rng, 20), "max_tokens": rng.randint(1, 40)}
    if kind == "long":
        messages = [{"role": "user", "content": sentence(rng, rng.randint(300, 900))}]
    elif kind == "shared":
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": sentence(rng, 8)}]
    else:
        history.append({"role": "user", "content": sentence(rng, 10)})
        messages = list(history)
    body = {"messages": messages, "max_tokens": rng.randint(1, 60), "temperature": rng.choice([0, 0.8])}
    if rng.random() < 0.3:
        body["stop"] = [rng.choice(WORDS), "\n\n"]
    return "/v1/chat/completions", body


def one_request(server: Server, accounts: Accounts, rng: random.Random, history: list[dict]) -> None:
    accounts.sent()
    kind = rng.choice(["turn", "turn", "shared", "completion", "long", "bad"])
    if kind == "bad":
        status, _, answer = server.ask("POST", "/v1/chat/completions", {"messages": [], "max_tokens": 0})
        if status not in (400, 503) or "error" not in answer:
            accounts.fail(f"a bad request got {status} {answer}")
        else:
            accounts.note(f"bad request refused ({status})")
        return
    path, body = body_for(rng, kind, history)
    stream = rng.random() < 0.7
    leave_after = rng.choice([None, None, 0, 1, 5]) if stream else None
    body["stream"] = stream
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HANG_S)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        if leave_after == 0:
            time.sleep(rng.random() * 0.3)
            accounts.note("left before the answer")
            return
        response = connection.getresponse()
        if response.status in (429, 503):
            answer = json.loads(response.read())
            if response.headers.get("Retry-After") is None or "error" not in answer:
                accounts.fail(f"a {response.status} without Retry-After or error: {answer}")
                return
            accounts.note(f"refused ({response.status}, {answer['error'].get('code')})")
            return
        if response.status != 200:
            accounts.fail(f"{path} got {response.status}: {response.read()[:300]!r}")
            return
        if not stream:
            answer = json.loads(response.read())
            choice = answer["choices"][0]
            if choice.get("finish_reason") not in ("stop", "length"):
                accounts.fail(f"an answer without an end: {choice}")
                return
            if kind == "turn":
                history.append(choice["message"])
            accounts.note("whole answer")
            return
        read_stream(response, accounts, kind, leave_after, history)
    except TimeoutError:
        accounts.fail(f"a {kind} request hung for {HANG_S} s")
    except (ConnectionError, http.client.HTTPException) as error:
        accounts.fail(f"a {kind} request broke: {error!r}")
    finally:
        connection.close()


def read_stream(response, accounts: Accounts, kind: str, leave_after, history: list[dict]) -> None:
    text, finish, error, n_frames = "", None, None, 0
    for raw in response:
        line = raw.decode().rstrip("\n")
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            break
        n_frames += 1
        if leave_after is not None and n_frames > leave_after:
            accounts.note("left during the answer")
            return
        frame = json.loads(line[6:])
        if "error" in frame:
            error = frame["error"]
            continue
        for choice in frame.get("choices", []):
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    if error is not None:
        accounts.note(f"interrupted ({error.get('code') or error.get('type')})")
    elif finish in ("stop", "length"):
        if kind == "turn":
            history.append({"role": "assistant", "content": text})
        accounts.note("whole stream")
    else:
        accounts.fail(f"a {kind} stream ended without a finish or an error")


def client(server: Server, accounts: Accounts, seed: int, over: threading.Event) -> None:
    rng = random.Random(seed)
    history: list[dict] = []
    while not over.is_set():
        if len(history) > 8 or rng.random() < 0.05:
            history.clear()
        while history and history[-1]["role"] == "user":
            history.pop()
        try:
            one_request(server, accounts, rng, history)
        except Exception as error:  # a client that dies would hide what it saw
            accounts.fail(f"client {seed}: {error!r}")
        time.sleep(rng.random() * 0.2)


def drains(server: Server, accounts: Accounts, seed: int, until: float) -> None:
    rng = random.Random(seed)
    while time.monotonic() + 15 < until:
        time.sleep(rng.uniform(6, 12))
        try:
            resumed_early(server, accounts) if rng.random() < 0.3 else drain_and_resume(server, accounts, rng)
        except Exception as error:  # a thread that dies would end the drains unseen
            accounts.complain(f"a drain: {error!r}")


def drain_and_resume(server: Server, accounts: Accounts, rng: random.Random) -> None:
    status, _, report = server.ask("POST", "/admin/drain", {"timeout_s": rng.choice([0.2, 2, 30])})
    if status != 200:
        accounts.complain(f"a drain got {status}: {report}")
    if server.status()["state"] != "parked":
        accounts.complain(f"drained and not parked: {server.status()['state']}")
    status, _, answer = server.ask("POST", "/admin/resume", {})
    if status != 200:
        accounts.complain(f"a resume got {status}: {answer}")
    accounts.drained("drain and resume")


def resumed_early(server: Server, accounts: Accounts) -> None:
    """Resume as soon as a drain is seen: what ran goes on, and whoever asked for the drain is told."""
    answers: list[int] = []
    drain = threading.Thread(target=lambda: answers.append(server.ask("POST", "/admin/drain", {"timeout_s": 60})[0]))
    drain.start()
    while server.status()["state"] not in ("draining", "parked"):
        time.sleep(0.01)
    status, _, answer = server.ask("POST", "/admin/resume", {})
    drain.join(HANG_S)
    if status != 200 or len(answers) != 1:
        accounts.complain(f"a resume while draining got {status} {answer}, the drain {answers}")
    accounts.drained("resume while draining")


def samples(server: Server, accounts: Accounts, until: float) -> list[tuple[float, float, dict]]:
    """Look at memory and pool, as long as the load lasts."""
    series = []
    start = time.monotonic()
    while time.monotonic() < until or not accounts.has_all():
        if time.monotonic() > until + HANG_S:
            missing = [what for what in NEEDED if accounts.outcomes[what] == 0]
            accounts.complain(f"the load had no {' and no '.join(missing)}")
            break
        pool = server.status()["pool"]["blocks"]
        if pool["free"] + pool["held"] + pool["cached"] != pool["total"]:
            accounts.complain(f"blocks do not add up: {pool}")
        series.append((time.monotonic() - start, server.resident_mb(), pool))
        time.sleep(1)
    return series


def check_bound(series: list[tuple[float, float, dict]], most_mb: float, accounts: Accounts) -> str:
    peak = max(mb for _, mb, _ in series)
    if peak > most_mb:
        accounts.complain(f"{peak:.0f} MB resident, where pool, weights and {REST_MB} MB are {most_mb:.0f}")
    return f"resident: {peak:.0f} of {most_mb:.0f} MB at most"


def one_round(server: Server, accounts: Accounts) -> None:
    """The same requests as in every round: whole and streamed answers, refusals and looks at the state."""
    todo = iter(range(N_ROUND))
    # Guards the iterator between the threads.
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                i = next(todo, None)
            if i is None:
                return
            body = {"prompt": f"Item {i % 8}:", "max_tokens": 2, "temperature": 0, "stream": i % 4 == 0}
            if i % 4 == 1:
                body["temperature"] = -1
            method, path = ("GET", "/admin/status") if i % 4 == 2 else ("POST", "/v1/completions")
            connection = server.connect()
            try:
                headers = {"Content-Type": "application/json"}
                connection.request(method, path, json.dumps(body) if method == "POST" else None, headers)
                response = connection.getresponse()
                response.read()
                if response.status != (400 if i % 4 == 1 else 200):
                    accounts.complain(f"request {i} of a round got {response.status}")
            except Exception as error:  # a thread that dies would hide what it saw
                accounts.complain(f"request {i} of a round: {error!r}")
            finally:
                connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check_growth(server: Server, accounts: Accounts) -> str:
    """Rounds of the same requests, until those before have filled all that has a bound."""
    after: list[float] = []
    while len(after) < MAX_ROUNDS and not accounts.wrong:
        one_round(server, accounts)
        wait_until_idle(server, accounts)
        after.append(server.metric("samovar_allocated_bytes") / 1024)
        if len(after) > N_JUDGED:
            kb = slope(after[-1 - N_JUDGED :]) / N_ROUND
            if kb < LEAK_KB:
                return f"{kb:+.3f} KB allocated a request over the last of {len(after)} rounds of {N_ROUND}"
    if len(after) < MAX_ROUNDS:
        return "growth not measured"
    accounts.complain(f"memory grows with every request; KB allocated after each round: {[round(kb) for kb in after]}")
    return "more allocated with every request"


def slope(values: list[float]) -> float:
    """How much a value grows from one to the next: the median over all pairs, which no single odd one can move."""
    pairs = itertools.combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs)


def wait_until_idle(server: Server, accounts: Accounts) -> None:
    """Wait until nothing runs and no block is held."""
    limit = time.monotonic() + HANG_S
    while True:
        status = server.status()
        # Blocks on their way to the disk are held until they are there.
        if status["running"] == 0 and status["waiting"] == 0 and status["pool"]["blocks"]["held"] == 0:
            break
        if time.monotonic() > limit:
            accounts.complain(f"still busy, or blocks still held, {HANG_S} s after the last request: {status}")
            return
        time.sleep(0.1)


def check_permits(server: Server, accounts: Accounts) -> None:
    """As many requests at once as there are permits: one that was not given back would be missed."""
    wait_until_idle(server, accounts)
    results: list[int] = []
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
    threads = [
        threading.Thread(target=lambda: results.append(server.ask("POST", "/v1/chat/completions", body)[0]))
        for _ in range(MAX_REQUESTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if results != [200] * MAX_REQUESTS:
        accounts.complain(f"permits are missing: {MAX_REQUESTS} requests at once got {sorted(results)}")


def quit_while_answering(server: Server, accounts: Accounts) -> None:
    """A signal in the middle of an answer: it comes whole, and the exit code says so."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HANG_S)
    body = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.readline()
    server.process.send_signal(signal.SIGTERM)
    if b"[DONE]" not in response.read():
        accounts.complain("the signal cut an answer")
    code = server.process.wait(HANG_S)
    if code != 0:
        accounts.complain(f"exit code {code} after SIGTERM")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kv-pool-mb", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    accounts = Accounts()
    with tempfile.TemporaryDirectory() as data_dir:
        options = ["--kv-pool", f"{args.kv_pool_mb}MiB", "--max-requests", str(MAX_REQUESTS)]
        # A queue and a drain that no slow machine outlasts.
        options += ["--queue-timeout", "600", "--drain-timeout", "600"]
        server = Server(args.bin, args.model, data_dir, options)
        try:
            server.wait_until_ready()
            over = threading.Event()
            until = time.monotonic() + args.minutes * 60
            work = [
                threading.Thread(target=client, args=(server, accounts, args.seed * 100 + i, over), daemon=True)
                for i in range(N_CLIENTS)
            ]
            work.append(threading.Thread(target=drains, args=(server, accounts, args.seed, until), daemon=True))
            for thread in work:
                thread.start()
            series = samples(server, accounts, until)
            over.set()
            for thread in work:
                thread.join(HANG_S + 30)
            if any(thread.is_alive() for thread in work):
                accounts.complain("a client never came back")
            check_permits(server, accounts)
            weights_mb = Path(args.model).stat().st_size / (1 << 20)
            memory = check_bound(series, args.kv_pool_mb + weights_mb + REST_MB, accounts)
            memory += "; " + check_growth(server, accounts)
            totals = server.status()["totals"]
            quit_while_answering(server, accounts)
        finally:
            server.kill()
    n_outcomes = sum(accounts.outcomes.values())
    if n_outcomes != accounts.n_sent:
        accounts.complain(f"{accounts.n_sent} requests were sent and {n_outcomes} are accounted for")
    print(f"{args.minutes:g} minutes, {N_CLIENTS} clients, {accounts.n_sent} requests")
    for outcome, n in (accounts.outcomes + accounts.drains).most_common():
        print(f"  {n:7} {outcome}")
    held = [pool["held"] * 100 / pool["total"] for _, _, pool in series]
    print(f"  {memory}; pool held {min(held):.0f} to {max(held):.0f} %")
    print(f"  totals: {json.dumps(totals)}")
    for what in accounts.wrong[:20]:
        print(f"WRONG {what}")
    print(f"{1 - bool(accounts.wrong)} passed, {int(bool(accounts.wrong))} failed")
    sys.exit(1 if accounts.wrong else 0)


if __name__ == "__main__":
    main()
