"""Exceptions, as the server is told of them. Imported when the first one is raised: `traceback` is slow to import."""

from __future__ import annotations

import sys
import traceback

from ._errors import Cancelled, Failure, Retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_MESSAGE = 2_000
_MAX_TRACEBACK = 16_000
_OURS = ("<dunnage>", "<frozen importlib", "<frozen runpy")

Description = tuple[str, str, "str | None", "float | None"]
"""Code, message, traceback, and for `script_retry` the seconds to wait."""


def describe(error: BaseException, loading: bool) -> Description:
    """What the server is told of an exception. Never raises, whatever the exception's own methods do."""
    if isinstance(error, Failure):
        return (error.code, _shorten(str(error), _MAX_MESSAGE), None, None)
    account = _traceback(error)
    if loading:
        return ("load_failed", _message(error) + _loading_hint(error), account, None)
    if isinstance(error, Retry):
        return ("script_retry", _text(error) or "the script asked for another attempt", account, error.after)
    if isinstance(error, Cancelled):
        return ("script_cancelled", _text(error) or "the script stopped because it was cancelled", account, None)
    return ("script_error", _message(error), account, None)


def _message(error: BaseException) -> str:
    name, text = type(error).__name__, _text(error)
    message = f"{name}: {text}" if text else name
    if not isinstance(error, Exception):
        message += "; a script may not end its worker"
    return message


def _loading_hint(error: BaseException) -> str:
    return f" (in {sys.executable})" if isinstance(error, ModuleNotFoundError) else ""


def _text(error: BaseException) -> str:
    try:
        return _shorten(str(error), _MAX_MESSAGE)
    except BaseException as second:
        return f"<its text cannot be had: {type(second).__name__}>"


def _traceback(error: BaseException) -> str | None:
    """The traceback as Python prints it, less the frames that are ours, or else only the type of the exception."""
    try:
        account = traceback.TracebackException.from_exception(error, compact=True)
        for part in _parts(account):
            frames = (frame for frame in part.stack if not frame.filename.startswith(_OURS))
            part.stack = traceback.StackSummary.from_list(list(frames))
        return _shorten("".join(account.format()), _MAX_TRACEBACK)
    except BaseException as second:
        return f"{type(error).__name__} (its traceback cannot be had: {type(second).__name__})\n"


def _parts(account: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    """An exception with its causes, contexts and, from Python 3.11 on, the members of a group."""
    waiting = [account]
    while waiting:
        part = waiting.pop()
        if part is not None:
            yield part
            waiting += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or [])]


def _shorten(text: str, limit: int) -> str:
    """At most `limit` characters, less the middle: the end of a traceback says most."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 4]}\n[... {len(text) - limit} characters left out ...]\n{text[-3 * limit // 4 :]}"
