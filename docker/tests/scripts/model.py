"""A model that learns a mean, and does what its parameters say to be put to the test."""

import json
import os
import subprocess
import time


class Model:
    def __init__(self, ctx):
        self.mean = json.loads((ctx.artifact / "mean.json").read_text()) if ctx.artifact else 0.0

    def train(self, files, ctx):
        numbers = [number for file in files for number in numbers_of(file)]
        (ctx.new_artifact() / "mean.json").write_text(json.dumps(sum(numbers) / len(numbers)))
        return {"count": len(numbers)}

    def input(self, files, ctx):
        time.sleep(ctx.params.get("sleep", 0))
        if "eat_mib" in ctx.params:
            # Filled with ones, since zeros would be pages that need no memory.
            len(b"1" * (ctx.params["eat_mib"] << 20))
        if "orphans" in ctx.params:
            for _ in range(ctx.params["orphans"]):
                subprocess.run(["sh", "-c", "sleep 0.1 & sleep 1000 & exit"], check=True)
        return {"seen": ctx.state.increment("seen"), "uid": os.getuid()}

    def output(self, files, ctx):
        if "seen" in ctx.params:
            return [ctx.state.get("seen", 0)]
        return [number - self.mean for file in files for number in numbers_of(file)]


def numbers_of(file):
    return [float(number) for number in file.read().split(b",")]
