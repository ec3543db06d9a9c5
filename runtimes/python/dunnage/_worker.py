"""The worker's Python side: what the Rust side calls."""

from __future__ import annotations

import os
import sys

from . import _script
from ._context import Context, for_requests
from ._errors import Failure
from ._files import File, Request, local_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._failures import Description
    from ._host import Host

    FileTuple = tuple[str, str, int, str | None]
    RequestTuple = tuple[list[FileTuple], dict[str, Any], str]
    Answer = Callable[[Host, float | None, list[FileTuple], dict[str, Any], str], Any]

_EXIT_SECONDS = 2


class Worker:
    """The script and what is the same for all of its calls."""

    def __init__(self) -> None:
        self._script: _script.Script | None = None
        self._common: dict[str, Any] = {}

    def load(self, path: str, common: dict[str, Any], host: Host) -> tuple[bool, bool, bool, bool, bool]:
        """Loads the script; which of its functions there are."""
        self._common = common
        self._script = _script.load(path, Context(host=host, **common))
        train, input, output, output_batch = map(self._script.has, _script.FUNCTIONS)
        return (train, input, output, output_batch, self._script.self_test is not None)

    def self_test(self, host: Host) -> bool:
        """Runs the script's own test; whether it passed, as it has unless it returned false."""
        if self._script is None or self._script.self_test is None:
            raise Failure("load_failed", "the script has no `self_test`")
        result = self._script.self_test(Context(host=host, **self._common))
        _refuse_awaitable(result, "self_test", "load_failed")
        return not _is_false(result)

    def output(self) -> Answer:
        """What answers one request. It is made once, so that a call of it does nothing but what differs between calls."""
        function, context = self._function("output"), for_requests(**self._common)

        def answer(host: Host, deadline: float | None, files: list[FileTuple], params: dict[str, Any], request_id: str) -> Any:
            return function(_files(files), context(host, deadline, params, request_id))

        return answer

    def output_batch(self, host: Host, deadline: float | None, requests: list[RequestTuple]) -> list[Any]:
        """Answers several requests at once."""
        context = Context(host=host, deadline=deadline, **self._common)
        batch = [Request(_files(files), params, request_id) for files, params, request_id in requests]
        answers = self._function("output_batch")(batch, context)
        if not hasattr(answers, "__len__") or not hasattr(answers, "__getitem__") or isinstance(answers, (str, bytes, dict)):
            raise Failure("bad_output", f"`output_batch` returned a {type(answers).__name__}; return a list of vectors")
        copied = list(answers)  # before they are counted: a thread of the script may still add some
        if len(copied) != len(requests):
            raise Failure("bad_output", f"`output_batch` returned {len(copied)} answers to {len(requests)} requests")
        return copied

    def run(
        self, name: str, host: Host, files: list[FileTuple], params: dict[str, Any], common: dict[str, Any]
    ) -> Any:  # fmt: skip
        """Runs one attempt at a job; what the script returned, as plain JSON."""
        context = Context(host=host, params=params, **common, **self._common)
        result = self._function(name)(_files(files), context)
        return None if result is None else _plain_result(result, name)

    def _function(self, name: str) -> _script.Function:
        if self._script is None:
            raise Failure("load_failed", "the script is not loaded")
        return self._script.function(name)


def describe(error: BaseException, loading: bool) -> Description:
    """What the server is told of an exception: code, message, traceback, seconds to wait."""
    from ._failures import describe

    return describe(error, loading)


def unpack(value: Any, place: str) -> list[Any] | tuple[str, int, bytes]:
    """The elements of an answer that is no list or tuple."""
    from ._vectors import unpack

    return unpack(value, place)


def number(element: Any, index: int, place: str) -> int | float:
    """An element that is none of Python's own numbers, or too large."""
    from ._vectors import number

    return number(element, index, place)


def prepare(send: Callable[[str, str], None]) -> None:
    """Makes standard output and `logging` fit for a worker, before anything of the script runs."""
    for stream in (sys.stdout, sys.stderr):
        # Lines appear while a job runs, and no text can fail to be printed.
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    if "logging" in sys.modules:
        _install_logging(send)
    else:
        sys.meta_path.insert(0, _LoggingHook(send))


def flush() -> None:
    """Flushes standard output and error, whatever the script has put in their place."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: S110 - a stream that cannot be flushed has nothing for us, and is the script's own
            pass


def leave(code: int) -> None:
    """Ends the process. Exit hooks get two seconds; threads are not waited for, as the server is gone.

    When hooks take longer, `faulthandler` prints where they hang and ends the process with code 1; it needs no lock of
    the interpreter for that.
    """
    import atexit
    import faulthandler

    faulthandler.dump_traceback_later(_EXIT_SECONDS, exit=True, file=2)
    try:
        atexit._run_exitfuncs()
    finally:
        flush()
        os._exit(code)


class _LoggingHook:
    """Adds our handler as soon as somebody imports `logging`, which is too slow to import for those who never do.

    It stays in the list of finders: a thread that is looking through that would pass one over if it were taken out.
    """

    def __init__(self, send: Callable[[str, str], None]) -> None:
        self._send = send

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute, send = spec.loader.exec_module, self._send

            def execute_and_install(module: Any) -> None:
                execute(module)
                _install_logging(send)

            spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


def _install_logging(send: Callable[[str, str], None]) -> None:
    from ._logging import install

    install(send)


def _files(files: list[FileTuple]) -> list[File]:
    return [local_file(path, uri, size, etag) for path, uri, size, etag in files]


def _plain_result(result: Any, name: str) -> Any:
    from ._values import plain

    _refuse_awaitable(result, name, "bad_result")
    try:
        return plain(result, f"the result of `{name}`")
    except (TypeError, ValueError) as error:
        raise Failure("bad_result", str(error)) from None


def _refuse_awaitable(result: Any, name: str, code: str) -> None:
    if hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()  # or Python warns that it was never awaited
        kind = type(result).__name__
        raise Failure(code, f"`{name}` returned a {kind}; functions are called, not awaited: make it `def`, not `async def`")


def _is_false(result: Any) -> bool:
    """Whether it is `False`, or what comparisons of numpy and torch answer in its place."""
    return (result.tolist() if hasattr(result, "tolist") else result) is False
