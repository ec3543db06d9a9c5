"""What a client sent: files, and whole requests where a script answers many at once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, BinaryIO

_KEPT_PATHS = 256
"""So many files' paths are kept: scripts ask for one again and again, and requests name the same files."""


class File:
    """One file on the local disk, to be read only.

    Can stand wherever Python wants a path: `open(file)`, `numpy.load(file)`.
    """

    __slots__ = ("_path", "etag", "size", "uri")

    uri: str
    """The address the client gave."""
    size: int
    """Its size in bytes."""
    etag: str | None
    """Changes whenever the contents do, where the source has such a mark."""

    def __init__(
        self, path: str | os.PathLike[str], uri: str | None = None, size: int | None = None, etag: str | None = None
    ) -> None:
        self._path = os.fspath(path)
        self.uri = "file://" + os.path.abspath(self._path) if uri is None else uri
        self.size = os.stat(self._path).st_size if size is None else size
        self.etag = etag

    @property
    def path(self) -> Path:
        """Where it is."""
        return (_as_path or _load_pathlib())(self._path)

    def read(self) -> bytes:
        """All of its contents."""
        with open(self._path, "rb") as file:
            return file.read()

    def open(self) -> BinaryIO:
        """Its contents as a binary file; close it, or use it in a `with` statement."""
        return open(self._path, "rb")

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"<File {self.uri} ({self.size} bytes)>"


class Request:
    """One of the requests that `output_batch` answers."""

    __slots__ = ("files", "params", "request_id")

    files: list[File]
    """Its files."""
    params: dict[str, Any]
    """The client's `Params`."""
    request_id: str | None
    """Names the request in logs."""

    def __init__(
        self, files: list[File] | None = None, params: dict[str, Any] | None = None, request_id: str | None = None
    ) -> None:
        self.files = [] if files is None else files
        self.params = {} if params is None else params
        self.request_id = request_id

    def __repr__(self) -> str:
        return f"<Request {self.request_id} ({len(self.files)} files)>"


def local_file(path: str, uri: str, size: int, etag: str | None) -> File:
    """A file of which the server has told all. For every request, so it spares what `File(...)` does for people."""
    file = _new(File)
    file._path = path
    file.uri = uri
    file.size = size
    file.etag = etag
    return file


def _load_pathlib() -> Callable[[str], Path]:
    """Importing it costs more than all else an idle worker imports; and a path, which never changes, takes long to make."""
    from functools import lru_cache
    from pathlib import Path

    global _as_path
    _as_path = lru_cache(_KEPT_PATHS)(Path)
    return _as_path


_new = object.__new__
_as_path: Callable[[str], Path] | None = None
