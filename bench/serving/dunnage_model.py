"""The three models as a script for this project's own server; which of them is in BENCH_MODEL."""

import os

import models

NAME = os.environ["BENCH_MODEL"]
models.warm(NAME)


def output(files, ctx):
    return models.ONE[NAME](files[0].path)


if NAME == "mlp":

    def output_batch(requests, ctx):
        return list(models.mlp_batch([request.files[0].path for request in requests]))
