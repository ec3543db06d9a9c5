"""The context of a call."""

from __future__ import annotations

from ._state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import os
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from ._host import Host


class Context:
    """What a call is about, and the way to the server.

    It belongs to its call: once that has ended, whatever asks the server raises `RuntimeError`. Threads that the script
    started may use it too, but not processes. Made by hand, without a `host`, it keeps the state in memory.
    """

    __slots__ = (
        "_artifact", "_host", "_state", "attempt", "deadline", "device", "job_id", "params", "request_id", "seed", "service",
        "version",
    )  # fmt: skip

    params: dict[str, Any]
    """The client's `Params`; empty in `output_batch`, where every request has its own."""
    device: str
    """What to compute on: `cpu`, `cuda:0`, …"""
    service: str
    """The service's name."""
    version: int | None
    """The number of the active version, if there is one."""
    job_id: str | None
    """The job, in `train` and `input`."""
    attempt: int | None
    """Which attempt at the job this is, from 1."""
    seed: int
    """For random generators: the same for every attempt at the job; 0 outside of jobs."""
    request_id: str | None
    """Names the request in logs, in `output`."""
    deadline: float | None
    """When the worker will be killed, in seconds as of `time.time()`."""

    def __init__(
        self,
        *,
        params: dict[str, Any] | None = None,
        artifact: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        service: str = "model",
        version: int | None = None,
        job_id: str | None = None,
        attempt: int | None = None,
        seed: int = 0,
        request_id: str | None = None,
        deadline: float | None = None,
        host: Host | None = None,
    ) -> None:
        if host is None:
            from .testing import MemoryHost

            host = MemoryHost()
        self._host = host
        self._state: State | None = None
        self._artifact = artifact
        self.params = {} if params is None else params
        self.device = device
        self.service = service
        self.version = version
        self.job_id = job_id
        self.attempt = attempt
        self.seed = seed
        self.request_id = request_id
        self.deadline = deadline

    @property
    def state(self) -> State:
        """The service's state: a map in the database, shared by all workers."""
        if self._state is None:
            self._state = State(self._host)
        return self._state

    @property
    def artifact(self) -> Path | None:
        """The folder of the active version, to be read only; `None` before the first training."""
        from pathlib import Path

        return None if self._artifact is None else Path(self._artifact)

    def new_artifact(self) -> Path:
        """The folder for what this training makes; published as a new version when `train` has returned.

        The same folder whenever it is asked for in one attempt. Raises `RuntimeError` outside of `train`.
        """
        from pathlib import Path

        return Path(self._host.new_artifact())

    def progress(self, fraction: float | None = None, message: str | None = None, **metrics: Any) -> None:
        """Reports how far the job has come: a fraction from 0 to 1, a short text, and numbers worth watching."""
        from ._values import plain

        if fraction is not None:
            fraction = float(plain(fraction, "the fraction"))
        if message is not None:
            message = str(message)
        self._host.progress(fraction, message, {name: plain(value, f"`{name}`") for name, value in metrics.items()})

    @property
    def cancelled(self) -> bool:
        """Whether the call is no longer wanted. Ask now and then in long work, and raise `dunnage.Cancelled`."""
        return self._host.is_cancelled()

    @property
    def log(self) -> logging.Logger:
        """A logger whose lines go to the log of the job or request, as those of every other logger do."""
        import logging

        return logging.getLogger("dunnage.script")

    def __repr__(self) -> str:
        call = self.job_id or self.request_id
        return f"<Context of {self.service}{'' if call is None else ', ' + call}>"


def for_requests(
    *, service: str, device: str, version: int | None, artifact: str | None
) -> Callable[[Host, float | None, dict[str, Any], str], Context]:
    """Makes the contexts of requests. One for every request, so it spares what `Context(...)` does for people."""
    new = object.__new__

    def context(host: Host, deadline: float | None, params: dict[str, Any], request_id: str) -> Context:
        made = new(Context)
        made._host = host
        made._state = None
        made._artifact = artifact
        made.params = params
        made.device = device
        made.service = service
        made.version = version
        made.job_id = None
        made.attempt = None
        made.seed = 0
        made.request_id = request_id
        made.deadline = deadline
        return made

    return context
