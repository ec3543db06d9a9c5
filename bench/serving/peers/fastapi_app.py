"""The models on FastAPI, served by uvicorn."""

import os

import models
from fastapi import FastAPI
from pydantic import BaseModel

NAME = os.environ["BENCH_MODEL"]
models.warm(NAME)
app = FastAPI()


class Body(BaseModel):
    Files: list[str]


@app.post("/output")
async def output(body: Body):
    vector = models.ONE[NAME](models.path_of(body.Files[0]))
    return {"outputVector": vector if NAME == "constant" else vector.tolist()}
