#!/usr/bin/env python3
"""Writes `capacity.json`, the figures that the simulation is fed with, from what `make bench` has measured."""

import argparse
import json
import os
import sys
from datetime import date
from pathlib import Path
from statistics import median

from replica import Capacity

FILE = Path(__file__).resolve().with_name("capacity.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serving", type=Path, help="what serving/compare.py has written")
    parser.add_argument("--jobs", type=Path, help="what jobs/compare.py has written")
    parser.add_argument("--footprint", type=Path, help="what scaling/footprint.py has written; without it, what is known stays")
    parser.add_argument("--into", type=Path, default=FILE, help="the file to write (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.footprint and not (arguments.serving and arguments.jobs):
        parser.error("nothing to take figures from; give `--serving` with `--jobs`, or `--footprint`")
    figures = json.loads(arguments.into.read_text()) if arguments.into.exists() else {}
    source = {"source": f"`make bench` on {date.today()}, {os.cpu_count()} cores"}
    if arguments.serving and arguments.jobs:
        figures["speed"] = source | speed(read(arguments.serving), read(arguments.jobs))
    if arguments.footprint:
        figures["footprint"] = source | footprint(read(arguments.footprint))
    arguments.into.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def speed(serving, jobs):
    """What the product takes: medians over the rounds."""
    ours = [record for record in serving if record["subject"] == "dunnage" and record["model"] == "constant"]
    durable = [record for record in jobs if record["subject"] == "dunnage, PostgreSQL"]
    return {
        "request_cpu_us": median(record["cpu_us"] for record in ours),
        "cold_start_s": median(record["cold_start_s"] for record in ours),
        "jobs_per_second": median(record["rate"] for record in durable),
        "job_start_ms": median(delay for record in durable for delay in record["start_ms"]),
    }


def footprint(records):
    """What it costs its database: medians."""
    return {key: median(record[key] for record in records) for key in records[0]}


def capacity(figures):
    """What the simulation takes of the figures."""
    figures = figures["speed"]
    return Capacity(
        request_cpu_s=figures["request_cpu_us"] / 1e6,
        job_s=1 / figures["jobs_per_second"],
        start_s=figures["job_start_ms"] / 1000,
        cold_start_s=figures["cold_start_s"],
    )


if __name__ == "__main__":
    sys.exit(main())
