"""What a soak asks of a script: mostly its nonce back, and now and then the worst."""

import ctypes
import os

libc = ctypes.PyDLL(None)  # holds the interpreter's lock while it calls


def flood():
    for _ in range(2000):
        os.write(1, b"x" * 1000 + b"\n")


CASES = {
    "echo": lambda: None,
    "flood": flood,
    "leave": lambda: os._exit(3),
    "segfault": lambda: ctypes.memset(0, 1, 1),
    "hang": lambda: libc.sleep(60),
    "raise": lambda: 1 / 0,
}


def output(files, ctx):
    CASES[ctx.params.get("case", "echo")]()
    return [ctx.params["nonce"]] * 1000


def work(files, ctx):
    ctx.progress(0.5, "half")
    print("working on", ctx.params["nonce"])
    CASES[ctx.params.get("case", "echo")]()
    ctx.state["last"] = ctx.params["nonce"]
    return ctx.params["nonce"]


train = input = work
