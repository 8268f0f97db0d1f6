"""Starts the real binary with three models on free ports, runs the clients' scripts against it, and stops it by SIGTERM.

    python3 tests/clients/run.py --bin target/debug/samovar --starter CHAT.gguf --encoder ENCODER.gguf \\
      --python VENV --npm FOLDER [--frameworks VENV --instructor VENV --opencode FOLDER] [--only NAME…]

VENV is an environment with the packages of the requirements file of that name, FOLDER one with the packages of a
package-lock.json here; only what is given is run. The third model is the one of scripted_model.py.
Where the system allows it all of them run in a network of their own, which has loopback and nothing else.
Exits with 0 only when every script passed and every server drained and ended with 0.
"""

import argparse
import contextlib
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scripted_model

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from server import HANG_S, Server  # noqa: E402 (found beside this folder, not in a package)

# The scripts by what they need.
SCRIPTS = {
    "python": ["openai_client.py", "responses_client.py", "openai_embeddings.py", "anthropic_client.py", "ollama_client.py"],
    "npm": ["openai_client.mjs", "ai_client.mjs", "codex.py"],
    "frameworks": ["litellm_client.py", "langchain_client.py", "pydantic_ai_client.py", "smolagents_client.py"],
    "instructor": ["instructor_client.py"],
    "opencode": ["opencode.py"],
}
# So few that a script can fill the server.
MAX_REQUESTS = 4
OPTIONS = ["--kv-pool", "256MiB", "--queue-timeout", "600", "--drain-timeout", "600", "--max-requests", str(MAX_REQUESTS)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the samovar binary")
    parser.add_argument("--starter", required=True, help="a GGUF file with a chat template")
    parser.add_argument("--encoder", required=True, help="a GGUF file of an encoder")
    parser.add_argument("--only", nargs="+", default=[""], help="scripts whose name begins so")
    for need in SCRIPTS:
        parser.add_argument(f"--{need}", type=Path, help=f"what has the packages for {', '.join(SCRIPTS[need])}")
    arguments = parser.parse_args()
    places = {need: getattr(arguments, need).resolve() for need in SCRIPTS if getattr(arguments, need)}
    has_network = cut_off_from_the_network()
    if has_network:
        print(f"run.py: the clients are not cut off from the network: {has_network}", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        scripted = Path(folder) / "scripted.gguf"
        scripted.write_bytes(scripted_model.gguf())
        addresses, running = [], []
        for model in (arguments.starter, scripted, arguments.encoder):
            data = Path(folder) / f"data-{len(running)}"
            server = Server(arguments.bin, str(model), str(data), OPTIONS)
            servers.callback(server.kill)
            running.append(server)
            addresses.append(f"http://127.0.0.1:{server.port}")
        failed = [
            script
            for need, place in places.items()
            for script in SCRIPTS[need]
            if script.startswith(tuple(arguments.only)) and not passes(script, place, addresses, Path(folder))
        ]
        codes = [server.stop() for server in running]
    for script in failed:
        print(f"{script} failed", file=sys.stderr)
    if any(codes):
        print(f"the servers ended with {codes}", file=sys.stderr)
    return 1 if failed or any(codes) else 0


def passes(script: str, place: Path, addresses: list[str], folder: Path) -> bool:
    """Whether a script passes that finds its packages at `place`."""
    print(f"{script}:", flush=True)
    began = time.monotonic()
    if script.endswith(".mjs"):
        # Node looks for packages beside the script.
        beside = folder / place.name
        if not beside.exists():
            shutil.copytree(HERE, beside)
            (beside / "node_modules").symlink_to(place / "node_modules")
        command = [place / "node_modules/.bin/node", beside / "npm" / script]
    else:
        python = place / "bin/python"
        command = [python if python.exists() else sys.executable, HERE / script]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    # What a client would tell its maker, or ask the network for, it is not to try.
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "DO_NOT_TRACK": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    try:
        code = subprocess.run(
            [*command, *addresses, place], timeout=2 * HANG_S, env=environment, stdin=subprocess.DEVNULL
        ).returncode
    except subprocess.TimeoutExpired:
        code = "a hang"
    print(f"{script}: {'passed' if code == 0 else f'failed with {code}'} after {time.monotonic() - began:.1f} s", flush=True)
    return code == 0


def cut_off_from_the_network() -> str | None:
    """Moves this process, and so all that it starts, into a network that has loopback only; why not, if not."""
    if sys.platform != "linux":
        return "that is done on Linux only"
    new_user, new_network, up = 0x10000000, 0x40000000, 1
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    # Who is not root becomes it in a world of his own.
    if libc.unshare(new_network if user == 0 else new_user | new_network) != 0:
        return os.strerror(ctypes.get_errno())
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        import fcntl  # which only Unix has

        set_flags = 0x8914
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))
    return None


if __name__ == "__main__":
    sys.exit(main())
