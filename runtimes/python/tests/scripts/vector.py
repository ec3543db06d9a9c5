def output(files, ctx):
    return [len(files), sum(len(file.read()) for file in files), ctx.params["x"]]
