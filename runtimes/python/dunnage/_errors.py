"""The exceptions."""

from __future__ import annotations


class Retry(Exception):
    """Raise it in `train` or `input` to have the job tried again, as often as its attempts allow.

    `after` is how many seconds to wait before; without it the server chooses.
    """

    def __init__(self, message: str = "", after: float | None = None) -> None:
        super().__init__(message)
        if after is not None and not 0 <= after < float("inf"):
            raise ValueError(f"`after` is a number of seconds, 0 or more, not {after!r}")
        self.after = None if after is None else float(after)


class Cancelled(Exception):
    """Raise it in `train` or `input` when `ctx.cancelled` has become true, to end the job as cancelled."""


class StateError(Exception):
    """The server refused what was asked of `ctx.state`.

    `code` is one of `not_a_number`, `key_invalid`, `value_too_large`, `superseded`, `unavailable` and `not_allowed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class Failure(Exception):
    """A failure that is told to the server as it stands: not raised by the script, but about it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
