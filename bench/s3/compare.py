#!/usr/bin/env python3
"""Measures how fast one large object arrives, beside what public clients take, and how much memory the server takes for it.

S3 is where the usual AWS variables say, with a bucket named by DUNNAGE_TEST_BUCKET. Every round has each client fetch the same
object once, in turn, into the same folder; the medians are compared, because the machine's speed drifts. Of the server, the time
is its own (`files` in `Server-Timing`), from the request for the object to the complete, verified file in its cache.
"""

import argparse
import hashlib
import http.client
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from clients import clients, s3_client

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "serving"), str(HERE.parents[1] / "examples" / "keystroke")]
from process import tree_of  # noqa: E402
from service import serving  # noqa: E402  (the demo's way of starting and ending a server)

MODEL = """
def output(files, ctx):
    return [files[0].size]
"""
MIB = 1 << 20
OURS = "dunnage"
MEMORY_LIMIT_MIB = 64
RATIO_WANTED = 0.8


def main():
    arguments = parse_arguments()
    bucket = os.environ["DUNNAGE_TEST_BUCKET"]
    with tempfile.TemporaryDirectory(prefix="bench-s3-") as folder:
        folder = Path(folder)
        digest = put_objects(folder, bucket, arguments.size * MIB, arguments.rounds)
        (folder / "model.py").write_text(MODEL)
        with serving(arguments.dunnage, folder / "model.py", "bench", folder / "server", "--max-batch", 1) as url:
            server = Server(url, tree_of(folder / "server").pid)
            server.fetch(bucket, "bench/small")
            memory_before = server.forget_memory_peak()
            rounds = [one_round(server, folder, bucket, f"bench/{number}", digest) for number in range(arguments.rounds)]
            memory = server.memory_mib("VmHWM") - memory_before
    return report(arguments, rounds, memory)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--size", type=int, default=1024, help="the object's size in MiB (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each client fetches it (%(default)s)")
    return parser.parse_args()


def put_objects(folder, bucket, size, count):
    """Puts a large object of random bytes several times, and a small one; returns the large one's SHA-256."""
    path, digest = folder / "object", hashlib.sha256()
    generator = random.Random(2009)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            block = generator.randbytes(MIB)
            digest.update(block)
            file.write(block)
    client = s3_client()
    for number in range(count):
        client.upload_file(str(path), bucket, f"bench/{number}")
    client.put_object(Bucket=bucket, Key="bench/small", Body=b"small")
    path.unlink()
    return digest.hexdigest()


class Server:
    """The server that is measured."""

    def __init__(self, url, process):
        self.host, self.process = urlsplit(url).netloc, process

    def fetch(self, bucket, key):
        """Has the server fetch an object, and returns the seconds that it took for that."""
        connection = http.client.HTTPConnection(self.host, timeout=600)
        body = json.dumps({"Files": [f"s3://{bucket}/{key}"]})
        connection.request("POST", "/output", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"/output answered {response.status}: {answer[:500]!r}")
        stages = dict(stage.split(";dur=") for stage in response.getheader("Server-Timing").split(", "))
        return float(stages["files"]) / 1000

    def forget_memory_peak(self):
        """Begins to measure the peak of the server's memory anew, and returns what it has now, in MiB."""
        Path(f"/proc/{self.process}/clear_refs").write_text("5")
        return self.memory_mib("VmRSS")

    def memory_mib(self, name):
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def one_round(server, folder, bucket, key, digest):
    """The seconds that each client takes for the same object, the server first or last by turns."""
    times = {}
    order = [OURS, *clients()]
    random.shuffle(order)
    for name in order:
        if name == OURS:
            times[name] = server.fetch(bucket, key)
        else:
            path = folder / "fetched"
            started = time.monotonic()
            try:
                clients()[name](bucket, key, path)
            except Exception as error:  # whatever a client raises, the others are still measured
                print(f"{name} cannot fetch the object from this server: {error}", flush=True)
                path.unlink(missing_ok=True)
                continue
            times[name] = time.monotonic() - started
            check(name, path, digest)
    print("round:", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(times.items())), flush=True)
    return times


def check(name, path, digest):
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise RuntimeError(f"{name} fetched something else")
    path.unlink()


def report(arguments, rounds, memory):
    whole = [name for name in rounds[0] if all(name in times for times in rounds)]
    medians = {name: median(times[name] for times in rounds) for name in whole}
    best = min((name for name in medians if name != OURS), key=medians.get)
    print(f"\n{arguments.size} MiB, median of {arguments.rounds} rounds")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        print(f"  {name:<16} {seconds:7.2f} s {arguments.size / seconds:8.0f} MiB/s")
    ratio = medians[best] / medians[OURS]
    print(f"  {OURS} has {ratio:.2f} of the speed of the best of them ({best}); its memory grew by {memory:.0f} MiB at most")
    return 0 if ratio >= RATIO_WANTED and memory < MEMORY_LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
