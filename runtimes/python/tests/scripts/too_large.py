import dunnage


def train(files, ctx):
    ctx.state["big"] = "x" * 2000


def input(files, ctx):
    try:
        train(files, ctx)
    except dunnage.StateError as error:
        return str(error)
