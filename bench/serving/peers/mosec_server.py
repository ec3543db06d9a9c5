"""The models on mosec, with one worker process."""

import os

import models
from mosec import Runtime, Server, Worker

NAME = os.environ["BENCH_MODEL"]


class Model(Worker):
    def __init__(self):
        models.warm(NAME)

    def forward(self, data):
        if NAME == "mlp":
            vectors = models.mlp_batch([models.path_of(request["Files"][0]) for request in data])
            return [{"outputVector": vector.tolist()} for vector in vectors]
        vector = models.ONE[NAME](models.path_of(data["Files"][0]))
        return {"outputVector": vector if NAME == "constant" else vector.tolist()}


if __name__ == "__main__":
    batching = {"max_batch_size": models.MAX_BATCH, "max_wait_time": models.MAX_WAIT_MS} if NAME == "mlp" else {}
    server = Server()
    server.register_runtime({"/output": [Runtime(Model, num=1, **batching)]})
    server.run()
