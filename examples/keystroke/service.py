"""Starts a service for the demo, and ends it without a trace."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_SECS = 60
STOP_TIMEOUT_SECS = 40


@contextmanager
def serving(dunnage, script, name, data_dir, *flags):
    """Serves `script` while the `with` block runs and gives the service's URL. `flags` are passed on to `dunnage serve`.

    Raises `RuntimeError` if it does not become ready, does not end cleanly on SIGTERM, or leaves a process behind.
    """
    port = free_port()
    log_path = data_dir.with_suffix(".log")
    command = [dunnage, "serve", script, "--name", name, "--port", port, "--data-dir", data_dir, *flags]
    with log_path.open("wb") as log:
        # A session of its own, so that every process the server starts can be found again.
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_ready(server, port)
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)
        code = server.wait(STOP_TIMEOUT_SECS)
        left = processes_of(server.pid)
        if code != 0 or left:
            raise RuntimeError(f"{name} ended on SIGTERM with code {code}, left behind: {left or 'nothing'}")
    except BaseException:
        sys.stderr.write(f"--- the last lines of {name}'s log\n{tail(log_path)}")
        raise
    finally:
        end(server)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(server, port):
    give_up = time.monotonic() + START_TIMEOUT_SECS
    while time.monotonic() < give_up:
        if server.poll() is not None:
            raise RuntimeError(f"the service exited with code {server.returncode} before it was ready")
        if is_ready(port):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the service was not ready within {START_TIMEOUT_SECS} s")


def is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def processes_of(session):
    """The processes of a session, from Linux's /proc; elsewhere none can be seen."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has just ended
        # The name in parentheses may hold anything; behind it come state, parent, group and session.
        state, _parent, _group, its_session = text.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def end(server):
    """Kills what is still there, which is nothing unless something failed."""
    for process in processes_of(server.pid) or ([server.pid] if server.poll() is None else []):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended
    server.wait()


def tail(path, lines=100):
    return "".join(path.read_text(errors="replace").splitlines(keepends=True)[-lines:])
