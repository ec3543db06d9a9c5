#!/usr/bin/env python3
"""Makes `RESULTS.md` and its plots from what `serving/`, `jobs/`, `growth/` and `users/` have measured."""

import argparse
import json
import os
import platform
from collections import defaultdict
from datetime import date
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "dunnage"  # the same figures make the same file
from matplotlib import pyplot  # noqa: E402

LIMIT, OURS = "limit (actix-web)", "dunnage"
JOBS_LIMIT, OUR_JOBS = "limit (SQL batches)", "dunnage, PostgreSQL"
TITLES = {"constant": "A constant vector", "means": "Reads 4 KiB, numpy means", "mlp": "A perceptron in batches of up to 32"}
COLUMNS = [
    ("rate", "requests/s", "{:,.0f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("cpu_us", "CPU µs/request", "{:,.0f}"),
    ("alone_p50_ms", "p50 ms, one connection", "{:.2f}"),
    ("cold_start_s", "cold start s", "{:.2f}"),
    ("idle_pss_mib", "idle PSS MiB", "{:.0f}"),
]

GROWTH = {
    "idle_connections": ("10,000 idle connections", [("kib_each", "KiB of memory each", "{:.1f}")]),
    "claims": (
        "1,000,000 finished jobs in the table",
        [("empty_p50_ms", "put to start without them, p50 ms", "{:.1f}"), ("empty_p99_ms", "p99 ms", "{:.1f}")]
        + [("full_p50_ms", "put to start with them, p50 ms", "{:.1f}"), ("full_p99_ms", "p99 ms", "{:.1f}")],
    ),
    "second_worker": (
        "A script that only computes",
        [("one_rate", "calls/s, one worker", "{:,.0f}"), ("two_rate", "calls/s, two workers", "{:,.0f}"), ("ratio", "ratio", "{:.2f}")],
    ),
    "beside_training": (
        "Answers while a training holds its interpreter's lock",
        [("quiet_p50_ms", "p50 ms without", "{:.2f}"), ("training_p50_ms", "p50 ms with", "{:.2f}"), ("ratio", "ratio", "{:.2f}")],
    ),
    "lua_loop": (
        "A numeric loop in Lua",
        [("worker_s", "s in a worker", "{:.3f}"), ("luajit_s", "s under luajit", "{:.3f}"), ("ratio", "ratio", "{:.3f}")],
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serving", type=Path, help="what serving/compare.py has written")
    parser.add_argument("--jobs", type=Path, help="what jobs/compare.py has written")
    parser.add_argument("--growth", type=Path, help="what growth/measure.py has written")
    parser.add_argument("--users", type=Path, help="what users/enrol.py has written")
    parser.add_argument("--into", type=Path, required=True, help="the folder for RESULTS.md and its plots")
    arguments = parser.parse_args()
    parts = [heading()]
    if arguments.serving:
        parts += serving(read(arguments.serving), arguments.into)
    if arguments.jobs:
        parts += jobs(read(arguments.jobs), arguments.into)
    if arguments.growth:
        parts += growth(read(arguments.growth))
    if arguments.users:
        parts += users(read(arguments.users))
    (arguments.into / "RESULTS.md").write_text("\n\n".join(parts) + "\n")


def heading():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        "# Results\n\n"
        f"Made by `make bench` on {date.today()}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}. "
        "Medians over rounds in which everything took turns. Absolute figures drift with the machine; what counts are the ratios, "
        "each the median of those within a round. What is measured, and how, is in [README.md](README.md)."
    )


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def serving(records, into):
    parts = []
    for model, title in TITLES.items():
        of_model = [record for record in records if record["model"] == model]
        if not of_model:
            continue
        by_subject = grouped(of_model)
        compared = [name for name in (LIMIT, "direct loop") if name in by_subject]
        rows = []
        for name in sorted(by_subject, key=lambda name: -middle(by_subject[name], "rate")):
            figures = [form.format(middle(by_subject[name], key)) if key in by_subject[name][0] else "–" for key, _, form in COLUMNS]
            rows.append([name, *figures, *(ratio_text(of_model, name, other, "rate") for other in [OURS, *compared])])
        titles = ["server", *(title for _, title, _ in COLUMNS), *(f"rate: {name}" for name in [OURS, *compared])]
        parts += [f"## {title}", table(titles, rows)]
        plot = into / f"serving-{model}.svg"
        bars(plot, title, "requests/s, 64 connections", {name: middle(by_subject[name], "rate") for name in by_subject})
        parts.append(f"![{title}]({plot.name})")
    return parts


def jobs(records, into):
    by_subject = grouped(records)
    rows = []
    for name in sorted(by_subject, key=lambda name: -middle(by_subject[name], "rate")):
        starts = sorted(delay for record in by_subject[name] for delay in record.get("start_ms", []))
        delays = [f"{median(starts):.1f}", f"{starts[int(len(starts) * 0.99)]:.1f}"] if starts else ["–", "–"]
        row = [name, f"{middle(by_subject[name], 'rate'):,.0f}", *delays]
        rows.append([*row, *(ratio_text(records, name, other, "rate") for other in (OUR_JOBS, JOBS_LIMIT))])
    titles = ["queue", "jobs/s", "put to start, p50 ms", "p99 ms", f"rate: {OUR_JOBS}", f"rate: {JOBS_LIMIT}"]
    plot = into / "jobs.svg"
    bars(plot, "Durable jobs", "jobs/s, put to finished", {name: middle(by_subject[name], "rate") for name in by_subject})
    return ["## Durable jobs", table(titles, rows), f"![Durable jobs]({plot.name})"]


def growth(records):
    rows = []
    for measure, (title, figures) in GROWTH.items():
        of_measure = [record for record in records if record["measure"] == measure]
        if of_measure:
            rows += [[title, name, form.format(middle(of_measure, key))] for key, name, form in figures]
    return ["## As a service grows", table(["what", "figure", "median"], rows)]


def users(records):
    titles = ["store", "users", "enrolled/s", "CPU ms each", "answers/s", "CPU ms each", "wrong"]
    keys = [("users", "{:,}"), ("enrolled_per_second", "{:,.0f}"), ("enrol_cpu_ms", "{:.2f}"), ("answers_per_second", "{:,.0f}")]
    keys += [("answer_cpu_ms", "{:.2f}"), ("wrong", "{}")]
    rows = [[record["store"], *(form.format(record[key]) for key, form in keys)] for record in records]
    return ["## Many users", table(titles, rows)]


def grouped(records):
    groups = defaultdict(list)
    for record in records:
        groups[record["subject"]].append(record)
    return groups


def middle(records, key):
    return median(record[key] for record in records if key in record)


def ratio_text(records, name, other, key):
    """How `name` does in units of `other`: the median over the rounds that have both."""
    rounds = defaultdict(dict)
    for record in records:
        rounds[record["round"]].setdefault(record["subject"], []).append(record[key])
    ratios = [median(found[name]) / median(found[other]) for found in rounds.values() if name in found and other in found]
    return f"{median(ratios):.2f}" if ratios else "–"


def table(titles, rows):
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bars(path, title, unit, values):
    names = sorted(values, key=values.get)
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1.2))
    drawn = axes.barh(names, [values[name] for name in names], color=["#1f6f8b" if name.startswith(OURS) else "#b8c4cc" for name in names])
    axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
    axes.set(title=title, xlabel=unit)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
