"""What a user of codex relies on who points it at this server: it runs a tool, offline.

The model's side is played by scripted_model.py: the starter model is too small to choose a tool by itself.
"""

import functools
import json
import tempfile
from pathlib import Path

import checks
from agent_program import NOTED, QUESTION, AgentProgram

CONFIG = """
model = "{model}"
model_provider = "samovar"
approval_policy = "never"
# The commands are those of the scripted model; and the sandbox needs what not every system has.
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.samovar]
name = "samovar"
base_url = "{base_url}/v1"
wire_api = "responses"
request_max_retries = 4
stream_max_retries = 4
"""


def codex_of(base_url: str, home: Path) -> AgentProgram:
    model = checks.wait_until_started(base_url)
    (home / "codex").mkdir()
    (home / "codex/config.toml").write_text(CONFIG.format(model=model, base_url=base_url))
    arguments = ["exec", "--skip-git-repo-check", "--json"]
    return AgentProgram(base_url, home, "codex", arguments, {"CODEX_HOME": str(home / "codex")})


def items(out: str, kind: str) -> list[dict]:
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    done = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item for item in done if item["type"] == kind]


def failure(out: str) -> str:
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return "".join(event["error"]["message"] for event in events if event["type"] == "turn.failed")


def a_tool_is_run_and_its_output_read(codex: AgentProgram, _: str) -> None:
    note = codex.write_note()
    out = codex.run(QUESTION)
    [command] = items(out, "command_execution")
    assert note in command["aggregated_output"] and command["exit_code"] == 0, command
    assert [item["text"] for item in items(out, "agent_message")] == [NOTED], out


def errors_are_told_in_the_servers_words(codex: AgentProgram, _: str) -> None:
    code, out, err = codex.end(QUESTION, "--model", "no-such-model")
    assert code != 0 and "no-such-model" in failure(out), (code, out, err)


def what_is_refused_for_a_while_is_tried_again(codex: AgentProgram, _: str) -> None:
    # It takes a second to begin.
    for refusing in (functools.partial(checks.draining_until_refused, timeout_s=4), checks.full_until_refused):
        codex.write_note()
        with refusing(codex.base_url):
            out = codex.run(QUESTION)
        assert [item["text"] for item in items(out, "agent_message")] == [NOTED], out


def one_that_is_ended_leaves_the_server_idle(codex: AgentProgram, _: str) -> None:
    with checks.cancelled(codex.base_url):
        codex.end_while_it_is_answered(checks.LONG)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        checks.main(
            lambda base_url: codex_of(base_url, Path(home)),
            [
                a_tool_is_run_and_its_output_read,
                errors_are_told_in_the_servers_words,
                what_is_refused_for_a_while_is_tried_again,
                one_that_is_ended_leaves_the_server_idle,
            ],
            place=2,
        )
