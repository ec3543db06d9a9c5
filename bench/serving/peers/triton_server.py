"""The models on Triton, by its Python binding pytriton."""

import os

import models
import numpy
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

NAME = os.environ["BENCH_MODEL"]
PORT = int(os.environ["BENCH_PORT"])


@batch
def infer(address):
    paths = [models.path_of(row[0].decode()) for row in address]
    vectors = models.mlp_batch(paths) if NAME == "mlp" else [models.ONE[NAME](path) for path in paths]
    return {"outputVector": numpy.asarray(vectors, dtype=numpy.float64)}


if __name__ == "__main__":
    models.warm(NAME)
    batcher = DynamicBatcher(max_queue_delay_microseconds=models.MAX_WAIT_MS * 1000 if NAME == "mlp" else 0)
    config = TritonConfig(http_port=PORT, grpc_port=PORT + 1000, metrics_port=PORT + 2000, http_address="127.0.0.1")
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=infer,
            inputs=[Tensor(name="address", dtype=numpy.bytes_, shape=(1,))],
            outputs=[Tensor(name="outputVector", dtype=numpy.float64, shape=(models.WIDTH,))],
            config=ModelConfig(max_batch_size=models.MAX_BATCH, batching=True, batcher=batcher),
        )
        triton.serve()
