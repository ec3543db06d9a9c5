"""Says what its files hold and where they lie; takes as long as it is told to."""

import time


def input(files, ctx):
    time.sleep(ctx.params.get("sleep", 0))
    return {"contents": [file.read().decode() for file in files], "paths": [str(file.path) for file in files]}


def output(files, ctx):
    return [file.size for file in files]
