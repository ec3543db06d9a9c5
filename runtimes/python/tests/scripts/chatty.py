import logging


def train(files, ctx):
    print("a printed line")
    ctx.progress(0.5, "half", loss=0.25)
    logging.warning("a %s", "warning")
