#!/usr/bin/env python3
"""Measures what jobs, hints, reads of state and replicas with nothing to do cost the database that they share.

Its processor time, its log and its pages are taken, not anybody's speed, so that a busy machine does little harm. From these
figures `reckoning.py` says where one PostgreSQL ends. It is where DATABASE_URL says, on this machine, and nobody else uses it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psycopg

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent
sys.path[:0] = [str(BENCH / "jobs"), str(BENCH / "serving"), str(BENCH / "users"), str(BENCH.parent / "examples" / "keystroke")]
from compare import send_many, wait_for_all  # noqa: E402  (the jobs')
from enrol import for_each_user  # noqa: E402
from process import Tree  # noqa: E402
from service import serving  # noqa: E402  (the demo's way of starting and ending a server)

SETTLED_SECS = 11  # connections without work report what they have done every ten seconds
A_SECOND = 50
SIZES = "SELECT pg_table_size('job'), pg_indexes_size('job')"
COUNTERS = """
    SELECT xact_commit, (SELECT wal_bytes::float8 FROM pg_stat_wal) FROM pg_stat_database WHERE datname = current_database()
"""
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
LEFT = "SELECT count(*) FROM job WHERE service = %s"


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="bench-footprint-") as work, psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.autocommit = True
        bench = Bench(arguments, Path(work), connection)
        figures = bench.jobs_and_hints() | bench.removal() | bench.reads()
    with arguments.results.open("a") as results:
        print(json.dumps(figures), file=results)
    print(json.dumps(figures, indent=2))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dunnage", type=Path, required=True, help="the dunnage program")
    parser.add_argument("--results", type=Path, required=True, help="the file that the figures are appended to")
    parser.add_argument("--count", type=int, default=20_000, help="how many jobs at once, and how many reads (%(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="how long everything else lasts (%(default)s)")
    return parser.parse_args()


class Bench:
    """One service at a time, and the database as it is seen from outside."""

    def __init__(self, arguments, work, connection):
        self.arguments, self.work, self.connection = arguments, work, connection
        self.name = f"footprint-{os.getpid()}"
        self.database = Tree(None, parent_of(connection.info.backend_pid))
        (work / "x.bin").write_bytes(bytes(64))
        self.body = work / "body.json"
        self.body.write_text(json.dumps({"Files": [f"file://{work / 'x.bin'}"]}))

    def serving(self, model, *options):
        shared = ["--database-url", os.environ["DATABASE_URL"], "--files-root", self.work]
        return serving(self.arguments.dunnage, BENCH / model / "model.py", self.name, self.work / self.name, *shared, *options)

    def jobs_and_hints(self):
        """A replica with nothing to do; hints that nobody hears, that are for others, and for it where nothing is due; jobs one by
        one, and many at once."""
        count, steps = self.arguments.count, A_SECOND * self.arguments.seconds
        time.sleep(SETTLED_SECS)
        empty = self.during(lambda: time.sleep(self.arguments.seconds))
        unheard = self.during(lambda: self.steadily(lambda: self.hint("nobody")))
        with self.serving("jobs") as url:
            self.many(url, 1000)  # until everything is warm
            time.sleep(SETTLED_SECS)
            idle = self.during(lambda: time.sleep(self.arguments.seconds))
            deaf = self.during(lambda: self.steadily(lambda: self.hint("nobody")))
            woken = self.during(lambda: self.steadily(lambda: self.hint(self.name)))
            single = self.during(lambda: self.steadily(lambda: self.put(url)))
            before = self.sizes()
            many = self.during(lambda: self.many(url, count))
            table, indexes = (now - then for now, then in zip(self.sizes(), before))
            connections = self.connection.execute(OTHERS).fetchone()[0]
        return {
            "connections": connections,
            "idle_statements_per_second": idle["transactions"] / idle["seconds"],
            "idle_cpu_ms_per_second": (idle["cpu_ms"] - empty["cpu_ms"]) / idle["seconds"],
            "notify_cpu_ms": (unheard["cpu_ms"] - empty["cpu_ms"]) / steps,
            # The difference of four spans may come out below nothing where it is less than they vary by.
            "listener_cpu_ms": max(0.0, deaf["cpu_ms"] - idle["cpu_ms"] - unheard["cpu_ms"] + empty["cpu_ms"]) / steps,
            "claim_cpu_ms": (woken["cpu_ms"] - deaf["cpu_ms"]) / steps,
            "claims_per_hint": (woken["transactions"] - deaf["transactions"]) / steps,
            "single_job_cpu_ms": (single["cpu_ms"] - idle["cpu_ms"]) / steps,
            "single_job_wal_bytes": single["wal_bytes"] / steps,
            "many_jobs_cpu_ms": many["cpu_ms"] / count,
            "many_jobs_wal_bytes": many["wal_bytes"] / count,
            "many_jobs_transactions": many["transactions"] / count,
            "row_bytes": table / count,
            "index_bytes": indexes / count,
        }

    def removal(self):
        """How fast one replica removes jobs whose retention has ended."""
        with self.serving("jobs", "--retention", "1s"):
            begin, first = time.monotonic(), self.connection.execute(LEFT, [self.name]).fetchone()[0]
            while left := self.connection.execute(LEFT, [self.name]).fetchone()[0]:
                if time.monotonic() - begin > 300:
                    raise RuntimeError(f"{left} jobs are still there after their retention")
                time.sleep(0.05)
            return {"removed_per_second": first / (time.monotonic() - begin)}

    def reads(self):
        """What a request for `/output` costs that reads the state of a user who was not asked for lately."""
        with self.serving("users", "--state-max-stale", "0s") as url:
            for_each_user(url, "input", 1000, self.work)
            wait_for_all(url, self.name)
            time.sleep(SETTLED_SECS)
            read = self.during(lambda: [for_each_user(url, "output", 1000, self.work) for _ in range(self.arguments.count // 1000)])
        return {"read_cpu_ms": read["cpu_ms"] / (self.arguments.count // 1000 * 1000)}

    def many(self, url, count):
        send_many(url, self.body, count)
        wait_for_all(url, self.name, 600)

    def put(self, url):
        request = urllib.request.Request(f"{url}/input", self.body.read_bytes(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).read()

    def hint(self, service):
        """Tells every replica, as another one would, that a job of a service may be due."""
        self.connection.execute("SELECT pg_notify('dunnage_work', %s)", [service])

    def steadily(self, action):
        begin = time.monotonic()
        for number in range(A_SECOND * self.arguments.seconds):
            time.sleep(max(0.0, begin + number / A_SECOND - time.monotonic()))
            action()

    def sizes(self):
        return self.connection.execute(SIZES).fetchone()

    def during(self, action):
        """What the database has done while `action` ran, and in the time that its processes take to tell of it."""
        begin, cpu_s, before = time.monotonic(), self.database.cpu_seconds(), self.connection.execute(COUNTERS).fetchone()
        action()
        time.sleep(SETTLED_SECS)
        transactions, wal_bytes = (now - then for now, then in zip(self.connection.execute(COUNTERS).fetchone(), before))
        cpu_ms = (self.database.cpu_seconds() - cpu_s) * 1000
        return {"seconds": time.monotonic() - begin, "transactions": transactions, "wal_bytes": wal_bytes, "cpu_ms": cpu_ms}


def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    sys.exit(main())
