class Model:
    def __init__(self, ctx):
        self.weights = None if ctx.artifact is None else (ctx.artifact / "weights.txt").read_text()

    def train(self, files, ctx):
        (ctx.new_artifact() / "weights.txt").write_text(ctx.params["text"])

    def output(self, files, ctx):
        return [-1 if self.weights is None else len(self.weights)]
