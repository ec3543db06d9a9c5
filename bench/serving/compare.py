#!/usr/bin/env python3
"""Measures this project's server beside its peers and beside the web framework alone, all on this machine, taking turns.

Each round starts every server anew for every model, in an order of its own, and notes how long it takes to the first answer, its
memory when idle, its throughput and processor time with 64 connections, and its latency with one. Absolute figures drift with the
machine; what is compared are medians of the ratios within a round. Every figure goes into a file of JSON lines, from which
`report.py` makes tables.
"""

import argparse
import json
import math
import os
import random
import socket
import sys
import tempfile
import time
from pathlib import Path

import models
from load import ask, first_answer, put_under_load
from process import cores_kept_awake, running
from subjects import ALL, subjects

MANY = 64


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as work:
        work = Path(work)
        (work / "x.bin").write_bytes(random.Random(2026).randbytes(4096))
        chosen = choose(subjects(arguments.dunnage.resolve(), arguments.limit.resolve(), arguments.venvs.resolve(), work), arguments.only)
        failures = 0
        with arguments.results.open("a") as results:
            for round_number in range(arguments.rounds):
                failures += one_round(arguments, chosen, work, round_number, results)
    return 1 if failures else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--limit", type=Path, required=True, help="the bare handler, dunnage-limit")
    parser.add_argument("--venvs", type=Path, default=Path(".venv-bench"), help="the folder with a virtualenv a peer (%(default)s)")
    parser.add_argument("--results", type=Path, required=True, help="the file that the figures are appended to")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each load lasts (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=ALL, default=ALL, help="the models (all)")
    parser.add_argument("--only", nargs="+", help="names of servers; without it, all that are installed")
    return parser.parse_args()


def choose(found, only):
    known = {subject.name for subject in found}
    if missing := set(only or ()) - known:
        sys.exit(f"not installed here: {', '.join(sorted(missing))}; there are {', '.join(sorted(known))}")
    return [subject for subject in found if not only or subject.name in only]


def one_round(arguments, chosen, work, round_number, results):
    """Measures every server with every model that it can serve; returns how many could not be measured."""
    turns = [(subject, model) for model in arguments.models for subject in chosen if model in subject.models]
    random.shuffle(turns)
    failures = 0
    for subject, model in turns:
        try:
            figures = measure(subject, model, work, arguments.seconds)
        except (RuntimeError, OSError) as error:  # the others are still measured
            print(f"{subject.name} with {model} cannot be measured: {error}", flush=True)
            failures += 1
            continue
        record = {"round": round_number, "subject": subject.name, "model": model, **figures}
        print(json.dumps(record), file=results, flush=True)
        print(f"{round_number} {model:<9} {subject.name:<18} {figures['rate']:9.0f}/s {figures['cpu_us']:7.1f} µs", flush=True)
    if "mlp" in arguments.models:
        print(json.dumps({"round": round_number, "subject": "direct loop", "model": "mlp", "rate": direct_rows(work)}), file=results)
    return failures


def measure(subject, model, work, seconds):
    """All figures of one server with one model."""
    port = free_port()
    address = f"file://{work / 'x.bin'}"
    body = subject.body(address)
    body_file = work / "body.json"
    body_file.write_text(body)
    log = work / f"{subject.name.split()[0]}.log"
    begin = time.monotonic()
    with running(subject, port, model, log) as tree:
        try:
            check(subject, model, first_answer(port, subject.route, body, tree.process, subject.patience), work)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error
        cold_start = time.monotonic() - begin
        put_under_load(port, subject.route, body_file, MANY, 1)
        time.sleep(0.5)
        figures = {"cold_start_s": cold_start, "idle_pss_mib": tree.pss_mib()}
        before = tree.cpu_seconds()
        many = put_under_load(port, subject.route, body_file, MANY, seconds)
        used = tree.cpu_seconds() - before
        with cores_kept_awake():
            one = put_under_load(port, subject.route, body_file, 1, max(seconds // 2, 1))
        check(subject, model, answer_now(port, subject, body), work)
    if many.errors or one.errors or not many.requests:
        raise RuntimeError(f"{many.errors + one.errors} requests failed under load")
    return figures | {
        "rate": many.rate,
        "p50_ms": many.p50_ms,
        "p99_ms": many.p99_ms,
        "cpu_us": used / many.requests * 1e6,
        "alone_p50_ms": one.p50_ms,
        "alone_p99_ms": one.p99_ms,
    }


def answer_now(port, subject, body):
    status, answer = ask(port, subject.route, body)
    if status != 200:
        raise RuntimeError(f"after the load the answer is {status} {answer[:200]!r}")
    return json.loads(answer)


def check(subject, model, answer, work):
    """Speed counts only for right answers."""
    found, expected = list(subject.vector(answer)), list(models.ONE[model](work / "x.bin"))
    right = len(found) == len(expected) and all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5) for a, b in zip(found, expected))
    if not right:
        raise RuntimeError(f"the vector is {found[:3]}… instead of {expected[:3]}…")


def direct_rows(work, seconds=1.0):
    """Rows a second of the perceptron called in a loop, full batches, with nothing around it."""
    paths = [work / "x.bin"] * models.MAX_BATCH
    models.mlp_batch(paths)
    rows, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        models.mlp_batch(paths)
        rows += len(paths)
    return rows / (time.monotonic() - begin)


def free_port():
    """A port with its next two, and those a thousand and two thousand further, most likely free too: some servers want them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1] % 20000 + 10000


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
