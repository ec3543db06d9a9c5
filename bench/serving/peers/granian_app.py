"""The models as a bare RSGI application for granian."""

import json
import os

import models

NAME = os.environ["BENCH_MODEL"]
models.warm(NAME)


async def app(scope, protocol):
    body = json.loads(await protocol())
    vector = models.ONE[NAME](models.path_of(body["Files"][0]))
    answer = json.dumps({"outputVector": vector if NAME == "constant" else vector.tolist()})
    protocol.response_str(200, [("content-type", "application/json")], answer)
