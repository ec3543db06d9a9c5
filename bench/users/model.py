"""Users who enrol once, in a job, and ask for what was kept of them later."""


def input(files, ctx):
    user = ctx.params["user"]
    ctx.state[f"user/{user}"] = {"template": [user, user * 2 + 1]}


def output(files, ctx):
    return ctx.state[f"user/{ctx.params['user']}"]["template"]
