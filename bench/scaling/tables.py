"""The tables of `docs/scaling.md`."""

from dataclasses import dataclass

import reckoning

PRICE = 0.058  # a replica's hour, in dollars: a core and 4 GiB on Fargate, about


def outcomes_table(outcomes):
    titles = ["policy", "jobs wait, p50", "p99", "longest", "largest backlog", "wait at midnight", "`/output` p99", "refused"]
    rows = []
    for name, outcome in outcomes.items():
        it = outcome.figures()
        waits = [lasting(it[key]) for key in ("wait_p50_s", "wait_p99_s", "wait_max_s")]
        row = [name, *waits, f"{it['largest_backlog']:,}", f"{it['left']:,}", f"{it['answer_p99_ms']:.0f} ms"]
        rows.append([*row, f"{it['refused_share']:.1%}", it["most_replicas"], f"{it['replica_hours']:.0f}", f"${it['replica_hours'] * PRICE:.2f}"])
    return table([*titles, "most replicas", "replica-hours", "cost"], rows)


def fed_table(speed):
    between = f"{1e6 / speed['jobs_per_second']:.0f} µs ({speed['jobs_per_second']:,.0f} jobs/s)"
    rows = [
        ["processor time of server and worker for a request, beside the script's", f"{speed['request_cpu_us']:.0f} µs"],
        ["what lies between two jobs of a worker", between],
        ["from a job's arrival to its start, where a worker is idle", f"{speed['job_start_ms']:.1f} ms"],
        ["from the start of the process to its first answer", f"{speed['cold_start_s']:.2f} s"],
    ]
    return f"From {speed['source']}.\n\n" + table(["measured", ""], rows)


FOOTPRINT = [
    ("idle_statements_per_second", "statements a second of a replica that has nothing to do", "{:.1f}"),
    ("idle_cpu_ms_per_second", "processor time for them, a second", "{:.1f} ms"),
    ("notify_cpu_ms", "a notification (`NOTIFY`)", "{:.2f} ms"),
    ("listener_cpu_ms", "each replica of whatever service that hears it", "{:.2f} ms"),
    ("claim_cpu_ms", "each idle replica of its service, which then tries to claim", "{:.2f} ms"),
    ("claims_per_hint", "how many claims it tries for one notification", "{:.1f}"),
    ("single_job_cpu_ms", "a job that comes alone: put, claimed, ended, one notification", "{:.2f} ms"),
    ("many_jobs_cpu_ms", "a job of many at once", "{:.2f} ms"),
    ("many_jobs_transactions", "transactions a job, of many at once", "{:.2f}"),
    ("single_job_wal_bytes", "write-ahead log of a job that comes alone", "{:,.0f} bytes"),
    ("many_jobs_wal_bytes", "write-ahead log of a job of many", "{:,.0f} bytes"),
    ("row_bytes", "an ended job in its table", "{:,.0f} bytes"),
    ("index_bytes", "the same in the table's indexes", "{:,.0f} bytes"),
    ("removed_per_second", "ended jobs that one replica removes a second", "{:,.0f}"),
    ("read_cpu_ms", "a read of state that no cache answers", "{:.2f} ms"),
    ("connections", "connections of one replica", "{:.0f}"),
]


def footprint_table(footprint):
    rows = [[title, form.format(footprint[key])] for key, title, form in FOOTPRINT]
    return f"From {footprint['source']}.\n\n" + table(["measured", ""], rows)


@dataclass(frozen=True)
class Size:
    cores: int
    connections: int


SIZES = [Size(2, 200), Size(8, 2_000), Size(32, 5_000)]


def ends_table(footprint):
    """How many replicas each size of database bears, for jobs of several lengths."""
    rows = []
    for job_s in (0.1, 2.0, 60.0):
        for size in SIZES:
            by_cpu = reckoning.most_replicas(footprint, job_s, size.cores)
            by_connections = size.connections // reckoning.CONNECTIONS
            replicas = min(by_cpu, by_connections)
            jobs = reckoning.load(footprint, replicas, job_s).jobs
            row = [f"{job_s:g} s", f"{size.cores}", f"{by_cpu:,}", f"{by_connections:,}", f"{jobs:,.1f}"]
            log, kept = reckoning.log_gb_a_day(footprint, jobs), reckoning.kept_gb(footprint, jobs)
            rows.append([*row, f"{log:,.1f} GB", f"{kept:,.1f} GB"])
    titles = ["a job takes", "cores", "replicas by processor", "by connections", "jobs/s at the smaller", "log a day, at most"]
    return table([*titles, "jobs of 7 days"], rows)


def lasting(seconds):
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def table(titles, rows):
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
