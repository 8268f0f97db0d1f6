"""Tool-using conversations in turn on Samovar and on llama-server: what each reads of the prompts, and how long it takes.

Both get the same requests, whatever they answered: thoughts, calls, results and answers in them are made up here, as noise
writes no calls. Both generate as many tokens. A conversation's turn is a question, some rounds of a tool, and an answer;
the conversations take their turns one after the other, and llama-server has one slot. The parts are its defaults, no
prompt cache in memory, and its defaults with a restart of either server in the middle.
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

# Nothing here takes that long unless it hangs.
HANG_S = 3600
# Words that are one token each, with the space before them.
WORDS = "the of to and in for is on that by this with you it not or be are from at as your all have new more an was we".split()
CACHE_OPTIONS = ["--cache-prompt", "--cache-ram", "--cache-idle-slots", "--cache-reuse", "--ctx-checkpoints", "--checkpoint-min-step"]
KINDS = {
    "begin": "beginnings",
    "turn": "later turns' questions",
    "round": "rounds of a tool",
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": about,
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string", "description": "the file"}, "what": {"type": "string"}},
                "required": ["path"],
            },
        },
    }
    for name, about in (
        ("read_file", "Read a file of the project"),
        ("search", "Find lines in the project's files"),
        ("write_file", "Replace a file of the project"),
    )
]


class Conversation:
    """One conversation; its texts depend on its number and the seed only."""

    def __init__(self, index: int, args) -> None:
        self.name = f"conversation-{index}"
        self.args = args
        self.random = random.Random(f"{args.seed}/{index}")
        self.messages = [{"role": "system", "content": f"You are agent {index}. {self.text(args.start)}."}]

    def text(self, n_words: int) -> str:
        return " ".join(self.random.choice(WORDS) for _ in range(n_words))

    def asks(self) -> None:
        self.messages.append({"role": "user", "content": f"Please {self.text(self.args.user)}?"})

    def calls(self) -> None:
        """The model calls a tool, and gets its result."""
        call_id = f"call_{len(self.messages):06}"
        arguments = json.dumps({"path": f"src/{self.random.choice(WORDS)}.rs", "what": self.text(4)})
        call = {"id": call_id, "type": "function", "function": {"name": "search", "arguments": arguments}}
        thought = self.text(self.args.thought)
        self.messages.append({"role": "assistant", "content": "", "reasoning_content": thought, "tool_calls": [call]})
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": self.text(self.args.result)})

    def answers(self) -> None:
        answer = f"{self.text(self.args.user)}."
        self.messages.append({"role": "assistant", "content": answer, "reasoning_content": self.text(self.args.thought)})

    def body(self) -> dict:
        return {
            "messages": self.messages,
            "tools": TOOLS,
            "max_tokens": self.args.answer,
            "temperature": 0,
            "ignore_eos": True,
            "session_id": self.name,
        }


@dataclass
class Sums:
    n_requests: int = 0
    sent: int = 0
    read: int = 0
    seconds: float = 0.0

    def add(self, sent: int, read: int, seconds: float) -> None:
        self.n_requests += 1
        self.sent += sent
        self.read += read
        self.seconds += seconds

    def plus(self, other: "Sums") -> "Sums":
        return Sums(
            self.n_requests + other.n_requests,
            self.sent + other.sent,
            self.read + other.read,
            self.seconds + other.seconds,
        )


@dataclass
class Run:
    """What one server did in one part, by turn and kind of request."""

    of: dict[tuple[int, str], Sums] = field(default_factory=dict)

    def add(self, turn: int, kind: str, sent: int, read: int, seconds: float) -> None:
        self.of.setdefault((turn, kind), Sums()).add(sent, read, seconds)

    def sum(self, kinds=tuple(KINDS), since: int = 0, until: int = sys.maxsize) -> Sums:
        total = Sums()
        for (turn, kind), sums in self.of.items():
            if kind in kinds and since <= turn < until:
                total = total.plus(sums)
        return total


class Engine:
    """A server of either kind; `start` and `stop` may follow each other."""

    name = ""

    def __init__(self, command: list[str], port: int = 0) -> None:
        self.command, self.port = command, port
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        raise NotImplementedError

    def tokens(self, answer: dict) -> tuple[int, int, int]:
        """Of an answer: its prompt's tokens, those of it that were read, and those generated."""
        raise NotImplementedError

    def wait_until(self, path: str) -> None:
        limit = time.monotonic() + HANG_S
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self.process.returncode}")
            try:
                if self.ask("GET", path)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"{self.name} did not become ready")

    def ask(self, method: str, path: str, body=None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, (json.loads(text) if text else {})
        finally:
            connection.close()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Samovar(Engine):
    name = "samovar"

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMOVAR_")}
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            raise SystemExit(f"samovar said {line!r}")
        self.port = int(line.strip().rsplit(":", 1)[1])
        self.wait_until("/health/ready")

    def tokens(self, answer: dict) -> tuple[int, int, int]:
        usage = answer["usage"]
        n_prompt = usage["prompt_tokens"]
        return n_prompt, n_prompt - usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens"]


class LlamaServer(Engine):
    name = "llama-server"

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [*self.command, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_until("/health")

    def tokens(self, answer: dict) -> tuple[int, int, int]:
        timings = answer["timings"]
        return timings["cache_n"] + timings["prompt_n"], timings["prompt_n"], timings["predicted_n"]


def cache_options(program: str) -> list[str]:
    """What llama-server says of its cache's options, defaults included."""
    text = subprocess.run([program, "--help"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    entries: list[list[str]] = []
    for line in text.stdout.splitlines():
        if line.startswith("-"):
            entries.append([])
        if line.startswith(("-", " ")) and entries:
            entries[-1].extend(line.split())
    wanted = [words for words in entries if {word.strip(",") for word in words[:4]} & set(CACHE_OPTIONS)]
    # Without the links.
    return [re.sub(r"\s*\[\([^)]*\)\]\([^)]*\)", "", " ".join(words)).split(" (env:")[0] for words in wanted]


def request(engine: Engine, conversation: Conversation, turn: int, kind: str, run: Run) -> None:
    body = conversation.body()
    start = time.perf_counter()
    status, answer = engine.ask("POST", "/v1/chat/completions", body)
    seconds = time.perf_counter() - start
    if status != 200:
        raise SystemExit(f"{engine.name} answered {status}: {answer}")
    sent, read, generated = engine.tokens(answer)
    if generated != body["max_tokens"]:
        raise SystemExit(f"{engine.name} generated {generated} tokens of {body['max_tokens']}")
    run.add(turn, kind, sent, read, seconds)


def converse(engine: Engine, args, restart_after: int | None) -> Run:
    """All conversations, turn after turn."""
    run = Run()
    conversations = [Conversation(index, args) for index in range(args.conversations)]
    engine.start()
    try:
        for turn in range(args.turns):
            if turn == restart_after:
                engine.stop()
                engine.start()
            for conversation in conversations:
                conversation.asks()
                request(engine, conversation, turn, "turn" if turn else "begin", run)
                for _ in range(args.rounds):
                    conversation.calls()
                    request(engine, conversation, turn, "round", run)
                conversation.answers()
    finally:
        engine.stop()
    return run


def show(title: str, ours: Run, theirs: Run, since: int) -> dict:
    """A part's table, of the turns from `since` on; what the JSON has of it."""
    print(f"\n{title}")
    heads = ("requests", "tokens sent", "read: samovar", "llama-server", "seconds: samovar", "llama-server", "share of time")
    print(f"  {'':<30}" + "".join(f"{head:>18}" for head in heads))
    later = tuple(kind for kind in KINDS if kind != "begin")
    parts = [(about, (kind,), sys.maxsize) for kind, about in KINDS.items()]
    if since == 0:
        parts.append(("all but the beginnings", later, sys.maxsize))
    else:
        parts.append((f"turn {since + 1} alone", later, since + 1))
    parts.append(("all", tuple(KINDS), sys.maxsize))
    rows = {}
    for about, kinds, until in parts:
        a, b = ours.sum(kinds, since, until), theirs.sum(kinds, since, until)
        if a.n_requests == 0:
            continue
        share = a.seconds / b.seconds
        numbers = (f"{a.n_requests}", f"{a.sent:,}", f"{a.read:,}", f"{b.read:,}", f"{a.seconds:.1f}", f"{b.seconds:.1f}", f"{share:.3f}")
        print(f"  {about:<30}" + "".join(f"{number:>18}" for number in numbers))
        rows[about] = {
            "requests": a.n_requests,
            "sent": [a.sent, b.sent],
            "read": [a.read, b.read],
            "seconds": [a.seconds, b.seconds],
            "share_of_time": share,
        }
    if rows["all"]["sent"][0] != rows["all"]["sent"][1]:
        print(f"  llama-server counts {rows['all']['sent'][1]:,} tokens sent")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", required=True, help="the samovar program")
    parser.add_argument("--theirs", required=True, help="the llama-server program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=16384, help="tokens of llama-server's context")
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="of a tool, in each turn")
    parser.add_argument("--start", type=int, default=4000, help="tokens of each conversation's system prompt, about")
    parser.add_argument("--user", type=int, default=40, help="tokens of a question, and of an answer sent back")
    parser.add_argument("--thought", type=int, default=30, help="tokens of the thought before a call or an answer")
    parser.add_argument("--result", type=int, default=100, help="tokens of a tool's result")
    parser.add_argument("--answer", type=int, default=24, help="tokens that each request generates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=["defaults", "no-cache-ram", "restart"], default=["defaults", "no-cache-ram", "restart"])
    parser.add_argument("--data-dir", help="where samovar's folders are made")
    parser.add_argument("--json", help="write the figures there too")
    args = parser.parse_args()

    model = ["--model", args.model, "--threads", str(args.threads)]
    llama = [args.theirs, *model, "--threads-batch", str(args.threads), "--parallel", "1", "--ctx-size", str(args.context), "--host", "127.0.0.1"]
    print(f"{args.conversations} conversations in turn, {args.turns} turns of {args.rounds} rounds of a tool, {args.answer} tokens generated a request, {Path(args.model).name}")
    print(f"llama-server: {' '.join(llama[1:])}")
    for line in cache_options(args.theirs):
        print(f"  {line}")
    report = {"model": Path(args.model).name, "llama_server": llama[1:], "cache_options": cache_options(args.theirs), "parts": {}}

    def ours(restart_after: int | None) -> Run:
        with tempfile.TemporaryDirectory(dir=args.data_dir) as folder:
            engine = Samovar([args.ours, "serve", "--port", "0", "--log", "warn", *model, "--data-dir", folder])
            return converse(engine, args, restart_after)

    warm = ours(None) if {"defaults", "no-cache-ram"} & set(args.parts) else None
    if "defaults" in args.parts:
        theirs = converse(LlamaServer(llama), args, None)
        report["parts"]["defaults"] = show("its defaults", warm, theirs, 0)
    if "no-cache-ram" in args.parts:
        theirs = converse(LlamaServer([*llama, "--cache-ram", "0"]), args, None)
        report["parts"]["no-cache-ram"] = show("--cache-ram 0", warm, theirs, 0)
    if "restart" in args.parts:
        middle = args.turns // 2
        mine, theirs = ours(middle), converse(LlamaServer(llama), args, middle)
        report["parts"]["restart"] = show(f"its defaults, after both were started anew after turn {middle}", mine, theirs, middle)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
