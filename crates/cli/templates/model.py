"""Tells how unusual a measurement is: for everybody, or for one person once their own have been seen.

A file is a CSV without a heading: a measurement a line, numbers only, each line with as many as the others.
"""

import csv
import io
import json
import statistics


class Model:
    def __init__(self, ctx):
        """Runs once in each worker. `ctx.artifact` is the folder of the training that serves, or None before the first."""
        self.columns = None
        if ctx.artifact is not None:
            self.columns = json.loads((ctx.artifact / "columns.json").read_text())

    def train(self, files, ctx):
        """Learns how each column varies. What is written to `ctx.new_artifact()` becomes a new version and serves at once."""
        rows = []
        for done, file in enumerate(files, start=1):
            rows += read_rows(file)
            ctx.progress(done / len(files), f"read {done} of {len(files)} files", rows=len(rows))
        if len(rows) < 2:
            raise ValueError(f"at least 2 measurements are needed to see how they vary, found {len(rows)}")
        columns = [{"mean": statistics.fmean(column), "deviation": statistics.stdev(column) or 1.0} for column in zip(*rows)]
        (ctx.new_artifact() / "columns.json").write_text(json.dumps(columns))
        return {"rows": len(rows), "columns": len(columns)}

    def input(self, files, ctx):
        """Remembers what is usual for `Params.name`. The state is kept in the database and shared by all workers."""
        name = ctx.params.get("name")
        if not name:
            raise ValueError("`Params.name` says whose measurements these are")
        rows = [row for file in files for row in read_rows(file)]
        ctx.state[f"usual/{name}"] = means(rows)
        ctx.log.info(f"learned what is usual for {name} from {len(rows)} measurements")
        return {"name": name, "rows": len(rows)}

    def output(self, files, ctx):
        """Answers, for each column, how many deviations the files are away from what is usual."""
        if self.columns is None:
            raise LookupError("nothing is learned yet; send measurements to /train first")
        usual = [column["mean"] for column in self.columns]
        if "name" in ctx.params:
            usual = ctx.state.get(f"usual/{ctx.params['name']}", usual)
        measured = means([row for file in files for row in read_rows(file)])
        if len(measured) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} columns as in training, found {len(measured)}")
        return [(now - then) / column["deviation"] for now, then, column in zip(measured, usual, self.columns)]


def read_rows(file):
    return [[float(cell) for cell in row] for row in csv.reader(io.StringIO(file.read().decode())) if row]


def means(rows):
    if not rows:
        raise ValueError("at least one measurement is needed")
    return [statistics.fmean(column) for column in zip(*rows)]
