"""A display and a temporary folder that end with whoever made them, and with them every process that was started there."""

import ctypes
import os
import secrets
import shutil
import signal
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from samovar import children_of

PR_SET_CHILD_SUBREAPER = 36
FAMILY_WILD = 0xFFFF


@contextmanager
def folder():
    """A temporary folder. Whatever still runs when it goes is ended: a bus starts helpers that outlive it."""
    # Orphans become our children, so that they can be found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    made = Path(tempfile.mkdtemp(prefix="samovar-desktop-"))
    try:
        yield made
    finally:
        # A second signal would leave half of it.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        end_children()
        shutil.rmtree(made, ignore_errors=True)


def stop(number: int, _) -> None:
    raise SystemExit(128 + number)


def end_children() -> None:
    """Until none is left: the children of one that has ended become ours."""
    while True:
        for child in children_of(os.getpid()):
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


@contextmanager
def display(near: Path, screen: str):
    """An X server on a free number; what a client's environment says of it."""
    authority = near / "xauthority"
    parts = (b"", b"", b"MIT-MAGIC-COOKIE-1", secrets.token_bytes(16))
    entry = struct.pack(">H", FAMILY_WILD) + b"".join(struct.pack(">H", len(part)) + part for part in parts)
    authority.touch(0o600)
    authority.write_bytes(entry)
    read, write = os.pipe()
    # Without its last client a server begins anew, and whoever is just connecting is cut off.
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{screen}x24", "-noreset", "-nolisten", "tcp", "-auth", authority]
    with open(near / "xvfb.log", "wb") as log:
        server = subprocess.Popen(command, pass_fds=[write], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        os.close(write)
        with open(read) as said:
            number = said.readline().strip()
        if not number:
            raise SystemExit(f"no display: {(near / 'xvfb.log').read_text()}")
        yield {"DISPLAY": f":{number}", "XAUTHORITY": str(authority)}
    finally:
        # Asked, not killed: it removes its lock.
        server.terminate()
        server.wait()
