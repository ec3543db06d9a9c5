"""A job that does nothing but say when it was called."""

import time


def input(files, ctx):
    return {"started": time.time()}
