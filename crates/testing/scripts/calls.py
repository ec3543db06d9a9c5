"""Every kind of call, named by `Params["case"]`."""

import array
import ctypes
import logging
import os
import subprocess
import sys
import time

import dunnage

libc = ctypes.PyDLL(None)  # holds the interpreter's lock while it calls


def fail():
    raise ValueError("no such luck")


def write_nowhere():
    ctypes.memset(0, 1, 1)


OUTPUTS = {
    "sizes": lambda files, ctx: [file.size for file in files],
    "values": lambda files, ctx: ctx.params["values"],
    "contents": lambda files, ctx: list(files[0].read()),
    "floats": lambda files, ctx: array.array("f", ctx.params["values"]),
    "tell": lambda files, ctx: sys.stderr.write("last words\n") and [1],
    "nan": lambda files, ctx: [1.0, float("nan")],
    "infinite": lambda files, ctx: [float("-inf")],
    "nested": lambda files, ctx: [[1.0], [2.0]],
    "empty": lambda files, ctx: [],
    "nothing": lambda files, ctx: None,
    "text": lambda files, ctx: "12",
    "texts": lambda files, ctx: ["1"],
    "raise": lambda files, ctx: fail(),
    "leave": lambda files, ctx: os._exit(3),
    "abort": lambda files, ctx: os.abort(),
    "segfault": lambda files, ctx: write_nowhere(),
    "hang": lambda files, ctx: libc.sleep(60),
}


def output(files, ctx):
    return OUTPUTS[ctx.params.get("case", "sizes")](files, ctx)


def speak(ctx):
    print("printed")
    logging.getLogger("model").warning("logged %d", 7)
    ctx.progress(0.25, "a quarter", loss=0.5)
    os.write(2, b"native\n")


def retry(ctx):
    if ctx.state.increment("attempts", 1) < 2:
        raise dunnage.Retry("not yet", after=0.01)
    return "at last"


def wait(ctx):
    ctx.progress(message="waiting")
    while not ctx.cancelled:
        time.sleep(0.002)
    raise dunnage.Cancelled


def stubborn(ctx):
    ctx.progress(message="waiting")
    libc.sleep(60)


def spawn(ctx):
    subprocess.Popen(["sleep", "60"])
    stubborn(ctx)


def in_turn(ctx):
    """Fails if another job of the same key runs; notes the order."""
    if ctx.state.increment("inside", 1) != 1:
        raise RuntimeError("not alone")
    order = ctx.state.get("order", [])
    time.sleep(0.005)
    ctx.state["order"] = [*order, ctx.params["number"]]
    ctx.state.increment("inside", -1)
    return ctx.state["order"]


JOBS = {
    "given": lambda ctx: None,
    "speak": speak,
    "raise": lambda ctx: fail(),
    "retry": retry,
    "wait": wait,
    "stubborn": stubborn,
    "spawn": spawn,
    "in_turn": in_turn,
    "count": lambda ctx: ctx.state.increment("count", 1),
    "segfault": lambda ctx: write_nowhere(),
    "unfit": lambda ctx: object(),
}


def run(files, ctx):
    if "case" in ctx.params:
        return JOBS[ctx.params["case"]](ctx)
    return {"contents": [file.read().decode() for file in files], "params": ctx.params}


train = run
input = run
