"""kill -9 at random moments of a running load, each followed by a restart and a reckoning.

    python3 tests/kill/kill.py --bin target/debug/samovar --model path/to/model.gguf --kills 10

Named agents hold conversations while the server's list of agents is read all the time. After every restart each
agent repeats the turn that the kill cut off: what the list had called saved must be reused, up to the last whole
block, and every greedy answer, before and after, must be the one that a cold server gives for the same tokens. A
conversation that has come to its end repeats its last turn for a while, long enough for it to be called saved however
fast the server is; then it is deleted and begins anew, so that saving, deleting and restoring go on all the time.

The same words can be different tokens: those of an answer that is sent back are the ones that were generated, where
the server still knows them. So an answer that is not the cold one for the words is compared with what a cold server
says to the very tokens of the prompt, which are in the agent's manifest.
A model with recurrent layers has checkpoints of their state, and what is on disk counts up to the last of them. They are
written when a conversation has rested for seconds, when its memory is needed, or at a drain: `--rest`, `--kv-pool` and
`--drains` make all of that happen. What the template writes before an answer is read again: `--reread` says how much.
Only the Python standard library is needed.
"""

import argparse
import http.client
import json
import random
import struct
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from server import HANG_S, Server  # noqa: E402 (found beside this folder, not in a package)

# A queue and a drain that no slow machine outlasts.
OPTIONS = ["--queue-timeout", "600", "--drain-timeout", "600"]
N_AGENTS = 3
N_TURNS = 3
MAX_TOKENS = 40
# The load runs this long before the kill; a turn of it takes a part of that.
LOAD_S = (0.05, 3.0)
# A server that was told to drain is killed so long after that, if it has not ended by then.
DRAIN_S = (0.0, 0.5)
# A conversation is not deleted before it is so old; a group commit takes up to a second.
LIFE_S = (0.0, 4.0)
# So often a server is killed before it is ready, and nobody has asked it anything.
EARLY = 0.1
# After so many kills something must have been called saved.
ENOUGH = 5
# What a server says that drains.
DRAINING = 503
WORDS = "river copper lantern orchard signal harbour ribbon winter engine meadow thunder paper".split()


@dataclass
class Agent:
    name: str
    messages: list[str]
    system: str
    rng: random.Random
    # How long it rests at most after a turn.
    rest: float
    # When the conversation may be deleted, on the monotonic clock.
    until: float = 0.0
    # What it was answered in this conversation; the next turn is the one that is asked, or is to be asked next.
    answers: list[str] = field(default_factory=list)
    # What the list of agents said last is saved, since the conversation began.
    claim: int = 0
    # Grows with every deletion: a list that was asked for before it says nothing of what came after.
    life: int = 0

    def begin(self) -> None:
        self.answers = []
        # So old that it has rested after its last turn too.
        self.until = time.monotonic() + self.rng.uniform(LIFE_S[0], LIFE_S[1] + (N_TURNS + 1) * self.rest)

    @property
    def turn(self) -> int:
        return len(self.answers)

    @property
    def said(self) -> tuple[str, ...]:
        """What was said so far: it decides the answer, but for the tokens of the answers in it."""
        return (self.name, *self.answers)

    def body(self, stream: bool) -> dict:
        messages = [{"role": "system", "content": self.system}]
        for turn in range(self.turn + 1):
            messages.append({"role": "user", "content": self.messages[turn]})
            if turn < self.turn:
                messages.append({"role": "assistant", "content": self.answers[turn]})
        body = {"messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0, "session_id": self.name}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


@dataclass
class Tally:
    wrong: list[str] = field(default_factory=list)
    # Cold answers, by what was said before.
    cold: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    # Answers that are none of those, with whether they came to their end: judged when the turn has been repeated.
    unjudged: list[tuple[tuple[str, ...], str, bool]] = field(default_factory=list)
    n_other_tokens: int = 0
    n_answers: int = 0
    n_cut: int = 0
    n_deleted: int = 0
    n_early: int = 0
    n_drained: int = 0
    claimed: int = 0
    reused: int = 0


def make_agents(rng: random.Random, rest: float) -> list[Agent]:
    def words(n: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(n))

    shared = f"You are a careful assistant. {words(60)}."
    agents = []
    for index in range(N_AGENTS):
        # The last one shares no prefix with the others.
        system = shared if index < N_AGENTS - 1 else f"{words(70)}. You answer in short sentences."
        messages = [f"Say something about this: {words(90)}." for _ in range(N_TURNS)]
        agents.append(Agent(f"agent-{index}", messages, system, random.Random(rng.random()), rest))
    return agents


def started(args, data_dir: str) -> Server:
    return Server(args.bin, args.model, data_dir, ["--kv-pool", args.kv_pool, *OPTIONS])


def cold_answers(args, agents: list[Agent], tally: Tally) -> None:
    """Ask every turn of a server that has never seen anything."""
    for agent in agents:
        for _ in range(N_TURNS):
            choice = cold_answer(args, "/v1/chat/completions", agent.body(stream=False))
            answer = choice["message"]["content"]
            tally.cold[agent.said] = {answer}
            agent.answers.append(answer)
        agent.begin()


def cold_answer(args, path: str, body: dict) -> dict:
    with tempfile.TemporaryDirectory() as data_dir:
        server = started(args, data_dir)
        try:
            server.wait_until_ready()
            status, _, answer = server.ask("POST", path, body)
        finally:
            server.kill()
    if status != 200 or cached_tokens(answer["usage"]) != 0:
        raise SystemExit(f"no cold answer: {status} {answer}")
    return answer["choices"][0]


def prompt_ids(server: Server, agent: Agent, n_prompt: int) -> list[int] | None:
    """The tokens of the prompt that an agent was just answered; none when the server is gone."""
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        try:
            _, _, shown = server.ask("GET", f"/v1/agents/{agent.name}")
        except (OSError, http.client.HTTPException, ValueError):
            return None
        if shown.get("tokens", 0) >= n_prompt and shown["saved_tokens"] == shown["tokens"]:
            break
        time.sleep(0.05)
    for path in Path(server.data_dir).rglob("*.agent"):
        data = path.read_bytes()
        # The layout is that of FORMAT.md.
        n_name, n_tokens = struct.unpack_from("<II", data, 56)
        tokens_at = 112 + n_name
        if data[112:tokens_at].decode() == agent.name and n_tokens >= n_prompt:
            return list(struct.unpack_from(f"<{n_prompt}I", data, tokens_at))
    return None


def cached_tokens(usage: dict) -> int:
    return usage["prompt_tokens_details"]["cached_tokens"]


def read_answer(server: Server, agent: Agent) -> tuple[str, bool, dict | None]:
    """The text as far as it came, whether it came to its end, and the usage."""
    text, finished, usage = "", False, None
    connection = server.connect()
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(agent.body(stream=True)), headers)
        response = connection.getresponse()
        if response.status == DRAINING and server.is_draining:
            return text, finished, usage
        for raw in response:
            line = raw.decode().strip()
            if line == "data: [DONE]":
                finished = True
            elif line.startswith("data: "):
                frame = json.loads(line[6:])
                if "error" in frame:
                    return text, False, usage
                usage = frame.get("usage") or usage
                for choice in frame.get("choices", []):
                    text += choice["delta"].get("content") or ""
            elif line.startswith("{"):
                raise SystemExit(f"{agent.name}: refused: {line}")
    except (OSError, http.client.HTTPException, ValueError):
        pass
    finally:
        connection.close()
    return text, finished, usage


