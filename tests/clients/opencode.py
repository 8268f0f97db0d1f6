"""What a user of opencode relies on who points it at this server: it runs a tool, offline.

The model's side is played by scripted_model.py: the starter model is too small to choose a tool by itself.
"""

import functools
import json
import tempfile
from pathlib import Path

import checks
from agent_program import NOTED, QUESTION, AgentProgram

UNKNOWN = "no-such-model"


def opencode_of(base_url: str, home: Path) -> AgentProgram:
    model = checks.wait_until_started(base_url)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Samovar",
        "options": {"baseURL": f"{base_url}/v1", "apiKey": "not-needed"},
        "models": {name: {"name": name, "limit": {"context": 65536, "output": 32768}} for name in (model, UNKNOWN)},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "permission": {"edit": "deny", "bash": "allow", "webfetch": "deny"},
        "model": f"samovar/{model}",
        "provider": {"samovar": provider},
    }
    environment = {"OPENCODE_CONFIG_CONTENT": json.dumps(config), "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    return AgentProgram(base_url, home, "opencode", ["run", "--format", "json"], environment)


def parts(out: str, kind: str) -> list[dict]:
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [event["part"] for event in events if event.get("part", {}).get("type") == kind]


def a_tool_is_run_and_its_output_read(opencode: AgentProgram, _: str) -> None:
    note = opencode.write_note()
    out = opencode.run(QUESTION)
    [tool] = parts(out, "tool")
    assert tool["state"]["status"] == "completed" and note in tool["state"]["output"], tool
    assert "".join(part["text"] for part in parts(out, "text")) == NOTED, out


def errors_are_told_in_the_servers_words(opencode: AgentProgram, _: str) -> None:
    code, out, err = opencode.end(QUESTION, "--model", f"samovar/{UNKNOWN}")
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    [error] = [event["error"] for event in events if event["type"] == "error"]
    assert UNKNOWN in error["data"]["message"], (code, out, err)


def what_is_refused_for_a_while_is_tried_again(opencode: AgentProgram, _: str) -> None:
    # It takes some seconds to begin.
    for refusing in (functools.partial(checks.draining_until_refused, timeout_s=8), checks.full_until_refused):
        opencode.write_note()
        with refusing(opencode.base_url):
            out = opencode.run(QUESTION)
        assert "".join(part["text"] for part in parts(out, "text")) == NOTED, out


def one_that_is_ended_leaves_the_server_idle(opencode: AgentProgram, _: str) -> None:
    with checks.cancelled(opencode.base_url):
        opencode.end_while_it_is_answered(checks.LONG)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        checks.main(
            lambda base_url: opencode_of(base_url, Path(home)),
            [
                a_tool_is_run_and_its_output_read,
                errors_are_told_in_the_servers_words,
                what_is_refused_for_a_while_is_tried_again,
                one_that_is_ended_leaves_the_server_idle,
            ],
            place=2,
        )
