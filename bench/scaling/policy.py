"""How many replicas there are to be: a fixed number, or what target tracking makes of the signals (`docs/scaling.md`)."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Datapoint:
    """A minute of the fleet, as its metrics tell of it."""

    running: int  # replicas that serve
    backlog: int  # jobs that wait, at its end
    jobs_running: int  # at its end
    serving_busy: float  # share of the minute, over all replicas
    cpu: float  # share of the cores, over all replicas


@dataclass(frozen=True)
class Target:
    """A signal for each replica, and where it is to be kept."""

    signal: Callable[[Datapoint], float]
    value: float


def backlog_per_replica(point):
    return point.backlog / point.running


def serving_busy(point):
    return point.serving_busy


def job_workers_busy(point):
    return point.jobs_running / point.running


def cpu(point):
    return point.cpu


@dataclass(frozen=True)
class Fixed:
    """As many as were decided on once."""

    count: int

    @property
    def first(self):
        return self.count

    def decide(self, _now, _points, desired, _scaled_in_at):
        return desired


@dataclass(frozen=True)
class Tracking:
    """Target tracking as CloudWatch and Application Auto Scaling do it: an alarm for each target and direction over metrics of a
    minute, replicas in proportion to the metric, and of all targets the one that asks for most.

    AWS does not publish how far it goes when it scales in. Here it goes to what the highest datapoint behind the alarm would need.
    """

    targets: tuple[Target, ...]
    minimum: int = 2
    maximum: int = 40
    out_after: int = 3  # datapoints above the target
    in_after: int = 15  # datapoints well below it
    well_below: float = 0.9
    scale_in_cooldown_s: float = 300.0

    @property
    def first(self):
        return self.minimum

    def decide(self, now, points, desired, scaled_in_at):
        """The number of replicas, from the minutes so far and the number that was decided on last."""
        wanted = max(self.wanted(target, points) for target in self.targets)
        if wanted > desired:
            return min(wanted, self.maximum)
        enough = max(self.enough(target, points, desired) for target in self.targets)
        if enough < desired and now - scaled_in_at >= self.scale_in_cooldown_s:
            return max(enough, self.minimum)
        return desired

    def wanted(self, target, points):
        recent = [target.signal(point) for point in points[-self.out_after :]]
        if len(recent) < self.out_after or min(recent) <= target.value:
            return 0
        return replicas(points[-1], recent[-1], target)

    def enough(self, target, points, desired):
        recent = [target.signal(point) for point in points[-self.in_after :]]
        if len(recent) < self.in_after or max(recent) >= target.value * self.well_below:
            return desired
        return max(replicas(point, target.signal(point), target) for point in points[-self.in_after :])


def replicas(point, measured, target):
    """How many would bring the signal to its target."""
    return math.ceil(point.running * measured / target.value - 1e-9)
