"""Lines of Python's `logging`, sent to the server."""

from __future__ import annotations

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_MESSAGE = 64_000


def install(send: Callable[[str, str], None]) -> None:
    """Has every logger's lines sent, from INFO on. A script changes that as usual: `logging.getLogger().setLevel(…)`."""
    root = logging.getLogger()
    if any(isinstance(handler, _Handler) for handler in root.handlers):
        return  # `logging` has been imported once more, and this module has the first one, whose loggers have their handler
    root.addHandler(_Handler(send))
    root.setLevel(logging.INFO)


class _Handler(logging.Handler):
    def __init__(self, send: Callable[[str, str], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(_level(record.levelno), self.format(record)[:_MAX_MESSAGE])
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
