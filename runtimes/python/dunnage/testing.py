"""For a script's own unit tests: what stands in for the server when a `Context` is made by hand.

    context = dunnage.Context(params={"threshold": 0.5})
    context.state["known"] = ["alice"]
    vector = Model(context).output([dunnage.File("walk.csv")], context)
"""

from __future__ import annotations

from threading import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._host import Encoded


class MemoryHost:
    """A server in memory. Hand it to a context (`Context(host=…)`) to look at what the script did, or to cancel the call.

    Threads may use it at once: as with a server, each operation is done as a whole.
    """

    def __init__(self) -> None:
        self.cancelled = False
        """Set it, and `ctx.cancelled` is true."""
        self.reports: list[tuple[float | None, str | None, dict[str, Any]]] = []
        """Every `ctx.progress`: fraction, message and metrics."""
        self._state: dict[str, Encoded] = {}
        self._artifact: str | None = None
        self._lock = Lock()

    def state_get(self, key: str) -> Encoded | None:
        return self._state.get(key)

    def state_set(self, key: str, value: Encoded) -> None:
        with self._lock:
            self._state[key] = value

    def state_delete(self, key: str) -> bool:
        with self._lock:
            return self._state.pop(key, None) is not None

    def state_increment(self, key: str, by: int | float) -> int | float:
        from ._errors import StateError

        with self._lock:
            kind, value, *_ = self._state.get(key, ("json", 0))
            if kind != "json" or isinstance(value, bool) or not isinstance(value, (int, float)):
                raise StateError("not_a_number", f"`{key}` holds no number")
            self._state[key] = ("json", value + by)
            return value + by

    def state_compare_and_set(self, key: str, old: Encoded | None, new: Encoded | None) -> bool:
        with self._lock:
            if self._state.get(key) != old:
                return False
            if new is None:
                self._state.pop(key, None)
            else:
                self._state[key] = new
            return True

    def state_scan(self, prefix: str, after: str | None, limit: int) -> list[tuple[str, Encoded]]:
        with self._lock:
            keys = [key for key in self._state if key.startswith(prefix) and (after is None or key.encode() > after.encode())]
            return [(key, self._state[key]) for key in sorted(keys, key=str.encode)[:limit]]

    def new_artifact(self) -> str:
        with self._lock:
            if self._artifact is None:
                import tempfile

                self._artifact = tempfile.mkdtemp(prefix="artifact-")
            return self._artifact

    def progress(self, fraction: float | None, message: str | None, metrics: dict[str, Any]) -> None:
        self.reports.append((fraction, message, metrics))

    def is_cancelled(self) -> bool:
        return self.cancelled
