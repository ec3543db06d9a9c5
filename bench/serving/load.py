"""Requests to a server: one, to see whether it answers rightly, and many, by wrk."""

import http.client
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "load.lua"


@dataclass(frozen=True)
class Load:
    """What came of a load."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def rate(self):
        return self.requests / self.seconds


def put_under_load(port, route, body_file, connections, seconds):
    """Sends the same request over and over, on so many connections."""
    command = ["wrk", "--threads", "1", "--connections", connections, "--duration", f"{seconds}s", "--timeout", "30s"]
    command += ["--script", SCRIPT, f"http://127.0.0.1:{port}{route}", "--", body_file]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def ask(port, route, body):
    """One request on a connection of its own; the answer's status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", route, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def first_answer(port, route, body, process, patience):
    """Asks until the server answers with 200, and returns that answer."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended with status {process.returncode}")
        try:
            status, answer = ask(port, route, body)
        except (ConnectionError, http.client.HTTPException, TimeoutError):
            status, answer = None, None
        if status == 200:
            return json.loads(answer)
        time.sleep(0.01)
    raise RuntimeError(f"the server does not answer; its last answer was {status} {answer!r}")
