"""The models on LitServe, with one worker process."""

import os

import litserve
import models

NAME = os.environ["BENCH_MODEL"]


class Model(litserve.LitAPI):
    def setup(self, device):
        models.warm(NAME)

    def decode_request(self, request):
        return models.path_of(request["Files"][0])

    def predict(self, path):
        if NAME == "mlp":
            return [vector.tolist() for vector in models.mlp_batch(path)]
        vector = models.ONE[NAME](path)
        return vector if NAME == "constant" else vector.tolist()

    def batch(self, paths):
        return paths

    def unbatch(self, vectors):
        return vectors

    def encode_response(self, vector):
        return {"outputVector": vector}


if __name__ == "__main__":
    batching = {"max_batch_size": models.MAX_BATCH, "batch_timeout": models.MAX_WAIT_MS / 1000} if NAME == "mlp" else {}
    api = Model(api_path="/output", **batching)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
