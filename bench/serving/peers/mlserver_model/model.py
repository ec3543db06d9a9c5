"""The models on MLServer, as a custom runtime that is sent one address a request."""

import os

import models
import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse

NAME = os.environ["BENCH_MODEL"]


class Model(MLModel):
    async def load(self):
        models.warm(NAME)
        return True

    async def predict(self, payload):
        paths = [models.path_of(address) for address in StringCodec.decode_input(payload.inputs[0])]
        vectors = models.mlp_batch(paths) if NAME == "mlp" else numpy.array([models.ONE[NAME](path) for path in paths])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("outputVector", vectors)])
