def output(files, ctx):
    if "fail" in ctx.params:
        raise ValueError("boom")
    return [1]
