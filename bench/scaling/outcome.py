"""What came of a run, and its figures."""

from array import array
from dataclasses import dataclass, field

from demand import HOUR
from policy import Datapoint


@dataclass(frozen=True)
class Minute:
    """A minute of a run."""

    point: Datapoint
    longest_wait_s: float  # of the jobs begun in it, or of the one that still waits


@dataclass
class Outcome:
    """Everything that is counted while a fleet runs. Each job that arrived is done, waiting or running."""

    arrived: int = 0
    done: int = 0
    waiting: int = 0
    running: int = 0
    handed_back: int = 0
    refused: int = 0
    replica_s: float = 0.0
    job_waits: array = field(default_factory=lambda: array("d"))  # of each job; of those that still wait, so far
    answers: array = field(default_factory=lambda: array("d"))  # from a request to its answer
    minutes: list[Minute] = field(default_factory=list)

    def figures(self):
        """The row of the tables, by the names of its columns."""
        waits, answers = sorted(self.job_waits), sorted(self.answers)
        return {
            "wait_p50_s": quantile(waits, 0.5),
            "wait_p99_s": quantile(waits, 0.99),
            "wait_max_s": quantile(waits, 1.0),
            "largest_backlog": max((minute.point.backlog for minute in self.minutes), default=0),
            "left": self.waiting,
            "answer_p99_ms": quantile(answers, 0.99) * 1000,
            "refused_share": self.refused / max(1, self.refused + len(answers)),
            "most_replicas": max((minute.point.running for minute in self.minutes), default=0),
            "replica_hours": self.replica_s / HOUR,
        }


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
