"""What 100,000 users ask for: when each request for `/output` and each job comes."""

import math
from array import array
from dataclasses import dataclass
from random import Random

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@dataclass(frozen=True)
class Users:
    """A population that is known by its sum: when one of them asks does not depend on the others, so arrivals are a Poisson process
    whose rate follows the hour."""

    count: int = 100_000
    outputs_a_day: float = 10.0  # requests for `/output` of each
    jobs_a_day: float = 1.0  # jobs of each

    @property
    def peak(self):
        """The busiest minute in units of the mean."""
        return max(daily_shape())

    def day(self, seed):
        """A day from midnight to midnight, with a peak in the morning and one in the evening."""
        draw = Random(seed)
        shape = daily_shape()
        outputs = arrivals([self.count * self.outputs_a_day / DAY * part for part in shape], draw)
        jobs = arrivals([self.count * self.jobs_a_day / DAY * part for part in shape], draw)
        return Demand(outputs, jobs)

    def spike(self, seed, begin=12 * HOUR, length=10 * MINUTE):
        """The same day; and at noon everybody is asked to enrol, and does so within ten minutes, by a job more."""
        day, draw = self.day(seed), Random(seed + 1)
        rates = [self.count / length if begin <= minute * MINUTE < begin + length else 0.0 for minute in range(24 * 60)]
        return Demand(day.outputs, array("d", sorted([*day.jobs, *arrivals(rates, draw)])))


@dataclass(frozen=True)
class Demand:
    """The seconds since midnight at which something arrives, in order."""

    outputs: array
    jobs: array


def daily_shape():
    """How much of the mean comes in each minute of a day: 1 on average, 2.3 at the evening's peak and 0.2 at night."""
    raw = [0.12 + bump(minute / 60, 8.5, 1.8) + 1.3 * bump(minute / 60, 19.5, 2.2) for minute in range(24 * 60)]
    mean = sum(raw) / len(raw)
    return [value / mean for value in raw]


def bump(hour, middle, width):
    distance = min(abs(hour - middle), 24 - abs(hour - middle))
    return math.exp(-((distance / width) ** 2) / 2)


def arrivals(rates, draw):
    """Arrivals with a rate for each minute. Gaps have no memory, so that beginning anew with each minute changes nothing."""
    times = array("d")
    for minute, rate in enumerate(rates):
        now, end = minute * MINUTE, (minute + 1) * MINUTE
        while rate > 0 and (now := now + draw.expovariate(rate)) < end:
            times.append(now)
    return times
