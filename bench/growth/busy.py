"""What keeps one core busy: answers for some milliseconds each, and training for as long as it is told, without ever giving up the GIL."""

import itertools
import time

ROUNDS_A_CALL = 300_000


def output(files, ctx):
    return [float(sum(itertools.repeat(1, ROUNDS_A_CALL if ctx.params.get("busy") else 1)))]


def train(files, ctx):
    end = time.monotonic() + ctx.params["seconds"]
    while time.monotonic() < end:
        sum(itertools.repeat(1, 50_000_000))
