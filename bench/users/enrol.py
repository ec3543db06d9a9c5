#!/usr/bin/env python3
"""Enrols many users on one machine, each by a job that writes the service's state, and then asks for each of them once.

Says how long that took, what it cost in processor time and on the disk, and fails if anything was lost or any answer was another's.
SQLite is measured, and PostgreSQL too where DATABASE_URL names one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "jobs"), str(HERE.parent / "serving"), str(HERE.parents[1] / "examples" / "keystroke")]
from compare import wait_for_all  # noqa: E402  (the jobs')
from process import tree_of  # noqa: E402
from service import serving  # noqa: E402  (the demo's way of starting and ending a server)

CONNECTIONS = 64
PATIENCE = 3600


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--users", type=int, default=100_000, help="how many users (%(default)s)")
    parser.add_argument("--results", type=Path, required=True, help="the file that the figures are appended to")
    arguments = parser.parse_args()
    stores = {"SQLite": []} | ({"PostgreSQL": ["--database-url", os.environ["DATABASE_URL"]]} if "DATABASE_URL" in os.environ else {})
    wrong = 0
    for store, options in stores.items():
        with tempfile.TemporaryDirectory(prefix="bench-users-") as work, arguments.results.open("a") as results:
            figures = measure(arguments, Path(work), store, options)
            print(json.dumps({"store": store, "users": arguments.users, **figures}), file=results, flush=True)
            print(store, json.dumps(figures, indent=2), flush=True)
            wrong += figures["wrong"]
    return 1 if wrong else 0


def measure(arguments, work, store, options):
    (work / "x.bin").write_bytes(bytes(64))
    name = f"users-{os.getpid()}-{store.lower()}"
    with serving(arguments.dunnage, HERE / "model.py", name, work / name, "--files-root", work, *options) as url:
        tree = tree_of(work / name)
        before, begin = tree.cpu_seconds(), time.monotonic()
        enrolled = for_each_user(url, "input", arguments.users, work)
        wait_for_all(url, name, PATIENCE)
        enrolling, used = time.monotonic() - begin, tree.cpu_seconds() - before
        before = tree.cpu_seconds()
        asked = for_each_user(url, "output", arguments.users, work)
        asking = tree.cpu_seconds() - before
    return {
        "enrolled_per_second": arguments.users / enrolling,
        "enrol_cpu_ms": used / arguments.users * 1000,
        "answers_per_second": arguments.users / asked["seconds"],
        "answer_cpu_ms": asking / arguments.users * 1000,
        "wrong": enrolled["wrong"] + asked["wrong"],
    }


def for_each_user(url, kind, users, work):
    command = ["wrk", "--threads", "1", "--connections", CONNECTIONS, "--duration", f"{PATIENCE}s", "--timeout", "60s"]
    command += ["--script", HERE / "users.lua", url, "--", kind, users, f"file://{work / 'x.bin'}"]
    begin = time.monotonic()
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - begin
    print(*[line for line in done.stdout.splitlines() if line.startswith("wrong")], sep="\n", end="", flush=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["answered"] < users:
        raise RuntimeError(f"only {figures['answered']} of {users} requests were answered")
    return figures | {"seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
