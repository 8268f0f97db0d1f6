"""An agent that is a program of its own, in a home of its own."""

import os
import subprocess
from pathlib import Path

import checks

QUESTION = "What does the note say?"
# What the scripted model says when it has read a note.
NOTED = checks.WORDS["scripted_noted"]


class AgentProgram:
    """`command` with a prompt, at the server at `base_url`."""

    def __init__(self, base_url: str, home: Path, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.base_url = base_url
        self.work = home / "work"
        programs = Path(checks.address(4)) / "node_modules/.bin"
        self.command = [programs / name, *arguments]
        # codex runs no tool when its home lies in the folder for temporary files.
        (home / "tmp").mkdir()
        self.work.mkdir()
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.environment = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PATH": path, **environment}

    def write_note(self) -> str:
        """A note that no model can know."""
        note = f"{checks.WORDS['note_sign']} {os.urandom(8).hex()}"
        (self.work / "note.txt").write_text(note)
        return note

    def start(self, prompt: str, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*self.command, *options, prompt],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, prompt: str, *options: str) -> tuple[int, str, str]:
        """Its exit code, and what it prints and complains of."""
        process = self.start(prompt, *options)
        try:
            out, err = process.communicate(timeout=checks.HANG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, out, err

    def run(self, prompt: str) -> str:
        """What it prints when all went well."""
        code, out, err = self.end(prompt)
        assert code == 0, (code, out, err)
        return out

    def end_while_it_is_answered(self, prompt: str) -> None:
        process = self.start(prompt)
        checks.until("an answer is written", lambda: checks.is_writing(self.base_url))
        process.terminate()
        process.communicate(timeout=checks.HANG_S)
