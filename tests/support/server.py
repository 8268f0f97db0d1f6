"""A server of a test program's own: the real binary on a free port, asked over HTTP. Standard library only."""

import http.client
import json
import os
import signal
import subprocess
import time
from pathlib import Path

# No answer of a test's load takes that long, on a busy machine and in a debug build either: what does is a hang.
HANG_S = 300


class Server:
    def __init__(self, binary: str, model: str, data_dir: str, options: list[str]) -> None:
        command = [binary, "serve", "--port", "0", "--model", model, "--data-dir", data_dir, *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMOVAR_")}
        self.data_dir = data_dir
        # Set before it is told so.
        self.is_draining = False
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            self.kill()
            raise SystemExit(f"the server said {line!r}")
        self.port = int(line.strip().rsplit(":", 1)[1])

    def connect(self, timeout: float = HANG_S) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body=None, timeout: float = HANG_S):
        connection = self.connect(timeout)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, response.headers, (json.loads(text) if text else None)
        finally:
            connection.close()

    def status(self) -> dict:
        return self.ask("GET", "/admin/status")[2]

    def metric(self, series: str) -> float:
        """The value of a series of `/metrics`, written as there."""
        connection = self.connect()
        try:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        finally:
            connection.close()
        for line in page.splitlines():
            if line.startswith(series + " "):
                return float(line[len(series) + 1 :])
        raise SystemExit(f"no series {series} in\n{page}")

    def wait_until_ready(self) -> None:
        limit = time.monotonic() + HANG_S
        while self.ask("GET", "/health/ready")[0] != 200:
            if time.monotonic() > limit:
                raise SystemExit("the server did not become ready")
            time.sleep(0.02)

    def resident_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def drain(self) -> None:
        """Have it drain by SIGTERM, and end then."""
        self.is_draining = True
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Drain by SIGTERM; the exit code."""
        self.drain()
        return self.process.wait(HANG_S)

    def kill(self) -> None:
        """kill -9, if it has not ended already."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
