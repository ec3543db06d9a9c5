#!/usr/bin/env python3
"""Simulates every policy on every day, and writes the tables of `docs/scaling.md` and the plots beside it."""

import argparse
import json
import math
import re
import sys
from pathlib import Path

from capacity import FILE, capacity
from demand import DAY, Users
from fleet import Fleet
from policy import Fixed, Target, Tracking, backlog_per_replica, cpu, job_workers_busy, serving_busy
from plots import plot
from replica import Script
from tables import ends_table, fed_table, footprint_table, outcomes_table

BEARABLE_WAIT_S = 10.0
COMPUTES, WAITS = "computes", "waits"
SCRIPTS = {COMPUTES: Script(job_cpu=1.0), WAITS: Script(job_cpu=0.1)}
DAYS = {"day": "An ordinary day", "spike": "A day on which everybody enrols at noon"}
KINDS = {COMPUTES: "jobs that compute", WAITS: "jobs that wait for a GPU or for S3"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=Path, default=FILE, help="the measured figures (%(default)s)")
    parser.add_argument("--page", type=Path, required=True, help="docs/scaling.md; plots go into a folder of its name")
    parser.add_argument("--seed", type=int, default=2026, help="what arrivals and lengths of jobs are drawn from (%(default)s)")
    arguments = parser.parse_args()
    figures = json.loads(arguments.capacity.read_text())
    users = Users()
    demands = {"day": users.day(arguments.seed), "spike": users.spike(arguments.seed)}
    folder = arguments.page.with_suffix("")
    folder.mkdir(exist_ok=True)
    parts = {"fed": fed_table(figures["speed"])}
    for day, demand in demands.items():
        for kind, script in SCRIPTS.items():
            outcomes = simulate(capacity(figures), script, users, demand, arguments.seed)
            plot(folder / f"{day}-{kind}.svg", f"{DAYS[day]}: {KINDS[kind]}", {name: it.minutes for name, it in outcomes.items()})
            parts[f"{day}-{kind}"] = outcomes_table(outcomes)
    parts |= {"footprint": footprint_table(figures["footprint"]), "ends": ends_table(figures["footprint"])}
    arguments.page.write_text(filled(arguments.page.read_text(), parts))


def policies(script, users):
    """What is compared, by name."""
    of_jobs, serving = script.job_s * users.count * users.jobs_a_day / DAY, Target(serving_busy, 0.7)
    backlog = Target(backlog_per_replica, BEARABLE_WAIT_S / script.job_s)
    return {
        "fixed, for the mean": Fixed(math.ceil(of_jobs / 0.8)),
        "fixed, for the peak": Fixed(math.ceil(of_jobs * users.peak / 0.8)),
        "CPU at 60 %": Tracking((Target(cpu, 0.6),)),
        "backlog": Tracking((backlog, serving)),
        "backlog and busy workers": Tracking((backlog, Target(job_workers_busy, 0.7), serving)),
    }


def simulate(measured, script, users, demand, seed):
    outcomes = {}
    for name, policy in policies(script, users).items():
        outcomes[name] = Fleet(measured, script, policy, seed=seed).run(demand, DAY)
        print(f"scaling: {name}: {outcomes[name].replica_s / 3600:.0f} replica-hours", flush=True)
    return outcomes


def filled(page, parts):
    """The page with each part between its marks."""
    for name, part in parts.items():
        marks = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(page):
            sys.exit(f"the page has no place for `{name}`; add the lines `<!-- {name}: made by make scaling -->` and `<!-- /{name} -->`")
        page = marks.sub(lambda found: f"{found[1]}{part}\n{found[2]}", page)
    return page


if __name__ == "__main__":
    sys.exit(main())
