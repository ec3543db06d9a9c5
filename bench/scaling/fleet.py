"""The events of a fleet: arrivals, ends of jobs, replicas that come and go, and a look at the metrics each minute.

Begin at `Fleet.run`. Requests for `/output` need no event of their own: a replica knows at once when it will have answered one.
"""

import heapq
import itertools
from collections import deque
from dataclasses import dataclass
from random import Random

from demand import MINUTE
from outcome import Minute, Outcome
from policy import Datapoint
from replica import Replica


@dataclass(frozen=True)
class Platform:
    """What lies around the product. All of it is assumed."""

    place_s: float = 60.0  # from the decision to the start of the process: network, the image's pull, the balancer's checks
    grace_s: float = 25.0  # --grace: what a job gets whose replica is taken away
    protects_jobs: bool = True  # whether replicas with jobs are spared when there are too many (--ecs-task-protection)
    protected_after_s: float = 5.0  # how long a replica is still spared after its last job


class Fleet:
    """A fleet under a policy. The same seed and the same demand make the same run."""

    def __init__(self, capacity, script, policy, platform=Platform(), seed=0):
        self.capacity, self.script, self.policy, self.platform = capacity, script, policy, platform
        self.draw, self.outcome = Random(seed), Outcome()
        self.events, self.sequence = [], itertools.count()
        self.queue = deque()  # when each job arrived that waits
        self.serving, self.idle, self.booting, self.draining = [], [], [], []
        self.turn, self.desired = 0, policy.first
        self.points, self.longest_wait = [], 0.0
        self.scaled_in_at, self.paid_until = float("-inf"), 0.0

    def run(self, demand, until):
        """Lets `demand` arrive, stops the clock at `until`, and says what came of it. Once only."""
        for _ in range(self.policy.first):
            self.boot(0.0)
        self.at(MINUTE, self.look)
        outputs, jobs = Arrivals(demand.outputs), Arrivals(demand.jobs)
        while (now := min(self.events[0][0], jobs.next)) <= until:
            self.answer_until(now, outputs)
            if now == self.events[0][0]:
                _, _, action, arguments = heapq.heappop(self.events)
                action(now, *arguments)
            else:
                self.put(jobs.take())
        self.answer_until(until, outputs)
        return self.closed(until)

    def at(self, time, action, *arguments):
        heapq.heappush(self.events, (time, next(self.sequence), action, arguments))

    # Requests for `/output` go to the replicas in turn.

    def answer_until(self, now, outputs):
        serving, outcome = self.serving, self.outcome
        while outputs.next <= now:
            arrived = outputs.take()
            self.turn += 1
            took = serving[self.turn % len(serving)].answer(arrived) if serving else None
            if took is None:
                outcome.refused += 1
            else:
                outcome.answers.append(took)

    # Jobs wait in one queue, and any replica that is idle takes the oldest.

    def put(self, now):
        self.outcome.arrived += 1
        self.queue.append(now)
        self.hand_out(now + self.capacity.start_s)

    def hand_out(self, now):
        """Has an idle replica, if there is one, begin the oldest job, if there is one."""
        if self.queue and self.idle:
            self.begin(now, self.idle.pop(int(self.draw.random() * len(self.idle))))

    def begin(self, now, replica):
        replica.begin(self.queue.popleft(), now)
        self.longest_wait = max(self.longest_wait, replica.waited())
        self.at(now + self.script.draw_job(self.draw) + self.capacity.job_s, self.end, replica, replica.attempt)

    def end(self, now, replica, attempt):
        if not replica.is_at(attempt):
            return  # it was handed back
        if owed := replica.settle():
            self.at(now + owed, self.end, replica, attempt)
            return
        self.outcome.done += 1
        self.outcome.job_waits.append(replica.waited())
        replica.end(now)
        if replica in self.draining:
            self.leave(now, replica)
        elif self.queue:
            self.begin(now, replica)
        else:
            self.rest(now, replica)

    def rest(self, now, replica):
        self.idle.append(replica)
        if self.too_many() > 0:
            self.at(now + self.platform.protected_after_s, self.shrink)

    # Replicas come and go.

    def boot(self, ready_at):
        replica = Replica(self.capacity, self.script, ready_at)
        self.booting.append(replica)
        self.at(ready_at, self.join, replica)

    def join(self, now, replica):
        if replica not in self.booting:
            return  # it was not wanted any more
        self.booting.remove(replica)
        self.serving.append(replica)
        self.idle.append(replica)
        self.hand_out(now)

    def too_many(self):
        return len(self.serving) + len(self.booting) - self.desired

    def grow(self, now):
        self.pay(now)
        while self.too_many() < 0:
            self.boot(now + self.platform.place_s + self.capacity.cold_start_s)

    def shrink(self, now):
        """Takes away those that are too many: what has not started yet, then who has nothing to do, then, if jobs are not
        protected, any. Who has a job and is spared is looked at again when it is idle."""
        self.pay(now)
        while self.too_many() > 0 and (replica := self.dispensable(now)):
            if replica in self.booting:
                self.booting.remove(replica)
                continue
            self.serving.remove(replica)
            if replica.job is None:
                self.idle.remove(replica)
            else:
                self.draining.append(replica)
                self.at(now + self.platform.grace_s, self.hand_back, replica, replica.attempt)

    def dispensable(self, now):
        if self.booting:
            return self.booting[-1]
        if not self.platform.protects_jobs:
            return (self.idle or self.serving)[-1]
        return next((it for it in self.idle if now - it.idle_since >= self.platform.protected_after_s), None)

    def hand_back(self, now, replica, attempt):
        """The grace is over."""
        if not replica.is_at(attempt):
            return
        self.outcome.handed_back += 1
        self.queue.appendleft(replica.job)
        replica.end(now)
        self.leave(now, replica)
        self.hand_out(now)

    def leave(self, now, replica):
        self.pay(now)
        self.draining.remove(replica)

    # What is told of it, and what follows.

    def look(self, now):
        """The end of a minute. What it was like is known to the policy only a minute later."""
        self.at(now + MINUTE, self.look)
        known, self.points = self.points, [*self.points[-60:], self.measure(now)]
        decided = self.policy.decide(now, known, self.desired, self.scaled_in_at)
        if decided < self.desired:
            self.scaled_in_at = now
        self.desired = decided
        self.grow(now)
        self.shrink(now)

    def measure(self, now):
        used = [replica.used_since_last_look(now) for replica in self.serving]
        seconds, busy, cpu = (sum(column) for column in zip(*used))
        running = sum(replica.job is not None for replica in self.serving)
        point = Datapoint(len(self.serving), len(self.queue), running, busy / seconds, min(1.0, cpu / seconds))
        oldest = now - self.queue[0] if self.queue else 0.0
        self.outcome.minutes.append(Minute(point, max(self.longest_wait, oldest)))
        self.longest_wait = 0.0
        return point

    def pay(self, now):
        """To be called before the number of replicas changes."""
        self.outcome.replica_s += (now - self.paid_until) * (len(self.serving) + len(self.booting) + len(self.draining))
        self.paid_until = now

    def closed(self, until):
        self.pay(until)
        working = [replica for replica in [*self.serving, *self.draining] if replica.job is not None]
        self.outcome.waiting, self.outcome.running = len(self.queue), len(working)
        self.outcome.job_waits.extend(replica.waited() for replica in working)
        self.outcome.job_waits.extend(until - arrived for arrived in self.queue)
        return self.outcome


class Arrivals:
    """Times in order, with the next one at hand."""

    def __init__(self, times):
        self.rest = iter(times)
        self.next = next(self.rest, float("inf"))

    def take(self):
        taken, self.next = self.next, next(self.rest, float("inf"))
        return taken
