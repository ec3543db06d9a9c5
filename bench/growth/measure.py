#!/usr/bin/env python3
"""Measures what should stay small or keep its proportion as a service grows.

Idle connections, claims beside a million finished jobs, a second worker, answers beside training, and numeric loops of Lua. Each is
compared with its own control, taken just before or in turns with it. PostgreSQL is where DATABASE_URL says.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

import psycopg

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "jobs"), str(HERE.parent / "serving"), str(HERE.parents[1] / "examples" / "keystroke")]
from compare import delay_alone  # noqa: E402  (the jobs')
from load import ask, put_under_load  # noqa: E402
from process import cores_kept_awake, tree_of  # noqa: E402
from service import serving  # noqa: E402  (the demo's way of starting and ending a server)

CONNECTIONS = 10_000
FINISHED = 1_000_000
CLAIMS = 1000
MULTIPLY = """
    INSERT INTO job OVERRIDING USER VALUE
    SELECT (jsonb_populate_record(job, jsonb_build_object('id', gen_random_uuid()))).* FROM job, generate_series(1, %s) WHERE id = %s
"""


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as work, arguments.results.open("a") as results:
        work = Path(work)
        (work / "x.bin").write_bytes(bytes(64))
        for measure in (idle_connections, claims, second_worker, beside_training, lua_loop):
            for round_number in range(1 if measure is claims else arguments.rounds):
                figures = measure(Bench(arguments.dunnage, work, f"{measure.__name__}-{os.getpid()}-{round_number}"))
                print(json.dumps({"round": round_number, "measure": measure.__name__, **figures}), file=results, flush=True)
                print(round_number, measure.__name__, json.dumps(figures), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--results", type=Path, required=True, help="the file that the figures are appended to")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (%(default)s)")
    return parser.parse_args()


class Bench:
    """One service at a time, and its requests."""

    def __init__(self, dunnage, work, name):
        self.dunnage, self.work, self.name, self.files = dunnage, work, name, [f"file://{work / 'x.bin'}"]

    def serving(self, model, *options):
        return serving(self.dunnage, HERE / model, self.name, self.work / self.name, "--files-root", self.work, *options)

    def body(self, **params):
        return json.dumps({"Files": self.files, "Params": params})

    def load(self, url, connections, seconds, **params):
        body = self.work / "body.json"
        body.write_text(self.body(**params))
        load = put_under_load(port_of(url), "/output", body, connections, seconds)
        if load.errors:
            raise RuntimeError(f"{load.errors} requests failed under load")
        return load


def idle_connections(bench):
    """What a connection costs that has asked once and is kept alive, in KiB of the server's memory."""
    needed = CONNECTIONS + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    with bench.serving("busy.py", "--max-connections", CONNECTIONS + 50, "--keep-alive", "10m") as url:
        server = tree_of(bench.work / bench.name)
        bench.load(url, 64, 1)
        before = server.pss_mib()
        connections = [asked_once(port_of(url)) for _ in range(CONNECTIONS)]
        after = server.pss_mib()
        for connection in connections:
            connection.close()
    return {"connections": CONNECTIONS, "kib_each": (after - before) * 1024 / CONNECTIONS}


def asked_once(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if not connection.recv(4096).startswith(b"HTTP/1.1 200 "):
        raise RuntimeError("a connection was not answered")
    return connection


def claims(bench):
    """From a job's submission to its start, with few jobs in the table and with a million finished ones."""
    database = os.environ["DATABASE_URL"]
    with bench.serving("../jobs/model.py", "--database-url", database) as url:
        for _ in range(20):
            delay_alone(url, bench.body().encode())
        empty = [delay_alone(url, bench.body().encode()) for _ in range(CLAIMS)]
        job = json.load(urllib.request.urlopen(f"{url}/jobs?limit=1", timeout=30))["jobs"][0]["jobId"]
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(MULTIPLY, (FINISHED, job))
            connection.execute("VACUUM ANALYZE job")
            # Or a gigabyte would be written to disk meanwhile.
            connection.execute("CHECKPOINT")
        full = [delay_alone(url, bench.body().encode()) for _ in range(CLAIMS)]
    return {"empty_p50_ms": median(empty), "empty_p99_ms": p99(empty), "full_p50_ms": median(full), "full_p99_ms": p99(full)}


def second_worker(bench):
    """Calls a second of a script that only computes, with one worker and with two."""
    rates = []
    for workers in (1, 2):
        with bench.serving("busy.py", "--workers", workers) as url:
            bench.load(url, 8, 1, busy=True)
            rates.append(bench.load(url, 8, 4, busy=True).rate)
    return {"one_rate": rates[0], "two_rate": rates[1], "ratio": rates[1] / rates[0]}


def beside_training(bench):
    """The median latency of answers with and without a training that never gives up its interpreter's lock."""
    with bench.serving("busy.py") as url, cores_kept_awake():
        train(bench, url, 0.1)
        quiet = bench.load(url, 1, 3).p50_ms
        training = threading.Thread(target=train, args=(bench, url, 6))
        training.start()
        time.sleep(1)
        busy = bench.load(url, 1, 3).p50_ms
        training.join()
    return {"quiet_p50_ms": quiet, "training_p50_ms": busy, "ratio": busy / quiet}


def train(bench, url, seconds):
    status, answer = ask(port_of(url), "/train", bench.body(seconds=seconds))
    if status >= 300:
        raise RuntimeError(f"the training was not accepted: {answer!r}")
    job = json.loads(answer)["jobId"]
    while json.load(urllib.request.urlopen(f"{url}/status?jobId={job}", timeout=30))["status"] == "running":
        time.sleep(0.05)


def lua_loop(bench):
    """Seconds of a numeric loop in a worker and under plain `luajit`."""
    program = f"print(dofile({str(HERE / 'numeric.lua')!r}).output()[1])"
    with bench.serving("numeric.lua") as url:
        pairs = []
        for _ in range(5):
            alone = float(subprocess.run(["luajit", "-e", program], check=True, capture_output=True, text=True).stdout)
            pairs.append((json.loads(ask(port_of(url), "/output", bench.body())[1])["outputVector"][0], alone))
    return {"worker_s": median(ours for ours, _ in pairs), "luajit_s": median(alone for _, alone in pairs), "ratio": median(ours / alone for ours, alone in pairs)}


def port_of(url):
    return int(url.rpartition(":")[2])


def p99(delays):
    return sorted(delays)[int(len(delays) * 0.99)]


if __name__ == "__main__":
    main()
