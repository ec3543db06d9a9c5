"""What holds for every run, and how policies and replicas behave."""

import sys
import unittest
from array import array
from pathlib import Path
from random import Random
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demand import DAY, HOUR, Demand, Users, arrivals, daily_shape  # noqa: E402
from fleet import Fleet, Platform  # noqa: E402
from policy import Datapoint, Fixed, Target, Tracking, backlog_per_replica, cpu, job_workers_busy  # noqa: E402
from replica import Capacity, Replica, Script  # noqa: E402

CAPACITY = Capacity(request_cpu_s=50e-6, job_s=200e-6, start_s=0.003, cold_start_s=0.5)
NONE = array("d")
OURS = Tracking((Target(backlog_per_replica, 5), Target(job_workers_busy, 0.7)))


def burst(count=3000, begin=600.0, seconds=60.0):
    return array("d", [begin + number * seconds / count for number in range(count)])


class EveryRun(unittest.TestCase):
    def test_each_job_that_arrived_is_done_or_waits_or_runs(self):
        for policy in (Fixed(1), Fixed(6), OURS):
            for protects in (True, False):
                for until in (650.0, 1234.5, 3 * HOUR):
                    fleet = Fleet(CAPACITY, Script(job_s=40), policy, Platform(protects_jobs=protects), seed=4)
                    outcome = fleet.run(Demand(NONE, burst(500)), until)
                    self.assertEqual(outcome.arrived, sum(at <= until for at in burst(500)))
                    self.assertEqual(outcome.arrived, outcome.done + outcome.waiting + outcome.running)
                    self.assertEqual(outcome.arrived, len(outcome.job_waits))

    def test_each_request_is_answered_or_refused(self):
        outputs = arrivals([40.0] * 30, Random(2))
        outcome = Fleet(CAPACITY, Script(output_s=0.05), Fixed(1)).run(Demand(outputs, NONE), 1800.0)
        self.assertEqual(len(outputs), outcome.refused + len(outcome.answers))
        self.assertAlmostEqual(outcome.refused / len(outputs), 0.5, delta=0.05)
        self.assertLess(max(outcome.answers), 2.2)

    def test_the_seed_makes_the_run(self):
        users = Users(count=2000)
        first, again, other = (
            Fleet(CAPACITY, Script(), OURS, seed=seed).run(users.spike(seed), DAY).figures() for seed in (1, 1, 2)
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_replicas_are_paid_for_from_when_they_are_asked_for(self):
        outcome = Fleet(CAPACITY, Script(), Fixed(3)).run(Demand(NONE, NONE), 2 * HOUR)
        self.assertAlmostEqual(outcome.figures()["replica_hours"], 6.0)
        fleet = Fleet(CAPACITY, Script(job_s=1.0), OURS)
        paid = fleet.run(Demand(NONE, burst()), 2 * HOUR).replica_s
        self.assertGreater(paid, sum(minute.point.running for minute in fleet.outcome.minutes) * 60)


class Demands(unittest.TestCase):
    def test_a_day_has_as_many_requests_as_its_users_make(self):
        day = Users(count=20_000).day(3)
        self.assertAlmostEqual(len(day.outputs) / 200_000, 1.0, delta=0.01)
        self.assertAlmostEqual(len(day.jobs) / 20_000, 1.0, delta=0.03)
        self.assertAlmostEqual(fmean(daily_shape()), 1.0)

    def test_at_noon_everybody_enrols_within_ten_minutes(self):
        users = Users(count=20_000)
        more = len(users.spike(3).jobs) - len(users.day(3).jobs)
        at_noon = sum(12 * HOUR <= at < 12 * HOUR + 600 for at in users.spike(3).jobs)
        self.assertAlmostEqual(more / 20_000, 1.0, delta=0.03)
        self.assertGreaterEqual(at_noon, more)


class Policies(unittest.TestCase):
    def minutes(self, count, **changes):
        return [Datapoint(**{"running": 4, "backlog": 0, "jobs_running": 0, "serving_busy": 0.0, "cpu": 0.0} | changes)] * count

    def test_three_minutes_above_the_target_add_replicas_in_proportion(self):
        policy = Tracking((Target(cpu, 0.6),))
        self.assertEqual(policy.decide(0, self.minutes(2, cpu=0.9), 4, -1e9), 4)
        self.assertEqual(policy.decide(0, self.minutes(3, cpu=0.9), 4, -1e9), 6)
        self.assertEqual(policy.decide(0, self.minutes(3, cpu=0.6), 4, -1e9), 4)

    def test_the_target_that_asks_for_most_counts_up_to_the_maximum(self):
        policy = Tracking((Target(cpu, 0.6), Target(backlog_per_replica, 5)))
        self.assertEqual(policy.decide(0, self.minutes(3, cpu=0.9, backlog=100), 4, -1e9), 20)
        self.assertEqual(policy.decide(0, self.minutes(3, backlog=100_000), 4, -1e9), 40)

    def test_replicas_are_taken_away_when_every_target_has_been_low_for_long(self):
        low = self.minutes(15, jobs_running=1)
        self.assertEqual(OURS.decide(0, low[1:], 4, -1e9), 4)
        self.assertEqual(OURS.decide(0, low, 4, -1e9), 2)
        self.assertEqual(OURS.decide(0, low, 4, -299), 4)
        self.assertEqual(OURS.decide(0, low[1:] + self.minutes(1, jobs_running=4), 4, -1e9), 4)


class Replicas(unittest.TestCase):
    def test_a_backlog_brings_replicas_after_the_minutes_that_this_takes(self):
        outcome = Fleet(CAPACITY, Script(job_s=10.0), OURS).run(Demand(NONE, burst()), HOUR)
        running = [minute.point.running for minute in outcome.minutes]
        # Three datapoints from 660 s on, a minute until the last is known, and a minute to be placed: at 900 s and a moment.
        self.assertEqual(running[14:16], [2, 40])

    def test_requests_and_a_job_that_computes_share_the_core(self):
        replica = Replica(CAPACITY, Script(output_s=0.1), 0.0)
        alone = replica.answer(1.0)
        replica.begin(2.0, 2.0)
        beside = replica.answer(3.0)
        self.assertAlmostEqual(beside, 2 * alone)
        self.assertAlmostEqual(replica.settle(), alone)
        replica.end(4.0)
        self.assertAlmostEqual(replica.used_since_last_look(4.0)[2], alone + 2.0)

    def test_requests_make_the_job_beside_them_last_longer(self):
        script = Script(output_s=0.1, job_s=10.0, job_spread=0.0, job_cpu=1.0)
        demand = Demand(array("d", [100.0 + number for number in range(1, 10)]), array("d", [100.0]))
        done = [Fleet(CAPACITY, script, Fixed(1)).run(demand, until).done for until in (110.8, 111.0)]
        self.assertEqual(done, [0, 1])

    def test_a_replica_is_spared_for_a_moment_after_its_last_job(self):
        fleet = Fleet(CAPACITY, Script(), Fixed(1), Platform(protected_after_s=5.0))
        fleet.idle = [Replica(CAPACITY, Script(), 100.0)]
        self.assertIsNone(fleet.dispensable(104.9))
        self.assertIs(fleet.dispensable(105.0), fleet.idle[0])

    def test_a_job_whose_replica_goes_is_handed_back_when_the_grace_is_over(self):
        lasting = Script(job_s=4000.0, job_spread=0.0)
        demand = Demand(NONE, array("d", [100.0] * 30))
        spared = Fleet(CAPACITY, lasting, OURS, Platform(protects_jobs=True)).run(demand, 3 * HOUR)
        cut = Fleet(CAPACITY, lasting, Few(), Platform(protects_jobs=False)).run(demand, HOUR)
        self.assertEqual(spared.handed_back, 0)
        self.assertEqual(cut.handed_back, 10)
        self.assertEqual(cut.running, 20)
        self.assertEqual(cut.waiting, 10)


class Few(Fixed):
    """A third fewer after half an hour."""

    def __init__(self):
        super().__init__(30)

    def decide(self, now, _points, _desired, _scaled_in_at):
        return 30 if now < HOUR / 2 else 20


if __name__ == "__main__":
    unittest.main()
