#!/usr/bin/env python3
"""Measures durable jobs a second on PostgreSQL and SQLite, beside pgqueuer and beside what batches of plain SQL reach.

PostgreSQL is where DATABASE_URL says, with `fsync` on. The disk's rate of commits drifts within minutes, so each round takes the
subjects back to back. Every job of ours comes by HTTP and calls the script; pgqueuer's are put by its own client in-process.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import limit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples" / "keystroke"))
from service import serving  # noqa: E402  (the demo's way of starting and ending a server)

CLIENTS = 64


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="bench-jobs-") as work, arguments.results.open("a") as results:
        work = Path(work)
        (work / "x.bin").write_bytes(bytes(64))
        for round_number in range(arguments.rounds):
            for subject, figures in one_round(arguments, work, round_number):
                print(json.dumps({"round": round_number, "subject": subject, **figures}), file=results, flush=True)
                print(f"{round_number} {subject:<22} {figures['rate']:8.0f} jobs/s", *median_text(figures), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--venvs", type=Path, default=Path(".venv-bench"), help="the folder with pgqueuer's virtualenv (%(default)s)")
    parser.add_argument("--results", type=Path, required=True, help="the file that the figures are appended to")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--count", type=int, default=10_000, help="how many jobs at once (%(default)s)")
    parser.add_argument("--alone", type=int, default=200, help="how many jobs one after the other (%(default)s)")
    return parser.parse_args()


def one_round(arguments, work, round_number):
    database = os.environ["DATABASE_URL"]
    yield "limit (SQL batches)", {"rate": limit.jobs_per_second(database, arguments.count)}
    yield "dunnage, PostgreSQL", ours(arguments, work, f"bench-{os.getpid()}-{round_number}", "--database-url", database)
    yield "limit (SQL batches)", {"rate": limit.jobs_per_second(database, arguments.count)}
    if (python := arguments.venvs / "pgqueuer" / "bin" / "python").exists():
        yield "pgqueuer", pgqueuer(python, arguments)
    yield "dunnage, SQLite", ours(arguments, work, f"sqlite-{round_number}")


def ours(arguments, work, name, *options):
    """Jobs a second from the first request to the last end, and the delays of single ones."""
    data = work / name
    with serving(arguments.dunnage, HERE / "model.py", name, data, "--files-root", work, *options) as url:
        body = work / "body.json"
        body.write_text(json.dumps({"Files": [f"file://{work / 'x.bin'}"]}))
        for _ in range(3):
            delay_alone(url, body.read_bytes())
        begin = time.monotonic()
        send_many(url, body, arguments.count)
        sent = time.monotonic() - begin
        wait_for_all(url, name)
        rate = arguments.count / (time.monotonic() - begin)
        delays = [delay_alone(url, body.read_bytes()) for _ in range(arguments.alone)]
    return {"rate": rate, "accepted_rate": arguments.count / sent, "start_ms": delays}


def send_many(url, body, count):
    command = ["ab", "-q", "-k", "-n", count, "-c", CLIENTS, "-p", body, "-T", "application/json", f"{url}/input"]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    accepted = count - int(re.search(r"Failed requests:\s+(\d+)", done.stdout)[1]) if "Non-2xx" not in done.stdout else 0
    # `ab` counts an answer of another length as failed; ours are all of one.
    if accepted != count:
        raise RuntimeError(f"not every job was accepted:\n{done.stdout}")


def wait_for_all(url, name, patience=300):
    """Until no job waits or runs any more, by the service's own metrics."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if not unfinished(url):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{unfinished(url)} jobs of {name} have not ended")


def unfinished(url):
    text = urllib.request.urlopen(f"{url}/metrics", timeout=30).read().decode()
    found = re.findall(r"^dunnage_jobs_(?:queued|running)(?:\{.*\})? (\S+)$", text, re.MULTILINE)
    if len(found) != 2:
        raise RuntimeError("the metrics do not say how many jobs there are")
    return sum(map(float, found))


def delay_alone(url, body):
    """The milliseconds from just before a job is sent to when the script is called for it."""
    request = urllib.request.Request(f"{url}/input", body, {"Content-Type": "application/json"})
    begin = time.time()
    job = json.loads(urllib.request.urlopen(request, timeout=30).read())["jobId"]
    while True:
        status = json.loads(urllib.request.urlopen(f"{url}/status?jobId={job}", timeout=30).read())
        if status["status"] == "done":
            return (status["result"]["started"] - begin) * 1000
        if status["status"] == "error":
            raise RuntimeError(f"a job failed: {status}")
        time.sleep(0.005)


def pgqueuer(python, arguments):
    command = [python, HERE / "pgqueuer_jobs.py", "compare", "--count", arguments.count, "--alone", arguments.alone]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def median_text(figures):
    if delays := sorted(figures.get("start_ms", [])):
        yield f"  started after {delays[len(delays) // 2]:.1f} ms (p99 {delays[int(len(delays) * 0.99)]:.1f})"


if __name__ == "__main__":
    sys.exit(main())
