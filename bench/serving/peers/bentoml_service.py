"""The models on BentoML, with one worker process."""

import os

import bentoml
import models

NAME = os.environ["BENCH_MODEL"]


@bentoml.service(workers=1)
class Service:
    def __init__(self):
        models.warm(NAME)

    @bentoml.api(route="/output")
    def output(self, Files: list[str]) -> dict:
        vector = models.ONE[NAME](models.path_of(Files[0]))
        return {"outputVector": vector if NAME == "constant" else vector.tolist()}
