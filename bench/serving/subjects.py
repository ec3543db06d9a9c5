"""The servers that are compared: how each is started, what it is asked and where."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = ("constant", "means", "mlp")


@dataclass(frozen=True)
class Subject:
    """A server that can be measured."""

    name: str
    command: list
    """Its command line; `{port}` stands for the port that it is to listen on."""
    models: tuple = ALL
    """Which of the models it can serve."""
    route: str = "/output"
    request: callable = lambda address: {"Files": [address]}
    """The body for a file's address."""
    vector: callable = lambda answer: answer["outputVector"]
    """The vector in an answer."""
    environment: dict = field(default_factory=dict)
    folder: Path = HERE
    patience: float = 90
    """How long a start may take, in seconds."""

    def argv(self, port):
        return [str(part).replace("{port}", str(port)) for part in self.command]

    def environ(self, port, model):
        """With one thread for numpy: what is compared is the servers."""
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        ours = {"BENCH_MODEL": model, "BENCH_PORT": str(port), "PYTHONPATH": str(HERE)}
        own = {name: value.replace("{port}", str(port)).replace("{port+1}", str(port + 1)).replace("{port+2}", str(port + 2))
               for name, value in self.environment.items()}
        return os.environ | threads | ours | own

    def body(self, address):
        return json.dumps(self.request(address), separators=(",", ":"))


def subjects(dunnage, limit, venvs, work):
    """Those that are installed here: ours, the limit, and the peers that have a virtualenv in `venvs`."""
    ours = [str(dunnage), "serve"]
    options = ["--port", "{port}", "--workers", "1", "--files-root", str(work), "--data-dir", str(work / "data"), "--python", sys.executable]
    found = [
        Subject("limit (actix-web)", [limit, "{port}"], models=("constant",)),
        Subject("dunnage", [*ours, HERE / "dunnage_model.py", *options, "--max-batch", "32"]),
        Subject("dunnage (Lua)", [*ours, HERE / "dunnage_model.lua", *options[:-2]], models=("constant",)),
    ]
    return found + [peer for peer in peers(venvs) if Path(peer.command[0]).exists()]


def peers(venvs):
    program = lambda peer, name="python": venvs / peer / "bin" / name  # noqa: E731
    return [
        Subject("mosec", [program("mosec"), "peers/mosec_server.py", "--port", "{port}", "--address", "127.0.0.1"]),
        Subject("robyn", [program("robyn"), "peers/robyn_server.py"], models=("constant", "means")),
        Subject(
            "granian",
            [program("granian", "granian"), "--interface", "rsgi", "--no-ws", "--port", "{port}", "--workers", "1", "granian_app:app"],
            models=("constant", "means"),
            environment={"PYTHONPATH": f"{HERE}:{HERE / 'peers'}"},
        ),
        Subject(
            "FastAPI, uvicorn",
            [program("fastapi", "uvicorn"), "--port", "{port}", "--no-access-log", "--log-level", "warning", "fastapi_app:app"],
            models=("constant", "means"),
            environment={"PYTHONPATH": f"{HERE}:{HERE / 'peers'}"},
        ),
        Subject("LitServe", [program("litserve"), "peers/litserve_server.py"]),
        Subject(
            "BentoML",
            [program("bentoml", "bentoml"), "serve", "--host", "127.0.0.1", "--port", "{port}", "bentoml_service:Service"],
            models=("constant", "means"),
            environment={"PYTHONPATH": str(HERE), "BENTOML_DO_NOT_TRACK": "True"},
            folder=HERE / "peers",
        ),
        mlserver(program("mlserver", "mlserver")),
        triton(program("triton")),
    ]


def mlserver(program):
    tensor = {"name": "address", "shape": [1], "datatype": "BYTES"}
    settings = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{port+1}",
        "MLSERVER_METRICS_PORT": "{port+2}",
        "MLSERVER_PARALLEL_WORKERS": "1",
        "MLSERVER_MODEL_MAX_BATCH_SIZE": "32",
        "MLSERVER_MODEL_MAX_BATCH_TIME": "0.002",
    }
    return Subject(
        "MLServer",
        [program, "start", "."],
        route="/v2/models/model/infer",
        request=lambda address: {"inputs": [tensor | {"data": [address]}]},
        vector=lambda answer: answer["outputs"][0]["data"],
        environment=settings,
        folder=HERE / "peers" / "mlserver_model",
    )


def triton(program):
    tensor = {"name": "address", "shape": [1, 1], "datatype": "BYTES"}
    return Subject(
        "Triton (pytriton)",
        [program, "peers/triton_server.py"],
        route="/v2/models/model/infer",
        request=lambda address: {"inputs": [tensor | {"data": [address]}]},
        vector=lambda answer: answer["outputs"][0]["data"],
    )