def take_turn(
    args, server: Server, agent: Agent, tally: Tally, lock: threading.Lock
) -> tuple[str, dict] | None:
    """Ask the agent's turn and compare; text and usage of an answer that came to its end."""
    text, finished, usage = read_answer(server, agent)
    said = agent.said
    with lock:
        cold = tally.cold.setdefault(said, set())
        tally.n_answers += finished
        tally.n_cut += not finished
        if not finished:
            if not any(answer.startswith(text) for answer in cold):
                tally.unjudged.append((said, text, False))
            return None
        if text in cold:
            return text, usage
    ids = prompt_ids(server, agent, usage["prompt_tokens"])
    if ids is None:
        with lock:
            tally.unjudged.append((said, text, True))
        return None
    body = {"prompt": ids, "max_tokens": MAX_TOKENS, "temperature": 0}
    want = cold_answer(args, "/v1/completions", body)["text"]
    with lock:
        tally.n_other_tokens += 1
        if text == want:
            cold.add(text)
        else:
            tally.wrong.append(f"{agent.name}, turn {agent.turn}: {text!r} is not the cold answer {want!r}")
    return text, usage


def advance(server: Server, agent: Agent, answer: str, tally: Tally, lock: threading.Lock) -> None:
    """Go on to the next turn; a conversation at its end is deleted when it is old enough, and begins anew."""
    if agent.turn + 1 < N_TURNS:
        agent.answers.append(answer)
        return
    if time.monotonic() < agent.until:
        return
    agent.begin()
    try:
        status, _, answer = server.ask("DELETE", f"/v1/agents/{agent.name}")
    except (OSError, http.client.HTTPException, ValueError):
        return
    finally:
        # Afterwards: a list that was asked for before the deletion was carried out speaks of the old conversation.
        with lock:
            agent.life += 1
            agent.claim = 0
    if status != 200 and not (status == DRAINING and server.is_draining):
        with lock:
            tally.wrong.append(f"deleting {agent.name} got {status}: {answer}")
    tally.n_deleted += status == 200


def converse(
    args, server: Server, agent: Agent, tally: Tally, lock: threading.Lock, gone: threading.Event
) -> None:
    while server.process.poll() is None:
        taken = take_turn(args, server, agent, tally, lock)
        if taken is None:
            return
        advance(server, agent, taken[0], tally, lock)
        gone.wait(agent.rng.uniform(0, agent.rest))


