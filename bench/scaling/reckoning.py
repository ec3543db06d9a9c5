"""Where one PostgreSQL ends, on paper, from what `footprint.py` has measured. `docs/scaling.md` has the formulas in words."""

from dataclasses import dataclass

BUSY = 0.7  # how busy job workers are kept, and how much of the database's cores may be used
NOTIFICATIONS_A_SECOND = 10  # a replica tells the others of new jobs at most so often: once in 100 ms
CONNECTIONS = 10  # of a replica: --database-connections, one for renewals, one that listens
RETENTION_DAYS = 7  # --retention
PAGE_BYTES = 8_192
DAY = 86_400


@dataclass(frozen=True)
class Load:
    """What a fleet asks of its database, each second."""

    jobs: float
    polling_cores: float
    hint_cores: float
    job_cores: float

    @property
    def cores(self):
        return self.polling_cores + self.hint_cores + self.job_cores


def load(footprint, replicas, job_s):
    """Of a service whose jobs come one by one, spread over all replicas, each with one job worker.

    A job's hint goes to every replica, and each that is idle tries to claim: this grows with the square of the replicas.
    """
    jobs = BUSY * replicas / job_s
    hints = min(jobs, NOTIFICATIONS_A_SECOND * replicas)
    heard = replicas * footprint["listener_cpu_ms"] + (1 - BUSY) * replicas * footprint["claim_cpu_ms"]
    return Load(
        jobs,
        polling_cores=replicas * footprint["idle_cpu_ms_per_second"] / 1000,
        hint_cores=hints * (footprint["notify_cpu_ms"] + heard) / 1000,
        job_cores=jobs * footprint["single_job_cpu_ms"] / 1000,
    )


def most_replicas(footprint, job_s, cores):
    """How many replicas a database with so many cores bears."""
    few, many = 0, 100_000
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if load(footprint, middle, job_s).cores <= BUSY * cores else (few, middle - 1)
    return few


def kept_gb(footprint, jobs_a_second):
    """What ended jobs take up on the disk until they are removed."""
    return jobs_a_second * DAY * RETENTION_DAYS * (footprint["row_bytes"] + footprint["index_bytes"]) / 1e9


def log_gb_a_day(footprint, jobs_a_second):
    """How much write-ahead log is written at most: ids are random, so that in a large table each job is the first after a
    checkpoint to touch its page of the index of ids, and the log gets the whole page."""
    return jobs_a_second * DAY * (footprint["single_job_wal_bytes"] + PAGE_BYTES) / 1e9
