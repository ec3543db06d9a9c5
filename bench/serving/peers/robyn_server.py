"""The models on robyn, inside its one process."""

import json
import os

import models
from robyn import Robyn

NAME = os.environ["BENCH_MODEL"]
app = Robyn(__file__)


@app.post("/output")
def output(request):
    vector = models.ONE[NAME](models.path_of(json.loads(request.body)["Files"][0]))
    return {"outputVector": vector if NAME == "constant" else vector.tolist()}


if __name__ == "__main__":
    models.warm(NAME)
    app.start(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]))
