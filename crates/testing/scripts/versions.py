"""Answers what it was trained with, many times over; cannot be loaded with what is `broken`, nor serve with less than 0."""

import time


class Model:
    def __init__(self, ctx):
        self.value = "0"
        if ctx.artifact is not None:
            self.value = (ctx.artifact / "value").read_text()
        if self.value == "broken":
            raise RuntimeError("these weights are broken")

    def self_test(self, ctx):
        score = self.output([], ctx)[0]
        if score < 0:
            raise ValueError(f"a walk scored {score}")

    def train(self, files, ctx):
        (ctx.new_artifact() / "value").write_text(str(ctx.params["value"]))
        return {"value": ctx.params["value"]}

    def output(self, files, ctx):
        time.sleep(0.001)
        return [int(self.value)] * 500