def read_claims(server: Server, agents: list[Agent], lock: threading.Lock) -> None:
    """Remember what the server says is saved, as long as it says anything."""
    while server.process.poll() is None:
        lives = {agent.name: agent.life for agent in agents}
        try:
            status, _, listed = server.ask("GET", "/v1/agents")
        except (OSError, http.client.HTTPException, ValueError):
            return
        if status == DRAINING and server.is_draining:
            return
        saved = {entry["id"]: entry["saved_tokens"] for entry in listed["data"]}
        with lock:
            for agent in agents:
                if agent.life == lives[agent.name]:
                    agent.claim = max(agent.claim, saved.get(agent.name, 0))
        time.sleep(0.02)


def reckon(args, server: Server, agents: list[Agent], tally: Tally, lock: threading.Lock) -> None:
    """Every agent repeats the turn that was cut off."""
    block = server.status()["pool"]["block_tokens"]
    for agent in agents:
        taken = take_turn(args, server, agent, tally, lock)
        if taken is None:
            tally.wrong.append(f"{agent.name}, turn {agent.turn}: no answer after the restart")
            continue
        answer, usage = taken
        # A prompt's last token is always computed, and what the kill left of a tail need not be there. A state cannot be
        # cut back: what was said of a whole answer is owed to who asks for it again up to where its turn goes back to.
        most = usage["prompt_tokens"] - (1 if agent.claim < usage["prompt_tokens"] else 1 + args.reread)
        owed = min(agent.claim, most) // block * block
        reused = cached_tokens(usage)
        tally.claimed += owed
        tally.reused += reused
        if reused < owed:
            tally.wrong.append(
                f"{agent.name}, turn {agent.turn}: {agent.claim} tokens were called saved, {reused} of the "
                f"prompt's {usage['prompt_tokens']} were reused"
            )
        advance(server, agent, answer, tally, lock)


def judge(tally: Tally) -> None:
    """Look at answers again: since then their turns have been repeated."""
    for said, text, finished in tally.unjudged:
        cold = tally.cold[said]
        if not (text in cold if finished else any(answer.startswith(text) for answer in cold)):
            tally.wrong.append(f"{said[0]}, turn {len(said) - 1}: {text!r} is none, or no beginning, of {cold}")


def one_kill(args, server: Server, agents: list[Agent], tally: Tally, rng: random.Random) -> None:
    """Load a server, kill it at a random moment, and leave the agents as it found them."""
    # Guards claims and tally between the agents' threads and the one that reads the list.
    lock = threading.Lock()
    reckon(args, server, agents, tally, lock)
    gone = threading.Event()
    work = [
        threading.Thread(target=converse, args=(args, server, agent, tally, lock, gone)) for agent in agents
    ]
    work.append(threading.Thread(target=read_claims, args=(server, agents, lock)))
    for thread in work:
        thread.start()
    # Conversations that rest are to come to it before the kill.
    time.sleep(rng.uniform(LOAD_S[0], LOAD_S[1] + args.rest))
    if rng.random() < args.drains:
        server.drain()
        tally.n_drained += 1
        time.sleep(rng.uniform(*DRAIN_S))
    server.kill()
    gone.set()
    for thread in work:
        thread.join()


def run(args, tally: Tally) -> float:
    rng = random.Random(args.seed)
    agents = make_agents(rng, args.rest)
    cold_answers(args, agents, tally)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as data_dir:
        for kill in range(args.kills):
            while rng.random() < EARLY:
                server = started(args, data_dir)
                time.sleep(rng.uniform(0, 0.5))
                server.kill()
                tally.n_early += 1
            server = started(args, data_dir)
            n_wrong = len(tally.wrong)
            try:
                server.wait_until_ready()
                one_kill(args, server, agents, tally, rng)
            finally:
                server.kill()
            for what in tally.wrong[n_wrong:]:
                print(f"WRONG kill {kill}: {what}", flush=True)
        server = started(args, data_dir)
        try:
            server.wait_until_ready()
            reckon(args, server, agents, tally, threading.Lock())
            code = server.stop()
            if code != 0:
                tally.wrong.append(f"exit code {code} after SIGTERM while idle")
        finally:
            server.kill()
    judge(tally)
    if args.kills >= ENOUGH and tally.claimed == 0:
        tally.wrong.append("nothing was ever called saved, so nothing could be lost")
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the samovar binary")
    parser.add_argument("--model", required=True, help="a GGUF file with a chat template")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kv-pool", default="128MiB", help="memory for keys and values")
    parser.add_argument("--rest", type=float, default=0.0, help="seconds that an agent rests at most after a turn")
    parser.add_argument("--reread", type=int, default=0, help="tokens before an answer that a state is not kept behind")
    parser.add_argument("--drains", type=float, default=0.0, help="share of the kills that come while it drains")
    args = parser.parse_args()
    tally = Tally()
    took = run(args, tally)
    print(
        f"{args.kills} kills under load, {tally.n_drained} of them in a drain, and {tally.n_early} before ready, "
        f"seed {args.seed}, {took:.0f} s: "
        f"{tally.n_answers} answers as the cold ones ({tally.n_other_tokens} compared by tokens), {tally.n_cut} "
        f"cut off, {tally.n_deleted} deletions; "
        f"{tally.claimed} tokens called saved (whole blocks), {tally.reused} reused"
    )
    for what in tally.wrong[:20]:
        print(f"WRONG {what}")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
