"""Starts the real binary on a free port, runs the official clients' scripts against it, and stops it by SIGTERM;
then the same with an encoder.

    python tests/clients/run.py --bin target/debug/samovar --model path/to/model.gguf --encoder path/to/encoder.gguf

Needs the packages of tests/clients/requirements.txt. Exits with 0 only when every script passed and the server
drained and ended with 0.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = ["openai_client.py", "responses_client.py", "anthropic_client.py", "ollama_client.py"]
SCRIPTS_OF_ENCODER = ["openai_embeddings.py"]
# Never what a script measures; only so that a hang ends.
HANG_GUARD_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the samovar binary")
    parser.add_argument("--model", required=True, help="a GGUF file with a chat template")
    parser.add_argument("--encoder", required=True, help="a GGUF file of an encoder")
    arguments = parser.parse_args()
    passed = [
        run(arguments.bin, arguments.model, SCRIPTS),
        run(arguments.bin, arguments.encoder, SCRIPTS_OF_ENCODER),
    ]
    return 0 if all(passed) else 1


def run(binary: str, model: str, scripts: list[str]) -> bool:
    """Whether each script passes against a server of the model, and that one ends well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMOVAR_")}
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen(
            [binary, "serve", "--port", "0", "--model", model]
            + ["--data-dir", data, "--kv-pool", "256MiB", "--queue-timeout", "600", "--drain-timeout", "600"],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        try:
            line = server.stdout.readline().strip()
            prefix = "listening on "
            if not line.startswith(prefix):
                print(f"the first line on stdout is {line!r}", file=sys.stderr)
                return False
            failed = []
            for script in scripts:
                command = [sys.executable, str(HERE / script), line.removeprefix(prefix)]
                if subprocess.run(command, timeout=HANG_GUARD_S).returncode != 0:
                    failed.append(script)
            server.send_signal(signal.SIGTERM)
            code = server.wait(timeout=HANG_GUARD_S)
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
    if code != 0:
        print(f"the server ended with {code}", file=sys.stderr)
    for script in failed:
        print(f"{script} failed", file=sys.stderr)
    return not failed and code == 0


if __name__ == "__main__":
    sys.exit(main())
