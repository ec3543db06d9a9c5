"""What is known of queues on paper comes out of the simulation."""

import math
import sys
import unittest
from array import array
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demand import Demand, arrivals  # noqa: E402
from fleet import Fleet  # noqa: E402
from policy import Fixed  # noqa: E402
from replica import Capacity, Script  # noqa: E402

NOTHING = Capacity(request_cpu_s=0.0, job_s=0.0, start_s=0.0, cold_start_s=0.0)
LONG = 1_000_000.0


@dataclass(frozen=True)
class Memoryless(Script):
    """A script whose jobs take exponentially distributed times, as in textbooks."""

    def draw_job(self, draw):
        return draw.expovariate(1 / self.job_s)


def steady(rate, seed=1, until=LONG):
    return arrivals([rate] * int(until / 60), Random(seed))


def waits_of_jobs(script, replicas, utilisation):
    jobs = steady(replicas * utilisation / script.job_s)
    return Fleet(NOTHING, script, Fixed(replicas)).run(Demand(array("d"), jobs), LONG)


def erlang_c(servers, offered):
    """The chance of having to wait where arrivals and services have no memory."""
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    waiting = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return waiting / (sum(terms) + waiting)


class QueuesOnPaper(unittest.TestCase):
    def test_jobs_of_memoryless_lengths_wait_as_erlang_says(self):
        for servers, utilisation in [(1, 0.7), (4, 0.8), (10, 0.9)]:
            script = Memoryless(job_s=4.0 * servers)
            outcome = waits_of_jobs(script, servers, utilisation)
            expected = erlang_c(servers, servers * utilisation) * script.job_s / (servers - servers * utilisation)
            self.assertAlmostEqual(fmean(outcome.job_waits) / expected, 1.0, delta=0.06, msg=f"{servers} servers")

    def test_jobs_that_all_take_the_same_wait_half_as_long(self):
        script = Script(job_s=4.0, job_spread=0.0)
        outcome = waits_of_jobs(script, 1, 0.8)
        expected = 0.8 / (2 * (1 - 0.8)) * script.job_s  # Pollaczek and Khinchine
        self.assertAlmostEqual(fmean(outcome.job_waits) / expected, 1.0, delta=0.05)

    def test_requests_wait_as_those_that_all_take_the_same(self):
        script = Script(output_s=1.0, job_cpu=0.0)
        outcome = Fleet(NOTHING, script, Fixed(1)).run(Demand(steady(0.5), array("d")), LONG)
        self.assertEqual(outcome.refused, 0)
        self.assertAlmostEqual((fmean(outcome.answers) - 1.0) / 0.5, 1.0, delta=0.03)

    def test_as_many_jobs_are_there_as_arrive_in_the_time_that_one_stays(self):
        script = Script(job_s=60.0, job_spread=0.5)
        outcome = waits_of_jobs(script, 5, 0.85)
        present = fmean(minute.point.backlog + minute.point.jobs_running for minute in outcome.minutes)
        stay = fmean(outcome.job_waits) + script.job_s
        self.assertAlmostEqual(present / (outcome.arrived / LONG * stay), 1.0, delta=0.03)


if __name__ == "__main__":
    unittest.main()
